"""The straight-line script that drains are measured against.

It is what a person would write who needs the vectors once: read the rows, call the model, COPY the result in binary
into a table with a primary key. It keeps nothing fresh, survives no crash, and sends everything again next time.
"""

import base64
from collections.abc import Callable, Iterable
from itertools import islice

import numpy as np
import orjson
import psycopg
import requests
from numpy.typing import NDArray

Embed = Callable[[list[str]], NDArray[np.float32]]


def create_table(dimensions: int) -> str:
    """Return the statement that makes the table the vectors go into."""
    return f"CREATE TABLE plain (id int PRIMARY KEY, chunk text, embedding vector({dimensions}))"


def run(dsn: str, embed: Embed, batch: int, part: int = 0, parts: int = 1) -> None:
    """Embed a part of docs into plain, in requests of so many texts."""
    with psycopg.connect(dsn) as connection:
        rows = iter(connection.execute("SELECT id, body FROM docs WHERE id %% %s = %s", (parts, part)))
        with connection.cursor().copy("COPY plain (id, chunk, embedding) FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int4", "text", "bytea"])  # whose binary form is the bytes themselves
            while some := list(islice(rows, batch)):
                vectors = _binary(embed([text for _, text in some]))
                for (number, text), vector in zip(some, vectors, strict=True):
                    copy.write_row((number, text, vector))


def _binary(vectors: NDArray[np.float32]) -> Iterable[bytes]:
    """pgvector's binary form: the dimensions, two bytes unused, floats."""
    head = vectors.shape[1].to_bytes(2, "big") + b"\0\0"
    return (head + row.tobytes() for row in vectors.astype(">f4"))


def over_http(url: str) -> Embed:
    """Return the call of a model that is served at an OpenAI-compatible /embeddings."""
    session = requests.Session()
    session.trust_env = False

    def embed(texts: list[str]) -> NDArray[np.float32]:
        body = orjson.dumps({"model": "m", "input": texts, "encoding_format": "base64"})
        data = orjson.loads(session.post(f"{url}/embeddings", data=body, timeout=60).content)["data"]
        raw = b"".join(base64.b64decode(item["embedding"]) for item in data)
        return np.frombuffer(raw, dtype="<f4").reshape(len(texts), -1)

    return embed


def run_over_http(dsn: str, url: str, batch: int, part: int, parts: int) -> None:
    """As ``run``, in one of several processes."""
    run(dsn, over_http(url), batch, part, parts)
