"""No role without rights on a pipeline keeps it from being fresh: not by locks, open transactions or floods."""

import re

import psycopg
import pytest

from evergreen.db.queries import parse
from tests.fixtures.paths import PROJECT
from tests.fixtures.pipelines.documents import assert_as_source, drain_all, status_of
from tests.fixtures.pipelines.endpoints import serve
from tests.fixtures.roles import hash_model, people
from tests.fixtures.waiting import Background, wait_until

pytestmark = pytest.mark.shared_database

ROOT = PROJECT
SOURCES = [path for folder in ("plpy/evergreen", "extension/sql") for path in (ROOT / folder).rglob("*.*")]
TAKEN = 300  # of each class, from 0 on: more than a test has pipelines, models, endpoints, slots and claims
ROADS = {
    "drain": "SELECT embed_drain()",
    "work": "CALL embed_work(until_empty => true, max_runtime => '20 s')",
    "slot": "CALL embed_work(until_empty => true, max_runtime => '20 s', slot => 1)",
}
WAYS_TO_HOLD = {
    "session": "pg_advisory_lock",
    "shared": "pg_advisory_lock_shared",
    "transaction": "pg_advisory_xact_lock",
    "transaction, shared": "pg_advisory_xact_lock_shared",
}


def text_of(path):
    return path.read_text(encoding="utf-8") if path.suffix in {".py", ".sql"} else ""


def classes():
    """The classes of advisory locks that the extension uses, wherever it does."""
    return sorted({int(found) for path in SOURCES for found in re.findall(r"\b11632850\d\d\b", text_of(path))})


@pytest.fixture
def log_in(connect, dsn):
    """Sessions that logged in as the role, not as a superuser with SET ROLE."""
    opened = []

    def open_one(user, *, autocommit=True):
        opened.append(psycopg.connect(dsn, user=user, autocommit=autocommit))
        return opened[-1]

    yield open_one
    for session in opened:
        session.close()


def take_all(log_in, way):
    """A session of a role without rights that holds every advisory lock."""
    bob = log_in("bob", autocommit=False)
    for kind in classes():
        bob.execute(f"SELECT {WAYS_TO_HOLD[way]}({kind}, n) FROM generate_series(0, {TAKEN}) n")
    bob.execute(f"SELECT {WAYS_TO_HOLD[way]}(n::bigint) FROM generate_series(0, {TAKEN}) n")
    return bob


def write(db, text):
    db.execute("UPDATE docs SET body = %s || id", (text,))


@pytest.fixture
def governed(db, docs, provider):
    """A pipeline whose endpoint has limits and which has a budget: all that sessions share is in use."""
    people(db)
    serve(db, provider, model={"inputs": 5}, requests_per_minute=60_000, tokens_per_minute=10_000_000)
    db.execute(
        "SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop',"
        " options => '{\"daily_tokens\": 1000000}')"
    )
    drain_all(db)


@pytest.mark.slow
def test_every_advisory_lock_may_be_held_by_somebody(log_in, db, governed):
    worker = log_in("the_worker")
    worker.execute("SET statement_timeout = '15 s'")
    for way in WAYS_TO_HOLD:
        bob = take_all(log_in, way)
        for road, statement in ROADS.items():
            write(db, f"as of now {way} {road} ")
            worker.execute(statement)
            assert_as_source(db)
        bob.close()


def test_no_advisory_lock_is_waited_for():
    """A session that waited for one would wait for ever, with a snapshot."""
    calls = {call for path in SOURCES for call in re.findall(r"pg_(?:try_)?advisory\w*", text_of(path))}
    assert classes(), "they are told by their number"
    assert {call for call in calls if "unlock" not in call and "try" not in call} == set()


@pytest.mark.slow
def test_two_workers_send_no_text_twice_whoever_holds_their_locks(connect, log_in, db, governed, provider):
    """A claim whose lock is not its worker's own would look like that of a worker who is gone."""
    sessions = [connect(), connect()]
    claimed = "SELECT count(*) FROM embed.job WHERE token IS NOT NULL"
    for way in WAYS_TO_HOLD:
        bob = take_all(log_in, way)
        write(db, f"once {way} ")
        provider.hold()
        provider.reset()
        workers = [Background(session, ROADS["work"]) for session in sessions]
        provider.wait_for_requests(1)
        wait_until(lambda: db.execute(claimed).fetchone() == (10,), what="all claims")
        for _ in range(3):  # passes of workers who look for what is abandoned
            assert db.execute("SELECT embed_drain(max_runtime => '0.1 s')").fetchone() == (0,)
        provider.release()
        for worker in workers:
            worker.result()
        assert set(provider.sent.values()) == {1}
        assert_as_source(db)
        bob.close()


