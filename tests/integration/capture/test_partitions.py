"""Partitioned sources: rows that move, partitions that come, are emptied and go."""

import psycopg
import pytest

from tests.fixtures.pipelines.freshness import assert_fresh, drain, texts_in_view, verify
from tests.fixtures.roles import people

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]


@pytest.fixture
def parts(db, model):
    """Root ``t`` by range of n; leaf ``low``, whose columns are in another order; ``high`` with its leaf ``high_a``."""
    db.execute("CREATE TABLE t (id int, n int, body text, PRIMARY KEY (n, id)) PARTITION BY RANGE (n)")
    db.execute("CREATE TABLE low (gone int, body text, n int NOT NULL, id int NOT NULL)")
    db.execute("ALTER TABLE low DROP gone")
    db.execute("ALTER TABLE t ATTACH PARTITION low FOR VALUES FROM (0) TO (100)")
    db.execute("CREATE TABLE high PARTITION OF t FOR VALUES FROM (100) TO (200) PARTITION BY LIST (id)")
    db.execute("CREATE TABLE high_a PARTITION OF high FOR VALUES IN (1, 2, 3)")
    db.execute("SELECT embed_create('t', 't', columns => '{body}', model => 'loop')")
    db.execute("INSERT INTO t VALUES (1, 1, 'low one'), (2, 2, 'low two'), (1, 101, 'high one'), (2, 102, 'high two')")
    assert_fresh(db, "t", 4)
    return db


def shown(db):
    return texts_in_view(db, "t_embedding")


def test_a_row_that_moves_between_partitions_is_followed_without_a_call(parts, provider):
    provider.reset()
    parts.execute("UPDATE t SET n = 103 WHERE n = 1")
    assert shown(parts) == ["high one", "high two", "low two"]
    assert_fresh(parts, "t", 4)
    assert parts.execute("SELECT n, id FROM t_embedding WHERE chunk = 'low one'").fetchall() == [(103, 1)]
    assert not provider.sent


def test_writes_through_the_root_and_through_a_leaf_are_captured(parts):
    parts.execute("UPDATE low SET body = 'low edited' WHERE id = 1")
    parts.execute("UPDATE t SET body = 'high edited' WHERE n = 101")
    parts.execute("INSERT INTO high_a (id, n, body) VALUES (3, 103, 'into the leaf')")
    parts.execute("DELETE FROM low WHERE id = 2")
    assert_fresh(parts, "t", 4)
    assert shown(parts) == ["high edited", "high two", "into the leaf", "low edited"]


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("table", "left"),
    [
        ("low", ["high one", "high two"]),
        ("high_a", ["low one", "low two"]),
        ("high", ["low one", "low two"]),
        ("t", []),
    ],
)
def test_truncate_of_any_level_leaves_no_orphan(parts, table, left):
    parts.execute(f"TRUNCATE {table}")
    assert shown(parts) == left
    assert_fresh(parts, "t", len(left))
    assert shown(parts) == left


@pytest.mark.few(1)
@pytest.mark.parametrize("removal", ["TRUNCATE low", "DROP TABLE low", "ALTER TABLE t DETACH PARTITION low"])
def test_dead_letters_go_with_the_rows_that_are_removed_with_a_table(parts, provider, removal):
    failed = "SELECT key FROM embed_failures WHERE pipeline = 't' ORDER BY key"
    provider.answer = lambda texts: (400, b"refused") if any("bad" in text for text in texts) else None
    parts.execute("INSERT INTO t VALUES (8, 8, 'bad low'), (3, 108, 'bad high')")
    drain(parts)
    assert parts.execute(failed).fetchall() == [([8, 8],), ([108, 3],)]
    parts.execute(removal)
    drain(parts)
    assert parts.execute(failed).fetchall() == [([108, 3],)]


