"""Scheduling with pg_cron: jobs that keep every pipeline fresh without a client, in whichever database pg_cron is."""

from collections import Counter

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from evergreen_host.database import open_database
from evergreen_host.monitor.checks import workers
from tests.fixtures.roles import people
from tests.scenarios.cron_story import DATABASES

ODD_NAMES = ["docs", "*", "docs #1", "50%_off", "50x_off", 'it\'s "quoted" \\ ü']
SCHEDULED = "SELECT jobname, command, database FROM cron.job WHERE jobname LIKE 'evergreen%#%' ORDER BY jobid"
HOUSE = "SELECT jobname, command, schedule FROM cron.job WHERE jobname LIKE 'evergreen%cleanup' ORDER BY jobname"


@pytest.mark.begins
def test_scheduling_makes_one_job_a_worker_however_often_it_is_asked(cron_story, home):
    jobs = home.execute(SCHEDULED).fetchall()
    assert Counter(database for *_, database in jobs) == {"home": 2, "away": 2}
    assert len({name for name, *_ in jobs}) == 4
    assert len({command for _, command, database in jobs if database == "home"}) == 2  # each in a slot of its own
    assert cron_story.error is None


def test_pg_cron_that_is_not_created_is_named(cron_story):
    refused = cron_story.refused
    assert refused is not None
    assert refused.sqlstate == "55000"
    assert "CREATE EXTENSION pg_cron" in refused.diag.message_hint


def test_pg_cron_that_is_not_loaded_is_named():
    with (
        Cluster(options={"shared_preload_libraries": ""}) as cluster,
        psycopg.connect(cluster.dsn(), autocommit=True) as db,
    ):
        db.execute("CREATE EXTENSION evergreen CASCADE")
        for call in ("embed_schedule()", "embed_unschedule()"):
            with pytest.raises(psycopg.Error) as refused:
                db.execute(f"SELECT {call}")
            assert refused.value.sqlstate == "58P01"
            assert "shared_preload_libraries" in refused.value.diag.message_hint


def test_a_worker_role_schedules_once_it_may_use_pg_cron(cron_story, home):
    """It does not see shared_preload_libraries, and pg_cron grants nothing by itself."""
    home.execute("DO $$ BEGIN IF to_regrole('the_worker') IS NULL THEN CREATE ROLE the_worker; END IF; END $$")
    home.execute("GRANT embed_worker TO the_worker; SET ROLE the_worker")
    try:
        for call in ("embed_schedule()", "embed_unschedule()"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege) as refused:
                home.execute(f"SELECT {call}")
            assert refused.value.diag.message_hint == "GRANT USAGE ON SCHEMA cron TO the_worker;"
        home.execute(f"RESET ROLE; {refused.value.diag.message_hint} SET ROLE the_worker")
        assert home.execute("SELECT embed_schedule(pipeline => 'docs')").fetchone()[0].startswith("scheduled: ")
        home.execute("SELECT embed_unschedule('docs')")
    finally:
        home.execute("RESET ROLE; REVOKE ALL ON SCHEMA cron FROM the_worker")


def test_embed_create_says_that_a_worker_is_there(cron_story, home):
    home.execute("CREATE TABLE heard (id int PRIMARY KEY, body text)")
    heard = []
    home.add_notice_handler(lambda notice: heard.append(notice.message_primary))
    home.execute("SELECT embed_create('heard', 'heard', columns => '{body}', model => 'loop')")
    home.execute("SELECT embed_drop('heard')")
    said = "0 rows to embed; pg_cron runs a worker that does it; next: SELECT embed_drain() to have it done at once"
    assert heard[0] == said


def test_other_calls_say_so_too(cron_story, home):
    home.execute("CREATE TABLE told (id int PRIMARY KEY, body text)")
    home.execute("SELECT embed_create('told', 'told', columns => '{body}', model => 'loop')")
    heard = []
    home.add_notice_handler(lambda notice: heard.append(notice.message_primary))
    home.execute("SELECT embed_backfill('told')")
    home.execute("SELECT embed_build('told', chunker => embed_chunk_text())")
    home.execute("SELECT embed_drop('told')")
    said = "; pg_cron runs a worker that does it; next: SELECT embed_drain('told') to have it done at once"
    assert heard[0] == f"0 rows will be checked{said}"
    assert f": 0 rows to embed{said}, then SELECT * FROM embed_compare('told')" in heard[1]


