"""Publications and subscriptions that include Evergreen's own tables.

The kind: the extension's tables are ordinary tables to every tool that says "all tables". None of them may refuse a
DELETE or UPDATE because it is published, and none may be written by another server's evergreen where both ends have
the extension.
"""

import subprocess

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.fixtures.pipelines.freshness import assert_fresh, drain, status, texts_in_view
from tests.fixtures.waiting import wait_until

PUBLICATIONS = {
    "all tables": "FOR ALL TABLES",
    "deletes only": "FOR ALL TABLES WITH (publish = 'delete')",
    "via root": "FOR ALL TABLES WITH (publish_via_partition_root = true)",
    "schemas": "FOR TABLES IN SCHEMA embed, embed_store, public",
}
# Every relation that a publication may name must be told apart row by row.
WITHOUT_IDENTITY = """
SELECT c.oid::regclass::text FROM pg_class c
WHERE c.relnamespace IN (to_regnamespace('embed'), to_regnamespace('embed_store')) AND c.relkind = 'r'
  AND c.relpersistence = 'p' AND c.relreplident <> 'f'
  AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid
                  AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident END)
"""


def publish(db, kind):
    db.execute(f"CREATE PUBLICATION everything {PUBLICATIONS[kind]}")


def live_and_drop(db):
    """A pipeline's whole life: every table of the extension is inserted into, updated and deleted from."""
    db.execute("SELECT embed_build('docs', model => 'loop', columns => '{body}')")
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 1; DELETE FROM docs WHERE id = 2")
    db.execute("CALL embed_work(until_empty => true)")
    assert_fresh(db, "docs", 9)
    token, hashes = _claim(db)
    db.execute("SELECT embed_release('docs', %s, %s)", (token, hashes))
    db.execute("SELECT embed_promote('docs'); SELECT embed_retire('docs')")
    db.execute("SELECT embed_verify('docs', repair => true); SELECT embed_forget('docs', '[4]')")
    db.execute(
        "DELETE FROM embed.usage; DELETE FROM embed.lag; DELETE FROM embed.document_count;"
        " DELETE FROM embed.wal_position"
    )
    db.execute("TRUNCATE embed.change_log, embed.job, embed.claimed_text; TRUNCATE docs")
    drain(db)
    db.execute("SELECT embed_drop('docs')")
    assert db.execute("SELECT count(*) FROM embed.change_log").fetchone() == (0,)


def _claim(db):
    db.execute("UPDATE docs SET body = 'claimed' WHERE id = 3")
    rows = db.execute("SELECT token, hash FROM embed_claim('docs', 5)").fetchall()
    return rows[0][0], [row[1] for row in rows]


@pytest.mark.few(2)
@pytest.mark.parametrize("kind", PUBLICATIONS)
def test_a_pipeline_lives_and_goes_under_a_publication(db, docs, model, kind):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    assert_fresh(db, "docs", 10)
    publish(db, kind)
    live_and_drop(db)
    db.execute("DROP EXTENSION evergreen CASCADE")


def test_a_publication_that_was_there_before_the_extension(cluster, provider):
    with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE published TEMPLATE template0")
    with psycopg.connect(cluster.dsn("published"), autocommit=True) as db:
        db.execute("CREATE PUBLICATION everything FOR ALL TABLES; CREATE EXTENSION evergreen CASCADE")
        db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text)")
        db.execute("INSERT INTO docs SELECT i, 'title', 'body ' || i FROM generate_series(1, 10) i")
        provider.register(db)
        db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
        live_and_drop(db)
    with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
        admin.execute("DROP DATABASE published WITH (FORCE)")


def test_every_table_of_ours_has_an_identity(db, docs, model):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
    db.execute("SELECT embed_build('docs', columns => '{title}')")
    assert db.execute(WITHOUT_IDENTITY).fetchall() == []
    drain(db)
    db.execute("SELECT embed_drop('docs', keep_embeddings => true)")
    kept = "SELECT count(*) FROM pg_index WHERE indrelid::regclass::text LIKE '%kept%' AND indisprimary"
    assert db.execute(kept).fetchone() == (2,)


