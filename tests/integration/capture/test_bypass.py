"""Writes that pass triggers by: most are captured anyway, the rest heal by embed_verify."""

import pytest

from tests.fixtures.pipelines.freshness import assert_fresh, drain, status, texts_in_view, verify

pytestmark = pytest.mark.shared_database


@pytest.fixture
def fresh(db, docs, model):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
    assert_fresh(db, "docs", 10)
    return db


def test_replicated_writes_are_captured(fresh):
    """session_replication_role = replica is how logical replication and many loaders write."""
    fresh.execute("SET session_replication_role = replica")
    fresh.execute("UPDATE docs SET body = 'replicated' WHERE id = 1")
    fresh.execute("DELETE FROM docs WHERE id = 2")
    fresh.execute("UPDATE docs SET id = 30 WHERE id = 3")
    fresh.execute("INSERT INTO docs (id, body) VALUES (40, 'new')")
    fresh.execute("RESET session_replication_role")
    assert_fresh(fresh, "docs", 10)
    fresh.execute("SET session_replication_role = replica")
    fresh.execute("TRUNCATE docs")
    fresh.execute("RESET session_replication_role")
    assert_fresh(fresh, "docs", 0)


def test_ddl_of_a_replica_session_is_followed(fresh):
    fresh.execute("SET session_replication_role = replica")
    fresh.execute("ALTER TABLE docs RENAME body TO content")
    fresh.execute("UPDATE docs SET content = 'edited' WHERE id = 1")
    fresh.execute("RESET session_replication_role")
    assert_fresh(fresh, "docs", 10)


@pytest.mark.parametrize("form", ["", "WITH (FREEZE)"])
def test_copy_is_captured(fresh, form):
    with fresh.transaction():
        fresh.execute("TRUNCATE docs")
        with fresh.cursor().copy(f"COPY docs (id, body) FROM STDIN {form}") as copy:
            for number in range(2000):
                copy.write_row((number, f"copied {number % 50}"))
    drain(fresh)
    assert_fresh(fresh, "docs", 2000)
    assert len(set(texts_in_view(fresh, "docs_embedding"))) == 50


def test_upsert_and_merge_are_captured(fresh, provider):
    provider.reset()
    fresh.execute("INSERT INTO docs VALUES (1, 't', 'upserted') ON CONFLICT (id) DO UPDATE SET body = EXCLUDED.body")
    fresh.execute("INSERT INTO docs VALUES (2, 't', 'ignored') ON CONFLICT DO NOTHING")
    fresh.execute(
        "MERGE INTO docs USING (VALUES (3, 'merged'), (11, 'added'), (4, NULL)) v (id, body) ON docs.id = v.id"
        " WHEN MATCHED AND v.body IS NULL THEN DELETE WHEN MATCHED THEN UPDATE SET body = v.body"
        " WHEN NOT MATCHED THEN INSERT (id, body) VALUES (v.id, v.body)"
    )
    fresh.execute(
        "WITH moved AS (DELETE FROM docs WHERE id = 5 RETURNING *) INSERT INTO docs SELECT 50, title, body FROM moved"
    )
    assert_fresh(fresh, "docs", 10)
    assert provider.sent == {"upserted": 1, "merged": 1, "added": 1}


def test_a_subtransaction_that_is_rolled_back_leaves_nothing(fresh, provider):
    provider.reset()
    with fresh.transaction():
        fresh.execute("SAVEPOINT a; UPDATE docs SET body = 'never' WHERE id = 1; ROLLBACK TO a")
        fresh.execute("SAVEPOINT b; UPDATE docs SET body = 'kept' WHERE id = 2; RELEASE b")
    assert_fresh(fresh, "docs", 10)
    assert provider.sent == {"kept": 1}


