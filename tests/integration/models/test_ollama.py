"""Ollama: other weights under a name have another digest, which brings the next look forward."""

import pytest

from tests.fixtures.pipelines.documents import status_of, verified
from tests.fixtures.providers.turning import TurningProvider, model_of_vectors
from tests.fixtures.waiting import wait_until
from tests.integration.models.watching import (
    every,
    finish,
    insert,
    let_a_minute_pass,
    look_once,
    served_as,
    watch,
    work,
    work_until,
)

pytestmark = pytest.mark.slow

BEFORE, PULLED = "0a109f422b47" + "0" * 52, "b7f5c0c1d2e3" + "0" * 52


@pytest.fixture
def pulled(db, docs, turning: TurningProvider) -> TurningProvider:
    """Pipeline ``docs`` by a model of an Ollama server, which was looked at and will not be for an hour."""
    turning.digests["loop:latest"] = BEFORE
    turning.register(db, provider="ollama", watch="50 ms")
    db.execute(f"SELECT embed_create('docs', '{docs}', columns => '{{title,body}}', model => 'loop')")
    finish(db)
    look_once(db, turning)
    wait_until(lambda: work(db) or served_as(db))
    every(db, "1 hour")
    work(db)
    let_a_minute_pass(db)
    return turning


def next_worker(db, connect, text):
    """Embed a row in a session that has not asked for the digest yet."""
    insert(db, text)
    finish(connect())


def test_the_digest_is_shown(db, pulled):
    assert served_as(db) == "loop@0a109f422b47"


def test_other_weights_are_noticed_before_their_time(db, connect, pulled):
    pulled.digests["loop:latest"] = PULLED
    pulled.become("new")
    next_worker(db, connect, "by other weights")
    work_until(db, "model changed")
    assert watch(db) == (2, True)
    assert served_as(db) == "loop@b7f5c0c1d2e3"
    assert "new" not in model_of_vectors(db, "embed_store.g1", pulled)
    pulled.digests["loop:latest"] = BEFORE
    pulled.become("old")
    every(db, "50 ms")
    work_until(db, "active")
    finish(db)
    assert set(model_of_vectors(db, "embed_store.g1", pulled)) == {"old"}
    assert verified(db)["fresh"] == 11


def test_another_digest_alone_proves_nothing(db, connect, pulled):
    pulled.digests["loop:latest"] = PULLED
    next_worker(db, connect, "by the same weights, with another licence")
    wait_until(lambda: work(db) or served_as(db) == "loop@b7f5c0c1d2e3")
    assert watch(db) == (1, True)
    assert status_of(db, "state") == "active"
    seen = pulled.looks
    next_worker(db, connect, "once more")
    assert pulled.looks == seen


def test_rows_are_embedded_whether_or_not_models_are_listed(db, connect, pulled):
    pulled.fail_listing(lambda reply: setattr(reply, "status", 500))
    next_worker(db, connect, "no list")
    assert verified(db)["fresh"] == 11
    assert served_as(db) == "loop@0a109f422b47"
