"""Requests are packed, fly side by side, and are halved when refused, until the text to blame is alone."""

import signal
import threading
from itertools import pairwise
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergreen.core.embedding import Answer, EmbeddingTask, Limits
from evergreen.core.errors import CircuitOpenError, ConfigurationError, RejectedError, RetryableError, SuspectError
from evergreen.core.job import Lane
from evergreen.core.pipeline import Endpoint, Model
from evergreen.core.step import run_directly
from evergreen.embedding import endpoint_queue
from evergreen.embedding.batching import pack
from evergreen.embedding.dispatcher import RequestDispatcher
from evergreen.embedding.limits.admission import Permit, Unlimited

DIMENSIONS = 3


class Fake:
    """A provider in this process: records requests and answers as ``answer`` says."""

    free = False
    zeros = False

    def __init__(self, answer=None, *, inputs=8, request_tokens=None, sql=False):
        self.sql = sql
        self.requests = []
        self.threads = set()
        self.at_once = 1
        self.input_tokens: int | None = None
        self._inputs, self._request_tokens = inputs, request_tokens
        self._answer = answer or (lambda _: None)
        self._lock = threading.Lock()

    def check(self, _model):
        """Any model will do."""

    def limits(self, _model):
        return Limits(self._inputs, self._request_tokens, self.input_tokens, self.at_once)

    def embed(self, _model, request):
        texts = request.texts
        with self._lock:
            self.requests.append(list(texts))
            self.threads.add(threading.get_ident())
        answer = self._answer(texts)
        if answer is not None:
            return answer if isinstance(answer, Answer) else Answer(list(answer))
        return Answer([np.array([len(text), ord(text[0]), 1], dtype=np.float32) for text in texts])


def texts(count):
    return {str(i).encode(): f"{chr(97 + i % 26)}{i}" for i in range(count)}


MODEL = Model(1, "fake", "fake", None, DIMENSIONS, {}, None)


def task(provider, wanted, **how):
    return EmbeddingTask(provider, MODEL, dict(wanted), **how)


def make_dispatcher(on_tick=lambda: None, admission=None, longest_wait=1.0):
    return RequestDispatcher(admission or Unlimited(), run_directly, on_tick, longest_wait=longest_wait)


def run_all(dispatcher, *tasks):
    """Carry orders that were taken to their ends; return them in the order in which they were done."""
    done = []
    while dispatcher.busy:
        done += dispatcher.poll()
    return done


def run(provider, wanted, *, at_once=4, on_tick=lambda: None, **how):
    provider.at_once = at_once
    dispatcher = make_dispatcher(on_tick)
    one = task(provider, wanted, **how)
    dispatcher.submit(one, set())
    try:
        run_all(dispatcher)
    finally:
        dispatcher.close()
    return one.result


def refuse(*culprits):
    def answer(batch):
        if any(text in culprits for text in batch):
            raise RejectedError("not this")

    return answer


def always(error):
    def answer(batch):
        raise error

    return answer


def waits_for(event):
    def answer(_batch):
        event.wait(20)

    return answer


@given(st.lists(st.integers(1, 60), max_size=30), st.integers(1, 5), st.one_of(st.none(), st.integers(1, 20)))
def test_requests_stay_within_the_limits_and_keep_the_order(lengths, inputs, tokens):
    wanted = {str(i).encode(): "x" * length for i, length in enumerate(lengths)}
    requests = list(pack(wanted, Limits(inputs, tokens)))
    assert [key for request in requests for key in request] == list(wanted)
    for request in requests:
        assert 1 <= len(request) <= inputs
        cost = sum(ceil(len(wanted[key]) / 4) for key in request)
        assert tokens is None or cost <= tokens or len(request) == 1


@given(st.lists(st.integers(1, 60), max_size=30), st.integers(1, 5), st.integers(1, 20))
def test_no_request_could_have_taken_the_text_after_it(lengths, inputs, tokens):
    wanted = {str(i).encode(): "x" * length for i, length in enumerate(lengths)}
    requests = list(pack(wanted, Limits(inputs, tokens)))
    for request, following in pairwise(requests):
        cost = sum(ceil(len(wanted[key]) / 4) for key in [*request, following[0]])
        assert len(request) == inputs or cost > tokens


