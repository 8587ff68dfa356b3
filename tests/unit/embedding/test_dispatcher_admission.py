"""A dispatcher asks admission before each request, and tells it what came of it."""

import numpy as np

from evergreen.core.embedding import Answer
from evergreen.core.errors import CircuitOpenError, ConfigurationError, RetryableError
from evergreen.embedding.limits.admission import Permit, Unlimited
from tests.unit.embedding.dispatching import Fake, always, make_dispatcher, refuse, run_all, task, texts


class Rules(Unlimited):
    """Traffic that answers as it is told, and remembers what it is told."""

    def __init__(self, *permits):
        self.permits = list(permits)
        self.asked = []
        self.heard = []

    def acquire(self, _task, estimates):  # pyright: ignore[reportIncompatibleMethodOverride]
        self.asked.append(list(estimates))
        return self.permits.pop(0) if self.permits else Permit()

    def succeeded(self, _task, _permit, estimated, billed, pause):  # pyright: ignore[reportIncompatibleMethodOverride]
        self.heard.append(("succeeded", estimated, billed, pause))

    def failed(self, _task, _permit, _estimated, pause):  # pyright: ignore[reportIncompatibleMethodOverride]
        self.heard.append(("failed", pause))

    def refused(self, _task, _permit, _estimated, *, misconfigured):  # pyright: ignore[reportIncompatibleMethodOverride]
        self.heard.append(("misconfigured" if misconfigured else "refused",))


def ruled(rules, provider, wanted, **how):
    dispatcher = make_dispatcher(admission=rules, longest_wait=how.pop("longest_wait", 1.0))
    one = task(provider, wanted, **how)
    dispatcher.submit(one, set())
    run_all(dispatcher)
    return one


def test_a_turn_that_comes_soon_is_waited_for():
    rules, provider = Rules(Permit(wait=0.01, reason="rate limit")), Fake()
    one = ruled(rules, provider, texts(3))
    assert len(one.result.vectors) == 3
    assert len(rules.asked) == 2


def test_who_waits_for_itself_alone_lets_others_pass_and_is_asked_again():
    slept = []
    rules = Rules(Permit(0.1, deferred=True))
    provider, dispatcher = Fake(), make_dispatcher(admission=rules, on_tick=lambda: slept.append(1))
    deferred, other = task(provider, texts(1)), task(provider, {b"o": "other"})
    dispatcher.submit(deferred, set())
    dispatcher.submit(other, set())
    assert run_all(dispatcher) == [other, deferred]
    assert provider.requests == [["other"], ["a0"]]
    assert len(slept) < 20, "it is waited for, not asked for all the time"


def test_a_turn_that_is_too_far_off_is_not():
    """Nothing failed: the texts are retried when it comes."""
    rules, provider = Rules(Permit(wait=9, reason="rate limit")), Fake()
    one = ruled(rules, provider, texts(3))
    assert (one.unsent, one.pause, one.result.failures) == (set(texts(3)), 9, {})
    assert provider.requests == []


def test_an_open_breaker_is_not_waited_for_and_says_why():
    rules, provider = Rules(Permit(wait=0.5, open=True, reason="endpoint x rests")), Fake()
    one = ruled(rules, provider, texts(3))
    assert {str(error) for error in one.result.failures.values()} == {"endpoint x rests"}
    failure = one.result.failures[b"0"]
    assert isinstance(failure, CircuitOpenError)
    assert failure.pause == 0.5
    assert provider.requests == []


def test_a_probe_is_one_text_and_the_rest_waits_for_what_comes_of_it():
    rules, provider = Rules(Permit(texts=1, probe=True)), Fake(always(RetryableError("still down")))
    provider.at_once = 4
    ruled(rules, provider, texts(30), retries=False)
    assert [len(request) for request in provider.requests] == [1]
    provider = Fake()
    one = ruled(Rules(Permit(texts=1, probe=True)), provider, texts(30))
    assert len(provider.requests[0]) == 1
    assert len(one.result.vectors) == 30


def test_the_rules_hear_what_came_of_each_request():
    rules = Rules()
    ruled(rules, Fake(lambda batch: Answer([np.ones(3, dtype=np.float32)] * len(batch), 77, 1.5)), texts(3))
    ruled(rules, Fake(always(RetryableError("busy", 4.0))), texts(1), retries=False)
    ruled(rules, Fake(always(ConfigurationError("no such model"))), texts(1))
    ruled(rules, Fake(refuse("a0")), texts(1), retries=False)
    assert rules.heard == [("succeeded", 3, 77, 1.5), ("failed", 4.0), ("misconfigured",), ("refused",)]


def test_what_was_spent_is_what_was_billed():
    one = ruled(Rules(), Fake(lambda batch: Answer([np.ones(3, dtype=np.float32)] * len(batch), 5)), texts(10))
    assert (one.usage.calls, one.usage.texts, one.usage.tokens) == (2, 10, 10)
    refused = ruled(Rules(), Fake(refuse("a0")), texts(1), retries=False)
    assert (refused.usage.calls, refused.usage.texts, refused.usage.tokens) == (1, 0, 0)
