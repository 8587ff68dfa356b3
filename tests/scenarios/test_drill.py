"""The operator's drill: ten problems; `evergreen doctor` or embed_status names each, and its advice fixes it."""

import shutil
import tempfile
from pathlib import Path

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from evergreen_host.packaging import dist
from evergreen_host.packaging.postgres import find_postgres
from tests.fixtures.doctor import Doctor
from tests.fixtures.pipelines.documents import assert_as_source, drain_all, drain_once, status_of
from tests.fixtures.pipelines.endpoints import create, hurry, let_time_pass, serve, table
from tests.fixtures.pipelines.freshness import all_fresh, verify
from tests.fixtures.server.log import ServerLog
from tests.fixtures.server.own_server import copy_of
from tests.fixtures.server.small_disk import SmallDisk, dropped, mounted
from tests.fixtures.server.template import make_template
from tests.fixtures.waiting import Background, wait_until
from tests.fixtures.wal import OPTIONS, work, work_until

WORK = "CALL embed_work(max_runtime => '10 minutes')"


@pytest.fixture(scope="module")
def folder():
    """Where the server finds secrets and a small disk; pytest's own folders are closed to the server's user."""
    made = Path(tempfile.mkdtemp(prefix="evergreen-drill-"))
    made.chmod(0o755)
    (made / "secrets").mkdir()
    (made / "disk").mkdir()
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def cluster(folder):
    """A server whose WAL can be decoded, with secrets of its own."""
    with Cluster(options=OPTIONS, env={"EVERGREEN_SECRETS": str(folder / "secrets")}) as made:
        yield made


@pytest.fixture(scope="module")
def template(cluster):
    """Its database with the extension."""
    return make_template(cluster)


def is_well(doctor, db):
    """Nothing is wrong any more, and every row is fresh."""
    assert doctor.findings() == []
    assert_as_source(db)


def recovers(doctor, db):
    """By itself: time passes, and a worker runs."""
    let_time_pass(db)
    drain_all(db)
    is_well(doctor, db)


def test_1_the_provider_is_down(doctor, db, healthy, provider):
    """There is nothing to type here; it goes on when the provider does."""
    provider.answer = lambda _: (503, b"down for maintenance")
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 1")
    drain_once(db)
    found = doctor.one("model")
    assert "model loop at endpoint loop of docs does not answer" in found["message"]
    assert "503: 'down for maintenance'; workers retry automatically" in found["message"]
    assert found["advice"] == ""
    assert "503" in status_of(db, "last_error")
    provider.answer = None
    recovers(doctor, db)


def test_2_the_key_is_revoked(doctor, db, docs, provider, folder, cluster):
    key = folder / "secrets" / "loop_key"
    install_key(cluster, key, "sk-old")
    db.execute("SELECT embed_endpoint_set('loop', %s, secret => 'loop_key')", (provider.url,))
    db.execute("SELECT embed_model_add('loop', 'openai', 8, endpoint => 'loop')")
    create(db)
    drain_all(db)
    assert_as_source(db)

    def judge(_):
        given = provider.calls[-1].headers["authorization"]
        return None if given == "Bearer sk-new" else (401, b'{"error": {"message": "Incorrect API key provided"}}')

    provider.answer = judge
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 1")
    drain_once(db)
    found = doctor.one("model")
    assert "401" in found["message"]
    assert "Incorrect API key provided" in found["message"]
    assert str(key) in found["advice"]
    doctor.type(found, typed="sk-new\n")
    recovers(doctor, db)


def install_key(cluster, path, value):
    path.write_text(value)
    path.chmod(0o640)
    if cluster.os_user:
        shutil.chown(path, "root", cluster.os_user)


def test_3_rows_are_poison(doctor, db, healthy, provider):
    provider.answer = lambda texts: (400, b"I do not like that") if any("poison" in t for t in texts) else None
    db.execute("UPDATE docs SET body = 'poison' WHERE id < 3")
    db.execute("UPDATE docs SET body = 'good' WHERE id = 3")
    drain_all(db)
    found = doctor.one("dead letters")
    assert found["message"].startswith("2 rows of pipeline docs failed for good")
    assert "I do not like that" in found["message"]
    provider.answer = None
    doctor.type(found)
    drain_all(db)
    is_well(doctor, db)