@pytest.fixture(scope="module")
def servers():
    """A publisher and a subscriber, both with the extension and with models of one name."""
    quiet = {"shared_preload_libraries": "", "wal_level": "logical", "wal_retrieve_retry_interval": "100ms"}
    with Cluster(options=quiet) as publisher, Cluster(options=quiet) as subscriber:
        for server in (publisher, subscriber):
            with psycopg.connect(server.dsn(), autocommit=True) as admin:
                admin.execute("CREATE EXTENSION evergreen CASCADE")
                admin.execute("CREATE TABLE docs (id int PRIMARY KEY, body text)")
                admin.execute("SELECT embed_model_add('h8', 'hash', 8)")
        yield publisher, subscriber


@pytest.fixture
def ends(servers):
    """Sessions at both; whatever a test made is taken away."""
    publisher, subscriber = servers
    with (
        psycopg.connect(publisher.dsn(), autocommit=True) as there,
        psycopg.connect(subscriber.dsn(), autocommit=True) as here,
    ):
        there.execute("CREATE PUBLICATION p FOR ALL TABLES")
        yield there, here
        here.execute("DROP SUBSCRIPTION IF EXISTS s")
        there.execute("DROP PUBLICATION p")
        for session in (here, there):
            session.execute("SELECT embed_drop('docs', if_exists => true)")
            session.execute("TRUNCATE docs")


def subscribe(there, here):
    info = there.info
    here.execute(
        f"CREATE SUBSCRIPTION s CONNECTION 'host={info.host} port={info.port} user={info.user} dbname={info.dbname}'"
        " PUBLICATION p"
    )
    caught_up(there, here)


def caught_up(there, here):
    waiting = "SELECT srrelid::regclass::text FROM pg_subscription_rel WHERE srsubstate <> 'r'"
    wait_until(lambda: here.execute(waiting).fetchall() == [], timeout=30, what="the initial copy")
    position = there.execute("SELECT pg_current_wal_lsn()::text").fetchone()[0]
    confirmed = "SELECT confirmed_flush_lsn >= %s::pg_lsn FROM pg_replication_slots WHERE slot_name = 's'"
    wait_until(lambda: there.execute(confirmed, (position,)).fetchone() == (True,), timeout=30, what="the apply worker")


def test_a_subscriber_with_the_extension_keeps_its_own_catalog(ends):
    """Built-in models, a model of the same name and settings are at both ends: no row of ours crosses over."""
    there, here = ends
    there.execute("INSERT INTO docs VALUES (1, 'one'), (2, 'two')")
    there.execute("SELECT embed_setting('cache_retention', '20 days')")
    models = here.execute("SELECT * FROM embed.model ORDER BY id").fetchall()
    subscribe(there, here)
    there.execute("SELECT embed_setting('cache_retention', '21 days'); SELECT embed_model_add('x', 'hash', 8)")
    there.execute("SELECT embed_model_drop('x')")
    caught_up(there, here)
    assert here.execute("SELECT * FROM embed.model ORDER BY id").fetchall() == models
    assert here.execute("SELECT * FROM embed.setting").fetchall() == []
    assert here.execute("SELECT count(*) FROM docs").fetchone() == (2,)
    errors = here.execute("SELECT apply_error_count, sync_error_count FROM pg_stat_subscription_stats")
    assert errors.fetchall() == [(0, 0)]


