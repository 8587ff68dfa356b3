"""`evergreen doctor` names what is wrong, and its own advice mends it; ten troubles more are in test_drill.py."""

import json
import subprocess

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from evergreen_host.database import open_database
from evergreen_host.monitor.checks import workers
from tests.fixtures.doctor import EVERGREEN, Doctor
from tests.fixtures.pipelines.documents import drain_all
from tests.fixtures.pipelines.endpoints import create, serve
from tests.fixtures.roles import hash_model
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.shared_database


@pytest.mark.slow
def test_nothing_is_wrong_where_nothing_is(doctor, db, healthy, dsn):
    assert doctor.findings() == []
    plain = subprocess.run([EVERGREEN, "doctor", "--dsn", dsn], capture_output=True, text=True, check=False)
    assert (plain.returncode, plain.stderr) == (0, "")
    assert "no problems found" in plain.stdout
    db.execute("ALTER TABLE docs DROP COLUMN body")
    plain = subprocess.run([EVERGREEN, "doctor", "--dsn", dsn], capture_output=True, text=True, check=False)
    assert (plain.returncode, plain.stderr) == (1, "")
    assert "1 error, 0 warnings" in plain.stdout
    told = subprocess.run([EVERGREEN, "doctor", "--json", "--dsn", dsn], capture_output=True, text=True, check=False)
    assert json.loads(told.stdout)["findings"] == doctor.findings()
    assert told.returncode == 1


@pytest.mark.slow
def test_a_secret_that_cannot_be_read(doctor, db, healthy, provider):
    db.execute("SELECT embed_endpoint_set('loop', %s, secret => 'no_such_key')", (provider.url,))
    found = doctor.one("model")
    assert 'secret "no_such_key" is neither a file in' in found["message"]


@pytest.mark.slow
@pytest.mark.parametrize("where", ["secret", "headers", "query"])
def test_a_secret_is_looked_at_before_its_endpoint_is_used(doctor, db, healthy, where):
    """Doctor finds what would otherwise show only when the first text is sent."""
    options = {} if where == "secret" else {where: {"api-key": {"secret": "no_such_key"}}}
    secret = "no_such_key" if where == "secret" else None
    statement = "SELECT embed_endpoint_set('later', 'https://models.example.com/v1', secret => %s, options => %s)"
    db.execute(statement, (secret, json.dumps(options)))
    found = doctor.one("endpoint")
    assert (found["level"], found["in_shell"]) == ("error", True)
    assert 'endpoint later: secret "no_such_key" is neither a file in' in found["message"]
    assert found["advice"].startswith("install -m 0640")
    assert found["advice"].endswith("/no_such_key")


@pytest.mark.slow
def test_a_column_that_was_dropped(doctor, db, healthy):
    db.execute("ALTER TABLE docs DROP COLUMN body")
    found = doctor.one("pipeline")
    assert found["level"] == "error"
    assert '"body"' in found["message"]
    assert "embed_drop()" in found["message"]
    db.execute("SELECT embed_drop('docs')")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title}', model => 'loop')")
    drain_all(db)
    assert doctor.findings() == []


@pytest.mark.slow
def test_a_pipeline_that_somebody_paused(doctor, db, healthy):
    db.execute("SELECT embed_pause('docs')")
    doctor.type(doctor.one("pipeline"))
    assert doctor.findings() == []


@pytest.mark.slow
@pytest.mark.parametrize("index", [{}, {"distance": "l2"}, {"storage": "halfvec", "distance": "ip"}])
def test_an_index_that_is_missing(doctor, db, docs, provider, index):
    serve(db, provider)
    create(db, **index)
    drain_all(db)
    db.execute("SELECT embed_setting('index_from', '5')")
    doctor.type(doctor.one("index"))
    assert db.execute("SELECT indexed FROM embed_generations").fetchall() == [(True,)]
    assert doctor.findings() == []


@pytest.mark.slow
def test_an_event_trigger_that_is_disabled(doctor, db, healthy):
    db.execute("ALTER EVENT TRIGGER evergreen_follow_ddl DISABLE")
    doctor.type(doctor.one("event trigger"))
    assert doctor.findings() == []


@pytest.mark.slow
def test_a_transaction_that_is_left_open(doctor, db, healthy, connect, monkeypatch):
    """Read as it would be after an hour."""
    old = connect(autocommit=False)
    old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    old.execute("SELECT count(*) FROM docs")
    assert doctor.findings() == []
    monkeypatch.setattr(workers, "_MAX_TRANSACTION_AGE", "0 s")
    with open_database(doctor.dsn, "a test") as link:
        (found,) = [one for one in workers.old_transactions(link) if str(old.info.backend_pid) in one.advice]
    db.execute(found.advice)
    with pytest.raises(psycopg.OperationalError):
        old.execute("SELECT 1")


@pytest.mark.slow
def test_a_role_that_may_not_look_is_told_so(cluster, db, healthy):
    from tests.fixtures.roles import people

    people(db)
    found = Doctor(f"{cluster.dsn(db.info.dbname)} options='-c role=bob'").findings()
    assert all(one["level"] == "warning" for one in found)


@pytest.mark.slow
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
        assert "connection failed" in doctor.one("workers")["message"]


@pytest.mark.few(1)
@pytest.mark.slow
@pytest.mark.parametrize("table", ["embed.change_log", "embed.setting"])
def test_a_table_of_ours_that_is_locked_is_all_that_is_wrong(doctor, db, docs, connect, table):
    """As by VACUUM FULL: the checks that need it name it and its holder, and no check reports something else."""
    hash_model(db)
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')")
    before = doctor.findings()
    with connect(autocommit=False) as other:
        other.execute(f"LOCK TABLE {table}")
        found = [one for one in doctor.findings() if one not in before]
        pid = other.info.backend_pid
    said = (
        f"check failed: table {table} is locked by process {pid} (LOCK TABLE {table}); wait until it is done, or end it"
    )
    assert {(one["level"], one["message"]) for one in found} == {("warning", said)}
    assert {one["advice"] for one in found} == {f"SELECT pg_terminate_backend({pid});"}
    assert doctor.findings() == before
