"""What lag counts: every committed change, however it was written and whichever lane it took; and nothing else.

A figure that leaves a kind of change out says that all is well while rows are stale. So each way to write is tried, in
bulk (more than 1,000 rows a transaction) and alone, and each way in which rows come to a worker without a change.
"""

import pytest

from evergreen_host.cluster import Cluster
from tests.fixtures.pipelines.documents import drain_all, drain_once, status_of
from tests.fixtures.providers.loopback import LoopbackProvider
from tests.fixtures.roles import hash_model
from tests.fixtures.server.template import TEMPLATE, janitor, make_template
from tests.fixtures.wal import OPTIONS, work

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

MANY = 1100
NEW = f"SELECT i, 'title', 'new ' || i FROM generate_series(101, {100 + MANY}) i"
BULK = {
    "insert": f"INSERT INTO docs SELECT i, 'title', 'new' FROM generate_series(5001, {5000 + MANY}) i",
    "update": "UPDATE docs SET body = 'edited ' || id",
    "unchanged text": "UPDATE docs SET body = body || ' ', title = title",
    "delete": "DELETE FROM docs",
    "on conflict": f"INSERT INTO docs {NEW} ON CONFLICT (id) DO UPDATE SET body = EXCLUDED.body",
    "merge": f"MERGE INTO docs USING ({NEW}) n (id, title, body) ON docs.id = n.id"
    " WHEN MATCHED THEN UPDATE SET body = n.body WHEN NOT MATCHED THEN INSERT VALUES (n.id, n.title, n.body)",
    "truncate and insert": f"TRUNCATE docs; INSERT INTO docs {NEW}",
    "touch": "SELECT embed_touch('docs', VARIADIC (SELECT array_agg(to_jsonb(id)) FROM docs))",
    "many statements": f"DO $$BEGIN FOR i IN 1..{MANY} LOOP UPDATE docs SET body = 'loop' WHERE id = i;END LOOP;END$$",
}


@pytest.fixture
def pipeline(db):
    """Documents 1 to MANY, embedded."""
    hash_model(db)
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text)")
    db.execute("INSERT INTO docs SELECT i, 'title', 'body ' || i FROM generate_series(1, %s) i", (MANY,))
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'hash8')")
    db.execute("CALL embed_work(until_empty => true)")


def counted(db):
    """How many changes are counted in each lane."""
    rows = db.execute(
        "SELECT lane, sum((SELECT sum(n) FROM unnest(counts) n))::int FROM embed.lag GROUP BY 1"
    ).fetchall()
    return {("live", "bulk")[lane]: count for lane, count in rows}


def lag(db, lane=""):
    """p50 in seconds, of both lanes or one."""
    found = status_of(db, f"{lane}lag_p50")
    return found and found.total_seconds()


def an_hour_old(db):
    """As if what is in the change log had been written an hour ago."""
    db.execute("UPDATE embed.change_log SET changed_at = clock_timestamp() - interval '1 hour'")


def test_history_is_no_change(db, pipeline):
    """Neither are a backfill, a rebuild, a recheck, and what a cursor meets that is queued already."""
    db.execute("SELECT embed_backfill('docs')")
    drain_once(db)
    db.execute("SELECT embed_backfill('docs')")
    drain_all(db)
    db.execute("SELECT embed_build('docs', columns => '{body}')")
    drain_all(db)
    db.execute("UPDATE embed.document SET src_hash = '' WHERE key = '[1]'")
    db.execute("SELECT embed_verify('docs', repair => true)")
    assert db.execute("SELECT count(*) FROM embed.change_log").fetchone() == (1,)
    drain_all(db)
    assert db.execute("SELECT count(*) FROM docs_embedding WHERE is_stale").fetchone() == (0,)
    assert counted(db) == {}
    assert (lag(db), lag(db, "live_"), lag(db, "bulk_")) == (None, None, None)


@pytest.mark.few(2)
@pytest.mark.parametrize("way", BULK)
def test_bulk_changes_count_in_a_lane_of_their_own(db, pipeline, way):
    db.execute(BULK[way])  # of several statements one transaction
    an_hour_old(db)
    db.execute("CALL embed_work(until_empty => true)")
    assert counted(db) == {"bulk": MANY}
    assert lag(db) == lag(db, "bulk_") >= 3600
    assert lag(db, "live_") is None


def test_copy_counts(db, pipeline):
    with db.cursor().copy("COPY docs FROM STDIN") as copy:
        for number in range(MANY):
            copy.write_row((2000 + number, "title", f"copied {number}"))
    db.execute("CALL embed_work(until_empty => true)")
    assert counted(db) == {"bulk": MANY}


