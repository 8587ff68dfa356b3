"""embed_status and embed_generations: cheap whatever the size, exact where it is small, near where it is large."""

import json

import pytest

from tests.fixtures.pipelines.documents import drain_all, drain_once
from tests.fixtures.roles import hash_model

FIGURES = "SELECT rows, fresh, pending, in_flight, failed, coverage FROM embed_status"


@pytest.fixture
def pipeline(db, docs):
    hash_model(db)
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')")
    drain_all(db)
    return "docs"


def grow(db, documents, jobs=0, changes=0, failures=0):
    """As if there were many rows: straight into the tables, which is what the figures are made of."""
    db.execute(
        "INSERT INTO embed.document (generation, key, fingerprint, src_hash, chunks, changed_at, embedded_at)"
        " SELECT 1, jsonb_build_array(1000 + i), '', '', 1, now(), now() FROM generate_series(1, %s) i",
        (documents,),
    )
    db.execute(
        "INSERT INTO embed.job (generation, key) SELECT 1, jsonb_build_array(1000 + i) FROM generate_series(1, %s) i",
        (jobs,),
    )
    changed = "SELECT 1, jsonb_build_array(1000 + %s - i) FROM generate_series(1, %s) i"
    db.execute(f"INSERT INTO embed.change_log (pipeline, key) {changed}", (documents, changes))
    db.execute(
        "INSERT INTO embed.failure (generation, key, class, message, attempts, first_at, last_at)"
        " SELECT 1, jsonb_build_array(-i), 'permanent', 'y', 1, now(), now() FROM generate_series(1, %s) i",
        (failures,),
    )
    db.execute("ANALYZE embed.document, embed.job, embed.change_log, embed.failure")


def buffers(db, view):
    db.execute(f"SELECT * FROM {view}").fetchall()
    ((plan,),) = db.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM {view}").fetchall()
    top = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
    return top["Shared Hit Blocks"] + top["Shared Read Blocks"]


@pytest.mark.few(1)
@pytest.mark.slow
@pytest.mark.parametrize("view", ["embed_status", "embed_generations"])
def test_what_a_look_reads_does_not_grow_with_the_tables(db, pipeline, view):
    grow(db, 20_000, 10_000, 10_000, 10_000)
    some = buffers(db, view)
    grow_again = 180_000
    db.execute("TRUNCATE embed.job, embed.change_log, embed.failure; DELETE FROM embed.document WHERE key > '[100]'")
    db.execute("VACUUM embed.document")
    grow(db, 20_000 + grow_again, 10_000 + grow_again, 10_000 + grow_again, 10_000 + grow_again)
    many = buffers(db, view)
    print(f"{view}: {some} and {many} buffers")
    assert many < 3 * some, "ten times the documents, nineteen times the queues"
    assert many < 100_000


def test_small_figures_are_exact(db, pipeline):
    assert db.execute(FIGURES).fetchall() == [(10, 10, 0, 0, 0, 1.0)]
    db.execute("UPDATE docs SET body = 'edited' WHERE id <= 2; INSERT INTO docs VALUES (11, 'new', 'new')")
    assert db.execute(FIGURES).fetchall() == [(11, 8, 3, 0, 0, pytest.approx(8 / 11))]
    db.execute("UPDATE docs SET body = 'edited again' WHERE id <= 2")
    assert db.execute(FIGURES).fetchall() == [(11, 8, 3, 0, 0, pytest.approx(8 / 11))]
    db.execute("DELETE FROM docs WHERE id > 5")
    drain_all(db)
    assert db.execute(FIGURES).fetchall() == [(5, 5, 0, 0, 0, 1.0)]
    assert db.execute("SELECT documents, chunks, pending FROM embed_generations").fetchall() == [(5, 5, 0)]


@pytest.mark.slow
def test_large_figures_are_near(db, pipeline):
    """Half of the documents have a job, a tenth of them another change in the log."""
    grow(db, 60_000, 30_000, 6_000, 7_000)
    _, fresh, pending, _, failed, _ = db.execute(FIGURES).fetchone()
    assert fresh == pytest.approx(24_010, rel=0.15)
    assert pending == pytest.approx(36_000, rel=0.15)
    assert failed == pytest.approx(7_000, rel=0.15)
    ((documents,),) = db.execute("SELECT documents FROM embed_generations").fetchall()
    assert documents == 60_010


def tallied(db):
    return db.execute(
        "SELECT g.id, embed.documents(g.id) = (SELECT count(*) FROM embed.document d WHERE d.generation = g.id)"
        " FROM embed.generation g ORDER BY 1"
    ).fetchall()


@pytest.mark.slow
def test_documents_are_counted_whatever_becomes_of_them(db, pipeline, connect):
    db.execute("SELECT embed_build('docs', columns => '{title}')")
    drain_all(db)
    assert tallied(db) == [(1, True), (2, True)]
    db.execute("BEGIN; UPDATE docs SET id = id + 100; SELECT embed_touch('docs', '[1]'); ROLLBACK")
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 1; BEGIN")
    drain_once(db)
    db.execute("ROLLBACK")
    assert tallied(db) == [(1, True), (2, True)]
    db.execute("UPDATE docs SET id = id + 100; INSERT INTO docs VALUES (1, 'a', 'b')")
    drain_all(db)
    db.execute("SELECT embed_forget('docs', '[1]')")
    assert tallied(db) == [(1, True), (2, True)]
    connect().execute("CALL embed_work(until_empty => true)")  # adds them up
    assert tallied(db) == [(1, True), (2, True)]
    assert db.execute("SELECT count(*) FROM embed.document_count").fetchone() <= (4,)
    db.execute("SELECT embed_promote('docs'); SELECT embed_retire('docs')")
    db.execute("TRUNCATE docs")
    drain_all(db)
    assert tallied(db) == [(2, True)]
    db.execute("SELECT embed_drop('docs')")
    connect().execute("CALL embed_work(until_empty => true)")
    assert db.execute("SELECT coalesce(sum(documents), 0) FROM embed.document_count").fetchone() == (0,)


@pytest.mark.slow
def test_documents_that_came_while_triggers_were_disabled_are_counted_after_a_restore(db, pipeline):
    """As pg_restore --disable-triggers leaves them; that the database is another one is what a worker sees of it."""
    with db.transaction():
        db.execute("ALTER TABLE embed.document DISABLE TRIGGER ALL")
        db.execute("DELETE FROM embed.document WHERE key = '[2]'")
        db.execute("ALTER TABLE embed.document ENABLE ALWAYS TRIGGER count_insert")
        db.execute("ALTER TABLE embed.document ENABLE ALWAYS TRIGGER count_delete")
        db.execute("UPDATE embed.pipeline SET database_oid = 1")
    assert tallied(db) == [(1, False)]
    drain_all(db)
    assert tallied(db) == [(1, True)]
    assert db.execute(FIGURES).fetchall() == [(10, 10, 0, 0, 0, 1.0)]
