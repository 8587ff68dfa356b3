"""Rate limits hold in any sixty seconds, for all sessions; live work comes first and backfill has its share."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from evergreen.embedding.limits.rate_limit import MINUTE, Bucket, Limit, spend, wait

START = 1_700_000_000_000_000
FULL = Bucket(0, 0)


def serve(limit, wishes):
    """Serve wishes (microseconds after the last, amount, live) as early as may be; return when and how much."""
    bucket, now, served = FULL, START, []
    for after, amount, live in wishes:
        now += after
        while pause := wait(bucket, limit, now, live=live):
            now += pause
        bucket = spend(bucket, limit, now, amount, live=live)
        served.append((now, amount))
    return served


def most_in_a_minute(served):
    return max((sum(a for t, a in served if start <= t < start + MINUTE) for start, _ in served), default=0)


@given(
    st.integers(1, 300),
    st.lists(st.tuples(st.integers(0, 3_000_000), st.just(1), st.booleans()), max_size=400),
)
@example(per_minute=13, wishes=[(0, 1, False)] * 14)  # a request costs no whole number of microseconds
def test_no_minute_has_more_requests_than_the_limit(per_minute, wishes):
    assert most_in_a_minute(serve(Limit(per_minute), wishes)) <= per_minute


@given(
    st.integers(30_000, 1_000_000),
    st.lists(st.tuples(st.integers(0, 3_000_000), st.integers(1, 1000), st.booleans()), max_size=300),
)
def test_no_minute_has_more_tokens_than_the_limit(per_minute, wishes):
    assert most_in_a_minute(serve(Limit(per_minute, is_tokens=True), wishes)) <= per_minute


@given(st.integers(2, 600))
def test_nearly_all_of_the_limit_is_used(per_minute):
    served = serve(Limit(per_minute), [(0, 1, True)] * (3 * per_minute))
    minutes = (served[-1][0] - START) / MINUTE
    assert len(served) / max(minutes, 0.5) >= 0.9 * per_minute - 2


def saturated(limit, minutes, lanes):
    """Ask for every lane again as soon as it may; return how often each was served."""
    bucket, now, count = FULL, START, dict.fromkeys(lanes, 0)
    while now < START + minutes * MINUTE:
        waits = {live: wait(bucket, limit, now, live=live) for live in lanes}
        live = min(lanes, key=lambda lane: (waits[lane], not lane))
        now += waits[live]
        bucket = spend(bucket, limit, now, 1, live=live)
        count[live] += 1
    return count


@settings(max_examples=25)  # each is thousands of steps
@given(st.integers(60, 6000), st.sampled_from([0.1, 0.2, 0.5]))
def test_live_work_comes_first_and_backfill_has_its_share(per_minute, share):
    count = saturated(Limit(per_minute, share), 5, [True, False])
    total = sum(count.values())
    assert total <= 5 * per_minute + 2
    assert 0.6 * share <= count[False] / total <= 1.3 * share + 0.02


@settings(max_examples=25)  # each is thousands of steps
@given(st.integers(60, 6000))
def test_backfill_alone_uses_it_all(per_minute):
    assert saturated(Limit(per_minute), 5, [False])[False] >= 5 * 0.9 * per_minute


def test_what_is_given_back_can_be_used_again_but_never_more():
    limit = Limit(600)
    bucket = spend(FULL, limit, START, 300, live=True)
    assert wait(bucket, limit, START, live=True) > 0
    back = spend(bucket, limit, START, -300, live=True)
    assert wait(back, limit, START, live=True) == 0
    assert spend(back, limit, START, -300, live=True).full_at == START
