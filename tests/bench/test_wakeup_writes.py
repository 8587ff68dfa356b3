"""What wake-up costs writers: eight of them flat out beside a worker that LISTENs, with it and without."""

import re
import subprocess
from pathlib import Path

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.bench.measure import report, take_turns
from tests.fixtures.waiting import wait_until
from tests.fixtures.worker_processes import ListeningWorker

CLIENTS, WARM_UP, SECONDS, ROUNDS, ROWS = 8, 3, 10, 6, 5_000  # fewer rows than an index is built for

pytestmark = pytest.mark.bench


def _write(cluster: Cluster, script: Path, seconds: int) -> str:
    command = [
        cluster.bin("pgbench"), "--no-vacuum", "--client", str(CLIENTS), "--jobs", "2", "--time", str(seconds),
        "--protocol", "prepared", "--file", script, cluster.dsn(),
    ]  # fmt: skip
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def run(cluster: Cluster, folder: Path, counted: list[tuple[int, int]], *, wakeup: bool) -> float:
    """Return the updates a second that pgbench reports; count them and the NOTIFYs."""
    script = folder / "write.sql"
    script.write_text(
        f"\\set id random(1, {ROWS})\nUPDATE docs SET body = md5(random()::text) WHERE id = :id;\n", encoding="utf-8"
    )
    with psycopg.connect(cluster.dsn(), autocommit=True) as db, ListeningWorker(cluster.dsn()) as worker:
        db.execute("SELECT embed_alter('docs', %s)", (f'{{"wakeup": {str(wakeup).lower()}}}',))
        worker.wait_for("connected")
        worker.wait_for_sleep(db)
        db.execute("LISTEN evergreen_wake")
        _write(cluster, script, WARM_UP)  # until the worker runs, which takes a second without a wake-up
        said = _write(cluster, script, SECONDS)
        done = int(re.search(r"transactions actually processed: (\d+)", said)[1])
        told = len(list(db.notifies(timeout=0.2)))
        wait_until(lambda: db.execute("SELECT count(*) FROM embed.change_log").fetchone() == (0,), 60)
    if wakeup:
        counted.append((told, done))
    assert not told or wakeup
    return float(re.search(r"^tps = ([\d.]+)", said, re.MULTILINE)[1])


def test_writers_beside_a_listening_worker(tmp_path, capsys):
    counted: list[tuple[int, int]] = []
    with Cluster(durable=True, options={"max_wal_size": "4GB"}) as cluster:
        with psycopg.connect(cluster.dsn(), autocommit=True) as db:
            db.execute("CREATE EXTENSION evergreen CASCADE; CREATE TABLE docs (id int PRIMARY KEY, body text NOT NULL)")
            db.execute(f"INSERT INTO docs SELECT i, md5(i::text) FROM generate_series(1, {ROWS}) i")
            db.execute("SELECT embed_model_add('h8', 'hash', 8)")
            db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'h8')")
            db.execute("CALL embed_work(until_empty => true)")
        rounds = take_turns(
            {
                "wakeup off": lambda: run(cluster, tmp_path, counted, wakeup=False),
                "wakeup on": lambda: run(cluster, tmp_path, counted, wakeup=True),
            },
            ROUNDS,
        )
    with capsys.disabled():
        report(f"{CLIENTS} clients flat out, durable commits", "updates/s", rounds, {"wakeup on": 0.95}, "wakeup off")
        print("  NOTIFYs of transactions: " + ", ".join(f"{told} of {done:,}" for told, done in counted))
