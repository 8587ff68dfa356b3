"""The owner's own DDL on a live source: it works, so do later writes of open sessions, and the pipeline follows."""

import psycopg
import pytest

from tests.fixtures.pipelines.freshness import assert_fresh, drain, status, texts_in_view, verify
from tests.fixtures.pipelines.owner_ddl import BROKEN, FOLLOWED, assert_others_go_on, names_now

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]


@pytest.mark.few(1)
@pytest.mark.parametrize("chain", FOLLOWED.values(), ids=FOLLOWED.keys())
def test_the_pipeline_follows(db, live, provider, chain):
    table, key, body = names_now(db)
    for number, ddl in enumerate(chain):
        provider.reset()
        for statement in ddl.split(";"):
            db.execute(statement)
        table, key, body = names_now(db)
        assert status(db, "docs").state == status(db, "template").state == "active", ddl
        # No drain between: what the next write of an open session meets is what the DDL itself left behind.
        live.execute(f"UPDATE {table} SET {body} = '\"new {number}\"' WHERE {key} = 1")
        live.execute(f"UPDATE {table} SET {key} = {number + 100} WHERE {key} = (SELECT max({key}) FROM {table})")
        live.execute(f"INSERT INTO {table} ({key}, {body}) VALUES (0, '\"zero {number}\"')")
        live.execute(f"DELETE FROM {table} WHERE {key} = 2")
        stale = db.execute("SELECT key FROM users_view WHERE is_stale").fetchall()
        assert ([1],) in stale, ddl
        assert [row[0] for row in live.execute("EXECUTE look")] == [row[0] for row in stale], ddl
        rows = db.execute(f"SELECT count(*) FROM ONLY {table}").fetchall()[0][0]
        assert_fresh(db, "docs", rows)
        assert_fresh(db, "template", rows)
        assert db.execute("SELECT count(*) FROM users_view WHERE NOT is_stale").fetchone() == (rows,), ddl
        assert provider.sent == {f'"new {number}"': 1, f'"zero {number}"': 1}, ddl
        live.execute(f"DELETE FROM {table} WHERE {key} = 0")
    assert_others_go_on(db)
    db.execute("DROP VIEW users_view")
    db.execute("SELECT embed_drop('docs')")
    db.execute("SELECT embed_drop('template')")
    live.execute(f"UPDATE {table} SET {body} = '\"last\"'")


def test_prepared_writes_of_open_sessions_go_on(db, live):
    """After every DDL that Postgres itself lets prepared statements survive."""
    for number, ddl in enumerate(FOLLOWED["columns"][:6] + FOLLOWED["the rest"][:4]):
        for statement in ddl.split(";"):
            db.execute(statement)
        live.execute(f"EXECUTE edit (1, '\"new {number}\"')")
        live.execute(f"EXECUTE add ({number + 10}, '\"text {number}\"')")
        live.execute(f"EXECUTE remove ({number + 9})")
        assert_fresh(db, "docs", 4)
        assert f'"new {number}"' in texts_in_view(db, "app.docs_embedding")


@pytest.mark.few(2)
@pytest.mark.parametrize(("ddl", "write"), BROKEN.values(), ids=BROKEN.keys())
def test_the_pipeline_stops_and_says_why_where_it_cannot_follow(db, live, ddl, write):
    db.execute("ALTER TABLE other SET SCHEMA public")
    db.execute(ddl)
    found = status(db, "docs")
    assert (found.state, "embed_drop" in found.last_error) == ("broken", True)
    live.execute(write)
    drain(db)
    assert status(db, "docs").state == "broken"
    if "SCHEMA" not in ddl:
        db.execute("SELECT * FROM users_view")
    assert_others_go_on(db)
    db.execute("DROP VIEW IF EXISTS users_view")
    for pipeline in ("docs", "template"):
        db.execute("SELECT embed_drop(%s)", (pipeline,))
    assert db.execute("SELECT pipeline FROM embed_pipelines").fetchall() == [("other",)]
    assert db.execute("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'evergreen%'").fetchone() == (4,)


@pytest.mark.parametrize(
    ("ddl", "texts"),
    [
        ("ALTER TABLE docs ALTER body TYPE text USING upper(body)", {'"EDITED"', '"TEXT 2"', '"TEXT 4"'}),
        ("ALTER TABLE docs ALTER body TYPE varchar(5) USING left(body, 5)", {'"edit', '"text'}),
        ("ALTER TABLE docs ALTER live TYPE bool USING false", set()),
    ],
)
def test_a_rewrite_that_changes_the_text_is_noticed(db, live, ddl, texts):
    """No trigger fires for the rows of an ALTER TABLE … USING."""
    db.execute(ddl)
    assert_fresh(db, "docs", 3)
    assert set(texts_in_view(db, "app.docs_embedding")) == texts


def test_changes_made_while_the_primary_key_is_away_are_found_when_it_is_back(db, live):
    db.execute("ALTER TABLE docs DROP CONSTRAINT docs_pkey")
    live.execute("UPDATE docs SET body = '\"changed meanwhile\"' WHERE id = 1")
    live.execute("DELETE FROM docs WHERE id = 2")
    live.execute("INSERT INTO docs (id, body) VALUES (7, '\"added meanwhile\"')")
    drain(db)
    db.execute("ALTER TABLE docs ADD PRIMARY KEY (id)")
    assert_fresh(db, "docs", 3)
    assert texts_in_view(db, "app.docs_embedding") == ['"added meanwhile"', '"changed meanwhile"', '"text 4"']


def test_ddl_that_is_rolled_back_leaves_the_pipeline_as_it_was(db, connect, live, provider):
    provider.reset()
    for ddl in ("ALTER TABLE docs RENAME body TO content", "ALTER TABLE docs DROP body", "DROP TABLE docs"):
        with connect() as user:
            user.execute("SET search_path = app, application, public")
            user.execute("BEGIN")
            user.execute(ddl)
            user.execute("ROLLBACK")
    live.execute("EXECUTE edit (1, '\"new text\"')")
    assert_fresh(db, "docs", 3)
    assert provider.sent == {'"new text"': 1}


def test_ddl_and_writes_in_one_transaction_are_captured(db, connect, live):
    with connect(autocommit=False) as user:
        user.execute("SET search_path = app, application, public")
        user.execute("UPDATE docs SET body = '\"before\"' WHERE id = 1")
        user.execute("ALTER TABLE docs RENAME body TO content")
        user.execute("UPDATE docs SET content = '\"after\"' WHERE id = 2")
        user.execute("ALTER TABLE docs ALTER content TYPE varchar")
        user.execute("UPDATE docs SET content = '\"last\"' WHERE id = 4")
        user.execute("ALTER TABLE docs RENAME TO papers")
        user.execute("INSERT INTO papers (id, content) VALUES (8, '\"eight\"')")
    assert_fresh(db, "docs", 4)
    assert texts_in_view(db, "app.docs_embedding") == ['"after"', '"before"', '"eight"', '"last"']


def test_verify_of_a_broken_pipeline_says_why(db, live):
    db.execute("ALTER TABLE docs DROP body")
    with pytest.raises(psycopg.Error, match="cannot be read") as refused:
        verify(db, "docs")
    assert refused.value.sqlstate == "55000"
    assert refused.value.diag.message_hint