@pytest.mark.few(1)
@pytest.mark.parametrize("first", ["pipelines", "subscription"])
def test_both_ends_embed_for_themselves(ends, first):
    """Both have a pipeline 1 and a table g1; the subscriber's is made of what is applied, by its own workers."""
    there, here = ends
    there.execute("INSERT INTO docs VALUES (1, 'one'), (2, 'two')")
    create = "SELECT embed_create('docs', 'docs', columns => '{body}', model => 'h8')"
    if first == "subscription":
        subscribe(there, here)
    there.execute(create)
    here.execute(create)
    drain(there)
    if first == "pipelines":
        subscribe(there, here)
    else:
        here.execute("ALTER SUBSCRIPTION s REFRESH PUBLICATION")
    there.execute("UPDATE docs SET body = 'edited' WHERE id = 1; INSERT INTO docs VALUES (3, 'three')")
    there.execute("DELETE FROM docs WHERE id = 2")
    drain(there)
    caught_up(there, here)
    waiting = status(here, "docs")
    assert (waiting.fresh, waiting.pending > 0) == (0, True)
    assert_fresh(here, "docs", 2)
    assert texts_in_view(here, "docs_embedding") == ["edited", "three"]
    there.execute("SELECT embed_drop('docs')")
    caught_up(there, here)
    assert_fresh(here, "docs", 2)
    here.execute("SELECT embed_drop('docs', keep_embeddings => true)")
    kept = "SELECT oid::regclass::text FROM pg_class WHERE relname LIKE 'docs_embedding_kept%' AND relkind = 'r'"
    (table,) = here.execute(kept).fetchone()
    assert here.execute(f"SELECT count(*) FROM pg_trigger WHERE tgrelid = '{table}'::regclass").fetchone() == (0,)
    here.execute(f"DROP TABLE {table}")


def test_a_pipeline_whose_view_the_subscriber_lacks(ends, servers):
    """Postgres needs every published table here, as from pg_dump --schema-only; what our rows name need not be here."""
    there, here = ends
    publisher, subscriber = servers
    there.execute("CREATE TABLE extra (id int PRIMARY KEY, body text); INSERT INTO extra VALUES (1, 'one')")
    there.execute("SELECT embed_create('extra', 'extra', columns => '{body}', model => 'h8')")
    drain(there)
    command = [publisher.bin("pg_dump"), "--schema-only", "-n", "public", "-n", "embed_store", "-T", "extra_embedding"]
    schema = subprocess.run([*command, "-T", "docs", "-d", publisher.dsn()], capture_output=True, text=True, check=True)
    quiet = ("--no-psqlrc", "--quiet", "--output", "/dev/null")
    subprocess.run([subscriber.bin("psql"), *quiet, "-d", subscriber.dsn()], input=schema.stdout, text=True, check=True)
    subscribe(there, here)
    there.execute("SELECT embed_alter('extra', '{\"max_attempts\": 3}'); ALTER VIEW extra_embedding RENAME TO found")
    there.execute("INSERT INTO extra VALUES (2, 'two'); INSERT INTO docs VALUES (1, 'one')")
    drain(there)
    caught_up(there, here)
    assert here.execute("SELECT (SELECT count(*) FROM docs), (SELECT count(*) FROM extra)").fetchone() == (1, 2)
    assert here.execute("SELECT count(*) FROM embed.pipeline").fetchone() == (0,)
    errors = here.execute("SELECT apply_error_count, sync_error_count FROM pg_stat_subscription_stats")
    assert errors.fetchall() == [(0, 0)]
    there.execute("SELECT embed_drop('extra'); DROP TABLE extra")
    here.execute("DROP SUBSCRIPTION s")
    here.execute("DROP SCHEMA embed_store CASCADE; DROP TABLE extra")


def test_a_restore_under_session_replication_role_keeps_every_row(ends):
    _, here = ends
    here.execute("SET session_replication_role = replica")
    here.execute("INSERT INTO embed.setting VALUES ('default_model', 'h8')")
    assert here.execute("SELECT * FROM embed.setting").fetchall() == [("default_model", "h8")]
    here.execute("DELETE FROM embed.setting; RESET session_replication_role")
    assert here.execute("SELECT * FROM embed.setting").fetchall() == []
