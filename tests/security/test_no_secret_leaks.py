"""A key goes to the model's server in a header, and nowhere else: not into logs, catalogs, views, errors or dumps."""

import shutil
import subprocess
import threading
from pathlib import Path

import faults
import psycopg
import pytest

from evergreen_host.cluster import Cluster

KEY = "sk-Zr7QmW2vT9xLpB4nKd8sHc3f"
PIECES = [KEY[i : i + 8] for i in range(len(KEY) - 7)]
OPTIONS = {
    "log_statement": "all",
    "log_min_messages": "debug1",
    "log_connections": "on",
    "log_min_error_statement": "log",
}
FAULTS = [
    faults.status(401, f"no such key: {KEY}".encode()),
    faults.status(500, f"Authorization: Bearer {KEY}".encode()),
    faults.status(400, f'{{"error": "bad text, key {KEY}"}}'.encode()),
    faults.reset(),
    faults.html(),
]


@pytest.fixture
def keyed(tmp_path_factory):
    """A server of our own that finds the key in a file, and by another name in its environment."""
    folder = Path(tmp_path_factory.mktemp("secrets"))
    (folder / "model_key").write_text(KEY + "\n")
    (folder / "model_key").chmod(0o640)
    for path in (folder, folder / "model_key"):
        shutil.chown(path, "postgres", "postgres")
    for parent in list(folder.parents)[:3]:
        parent.chmod(parent.stat().st_mode | 0o111)
    with Cluster(options=OPTIONS, env={"EVERGREEN_SECRETS": str(folder), "EVERGREEN_SECRET_other_key": KEY}) as made:
        with psycopg.connect(made.dsn(), autocommit=True) as db:
            db.execute("CREATE DATABASE keyed")
        yield made


def contents(db):
    """Every row of every table, view and sequence that there is, as text."""
    kinds = "SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'v', 'm', 'S', 't')"
    relations = db.execute(kinds).fetchall()
    for (name,) in relations:
        try:
            for (row,) in db.execute(f"SELECT r::text FROM {name} r"):
                yield name, row
        except psycopg.Error:
            continue  # views that want something special, such as a library


def test_a_key_is_found_nowhere(keyed, provider):
    said = []
    with psycopg.connect(keyed.dsn("keyed"), autocommit=True) as db:
        db.add_notice_handler(
            lambda told: said.append(f"{told.message_primary} {told.message_detail} {told.message_hint}")
        )
        db.execute("CREATE EXTENSION evergreen CASCADE")
        db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text)")
        db.execute("INSERT INTO docs SELECT i, 'title ' || i, 'body ' || i FROM generate_series(1, 10) i")
        provider.register(db, secret="model_key")
        db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
        for fault in FAULTS:
            provider.fail(fault)
            for call in (
                "SELECT embed_drain()",
                "CALL embed_work(until_empty => true)",
                "SELECT embed_query('docs', 'q')",
            ):
                try:
                    db.execute(call)
                except psycopg.Error as error:
                    said.append(f"{error} {error.diag.context} {error.diag.message_detail} {error.diag.message_hint}")
            provider.mend()
            db.execute("SELECT embed_endpoint_set('loop', %s, secret => 'other_key')", (provider.url,))
            db.execute("UPDATE embed.job SET ready_at = clock_timestamp()")
        db.execute("SELECT embed_drain()")
        assert len(db.execute("SELECT id FROM docs_embedding").fetchall()) == 10
        assert {call.headers["authorization"] for call in provider.calls} == {f"Bearer {KEY}"}
        provider.hold()
        db.execute("UPDATE docs SET body = 'edited'")
        worker = psycopg.connect(keyed.dsn("keyed"), autocommit=True)
        before = len(provider.requests)
        threading.Thread(target=lambda: worker.execute("CALL embed_work(until_empty => true)"), daemon=True).start()
        provider.wait_for_requests(before + 1)
        for name, row in contents(db):  # with a request under way
            assert not any(piece in row for piece in PIECES), name
        provider.release()
    dumped = subprocess.run(
        [keyed.bin("pg_dump"), "-d", keyed.dsn("keyed")], capture_output=True, text=True, check=True
    ).stdout
    for what, text in {"a dump": dumped, "the log": keyed.logfile.read_text(), "a message": "\n".join(said)}.items():
        assert len(text) > 100, what
        assert not [piece for piece in PIECES if piece in text], what
