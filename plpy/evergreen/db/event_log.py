"""What an operator who ships logs is told: a line a change of state, in the server's log and nowhere else.

    evergreen: event=breaker_opened endpoint="my server" failures=3 rests_until=2026-11-26T03:12:09Z

No line has a text of a source, what a model's server answered, or a secret. It is out at once, whatever becomes of the
transaction. Runs SQL with the extension's rights.
"""

from evergreen import db
from evergreen.core.text import Detail, logfmt
from evergreen.db.queries import load

SQL = load(__package__)


def info(event: str, *, pipeline: str | int | None = None, **details: Detail) -> None:
    """Write down that something is another way now, at level LOG. A pipeline may be given by its number."""
    _write(db.log, event, pipeline, details)


def warn(event: str, *, pipeline: str | int | None = None, **details: Detail) -> None:
    """As note, at level WARNING: somebody may have to do something."""
    _write(db.warning, event, pipeline, details)


def debug(event: str, *, pipeline: str, **details: Detail) -> None:
    """Say what is ordinary, at level DEBUG2, where it costs next to nothing until it is asked for."""
    db.debug(logfmt(event, {"pipeline": pipeline, **details}))


def _write(say: db.Say, event: str, pipeline: str | int | None, details: dict[str, Detail]) -> None:
    """Say it without the lines that Postgres would add, and to no client: whoever calls us has done nothing wrong."""
    name = db.value(SQL.name, pipeline) if isinstance(pipeline, int) else pipeline
    before = db.rows(SQL.settings)
    names = [row["name"] for row in before]
    db.rows(SQL.set, names, [row["alone"] for row in before])
    say(logfmt(event, {"pipeline": name, **details}))
    db.rows(SQL.set, names, [row["value"] for row in before])
