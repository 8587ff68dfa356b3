"""Bisecting a failing batch, and exponential backoff."""

import time
from math import log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergreen.core.retry import Backoff, backoff, bisect, halves


class Attempts:
    """Fails for each batch that holds one of the culprits."""

    def __init__(self, *culprits):
        self.culprits = set(culprits)
        self.batches = []
        self.passed = []
        self.alone = []

    def __call__(self, batch):
        self.batches.append(list(batch))
        if self.culprits & set(batch):
            return False
        self.passed += batch
        return True


@given(st.lists(st.integers()))
def test_halves_keep_all_items_in_order_and_none_is_empty(items):
    found = halves(items)
    assert [item for half in found for item in half] == items
    assert all(found)
    assert len(found) == min(2, len(items))


@given(st.integers(0, 70), st.sets(st.integers(0, 69)))
def test_bisecting_finds_exactly_the_culprits(count, culprits):
    attempts = Attempts(*culprits)
    bisect(list(range(count)), attempts, attempts.alone.extend)
    assert attempts.alone == sorted(culprits & set(range(count)))
    assert attempts.passed == sorted(set(range(count)) - culprits)


def test_nothing_is_not_attempted():
    attempts = Attempts()
    bisect([], attempts, attempts.alone.append)
    assert attempts.batches == []


def test_one_culprit_costs_two_attempts_a_halving():
    attempts = Attempts(700)
    bisect(list(range(1024)), attempts, attempts.alone.extend)
    assert len(attempts.batches) == 1 + 2 * log2(1024)


def test_after_the_deadline_no_failed_batch_is_halved():
    attempts = Attempts(3)
    bisect(list(range(8)), attempts, attempts.alone.append, time.monotonic() - 1)
    assert attempts.batches == [list(range(8))]
    assert attempts.alone == [list(range(8))]


@pytest.mark.parametrize(("failures", "delay"), [(0, 0.5), (1, 1.0), (3, 4.0), (7, 60.0), (100_000, 60.0)])
def test_a_delay_doubles_up_to_the_longest(failures, delay):
    assert backoff(failures, 0.5, 60.0) == delay
    assert backoff(failures, 0.5, 60.0, jitter=0.75) == 0.75 * delay


def test_a_success_starts_over():
    pause = Backoff(0.25, 16.0)
    seen = []
    for _ in range(8):
        seen.append(pause.delay)
        pause.fail()
    assert seen == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 16.0]
    pause.reset()
    assert pause.delay == 0.25
