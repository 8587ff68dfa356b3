"""An operator's drill: trouble is made, `evergreen doctor` names it, and what it says to type mends it."""

import json
import shlex
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import psycopg
import pytest
from documents import drain_all, drain_once
from people import hash_model
from roads import create, serve
from waiting import wait_until

from evergreen_host.cluster import Cluster
from evergreen_host.operate import doctor as operate_doctor
from evergreen_host.operate.checks import workers
from evergreen_host.operate.link import linked

EVERGREEN = Path(sys.executable).with_name("evergreen")


class Doctor:
    """Runs the command; types what it says."""

    def __init__(self, dsn):
        self._dsn = dsn

    def findings(self, check=None):
        with linked(self._dsn, "evergreen doctor") as link:
            return [asdict(one) for one in operate_doctor.findings(link) if check is None or one.check == check]

    def one(self, check):
        found = self.findings(check)
        assert len(found) == 1, found
        return found[0]

    def type(self, finding):
        if finding["in_shell"]:
            subprocess.run(
                [EVERGREEN, *shlex.split(finding["advice"])[1:]], check=True, capture_output=True, timeout=300
            )
            return
        with psycopg.connect(self._dsn, autocommit=True) as session:
            for statement in finding["advice"].removesuffix(";").split("; "):
                session.execute(statement)


@pytest.fixture
def doctor(dsn):
    return Doctor(dsn)


@pytest.fixture
def healthy(db, docs, provider):
    serve(db, provider)
    create(db)
    drain_all(db)
    return "docs"


def fresh(db):
    found = db.execute("SELECT state, rows FROM embed_verify('docs') WHERE rows > 0 ORDER BY 1").fetchall()
    return found == [("fresh", 10)]


def test_nothing_is_wrong_where_nothing_is(doctor, db, healthy, dsn):
    assert doctor.findings() == []
    plain = subprocess.run([EVERGREEN, "doctor", "--dsn", dsn], capture_output=True, text=True, check=False)
    assert (plain.returncode, plain.stderr) == (0, "")
    assert "nothing is wrong" in plain.stdout
    db.execute("ALTER TABLE docs DROP COLUMN body")
    plain = subprocess.run([EVERGREEN, "doctor", "--dsn", dsn], capture_output=True, text=True, check=False)
    assert (plain.returncode, plain.stderr) == (1, "")
    assert "1 errors, 0 warnings" in plain.stdout
    told = subprocess.run([EVERGREEN, "doctor", "--json", "--dsn", dsn], capture_output=True, text=True, check=False)
    assert json.loads(told.stdout)["findings"] == doctor.findings()
    assert told.returncode == 1


def test_a_provider_that_is_down(doctor, db, healthy, provider):
    provider.answer = lambda _: (503, b"down for maintenance")
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 1")
    drain_once(db)
    found = doctor.one("model")
    assert "loop" in found["says"]
    assert "503" in found["says"]
    provider.answer = None
    assert doctor.findings("model") == []


def test_a_key_that_was_revoked(doctor, db, healthy, provider):
    provider.answer = lambda _: (401, b'{"error": {"message": "Incorrect API key provided"}}')
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 1")
    drain_once(db)
    found = doctor.one("model")
    assert found["level"] == "error"
    assert "401" in found["says"]
    assert "Incorrect API key" in found["says"]


def test_a_secret_that_cannot_be_read(doctor, db, healthy, provider):
    db.execute("SELECT embed_endpoint_set('loop', %s, secret => 'no_such_key')", (provider.url,))
    found = doctor.one("model")
    assert 'secret "no_such_key" is neither a file in' in found["says"]


def test_poison_rows(doctor, db, healthy, provider):
    provider.answer = lambda texts: (400, b"I do not like that") if any("poison" in t for t in texts) else None
    db.execute("UPDATE docs SET body = 'poison' WHERE id < 3")
    db.execute("UPDATE docs SET body = 'good' WHERE id = 3")
    drain_all(db)
    found = doctor.one("dead letters")
    assert found["says"].startswith("2 rows of pipeline docs were given up")
    assert "I do not like that" in found["says"]
    provider.answer = None
    doctor.type(found)
    drain_all(db)
    assert fresh(db)
    assert doctor.findings() == []


def test_nobody_works(doctor, db, healthy):
    db.execute("UPDATE docs SET body = 'edited'")
    assert doctor.findings() == [], "a moment ago is not yet for too long"
    db.execute("UPDATE embed.change SET changed_at = changed_at - interval '1 hour'")
    found = doctor.one("workers")
    assert "10 rows wait in docs" in found["says"]
    doctor.type(found)
    assert fresh(db)
    assert doctor.findings() == []


