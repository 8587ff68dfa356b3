"""The one module that touches ``plpy``: runs queries, subtransactions, commits and messages."""

import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, ClassVar, NoReturn, TypeVar

import plpy
from evergreen.core.errors import UserError
from evergreen.db import encoding as encodings
from evergreen.db.queries import Query

T = TypeVar("T")
Row = dict[str, Any]
Say = Callable[[str], None]
#: Raised by a failed statement; ``sqlstate(error)`` tells which.
DatabaseError = plpy.SPIError
_plans: dict[tuple[str, tuple[str, ...], bool], Any] = {}
_PLANS_KEPT = 500
_ANY = {"UTF8", "SQL_ASCII"}  # clients that are sent every character
# One that is not ours, in whose function the statement stands that failed.
_EVENT_TRIGGER = Query(
    "event_trigger",
    ("text",),
    "SELECT pg_catalog.quote_ident(t.evtname) AS name, t.evtfoid::pg_catalog.regprocedure::pg_catalog.text AS function,"
    " pg_catalog.quote_ident(n.nspname) AS schema,"
    " EXISTS (SELECT FROM pg_catalog.unnest(p.proconfig) c WHERE c LIKE 'search_path=%') AS has_path"
    " FROM pg_catalog.pg_event_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.evtfoid"
    " JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace"
    " WHERE t.evtenabled <> 'D' AND pg_catalog.strpos(p.prosrc, $1) > 0 LIMIT 1",
)
_NAMED = "event trigger "
_CLASS_NAMES = re.compile(r"^(?:(?:spiexceptions|plpy)\.\w+: )+")
# PL/Python puts the class's name before the message: "evergreen: pipeline … does not exist" is one to read.
_Shown = type("evergreen", (plpy.Error,), {"__module__": "builtins"})
_NOTHING = Query("check_interrupts", (), "SELECT 1")


def _plan(query: Query) -> Any:
    identity = (query.text, query.types, planning.is_by_index)
    if identity not in _plans:
        if len(_plans) >= _PLANS_KEPT:
            _plans.clear()
        # embed_work cannot pin the search_path, where a type of the same name may come first.
        types = [one if "." in one else f"pg_catalog.{one}" for one in query.types]
        with server.reading():
            _plans[identity] = plpy.prepare(server.sql(query.text), types)
    return _plans[identity]


class _Server:
    """The encoding of this database, and what has to be done where it is not UTF-8; see encoding.py."""

    _FITS = "SELECT pg_catalog.convert($1, 'UTF8', $2)"
    _CLIENT = "SELECT pg_catalog.current_setting('client_encoding') AS name"

    def __init__(self) -> None:
        self._encoder = encodings.Encoder(lambda text: self._fits(text, self.encoding))
        self._plan: Any = None

    @cached_property
    def encoding(self) -> str:
        return str(next(iter(plpy.execute("SELECT pg_catalog.getdatabaseencoding() AS name")))["name"])

    @cached_property
    def is_utf8(self) -> bool:
        return self.encoding == "UTF8"

    @cached_property
    def takes_any_bytes(self) -> bool:
        """True where a text may be bytes that are not UTF-8, which PL/Python is not given: it raises."""
        return self.encoding == "SQL_ASCII"

    def _fits(self, text: str, name: str) -> bool:
        self._plan = self._plan or plpy.prepare(self._FITS, ["pg_catalog.bytea", "pg_catalog.name"])
        try:
            plpy.execute(self._plan, [text.encode(), name])
        except DatabaseError as error:
            if sqlstate(error) not in {"22P05", "22021", "42883"}:  # no such character, or no conversion at all
                raise
            return False
        return True

    def sql(self, text: str) -> str:
        """Return a statement as PL/Python may have it; SQL_ASCII takes UTF-8 as it is."""
        return text if self.is_utf8 or self.encoding == "SQL_ASCII" else encodings.ascii_sql(text)

    def values(self, given: Sequence[Any]) -> list[Any]:
        """Return arguments with no character that the server does not have; not looked at where it has all."""
        return list(given) if self.is_utf8 else [self._encoder.value(one) for one in given]

    def message(self, text: str) -> str:
        """Return a text that the server can store and its client be sent."""
        text = encodings.storable(text) if self.is_utf8 else self._encoder.text(text)
        if text.isascii():
            return text
        client = str(next(iter(plpy.execute(self._CLIENT)))["name"])
        return text if client in _ANY else encodings.Encoder(lambda part: self._fits(part, client)).text(text)

    @contextmanager
    def reading(self) -> Generator[None]:
        """While this lasts, messages of the server may come in its encoding."""
        if self.is_utf8:
            yield
            return
        try:
            with encodings.lenient():
                yield
        except DatabaseError as error:
            self._reread(error)
            raise

    def _reread(self, error: Any) -> None:
        def again(values: tuple[Any, ...]) -> tuple[Any, ...]:
            name = encodings.codec(self.encoding)
            return tuple(encodings.reread(one, name) if isinstance(one, str) else one for one in values)

        error.args = again(error.args)
        if (data := getattr(error, "spidata", None)) is not None:
            error.spidata = again(data)


