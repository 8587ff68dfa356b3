"""What a server can take, as arithmetic: a window of work, sizes that pass or fail, and work that is lost."""

from evergreen.core.embedding import Limits
from evergreen.embedding.limits.capacity import (
    SECOND,
    Capacity,
    book,
    largest,
    measured,
    outgrown,
    passed,
    period,
    read,
    room,
    under_way,
    window,
    work,
)

NOW = 1_700_000_000 * SECOND
LIMIT = 30.0
OLLAMA = Limits(inputs=32, in_flight=2)
SLOW = Capacity(text=1_200_000)


def test_a_server_of_a_text_in_1_2_seconds_gets_what_it_does_in_time():
    assert window(SLOW, LIMIT) == 20
    assert largest(SLOW, OLLAMA, LIMIT) == 10
    assert room(SLOW, LIMIT, 0) == 20
    assert room(SLOW, LIMIT, work(SLOW, LIMIT, 15)) == 5
    assert room(SLOW, LIMIT, work(SLOW, LIMIT, 20)) == 0


def test_one_text_may_always_go_alone():
    slower = Capacity(text=60 * SECOND)
    assert room(slower, LIMIT, 0) == 1
    assert room(slower, LIMIT, work(slower, LIMIT, 1)) == 0


def test_a_short_answer_to_few_texts_says_nothing_of_many():
    fast = measured(Capacity(), LIMIT, 2.0, 1000, 0)
    assert fast.text == 2000
    assert measured(fast, LIMIT, 0.2, 1, 0) == fast
    assert measured(fast, LIMIT, 20.0, 100, 0).text > fast.text


def test_what_waits_behind_others_is_not_slow():
    assert measured(Capacity(), LIMIT, 24.0, 10, 10).text == 1_200_000


def test_the_largest_size_that_passes_is_found_by_halves():
    found, tries = outgrown(Capacity(), 128, 32, NOW), 0
    while found.trial != found.good:
        tries += 1
        found = passed(found, found.trial) if found.trial <= 90 else outgrown(found, found.trial, 25, NOW)
    assert 80 <= found.good <= 90
    assert tries <= 6


def test_a_size_that_failed_is_tried_again_after_a_while():
    found = outgrown(Capacity(text=5), 17, 16, NOW)
    assert read(5, found.sizes, NOW).trial == 16
    assert read(5, found.sizes, NOW + 700 * SECOND).trial > 16


def test_a_server_that_fails_by_chance_is_told_from_one_that_fails_on_a_size():
    found = outgrown(Capacity(text=5), 200, 1, NOW)
    found = outgrown(found, 40, 1, NOW)
    later = NOW + 6 * SECOND
    requests = 0
    while largest(read(5, found.sizes, later), Limits(inputs=200, in_flight=2), LIMIT) < 200:
        found = passed(read(5, found.sizes, later), read(5, found.sizes, later).trial)
        requests += 1
    assert requests < 10
    assert found.failures == 0


def test_a_size_that_fails_again_and_again_is_tried_more_and_more_rarely():
    found, waits, now = outgrown(Capacity(text=5), 17, 16, NOW), [], NOW
    for _ in range(9):
        found = outgrown(read(5, found.sizes, found.again_at * SECOND), 17, 16, found.again_at * SECOND)
        waits.append(found.again_at - now // SECOND)
        now = found.again_at * SECOND
    assert waits == sorted(waits)
    assert waits[-1] >= 600
    assert read(5, found.sizes, now - 10 * SECOND).trial == 16


def test_work_of_a_session_that_died_is_forgotten():
    at = period(NOW, LIMIT)
    value = book(book(0, at, at, 12_000), at, at, 5_000)
    assert under_way(value, at) == 17_000
    assert under_way(book(value, at + 1, at, -5_000), at + 1) == 12_000
    assert under_way(value, at + 2) == 0
