"""`evergreen import pgai`: what is still as pgai embedded it costs nothing; what cannot be had is refused at once."""

import io
import json
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
from psycopg import sql

from evergreen_host.cli import app
from evergreen_host.errors import EvergreenError
from tests.fixtures import pgai_catalog
from tests.fixtures.error_checks import everything
from tests.fixtures.pgai_catalog import config, recursive, template
from tests.fixtures.pipelines.documents import assert_as_source, drain_all, source_texts
from tests.fixtures.pipelines.freshness import assert_fresh, drain, status
from tests.fixtures.roles import people
from tests.fixtures.stress import WORK, Team
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.stress


EVERGREEN = Path(sys.executable).with_name("evergreen")
FRAME = {"formatting": template("$title\n\n$chunk")}


class Done(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    error: str


def run(dsn, *args):
    """In this process: most of a command's time is its start."""
    out = io.StringIO()
    with redirect_stdout(out):
        try:
            app(["import", "pgai", "--dsn", dsn, *args], standalone_mode=False)
        except EvergreenError as error:
            return Done(error.exit_code, out.getvalue(), f"{error}\nhint: {error.hint}" if error.hint else str(error))
    return Done(0, out.getvalue(), "")


def imported(dsn, *args):
    """Import, and return what it says in JSON."""
    done = run(dsn, "--json", *args)
    assert done.code == 0, done
    return json.loads(done.out)


def refused(db, dsn, *args):
    """An import that must be refused before anything is changed; returns what it said."""
    before = everything(db)
    done = run(dsn, *args)
    assert done.code == 1, done
    assert "hint:" in done.error
    assert everything(db) == before
    return done.error


@pytest.fixture
def served(db, provider):
    """pgai's model, as ours."""
    provider.register(db, "m", send_dimensions=True)
    return "m"


@pytest.fixture
def vectorizer(db, docs, served):
    """A vectorizer of docs that has embedded rows 1 to 8; then 2 was edited, 3 deleted, 11 added."""
    db.execute("ALTER TABLE docs ALTER title SET NOT NULL")
    made = pgai_catalog.make(db, "docs", config(**FRAME), name="docs_vectorizer")
    texts = source_texts(db)
    pgai_catalog.embedded(db, "docs", [(key, [texts[key]]) for key in range(1, 9)])
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 2")
    db.execute("DELETE FROM docs WHERE id = 3")
    db.execute("INSERT INTO docs VALUES (11, 'title 11', 'body 11')")
    return made


CHANGED = (2, 9, 10, 11)


def test_only_what_is_stale_or_new_is_sent(db, dsn, vectorizer, provider):
    said = imported(dsn)
    assert (said["chunks"], said["imported"], said["to_embed"], said["dropped"]) == (8, 8, 4, False)
    assert status(db, "docs").fresh == 0  # nothing is fresh on anybody's word
    drain_all(db)
    texts = source_texts(db)
    assert provider.sent == {texts[key]: 1 for key in CHANGED}
    view = db.execute("SELECT view::text FROM embed_pipelines").fetchone()[0]
    assert view == "docs_evergreen"  # docs_embedding is pgai's
    db.execute("DROP VIEW docs_embedding; ALTER VIEW docs_evergreen RENAME TO docs_embedding")
    assert_as_source(db)
    db.execute("UPDATE docs SET body = 'body 2' WHERE id = 2")  # as pgai knew it
    drain_all(db)
    assert sum(provider.sent.values()) == len(CHANGED)


def test_it_may_be_done_again_at_any_point(db, dsn, vectorizer, provider):
    imported(dsn)
    again = imported(dsn)
    assert (again["imported"], again["to_embed"]) == (8, 4)
    drain_all(db)
    assert imported(dsn)["to_embed"] == 0
    assert status(db, "docs").state == "active"
    assert sum(provider.sent.values()) == len(CHANGED)


def test_an_import_that_was_broken_off_goes_on(db, dsn, vectorizer, provider):
    imported(dsn)
    db.execute("SELECT embed_pause('docs'); DELETE FROM embed.cache")  # as if it had got no further than this
    assert drain(db) == 0
    assert imported(dsn)["to_embed"] == 4
    assert status(db, "docs").state == "active"
    assert_fresh(db, "docs", 10)
    assert sum(provider.sent.values()) == len(CHANGED)
    db.execute("SELECT embed_pause('docs')")  # by another session
    imported(dsn)
    assert status(db, "docs").state == "paused"


def test_workers_that_run_meanwhile_are_not_quicker(db, dsn, vectorizer, provider, connect):
    """They see the pipeline when its vectors are there, and not before."""
    team = Team(connect, [WORK, WORK])
    try:
        imported(dsn)
        wait_until(lambda: status(db, "docs").fresh == 10, what="fresh rows")
    finally:
        team.stop()
    assert provider.sent == {source_texts(db)[key]: 1 for key in CHANGED}


def test_a_dry_run_changes_nothing(db, dsn, vectorizer):
    before = everything(db)
    said = imported(dsn, "--dry-run")
    assert everything(db) == before
    assert "embed_create('docs'" in said["call"]
    lines = run(dsn, "--dry-run").out
    assert "8 chunks" in lines
    assert "nothing was changed" in lines
    db.execute(said["call"])  # what it prints can be typed
    assert status(db, "docs").state == "active"


def test_chunks_are_found_where_pgai_cut_them(db, dsn, served, provider):
    db.execute("CREATE TABLE wiki (id int PRIMARY KEY, title text NOT NULL, body text)")
    body = "One sentence. Another one!\n\nA paragraph that is longer than the others are."
    db.execute("INSERT INTO wiki VALUES (1, 'T', %s), (2, 'U', NULL), (3, 'V', 'short')", (body,))
    pgai_catalog.make(db, "wiki", config(chunking=recursive(30, 15), formatting=template("${title}: $chunk ($$)")))
    # As langchain-text-splitters cuts it.
    chunks = [
        "One sentence. Another one!",
        "A paragraph that is longer",
        "that is longer than the",
        "than the others are",
        ".",
    ]
    pgai_catalog.embedded(db, "wiki", [(1, [f"T: {chunk} ($)" for chunk in chunks]), (3, ["V: short ($)"])])
    assert imported(dsn)["to_embed"] == 0
    drain_all(db)
    shown = db.execute("SELECT id, chunk FROM wiki_evergreen ORDER BY id, chunk_no").fetchall()
    assert shown == [*((1, f"T: {chunk} ($)") for chunk in chunks), (3, "V: short ($)")]
    assert provider.requests == []
    assert_fresh(db, "wiki", 3)
    db.execute("UPDATE wiki SET body = replace(body, 'Another', 'A third') WHERE id = 1")
    assert_fresh(db, "wiki", 3)
    assert provider.sent == {"T: One sentence. A third one! ($)": 1}


def test_a_separator_stays_where_langchain_leaves_it(db, dsn, served, provider):
    db.execute("CREATE TABLE wiki (id int PRIMARY KEY, body text)")
    db.execute("INSERT INTO wiki VALUES (1, 'a, b, c, d, longer than ten, e')")
    chunking = {
        "implementation": "character_text_splitter", "chunk_size": 10, "chunk_overlap": 4, "separator": ", ",
        "is_separator_regex": True,  # though it is none
    }  # fmt: skip
    pgai_catalog.make(db, "wiki", config(chunking=chunking))
    pgai_catalog.embedded(db, "wiki", [(1, ["a, b, c, d", "longer than ten", "e"])])
    assert imported(dsn)["to_embed"] == 0
    drain_all(db)
    assert provider.requests == []


def test_where_a_text_is_not_what_pgai_wrote_it_is_embedded_again(db, dsn, docs, served, provider):
    """NULL is None in Python; the note says so, and such a vector is not taken for one of our text."""
    db.execute("UPDATE docs SET title = NULL WHERE id = 1")
    pgai_catalog.make(db, "docs", config(**FRAME))
    texts = source_texts(db) | {1: "None\n\nbody 1"}
    pgai_catalog.embedded(db, "docs", [(key, [text]) for key, text in texts.items()])
    assert "where column title is NULL" in run(dsn).out
    drain_all(db)
    assert provider.sent == {"\n\nbody 1": 1}


def test_hostile_names(db, dsn, served, provider):
    schema, table, view = 'Sch"ema %s {x}', "Ta'ble $1 ;--", "v'iew {y} %s"
    names = {
        "schema": sql.Identifier(schema),
        "table": sql.Identifier(schema, table),
        "view": sql.Identifier(schema, view),
    }

    def do(statement):
        return db.execute(sql.SQL(statement).format(**names))

    do("CREATE SCHEMA {schema}")
    do("""CREATE TABLE {table} ("k""ey" text, "né" timestamptz, "bo dy" text, PRIMARY KEY ("né", "k""ey"))""")
    do("""INSERT INTO {table} VALUES ($$"a'$$, '2024-05-01 12:00+02', 'one'), ('b', 'infinity', 'two')""")
    pgai_catalog.make(db, table, config("bo dy"), schema=schema)
    chunks = [(("\"a'", "2024-05-01 12:00+02"), ["one"]), (("b", "infinity"), ["was two"])]
    pgai_catalog.embedded(db, table, chunks, schema=schema)
    said = imported(dsn, "--view", view)
    assert (said["pipeline"], said["to_embed"]) == (table, 1)
    assert_fresh(db, table, 2)
    assert provider.sent == {"two": 1}
    (key,) = do("SELECT key FROM {view} WHERE chunk = 'two'").fetchone()
    db.execute("SELECT embed_forget(%s, %s)", (table, json.dumps(key)))  # and what pgai had of it
    assert db.execute("SELECT count(*) FROM embed.cache WHERE key = %s::jsonb", (json.dumps(key),)).fetchone() == (0,)


def test_the_vectorizer_is_dropped_when_all_is_taken(db, dsn, vectorizer, provider):
    assert imported(dsn, "--drop")["dropped"] is True
    assert db.execute("SELECT count(*) FROM ai.vectorizer").fetchone() == (0,)
    assert db.execute("SELECT count(*) FROM docs_embedding").fetchone() == (
        8,
    )  # what is paid for stays, and its readers
    triggers = db.execute("SELECT tgname FROM pg_trigger WHERE tgrelid = 'docs'::regclass AND tgname !~ '^evergreen'")
    assert triggers.fetchall() == []
    assert "pgai has no vectorizer in this database" in refused(db, dsn)
    assert_fresh(db, "docs", 10)


def test_it_is_not_dropped_when_something_is_left(db, dsn, vectorizer, provider):
    db.execute("UPDATE embed.model SET options = options || '{\"input_tokens\": 10}'")
    long = "x" * 100
    db.execute("INSERT INTO docs VALUES (12, '', %s)", (long,))
    pgai_catalog.embedded(db, "docs", [(12, [f"\n\n{long}"])])
    done = run(dsn, "--drop")
    assert done.code == 0
    assert "the vectorizer stays" in done.out
    assert "ai.drop_vectorizer(" in done.out
    assert db.execute("SELECT count(*) FROM ai.vectorizer").fetchone() == (1,)


def test_dropping_waits_for_no_writer(db, dsn, vectorizer, connect, monkeypatch):
    """Writers would wait behind it."""
    monkeypatch.setattr("evergreen_host.importers.vectors._LOCK_ATTEMPTS", 3)
    imported(dsn)
    writer = connect(autocommit=False)
    writer.execute("UPDATE docs SET n = 1 WHERE id = 1")
    done = run(dsn, "--drop")
    assert done.code == 1
    assert "other sessions keep writing" in done.error
    writer.rollback()
    assert db.execute("SELECT count(*) FROM ai.vectorizer").fetchone() == (1,)
    assert imported(dsn, "--drop")["dropped"] is True


URI = {"loading": {"implementation": "uri", "column_name": "body"}}
COLUMN = {"destination": {"implementation": "column", "embedding_column": "v"}}
VOYAGE = {"embedding": {"implementation": "voyageai", "model": "m", "dimensions": 8, "input_type": "query"}}
LITELLM = {"embedding": {"implementation": "litellm", "model": "voyage/m", "dimensions": 8}}
UNKNOWN = {"embedding": {"implementation": "sentence_transformers", "model": "m", "dimensions": 8}}
WHY_NOT = [
    (config(**URI), "loads documents"),
    (config("blob"), "parses the documents"),
    (config("gone"), "does not exist any more"),
    (config(**COLUMN), "column of the table itself"),
    (config(chunking=recursive(30, 0, [r"\s+"]) | {"is_separator_regex": True}), "regular expressions"),
    (config(chunking=recursive(30, 16)), "overlap by 16 of 30"),
    (config(chunking={"implementation": "semantic"}), "chunking semantic"),
    (config(formatting={"implementation": "jinja"}), "formatting jinja"),
    (config(formatting=template("${chunk}s")), "right after $chunk"),
    (config(formatting=template("$nope $chunk")), '"nope"'),
    (config(formatting=template(r"$title\n$chunk")), "backslash"),
    (config(**VOYAGE), 'input_type "query"'),
    (config(**LITELLM), "input_type null"),
    (config(**UNKNOWN), "sentence_transformers"),
]


def test_what_cannot_be_taken_over_is_refused_before_anything_is_changed(db, dsn, docs, served):
    db.execute("ALTER TABLE docs ADD blob bytea")
    number = pgai_catalog.make(db, "docs", config())
    (made,) = db.execute("SELECT config FROM ai.vectorizer").fetchone()
    for configuration, why in WHY_NOT:
        db.execute("UPDATE ai.vectorizer SET config = %s", (json.dumps(made | configuration),))
        assert why in refused(db, dsn), why
        assert why in refused(db, dsn, "--dry-run"), why
    db.execute("UPDATE ai.vectorizer SET config = config - 'loading'")
    assert "before 0.10" in refused(db, dsn, "--vectorizer", str(number))


def test_which_vectorizer(db, dsn, vectorizer):
    assert 'vectorizer "nope" does not exist' in refused(db, dsn, "--vectorizer", "nope")
    db.execute("CREATE TABLE other (id int PRIMARY KEY, body text)")
    pgai_catalog.make(db, "other", config(), name="others")
    assert "others" in refused(db, dsn)
    assert imported(dsn, "--vectorizer", "docs_vectorizer", "--dry-run")["vectorizer"] == vectorizer
    assert imported(dsn, "--vectorizer", str(vectorizer), "--dry-run")["vectorizer"] == vectorizer
    db.execute("DROP TABLE other CASCADE")
    assert "does not exist" in refused(db, dsn, "--vectorizer", "others")


def test_as_one_runs_it(db, dsn, vectorizer, cluster):
    def typed(*args):
        command = [EVERGREEN, "import", "pgai", "--dsn", *args]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        return Done(done.returncode, done.stdout, done.stderr)

    assert typed(cluster.dsn("template1")).code == 3
    wrong = typed(dsn, "--vectorizer", "nope")
    assert (wrong.code, wrong.out) == (1, "")
    assert wrong.error.startswith('evergreen: vectorizer "nope" does not exist\n  hint: ')
    done = typed(dsn)
    assert (done.code, done.error) == (0, "")
    assert "ok imported 8 of 8 vectors" in done.out


def test_a_database_without_pgai(db, dsn):
    assert "has no pgai" in refused(db, dsn)


def test_the_model_is_the_same_or_it_is_said_how_to_register_it(db, dsn, docs, provider):
    pgai_catalog.make(db, "docs", config(**FRAME))
    texts = source_texts(db)
    pgai_catalog.embedded(db, "docs", [(key, [text]) for key, text in texts.items()])
    told = refused(db, dsn)
    assert "embed_endpoint_set('openai', 'https://api.openai.com/v1', secret => 'KEY')" in told
    assert """embed_model_add('m', 'openai', 8, endpoint => 'openai', options => '{"send_dimensions": true}')""" in told
    assert 'endpoint "here" does not exist' in refused(db, dsn, "--endpoint", "here")
    assert 'model "nope" does not exist' in refused(db, dsn, "--model", "nope")
    db.execute("SELECT embed_model_add('m', 'hash', 16)")  # its name is taken
    assert "has 16 dimensions" in refused(db, dsn, "--model", "m")
    assert "256" in refused(db, dsn, "--model", "wordllama-256")
    db.execute("SELECT embed_endpoint_set('here', %s)", (provider.url,))
    options = '{"document_prompt": "passage: "}'
    db.execute("SELECT embed_model_add('p', 'openai', 8, 'm', 'here', %s)", (options,))
    assert "prompt" in refused(db, dsn, "--model", "p")
    db.execute("SELECT embed_model_add('q', 'openai', 8, 'other', 'here')")
    assert "is other of openai" in refused(db, dsn, "--model", "q")
    assert imported(dsn, "--endpoint", "here")["to_embed"] == 0
    drain_all(db)
    assert provider.requests == []
    found = db.execute("SELECT model, remote_name, options FROM embed_models WHERE model ~ '^m-'").fetchone()
    assert found == ("m-8", "m", {"send_dimensions": True})


def test_vectors_of_another_size_than_is_said(db, dsn, vectorizer):
    db.execute("DROP VIEW docs_embedding; DELETE FROM docs_embedding_store")
    db.execute("ALTER TABLE docs_embedding_store ALTER embedding TYPE vector(7)")
    assert "the vectors have 7 dimensions" in refused(db, dsn)


def test_vectors_that_would_not_be_kept_long_enough(db, dsn, vectorizer):
    db.execute("SELECT embed_setting('cache_retention', '1 hour')")
    assert "cache_retention is 1 hour" in refused(db, dsn)


def test_a_name_that_another_pipeline_has(db, dsn, vectorizer):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title}', view_name => 'mine')")
    assert "with a different" in refused(db, dsn)
    assert imported(dsn, "--name", "moved")["pipeline"] == "moved"


