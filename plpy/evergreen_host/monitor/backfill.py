"""`evergreen backfill`: starts or follows a backfill, with a progress bar on a terminal and lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Column

from evergreen_host.database import Database, open_database
from evergreen_host.errors import EvergreenError
from evergreen_host.report import Report, format_number, pluralize

_POLL_INTERVAL = 0.5  # seconds
_LINE_INTERVAL = 10.0  # seconds between two lines without a terminal
_IDLE_AFTER = 15.0  # seconds without progress before the hint about workers

_START = "SELECT {schema}.embed_backfill(%s)"
_STATUS = """
SELECT state, rows, pending, failed, backfill_rows AS walked, backfill_progress AS progress, backfill_eta AS eta,
       last_error
FROM {schema}.embed_status WHERE pipeline = %s
"""


@dataclass(frozen=True)
class Status:
    """A pipeline's embed_status; ``walked`` is the number of rows the backfill has processed."""

    state: str
    rows: int
    pending: int
    failed: int
    walked: int | None
    progress: float | None
    eta: timedelta | None
    last_error: str | None

    @property
    def line(self) -> str:
        """The progress as one line."""
        eta = f", about {timedelta(seconds=round(self.eta.total_seconds()))} left" if self.eta is not None else ""
        state = f", {self.state}" if self.state != "active" else ""
        rows = f"{format_number(self.walked or 0)} of about {pluralize(self.rows, 'row')}"
        return f"{100 * (self.progress or 0):5.1f} %  {rows}{eta}{state}"


def backfill(dsn: str, pipeline: str, report: Report, *, start: bool, follow: bool) -> None:
    """Start a backfill, follow it until it completes, or both; raises EvergreenError."""
    last = None
    with open_database(dsn, "evergreen backfill") as database:
        if start:
            database.rows(_START, pipeline)
            report.done("backfill", f"of {pipeline} started")
        if follow:
            last = _follow(_poll(database, pipeline), report)
    report.close(pipeline=pipeline, **({} if last is None else _result(last)))


def _poll(database: Database, pipeline: str) -> Iterator[Status]:
    """Yield the current status repeatedly."""
    while True:
        found = database.rows(_STATUS, pipeline)
        if not found:
            raise EvergreenError(f'pipeline "{pipeline}" does not exist any more', "run: evergreen status")
        yield Status(**found[0])
        time.sleep(_POLL_INTERVAL)


def _follow(statuses: Iterator[Status], report: Report) -> Status:
    """Show the progress until the backfill is complete; raises EvergreenError if the pipeline is broken."""
    show = _BarProgress() if sys.stdout.isatty() and not report.as_json else _LineProgress(report)
    moved_at, last_progress = time.monotonic(), -1.0
    status = next(statuses)
    with show:
        while status.progress is not None and status.progress < 1:
            if status.state == "broken":
                raise EvergreenError(f"the pipeline is broken: {status.last_error}", "run: evergreen doctor")
            if status.progress != last_progress:
                moved_at, last_progress = time.monotonic(), status.progress
            show.show(status, is_idle=status.state == "active" and time.monotonic() > moved_at + _IDLE_AFTER)
            status = next(statuses)
    failed = f"; {pluralize(status.failed, 'row')} failed, see embed_failures" if status.failed else ""
    report.done("backfill", f"complete: about {pluralize(status.rows, 'row')}{failed}")
    return status


def _result(status: Status) -> dict[str, object]:
    return {**asdict(status), "eta": None}


_IDLE_MESSAGE = "no progress; start a worker: SELECT embed_schedule(); or CALL embed_work();"


class _LineProgress:
    """Prints a line every few seconds."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._last_line_at = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Lines need no cleanup."""

    def show(self, status: Status, *, is_idle: bool) -> None:
        """Print the progress, at most every _LINE_INTERVAL."""
        if time.monotonic() >= self._last_line_at + _LINE_INTERVAL:
            self._last_line_at = time.monotonic()
            self._report.busy(status.line)
            if is_idle:
                self._report.busy(_IDLE_MESSAGE)


class _BarProgress:
    """A progress bar on a terminal."""

    def __init__(self) -> None:
        text = TextColumn("{task.description}", table_column=Column(no_wrap=True))
        self._progress = Progress(BarColumn(bar_width=30), TaskProgressColumn(), text, console=Console())
        self._task = self._progress.add_task("", total=1.0)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, status: Status, *, is_idle: bool) -> None:
        """Update the bar."""
        text = _IDLE_MESSAGE if is_idle else status.line.split("%", 1)[1].strip()
        self._progress.update(self._task, completed=status.progress, description=text)
