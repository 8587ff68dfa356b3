"""filter, mode and max_per_key of embed_search and embed_search_rows."""

import json
from typing import Any

import pytest
from psycopg import errors

from tests.fixtures.pipelines.documents import drain_all
from tests.fixtures.roles import hash_model, people

pytestmark = pytest.mark.shared_database

MODES = ("vector", "keyword", "hybrid")


def found(db, conditions: Any, mode="vector", k=100, query="word", **options):
    more = "".join(f", {name} => {value}" for name, value in options.items())
    rows = db.execute(
        f"SELECT key FROM embed_search('docs', %s, k => %s, mode => %s, filter => %s{more})",
        (query, k, mode, json.dumps(conditions) if conditions is not None else None),
    )
    return [key[0] for (key,) in rows]


@pytest.fixture
def typed(db):
    """Ten rows with columns of many types."""
    hash_model(db)
    db.execute("CREATE EXTENSION IF NOT EXISTS citext")
    db.execute("CREATE TYPE mood AS ENUM ('sad', 'fair', 'glad'); CREATE DOMAIN short AS varchar(5)")
    db.execute(
        "CREATE TABLE docs (id int PRIMARY KEY, body text, n int, price numeric, lang varchar(2), name citext,"
        " feeling mood,"
        ' made timestamptz, tags text[], data jsonb, flag bool, "Odd "" name" short, place point, gone date)'
    )
    db.execute("""
        INSERT INTO docs SELECT i, 'word ' || i, i % 3, i / 4.0, (ARRAY['en', 'de', 'fr'])[i % 3 + 1], 'Name' || i,
            (ARRAY['sad', 'fair', 'glad'])[i % 3 + 1]::mood, '2024-01-01 UTC'::timestamptz + i * interval '1 day',
            ARRAY['a', i::text], jsonb_build_object('i', i), i % 2 = 0, 's' || i, point(i, i),
            CASE WHEN i > 5 THEN '2024-01-01'::date END
        FROM generate_series(1, 10) i""")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')")
    drain_all(db)


CONDITIONS = [
    (None, "true"),
    ({}, "true"),
    ({"n": 1}, "n = 1"),
    ({"n": {"ne": 1}}, "n <> 1"),
    ({"lang": ["en", "de"]}, "lang IN ('en', 'de')"),
    ({"lang": []}, "false"),
    ({"lang": {"in": ["fr"]}, "n": {"gte": 1, "lt": 3}}, "lang = 'fr' AND n >= 1 AND n < 3"),
    ({"price": {"gt": 1.25, "lte": 2}}, "price > 1.25 AND price <= 2"),
    ({"name": "nAME7"}, "id = 7"),
    ({"name": {"like": "name1%"}}, "id IN (1, 10)"),
    ({"lang": {"like": "_e"}}, "lang LIKE '_e'"),
    ({"feeling": {"gte": "fair"}}, "feeling >= 'fair'"),
    ({"made": {"lt": "2024-01-03T12:00:00Z"}}, "made < '2024-01-03 12:00 UTC'"),
    ({"tags": "{a,3}"}, "id = 3"),
    ({"tags": ["{a,3}", "{a,4}"]}, "id IN (3, 4)"),
    ({"data": {"i": 4}}, "id = 4"),
    ({"data": {"eq": {"i": 4}}}, "id = 4"),
    ({"flag": True}, "flag"),
    ({"flag": {"ne": True}}, "NOT flag"),
    ({'Odd " name': ["s1", "s2"]}, "id IN (1, 2)"),
    ({"gone": None}, "gone IS NULL"),
    ({"gone": {"ne": None}}, "gone IS NOT NULL"),
    ({"gone": [None, "2024-01-01"]}, "true"),
    ({"body": "x' OR true --"}, "false"),
]


@pytest.mark.parametrize("mode", MODES)
def test_conditions_mean_what_sql_would(db, typed, mode):
    for conditions, where in CONDITIONS:
        expected = sorted(number for (number,) in db.execute(f"SELECT id FROM docs WHERE {where}"))
        assert sorted(found(db, conditions, mode)) == expected, conditions
        rows = db.execute(
            "SELECT (s.row).id FROM embed_search_rows(NULL::docs, 'word', k => 100, mode => %s, filter => %s) s",
            (mode, json.dumps(conditions) if conditions is not None else None),
        ).fetchall()
        assert sorted(number for (number,) in rows) == expected, conditions


