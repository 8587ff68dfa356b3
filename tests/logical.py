"""Pipelines whose changes are read from the WAL: how the tests make, work and look at them."""

from collections.abc import Iterable
from typing import Any

import psycopg
import pytest
from waiting import wait_until

Connection = psycopg.Connection[Any]

OPTIONS: dict[str, str | int | bool] = {
    "wal_level": "logical", "shared_preload_libraries": "", "wal_writer_delay": "10ms", "max_prepared_transactions": 5,
}  # fmt: skip
WORK = "CALL embed_work(until_empty => true, max_runtime => '20 s')"
SLOT = "SELECT slot_name::text FROM pg_replication_slots WHERE database = current_database()"
TRIGGERS = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'evergreen%'"
PUBLISHED = "SELECT prrelid::regclass::text FROM pg_publication_rel ORDER BY 1"


def some_of(cases: Iterable[Any], *by_default: Any) -> list[Any]:
    """Parameters of which those that are named run by default, and all of them by ``make attack``."""
    return [pytest.param(case, marks=[] if case in by_default else [pytest.mark.attack]) for case in cases]


def work(db: Connection) -> None:
    """Work until nothing is left to do, in the WAL neither."""
    db.execute(WORK)


def capture_of(db: Connection, pipeline: str = "docs") -> str:
    """How embed_status says that changes are seen."""
    return db.execute("SELECT capture FROM embed_status WHERE pipeline = %s", (pipeline,)).fetchall()[0][0]


def slots(db: Connection) -> list[str]:
    """The replication slots of the database."""
    return [name for (name,) in db.execute(SLOT).fetchall()]


def triggers(db: Connection) -> int:
    """How many triggers of the extension there are."""
    return db.execute(TRIGGERS).fetchall()[0][0]


def published(db: Connection) -> list[str]:
    """The tables in publications of the database."""
    return [name for (name,) in db.execute(PUBLISHED).fetchall()]


def work_until(db: Connection, pipeline: str, capture: str) -> None:
    """Work until changes are seen so."""

    def is_so() -> bool:
        work(db)
        return capture_of(db, pipeline) == capture

    wait_until(is_so, what=f"{pipeline} to be captured by {capture}")


def drop_slot(db: Connection) -> None:
    """As a failover to a server that has none does; waits for who reads it just now."""

    def is_gone() -> bool:
        try:
            db.execute(f"SELECT pg_drop_replication_slot(slot_name) FROM ({SLOT}) s (slot_name)")
        except psycopg.errors.ObjectInUse:
            return False
        return True

    wait_until(is_gone, what="the end of the slot")