@pytest.mark.parametrize("sql", [False, True])
def test_each_text_gets_its_own_vector_and_is_sent_once(sql):
    provider, wanted = Fake(sql=sql), texts(50)
    outcome = run(provider, wanted)
    assert {key: (v[0], v[1]) for key, v in outcome.vectors.items()} == {
        key: (len(text), ord(text[0])) for key, text in wanted.items()
    }
    assert not outcome.failures
    assert sorted(text for request in provider.requests for text in request) == sorted(wanted.values())


def test_nothing_is_asked_for_nothing():
    provider = Fake()
    assert not run(provider, {}).vectors
    assert provider.requests == []


def test_a_provider_that_runs_sql_stays_on_this_thread():
    provider = Fake(sql=True)
    run(provider, texts(50))
    assert provider.threads == {threading.get_ident()}


def test_other_providers_work_side_by_side_and_never_on_this_thread():
    """Four requests wait for each other: they only come back if all are under way at once."""
    together = threading.Barrier(4)
    provider = Fake(waits_for(together), inputs=1)
    outcome = run(provider, texts(8), at_once=4)
    assert len(outcome.vectors) == 8
    assert threading.get_ident() not in provider.threads


def test_no_more_requests_are_under_way_than_the_limits_allow():
    under_way = threading.Semaphore(2)

    def answer(batch):
        assert under_way.acquire(blocking=False)
        threading.Event().wait(0.002)
        under_way.release()

    assert len(run(Fake(answer, inputs=1), texts(20), at_once=2).vectors) == 20


def test_the_caller_breathes_while_a_model_works():
    release = threading.Event()
    breaths = []

    def on_tick():
        breaths.append(1)
        if len(breaths) == 3:
            release.set()

    outcome = run(Fake(waits_for(release)), texts(3), on_tick=on_tick)
    assert len(outcome.vectors) == 3


def test_what_breathe_raises_ends_the_call():
    """A cancelled statement: it must not wait for the model."""
    release = threading.Event()

    def on_tick():
        raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            run(Fake(waits_for(release)), texts(3), on_tick=on_tick)
    finally:
        release.set()


def test_threads_take_no_signals():
    masks = []
    run(Fake(lambda _: masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, []))), texts(3))
    assert all({signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM} <= mask for mask in masks)
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


@pytest.mark.parametrize("sql", [False, True])
@pytest.mark.parametrize("culprits", [["a0"], ["h7"], ["c2", "f5"], ["a0", "b1"]])
def test_a_refused_request_is_halved_until_the_culprit_is_alone(sql, culprits):
    provider, wanted = Fake(refuse(*culprits), sql=sql), texts(8)
    outcome = run(provider, wanted, at_once=1)
    assert {wanted[key] for key in outcome.failures} == set(culprits)
    assert {wanted[key] for key in outcome.vectors} == set(wanted.values()) - set(culprits)
    assert all(isinstance(error, RejectedError) for error in outcome.failures.values())
    assert len(provider.requests) <= 2 + 6 * len(culprits), "halves, not one by one"


@pytest.mark.parametrize("sql", [False, True])
@pytest.mark.parametrize("culprit", ["a0", "v255"])
def test_one_culprit_in_a_large_request_is_found(sql, culprit):
    """Halving takes more refusals in a row than an outage is told by: they must not be taken for one."""
    provider, wanted = Fake(refuse(culprit), inputs=1024, sql=sql), texts(1024)
    outcome = run(provider, wanted, at_once=1)
    assert {wanted[key] for key in outcome.failures} == {culprit}
    assert {type(error) for error in outcome.failures.values()} == {RejectedError}
    assert len(outcome.vectors) == 1023


def test_other_requests_do_not_suffer_for_a_culprit():
    provider, wanted = Fake(refuse("a0")), texts(40)
    outcome = run(provider, wanted)
    assert [wanted[key] for key in outcome.failures] == ["a0"]
    assert len(outcome.vectors) == 39


def test_a_model_that_refuses_everything_is_given_up_as_a_whole():
    """Then no text is to blame: they wait, and do not become dead letters one by one."""
    provider, wanted = Fake(always(RejectedError("no"))), texts(400)
    outcome = run(provider, wanted)
    assert len(outcome.failures) == 400
    assert len(provider.requests) < 60, "finding every text refused alone would take 750"
    assert {type(error) for error in outcome.failures.values()} == {ConfigurationError}
    assert ["evergreen"] in provider.requests, "a harmless text shows that it is none's fault"


