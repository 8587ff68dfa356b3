"""The straight-line script that drains are measured against.

It is what a person would write as a nightly job: read the rows through a cursor, call the model, upsert text and vector
into a table with a primary key, commit, and go on with the next batch. It finds no changes and does not resume.
Requests are JSON by ``requests``, as many texts in each as Evergreen sends, one after the other over one connection.

In µs a row at 256 dimensions, on a busy machine: 70; with executemany instead of COPY, 76. An earlier version wrote
everything by one COPY in one transaction, and passed vectors on as bytes: 35. No nightly job can do so, because on the
second night it fails at the first key.
"""

import base64
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import psycopg
import requests
from numpy.typing import NDArray
from pgvector.psycopg import register_vector

Vectors = Iterable[NDArray[np.float32]]
Embed = Callable[[list[str]], Vectors]
Row = tuple[int, str, NDArray[np.float32]]


def create_table(dimensions: int) -> str:
    """Return the statement that makes the table the vectors go into."""
    return f"CREATE TABLE plain (id int PRIMARY KEY, chunk text, embedding vector({dimensions}))"


def run(dsn: str, embed: Embed, batch: int, part: int = 0, parts: int = 1) -> None:
    """Embed a part of docs into plain, in requests of so many texts."""
    with psycopg.connect(dsn) as source, psycopg.connect(dsn) as target:
        register_vector(target)
        target.execute("CREATE TEMP TABLE batch (LIKE plain) ON COMMIT DELETE ROWS")
        with source.cursor("rows") as rows:
            rows.execute("SELECT id, body FROM docs WHERE id %% %s = %s", (parts, part))
            while some := rows.fetchmany(batch):
                vectors = embed([text for _, text in some])
                upsert(target, [(*row, vector) for row, vector in zip(some, vectors, strict=True)])


def upsert(connection: psycopg.Connection[Any], rows: list[Row]) -> None:
    """Write rows and commit: by COPY through a temporary table, as INSERT of each row takes longer."""
    with connection.cursor().copy("COPY batch FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(["int4", "text", "vector"])
        for row in rows:
            copy.write_row(row)
    connection.execute(
        "INSERT INTO plain SELECT * FROM batch"
        " ON CONFLICT (id) DO UPDATE SET chunk = excluded.chunk, embedding = excluded.embedding"
    )
    connection.commit()


def over_http(url: str) -> Embed:
    """Return the call of a model that is served at an OpenAI-compatible /embeddings."""
    session = requests.Session()
    session.trust_env = False

    def embed(texts: list[str]) -> Vectors:
        body = {"model": "m", "input": texts, "encoding_format": "base64"}
        answer = session.post(f"{url}/embeddings", json=body, timeout=60)
        answer.raise_for_status()
        return [np.frombuffer(base64.b64decode(item["embedding"]), dtype="<f4") for item in answer.json()["data"]]

    return embed


def run_over_http(dsn: str, url: str, batch: int, part: int, parts: int) -> None:
    """As ``run``, in one of several processes."""
    run(dsn, over_http(url), batch, part, parts)
