"""The event log: one logfmt line in the server's log for each change of state, for operators who ship logs.

    evergreen: event=breaker_opened endpoint="my server" failures=3 rests_until=2026-11-26T03:12:09Z

No line contains a source's text, a model server's response or a secret. Lines are written at once, even if the
transaction rolls back. Runs SQL with the extension's rights.
"""

from evergreen import db
from evergreen.core.text import Detail, logfmt
from evergreen.db.queries import load

SQL = load(__package__)


def info(event: str, *, pipeline: str | int | None = None, **details: Detail) -> None:
    """Log a change of state at level LOG. ``pipeline`` is a name or an id."""
    _write(db.log, event, pipeline, details)


def warn(event: str, *, pipeline: str | int | None = None, **details: Detail) -> None:
    """Log an event that may need action, at level WARNING."""
    _write(db.warning, event, pipeline, details)


def debug(event: str, *, pipeline: str, **details: Detail) -> None:
    """Log routine work at level DEBUG2, which costs almost nothing unless it is enabled."""
    db.debug(logfmt(event, {"pipeline": pipeline, **details}))


def _write(say: db.Say, event: str, pipeline: str | int | None, details: dict[str, Detail]) -> None:
    """Write a line without Postgres' context, and send it to no client: the caller did nothing wrong."""
    name = pipeline_name(pipeline) if isinstance(pipeline, int) else pipeline
    before = db.rows(SQL.settings)
    names = [row["name"] for row in before]
    db.rows(SQL.set, names, [row["alone"] for row in before])
    say(logfmt(event, {"pipeline": name, **details}))
    db.rows(SQL.set, names, [row["value"] for row in before])


def pipeline_name(pipeline_id: int) -> str:
    """Return the name of a pipeline as a message shows it; its id if it was dropped."""
    name = db.value(SQL.name, pipeline_id)
    return str(pipeline_id) if name is None else str(name)
