"""A hot standby answers questions, because searches do not write."""

import shutil
import subprocess

import psycopg
import pytest
from psycopg import errors

from evergreen_host.cluster import Cluster
from tests.fixtures.package_upgrade import use_weights
from tests.fixtures.roles import hash_model
from tests.fixtures.waiting import wait_until


@pytest.fixture(scope="module")
def servers():
    """A primary with a drained pipeline, and a standby made by pg_basebackup."""
    with (
        Cluster(options={"shared_preload_libraries": ""}) as primary,
        psycopg.connect(primary.dsn(), autocommit=True) as db,
    ):
        db.execute("CREATE EXTENSION evergreen CASCADE")
        hash_model(db)
        db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text)")
        db.execute("INSERT INTO docs SELECT i, 'body ' || i FROM generate_series(1, 10) i")
        db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')")
        db.execute("SELECT embed_drain()")
        standby = Cluster()
        backup = [str(primary.bin("pg_basebackup")), "-d", primary.dsn(), "-D", str(standby.data), "-R", "-c", "fast"]
        user = {"user": primary.os_user, "group": primary.os_user, "extra_groups": []} if primary.os_user else {}
        if primary.os_user:
            shutil.chown(standby.root, primary.os_user, primary.os_user)
        subprocess.run(backup, check=True, cwd=standby.root, **user)
        standby.configure({"port": standby.port, "unix_socket_directories": str(standby.root)})
        try:
            standby.start()
            with psycopg.connect(standby.dsn(), autocommit=True) as replica:
                yield db, replica
        finally:
            standby.remove()


@pytest.fixture
def pair(servers):
    """Sessions at both; the standby has all that the primary has."""
    db, replica = servers
    db.execute("UPDATE docs SET body = 'body ' || id")
    db.execute("SELECT embed_drain()")
    position = db.execute("SELECT pg_current_wal_lsn()::text").fetchone()[0]
    replayed = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
    wait_until(lambda: replica.execute(replayed, (position,)).fetchone() == (True,), what="the standby")
    return db, replica


def test_a_standby_answers(pair):
    db, replica = pair
    assert replica.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)
    for statement in (
        "SELECT key, chunk, score, is_stale FROM embed_search('docs', 'body 7')",
        "SELECT s.row::text, score FROM embed_search_rows(NULL::docs, 'body 7') s",
        "SELECT embed('q')::text, embed('q', 'hash8')::text, embed_query('docs', 'q')::text",
        "SELECT key FROM docs_embedding ORDER BY embedding <=> embed_query('docs', 'q') LIMIT 3",
        "SELECT state, fresh, pending, failed FROM embed_status",
        "SELECT pipeline, model FROM embed_pipelines",
        "SELECT embed_get_def('docs')",
    ):
        assert replica.execute(statement).fetchall() == db.execute(statement).fetchall(), statement
    db.execute("UPDATE docs SET body = 'new' WHERE id = 7")
    stale = "SELECT is_stale FROM docs_embedding WHERE id = 7"
    wait_until(lambda: replica.execute(stale).fetchone() == (True,), what="the change on the standby")
    db.execute("SELECT embed_drain()")
    first = "SELECT key, chunk FROM embed_search('docs', 'new', k => 1)"
    wait_until(lambda: replica.execute(first).fetchone() == ([7], "new"), what="the new vector on the standby")
    db.execute("UPDATE docs SET body = 'newer'")
    wait_until(lambda: replica.execute("SELECT pending FROM embed_status").fetchone() == (10,), what="something to do")
    for statement in ("SELECT embed_drain()", "SELECT embed_pause('docs')", "SELECT embed_touch('docs', '[1]')"):
        with pytest.raises(errors.ReadOnlySqlTransaction):
            replica.execute(statement)


def test_a_standby_answers_through_a_bridge(pair):
    db, replica = pair
    hash_model(db, "hash16", 16)
    db.execute("CREATE TABLE bridged (id int PRIMARY KEY, body text)")
    db.execute("INSERT INTO bridged SELECT i, 'body ' || i FROM generate_series(1, 120) i")
    db.execute("SELECT embed_create('bridged', 'bridged', columns => '{body}', model => 'hash8')")
    db.execute("SELECT embed_drain()")
    db.execute("SELECT embed_build('bridged', model => 'hash16')")
    db.execute("SELECT embed_drain()")
    vector = "SELECT embed_query('bridged', 'body 7')::text"
    before = db.execute(vector).fetchone()
    built = "SELECT count(*) FROM embed_generations WHERE pipeline = 'bridged' AND documents = 120"
    wait_until(lambda: replica.execute(built).fetchone() == (2,), what="the build on the standby")
    assert replica.execute(vector).fetchone() == before
    with pytest.raises(errors.ReadOnlySqlTransaction):
        replica.execute("SELECT embed_bridge('bridged', min_recall => 0)")
    db.execute("SELECT embed_bridge('bridged', min_recall => 0)")
    stands = "SELECT count(*) FROM embed_generations WHERE bridge_recall IS NOT NULL"
    wait_until(lambda: replica.execute(stands).fetchone() == (1,), what="the bridge on the standby")
    for question in ("body 8", "body 9"):
        for statement in (
            f"SELECT embed_query('bridged', '{question}')::text",
            f"SELECT key, score FROM embed_search('bridged', '{question}')",
            f"SELECT s.row::text, score FROM embed_search_rows(NULL::bridged, '{question}', mode => 'hybrid') s",
        ):
            assert replica.execute(statement).fetchall() == db.execute(statement).fetchall(), statement
        own = replica.execute("SELECT embed(%s, 'hash8')::text", (question,)).fetchone()
        assert replica.execute("SELECT embed_query('bridged', %s)::text", (question,)).fetchone() != own
    db.execute("SELECT embed_drop('bridged'); DROP TABLE bridged")


