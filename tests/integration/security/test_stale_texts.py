"""A role to whom row security applies is shown a chunk only while it is the text of the row that it may read.

The kind: what is stored under a key was made from an earlier row, which the reader may never have been allowed to see.
A key is used again, a row is handed over, rewritten or shown by another policy, and the new text waits, fails or is
refused. A role that reads all rows of the source still gets the old text until the new one is embedded.
"""

import psycopg
import psycopg.sql
import pytest

from tests.fixtures.roles import hash_model, people
from tests.integration.security.test_row_security import seen

WAYS = {
    "view": "SELECT chunk FROM shop.docs_embedding",
    "vectors": "SELECT 'of ' || id FROM shop.docs_embedding WHERE embedding IS NOT NULL",
    "search": "SELECT chunk FROM embed_search('docs', 'text', k => 100)",
    "search by keyword": "SELECT chunk FROM embed_search('docs', 'text', k => 100, mode => 'keyword')",
    "hybrid search": "SELECT chunk FROM embed_search('docs', 'text', k => 100, mode => 'hybrid')",
    "search rows": "SELECT s.chunk FROM embed_search_rows(NULL::shop.docs, 'text', k => 100) s",
    "generation table": "SELECT chunk FROM embed_store.g1",
}


@pytest.fixture
def shared(db):
    """Rows of two tenants in a table of alice's, who is not subject to its policy; bob is."""
    people(db)
    hash_model(db)
    db.execute(
        """
        CREATE SCHEMA shop AUTHORIZATION alice; GRANT USAGE ON SCHEMA shop TO bob, the_payer;
        SET ROLE alice;
        CREATE TABLE shop.docs (id text PRIMARY KEY, tenant name NOT NULL, body text);
        INSERT INTO shop.docs VALUES ('home', 'bob', 'text of bob'), ('away', 'the_payer', 'text of payer');
        ALTER TABLE shop.docs ENABLE ROW LEVEL SECURITY;
        CREATE POLICY own ON shop.docs USING (tenant = current_user);
        GRANT SELECT, INSERT, UPDATE, DELETE ON shop.docs TO bob, the_payer;
        SELECT embed_create('docs', 'shop.docs', columns => '{body}', model => 'hash8');
        RESET ROLE;
        SELECT embed_drain();
        GRANT USAGE ON SCHEMA embed_store TO bob, the_payer, alice
        """
    )


REUSES = {
    "deleted, and the key used again": """
        DELETE FROM shop.docs WHERE id = 'home'; INSERT INTO shop.docs VALUES ('home', 'the_payer', 'own text')""",
    "handed over with another text": """
        UPDATE shop.docs SET tenant = 'the_payer', body = 'redacted text' WHERE id = 'home'""",
    "handed over without a text": "UPDATE shop.docs SET tenant = 'the_payer', body = NULL WHERE id = 'home'",
    "keys exchanged": """
        UPDATE shop.docs SET id = 'x' WHERE id = 'home'; UPDATE shop.docs SET id = 'home' WHERE id = 'away';
        UPDATE shop.docs SET id = 'away' WHERE id = 'x'""",
    "another policy": """
        UPDATE shop.docs SET body = 'redacted text' WHERE id = 'home';
        DROP POLICY own ON shop.docs; CREATE POLICY own ON shop.docs USING (true)""",
    "unseen by any trigger": """
        ALTER TABLE shop.docs DISABLE TRIGGER ALL;
        UPDATE shop.docs SET tenant = 'the_payer', body = 'redacted text' WHERE id = 'home'""",
    "truncated and filled again": "TRUNCATE shop.docs; INSERT INTO shop.docs VALUES ('home', 'the_payer', 'new text')",
}


@pytest.mark.few(2)
@pytest.mark.slow
@pytest.mark.parametrize("change", REUSES.values(), ids=REUSES.keys())
def test_no_text_of_an_earlier_row_is_shown(db, connect, shared, change):
    session = connect()
    for way, statement in WAYS.items():
        session.execute(f'PREPARE "{way}" AS {statement}')
    session.execute("SET ROLE the_payer")
    for way in WAYS:
        session.execute(f'EXECUTE "{way}"')
    db.execute(change)
    reader = connect("the_payer")
    for way, statement in WAYS.items():
        if way == "vectors":
            assert "of home" not in seen(reader, statement)
            continue
        assert "text of bob" not in seen(reader, statement), way
        assert "text of bob" not in seen(session, f'EXECUTE "{way}"'), way
    assert not any(stale for (stale,) in reader.execute("SELECT is_stale FROM shop.docs_embedding"))
    db.execute("SELECT embed_backfill('docs'); SELECT embed_drain()")
    own = seen(reader, "SELECT body FROM shop.docs WHERE body IS NOT NULL")
    for way in WAYS.keys() - {"vectors"}:
        assert seen(reader, WAYS[way]) == own, way


