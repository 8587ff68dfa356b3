"""`evergreen metrics`: the status as Prometheus metrics, printed once or served."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from evergreen_host.database import Database, Row, open_database
from evergreen_host.errors import EvergreenError
from evergreen_host.monitor import status

STATES = ("active", "paused", "over budget", "broken")
_GAUGES = {
    "rows": "rows of the source table, an estimate where it is large",
    "fresh": "rows whose embedding is up to date",
    "pending": "rows that wait for a worker",
    "in_flight": "rows that a worker has claimed",
    "failed": "dead letters",
}
_SECONDS = {
    "oldest_pending_age": ("oldest_pending_age_seconds", "age of the oldest change that waits"),
    "backfill_eta": ("backfill_eta_seconds", "until the backfill is over, about"),
}
_RATIOS = {
    "coverage": ("coverage_ratio", "share of the rows that are fresh"),
    "backfill_progress": ("backfill_progress_ratio", "share of the table that the backfill has come to"),
}
_COUNTERS = {
    "calls": "requests to models",
    "texts": "texts that models answered for",
    "tokens": "tokens, as billed where the provider says",
    "cost": "cost, in the unit of the models' price",
    "texts_saved": "texts that were not sent",
}
_LAGS = {"lag_p50": "0.5", "lag_p95": "0.95", "lag_p99": "0.99"}
_LANES = ("live", "bulk")


class StatusCollector(Collector):
    """Looks at embed_status each time it is asked; a database that cannot be reached is evergreen_up 0."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._lock = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of now."""
        with self._lock:
            try:
                with open_database(self._dsn, "evergreen metrics") as database:
                    found = list(families(database, status.read(database, None)))
            except EvergreenError:
                yield GaugeMetricFamily("evergreen_up", "whether the database answers", value=0)
                return
        yield GaugeMetricFamily("evergreen_up", "whether the database answers", value=1)
        yield from found


def families(database: Database, rows: list[Row]) -> Iterator[Metric]:
    """Yield the metrics of pipelines; what this version of the extension does not tell is left out."""
    yield _info(database)
    yield _states(rows)
    for name, description in _GAUGES.items():
        yield _family(GaugeMetricFamily, name, description, {r["pipeline"]: r[name] for r in rows})
    for column, (name, description) in (_SECONDS | _RATIOS).items():
        yield _family(GaugeMetricFamily, name, description, {r["pipeline"]: r.get(column) for r in rows})
    for name, description in _COUNTERS.items():
        yield _family(CounterMetricFamily, name, description, {r["pipeline"]: r[name] for r in rows})
    yield from _lags(rows)


def _lags(rows: list[Row]) -> Iterator[Metric]:
    lag = GaugeMetricFamily("evergreen_lag_seconds", "from change to searchable", labels=("pipeline", "quantile"))
    lanes = GaugeMetricFamily(
        "evergreen_lane_lag_seconds", "as evergreen_lag_seconds, by lane", labels=("pipeline", "lane", "quantile")
    )
    for row in rows:
        for column, quantile in _LAGS.items():
            if row.get(column) is not None:
                lag.add_metric((row["pipeline"], quantile), _to_float(row[column]))
            for lane in _LANES:
                if row.get(f"{lane}_{column}") is not None:
                    lanes.add_metric((row["pipeline"], lane, quantile), _to_float(row[f"{lane}_{column}"]))
    yield from (lag, lanes)


def _info(database: Database) -> Metric:
    info = GaugeMetricFamily("evergreen_info", "version of the extension", labels=("version", "database"))
    info.add_metric((database.version, database.name), 1)
    return info


def _states(rows: list[Row]) -> Metric:
    states = GaugeMetricFamily("evergreen_state", "1 for the state that a pipeline is in", labels=("pipeline", "state"))
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
    """Return a registry with nothing but ours in it."""
    found = CollectorRegistry(auto_describe=False)
    found.register(StatusCollector(dsn))
    return found


def exposition(dsn: str) -> str:
    """Return the metrics as text; raises EvergreenError when the database cannot be reached."""
    with open_database(dsn, "evergreen metrics"):
        return generate_latest(registry(dsn)).decode()


def dashboard() -> str:
    """Return a dashboard of these metrics, as Grafana imports it."""
    return Path(__file__).with_name("grafana.json").read_text("utf-8")


def serve(dsn: str, address: str, port: int) -> None:
    """Serve the metrics until interrupted; raises EvergreenError when the port is taken."""
    try:
        server, thread = start_http_server(port, address, registry(dsn))
    except OSError as error:
        raise EvergreenError(f"cannot listen on {address}:{port}: {error.strerror}", "choose another --port") from error
    print(f"evergreen: metrics at http://{address}:{server.server_port}/metrics", flush=True)
    thread.join()
