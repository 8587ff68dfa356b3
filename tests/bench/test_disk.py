"""How much disk bulk edits of every row take, of what the table and its vector index took when new.

Autovacuum looks every few seconds here, because a table this small is edited in seconds, not in minutes.
"""

import itertools

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.fixtures.waiting import wait_until

ROWS, DIMENSIONS, EDITS = 3_000, 128, 10
AIM = 2.5
OPTIONS = {"autovacuum_naptime": "3s", "max_wal_size": "2GB"}

pytestmark = pytest.mark.bench

FILL = "INSERT INTO docs SELECT i, 0, repeat(md5(i::text) || ' some words of text ', 8) FROM generate_series(1, %s) i"
SIZES = "SELECT pg_table_size('embed_store.g1') / 1e6, pg_indexes_size('embed_store.g1') / 1e6"
DEAD = "SELECT n_dead_tup FROM pg_stat_all_tables WHERE relid = 'embed_store.g1'::regclass"
IS_EMPTY = "SELECT NOT EXISTS (SELECT FROM embed.change_log) AND NOT EXISTS (SELECT FROM embed.job)"


@pytest.fixture
def db():
    with Cluster(options=OPTIONS) as server, psycopg.connect(server.dsn(), autocommit=True) as db:
        db.execute("CREATE EXTENSION evergreen CASCADE")
        db.execute("SELECT embed_model_add('h', 'hash', %s)", (DIMENSIONS,))
        db.execute("SELECT embed_setting('index_from', '1000')")
        db.execute("CREATE TABLE docs (id int PRIMARY KEY, version int, body text)")
        db.execute(FILL, (ROWS,))
        db.execute("SELECT embed_create('docs', 'docs', columns => '{version,body}', model => 'h')")
        for _ in range(2):
            work(db)
        assert db.execute("SELECT indexed FROM embed_generations").fetchone() == (True,)
        yield db


def work(db):
    """As `evergreen worker` does: a call ends when nothing is left, and autovacuum learns of what it deleted."""
    db.execute("CALL embed_work(until_empty => true, max_runtime => '60 s')")
    assert db.execute(IS_EMPTY).fetchone() == (True,)


def sizes(db):
    """Megabytes of table and indexes."""
    return [float(size) for size in db.execute(SIZES).fetchone()]


def is_vacuumed(db):
    return db.execute(DEAD).fetchone()[0] < ROWS / 5


@pytest.mark.parametrize("pause", [True, False], ids=["vacuumed between edits", "one edit after the other"])
def test_bulk_edits(db, capsys, pause):
    seen = [sizes(db)]
    for _ in range(EDITS):
        db.execute("UPDATE docs SET version = version + 1")
        work(db)
        seen.append(sizes(db))
        if pause:
            wait_until(lambda: is_vacuumed(db), 300, "autovacuum")
    totals = [sum(one) / sum(seen[0]) for one in seen]
    with capsys.disabled():
        print(
            f"\n{ROWS:,} rows, {'vacuumed between edits' if pause else 'one edit after the other'}: table and indexes"
        )
        print(
            f"  new {sum(seen[0]):.1f} MB (table {seen[0][0]:.1f}); after each edit {[round(one, 2) for one in totals]}"
        )
        print(f"  at most {max(totals):.2f} times the size when new (aim {AIM}); table {seen[-1][0]:.1f} MB at the end")
    grown = [after - before for before, after in itertools.pairwise(totals)]
    assert not pause or sum(grown[EDITS // 2 :]) < 0.5, totals
