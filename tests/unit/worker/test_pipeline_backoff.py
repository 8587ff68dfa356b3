"""A pipeline waits longer with each consecutive failure of a kind, whichever call asks for the delay."""

import pytest

from evergreen import db
from evergreen.db import event_log
from evergreen.worker.pipeline_backoff import PipelineBackoff

ERRORS = {"a lock": "55P03", "a deadlock": "40P01", "a full disk": "53100"}


def failure(sqlstate):
    error = db.DatabaseError("no")
    error.sqlstate = sqlstate
    return error


@pytest.fixture
def backoff(monkeypatch):
    monkeypatch.setattr(event_log, "warn", lambda *_, **__: None)
    monkeypatch.setattr(event_log, "pipeline_name", str)
    monkeypatch.setattr(db, "warning", lambda *_: None)
    return PipelineBackoff(lambda _, body: body(), {})


def fail(backoff, error):
    def body():
        raise error

    assert not backoff.isolate(1, body)


@pytest.mark.parametrize("sqlstate", ERRORS.values(), ids=ERRORS)
def test_the_delay_grows_up_to_a_limit_and_starts_over_after_a_write(backoff, sqlstate):
    error, delays = failure(sqlstate), []
    for _ in range(10):
        delays.append(backoff.delay(1, error))
        fail(backoff, error)
    assert delays[1] == 2 * delays[0]
    assert delays == sorted(delays)
    assert delays[-1] == delays[-2]
    assert backoff.delay(2, error) == delays[0]
    backoff.reset(1)
    assert backoff.delay(1, error) == delays[0]


def test_an_error_of_another_kind_starts_over(backoff):
    lock, disk = failure("55P03"), failure("53100")
    first = backoff.delay(1, lock)
    fail(backoff, lock)
    fail(backoff, disk)
    assert backoff.delay(1, lock) == first
    assert backoff.delay(1, disk) > 5


def test_a_delay_after_other_errors_does_not_grow(backoff):
    error = failure("P0001")
    first = backoff.delay(1, error)
    fail(backoff, error)
    assert backoff.delay(1, error) == first
