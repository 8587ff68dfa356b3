"""A transaction of very many rows comes out of the WAL whole, and is read in a memory that does not grow with it."""

import threading
from pathlib import Path

import pytest

from tests.fixtures.waiting import Background
from tests.fixtures.wal import WORK, work

pytestmark = pytest.mark.stress


MOST = 160 << 10  # kB: what the server keeps of a transaction in memory is 64 MB (logical_decoding_work_mem)


class Memory:
    """Samples how much memory of its own a backend has."""

    def __init__(self, pid):
        self.most = 0
        self._path = Path(f"/proc/{pid}/status")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self):
        while not self._over.wait(0.005):
            line = next(one for one in self._path.read_text("utf-8").splitlines() if one.startswith("RssAnon"))
            self.most = max(self.most, int(line.split()[1]))

    def stop(self):
        self._over.set()
        self._thread.join(10)
        return self.most


def peak(session, change, db):
    """Read what a statement changed; return the most memory that took, in kB."""
    db.execute(change)
    memory = Memory(session.info.backend_pid)
    Background(session, WORK.replace("20 s", "300 s")).result(400)
    return memory.stop()


@pytest.mark.parametrize("rows", [50_000, pytest.param(1_000_000, marks=pytest.mark.stress)])
def test_memory(connect, db, rows, capsys):
    db.execute("SELECT embed_model_add('h8', 'hash', 8)")
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text)")
    db.execute("INSERT INTO docs SELECT i, repeat(md5(i::text), 10) FROM generate_series(1, %s::int) i", (rows,))
    db.execute(
        "SELECT embed_create('docs', 'docs', columns => '{body}', model => 'h8', capture => 'cdc', backfill => false)"
    )
    work(db)
    db.execute("SELECT embed_pause('docs')")
    session = connect()
    few = peak(session, "UPDATE docs SET body = 'x' || body WHERE id <= 100", db)
    many = peak(session, "UPDATE docs SET body = 'x' || body", db)
    with capsys.disabled():
        print(f"\n{rows} rows in a transaction: {few >> 10} MB before, {many >> 10} MB at most")
    assert db.execute("SELECT count(DISTINCT key) FROM embed.change_log").fetchone() == (rows,)
    assert many - few < MOST