WRONG = [
    ({"nope": 1}, "42703", "nope"),
    ({"n": {"near": 1}}, "22023", "near"),
    ({"n": {"gt": None}}, "22023", "null"),
    ({"n": "many"}, "22P02", "many"),
    ({"n": 99999999999}, "22003", "99999999999"),
    ({"n": {"eq": [1]}}, "22023", "[1]"),
    ({"n": {"in": 1}}, "22023", "list"),
    ({"n": {"like": "1%"}}, "42883", "like"),
    ({"place": "(1,1)"}, "42883", "point"),
    ({"made": "yesterdayish"}, "22007", "yesterdayish"),
    ({"feeling": ["sad", "angry"]}, "22P02", "angry"),
    ([1], "22023", "object"),
    ("x", "22023", "object"),
    (5, "22023", "object"),
]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT FROM embed_search('docs', 'word', filter => %s)",
        "SELECT FROM embed_search_rows(NULL::docs, 'word', filter => %s)",
    ],
)
def test_wrong_filters_are_refused_with_a_hint(db, typed, statement):
    for conditions, sqlstate, says in WRONG:
        with pytest.raises(errors.Error) as caught:
            db.execute(statement, (json.dumps(conditions),))
        assert caught.value.sqlstate == sqlstate, conditions
        assert says in caught.value.diag.message_primary
        assert caught.value.diag.message_hint, conditions


def test_a_filter_has_the_callers_rights(db, connect, typed):
    people(db)
    bob = connect("bob")
    db.execute("GRANT SELECT (id, body) ON docs TO bob")
    with pytest.raises(errors.InsufficientPrivilege):
        found(bob, {"n": 1})
    db.execute("GRANT SELECT ON docs TO bob")
    assert sorted(found(bob, {"n": 1})) == [1, 4, 7, 10]
    db.execute("ALTER TABLE docs ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON docs USING (id < 5)")
    for mode in MODES:
        assert sorted(found(bob, {"n": 1}, mode)) == [1, 4]
        assert sorted(found(bob, None, mode)) == [1, 2, 3, 4]


def test_no_operator_or_cast_of_anothers_is_run(db, connect, typed):
    """The column's type has its input function and operators; one of the same name is another."""
    people(db)
    db.execute("GRANT SELECT ON docs TO bob")
    db.execute("CREATE FUNCTION public.mine(int, text) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RAISE ''run''; END'")
    db.execute("CREATE OPERATOR public.= (LEFTARG = int, RIGHTARG = text, FUNCTION = public.mine)")
    db.execute("CREATE FUNCTION public.likes(mood, mood) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RAISE ''run''; END'")
    db.execute("CREATE OPERATOR public.~~ (LEFTARG = mood, RIGHTARG = mood, FUNCTION = public.likes)")
    db.execute("CREATE FUNCTION public.convert(text) RETURNS mood LANGUAGE plpgsql AS 'BEGIN RAISE ''run''; END'")
    db.execute("CREATE CAST (text AS mood) WITH FUNCTION public.convert(text)")
    assert sorted(found(connect("bob"), {"n": 1})) == [1, 4, 7, 10]
    assert sorted(found(connect("bob"), {"feeling": "sad"})) == [3, 6, 9]
    assert sorted(found(connect("bob"), {"feeling": ["sad", "fair"]})) == [1, 3, 4, 6, 7, 9, 10]
    with pytest.raises(errors.UndefinedFunction):
        found(connect("bob"), {"feeling": {"like": "s%"}})


@pytest.fixture
def many(db, connect):
    """3,000 rows with both indexes; every tenth is of tenant 1, and five of tenant 2."""
    hash_model(db)
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text, tenant int)")
    db.execute(
        "INSERT INTO docs SELECT i, CASE WHEN i % 100 = 0 THEN 'needle ' ELSE 'hay ' END || 'word ' || i,"
        " CASE WHEN i % 600 = 0 THEN 2 WHEN i % 10 = 0 THEN 1 ELSE 0 END FROM generate_series(1, 3000) i"
    )
    db.execute("SELECT embed_setting('index_from', '1000')")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')")
    drain_all(db)
    connect().execute("CALL embed_work(until_empty => true)")
    assert db.execute("SELECT indexed FROM embed_generations").fetchone() == (True,)
    db.execute("ANALYZE")