def test_4_nobody_works(doctor, db, healthy):
    db.execute("UPDATE docs SET body = 'edited'")
    assert doctor.findings() == [], "a moment ago is not yet for too long"
    db.execute("UPDATE embed.change_log SET changed_at = changed_at - interval '1 hour'")
    found = doctor.one("workers")
    assert "10 rows pending in docs" in found["message"]
    doctor.type(found)
    is_well(doctor, db)


@pytest.fixture
def read_from_the_wal(db, docs, provider):
    """Ten documents whose changes are read from the WAL; the slot may keep 128 MB."""
    serve(db, provider)
    options = '{"slot_limit": "128 MB"}'
    db.execute(
        "SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop', capture => 'cdc',"
        " options => %s)", (options,),
    )  # fmt: skip
    work_until(db, "docs", "cdc")
    yield "docs"
    db.execute("SELECT embed_drop('docs')")


def write_wal(db, megabytes):
    db.execute("DROP TABLE IF EXISTS noise")
    db.execute("CREATE TABLE noise AS SELECT repeat('x', 1000) AS body FROM generate_series(1, %s)", (megabytes * 950,))


def test_5_the_slot_grows_because_nobody_reads(doctor, db, read_from_the_wal, cluster):
    db.execute("UPDATE docs SET body = 'in the WAL' WHERE id = 1")
    assert doctor.findings() == []
    write_wal(db, 40)
    found = doctor.one("slot")
    assert found["level"] == "error"
    assert "no worker reads the WAL: replication slot evergreen_" in found["message"]
    assert "of docs retains " in found["message"]
    assert "slot_limit: 128 MB" in found["message"]
    doctor.type(found)
    is_well(doctor, db)


def test_5_the_slot_grows_because_of_a_transaction(doctor, db, read_from_the_wal, connect):
    holder = connect(autocommit=False)
    holder.execute("CREATE TABLE held (id int)")
    db.execute("CHECKPOINT")
    write_wal(db, 70)
    work(db)
    found = doctor.one("slot")
    assert "a transaction of postgres" in found["message"]
    assert str(holder.info.backend_pid) in found["advice"]
    doctor.type(found)
    with pytest.raises(psycopg.OperationalError):
        holder.execute("SELECT 1")

    def is_let_go():
        db.execute("CHECKPOINT")
        write_wal(db, 2)
        work(db)
        return doctor.findings("slot") == []

    wait_until(is_let_go, what="a slot that has moved on")
    is_well(doctor, db)


@pytest.fixture
def small_disk(cluster, folder, db):
    """Put a table on a disk of its own: ``small_disk.take('embed_store.g1')``; ``fill`` it, ``make_room``."""
    disk = folder / "disk"
    with mounted(disk, cluster.os_user), psycopg.connect(cluster.dsn(), autocommit=True) as admin:
        admin.execute(f"CREATE TABLESPACE small LOCATION '{disk}'")
        yield SmallDisk(db, disk)
        db.execute("ALTER TABLE embed_store.g1 SET TABLESPACE pg_default")
        wait_until(lambda: dropped(admin), what="an empty tablespace")


@pytest.fixture
def full(small_disk, db, healthy, connect):
    """The vectors' disk is full, and a worker that works for this pipeline and another one has noticed."""
    table(db, "notes", 3)
    create(db, "notes")
    small_disk.take("embed_store.g1")
    small_disk.fill()
    db.execute("INSERT INTO docs SELECT i, 'new ' || i, 'body' FROM generate_series(11, 300) i")
    worker = Background(connect(), WORK)
    wait_until(lambda: "the disk is full" in (status_of(db, "last_error") or ""), what="a word of the disk")
    yield small_disk
    assert worker.running
    db.execute("SELECT pg_terminate_backend(%s)", (worker.pid,))
    with pytest.raises(psycopg.OperationalError):
        worker.result()


