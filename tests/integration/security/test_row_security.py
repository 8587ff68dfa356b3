"""Row security of the source holds for everything that is made from its rows."""

import psycopg
import pytest

from tests.fixtures.error_checks import fault
from tests.fixtures.roles import hash_model, people

TENANTS = ("alice", "bob")


@pytest.fixture
def shared(db):
    """A table of the admin's with rows of two tenants, who see only their own."""
    people(db)
    hash_model(db)
    db.execute(
        """
        CREATE SCHEMA shop; GRANT USAGE ON SCHEMA shop TO alice, bob;
        CREATE TABLE shop.docs (id int PRIMARY KEY, tenant name NOT NULL, title text, body text, price int);
        INSERT INTO shop.docs SELECT i, (ARRAY['alice', 'bob'])[1 + i % 2], 'title ' || i, 'body ' || i, i
        FROM generate_series(1, 10) i;
        ALTER TABLE shop.docs ENABLE ROW LEVEL SECURITY;
        CREATE POLICY own ON shop.docs USING (tenant = current_user);
        GRANT SELECT ON shop.docs TO alice, bob;
        SELECT embed_create('docs', 'shop.docs', columns => '{title,body}', model => 'hash8');
        SELECT embed_drain();
        GRANT USAGE ON SCHEMA embed_store TO alice, bob, the_payer;
        """
    )


def seen(session, statement):
    return sorted(row[0] for row in session.execute(statement))


WAYS = {
    "view": "SELECT id FROM shop.docs_embedding",
    "search": "SELECT (key ->> 0)::int FROM embed_search('docs', 'anything', k => 100)",
    "search rows": "SELECT (s.row).id FROM embed_search_rows(NULL::shop.docs, 'anything', k => 100) s",
    "generation table": "SELECT k1 FROM embed_store.g1",
    "join": "SELECT d.id FROM shop.docs_embedding d JOIN embed_store.g1 g ON g.k1 = d.id",
}


@pytest.mark.slow
def test_every_way_gives_exactly_the_rows_of_the_source(db, connect, shared):
    for force in ("NO FORCE", "FORCE"):
        db.execute(f"ALTER TABLE shop.docs {force} ROW LEVEL SECURITY")
        for tenant in TENANTS:
            session = connect(tenant)
            own = seen(session, "SELECT id FROM shop.docs")
            assert len(own) == 5
            assert {name: seen(session, statement) for name, statement in WAYS.items()} == dict.fromkeys(WAYS, own)
    db.execute("UPDATE shop.docs SET tenant = 'bob' WHERE id = 2")  # handed over: at once, and without a drain
    assert all(2 not in seen(connect("alice"), statement) for statement in WAYS.values())
    assert all(2 in seen(connect("bob"), statement) for statement in WAYS.values())


def test_a_leaky_function_sees_no_other_tenants_chunks(db, connect, shared):
    alice = connect("alice")
    alice.execute(
        """CREATE FUNCTION pg_temp.leak(t anyelement) RETURNS bool LANGUAGE plpgsql COST 0.0001
           AS $$BEGIN RAISE NOTICE '%', t; RETURN true; END$$"""
    )
    heard = []
    alice.add_notice_handler(lambda notice: heard.append(notice.message_primary))
    for relation, column in (("shop.docs_embedding", "chunk"), ("embed_store.g1", "chunk"), ("embed_store.g1", "k1")):
        for plan in ("on", "off"):
            alice.execute(f"SET enable_hashjoin = {plan}; SET enable_nestloop = {plan}")
            alice.execute(f"SELECT count(*) FROM {relation} WHERE pg_temp.leak({column})")
    own = {str(i) for i in range(2, 11, 2)}
    assert {words.split()[-1] for words in heard} == own


def test_statistics_do_not_leak(db, connect, shared):
    db.execute("ANALYZE embed_store.g1")
    assert db.execute("SELECT count(*) > 0 FROM pg_stats WHERE schemaname = 'embed_store'").fetchone() == (True,)
    for view in ("pg_stats", "pg_stats_ext", "pg_stats_ext_exprs"):
        assert connect("alice").execute(f"SELECT FROM {view} WHERE schemaname LIKE 'embed%'").fetchall() == []


def test_a_reader_without_rights_on_the_source_gets_nothing(connect, shared):
    """The grant of the view to everybody is no way round the rights on the table."""
    session = connect("the_payer")
    for statement in WAYS.values():
        with pytest.raises(psycopg.Error) as caught:
            session.execute(statement)
        assert caught.value.sqlstate in {"42501", "42704"}, statement


@pytest.mark.slow
def test_column_rights_are_needed_for_what_the_text_is_made_of(db, connect):
    people(db)
    hash_model(db)
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text, price int)")
    db.execute("INSERT INTO docs VALUES (1, 'title', 'body', 7)")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'hash8')")
    db.execute("SELECT embed_drain()")
    asking = ("SELECT id FROM docs_embedding", "SELECT key FROM embed_search('docs', 'q')")
    bob = connect("bob")
    for columns in ("price", "id, title", "title, body"):
        db.execute(f"GRANT SELECT ({columns}) ON docs TO bob")
        for statement in asking:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                bob.execute(statement)
        db.execute(f"REVOKE SELECT ({columns}) ON docs FROM bob")
    db.execute("GRANT SELECT (id, title, body) ON docs TO bob")
    for statement in asking:
        assert len(bob.execute(statement).fetchall()) == 1