@pytest.mark.parametrize(
    "trouble",
    [
        "ALTER TABLE docs DISABLE TRIGGER ALL",
        "ALTER TABLE docs DISABLE TRIGGER evergreen_1_update",
        "ALTER TABLE docs ENABLE TRIGGER evergreen_1_update",
    ],
)
def test_a_trigger_that_is_disabled(doctor, db, healthy, trouble):
    db.execute("ALTER EVENT TRIGGER evergreen_follow_ddl DISABLE")  # or it would be mended at once
    db.execute(trouble)
    db.execute("ALTER EVENT TRIGGER evergreen_follow_ddl ENABLE ALWAYS")
    with db.transaction():
        db.execute("SET LOCAL session_replication_role = replica")
        db.execute("UPDATE docs SET body = 'unseen' WHERE id = 1")
    found = doctor.findings("trigger")
    assert found
    assert all("docs" in one["says"] for one in found)
    for one in found:
        doctor.type(one)
    drain_all(db)
    assert fresh(db)
    assert doctor.findings() == []


def test_a_table_that_was_renamed_is_followed(doctor, db, healthy):
    db.execute("ALTER TABLE docs RENAME TO papers")
    db.execute("UPDATE papers SET body = 'edited' WHERE id = 1")
    drain_all(db)
    assert fresh(db)
    assert doctor.findings() == []


def test_a_column_that_was_dropped(doctor, db, healthy):
    db.execute("ALTER TABLE docs DROP COLUMN body")
    found = doctor.one("pipeline")
    assert found["level"] == "error"
    assert '"body"' in found["says"]
    assert "embed_drop()" in found["says"]
    db.execute("SELECT embed_drop('docs')")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title}', model => 'loop')")
    drain_all(db)
    assert doctor.findings() == []


def test_a_budget_that_is_spent(doctor, db, healthy):
    db.execute("""SELECT embed_alter('docs', '{"daily_tokens": 5}')""")
    db.execute("UPDATE docs SET body = 'edited ' || id")
    drain_once(db)
    found = doctor.one("budget")
    assert "docs" in found["says"]
    doctor.type(found)
    drain_all(db)
    assert fresh(db)
    assert doctor.findings() == []


def test_a_pipeline_that_somebody_paused(doctor, db, healthy):
    db.execute("SELECT embed_pause('docs')")
    doctor.type(doctor.one("pipeline"))
    assert doctor.findings() == []


@pytest.mark.parametrize("index", [{}, {"distance": "l2"}, {"storage": "halfvec", "distance": "ip"}])
def test_an_index_that_is_missing(doctor, db, docs, provider, index):
    serve(db, provider)
    create(db, **index)
    drain_all(db)
    db.execute("SELECT embed_setting('index_from', '5')")
    doctor.type(doctor.one("index"))
    assert db.execute("SELECT indexed FROM embed_generations").fetchall() == [(True,)]
    assert doctor.findings() == []


def test_an_event_trigger_that_is_disabled(doctor, db, healthy):
    db.execute("ALTER EVENT TRIGGER evergreen_follow_ddl DISABLE")
    doctor.type(doctor.one("event trigger"))
    assert doctor.findings() == []


def test_a_transaction_that_is_left_open(doctor, db, healthy, connect, monkeypatch):
    """Read as it would be after an hour."""
    old = connect(autocommit=False)
    old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    old.execute("SELECT count(*) FROM docs")
    assert doctor.findings() == []
    monkeypatch.setattr(workers, "_OLD", "0 s")
    with linked(doctor._dsn, "a test") as link:
        (found,) = [one for one in workers.old_transactions(link) if str(old.info.backend_pid) in one.advice]
    db.execute(found.advice)
    with pytest.raises(psycopg.OperationalError):
        old.execute("SELECT 1")


def test_a_role_that_may_not_look_is_told_so(cluster, db, healthy):
    from people import people

    people(db)
    found = Doctor(f"{cluster.dsn(db.info.dbname)} options='-c role=bob'").findings()
    assert all(one["level"] == "warning" for one in found)


def test_a_library_of_another_version(doctor, db, healthy):
    """As after an installation of another version, before ALTER EXTENSION … UPDATE."""
    another = """regexp_replace(prosrc, 'evergreen.enter\\("[0-9.]+"', 'evergreen.enter("0.0.9"')"""
    db.execute(f"UPDATE pg_proc SET prosrc = {another} WHERE proname = 'embed_setting'")
    found = doctor.one("library")
    assert "reconnect" in found["says"]
    assert (found["in_shell"], found["advice"]) == (True, "evergreen install")


def test_jobs_of_pg_cron_that_do_not_run_or_fail():
    with Cluster() as cluster, psycopg.connect(cluster.dsn(), autocommit=True) as db:
        db.execute("CREATE EXTENSION evergreen CASCADE; CREATE EXTENSION pg_cron")
        hash_model(db)
        db.execute("SELECT embed_schedule()")
        doctor = Doctor(cluster.dsn())
        wait_until(lambda: not doctor.findings("workers"), what="no complaint of the new job")
        ((job,),) = db.execute("SELECT jobid FROM cron.job WHERE command ~ '^CALL .*embed_work'").fetchall()
        db.execute("UPDATE cron.job SET active = false")
        doctor.type(doctor.one("workers"))
        assert doctor.findings("workers") == []
        db.execute(
            "INSERT INTO cron.job_run_details (jobid, runid, command, status, return_message)"
            " VALUES (%s, 1000000, 'CALL embed_work()', 'failed', 'connection failed')",
            (job,),
        )
        assert "connection failed" in doctor.one("workers")["says"]
