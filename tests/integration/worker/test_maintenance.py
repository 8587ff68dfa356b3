"""Maintenance that fails stops nothing, says so, and is tried again.

The kind: something that a worker does besides claims is refused by the server: for want of memory, shared memory or
disk, by a limit of pgvector's, a missing right, an event trigger. Rows are embedded all the same; embed_generations,
embed_status, doctor and the log say what failed, with the cure; it is done when it can be, and then nothing is said.
"""

import psycopg
import pytest

from tests.fixtures.doctor import Doctor
from tests.fixtures.pipelines.documents import stale_keys, status_of
from tests.fixtures.roles import hash_model
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.shared_database

WORK = "CALL embed_work(until_empty => true, max_runtime => '20 s')"
NO_SPACE = 'could not resize shared memory segment "/PostgreSQL.1" to 268435456 bytes: No space left on device'
REFUSALS = (
    ("53100", NO_SPACE, "docker run --shm-size"),
    ("53100", "could not extend file: No space left on device", "disk space"),
    ("53200", "out of memory", "maintenance_work_mem = '64MB'"),
    ("54000", "column cannot have more than 2000 dimensions for hnsw index", "embed_build"),
    ("42501", "permission denied for tablespace fast", "default_tablespace"),
    ("P0001", "CREATE INDEX only on Sundays", "CREATE INDEX"),
    ("XX000", "failed on purpose", "CREATE INDEX"),
    ("22000", "NaN not allowed in vector", "CREATE INDEX"),
)


@pytest.fixture
def pipeline(db):
    """Pipeline ``docs``, embedded; its index is due."""
    hash_model(db)
    db.execute("SELECT embed_setting('index_from', '3')")
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text)")
    db.execute("INSERT INTO docs SELECT i, 'doc ' || i FROM generate_series(1, 5) i")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')")
    db.execute(WORK)
    assert not indexed(db)


def refuse(db, tag, state, message, condition="true"):
    """An event trigger that refuses a command of ours, with any error."""
    db.execute(
        f"""
        CREATE OR REPLACE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$
        BEGIN IF {condition} THEN RAISE EXCEPTION USING errcode = '{state}', message = '{message}'; END IF; END $$;
        DROP EVENT TRIGGER IF EXISTS refuse;
        CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('{tag}') EXECUTE FUNCTION refuse();
        """
    )


def indexed(db):
    return db.execute("SELECT bool_and(indexed) FROM embed_generations").fetchone() == (True,)


def works(db, number):
    """Rows that change are embedded, by workers that do nothing else after a failure."""
    db.execute("UPDATE docs SET body = %s || id", (f"edit {number} ",))
    db.execute(WORK)
    assert stale_keys(db) == []


@pytest.mark.slow
def test_an_index_that_cannot_be_built(db, dsn, pipeline):
    doctor = Doctor(dsn)
    db.execute("SELECT embed_alter('docs', '{\"language\": null}')")  # the vector index alone
    for number, (state, message, cure) in enumerate(REFUSALS):
        refuse(db, "CREATE INDEX", state, message)
        works(db, number)
        assert not indexed(db)
        (told,) = db.execute("SELECT maintenance_error FROM embed_generations").fetchone()
        assert message in told
        assert status_of(db, "last_error") == told
        (found,) = doctor.findings()
        assert found["check"] == "index"
        assert found["level"] == "warning"
        assert message in found["message"]
        assert cure in found["message"] + found["advice"]
        db.execute("DROP EVENT TRIGGER refuse")
        if state != "54000":
            doctor.type(found)
        wait_until(lambda: indexed(db) or (db.execute(WORK) and False), what="the index")
        assert status_of(db, "last_error") is None
        db.execute("DROP INDEX embed_store.g1_embedding_idx; DELETE FROM embed.maintenance_error")


@pytest.mark.fresh_database
def test_an_index_that_can_be_built_with_less(db, pipeline):
    for number, state in enumerate(("53100", "53200", "53000")):
        limit = ("max_parallel_maintenance_workers", "0") if number else ("maintenance_work_mem", "64MB")
        refuse(db, "CREATE INDEX", state, "too much", f"current_setting('{limit[0]}') <> '{limit[1]}'")
        db.execute("SET maintenance_work_mem = '512MB'")
        db.execute(WORK)
        assert indexed(db)
        db.execute("DROP INDEX embed_store.g1_embedding_idx")


@pytest.mark.fresh_database
def test_shared_memory_that_is_too_small(db, connect, pipeline):
    """A real refusal: the session may make no file of more than 64 MB, nor a segment of shared memory."""
    session = connect()
    session.execute("SET maintenance_work_mem = '256MB'; SET min_parallel_table_scan_size = 0")
    session.execute(
        """
        DO LANGUAGE plpython3u $$
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 26, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        $$
        """
    )
    with pytest.raises(psycopg.errors.OutOfMemory, match="shared memory"):
        session.execute("CREATE INDEX ON embed_store.g1 USING hnsw (embedding vector_l2_ops)")
    session.execute(WORK)
    assert indexed(db)


