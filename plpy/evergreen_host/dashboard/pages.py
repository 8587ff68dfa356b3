"""Renders pages and their live parts; everything that came from a database or a request is escaped."""

import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from evergreen_host.dashboard import charts
from evergreen_host.dashboard.figures import Figures, Slow
from evergreen_host.dashboard.history import SPANS, History
from evergreen_host.dashboard.poller import State
from evergreen_host.report import format_duration, format_number

_HERE = Path(__file__).parent
_NEEDS_ATTENTION = ("broken", "late", "model changed", "over budget")
_OF_BACKLOG = ("backlog", "one")
_LAGS = (("p50", "one"), ("p95", "two"), ("p99", "three"))
_SHOWN_HOURS = 24


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        number=format_number,
        duration=format_duration,
        percent=_percent,
        moment=_moment,
        minute=_minute,
        short=_short,
        money=_money,
    )
    functions: dict[str, Any] = {"link": _link, "charts": charts}
    made.globals.update(functions)
    return made


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _money(value: float | None) -> str:
    return "" if value is None else f"{value:,.4f}"


def _moment(value: datetime | float | None) -> str:
    if value is None:
        return ""
    at = value.astimezone(UTC) if isinstance(value, datetime) else datetime.fromtimestamp(value, UTC)
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _minute(value: datetime | None) -> str:
    return "" if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M}"


def _short(value: object, most: int = 300) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _link(path: str, **parameters: object) -> str:
    return f"{path}?{urlencode({name: str(value) for name, value in parameters.items()})}"


class Pages:
    """The templates, with what every page knows."""

    def __init__(self, history: History, *, read_only: bool, every: float) -> None:
        self._templates = _environment()
        self._history = history
        self._read_only = read_only
        self._every = round(1000 * every)

    def render(self, template: str, form_token: str = "", **values: Any) -> str:
        """Render a template."""
        return self._templates.get_template(template).render(
            read_only=self._read_only, every=self._every, form_token=form_token, now=time.time(), **values
        )

    def overview(self, state: State, template: str, form_token: str) -> str:
        """Render the overview, or its live part."""
        figures = state.figures
        values: dict[str, Any] = {"state": state, "figures": figures, "title": "Pipelines"}
        if figures is not None:
            values |= {
                "tiles": _tiles(figures),
                "sparks": {row["pipeline"]: self._spark(row["pipeline"]) for row in figures.status},
                "usage": _usage(figures.slow, None),
            }
        return self.render(template, form_token, **values)

    def pipeline(self, state: State, name: str, span: str, template: str, form_token: str, **more: Any) -> str:
        """Render one pipeline's page, or its live part."""
        figures = state.figures
        row = figures.of(name) if figures is not None else None
        values: dict[str, Any] = {"state": state, "figures": figures, "title": name, "name": name, "row": row, **more}
        values |= {"spans": [one.name for one in SPANS], "span": span}
        if figures is not None and row is not None:
            generations = _generations(figures.slow, name)
            values |= {
                "generations": generations,
                "building": next((one for one in generations if one["state"] == "building"), None),
                "previous": next((one for one in generations if one["state"] == "previous"), None),
                "definition": next(iter(figures.slow.of("pipelines", name)), None),
                "models": [one["model"] for one in figures.slow.of("models")],
                "usage": _usage(figures.slow, name),
                "history": self._charts(name, span),
                "late": figures.late.get(name),
            }
        return self.render(template, form_token, **values)

    def _spark(self, name: str) -> str:
        return charts.sparkline([one.backlog for one in self._history.readings(name, SPANS[0].name)[-60:]])

    def _charts(self, name: str, span: str) -> list[charts.Chart]:
        step = next((one.step for one in SPANS if one.name == span), SPANS[0].step)
        kept = self._history.readings(name, span)
        times = [one.at for one in kept]
        lags = [(told, style, [one.lags[n] for one in kept]) for n, (told, style) in enumerate(_LAGS)]
        oldest = ("oldest", "one", [one.oldest for one in kept])
        return [
            charts.lines("Backlog in rows", times, [(*_OF_BACKLOG, [one.backlog for one in kept])], step=step),
            charts.lines("Age of the oldest waiting change", times, [oldest], step=step, as_seconds=True),
            charts.lines("From change to searchable, last hour", times, lags, step=step, as_seconds=True),
        ]


def _generations(slow: Slow, pipeline: str) -> list[dict[str, Any]]:
    """Return a pipeline's generations, with the ratio of their documents to the active one's; embed_promote counts."""
    rows, chunks = slow.of("generations", pipeline), {one["generation"]: one["chunks"] for one in slow.of("chunks")}
    active = next((one["documents"] for one in rows if one["state"] == "active"), 0)
    return [
        {
            **one,
            "chunks": chunks.get(one["generation"]),
            "coverage": min(1.0, one["documents"] / active) if active and one["state"] != "active" else None,
        }
        for one in rows
    ]


def _tiles(figures: Figures) -> list[tuple[str, str, str]]:
    """Return (label, figure, class) of what an operator looks at first."""
    rows = figures.status
    trouble = sum(row["state"] in _NEEDS_ATTENTION for row in rows)
    total, fresh = sum(row["rows"] for row in rows), sum(row["fresh"] for row in rows)
    backlog, failed = sum(row["pending"] + row["in_flight"] for row in rows), sum(row["failed"] for row in rows)
    oldest = max((row["oldest_pending_age"] for row in rows if row["oldest_pending_age"] is not None), default=None)
    return [
        ("need attention", format_number(trouble), "bad" if trouble else "good"),
        ("fresh", _percent(min(1.0, fresh / total) if total else 1.0), ""),
        ("rows waiting", format_number(backlog), "busy" if backlog else ""),
        ("oldest change", format_duration(max(oldest, timedelta(0))) if oldest is not None else "none", ""),
        ("dead letters", format_number(failed), "bad" if failed else ""),
    ]


def _usage(slow: Slow, pipeline: str | None) -> dict[str, Any]:
    """Return spent and saved by the hour, and what a nightly job would have sent: every chunk once a day."""
    rows = [row for row in slow.of("usage") if pipeline is None or row["pipeline"] == pipeline]
    last = int(time.time() // 3600)
    by_hour: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_hour[int(row["hour"].timestamp() // 3600)].append(row)
    hours = range(last - _SHOWN_HOURS + 1, last + 1)
    values: list[tuple[float, float, float]] = []
    for hour in hours:
        sent, saved = (float(sum(row[what] for row in by_hour[hour])) for what in ("sent", "saved"))
        values.append((hour * 3600.0, sent, saved))
    shown = [row for hour in hours for row in by_hour[hour]]
    costs = [row["cost"] for row in shown if row["cost"] is not None]
    sent, tokens = sum(row["sent"] for row in shown), sum(row["tokens"] for row in shown)
    nightly = float(sum(one["chunks"] or 0 for one in slow.of("chunks", pipeline)))
    cost = sum(costs) if costs else None
    return {
        "chart": charts.hours("Texts by the hour", values, nightly),
        "sent": sent,
        "saved": sum(row["saved"] for row in shown),
        "tokens": tokens,
        "cost": cost,
        "nightly": nightly,
        "nightly_tokens": tokens / sent * nightly if sent else None,
        "nightly_cost": cost / sent * nightly if cost is not None and sent else None,
    }
