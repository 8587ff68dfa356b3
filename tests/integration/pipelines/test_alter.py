"""embed_alter, embed_setting, embed_pause and embed_resume."""

import pytest
from psycopg import errors

from tests.fixtures.roles import hash_model, people

pytestmark = pytest.mark.shared_database

DEFAULTS = {
    "on_model_change": "stop",
    "on_too_long": "fail", "max_attempts": 5, "live_share": 0.8, "daily_tokens": None, "daily_cost": None,
    "previous_kept": "7 days", "wakeup": None, "language": "pg_catalog.english", "slot_limit": "10 GB",
    "bulk_lane": "backfill", "max_lag": None,
    "backfill_via": "requests", "batch_deadline": "24 hours", "batch_min_texts": 1000,
}  # fmt: skip


@pytest.fixture
def pipeline(db, docs):
    hash_model(db)
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')")


def alter(db, options):
    return db.execute("SELECT embed_alter('docs', %s)", [options]).fetchone()[0]


def test_options_are_merged_and_null_resets_one(db, pipeline):
    assert alter(db, "{}") == DEFAULTS
    assert alter(db, '{"max_attempts": 2}') == DEFAULTS | {"max_attempts": 2}
    assert alter(db, '{"live_share": 0.5}') == DEFAULTS | {"max_attempts": 2, "live_share": 0.5}
    assert alter(db, '{"max_attempts": null}') == DEFAULTS | {"live_share": 0.5}
    assert alter(db, None) == DEFAULTS | {"live_share": 0.5}
    assert db.execute("SELECT options FROM embed_pipelines").fetchone() == ({"live_share": 0.5},)


def test_one_bad_option_changes_none(db, pipeline):
    with pytest.raises(errors.InvalidParameterValue):
        alter(db, '{"max_attempts": 2, "nope": 1}')
    assert alter(db, "{}") == DEFAULTS


def test_on_too_long_decides_what_becomes_of_long_texts(db, docs, provider):
    provider.register(db, "short", input_tokens=5)
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'short')")
    db.execute("UPDATE docs SET body = repeat('word ', 20) WHERE id = 1")
    db.execute("SELECT embed_drain()")
    failed, error = db.execute("SELECT failed, last_error FROM embed_status").fetchone()
    assert failed == 1
    assert "100 characters" in error
    alter(db, '{"on_too_long": "truncate"}')
    db.execute("SELECT embed_touch('docs', '[1]')")
    db.execute("SELECT embed_drain()")
    assert db.execute("SELECT failed, last_error FROM embed_status").fetchone() == (0, None)
    assert db.execute("SELECT chunk FROM docs_embedding WHERE id = 1").fetchone() == ("word word word word ",)


@pytest.mark.slow
def test_settings_are_the_databases(db, connect):
    people(db)
    for name, value, other in (
        ("default_model", "wordllama-256", "wordllama-64"),
        ("cache_retention", "30 days", "2 h"),
    ):
        get, put = f"SELECT embed_setting('{name}')", f"SELECT embed_setting('{name}', '{other}')"
        assert connect("bob").execute(get).fetchone() == (value,)
        with pytest.raises(errors.InsufficientPrivilege):
            connect("bob").execute(put)
        assert connect("the_admin").execute(put).fetchone() == (other,)
        assert connect("bob").execute(get).fetchone() == (other,)
    assert db.execute("SELECT vector_dims(embed('q'))").fetchone() == (64,)


@pytest.mark.parametrize("work", ["SELECT embed_drain()", "CALL embed_work(until_empty => true, max_runtime => '5 s')"])
def test_while_paused_capture_goes_on_and_work_stops(db, pipeline, work):
    db.execute("SELECT embed_drain()")
    db.execute("SELECT embed_pause('docs')")
    db.execute("SELECT embed_pause('docs')")  # twice is fine
    db.execute("UPDATE docs SET body = 'new' WHERE id <= 3")
    db.execute("SELECT embed_drain()")
    state = "SELECT state, pending, fresh FROM embed_status"
    assert db.execute(state).fetchone()[:2] == ("paused", 3)
    assert db.execute("SELECT count(*) FROM docs_embedding WHERE is_stale").fetchone() == (3,)
    assert "embed_resume" in db.execute("SELECT embed_explain('docs', '[1]')").fetchone()[0]
    db.execute("SELECT embed_resume('docs')")
    db.execute(work)
    assert db.execute(state).fetchone() == ("active", 0, 10)


@pytest.mark.parametrize("name", ["max_lag", "batch_deadline"])
@pytest.mark.parametrize("given", ["0 s", "-1 minute", "soon"])
def test_an_interval_in_which_nothing_can_be_done_is_refused(db, pipeline, name, given):
    with pytest.raises(errors.InvalidParameterValue, match=f'option "{name}" must be a positive interval') as refused:
        alter(db, f'{{"{name}": "{given}"}}')
    assert refused.value.diag.message_hint.startswith("For example '")


def test_an_alter_that_is_rolled_back_did_not_happen(db, connect, pipeline):
    session = connect(autocommit=False)
    alter(session, '{"max_attempts": 2}')
    session.rollback()
    assert alter(db, "{}") == DEFAULTS
