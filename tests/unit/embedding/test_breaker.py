"""The breaker opens after failures in a row, rests longer each time, and lets one probe through."""

from evergreen.embedding.limits.breaker import (
    CLOSED,
    ENDPOINT,
    MODEL,
    SECOND,
    Breaker,
    failed,
    is_half_open,
    paused,
    probing,
    try_once,
    wait,
)

NOW = 1_700_000_000_000_000


def fail(breaker, now=NOW, policy=ENDPOINT, **how):
    return failed(breaker, policy, now, **({"seen": breaker.failures, "probe": False, "jitter": 1.0} | how))


def test_it_rests_longer_with_each_failure_up_to_a_minute():
    breaker, waits = CLOSED, []
    for _ in range(12):
        breaker = fail(breaker)
        waits.append(wait(breaker, NOW) / SECOND)
    assert waits[:5] == [0.5, 1, 2, 4, 8]
    assert waits[-1] == 60


def test_requests_that_were_out_together_count_as_one_failure():
    once = fail(CLOSED)
    assert fail(once, seen=0) == once


def test_after_three_failures_only_a_probe_goes():
    breaker = fail(fail(CLOSED))
    assert not is_half_open(breaker, ENDPOINT, NOW + 9 * SECOND)
    breaker = fail(breaker)
    assert not is_half_open(breaker, ENDPOINT, NOW + SECOND)
    assert is_half_open(breaker, ENDPOINT, NOW + 2 * SECOND)
    held = probing(breaker, NOW + 2 * SECOND, 65)
    assert not is_half_open(held, ENDPOINT, NOW + 60 * SECOND)
    assert is_half_open(held, ENDPOINT, NOW + 67 * SECOND), "a lost probe is not waited for"


def test_a_probe_that_fails_gives_up_its_hold():
    held = probing(fail(fail(fail(CLOSED))), NOW, 65)
    assert wait(fail(held, probe=True), NOW) == 4 * SECOND


def test_a_model_that_is_set_up_wrongly_is_only_probed():
    assert is_half_open(fail(CLOSED, policy=MODEL), MODEL, NOW + 5 * SECOND)


def test_a_pause_is_no_failure_and_shortens_no_other():
    assert paused(CLOSED, NOW, 6, probe=False) == Breaker(0, NOW + 6 * SECOND)
    longer = Breaker(0, NOW + 60 * SECOND)
    assert paused(longer, NOW, 6, probe=False) == longer


def test_a_rest_is_ended_for_one_request_and_not_while_that_is_under_way():
    resting = fail(fail(fail(CLOSED)))
    once = try_once(resting, NOW)
    assert once.failures == resting.failures
    assert wait(once, NOW) == 0
    assert is_half_open(once, ENDPOINT, NOW)
    held = probing(once, NOW, 65)
    assert try_once(held, NOW) == held
    assert try_once(CLOSED, NOW) == CLOSED
    politely = paused(CLOSED, NOW, 6, probe=False)
    assert is_half_open(try_once(politely, NOW), ENDPOINT, NOW)
