"""Option max_lag: state, reasons and events of pipelines where a live change waits for longer."""

import psycopg
import pytest

from evergreen_host.database import open_database
from evergreen_host.monitor import lateness, status
from tests.fixtures.pipelines.documents import drain_all, status_of
from tests.fixtures.pipelines.endpoints import create, let_time_pass, rest_longer, serve
from tests.fixtures.roles import hash_model, people
from tests.fixtures.server.log import ServerLog
from tests.fixtures.waiting import Background, wait_until

pytestmark = pytest.mark.shared_database

EDIT = "UPDATE docs SET body = 'edited' WHERE id = 1"


@pytest.fixture
def log(cluster):
    return ServerLog(cluster)


@pytest.fixture
def promised(db, docs, provider):
    """A fresh pipeline that promises a minute."""
    serve(db, provider, model={"watch": None})
    create(db, max_lag="1 minute")
    drain_all(db)
    provider.reset()


def age(db, interval="2 minutes"):
    """As if all that waits were older."""
    db.execute("UPDATE embed.change_log SET changed_at = changed_at - %s::interval", (interval,))
    db.execute("UPDATE embed.job SET unserved_since = unserved_since - %s::interval", (interval,))


def state(db):
    return status_of(db, "state")


def reasons(dsn):
    with open_database(dsn, "a test") as link:
        return lateness.reasons(link, status.read(link, None))


def test_late_while_a_change_waits_for_longer(db, promised):
    db.execute(EDIT)
    assert (state(db), status_of(db, "late_since")) == ("active", None)
    age(db)
    assert state(db) == "late"
    since = "clock_timestamp() - late_since BETWEEN interval '59 s' AND interval '65 s'"
    assert status_of(db, since) is True
    db.execute("SELECT embed_drain()")
    assert (state(db), status_of(db, "late_since")) == ("active", None)


def test_a_change_that_is_a_job_or_at_the_model_waits(db, promised, provider, connect):
    db.execute(EDIT)
    provider.hold()
    work = Background(connect(), "CALL embed_work(until_empty => true)")
    provider.wait_for_requests()
    age(db)
    assert (state(db), status_of(db, "in_flight")) == ("late", 1)
    provider.release()
    work.result()
    assert state(db) == "active"


def test_only_live_changes_count(db, promised):
    """Neither history nor bulk changes, unless option bulk_lane is live."""
    db.execute("SELECT embed_backfill('docs')")
    db.execute("INSERT INTO docs SELECT i, 'bulk', 'text ' || i FROM generate_series(1001, 2001) i")
    age(db)
    assert (state(db), status_of(db, "pending")) == ("active", 1001)
    db.execute("SELECT embed_alter('docs', '{\"bulk_lane\": \"live\"}')")
    assert state(db) == "late"


def test_a_live_change_behind_bulk_changes_is_seen(db, promised):
    for first in (1001, 3001):
        db.execute(
            "INSERT INTO docs SELECT i, 'bulk', 'text ' || i FROM generate_series(%s::int, %s::int) i",
            (first, first + 1500),
        )
    age(db)
    assert state(db) == "active"
    db.execute(EDIT)
    age(db)
    assert state(db) == "late"


def test_a_recheck_is_no_change(db, promised):
    db.execute("UPDATE embed.document SET src_hash = 'another' WHERE key = '[3]'")
    db.execute("SELECT embed_verify('docs', repair => true)")
    age(db)
    assert (state(db), status_of(db, "pending")) == ("active", 1)


def test_a_truncate_waits_like_a_change(db, promised):
    db.execute("TRUNCATE docs")
    age(db)
    assert state(db) == "late"
    drain_all(db)
    assert state(db) == "active"


def test_a_paused_pipeline_is_paused(db, promised):
    db.execute(EDIT)
    age(db)
    db.execute("SELECT embed_pause('docs')")
    assert (state(db), status_of(db, "late_since")) == ("paused", None)
    db.execute("SELECT embed_resume('docs')")
    assert state(db) == "late"


def test_without_the_option_nothing_is_late(db, promised):
    db.execute(EDIT)
    age(db)
    db.execute("SELECT embed_alter('docs', '{\"max_lag\": null}')")
    assert state(db) == "active"


@pytest.mark.parametrize("wrong", ['"soon"', '"0 s"', '"-1 minute"', "60", "true"])
def test_what_is_no_promise(db, promised, wrong):
    with pytest.raises(psycopg.errors.InvalidParameterValue, match='option "max_lag" must be'):
        db.execute("SELECT embed_alter('docs', %s)", (f'{{"max_lag": {wrong}}}',))


