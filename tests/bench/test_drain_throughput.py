"""Drain against a straight-line script: what queue, fingerprints, leases and chunk matching cost.

The script is what a person would write who needs the vectors once: read all rows, call the model, COPY the result in
binary into a table with a primary key. It keeps nothing fresh, survives no crash, and sends everything again next time.
Two models of the same vectors: one inside the process, which costs next to nothing and so shows every microsecond of
ours, and one behind HTTP in a process of its own, as models are.
"""

import base64
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import psycopg
import pytest
import requests
from hashing import DIMENSIONS, hash_vectors
from measure import report, take_turns, timed
from numpy.typing import NDArray
from texts import documents

ROWS = 20_000
BATCH = 1000
ROUNDS = 3

pytestmark = pytest.mark.bench

Embed = Callable[[list[str]], NDArray[np.float32]]


@pytest.fixture
def url() -> Iterator[str]:
    """The hash model behind HTTP."""
    program = Path(__file__).with_name("hash_server.py")
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        server.terminate()


@pytest.fixture
def docs(db: psycopg.Connection[Any]) -> None:
    """The table to embed."""
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text NOT NULL)")
    with db.cursor().copy("COPY docs FROM STDIN") as copy:
        for row in enumerate(documents(ROWS)):
            copy.write_row(row)
    db.execute("VACUUM ANALYZE docs")


def over_http(url: str) -> Embed:
    session = requests.Session()
    session.trust_env = False

    def embed(texts: list[str]) -> NDArray[np.float32]:
        body = orjson.dumps({"model": "hash", "input": texts, "encoding_format": "base64"})
        data = orjson.loads(session.post(f"{url}/embeddings", data=body, timeout=60).content)["data"]
        raw = b"".join(base64.b64decode(item["embedding"]) for item in data)
        return np.frombuffer(raw, dtype="<f4").reshape(len(texts), DIMENSIONS)

    return embed


def binary(vectors: NDArray[np.float32]) -> Iterable[bytes]:
    """pgvector's binary form: the dimensions, two bytes unused, floats."""
    head = DIMENSIONS.to_bytes(2, "big") + b"\0\0"
    return (head + row.tobytes() for row in vectors.astype(">f4"))


def script(dsn: str, embed: Embed) -> None:
    with psycopg.connect(dsn) as connection:
        rows = iter(connection.execute("SELECT id, body FROM docs"))
        with connection.cursor().copy("COPY plain (id, chunk, embedding) FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int4", "text", "bytea"])  # whose binary form is the bytes themselves
            while batch := list(islice(rows, BATCH)):
                vectors = binary(embed([text for _, text in batch]))
                for (number, text), vector in zip(batch, vectors, strict=True):
                    copy.write_row((number, text, vector))


@pytest.mark.parametrize("served", ["in process", "over HTTP"])
def test_drain_throughput(db, dsn, docs, url, served, capsys):
    db.execute("SELECT embed_endpoint_set('local', %s)", (url,))
    provider, endpoint = ("hash", None) if served == "in process" else ("openai", "local")
    db.execute("SELECT embed_model_add('m', %s, %s, endpoint => %s)", (provider, DIMENSIONS, endpoint))
    embed = hash_vectors if served == "in process" else over_http(url)

    def plain() -> float:
        db.execute(f"CREATE TABLE plain (id int PRIMARY KEY, chunk text, embedding vector({DIMENSIONS}))")
        seconds = timed(lambda: script(dsn, embed))
        assert db.execute("SELECT count(embedding) FROM plain").fetchone() == (ROWS,)
        db.execute("DROP TABLE plain")
        return ROWS / seconds

    def evergreen(statement: str) -> float:
        db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'm')")
        with psycopg.connect(dsn, autocommit=True) as worker:
            seconds = timed(lambda: worker.execute(statement))
        assert db.execute("SELECT count(*) FROM docs_embedding WHERE NOT is_stale").fetchone() == (ROWS,)
        db.execute("SELECT embed_drop('docs')")
        return ROWS / seconds

    rounds = take_turns(
        {
            "script, binary COPY": plain,
            "embed_drain()": lambda: evergreen(f"SELECT embed_drain(max_rows => {ROWS})"),
            "CALL embed_work()": lambda: evergreen("CALL embed_work(until_empty => true)"),
        },
        ROUNDS,
    )
    aims = {"embed_drain()": 0.75, "CALL embed_work()": 0.75}
    with capsys.disabled():
        title = f"{ROWS:,} documents, hash-{DIMENSIONS} {served}"
        report(title, "rows/s", rounds, aims, "script, binary COPY")
