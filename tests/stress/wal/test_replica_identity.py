"""The replica identity of a live source changes: the owner's writes never fail, and none of them is missed."""

import psycopg
import pytest

from tests.fixtures.pipelines.documents import assert_as_source
from tests.fixtures.pipelines.freshness import all_fresh, verify
from tests.fixtures.wal import capture_of, published, some_of, triggers, work, work_until

pytestmark = pytest.mark.stress


WRITES = [
    "UPDATE docs SET body = '{n} edited' WHERE id = 1",
    "UPDATE docs SET n = n + 1",
    "UPDATE docs SET id = id + 100 * {n} WHERE id = (SELECT min(id) FROM docs)",
    "DELETE FROM docs WHERE id = (SELECT max(id) FROM docs WHERE id < 100)",
    "INSERT INTO docs VALUES (1, 'title', '{n} new')",
]
DOES = {
    "full": "ALTER TABLE docs REPLICA IDENTITY FULL",
    "an index that has the key": (
        "CREATE UNIQUE INDEX pair ON docs (n, id); ALTER TABLE docs REPLICA IDENTITY USING INDEX pair"
    ),
    "default again": "ALTER TABLE docs REPLICA IDENTITY FULL; ALTER TABLE docs REPLICA IDENTITY DEFAULT",
}
DOES_NOT = {
    "nothing": "ALTER TABLE docs REPLICA IDENTITY NOTHING",
    "an index without the key": (
        "ALTER TABLE docs ADD code serial; CREATE UNIQUE INDEX code ON docs (code);"
        " ALTER TABLE docs REPLICA IDENTITY USING INDEX code"
    ),
    "an index that is dropped": (
        "CREATE UNIQUE INDEX pair ON docs (n, id); ALTER TABLE docs REPLICA IDENTITY USING INDEX pair; DROP INDEX pair"
    ),
    "a constraint that is dropped": (
        "ALTER TABLE docs ADD CONSTRAINT pair UNIQUE (id, n); ALTER TABLE docs REPLICA IDENTITY USING INDEX pair;"
        " ALTER TABLE docs DROP CONSTRAINT pair"
    ),
    "a column that is dropped": (
        "ALTER TABLE docs ADD code int NOT NULL DEFAULT 0; CREATE UNIQUE INDEX pair ON docs (code, id);"
        " ALTER TABLE docs REPLICA IDENTITY USING INDEX pair; ALTER TABLE docs DROP code"
    ),
}


def write(db, number):
    for statement in WRITES:
        db.execute(statement.format(n=number))


@pytest.mark.parametrize("identity", some_of(DOES, "an index that has the key"))
def test_identities_that_tell_the_key(db, pipeline, provider, identity):
    write(db, 1)
    db.execute(DOES[identity])
    write(db, 2)
    work(db)
    assert_as_source(db)
    assert capture_of(db) == "cdc"
    assert triggers(db) == 0
    assert set(provider.sent.values()) == {1}


@pytest.mark.parametrize("identity", some_of(DOES_NOT, "nothing", "an index that is dropped"))
def test_identities_that_do_not_and_what_becomes_of_the_pipeline(db, pipeline, provider, identity):
    """Triggers take over within the owner's transaction, and give back when the identity does again."""
    write(db, 1)
    with db.transaction():
        write(db, 2)
        db.execute(DOES_NOT[identity])
        write(db, 3)
    write(db, 4)
    assert published(db) == []
    assert triggers(db) == 4
    assert capture_of(db) == "trigger, cdc wanted"
    work(db)
    assert_as_source(db)
    assert "table public.docs " in db.execute("SELECT last_error FROM embed_status").fetchall()[0][0]
    write(db, 5)
    db.execute("ALTER TABLE docs REPLICA IDENTITY DEFAULT")
    write(db, 6)
    work_until(db, "docs", "cdc")
    write(db, 7)
    work(db)
    assert_as_source(db)
    assert triggers(db) == 0
    assert set(provider.sent.values()) == {1}


def test_a_change_of_identity_that_is_rolled_back(db, pipeline, provider):
    db.execute("BEGIN; ALTER TABLE docs REPLICA IDENTITY NOTHING; ROLLBACK")
    write(db, 1)
    work(db)
    assert_as_source(db)
    assert (capture_of(db), published(db), triggers(db)) == ("cdc", ["docs"], 0)


def test_the_primary_key_goes(db, pipeline):
    """The pipeline stops; the owner's writes go on."""
    db.execute("ALTER TABLE docs DROP CONSTRAINT docs_pkey")
    write(db, 1)
    work(db)
    assert db.execute("SELECT state FROM embed_status").fetchone() == ("broken",)
    db.execute("ALTER TABLE docs ADD PRIMARY KEY (id)")
    write(db, 2)
    work_until(db, "docs", "cdc")
    assert_as_source(db)


