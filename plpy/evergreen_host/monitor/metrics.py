"""`evergreen metrics`: the status as Prometheus metrics, printed once or served."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from evergreen_host.database import Database, Row, open_database
from evergreen_host.errors import EvergreenError
from evergreen_host.monitor import lateness, status

STATES = ("active", "paused", "over budget", "late", "model changed", "broken")
_GAUGES = {
    "rows": "rows of the source table; an estimate for large tables",
    "fresh": "rows whose embedding is up to date",
    "pending": "rows waiting for a worker",
    "in_flight": "rows claimed by a worker",
    "failed": "dead letters",
}
_SECONDS = {
    "oldest_pending_age": ("oldest_pending_age_seconds", "age of the oldest pending change"),
    "backfill_eta": ("backfill_eta_seconds", "estimated time until the backfill is complete"),
}
_RATIOS = {
    "coverage": ("coverage_ratio", "share of fresh rows"),
    "backfill_progress": ("backfill_progress_ratio", "share of the table that the backfill has processed"),
}
_COUNTERS = {
    "calls": "requests to models",
    "texts": "texts embedded by models",
    "tokens": "tokens, as billed if the provider reports it",
    "cost": "cost, in the unit of the models' price",
    "texts_saved": "texts that needed no request",
}
_LAGS = {"lag_p50": "0.5", "lag_p95": "0.95", "lag_p99": "0.99"}
_LANES = ("live", "bulk")
_BUDGETS = ("daily_tokens", "daily_cost")
# Older versions of the extension have no batches.
_OVERDUE = """
SELECT b.endpoint,
       count(*) FILTER (WHERE b.deadline < pg_catalog.clock_timestamp()
                          AND b.state IN ('preparing', 'submitted', 'running', 'collecting')) AS number
