"""Memory of writers and workers: bounded by a batch, not by how much is written or waits.

What a process has for itself (RssAnon) is looked at many times a second; shared buffers do not count.
"""

from collections.abc import Iterable

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.fixtures.memory_use import Peak
from tests.fixtures.waiting import Background

WORK = "CALL embed_work(until_empty => true, max_runtime => '1 day')"
IS_EMPTY = "SELECT NOT EXISTS (SELECT FROM embed.change_log) AND NOT EXISTS (SELECT FROM embed.job)"
COPIED = 3_000
LARGE, LARGE_DOCUMENTS = 5_000_000, 100
WIDE_ROWS, WORKERS = 20_000, 4

pytestmark = pytest.mark.bench


@pytest.fixture
def server():
    with Cluster(options={"max_wal_size": "4GB"}) as made:
        with psycopg.connect(made.dsn(), autocommit=True) as db:
            db.execute("CREATE EXTENSION evergreen CASCADE")
            db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text)")
            db.execute("CREATE TABLE plain (id int PRIMARY KEY, body text)")
        yield made


@pytest.fixture
def connect(server):
    return lambda: psycopg.connect(server.dsn(), autocommit=True)


def create(db, dimensions, chunker=None):
    db.execute("SELECT embed_model_add('h', 'hash', %s)", (dimensions,))
    chunking = f", chunker => {chunker}" if chunker else ""
    db.execute(f"SELECT embed_create('docs', 'docs', columns => '{{body}}', model => 'h'{chunking})")


def words(number: int, characters: int) -> str:
    """A text that no other number has."""
    unit = f"Sentence of document {number} about nothing at all. "
    return "".join(f"{place} {unit}" for place in range(characters // (len(unit) + 6)))


def copy(db, table: str, rows: Iterable[tuple[int, str]]) -> None:
    with db.cursor().copy(f"COPY {table} FROM STDIN") as copying:
        for row in rows:
            copying.write_row(row)


def work(db, sessions):
    """Have all sessions work until nothing is left; return their peak."""
    with Peak(*sessions) as peak:
        for running in [Background(session, WORK) for session in sessions]:
            running.result(3600)
    assert db.execute(IS_EMPTY).fetchone() == (True,)
    return peak


def show(capsys, what, peak):
    with capsys.disabled():
        print(f"\n{what}: at most {peak.most:.0f} MB (before {peak.before:.0f})")


def test_a_copy_of_300_mb(connect, capsys):
    """The writer with capture against the same COPY into a table that is not watched; then the worker."""
    db, worker = connect(), connect()
    create(db, 64)
    body = "a few words " * 8_500
    peaks = {}
    for table in ("plain", "docs"):
        with connect() as writer, Peak(writer) as peaks[table]:
            copy(writer, table, ((number, f"{number} {body}") for number in range(COPIED)))
        show(capsys, f"COPY of 300 MB into {table}", peaks[table])
    assert peaks["docs"].most < peaks["plain"].most + 30
    peak = work(db, [worker])
    show(capsys, "a worker embeds it", peak)
    assert peak.most < 400


def test_large_documents(connect, capsys):
    db, worker = connect(), connect()
    create(db, 64, "embed_chunk_text()")
    copy(db, "docs", ((number, words(number, LARGE)) for number in range(LARGE_DOCUMENTS)))
    peak = work(db, [worker])
    show(capsys, f"{LARGE_DOCUMENTS} documents of 5 MB in chunks", peak)
    assert peak.most < 400


def test_wide_vectors_by_several_workers(connect, capsys):
    db, workers = connect(), [connect() for _ in range(WORKERS)]
    create(db, 1536)
    copy(db, "docs", ((number, words(number, 2_000)) for number in range(WIDE_ROWS)))
    peak = work(db, workers)
    show(capsys, f"{WORKERS} workers, 1,536 dimensions, {WIDE_ROWS:,} rows; the largest", peak)
    assert peak.most < 400
