"""What of a claim goes into a batch for the provider's batch API, or waits for one.

Only history does: rows without a change of their own. Those of the backfill lane add their texts to a batch; a row that
was in one before sends what it still needs by requests.
"""

from evergreen.catalog import options
from evergreen.core import text as tokens
from evergreen.core.document import Document
from evergreen.core.embedding import Texts
from evergreen.core.job import Claim, Job, Lane
from evergreen.core.remote_batch import Awaited, SpooledText
from evergreen.db import event_log
from evergreen.embedding.batches.history import api_of
from evergreen.embedding.batches.protocol import BatchApi, BatchLine
from evergreen.queue import claims
from evergreen.storage import batch_spool
from evergreen.storage.vector_cache import Resolved
from evergreen.worker.result import BatchResult

MAX_BYTES = 32 * 1024 * 1024  # of a file, which is in memory while it is uploaded
MAX_TEXTS = 50_000


class Spooling:
    """The texts of one claim that are, or will be, in a batch; ``waits``: the batch that a row waits for, by key."""

    def __init__(self, claim: Claim, *, adds: bool) -> None:
        """``adds``: a worker adds texts to batches; a drain only waits for those that are in one."""
        self._claim = claim
        self._api = api_of(claim.pipeline, claim.generation) if adds and claim.lane == Lane.BACKFILL else None
        self._added: dict[str, list[bytes]] = {}  # texts to add, by row
        self._texts: Texts = {}
        self.waits: dict[str, Awaited] = {}
        self.foreign: set[bytes] = set()  # texts of rows for a batch that other owners' pipelines have
        self.shared = 0  # texts that a batch has already

    def sort(self, documents: list[Document], found: Resolved) -> Texts:
        """Return the texts to send by requests; remember the others."""
        if not (self._api or found.in_batch):
            return found.send
        now: set[bytes] = set()
        candidates: dict[str, list[bytes]] = {}
        for document in documents:
            missing = [text_hash for text_hash, _ in document.chunks if text_hash in found.send]
            job = self._claim.jobs[document.key]
            if not missing:
                continue
            if job.unserved_since is not None:
                now.update(missing)
                continue
            if awaited := [found.in_batch[text_hash] for text_hash in missing if text_hash in found.in_batch]:
                self.waits[document.key] = max(awaited, key=lambda one: one.batch)
            new = [text_hash for text_hash in missing if text_hash not in found.in_batch]
            if new and self._may_add(job, new, found.send):
                candidates[document.key] = new
            else:
                now.update(new)
        self._keep(candidates, now, found)
        if candidates and not self._added:
            now.update(text_hash for new in candidates.values() for text_hash in new)
        self.foreign = {
            text_hash
            for document in documents
            if document.key in self._added
            for text_hash, _ in document.chunks
            if text_hash in found.foreign
        }
        self.shared = sum(text_hash not in now for text_hash in found.in_batch)
        send = {text_hash: text for text_hash, text in found.send.items() if text_hash in now}
        self._count_twice(found, send)
        return send

    def _may_add(self, job: Job, new: list[bytes], texts: Texts) -> bool:
        """Return whether a row's texts fit into a batch, and none had them before."""
        if self._api is None or job.batch is not None:
            return False
        size = 4 * sum(len(texts[text_hash]) for text_hash in new)
        return len(new) <= _most_texts(self._api) and size <= _most_bytes(self._api) // 2

    def _keep(self, candidates: dict[str, list[bytes]], now: set[bytes], found: Resolved) -> None:
        """Keep the texts to add, if enough of them wait."""
        texts = {text_hash for new in candidates.values() for text_hash in new} - now
        if texts and self._is_worth_it(len(texts)):
            self._added = candidates
            self._texts = {text_hash: found.send[text_hash] for text_hash in texts}

    def _is_worth_it(self, count: int) -> bool:
        """Return whether enough texts wait: these, those in the batch, and as many of each row to come as of these."""
        claim = self._claim
        least = int(options.effective(claim.pipeline.options, "batch_min_texts"))
        texts, rows, was_refused = batch_spool.waiting(claim.generation, least)
        return not was_refused and count + texts + rows * count / max(1, len(claim.jobs)) >= least

    def _count_twice(self, found: Resolved, send: Texts) -> None:
        """Log texts of live rows that are in a batch: they are paid for twice, because a live row does not wait."""
        twice = sum(text_hash in found.in_batch for text_hash in send)
        if twice:
            event_log.info("batch_text_sent_twice", pipeline=self._claim.pipeline.name, texts=twice)

    def brought(self, documents: list[Document], found: Resolved) -> set[bytes]:
        """Return the known texts of rows that waited for a batch."""
        return {
            text_hash
            for document in documents
            if self._claim.jobs[document.key].batch is not None
            for text_hash, _ in document.chunks
            if text_hash in found.known
        }

    def add(self, result: BatchResult) -> None:
        """Add the texts of rows that are not complete to a batch."""
        api, failed = self._api, result.prepared.failures
        if api is None or not self._added:
            return
        given = {key: hashes for key, hashes in self._added.items() if key not in failed}
        rows = {key: kept for key, hashes in given.items() if (kept := [h for h in hashes if h in self._texts])}
        if rows:
            self.waits.update(_Filling(self._claim, api).add(rows, self._texts, len(self.foreign)))