@pytest.mark.slow
def test_readers_of_all_rows_are_served_the_earlier_text(db, connect, shared):
    db.execute("UPDATE shop.docs SET tenant = 'the_payer', body = 'redacted text' WHERE id = 'home'")
    db.execute("ALTER ROLE the_payer BYPASSRLS")
    try:
        for role in ("alice", "the_payer", None):
            for way in WAYS.keys() - {"vectors"}:
                assert "text of bob" in seen(connect(role), WAYS[way]), (role, way)
            hidden = "SELECT chunk FROM embed_search('docs', 'text', stale => 'hide')"
            assert seen(connect(role), hidden) == ["text of payer"]
    finally:
        db.execute("ALTER ROLE the_payer NOBYPASSRLS")
    db.execute(
        "ALTER TABLE shop.docs FORCE ROW LEVEL SECURITY; CREATE POLICY of_owner ON shop.docs TO alice USING (true)"
    )
    assert "text of bob" not in seen(connect("alice"), WAYS["view"]), "the policy applies to the owner now"
    db.execute("ALTER TABLE shop.docs DISABLE ROW LEVEL SECURITY")
    assert "text of bob" in seen(connect("the_payer"), WAYS["view"]), "without row security it is stale, no more"


def test_a_member_of_the_stores_owner_is_told_what_is_stale(db, connect, shared):
    """The policy on the source applies to such a role, and the one on the store does not."""
    db.execute("CREATE ROLE heir")
    try:
        db.execute(psycopg.sql.SQL("GRANT {} TO heir").format(psycopg.sql.Identifier(db.info.user)))
        db.execute("GRANT USAGE ON SCHEMA shop TO heir; GRANT SELECT ON shop.docs TO heir")
        db.execute("UPDATE shop.docs SET tenant = 'heir', body = 'redacted text' WHERE id = 'home'")
        heir = connect("heir")
        asked = "SELECT id, is_stale FROM shop.docs_embedding"
        assert heir.execute(asked).fetchall() == [("home", True)]
        db.execute("SELECT embed_drain()")
        assert heir.execute(asked).fetchall() == [("home", False)]
        heir.close()
    finally:
        db.execute("DROP OWNED BY heir; DROP ROLE heir")


def test_the_role_decides_not_the_session(db, connect, shared):
    """By SET ROLE, in definer functions, in a cursor, in a view of the user's own."""
    db.execute(
        """
        UPDATE shop.docs SET tenant = 'the_payer', body = 'redacted text' WHERE id = 'home';
        CREATE FUNCTION shop.as_owner() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER
            AS 'SELECT chunk FROM shop.docs_embedding';
        ALTER FUNCTION shop.as_owner() OWNER TO alice;
        CREATE FUNCTION shop.as_payer() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER
            AS 'SELECT chunk FROM shop.docs_embedding';
        ALTER FUNCTION shop.as_payer() OWNER TO the_payer;
        CREATE VIEW shop.of_owner AS SELECT chunk FROM shop.docs_embedding;
        ALTER VIEW shop.of_owner OWNER TO alice; GRANT SELECT ON shop.of_owner TO the_payer
        """
    )
    session = connect()
    session.execute("PREPARE q AS SELECT chunk FROM shop.docs_embedding")
    for role, is_shown in (("alice", True), ("the_payer", False)) * 3:
        session.execute(f"SET ROLE {role}")
        assert ("text of bob" in seen(session, "EXECUTE q")) is is_shown
        assert "text of bob" in seen(session, "SELECT shop.as_owner()")
        assert "text of bob" not in seen(session, "SELECT shop.as_payer()")
        assert ("text of bob" in seen(session, "SELECT chunk FROM shop.of_owner")) is is_shown
        with session.transaction():
            session.execute(f"DECLARE c_{role} CURSOR WITH HOLD FOR SELECT chunk FROM shop.docs_embedding")
        assert ("text of bob" in seen(session, f"FETCH ALL c_{role}")) is is_shown
        session.execute(f"CLOSE c_{role}; RESET ROLE")


def test_row_security_turned_off_is_an_error_not_more_rows(connect, shared):
    reader = connect("the_payer")
    reader.execute("SET row_security = off")
    for statement in WAYS.values():
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute(statement)


