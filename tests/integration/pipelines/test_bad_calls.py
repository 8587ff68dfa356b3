"""Every other call of the API refuses nonsense properly: SQLSTATE, message, HINT, nothing changed."""

import pytest
from psycopg import errors

from tests.fixtures.error_checks import agree, complaint, fault
from tests.fixtures.roles import hash_model

pytestmark = pytest.mark.shared_database

# A call and the SQLSTATE it must give; % stands for each of the unknown names.
UNKNOWN = [
    "SELECT embed_alter(%s, '{}')", "SELECT embed_drop(%s)", "SELECT embed_pause(%s)", "SELECT embed_resume(%s)",
    "SELECT embed_get_def(%s)", "SELECT embed_touch(%s, '[1]')", "SELECT embed_drain(%s)", "CALL embed_work(%s)",
    "SELECT embed_sleep(%s)",
    "SELECT embed_query(%s, 'q')", "SELECT embed_search(%s, 'q')", "SELECT embed_verify(%s)",
    "SELECT embed_explain(%s, '[1]')", "SELECT embed_retry(%s)", "SELECT embed_forget(%s, '[1]')",
    "SELECT embed_estimate(%s)", "SELECT embed_search_rows(NULL::docs, 'q', pipeline => %s)",
    "SELECT embed_model_accept(%s)", "SELECT embed_model_drop(%s)",
    "SELECT embed('q', %s)", "SELECT embed_build(%s)", "SELECT embed_compare(%s)",
    "SELECT embed_bridge(%s)", "SELECT embed_bridge_drop(%s)",
    "SELECT embed_capture_set(%s, 'manual')",
    "SELECT embed_promote(%s)", "SELECT embed_rollback(%s)", "SELECT embed_retire(%s)",
    "SELECT embed_claim(%s, 1)", "SELECT embed_submit(%s, 1, '{}', '{}')", "SELECT embed_release(%s, 1)",
    "SELECT embed_wait(%s)",
    "SELECT embed_backfill(%s)",
]  # fmt: skip
# NULL means "all pipelines", "the only one", "the default" here, and is no unknown name.
NULL_IS_FINE = ("embed_drain", "embed_work", "embed_sleep", "embed_search_rows", "embed('q'")
NAMES = ["nope", "", "x" * 100, "'", '"; --', "{name}", "%s", "漢字"]
BAD = {
    "SELECT embed_drain(max_rows => 0)": "22023",
    "SELECT embed_drain(max_rows => -5)": "22023",
    "SELECT embed_drain(max_rows => NULL)": "22023",
    "SELECT embed_drain(max_runtime => '0 s')": "22023",
    "SELECT embed_drain(max_runtime => '-1 day')": "22023",
    "SELECT embed_drain(max_runtime => NULL)": "22023",
    "CALL embed_work(max_runtime => '-1 s')": "22023",
    "CALL embed_work(max_runtime => NULL)": "22023",
    "SELECT embed_schedule(0)": "22023",
    "SELECT embed_schedule(-1)": "22023",
    "SELECT embed_schedule(NULL)": "22023",
    "SELECT embed_schedule(100000)": "22023",
    "SELECT embed_schedule(1, 'nope')": "42704",
    "SELECT embed_setting(NULL)": "22023",
    "SELECT embed_setting('')": "22023",
    "SELECT embed_setting('nope')": "22023",
    "SELECT embed_setting('nope', 'x')": "22023",
    "SELECT embed_setting('default_model', 'nope')": "42704",
    "SELECT embed_setting('default_model', '')": "42704",
    "SELECT embed_setting('cache_retention', 'soon')": "22023",
    "SELECT embed_setting('cache_retention', '-1 day')": "22023",
    "SELECT embed_setting('cache_retention', '')": "22023",
    "SELECT embed_touch('docs', NULL)": "22004",
    "SELECT embed_touch('docs', '[1]', NULL)": "22004",
    "SELECT embed_touch('docs', VARIADIC NULL)": "22004",
    "SELECT embed_touch('docs', '[1, 2]')": "22023",
    "SELECT embed_touch('docs', '[]')": "22023",
    "SELECT embed_touch('docs', '[null]')": "22023",
    "SELECT embed_touch('docs', 'null')": "22023",
    "SELECT embed_touch('docs', '\"one\"')": "22P02",
    "SELECT embed_touch('docs', '{\"id\": 1}')": "22P02",
    "SELECT embed_touch('docs', '[[1]]')": "22P02",
    "SELECT embed_touch('docs', '[true]')": "22P02",
    "SELECT embed_touch('docs', '[1.5]')": "22P02",
    "SELECT embed_touch('docs', '[99999999999]')": "22P02",
    "SELECT embed_touch('docs', ('[1' || repeat('0', 5000) || ']')::jsonb)": "22023",
    "SELECT embed_touch('docs', VARIADIC '{{1,2},{3,4}}'::jsonb[])": "22004",
    "SELECT embed_capture_set('docs', 'magic')": "22023",
    "SELECT embed_capture_set('docs', NULL)": "22023",
    "SELECT embed_capture_set('docs', 'cdc')": "55000",
    "SELECT embed_explain('docs', NULL)": "22023",
    "SELECT embed_explain('docs', '\"one\"')": "22P02",
    "SELECT embed_explain('docs', '[1, 2]')": "22023",
    "SELECT embed_retry('docs', '\"one\"')": "22P02",
    "SELECT embed_retry('docs', '[1, 2]')": "22023",
    "SELECT embed_forget('docs', NULL)": "22023",
    "SELECT embed_forget('docs', '[null]')": "22023",
    "SELECT embed_forget('docs', '{\"id\": 1}')": "22P02",
    "SELECT embed_build('docs', model => 'nope')": "42704",
    "SELECT embed_build('docs', columns => '{nope}')": "42703",
    "SELECT embed_build('docs', columns => '{body}', template => '$body')": "22023",
    "SELECT embed_build('docs', template => '$nope')": "42703",
    "SELECT embed_build('docs', chunker => '{\"chunker\": \"magic\"}')": "22023",
    "SELECT embed_build('docs', options => '{\"nope\": 1}')": "22023",
    "SELECT embed_build('docs', options => '{\"distance\": \"far\"}')": "22023",
    "SELECT embed_build('docs', options => '{\"storage\": 1}')": "22023",
    "SELECT embed_compare('docs')": "55000",
    "SELECT embed_compare('docs', k => 0)": "22023",
    "SELECT embed_compare('docs', k => NULL)": "22023",
    "SELECT embed_bridge('docs')": "55000",
    "SELECT embed_bridge('docs', sample => 0)": "22023",
    "SELECT embed_bridge('docs', min_recall => -1)": "22023",
    "SELECT embed_bridge('docs', min_recall => 'NaN')": "22023",
    "SELECT embed_promote('docs')": "55000",
    "SELECT embed_promote('docs', min_coverage => 1.1)": "22023",
    "SELECT embed_promote('docs', min_coverage => -1)": "22023",
    "SELECT embed_promote('docs', min_coverage => 'NaN')": "22023",
    "SELECT embed_promote('docs', min_overlap => 2)": "22023",
    "SELECT embed_rollback('docs')": "55000",
    "SELECT embed_retire('docs', 0)": "42704",
    "SELECT embed_alter('docs', '{\"previous_kept\": 7}')": "22023",
    "SELECT embed_alter('docs', '{\"previous_kept\": \"-1 day\"}')": "22023",
    "SELECT embed_alter('docs', '{\"previous_kept\": \"soon\"}')": "22023",
    "SELECT embed_alter('docs', '{\"distance\": \"l2\"}')": "22023",
    "SELECT embed_setting('index_from', '0')": "22023",
    "SELECT embed_setting('index_from', 'many')": "22023",
    "SELECT embed_preview(NULL, '{body}')": "22004",
    "SELECT embed_preview('docs')": "22023",
    "SELECT embed_preview('docs', '{nope}')": "42703",
    "SELECT embed_preview('docs', '{body}', model => 'nope')": "42704",
    "SELECT embed_preview('docs', '{body}', chunker => '[]')": "22023",
    "SELECT embed_alter('docs', ('{\"max_attempts\": 1' || repeat('0', 5000) || '}')::jsonb)": "22023",
    "SELECT embed_alter('docs', jsonb_build_object('a', (repeat('[', 3000) || repeat(']', 3000))::jsonb))": "22023",
    "SELECT embed_search('docs', NULL)": "22023",
    "SELECT embed_search('docs', '')": "22023",
    "SELECT embed_search('docs', E' \\n\\t')": "22023",
    "SELECT embed_search('docs', 'q', k => 0)": "22023",
    "SELECT embed_search('docs', 'q', k => -1)": "22023",
    "SELECT embed_search('docs', 'q', k => NULL)": "22023",
    "SELECT embed_search('docs', 'q', k => 2147483647)": "22023",
    "SELECT embed_search('docs', 'q', mode => 'magic')": "22023",
    "SELECT embed_search('docs', 'q', mode => NULL)": "22023",
    "SELECT embed_search('docs', 'q', mode => 'Keyword')": "22023",
    "SELECT embed_search('docs', ' ', mode => 'keyword')": "22023",
    "SELECT embed_alter('docs', '{\"language\": \"klingon\"}')": "42704",
    "SELECT embed_alter('docs', '{\"language\": 1}')": "22023",
    "SELECT embed_search('docs', 'q', stale => 'maybe')": "22023",
    "SELECT embed_search('docs', 'q', stale => NULL)": "22023",
    "SELECT embed_search('docs', 'q', max_per_key => 0)": "22023",
    "SELECT embed_search_rows(NULL::docs, NULL)": "22023",
    "SELECT embed_search_rows(NULL::docs, '')": "22023",
    "SELECT embed_search_rows(NULL::docs, 'q', k => 0)": "22023",
    "SELECT embed_search_rows(NULL::docs, 'q', k => NULL)": "22023",
    "SELECT embed_search_rows(NULL::other, 'q')": "42704",
    "SELECT embed_search_rows(NULL::other, 'q', pipeline => 'docs')": "42809",
    "SELECT embed_search_rows(5, 'q')": "42809",
    "SELECT embed_search_rows(NULL::text, 'q', pipeline => 'docs')": "42809",
    "SELECT embed_search_rows(NULL::twice, 'q')": "42P09",
    "SELECT embed('q', '')": "42704",
    "SELECT embed_model_add(NULL, 'hash', 8)": "42602",
    "SELECT embed_model_add('', 'hash', 8)": "42602",
    "SELECT embed_model_add(repeat('x', 9999), 'hash', 8)": "42602",
    "SELECT embed_model_add('m', NULL, 8)": "22023",
    "SELECT embed_model_add('m', 'magic', 8)": "22023",
    "SELECT embed_model_add('m', 'hash', NULL)": "22023",
    "SELECT embed_model_add('m', 'hash', 0)": "22023",
    "SELECT embed_model_add('m', 'hash', -8)": "22023",
    "SELECT embed_model_add('m', 'hash', 2000000)": "22023",
    "SELECT embed_model_add('hash8', 'hash', 8)": "42710",
    "SELECT embed_model_add('wordllama-256', 'hash', 8)": "42710",
    "SELECT embed_model_add('m', 'wordllama', 100)": "22023",
    "SELECT embed_model_add('m', 'openai', 8)": "22023",
    "SELECT embed_model_add('m', 'openai', 8, endpoint => 'nope')": "42704",
    "SELECT embed_model_add('m', 'function', 8)": "22023",
    "SELECT embed_model_add('m', 'function', 8, 'no_such_function')": "42883",
    "SELECT embed_model_add('m', 'function', 8, '')": "42883",
    "SELECT embed_model_add('m', 'function', 8, 'a b c')": "42883",
    "SELECT embed_model_add('m', 'function', 8, 'upper(text); --')": "42883",
    "SELECT embed_model_add('m', 'function', 8, '\"')": "42883",
    "SELECT embed_model_add('m', 'function', 8, 'public.not_vectors')": "42P13",
    "SELECT embed_model_add('m', 'hash', 8, options => '[]')": "22023",
    "SELECT embed_model_add('m', 'hash', 8, options => '{\"nope\": 1}')": "22023",
    "SELECT embed_model_add('m', 'hash', 8, options => '{\"inputs\": 0}')": "22023",
    "SELECT embed_model_add('m', 'hash', 8, options => '{\"inputs\": \"5\"}')": "22023",
    "SELECT embed_model_add('m', 'hash', 8, options => '{\"inputs\": null}')": "22023",
    "SELECT embed_model_drop('wordllama-256')": "42809",
    "SELECT embed_model_drop('hash8')": "2BP01",
    "SELECT embed_endpoint_set(NULL, 'http://127.0.0.1:1')": "42602",
    "SELECT embed_endpoint_set('', 'http://127.0.0.1:1')": "42602",
    "SELECT embed_endpoint_set(string_agg(md5(i::text), ''), 'https://a') FROM generate_series(1, 200) i": "42602",
    "SELECT embed_endpoint_set('e', NULL)": "22023",
    "SELECT embed_endpoint_set('e', '')": "22023",
    "SELECT embed_endpoint_set('e', 'not a url')": "22023",
    "SELECT embed_endpoint_set('e', 'ftp://127.0.0.1/')": "22023",
    "SELECT embed_endpoint_set('e', 'file:///etc/passwd')": "22023",
    "SELECT embed_endpoint_set('e', 'http://[')": "22023",
    "SELECT embed_endpoint_set('e', 'http://[::1')": "22023",
    "SELECT embed_endpoint_set('e', 'http://127.0.0.1:99999/v1')": "22023",
    "SELECT embed_endpoint_set('e', 'http://127.0.0.1:x/v1')": "22023",
    "SELECT embed_endpoint_set('e', 'http://example.com/v1')": "22023",
    "SELECT embed_endpoint_set('e', 'https://user:password@example.com/v1')": "22023",
    "SELECT embed_endpoint_set('e', 'https://example.com', secret => 'sk-abc/def+ghi==')": "22023",
    "SELECT embed_endpoint_set('e', 'https://example.com', secret => '../../etc/passwd')": "22023",
    "SELECT embed_endpoint_set('e', 'https://example.com', secret => '')": "22023",
    "SELECT embed_endpoint_set('e', 'https://example.com', options => '5')": "22023",
    "SELECT embed_endpoint_set('e', 'https://example.com', options => '{\"nope\": 1}')": "22023",
    "SELECT embed_endpoint_set('e', 'https://example.com', options => '{\"total_timeout\": 1e9}')": "22023",
    "SELECT embed_endpoint_set('e', 'https://example.com', options => '{\"total_timeout\": -1}')": "22023",
    "SELECT embed_endpoint_set('e', 'https://example.com', options => '{\"allow_http\": 1}')": "22023",
}  # fmt: skip


