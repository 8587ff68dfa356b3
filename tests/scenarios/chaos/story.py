"""One run in a database of its own: writers, workers, a reader, a provider in bad weather and perhaps the reaper."""

import threading
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import psycopg

from evergreen_host.cluster import Cluster
from tests.fixtures.providers.loopback import LoopbackProvider
from tests.fixtures.server.template import janitor
from tests.scenarios.chaos.faultyprovider import Weather
from tests.scenarios.chaos.histories import Style
from tests.scenarios.chaos.lockwaits import LockWaits
from tests.scenarios.chaos.readers import Reader
from tests.scenarios.chaos.reaper import Reaper
from tests.scenarios.chaos.sources import make_pipelines, make_tables
from tests.scenarios.chaos.workers import KINDS, Worker
from tests.scenarios.chaos.writers import Refused, Writer

Connection = psycopg.Connection[Any]

WRITERS = 4
#: What databases are often set to, and how they are replicated: nothing of it may hinder anybody.
HABITS = ("ALTER DATABASE {} SET statement_timeout = '5s'", "CREATE PUBLICATION everything FOR ALL TABLES")
_numbers = count(1)


@dataclass
class Report:
    """What came of a run."""

    ops: Counter[str] = field(default_factory=Counter[str])
    lost: int = 0
    refused: list[Refused] = field(default_factory=list[Refused])
    statements: list[float] = field(default_factory=list[float])
    kills: Counter[str] = field(default_factory=Counter[str])
    work: Counter[str] = field(default_factory=Counter[str])
    worker_errors: list[tuple[str, psycopg.Error]] = field(default_factory=list[tuple[str, psycopg.Error]])
    waits: LockWaits | None = None
    reader: Reader | None = None

    @property
    def p99(self) -> float:
        """Seconds that one in a hundred of the writers' statements takes."""
        return sorted(self.statements)[len(self.statements) * 99 // 100]


def counted(counts: Counter[str]) -> str:
    """Write counts on a line."""
    return f"{counts.total()} ({', '.join(f'{name} {number}' for name, number in sorted(counts.items()))})"


class Stage:
    """A database with the tables, and with pipelines on them unless ``bare``."""

    def __init__(self, cluster: Cluster, provider: LoopbackProvider, *, bare: bool = False) -> None:
        self.cluster = cluster
        self._name = f"chaos_{next(_numbers)}"
        janitor(cluster, self._name).init()
        with self.connect("stage") as db:
            make_tables(db)
            for habit in HABITS:
                db.execute(habit.format(self._name))
            if not bare:
                db.execute("CREATE EXTENSION evergreen CASCADE")
                make_pipelines(db, provider)

    def connect(self, name: str) -> Connection:
        """Open a session under an application_name."""
        return psycopg.connect(self.cluster.dsn(self._name), autocommit=True, application_name=name, connect_timeout=10)


@dataclass(frozen=True)
class Cast:
    """Who plays, and for how long: so many seconds, or so many transactions of each writer."""

    seed: str
    seconds: float | None = None
    transactions: int | None = None
    kinds: Iterable[str] = tuple(KINDS)
    apart: bool = False
    reaped_every: float | None = None


def play(stage: Stage, cast: Cast) -> Report:
    """Play to the end; what the provider does is the caller's business."""
    report = Report(waits=LockWaits(stage.connect))
    workers = [Worker(stage.connect, kind, cast.seed, harsh=cast.reaped_every is not None) for kind in cast.kinds]
    report.reader = Reader(stage.connect) if workers else None
    style = Style(WRITERS, cast.apart)
    writers = [Writer(stage.connect, cast.seed, number, style, cast.transactions) for number in range(WRITERS)]
    reaper = Reaper(stage.cluster, stage.connect, cast.seed, every=cast.reaped_every) if cast.reaped_every else None
    with suppress(KeyboardInterrupt):
        if cast.seconds is not None:
            threading.Event().wait(cast.seconds)
        else:
            for writer in writers:
                writer.join(600)
    _end(report, writers, workers, reaper)
    return report


def _end(report: Report, writers: list[Writer], workers: list[Worker], reaper: Reaper | None) -> None:
    """Stop all and add up."""
    if reaper is not None:
        reaper.stop()
        report.kills = reaper.done
    for writer in writers:
        writer.stop()
        report.ops += writer.done
        report.lost += writer.lost
        report.refused += writer.refused
        report.statements += writer.seconds
    for worker in workers:
        worker.ask_to_stop()
    for worker in workers:
        worker.stop()
        report.work += worker.done
        report.worker_errors += [(worker.kind, error) for error in worker.errors]
    for watcher in (report.reader, report.waits):
        if watcher is not None:
            watcher.stop()


def summary(report: Report, weather: Weather | None) -> str:
    """Say what was done, in a few lines."""
    assert report.waits is not None
    errors = Counter(f"{kind} {error.sqlstate}" for kind, error in report.worker_errors)
    lines = [
        f"operations: {counted(report.ops)}; connections lost {report.lost}",
        f"refused: {counted(Counter(one.state for one in report.refused))}",
        f"work: {counted(report.work)}; errors: {counted(errors)}",
        f"kills: {counted(report.kills)}",
    ]
    if weather is not None:
        failed = weather.sent.total() - weather.answered.total()
        texts = f"sent {weather.sent.total()}, minimum {weather.minimum}, in failed requests {failed}"
        lines.append(f"faults: {counted(weather.injected)}")
        lines.append(f"texts: {texts}, sent again after a good answer {weather.again}")
    if report.reader is not None:
        lines.append(f"looks: {report.reader.looks} at {report.reader.rows} rows")
    longest, by_workers = (1000 * one for one in (report.waits.longest, report.waits.longest_behind_workers))
    waits = f"longest lock wait {longest:.0f} ms, because of a worker {by_workers:.0f} ms"
    statements = f"longest statement {max(report.statements):.3f} s, p99 {report.p99 * 1000:.0f} ms"
    return "\n".join([*lines, f"writers: {waits}; {statements}"])
