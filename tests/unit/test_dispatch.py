"""Texts are packed within a model's limits; a refused request is halved until the text to blame is alone."""

import signal
import threading
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergreen.errors import ConfigurationError, RejectedError, RetryableError
from evergreen.model.dispatch import embed, pack
from evergreen.model.provider import Limits
from evergreen.model.spec import Model

DIMENSIONS = 3


class Fake:
    """A provider in this process: records requests and answers as ``answer`` says."""

    free = False

    def __init__(self, answer=None, *, inputs=8, request_tokens=None, sql=False):
        self.sql = sql
        self.requests = []
        self.threads = set()
        self.at_once = 1
        self._inputs, self._request_tokens = inputs, request_tokens
        self._answer = answer or (lambda _: None)
        self._lock = threading.Lock()

    def check(self, _model):
        """Any model will do."""

    def limits(self, _model):
        return Limits(self._inputs, self._request_tokens, in_flight=self.at_once)

    def embed(self, _model, texts, _kind):
        with self._lock:
            self.requests.append(list(texts))
            self.threads.add(threading.get_ident())
        answer = self._answer(texts)
        if answer is not None:
            return answer
        return np.array([[len(text), ord(text[0]), 1] for text in texts], dtype=np.float32)


def texts(count):
    return {str(i).encode(): f"{chr(97 + i % 26)}{i}" for i in range(count)}


def run(provider, wanted, *, at_once=4, breathe=lambda: None):
    provider.at_once = at_once
    model = Model(1, "fake", "fake", None, DIMENSIONS, {}, None)
    return embed(provider, model, wanted, "document", breathe)


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
        cost = sum(len(wanted[key]) // 4 + 1 for key in request)
        assert tokens is None or cost <= tokens or len(request) == 1


@given(st.lists(st.integers(1, 60), max_size=30), st.integers(1, 5), st.integers(1, 20))
def test_no_request_could_have_taken_the_text_after_it(lengths, inputs, tokens):
    wanted = {str(i).encode(): "x" * length for i, length in enumerate(lengths)}
    requests = list(pack(wanted, Limits(inputs, tokens)))
    for request, following in pairwise(requests):
        cost = sum(len(wanted[key]) // 4 + 1 for key in [*request, following[0]])
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

    def breathe():
        breaths.append(1)
        if len(breaths) == 3:
            release.set()

    outcome = run(Fake(waits_for(release)), texts(3), breathe=breathe)
    assert len(outcome.vectors) == 3


def test_what_breathe_raises_ends_the_call():
    """A cancelled statement: it must not wait for the model."""
    release = threading.Event()

    def breathe():
        raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            run(Fake(waits_for(release)), texts(3), breathe=breathe)
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
    assert len(provider.requests) <= 1 + 6 * len(culprits), "halves, not one by one"


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
    assert sum(isinstance(error, RetryableError) for error in outcome.failures.values()) >= 390


@pytest.mark.parametrize("error", [RetryableError("busy"), ConfigurationError("no such model")])
def test_an_error_that_is_no_texts_fault_stops_the_rest(error):
    provider, wanted = Fake(always(error), inputs=1), texts(100)
    outcome = run(provider, wanted, at_once=4)
    assert set(outcome.failures) == set(wanted)
    assert {type(found) for found in outcome.failures.values()} == {type(error)}
    assert len(provider.requests) <= 8


def test_vectors_that_came_before_an_outage_are_kept():
    calls = []

    def answer(batch):
        calls.append(batch)
        if len(calls) > 2:
            raise RetryableError("down")

    outcome = run(Fake(answer), texts(40), at_once=1)
    assert len(outcome.vectors) == 16
    assert len(outcome.failures) == 24


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


@pytest.mark.parametrize("shape", [(0, 3), (9, 3), (3,)])
def test_an_answer_of_another_shape_gives_no_vector_to_a_wrong_text(shape):
    outcome = run(Fake(lambda _: np.ones(shape, dtype=np.float32)), texts(8))
    assert len(outcome.failures) == 8
    assert not outcome.vectors