def test_no_op_updates_and_unrelated_columns_cost_nothing(fresh, provider):
    provider.reset()
    fresh.execute("UPDATE docs SET n = n + 1, title = 'other'")
    fresh.execute("UPDATE docs SET body = body")
    assert fresh.execute("SELECT count(*) FROM embed.change_log").fetchone() == (0,)
    fresh.execute("UPDATE docs SET body = 'B' WHERE id = 1")
    fresh.execute("UPDATE docs SET body = 'body 1' WHERE id = 1")
    fresh.execute("DELETE FROM docs WHERE id = 2")
    fresh.execute("INSERT INTO docs VALUES (2, 'title 2', 'body 2')")
    assert_fresh(fresh, "docs", 10)
    assert not provider.sent


def missed(db):
    """Write behind the triggers' back: they and the event trigger that would put them back are off."""
    db.execute("ALTER EVENT TRIGGER evergreen_follow_ddl DISABLE")
    db.execute("ALTER TABLE docs DISABLE TRIGGER ALL")
    db.execute("UPDATE docs SET body = 'missed' WHERE id = 1")
    db.execute("DELETE FROM docs WHERE id = 2")
    db.execute("INSERT INTO docs (id, body) VALUES (11, 'missed too')")
    db.execute("UPDATE docs SET id = 12 WHERE id = 3")


def test_missed_changes_are_seen_by_the_view_and_heal_by_verify(fresh, provider):
    provider.reset()
    missed(fresh)
    assert fresh.execute("SELECT id FROM docs_embedding WHERE is_stale").fetchall() == [(1,)]
    assert fresh.execute("SELECT count(*) FROM docs_embedding WHERE id IN (2, 3)").fetchone() == (0,)
    wrong = {"fresh": 7, "stale": 1, "missing": 2, "orphan": 2, "mixed": 0}
    assert verify(fresh, "docs") == wrong
    drain(fresh)
    assert verify(fresh, "docs") == wrong, "verify without repair changes nothing"
    assert verify(fresh, "docs", repair=True) == wrong
    assert status(fresh, "docs").pending == 5
    assert_fresh(fresh, "docs", 10)
    assert provider.sent == {"missed": 1, "missed too": 1}


def test_triggers_that_were_disabled_or_dropped_come_back(fresh):
    """A worker looks again before it reads, also when no event trigger saw the DDL."""
    missed(fresh)
    verify(fresh, "docs", repair=True)
    drain(fresh)
    fresh.execute("ALTER EVENT TRIGGER evergreen_follow_ddl ENABLE ALWAYS")
    fresh.execute("ALTER TABLE docs ADD one_more int")
    fresh.execute("UPDATE docs SET body = 'seen again' WHERE id = 1")
    assert_fresh(fresh, "docs", 10)
    names = [name for (name,) in fresh.execute("SELECT tgname FROM pg_trigger WHERE tgname LIKE 'evergreen%'")]
    for name in names:
        fresh.execute(f'DROP TRIGGER "{name}" ON docs')
    fresh.execute("ALTER TABLE docs DROP one_more")
    fresh.execute("UPDATE docs SET body = 'and again' WHERE id = 1")
    verify(fresh, "docs", repair=True)
    assert_fresh(fresh, "docs", 10)
    fresh.execute("UPDATE docs SET body = 'captured again' WHERE id = 1")
    assert_fresh(fresh, "docs", 10)


def test_damage_in_the_store_heals_by_verify(fresh, provider):
    """Rows of the generation table that were lost, added or altered by hand."""
    provider.reset()
    (table,) = fresh.execute("SELECT 'embed_store.g' || generation FROM embed_pipelines").fetchone()
    fresh.execute(f"DELETE FROM {table} WHERE k1 = 1")
    fresh.execute(f"UPDATE {table} SET chunk_hash = '\\x00' WHERE k1 = 2")
    fresh.execute(f"UPDATE {table} SET chunk_no = 5 WHERE k1 = 3")
    fresh.execute(f"UPDATE {table} SET model = 'another' WHERE k1 = 4")
    fresh.execute("DELETE FROM embed.document WHERE key = '[5]'")
    found = verify(fresh, "docs", repair=True)
    assert found["fresh"] == 5
    assert found["mixed"] == 1
    assert_fresh(fresh, "docs", 10)
    assert texts_in_view(fresh, "docs_embedding") == sorted(f"body {i}" for i in range(1, 11))
