"""A role that may create in the extension's schema makes routines with the names of ours, to be called in their place.

The kind: Postgres takes the candidate that needs the fewest defaults and conversions, so a call that leaves arguments
out may be another role's. The calls that run by themselves, pg_cron's and the listening worker's, give every argument
with its type: at worst such a call is not unique, and fails. What is typed by hand `evergreen doctor` can only warn of.
"""

import re
from contextlib import suppress

import psycopg
import pytest

from evergreen_host.worker.session import Session
from tests.fixtures.doctor import Doctor
from tests.fixtures.roles import people

NEARER = [
    "embed_work()",
    "embed_work(max_runtime text, slot int)",
    "embed_work(pipeline text, max_runtime text, until_idle boolean)",
    "embed_work(max_runtime text, pipeline text, until_empty boolean, slot int, until_idle boolean)",
]
NO_NEARER = ["embed_work(text, interval, boolean, int, boolean, int = 1)", "embed_work(VARIADIC text[])"]


@pytest.fixture
def plant(db, connect):
    """Let alice make procedures in the extension's schema that note who runs them."""
    people(db)
    db.execute("CREATE TABLE alice.seen (who name); GRANT INSERT ON alice.seen TO PUBLIC")
    db.execute("GRANT CREATE ON SCHEMA public TO alice")
    alice = connect("alice")

    def make(*procedures):
        for procedure in procedures:
            body = "LANGUAGE plpgsql AS $$BEGIN INSERT INTO alice.seen VALUES (current_user); END$$"
            alice.execute(f"CREATE PROCEDURE public.{procedure} {body}")

    return make


def scheduled(db):
    """The command that pg_cron is given."""
    told = db.execute("SELECT embed_schedule(1)").fetchone()[0]
    return re.search(r"'(CALL .*)', '[^']*'\);", told)[1].replace("''", "'").replace("58 s", "0.1 s")


def test_what_pg_cron_and_the_worker_call_is_ours(db, dsn, docs, plant):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}')")
    plant(*NEARER)
    db.execute(scheduled(db))
    with Session(dsn, None, print) as worker:
        worker.work()
    assert db.execute("SELECT * FROM alice.seen").fetchall() == []
    assert db.execute("SELECT fresh FROM embed_status").fetchone() == (10,)


@pytest.mark.parametrize("procedure", NO_NEARER)
def test_where_another_fits_as_well_nothing_runs(db, plant, procedure):
    plant(procedure)
    with suppress(psycopg.errors.AmbiguousFunction):
        db.execute(scheduled(db))
    assert db.execute("SELECT * FROM alice.seen").fetchall() == []


def test_doctor_names_them(db, dsn, connect, plant):
    plant("embed_work()")
    connect("alice").execute("CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    doctor = Doctor(dsn)
    found = doctor.one("look-alike")
    assert "embed_work()" in found["message"]
    assert "alice" in found["message"]
    doctor.type(found)
    assert doctor.findings("look-alike") == []