def test_elsewhere_the_statements_to_run_are_returned(cron_story):
    statements = cron_story.answers["away"].splitlines()
    assert [statement.split("(")[0] for statement in statements] == [
        *["SELECT cron.schedule_in_database"] * 2,
        "SELECT cron.schedule",  # deletes what their runs leave behind
    ]


@pytest.mark.parametrize("workers", [0, -1, 33, None])
def test_a_senseless_number_of_workers_is_refused(cron_story, home, workers):
    before = home.execute(SCHEDULED).fetchall()
    with pytest.raises(psycopg.errors.InvalidParameterValue) as refused:
        home.execute("SELECT embed_schedule(%s::int)", (workers,))
    assert refused.value.diag.message_hint
    assert home.execute(SCHEDULED).fetchall() == before


@pytest.mark.few(1)
@pytest.mark.parametrize("place", DATABASES)
def test_pipelines_are_scheduled_apart_whatever_their_names(cron_story, request, home, place):
    """A name is matched as it is: no wildcards, no prefixes, and a pipeline called * is not all of them."""
    db = request.getfixturevalue(place)
    before = home.execute(SCHEDULED).fetchall()
    db.execute("CREATE TABLE odd (id int PRIMARY KEY, body text)")
    for number, name in enumerate(ODD_NAMES[1:]):
        db.execute(
            "SELECT embed_create(%s, 'odd', columns => '{body}', model => 'loop', view_name => %s)",
            (name, f"odd_{number}"),
        )

    def call(function: str, *arguments: object) -> None:
        marks = ", ".join(["%s"] * len(arguments))
        answer = db.execute(f"SELECT {function}({marks})", arguments).fetchone()[0]
        if place == "away":
            home.execute(answer)

    made = []
    for name in ODD_NAMES:
        there = home.execute(SCHEDULED).fetchall()
        call("embed_schedule", 1, name)
        now = home.execute(SCHEDULED).fetchall()
        assert now[:-1] == there, name
        made.append(now[-1])
    assert len({command for _, command, _ in made}) == len(ODD_NAMES)
    for _, command, database in made:
        assert database == place
        db.execute(command.replace("58 s", "10 ms"))
    for name, job in zip(ODD_NAMES, made, strict=True):
        there = home.execute(SCHEDULED).fetchall()
        call("embed_unschedule", name)
        assert home.execute(SCHEDULED).fetchall() == [other for other in there if other != job], name
    assert home.execute(SCHEDULED).fetchall() == before
    for name in ODD_NAMES[1:]:
        db.execute("SELECT embed_drop(%s)", (name,))
    db.execute("DROP TABLE odd")


RUN = """
INSERT INTO cron.job_run_details (jobid, runid, database, username, command, status, start_time, end_time)
VALUES (0, %s, %s, %s, %s, %s, now() - %s::interval, now() - %s::interval)
"""
OLD, NEW = "25 hours", "23 hours"
WORKER = "CALL public.embed_work(max_runtime => '58 s', slot => 1)"


def test_old_rows_of_our_own_runs_are_deleted_and_no_others(cron_story, home):
    """By the right that pg_cron gives a role over its own rows; a superuser's job deletes other roles', too."""
    people(home)
    home.execute("GRANT USAGE ON SCHEMA cron TO the_worker")
    jobs = home.execute(HOUSE).fetchall()
    assert [name for name, *_ in jobs] == ["evergreen away cleanup", "evergreen home cleanup"]
    for place, (_, cleaning, _) in zip(("away", "home"), jobs, strict=True):
        runs = {
            -1: (place, "the_worker", WORKER, "succeeded", OLD),
            -2: (place, "the_worker", WORKER, "failed", OLD),
            -3: (place, home.info.user, WORKER, "succeeded", OLD),
            -4: (place, "the_worker", WORKER, "succeeded", NEW),
            -5: (place, "the_worker", WORKER, "running", OLD),
            -6: ("elsewhere", "the_worker", WORKER, "succeeded", OLD),
            -7: (place, "the_worker", "SELECT 1", "succeeded", OLD),
        }
        for number, (database, role, command, status, age) in runs.items():
            home.execute(RUN, (number, database, role, command, status, age, age))
        home.execute("SET ROLE the_worker")
        home.execute(cleaning)
        home.execute("RESET ROLE")
        assert kept(home) == {-3, -4, -5, -6, -7}
        home.execute(cleaning)
        assert kept(home) == {-4, -5, -6, -7}
        home.execute("DELETE FROM cron.job_run_details WHERE runid < 0")