@pytest.mark.slow
def test_who_inherits_the_lock_of_a_worker_that_died_does_not_inherit_its_rows(connect, log_in, db, governed, provider):
    write(db, "left behind ")
    provider.hold()
    provider.reset()
    worker = connect()
    work = Background(worker, ROADS["work"])
    provider.wait_for_requests(1)
    held = "SELECT objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND pid = %s"
    tokens = [token for (token,) in db.execute(held, (work.pid,))]
    assert tokens
    heirs = [Background(log_in("bob"), f"SELECT pg_advisory_lock(1163285062, {token})") for token in tokens]
    queued = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    wait_until(lambda: db.execute(queued).fetchone() == (len(tokens),), what="heirs in the queue")
    db.execute("SELECT pg_terminate_backend(%s)", (work.pid,))
    with pytest.raises(psycopg.OperationalError):
        work.result()
    for heir in heirs:
        heir.result()
    provider.release()
    db.execute("UPDATE embed.lease SET expires_at = expires_at - interval '6 s'")  # as if so much time had passed
    drain_all(db)
    assert_as_source(db)


def test_a_worker_in_its_slot_keeps_others_out_and_nobody_else_does(log_in, db, governed):
    write(db, "slot ")
    busy = log_in("the_worker")
    busy.execute("SELECT pg_advisory_lock(1163285063, 7)")
    late = "CALL embed_work(until_empty => true, max_runtime => '0.3 s', slot => 7)"
    log_in("the_worker").execute(late)
    assert status_of(db, "pending") == 10
    busy.close()
    log_in("bob").execute("SELECT pg_advisory_lock(1163285063, 7)")
    log_in("the_worker").execute(ROADS["slot"].replace("=> 1)", "=> 7)"))
    assert_as_source(db)


@pytest.fixture
def neighbours(db, connect):
    """Pipelines of alice's and of an owner ``docs``, with one model and the same texts."""
    people(db)
    hash_model(db)
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text)")
    db.execute("INSERT INTO docs SELECT i, 'title', 'body ' || i FROM generate_series(1, 10) i")
    db.execute("CREATE TABLE alice.docs (LIKE docs INCLUDING ALL)")
    db.execute("ALTER TABLE alice.docs OWNER TO alice")
    db.execute("INSERT INTO alice.docs TABLE docs")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'hash8')")
    connect("alice").execute(
        "SELECT embed_create('hers', 'alice.docs', columns => '{title,body}', model => 'hash8',"
        " options => '{\"daily_tokens\": 1000000}')"
    )
    drain_all(db)


# What she may do with her own, and leaves open; the same texts stand in the other pipeline.
LEFT_OPEN = {
    "create": "SELECT embed_create('more', 'alice.docs', columns => '{body}', options => '{\"daily_tokens\": 9}')",
    "alter": """SELECT embed_alter('hers', '{"max_attempts": 9, "daily_tokens": 99}')""",
    "pause": "SELECT embed_pause('hers')",
    "touch": "SELECT embed_touch('hers', VARIADIC (SELECT array_agg(to_jsonb(id)) FROM alice.docs))",
    "retry": "SELECT embed_retry('hers')",
    "backfill": "SELECT embed_backfill('hers')",
    "forget": "SELECT embed_forget('hers', to_jsonb(id)) FROM alice.docs",
    "verify": "SELECT embed_verify('hers', repair => true)",
    "estimate": "SELECT embed_estimate('hers')",
    "explain": "SELECT embed_explain('hers', '[1]')",
    "preview": "SELECT embed_preview('alice.docs', '{body}')",
    "search": "SELECT embed_search('hers', 'body'), embed_search_rows(NULL::alice.docs, 'body')",
    "look": "SELECT * FROM alice.hers_embedding, embed_status, embed_usage, embed_models, embed_failures",
    "write": "UPDATE alice.docs SET body = 'now ' || id",
    "ddl": "ALTER TABLE alice.docs ADD COLUMN c int, ALTER COLUMN title TYPE varchar",
    "truncate": "TRUNCATE alice.docs",
    "drop": "SELECT embed_drop('hers')",
    "drop and keep": "SELECT embed_drop('hers', keep_embeddings => true)",
    "drop table": "DROP TABLE alice.docs CASCADE",
    "lock": "LOCK TABLE alice.docs IN ACCESS EXCLUSIVE MODE",
    "lock the view": "LOCK TABLE alice.hers_embedding IN ACCESS SHARE MODE",
}


