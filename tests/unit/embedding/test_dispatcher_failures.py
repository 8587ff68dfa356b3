"""What a dispatcher does with errors: it finds the text that is to blame, and keeps what came before."""

import threading

import numpy as np
import pytest

from evergreen.core.embedding import EmbeddingTask
from evergreen.core.errors import ConfigurationError, RejectedError, RetryableError, SuspectError
from evergreen.core.pipeline import Endpoint, Model
from evergreen.embedding import endpoint_queue
from tests.unit.embedding.dispatching import (
    DIMENSIONS,
    Fake,
    always,
    make_dispatcher,
    refuse,
    run,
    run_all,
    texts,
    waits_for,
)


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


def test_a_waiting_caller_is_told_at_once():
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