def test_both_lanes_make_one_figure(db, pipeline):
    """The figure that misled: one slow bulk change among quick edits."""
    db.execute("UPDATE docs SET body = 'edited ' || id")
    an_hour_old(db)
    db.execute("CALL embed_work(until_empty => true)")
    for number in range(20):
        db.execute("UPDATE docs SET body = 'again ' || %s WHERE id = %s", (number, number + 1))
    drain_all(db)
    assert counted(db) == {"bulk": MANY, "live": 20}
    assert lag(db) == lag(db, "bulk_") >= 3600
    assert lag(db, "live_") < 60


def test_by_option_bulk_changes_are_live(db, pipeline):
    """Then they have the share of live changes, and come before history."""
    db.execute("SELECT embed_alter('docs', '{\"bulk_lane\": \"live\"}')")
    db.execute("UPDATE docs SET body = 'edited ' || id")
    db.execute("CALL embed_work(until_empty => true)")
    assert counted(db) == {"live": MANY}
    db.execute("SELECT embed_alter('docs', '{\"bulk_lane\": null}')")
    db.execute("UPDATE docs SET body = 'once more ' || id")
    db.execute("CALL embed_work(until_empty => true)")
    assert counted(db) == {"live": MANY, "bulk": MANY}


def test_of_several_changes_the_oldest_counts(db, pipeline):
    db.execute("UPDATE docs SET body = 'first' WHERE id = 1")
    an_hour_old(db)
    db.execute("UPDATE docs SET body = 'second' WHERE id = 1")
    drain_all(db)
    assert counted(db) == {"live": 1}
    assert lag(db) >= 3600


def test_a_pause_counts(db, pipeline):
    db.execute("SELECT embed_pause('docs')")
    db.execute("UPDATE docs SET body = 'paused' WHERE id = 1")
    an_hour_old(db)
    drain_all(db)
    assert status_of(db, "oldest_pending_age").total_seconds() >= 3600
    assert lag(db) is None
    db.execute("SELECT embed_resume('docs')")
    drain_all(db)
    assert lag(db) >= 3600


def test_a_long_transaction_counts_from_the_statement(db, connect, pipeline):
    writer = connect(autocommit=False)
    writer.execute("UPDATE docs SET body = 'uncommitted' WHERE id = 1")
    db.execute("CALL embed_work(max_runtime => '0.5 s')")  # a worker that cannot see it yet
    writer.commit()
    drain_all(db)
    assert lag(db) >= 0.5


@pytest.mark.parametrize("is_change", [True, False])
def test_a_dead_letter_counts_once_it_is_served(db, docs, model, provider, is_change):
    """From the change that failed; one that history brought is no change, retried or not."""
    if not is_change:
        provider.answer = lambda texts: (400, b"refused") if "title 1\n\nbody 1" in texts else None
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    drain_all(db)
    if is_change:
        provider.answer = lambda texts: (400, b"refused") if any("poison" in t for t in texts) else None
        db.execute("UPDATE docs SET body = 'poison' WHERE id = 1")
        an_hour_old(db)
        drain_all(db)
    assert (status_of(db, "failed"), lag(db)) == (1, None)
    provider.answer = None
    db.execute("SELECT embed_retry('docs')")
    drain_all(db)
    assert status_of(db, "failed") == 0
    assert (lag(db) or 0) >= 3600 if is_change else lag(db) is None


def test_a_change_that_waits_after_an_error_keeps_its_age(db, docs, model, provider):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    drain_all(db)
    provider.answer = lambda _: (401, b"wrong key")
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 1")
    an_hour_old(db)
    drain_once(db)
    provider.answer = None
    db.execute("UPDATE docs SET body = 'edited again' WHERE id = 2")
    db.execute("SELECT embed_endpoint_set('loop', %s)", (provider.url,))
    drain_all(db)
    assert counted(db) == {"live": 2}
    assert status_of(db, "lag_p99").total_seconds() >= 3600


@pytest.fixture(scope="module")
def logical():
    """A server whose WAL can be decoded."""
    with Cluster(options=OPTIONS) as made:
        make_template(made)
        yield made


def test_changes_read_from_the_wal_count(logical):
    import psycopg

    janitor(logical, "wal", TEMPLATE).init()
    with psycopg.connect(logical.dsn("wal"), autocommit=True) as db, LoopbackProvider():
        hash_model(db)
        db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text)")
        db.execute("INSERT INTO docs SELECT i, 'title', 'body ' || i FROM generate_series(1, %s) i", (MANY,))
        db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'hash8', capture => 'cdc')")
        work(db)
        assert counted(db) == {}
        db.execute("UPDATE docs SET body = 'edited' WHERE id = 1")
        work(db)
        assert counted(db) == {"live": 1}
        db.execute("UPDATE docs SET body = 'edited ' || id")
        work(db)
        assert counted(db) == {"live": 1, "bulk": MANY}
