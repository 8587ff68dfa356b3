"""What the tests mean by fresh, asked in two ways: of embed_verify, and of the source and the view themselves."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

Connection = psycopg.Connection[Any]

STATES = ("fresh", "stale", "missing", "orphan", "mixed")

# Settings that the text form of values depends on: no two of these print a timestamp or a float alike.
WRITER = {
    "TimeZone": "Asia/Kathmandu", "DateStyle": "German", "IntervalStyle": "iso_8601", "extra_float_digits": "-15",
    "bytea_output": "escape", "client_encoding": "LATIN1",
}  # fmt: skip
WORKER = {
    "TimeZone": "America/St_Johns", "DateStyle": "SQL, DMY", "IntervalStyle": "sql_standard",
    "extra_float_digits": "0", "bytea_output": "hex", "standard_conforming_strings": "off",
}  # fmt: skip
READER = {
    "TimeZone": "Pacific/Apia", "DateStyle": "Postgres, MDY", "IntervalStyle": "postgres_verbose",
    "extra_float_digits": "3", "bytea_output": "escape", "standard_conforming_strings": "on",
}  # fmt: skip


def become(connection: Connection, settings: Mapping[str, str]) -> Connection:
    """Change a session's settings."""
    connection.execute(
        "SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) s (name, value)",
        (list(settings), list(settings.values())),
    )
    return connection


class Status(NamedTuple):
    """What embed_status says of a pipeline."""

    state: str
    fresh: int
    pending: int
    failed: int
    last_error: str | None


def status(db: Connection, pipeline: str) -> Status:
    """The pipeline's row in embed_status."""
    row = db.execute(
        "SELECT state, fresh, pending, failed, last_error FROM embed_status WHERE pipeline = %s", (pipeline,)
    ).fetchone()
    assert row is not None, f"no pipeline {pipeline}"
    return Status(*row)


def verify(db: Connection, pipeline: str, *, repair: bool = False) -> dict[str, int]:
    """Rows by state."""
    return dict(db.execute("SELECT * FROM embed_verify(%s, %s)", (pipeline, repair)).fetchall())


def drain(db: Connection, pipeline: str | None = None) -> int:
    """Drain until there is nothing to do; return the rows brought up to date."""
    total = 0
    for _ in range(50):
        done: int = db.execute("SELECT embed_drain(%s)", (pipeline,)).fetchall()[0][0]
        total += done
        if not done:
            return total
    raise AssertionError("the queue does not get empty")


def all_fresh(rows: int) -> Mapping[str, int]:
    """What embed_verify says of a pipeline in which nothing is wrong."""
    return dict.fromkeys(STATES, 0) | {"fresh": rows}


def assert_fresh(db: Connection, pipeline: str, rows: int) -> None:
    """Drain; then every one of ``rows`` source rows is fresh, nothing else is stored and nothing waits."""
    drain(db, pipeline)
    found = verify(db, pipeline), status(db, pipeline)
    expected = all_fresh(rows), Status("active", rows, 0, 0, None)
    assert found == expected, f"{found} is not {expected}"


def texts_in_view(db: Connection, view: str) -> list[str]:
    """The chunks that the view shows, all of which it must call fresh."""
    rows = db.execute(sql.SQL("SELECT chunk, is_stale FROM {}").format(sql.Identifier(*view.split(".")))).fetchall()
    stale = [chunk for chunk, is_stale in rows if is_stale]
    assert not stale, f"the view calls these stale: {stale}"
    return sorted(chunk for chunk, _ in rows)
