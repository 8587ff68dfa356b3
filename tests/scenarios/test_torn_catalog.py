"""A catalog that a restore has left incomplete.

The kind: a row of ours that names another one, or a table, that is not there. Every call says which, and what to type;
what is named mends it; other pipelines go on.
"""

import psycopg
import pytest

from tests.fixtures.doctor import Doctor
from tests.fixtures.pipelines.freshness import assert_fresh, status
from tests.fixtures.roles import hash_model

#: What is lost, and what every message says of it.
TEARS = {
    "endpoint": ("DELETE FROM embed.endpoint", 'endpoint "loop" of its model "loop" is missing from embed.endpoint'),
    "model": ("DELETE FROM embed.model WHERE name = 'loop'", "is missing from embed.model"),
    "generation": ("DELETE FROM embed.generation WHERE pipeline = 1", "its active generation is missing"),
    "table": ("DROP TABLE embed_store.readable_1 CASCADE", "the table of its generation 1 is missing"),
    "table alone": ("DROP TABLE embed_store.g1", "the table of its generation 1 is missing"),
}
CALLS = (
    "SELECT embed_alter('docs', '{}')",
    "SELECT embed_backfill('docs')",
    "SELECT embed_bridge('docs')",
    "SELECT embed_bridge_drop('docs')",
    "SELECT embed_build('docs', columns => '{title}')",
    "SELECT embed_capture_set('docs', 'manual')",
    "SELECT * FROM embed_claim('docs', 5)",
    "SELECT * FROM embed_compare('docs')",
    "SELECT * FROM embed_estimate('docs')",
    "SELECT embed_explain('docs', '1')",
    "SELECT embed_forget('docs', '1')",
    "SELECT embed_get_def('docs')",
    "SELECT embed_promote('docs')",
    "SELECT embed_query('docs', 'question')",
    "SELECT embed_retire('docs')",
    "SELECT embed_retry('docs')",
    "SELECT embed_rollback('docs')",
    "SELECT embed_search('docs', 'question')",
    "SELECT embed_search_rows(NULL::docs, 'question')",
    "SELECT embed_touch('docs', '1')",
    "SELECT * FROM embed_verify('docs')",
    "SELECT embed_wait('docs')",
    "SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8', if_not_exists => true)",
)


@pytest.fixture
def two(db, docs, model):
    """A pipeline to be torn, and a healthy one; both fresh."""
    hash_model(db)
    db.execute("CREATE TABLE other (id int PRIMARY KEY, body text); INSERT INTO other VALUES (1, 'one')")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
    db.execute("SELECT embed_create('other', 'other', columns => '{body}', model => 'hash8')")
    assert_fresh(db, "docs", 10)
    assert_fresh(db, "other", 1)


@pytest.mark.few(2)
@pytest.mark.parametrize("part", TEARS)
def test_every_call_says_what_is_missing_and_what_to_do(db, two, dsn, part):
    tear, says = TEARS[part]
    db.execute(tear)
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 1; UPDATE other SET body = 'edited'")
    for call in CALLS:
        with pytest.raises(psycopg.Error) as caught:
            db.execute(call)
        diag = caught.value.diag
        assert (diag.sqlstate, says in diag.message_primary) == ("55000", True), (call, str(caught.value))
        assert "docs" in diag.message_primary or "loop" in diag.message_primary, call
        assert "embed_" in diag.message_hint, call
    found = db.execute("SELECT state, last_error FROM embed_status WHERE pipeline = 'docs'").fetchone()
    assert (found[0], says in found[1], "SELECT embed_" in found[1]) == ("broken", True, True)
    assert db.execute("SELECT state FROM embed_pipelines WHERE pipeline = 'docs'").fetchone() == ("broken",)
    assert [says in f["message"] for f in Doctor(dsn).findings("pipeline")] == [True]
    heard = []
    db.add_notice_handler(lambda notice: heard.append(notice.message_primary))
    db.execute("SELECT embed_drain()")
    assert any(says in one for one in heard)
    db.execute("CALL embed_work(until_empty => true)")
    assert status(db, "other").pending == 0


@pytest.mark.few(2)
@pytest.mark.parametrize("part", TEARS)
def test_what_it_says_mends_it(db, two, provider, part):
    db.execute(TEARS[part][0])
    if part == "endpoint":
        db.execute("SELECT embed_endpoint_set('loop', %s)", (provider.url,))
        db.execute("UPDATE docs SET body = 'edited' WHERE id = 1")
        db.execute("CALL embed_work(until_empty => true)")
    else:
        db.execute("SELECT embed_drop('docs')")
        db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')")
    assert_fresh(db, "docs", 10)
    assert_fresh(db, "other", 1)


def test_a_model_whose_endpoint_is_missing_says_so_by_itself(db, two):
    db.execute("DELETE FROM embed.endpoint")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match='endpoint "loop" of model "loop"'):
        db.execute("SELECT embed('a', 'loop')")


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "table", ["change_log_state", "backfill_cursor", "shared_state_lock", "lease", "job", "change_log"]
)
def test_what_a_worker_can_make_again_it_does(db, two, table):
    db.execute(f"DELETE FROM embed.{table}")
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 1")
    assert_fresh(db, "docs", 10)
    assert_fresh(db, "other", 1)


def test_a_drain_restores_the_rows_that_are_locked_for_shared_state(db, two):
    rows = "SELECT owner, number FROM embed.shared_state_lock ORDER BY owner, number"
    before = db.execute(rows).fetchall()
    db.execute("DELETE FROM embed.shared_state_lock")
    db.execute("SELECT embed_drain()")
    assert db.execute(rows).fetchall() == before