@pytest.mark.parametrize("error", [RetryableError("busy"), ConfigurationError("no such model")])
def test_an_error_that_is_no_texts_fault_stops_the_rest(error):
    provider, wanted = Fake(always(error), inputs=1), texts(100)
    outcome = run(provider, wanted, at_once=4)
    assert set(outcome.failures) == set(wanted)
    assert {type(found) for found in outcome.failures.values()} == {type(error)}
    assert len(provider.requests) <= 12


def test_vectors_that_came_before_an_outage_are_kept():
    calls = []

    def answer(batch):
        calls.append(batch)
        if len(calls) > 2:
            raise RetryableError("down")

    outcome = run(Fake(answer), texts(40), at_once=1)
    assert len(outcome.vectors) == 16
    assert len(outcome.failures) == 24
    assert len(calls) == 2 + 3, "a request is tried three times"


def test_a_hiccup_costs_one_more_request():
    calls = []

    def answer(batch):
        calls.append(batch)
        if len(calls) == 2:
            raise RetryableError("hiccup")

    outcome = run(Fake(answer), texts(40), at_once=1)
    assert len(outcome.vectors) == 40
    assert len(calls) == 6


def test_somebody_who_waits_is_told_at_once():
    provider = Fake(always(RetryableError("down")))
    outcome = run(provider, texts(1), retries=False)
    assert str(outcome.failures[b"0"]) == "down"
    assert len(provider.requests) == 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_one_text_whose_vector_is_not_finite_fails_alone(bad):
    def answer(batch):
        found = np.ones((len(batch), DIMENSIONS), dtype=np.float32)
        if "c2" in batch:
            found[batch.index("c2"), 1] = bad
        return found

    wanted = texts(8)
    outcome = run(Fake(answer), wanted)
    assert [wanted[key] for key in outcome.failures] == ["c2"]
    assert len(outcome.vectors) == 7


def test_a_wrong_number_of_dimensions_is_a_matter_of_configuration():
    outcome = run(Fake(lambda batch: np.ones((len(batch), 5), dtype=np.float32)), texts(30))
    assert {type(error) for error in outcome.failures.values()} == {ConfigurationError}
    assert "3" in str(outcome.failures[b"0"])
    assert "5" in str(outcome.failures[b"0"])
    assert not outcome.vectors


@pytest.mark.parametrize("shape", [(0, 3), (9, 3)])
def test_an_answer_of_another_shape_gives_no_vector_to_a_wrong_text(shape):
    outcome = run(Fake(lambda _: np.ones(shape, dtype=np.float32)), texts(8))
    assert len(outcome.failures) == 8
    assert not outcome.vectors


def test_one_text_with_a_wrong_dimension_fails_alone():
    def answer(batch):
        return [np.ones(2 if text == "c2" else DIMENSIONS, dtype=np.float32) for text in batch]

    wanted = texts(8)
    outcome = run(Fake(answer), wanted)
    assert [wanted[key] for key in outcome.failures] == ["c2"]
    assert isinstance(outcome.failures[b"2"], SuspectError)


def test_an_over_long_text_is_shortened_until_it_passes():
    """Tokens are only estimated: with ``truncate`` a text that is refused may be too long still."""
    provider = Fake(lambda batch: refuse(*(text for text in batch if len(text) > 30))(batch))
    provider.input_tokens = 10
    long, short = {b"l": "x" * 100}, {b"s": "x" * 20}
    assert not run(provider, long | short, truncate=True).failures
    assert [len(text) for request in provider.requests for text in request][-1] == 25
    assert set(run(provider, long | short).failures) == {b"l"}


def test_a_text_that_another_order_is_sending_is_not_sent_again():
    release = threading.Event()
    provider, dispatcher = Fake(waits_for(release)), make_dispatcher()
    first, second = task(provider, texts(8)), task(provider, {b"new": "z26"})
    dispatcher.submit(first, set())
    dispatcher.poll(0)
    awaited = dispatcher.under_way(MODEL, [b"0", b"1", b"other"])
    assert awaited == {b"0", b"1"}
    dispatcher.submit(second, awaited)
    release.set()
    run_all(dispatcher)
    assert set(second.result.vectors) == {b"0", b"1", b"new"}
    assert sum(len(request) for request in provider.requests) == 9
    assert dispatcher.under_way(MODEL, [b"0"]) == set()


