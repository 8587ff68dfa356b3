"""DDL inside of transactions: with writes around it, undone as a whole or in part, or left open for long."""

import psycopg
import pytest

from tests.fixtures.pipelines.freshness import assert_fresh, drain, status, texts_in_view
from tests.fixtures.pipelines.owner_ddl import cases
from tests.fixtures.waiting import Background

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

DDL = {
    "column": ["ALTER TABLE docs RENAME body TO content"],
    "key": ["ALTER TABLE docs RENAME id TO nr"],
    "table": ["ALTER TABLE docs RENAME TO papers"],
    "schema": ["ALTER SCHEMA app RENAME TO application"],
    "type": ["ALTER TABLE docs ALTER body TYPE varchar USING upper(body)"],
    "dropped": ["ALTER TABLE docs DROP body"],
    "gone": ["DROP VIEW users_view", "DROP TABLE docs"],
    "key gone": ["ALTER TABLE docs DROP CONSTRAINT docs_pkey"],
    "many": [
        "ALTER TABLE docs RENAME body TO content",
        "ALTER TABLE docs ALTER content TYPE varchar",
        "ALTER TABLE docs DROP first, ADD extra int",
        "ALTER TABLE docs RENAME id TO nr",
        "ALTER TABLE docs RENAME TO papers",
        "ALTER TABLE papers SET SCHEMA public",
        "ALTER TABLE papers DISABLE TRIGGER ALL",
    ],
}
EDIT = "UPDATE {} SET {} = '\"{}\"' WHERE {} = {}"


def where(db):
    """Where the row with key 1 is now, and what its columns are called."""
    for table in ("app.docs", "app.papers", "public.papers", "application.docs"):
        columns = db.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
            (table,),
        ).fetchall()
        names = {name for (name,) in columns}
        if names:
            return table, "content" if "content" in names else "body", "nr" if "nr" in names else "id", names
    return None


@pytest.mark.few(2)
@pytest.mark.parametrize("undo", cases({"in part": "part", "as a whole": "whole"}, "in part"))
@pytest.mark.parametrize("ddl", cases(DDL, "column", "schema", "dropped", "gone", "key gone", "many"))
def test_what_is_undone_leaves_no_trace_and_the_writes_around_it_count(db, live, provider, ddl, undo):
    """By the session that goes on writing: what it compiled and planned meanwhile is void, too."""
    provider.reset()
    live.execute("BEGIN")
    live.execute("EXECUTE edit (1, '\"before\"')")
    live.execute("SAVEPOINT inner_one")
    for statement in ddl:
        live.execute(statement)
    if (now := where(live)) is not None and now[1] in now[3]:
        live.execute(EDIT.format(now[0], now[1], "undone", now[2], 2))
    live.execute("ROLLBACK TO inner_one" if undo == "part" else "ROLLBACK")
    live.execute("EXECUTE edit (2, '\"after\"')")
    live.execute("EXECUTE add (7, '\"added\"')")
    if undo == "part":
        live.execute("COMMIT")
    assert status(db, "docs").state == status(db, "template").state == "active"
    assert_fresh(db, "docs", 4)
    assert_fresh(db, "template", 4)
    first = '"before"' if undo == "part" else '"edited"'
    assert texts_in_view(db, "app.docs_embedding") == sorted(['"added"', '"after"', first, '"text 4"'])
    assert set(provider.sent) == {'"added"', '"after"'} | ({first} if undo == "part" else set())


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "name",
    cases({name: name for name in ("column", "key", "table", "schema", "type", "many")}, "schema", "type", "many"),
)
def test_writes_before_and_after_it_in_one_transaction(db, live, provider, name):
    provider.reset()
    live.execute("BEGIN")
    live.execute("EXECUTE edit (1, '\"before\"')")
    live.execute("EXECUTE edit (2, '\"overwritten\"')")
    for number, statement in enumerate(DDL[name]):
        live.execute(statement)
        now = where(live)
        assert now is not None
        table, body, key, _ = now
        live.execute(EDIT.format(table, body, f"after {number}", key, 2))
    live.execute("COMMIT")
    last = f'"after {len(DDL[name]) - 1}"'
    texts = ['"BEFORE"' if name == "type" else '"before"', last, '"TEXT 4"' if name == "type" else '"text 4"']
    assert_fresh(db, "docs", 3)
    assert_fresh(db, "template", 3)
    view = "application.docs_embedding" if name == "schema" else "app.docs_embedding"
    assert texts_in_view(db, view) == sorted(texts)
    assert sum(provider.sent.values()) == (3 if name == "type" else 2)


@pytest.fixture
def migration(connect, live):
    """A transaction that has altered docs and is not over."""
    session = connect(autocommit=False)
    session.execute("SET search_path = app, public")
    session.execute("ALTER TABLE docs RENAME body TO content")
    session.execute("UPDATE docs SET content = '\"migrated\"' WHERE id = 1")
    yield session
    session.rollback()


def test_while_it_is_open_other_pipelines_go_on_and_follow_their_own_sources(db, connect, migration):
    session = connect(options="-c statement_timeout=10000")
    session.execute("SET search_path = app, public")
    session.execute("INSERT INTO other VALUES (1, 'other')")
    session.execute("ALTER TABLE other RENAME body TO words")
    session.execute("UPDATE other SET words = 'other, edited'")
    assert session.execute("SELECT count(*) FROM embed.change_log WHERE scope = 'source'").fetchone() == (0,)
    drain(session)
    assert texts_in_view(session, "other_embedding") == ["other, edited"]
    session.execute("INSERT INTO other VALUES (2, 'by work')")
    session.execute("CALL embed_work('other', until_empty => true)")
    assert_fresh(session, "other", 2)
    session.execute("SELECT embed_create('third', 'other', columns => '{words}', model => 'h', view_name => 'third')")
    assert_fresh(session, "third", 2)
    session.execute("SELECT embed_drop('third')")
    states = session.execute("SELECT pipeline, state, rows IS NULL FROM embed_status ORDER BY 1").fetchall()
    assert states == [("docs", "active", False), ("other", "active", False), ("template", "active", False)]
    migration.commit()
    assert_fresh(db, "docs", 3)
    assert '"migrated"' in texts_in_view(db, "app.docs_embedding")


@pytest.mark.few(1)
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_workers_that_meet_it_come_back_when_it_is_over(db, connect, migration, end):
    work = Background(connect(), "CALL embed_work(until_empty => true, max_runtime => '3 s')")
    work.result()
    assert drain(db) == 0
    assert db.execute("SELECT embed_touch('docs', '[1]')").fetchone() == (1,)  # a trigger's may not fail
    for call in ("embed_verify('docs')", "embed_pause('docs')"):
        with pytest.raises(psycopg.errors.LockNotAvailable) as refused:
            db.execute(f"SELECT {call}")
        assert "Try again" in refused.value.diag.message_hint, call
    getattr(migration, end)()
    db.execute("UPDATE embed.job SET ready_at = clock_timestamp() WHERE token IS NULL")
    assert_fresh(db, "docs", 3)
    assert ('"migrated"' in texts_in_view(db, "app.docs_embedding")) == (end == "commit")
