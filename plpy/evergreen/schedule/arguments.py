"""Checks of what the calls that work are given."""

from evergreen import db
from evergreen.catalog import pipelines
from evergreen.catalog.pipelines import Pipeline
from evergreen.errors import UserError, shown
from evergreen.queries import load

SQL = load(__file__)


def check_isolation(function: str) -> None:
    """Raise 25001 unless READ COMMITTED: elsewhere a worker would read old rows, or make writers fail."""
    level = str(db.value(SQL.isolation))
    if level not in {"read committed", "read uncommitted"}:
        raise UserError(
            f"{function} works in READ COMMITTED only, and this transaction is {level.upper()}",
            "25001",
            hint="BEGIN ISOLATION LEVEL READ COMMITTED first; where another level is the default, also for one call.",
        )


def interval_seconds(interval: str) -> float:
    """Return an interval in seconds."""
    return float(db.value(SQL.seconds, interval))


def check_runtime(interval: str | None) -> float:
    """Return max_runtime in seconds; raises 22023."""
    seconds = interval_seconds(interval) if interval is not None else -1.0
    if seconds <= 0:
        raise UserError(
            f"max_runtime must be a positive interval, not {shown(interval)}", hint="'55 s' is the default."
        )
    return seconds


def chosen(pipeline: str | None) -> list[int]:
    """Return the ids of the pipelines to work on; raises 42704."""
    if pipeline is None:
        return pipelines.every()
    found = pipelines.find(pipeline)
    if found is None:
        raise pipelines.missing(pipeline)
    return [found.id]


def named(pipeline: str | None) -> Pipeline:
    """Return the pipeline of a name; raises 42704, 55000."""
    found = pipelines.find(pipeline) if pipeline is not None else None
    if found is None:
        raise pipelines.missing(pipeline)
    found.check_whole()
    return found


def seconds_of(name: str, interval: str | None, least: float, most: float, example: str) -> float:
    """Return an interval's seconds; raises 22023 where it is not from ``least`` to ``most`` of them."""
    seconds = interval_seconds(interval) if interval is not None else -1.0
    if not least <= seconds <= most:
        raise UserError(
            f"{name} must be an interval from {least:g} to {most:g} seconds, not {shown(interval)}",
            hint=f"{example} is the default.",
        )
    return seconds
