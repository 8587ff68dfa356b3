"""embed_create refuses what it cannot do: says what and why and what to do instead, and leaves nothing behind."""

import json

import pytest

from tests.fixtures.error_checks import agree, complaint, refused
from tests.fixtures.paths import PROJECT
from tests.fixtures.roles import hash_model

pytestmark = pytest.mark.shared_database

TABLES = """
CREATE TABLE docs (id int PRIMARY KEY, title text, body text, n int, hot boolean);
CREATE TABLE keyless (id int, body text);
CREATE TABLE unique_only (id int UNIQUE NOT NULL, body text);
CREATE TABLE wide (id int PRIMARY KEY);
CREATE TABLE taken_embedding (id int);
CREATE TYPE typed_embedding AS ENUM ('a');
CREATE VIEW a_view AS SELECT * FROM docs;
CREATE MATERIALIZED VIEW a_matview AS SELECT * FROM docs;
CREATE SEQUENCE a_sequence;
CREATE TEMP TABLE a_temp (id int PRIMARY KEY, body text);
CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
CREATE FOREIGN TABLE a_foreign (id int, body text) SERVER nowhere;
CREATE TABLE partitioned (id int, body text) PARTITION BY RANGE (id);
"""
# The arguments of embed_create, the SQLSTATE, and what the message must name.
BAD = {
    "no name": ({"name": None}, "42602", "name"),
    "empty name": ({"name": ""}, "42602", "name"),
    "long name": ({"name": "x" * 64}, "42602", "xxx"),
    "long name in bytes": ({"name": "漢" * 22}, "42602", "漢"),
    "name that leaves no room for the view": ({"name": "x" * 60}, "42622", "_embedding"),
    "no source": ({"source": None}, "22004", "source"),
    "unknown source": ({"source": "no_such_table"}, "42P01", "no_such_table"),
    "source by an unused oid": ({"source": "4000000000"}, "42P01", "4000000000"),
    "source zero": ({"source": "0"}, "42P01", ""),
    "source is a view": ({"source": "a_view"}, "42809", "a_view"),
    "source is a materialized view": ({"source": "a_matview"}, "42809", "a_matview"),
    "source is a sequence": ({"source": "a_sequence"}, "42809", "a_sequence"),
    "source is an index": ({"source": "docs_pkey"}, "42809", "docs_pkey"),
    "source is a foreign table": ({"source": "a_foreign"}, "42809", "a_foreign"),
    "source is temporary": ({"source": "a_temp"}, "42809", "a_temp"),
    "source is a system catalog": ({"source": "pg_catalog.pg_class"}, "42809", "pg_class"),
    "source is in the information schema": ({"source": "information_schema.sql_features"}, "42809", "sql_features"),
    "source is ours": ({"source": "embed.job"}, "42809", "job"),
    "no primary key": ({"source": "keyless"}, "42P17", "keyless"),
    "unique is not enough": ({"source": "unique_only"}, "42P17", "unique_only"),
    "partitioned without primary key": ({"source": "partitioned"}, "42P17", "partitioned"),
    "chunk of no columns": ({"columns": None, "template": "$body $chunk"}, "22023", "$chunk"),
    "chunk in braces": ({"template": "$body ${chunk}"}, "22023", "columns"),
    "unknown column beside a chunk": ({"template": "$nope $chunk"}, "42703", "nope"),
    "neither columns nor template": ({"columns": None}, "22023", "columns"),
    "both": ({"template": "$body"}, "22023", "columns"),
    "no columns": ({"columns": []}, "22023", "column"),
    "NULL column": ({"columns": ["body", None]}, "22023", "column"),
    "empty column": ({"columns": [""]}, "42703", "docs"),
    "unknown column": ({"columns": ["body", "nope"]}, "42703", "nope"),
    "column twice": ({"columns": ["body", "body"]}, "22023", "body"),
    "columns of two dimensions": ({"columns": [["body"], ["title"]]}, "22023", "column"),
    "system column": ({"columns": ["ctid"]}, "42703", "ctid"),
    "column with another case": ({"columns": ["Body"]}, "42703", "Body"),
    "empty template": ({"columns": None, "template": ""}, "22023", "column"),
    "template without columns": ({"columns": None, "template": "text"}, "22023", "column"),
    "template with backslash n": ({"columns": None, "template": r"$title\n\n$body"}, "22023", "backslash"),
    "lone dollar": ({"columns": None, "template": "costs $ 5 $body"}, "22023", "$"),
    "dollar at the end": ({"columns": None, "template": "$body $"}, "22023", "$"),
    "unclosed brace": ({"columns": None, "template": "${body"}, "22023", "$"),
    "empty braces": ({"columns": None, "template": "${}"}, "42703", "docs"),
    "unknown column in template": ({"columns": None, "template": "$body $nope"}, "42703", "nope"),
    "unknown model": ({"model": "nope"}, "42704", "nope"),
    "empty model": ({"model": ""}, "42704", "model"),
    "unknown capture": ({"capture": "magic"}, "22023", "magic"),
    "capture that the server cannot": ({"capture": "cdc"}, "55000", "wal_level"),
    "NULL capture": ({"capture": None}, "22023", "capture"),
    "unknown only_if": ({"only_if": "nope"}, "42703", "nope"),
    "only_if of another type": ({"only_if": "n"}, "42804", "n"),
    "empty only_if": ({"only_if": ""}, "42703", "docs"),
    "view name taken by a table": ({"name": "taken"}, "42P07", "taken_embedding"),
    "view name taken by a type": ({"name": "typed"}, "42710", "typed_embedding"),
    "view name of the source": ({"view_name": "docs"}, "42P07", "docs"),
    "empty view name": ({"view_name": ""}, "42602", "view"),
    "name exists": ({"name": "there"}, "42710", "there"),
}
CHUNKERS = [
    {}, [], "text", 5, True, {"chunker": "magic"}, {"chunker": None}, {"size": 800, "overlap": 0},
    {"chunker": "none", "size": 5}, {"chunker": "text", "size": 800, "overlap": 0, "more": 1},
    {"chunker": "text", "size": 0, "overlap": 0}, {"chunker": "text", "size": 10, "overlap": 6},
    {"chunker": "text", "size": "800", "overlap": 0}, {"chunker": "text", "size": True, "overlap": False},
    {"chunker": "text", "size": 1.5, "overlap": 0}, {"chunker": "markdown", "size": 800},
    {"chunker": "markdown", "size": 0, "context": True}, {"chunker": "html", "size": 800, "context": 1},
    {"chunker": "html", "size": True, "context": True},
    {"chunker": "html", "size": 800, "context": False, "overlap": 0},
]  # fmt: skip
OPTIONS = [
    [], 5, "text", {"nope": 1}, {"": 1}, {"max_attempts": 0}, {"max_attempts": "3"}, {"max_attempts": True},
    {"max_attempts": 1.5}, {"on_too_long": "explode"}, {"on_too_long": []}, {"live_share": 0}, {"live_share": {}},
    {"live_share": 10**400}, {"daily_tokens": 0}, {"daily_cost": "1"},
]  # fmt: skip
CREATE = """
SELECT embed_create(%(name)s, %(source)s::regclass, columns => %(columns)s, template => %(template)s,
    model => %(model)s, chunker => %(chunker)s, capture => %(capture)s, backfill => %(backfill)s,
    view_name => %(view_name)s, only_if => %(only_if)s, options => %(options)s)
"""
GOOD = {
    "name": "docs", "source": "docs", "columns": ["body"], "template": None, "model": "hash8", "chunker": None,
    "capture": "trigger", "backfill": True, "view_name": None, "only_if": None, "options": "{}",
}  # fmt: skip


