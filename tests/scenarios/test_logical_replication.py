"""A subscriber's pipeline: what the apply and table-sync workers write is captured as other writes are."""

from collections import Counter

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.fixtures.pipelines.freshness import all_fresh, assert_fresh, drain, texts_in_view, verify
from tests.fixtures.waiting import Background, wait_until

TABLES = """
CREATE TABLE docs (id int PRIMARY KEY, title text, body text);
CREATE TABLE parts (id int PRIMARY KEY, body text) PARTITION BY RANGE (id);
CREATE TABLE low PARTITION OF parts FOR VALUES FROM (0) TO (100);
CREATE TABLE high PARTITION OF parts FOR VALUES FROM (100) TO (200);
"""


@pytest.fixture(scope="module")
def servers():
    """A publisher without the extension, and a subscriber with it."""
    quiet = {"shared_preload_libraries": ""}
    with Cluster(options=quiet | {"wal_level": "logical"}) as publisher, Cluster(options=quiet) as subscriber:
        with psycopg.connect(subscriber.dsn(), autocommit=True) as admin:
            admin.execute("CREATE EXTENSION evergreen CASCADE")
        yield publisher, subscriber


@pytest.fixture
def replicated(servers, provider):
    """Sessions at both ends, the tables with rows at the publisher, and empty with pipelines at the subscriber."""
    publisher, subscriber = servers
    with (
        psycopg.connect(publisher.dsn(), autocommit=True) as there,
        psycopg.connect(subscriber.dsn(), autocommit=True) as here,
    ):
        for session in (there, here):
            session.execute(TABLES)
        there.execute("INSERT INTO docs SELECT i, 'title ' || i, 'body ' || i FROM generate_series(1, 10) i")
        there.execute("INSERT INTO parts VALUES (1, 'low one'), (2, 'low two'), (101, 'high one')")
        provider.register(here)
        for name in ("docs", "parts"):
            here.execute(f"SELECT embed_create('{name}', '{name}', columns => '{{body}}', model => 'loop')")
        drain(here)  # the first backfills are over: what comes now must be captured
        there.execute("CREATE PUBLICATION p FOR TABLE docs, low, high")
        here.execute(f"CREATE SUBSCRIPTION s CONNECTION '{publisher.dsn()}' PUBLICATION p")
        try:
            yield there, here
        finally:
            here.execute("DROP SUBSCRIPTION s")
            for pipeline in ("docs", "parts"):
                here.execute("SELECT embed_drop(%s, if_exists => true)", (pipeline,))
            here.execute("SELECT embed_model_drop('loop')")
            there.execute("DROP PUBLICATION p")
            for session in (there, here):
                session.execute("DROP TABLE IF EXISTS docs, parts")


def caught_up(there, here):
    """Wait until the subscriber has everything that the publisher committed."""
    ready = "SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel"
    wait_until(lambda: here.execute(ready).fetchone() == (True,), timeout=60, what="the initial copy")
    position = there.execute("SELECT pg_current_wal_lsn()::text").fetchone()[0]
    confirmed = "SELECT confirmed_flush_lsn >= %s::pg_lsn FROM pg_replication_slots WHERE slot_name = 's'"
    wait_until(lambda: there.execute(confirmed, (position,)).fetchone() == (True,), timeout=60, what="the apply worker")


def test_the_initial_copy_and_every_kind_of_write(replicated, provider):
    there, here = replicated
    caught_up(there, here)
    assert_fresh(here, "docs", 10)
    assert_fresh(here, "parts", 3)
    assert provider.sent == Counter([f"body {i}" for i in range(1, 11)] + ["low one", "low two", "high one"])
    provider.reset()
    there.execute("UPDATE docs SET title = 'other'")
    there.execute("UPDATE docs SET body = 'edited' WHERE id = 1")
    there.execute("UPDATE docs SET id = 20 WHERE id = 2")
    there.execute("DELETE FROM docs WHERE id = 3")
    there.execute("INSERT INTO docs VALUES (21, 't', 'added')")
    there.execute("BEGIN; UPDATE docs SET body = 'never' WHERE id = 4; ROLLBACK")
    there.execute("UPDATE parts SET body = 'low edited' WHERE id = 1")
    there.execute("UPDATE parts SET id = 102 WHERE id = 2")
    caught_up(there, here)
    assert_fresh(here, "docs", 10)
    assert_fresh(here, "parts", 3)
    assert provider.sent == {"edited": 1, "added": 1, "low edited": 1}
    there.execute("TRUNCATE docs, low")
    caught_up(there, here)
    assert_fresh(here, "docs", 0)
    assert_fresh(here, "parts", 2)
    assert texts_in_view(here, "parts_embedding") == ["high one", "low two"]


@pytest.mark.stress
def test_ddl_of_the_subscriber_while_a_worker_is_at_the_model(replicated, servers, provider):
    """The apply worker has planned and compiled by then; DDL must neither stop it nor have it write unseen."""
    there, here = replicated
    caught_up(there, here)
    drain(here)
    provider.reset()
    provider.hold()
    there.execute("UPDATE docs SET body = 'at the model' WHERE id = 5")
    caught_up(there, here)
    with psycopg.connect(servers[1].dsn(), autocommit=True) as session:
        work = Background(session, "CALL embed_work(until_empty => true)")
        provider.wait_for_requests()
        here.execute("ALTER TABLE docs ADD extra int, ALTER body TYPE varchar")
        here.execute("ALTER TABLE low DISABLE TRIGGER ALL")
        there.execute("UPDATE docs SET body = 'then' WHERE id = 6")
        there.execute("UPDATE parts SET body = 'low then' WHERE id = 1")
        caught_up(there, here)
        assert work.running
        provider.release()
        work.result()
    assert_fresh(here, "docs", 10)
    assert_fresh(here, "parts", 3)
    assert {"at the model", "then"} < set(texts_in_view(here, "docs_embedding"))
    errors = here.execute("SELECT apply_error_count, sync_error_count FROM pg_stat_subscription_stats")
    assert errors.fetchall() == [(0, 0)]


def test_a_pipeline_that_stops_does_not_stop_the_apply_worker(replicated):
    there, here = replicated
    caught_up(there, here)
    drain(here)
    there.execute("ALTER TABLE docs REPLICA IDENTITY FULL")
    here.execute("ALTER TABLE docs DROP CONSTRAINT docs_pkey")
    there.execute("INSERT INTO docs VALUES (11, 't', 'while it is broken')")
    there.execute("UPDATE docs SET body = 'while it is broken, too' WHERE id = 1")
    caught_up(there, here)
    assert here.execute("SELECT state FROM embed_status WHERE pipeline = 'docs'").fetchone() == ("broken",)
    here.execute("ALTER TABLE docs ADD PRIMARY KEY (id)")
    drain(here)
    assert verify(here, "docs") == all_fresh(11)
    here.execute("SELECT embed_drop('docs')")
    there.execute("UPDATE docs SET body = 'unwatched' WHERE id = 1")
    caught_up(there, here)
    assert here.execute("SELECT body FROM docs WHERE id = 1").fetchone() == ("unwatched",)
