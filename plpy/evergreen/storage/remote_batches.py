"""The steps of a batch at the provider, each by the session that owns it: rows of ``embed.batch``.

Every write of a step is fenced by its token, except for what is at the provider now: that must not be forgotten.
"""

from evergreen import db
from evergreen.core.frozen import frozen
from evergreen.core.remote_batch import BatchOfTexts
from evergreen.db.queries import load
from evergreen.embedding.batches.protocol import RemoteBatch

SQL = load(__package__, "remote_batches")


def overdue(pipelines: list[int]) -> list[int]:
    """Return the batches that are past their deadline and not given up."""
    return [row["id"] for row in db.rows(SQL.overdue, pipelines)]


def take(pipelines: list[int], own_tokens: list[int], *, orphans: bool) -> BatchOfTexts | None:
    """Take the next batch that is due; this session owns it until ``release``. ``orphans``: of dropped pipelines."""
    row = db.one(SQL.take, pipelines, own_tokens, orphans)
    if row is None:
        return None
    batch = BatchOfTexts(
        row["id"], row["intent"], row["pipeline"], row["model"], row["model_revision"], row["epoch"], row["state"],
        row["token"], row["attempts"], row["was_asked"], row["is_given_up"], row["remote_id"], row["remote_state"],
        tuple(row["remote_files"]), tuple(row["remote_outputs"]),
        (row["remote_succeeded"], row["remote_failed"]), row["is_collected"], row["texts"], row["tokens"],
        row["reserved"], bool(row["is_old"]), float(row["seconds"] or 0.0),
    )  # fmt: skip
    db.run(SQL.lock_owner, batch.lock)
    return batch


def unlock(batch: BatchOfTexts) -> None:
    """Release the session's lock on a batch."""
    db.run(SQL.unlock_owner, batch.lock)


def renew(batch: BatchOfTexts) -> None:
    """Extend the ownership of a batch whose step takes long."""
    db.run(SQL.renew, batch.id, batch.token)


def is_owned(batch: BatchOfTexts) -> bool:
    """Lock a batch and return whether its token still owns it."""
    return db.one(SQL.lock_owned, batch.id, batch.token) is not None


def note_asked(batch: BatchOfTexts) -> bool:
    """Record that the batch is about to be created at the provider; False if this session no longer owns it."""
    return db.one(SQL.note_asked, batch.id, batch.token) is not None


def texts(batch: BatchOfTexts) -> list[tuple[bytes, str]]:
    """Return the texts of a batch by their hashes."""
    return [(row["hash"], row["text"]) for row in db.rows(SQL.texts, batch.id)]


def note_file(batch: BatchOfTexts, file: str) -> None:
    """Record a file at the provider."""
    db.run(SQL.note_file, batch.id, file)


def note_created(batch: BatchOfTexts, remote_id: str) -> None:
    """Record the batch at the provider."""
    db.run(SQL.note_created, batch.id, remote_id)


def note_polled(batch: BatchOfTexts, remote: RemoteBatch) -> None:
    """Record what the provider says of a batch."""
    counts = remote.succeeded, remote.failed
    said = remote.state.value, [*remote.outputs], remote.error, remote.state.is_final
    db.run(SQL.note_polled, batch.id, batch.token, *said, *counts)


def resubmit(batch: BatchOfTexts, why: str | None) -> bool:
    """Let a batch that the provider had no room for be created again; return False if no other one takes that room."""
    return db.one(SQL.resubmit, batch.id, batch.token, why) is not None


def release(batch: BatchOfTexts, seconds: float, *, succeeded: bool) -> None:
    """End a step: the next one, or the same again, is due in some seconds."""
    db.run(SQL.release, batch.id, batch.token, seconds, succeeded)


def note_error(batch: BatchOfTexts, why: str) -> None:
    """Record why a step failed."""
    db.run(SQL.note_error, batch.id, batch.token, why)


def awaited_texts(batch: BatchOfTexts, hashes: list[bytes]) -> list[db.Row]:
    """Return and lock those of the texts that no result was filed for: (hash, tokens, key)."""
    return db.rows(SQL.awaited_texts, batch.id, hashes)


def delete_texts(batch: BatchOfTexts, hashes: list[bytes]) -> None:
    """Delete texts that have their result."""
    db.run(SQL.delete_texts, batch.id, hashes)


@frozen
class Counted:
    """Results of a batch: how many texts, the tokens billed, and what they cost.

    ``saved``: by not sending requests; ``alone_cost``: as roles other than embed_admin see it; ``error``: of a text.
    """

    succeeded: int = 0
    failed: int = 0
    tokens: int = 0
    cost: float | None = None
    saved: float | None = None
    alone_cost: float | None = None
    error: str | None = None


def count(batch: BatchOfTexts, new: Counted) -> None:
    """Add up the results of a batch."""
    amounts = new.succeeded, new.failed, new.tokens, new.cost, new.saved, new.alone_cost, new.error
    db.run(SQL.count_results, batch.id, *amounts)


def figures(batch: BatchOfTexts) -> db.Row:
    """Return what a batch came to: state, succeeded, failed, billed, reserved, is_same_day, spared, spared_tokens."""
    row = db.one(SQL.figures, batch.id)
    assert row is not None
    return row


def set_collected(batch: BatchOfTexts) -> None:
    """Record that no more results will come."""
    db.run(SQL.set_collected, batch.id)


def set_clean(batch: BatchOfTexts) -> None:
    """Record that nothing is left at the provider."""
    db.run(SQL.set_clean, batch.id, batch.token)


def abandon(batch: BatchOfTexts) -> None:
    """Leave at the provider what is there: it cannot be reached."""
    db.run(SQL.abandon, batch.id)


def purge() -> None:
    """Delete batches that ended a month ago."""
    db.run(SQL.purge)