def test_a_cancel_ends_the_worker(db, pipeline):
    """Maintenance takes no cancel or shutdown for a failure of its own."""
    refuse(db, "CREATE INDEX", "57014", "canceling statement due to user request")
    with pytest.raises(psycopg.errors.QueryCanceled):
        db.execute(WORK)
    assert db.execute("SELECT * FROM embed.maintenance_error").fetchall() == []


def test_it_is_tried_again_later_and_later(db, pipeline):
    """Not in every pass, nor in every call: a build that fails at its end costs a minute each time."""
    refuse(db, "CREATE INDEX", "P0001", "not now")
    for _ in range(3):
        db.execute(WORK)
    assert db.execute("SELECT failures FROM embed.maintenance_error").fetchone() == (1,)
    pause = "SELECT extract(epoch FROM retry_at - last_at)::int FROM embed.maintenance_error"
    pauses = []
    for _ in range(4):
        pauses += db.execute(pause).fetchone()
        db.execute("UPDATE embed.maintenance_error SET retry_at = now()")
        db.execute(WORK)
    assert pauses == [1, 2, 4, 8]


OLD = (
    "INSERT INTO embed.lag (pipeline, at, lane, buckets, counts) VALUES (1, '2000-01-01', 0, '{1}', '{1}')",
    "INSERT INTO embed.usage SELECT 99, 1, '2000-01-01', true, 1, 1, 1, NULL, 0, 0, 0",
    "INSERT INTO embed.cache (model, hash, embedding, kept_at) VALUES (1, 'x', '[1]', '2000-01-01')",
    "INSERT INTO embed.failure VALUES (99, '[1]', 'permanent', 'x', 1, now(), now())",
    "INSERT INTO embed.lease VALUES (1, 99, '2000-01-01')",
    "INSERT INTO embed.erased_text VALUES (1, 'x', '2000-01-01')",
)


def test_cleaning_up_that_fails(db, dsn, pipeline):
    """By a trigger that refuses, as a disk or an administrator's policy may: embedding goes on, doctor says it."""
    db.execute("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$")
    tables = [insert.split()[2] for insert in OLD]
    for insert, table in zip(OLD, tables, strict=True):
        db.execute(insert)
        db.execute(f"CREATE TRIGGER refuse BEFORE DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()")
    db.execute("UPDATE docs SET body = 'edited'")
    db.execute("SELECT embed_drain()")
    assert stale_keys(db) == []
    db.execute(WORK)
    assert indexed(db), "what comes after it in the round is done"
    found = Doctor(dsn).findings("maintenance")
    assert len(found) == len(OLD)
    assert all("refused" in one["message"] for one in found)
    assert "refused" in status_of(db, "last_error")
    for table in tables:
        db.execute(f"DROP TRIGGER refuse ON {table}")
    wait_until(lambda: db.execute(WORK) and Doctor(dsn).findings() == [], what="the end of it")
    assert status_of(db, "last_error") is None


def test_retirement_that_fails(db, dsn, pipeline):
    db.execute("SELECT embed_build('docs', options => '{\"distance\": \"l2\"}')")
    db.execute(WORK)
    db.execute("SELECT embed_promote('docs')")
    db.execute("SELECT embed_alter('docs', '{\"previous_kept\": \"0 s\"}')")
    refuse(db, "DROP TABLE", "P0001", "tables stay")
    works(db, 1)
    assert "tables stay" in Doctor(dsn).one("maintenance")["message"]
    db.execute("DROP EVENT TRIGGER refuse")
    wait_until(lambda: db.execute(WORK) and db.execute("SELECT count(*) FROM embed_generations").fetchone() == (1,))
    assert Doctor(dsn).findings() == []


def test_a_source_that_cannot_be_followed_is_said(db, dsn, pipeline):
    """The owner's DDL goes through; what we have to do after it is refused, and its rows wait, but no others."""
    db.execute("CREATE TABLE other (id int PRIMARY KEY, body text)")
    db.execute("SELECT embed_create('other', 'other', columns => '{body}', model => 'hash8')")
    refuse(db, "CREATE FUNCTION", "P0001", "functions only on Sundays")
    db.execute("ALTER TABLE docs RENAME TO papers")
    db.execute("UPDATE papers SET body = 'edited' WHERE id = 1; INSERT INTO other VALUES (1, 'one')")
    db.execute(WORK.replace("until_empty", "until_idle"))  # its rows stay
    said = dict(db.execute("SELECT pipeline, last_error FROM embed_status"))
    assert said["other"] is None
    assert said["docs"].startswith("following the source: functions only on Sundays (tried ")
    assert db.execute("SELECT count(*) FROM other_embedding").fetchone() == (1,)
    assert any("only on Sundays" in one["message"] for one in Doctor(dsn).findings())
    db.execute("DROP EVENT TRIGGER refuse")
    wait_until(lambda: db.execute(WORK) and status_of(db, "pending") == 0, what="followed")
    assert status_of(db, "last_error") is None
