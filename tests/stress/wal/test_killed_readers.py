"""WAL readers are terminated and killed, again and again, while writers write: no change is lost."""

import os
import signal
import threading
from contextlib import suppress

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.fixtures.server.template import TEMPLATE, janitor, make_template
from tests.fixtures.waiting import wait_until
from tests.fixtures.wal import OPTIONS, work_until

pytestmark = pytest.mark.stress


ROWS = 2000
WRITERS = 8
READS = "SELECT active_pid FROM pg_replication_slots WHERE active_pid IS NOT NULL"
WORKING = "SELECT pid FROM pg_stat_activity WHERE application_name = 'a worker' ORDER BY query_start"


@pytest.fixture
def doomed():
    """A server that is to crash, each test its own: the session that makes databases ends with it."""
    with Cluster(options=OPTIONS) as made:
        make_template(made)
        yield made


class Story:
    """Writers that write until they have done so much, workers that come back, and one who ends those."""

    def __init__(self, cluster, name, updates):
        self.dsn = cluster.dsn(name)
        self.updates = updates
        self.written = 0
        self.kills = {"terminated": 0, "killed": 0}
        self.over = threading.Event()
        self._guard = threading.Lock()

    def session(self, name):
        return psycopg.connect(self.dsn, autocommit=True, application_name=name, connect_timeout=10)

    def write(self, writer):
        """Update rows of one's own, each to a text that is not seen twice; who is thrown out does not know."""
        number = 0
        while number < self.updates // WRITERS:
            with suppress(psycopg.OperationalError), self.session("a writer") as session:
                while number < self.updates // WRITERS:
                    key = writer + WRITERS * (number % (ROWS // WRITERS))
                    session.execute("UPDATE docs SET body = %s WHERE id = %s", (f"{writer} {number}", key))
                    number += 1
                    with self._guard:
                        self.written += 1

    def work(self):
        while not self.over.is_set():
            with suppress(psycopg.OperationalError), self.session("a worker") as session:
                session.execute("CALL embed_work(max_runtime => '30 s')")

    def strike(self, how):
        """End the current reader, otherwise a worker."""
        with suppress(psycopg.OperationalError, ProcessLookupError), self.session("the reaper") as session:
            found = session.execute(READS).fetchall() or session.execute(WORKING).fetchall()
            if not found:
                return
            self.kills[how] += 1
            if how == "killed":
                os.kill(found[0][0], signal.SIGKILL)
                wait_until(
                    lambda: not session.execute("SELECT 1"), timeout=30, what="the crash, which ends this one, too"
                )
            else:
                session.execute("SELECT pg_terminate_backend(%s)", found[0])

    def play(self, strikes):
        writers = [threading.Thread(target=self.write, args=(number,), daemon=True) for number in range(WRITERS)]
        workers = [threading.Thread(target=self.work, daemon=True) for _ in range(2)]
        for thread in writers + workers:
            thread.start()
        for number in range(strikes):
            share = self.updates * (number + 1) // (strikes + 1)
            wait_until(lambda share=share: self.written >= share, timeout=300, what="the writers")
            self.strike("killed" if number % 4 == 3 else "terminated")
        for thread in writers:
            thread.join(300)
        self.over.set()
        with wait_until(self._connected, timeout=60, what="the server") as session:
            session.execute(f"SELECT pg_terminate_backend(pid) FROM ({WORKING}) w")
        for thread in workers:
            thread.join(60)
        assert not any(thread.is_alive() for thread in writers + workers)

    def _connected(self):
        with suppress(psycopg.OperationalError):
            return self.session("the end")
        return None


def play(cluster, name, updates, strikes):
    janitor(cluster, name, TEMPLATE).init()
    story = Story(cluster, name, updates)
    with story.session("the beginning") as db:
        db.execute("SELECT embed_model_add('h8', 'hash', 8)")
        db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text)")
        db.execute("INSERT INTO docs SELECT i, 'first' FROM generate_series(0, %s::int) i", (ROWS - 1,))
        db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'h8', capture => 'cdc')")
        work_until(db, "docs", "cdc")
    story.play(strikes)
    with story.session("the end") as db:
        log = "SELECT count(*) FROM embed.backfill_cursor WHERE running"
        assert db.execute(log).fetchone() == (0,), (
            "nothing was lost because all was looked at again: that proves nothing"
        )
        work_until(db, "docs", "cdc")
        assert dict(db.execute("SELECT * FROM embed_verify('docs')").fetchall())["fresh"] == ROWS
        assert db.execute(
            "SELECT count(*) FROM docs_embedding e JOIN docs d USING (id) WHERE e.chunk <> d.body"
        ).fetchone() == (0,)
    assert story.written >= updates
    assert min(story.kills.values()) > 0
    print(story.kills)


def test_a_few_updates_and_kills(doomed):
    play(doomed, "few", 4000, 8)


@pytest.mark.stress
def test_a_hundred_thousand_updates_and_kills(doomed):
    play(doomed, "many", 100_000, 40)