def scans(db, index):
    db.execute("SELECT pg_stat_force_next_flush()")
    return db.execute("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname ~ %s", (index,)).fetchone()[0]


@pytest.mark.slow
def test_as_many_as_there_are_with_the_index(db, many):
    """By the index where many rows pass, and by the rows that pass where few do."""
    before = scans(db, "_embedding_idx")
    exact = db.execute(
        "SELECT array_agg(id) FROM (SELECT d.id FROM docs_embedding e JOIN docs d USING (id) WHERE tenant = 1"
        " ORDER BY embedding <=> (SELECT embed_query('docs', 'word')) OFFSET 0) d"
    ).fetchone()[0]
    assert scans(db, "_embedding_idx") == before
    near = found(db, {"tenant": 1}, k=20)
    assert scans(db, "_embedding_idx") > before
    assert len(set(near) & set(exact[:20])) >= 18
    for mode in ("vector", "hybrid"):
        assert sorted(found(db, {"tenant": 2}, mode, k=5)) == [600, 1200, 1800, 2400, 3000]
        assert len(found(db, {"tenant": 1}, mode, k=290)) == 290
        assert sorted(found(db, {"tenant": 2}, mode, k=50)) == [600, 1200, 1800, 2400, 3000]
    assert sorted(found(db, {"tenant": 2}, "keyword", query="needle")) == [600, 1200, 1800, 2400, 3000]
    assert sorted(found(db, {"tenant": 2}, "keyword", query="word")) == [600, 1200, 1800, 2400, 3000]
    assert len(found(db, {"tenant": 1}, "keyword", query="needle")) == 25
    assert found(db, {"tenant": 1}, "hybrid", k=3, query="needle 700")[0] == 700
    assert found(db, {"tenant": 2}, "hybrid", k=3, query="needle 700")[0] != 700
    limit = db.execute("SELECT current_setting('hnsw.max_scan_tuples', true)").fetchone()[0]
    assert limit in {None, "20000"}, "what a search sets for itself is not left behind"


@pytest.mark.fresh_database
@pytest.mark.slow
def test_the_plan_of_a_filtered_search_scans_the_index(db, many):
    db.execute("LOAD 'auto_explain'")
    db.execute("SET auto_explain.log_min_duration = 0; SET auto_explain.log_nested_statements = on")
    db.execute("SET client_min_messages = log")
    plans: list[str] = []
    db.add_notice_handler(lambda notice: plans.append(notice.message_primary))
    assert len(found(db, {"tenant": 1}, k=10)) == 10
    (plan,) = [plan for plan in plans if "Index Scan using g1_embedding_idx" in plan]
    assert "Order By: ((embedding)" in plan
    assert "SubPlan" in plan
    assert "Sort" not in plan


def test_max_per_key_of_rows(db):
    hash_model(db)
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text)")
    body = "string_agg('word ' || repeat(chr(96 + i) || j || ' ', 9), E'\\n\\n')"
    db.execute(f"INSERT INTO docs SELECT i, {body} FROM generate_series(1, 3) i, generate_series(1, 6) j GROUP BY i")
    chunker = "embed_chunk_text(size => 30)"
    db.execute(f"SELECT embed_create('docs', 'docs', columns => '{{body}}', chunker => {chunker}, model => 'hash8')")
    drain_all(db)
    for mode in MODES:
        for most, expected in ((None, [1, 2, 3]), (1, [1, 2, 3]), (2, [1, 1, 2, 2, 3, 3])):
            rows = db.execute(
                "SELECT (s.row).id, s.score"
                " FROM embed_search_rows(NULL::docs, 'word', mode => %s, max_per_key => %s) s",
                (mode, most),
            ).fetchall()
            assert sorted(number for number, _ in rows) == expected
            assert [score for _, score in rows] == sorted((score for _, score in rows), reverse=True)
    with pytest.raises(errors.InvalidParameterValue):
        db.execute("SELECT FROM embed_search_rows(NULL::docs, 'word', max_per_key => 0)")
    with pytest.raises(errors.InvalidParameterValue):
        db.execute("SELECT FROM embed_search_rows(NULL::docs, 'word', mode => 'magic')")