@pytest.fixture
def tables(db):
    hash_model(db)
    db.execute(TABLES)
    db.execute("SELECT embed_create('there', 'docs', columns => '{title}', model => 'hash8')")


def test_every_bad_argument_is_refused(db, tables):
    found = {}
    for name, (arguments, state, named) in BAD.items():
        got, wrong = complaint(db, db, CREATE, GOOD | arguments)
        if wrong is None and got != state:
            wrong = f"{got or 'no error'} for {state}"
        if wrong is None and named not in refused(db, CREATE, GOOD | arguments).diag.message_primary:
            wrong = f"the message does not name {named}"
        if wrong:
            found[name] = wrong
    # Postgres' own error, before our function is called, needs no HINT of ours
    assert found.pop("unknown source").startswith("no HINT: 42P01")
    agree(found, {})
    db.execute(CREATE, GOOD)  # and what is good is not refused


def test_every_bad_chunker_and_option_is_refused(db, tables):
    found = {}
    for chunker in CHUNKERS:
        found[f"chunker {chunker}"] = complaint(db, db, CREATE, GOOD | {"chunker": json.dumps(chunker)})
    for options in OPTIONS:
        found[f"options {str(options)[:60]}"] = complaint(db, db, CREATE, GOOD | {"options": json.dumps(options)})
        alter = "SELECT embed_alter('there', %s)"
        found[f"alter {str(options)[:60]}"] = complaint(db, db, alter, [json.dumps(options)])
    for size, overlap in ((0, 0), (-1, 0), (2**31 - 1, 0), (10, 6), (10, -1), (None, 0), (10, None)):
        chunk = "SELECT embed_chunk_text(%s, %s)"
        found[f"embed_chunk_text {size} {overlap}"] = complaint(db, db, chunk, [size, overlap])
    for size in (0, -1, 2**31 - 1, None):
        for kind in ("markdown", "html"):
            found[f"{kind} {size}"] = complaint(db, db, f"SELECT embed_chunk_{kind}(%s)", [size])
    agree(found, dict.fromkeys(found, ("22023", None)))


