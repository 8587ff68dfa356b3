"""embed_get_def prints calls that make the same pipeline again."""

import pytest
from psycopg import sql

from tests.fixtures.roles import hash_model, people

pytestmark = pytest.mark.shared_database

DEFINITIONS = {
    "columns": {"columns": ["body"]},
    "odd columns": {"columns": ["Odd \"Name'", "body", "$"]},
    "template": {"template": "$body"},
    "line breaks": {"template": "$body\n\n\tend\r\n"},
    "quotes": {"template": "it's \"$body\" ''"},
    "dollars": {"template": "$$5 ${body} $$$$ $body"},
    "backslashes": {"template": "\\ \\t \\\\ $body\\\n\\"},
    "braces": {"template": "{body} {{$body}} %s"},
    "unicode": {"template": "漢字 🌲 $body \u2028"},
    "chunker": {"columns": ["body"], "chunker": '{"chunker": "text", "size": 90, "overlap": 10}'},
    "chunks in a template": {"columns": ["body"], "template": "$$ ${Odd \"Name'}\n$chunk!${$}"},
    "only_if": {"columns": ["body"], "only_if": "it is"},
    "options": {"columns": ["body"], "options": '{"max_attempts": 3, "on_too_long": "truncate", "live_share": 0.5}'},
    "view_name": {"columns": ["body"], "view_name": 'it\'s "the" view'},
    "manual": {"columns": ["body"], "capture": "manual"},
}


@pytest.fixture
def odd(db):
    """A table with names that need quoting, outside of the search_path."""
    hash_model(db)
    db.execute("""CREATE SCHEMA "an 'odd' one" """)
    source = sql.Identifier("an 'odd' one", 'Ta"ble')
    db.execute(
        sql.SQL("CREATE TABLE {} (id int PRIMARY KEY, body text, {} text, {} text, {} boolean)").format(
            source, *map(sql.Identifier, ("Odd \"Name'", "$", "it is"))
        )
    )
    return source.as_string(db)


def definition(db, name="it's \\ one"):
    return db.execute("SELECT embed_get_def(%s)", [name]).fetchone()[0]


def everything(db):
    return db.execute(
        """SELECT pipeline, source, key_columns, columns, template, only_if, model, chunker, capture, state,
                  (SELECT relname FROM pg_class WHERE oid = view), options FROM embed_pipelines"""
    ).fetchall()


def test_the_calls_make_the_same_pipeline(db, odd):
    for what, arguments in DEFINITIONS.items():
        given = {"name": "it's \\ one", "source": odd, "model": "hash8"} | arguments
        db.execute(f"SELECT embed_create({', '.join(f'{name} => %({name})s' for name in given)})", given)
        before, calls = everything(db), definition(db)
        db.execute("SELECT embed_drop(%s)", [given["name"]])
        for conforming in ("on", "off"):
            db.execute(f"SET standard_conforming_strings = {conforming}; SET escape_string_warning = off")
            db.execute(calls.encode())
            assert (everything(db), definition(db)) == (before, calls), (what, conforming)
            db.execute("SELECT embed_drop(%s)", [given["name"]])


def test_paused_stays_paused(db, odd):
    db.execute("SELECT embed_create('p', %s, columns => '{body}', model => 'hash8')", [odd])
    db.execute("SELECT embed_pause('p')")
    before, calls = everything(db), definition(db, "p")
    db.execute("SELECT embed_drop('p')")
    db.execute(calls)
    assert everything(db) == before
    assert before[0][9] == "paused"


def test_the_definition_follows_renamed_columns(db, docs):
    hash_model(db)
    db.execute("SELECT embed_create('docs', 'docs', template => '$title!$body', model => 'hash8')")
    db.execute("ALTER TABLE docs RENAME title TO headline")
    db.execute("ALTER TABLE docs RENAME TO papers")
    calls = definition(db, "docs")
    assert "${headline}!${body}" in calls
    assert "papers" in calls
    db.execute("SELECT embed_drop('docs')")
    db.execute(calls)
    db.execute("SELECT embed_drain()")
    assert db.execute("SELECT chunk FROM docs_embedding WHERE id = 1").fetchone() == ("title 1!body 1",)


def test_who_may_read_the_source_may_read_the_definition(db, connect, docs):
    people(db)
    hash_model(db)
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')")
    db.execute("GRANT SELECT (id) ON docs TO bob")
    assert "docs" in definition(connect("bob"), "docs")
