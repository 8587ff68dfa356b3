"""What a claim costs: among few rows and among millions, and beside a transaction that stays open."""

import time

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.bench.load import FULL, Feed, TimedWorker, make_docs, p50, p99, queue_size
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.bench

PENDING = (10_000, 100_000, 1_000_000, *((5_000_000,) if FULL else ()))
HELD = 240 if FULL else 40  # seconds
STEADY = 600 if FULL else 100
PACE = 1000  # changes a second


@pytest.fixture
def server():
    """A server as it comes, with its autovacuum."""
    with Cluster(options={"max_wal_size": "4GB"}) as made:
        yield made


def session(server, **options):
    return psycopg.connect(server.dsn(), autocommit=True, **options)


def make_pipeline(db, rows):
    """Without an index over the vectors: a vector that is put in costs a millisecond there; this is the queue."""
    db.execute("CREATE EXTENSION IF NOT EXISTS evergreen CASCADE")
    db.execute("SELECT embed_setting('index_from', '1000000000')")
    db.execute("SELECT embed_model_add('h8', 'hash', 8)")
    make_docs(db, rows)
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'h8', backfill => false)")


_QUEUED = """
DO $$ BEGIN
    FOR n IN 0 .. {last} LOOP
        INSERT INTO embed.job (generation, key)
        SELECT 1, jsonb_build_array(i) FROM generate_series(n * 1000, n * 1000 + 999) i;
        COMMIT;
    END LOOP;
END $$
"""


def test_claims_among_many(server, capsys):
    """Jobs as writers queue them, a thousand a transaction; each worker makes some twenty claims."""
    db = session(server)
    make_pipeline(db, max(PENDING))
    medians = {}
    for pending in PENDING:
        db.execute("TRUNCATE embed.job")
        db.execute(_QUEUED.format(last=pending // 1000 - 1))
        db.execute("VACUUM ANALYZE embed.job")
        worker = TimedWorker(session(server))
        worker.start(6 if pending > 10_000 else 20, until_empty=True)
        claims = [seconds for what, _, seconds, _ in worker.spent() if what == "claim"]
        assert len(claims) >= 10
        medians[pending] = p50(claims)
    with capsys.disabled():
        print("\na claim of 1000 rows, by the number of those that are pending (aim: within 2)")
        for pending, seconds in medians.items():
            print(f"  {pending:>9,}{1000 * seconds:>10.1f} ms{seconds / medians[PENDING[0]]:>8.2f}")


OPEN = {
    "a reader": ("SELECT count(*) FROM docs WHERE id = 1",),
    "a writer": ("SELECT pg_current_xact_id()",),
}


@pytest.mark.parametrize("who", OPEN)
def test_claims_beside_an_open_transaction(server, capsys, who):
    """Nothing that is done can be vacuumed away while it lasts."""
    rows = PACE * (HELD + 60)
    with session(server) as db:
        make_pipeline(db, rows)
        worker = TimedWorker(session(server))
        worker.start(HELD + 30)
        feed = Feed(session(server), PACE, rows)
        started = time.time()
        wait_until(lambda: time.time() > started + 10, 20, "ten seconds")
        holder = session(server)
        holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        for statement in OPEN[who]:
            holder.execute(statement)
        held = time.time()
        wait_until(lambda: time.time() > held + HELD, HELD + 10, "the time")
        over, size = time.time(), queue_size(db)
        holder.execute("COMMIT")
        spent = worker.spent()
        written = feed.stop()
        db.execute("SELECT embed_drain(max_rows => 1000000)")
        after = queue_size(db)
    print_held(capsys, who, spent, (held, over), (size, after), written)


def print_held(capsys, who, spent, times, sizes, written):
    """A fold takes what came since the one before, so it is reckoned by the row; a claim likewise."""
    held, over = times
    spans = {"before": (held - 8, held), "last": (over - 10, over), "after": (over + 15, over + 1000)}
    with capsys.disabled():
        print(f"\n{PACE} changes/s ({written} written) beside {who} with an open transaction of {over - held:.0f} s")
        for what in ("claim", "fold"):
            found = {
                name: [(s, n) for w, at, s, n in spent if w == what and a < at < b] for name, (a, b) in spans.items()
            }
            ms = {name: 1000 * p50([s for s, _ in few] or [0]) for name, few in found.items()}
            row = {name: 1e6 * p50([s / n for s, n in few] or [0]) for name, few in found.items()}
            size = {name: p50([n for _, n in few] or [0]) for name, few in found.items()}
            for name in spans:
                ratios = f"{ms[name] / ms['before']:.2f}, {row[name] / row['before']:.2f}"
                figures = f"p50 {ms[name]:>7.2f} ms of {size[name]:>5.0f} rows, {row[name]:>7.1f} us a row"
                print(f"  {what:<6}{name:<7} {figures}; ratios {ratios}")
        print(f"  (aim 3) queue tables {sizes[0]:.1f} MB at its end, {sizes[1]:.1f} MB after")


def test_steady_changes(server, capsys):
    rows = PACE * 60
    sizes = []
    with session(server) as db:
        make_pipeline(db, rows)
        worker = TimedWorker(session(server))
        worker.start(STEADY)
        feed = Feed(session(server), PACE, rows)
        started = time.time()
        for moment in range(1, STEADY - 2):
            wait_until(lambda moment=moment: time.time() > started + moment, 10, "a second")
            sizes.append(queue_size(db))
        written = feed.stop()
        spent = worker.spent()
        db.execute("SELECT embed_drain(max_rows => 1000000)")
        assert db.execute("SELECT count(*) FROM docs_embedding WHERE NOT is_stale").fetchone()[0] <= rows
    claims = [seconds for what, _, seconds, _ in spent if what == "claim"]
    with capsys.disabled():
        print(f"\n{written / STEADY:.0f} changes/s for {STEADY} s: queue tables at most {max(sizes):.1f} MB (aim 20)")
        print(f"  by tenths of the time: {[round(max(t), 1) for t in tenths(sizes)]}")
        print(f"  claim p50 {1000 * p50(claims):.2f} ms, p99 {1000 * p99(claims):.2f} ms")


def tenths(values):
    """Ten stretches of a list."""
    size = max(1, len(values) // 10)
    return [values[n * size : (n + 1) * size] for n in range(10) if values[n * size : (n + 1) * size]]