def test_ninety_columns_and_no_more(db):
    hash_model(db)
    names = [f"c{i}" for i in range(120)]
    db.execute(f"CREATE TABLE wide (id int PRIMARY KEY, {', '.join(n + ' text' for n in names)})")
    create = "SELECT embed_create('wide', 'wide', columns => %s, model => 'hash8')"
    assert refused(db, create, [names]).sqlstate == "54011"
    db.execute(create, [names[:90]])
    db.execute("INSERT INTO wide (id, c0, c89) VALUES (1, 'first', 'last')")
    db.execute("SELECT embed_drain()")
    assert db.execute("SELECT chunk FROM wide_embedding").fetchone() == ("first\n\nlast",)


def test_names_of_exactly_63_bytes(db, docs):
    hash_model(db)
    for name in ("x" * 63, "漢" * 21):
        db.execute("SELECT embed_create(%s, 'docs', columns => '{body}', model => 'hash8', view_name => 'v')", [name])
        db.execute("SELECT embed_drain()")
        assert len(db.execute("SELECT FROM embed_search(%s, 'q', k => 99)", [name]).fetchall()) == 10
        db.execute("SELECT embed_drop(%s, keep_embeddings => true)", [name])
    kept = db.execute("SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace")
    assert kept.fetchone() == (3,)


def test_a_failed_create_in_a_transaction_leaves_nothing_after_a_savepoint(db, connect, docs):
    hash_model(db)
    session = connect(autocommit=False)
    session.execute("SAVEPOINT s")
    session.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')")
    session.execute("ROLLBACK TO s")
    session.commit()
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title}', model => 'hash8')")
    assert db.execute("SELECT columns FROM embed_pipelines").fetchone() == (["title"],)


@pytest.mark.parametrize("kind", ["VIEW", "MATERIALIZED VIEW"])
def test_the_refusal_of_a_view_says_what_to_do_instead(db, docs, kind):
    db.execute(f"CREATE {kind} tickets AS SELECT * FROM docs")
    error = refused(db, "SELECT embed_create('tickets', 'tickets', columns => '{body}')")
    page = error.diag.message_hint.rpartition("see ")[2].rstrip(".")
    assert (PROJECT / page).exists()
