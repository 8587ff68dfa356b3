"""What a writer pays for capture: single-row updates by four clients, durable commits, with and without triggers."""

import re
import subprocess
from pathlib import Path

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.bench.measure import report, take_turns

ROWS = 100_000
CLIENTS = 4
SECONDS = 10
ROUNDS = 3

pytestmark = pytest.mark.bench

TABLES = """
CREATE TABLE plain (id int PRIMARY KEY, body text NOT NULL, n int NOT NULL DEFAULT 0) WITH (fillfactor = 70);
INSERT INTO plain SELECT i, repeat(md5(i::text), 10) FROM generate_series(1, %(rows)s) i;
CREATE TABLE watched (LIKE plain INCLUDING ALL) WITH (fillfactor = 70);
INSERT INTO watched SELECT * FROM plain;
CREATE EXTENSION evergreen CASCADE;
SELECT embed_model_add('h8', 'hash', 8);
SELECT embed_create('watched', 'watched', columns => '{body}', model => 'h8', backfill => false);
"""

UPDATES = {
    "watched column": "body = md5(random()::text) || substr(body, 33)",
    "unrelated column": "n = n + 1",
}


def run(cluster: Cluster, folder: Path, table: str, change: str) -> float:
    """Return the updates a second that pgbench reports; the log is emptied before, as workers would."""
    script = folder / f"{table}.sql"
    script.write_text(f"\\set id random(1, {ROWS})\nUPDATE {table} SET {change} WHERE id = :id;\n")
    with psycopg.connect(cluster.dsn(), autocommit=True) as db:
        db.execute("TRUNCATE embed.change_log")
        db.execute("VACUUM ANALYZE plain")
        db.execute("VACUUM ANALYZE watched")
        db.execute("CHECKPOINT")
        command = [
            cluster.bin("pgbench"), "--no-vacuum", "--client", str(CLIENTS), "--jobs", "2", "--time", str(SECONDS),
            "--protocol", "prepared", "--file", script, cluster.dsn(),
        ]  # fmt: skip
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        ((logged,),) = db.execute("SELECT count(*) FROM embed.change_log").fetchall()
    done = int(re.search(r"transactions actually processed: (\d+)", said)[1])
    assert logged == (done if table == "watched" and change.startswith("body") else 0)
    return float(re.search(r"^tps = ([\d.]+)", said, re.MULTILINE)[1])


def test_write_path(tmp_path, capsys):
    with Cluster(durable=True, options={"max_wal_size": "4GB"}) as cluster:
        with psycopg.connect(cluster.dsn(), autocommit=True) as db:
            db.execute(TABLES % {"rows": ROWS})
        for what, aim in (("watched column", 0.88), ("unrelated column", 0.95)):
            rounds = take_turns(
                {
                    "without triggers": lambda what=what: run(cluster, tmp_path, "plain", UPDATES[what]),
                    "captured": lambda what=what: run(cluster, tmp_path, "watched", UPDATES[what]),
                },
                ROUNDS,
            )
            with capsys.disabled():
                title = f"{CLIENTS} clients updating the {what}, durable commits"
                report(title, "updates/s", rounds, {"captured": aim}, "without triggers")
