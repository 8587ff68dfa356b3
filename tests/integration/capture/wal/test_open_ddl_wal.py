"""As worker/test_open_ddl.py, of changes read from the WAL: what one owner locks or breaks stops no other."""

import pytest

from tests.fixtures.pipelines.documents import stale_keys, status_of
from tests.fixtures.roles import hash_model, people
from tests.fixtures.wal import WORK, work_until

pytestmark = pytest.mark.slow

HELD = (
    "ALTER TABLE alice.parts_2 SET (fillfactor = 90)",
    "LOCK TABLE alice.parts, alice.parts_2",
    "DROP TABLE alice.parts CASCADE",
    "ALTER TABLE alice.later REPLICA IDENTITY FULL",
    "SELECT embed_drop('parts')",
    "SELECT embed_capture_set('later', 'cdc')",
    "SELECT embed_capture_set('parts', 'trigger')",
)


@pytest.fixture
def published(db, docs):
    """Our ``docs`` and alice's partitioned ``parts``, read from the WAL; her ``later`` is captured by triggers."""
    people(db)
    hash_model(db)
    db.execute(
        """
        CREATE TABLE alice.parts (id int, body text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
        CREATE TABLE alice.parts_1 PARTITION OF alice.parts FOR VALUES FROM (0) TO (5);
        CREATE TABLE alice.parts_2 PARTITION OF alice.parts FOR VALUES FROM (5) TO (10);
        INSERT INTO alice.parts SELECT i, 'part ' || i FROM generate_series(1, 8) i;
        CREATE TABLE alice.later (id int PRIMARY KEY, body text);
        ALTER TABLE alice.parts OWNER TO alice; ALTER TABLE alice.parts_1 OWNER TO alice;
        ALTER TABLE alice.parts_2 OWNER TO alice; ALTER TABLE alice.later OWNER TO alice;
        SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8', capture => 'cdc');
        SELECT embed_create('parts', 'alice.parts', columns => '{body}', model => 'hash8', capture => 'cdc');
        SELECT embed_create('later', 'alice.later', columns => '{body}', model => 'hash8');
        """
    )
    for pipeline in ("docs", "parts"):
        work_until(db, pipeline, "cdc")


def test_an_owner_who_does_not_commit(db, connect, published):
    worker, holder = connect(), connect("alice", autocommit=False)
    for number, statement in enumerate(HELD):
        db.execute("SELECT embed_capture_set('later', 'trigger'); SELECT embed_capture_set('later', 'cdc')")
        holder.execute(statement)
        holder.execute("LOCK TABLE alice.later")
        db.execute("UPDATE docs SET body = %s || id WHERE id < 3", (f"edit {number} ",))
        worker.execute(WORK)
        assert stale_keys(db) == [], statement
        holder.rollback()
    work_until(db, "later", "cdc")
    assert db.execute("SELECT * FROM embed.maintenance_error").fetchall() == []


def test_a_table_that_may_not_be_published_costs_the_others_no_slot(db, connect, published):
    """An error of one table's DDL was taken for one of decoding, after which every row of all is checked."""
    db.execute(
        """
        CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql
        AS $$ BEGIN RAISE EXCEPTION 'not that table'; END $$;
        CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('ALTER PUBLICATION') EXECUTE FUNCTION refuse();
        """
    )
    notices = []
    worker = connect()
    worker.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    db.execute("SELECT embed_capture_set('later', 'cdc')")
    db.execute("UPDATE docs SET body = 'edited' WHERE id < 3")
    worker.execute(WORK)
    assert stale_keys(db) == []
    assert not [told for told in notices if "reading the WAL" in told], "the slot was given up"
    assert status_of(db, "capture") == "cdc"
    assert "not that table" in status_of(db, "maintenance_error", "later")
    db.execute("DROP EVENT TRIGGER refuse")
    work_until(db, "later", "cdc")
    assert status_of(db, "maintenance_error", "later") is None
