"""Charts as geometry: what the templates draw as SVG. No chart has a colour of its own; the style sheet has."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from evergreen_host.report import format_number

NARROW, WIDE, HEIGHT = 380, 640, 150
LEFT, BOTTOM, TOP = 52, 18, 8
_RIGHT = 4
_MINUTE, _HOUR = 60.0, 3600.0
_GAP = 3  # a line is broken where so many readings are missing


@dataclass(frozen=True)
class Line:
    """One line: its name, the class of its colour, and the points of its pieces."""

    name: str
    style: str
    pieces: list[str]
    last: str


@dataclass(frozen=True)
class Bar:
    """One bar of a chart by the hour."""

    x: float
    y: float
    width: float
    height: float
    style: str
    title: str


@dataclass(frozen=True)
class Tick:
    """A mark of an axis."""

    place: float
    label: str


@dataclass(frozen=True)
class Chart:
    """A chart with its axes; ``summary`` says in words what it shows."""

    title: str
    lines: list[Line]
    bars: list[Bar]
    rows: list[Tick]
    columns: list[Tick]
    summary: str
    width: int = NARROW
    rule: Tick | None = None


def nice_top(value: float) -> float:
    """Return a round number at or above a value, as the end of an axis."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value * (1 - 1e-9))


def seconds(value: float) -> str:
    """Return seconds in a unit that is easy to read."""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < _MINUTE:
        return f"{value:.3g} s"
    return f"{value / _MINUTE:.3g} min" if value < _HOUR else f"{value / _HOUR:.3g} h"


def number(value: float) -> str:
    """Return a number with its thousands grouped."""
    return format_number(value) if value >= 1 or value == 0 else f"{value:.2g}"


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M")


def lines(
    title: str,
    times: Sequence[float],
    series: Sequence[tuple[str, str, Sequence[float | None]]],
    *,
    step: float,
    as_seconds: bool = False,
) -> Chart:
    """Return a chart of lines over time; ``series``: (name, style, values)."""
    words = seconds if as_seconds else number
    known = [value for _, _, values in series for value in values if value is not None]
    top = nice_top(max(known, default=0.0))
    begin, end = (times[0], max(times[-1], times[0] + step)) if times else (0.0, 1.0)

    def place(at: float, value: float) -> str:
        x = LEFT + (at - begin) / (end - begin) * (NARROW - LEFT - _RIGHT)
        y = HEIGHT - BOTTOM - min(1.0, value / top) * (HEIGHT - BOTTOM - TOP)
        return f"{x:.1f},{y:.1f}"

    drawn: list[Line] = []
    for name, style, values in series:
        pieces: list[list[str]] = [[]]
        before: float | None = None
        for at, value in zip(times, values, strict=True):
            if value is None or (before is not None and at - before > _GAP * step + 60):
                pieces.append([])
            if value is not None:
                pieces[-1].append(place(at, value))
            before = at
        last = next((value for value in reversed(values) if value is not None), None)
        joined = [" ".join(piece) for piece in pieces if piece]
        drawn.append(Line(name, style, joined, words(last) if last is not None else "none"))
    columns = [
        Tick(LEFT + share * (NARROW - LEFT - _RIGHT), _clock(begin + share * (end - begin)))
        for share in (0.0, 0.5, 1.0)
        if times
    ]
    said = "; ".join(f"{line.name} now {line.last}" for line in drawn)
    peak = f"highest {words(max(known))}" if known else "no readings yet"
    return Chart(title, drawn, [], _rows(top, words), columns, f"{title}: {said}; {peak}")


def _rows(top: float, words: Callable[[float], str]) -> list[Tick]:
    return [Tick(HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP), words(share * top)) for share in (0, 0.5, 1.0)]


def hours(title: str, values: Sequence[tuple[float, float, float]], nightly: float) -> Chart:
    """Return stacked bars of texts sent and saved by the hour; ``values``: (hour, sent, saved), ``nightly`` a rule.

    The rule is what a nightly job sends, spread over the hours of a day.
    """
    rule = nightly / 24
    top = nice_top(max([rule, *(sent + saved for _, sent, saved in values)]))
    room, scale = WIDE - LEFT - _RIGHT, HEIGHT - BOTTOM - TOP
    width = room / max(1, len(values))
    bars: list[Bar] = []
    for place, (at, sent, saved) in enumerate(values):
        x, floor = LEFT + place * width, float(HEIGHT - BOTTOM)
        for amount, style, what in ((sent, "sent", "sent"), (saved, "saved", "not sent")):
            tall = amount / top * scale
            floor -= tall
            if amount:
                bars.append(
                    Bar(x + 0.5, floor, width - 1, tall, style, f"{_clock(at)} UTC: {number(amount)} texts {what}")
                )
    every = max(1, len(values) // 4)
    columns = [Tick(LEFT + (n + 0.5) * width, _clock(at)) for n, (at, _, _) in enumerate(values) if n % every == 0]
    total_sent, total_saved = sum(v[1] for v in values), sum(v[2] for v in values)
    summary = (
        f"{title}: {number(total_sent)} sent and {number(total_saved)} saved in {len(values)} hours;"
        f" a nightly job would have sent {number(nightly)} a day"
    )
    line = Tick(HEIGHT - BOTTOM - rule / top * scale, f"a nightly job, spread over the day {number(rule)}")
    return Chart(title, [], bars, _rows(top, number), columns, summary, WIDE, line)


def sparkline(values: Sequence[float], width: int = 96, height: int = 20) -> str:
    """Return the points of a small line from zero to its maximum; empty for fewer than two values."""
    if len(values) < 2:  # noqa: PLR2004
        return ""
    top = max(values) or 1.0
    return " ".join(
        f"{1 + n / (len(values) - 1) * (width - 2):.1f},{height - 1 - value / top * (height - 2):.1f}"
        for n, value in enumerate(values)
    )
