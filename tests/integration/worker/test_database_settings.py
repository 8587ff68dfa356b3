"""Whatever a database sets for its sessions, workers work, drains do or say what is in the way, and doctor names it.

The kind: a session of ours starts with the settings of its database or role, which were made for other sessions. They
may end it (timeouts), forbid it to write, hide rows, change what a piece of SQL means or how values are written, or how
it is planned. What is SET in the session itself is the caller's word, and holds.
"""

import threading

import psycopg
import pytest

from tests.fixtures.doctor import Doctor
from tests.fixtures.pipelines.documents import assert_as_source
from tests.fixtures.stress import often
from tests.fixtures.waiting import Background, wait_until
from tests.fixtures.worker_processes import ListeningWorker

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

TIMEOUTS = {
    "statement_timeout": "'4s'", "lock_timeout": "'20ms'", "idle_in_transaction_session_timeout": "'1s'",
    "idle_session_timeout": "'1s'",
}  # fmt: skip
GROUPS = {
    "timeouts": TIMEOUTS,
    "transactions": {
        "default_transaction_read_only": "on", "default_transaction_isolation": "serializable",
        "default_transaction_deferrable": "on", "synchronous_commit": "off",
    },
    "strings": {
        "standard_conforming_strings": "off", "escape_string_warning": "on", "backslash_quote": "off",
        "quote_all_identifiers": "on", "array_nulls": "off", "transform_null_equals": "on", "search_path": "''",
        "plpgsql.variable_conflict": "use_column", "plpgsql.extra_errors": "'all'", "plpgsql.extra_warnings": "'all'",
    },
    "output": {
        "datestyle": "'SQL, DMY'", "intervalstyle": "sql_standard", "timezone": "'Asia/Kathmandu'",
        "extra_float_digits": "-15", "bytea_output": "escape", "xmloption": "document", "client_encoding": "LATIN1",
        "lc_monetary": "'C'", "default_text_search_config": "'german'",
    },
    "planner": {
        "enable_indexscan": "off", "enable_indexonlyscan": "off", "enable_bitmapscan": "off", "enable_nestloop": "off",
        "enable_hashjoin": "off", "enable_sort": "off", "plan_cache_mode": "force_generic_plan", "work_mem": "'64kB'",
        "jit": "on", "jit_above_cost": "0", "force_parallel_mode": "on", "maintenance_work_mem": "'1MB'",
    },
    "server": {
        "session_replication_role": "replica", "row_security": "off", "check_function_bodies": "off",
        "client_min_messages": "error", "log_statement": "none", "zero_damaged_pages": "on",
        "lo_compat_privileges": "on", "default_tablespace": "''", "temp_tablespaces": "''",
    },
}  # fmt: skip
TEXT = "SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')"
FRESH = "SELECT count(*) = 10 FROM docs_embedding WHERE NOT is_stale"


@pytest.fixture
def restrict(db):
    """Set something for every session of the database that begins from now on."""

    def set_all(settings):
        for name, value in settings.items():
            db.execute(f"ALTER DATABASE {db.info.dbname} SET {name} = {value}")

    return set_all


