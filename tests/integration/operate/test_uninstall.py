"""Uninstalling leaves nothing, and meets nothing of our own in the way.

The kind: a step of the documented way out fails on a lock of our own workers (an index that is being built, a batch
that is being written), or leaves something behind: tables, jobs of pg_cron, roles, a slot, a publication, triggers.
"""

import re

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.fixtures.error_checks import refused
from tests.fixtures.paths import PROJECT
from tests.fixtures.roles import hash_model
from tests.fixtures.waiting import Background, wait_until
from tests.fixtures.wal import WORK

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]


@pytest.fixture(scope="module")
def server():
    options = {"wal_level": "logical", "cron.launch_active_jobs": False}
    with Cluster(options=options) as made:
        yield made


@pytest.fixture
def db(server):
    with psycopg.connect(server.dsn(), autocommit=True) as session:
        session.execute("CREATE EXTENSION evergreen CASCADE; CREATE EXTENSION pg_cron")
        hash_model(session)
        session.execute("SELECT embed_setting('index_from', '100')")
        session.execute("CREATE TABLE docs (id int PRIMARY KEY, body text)")
        session.execute("INSERT INTO docs SELECT i, 'doc ' || i FROM generate_series(1, 200) i")
        session.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')")
        session.execute(WORK)
        yield session
        session.execute("DROP EXTENSION IF EXISTS evergreen CASCADE; DROP SCHEMA IF EXISTS embed_store CASCADE")
        session.execute("DROP EXTENSION pg_cron; DROP TABLE docs")


@pytest.fixture
def connect(server):
    opened = []

    def open_one(**options):
        opened.append(psycopg.connect(server.dsn(), autocommit=True, **options))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


def jobs(db):
    return [name for (name,) in db.execute("SELECT jobname FROM cron.job ORDER BY 1").fetchall()]


def notices(session):
    heard = []
    session.add_notice_handler(lambda notice: heard.append((notice.message_primary, notice.message_hint)))
    return heard


def what_is_left(db):
    """Everything that is of ours by its name, in the database and in the cluster."""
    looks = (
        "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'embed%'",
        "SELECT rolname FROM pg_roles WHERE rolname LIKE 'embed%'",
        "SELECT relname FROM pg_class WHERE relname ~ 'evergreen|embed'",
        "SELECT proname FROM pg_proc WHERE proname ~ 'evergreen|^embed'",
        "SELECT tgname FROM pg_trigger WHERE tgname LIKE 'evergreen%'",
        "SELECT evtname FROM pg_event_trigger WHERE evtname LIKE 'evergreen%'",
        "SELECT pubname FROM pg_publication",
        "SELECT slot_name FROM pg_replication_slots",
        "SELECT jobname FROM cron.job",
        "SELECT setconfig::text FROM pg_db_role_setting",
    )
    return [name for look in looks for (name,) in db.execute(look).fetchall()]


