"""One owner's open transaction does not block other owners.

The kind: maintenance or a view takes a lock on something of one pipeline (its table, a generation's table, a counter)
and waits or fails for all. So every statement with which an owner can hold such locks is left open here, in turn, with
indexes due; each time the others' rows become fresh, their index is built, and every view, doctor and metrics answer.
"""

import pytest

from evergreen_host.monitor import metrics
from tests.fixtures.doctor import Doctor
from tests.fixtures.pipelines.documents import stale_keys
from tests.fixtures.roles import hash_model, people

VIEWS = ("generations", "status", "pipelines", "models", "failures", "usage", "endpoints")
WORK = "CALL embed_work(until_empty => true, max_runtime => '20 s')"

# Each is what alice types after BEGIN, and does not commit.
HELD = (
    "SELECT embed_drop('mine')",
    "SELECT embed_drop('mine'); DROP TABLE mine",
    "DROP TYPE alice.kind CASCADE",
    "ALTER TABLE mine ADD COLUMN more text",
    "ALTER TABLE mine RENAME COLUMN body TO text",
    "ALTER TABLE mine DROP COLUMN body",
    "LOCK TABLE mine",
    "LOCK TABLE mine IN SHARE MODE",
    "TRUNCATE mine",
    "DROP TABLE mine CASCADE",
    "DROP OWNED BY alice CASCADE",
    "DROP SCHEMA alice CASCADE",
    "ALTER SCHEMA alice RENAME TO elsewhere",
    "SELECT embed_build('mine', options => '{\"distance\": \"l2\"}')",
    "SELECT embed_alter('mine', '{\"daily_tokens\": 5}')",
    "SELECT embed_pause('mine')",
    "SELECT embed_retire('mine')",
    "SELECT embed_forget('mine', '[\"a\", 1]')",
    "SELECT * FROM mine_embedding",
    "LOCK TABLE parts_2; SELECT 1",
    "SELECT embed_drop('parts')",
    "ALTER TABLE parts DETACH PARTITION parts_2",
)
ASKED = HELD[:3]  # a session each: doctor and metrics are asked as well


@pytest.fixture
def two_owners(db):
    """Alice's pipelines ``mine`` and ``parts``, our ``docs``; all have rows enough for an index."""
    people(db)
    hash_model(db)
    db.execute("SELECT embed_setting('index_from', '3')")
    db.execute(f"GRANT CREATE ON DATABASE {db.info.dbname} TO alice")
    db.execute(
        """
        SET search_path TO alice, public; SET role alice;
        CREATE TYPE alice.kind AS ENUM ('a', 'b');
        CREATE TABLE mine (kind kind, id int, body text, PRIMARY KEY (kind, id));
        INSERT INTO mine SELECT 'a', i, 'mine ' || i FROM generate_series(1, 5) i;
        CREATE TABLE parts (id int PRIMARY KEY, body text) PARTITION BY RANGE (id);
        CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (5);
        CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (5) TO (10);
        INSERT INTO parts SELECT i, 'part ' || i FROM generate_series(1, 8) i;
        SELECT embed_create('mine', 'mine', columns => '{body}', model => 'hash8', options => '{"daily_tokens": 9999}');
        SELECT embed_create('parts', 'parts', columns => '{body}', model => 'hash8');
        RESET role; RESET search_path;
        CREATE TABLE docs (id int PRIMARY KEY, body text);
        INSERT INTO docs SELECT i, 'doc ' || i FROM generate_series(1, 5) i;
        SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8');
        """
    )


@pytest.mark.slow
def test_an_owner_who_does_not_commit(db, connect, two_owners, dsn):
    worker, holder, viewer = connect(), connect("alice", autocommit=False), connect()
    holder.execute("SET search_path TO alice, public")
    holder.commit()
    viewer.execute("SET statement_timeout = '5 s'")
    worker.execute(WORK)
    for number, statement in enumerate(HELD):
        for generation in (1, 2, 3):
            db.execute(f"DROP INDEX IF EXISTS embed_store.g{generation}_embedding_idx")
        holder.execute(statement)
        db.execute("UPDATE docs SET body = %s || id WHERE id < 3", (f"edit {number} ",))
        worker.execute(WORK)
        assert stale_keys(db) == [], statement
        assert db.execute("SELECT indexed FROM embed_generations WHERE pipeline = 'docs'").fetchone() == (True,), (
            statement
        )
        for view in VIEWS:
            viewer.execute(f"SELECT * FROM embed_{view}")
        if statement in ASKED:
            Doctor(f"{dsn} options='-c statement_timeout=5s'").findings()
            assert "evergreen_up 1.0" in metrics.exposition(f"{dsn} options='-c statement_timeout=5s'")
        holder.rollback()
    worker.execute(WORK)
    assert db.execute("SELECT bool_and(indexed) FROM embed_generations").fetchone() == (True,)
    assert db.execute("SELECT * FROM embed.maintenance_error").fetchall() == []