def kept(home):
    """Which of the runs that were made up are there."""
    return {number for (number,) in home.execute("SELECT runid FROM cron.job_run_details WHERE runid < 0")}


# As a pg_cron would take it that knows seconds: it writes down what it is asked for.
NEWER = """
UPDATE pg_extension SET extversion = '1.6' WHERE extname = 'pg_cron';
CREATE OR REPLACE FUNCTION cron.schedule(job_name text, schedule text, command text) RETURNS bigint LANGUAGE sql AS $$
    INSERT INTO cron.job (schedule, command, nodename, nodeport, database, username, jobname)
    VALUES (schedule, command, 'localhost', 5432, current_database(), current_user, job_name)
    ON CONFLICT (jobname, username) DO UPDATE SET schedule = EXCLUDED.schedule RETURNING jobid
$$;
"""
WHEN = "SELECT DISTINCT schedule FROM cron.job WHERE jobname LIKE 'evergreen home *%#%'"


def test_where_pg_cron_knows_seconds_workers_are_back_in_seconds(cron_story, home):
    with home.transaction(force_rollback=True):
        home.execute(NEWER)
        home.execute("SELECT embed_schedule(3)")
        assert home.execute(WHEN).fetchall() == [("10 seconds",)]
        home.execute("SELECT embed_unschedule()")
        assert home.execute(WHEN).fetchall() == []


def test_what_the_library_does_not_know_is_not_asked_of_it(cron_story, home):
    """The extension says more than the library that is loaded can do, as between an update and a restart."""
    with home.transaction(force_rollback=True):
        version = home.execute("SELECT extversion FROM pg_extension WHERE extname = 'pg_cron'").fetchone()[0]
        home.execute("UPDATE pg_extension SET extversion = '1.6' WHERE extname = 'pg_cron'")
        home.execute("SELECT embed_schedule(1)")
        old = tuple(int(part) for part in version.split("-")[0].split(".")[:2]) < (1, 5)
        assert home.execute(WHEN).fetchall() == [("* * * * *" if old else "10 seconds",)]


def test_limits_that_so_many_workers_exceed_are_named(cron_story, home, away):
    most = int(home.execute("SHOW cron.max_running_jobs").fetchone()[0])
    problems = "SELECT problem, hint FROM embed.cron_problems(%s)"
    assert home.execute(problems, (1,)).fetchall() == []
    ((said, hint),) = home.execute(problems, (most,)).fetchall()
    assert f"{most} jobs at once (cron.max_running_jobs)" in said
    assert "cron.max_running_jobs" in hint
    for db in (home, away):
        heard = []
        db.add_notice_handler(lambda notice, heard=heard: heard.append((notice.severity, notice.message_primary)))
        with db.transaction(force_rollback=True):
            db.execute("SELECT embed_schedule(2)")
            db.execute("SELECT embed_schedule(32)")
        warnings = [said for severity, said in heard if severity == "WARNING"]
        assert len(warnings) == 1
        assert "cron.max_running_jobs" in warnings[0]