def test_the_documented_way_out_leaves_nothing(db):
    db.execute("SELECT embed_schedule(workers => 2)")
    db.execute("SELECT embed_capture_set('docs', 'cdc')")
    wait_until(
        lambda: db.execute(WORK) and db.execute("SELECT capture FROM embed_status").fetchone() == ("cdc",), what="cdc"
    )
    db.execute("SELECT embed_build('docs', options => '{\"distance\": \"l2\"}')")
    db.execute(WORK)
    db.execute(WORK)
    assert len(jobs(db)) == 7, "two workers, cleanup, two indexes of each generation"
    page = (PROJECT / "docs" / "how-to" / "uninstall.md").read_text("utf-8")
    (sequence,) = re.findall(r"^```sql\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    for statement in re.findall(r"^[A-Z].*?;", sequence, re.MULTILINE):
        db.execute(statement)
    assert what_is_left(db) == []


def test_unscheduling_says_what_still_runs(db, connect):
    db.execute("SELECT embed_schedule()")
    working = Background(connect(), "CALL embed_work(max_runtime => '1 min')")
    wait_until(
        lambda: db.execute("SELECT 1 FROM pg_stat_activity WHERE query ~ '^CALL' AND state = 'active'").fetchone()
    )
    heard = notices(db)
    db.execute("SELECT embed_unschedule()")
    assert f"1 worker is still running (pid {working.pid})" in heard[-1][0]
    assert jobs(db) == []
    db.execute("SELECT pg_cancel_backend(%s)", (working.pid,))
    with pytest.raises(psycopg.errors.QueryCanceled):
        working.result()


@pytest.mark.parametrize("call", ["SELECT embed_drop('docs')", "SELECT embed_retire('docs', 2)"])
def test_a_build_of_pg_crons_lets_go(db, connect, call):
    """CREATE INDEX CONCURRENTLY as its job runs it; it waits for a reader, as a long one takes its time."""
    db.execute("SELECT embed_build('docs', options => '{\"distance\": \"l2\"}')")
    db.execute(WORK)
    db.execute(WORK)
    number = 2 if "retire" in call else 1
    (command,) = db.execute(f"SELECT command FROM cron.job WHERE jobname LIKE '%% g{number}%%'").fetchone()
    reader = connect()
    reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class")
    build = Background(connect(), command)
    wait_until(lambda: db.execute("SELECT 1 FROM pg_stat_progress_create_index").fetchone(), what="the build")
    db.execute(call)
    with pytest.raises(psycopg.errors.QueryCanceled):
        build.result()
    assert not [name for name in jobs(db) if f" g{number}_" in name]
    reader.execute("ROLLBACK")


def test_a_worker_that_builds_lets_go_and_works_on(db, connect):
    """Without pg_cron the worker itself builds; the cancel is for the index, so its call goes on."""
    db.execute("DROP EXTENSION pg_cron")
    db.execute("CREATE TABLE others (id int PRIMARY KEY, body text); INSERT INTO others VALUES (1, 'one')")
    db.execute("SELECT embed_create('others', 'others', columns => '{body}', model => 'hash8')")
    db.execute(
        """
        CREATE FUNCTION slowly() RETURNS event_trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF current_query() ~ '^CALL' THEN
                LOCK TABLE embed_store.g1 IN SHARE MODE;
                PERFORM set_config('application_name', 'builds', false), pg_sleep(60);
            END IF;
        END $$;
        CREATE EVENT TRIGGER slowly ON ddl_command_start WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION slowly();
        """
    )
    worker = Background(connect(), WORK)
    wait_until(lambda: db.execute("SELECT 1 FROM pg_stat_activity WHERE application_name = 'builds'").fetchone())
    cancelling = Background(
        connect(),
        "SELECT pg_sleep(0.3), pg_cancel_backend(%s)",
        (worker.pid,),
    )
    db.execute("SELECT embed_drop('docs')")
    cancelling.result()
    worker.result()
    assert db.execute("SELECT count(*) FROM others_embedding").fetchone() == (1,)
    db.execute("SELECT embed_drop('others'); DROP TABLE others; DROP FUNCTION slowly CASCADE; CREATE EXTENSION pg_cron")


def test_a_session_that_is_no_worker_is_named_at_once(db, connect):
    reader = connect()
    reader.execute("BEGIN; LOCK TABLE embed_store.g1 IN ACCESS SHARE MODE")
    error = refused(db, "SELECT embed_drop('docs')")
    assert error.sqlstate == "55P03"
    assert str(reader.info.backend_pid) in str(error)
    reader.execute("ROLLBACK")
    db.execute("SELECT embed_drop('docs')")


def test_cascade_says_what_it_leaves_and_its_hint_removes_it(db):
    db.execute("SELECT embed_schedule()")
    heard = notices(db)
    db.execute("DROP EXTENSION evergreen CASCADE")
    ((said, hint),) = [one for one in heard if "leaves behind" in one[0]]
    for word in ("pg_cron jobs", "embed_store", "1 generation (", " kB)", "embed_admin"):
        assert word in said
    for statement in hint.split(";"):
        if statement.strip():
            db.execute(statement)
    assert what_is_left(db) == []
