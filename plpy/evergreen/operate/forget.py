"""embed_forget: erases what is stored of a row."""

from dataclasses import dataclass, field

from evergreen import db
from evergreen.capture import ddl_sync
from evergreen.catalog import json_objects, pipelines
from evergreen.core.errors import ModelError, UserError
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.core.text import pluralize
from evergreen.db import privileges
from evergreen.db.locks import with_lock_timeout
from evergreen.db.privileges import as_extension_owner, caller, sql_entry
from evergreen.db.queries import load
from evergreen.prepare import documents
from evergreen.queue import row
from evergreen.source import reader
from evergreen.source.reader import SourceRow
from evergreen.storage import batch_spool, erasure

SQL = load(__package__)
_LOCK_TIMEOUT = "2s"  # a worker may be writing the row


@sql_entry
def embed_forget(pipeline: str | None, key: str | None) -> int:
    """Erase a row's texts and vectors; return how many texts. Raises 25001, 42704, 42501, 22023, 22P02, 55P03."""
    privileges.check_isolation("embed_forget")
    role = caller()

    def forget() -> int:
        found = pipelines.owned(pipeline, role)
        readable = ddl_sync.follow_ddl(found)
        given = key if key is not None else "null"
        canonical = reader.canonical(readable, given) if readable is not None else _as_given(given)
        forgetting = _Erasure(readable or found, canonical, readable is not None)
        count = with_lock_timeout(forgetting.run, _LOCK_TIMEOUT)
        if count is None:
            raise UserError(
                f'row {canonical} of pipeline "{found.name}" is held by another session, which may still write it',
                "55P03",
                hint="Try again when its transaction is over; pg_stat_activity shows who works.",
            )
        db.notice(forgetting.story(count))
        return count

    return as_extension_owner(forget)


def _as_given(key: str) -> str:
    """Return the stored form of a key whose table no longer exists, as far as it can be known."""
    given = json_objects.loads(key)
    return key if isinstance(given, list) else json_objects.dumps([given])


@dataclass
class _Erasure:
    """Locks the row's jobs first, so that a worker with a late result has lost its claim."""

    pipeline: Pipeline
    key: str
    is_readable: bool
    source_row: SourceRow | None = None
    is_queued: bool = False
    batches: set[int] = field(default_factory=set[int])  # whose files at the provider may hold a text of the row

    def run(self) -> int:
        """Erase everything and return the number of texts; undone as a whole if a lock is not available."""
        jobs = [(generation, *self._hold_job(generation)) for generation in self.pipeline.generations]
        logged = row.changes(self.pipeline, self.key)
        # In this order: what is logged or queued after the row was looked at is a change that came since, and stays.
        self.source_row = self._source_row()
        texts = sum(self._erase(generation, token) for generation, _, token in jobs)
        for generation, is_new, _ in jobs:
            self._settle_job(generation, is_new=is_new)
        erasure.erase_cached(self.pipeline, self.key)
        if self.source_row is None:
            row.delete_changes(self.key, logged)
        self.is_queued |= bool(logged)
        return texts

    def _hold_job(self, generation: Generation) -> tuple[bool, int | None]:
        """Lock the row's job, inserted if there is none; return whether it is new, and the token of its claim."""
        held = row.lock_job(generation, self.key)
        if held is None:
            raise UserError(
                f"row {self.key} is being worked on again and again", "55P03", hint="Try again, or embed_pause() first."
            )
        return held

    def _source_row(self) -> SourceRow | None:
        if not self.is_readable:
            return None
        generation, keys = self.pipeline.active, [self.key]
        rows = reader.with_source_locked(self.pipeline, lambda: list(reader.read(self.pipeline, generation, keys)))
        return rows[0] if rows else None

    def _erase(self, generation: Generation, token: int | None) -> int:
        hashes = self._hashes_now(generation)
        count = erasure.erase(generation, self.key, token, hashes)
        self.batches |= batch_spool.forget(self.pipeline, self.key, generation.model.id, hashes)
        row.delete_failure(generation, self.key)
        return count

    def _hashes_now(self, generation: Generation) -> list[bytes]:
        """Return hashes of the texts that the row has now: their vectors may be cached from an earlier time."""
        if self.source_row is None:
            return []
        try:
            return [key for key, _ in documents.document_builder(self.pipeline, generation)(self.source_row).chunks]
        except ModelError:  # too long for the model: it was never embedded
            return []

    def _settle_job(self, generation: Generation, *, is_new: bool) -> None:
        """Drop the job of a row that is gone; a row that still exists is queued again."""
        if is_new or self.source_row is None:
            row.delete_job(generation, self.key)
        else:
            row.reset_job(generation, self.key)
            self.is_queued = True

    def story(self, count: int) -> str:
        """Say what was done, what is not, and what comes next."""
        said = f'{pluralize(count, "text")} of row {self.key} erased from pipeline "{self.pipeline.name}"'
        others = [row["name"] for row in db.rows(SQL.other_pipelines, self.pipeline.source, self.pipeline.id)]
        if self.source_row is not None:
            when = "by the next drain" if self.is_queued else "when it changes"
            said += (
                f"; the row is still in {self.pipeline.source_name} and will be embedded again {when}:"
                " delete it there, or leave it out by only_if"
            )
        if self.batches:
            numbers = ", ".join(map(str, sorted(self.batches)))
            said += (
                f"; batch {numbers} has it at the provider: its vector will not be used, and the files are deleted"
                " when the batch ends"
            )
        if others:
            said += f"; other pipelines of the table keep theirs: {', '.join(others)}"
        return said
