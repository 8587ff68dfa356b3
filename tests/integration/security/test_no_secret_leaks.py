"""A key goes to its server in a header or a parameter, and nowhere else: not into logs, catalogs, views or errors."""

import json
import shutil
import subprocess
import threading
from pathlib import Path

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.fixtures.providers import faults

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
def folder(tmp_path_factory):
    """Where the server finds secrets, with the key in it."""
    folder = Path(tmp_path_factory.mktemp("secrets"))
    (folder / "model_key").write_text(KEY + "\n")
    (folder / "model_key").chmod(0o640)
    for path in (folder, folder / "model_key"):
        shutil.chown(path, "postgres", "postgres")
    for parent in list(folder.parents)[:3]:
        parent.chmod(parent.stat().st_mode | 0o111)
    return folder


@pytest.fixture
def keyed(folder):
    """A server of our own that finds the key in a file, and by another name in its environment."""
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
        own = {"headers": {"api-key": {"secret": "other_key"}}, "query": {"key": {"secret": "model_key"}}}
        provider.register(db, secret="model_key", endpoint=own)
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
            changed = "SELECT embed_endpoint_set('loop', %s, secret => 'other_key', options => %s)"
            db.execute(changed, (provider.url, json.dumps(own)))
            db.execute("UPDATE embed.job SET ready_at = clock_timestamp()")
        db.execute("SELECT embed_drain()")
        assert len(db.execute("SELECT id FROM docs_embedding").fetchall()) == 10
        assert {call.headers["authorization"] for call in provider.calls} == {f"Bearer {KEY}"}
        assert {(call.headers["api-key"], call.query["key"]) for call in provider.calls} == {(KEY, KEY)}
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


def test_a_file_that_others_may_read_is_said_at_once(keyed, folder):
    """Whatever keeps the server from a secret is said when it is set: no file, one with wrong rights, no key in it."""
    said = []
    key = folder / "model_key"
    with psycopg.connect(keyed.dsn("keyed"), autocommit=True) as db:
        db.add_notice_handler(lambda told: said.append(f"{told.severity} {told.message_primary} {told.message_hint}"))
        db.execute("CREATE EXTENSION evergreen CASCADE")
        said.clear()
        setting = "SELECT embed_endpoint_set('e', 'https://models.example.com', secret => %s)"
        for mode, content, told in (
            (0o644, KEY, "others may read or change its file; chmod 0640"),
            (0o660, KEY, "others may read or change its file; chmod 0640"),
            (0o640, "two\nlines", "must be one line"),
            (0o640, None, "is neither a file in"),
        ):
            key.chmod(mode)
            key.write_text(content) if content is not None else key.unlink()
            db.execute(setting, ("model_key",))
            assert said[-1].startswith("WARNING")
            assert told in said[-1]
            assert not [piece for piece in PIECES if piece in "".join(said)]
        said.clear()
        db.execute(setting, ("other_key",))
        assert said == []
