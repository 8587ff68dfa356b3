"""The extension lives in any schema, in any database, and in several at once."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.fixtures.providers.loopback import WATCH_OFF
from tests.fixtures.waiting import Background

pytestmark = pytest.mark.shared_database

# Each: the schema of evergreen, the schema of pgvector, the caller's search_path.
PLACES = {
    "lower case": ("tools", "tools", "public"),
    "quoted": ("My Schema-é", "public", "public"),
    "reserved": ("select", "table", ""),
    "dots and digits": ("1.x", "vectors here", "public"),
}


@pytest.fixture
def empty(cluster) -> Iterator[psycopg.Connection]:
    """A database without the extension."""
    with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE without TEMPLATE template0")
        with psycopg.connect(cluster.dsn("without"), autocommit=True) as db:
            yield db
        admin.execute("DROP DATABASE without WITH (FORCE)")


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@pytest.mark.few(2)
@pytest.mark.parametrize("place", PLACES)
def test_everything_works_from_any_schema(empty, provider, place):
    schema, vectors, path = PLACES[place]
    x = quoted(schema)
    for name in {schema, vectors}:
        empty.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(name)}")
    empty.execute(f"CREATE EXTENSION vector SCHEMA {quoted(vectors)}")
    empty.execute(f"CREATE EXTENSION evergreen SCHEMA {x} CASCADE")
    empty.execute("SELECT set_config('search_path', %s, false)", (path,))
    empty.execute("CREATE TABLE public.docs (id int PRIMARY KEY, title text, body text)")
    empty.execute("INSERT INTO public.docs SELECT i, 'title ' || i, 'body ' || i FROM generate_series(1, 10) i")
    empty.execute(f"SELECT {x}.embed_endpoint_set('loop', %s)", (provider.url,))
    empty.execute(WATCH_OFF)
    empty.execute(f"SELECT {x}.embed_model_add('loop', 'openai', 8, endpoint => 'loop')")
    create = f"SELECT {x}.embed_create('docs', 'public.docs', columns => '{{title,body}}', model => 'loop',"
    empty.execute(f"{create} chunker => {x}.embed_chunk_text(100))")
    assert empty.execute(f"SELECT {x}.embed_drain()").fetchone() == (10,)
    empty.execute("UPDATE public.docs SET body = 'edited' WHERE id = 1")
    empty.execute("ALTER TABLE public.docs RENAME COLUMN body TO content")
    empty.execute("UPDATE public.docs SET content = 'edited again' WHERE id = 2")
    empty.execute(f"CALL {x}.embed_work(until_empty => true)")
    assert len(provider.sent) == 12
    found = empty.execute(f"SELECT * FROM {x}.embed_verify('docs')").fetchall()
    assert {state: rows for state, rows in found if rows} == {"fresh": 10}
    question = "title 2\n\nedited again"
    assert empty.execute(f"SELECT key FROM {x}.embed_search('docs', %s, k => 1)", (question,)).fetchone() == ([2],)
    row = f'SELECT (r."row").id FROM {x}.embed_search_rows(NULL::public.docs, %s, k => 1) r'
    assert empty.execute(row, (question,)).fetchone() == (2,)
    operator = f"OPERATOR({quoted(vectors)}.<=>)"
    nearest = f"SELECT id FROM public.docs_embedding ORDER BY embedding {operator} {x}.embed_query('docs', %s) LIMIT 1"
    assert empty.execute(nearest, (question,)).fetchone() == (2,)
    assert f"{x}.embed_" in empty.execute(f"SELECT {x}.embed_get_def('docs')").fetchone()[0].replace("tools", x)
    assert empty.execute(f"SELECT fresh FROM {x}.embed_status").fetchone() == (10,)
    empty.execute(f"SELECT {x}.embed_drop('docs')")
    empty.execute("DROP EXTENSION evergreen")


def test_pgvector_may_move_afterwards(db, docs, model, provider):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    db.execute("SELECT embed_drain()")
    db.execute('CREATE SCHEMA "Moved here"; ALTER EXTENSION vector SET SCHEMA "Moved here"')
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 1")
    db.execute("SELECT embed_drain()")
    assert dict(db.execute("SELECT * FROM embed_verify('docs')").fetchall())["fresh"] == 10
    found = db.execute("SELECT key FROM embed_search('docs', E'title 1\n\nedited', k => 1)").fetchone()
    assert found == ([1],)


def test_it_cannot_be_created_twice_in_a_database(db):
    db.execute("CREATE SCHEMA second")
    with pytest.raises(psycopg.errors.DuplicateObject):
        db.execute("CREATE EXTENSION evergreen SCHEMA second")


@pytest.mark.slow
def test_two_databases_work_at_the_same_time(cluster, connect, database, db, docs, model, provider):
    """Same names, same numbers, other rows: workers, locks and sessions of the one are nothing to the other."""
    with database("neighbour"), psycopg.connect(cluster.dsn("neighbour"), autocommit=True) as other:
        provider.register(other)
        other.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text)")
        other.execute("INSERT INTO docs SELECT i, 'other', 'row ' || i FROM generate_series(1, 10) i")
        for each in (db, other):
            each.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
        provider.hold()
        work = Background(connect(), "CALL embed_work(until_empty => true, slot => 1)")
        provider.wait_for_requests(1)
        with psycopg.connect(cluster.dsn("neighbour"), autocommit=True) as worker:
            beside = Background(worker, "CALL embed_work(until_empty => true, slot => 1)")
            provider.wait_for_requests(2)  # neither waits for the other's slot or claim
            provider.release()
            beside.result()
        work.result()
        for each in (db, other):
            assert dict(each.execute("SELECT * FROM embed_verify('docs')").fetchall())["fresh"] == 10
        assert set(provider.sent.values()) == {1}
        assert len(provider.sent) == 20


def test_installing_leaves_no_setting_to_the_rest_of_the_transaction(empty):
    """pg_restore in one transaction: functions that are restored later name tables that come later still."""
    settings = "SELECT name, setting FROM pg_settings WHERE name NOT LIKE '%.%'"
    before = "SET check_function_bodies = off; SET search_path = ''; SET client_min_messages = notice"
    with empty.transaction():
        empty.execute(before)
        found = set(empty.execute(settings).fetchall())
        empty.execute("CREATE EXTENSION evergreen SCHEMA public CASCADE")
        assert set(empty.execute(settings).fetchall()) - found == set()
