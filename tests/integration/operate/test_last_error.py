"""embed_status.last_error is the reason that holds now, or none; embed_retry has one try made at once.

A message that was written down when something failed outlives its reason: the budget was raised, the pause is over, the
endpoint answers again, the row was edited. So each reason is made and unmade, alone and with another one after it.
"""

import psycopg
import psycopg.types.json
import pytest

from tests.fixtures.doctor import Doctor
from tests.fixtures.pipelines.documents import assert_as_source, drain_all, drain_once, status_of
from tests.fixtures.providers import faults
from tests.fixtures.roles import people
from tests.fixtures.waiting import Background, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

WORK = "CALL embed_work(until_empty => true, max_runtime => '30 s')"
PAUSE = {"Retry-After": "25"}


@pytest.fixture
def pipeline(db, docs, model):
    """Ten documents, embedded."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    drain_all(db)


@pytest.fixture
def notices(db):
    heard = []
    db.add_notice_handler(lambda notice: heard.append(notice.message_primary))
    return heard


def said(db):
    return status_of(db, "last_error")


def edit(db, text="edited"):
    db.execute("UPDATE docs SET body = %s || id", (text,))


def out_of_order(provider, code=503):
    provider.answer = lambda _: (code, b"out of order")


def pause_is_over(db):
    db.execute("SELECT setval('embed.endpoint_1_rests_until', 1)")


def fill_breaker(db, provider):
    """Three failures in a row: the endpoint rests."""
    out_of_order(provider)
    drain_once(db)
    assert db.execute("SELECT breaker, failures FROM embed_endpoints").fetchone() == ("open", 3)
    provider.reset()


@pytest.mark.parametrize("call", ["drain", "work"])
def test_a_429_after_a_budget_that_was_raised(db, connect, docs, model, provider, call):
    db.execute(
        "SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop', options => %s)",
        (psycopg.types.json.Jsonb({"daily_tokens": 7}),),
    )
    drain_all(db)
    assert (status_of(db, "state"), status_of(db, "spent_budgets")) == ("over budget", ["daily_tokens"])
    assert "budget is spent (daily_tokens)" in said(db)
    db.execute("""SELECT embed_alter('docs', '{"daily_tokens": 10000}')""")
    assert (said(db), status_of(db, "spent_budgets")) == (None, [])
    provider.fail(faults.status(429, b"slow down", **PAUSE))
    if call == "drain":
        drain_once(db)
    else:
        Background(connect(), WORK)
    wait_until(lambda: "429" in (said(db) or ""), what="the reason that holds")
    provider.mend()
    waiting = status_of(db, "pending")
    assert db.execute("SELECT embed_retry('docs')").fetchone() == (waiting,)
    if call == "drain":
        drain_once(db)
        drain_once(db)
    wait_until(lambda: status_of(db, "fresh") == 10, timeout=10, what="all rows fresh, long before the pause is over")
    assert said(db) is None
    assert_as_source(db)


@pytest.mark.fresh_database
def test_a_pause_that_is_over(db, pipeline, provider):
    edit(db)
    provider.fail(faults.status(429, b"slow down", **PAUSE))
    drain_once(db)
    assert "429" in said(db)
    pause_is_over(db)
    assert said(db) is None


@pytest.mark.fresh_database
def test_an_endpoint_that_answers_others_again(db, pipeline, provider):
    """The rows of this pipeline wait on; what was the matter with the endpoint is no reason any more."""
    db.execute("CREATE TABLE notes (id int PRIMARY KEY, title text, body text)")
    db.execute("SELECT embed_create('notes', 'notes', columns => '{title,body}', model => 'loop')")
    edit(db)
    out_of_order(provider)
    drain_once(db, "docs")
    assert "503" in said(db)
    provider.answer = None
    pause_is_over(db)
    db.execute("INSERT INTO notes VALUES (1, 'well', 'again')")
    assert drain_once(db, "notes") == 1
    assert (status_of(db, "pending"), said(db)) == (10, None)


def test_a_model_that_was_set_up_anew(db, pipeline, provider):
    edit(db)
    out_of_order(provider, 401)
    drain_once(db)
    assert "401" in said(db)
    db.execute("SELECT embed_endpoint_set('loop', %s)", (provider.url,))
    assert said(db) is None


@pytest.mark.parametrize("attempts", [1, 5], ids=["dead letter", "waiting"])
def test_a_row_that_was_edited(db, pipeline, provider, attempts):
    db.execute("SELECT embed_alter('docs', %s)", (f'{{"max_attempts": {attempts}}}',))
    provider.answer = lambda texts: (422, b"no poison please") if any("poison" in t for t in texts) else None
    db.execute("UPDATE docs SET body = 'poison' WHERE id = 1")
    drain_once(db)
    assert "no poison please" in said(db)
    db.execute("UPDATE docs SET body = 'cured' WHERE id = 1")
    assert said(db) is None
    drain_all(db)
    assert said(db) is None
    assert_as_source(db)


def test_a_pause_of_the_pipeline_is_a_state_and_no_error(db, pipeline, provider):
    edit(db)
    out_of_order(provider)
    drain_once(db)
    db.execute("SELECT embed_pause('docs')")
    assert (status_of(db, "state"), said(db)) == ("paused", None)
    db.execute("SELECT embed_resume('docs')")
    assert "503" in said(db)


def test_rows_that_came_after_the_failure_have_the_reason_too(db, pipeline, provider):
    db.execute("UPDATE docs SET body = 'first' WHERE id = 1")
    fill_breaker(db, provider)
    db.execute("DELETE FROM embed.job")
    assert said(db) is None  # nothing waits
    edit(db)
    assert "endpoint loop rests until" in said(db)
    assert "failures in a row" in said(db)


def test_a_dead_letter_does_not_hide_what_stops_the_others(db, pipeline, provider):
    provider.answer = lambda texts: (400, b"no poison please") if any("poison" in t for t in texts) else None
    db.execute("UPDATE docs SET body = 'poison' WHERE id = 1")
    drain_all(db)
    assert "poison" in said(db)
    edit(db)
    fill_breaker(db, provider)
    assert "503" in said(db)


def test_a_retry_sends_one_text_however_often_it_is_called(db, connect, pipeline, provider, notices):
    """By an owner who administers no endpoint: those who share it are not harmed."""
    people(db)
    db.execute("ALTER TABLE docs OWNER TO alice")
    edit(db)
    fill_breaker(db, provider)
    alice = connect("alice")
    heard = []
    alice.add_notice_handler(lambda notice: heard.append(notice.message_primary))
    assert alice.execute("SELECT embed_retry('docs')").fetchone() == (10,)
    assert heard == [
        "endpoint loop rests after 3 failures in a row; one text tries it now",
        "10 rows queued; next: SELECT embed_drain('docs')",
    ]
    for _ in range(3):
        drain_once(db)
    # One text, and what tells its fault from the endpoint's: another one, and a harmless one.
    assert [len(texts) for texts in provider.requests] in ([1], [1, 1], [1, 1, 1])
    assert db.execute("SELECT breaker, failures FROM embed_endpoints").fetchone() == ("open", 4)
    assert "503" in said(db)
    provider.answer = None
    alice.execute("SELECT embed_retry('docs')")
    drain_all(db)
    assert db.execute("SELECT breaker, failures FROM embed_endpoints").fetchone() == ("closed", 0)
    assert_as_source(db)
    assert said(db) is None


def test_a_retry_while_the_one_request_is_under_way_adds_none(db, connect, pipeline, provider):
    edit(db)
    fill_breaker(db, provider)
    db.execute("SELECT embed_retry('docs')")
    provider.hold()
    provider.answer = None
    work = Background(connect(), WORK)
    provider.wait_for_requests()
    db.execute("SELECT embed_retry('docs')")
    assert drain_once(db) == 0
    assert len(provider.requests) == 1
    provider.release()
    work.result()
    assert_as_source(db)


def test_a_retry_asks_a_server_that_asked_for_a_pause_once(db, pipeline, provider, notices):
    edit(db)
    provider.fail(faults.status(429, b"slow down", **PAUSE))
    drain_once(db)
    provider.reset()
    db.execute("SELECT embed_retry('docs')")
    assert notices[-2] == "endpoint loop rests after it asked for a pause; one text tries it now"
    for _ in range(3):
        drain_once(db)
    assert [len(texts) for texts in provider.requests] == [1]
    assert db.execute("SELECT breaker, failures FROM embed_endpoints").fetchone() == ("resting", 0)


def test_a_retry_of_a_server_that_asked_for_a_pause_and_is_down_stays_a_try(db, pipeline, provider):
    """What failed without a count of failures is tried by single texts too, until the endpoint is known to be down."""
    edit(db)
    provider.fail(faults.status(503, b"away", **PAUSE), times=1)
    drain_once(db)
    assert db.execute("SELECT breaker, failures FROM embed_endpoints").fetchone() == ("resting", 0)
    out_of_order(provider)
    provider.reset()
    db.execute("SELECT embed_retry('docs')")
    drain_once(db)
    assert {len(texts) for texts in provider.requests} == {1}
    assert len(provider.requests) <= 3


def test_a_retry_lifts_no_budget_and_says_so(db, pipeline, provider, notices):
    db.execute("""SELECT embed_alter('docs', '{"daily_tokens": 5, "daily_cost": null}')""")
    edit(db)
    drain_once(db)
    provider.reset()
    db.execute("SELECT embed_retry('docs')")
    assert 'pipeline "docs" has spent its daily_tokens of today' in notices[-2]
    drain_once(db)
    assert provider.requests == []
    assert "budget" in said(db)


def test_a_retry_of_a_pipeline_whose_source_lost_a_column_says_so(db, pipeline, provider, notices):
    db.execute("ALTER TABLE docs DROP COLUMN body")
    db.execute("SELECT embed_retry('docs')")
    assert notices[-2].startswith('pipeline "docs" is broken: ')


def test_the_doctor_raises_the_limit_that_is_spent_and_no_other(db, dsn, docs, provider):
    provider.register(db, price=1)
    db.execute(
        "SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop', options => %s)",
        (psycopg.types.json.Jsonb({"daily_tokens": 5, "daily_cost": 7.5}),),
    )
    drain_all(db)
    doctor = Doctor(dsn)
    found = doctor.one("budget")
    assert "daily_tokens" in found["message"]
    assert "daily_cost" not in found["message"] + found["advice"]
    doctor.type(found)
    assert db.execute("SELECT options -> 'daily_cost' FROM embed_pipelines").fetchone() == (7.5,)
    drain_all(db)
    assert status_of(db, "state") == "active"
    assert_as_source(db)