def test_cached_plans_do_not_outlive_the_role(connect, shared):
    """One session that changes its role, as behind a connection pool."""
    session = connect()
    for tenant in (*TENANTS, *TENANTS):
        session.execute(f"SET ROLE {tenant}")
        own = seen(session, "SELECT id FROM shop.docs")
        assert {name: seen(session, statement) for name, statement in WAYS.items()} == dict.fromkeys(WAYS, own)
    session.execute("RESET ROLE")


@pytest.mark.slow
def test_an_error_about_one_row_is_for_the_owner_only(db, connect, shared, provider):
    """What a model answers may quote the text: a tenant must not read another's in embed_status."""
    provider.register(db, "strict")
    provider.answer = lambda texts: (400, b"cannot embed: " + texts[0].encode()) if "body" in texts[0] else None
    db.execute("SELECT embed_create('strict', 'shop.docs', columns => '{body}', model => 'strict')")
    db.execute("SELECT embed_drain('strict')")
    status = "SELECT failed, last_error FROM embed_status WHERE pipeline = 'strict'"
    failed, error = db.execute(status).fetchone()
    assert failed > 0
    assert "cannot embed: body" in error
    for tenant in TENANTS:
        assert "body" not in (connect(tenant).execute(status).fetchone()[1] or "")


@pytest.fixture
def forced(db, connect):
    """A pipeline on a table whose owner is subject to its row security, and one that has nothing to do with it."""
    people(db)
    hash_model(db)
    alice = connect("alice")
    alice.execute("CREATE TABLE alice.docs (id int PRIMARY KEY, tenant name, body text)")
    alice.execute("INSERT INTO alice.docs SELECT i, 'bob', 'body ' || i FROM generate_series(1, 4) i")
    alice.execute("SELECT embed_create('docs', 'alice.docs', columns => '{body}', model => 'hash8')")
    alice.execute("CREATE TABLE alice.other (id int PRIMARY KEY, body text)")
    alice.execute("SELECT embed_create('other', 'alice.other', columns => '{body}', model => 'hash8')")
    return alice


def force(alice):
    alice.execute(
        """ALTER TABLE alice.docs ENABLE ROW LEVEL SECURITY; ALTER TABLE alice.docs FORCE ROW LEVEL SECURITY;
           CREATE POLICY own ON alice.docs USING (tenant = current_user)"""
    )


@pytest.mark.slow
@pytest.mark.parametrize("work", ["SELECT embed_drain()", "CALL embed_work(until_empty => true)"])
def test_rows_that_the_owner_cannot_see_are_not_taken_for_deleted(db, forced, work):
    db.execute("SELECT embed_drain()")
    force(forced)
    db.execute("UPDATE alice.docs SET body = 'new'")
    forced.execute("INSERT INTO alice.other VALUES (1, 'goes on')")
    db.execute(work)
    assert db.execute("SELECT count(*) FROM embed_store.g1").fetchone() == (4,)
    fresh, pending, failed, error = db.execute(
        "SELECT fresh, pending, failed, last_error FROM embed_status WHERE pipeline = 'docs'"
    ).fetchone()
    assert (fresh, pending, failed) == (0, 4, 0)
    assert "row-level security" in error
    assert db.execute("SELECT chunk FROM alice.other_embedding").fetchall() == [("goes on",)]
    forced.execute("ALTER TABLE alice.docs NO FORCE ROW LEVEL SECURITY")
    db.execute("UPDATE embed.job SET ready_at = now()")
    db.execute(work)
    assert db.execute("SELECT DISTINCT chunk FROM alice.docs_embedding").fetchall() == [("new",)]


@pytest.mark.slow
@pytest.mark.parametrize("work", ["SELECT embed_drain()", "CALL embed_work(until_empty => true, max_runtime => '2 s')"])
def test_a_backfill_that_cannot_be_read_says_why_and_stops_nobody_else(db, forced, work):
    force(forced)
    forced.execute("INSERT INTO alice.other VALUES (1, 'goes on')")
    db.execute(work)
    assert db.execute("SELECT chunk FROM alice.other_embedding").fetchall() == [("goes on",)]
    error = db.execute("SELECT last_error FROM embed_status WHERE pipeline = 'docs'").fetchone()[0]
    assert "row-level security" in (error or "")


def test_verify_and_explain_say_why_they_cannot_read(db, forced):
    db.execute("SELECT embed_drain()")
    force(forced)
    for statement in ("SELECT embed_verify('docs')", "SELECT embed_explain('docs', '[1]')"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
            db.execute(statement)
        assert fault(caught.value) is None
        assert "row-level security" in caught.value.diag.message_primary
