"""Compute outside the database, as a user would write it: claim, embed with the loopback model's vectors, submit."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import psycopg
from provider import vector

Connection = psycopg.Connection[Any]


class Text(NamedTuple):
    """A row of embed_claim."""

    token: int
    key: list[Any]
    chunk_no: int
    text: str
    hash: bytes
    model: str


def claim(
    db: Connection, max_rows: int = 1000, lease: str = "5 min", *, pipeline: str = "docs", model: str | None = None
) -> list[Text]:
    """The texts of one claim."""
    rows = db.execute("SELECT * FROM embed_claim(%s, %s, %s, %s)", (pipeline, max_rows, lease, model)).fetchall()
    return [Text(*row) for row in rows]


SUBMIT = "SELECT embed_submit(%s, %s, %s, %s::vector[], %s)"


def _submission(texts: Iterable[Text], pipeline: str, dimensions: int, tokens: int | None) -> tuple[Any, ...]:
    texts = list(texts)
    vectors = [str(vector(one.text, dimensions)) for one in texts]
    return (pipeline, texts[0].token, [one.hash for one in texts], vectors, tokens)


def submit(
    db: Connection, texts: Iterable[Text], *, pipeline: str = "docs", dimensions: int = 8, tokens: int | None = None
) -> int:
    """Submit the vectors of texts of one claim; returns the rows brought up to date."""
    return db.execute(SUBMIT, _submission(texts, pipeline, dimensions, tokens)).fetchone()[0]  # type: ignore[index]


def statement(db: Connection, texts: Iterable[Text]) -> str:
    """The submission as a statement without parameters."""
    return psycopg.ClientCursor(db).mogrify(SUBMIT, _submission(texts, "docs", 8, None))


def release(db: Connection, texts: Iterable[Text], error: str | None = None, *, pipeline: str = "docs") -> int:
    """Give the rows of texts of one claim back, or fail them."""
    texts = list(texts)
    query = "SELECT embed_release(%s, %s, %s, %s)"
    return db.execute(query, (pipeline, texts[0].token, [one.hash for one in texts], error)).fetchone()[0]  # type: ignore[index]


def embed_all(db: Connection, max_rows: int = 1000, *, pipeline: str = "docs") -> list[str]:
    """Claim and submit until nothing comes out; returns the texts that were embedded."""
    done: list[str] = []
    while texts := claim(db, max_rows, pipeline=pipeline):
        submit(db, texts, pipeline=pipeline)
        done += [one.text for one in texts]
    return done


def let_leases_run_out(db: Connection) -> None:
    """As if every claim had been made long ago."""
    db.execute("UPDATE embed.lease SET expires_at = clock_timestamp() - interval '1 s'")
    db.execute("UPDATE embed.inflight SET expires_at = clock_timestamp() - interval '1 s'")


def kept(db: Connection) -> int:
    """Vectors in the cache."""
    return db.execute("SELECT count(*) FROM embed.cache").fetchone()[0]  # type: ignore[index]
