"""Checks of what embed_drain, embed_work and embed_schedule are given."""

from evergreen import db
from evergreen.catalog import pipelines
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


def check_runtime(interval: str | None) -> float:
    """Return max_runtime in seconds; raises 22023."""
    seconds = float(db.value(SQL.seconds, interval)) if interval is not None else -1.0
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
