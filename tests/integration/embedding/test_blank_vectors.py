"""Vectors to which no distance can be computed: all zeros, too short or too long for float32, beyond half precision.

From a model such a vector is a bad answer, like NaN: its text alone is suspect. The built-in model gives zeros for a
text of which it knows no token; its row is fresh, no search finds it, and as a question it finds nothing.
"""

import json
import math

import numpy as np
import psycopg
import pytest

from evergreen.storage.chunks import is_zero, vector_literal
from tests.fixtures.error_checks import refused
from tests.fixtures.pipelines.documents import drain_all, drain_once, shown
from tests.fixtures.providers import faults
from tests.fixtures.roles import hash_model

pytestmark = pytest.mark.shared_database

BAD = {
    "zeros": [0.0] * 8,
    "negative zeros": [-0.0] * 8,
    "denormal": [1e-40] * 8,
    "length that vanishes when it is squared": [1e-25] * 8,
    "length that overflows when it is squared": [1e25] * 8,
    "one component that overflows": [0.0] * 7 + [-3e19],
    "NaN as a text": ["NaN"] * 8,
}


def only(text, bad):
    """A fault: one text has a bad vector."""
    return faults.each(lambda _: bad, lambda given: given == text)


@pytest.mark.slow
@pytest.mark.parametrize("provider_name", ["openai", "ollama"])
def test_a_text_with_a_bad_vector_is_alone_with_it(db, docs, provider, provider_name):
    provider.register(db, provider=provider_name)
    bad = dict(zip([f"body {i}" for i in range(1, 8)], BAD.values(), strict=True))
    for text, given in bad.items():
        provider.fail(only(text, given))
    options = '{"max_attempts": 1}'
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop', options => %s)", (options,))
    drain_once(db)
    assert sorted(shown(db)) == [8, 9, 10]
    failed = dict(db.execute("SELECT (key ->> 0)::int, message FROM embed_failures").fetchall())
    assert sorted(failed) == list(range(1, 8))
    assert all("for a text" in message for message in failed.values()), failed
    for text in bad:
        with pytest.raises(psycopg.Error) as found:
            db.execute("SELECT embed_query('docs', %s)", (text,))
        assert found.value.sqlstate == "58000"


@pytest.mark.slow
def test_a_model_that_gives_zeros_for_everything_rests(db, docs, provider):
    provider.register(db)
    provider.fail(faults.each(lambda _: [0.0] * 8))
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
    drain_once(db)
    assert db.execute("SELECT pending, failed, fresh FROM embed_status").fetchone() == (10, 0, 0)
    assert "zeros" in db.execute("SELECT last_error FROM embed_status").fetchone()[0]


@pytest.mark.slow
def test_zeros_of_a_function_are_a_bad_answer(db, docs):
    db.execute(
        "CREATE FUNCTION zeros(text[]) RETURNS vector[] LANGUAGE sql AS"
        " $$ SELECT array_agg(CASE t WHEN 'body 7' THEN '[0,0]' ELSE '[1,2]' END::vector) FROM unnest($1) t $$"
    )
    db.execute("SELECT embed_model_add('f', 'function', 2, 'public.zeros')")
    options = '{"max_attempts": 1}'
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'f', options => %s)", (options,))
    drain_all(db)
    assert db.execute("SELECT key FROM embed_failures").fetchall() == [([7],)]
    assert sorted(shown(db)) == [i for i in range(1, 11) if i != 7]


@pytest.mark.fresh_database
@pytest.mark.slow
@pytest.mark.parametrize(("bad", "word"), [([7e4] + [0.0] * 7, "65504"), ([1e-9] * 8, "round them to zero")])
def test_what_half_precision_cannot_hold_fails_alone(db, docs, provider, bad, word):
    """PostgreSQL would refuse to put it into the index, and the whole batch with it, or to build the index at all."""
    provider.register(db)
    provider.fail(only("body 7", bad))
    for name, storage in (("docs", "halfvec"), ("whole", "vector")):
        call = "SELECT embed_create(%s, 'docs', columns => '{body}', model => 'loop', options => %s)"
        db.execute(call, (name, f'{{"storage": "{storage}"}}'))
    db.execute("SELECT embed_setting('index_from', '5')")
    db.execute("CALL embed_work(until_empty => true)")
    db.execute("CALL embed_work(until_idle => true)")
    assert db.execute("SELECT DISTINCT indexed FROM embed_generations").fetchall() == [(True,)]
    assert sorted(shown(db, "whole")) == list(range(1, 11))
    assert sorted(shown(db, "docs")) == [i for i in range(1, 11) if i != 7]
    ((key, message),) = db.execute("SELECT key, message FROM embed_failures").fetchall()
    assert key == [7]
    assert word in message
    db.execute("UPDATE docs SET body = 'mended' WHERE id = 7")
    db.execute("CALL embed_work(until_empty => true)")
    assert sorted(shown(db, "docs")) == list(range(1, 11))