@pytest.mark.slow
def test_partitions_and_a_generation_that_was_promoted(db, connect):
    people(db)
    hash_model(db)
    db.execute(
        """
        CREATE SCHEMA shop; GRANT USAGE ON SCHEMA shop TO bob, the_payer;
        CREATE TABLE shop.docs (id text PRIMARY KEY, tenant name NOT NULL, body text) PARTITION BY LIST (id);
        CREATE TABLE shop.one PARTITION OF shop.docs FOR VALUES IN ('home');
        CREATE TABLE shop.rest PARTITION OF shop.docs DEFAULT;
        INSERT INTO shop.docs VALUES ('home', 'bob', 'text of bob'), ('away', 'the_payer', 'text of payer');
        ALTER TABLE shop.docs ENABLE ROW LEVEL SECURITY;
        CREATE POLICY own ON shop.docs USING (tenant = current_user);
        GRANT SELECT ON shop.docs TO bob, the_payer;
        SELECT embed_create('docs', 'shop.docs', columns => '{body}', model => 'hash8');
        SELECT embed_build('docs', chunker => embed_chunk_text(300));
        SELECT embed_drain();
        SELECT embed_promote('docs');
        GRANT USAGE ON SCHEMA embed_store TO the_payer;
        UPDATE shop.docs SET tenant = 'the_payer', body = 'redacted text' WHERE id = 'home'
        """
    )
    for statement in (*WAYS.values(), "SELECT chunk FROM embed_store.g2"):
        assert not {"text of bob", "of home"} & set(seen(connect("the_payer"), statement)), statement
    db.execute("SELECT embed_rollback('docs')")
    for statement in (*WAYS.values(), "SELECT chunk FROM embed_store.g2"):
        assert not {"text of bob", "of home"} & set(seen(connect("the_payer"), statement)), statement


@pytest.mark.slow
@pytest.mark.parametrize("how", ["refused by the model", "too long", "failed outside"])
def test_a_dead_letter_takes_the_earlier_text_away(db, connect, provider, how):
    """From all readers: it is of no row there is, and no later text is on its way. A retry brings the row back."""
    people(db)
    provider.register(db, "strict", input_tokens=50)
    provider.answer = lambda texts: (400, b"no") if any("bad" in text for text in texts) else None
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text); INSERT INTO docs VALUES (1, 'text'), (2, 'other')")
    db.execute(
        "SELECT embed_create('docs', 'docs', columns => '{body}', model => 'strict',"
        " options => '{\"max_attempts\": 1}')"
    )
    db.execute("SELECT embed_drain()")
    db.execute("UPDATE docs SET body = %s WHERE id = 1", ("bad" if how == "refused by the model" else "long " * 500,))
    if how == "failed outside":
        db.execute("UPDATE docs SET body = 'fails' WHERE id = 1")
        token = db.execute("SELECT token FROM embed_claim('docs', 10)").fetchone()[0]
        db.execute("SELECT embed_release('docs', %s, error => 'no')", (token,))
    else:
        db.execute("SELECT embed_drain()")
    assert db.execute("SELECT key FROM embed_failures").fetchall() == [([1],)]
    assert seen(db, "SELECT chunk FROM docs_embedding") == ["other"]
    assert seen(db, "SELECT chunk FROM embed_store.g1") == ["other"]
    assert seen(db, "SELECT chunk FROM embed_search('docs', 'text')") == ["other"]
    assert db.execute("SELECT fresh, pending, failed, coverage FROM embed_status").fetchone() == (1, 0, 1, 0.5)
    assert dict(db.execute("SELECT * FROM embed_verify('docs')").fetchall())["stale"] == 1
    db.execute("UPDATE docs SET body = 'good' WHERE id = 1")
    assert db.execute("SELECT fresh, pending, failed FROM embed_status").fetchone() == (1, 1, 1)
    db.execute("SELECT embed_drain()")
    assert seen(db, "SELECT chunk FROM docs_embedding") == ["good", "other"]
    assert db.execute("SELECT fresh, failed FROM embed_status").fetchone() == (2, 0)
    db.execute("UPDATE docs SET body = 'text' WHERE id = 1")
    provider.reset()
    db.execute("SELECT embed_drain()")
    assert provider.sent == {}, "the vector that was taken away is kept, and not paid for again"


@pytest.mark.slow
def test_a_row_that_is_given_up_while_it_changes_is_tried_again(db, provider):
    provider.register(db, "strict")
    provider.answer = lambda texts: (400, b"no") if any("bad" in text for text in texts) else None
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text); INSERT INTO docs VALUES (1, 'text')")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'strict'); SELECT embed_drain()")
    db.execute("UPDATE docs SET body = 'bad'; SELECT embed_drain()")
    assert db.execute("SELECT count(*) FROM docs_embedding").fetchone() == (0,)
    provider.answer = None
    db.execute("SELECT embed_retry('docs'); SELECT embed_drain()")
    assert seen(db, "SELECT chunk FROM docs_embedding") == ["bad"]
    assert dict(db.execute("SELECT * FROM embed_verify('docs')").fetchall())["fresh"] == 1
