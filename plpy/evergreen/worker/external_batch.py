"""One claim of embed_claim: finish the rows that need no model, and return the texts of the others."""

from collections.abc import Callable

from evergreen import db
from evergreen.core.document import Document
from evergreen.core.embedding import Texts
from evergreen.core.errors import ModelError, RejectedError
from evergreen.core.job import Claim
from evergreen.core.text import estimate_tokens
from evergreen.db.queries import load
from evergreen.embedding.limits import budget as budgets
from evergreen.embedding.providers.registry import provider
from evergreen.prepare.documents import prepare
from evergreen.storage import vector_cache
from evergreen.storage.usage import Alone, Saved
from evergreen.storage.vector_cache import Resolved
from evergreen.worker.apply import budget, finish
from evergreen.worker.claimed_texts import ExternalClaim, close
from evergreen.worker.result import BatchResult, Cost, Deferral
from evergreen.worker.retry import IN_FLIGHT_RETRY_S

SQL = load(__package__)
#: token, key, chunk_no, text, hash, model, model_revision
ClaimedText = tuple[int, str, int, str, bytes, str, int]


class ClaimedBatch:
    """A claim whose rows are finished, released, or returned to the caller as texts."""

    def __init__(self, claim: Claim) -> None:
        self._claim = claim
        self._result = BatchResult(claim, prepare(claim.pipeline, claim.generation, [*claim.jobs]))

    def texts(self) -> list[ClaimedText]:
        """Finish the rows that need no model, and return the texts that do."""
        claim, result = self._claim, self._result
        self._defer(result.prepared.unread, 0.0)
        chunks = [(text_hash, text) for d in result.prepared.documents for text_hash, text in d.chunks]
        needed = dict(chunks)
        # Outside compute is never free, whatever the provider: no text is claimed twice.
        found = vector_cache.resolve(claim.generation, needed, claim.token, [], free=False)
        result.vectors.update(found.known)
        documents = self._charge(self._skip_in_flight(found.elsewhere), found.send)
        claimed = self._rows(documents, found.send)
        kept = {row[4] for row in claimed}
        result.marked.update(text_hash for text_hash in found.send if text_hash not in kept)
        self._count(found, len(chunks) - len(needed))
        finish(result, ends_claim=False)
        self._record(documents, kept)
        return claimed

    def _count(self, found: Resolved, repeated: int) -> None:
        """Count the texts that need no call."""
        model = self._claim.generation.model
        saved = Saved(self._result.prepared.unchanged, len(found.known), repeated)
        alone = Alone(by_cache=len(found.known) - len(found.foreign), by_dedupe=repeated)
        alone.spare(found.foreign, found.send, provider(model.provider).limits(model))
        self._result.cost = Cost(saved=saved, alone=alone)

    def _defer(self, keys: list[str], delay: float) -> None:
        self._result.deferred.update(dict.fromkeys(keys, Deferral(delay)))

    def _skip_in_flight(self, elsewhere: Texts) -> list[Document]:
        """Release rows with a text in flight elsewhere; return the other documents that need a model."""
        waiting = [d for d in self._result.prepared.documents if not self._result.complete(d)]
        busy = [d.key for d in waiting if any(text_hash in elsewhere for text_hash, _ in d.chunks)]
        self._defer(busy, IN_FLIGHT_RETRY_S)
        return [d for d in waiting if d.key not in self._result.deferred]

    def _charge(self, documents: list[Document], send: Texts) -> list[Document]:
        """Charge the texts to the daily budget; release the rows that it cannot cover."""
        limits, model = budget(self._claim.pipeline), self._claim.generation.model
        texts = {text_hash: text for d in documents for text_hash, text in d.chunks if text_hash in send}
        paid, refused = _charge_each(texts, lambda estimates: budgets.charge(limits, model, estimates))
        for document in documents:
            error = next((refused[text_hash] for text_hash, _ in document.chunks if text_hash in refused), None)
            if error is not None:
                self._result.prepared.failures[document.key] = error
        affordable = [
            d for d in documents if all(text_hash in paid or text_hash not in send for text_hash, _ in d.chunks)
        ]
        kept = {text_hash for d in affordable for text_hash, _ in d.chunks}
        budgets.adjust(
            limits, model, -sum(estimate_tokens(texts[text_hash]) for text_hash in paid if text_hash not in kept)
        )
        settled = {d.key for d in affordable} | self._result.prepared.failures.keys()
        self._defer([d.key for d in documents if d.key not in settled], IN_FLIGHT_RETRY_S)
        return affordable

    def _rows(self, documents: list[Document], send: Texts) -> list[ClaimedText]:
        claim, seen = self._claim, set[bytes]()
        model = claim.generation.model
        prompt = str(model.options.get("document_prompt", ""))
        rows: list[ClaimedText] = []
        for document in documents:
            for number, (text_hash, text) in enumerate(document.chunks):
                if text_hash in send and text_hash not in seen:
                    seen.add(text_hash)
                    rows.append(
                        (claim.token, document.key, number, prompt + text, text_hash, model.name, model.revision)
                    )
        return rows

    def _record(self, documents: list[Document], claimed: set[bytes]) -> None:
        """Record which rows need which text, and which rows were locked by others and could not be finished."""
        claim = self._claim
        rows = {(h, d.key): estimate_tokens(text) for d in documents for h, text in d.chunks if h in claimed}
        if self._result.lost:
            named = {key for _, key in rows}
            left = db.rows(SQL.keys_still_claimed, claim.generation.id, [*claim.jobs], claim.token)
            rows.update({(b"", row["key"]): 0 for row in left if row["key"] not in named})
        if rows:
            hashes, keys = zip(*rows, strict=True)
            db.run(SQL.insert_claimed_texts, claim.token, [*hashes], [*keys], [*rows.values()])
        if not claimed:
            close(ExternalClaim(claim.token, claim.pipeline, claim.generation))


def _charge_each(texts: Texts, charge: Callable[[list[int]], int]) -> tuple[set[bytes], dict[bytes, ModelError]]:
    """Return the texts that are charged, and those that exceed a whole day's budget."""
    paid: set[bytes] = set()
    refused: dict[bytes, ModelError] = {}
    left = [(text_hash, estimate_tokens(text)) for text_hash, text in texts.items()]
    while left:
        try:
            count = charge([tokens for _, tokens in left])
        except RejectedError as error:
            refused[left.pop(0)[0]] = error
            continue
        if not count:
            break
        paid.update(text_hash for text_hash, _ in left[:count])
        left = left[count:]
    return paid, refused
