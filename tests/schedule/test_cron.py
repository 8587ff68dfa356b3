"""Scheduling with pg_cron: jobs that keep every pipeline fresh with no client, wherever pg_cron lives."""

from collections import Counter

import psycopg
import pytest
from cron_story import DATABASES

from evergreen_host.cluster import Cluster

ODD_NAMES = ["docs", "*", "docs #1", "50%_off", "50x_off", 'it\'s "quoted" \\ ü']
SCHEDULED = "SELECT jobname, command, database FROM cron.job WHERE jobname LIKE 'evergreen%' ORDER BY jobid"


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


def test_elsewhere_the_statements_to_run_are_returned(cron_story):
    statements = cron_story.answers["away"].splitlines()
    assert len(statements) == 2
    assert all(statement.startswith("SELECT cron.schedule_in_database(") for statement in statements)


@pytest.mark.parametrize("workers", [0, -1, 33, None])
def test_a_senseless_number_of_workers_is_refused(cron_story, home, workers):
    before = home.execute(SCHEDULED).fetchall()
    with pytest.raises(psycopg.errors.InvalidParameterValue) as refused:
        home.execute("SELECT embed_schedule(%s::int)", (workers,))
    assert refused.value.diag.message_hint
    assert home.execute(SCHEDULED).fetchall() == before


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
