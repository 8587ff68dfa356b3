"""The queue entries of one row, which embed_forget takes from their claims."""

from evergreen import db
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.db.queries import load

SQL = load(__package__)
_ROUNDS = 10


def lock_job(generation: Generation, key: str) -> tuple[bool, int | None] | None:
    """Lock the row's job, inserted if there is none; return whether it is new, and the token of its claim.

    Returns None if other sessions insert and finish the job again and again.
    """
    for _ in range(_ROUNDS):
        if db.value(SQL.insert_job, generation.id, key) is not None:
            return True, None
        job = db.one(SQL.lock_job, generation.id, key)
        if job is not None:
            return False, job["token"]
    return None


def delete_job(generation: Generation, key: str) -> None:
    """Delete the row's job: nothing needs to be done for it."""
    db.run(SQL.delete_job, generation.id, key)


def reset_job(generation: Generation, key: str) -> None:
    """Queue the row's job as new; its current claim loses it."""
    db.run(SQL.reset_job, generation.id, key)


def delete_failure(generation: Generation, key: str) -> None:
    """Delete the row's dead letter, whose message may quote the text."""
    db.run(SQL.delete_failure, generation.id, key)


def changes(pipeline: Pipeline, key: str) -> list[str]:
    """Return the row's entries in the change log, as ctids."""
    return [row["ctid"] for row in db.rows(SQL.changes_of_key, pipeline.id, key)]


def delete_changes(key: str, changes: list[str]) -> None:
    """Delete entries of a row that no longer exists from the change log."""
    db.run(SQL.delete_changes, key, changes)
