"""The extension, pgvector and the source each in a schema or database of their own."""

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from tests.fixtures.pipelines.freshness import assert_fresh, drain, texts_in_view

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]


@pytest.fixture
def bare(cluster):
    """A superuser's session in a database without the extension."""
    with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
        admin.execute("DROP DATABASE IF EXISTS bare WITH (FORCE)")
        admin.execute("CREATE DATABASE bare TEMPLATE template0")
        with psycopg.connect(cluster.dsn("bare"), autocommit=True) as db:
            yield db
        admin.execute("DROP DATABASE bare WITH (FORCE)")


def exercise(db, provider, api, path):
    """Everything once, with nothing of ours on the search_path unless it is in ``path``."""
    db.execute("SELECT set_config('search_path', %s, false)", (path,))

    def call(statement, *arguments):
        return db.execute(SQL(statement).format(api=Identifier(api)), arguments).fetchall()

    call("SELECT {api}.embed_endpoint_set('loop', %s)", provider.url)
    call("SELECT {api}.embed_model_add('loop', 'openai', 8, endpoint => 'loop')")
    db.execute('CREATE SCHEMA "App"; CREATE TABLE "App".docs (id int PRIMARY KEY, body text)')
    call("SELECT {api}.embed_create('d', '\"App\".docs', columns => '{{body}}', model => 'loop')")
    db.execute("""INSERT INTO "App".docs VALUES (1, 'one'), (2, 'two')""")
    assert call("SELECT {api}.embed_drain()") == [(2,)]
    db.execute("""UPDATE "App".docs SET body = 'edited' WHERE id = 1""")
    db.execute(SQL("CALL {}.embed_work(until_empty => true)").format(Identifier(api)))
    assert texts_in_view(db, "App.d_embedding") == ["edited", "two"]
    assert dict(call("SELECT * FROM {api}.embed_verify('d')"))["fresh"] == 2
    assert call("SELECT pipeline, fresh FROM {api}.embed_status") == [("d", 2)]
    assert call("SELECT key, chunk FROM {api}.embed_search('d', 'two', k => 1)") == [([2], "two")]
    found = call('SELECT ("row").id, chunk FROM {api}.embed_search_rows(NULL::"App".docs, \'two\', k => 1)')
    assert found == [(2, "two")]
    call("SELECT {api}.embed_drop('d')")
    assert call("SELECT * FROM {api}.embed_status") == []


@pytest.mark.few(1)
@pytest.mark.parametrize("path", ["", "pg_catalog", '"My Ext", "Vec", public'])
def test_extension_and_vector_in_quoted_schemas_of_their_own(bare, provider, path):
    bare.execute('CREATE SCHEMA "My Ext"; CREATE SCHEMA "Vec"; CREATE EXTENSION plpython3u')
    bare.execute('CREATE EXTENSION vector SCHEMA "Vec"; CREATE EXTENSION evergreen SCHEMA "My Ext"')
    exercise(bare, provider, "My Ext", path)


@pytest.mark.few(2)
@pytest.mark.parametrize("name", ["select", "größe", "a.b", "x" * 63])
def test_the_extension_in_a_schema_of_another_name(bare, provider, name):
    bare.execute(SQL("CREATE SCHEMA {}").format(Identifier(name)))
    bare.execute(SQL("CREATE EXTENSION evergreen SCHEMA {} CASCADE").format(Identifier(name)))
    exercise(bare, provider, name, "")


def test_vector_may_move_to_another_schema(db, docs, model):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
    assert_fresh(db, "docs", 10)
    db.execute("CREATE SCHEMA elsewhere")
    db.execute("ALTER EXTENSION vector SET SCHEMA elsewhere")
    db.execute("UPDATE docs SET body = 'moved' WHERE id = 1")
    assert_fresh(db, "docs", 10)
    assert db.execute("SELECT key FROM embed_search('docs', 'moved', k => 1)").fetchall() == [([1],)]


def test_two_databases_of_one_cluster_do_not_meet(cluster, db, docs, bare, provider, model):
    """Advisory locks and sessions are a cluster's, pipelines are a database's: both have a pipeline 1."""
    bare.execute("CREATE EXTENSION evergreen CASCADE")
    provider.register(bare)
    bare.execute("CREATE TABLE docs (id int PRIMARY KEY, body text)")
    bare.execute("INSERT INTO docs VALUES (1, 'only here')")
    for connection in (db, bare):
        connection.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
    with psycopg.connect(cluster.dsn("bare")) as held:
        held.execute("SELECT embed_drain()")  # not committed: its locks are held
        assert_fresh(db, "docs", 10)
        held.rollback()
    assert_fresh(bare, "docs", 1)
    assert provider.sent["only here"] == 1 + 1  # the rolled back drain's vector was lost with it
    assert drain(db) == 0


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_of_another_encoding(cluster, provider, encoding):
    with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE enc TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")
        try:
            with psycopg.connect(cluster.dsn("enc"), autocommit=True, client_encoding="UTF8") as db:
                db.execute("CREATE EXTENSION evergreen CASCADE")
                provider.register(db)
                db.execute("CREATE TABLE t (id text PRIMARY KEY, body text)")
                db.execute("SELECT embed_create('t', 't', columns => '{body}', model => 'loop')")
                db.execute("INSERT INTO t VALUES ('\u00e9', 'caf\u00e9')")
                assert_fresh(db, "t", 1)
                assert provider.sent == {"caf\u00e9": 1}
        finally:
            admin.execute("DROP DATABASE enc WITH (FORCE)")
