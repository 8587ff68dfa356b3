"""evergreen backfill: starts a backfill, or follows the one under way, with a bar on a terminal and lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Column

from evergreen_host.database import Link, linked
from evergreen_host.errors import EvergreenError
from evergreen_host.report import Report

_LOOK = 0.5  # seconds between two looks
_LINE_EVERY = 10.0  # seconds between two lines where there is no terminal
_NOBODY = 15.0  # seconds without a move after which it is said that nobody works

_START = "SELECT {schema}.embed_backfill(%s)"
_STATUS = """
SELECT state, rows, pending, failed, backfill_rows AS walked, backfill_progress AS progress, backfill_eta AS eta,
       last_error
FROM {schema}.embed_status WHERE pipeline = %s
"""


@dataclass(frozen=True)
class Status:
    """What embed_status says of the pipeline; ``walked``: rows that the backfill has come to."""

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
        """The status on a line."""
        eta = f", about {timedelta(seconds=round(self.eta.total_seconds()))} to go" if self.eta is not None else ""
        state = f", {self.state}" if self.state != "active" else ""
        return f"{100 * (self.progress or 0):5.1f} %  {self.walked or 0} of about {self.rows} rows{eta}{state}"


def backfill(dsn: str, pipeline: str, report: Report, *, start: bool, follow: bool) -> None:
    """Start a backfill, follow it to its end, or both; raises EvergreenError."""
    last = None
    with linked(dsn, "evergreen backfill") as link:
        if start:
            link.rows(_START, pipeline)
            report.done("backfill", f"of {pipeline} begins")
        if follow:
            last = _follow(_looks(link, pipeline), report)
    report.close(pipeline=pipeline, **({} if last is None else _result(last)))


def _looks(link: Link, pipeline: str) -> Iterator[Status]:
    """Yield the status again and again."""
    while True:
        found = link.rows(_STATUS, pipeline)
        if not found:
            raise EvergreenError(f'pipeline "{pipeline}" is gone, or is not yours to see')
        yield Status(**found[0])
        time.sleep(_LOOK)


def _follow(looks: Iterator[Status], report: Report) -> Status:
    """Show each look until the backfill is over; raises EvergreenError when the pipeline is broken."""
    show = _Bar() if sys.stdout.isatty() and not report.as_json else _Lines(report)
    moved_at, before = time.monotonic(), -1.0
    status = next(looks)
    with show:
        while status.progress is not None and status.progress < 1:
            if status.state == "broken":
                raise EvergreenError(f"the pipeline is broken: {status.last_error}", "SELECT * FROM embed_status;")
            if status.progress != before:
                moved_at, before = time.monotonic(), status.progress
            show.show(status, is_idle=status.state == "active" and time.monotonic() > moved_at + _NOBODY)
            status = next(looks)
    failed = f"; {status.failed} rows failed: embed_failures says why" if status.failed else ""
    report.done("backfill", f"is over: about {status.rows} rows{failed}")
    return status


def _result(status: Status) -> dict[str, object]:
    return {**asdict(status), "eta": None}


_IDLE = "nothing moves: is there a worker? SELECT embed_schedule(), or CALL embed_work()"


class _Lines:
    """A line now and then."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._said_at = float("-inf")

    def __enter__(self) -> "_Lines":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left to do."""

    def show(self, status: Status, *, is_idle: bool) -> None:
        """Say how far it is."""
        if time.monotonic() >= self._said_at + _LINE_EVERY:
            self._said_at = time.monotonic()
            self._report.busy(status.line)
            if is_idle:
                self._report.busy(_IDLE)


class _Bar:
    """A bar on a terminal."""

    def __init__(self) -> None:
        text = TextColumn("{task.description}", table_column=Column(no_wrap=True))
        self._progress = Progress(BarColumn(bar_width=30), TaskProgressColumn(), text, console=Console())
        self._task = self._progress.add_task("", total=1.0)

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, status: Status, *, is_idle: bool) -> None:
        """Move it."""
        text = _IDLE if is_idle else status.line.split("%", 1)[1].strip()
        self._progress.update(self._task, completed=status.progress, description=text)
