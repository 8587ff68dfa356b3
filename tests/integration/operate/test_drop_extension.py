"""DROP EXTENSION: refused while pipelines exist; CASCADE leaves the user's tables as if we had never been there."""

import psycopg
import pytest

from tests.fixtures.waiting import Background

pytestmark = pytest.mark.shared_database

LEFT = """
SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'evergreen%'
UNION ALL SELECT count(*) FROM pg_event_trigger WHERE evtname LIKE 'evergreen%'
UNION ALL SELECT count(*) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname LIKE 'embed%'
UNION ALL SELECT count(*) FROM pg_proc WHERE proname LIKE 'embed%'
UNION ALL SELECT count(*) FROM pg_namespace WHERE nspname = 'embed'
UNION ALL SELECT count(*) FROM pg_policy WHERE polname LIKE 'evergreen%'
UNION ALL SELECT count(*) FROM pg_class WHERE relkind = 'v' AND relname LIKE '%\\_embedding'
"""

PARTS = """
CREATE TABLE parts (id int PRIMARY KEY, body text) PARTITION BY RANGE (id);
CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (5);
CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (5) TO (100);
INSERT INTO parts SELECT i, 'part ' || i FROM generate_series(1, 8) i;
SELECT embed_create('parts', 'parts', columns => '{body}', model => 'h8');
CREATE TABLE notes (id int PRIMARY KEY, body text);
SELECT embed_create('notes', 'notes', columns => '{body}', model => 'h8', capture => 'manual');
"""


def drain(db):
    while db.execute("SELECT embed_drain()").fetchone() != (0,):
        pass


def verified(db, pipeline):
    return {state: rows for state, rows in db.execute("SELECT * FROM embed_verify(%s)", (pipeline,)) if rows}


@pytest.fixture
def pipelines(db, docs):
    """Three drained pipelines: an ordinary table, a partitioned one, one without triggers."""
    db.execute("SELECT embed_model_add('h8', 'hash', 8)")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'h8')")
    db.execute(PARTS)
    drain(db)
    return db


def test_dropping_is_refused_while_a_pipeline_exists(pipelines):
    for name in ("docs", "parts", "notes"):  # the last one has no triggers that could be in the way
        with pytest.raises(psycopg.errors.DependentObjectsStillExist):
            pipelines.execute("DROP EXTENSION evergreen")
        pipelines.execute("SELECT embed_drop(%s)", (name,))
    pipelines.execute("DROP EXTENSION evergreen")
    assert {count for (count,) in pipelines.execute(LEFT)} == {0}


def test_a_refused_drop_changes_nothing(pipelines):
    with pytest.raises(psycopg.errors.DependentObjectsStillExist):
        pipelines.execute("DROP EXTENSION evergreen")
    pipelines.execute("UPDATE docs SET body = 'edited' WHERE id = 1")
    drain(pipelines)
    assert verified(pipelines, "docs") == {"fresh": 10}


@pytest.mark.slow
def test_cascade_leaves_the_sources_clean_and_the_vectors_there(connect, pipelines):
    other = connect()
    other.execute("UPDATE docs SET body = 'by a session that has seen the triggers' WHERE id = 1")
    vectors = "SELECT count(*), count(embedding) FROM embed_store.g1"
    before = pipelines.execute(vectors).fetchone()
    pipelines.execute("DROP EXTENSION evergreen CASCADE")
    assert {count for (count,) in pipelines.execute(LEFT)} == {0}
    for session in (pipelines, other):
        session.execute("UPDATE docs SET body = 'after' WHERE id = 2")
        session.execute("DELETE FROM docs WHERE id = 3")
        session.execute("ALTER TABLE docs ADD COLUMN IF NOT EXISTS extra int")
        session.execute("UPDATE parts SET id = id + 20, body = 'moved' WHERE id = 1")
        session.execute("TRUNCATE parts, docs")
        session.execute("CREATE TABLE later (a int); DROP TABLE later")
    assert pipelines.execute(vectors).fetchone() == before


@pytest.mark.slow
def test_the_extension_comes_back_after_a_cascade(pipelines):
    """Ids restart; the tables of the earlier pipelines remain and cause no conflict."""
    kept = pipelines.execute("SELECT count(*) FROM embed_store.g1").fetchone()
    pipelines.execute("DROP EXTENSION evergreen CASCADE")
    pipelines.execute("CREATE EXTENSION evergreen")
    pipelines.execute("SELECT embed_model_add('h16', 'hash', 16)")
    pipelines.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'h16')")
    pipelines.execute("SELECT embed_create('parts', 'parts', columns => '{body}', model => 'h16')")
    drain(pipelines)
    assert verified(pipelines, "docs") == {"fresh": 10}
    assert verified(pipelines, "parts") == {"fresh": 8}
    assert pipelines.execute("SELECT count(*), min(vector_dims(embedding)) FROM docs_embedding").fetchone() == (10, 16)
    tables = pipelines.execute(
        "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'embed_store'::regnamespace AND relkind = 'r'"
    ).fetchall()
    counts = [pipelines.execute(f"SELECT count(*) FROM {table}").fetchone() for (table,) in tables]
    assert len(tables) == 5
    assert counts.count(kept) == 2  # those of before, and those made now
    with pytest.raises(psycopg.errors.DependentObjectsStillExist):
        pipelines.execute("DROP EXTENSION evergreen")


@pytest.mark.slow
def test_dropping_a_new_pipeline_spares_the_vectors_of_an_older_installation(pipelines):
    before = pipelines.execute("SELECT sum(n) FROM (SELECT count(*) n FROM embed_store.g1) x").fetchone()
    pipelines.execute("DROP EXTENSION evergreen CASCADE")
    pipelines.execute("CREATE EXTENSION evergreen")
    pipelines.execute("SELECT embed_create('docs', 'docs', columns => '{body}')")
    drain(pipelines)
    pipelines.execute("SELECT embed_drop('docs')")
    assert pipelines.execute("SELECT count(*) FROM embed_store.g1").fetchone() == before
    pipelines.execute("DROP EXTENSION evergreen")


@pytest.mark.slow
def test_a_drop_meets_a_worker_that_is_at_the_model(connect, db, docs, model, provider):
    """The worker ends with an error or without, and takes nothing down with it."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    provider.hold()
    work = Background(connect(), "CALL embed_work(until_empty => true)")
    provider.wait_for_requests()
    db.execute("SET statement_timeout = '5s'; DROP EXTENSION evergreen CASCADE")
    assert work.running
    provider.release()
    with pytest.raises(psycopg.Error):
        work.result()
    db.execute("UPDATE docs SET body = 'after'")
    db.execute("CREATE EXTENSION evergreen")