def test_a_standby_shows_models_endpoints_and_what_was_spent(pair):
    db, replica = pair
    db.execute("""SELECT embed_endpoint_set('far', 'https://models.example.com', options => '{"max_in_flight": 2}')""")
    db.execute("SELECT embed_model_add('far', 'openai', 8, endpoint => 'far')")
    db.execute("""SELECT embed_alter('docs', '{"daily_tokens": 7}')""")
    views = ("embed_models", "embed_endpoints", "embed_usage", "embed_failures", "embed_status", "embed_pipelines")
    statement = "SELECT endpoint, breaker, failures, models FROM embed_endpoints"
    wait_until(lambda: replica.execute(statement).fetchall() == [("far", "closed", 0, ["far"])], what="the endpoint")
    for view in views:
        assert replica.execute(f"SELECT * FROM {view}").fetchall() is not None


READS = (
    "SELECT key, chunk, score, is_stale FROM embed_search('docs', 'body 7')",
    "SELECT s.row::text, score FROM embed_search_rows(NULL::docs, 'body 7') s",
    "SELECT embed('q', 'http')::text, embed_query('far', 'q')::text",
    "SELECT key FROM far_view ORDER BY embedding <=> embed_query('far', 'far 3') LIMIT 3",
    "SELECT key, chunk, is_stale FROM embed_search('far', 'far 3')",
    "SELECT * FROM embed_verify('far')",
    "SELECT embed_explain('far', '[1]')",
    "SELECT * FROM embed_estimate('far')",
    "SELECT count(*) FROM embed_preview('docs', '{body}', model => 'http')",
)
WRITES = (
    "SELECT embed_create('more', 'docs', columns => '{body}')",
    "SELECT embed_drop('docs')",
    "SELECT embed_alter('docs', '{\"max_attempts\": 7}')",
    "SELECT embed_pause('docs')",
    "SELECT embed_resume('docs')",
    "SELECT embed_touch('docs', '[1]')",
    "SELECT embed_drain()",
    "CALL embed_work(until_empty => true)",
    "SELECT embed_verify('far', repair => true)",
    "SELECT embed_retry('docs')",
    "SELECT embed_forget('docs', '[1]')",
    "SELECT embed_model_add('more', 'hash', 8)",
    "SELECT embed_endpoint_set('http', 'http://127.0.0.1:1')",
    "SELECT embed_setting('cache_retention', '2 days')",
)


@pytest.mark.parametrize("kind", ["standby", "read-only transaction"])
def test_a_model_behind_http_answers_questions_and_nothing_that_writes_does(pair, provider, kind):
    db, replica = pair
    provider.register(db, "http")
    db.execute("CREATE TABLE far (id int PRIMARY KEY, body text)")
    db.execute("INSERT INTO far SELECT i, 'far ' || i FROM generate_series(1, 5) i")
    db.execute("SELECT embed_create('far', 'far', columns => '{body}', model => 'http', view_name => 'far_view')")
    db.execute("SELECT embed_drain()")
    db.execute("UPDATE far SET body = 'edited' WHERE id = 1")
    reader = replica
    if kind == "standby":
        there = "SELECT count(*) FROM far WHERE body = 'edited'"
        wait_until(lambda: replica.execute("SELECT to_regclass('far_view') IS NOT NULL").fetchone() == (True,))
        wait_until(lambda: replica.execute(there).fetchone() == (1,), what="the change on the standby")
    else:
        reader = db
        db.execute("SET default_transaction_read_only = on")
    try:
        provider.reset()
        reader.execute("SELECT embed_query('far', %s)", (f"asked in a {kind}",))
        assert provider.sent == {f"asked in a {kind}": 1}
        for statement in READS:
            assert reader.execute(statement).fetchall() == db.execute(statement).fetchall(), statement
        for statement in WRITES:
            if kind != "standby" and "embed_work" in statement:
                continue  # a worker brings its own settings: tests/integration/worker/test_database_settings.py
            with pytest.raises(errors.ReadOnlySqlTransaction) as refused:
                reader.execute(statement)
            assert "primary" in (refused.value.diag.message_hint or ""), statement
    finally:
        db.execute("SET default_transaction_read_only = off")
        db.execute("SELECT embed_drop('far'); SELECT embed_model_drop('http'); DROP TABLE far")


def test_a_standby_says_that_it_has_another_version_of_the_built_in_model(pair, other_weights):
    db, replica = pair
    db.execute("CREATE TABLE built_in (id int PRIMARY KEY, body text)")
    db.execute("INSERT INTO built_in SELECT i, 'body ' || i FROM generate_series(1, 5) i")
    db.execute("SELECT embed_create('built_in', 'built_in', columns => '{body}', model => 'wordllama-64')")
    db.execute("SELECT embed_drain()")
    embedded = "SELECT fresh FROM embed_status WHERE pipeline = 'built_in'"
    wait_until(lambda: replica.execute(embedded).fetchone() == (5,), what="the vectors on the standby")
    question = "SELECT key FROM embed_search('built_in', 'body 3', k => 1)"
    with psycopg.connect(replica.info.dsn, autocommit=True) as same, psycopg.connect(replica.info.dsn) as other:
        said = {same: [], other: []}
        use_weights(other, other_weights)
        for session, warnings in said.items():
            session.add_notice_handler(lambda notice, warnings=warnings: warnings.append(notice.sqlstate))
            assert session.execute(question).fetchone() is not None
        assert said == {same: [], other: ["01000"]}
