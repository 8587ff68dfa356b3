"""The replication slot: made when it can be, watched, given up before it fills the disk, and missed when it is gone."""

import psycopg
import pytest
from psycopg.types.json import Jsonb

from evergreen_host.cluster import Cluster
from tests.fixtures.dumps import create_empty, dump, restore
from tests.fixtures.pipelines.documents import assert_as_source, drain_all
from tests.fixtures.pipelines.freshness import all_fresh, verify
from tests.fixtures.providers.loopback import LoopbackProvider
from tests.fixtures.server.template import TEMPLATE, make_template
from tests.fixtures.waiting import Background, wait_until
from tests.fixtures.wal import OPTIONS, capture_of, drop_slot, published, slots, some_of, triggers, work, work_until

pytestmark = pytest.mark.stress


CREATE = "SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop', capture => 'cdc')"


def last_error(db):
    return db.execute("SELECT last_error FROM embed_status").fetchall()[0][0]


def test_it_waits_for_transactions_that_go_on_and_says_so(connect, db, docs, model, provider):
    """The rows of before are embedded meanwhile; what is written meanwhile is found when the slot is there."""
    writer = connect(autocommit=False)
    writer.execute("UPDATE docs SET body = 'by a slow writer' WHERE id = 1")
    db.execute(CREATE)
    assert capture_of(db) == "cdc wanted, slot not there yet"
    work(db)
    assert capture_of(db) == "cdc wanted, slot not there yet"
    assert "older transactions are still running" in last_error(db)
    db.execute("UPDATE docs SET body = 'never read' WHERE id = 2")
    db.execute("DELETE FROM docs WHERE id = 3")
    work(db)
    writer.commit()
    work_until(db, "docs", "cdc")
    assert_as_source(db)
    assert last_error(db) is None
    assert provider.sent == dict.fromkeys(provider.sent, 1)


def test_a_table_joins_a_slot_that_is_there_while_writers_write(connect, db, pipeline, provider):
    """Earlier transactions are waited for: the WAL may or may not include their writes."""
    db.execute(
        "CREATE TABLE notes (id int PRIMARY KEY, title text, body text); INSERT INTO notes VALUES (1, 't', 'one')"
    )
    writer = connect(autocommit=False)
    writer.execute("INSERT INTO notes VALUES (2, 't', 'two')")
    db.execute(CREATE.replace("'docs'", "'notes'"))
    work(db)
    assert capture_of(db, "notes") == "cdc wanted, earlier transactions go on"
    writer.execute("INSERT INTO notes VALUES (3, 't', 'three')")
    db.execute("UPDATE notes SET body = 'one edited' WHERE id = 1; UPDATE docs SET body = 'edited' WHERE id = 1")
    work(db)
    assert_as_source(db)
    writer.commit()
    work_until(db, "notes", "cdc")
    assert_as_source(db, "notes")


def test_an_unread_slot_keeps_no_more_than_it_may(connect, db, pipeline, provider):
    """Over slot_limit it is dropped, logged and recreated; all rows are checked, and fresh ones cost nothing."""
    db.execute("SELECT embed_alter('docs', '{\"slot_limit\": \"32 MB\"}')")
    db.execute("UPDATE docs SET body = 'lost with the slot' WHERE id = 1")
    holding = connect(autocommit=False)
    holding.execute("CREATE TABLE held (id int)")
    db.execute("CREATE TABLE noise AS SELECT i, repeat('x', 500) AS body FROM generate_series(1, 80000) i")
    assert db.execute("SELECT slot_lag > 32 * 1024 * 1024 FROM embed_status").fetchone() == (True,)
    work(db)
    assert slots(db) == []
    assert "there is no replication slot" in last_error(db)
    assert capture_of(db) == "cdc wanted, slot not there yet"
    db.execute("DELETE FROM docs WHERE id = 2")
    holding.rollback()
    work_until(db, "docs", "cdc")
    assert_as_source(db)
    assert provider.sent == {"title 1\n\nlost with the slot": 1}