def test_the_log_says_once_when_it_begins_and_ends(db, promised, provider, log):
    provider.answer = lambda _: (503, b"busy")
    db.execute(EDIT)
    db.execute("CALL embed_work(until_empty => true, max_runtime => '2 s')")
    age(db)
    rest_longer(db)
    for _ in range(3):
        db.execute("CALL embed_work(max_runtime => '0.2 s')")
    late = log.one("pipeline_late")
    assert (late.level, late.details["pipeline"], late.details["max_lag"]) == ("WARNING", "docs", "1 minute")
    assert late.details["reason"] == "model_failing"
    assert late.details["since"].endswith("Z")
    provider.answer = None
    let_time_pass(db)
    for _ in range(2):
        db.execute("CALL embed_work(until_empty => true, max_runtime => '20 s')")
    on_time = log.one("pipeline_on_time")
    assert (on_time.level, on_time.details["pipeline"]) == ("LOG", "docs")
    assert float(on_time.details["late_for"]) >= 59
    assert len(log.events("pipeline_late")) == 1


def test_two_workers_log_it_once(db, promised, provider, connect, log):
    db.execute(EDIT)
    age(db)
    provider.hold()
    workers = [Background(connect(), "CALL embed_work(max_runtime => '1500 ms')") for _ in range(2)]
    provider.wait_for_requests()
    provider.release()
    for worker in workers:
        worker.result()
    assert log.names() == ["pipeline_late", "pipeline_on_time"]


def test_a_drain_writes_no_event(db, promised, log):
    db.execute(EDIT)
    age(db)
    db.execute("SELECT embed_drain()")
    assert log.events() == []


def test_reasons(db, dsn, promised, provider, connect):
    assert reasons(dsn) == {}
    db.execute(EDIT)
    age(db)
    assert reasons(dsn)["docs"].endswith("UTC: no worker is running")
    provider.hold()
    work = Background(connect(), "CALL embed_work(until_empty => true)")
    provider.wait_for_requests()
    assert reasons(dsn)["docs"].endswith("UTC: a backlog of 1 row")
    provider.answer = lambda _: (503, b"busy")
    provider.release()
    work.result()
    rest_longer(db)
    waiting = Background(connect(), "CALL embed_work(max_runtime => '20 s')")
    assert reasons(dsn)["docs"].endswith("UTC: endpoint \"loop\": answered 503: 'busy'")
    db.execute("SELECT pg_cancel_backend(%s)", (waiting.pid,))


def test_a_spent_budget_is_a_reason(db, dsn, promised, provider, connect):
    db.execute("UPDATE docs SET body = 'edited by ' || id")
    db.execute("SELECT embed_alter('docs', '{\"daily_tokens\": 5}')")
    wait_until(lambda: db.execute("CALL embed_work(max_runtime => '0.3 s')") and state(db) != "active")
    assert state(db) == "over budget"
    age(db)
    assert (state(db), status_of(db, "spent_budgets")) == ("late", ["daily_tokens"])
    session = connect()
    session.execute("SET application_name = 'evergreen worker'")
    assert reasons(dsn)["docs"].endswith("UTC: today's daily_tokens is spent")


def test_doctor_names_it_and_its_advice_mends_it(db, doctor, promised):
    db.execute(EDIT)
    age(db)
    found = doctor.one("late")
    assert found["level"] == "error"
    assert found["message"].startswith("pipeline docs is late since 20")
    doctor.type(found)
    assert doctor.findings("late") == []


def test_a_restore_forgets_what_was_logged(db, promised):
    """On another server no worker has logged that it is late."""
    db.execute("UPDATE embed.change_log_state SET late_since = now()")
    db.execute("UPDATE embed.pipeline SET system_identifier = 1")
    db.execute("CALL embed_work(max_runtime => '0.2 s')")
    assert db.execute("SELECT late_since FROM embed.change_log_state").fetchall() == [(None,)]


def test_a_reader_of_the_table_sees_it(db, connect, docs):
    people(db)
    hash_model(db)
    create(db, model="hash8", max_lag="1 minute")
    drain_all(db)
    db.execute(EDIT)
    age(db)
    db.execute("GRANT SELECT ON docs TO bob")
    bob = connect("bob")
    assert bob.execute("SELECT state, late_since IS NOT NULL FROM public.embed_status").fetchall() == [("late", True)]