@pytest.fixture
def tables(db, docs):
    hash_model(db)
    db.execute(
        """
        CREATE TABLE other (id int PRIMARY KEY, body text);
        CREATE TABLE twice (id int PRIMARY KEY, body text);
        CREATE FUNCTION not_vectors(text[]) RETURNS text[] LANGUAGE sql AS 'SELECT $1';
        SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8');
        SELECT embed_create('twice1', 'twice', columns => '{body}', model => 'hash8');
        SELECT embed_create('twice2', 'twice', columns => '{body}', model => 'hash8');
        """
    )


@pytest.mark.slow
def test_names_that_nobody_has(db, tables):
    found, expected = {}, {}
    for statement in UNKNOWN:
        for name in NAMES:
            found[f"{statement} {name}"] = complaint(db, db, statement, [name])
        if not any(call in statement for call in NULL_IS_FINE):
            found[f"{statement} NULL"] = complaint(db, db, statement, [None])
    expected = dict.fromkeys(found, ("42704", None))
    agree(found, expected)


@pytest.mark.slow
def test_arguments_that_make_no_sense(db, tables):
    found = {statement: complaint(db, db, statement) for statement in BAD}
    agree(found, {statement: (state, None) for statement, state in BAD.items()})


def test_a_key_of_many_brackets_is_none(db, tables):
    """Python reads as many as its version can; those that it can are no key of the table."""
    statement = "SELECT embed_touch('docs', (repeat('[', 3000) || repeat(']', 3000))::jsonb)"
    state, wrong = complaint(db, db, statement)
    assert state in {"22023", "22P02"}
    assert wrong is None


def test_the_worker_refuses_to_run_where_it_cannot_commit(db, tables, connect):
    session = connect(autocommit=False)
    session.execute("SELECT 1")
    with pytest.raises(errors.InvalidTransactionTermination) as caught:
        session.execute("CALL embed_work(until_empty => true)")
    assert fault(caught.value) is None
    session.rollback()
    with pytest.raises(errors.InvalidTransactionTermination):
        db.execute("SET search_path = public; CALL embed_work(until_empty => true)")


def test_a_secret_is_never_repeated(db):
    for call in (
        "embed_endpoint_set('e', 'https://x.example', secret => 'sk-proj/SECRET==')",
        "embed_endpoint_set('e', 'https://user:SECRET@x.example/v1')",
    ):
        with pytest.raises(Exception) as caught:  # noqa: PT011 - whichever it is
            db.execute(f"SELECT {call}")
        assert "SECRET" not in str(caught.value)


def test_nothing_is_done_for_null_where_null_is_an_answer(db, tables):
    assert db.execute("SELECT embed(NULL), embed_query('docs', NULL)").fetchone() == (None, None)
