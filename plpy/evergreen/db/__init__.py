"""The only way to the server: runs queries, subtransactions and commits; its modules alone import ``plpy``."""

from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar

import plpy
from evergreen.db.errors import (
    DatabaseError,
    hint,
    is_of_event_trigger,
    lost,
    message,
    name_event_trigger,
    plain,
    sqlstate,
    unavailable,
    undefined,
)
from evergreen.db.messages import Say, debug, fail, log, notice, warning
from evergreen.db.planner import planning
from evergreen.db.queries import Query
from evergreen.db.quoting import identifier, identifiers, literal
from evergreen.db.server_encoding import server

__all__ = [
    "DatabaseError", "Row", "Say", "atomically", "check_interrupts", "commit", "ddl", "debug", "fail", "hint",
    "identifier", "identifiers", "in_discarded_subtransaction", "is_of_event_trigger", "literal", "log", "lost",
    "message", "notice", "one", "plain", "planning", "rollback", "rows", "run", "server", "sqlstate", "stream",
    "unavailable", "undefined", "value", "warning",
]  # fmt: skip

T = TypeVar("T")
Row = dict[str, Any]
_plans: dict[tuple[str, tuple[str, ...], bool], Any] = {}
_PLANS_KEPT = 500
_FETCHED_CHARACTERS = 2 * 1024 * 1024  # at a time: Postgres and Python each have a copy
_NOTHING = Query("check_interrupts", (), "SELECT 1")


def _plan(query: Query) -> Any:
    identity = (query.text, query.types, planning.prefers_indexes)
    if identity not in _plans:
        if len(_plans) >= _PLANS_KEPT:
            _plans.clear()
        # embed_work cannot pin the search_path, where a type of the same name may come first.
        types = [one if "." in one else f"pg_catalog.{one}" for one in query.types]
        with server.reading():
            _plans[identity] = plpy.prepare(server.sql(query.text), types)
    return _plans[identity]


def rows(query: Query, *arguments: Any) -> list[Row]:
    """Run a query and return its rows."""
    return list(_execute(query, arguments))


def _execute(query: Query, arguments: tuple[Any, ...]) -> Any:
    plan = _plan(query)
    if server.is_utf8:
        return plpy.execute(plan, list(arguments))
    with server.reading():
        return plpy.execute(plan, server.values(arguments))


def one(query: Query, *arguments: Any) -> Row | None:
    """Run a query that gives at most one row."""
    found = rows(query, *arguments)
    return found[0] if found else None


def value(query: Query, *arguments: Any) -> Any:
    """Run a query and return the first column of its first row, or None."""
    found = one(query, *arguments)
    return next(iter(found.values())) if found else None


def run(query: Query, *arguments: Any) -> int:
    """Run a query for its effect; return the number of rows it touched."""
    return _execute(query, arguments).nrows()


def ddl(query: Query) -> None:
    """Run a generated statement without parameters, once: no plan is kept."""
    try:
        with server.reading():
            plpy.execute(server.sql(query.text))
    except DatabaseError as error:
        name_event_trigger(error)
        raise


def stream(query: Query, *arguments: Any, size: int = 64, length: Callable[[Row], int] | None = None) -> Iterator[Row]:
    """Run a query through a cursor, so that only ``size`` rows are in memory at a time.

    ``length``: characters of a row. With it, fewer rows are fetched at a time where the rows before were long.
    """
    plan, given = _plan(query), server.values(arguments)
    with server.reading():
        cursor = plpy.cursor(plan, given)
    number = 1 if length is not None else size
    try:
        while True:
            with server.reading():
                batch = cursor.fetch(number)
            if not batch:
                return
            yield from batch
            if length is not None:
                number = _next_fetch(len(batch), sum(map(length, batch)), size)
    finally:
        cursor.close()


def _next_fetch(rows: int, characters: int, most: int) -> int:
    """Return how many rows to fetch after so many: twice as many, or as many as are not too long together."""
    return max(1, min(most, 2 * rows, _FETCHED_CHARACTERS * rows // max(1, characters)))


def atomically(body: Callable[[], T]) -> T:
    """Run body in a subtransaction: all of it happens or, when it raises, none."""
    with plpy.subtransaction():
        return body()


class _UndoneError(Exception):
    """Ends a subtransaction whose only purpose was to read."""


def _undo() -> NoReturn:
    raise _UndoneError


def in_discarded_subtransaction(body: Callable[[], T]) -> T:
    """Run a body that only reads, then undo its subtransaction, so that the locks it took are given up at once.

    A function that reads the source would else keep AccessShareLock to the end of the transaction, and the owner's
    TRUNCATE or ALTER TABLE would wait for our HTTP call.
    """
    result: list[T] = []
    try:
        with plpy.subtransaction():
            result.append(body())
            _undo()
    except _UndoneError:
        return result[0]


def commit() -> None:
    """Commit; only a procedure may."""
    with server.reading():
        plpy.commit()


def rollback() -> None:
    """Roll back; only a procedure may."""
    plpy.rollback()


def check_interrupts() -> None:
    """Let a cancel, a statement_timeout or a termination take effect."""
    run(_NOTHING)
