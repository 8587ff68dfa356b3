"""A restored or cloned database continues where the dumped one was: same vectors, pending work and columns."""

from typing import Any

import psycopg
import psycopg.conninfo
import pytest

from tests.fixtures.dumps import Place, contents, drain, dump, verified
from tests.fixtures.pipelines import two_models
from tests.fixtures.pipelines.sample_database import goes_on, make_lively, once_each, status, work_and_vectors

Connection = psycopg.Connection[tuple[Any, ...]]

PLACES = [Place("same", "plain"), Place("same", "custom"), Place("other", "custom"), Place("other", "plain")]


@pytest.fixture
def source(db, model, provider) -> Connection:
    """Three drained pipelines, one dead letter, and changes that wait."""
    make_lively(db, provider)
    return db


@pytest.mark.few(1)
@pytest.mark.parametrize("place", PLACES, ids=lambda place: f"{place.cluster}-cluster-{place.means}")
def test_a_restored_database_goes_on_where_the_dump_stood(source, move, provider, place):
    restored = move(place)
    assert work_and_vectors(restored) == work_and_vectors(source)
    once_each(restored)
    assert status(restored) == status(source)
    view = "SELECT id, chunk, embedding::text, is_stale FROM docs_embedding ORDER BY id, chunk_no"
    assert restored.execute(view).fetchall() == source.execute(view).fetchall()
    goes_on(restored, provider)
    once_each(restored)


def test_a_cloned_database_goes_on_and_leaves_the_other_alone(dsn, source, clone, provider):
    before = contents(source)
    source.close()
    goes_on(cloned := clone(), provider)
    once_each(cloned)
    with psycopg.connect(dsn, autocommit=True) as original:
        assert contents(original) == before
        goes_on(original, provider)


def test_numbers_go_on_after_a_restore(source, move):
    """What is made there takes no number, and no table, that was restored."""
    restored = move(Place("other", "custom"))
    restored.execute("SELECT embed_model_add('another', 'hash', 8)")
    restored.execute("CREATE TABLE more (id int PRIMARY KEY, body text); INSERT INTO more VALUES (1, 'a')")
    restored.execute("SELECT embed_create('more', 'more', columns => '{body}', model => 'another')")
    drain(restored)
    assert verified(restored, "more") == {"fresh": 1}


def test_a_bridge_is_restored(db, docs, provider, move):
    two_models.serve_both(db, provider)
    two_models.build_both(db)
    recall = db.execute("SELECT recall FROM embed_bridge('docs')").fetchone()
    two_models.switch_off_old(provider)
    search = "SELECT key, score FROM embed_search('docs', %s)"
    before = db.execute(search, (two_models.QUESTION,)).fetchall()
    restored = move(Place("other", "custom"))
    assert restored.execute("SELECT bridge_recall FROM embed_generations WHERE state = 'building'").fetchone() == recall
    assert restored.execute(search, (two_models.QUESTION,)).fetchall() == before


def test_a_dump_carries_what_belongs_to_pipelines_and_no_member(source, cluster, dsn, tmp_path):
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    text = dump(cluster, name, tmp_path, "plain").read_text()
    functions = source.execute(
        "SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'embed_store'::regnamespace"
    ).fetchall()
    assert len(functions) == 3 * 6
    for (function,) in functions:
        assert f"CREATE FUNCTION {function.split('(')[0]}(" in text
    assert text.count(" SUPPORT embed.extension_member\n") == 3 * 6  # they go with the extension there too
    for number in (1, 2, 3):
        assert f"CREATE TABLE embed_store.g{number} (" in text
    assert "CREATE VIEW public.docs_embedding" in text
    assert "CREATE TABLE embed." not in text
    assert "CREATE EVENT TRIGGER" not in text


def test_no_column_has_a_type_that_pg_upgrade_refuses(source):
    found = source.execute(
        "SELECT a.attrelid::regclass, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
        " JOIN pg_type t ON t.oid = a.atttypid"
        " WHERE c.relnamespace IN ('embed'::regnamespace, 'embed_store'::regnamespace) AND a.attnum > 0"
        " AND t.typname IN ('regcollation', 'regconfig', 'regdictionary', 'regnamespace', 'regoper', 'regoperator',"
        "                   'regproc', 'regprocedure', 'aclitem', 'unknown', 'sql_identifier')"
    ).fetchall()
    assert found == []