FROM {schema}.embed_batches b WHERE b.endpoint IS NOT NULL GROUP BY b.endpoint
"""


class StatusCollector(Collector):
    """Reads embed_status at each scrape; evergreen_up is 0 if the database cannot be reached."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._lock = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        """Yield the current metrics."""
        with self._lock:
            try:
                with open_database(self._dsn, "evergreen metrics", only_reads=True) as database:
                    found = list(families(database, status.read(database, None)))
            except EvergreenError:
                yield GaugeMetricFamily("evergreen_up", "whether the database answers", value=0)
                return
        yield GaugeMetricFamily("evergreen_up", "whether the database answers", value=1)
        yield from found


def families(database: Database, rows: list[Row]) -> Iterator[Metric]:
    """Yield the metrics of pipelines, without columns that this version of the extension lacks."""
    yield _info(database)
    yield _states(rows)
    for name, description in _GAUGES.items():
        yield _family(GaugeMetricFamily, name, description, {r["pipeline"]: r[name] for r in rows})
    for column, (name, description) in (_SECONDS | _RATIOS).items():
        yield _family(GaugeMetricFamily, name, description, {r["pipeline"]: r.get(column) for r in rows})
    for name, description in _COUNTERS.items():
        yield _family(CounterMetricFamily, name, description, {r["pipeline"]: r[name] for r in rows})
    batches = {r["pipeline"]: r.get("in_batch") for r in rows}
    yield _family(GaugeMetricFamily, "in_batch", "pending rows whose text is in a batch at the provider", batches)
    yield _late(rows)
    yield from _lags(rows)
    yield _budgets(rows)
    yield _slot(rows)
    yield _workers(database)
    yield _overdue_batches(database)


def _late(rows: list[Row]) -> Metric:
    now = datetime.now(UTC)
    values = {
        row["pipeline"]: max(timedelta(0), now - row["late_since"]) if row.get("late_since") else 0 for row in rows
    }
    return _family(
        GaugeMetricFamily, "late_seconds", "how long a live change has waited beyond the option max_lag", values
    )


def _lags(rows: list[Row]) -> Iterator[Metric]:
    lag = GaugeMetricFamily("evergreen_lag_seconds", "from change to searchable", labels=("pipeline", "quantile"))
    lanes = GaugeMetricFamily(
        "evergreen_lane_lag_seconds", "evergreen_lag_seconds by lane", labels=("pipeline", "lane", "quantile")
    )
    for row in rows:
        for column, quantile in _LAGS.items():
            if row.get(column) is not None:
                lag.add_metric((row["pipeline"], quantile), _to_float(row[column]))
            for lane in _LANES:
                if row.get(f"{lane}_{column}") is not None:
                    lanes.add_metric((row["pipeline"], lane, quantile), _to_float(row[f"{lane}_{column}"]))
    yield from (lag, lanes)


def _budgets(rows: list[Row]) -> Metric:
    spent = GaugeMetricFamily(
        "evergreen_budget_spent", "1 if a daily budget is spent (days are UTC)", labels=("pipeline", "budget")
    )
    for row in rows:
        for budget in _BUDGETS:
            spent.add_metric((row["pipeline"], budget), float(budget in (row.get("spent_budgets") or ())))
    return spent


def _slot(rows: list[Row]) -> Metric:
    lag = GaugeMetricFamily("evergreen_slot_lag_bytes", "WAL that the replication slot of capture cdc retains")
    found = [float(row["slot_lag"]) for row in rows if row.get("slot_lag") is not None]
    if found:
        lag.add_metric((), max(found))  # all pipelines share one slot
    return lag


def _workers(database: Database) -> Metric:
    workers = GaugeMetricFamily(
        "evergreen_workers", "sessions that work on this database; left out if this role may not see all of them"
    )
    number = lateness.count_workers(database)
    if number is not None:
        workers.add_metric((), number)
    return workers


def _overdue_batches(database: Database) -> Metric:
    overdue = GaugeMetricFamily(
        "evergreen_batch_overdue", "batches that a provider has not answered by their deadline", labels=("endpoint",)
    )
    if database.has("embed_batches"):
        for row in database.rows(_OVERDUE):
            overdue.add_metric((row["endpoint"],), float(row["number"]))
    return overdue


def _info(database: Database) -> Metric:
    info = GaugeMetricFamily("evergreen_info", "version of the extension", labels=("version", "database"))
    info.add_metric((database.version, database.name), 1)
    return info


def _states(rows: list[Row]) -> Metric:
    states = GaugeMetricFamily("evergreen_state", "1 for the current state of a pipeline", labels=("pipeline", "state"))
    for row in rows:
        for state in STATES:
            states.add_metric((row["pipeline"], state), float(row["state"] == state))
    return states


def _family(
    kind: type[GaugeMetricFamily] | type[CounterMetricFamily], name: str, description: str, values: dict[str, Any]
) -> Metric:
    family = kind(f"evergreen_{name}", description, labels=("pipeline",))
    for pipeline, value in values.items():
        if value is not None:
            family.add_metric((pipeline,), _to_float(value))
    return family


def _to_float(value: Any) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else float(value)


def registry(dsn: str) -> CollectorRegistry:
    """Return a registry of only these metrics."""
    found = CollectorRegistry(auto_describe=False)
    found.register(StatusCollector(dsn))
    return found


def exposition(dsn: str) -> str:
    """Return the metrics as text; raises EvergreenError if the database cannot be reached."""
    with open_database(dsn, "evergreen metrics", only_reads=True):
        return generate_latest(registry(dsn)).decode()


def dashboard() -> str:
    """Return a Grafana dashboard of these metrics."""
    return Path(__file__).with_name("grafana.json").read_text("utf-8")


def alerts() -> str:
    """Return alert rules for Prometheus."""
    return Path(__file__).with_name("alerts.yaml").read_text("utf-8")


def serve(dsn: str, address: str, port: int) -> None:
    """Serve the metrics until interrupted; raises EvergreenError if the port is in use."""
    try:
        server, thread = start_http_server(port, address, registry(dsn))
    except OSError as error:
        raise EvergreenError(
            f"cannot listen on {address}:{port}: {error.strerror}", "choose another port: --port 9188"
        ) from error
    print(f"evergreen: metrics at http://{address}:{server.server_port}/metrics", flush=True)
    thread.join()
