"""One claim on its way: prepared, sorted, embedded; the drain and the worker differ only in when they commit."""

from collections.abc import Callable

from evergreen.apply import reuse
from evergreen.apply.vectors import Known
from evergreen.apply.write import Result
from evergreen.errors import ModelError
from evergreen.model import dispatch
from evergreen.model.dispatch import Texts
from evergreen.model.registry import provider
from evergreen.prepare.documents import Document, prepare
from evergreen.schedule import claim as claims
from evergreen.schedule.claim import Claim


class Batch:
    """The texts of a claim and what is known of them."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.result: Result
        self.prepared = False
        self.send: Texts = {}
        self.elsewhere: Texts = {}
        self._marked: set[bytes] = set()
        self._provider = provider(claim.generation.model.provider)

    @property
    def free(self) -> bool:
        """True when the model costs nothing."""
        return self._provider.free

    @property
    def needs_sql(self) -> bool:
        """True when the model is called through SQL, that is inside a transaction."""
        return self._provider.sql

    def prepare(self) -> None:
        """Read the rows and cut their texts; give back what there is no room for."""
        prepared = prepare(self.claim.pipeline, self.claim.generation, [*self.claim.jobs])
        claims.put_back(self.claim, prepared.unread)
        self.result = Result(self.claim, prepared)
        self.prepared = True

    def sort(self, memory: dict[bytes, Known], own_tokens: list[int]) -> None:
        """Find out which texts need a call. ``memory``: vectors that this drain got already and did not write yet."""
        needed: Texts = {key: text for d in self.result.prepared.documents for key, text in d.chunks}
        self.result.vectors.update({key: memory[key] for key in needed if key in memory})
        self._sort({key: text for key, text in needed.items() if key not in memory}, own_tokens)

    def sort_again(self, own_tokens: list[int]) -> None:
        """Look once more at what was in flight elsewhere."""
        self._sort(self.elsewhere, own_tokens)

    def _sort(self, texts: Texts, own_tokens: list[int]) -> None:
        found = reuse.sort(self.claim.generation, texts, self.claim.token, own_tokens, free=self.free)
        self.result.vectors.update(found.known)
        self.send, self.elsewhere = found.send, found.elsewhere
        self._marked.update(found.send)

    def embed(self, breathe: Callable[[], None]) -> None:
        """Call the model for what is to be sent."""
        if not self.send:
            return
        outcome = dispatch.embed(self._provider, self.claim.generation.model, self.send, "document", breathe)
        self.send = {}
        self.result.vectors.update(outcome.vectors)
        self.result.sent.update(outcome.vectors)
        for document in self.result.prepared.documents:
            error = _first_error(document, outcome.failures)
            if error is not None:
                self.result.prepared.failures[document.key] = error

    def postpone(self, seconds: float) -> None:
        """Give back the keys with a text that is still in flight elsewhere, for some seconds."""
        failed = self.result.prepared.failures
        keys = [
            d.key
            for d in self.result.prepared.documents
            if d.key not in failed and any(key in self.elsewhere for key, _ in d.chunks)
        ]
        claims.put_back(self.claim, keys, seconds)
        self.result.postponed.update(keys)

    def land(self) -> None:
        """Take every text that was marked out of flight."""
        if not self.free:
            reuse.land(self.claim.generation, [*self._marked], self.claim.token)


def _first_error(document: Document, failures: dict[bytes, ModelError]) -> ModelError | None:
    return next((failures[key] for key, _ in document.chunks if key in failures), None)