@pytest.mark.slow
@pytest.mark.parametrize("road", ["drain", pytest.param("work", marks=pytest.mark.stress)])
def test_what_an_owner_leaves_open_holds_up_her_own_pipeline_at_most(connect, db, neighbours, road):
    """Her pipeline comes first in every pass, and is changed too."""
    worker = connect("the_worker")
    worker.execute("SET statement_timeout = '15 s'; SET client_min_messages = error")
    alice = connect("alice", autocommit=False)
    for number, (name, statement) in enumerate(LEFT_OPEN.items()):
        alice.execute(statement)
        write(db, f"now {name} ")
        db.execute("INSERT INTO docs VALUES (%s, 'title', 'new')", (100 + number,))
        worker.execute(ROADS[road].replace("20 s", "4 s"))
        stale = db.execute("SELECT count(*) FROM docs_embedding WHERE is_stale").fetchone()
        shown = db.execute("SELECT count(*) FROM docs_embedding").fetchone()
        assert (name, stale, shown) == (name, (0,), (11 + number,))
        alice.rollback()
    assert_as_source(db)


def test_a_flood_of_one_pipeline_leaves_room_for_the_others(connect, db, neighbours):
    connect("alice").execute("INSERT INTO alice.docs SELECT i, 'no', 'no ' || i FROM generate_series(100, 20000) i")
    fresh = "SELECT count(*) FROM docs_embedding WHERE NOT is_stale"
    write(db, "beside the drain ")
    db.execute(ROADS["drain"])
    assert db.execute(fresh).fetchone() == (10,)
    write(db, "beside the worker ")
    session = connect()
    work = Background(session, ROADS["work"])
    wait_until(lambda: db.execute(fresh).fetchone() == (10,), what="the other pipeline")
    assert status_of(db, "pending", "hers") > 1000
    session.cancel()
    with pytest.raises(psycopg.errors.QueryCanceled):
        work.result()


MODES = "ROW SHARE, ROW EXCLUSIVE, SHARE UPDATE EXCLUSIVE, SHARE, SHARE ROW EXCLUSIVE, EXCLUSIVE, ACCESS EXCLUSIVE"


def test_a_reader_can_lock_nothing_that_a_worker_needs(connect, db, neighbours):
    db.execute("GRANT SELECT ON docs TO bob")
    db.execute("GRANT USAGE ON SCHEMA embed, embed_store TO bob")  # even then
    bob = connect("bob")
    relations = db.execute(
        """SELECT c.oid::regclass::text FROM pg_class c
           WHERE c.relkind IN ('r', 'v') AND (c.relnamespace IN ('embed'::regnamespace, 'embed_store'::regnamespace)
                                              OR c.relname ~ '^(docs|hers)_embedding$|^embed_')"""
    ).fetchall()
    assert len(relations) > 20
    for (relation,) in relations:
        for mode in MODES.split(", "):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                bob.execute(f"BEGIN; LOCK TABLE {relation} IN {mode} MODE NOWAIT")
            bob.execute("ROLLBACK")
        for strength in ("UPDATE", "KEY SHARE"):
            with pytest.raises(psycopg.Error) as refused:
                bob.execute(f"SELECT FROM {relation} FOR {strength}")
            assert refused.value.sqlstate in {"42501", "0A000"}, relation


def test_queries_of_workers_name_no_lock_that_others_may_have():
    """Class numbers are what tells our advisory locks from a user's own."""
    for path in SOURCES:
        if path.suffix == ".sql" and "plpy" in path.parts:
            for name, query in parse(text_of(path)).items():
                for call in re.findall(r"advisory_\w*lock\w*\(([^)]*)\)", query.text):
                    assert re.match(r"\{lock_\w+\}, |l\.classid", call), (path.name, name)
