"""The one module that touches ``plpy``: runs queries, subtransactions, commits and messages."""

import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, NoReturn, TypeVar

import plpy
from evergreen.errors import UserError
from evergreen.queries import Query

T = TypeVar("T")
Row = dict[str, Any]
Say = Callable[[str], None]

#: Raised by a failed statement; ``sqlstate(error)`` tells which.
DatabaseError = plpy.SPIError

_plans: dict[tuple[str, tuple[str, ...], bool], Any] = {}
_PLANS_KEPT = 500


def _plan(query: Query) -> Any:
    identity = (query.text, query.types, planning.is_by_index)
    if identity not in _plans:
        if len(_plans) >= _PLANS_KEPT:
            _plans.clear()
        # embed_work cannot pin the search_path, where a type of the same name may come first.
        types = [one if "." in one else f"pg_catalog.{one}" for one in query.types]
        _plans[identity] = plpy.prepare(query.text, types)
    return _plans[identity]


class _Planning:
    """How statements are planned: as the session has it or, for our own, for tables that grow.

    Plans are kept for as long as the session. One that was made while a queue was empty would read it from end to end
    when it is full, for each row that is to be written: 4 s for a claim of 800 among 100 000. ``jit`` is off as well: a
    small table that has to be read whole costs the planner's penalty then, and would be compiled for. What else the
    database may have switched off is on.
    """

    _OURS: ClassVar = {
        "enable_seqscan": "off", "jit": "off", "plan_cache_mode": "auto", "enable_indexscan": "on",
        "enable_bitmapscan": "on", "enable_nestloop": "on", "enable_sort": "on", "enable_hashagg": "on",
    }  # fmt: skip
    _SET = Query(
        "planning",
        ("text[]", "text[]"),
        "SELECT n.name, pg_catalog.current_setting(n.name) AS before, pg_catalog.set_config(n.name, n.value, true)"
        " FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) n (name, value)"
        " WHERE pg_catalog.current_setting(n.name) OPERATOR(pg_catalog.<>) n.value",
    )

    def __init__(self) -> None:
        self._before: dict[str, str] | None = None  # what the session has, while ours are in force

    @property
    def is_by_index(self) -> bool:
        return self._before is not None

    @contextmanager
    def by_index(self) -> Generator[None, None, None]:
        """Plan what is run inside for tables of any size."""
        if self._before is not None:
            yield
            return
        self._begin()
        try:
            yield
        finally:
            self._end()

    @contextmanager
    def as_session(self) -> Generator[None, None, None]:
        """Run code that is not ours inside of ``by_index``, with the settings that it would have without."""
        if self._before is None:
            yield
            return
        self._end()
        try:
            yield
        finally:
            self._begin()

    def _begin(self) -> None:
        found = rows(self._SET, [*self._OURS], [*self._OURS.values()])
        self._before = {row["name"]: row["before"] for row in found}

    def _end(self) -> None:
        assert self._before is not None
        before, self._before = self._before, None
        rows(self._SET, [*before], [*before.values()])


planning = _Planning()


def rows(query: Query, *arguments: Any) -> list[Row]:
    """Run a query and return its rows."""
    return list(plpy.execute(_plan(query), list(arguments)))


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
    return plpy.execute(_plan(query), list(arguments)).nrows()


def ddl(query: Query) -> None:
    """Run a generated statement without parameters, once: no plan is kept."""
    plpy.execute(query.text)


def stream(query: Query, *arguments: Any, size: int = 64) -> Iterator[Row]:
    """Run a query through a cursor, so that only ``size`` rows are in memory at a time."""
    cursor = plpy.cursor(_plan(query), list(arguments))
    try:
        while batch := cursor.fetch(size):
            yield from batch
    finally:
        cursor.close()


def atomically(body: Callable[[], T]) -> T:
    """Run body in a subtransaction: all of it happens or, when it raises, none."""
    with plpy.subtransaction():
        return body()


class _UndoneError(Exception):
    """Ends a subtransaction whose only purpose was to read."""


def _undo() -> NoReturn:
    raise _UndoneError


def released(body: Callable[[], T]) -> T:
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
    plpy.commit()


def rollback() -> None:
    """Roll back; only a procedure may."""
    plpy.rollback()


def sqlstate(error: BaseException) -> str:
    """Return the SQLSTATE of a DatabaseError."""
    return getattr(error, "sqlstate", None) or "XX000"


_CLASS_NAMES = re.compile(r"^(?:(?:spiexceptions|plpy)\.\w+: )+")


def message(error: BaseException) -> str:
    """Return the primary message of a DatabaseError, without the class names that PL/Python puts before it."""
    return _CLASS_NAMES.sub("", str(error.args[0]) if error.args else str(error))


def unavailable(text: str) -> DatabaseError:
    """Return an error as of a lock that was not to be had: whoever gets it tries again."""
    return plpy.spiexceptions.LockNotAvailable(text)


def lost(text: str) -> DatabaseError:
    """Return an error as of a session that is not what it has to be."""
    return plpy.spiexceptions.ObjectNotInPrerequisiteState(text)


def undefined(text: str) -> DatabaseError:
    """Return an error as of a table that is not there."""
    return plpy.spiexceptions.UndefinedTable(text)


def plain(error: BaseException) -> UserError:
    """Return a DatabaseError as one to show: its message, SQLSTATE, detail and hint."""
    found: tuple[Any, ...] = getattr(error, "spidata", None) or (None, None, None)
    return UserError(message(error), sqlstate(error), hint=found[2], detail=found[1])


# PL/Python puts the class's name before the message: "evergreen: pipeline … does not exist" is one to read.
_Shown = type("evergreen", (plpy.Error,), {"__module__": "builtins"})


def fail(error: UserError) -> NoReturn:
    """Raise a UserError as a Postgres error."""
    shown = _Shown(error.message)
    for name in ("sqlstate", "hint", "detail"):
        if (text := getattr(error, name)) is not None:
            setattr(shown, name, text)
    raise shown from None


def notice(text: str) -> None:
    """Send a NOTICE to the client."""
    plpy.notice(text)


def warning(text: str, hint: str | None = None) -> None:
    """Send a WARNING to the client and the server log."""
    plpy.warning(text, **({"hint": hint} if hint else {}))


def log(text: str) -> None:
    """Write a line to the server log, at level LOG."""
    plpy.log(text)


def debug(text: str) -> None:
    """Write a line to the server log where it takes DEBUG2."""
    plpy.debug(text)


def identifier(name: str) -> str:
    """Quote an identifier."""
    return plpy.quote_ident(name)


def literal(text: str) -> str:
    """Quote a string constant."""
    return plpy.quote_literal(text)


def identifiers(names: Sequence[str]) -> str:
    """Quote identifiers and join them by commas."""
    return ", ".join(identifier(name) for name in names)


_NOTHING = Query("check_interrupts", (), "SELECT 1")


def check_interrupts() -> None:
    """Let a cancel, a statement_timeout or a termination take effect."""
    run(_NOTHING)