def test_who_may(db, dsn, vectorizer, provider):
    people(db)
    as_role = f"{dsn} options='-c role={{}}'"
    assert "permission denied" in refused(db, as_role.format("bob"))
    db.execute("GRANT USAGE ON SCHEMA ai TO PUBLIC; GRANT SELECT ON ai.vectorizer TO PUBLIC")
    for name in ("bob", "the_worker", "the_payer"):
        assert "GRANT embed_admin" in refused(db, as_role.format(name))
    told = refused(db, as_role.format("the_admin"))
    assert "GRANT SELECT ON" in told
    db.execute("GRANT SELECT ON docs_embedding_store TO the_admin")
    assert imported(as_role.format("the_admin"))["to_embed"] == 4
    assert db.execute("SELECT owner FROM embed_pipelines").fetchone() == ("postgres",)


def test_extensions_in_schemas_of_their_own(cluster, provider):
    with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE import_elsewhere")
    dsn = cluster.dsn("import_elsewhere")
    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute('CREATE SCHEMA "Ever green"; CREATE SCHEMA vec')
        db.execute('CREATE EXTENSION vector SCHEMA vec; CREATE EXTENSION evergreen SCHEMA "Ever green" CASCADE')
        db.execute('SET search_path = public, "Ever green", vec')
        db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text); INSERT INTO docs VALUES (1, 'one'), (2, 'two')")
        provider.register(db, "m")
        pgai_catalog.make(db, "docs", config())
        pgai_catalog.embedded(db, "docs", [(1, ["one"])])
        assert imported(dsn, "--drop")["to_embed"] == 1
        assert_fresh(db, "docs", 2)
        assert provider.sent == {"two": 1}