@pytest.mark.slow
def test_zeros_from_outside_are_refused_with_what_to_type(db, docs):
    hash_model(db)
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')")
    claimed = db.execute("SELECT token, hash FROM embed_claim('docs', 10)").fetchall()
    token, hashes = claimed[0][0], [one for _, one in claimed]
    vectors = ["[1,2,3,4,5,6,7,8]"] * 9 + ["[0,0,0,0,0,0,0,0]"]
    submit = "SELECT embed_submit('docs', %s, %s, %s::text[]::vector[])"
    error = refused(db, submit, (token, hashes, vectors))
    assert error.sqlstate == "22023"
    release, _, _ = error.diag.message_hint.partition(";")
    assert db.execute(release).fetchone() == (1,)
    assert db.execute(submit, (token, hashes[:9], vectors[:9])).fetchone() == (9,)


@pytest.mark.slow
def test_zeros_are_not_imported(db, docs):
    hash_model(db)
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')")
    vectors = ["[0,0,0,0,0,0,0,0]", "[1,2,3,4,5,6,7,8]", "[1e-30,0,0,0,0,0,0,0]"]
    statement = "SELECT embed_import_vectors('docs', '{body 1,body 2,body 3}', %s::text[]::vector[], '{1,2,3}')"
    assert db.execute(statement, (vectors,)).fetchone() == (1,)
    drain_all(db)
    found = shown(db)
    assert found[2][1] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert all(any(found[i][1]) for i in (1, 3))


TEXTS = ["reset your password", "the weather in Oslo", "zebra"]
QUESTION = "how do I reset my password?"


@pytest.fixture
def claimed(db):
    """Submits vectors of the built-in model; its tokens cover every text, so two rows get those of the empty one."""
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text)")
    db.execute("INSERT INTO docs SELECT i, t FROM unnest(%s::text[]) WITH ORDINALITY u (t, i)", ([*TEXTS, "a", "b"],))

    def submit():
        claimed = db.execute("SELECT token, hash, text, model FROM embed_claim('docs', 10)").fetchall()
        hashes = [one for _, one, *_ in claimed]
        vectors = [
            db.execute("SELECT embed(%s, %s)::text", (text if text in TEXTS else "", model)).fetchone()[0]
            for _, _, text, model in claimed
        ]
        submit = "SELECT embed_submit('docs', %s, %s, %s::text[]::vector[])"
        assert db.execute(submit, (claimed[0][0], hashes, vectors)).fetchone() == (5,)

    return submit


@pytest.mark.few(2)
@pytest.mark.fresh_database
@pytest.mark.slow
@pytest.mark.parametrize(
    ("storage", "distance"),
    [
        *((None, distance) for distance in ("cosine", "l2", "ip")),
        ("vector", "l2"),
        ("halfvec", "cosine"),
        ("bit", "ip"),
    ],
)
def test_a_text_without_meaning_is_found_by_no_search(db, claimed, distance, storage):
    """``storage``: of the index; None for none."""
    options = {"distance": distance} | ({"storage": storage} if storage else {})
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', options => %s)", (json.dumps(options),))
    claimed()
    db.execute("SELECT embed_setting('index_from', %s)", ("1" if storage else "10000",))
    db.execute("CALL embed_work(until_idle => true)")
    assert db.execute("SELECT indexed FROM embed_generations").fetchone() == (storage is not None,)
    assert [any(numbers) for _, (_, numbers) in sorted(shown(db).items())] == [True] * 3 + [False] * 2
    assert db.execute("SELECT fresh, failed FROM embed_status").fetchone() == (5, 0)
    for mode in ("vector", "hybrid"):
        found = db.execute("SELECT key, score FROM embed_search('docs', %s, 10, %s)", (QUESTION, mode)).fetchall()
        assert sorted(key[0] for key, _ in found) == [1, 2, 3]
        assert not any(math.isnan(score) for _, score in found)
    assert db.execute("SELECT key FROM embed_search('docs', 'b', 1, 'keyword')").fetchall() == [([5],)]
    rows = db.execute("SELECT (s.row).id, score FROM embed_search_rows(NULL::docs, %s) s", (QUESTION,)).fetchall()
    assert sorted(number for number, _ in rows) == [1, 2, 3]
    assert not any(math.isnan(score) for _, score in rows)
    db.execute("SELECT embed_build('docs', model => 'wordllama-64')")
    claimed()
    ((_, overlap, active, building),) = db.execute("SELECT * FROM embed_compare('docs', %s)", ([QUESTION],)).fetchall()
    assert (overlap, sorted(active), sorted(building)) == (1.0, [[1], [2], [3]], [[1], [2], [3]])


def test_a_question_without_meaning_is_known_by_its_vector():
    assert is_zero(vector_literal(np.zeros(3, dtype=np.float32)))
    assert is_zero("[-0,0]")
    assert not is_zero(vector_literal(np.array([0, 1e-38, 0], dtype=np.float32)))
