"""embed_forget: erases what is stored of a row."""

from collections.abc import Iterable
from dataclasses import dataclass

from evergreen import db
from evergreen.capture import ddl_sync
from evergreen.catalog import json_objects, models, pipelines
from evergreen.core.errors import ModelError, UserError
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.core.text import pluralize
from evergreen.db import privileges
from evergreen.db.locks import with_lock_timeout
from evergreen.db.privileges import as_extension_owner, caller, sql_entry
from evergreen.db.queries import load
from evergreen.prepare import documents
from evergreen.source import reader
from evergreen.source.reader import SourceRow
from evergreen.storage import vector_cache

SQL = load(__package__)
_LOCK_TIMEOUT = "2s"  # a worker may be writing the row
_ROUNDS = 10


@sql_entry
def embed_forget(pipeline: str | None, key: str | None) -> int:
    """Erase a row's texts and vectors; return how many texts. Raises 25001, 42704, 42501, 22023, 22P02, 55P03."""
    privileges.check_isolation("embed_forget")
    role = caller()

    def forget() -> int:
        found = pipelines.owned(pipeline, role)
        readable = ddl_sync.check(found)
        given = key if key is not None else "null"
        canonical = reader.canonical(readable, given) if readable is not None else _as_given(given)
        erasure = _Erasure(readable or found, canonical, readable is not None)
        count = with_lock_timeout(erasure.run, _LOCK_TIMEOUT)
        if count is None:
            raise UserError(
                f'row {canonical} of pipeline "{found.name}" is held by another session, which may still write it',
                "55P03",
                hint="Try again when its transaction is over; pg_stat_activity shows who works.",
            )
        db.notice(erasure.story(count))
        return count

    return as_extension_owner(forget)


def _as_given(key: str) -> str:
    """The stored form of a key whose table is gone, as well as it can be known."""
    given = json_objects.loads(key)
    return key if isinstance(given, list) else json_objects.dumps([given])


@dataclass
class _Erasure:
    """Takes the row's jobs first, so that a worker with a late result has lost its claim."""

    pipeline: Pipeline
    key: str
    is_readable: bool
    row: SourceRow | None = None
    is_queued: bool = False

    def run(self) -> int:
        """Erase everything and return the number of texts; a lock that is not to be had undoes all of it."""
        jobs = [(generation, *self._hold_job(generation)) for generation in self.pipeline.generations]
        logged = [row["ctid"] for row in db.rows(SQL.changes_of_key, self.pipeline.id, self.key)]
        # In this order: what is logged or queued after the row was looked at is a change that came since, and stays.
        self.row = self._source_row()
        texts = sum(self._erase(generation, token) for generation, _, token in jobs)
        for generation, is_new, _ in jobs:
            self._settle_job(generation, is_new=is_new)
        db.run(SQL.delete_cached_of_row, self.pipeline.id, self.key)
        if self.row is None:
            db.run(SQL.delete_changes, self.key, logged)
        self.is_queued |= bool(logged)
        return texts

    def _hold_job(self, generation: Generation) -> tuple[bool, int | None]:
        """Lock the row's job, made for that if need be; tell whether it is new, and whose claim it was."""
        for _ in range(_ROUNDS):
            if db.value(SQL.insert_job, generation.id, self.key) is not None:
                return True, None
            job = db.one(SQL.lock_job, generation.id, self.key)
            if job is not None:
                return False, job["token"]
        raise UserError(
            f"row {self.key} is being worked on again and again", "55P03", hint="Try again, or embed_pause() first."
        )

    def _source_row(self) -> SourceRow | None:
        if not self.is_readable:
            return None
        generation, keys = self.pipeline.active, [self.key]
        rows = reader.with_source_locked(self.pipeline, lambda: list(reader.read(generation, keys)))
        return rows[0] if rows else None

    def _erase(self, generation: Generation, token: int | None) -> int:
        hashes = [
            row["hash"]
            for row in db.rows(SQL.delete_chunks.with_identifiers(table=generation.table), generation.id, self.key)
        ]
        under_way = [row["hash"] for row in db.rows(SQL.texts_of_claim, generation.model.id, token)]
        _clear_cache(generation, {*hashes, *self._hashes_now(generation), *under_way})
        db.run(SQL.clear_in_flight, generation.model.id, hashes, token)
        db.run(SQL.delete_document, generation.id, self.key)
        db.run(SQL.delete_failure, generation.id, self.key)
        return len(hashes)

    def _hashes_now(self, generation: Generation) -> list[bytes]:
        """Hashes of the texts that the row has now: they may be kept from an earlier time."""
        if self.row is None:
            return []
        try:
            return [key for key, _ in documents.document_builder(self.pipeline, generation)(self.row).chunks]
        except ModelError:  # too long for the model: it was never embedded
            return []

    def _settle_job(self, generation: Generation, *, is_new: bool) -> None:
        """Drop the job of a row that is gone; a row that still exists is queued again."""
        if is_new or self.row is None:
            db.run(SQL.delete_job, generation.id, self.key)
        else:
            db.run(SQL.reset_job, generation.id, self.key)
            self.is_queued = True

    def story(self, count: int) -> str:
        """Say what was done, what is not, and what comes next."""
        said = f'{pluralize(count, "text")} of row {self.key} erased from pipeline "{self.pipeline.name}"'
        others = [row["name"] for row in db.rows(SQL.other_pipelines, self.pipeline.source, self.pipeline.id)]
        if self.row is not None:
            when = "by the next drain" if self.is_queued else "when it changes"
            said += (
                f"; the row is still in {self.pipeline.source_name} and will be embedded again {when}:"
                " delete it there, or leave it out by only_if"
            )
        if others:
            said += f"; other pipelines of the table keep theirs: {', '.join(others)}"
        return said


def _clear_cache(generation: Generation, hashes: Iterable[bytes]) -> None:
    """Take vectors out of the cache, and let none of them come back late.

    Until this transaction ends, a placeholder, inserted and deleted, keeps other sessions from caching the vector;
    after the commit embed.erased_text does.
    """
    given = [generation.model.id, sorted(hashes)]
    db.run(SQL.insert_cache_placeholders.with_identifiers(vector=f"{models.vector_schema()}.vector"), *given)
    db.run(SQL.delete_cached, *given)
    db.run(SQL.insert_erased_texts, *given)
    vector_cache.purge_erased()
