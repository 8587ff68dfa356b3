"""What a refusal must look like: a class that fits, a message, a HINT, nothing raw, and nothing left behind."""

import re
from typing import Any

import psycopg
import pytest

# What a user never gets to read: Python's own errors, the names of PL/Python's exception classes, None for NULL.
RAW = re.compile(
    r"Traceback|spiexceptions|\b(Type|Value|Key|Attribute|Assertion|Index|Recursion|Overflow|Runtime)Error\b|\bNone\b"
)
# Internal error, and the codes PL/Python gives to an exception that nobody translated.
RAW_STATES = {"XX000", "38000"}

_COUNTED = """
SELECT (SELECT count(*) FROM pg_catalog.pg_class), (SELECT count(*) FROM pg_catalog.pg_proc),
       (SELECT count(*) FROM pg_catalog.pg_trigger), (SELECT count(*) FROM pg_catalog.pg_policy),
       (SELECT count(*) FROM pg_catalog.pg_depend), (SELECT count(*) FROM embed.generation),
       (SELECT count(*) FROM embed.intake), (SELECT count(*) FROM embed.scan), (SELECT count(*) FROM embed.change),
       (SELECT count(*) FROM embed.job), (SELECT count(*) FROM embed.document),
       (SELECT array_agg(m::text ORDER BY m.id) FROM embed.model m),
       (SELECT array_agg(e::text ORDER BY e.name) FROM embed.endpoint e),
       (SELECT array_agg(s::text ORDER BY s.name) FROM embed.setting s),
       (SELECT array_agg(p::text ORDER BY p.id) FROM embed.pipeline p)
"""


def everything(db: psycopg.Connection[Any]) -> Any:
    """Count the objects of the catalog and the rows of the queue."""
    return db.execute(_COUNTED).fetchone()


def complaint(
    db: psycopg.Connection[Any], asker: psycopg.Connection[Any], statement: str, parameters: Any = None
) -> tuple[str, str | None]:
    """Run a statement as ``asker`` and return (SQLSTATE, what is wrong with the refusal or None); '' for no error."""
    before = everything(db)
    error: psycopg.Error | None = None
    try:
        asker.execute(statement, parameters)
    except psycopg.Error as raised:
        error = raised
    wrong = None
    if everything(db) != before:
        wrong = "something was left behind"
    elif error is not None:
        wrong = fault(error)
    return (error.sqlstate or "") if error is not None else "", wrong


def fault(error: psycopg.Error) -> str | None:
    """Say what is wrong with an error, if anything is."""
    said = error.diag.message_primary or ""
    if error.sqlstate in RAW_STATES or RAW.search(said):
        return f"raw: {error.sqlstate} {said}"
    if not error.diag.message_hint:
        return f"no HINT: {error.sqlstate} {said}"
    return None


def refused(
    db: psycopg.Connection[Any],
    statement: str,
    parameters: Any = None,
    *,
    count_as: psycopg.Connection[Any] | None = None,
) -> psycopg.Error:
    """Run a statement that must fail properly; return its error. ``count_as``: a superuser, where db is none."""
    counting = count_as or db
    before = everything(counting)
    with pytest.raises(psycopg.Error) as caught:
        db.execute(statement, parameters)
    assert fault(caught.value) is None
    assert everything(counting) == before, f"something was left behind by: {statement}"
    return caught.value


def agree(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Fail with a line for each name under which two dicts differ."""
    names = [name for name in dict.fromkeys([*expected, *found]) if found.get(name) != expected.get(name)]
    lines = [f"{name}\n    gave {found.get(name)}\n    not {expected.get(name)}" for name in names]
    if lines:
        pytest.fail("\n".join(lines), pytrace=False)
