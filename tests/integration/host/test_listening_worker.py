"""The process `evergreen worker`: it wakes, ends as it is told to, and outlives its sessions and the server."""

import shlex
import signal
from configparser import ConfigParser
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from typer.testing import CliRunner

from evergreen_host import cli
from evergreen_host.cluster import Cluster
from evergreen_host.worker import session as sessions
from tests.fixtures.pipelines.documents import assert_as_source, source_texts
from tests.fixtures.roles import people
from tests.fixtures.server.pooler import MiniPool
from tests.fixtures.waiting import wait_until
from tests.fixtures.worker_processes import ListeningWorker, heard, listen

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

EDIT = "UPDATE docs SET body = body || '!' WHERE id = 1"
FRESH = "SELECT count(*) FILTER (WHERE NOT is_stale) FROM docs_embedding"


def is_fresh(db):
    return db.execute(FRESH).fetchone() == (len(source_texts(db)),)


@pytest.fixture
def pipeline(db, docs, model, provider):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    db.execute("SELECT embed_drain()")
    provider.reset()


@pytest.fixture
def start(dsn, pipeline, db):
    """Starts workers; all are killed in the end."""
    started = []

    def one(*arguments, user="postgres"):
        worker = ListeningWorker(make_conninfo(dsn, user=user), *arguments)
        started.append(worker)
        return worker

    yield one
    for worker in started:
        worker.__exit__()


@pytest.fixture
def asleep(start, db):
    """A worker that sleeps."""
    worker = start()
    worker.wait_for("connected")
    worker.wait_for_sleep(db)
    return worker


def test_it_wakes_works_and_ends(connect, db, asleep, provider):
    ear = listen(connect())
    db.execute(EDIT)
    assert heard(ear, timeout=5, enough=1) == ["evergreen_wake"]
    wait_until(lambda: is_fresh(db), what="the edited row")
    asleep.wait_for_sleep(db)
    asleep.send(signal.SIGTERM)
    assert asleep.end() == (0, "")
    assert [event["event"] for event in asleep.events] == ["started", "connected", "stopping", "stopped"]
    assert provider.sent.total() == 1
    assert_as_source(db)


def test_work_that_nobody_announces_is_found_by_polling(db, asleep):
    """The pipeline's writers send no NOTIFY; a backfill never does."""
    db.execute("""SELECT embed_alter('docs', '{"wakeup": false}')""")
    db.execute(EDIT)
    wait_until(lambda: is_fresh(db), what="the edited row")


@pytest.mark.few(1)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_a_batch_lets_it_be_finished(db, asleep, provider, number):
    provider.hold()
    db.execute(EDIT)
    provider.wait_for_requests(1)
    asleep.send(number)
    asleep.wait_for("stopping")
    asked = "SELECT count(*) FROM pg_locks WHERE classid = 1163285067::oid AND mode = 'ExclusiveLock' AND granted"
    wait_until(lambda: db.execute(asked).fetchone() == (1,), what="the worker to be asked")
    assert asleep.is_running
    provider.release()
    assert asleep.end() == (0, "")
    assert_as_source(db)
    assert provider.sent.total() == 1


def test_a_signal_ends_it_when_there_is_work_for_hours(db, start, provider):
    """It finishes what is at the model and takes no more."""
    db.execute("INSERT INTO docs SELECT i, 'text', 'of ' || i FROM generate_series(100, 20000) i")
    provider.hold()
    worker = start()
    provider.wait_for_requests(1)
    worker.send(signal.SIGTERM)
    worker.wait_for("stopping")
    provider.release()
    assert worker.end()[0] == 0
    assert not is_fresh(db)
    assert set(provider.sent.values()) == {1}
    assert db.execute("SELECT count(*) FROM embed.in_flight").fetchone() == (0,)


def test_a_second_signal_ends_it_at_once(db, asleep, provider):
    provider.hold()
    db.execute(EDIT)
    provider.wait_for_requests(1)
    asleep.send(signal.SIGTERM)
    asleep.wait_for("stopping")
    asleep.send(signal.SIGTERM)
    code, said = asleep.end()
    assert (code, "second signal" in said) == (1, True)
    provider.release()
    db.execute("SELECT embed_drain()")
    assert_as_source(db)


def test_nobody_without_the_right_to_work_ends_a_call(dsn, db, asleep):
    people(db)
    with psycopg.connect(dsn, user="bob") as bob:
        bob.execute("SELECT pg_advisory_lock(1163285067, %s)", (asleep.backends[0],))
        db.execute(EDIT)
        wait_until(lambda: is_fresh(db), what="the edited row")


def test_a_worker_that_is_killed_leaves_its_batch_to_its_session(db, asleep, start, provider):
    provider.hold()
    db.execute(EDIT)
    provider.wait_for_requests(1)
    asleep.send(signal.SIGKILL)
    assert asleep.end()[0] == -signal.SIGKILL
    other = start()
    other.wait_for("connected")
    other.wait_for_sleep(db)  # there is nothing for it
    provider.release()
    wait_until(lambda: is_fresh(db), what="the edited row")
    assert provider.sent.total() == 1