@pytest.mark.few(3)
@pytest.mark.parametrize("group", often(GROUPS, *GROUPS.keys() - {"planner"}))
def test_a_worker_and_a_drain_under(group, connect, db, docs, model, restrict):
    restrict(GROUPS[group])
    creating = connect()
    creating.execute("SET search_path = public; SET default_transaction_read_only = off")
    creating.execute(TEXT)
    connect().execute("CALL public.embed_work(until_empty => true)")
    assert_as_source(db)
    db.execute("UPDATE docs SET body = E'an \\\\ and a '' ' || id WHERE id <> 10; DELETE FROM docs WHERE id = 10")
    draining = connect()
    if group == "transactions":
        draining.execute("BEGIN READ WRITE; SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
    assert draining.execute("SELECT public.embed_drain()").fetchone() == (10,)
    draining.execute("COMMIT")
    assert_as_source(db)
    drifted = "SELECT state, rows FROM embed_verify('docs') WHERE state <> 'fresh' AND rows > 0"
    assert db.execute(drifted).fetchall() == []
    if group != "server":  # row_security = off refuses what a policy would have filtered
        draining.execute("SELECT * FROM public.embed_search('docs', 'body 3', 2)").fetchall()


def test_a_worker_outlives_the_statement_timeout_of_its_database(connect, db, docs, model, provider, restrict):
    db.execute(TEXT)
    restrict({"statement_timeout": "2000"})
    provider.hold()
    session = connect()
    work = Background(session, "CALL embed_work(until_empty => true)")
    provider.wait_for_requests()
    overdue = "SELECT clock_timestamp() - query_start > '2.5 s' FROM pg_stat_activity WHERE pid = %s"
    wait_until(lambda: db.execute(overdue, (work.pid,)).fetchone()[0], what="more time than the timeout")
    provider.release()
    work.result()
    assert_as_source(db)
    assert max(provider.sent.values()) == 1
    assert session.execute("SHOW statement_timeout").fetchone() == ("2s",)
    with pytest.raises(psycopg.errors.QueryCanceled):
        session.execute("SELECT pg_sleep(5)")


def test_a_worker_obeys_what_was_set_in_its_session(connect, db, docs, model, provider):
    db.execute(TEXT)
    provider.hold()
    session = connect()
    session.execute("SET statement_timeout = '500ms'")
    with pytest.raises(psycopg.errors.QueryCanceled):
        session.execute("CALL embed_work(until_empty => true)")


def test_a_drain_keeps_what_came_before_its_statement_would_be_cancelled(connect, db, docs, provider, restrict):
    """One request hangs: what the others brought is written, and not sent again."""
    provider.register(db, inputs=2)
    db.execute(TEXT)
    restrict({"statement_timeout": "'4s'"})
    session, answers = connect(), threading.Event()
    session.execute("SELECT embed_setting('lease')")  # Python is loaded now, however busy the machine is
    provider.fail(lambda _: answers.wait(60), when=lambda call: any("body 3" in text for text in call.texts))
    assert session.execute("SELECT embed_drain()").fetchone() == (8,)
    answers.set()
    hung = next(texts for texts in provider.requests if any("body 3" in text for text in texts))
    db.execute("CALL embed_work(until_empty => true)")
    assert_as_source(db)
    assert {text for text, times in provider.sent.items() if times > 1} == set(hung)


def test_a_read_only_database_says_what_to_type(connect, db, docs, model, restrict):
    db.execute(TEXT)
    restrict({"default_transaction_read_only": "on"})
    for call in (TEXT.replace("'docs'", "'more'", 1), "SELECT embed_drain()"):
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction) as refused:
            connect().execute(call)
        assert "SET default_transaction_read_only = off" in refused.value.diag.message_hint
    session = connect()
    session.execute("SET default_transaction_read_only = off")
    session.execute("SELECT embed_drain()")
    assert_as_source(db)


def test_work_gives_the_session_its_settings_back(connect, db, docs, model, provider, restrict):
    restrict(GROUPS["transactions"])
    session = connect()
    names = GROUPS["transactions"]
    before = [session.execute(f"SHOW {name}").fetchone() for name in names]
    session.execute("CALL embed_work(until_empty => true)")
    assert [session.execute(f"SHOW {name}").fetchone() for name in names] == before


def test_a_listening_worker_under_all_of_them(dsn, db, docs, model, restrict):
    db.execute(TEXT)
    for group in GROUPS.values():
        restrict(group)
    with ListeningWorker(dsn) as worker:
        wait_until(lambda: db.execute(FRESH).fetchone()[0], what="fresh rows")
        worker.wait_for_sleep(db)
        db.execute("UPDATE docs SET body = 'another'")
        wait_until(lambda: db.execute(FRESH).fetchone()[0], what="fresh rows")
        assert worker.said("disconnected") == []


@pytest.mark.few(4)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("statement_timeout", "'5s'"),
        ("default_transaction_read_only", "on"),
        ("default_transaction_isolation", "'repeatable read'"),
        ("row_security", "off"),
    ],
)
@pytest.mark.parametrize("for_whom", ["DATABASE {database}", "ROLE ALL IN DATABASE {database}", "ROLE postgres"])
def test_doctor_names_a_setting_and_its_advice_mends_it(dsn, db, name, value, for_whom):
    whom = for_whom.format(database=db.info.dbname)
    db.execute(f"ALTER {whom} SET {name} = {value}")
    try:
        doctor = Doctor(dsn)
        found = doctor.one("setting")
        assert found["message"].startswith(f"{name} is {value.strip(chr(39))} for role postgres (set for ")
        doctor.type(found)
        assert doctor.findings("setting") == []
    finally:
        db.execute(f"SET default_transaction_read_only = off; ALTER {whom} RESET {name}")
        db.execute(f"ALTER ROLE postgres IN DATABASE {db.info.dbname} RESET ALL")
