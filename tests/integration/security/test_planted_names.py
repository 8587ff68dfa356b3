"""Names and templates are data: none of them ends a quotation, a body or a placeholder of ours."""

import pytest
from psycopg import sql

from tests.fixtures.roles import hash_model, people

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

HOSTILE = [
    'x"; DROP TABLE embed.pipeline; --',
    "x'; DROP TABLE embed.pipeline; --",
    "$evergreen$; $python$ $plpgsql$ $$",
    "line\nbreak\ttab",
    "\\' || alice.f() || E'\\n",
    "%s %I %L %1$s",
    "select",
    "Ünïcödé 漢字 🌲",
    " ",
]
# What the library's own statements are put together from.
PLACEHOLDERS = """
    signature returns language volatility security settings body columns source src_hash content matches key_document
    old_watched new_watched old_key new_key old_key_document new_key_document pipeline trigger event table level
    condition function view key_columns vector generation dimensions key_names key_values order after schema
    name owner comment
"""
THINGS = ("schema", "table", "key", "column", "pipeline", "view")


def placeholders():
    """Every placeholder in the name of some thing, and in the next round in that of another."""
    words = ["{" + word + "}" for word in PLACEHOLDERS.split()]
    for shift in range(0, len(words), 6):
        turned = words[shift:] + words[:shift]
        yield {thing: "".join(turned[2 * i : 2 * i + 2])[:40] for i, thing in enumerate(THINGS)}


def test_any_name_will_do(db):
    hash_model(db)
    for one in HOSTILE:
        exercise(db, **dict.fromkeys(THINGS, one))
    for several in placeholders():
        exercise(db, **several)


def exercise(db, schema, table, key, column, pipeline, view):
    """The whole life of a pipeline whose things have these names."""
    ident = sql.Identifier
    source = ident(schema, table)
    key, column = f"k{key}"[:50], f"c{column}"[:50]
    for statement in (
        sql.SQL("CREATE SCHEMA {}").format(ident(schema)),
        sql.SQL("CREATE TABLE {} ({} int PRIMARY KEY, {} text)").format(source, ident(key), ident(column)),
        sql.SQL("INSERT INTO {} VALUES (1, 'one'), (2, 'two'), (3, 'three')").format(source),
    ):
        db.execute(statement)
    regclass = source.as_string(db)
    create = "SELECT embed_create(%s, %s, columns => %s, model => 'hash8', view_name => %s)"
    db.execute(create, (pipeline, regclass, [column], f"v{view}"[:50]))
    assert db.execute("SELECT embed_drain(%s)", (pipeline,)).fetchone() == (3,)
    for change in (
        "UPDATE {0} SET {2} = 'new' WHERE {1} = 1",
        "DELETE FROM {0} WHERE {1} = 2",
        "UPDATE {0} SET {1} = 33 WHERE {1} = 3",
    ):
        db.execute(sql.SQL(change).format(source, ident(key), ident(column)))
    db.execute("SELECT embed_drain(%s)", (pipeline,))
    found = db.execute(
        sql.SQL("SELECT key, chunk, is_stale FROM {} ORDER BY key").format(ident(schema, f"v{view}"[:50]))
    )
    assert found.fetchall() == [([1], "new", False), ([33], "three", False)]
    assert dict(db.execute("SELECT * FROM embed_verify(%s)", (pipeline,)).fetchall())["fresh"] == 2
    assert len(db.execute("SELECT FROM embed_search(%s, 'new')", (pipeline,)).fetchall()) == 2
    rows = db.execute(sql.SQL("SELECT FROM embed_search_rows(NULL::{}, 'new')").format(source))
    assert len(rows.fetchall()) == 2
    assert "fresh" in db.execute("SELECT embed_explain(%s, '[1]')", (pipeline,)).fetchone()[0]
    assert db.execute("SELECT fresh, last_error FROM embed_status").fetchone() == (2, None)
    db.execute(sql.SQL("TRUNCATE {}").format(source))
    db.execute("SELECT embed_drain(%s)", (pipeline,))
    definition = db.execute("SELECT embed_get_def(%s)", (pipeline,)).fetchone()[0]
    db.execute("SELECT embed_drop(%s)", (pipeline,))
    db.execute(definition)
    assert db.execute("SELECT embed_get_def(%s)", (pipeline,)).fetchone()[0] == definition
    db.execute("SELECT embed_drop(%s)", (pipeline,))


def test_a_column_name_cannot_bring_code_into_the_capture_trigger(db, connect):
    """A placeholder in one name, replaced after it was quoted, would let another name's text out of its quotes."""
    people(db)
    alice = connect("alice")
    alice.execute("CREATE TABLE alice.seen (who name)")
    alice.execute(
        """CREATE FUNCTION alice.f() RETURNS text LANGUAGE plpgsql AS
           $$BEGIN INSERT INTO alice.seen VALUES (current_user); RETURN 1; END$$"""
    )
    alice.execute(
        'CREATE TABLE alice.docs (",1),ROW(1,alice.f(),1)) THEN --" int PRIMARY KEY, "x{old_key}" text, "xOLD." text)'
    )
    alice.execute("SELECT embed_create('docs', 'alice.docs', columns => ARRAY['x{old_key}'])")
    alice.execute("INSERT INTO alice.docs VALUES (1, 'a', 'b')")
    alice.execute("""UPDATE alice.docs SET "x{old_key}" = 'new'""")
    assert alice.execute("SELECT FROM alice.seen").fetchall() == []
    assert db.execute("SELECT embed_drain()").fetchone() == (1,)


TEMPLATES = {
    "quote": "it's $body",
    "end of a body": "$$; DROP TABLE docs; $$ $body",
    "placeholder": "{settings}{content}{body} $body",
    "backslash": "\\' $body \\",
    "call": "' || pg_sleep(9) || ' $body",
    "line breaks": "\n\n$body\n\r\t",
    "escapes": "\\x41 \\u0041 $body",
    "percent": "100% $body %s",
    "comment": "-- $body /* */",
}


@pytest.mark.parametrize("conforming", ["on", "off"])
def test_a_template_is_text(db, conforming):
    """Also in a session with standard_conforming_strings off."""
    hash_model(db)
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text)")
    db.execute("INSERT INTO docs VALUES (1, 'B')")
    db.execute(f"SET standard_conforming_strings = {conforming}; SET escape_string_warning = off")
    for name, template in TEMPLATES.items():
        create = "SELECT embed_create(%b, 'docs', template => %b, model => 'hash8', view_name => %b)"
        db.execute(create, (name, template, name))
    db.execute("SELECT embed_drain()")
    for name, template in TEMPLATES.items():
        view = sql.Identifier(name)
        text = template.replace("$$", "$").replace("$body", "B")
        assert db.execute(sql.SQL("SELECT chunk FROM {}").format(view)).fetchone() == (text,)


def test_a_session_that_quotes_all_identifiers_makes_the_same_pipeline(db, connect, docs):
    hash_model(db)
    db.execute("SET quote_all_identifiers = on")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')")
    for session in (db, connect()):
        assert session.execute("SELECT state FROM embed_status").fetchone() == ("active",)
        session.execute("UPDATE docs SET body = body || '!'")
        assert session.execute("SELECT embed_drain()").fetchone() == (10,)
        assert len(session.execute("SELECT FROM embed_search('docs', 'q')").fetchall()) == 10
