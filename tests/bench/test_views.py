"""Views as sources: what a writer of a table under a view pays, and how a brand of many products is renamed."""

import threading
import time
from contextlib import contextmanager
from itertools import count
from statistics import median

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.bench.measure import report, take_turns, timed

UPDATES = 4000  # single-row transactions of a round
ROUNDS = 7
TABLES = """
CREATE EXTENSION evergreen CASCADE;
SELECT embed_model_add('h8', 'hash', 8);
CREATE TABLE plain (id int PRIMARY KEY, body text NOT NULL, parent int NOT NULL) WITH (fillfactor = 70);
INSERT INTO plain SELECT i, repeat(md5(i::text), 10), i % 100 FROM generate_series(1, 10000) i;
CREATE TABLE watched (LIKE plain INCLUDING ALL) WITH (fillfactor = 70);
INSERT INTO watched SELECT * FROM plain;
CREATE TABLE row_of_view (LIKE plain INCLUDING ALL) WITH (fillfactor = 70);
INSERT INTO row_of_view SELECT * FROM plain;
CREATE TABLE parent_of_view (LIKE plain INCLUDING ALL) WITH (fillfactor = 70);
INSERT INTO parent_of_view SELECT * FROM plain;
CREATE VIEW joined AS
SELECT r.id, r.body, r.parent, p.body AS parent_body FROM row_of_view r JOIN parent_of_view p ON p.id = r.parent;
SELECT embed_create('watched', 'watched', columns => '{body}', model => 'h8', backfill => false);
SELECT embed_create('joined', 'joined', columns => '{body,parent_body}', model => 'h8', backfill => false,
                    key => '{id}', depends => '{"row_of_view": {"id": "id"}, "parent_of_view": {"id": "parent"}}');
"""
SHOP = """
CREATE EXTENSION evergreen CASCADE;
SELECT embed_model_add('h8', 'hash', 8);
SELECT embed_setting('index_from', '1000000000');  -- to write a vector index takes most of the time otherwise
CREATE TABLE brand (id int PRIMARY KEY, name text NOT NULL);
INSERT INTO brand SELECT i, 'brand ' || i FROM generate_series(1, 1000) i;
CREATE TABLE product (id int PRIMARY KEY, name text NOT NULL, brand_id int NOT NULL REFERENCES brand);
INSERT INTO product
SELECT i, 'product ' || i, CASE WHEN i %% 10 = 0 THEN 1 ELSE i %% 999 + 2 END FROM generate_series(1, %(rows)s) i;
CREATE INDEX ON product (brand_id);
CREATE VIEW products AS
SELECT p.id, p.name, p.brand_id, b.name AS brand FROM product p JOIN brand b ON b.id = p.brand_id;
ANALYZE;
SELECT embed_create('products', 'products', columns => '{name,brand}', model => 'h8', key => '{id}',
                    depends => '{"product": {"id": "id"}, "brand": {"id": "brand_id"}}');
"""

DONE = """
SELECT NOT EXISTS (SELECT FROM embed.link_cursor) AND NOT EXISTS (SELECT FROM embed.job WHERE lane = 1)
   AND NOT EXISTS (SELECT FROM embed.change_log)
"""
SIZES = "SELECT pg_size_pretty(pg_relation_size('embed.job')), pg_size_pretty(pg_relation_size('embed.change_log'))"

pytestmark = pytest.mark.bench


def updates_per_second(db, table):
    db.execute("TRUNCATE embed.change_log")
    statement = f"UPDATE {table} SET body = md5(random()::text) || substr(body, 33) WHERE id = %s"

    def update():
        for number in range(UPDATES):
            db.execute(statement, [1 + number * 7 % 10_000], prepare=True)

    seconds = timed(update)
    assert db.execute("SELECT count(*) FROM embed.change_log").fetchone() == (0 if table == "plain" else UPDATES,)
    return UPDATES / seconds


def test_write_path_of_a_table_under_a_view(capsys):
    with Cluster() as cluster, psycopg.connect(cluster.dsn(), autocommit=True) as db:
        db.execute(TABLES)
        tables = ("watched", "row_of_view", "parent_of_view", "plain")
        rounds = take_turns({table: lambda table=table: updates_per_second(db, table) for table in tables}, ROUNDS)
        with capsys.disabled():
            aims = {"row_of_view": 0.97, "parent_of_view": 0.97}
            report("one client, no flush: a source, and tables under a view", "updates/s", rounds, aims, "watched")


def p99(lags):
    return sorted(lags)[int(0.99 * len(lags))]


def live_lags(db, numbers, is_done):
    """Seconds from the commit of single changes until they are searchable."""
    lags = []
    while not is_done(len(lags)):
        number = next(numbers)
        key = 10 * (number * 13 % 900) + 5  # of another brand
        started = time.perf_counter()
        db.execute("UPDATE product SET name = 'live ' || %s WHERE id = %s", [number, key])
        assert db.execute("SELECT embed_wait('products', %s::jsonb, '60 s')", [f"[{key}]"]).fetchone() == (True,)
        lags.append(time.perf_counter() - started)
    return lags


