"""Texts that wait for a batch: ``embed.batch_text``, and the rows of ``embed.batch`` that take them.

A text is in a batch, or its vector is cached: one transaction moves it. So ``vector_cache.resolve`` looks here after it
has marked a text as in flight, and at the vectors after that.
"""

from evergreen import db
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.core.remote_batch import Awaited, SpooledText
from evergreen.db.queries import load

SQL = load(__package__, "remote_batches")


def open_texts(generation: Generation, hashes: list[bytes]) -> dict[bytes, Awaited]:
    """Return those of the texts that are in a batch whose results are awaited."""
    found = db.rows(SQL.open_texts, generation.model.id, hashes)
    return {row["hash"]: Awaited(row["batch"], row["deadline"]) for row in found}


def lock_open(generation: Generation, deadline: str) -> db.Row:
    """Lock the batch that takes texts of a generation's model, made if there is none."""
    model = generation.model
    of = generation.pipeline, model.id, model.revision
    row = db.one(SQL.lock_open, *of)
    if row is None:
        db.run(SQL.add_open, *of, model.served.epoch, deadline)
        row = db.one(SQL.lock_open, *of)
    if row is None:  # another session has just filled it
        return lock_open(generation, deadline)
    return row


def add(batch: int, model: int, texts: list[SpooledText], rows: int, spared: int) -> None:
    """Add texts of some rows to a batch; ``spared``: further texts of theirs that other owners' pipelines have."""
    columns = ([t.hash for t in texts], [t.text for t in texts], [t.tokens for t in texts], [t.key for t in texts])
    db.run(SQL.insert_texts, batch, model, *columns)
    amounts = len(texts), sum(t.tokens for t in texts), sum(t.size for t in texts)
    db.run(SQL.count_added, batch, rows, *amounts, spared)


def set_full(batch: int) -> None:
    """Let a batch take no more texts."""
    db.run(SQL.set_full, batch)


def waiting(generation: Generation, least: int) -> tuple[int, int, bool]:
    """Return the texts in the batch that takes more, the rows of history to come, and whether the API refuses batches.

    Rows are an estimate, counted up to ``least`` where they are queued.
    """
    model = generation.model
    row = db.one(SQL.waiting, generation.pipeline, model.id, model.revision, generation.id, least)
    assert row is not None
    return int(row["texts"]), int(row["rows"]), bool(row["was_refused"])


def unsealed(pipelines: list[int], quiet: float, longest: float) -> list[int]:
    """Return the batches that will get no more texts."""
    return [row["id"] for row in db.rows(SQL.unsealed, pipelines, quiet, longest)]


def lock_unsealed(batch: int) -> db.Row | None:
    """Lock such a batch; None if another session is at it."""
    return db.one(SQL.lock_unsealed, batch)


def token_counts(batch: int) -> list[int]:
    """Return the estimated tokens of its texts."""
    return db.value(SQL.token_counts, batch) or []


def seal(batch: int, reserved: int) -> None:
    """Fix the texts of a batch; ``reserved``: the tokens that were charged to the budget."""
    db.run(SQL.seal, batch, reserved)


def split(batch: int, texts: int) -> None:
    """Keep so many texts in a batch, and move the others to another one, which is sealed later."""
    other = db.value(SQL.split, batch)
    db.run(SQL.move_texts, batch, other, texts)
    db.run(SQL.recount, other)


def postpone(batch: int, seconds: float, why: str | None) -> None:
    """Look at a batch again later."""
    db.run(SQL.postpone, batch, seconds, why)


def end(batch: int, state: str, why: str | None = None) -> None:
    """End a batch in a state, unless it has ended; its texts stay for late results."""
    db.run(SQL.end, batch, state, why)


def delete_all_texts(batch: int) -> None:
    """Delete the texts of a batch."""
    db.run(SQL.delete_all_texts, batch)


def delete(batch: int) -> None:
    """Delete a batch that never reached the provider."""
    db.run(SQL.delete_all_texts, batch)
    db.run(SQL.delete_batch, batch)


def lock(batch: int) -> db.Row | None:
    """Lock a batch for its cancellation: (id, pipeline, state, is_over, is_sealed); None if there is none."""
    return db.one(SQL.find_cancellable, batch)


def count(batch: int) -> int:
    """Return how many texts of a batch have no result."""
    return int(db.value(SQL.count_texts, batch))


def give_up(batch: int, state: str, why: str | None = None) -> int:
    """End a batch before its results are there; return how many texts had none.

    If the provider may have it, its texts stay for late results. Wake its jobs in the same transaction.
    """
    left = count(batch)
    db.run(SQL.disown, batch)
    end(batch, state, why)
    db.run(SQL.delete_texts_of_unsent, batch)
    return left


def lock_open_of(pipeline: int) -> list[int]:
    """Lock and return the pipeline's batches that are not sealed."""
    return [row["id"] for row in db.rows(SQL.unsealed_of_pipeline, pipeline)]


def drop_unneeded(pipeline: int) -> None:
    """Give up batches whose generation was dropped: a worker cancels them at the provider."""
    for row in db.rows(SQL.unneeded, pipeline):
        give_up(row["id"], "cancelled", "nothing needs its vectors any more")
        delete_all_texts(row["id"])


def discard(pipeline: int) -> None:
    """Forget the batches of another server, which has them in hand."""
    db.run(SQL.discard, pipeline)


def forget(pipeline: Pipeline, key: str, model: int, hashes: list[bytes]) -> set[int]:
    """Delete a row's texts from all batches; return the batches whose files at the provider may have one."""
    found = db.rows(SQL.forget_texts, pipeline.id, key, model, hashes)
    return {row["batch"] for row in found if row["is_remote"]}


def sibling(pipeline: Pipeline, model: int, revision: int) -> Generation | None:
    """Return a generation of the pipeline that takes vectors of this model and revision, if there is one."""
    of = ((g.known_model, g) for g in pipeline.generations)
    return next((g for known, g in of if known is not None and (known.id, known.revision) == (model, revision)), None)
