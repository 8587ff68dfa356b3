"""Changes of tables under a view: values that lead to its rows become cursors, and these queue the rows' keys.

In the worker's step that coalesces the log: log rows of links become cursors; a cursor whose value leads to few rows
logs their keys for the live lane and ends; others log a page at a time for the lane of bulk changes, while few of those
wait. Then the keys are coalesced like any other. No row is lost to a change in between: a row that comes to lead
elsewhere was written in another table that is watched, and has a log row of its own.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from evergreen import db
from evergreen.core.job import Lane
from evergreen.core.pipeline import Pipeline
from evergreen.core.retry import backoff, bisect
from evergreen.db import timeouts
from evergreen.db.errors import is_shutdown_or_cancel
from evergreen.db.locks import with_lock_timeout
from evergreen.db.queries import load
from evergreen.source import reader

SQL = load(__package__, "links")
FEW_ROWS = 1000  # of one value; more are queued page by page
_PAGE = 1000
_VALUES = 50  # looked up at once
_MAX_KEYS = 10_000  # logged in one step, about
_STEP_S = 1.0
_AROUND_LOCKS_S = 1.0
_RETRY_S, _LONGEST_RETRY_S = 2.0, 60.0


def queue(condition: str, arguments: Sequence[object]) -> int:
    """Make cursors of the log rows that meet a condition, as ``coalesce`` has it; return how many log rows."""
    query = SQL.queue_links.with_identifiers(condition=condition)

    def attempt(values: list[str] | None) -> int | None:
        return with_lock_timeout(lambda: int(db.value(query, *arguments, values)), "5ms")

    if (queued := attempt(None)) is not None:
        return queued
    # An open drain has made a cursor of one of these values, uncommitted: work around it.
    total = 0

    def attempt_some(values: list[str]) -> bool:
        nonlocal total
        some = attempt(values)
        total += some or 0
        return some is not None

    found = [row["link"] for row in db.rows(SQL.logged_links, *arguments[:3])]
    bisect(found, attempt_some, deadline=time.monotonic() + _AROUND_LOCKS_S)
    return total


def expand(pipeline: Pipeline, bulk_lane: Lane) -> None:
    """Let the pipeline's cursors log keys: those at the start, then the next page of the one that waited longest."""
    if not db.value(SQL.has_cursors, pipeline.id):
        return
    until = time.monotonic() + _STEP_S
    room = [_MAX_KEYS]
    while room[0] > 0 and time.monotonic() < until:
        new = db.rows(SQL.take_new, pipeline.id, _VALUES)
        by_link: defaultdict[int, list[db.Row]] = defaultdict(list)
        for row in new:
            by_link[row["dependency"]].append(row)
        for dependency, rows in by_link.items():
            bisect(rows, lambda some, d=dependency: _look_up(pipeline, d, some, room))
        if len(new) < _VALUES:
            break
    if db.value(SQL.count_waiting, pipeline.id, bulk_lane, _PAGE) < _PAGE:
        cursor = db.one(SQL.take_page, pipeline.id)
        if cursor is not None:
            _turn_page(pipeline, cursor)


def delete(dependencies: list[int]) -> None:
    """Delete the cursors of links."""
    db.run(SQL.delete_links, dependencies)


def _look_up(pipeline: Pipeline, dependency: int, cursors: list[db.Row], room: list[int]) -> bool:
    """Log the keys of values that lead to few rows; return False if reading fails for one of several.

    Many values at once are a bulk change, whose rows must not delay those of small ones.
    """
    values = [cursor["link"] for cursor in cursors]
    query = SQL.expanded.with_identifiers(expand=f"embed_store.expand_{dependency}")

    def look() -> list[db.Row]:
        return db.rows(query, f"[{','.join(values)}]", FEW_ROWS + 1)

    try:
        rows = _read(pipeline, look)
    except db.DatabaseError as error:
        if is_shutdown_or_cancel(error):
            raise
        if len(cursors) > 1:
            return False
        _fail(pipeline, dependency, cursors[0], error)
        return True
    found: defaultdict[int, list[str]] = defaultdict(list)  # a key as often as there are rows that lead to it
    for row in rows:
        found[row["ord"] - 1].append(row["key"])
    many = [value for place, value in enumerate(values) if len(found[place]) > FEW_ROWS]
    few = [place for place, value in enumerate(values) if value not in many]
    logged = [(key, cursors[place]["changed_at"]) for place in few for key in sorted(set(found[place]))]
    is_bulk = len(few) > 1 and len(logged) > FEW_ROWS
    keys_and_times = [key for key, _ in logged], [at for _, at in logged]
    db.run(SQL.log_keys_of_link, pipeline.id, dependency, *keys_and_times, is_bulk)
    room[0] -= len(logged)
    db.run(SQL.delete_cursors, dependency, [values[place] for place in few])
    db.run(SQL.begin_paging, dependency, many)
    return True


def _turn_page(pipeline: Pipeline, cursor: db.Row) -> None:
    """Log the next keys of a value, and move its cursor, which ends where all are queued since its last change."""
    dependency, link = cursor["dependency"], cursor["link"]
    up_to = cursor["lap_end"] if cursor["wrapped"] else None
    query = SQL.page.with_identifiers(page=f"embed_store.page_{dependency}")
    try:
        rows = _read(pipeline, lambda: db.rows(query, link, cursor["position"], up_to, _PAGE))
    except db.DatabaseError as error:
        if is_shutdown_or_cancel(error):
            raise
        _fail(pipeline, dependency, cursor, error)
        return
    keys = [row["key"] for row in rows]
    is_bulk = True
    db.run(SQL.log_keys_of_link, pipeline.id, dependency, keys, [cursor["changed_at"]] * len(keys), is_bulk)
    if len(keys) == _PAGE:
        db.run(SQL.move, dependency, link, keys[-1])
    elif cursor["lap_end"] is not None and not cursor["wrapped"]:
        db.run(SQL.wrap, dependency, link)
    else:
        db.run(SQL.delete_cursors, dependency, [link])


def _read(pipeline: Pipeline, body: Callable[[], list[db.Row]]) -> list[db.Row]:
    return timeouts.run_with_timeout(lambda: reader.with_source_locked(pipeline, body))


def _fail(pipeline: Pipeline, dependency: int, cursor: db.Row, error: db.DatabaseError) -> None:
    why = reader.unreadable_reason(pipeline, error)
    pause = backoff(cursor["failures"], _RETRY_S, _LONGEST_RETRY_S)
    db.run(SQL.set_errors, dependency, [cursor["link"]], why, pause)
