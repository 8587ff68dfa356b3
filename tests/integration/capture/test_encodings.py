"""Whatever the encoding of a database, its texts, names and errors can be read, and nothing ends a session.

The kind: PL/Python converts between Python's text and the server's at many places, and most of them can fail: messages,
statements, quoted names, arguments, rows, error messages in either direction. An error inside of such a conversion
jumps over Python's frames, and the backend crashes later. And a text that cannot be converted must stay with its row.
"""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import psycopg
import pytest
from psycopg import sql

from evergreen_host.cluster import Cluster
from tests.fixtures.pipelines.documents import drain_all
from tests.fixtures.providers.faults import status
from tests.fixtures.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

# With a word that UTF-8 has in more bytes, and an emoji that none of them but SQL_ASCII has.
WORDS = {"LATIN1": "größe", "WIN1252": "größe", "EUC_JP": "表題", "SQL_ASCII": "größe", "UTF8": "größe"}
OTHERS = {"WIN1252", "UTF8"}
EMOJI = "\N{GRINNING FACE}"
_numbers = count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    with Cluster(options={"wal_level": "logical"}) as cluster, psycopg.connect(cluster.dsn(), autocommit=True) as admin:
        for encoding in WORDS:
            admin.execute(f"CREATE DATABASE {encoding} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
            with psycopg.connect(cluster.dsn(encoding.lower()), autocommit=True) as db:
                db.execute("CREATE EXTENSION evergreen CASCADE")
        yield cluster


@pytest.fixture(params=[pytest.param(one, marks=[pytest.mark.stress] if one in OTHERS else []) for one in WORDS])
def encoding(request) -> str:
    return request.param


@pytest.fixture
def word(encoding) -> str:
    return WORDS[encoding]


@pytest.fixture
def substitute(encoding) -> str:
    """What becomes of an emoji."""
    return EMOJI if encoding in {"SQL_ASCII", "UTF8"} else "?"


@pytest.fixture
def copy_of(server) -> Callable[[str], str]:
    """Makes a database of an encoding; returns its DSN."""

    def make(encoding: str) -> str:
        name = f"test_{next(_numbers)}"
        with psycopg.connect(server.dsn(), autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {name} TEMPLATE {encoding}")
        return server.dsn(name)

    return make


@pytest.fixture
def db(copy_of, encoding) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(copy_of(encoding), autocommit=True, client_encoding="UTF8") as session:
        yield session


def make_docs(db):
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text)")
    db.execute("INSERT INTO docs SELECT i, 'body ' || i FROM generate_series(1, 10) i")


@pytest.fixture
def docs(db) -> str:
    make_docs(db)
    return "docs"


def rows(db, query, *parameters):
    return db.execute(query, parameters or None).fetchall()


def test_the_whole_life_of_a_pipeline_with_such_names_and_texts(db, provider, word):
    provider.register(db)
    names = {"table": sql.Identifier(word), "column": sql.Identifier(f"{word} \\ x"), "key": sql.Identifier(f"k{word}")}
    make = 'CREATE TABLE {table} ({key} text PRIMARY KEY, {column} text, "plain" text)'
    db.execute(sql.SQL(make).format(**names))
    db.execute(
        sql.SQL("INSERT INTO {table} VALUES (%s, %s, 'x'), ('b', 'body', 'y')").format(**names), (word, word * 2)
    )
    template = f"{word} '\\ ${{{word} \\ x}} $plain"
    for _ in range(3):  # a crash takes its time
        rows(db, "SELECT * FROM embed_preview(%s, columns => %s)", word, [f"{word} \\ x"])
        rows(db, "SELECT * FROM embed_preview(%s, template => %s)", word, template)
    db.execute("SELECT embed_create(%s, %s, template => %s, model => 'loop')", (word, f'"{word}"', template))
    assert drain_all(db) == 1
    text = f"{word} '\\ {word * 2} x"
    assert provider.sent[text] == 1
    view, renamed = sql.Identifier(f"{word}_embedding"), sql.Identifier(f"{word}2")
    assert (word, text) in db.execute(sql.SQL("SELECT {key}, chunk FROM {view}").format(view=view, **names)).fetchall()
    assert dict(rows(db, "SELECT * FROM embed_verify(%s)", word))["fresh"] == 2
    for mode in ("vector", "keyword", "hybrid"):
        found = rows(db, "SELECT key, chunk FROM embed_search(%s, %s, 1, mode => %s)", word, text, mode)
        assert found == [([word], text)], mode
    assert any(word in line for (line,) in rows(db, "SELECT embed_explain(%s, to_jsonb(%s::text))", word, word))
    assert rows(db, "SELECT pipeline, fresh, last_error FROM embed_status") == [(word, 2, None)]
    assert word in rows(db, "SELECT embed_get_def(%s)", word)[0][0]
    db.execute(sql.SQL("ALTER TABLE {table} RENAME COLUMN {column} TO {new}").format(**names, new=renamed))
    db.execute(sql.SQL("UPDATE {table} SET {column} = 'new'").format(**names | {"column": renamed}))
    db.execute("CALL embed_work(until_empty => true)")
    assert dict(rows(db, "SELECT * FROM embed_verify(%s)", word))["fresh"] == 2
    db.execute("SELECT embed_drop(%s)", (word,))


def test_what_a_model_says_of_a_text_is_kept_with_that_row(db, docs, provider, substitute):
    provider.register(db)
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
    said = f'{{"error": {{"message": "no {EMOJI} and \\u0000 and \\ud800."}}}}'.encode()
    provider.fail(status(400, said), when=lambda call: "body 3" in call.texts)
    drain_all(db)
    ((key, error),) = rows(db, "SELECT key, message FROM embed_failures")
    assert key == [3]
    assert f"no {substitute} and" in error
    assert rows(db, "SELECT count(*) FROM docs_embedding") == [(9,)]


def test_a_chunker_may_make_characters_that_the_database_does_not_have(db, docs, provider, substitute):
    provider.register(db)
    db.execute("UPDATE docs SET body = '<p>smile &#128512;</p>' WHERE id = 1")
    chunker = "chunker => embed_chunk_html()"
    for _ in range(3):
        rows(db, f"SELECT * FROM embed_preview('docs', '{{body}}', {chunker})")
    db.execute(f"SELECT embed_create('docs', 'docs', columns => '{{body}}', model => 'loop', {chunker})")
    drain_all(db)
    assert rows(db, "SELECT chunk FROM docs_embedding WHERE id = 1") == [(f"smile {substitute}",)]
    assert provider.sent[f"smile {substitute}"] == 1
    rows(db, "SELECT embed_explain('docs', '1')")


def test_what_the_owners_code_says_can_be_read(db, docs, provider, word):
    """An error message comes in the server's encoding, and PL/Python reads it as UTF-8."""
    provider.register(db)
    db.execute(f"""
        CREATE FUNCTION picky(texts text[]) RETURNS vector[] LANGUAGE plpgsql SET search_path = public AS $$
        BEGIN
            IF 'body 3' = ANY (texts) THEN
                RAISE EXCEPTION 'not this {word}' USING DETAIL = '{word}', HINT = '{word}', ERRCODE = '22000';
            END IF;
            RETURN (SELECT array_agg('[1,2,3]'::vector) FROM unnest(texts));
        END $$""")
    db.execute("SELECT embed_model_add('picky', 'function', 3, remote_name => 'public.picky')")
    db.execute("""SELECT embed_create('docs', 'docs', columns => '{body}', model => 'picky',
                                      options => '{"max_attempts": 1}')""")
    for _ in range(4):
        db.execute("SELECT embed_drain()")
        db.execute("CALL embed_work(until_idle => true)")
    assert word in rows(db, "SELECT last_error FROM embed_status")[0][0]
    with pytest.raises(psycopg.Error, match=word):
        db.execute("SELECT embed_drain(%s)", (word,))
    with pytest.raises(psycopg.Error, match="not this"):
        db.execute("SELECT embed('body 3', 'picky')")


@pytest.mark.parametrize("capture", ["trigger", "cdc"])
def test_bytes_that_are_no_text_fail_with_their_row(copy_of, provider, capture):
    with psycopg.connect(copy_of("SQL_ASCII"), autocommit=True, client_encoding="UTF8") as db:
        make_docs(db)
        provider.register(db)
        create = "SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop', capture => %s)"
        db.execute(create, (capture,))
        db.execute("CALL embed_work(until_empty => true)")
        db.execute("UPDATE docs SET body = E'gr\\366\\337e' WHERE id IN (3, 7)")
        db.execute("UPDATE docs SET body = 'another' WHERE id = 5")

        def failed() -> bool:
            db.execute("CALL embed_work(until_empty => true)")
            return rows(db, "SELECT key FROM embed_failures ORDER BY key") == [([3],), ([7],)]

        wait_until(failed, what="dead letters")
        assert rows(db, "SELECT chunk FROM docs_embedding WHERE id = 5") == [("another",)]
        assert rows(db, "SELECT capture, last_error FROM embed_status")[0][0] == capture


@pytest.mark.parametrize("capture", ["trigger", "cdc"])
def test_a_key_of_bytes_that_are_no_text_is_a_key(copy_of, provider, capture):
    """Its row is embedded and found as any other; a key as JSON has its digits, and those of a text that looks so."""
    with psycopg.connect(copy_of("SQL_ASCII"), autocommit=True, client_encoding="SQL_ASCII") as db:
        provider.register(db)

        def works(number: int) -> bool:
            db.execute("CALL embed_work(until_empty => true)")
            return rows(db, "SELECT state::text, rows FROM embed_verify('docs') WHERE rows > 0") == [(b"fresh", number)]

        db.execute("CREATE TABLE docs (k text, t char(5), body text, PRIMARY KEY (k, t))")
        keys = "(E'gr\\366\\337e'), (E'gr\\303\\266'), ('plain'), (E'\\\\x61'), ('')"
        db.execute(f"INSERT INTO docs SELECT k, 'ab', 'body ' || length(k) FROM (VALUES {keys}) v (k)")
        create = "SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop', capture => %s)"
        db.execute(create, (capture,))
        db.execute("CALL embed_work(until_empty => true)")
        assert rows(db, "SELECT count(*), count(*) FILTER (WHERE is_stale) FROM docs_embedding") == [(5, 0)]
        db.execute(
            "UPDATE docs SET body = 'edited' WHERE k = E'gr\\366\\337e'; UPDATE docs SET body = 'b' WHERE k ~ 'x61'"
        )
        wait_until(lambda: works(5), what="fresh rows")
        found = "SELECT key ->> 0 FROM embed_search('docs', 'edited', 1)"
        assert rows(db, found) == [(b"\\x6772f6df65",)]
        db.execute("SELECT embed_touch('docs', (SELECT key FROM embed_search('docs', 'edited', 1)))")
        assert rows(db, "SELECT embed_drain()") == [(1,)]
        db.execute("DELETE FROM docs WHERE k = E'gr\\366\\337e'; UPDATE docs SET k = E'\\377' WHERE k = 'plain'")
        wait_until(lambda: works(4), what="fresh rows")
        assert rows(db, "SELECT fresh, pending, failed FROM embed_status") == [(4, 0, 0)]


@pytest.mark.parametrize("client", ["LATIN1", "SQL_ASCII", "EUC_JP"])
def test_a_client_of_another_encoding(copy_of, client):
    """What it cannot be sent of a message is spelled otherwise."""
    with psycopg.connect(copy_of("UTF8"), autocommit=True, client_encoding=client) as db:
        make_docs(db)
        said: list[str] = []
        db.add_notice_handler(lambda notice: said.append(notice.message_primary or ""))
        for _ in range(2):
            db.execute("SELECT * FROM embed_preview('docs', '{body}')")
        assert "embed_create" in said[-1]
        with pytest.raises(psycopg.errors.UndefinedObject) as refused:
            db.execute("SELECT embed_drain(U&'of \\2026 and \\00f6')")
        assert 'pipeline "of ' in refused.value.diag.message_primary