def test_a_warning_says_why_a_slot_was_given_up(db, pipeline):
    said = []
    db.add_notice_handler(lambda notice: said.append(notice.message_primary))
    db.execute("SELECT embed_alter('docs', '{\"slot_limit\": \"32 MB\"}')")
    db.execute("CREATE TABLE noise AS SELECT i, repeat('x', 500) AS body FROM generate_series(1, 80000) i")
    work(db)
    assert any("option slot_limit allows 32" in one for one in said)
    assert_as_source(db)


def _gone(db):
    drop_slot(db)


def _made_anew(db):
    drop_slot(db)
    db.execute("SELECT pg_create_logical_replication_slot(embed.slot_name(), 'pgoutput')")


def _moved_on(db):
    db.execute("UPDATE docs SET body = 'lost' WHERE id = 5")
    db.execute("SELECT pg_replication_slot_advance(embed.slot_name(), pg_current_wal_lsn())")


def _another(db):
    drop_slot(db)
    db.execute("SELECT pg_create_logical_replication_slot(embed.slot_name(), 'test_decoding')")


def _unpublished(db):
    db.execute("DROP PUBLICATION evergreen_cdc")


def _not_ours(db):
    db.execute("DELETE FROM embed.wal_position")


@pytest.mark.parametrize(
    "accident", [*some_of([_gone, _made_anew, _moved_on, _another, _unpublished, _not_ours], _gone, _moved_on)]
)
def test_what_befalls_a_slot_is_noticed_before_anything_is_missed(db, pipeline, provider, accident):
    db.execute("UPDATE docs SET body = 'before' WHERE id = 1")
    accident(db)
    db.execute("UPDATE docs SET body = 'after' WHERE id = 2")
    db.execute("DELETE FROM docs WHERE id = 3")
    drain_all(db)  # which cannot make a slot, and must not take what is left for all there is
    work_until(db, "docs", "cdc")
    assert_as_source(db)
    db.execute("UPDATE docs SET body = 'and then' WHERE id = 4")
    work(db)
    assert_as_source(db)
    assert provider.sent == dict.fromkeys(provider.sent, 1)
    assert len(provider.sent) == (4 if accident is _moved_on else 3)


def test_a_copy_of_the_database_has_a_slot_of_its_own(cluster, connect, db, pipeline, provider, dsn):
    name = db.info.dbname
    with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
        db.close()
        admin.execute(f"CREATE DATABASE {name}_copy TEMPLATE {name}")
    with psycopg.connect(cluster.dsn(f"{name}_copy"), autocommit=True) as copy:
        copy.execute("UPDATE docs SET body = 'of the copy' WHERE id = 1")
        work_until(copy, "docs", "cdc")
        work(copy)
        assert_as_source(copy)
        assert len(slots(copy)) == 1
    with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {name}_copy WITH (FORCE)")
    assert provider.sent == {"title 1\n\nof the copy": 1}


def test_a_restored_database_is_read_anew(cluster, db, pipeline, provider, tmp_path):
    db.execute("UPDATE docs SET body = 'not read when it was dumped' WHERE id = 1")
    create_empty(cluster, "restored")
    restore(cluster, "restored", dump(cluster, db.info.dbname, tmp_path, "custom"), "custom")
    with psycopg.connect(cluster.dsn("restored"), autocommit=True) as there:
        there.execute("UPDATE docs SET body = 'before the first worker' WHERE id = 2")
        assert capture_of(there) == "cdc wanted, slot not there yet"
        work_until(there, "docs", "cdc")
        assert_as_source(there)
        there.execute("UPDATE docs SET body = 'after' WHERE id = 3")
        work(there)
        assert_as_source(there)
        assert triggers(there) == 0
    with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
        admin.execute("DROP DATABASE restored WITH (FORCE)")
    assert sorted(provider.sent.values()) == [1, 1, 1]


def test_dropping_the_extension_leaves_no_slot_and_no_publication(db, pipeline):
    with pytest.raises(psycopg.errors.DependentObjectsStillExist):
        db.execute("DROP EXTENSION evergreen")
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 1")
    work(db)
    assert_as_source(db)
    db.execute("DROP EXTENSION evergreen CASCADE")
    assert slots(db) == []
    assert db.execute("SELECT count(*) FROM pg_publication").fetchone() == (0,)
    db.execute("ALTER TABLE docs REPLICA IDENTITY NOTHING; UPDATE docs SET body = 'after'")


