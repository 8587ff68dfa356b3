"""Compute outside the database, imports and the doctor while another model is served."""

import psycopg
import pytest

from evergreen_host.compute import embedder
from evergreen_host.compute.embedder import Embedder, Settings
from tests.fixtures.pipelines.documents import status_of, verified
from tests.fixtures.providers.turning import model_of_vectors, vector_of
from tests.fixtures.waiting import wait_until
from tests.integration.models.watching import every, finish, insert, look_once, watch, work, work_until

pytestmark = pytest.mark.slow


def claim(db):
    return db.execute("SELECT token, text, hash FROM embed_claim('docs', 100)").fetchall()


def submit(db, claimed, model):
    vectors = [str(vector_of(model, text, 8)) for _, text, _ in claimed]
    statement = "SELECT embed_submit('docs', %s, %s, %s::text[]::vector[])"
    return db.execute(statement, (claimed[0][0], [row[2] for row in claimed], vectors)).fetchone()[0]


@pytest.fixture
def looked_at(db, watched):
    look_once(db, watched)
    every(db, "1 hour")
    work(db)
    return watched


def change(db, provider, model="new", revision=2):
    provider.become(model)
    every(db, "50 ms")
    wait_until(lambda: work(db) or watch(db) == (revision, True))
    every(db, "1 hour")


def test_a_claim_made_before_the_change_is_refused(db, looked_at):
    insert(db, "claimed")
    claimed = claim(db)
    assert len(claimed) == 1
    change(db, looked_at)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="changed since claim") as refused:
        submit(db, claimed, "new")
    assert "embed_release('docs'" in refused.value.diag.message_hint
    db.execute("SELECT embed_release('docs', %s)", (claimed[0][0],))
    assert db.execute("SELECT count(*) FROM embed.cache").fetchone() == (0,)


def test_nor_when_the_model_is_back(db, looked_at):
    insert(db, "claimed")
    claimed = claim(db)
    change(db, looked_at)
    change(db, looked_at, "old", 1)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="changed since claim"):
        submit(db, claimed, "new")


def test_nothing_is_handed_out_for_a_model_that_is_not_served(db, looked_at):
    insert(db, "waits")
    change(db, looked_at)
    work_until(db, "model changed")
    said = []
    db.add_notice_handler(lambda notice: said.append(notice.message_primary))
    assert claim(db) == []
    assert any("nothing is claimed for generation 1" in one for one in said)
    db.execute("SELECT embed_build('docs')")
    assert db.execute("SELECT DISTINCT model, model_revision FROM embed_claim('docs', 1)").fetchall() == [("loop", 2)]
    claimed = claim(db)
    assert len(claimed) == 10
    submit(db, claimed, "new")
    assert set(model_of_vectors(db, "embed_store.g2", looked_at)) == {"new"}


def test_revision_is_handed_out(db, looked_at):
    insert(db, "claimed")
    handed_out = db.execute("SELECT model, model_revision FROM embed_claim('docs', 10)").fetchall()
    assert handed_out == [("loop", 1)]


@pytest.mark.stress
def test_embedder_survives_a_change_and_loads_the_model_again(db, dsn, looked_at, monkeypatch):
    insert(db, "claimed")
    made = []

    def factory(_name):
        served = "new" if made else "old"
        made.append(served)

        def embed(texts):
            if len(made) == 1:
                change(db, looked_at)
            return [vector_of(served, text, 8) for text in texts]

        return embed

    monkeypatch.setattr(embedder, "load", lambda _: factory)
    outside = Embedder(Settings(dsn, "docs", "given:above", until_empty=True))
    outside.run()
    assert made == ["old"]
    work_until(db, "model changed")
    db.execute("SELECT embed_build('docs')")
    outside.run()
    assert made == ["old", "new"]
    assert set(model_of_vectors(db, "embed_store.g2", looked_at)) == {"new"}
    assert "new" not in model_of_vectors(db, "embed_store.g1", looked_at)


def test_an_import_is_refused_meanwhile(db, looked_at):
    change(db, looked_at)
    put = "SELECT embed_import_vectors('docs', ARRAY['a text'], ARRAY[%s]::vector[])"
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match='model "loop" of pipeline "docs" changed'):
        db.execute(put, (str(vector_of("new", "a text", 8)),))


def test_a_drain_says_why_it_does_nothing(db, looked_at):
    insert(db, "waits")
    change(db, looked_at)
    looked_at.reset()
    said = []
    db.add_notice_handler(lambda notice: said.append(notice.message_primary))
    assert db.execute("SELECT embed_drain()").fetchone() == (0,)
    assert any('model "loop" changed' in one for one in said)
    assert not looked_at.sent


def test_doctor_names_both_ways_out(db, doctor, looked_at):
    change(db, looked_at)
    work_until(db, "model changed")
    found = doctor.one("model changed")
    assert "SELECT public.embed_model_accept('loop');" in found["message"].replace('"', "")
    assert found["level"] == "error"
    doctor.type(found)
    finish(db)
    assert doctor.one("model changed")["level"] == "warning"
    db.execute("SELECT embed_promote('docs')")
    assert doctor.findings("model changed") == []
    assert status_of(db, "state") == "active"
    assert verified(db)["fresh"] == 10
