"""An upgrade of the package changes the built-in model: a session looks before it writes its first vector."""

import numpy as np
import psycopg
import pytest

from tests.fixtures.pipelines.documents import status_of, verified

pytestmark = pytest.mark.slow

CALLS = ["SELECT embed_drain()", "CALL embed_work(until_empty => true, max_runtime => '20 s')"]


@pytest.fixture
def built_in(db, docs):
    """Pipeline ``docs`` by the built-in model: ten rows, embedded."""
    db.execute(f"SELECT embed_create('docs', '{docs}', columns => '{{title,body}}', model => 'wordllama-64')")
    db.execute("SELECT embed_drain()")


def insert(db, text):
    db.execute("INSERT INTO docs SELECT max(id) + 1, 'title', %s FROM docs", (text,))


def watched(db):
    shown = "SELECT revision, settled, watched_at IS NOT NULL FROM embed_models WHERE model = 'wordllama-64'"
    return db.execute(shown).fetchone()


def warnings(session):
    said = []
    session.add_notice_handler(lambda notice: said.append((notice.sqlstate, notice.message_primary)))
    return said


def rows_by(db, session, generation=1):
    """How many of a generation's vectors are those that a session makes."""
    shown = f"SELECT chunk, embedding::float4[] FROM embed_store.g{generation}"
    found = db.execute(shown).fetchall()
    made = session.execute(
        "SELECT embed(t.chunk, 'wordllama-64')::float4[] FROM unnest(%s::text[]) t (chunk)",
        ([text for text, _ in found],),
    ).fetchall()
    return sum(np.allclose(vector, own, atol=1e-5) for (_, vector), (own,) in zip(found, made, strict=True))


def test_first_session_takes_the_references(db, built_in):
    assert watched(db) == (1, True, True)
    assert db.execute("SELECT revision, count(*) FROM embed.model_reference GROUP BY 1").fetchall() == [(1, 6)]
    assert status_of(db, "fresh") == 10


@pytest.mark.parametrize("call", CALLS)
def test_other_weights_are_noticed_before_a_vector_is_written(db, connect, upgraded, built_in, call):
    insert(db, "after the upgrade")
    upgraded().execute(call)
    assert watched(db) == (2, True, True)
    assert status_of(db, "state") == "model changed"
    assert verified(db) == {"fresh": 10, "stale": 0, "missing": 1, "orphan": 0, "mixed": 0}
    assert rows_by(db, connect()) == 10
    for session in (db, upgraded()):
        session.execute(call)
        assert verified(db)["missing"] == 1
    assert db.execute("SELECT count(*) FROM embed.cache").fetchone() == (0,)


@pytest.mark.parametrize("call", CALLS[1:])
def test_rebuild_is_by_the_new_weights_alone(db, connect, upgraded, built_in, call):
    insert(db, "after the upgrade")
    upgraded().execute(call)
    db.execute("SELECT embed_build('docs')")
    said = warnings(db)
    for _ in range(2):
        db.execute("SELECT embed_drain()")  # loaded the package before
    assert any("vectors were not written" in message for _, message in said)
    assert any("reconnect" in message for _, message in said)
    assert db.execute("SELECT count(*) FROM embed_store.g2").fetchone() == (0,)
    new = upgraded()
    new.execute(call)
    assert rows_by(db, new, 2) == 11
    db.execute("SELECT embed_promote('docs')")
    assert status_of(db, "state") == "active"
    insert(db, "for the new generation")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="before it changed: reconnect"):
        db.execute(call)
    assert verified(db)["missing"] == 1
    new.execute(call)
    assert verified(db)["fresh"] == 12
    assert rows_by(db, new, 2) == 12


@pytest.mark.parametrize("call", CALLS[:1])
def test_work_resumes_when_the_package_is_back(db, connect, upgraded, built_in, call):
    insert(db, "after the upgrade")
    upgraded().execute(call)
    before = connect()
    before.execute(call)  # has nothing to embed, so nothing to look at
    assert status_of(db, "state") == "model changed"
    other = connect()
    other.execute("SELECT embed_create('two', 'docs', columns => '{title}', model => 'wordllama-64')")
    other.execute(call)
    assert watched(db) == (1, True, True)
    other.execute(call)
    assert status_of(db, "state") == "active"
    assert verified(db)["fresh"] == 11
    assert rows_by(db, other) == 11


