"""The view that a search goes through, and which generation it shows."""

from evergreen import db
from evergreen.core.errors import UserError
from evergreen.core.pipeline import Pipeline
from evergreen.core.text import quoted
from evergreen.db.queries import load

SQL = load(__package__)


def view_of(pipeline: Pipeline) -> str:
    """Return the view's qualified name; raises UserError 42P01 when it is gone, or no longer ours."""
    view = db.value(SQL.own_view, pipeline.view) if pipeline.view is not None else None
    if view is None:
        raise UserError(
            f'the view of pipeline "{pipeline.name}" is gone',
            "42P01",
            hint="embed_drop() the pipeline and create it again.",
        )
    return str(view)


def key_columns(pipeline: Pipeline) -> list[str]:
    """Return the quoted names under which the view has the key's columns: its first ones."""
    names = [db.identifier(row["name"]) for row in db.rows(SQL.view_columns, pipeline.view)]
    return names[: len(pipeline.key)]


def shows_another(view: str, generation: int) -> bool:
    """Return whether a view shows another generation than one thought; where it does not, no row is read."""
    return bool(db.value(SQL.shows_another.with_identifiers(view=view, generation=str(generation))))


def look(view: int, source: int) -> tuple[str, str] | None:
    """Return the caller's role and what changes whenever the view shows another generation; None where it may have."""
    row = db.one(SQL.look, view, source)
    return (row["role"], row["version"]) if row is not None else None


def snapshot_is_kept() -> bool:
    """Return whether all statements of the transaction see the catalog as at its start; views are not seen so."""
    return bool(db.value(SQL.snapshot_is_kept))


def switched(pipeline: str | None) -> UserError:
    """Build the error for a snapshot in which another generation is active than the view shows."""
    return UserError(
        f"another generation of pipeline {quoted(pipeline)} was promoted since this transaction's snapshot",
        "40001",
        hint="Try the transaction again.",
    )