@contextmanager
def at_work(cluster):
    """Have a worker while the block runs."""
    stop = threading.Event()

    def work():
        with psycopg.connect(cluster.dsn(), autocommit=True) as worker:
            while not stop.is_set():
                worker.execute("CALL embed_work(max_runtime => '1 s')")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_brand_of_a_tenth_of_all_products_is_renamed(request, capsys):
    rows = int(request.config.getoption("--products"))
    with Cluster() as cluster, psycopg.connect(cluster.dsn(), autocommit=True) as db:
        db.execute(SHOP % {"rows": rows})
        db.execute("CALL embed_work(max_runtime => '2 hours', until_empty => true)")
        numbers = count(1)
        with at_work(cluster):
            idle = live_lags(db, numbers, lambda done: done >= 200)
            before = db.execute("SELECT texts FROM embed_status").fetchone()[0]
            started = time.perf_counter()
            db.execute("UPDATE brand SET name = 'renamed' WHERE id = 1")
            with psycopg.connect(cluster.dsn(), autocommit=True) as other:
                busy = live_lags(db, numbers, lambda _: other.execute(DONE).fetchone()[0])
            seconds = time.perf_counter() - started
            texts = db.execute("SELECT texts FROM embed_status").fetchone()[0] - before
        stale = db.execute("SELECT count(*) FROM products_embedding WHERE is_stale").fetchone()
        assert stale == (0,)
        assert texts - len(busy) == rows // 10
        sizes = db.execute(SIZES).fetchone()
        with capsys.disabled():
            print(
                f"\n{rows:,} products, a brand of {rows // 10:,} renamed: fresh after {seconds:.1f} s, {texts:,} texts"
            )
            print(
                f"  live changes meanwhile: {len(busy)}, p99 {p99(busy) * 1000:.0f} ms; idle {p99(idle) * 1000:.0f} ms;"
                f" ratio {p99(busy) / p99(idle):.1f}"
            )
            print(f"  embed.job, embed.change_log: {', '.join(sizes)}")


HOT = """
UPDATE product SET brand_id = 1 WHERE brand_id <> 2;
CREATE TABLE other (id int PRIMARY KEY, name text NOT NULL);
INSERT INTO other SELECT i, 'other ' || i FROM generate_series(1, 1000) i;
SELECT embed_create('other', 'other', columns => '{name}', model => 'h8');
VACUUM ANALYZE
"""
BOUNDED = """
SELECT (SELECT count(*) FROM embed.link_cursor), (SELECT count(*) FROM embed.job),
       (SELECT count(*) FROM embed.change_log), pg_total_relation_size('embed.job') / 1e6
"""


def hot_lags(db, numbers, seconds, watch=lambda: None):
    """Lags of live changes beside the hot parent's rows, in its pipeline and in another one."""
    cold = [key for (key,) in db.execute("SELECT id FROM product WHERE brand_id = 2")]
    lags = {"products": [], "other": []}
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        number = next(numbers)
        for pipeline, changed, key in (
            ("products", "product", cold[number % len(cold)]),
            ("other", "other", 1 + number % 1000),
        ):
            started = time.perf_counter()
            db.execute(f"UPDATE {changed} SET name = 'live ' || %s WHERE id = %s", [number, key])
            waited = db.execute(f"SELECT embed_wait('{pipeline}', %s::jsonb, '120 s')", [f"[{key}]"]).fetchone()
            assert waited == (True,)
            lags[pipeline].append(time.perf_counter() - started)
        watch()
    return lags


@contextmanager
def heated(cluster):
    """Change brand 1 each second while the block runs; yields a list with an element for each change."""
    changes, cooled = [], threading.Event()

    def heat():
        with psycopg.connect(cluster.dsn(), autocommit=True) as owner:
            while not cooled.wait(1):
                owner.execute("UPDATE brand SET name = 'hot ' || clock_timestamp() WHERE id = 1")
                changes.append(1)

    heater = threading.Thread(target=heat)
    heater.start()
    try:
        yield changes
    finally:
        cooled.set()
        heater.join()


def test_a_parent_of_all_documents_that_changes_every_second(request, capsys):
    rows = int(request.config.getoption("--products"))
    seconds = 120 if rows > 100_000 else 20
    with Cluster() as cluster, psycopg.connect(cluster.dsn(), autocommit=True) as db:
        db.execute(SHOP % {"rows": rows})
        for statement in HOT.split(";"):
            db.execute(statement)
        db.execute("CALL embed_work(max_runtime => '2 hours', until_empty => true)")
        linked = db.execute("SELECT count(*) FROM product WHERE brand_id = 1").fetchall()[0][0]
        numbers, largest = count(1), [0, 0, 0, 0]

        def watch():
            largest[:] = map(max, largest, db.execute(BOUNDED).fetchone())

        with at_work(cluster):
            idle = hot_lags(db, numbers, 20)
            with heated(cluster) as changes:
                busy = hot_lags(db, numbers, seconds, watch)
            fresh_after = timed(lambda: wait_until_done(db))
        assert db.execute("SELECT count(*) FROM products_embedding WHERE is_stale").fetchone() == (0,)
        with capsys.disabled():
            print(f"\na parent of {linked:,} documents, changed {len(changes)} times in {seconds} s")
            for pipeline, found in busy.items():
                print(
                    f"  live changes of {pipeline:9} {len(found)}, p50 and p99 of idle: "
                    f"{median(found) / median(idle[pipeline]):.1f} and {p99(found) / p99(idle[pipeline]):.1f}, "
                    f"p99 {1000 * p99(found):.0f} ms"
                )
            print("  at most: {:,} cursors, {:,} jobs, {:,} log rows, embed.job {:.0f} MB".format(*largest))
            print(f"  all fresh {fresh_after:.0f} s after the last change")


def wait_until_done(db):
    while not db.execute(DONE).fetchone()[0]:
        db.execute("SELECT embed_wait('products', timeout => '1 s')")