def test_a_partition_made_later_is_captured_and_its_truncate_too(parts):
    parts.execute("CREATE TABLE later PARTITION OF t FOR VALUES FROM (200) TO (300)")
    parts.execute("CREATE TABLE high_b PARTITION OF high FOR VALUES IN (7, 8)")
    parts.execute("INSERT INTO t VALUES (1, 201, 'later one'), (7, 107, 'high seven')")
    assert_fresh(parts, "t", 6)
    parts.execute("UPDATE later SET body = 'later edited'")
    parts.execute("SET session_replication_role = replica")
    parts.execute("UPDATE high_b SET body = 'seven edited'")
    parts.execute("RESET session_replication_role")
    assert_fresh(parts, "t", 6)
    parts.execute("TRUNCATE later")
    parts.execute("TRUNCATE high_b")
    assert_fresh(parts, "t", 4)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("table", "mode"),
    [("low", "DISABLE TRIGGER ALL"), ("high_a", "DISABLE TRIGGER USER"), ("low", "ENABLE TRIGGER ALL")],
)
def test_triggers_of_one_partition_stay_on_in_every_session(parts, table, mode):
    parts.execute(f"ALTER TABLE {table} {mode}")
    parts.execute("SET session_replication_role = replica")
    parts.execute(f"UPDATE {table} SET body = 'edited' WHERE id = 1")
    parts.execute(f"DELETE FROM {table} WHERE id = 2")
    parts.execute("RESET session_replication_role")
    assert_fresh(parts, "t", 3)
    assert "edited" in shown(parts)


def test_a_partition_made_and_filled_in_one_transaction_is_captured(parts):
    with parts.transaction():
        parts.execute("CREATE TABLE later PARTITION OF t FOR VALUES FROM (200) TO (300)")
        parts.execute("INSERT INTO t VALUES (1, 201, 'later one')")
        parts.execute("TRUNCATE low")
    assert_fresh(parts, "t", 3)


@pytest.mark.parametrize("parent", ["t", "high"])
def test_a_table_with_rows_that_is_attached_is_noticed(parts, parent):
    parts.execute("CREATE TABLE loaded (body text, id int NOT NULL, n int NOT NULL)")
    number = {"t": 200, "high": 105}[parent]
    parts.execute("INSERT INTO loaded SELECT 'loaded ' || i, 10, %s + i FROM generate_series(1, 3) i", (number,))
    bounds = {"t": "FROM (200) TO (300)", "high": "IN (10)"}[parent]
    parts.execute(f"ALTER TABLE {parent} ATTACH PARTITION loaded FOR VALUES {bounds}")
    assert_fresh(parts, "t", 7)
    parts.execute("UPDATE loaded SET body = 'edited'")
    assert_fresh(parts, "t", 7)
    parts.execute("TRUNCATE loaded")
    assert_fresh(parts, "t", 4)


@pytest.mark.parametrize("concurrently", ["", "CONCURRENTLY"])
def test_a_partition_that_is_detached_leaves_no_orphan_and_is_no_longer_captured(parts, concurrently):
    parts.execute(f"ALTER TABLE t DETACH PARTITION low {concurrently}")
    assert shown(parts) == ["high one", "high two"]
    assert_fresh(parts, "t", 2)
    parts.execute("INSERT INTO low (id, n, body) VALUES (9, 9, 'not ours')")
    parts.execute("TRUNCATE low")
    assert_fresh(parts, "t", 2)
    parts.execute("SELECT embed_drop('t')")
    left = parts.execute(
        "SELECT tgrelid::regclass::text, tgname FROM pg_trigger WHERE tgname LIKE 'evergreen%'"
    ).fetchall()
    assert left == []


def test_a_sub_tree_that_is_detached_and_attached_again_comes_back_without_a_call(parts, provider):
    provider.reset()
    parts.execute("ALTER TABLE t DETACH PARTITION high")
    assert_fresh(parts, "t", 2)
    parts.execute("ALTER TABLE t ATTACH PARTITION high FOR VALUES FROM (100) TO (200)")
    assert_fresh(parts, "t", 4)
    assert not provider.sent
    parts.execute("UPDATE high_a SET body = 'edited' WHERE id = 1")
    assert_fresh(parts, "t", 4)
    parts.execute("TRUNCATE high_a")
    assert_fresh(parts, "t", 2)


