"""What `evergreen import pgai` refuses before anything is changed, and whom."""

import json

import psycopg
import pytest

from tests.fixtures import pgai_catalog
from tests.fixtures.pgai_catalog import config, recursive, template
from tests.fixtures.pipelines.documents import drain_all, source_texts
from tests.fixtures.pipelines.freshness import assert_fresh
from tests.fixtures.roles import people
from tests.stress.pgai.command import FRAME, imported, refused

pytestmark = pytest.mark.stress

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