def test_a_sleeper_that_does_not_answer_is_no_loss(connect, db, asleep, start):
    """Stopped it keeps its lock: others look by themselves, and writers are not told for long to send NOTIFY."""
    asleep.send(signal.SIGSTOP)
    other = start()
    other.wait_for("connected")
    for _ in range(3):
        db.execute(EDIT)
        wait_until(lambda: is_fresh(db), what="the edited row")
    said = "SELECT last_value / 1000.0 < date_part('epoch', clock_timestamp()) FROM embed.sleeper_until"
    wait_until(lambda: db.execute(said).fetchone() == (True,), what="the end of its time")
    ear = listen(connect())
    db.execute(EDIT)
    wait_until(lambda: is_fresh(db), what="the edited row")
    assert heard(ear) == []
    asleep.send(signal.SIGCONT)
    db.execute(EDIT)
    wait_until(lambda: is_fresh(db), what="the edited row")


def test_a_burst_is_worked_on_by_all(db, start, provider):
    worker = start("--workers", "3")
    worker.wait_for("connected", 3)
    worker.wait_for_sleep(db)
    provider.hold()
    db.execute("INSERT INTO docs SELECT i, 'text', 'of ' || i FROM generate_series(100, 10000) i")
    held = "SELECT count(DISTINCT pid) FROM pg_locks WHERE classid = 1163285062::oid AND pid = ANY (%s)"
    wait_until(lambda: db.execute(held, (worker.backends,)).fetchone() == (3,), what="claims of all three")
    provider.release()
    wait_until(lambda: is_fresh(db), what="the burst")
    assert set(provider.sent.values()) == {1}
    worker.send(signal.SIGTERM)
    assert worker.end() == (0, "")


def test_it_comes_back_after_its_session_or_the_server_went(db, asleep):
    db.execute("SELECT pg_terminate_backend(%s)", (asleep.backends[0],))
    db.execute(EDIT)
    asleep.wait_for("connected", 2)
    wait_until(lambda: is_fresh(db), what="the edited row")
    assert asleep.said("disconnected")[0]["level"] == "warning"


def test_it_outlives_restarts_of_the_server():
    with Cluster(options={"shared_preload_libraries": ""}) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as db:
            db.execute(
                "CREATE EXTENSION evergreen CASCADE; CREATE TABLE docs (id int PRIMARY KEY, title text, body text)"
            )
            db.execute("SELECT embed_model_add('h8', 'hash', 8)")
            db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'h8')")
        with ListeningWorker(server.dsn(), "--workers", "2") as worker:
            worker.wait_for("connected", 2)
            for number, mode in enumerate(("fast", "immediate"), 1):
                server.stop(mode)
                worker.wait_for("disconnected", 2 * number)
                server.start()
                with psycopg.connect(server.dsn(), autocommit=True) as db:
                    db.execute("INSERT INTO docs VALUES (%s, 'a', 'b')", (number,))
                    wait_until(lambda db=db: is_fresh(db), what="the row")
                worker.wait_for("connected", 2 * (number + 1))  # both, before the server goes again
            worker.send(signal.SIGTERM)
            assert worker.end() == (0, "")


REFUSALS = {
    "no server": ("host=/nowhere port=1", "postgres", (), 1, "cannot connect"),
    "no extension": ("dbname=postgres", "postgres", (), 3, "CREATE EXTENSION evergreen"),
    "no right": ("", "bob", (), 4, "GRANT embed_worker"),
    "no pipeline": ("", "postgres", ("--pipeline", "nope"), 1, "embed_pipelines"),
}


@pytest.mark.few(2)
@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_work_ends_with_a_reason(db, dsn, pipeline, case):
    people(db)
    change, user, arguments, code, hint = REFUSALS[case]
    with ListeningWorker(make_conninfo(f"{dsn} {change}", user=user), *arguments) as worker:
        ended, said = worker.end()
        assert (ended, hint in said) == (code, True), said
        assert "hint: " in said


def test_a_role_that_may_work_can_run_it(db, start):
    people(db)
    worker = start(user="the_worker")
    worker.wait_for("connected")
    db.execute(EDIT)
    wait_until(lambda: is_fresh(db), what="the edited row")
    worker.send(signal.SIGTERM)
    assert worker.end() == (0, "")


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_behind_a_pooler_it_works_or_says_why_not(cluster, db, dsn, pipeline, mode):
    with MiniPool(cluster, mode=mode) as pool, ListeningWorker(make_conninfo(dsn, port=pool.port)) as worker:
        if mode == "transaction":
            code, said = worker.end()
            assert (code, "pool_mode = session" in said) == (1, True)
            return
        worker.wait_for("connected")
        worker.wait_for_sleep(db)
        db.execute(EDIT)
        wait_until(lambda: is_fresh(db), what="the edited row")
        worker.send(signal.SIGTERM)
        assert worker.end() == (0, "")


def test_its_connections_notice_that_the_other_end_is_gone(dsn):
    """Unless the DSN has something else to say."""
    with sessions.connect(f"{dsn} keepalives_idle=77") as link:
        told = link.info.get_parameters()
    assert (told["keepalives_idle"], told["keepalives_count"], told["tcp_user_timeout"]) == ("77", "3", "30000")


def test_the_example_for_systemd_is_understood():
    """And it comes with the package: the file lies beside the module."""
    unit = Path(sessions.__file__).with_name("evergreen-worker.service")
    parsed = ConfigParser(strict=True, interpolation=None)
    parsed.optionxform = str  # pyright: ignore[reportAttributeAccessIssue]
    parsed.read_string(unit.read_text("utf-8"))
    command = shlex.split(parsed["Service"]["ExecStart"])
    code = CliRunner().invoke(cli.app, [*command[1:2], "--help"]).exit_code
    assert (command[1], code) == ("worker", 0)
    assert {"--dsn", "--workers"} < set(command)
    assert (parsed["Service"]["KillSignal"], parsed["Service"]["Restart"]) == ("SIGTERM", "on-failure")
