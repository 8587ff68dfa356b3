"""What the figures were: rings of fixed length, so that a page that is left open for a year takes no more memory."""

from collections import deque
from dataclasses import dataclass, field

from evergreen_host.database import Row


@dataclass(frozen=True)
class Reading:
    """Figures of one pipeline at one time; lags in seconds, None where nothing was measured."""

    at: float
    backlog: float
    oldest: float
    lags: tuple[float | None, float | None, float | None]


@dataclass(frozen=True)
class Span:
    """A length of time that charts can show: its name, seconds between two readings, and how many are kept."""

    name: str
    step: float
    length: int


SPANS = (Span("30 minutes", 5.0, 360), Span("24 hours", 240.0, 360))


def reading(row: Row, at: float) -> Reading:
    """Return what is kept of a row of embed_status."""
    oldest, lags = row["oldest_pending_age"], [row[f"lag_p{p}"] for p in (50, 95, 99)]
    p50, p95, p99 = (lag.total_seconds() if lag is not None else None for lag in lags)
    return Reading(
        at=at,
        backlog=float(row["pending"] or 0) + float(row["in_flight"] or 0),
        oldest=max(0.0, oldest.total_seconds()) if oldest is not None else 0.0,
        lags=(p50, p95, p99),
    )


def _worst(one: float | None, other: float | None) -> float | None:
    known = [value for value in (one, other) if value is not None]
    return max(known) if known else None


def merged(one: Reading, other: Reading) -> Reading:
    """Return the worse of two readings, at the time of the first: a short backlog shows also in a day's chart."""
    p50, p95, p99 = (_worst(a, b) for a, b in zip(one.lags, other.lags, strict=True))
    return Reading(one.at, max(one.backlog, other.backlog), max(one.oldest, other.oldest), (p50, p95, p99))


class Ring:
    """The last readings, one for each step of time."""

    def __init__(self, span: Span) -> None:
        self._step = span.step
        self._readings: deque[Reading] = deque(maxlen=span.length)

    def add(self, new: Reading) -> None:
        """Add a reading; within a step, the worst is kept."""
        if self._readings and new.at - self._readings[-1].at < self._step:
            self._readings[-1] = merged(self._readings[-1], new)
        else:
            self._readings.append(new)

    def readings(self) -> list[Reading]:
        """Return all, the oldest first."""
        return list(self._readings)


@dataclass
class History:
    """The rings of every pipeline that exists."""

    _rings: dict[str, dict[str, Ring]] = field(default_factory=dict[str, dict[str, Ring]])

    def add(self, rows: list[Row], at: float) -> None:
        """Add one look at embed_status; pipelines that are gone are forgotten."""
        names = {str(row["pipeline"]) for row in rows}
        for gone in self._rings.keys() - names:
            del self._rings[gone]
        for row in rows:
            rings = self._rings.setdefault(row["pipeline"], {span.name: Ring(span) for span in SPANS})
            for ring in rings.values():
                ring.add(reading(row, at))

    def readings(self, pipeline: str, span: str) -> list[Reading]:
        """Return a pipeline's readings; empty for an unknown pipeline or span."""
        rings = self._rings.get(pipeline, {})
        return rings[span].readings() if span in rings else []
