"""Maintenance: what a worker does besides claims. Each task runs, fails, is reported and is retried by itself.

A failure never reaches the worker's loop. It is a row of embed.maintenance_error, a line in the server's log, and a
column of embed_generations and embed_status, and ``evergreen doctor`` knows the cure. The row says when to try again.
"""

import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from evergreen import db
from evergreen.core.errors import UserError
from evergreen.core.frozen import frozen
from evergreen.core.step import Step
from evergreen.db import event_log
from evergreen.db.errors import is_blocked, is_query_canceled, is_shutdown_or_cancel
from evergreen.db.locks import set_lock_timeout
from evergreen.db.queries import load

SQL = load(__package__)
STEP = "maintenance"  # the name of all its steps
T = TypeVar("T")
Identity = tuple[str, int, int]  # task, pipeline, generation: the key of embed.maintenance_error
Failed = dict[Identity, bool]  # tasks that failed the last time, and whether they have to wait
# Seconds until the first retry, doubled with each failure. A worker looks once a minute, and when it starts.
_FIRST, _FIRST_LOCKED = 1.0, 0.1
_LONGEST, _LONGEST_LOCKED = 3600.0, 60.0
_SHARE = 20  # a task that fails late is retried after so many times as long as it took


@frozen
class Problem:
    """Why a task failed without an error that rolls its step back."""

    sqlstate: str
    message: str


@frozen
class Task:
    """One piece of maintenance, of one generation or pipeline where it belongs to one.

    ``yields_to``: a table; a cancel that comes while another session waits for a lock on it is meant for the task, not
    for the worker.
    """

    name: str
    body: Callable[[], object]
    pipeline: int = 0
    generation: int = 0
    yields_to: str | None = None

    @property
    def identity(self) -> Identity:
        """What it is known by."""
        return self.name, self.pipeline, self.generation


def run(step: Step, tasks: Iterable[Task]) -> None:
    """Run the tasks that are due, each in a step of its own; raises only when the worker itself is cancelled."""
    failed: Failed | None = None
    for task in tasks:
        failed = step(STEP, _failed) if failed is None else failed
        _attempt(step, task, failed)


def _failed() -> Failed:
    return {(row["task"], row["pipeline"], row["generation"]): bool(row["waits"]) for row in db.rows(SQL.failed)}


def _attempt(step: Step, task: Task, failed: Failed) -> bool:
    """Do a task, unless it has to wait after a failure; return whether it was done."""
    if failed.get(task.identity, False):
        return False
    started = time.monotonic()

    def maintain() -> object:
        set_lock_timeout()  # maintenance waits for no other session
        return task.body()

    try:
        found = step(STEP, maintain)
    except (db.DatabaseError, UserError) as error:
        if is_shutdown_or_cancel(error) and not _is_told_to_yield(step, task, error):
            raise
        found = problem(error)
    if isinstance(found, Problem):
        record(step, task, found, time.monotonic() - started)
        return False
    if task.identity in failed:
        step(STEP, lambda: _recovered(task.identity))
    return True


def _is_told_to_yield(step: Step, task: Task, error: Exception) -> bool:
    cancelled = isinstance(error, db.DatabaseError) and is_query_canceled(error)
    return (
        cancelled and task.yields_to is not None and step(STEP, lambda: bool(db.value(SQL.is_awaited, task.yields_to)))
    )


def problem(error: db.DatabaseError | UserError) -> Problem:
    """Return what an error says; a cancel that was meant for a task is a lock that another session wants."""
    if isinstance(error, UserError):
        return Problem(error.sqlstate, error.message)
    cure = db.hint(error)
    message = f"{db.message(error)}; {cure}" if cure else db.message(error)
    return Problem("55P03" if is_query_canceled(error) else db.sqlstate(error), message)


def record(step: Step, task: Task, found: Problem, took: float = 0.0, pause: float | None = None) -> None:
    """Note a failure and when to try again, after a ``pause`` that is given or is longer with each failure.

    Where even that fails, the worker only says so.
    """

    def maintain() -> None:
        locked = is_blocked(found)
        first, longest = (_FIRST_LOCKED, _LONGEST_LOCKED) if locked else (_FIRST, _LONGEST)
        least = first if locked else _SHARE * took
        if pause is not None:
            first = least = longest = pause
        rest = db.value(SQL.record, *task.identity, found.sqlstate, found.message, first, least, longest)
        if not locked:
            about = {"task": task.name, "generation": task.generation or None, "error": found.sqlstate}
            event_log.warn("maintenance_failed", pipeline=task.pipeline or None, **about, retry_in=round(rest))

    try:
        step(STEP, maintain)
    except db.DatabaseError as error:
        if is_shutdown_or_cancel(error):
            raise
        db.warning(f"evergreen: maintenance failed ({task.name}): {found.message}; noting it: {db.message(error)}")


class SourceChecks:
    """Runs what a worker does to a pipeline before it claims rows, such as following DDL; records failures."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._sound: set[int] = set()  # pipelines that it was done for, by this worker

    def run(self, pipeline: int, body: Callable[[], T], pause: Callable[[db.DatabaseError], float]) -> T:
        """Run the body, a step, and return its result; an error is recorded until the body succeeds, and raised."""
        task = Task("following the source", body, pipeline)
        try:
            found = body()
        except db.DatabaseError as error:
            if not is_shutdown_or_cancel(error) and not is_blocked(error):
                self._sound.discard(pipeline)
                record(self._step, task, problem(error), pause=pause(error))
            raise
        if pipeline not in self._sound:
            self._step(STEP, lambda: _recovered(task.identity))
            self._sound.add(pipeline)
        return found


def _recovered(identity: Identity) -> None:
    state = db.value(SQL.clear, *identity)
    if state is not None and not is_blocked(Problem(state, "")):
        name, pipeline, generation = identity
        about = {"task": name, "generation": generation or None}
        event_log.info("maintenance_recovered", pipeline=pipeline or None, **about)


def forget_old() -> None:
    """Delete failures of tasks that are not retried any more, and of dropped pipelines."""
    db.run(SQL.forget_old)


def run_found(step: Step, search: Task, found: list[Task], kinds: Iterable[str]) -> None:
    """Run a search, which is a task itself, and the tasks that it has put in the list.

    Failures of the ``kinds`` that it looks for are forgotten where there is nothing left to do.
    """
    if _attempt(step, search, failed := step(STEP, _failed)):
        due = {task.identity for task in found}
        done = [one for one in failed if one[0] in kinds and one not in due]
        for one in done:
            step(STEP, lambda one=one: _recovered(one))
        run(step, found)


def in_transaction(tasks: Iterable[Task]) -> None:
    """Run tasks in subtransactions of the caller's; a failure is a WARNING, as its row would be in workers' way."""
    for task in tasks:
        try:
            db.atomically(task.body)
        except (db.DatabaseError, UserError) as error:
            if is_shutdown_or_cancel(error):
                raise
            found = problem(error)
            if not is_blocked(found):
                db.warning(f"evergreen: maintenance failed ({task.name}): {found.message}")
