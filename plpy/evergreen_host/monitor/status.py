"""`evergreen status`: the pipelines of a database as a table, as JSON, or as a live table."""

import json
import sys
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

from rich.console import Console, ConsoleOptions, Group
from rich.live import Live
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from evergreen_host.database import Database, Row, open_database
from evergreen_host.errors import EvergreenError
from evergreen_host.monitor import lateness
from evergreen_host.report import format_duration, format_number

_STATUS = "SELECT * FROM {schema}.embed_status ORDER BY pipeline"
_PLAIN_WIDTH = 160
_HISTORY_LENGTH = 120
_MIN_SPARKLINE_WIDTH, _SPARKLINE_WIDTH = 4, 16  # bars
_COLOURS = {
    "active": "green",
    "paused": "yellow",
    "late": "red",
    "over budget": "yellow",
    "model changed": "red",
    "broken": "bold red",
}


def read(database: Database, pipeline: str | None) -> list[Row]:
    """Return embed_status for one pipeline or all; raises EvergreenError if the pipeline does not exist."""
    rows = [row for row in database.rows(_STATUS) if pipeline is None or row["pipeline"] == pipeline]
    if pipeline is not None and not rows:
        raise EvergreenError(f'pipeline "{pipeline}" does not exist', "run: evergreen status")
    return rows


def status(dsn: str, pipeline: str | None, *, watch: bool, every: float, as_json: bool) -> None:
    """Show the status once, or until interrupted; raises EvergreenError."""
    with open_database(dsn, "evergreen status", only_reads=not watch) as database:
        if watch and not as_json:
            _watch(database, pipeline, every)
            return
        while True:
            rows = read(database, pipeline)
            if as_json:
                print(as_json_line(database, rows), flush=True)
            else:
                _console().print(_render(database, rows, History()))
            if not watch:
                return
            time.sleep(every)


def as_json_line(database: Database, rows: list[Row]) -> str:
    """Return the status as one JSON object on one line; intervals are seconds."""
    return json.dumps({"database": database.name, "version": database.version, "pipelines": rows}, default=_json_value)


def _json_value(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    return float(value) if isinstance(value, Decimal) else str(value)


class History:
    """Recent backlog and age of the oldest pending change, for sparklines."""

    def __init__(self) -> None:
        self.backlog: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_HISTORY_LENGTH))
        self.lag: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_HISTORY_LENGTH))

    def add(self, rows: Iterable[Row]) -> None:
        """Add one reading."""
        for row in rows:
            self.backlog[row["pipeline"]].append(float(row["pending"] or 0) + float(row["in_flight"] or 0))
            oldest = row["oldest_pending_age"]
            self.lag[row["pipeline"]].append(oldest.total_seconds() if oldest is not None else 0.0)


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_PLAIN_WIDTH)


def _watch(database: Database, pipeline: str | None, every: float) -> None:
    history = History()
    with Live(console=_console(), auto_refresh=False, screen=sys.stdout.isatty()) as live:
        while True:
            rows = read(database, pipeline)
            history.add(rows)
            live.update(_render(database, rows, history), refresh=True)
            time.sleep(every)


def _render(database: Database, rows: list[Row], history: History) -> Group:
    head = Text.assemble(("evergreen ", "bold green"), f"{database.version} in database {database.name}")
    if not rows:
        return Group(head, Text("no pipelines; next: SELECT embed_create('docs', 'docs', columns => '{title,body}')"))
    late = lateness.reasons(database, rows)
    lines = [Text(f"{name}: {told}", style="red") for name, told in late.items()]
    lines += [
        Text(f"{row['pipeline']}: {row['last_error']}", style="red")
        for row in rows
        if row["last_error"] and not late.get(row["pipeline"], "").endswith(row["last_error"])
    ]
    return Group(head, _table(rows, history), *lines)


class _Sparkline:
    """A sparkline that shrinks to the last readings on a narrow terminal."""

    def __init__(self, values: list[float]) -> None:
        self._values = values

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(_MIN_SPARKLINE_WIDTH, _SPARKLINE_WIDTH).with_maximum(options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Text]:
        yield Text(sparkline(self._values, min(_SPARKLINE_WIDTH, options.max_width)))


def _table(rows: list[Row], history: History) -> Table:
    table = Table(pad_edge=False)
    watched = any(len(backlog) > 1 for backlog in history.backlog.values())
    for title in ("pipeline", "state"):
        table.add_column(title, no_wrap=True)
    for title in ("rows", "fresh", "pending", "in flight", "failed", "oldest", "lag p50", "p99", "tokens", "cost"):
        table.add_column(title, justify="right", no_wrap=True)
    if watched:
        table.add_column("backlog")
        table.add_column("waits")
    for row in rows:
        cells = [Text(row["pipeline"]), Text(row["state"], style=_COLOURS.get(row["state"], ""))]
        cells += [Text(format_number(row[name])) for name in ("rows", "fresh")]
        cells += [
            Text(format_number(row[name]), style="yellow" if row[name] else "") for name in ("pending", "in_flight")
        ]
        cells += [Text(format_number(row["failed"]), style="red" if row["failed"] else "")]
        cells += [Text(format_duration(row.get(name))) for name in ("oldest_pending_age", "lag_p50", "lag_p99")]
        cells += [Text(format_number(row["tokens"])), Text("" if row["cost"] is None else f"{row['cost']:.4f}")]
        sparklines: list[_Sparkline] = []
        if watched:
            sparklines = [_Sparkline([*series[row["pipeline"]]]) for series in (history.backlog, history.lag)]
        table.add_row(*cells, *sparklines)
    return table


_BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int) -> str:
    """Return the last ``width`` values as bars, scaled from zero to their maximum."""
    visible = values[-width:]
    top = max(visible, default=0.0)
    if top <= 0:
        return _BARS[0] * len(visible)
    return "".join(_BARS[min(len(_BARS) - 1, round(max(0.0, value) / top * (len(_BARS) - 1)))] for value in visible)