def test_accepted_model_is_the_model(db, upgraded, built_in):
    insert(db, "after the upgrade")
    new = upgraded()
    new.execute("SELECT embed_drain()")
    assert db.execute("SELECT embed_model_accept('wordllama-64')").fetchone() == (1,)
    new.execute("SELECT embed_drain()")
    assert verified(db)["fresh"] == 11


def test_pipeline_that_takes_any_model_goes_on(db, upgraded, built_in):
    db.execute("SELECT embed_alter('docs', '{\"on_model_change\": \"warn\"}')")
    insert(db, "after the upgrade")
    upgraded().execute("SELECT embed_drain()")
    assert watched(db) == (2, True, True)
    assert verified(db)["fresh"] == 11


def test_model_that_is_not_watched_is_not_looked_at(db, docs, upgraded):
    db.execute("SELECT embed_model_set('wordllama-64', '{\"watch\": null}')")
    db.execute(f"SELECT embed_create('docs', '{docs}', columns => '{{title,body}}', model => 'wordllama-64')")
    db.execute("SELECT embed_drain()")
    insert(db, "after the upgrade")
    upgraded().execute("SELECT embed_drain()")
    assert verified(db)["fresh"] == 11
    assert db.execute("SELECT count(*) FROM embed.model_reference").fetchone() == (0,)


def test_session_of_before_the_upgrade_does_not_look_in_its_turn(db, connect, upgraded, built_in):
    db.execute("SELECT embed_model_set('wordllama-64', '{\"watch\": \"50 ms\"}')")
    old = connect()
    look = "CALL embed_work(max_runtime => '1 s')"
    seen = "SELECT looks FROM embed.model_watch"
    old.execute(look)
    insert(db, "after the upgrade")
    upgraded().execute("SELECT embed_drain()")
    assert watched(db) == (2, True, True)
    (before,) = db.execute(seen).fetchone()
    old.execute(look)
    assert db.execute(seen).fetchone()[0] > before
    assert watched(db) == (2, True, True)


def test_first_look_of_an_open_drain_keeps_others_waiting_but_never_hanging(db, connect, docs):
    db.execute(f"SELECT embed_create('docs', '{docs}', columns => '{{title,body}}', model => 'wordllama-64')")
    first, second = connect(), connect()
    first.execute("BEGIN")
    assert first.execute("SELECT embed_drain(max_rows => 3)").fetchone() == (3,)
    assert second.execute("SELECT embed_drain()").fetchone() == (0,)
    first.execute("COMMIT")
    second.execute("CALL embed_work(max_runtime => '3 s')")
    assert verified(db)["fresh"] == 10


def test_first_look_that_is_rolled_back_counts_for_nothing(db, connect, docs, upgraded):
    db.execute(f"SELECT embed_create('docs', '{docs}', columns => '{{title,body}}', model => 'wordllama-64')")
    old, new = connect(), upgraded()
    old.execute("BEGIN")
    for _ in range(2):
        old.execute("SELECT embed_drain(max_rows => 3)")
    old.execute("ROLLBACK")
    new.execute("SELECT embed_drain(max_rows => 3)")
    old.execute("SELECT embed_drain()")
    assert rows_by(db, new) == 3
    assert verified(db)["fresh"] == 3


@pytest.mark.parametrize(
    "question", ["SELECT embed_query('docs', 'title')", "SELECT count(*) FROM embed_search('docs', 'title')"]
)
def test_searches_of_a_session_that_may_not_write_warn(db, connect, upgraded, built_in, question):
    same, other = connect(), upgraded()
    said = {session: warnings(session) for session in (same, other)}
    for session in said:
        session.execute("SET default_transaction_read_only = on")
        for _ in range(2):
            assert session.execute(question).fetchone()[0] is not None
    assert said[same] == []
    assert [state for state, _ in said[other]] == ["01000", "01000"]
    assert "questions are embedded by another model than the vectors" in said[other][0][1]


def test_sessions_that_embed_nothing_load_nothing(db, connect, built_in):
    session = connect()
    session.execute("SELECT embed_drain()")
    session.execute("CALL embed_work(until_empty => true)")
    loaded = """DO LANGUAGE plpython3u 'from evergreen.embedding.providers import local
plpy.notice(str(local._loaded_at))'"""
    said = warnings(session)
    session.execute(loaded)
    assert [message for _, message in said] == ["{}"]