def test_with_the_whole_old_row_unwatched_columns_cost_nothing(db, pipeline):
    db.execute("ALTER TABLE docs REPLICA IDENTITY FULL")
    work(db)
    db.execute("SELECT embed_pause('docs')")
    db.execute("UPDATE docs SET n = n + 1")
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 2")
    work(db)
    assert db.execute("SELECT key FROM embed.change_log").fetchall() == [([2],)]


LEAVES = {
    "attached without an identity": (
        "CREATE TABLE c (id int PRIMARY KEY, body text); ALTER TABLE c REPLICA IDENTITY NOTHING;"
        " ALTER TABLE parts ATTACH PARTITION c FOR VALUES FROM (200) TO (300)"
    ),
    "made without a log": "CREATE UNLOGGED TABLE c PARTITION OF parts FOR VALUES FROM (200) TO (300)",
    "altered": (
        "ALTER TABLE b REPLICA IDENTITY NOTHING; CREATE TABLE c PARTITION OF parts FOR VALUES FROM (200) TO (300)"
    ),
}


@pytest.mark.parametrize("leaf", some_of(LEAVES, "altered"))
def test_a_partition_does_not_tell_the_key(db, model, leaf):
    db.execute(
        "CREATE TABLE parts (id int PRIMARY KEY, body text) PARTITION BY RANGE (id);"
        " CREATE TABLE a PARTITION OF parts FOR VALUES FROM (0) TO (100);"
        " CREATE TABLE b PARTITION OF parts FOR VALUES FROM (100) TO (200);"
        " INSERT INTO parts VALUES (1, 'one'), (101, 'two')"
    )
    db.execute("SELECT embed_create('parts', 'parts', columns => '{body}', model => 'loop', capture => 'cdc')")
    work(db)
    db.execute(LEAVES[leaf])
    db.execute("UPDATE parts SET body = 'edited'; INSERT INTO parts VALUES (201, 'three')")
    db.execute("UPDATE parts SET body = 'edited too' WHERE id > 200; DELETE FROM parts WHERE id = 1")
    work(db)
    assert verify(db, "parts") == all_fresh(2)
    assert capture_of(db, "parts") == "trigger, cdc wanted"
    db.execute("ALTER TABLE parts DETACH PARTITION c; ALTER TABLE b REPLICA IDENTITY DEFAULT")
    work_until(db, "parts", "cdc")
    db.execute("UPDATE parts SET body = 'and now'")
    work(db)
    assert verify(db, "parts") == all_fresh(1)


def test_triggers_that_cannot_be_made_at_once(connect, db, model):
    """A writer has another partition open: the owner's DDL succeeds anyway, and a worker creates them."""
    db.execute(
        "CREATE TABLE parts (id int PRIMARY KEY, body text) PARTITION BY RANGE (id);"
        " CREATE TABLE a PARTITION OF parts FOR VALUES FROM (0) TO (100);"
        " CREATE TABLE b PARTITION OF parts FOR VALUES FROM (100) TO (200);"
        " INSERT INTO parts VALUES (1, 'one'), (101, 'two')"
    )
    db.execute("SELECT embed_create('parts', 'parts', columns => '{body}', model => 'loop', capture => 'cdc')")
    work(db)
    writer = connect(autocommit=False)
    writer.execute("UPDATE a SET body = 'written meanwhile'")
    db.execute("ALTER TABLE b REPLICA IDENTITY NOTHING")
    db.execute("UPDATE b SET body = 'not in the log'")
    writer.commit()
    work(db)
    assert verify(db, "parts") == all_fresh(2)
    assert capture_of(db, "parts") == "trigger, cdc wanted"
    db.execute("UPDATE parts SET body = 'seen by triggers'")
    work(db)
    assert verify(db, "parts") == all_fresh(2)


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("ALTER TABLE docs REPLICA IDENTITY NOTHING", "REPLICA IDENTITY NOTHING"),
        ("ALTER TABLE docs SET UNLOGGED", "not logged"),
        (DOES_NOT["an index without the key"], "does not tell the primary key"),
    ],
)
def test_tables_that_do_not_do_are_refused(db, docs, model, statement, what):
    db.execute(statement)
    db.execute("SELECT embed_create('there', 'docs', columns => '{body}', model => 'loop')")
    for call in (
        "SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop', capture => 'cdc')",
        "SELECT embed_capture_set('there', 'cdc')",
    ):
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=what) as refusal:
            db.execute(call)
        assert "REPLICA IDENTITY DEFAULT" in refusal.value.diag.message_hint


def test_a_generated_key_is_refused(db, model):
    db.execute("CREATE TABLE docs (n int, body text, id int GENERATED ALWAYS AS (n + 1) STORED PRIMARY KEY)")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="generated"):
        db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop', capture => 'cdc')")


def test_a_source_cannot_be_made_unlogged_while_it_is_read(db, pipeline):
    """Postgres says so itself, before any event trigger could help."""
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="publication"):
        db.execute("ALTER TABLE docs SET UNLOGGED")
    db.execute("SELECT embed_capture_set('docs', 'trigger')")
    db.execute("ALTER TABLE docs SET UNLOGGED")