def test_background_workers_and_what_is_switched_off_are_named():
    """As a server is that runs jobs in background workers, of which it has few."""
    options = {"cron.use_background_workers": True, "max_worker_processes": 4, "cron.database_name": "postgres"}
    with Cluster(options=options) as cluster, psycopg.connect(cluster.dsn(), autocommit=True) as db:
        db.execute("CREATE EXTENSION evergreen CASCADE")
        db.execute("CREATE EXTENSION pg_cron")
        said = [problem for (problem,) in db.execute("SELECT problem FROM embed.cron_problems(2)")]
        assert any("max_worker_processes is 4" in problem for problem in said)
        assert db.execute("SELECT count(*) FROM embed.cron_problems(1)").fetchone() == (0,)
        with open_database(cluster.dsn(), "test") as link:
            assert [*workers.limits(link)] == []
            db.execute("SELECT embed_schedule(2)")
            (finding,) = workers.limits(link)
            assert "max_worker_processes is 4" in finding.message


SOCKET = "local all all trust\n"
PASSWORDS = f"{SOCKET}host all all 127.0.0.0/8 scram-sha-256\nhost all all ::1/128 scram-sha-256\n"


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("options", "lines", "named"),
    [
        ({}, PASSWORDS, "line 2 of pg_hba.conf asks for a password (scram-sha-256)"),
        (
            {},
            f"{SOCKET}host test all 127.0.0.1/32 reject\nhost all carol all reject\n{PASSWORDS}",
            "line 5",
        ),
        ({}, f"{SOCKET}host all all samehost trust\n{PASSWORDS}", None),
        ({"cron.host": ""}, PASSWORDS, None),
        ({"cron.use_background_workers": True}, PASSWORDS, None),
    ],
    ids=["password", "other lines first", "trusted first", "socket", "background"],
)
def test_a_line_that_keeps_pg_cron_out_is_named_at_once(options, lines, named):
    defaults = {"cron.database_name": "postgres", "cron.host": "localhost", "listen_addresses": "127.0.0.1"}
    with Cluster(options={**defaults, **options}) as cluster, psycopg.connect(cluster.dsn(), autocommit=True) as db:
        (cluster.data / "pg_hba.conf").write_text(lines, "utf-8")
        db.execute("CREATE EXTENSION evergreen CASCADE")
        db.execute("CREATE EXTENSION pg_cron")
        warned = []
        db.add_notice_handler(lambda notice: warned.append((notice.severity, notice.message_primary or "")))
        db.execute("SELECT embed_schedule()")
        said = [message for severity, message in warned if severity == "WARNING"]
        assert len(said) == (named is not None)
        promised = [message for severity, message in warned if severity == "NOTICE"]
        assert len(promised) == (named is None), "that a worker runs is said only where one can"
        with open_database(cluster.dsn(), "test") as link:
            found = [finding.message for finding in workers.limits(link)]
        assert found == said
        if named:
            assert named in said[0]


@pytest.mark.ends
def test_pg_cron_alone_keeps_two_databases_fresh_for_two_minutes(cron_story, home):
    assert cron_story.over.wait(300)
    if cron_story.error is not None:
        raise cron_story.error
    runs = "SELECT command, status, return_message FROM cron.job_run_details WHERE jobid = ANY(%s)"
    failed = [run for run in home.execute(runs, (cron_story.jobs,)).fetchall() if run[1] == "failed"]
    assert failed == []
    for database in DATABASES:
        with cron_story.connect(database) as db:
            states = dict(db.execute("SELECT * FROM embed_verify('docs')").fetchall())
        assert {state: rows for state, rows in states.items() if rows} == {"fresh": len(cron_story.written) / 2}
    # Five workers overlapped all the time, and none sent what another had sent.
    assert cron_story.provider.sent == dict.fromkeys(cron_story.written, 1)


@pytest.mark.ends
def test_unscheduling_removes_the_jobs_of_this_database_only(cron_story, home, away):
    cron_story.over.wait(300)
    home.execute(away.execute("SELECT embed_unschedule()").fetchone()[0])
    assert {database for *_, database in home.execute(SCHEDULED).fetchall()} == {"home"}
    home.execute("SELECT embed_unschedule()")
    assert home.execute("SELECT jobname FROM cron.job").fetchall() == [("overlap",)]
    assert home.execute("SELECT embed_unschedule()").fetchone() == ("unscheduled: nothing was scheduled",)
