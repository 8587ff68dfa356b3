"""What a writer pays for capture from the WAL: updates by four clients, durable commits, of a table read or not."""

import re
import subprocess

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.bench.measure import report, take_turns

ROWS, CLIENTS, SECONDS, ROUNDS = 100_000, 4, 8, 3

pytestmark = pytest.mark.bench

TABLES = f"""
CREATE TABLE plain (id int PRIMARY KEY, body text NOT NULL, n int NOT NULL DEFAULT 0) WITH (fillfactor = 70);
INSERT INTO plain SELECT i, repeat(md5(i::text), 10) FROM generate_series(1, {ROWS}) i;
CREATE TABLE watched (LIKE plain INCLUDING ALL) WITH (fillfactor = 70);
INSERT INTO watched SELECT * FROM plain;
CREATE EXTENSION evergreen CASCADE;
SELECT embed_model_add('h8', 'hash', 8);
SELECT embed_create('watched', 'watched', columns => '{{body}}', model => 'h8', backfill => false, capture => 'cdc');
"""


def test_wal_write_path(tmp_path, capsys):
    def run(table: str) -> float:
        script = tmp_path / f"{table}.sql"
        script.write_text(
            f"\\set id random(1, {ROWS})\nUPDATE {table} SET body = md5(random()::text) WHERE id = :id;\n"
        )
        with psycopg.connect(cluster.dsn(), autocommit=True) as db:
            db.execute("CALL embed_work(until_empty => true)")
            db.execute("VACUUM ANALYZE plain")
            db.execute("VACUUM ANALYZE watched")
            db.execute("CHECKPOINT")
            command = [
                cluster.bin("pgbench"), "--no-vacuum", "--client", str(CLIENTS), "--jobs", "2", "--time", str(SECONDS),
                "--protocol", "prepared", "--file", script, cluster.dsn(),
            ]  # fmt: skip
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            ((logged,),) = db.execute("SELECT count(*) FROM embed.change_log").fetchall()
            assert logged == 0  # nothing was written but the row
        return float(re.search(r"^tps = ([\d.]+)", said, re.MULTILINE)[1])

    with Cluster(durable=True, options={"max_wal_size": "4GB", "wal_level": "logical"}) as cluster:
        with psycopg.connect(cluster.dsn(), autocommit=True) as db:
            for statement in TABLES.split(";\n"):
                if statement.strip():
                    db.execute(statement)
            db.execute("CALL embed_work(until_empty => true)")
            assert db.execute("SELECT capture FROM embed_status").fetchone() == ("cdc",)
        rounds = take_turns({"not read": lambda: run("plain"), "read": lambda: run("watched")}, ROUNDS)
        with capsys.disabled():
            title = f"{CLIENTS} clients updating the watched column, durable commits, no trigger"
            report(title, "updates/s", rounds, {"read": 0.97}, "not read")