server = _Server()


class _Planning:
    """How statements are planned: as the session has it or, for our own, for tables that grow.

    Plans are kept for as long as the session. One that was made while a queue was empty would read it from end to end
    when it is full, for each row that is to be written: 4 s for a claim of 800 among 100,000. ``jit`` is off as well: a
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
        _name_event_trigger(error)
        raise


def is_of_event_trigger(error: DatabaseError) -> bool:
    """Tell whether an error of our DDL was raised by an event trigger."""
    return message(error).startswith(_NAMED)


def _name_event_trigger(error: Any) -> None:
    """Say of an error which event trigger raised it: our DDL runs with a search_path that it may not be made for.

    It cannot run with the caller's: it acts with the extension's rights here, and would take the caller's tables.
    """
    found: tuple[Any, ...] = getattr(error, "spidata", None) or (None,) * 4
    statement = found[3]  # where the error came from a statement inside
    trigger = one(_EVENT_TRIGGER, statement) if statement else None
    if trigger is None:
        return
    error.args = (f"{_NAMED}{trigger['name']} failed on DDL of evergreen: {message(error)}",)
    path = f"ALTER FUNCTION {trigger['function']} SET search_path = {trigger['schema']}, pg_temp;"
    advice = f"{path} evergreen runs DDL with the search_path pg_catalog, pg_temp"
    error.spidata = (*found[:2], found[2] if trigger["has_path"] else advice, *found[3:])


def stream(query: Query, *arguments: Any, size: int = 64) -> Iterator[Row]:
    """Run a query through a cursor, so that only ``size`` rows are in memory at a time."""
    plan, given = _plan(query), server.values(arguments)
    with server.reading():
        cursor = plpy.cursor(plan, given)
    try:
        while True:
            with server.reading():
                batch = cursor.fetch(size)
            if not batch:
                return
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


def sqlstate(error: BaseException) -> str:
    """Return the SQLSTATE of a DatabaseError."""
    return getattr(error, "sqlstate", None) or "XX000"


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


def hint(error: BaseException) -> str | None:
    """Return the HINT of a DatabaseError."""
    found: tuple[Any, ...] = getattr(error, "spidata", None) or (None, None, None)
    return found[2]


def plain(error: BaseException) -> UserError:
    """Return a DatabaseError as one to show: its message, SQLSTATE, detail and hint."""
    found: tuple[Any, ...] = getattr(error, "spidata", None) or (None, None, None)
    return UserError(message(error), sqlstate(error), hint=hint(error), detail=found[1])


def fail(error: UserError) -> NoReturn:
    """Raise a UserError as a Postgres error."""
    shown = _Shown(server.message(error.message))
    for name in ("sqlstate", "hint", "detail"):
        if (text := getattr(error, name)) is not None:
            setattr(shown, name, server.message(text))
    raise shown from None


def notice(text: str) -> None:
    """Send a NOTICE to the client."""
    plpy.notice(server.message(text))


def warning(text: str, hint: str | None = None) -> None:
    """Send a WARNING to the client and the server log."""
    plpy.warning(server.message(text), **({"hint": server.message(hint)} if hint else {}))


def log(text: str) -> None:
    """Write a line to the server log, at level LOG."""
    plpy.log(server.message(text))


def debug(text: str) -> None:
    """Write a line to the server log where it takes DEBUG2."""
    plpy.debug(server.message(text))


def identifier(name: str) -> str:
    """Quote an identifier."""
    if name.isascii() or server.is_utf8:
        return plpy.quote_ident(name)
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a string constant."""
    if text.isascii() or server.is_utf8:
        return plpy.quote_literal(text)
    quoted = "'" + text.replace("'", "''").replace("\\", "\\\\") + "'"
    return f" E{quoted}" if "\\" in text else quoted


def identifiers(names: Sequence[str]) -> str:
    """Quote identifiers and join them by commas."""
    return ", ".join(identifier(name) for name in names)


def check_interrupts() -> None:
    """Let a cancel, a statement_timeout or a termination take effect."""
    run(_NOTHING)
