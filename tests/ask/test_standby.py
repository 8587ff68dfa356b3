"""A hot standby answers questions: nothing that asks writes."""

import shutil
import subprocess

import psycopg
import pytest
from people import hash_model
from psycopg import errors
from waiting import wait_until

from evergreen_host.cluster import Cluster


@pytest.fixture
def pair():
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