@pytest.mark.few(1)
@pytest.mark.parametrize("table", ["low", "high_a", "high"])
def test_a_partition_that_is_dropped_leaves_no_orphan(parts, table):
    parts.execute(f"DROP TABLE {table}")
    assert len(shown(parts)) == 2
    assert_fresh(parts, "t", 2)


def test_a_partition_dropped_while_triggers_were_off_heals_by_verify(parts):
    parts.execute("ALTER EVENT TRIGGER evergreen_follow_drop DISABLE")
    parts.execute("DROP TABLE low")
    assert len(shown(parts)) == 2
    assert verify(parts, "t", repair=True)["orphan"] == 2
    assert_fresh(parts, "t", 2)


def test_a_pipeline_on_one_leaf_minds_its_own_rows(parts, provider):
    provider.reset()
    parts.execute("SELECT embed_create('leaf', 'low', columns => '{body}', model => 'loop')")
    assert_fresh(parts, "leaf", 2)
    assert not provider.sent
    parts.execute("UPDATE t SET body = 'edited' WHERE id = 1")
    parts.execute("DELETE FROM t WHERE n = 2")
    assert_fresh(parts, "leaf", 1)
    assert_fresh(parts, "t", 3)
    parts.execute("SELECT embed_drop('leaf')")
    parts.execute("UPDATE t SET body = 'edited again' WHERE id = 1")
    assert_fresh(parts, "t", 3)


def test_rows_of_inheriting_tables_belong_to_those(db, model, provider):
    db.execute("CREATE TABLE parent (id int PRIMARY KEY, body text)")
    db.execute("CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent)")
    db.execute("INSERT INTO child VALUES (1, 'of the child')")
    for name in ("parent", "child"):
        db.execute("SELECT embed_create(%s, %s, columns => '{body}', model => 'loop')", (name, name))
    db.execute("INSERT INTO parent VALUES (1, 'of the parent')")
    assert_fresh(db, "parent", 1)
    assert_fresh(db, "child", 1)
    db.execute("UPDATE parent SET body = body || ', edited'")
    assert_fresh(db, "parent", 1)
    assert_fresh(db, "child", 1)
    assert texts_in_view(db, "parent_embedding") == ["of the parent, edited"]
    assert texts_in_view(db, "child_embedding") == ["of the child, edited"]
    db.execute("TRUNCATE parent")
    assert_fresh(db, "parent", 0)
    assert_fresh(db, "child", 0)
    assert drain(db) == 0
    assert set(provider.sent.values()) == {1}


@pytest.mark.fresh_database
def test_an_owner_without_other_rights_makes_partitions_and_hands_the_table_on(db, connect, model):
    """Postgres copies our triggers to the new partition, as the role that creates it."""
    people(db)
    db.execute("CREATE TABLE alice.t (id int PRIMARY KEY, body text) PARTITION BY LIST (id)")
    db.execute("ALTER TABLE alice.t OWNER TO alice")
    db.execute("SELECT embed_create('t', 'alice.t', columns => '{body}', model => 'loop')")
    for number, owner in enumerate(("alice", "deputy", "bob"), 1):
        if owner == "bob":
            db.execute("GRANT ALL ON SCHEMA alice TO bob; ALTER TABLE alice.t OWNER TO bob")
        session = connect(owner)
        session.execute(f"CREATE TABLE alice.t{number} PARTITION OF alice.t FOR VALUES IN ({number})")
        session.execute(f"CREATE TABLE {owner}.u{number} (id int NOT NULL, body text)")
        session.execute(f"ALTER TABLE alice.t ATTACH PARTITION {owner}.u{number} FOR VALUES IN ({number + 10})")
        db.execute(f"INSERT INTO alice.t VALUES ({number}, '{owner}'), ({number + 10}, 'attached')")
        assert_fresh(db, "t", 2 * number)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        connect("alice").execute("CREATE TABLE alice.t9 PARTITION OF alice.t FOR VALUES IN (9)")
    may = "SELECT has_function_privilege(%s, 'embed_store.capture_1()', 'EXECUTE')"
    assert [db.execute(may, (role,)).fetchone() for role in ("alice", "bob")] == [(False,), (True,)]
