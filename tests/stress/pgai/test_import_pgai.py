"""`evergreen import pgai`: what is still as pgai embedded it costs nothing; what cannot be had is refused at once."""

import json
import subprocess

import pytest
from psycopg import sql

from tests.fixtures import pgai_catalog
from tests.fixtures.error_checks import everything
from tests.fixtures.pgai_catalog import config, recursive, template
from tests.fixtures.pipelines.documents import assert_as_source, drain_all, source_texts
from tests.fixtures.pipelines.freshness import assert_fresh, drain, status
from tests.fixtures.stress import WORK, Team
from tests.fixtures.waiting import wait_until
from tests.stress.pgai.command import EVERGREEN, FRAME, Done, imported, refused, run

pytestmark = pytest.mark.stress

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