def test_what_an_order_has_its_answer_for_is_handed_on_while_the_rest_is_out():
    release = threading.Event()
    provider = Fake(lambda batch: release.wait(20) and None if "j9" in batch else None)
    provider.at_once, dispatcher = 2, make_dispatcher()
    first = task(provider, texts(10))  # two requests, of which the second hangs
    dispatcher.submit(first, set())
    while not first.result.vectors:
        dispatcher.poll()
    second = task(provider, {})
    dispatcher.submit(second, dispatcher.under_way(MODEL, [b"0"]))
    assert dispatcher.poll() == [second]
    assert set(second.result.vectors) == {b"0"}
    release.set()
    run_all(dispatcher)


def test_who_follows_a_text_that_fails_is_to_try_by_its_own_rules():
    """Its pipeline may truncate, or have money left."""
    provider, dispatcher = Fake(refuse("a0")), make_dispatcher()
    first, second = task(provider, texts(3)), task(provider, {})
    dispatcher.submit(first, set())
    dispatcher.submit(second, {b"0", b"1"})
    run_all(dispatcher)
    assert second.result.failures == {}
    assert second.unsent == {b"0"}
    assert set(second.result.vectors) == {b"1"}


def test_what_is_recalled_is_not_sent_and_has_not_failed():
    release = threading.Event()
    provider, dispatcher = Fake(waits_for(release), inputs=2), make_dispatcher()
    provider.at_once = 1
    one, waiter = task(provider, texts(8)), task(provider, {})
    dispatcher.submit(one, set())
    dispatcher.submit(waiter, {b"0", b"7"})
    dispatcher.poll(0)
    dispatcher.stop_sending()
    release.set()
    run_all(dispatcher)
    assert set(one.result.vectors) == {b"0", b"1"}
    assert one.unsent == set(texts(8)) - {b"0", b"1"}
    assert not one.result.failures
    assert waiter.unsent == {b"7"}


def test_after_a_recall_nothing_is_sent_again():
    """Neither the halves of a refused request nor one that failed."""
    for error in (RejectedError("no"), RetryableError("hiccup")):
        release = threading.Event()

        def answer(_batch, error=error, release=release):
            release.wait(20)
            raise error

        provider, dispatcher = Fake(answer), make_dispatcher()
        provider.at_once = 1
        one = task(provider, texts(8))
        dispatcher.submit(one, set())
        dispatcher.poll(0)
        dispatcher.stop_sending()
        release.set()
        run_all(dispatcher)
        assert len(provider.requests) == 1
        assert one.unsent == set(texts(8))


def test_orders_are_served_in_turn():
    """A long one does not keep a short one waiting."""
    provider, dispatcher = Fake(inputs=1), make_dispatcher()
    provider.at_once = 1
    long, short = task(provider, texts(20)), task(provider, {b"s": "short"})
    dispatcher.submit(long, set())
    dispatcher.submit(short, set())
    assert run_all(dispatcher)[0] is short
    assert provider.requests.index(["short"]) == 1


@pytest.mark.parametrize(("share", "most"), [(0.8, 6), (0.5, 14)])
def test_backfill_has_its_share_beside_live_work(share, most):
    provider, dispatcher = Fake(inputs=1), make_dispatcher()
    provider.at_once = 1
    dispatcher.submit(task(provider, {f"b{i}".encode(): f"backfill {i}" for i in range(40)}, lane=Lane.BACKFILL), set())
    dispatcher.submit(
        task(provider, {f"l{i}".encode(): f"live {i}" for i in range(20)}, lane=Lane.LIVE, live_share=share), set()
    )
    run_all(dispatcher)
    sent = [request[0].split()[0] for request in provider.requests]
    while_live = sent[: len(sent) - sent[::-1].index("live")]
    assert 2 <= while_live.count("backfill") <= most + 8 * (share == 0.5)


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


def test_a_request_that_never_ends_is_cut_and_then_left_behind(monkeypatch):
    monkeypatch.setattr(endpoint_queue, "_CANCEL_GRACE_S", 0.05)
    release = threading.Event()
    provider = Fake(waits_for(release))
    model = Model(1, "fake", "fake", None, DIMENSIONS, {}, Endpoint("e", "http://x", None, {"total_timeout": 0.05}))
    dispatcher = make_dispatcher()
    one = EmbeddingTask(provider, model, texts(1), retries=False)
    dispatcher.submit(one, set())
    run_all(dispatcher)
    release.set()
    assert "does not answer" in str(one.result.failures[b"0"])