class _Filling:
    """Adds rows to the batch that takes texts, and to the next one when it is full."""

    def __init__(self, claim: Claim, api: BatchApi) -> None:
        self._claim = claim
        self._api = api
        self._prompt = str(claim.generation.model.options.get("document_prompt", ""))
        self._new: list[SpooledText] = []
        self._rows = 0
        self._waits: dict[str, Awaited] = {}
        self._open()

    def _open(self) -> None:
        deadline = str(options.effective(self._claim.pipeline.options, "batch_deadline"))
        row = batch_spool.lock_open(self._claim.generation, deadline)
        if row["epoch"] != self._claim.generation.model.served.epoch:
            batch_spool.give_up(row["id"], "failed", "the model changed")
            claims.wake_batch(row["id"])
            row = batch_spool.lock_open(self._claim.generation, deadline)
        self._batch = Awaited(row["id"], row["deadline"])
        self._texts, self._bytes = int(row["texts"]), int(row["bytes"])

    def add(self, rows: dict[str, list[bytes]], texts: Texts, spared: int) -> dict[str, Awaited]:
        """Add the texts of rows, each text once; return the batch that each row waits for."""
        placed: dict[bytes, Awaited] = {}
        for key, hashes in rows.items():
            new = [self._spooled(text_hash, texts[text_hash], key) for text_hash in hashes if text_hash not in placed]
            size = sum(one.size for one in new)
            if self._texts + len(new) > _most_texts(self._api) or self._bytes + size > _most_bytes(self._api):
                self._flush(0)
                batch_spool.set_full(self._batch.batch)
                self._open()
            self._new += new
            self._texts += len(new)
            self._bytes += size
            self._rows += 1
            placed |= dict.fromkeys((one.hash for one in new), self._batch)
            self._waits[key] = max((placed[h] for h in hashes), key=lambda one: one.batch)
        self._flush(spared)
        return self._waits

    def _flush(self, spared: int) -> None:
        batch_spool.add(self._batch.batch, self._claim.generation.model.id, self._new, self._rows, spared)
        self._new, self._rows = [], 0

    def _spooled(self, text_hash: bytes, text: str, key: str) -> SpooledText:
        line = self._api.line(self._claim.generation.model, BatchLine(text_hash.hex(), self._prompt + text))
        return SpooledText(text_hash, text, tokens.estimate_tokens(text), len(line), key)


def _most_texts(api: BatchApi) -> int:
    return min(api.max_requests, api.max_inputs, MAX_TEXTS)


def _most_bytes(api: BatchApi) -> int:
    return min(api.max_bytes, MAX_BYTES)
