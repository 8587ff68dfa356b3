"""A worker that reads the WAL stands or ends at a step of it: nothing is lost, sent twice, or kept from others."""

from itertools import count

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.fixtures.breakpoints import Stoppable
from tests.fixtures.pipelines.documents import assert_as_source
from tests.fixtures.server.template import TEMPLATE, make_template
from tests.fixtures.stress import left
from tests.fixtures.waiting import wait_until
from tests.fixtures.wal import OPTIONS, WORK, capture_of, some_of, triggers, work, work_until

pytestmark = pytest.mark.stress


# What is run, by name, while a change is read, and while a pipeline goes from triggers to the WAL.
READING = [
    "read_range",
    "set_decoding_settings",
    "log_keys_from_wal",
    "add_position",
    "delete_old_positions",
    "advance_slot",
]
JOINING = [
    "set_published",
    "create_slot",
    "record_slot",
    "mark_horizon",
    "set_catching_up",
    "caught_up",
    "set_streaming",
]
LEAVING = ["finish_draining"]


@pytest.fixture(scope="module")
def cluster():
    """A server whose WAL can be decoded."""
    with Cluster(options=OPTIONS) as made:
        yield made


@pytest.fixture(scope="module")
def template(cluster):
    """Its database with the extension."""
    return make_template(cluster)


@pytest.fixture
def pipeline(db, docs, model, provider):
    """Ten documents whose changes are read from the WAL."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop', capture => 'cdc')")
    work(db)
    provider.reset()


def write(db, label):
    """Changes of each kind."""
    db.execute("UPDATE docs SET body = %s || id WHERE id BETWEEN 1 AND 3", (f"{label} ",))
    db.execute("DELETE FROM docs WHERE id = (SELECT max(id) FROM docs)")
    db.execute("INSERT INTO docs SELECT 1 + max(id), 'title', %s FROM docs", (f"{label} new",))


def settled(db, provider):
    """All is as in the source, nothing is left, and each text was sent once."""
    work(db)
    assert_as_source(db)
    assert left(db) == {}
    assert provider.sent == dict.fromkeys(provider.sent, 1)


@pytest.mark.parametrize("when", some_of(["before", "after"], "after"))
def test_a_reader_stands_while_others_read_and_write(connect, db, pipeline, provider, stoppable, when):
    stop = stoppable()
    for number, query in enumerate(READING):
        write(db, f"{number} before")
        if not stop.parked(WORK, query, when):
            continue
        write(db, f"{number} meanwhile")
        db.execute("SELECT embed_drain()")
        db.execute("CALL embed_work(max_runtime => '200 ms')")
        write(db, f"{number} then")
        stop.let_go()
        settled(db, provider)


@pytest.mark.parametrize("query", some_of(READING, "log_keys_from_wal", "add_position"))
def test_a_reader_ends_at_a_step(connect, db, pipeline, provider, stoppable, query):
    for number, when in enumerate(("before", "after")):
        write(db, f"{number} before")
        stop = stoppable()
        ending = stop.start(WORK, query, when, how="terminate")
        try:
            ending.result()
        except psycopg.OperationalError:
            gone = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
            wait_until(lambda gone=gone, pid=stop.pid: db.execute(gone, (pid,)).fetchone() == (0,), what="its end")
        write(db, f"{number} after")
        settled(db, provider)
    assert db.execute("SELECT count(*) FROM embed.backfill_cursor WHERE running").fetchone() == (0,)
    assert capture_of(db) == "cdc"


@pytest.mark.parametrize("end", some_of(["let go", "terminate"], "let go"))
def test_a_switch_stops_at_a_step_while_others_write(connect, db, docs, model, provider, stoppable, end):
    """From triggers to the WAL and back, at each step: one or the other tells of every change."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    work(db)
    provider.reset()
    for number, query in zip(count(), JOINING + LEAVING):
        wanted = "trigger" if query in LEAVING else "cdc"
        if query in LEAVING:
            db.execute("SELECT embed_capture_set('docs', 'cdc')")
            work_until(db, "docs", "cdc")
        write(db, f"{number} before")
        db.execute("SELECT embed_capture_set('docs', %s)", (wanted,))
        stop = stoppable()
        if end == "terminate":
            with pytest.raises(psycopg.OperationalError):
                stop.start(WORK, query, "after", how="terminate").result()
        elif stop.parked(WORK, query, "after"):
            write(db, f"{number} meanwhile")
            stop.let_go()
        write(db, f"{number} after")
        work_until(db, "docs", wanted)
        settled(db, provider)
        assert triggers(db) == (4 if wanted == "trigger" else 0)
        db.execute("SELECT embed_capture_set('docs', 'trigger')")
        work_until(db, "docs", "trigger")
        settled(db, provider)


def test_a_killed_server_takes_up_where_it_was(provider):
    """A crash between the note of a position and the slot's move; what is read twice costs nothing."""
    with Cluster(options=OPTIONS) as made:
        make_template(made)
        with psycopg.connect(made.dsn(TEMPLATE), autocommit=True) as db:
            provider.register(db)
            db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text)")
            db.execute("INSERT INTO docs SELECT i, 'title', 'body ' || i FROM generate_series(1, 10) i")
            db.execute(
                "SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop', capture => 'cdc')"
            )
            work_until(db, "docs", "cdc")
            write(db, "one")
            work(db)
            write(db, "two")
        made.restart("immediate")
        with psycopg.connect(made.dsn(TEMPLATE), autocommit=True) as db:
            write(db, "three")
            settled(db, provider)
            assert capture_of(db) == "cdc"


def test_a_drop_while_a_reader_stands(connect, db, pipeline, provider, stoppable):
    for number, query in enumerate(("read_range", "log_keys_from_wal", "add_position")):
        write(db, str(number))
        stop: Stoppable = stoppable()
        assert stop.parked(WORK, query, "after")
        db.execute("SELECT embed_drop('docs')")
        stop.let_go()
        work(db)
        assert left(db) == {}
        assert db.execute(
            "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"
        ).fetchone() == (0,)
        db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop', capture => 'cdc')")
        work_until(db, "docs", "cdc")
        assert_as_source(db)