def test_one_session_reads_at_a_time(connect, db, pipeline, provider):
    """Another that finds the slot in use leaves it to that one, and goes on with what else there is."""
    workers = [Background(connect(), "CALL embed_work(max_runtime => '60 s')") for _ in range(3)]
    for number in range(30):
        db.execute("UPDATE docs SET body = %s WHERE id = %s", (f"edit {number}", number % 10 + 1))
    fresh = "SELECT count(*) FROM docs_embedding e JOIN docs d USING (id) WHERE NOT is_stale AND chunk LIKE '%edit 2%'"
    wait_until(lambda: db.execute(fresh).fetchone() == (10,), what="the workers")
    assert all(worker.running for worker in workers)
    wait_until(lambda: db.execute("SELECT count(*) FROM embed.change_log").fetchone() == (0,), what="an empty log")
    assert provider.sent == dict.fromkeys(provider.sent, 1)


def test_options(db, pipeline):
    for wrong in ("31 MB", "10", "-1 GB", "much", 5, "1 kB", "65 TB"):
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="slot_limit"):
            db.execute("SELECT embed_alter('docs', %s)", (Jsonb({"slot_limit": wrong}),))


@pytest.fixture(scope="module")
def physical():
    """A server whose WAL cannot be decoded, and one that has no slot to spare."""
    made = Cluster(options=OPTIONS | {"wal_level": "replica"})
    with made, LoopbackProvider() as provider:
        make_template(made)
        with psycopg.connect(made.dsn(TEMPLATE), autocommit=True) as session:
            provider.register(session)
            session.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text)")
            session.execute("INSERT INTO docs VALUES (1, 'title', 'body')")
            session.execute(CREATE.replace(", capture => 'cdc'", ""))
            work(session)
        yield made


def refused(cluster, state, what, hint):
    with psycopg.connect(cluster.dsn(TEMPLATE), autocommit=True) as session:
        for call in (CREATE.replace("'docs', 'docs'", "'more', 'docs'"), "SELECT embed_capture_set('docs', 'cdc')"):
            with pytest.raises(psycopg.Error, match=what) as refusal:
                session.execute(call)
            assert refusal.value.sqlstate == state
            assert hint in refusal.value.diag.message_hint
        assert triggers(session) == 4


def test_servers_that_cannot_say_what_to_set(physical):
    """Then they can, and later they cannot any more: the pipeline waits, and says why."""
    refused(physical, "55000", "wal_level = logical, but it is replica", "ALTER SYSTEM SET wal_level = logical")
    physical.configure({"wal_level": "logical", "max_replication_slots": 0})
    physical.restart()
    refused(physical, "55000", "replication slot, and all 0 are in use", "ALTER SYSTEM SET max_replication_slots = 5")
    physical.configure({"max_replication_slots": 1})
    physical.restart()
    with psycopg.connect(physical.dsn(TEMPLATE), autocommit=True) as session:
        session.execute("SELECT embed_capture_set('docs', 'cdc')")
        session.execute("SELECT pg_create_physical_replication_slot('taken')")
        work(session)
        assert "all replication slots are in use" in last_error(session)
        assert triggers(session) == 4
        session.execute("UPDATE docs SET body = 'seen by triggers meanwhile'")
        work(session)
        assert verify(session, "docs") == all_fresh(1)
        session.execute("SELECT pg_drop_replication_slot('taken')")
        work_until(session, "docs", "cdc")
        assert published(session) == ["docs"]
        drop_slot(session)
    physical.configure({"wal_level": "replica"})
    physical.restart()
    with psycopg.connect(physical.dsn(TEMPLATE), autocommit=True) as session:
        session.execute("UPDATE docs SET body = 'in no log'")
        work(session)
        assert "wal_level" in last_error(session)
        session.execute("SELECT embed_capture_set('docs', 'trigger')")
        work(session)
        assert verify(session, "docs") == all_fresh(1)
        assert capture_of(session) == "trigger"