def test_6_the_disk_is_full_and_room_is_made(doctor, db, full, provider, cluster):
    """Nothing to type in Postgres, which cannot make room; others go on meanwhile, and nothing is paid for twice."""
    wait_until(lambda: verify(db, "notes") == all_fresh(3), what="the pipeline on another disk")
    found = doctor.one("disk")
    provider.sent.pop("evergreen")  # as the doctor asks models
    assert "in tablespace small, " in found["message"]
    assert "work resumes by itself when there is space" in found["message"]
    full.make_room()
    hurry(db)
    wait_until(lambda: verify(db, "docs") == all_fresh(300), 60, "the work to go on by itself")
    assert {*provider.sent.values()} == {1}
    is_well(doctor, db)


@pytest.mark.stress
def test_6_the_disk_is_full_and_the_vectors_move(doctor, db, full):
    doctor.type(doctor.one("disk"))
    hurry(db)
    wait_until(lambda: verify(db, "docs") == all_fresh(300), 60, "the work to go on")
    is_well(doctor, db)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "trouble",
    [
        "ALTER TABLE docs DISABLE TRIGGER ALL",
        "ALTER TABLE docs DISABLE TRIGGER evergreen_1_update",
        "ALTER TABLE docs ENABLE TRIGGER evergreen_1_update",
        "DROP TRIGGER evergreen_1_update ON docs",
    ],
)
def test_7_a_trigger_is_disabled(doctor, db, healthy, trouble):
    db.execute("ALTER EVENT TRIGGER evergreen_follow_ddl DISABLE")  # or it would be mended at once
    db.execute(trouble)
    db.execute("ALTER EVENT TRIGGER evergreen_follow_ddl ENABLE ALWAYS")
    with db.transaction():
        db.execute("SET LOCAL session_replication_role = replica")
        db.execute("UPDATE docs SET body = 'unseen' WHERE id = 1")
    found = doctor.findings("trigger")
    assert found
    assert all("docs" in one["message"] for one in found)
    for one in found:
        doctor.type(one)
    drain_all(db)
    is_well(doctor, db)


def test_8_the_table_is_renamed(doctor, db, healthy):
    """Which is followed; what is lost by it is a column that was watched, and that is named."""
    db.execute("ALTER TABLE docs RENAME TO papers")
    db.execute("UPDATE papers SET body = 'edited' WHERE id = 1")
    drain_all(db)
    assert doctor.findings() == []
    assert_as_source(db, "docs", "papers")


def test_9_the_budget_is_spent(doctor, db, healthy, cluster):
    log = ServerLog(cluster)
    db.execute("""SELECT embed_alter('docs', '{"daily_tokens": 5}')""")
    db.execute("UPDATE docs SET body = 'edited ' || id")
    drain_once(db)
    found = doctor.one("budget")
    assert "docs" in found["message"]
    assert status_of(db, "state") == "over budget"
    assert log.one("budget_exhausted").details["pipeline"] == "docs"
    doctor.type(found)
    drain_all(db)
    is_well(doctor, db)


def test_10_the_library_is_of_another_version(folder, provider, monkeypatch):
    """As where the files of an earlier installation were copied back over it."""
    own = copy_of(find_postgres(), folder / "own")
    monkeypatch.setenv("PG_CONFIG", str(own.pg_config))
    with Cluster(own) as cluster, psycopg.connect(cluster.dsn(), autocommit=True) as db:
        db.execute("CREATE EXTENSION evergreen CASCADE")
        table(db, "docs", 10)
        serve(db, provider)
        create(db)
        drain_all(db)
        package = own.libdir / "evergreen" / dist.version() / "evergreen" / "__init__.py"
        package.write_text(package.read_text("utf-8").replace(dist.version(), "0.0.9"), "utf-8")
        db.execute("UPDATE docs SET body = 'edited' WHERE id = 1")  # captured, whatever Python there is
        doctor = Doctor(cluster.dsn())
        found = doctor.one("library")
        assert "loaded evergreen 0.0.9 and the extension is now" in found["message"]
        doctor.type(found)
        with psycopg.connect(cluster.dsn(), autocommit=True) as session:
            drain_all(session)
            is_well(doctor, session)
