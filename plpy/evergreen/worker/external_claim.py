"""embed_claim: rows for compute outside the database; only texts that need a model come out, the rest is done here."""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from evergreen import db
from evergreen.capture import ddl_sync
from evergreen.catalog import maintenance, models, options, pipelines
from evergreen.catalog.maintenance import Task
from evergreen.core.document import Document
from evergreen.core.embedding import Texts
from evergreen.core.errors import ModelError, RejectedError, UserError
from evergreen.core.job import BACKFILL, LIVE, Claim
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.core.text import estimate_tokens, quoted
from evergreen.db import privileges, statement_timeout, timeouts
from evergreen.db.locks import with_lock_timeout
from evergreen.db.privileges import as_extension_owner, sql_entry
from evergreen.db.queries import load
from evergreen.embedding.limits import budget as budgets
from evergreen.embedding.limits import state
from evergreen.embedding.providers.registry import provider
from evergreen.prepare.documents import prepare
from evergreen.queue import change_log, claims
from evergreen.queue.backfill import InTransactionCursors
from evergreen.queue.scan_start import ScanStart
from evergreen.storage import vector_cache
from evergreen.storage.usage import Alone, Saved
from evergreen.storage.vector_cache import Resolved
from evergreen.worker.apply import budget, finish
from evergreen.worker.maintenance import leftovers
from evergreen.worker.policies import not_reentrant
from evergreen.worker.result import BatchResult, Cost, Wait

SQL = load(__package__)
_MOST_ROWS = 10_000
_LONGEST_LEASE = 86_400.0
_RUNTIME = 10.0  # seconds in which rows that need no model are done, before the caller hears that nothing came out
_READ_TIMEOUT_S = 5.0  # seconds to wait for the source to be read
_POSTPONED = 0.2
_FOLDED = 5000  # log rows at once, however few are claimed: what is one bulk change is seen by its number of rows
#: token, key, chunk_no, text, hash, model
ClaimedText = tuple[int, str, int, str, bytes, str]
_LOCK_TIMEOUT = "5s"  # for another call with the same token
_SHOWN = 16


@sql_entry
def embed_claim(
    pipeline: str | None, max_rows: int | None, lease: str | None, for_model: str | None
) -> list[ClaimedText]:
    """Claim up to ``max_rows`` rows and return their texts; raises 25001, 22023, 42704, 55000."""
    privileges.check_isolation("embed_claim")
    if max_rows is None or not 1 <= max_rows <= _MOST_ROWS:
        raise UserError(
            f"max_rows must be from 1 to {_MOST_ROWS}, not {quoted(max_rows)}", hint="A batch of your model, or some."
        )
    options.seconds_of("lease", lease, 0.001, _LONGEST_LEASE, "'5 min'")

    def claim() -> list[ClaimedText]:
        found = pipelines.named(pipeline)
        if for_model is not None:
            models.by_name(for_model)
        with db.planning.by_index():
            return ClaimCall(found, max_rows, str(lease), for_model).in_time()

    with not_reentrant("embed_claim"):
        return as_extension_owner(claim)


class ClaimCall:
    """One call of embed_claim; as a drain, it locks nothing that workers share, however long its transaction lasts."""

    def __init__(self, pipeline: Pipeline, max_rows: int, lease: str, for_model: str | None) -> None:
        self._pipeline = pipeline
        self._max_rows = max_rows
        self._lease = lease
        self._for_model = for_model
        self._cursors = InTransactionCursors()
        allowed = statement_timeout.left()
        self._deadline = time.monotonic() + min(_RUNTIME, allowed / 2)
        self._read_timeout = min(_READ_TIMEOUT_S, max(0.0, allowed) / 4)

    def in_time(self) -> list[ClaimedText]:
        """Return the texts of one claim, or none; leave a source alone whose reading takes too long."""
        timeouts.take_timeout()
        with timeouts.time_limit(self._read_timeout):
            return self._run()

    def _run(self) -> list[ClaimedText]:
        maintenance.in_transaction([Task("counters", state.create_all)])
        followed = self._look()
        if followed is None:
            return []
        self._pipeline = followed
        change_log.coalesce_in_transaction(followed, max(self._max_rows, _FOLDED))
        texts: list[ClaimedText] = []
        for generation in self._in_turn():
            texts = self._unless_gone(generation)
            if texts:
                break
        self._cursors.settle()
        maintenance.in_transaction(leftovers())
        return texts

    def _look(self) -> Pipeline | None:
        """Return the pipeline as it is now, if there may be something to do: who polls leaves no dead rows behind."""
        number = self._pipeline.id
        if not claims.may_have_work(number):
            return None
        found = pipelines.by_id(number)
        return ddl_sync.ready(found) if found is not None and found.state == "active" else None

    def _in_turn(self) -> Iterator[Generation]:
        """The active generation first, and now and then last, so that one that is being built gets its share."""
        every = [g for g in self._pipeline.generations if self._for_model in {None, g.model.name}]
        first = random.random() < self._live_share  # noqa: S311 - not for secrets
        yield from every if first else every[1:] + every[:1]

    @property
    def _live_share(self) -> float:
        return float(options.effective(self._pipeline.options, "live_share"))

    def _unless_gone(self, generation: Generation) -> list[ClaimedText]:
        """As ``_of``; nothing of a generation that is retired or locked meanwhile."""
        cursors = self._cursors.savepoint()
        try:
            return db.atomically(lambda: self._of(generation))
        except db.DatabaseError as error:
            self._cursors.go_back(cursors)
            if db.sqlstate(error) == "55P03":
                db.warning(
                    f'generation {generation.id} of pipeline "{self._pipeline.name}" is locked; nothing is claimed',
                    hint="Claim again later; pg_locks shows which session has embed_store locked.",
                )
            elif db.sqlstate(error) != "42P01" or db.value(SQL.is_there, generation.id):
                raise
            return []

    def _of(self, generation: Generation) -> list[ClaimedText]:
        """Claim until some text has to be handed out; what needs no model is done on the way."""
        self._cursors.begin(generation.id)
        while time.monotonic() < self._deadline and not budgets.wait(budget(self._pipeline)):
            claim = self._claim(generation)
            if claim is None:
                return []
            texts = _ClaimedBatch(claim).texts()
            if texts or timeouts.take_timeout():
                return texts
        return []

    def _claim(self, generation: Generation) -> Claim | None:
        claim = claims.start(self._pipeline, generation, LIVE, leased=True)
        dead = claims.abandoned_tokens(claim, [])
        db.run(SQL.put_lease, claim.token, generation.id, self._lease)
        live = max(1, int(self._max_rows * self._live_share))
        for lane, limit in ((LIVE, live), (BACKFILL, self._max_rows), (LIVE, self._max_rows)):
            if room := min(limit, self._max_rows - len(claim.jobs)):
                claims.fill(claim, lane, room, dead, self._cursors, ScanStart())
        self._cursors.note(claim)
        if claim.jobs:
            return claim
        claims.delete_lease(claim)
        return None


class _ClaimedBatch:
    """A claim being sorted: into what is done, what is put back, and what is handed out."""

    def __init__(self, claim: Claim) -> None:
        self._claim = claim
        self._result = BatchResult(claim, prepare(claim.pipeline, claim.generation, [*claim.jobs]))

    def texts(self) -> list[ClaimedText]:
        """Do what needs no model, and return the texts that do."""
        claim, result = self._claim, self._result
        self._put_back(result.prepared.unread, 0.0)
        chunks = [(key, text) for d in result.prepared.documents for key, text in d.chunks]
        needed = dict(chunks)
        # Whatever the provider: outside nothing is free, so no text is handed out twice.
        found = vector_cache.resolve(claim.generation, needed, claim.token, [], free=False)
        result.vectors.update(found.known)
        documents = self._paid(self._not_elsewhere(found.elsewhere), found.send)
        handed = self._rows(documents, found.send)
        kept = {row[4] for row in handed}
        result.marked.update(key for key in found.send if key not in kept)
        self._count(found, len(chunks) - len(needed))
        finish(result, ends_claim=False)
        self._remember(documents, kept)
        return handed

    def _count(self, found: Resolved, repeated: int) -> None:
        """Count the texts that need no call."""
        model = self._claim.generation.model
        saved = Saved(self._result.prepared.unchanged, len(found.known), repeated)
        alone = Alone(by_cache=len(found.known) - len(found.foreign), by_dedupe=repeated)
        alone.spare(found.foreign, found.send, provider(model.provider).limits(model))
        self._result.cost = Cost(saved=saved, alone=alone)

    def _put_back(self, keys: list[str], delay: float) -> None:
        self._result.waiting.update(dict.fromkeys(keys, Wait(delay)))

    def _not_elsewhere(self, elsewhere: Texts) -> list[Document]:
        """Put back the rows with a text that somebody else is embedding; return the others that need a model."""
        waiting = [d for d in self._result.prepared.documents if not self._result.complete(d)]
        busy = [d.key for d in waiting if any(key in elsewhere for key, _ in d.chunks)]
        self._put_back(busy, _POSTPONED)
        return [d for d in waiting if d.key not in self._result.waiting]

    def _paid(self, documents: list[Document], send: Texts) -> list[Document]:
        """Take what the texts cost out of the daily budget; put back the rows for which there is not enough."""
        spender, model = budget(self._claim.pipeline), self._claim.generation.model
        texts = {key: text for d in documents for key, text in d.chunks if key in send}
        paid, refused = _take(texts, lambda estimates: budgets.charge(spender, model, estimates))
        for document in documents:
            error = next((refused[key] for key, _ in document.chunks if key in refused), None)
            if error is not None:
                self._result.prepared.failures[document.key] = error
        mine = [d for d in documents if all(key in paid or key not in send for key, _ in d.chunks)]
        kept = {key for d in mine for key, _ in d.chunks}
        budgets.adjust(spender, model, -sum(estimate_tokens(texts[key]) for key in paid if key not in kept))
        settled = {d.key for d in mine} | self._result.prepared.failures.keys()
        self._put_back([d.key for d in documents if d.key not in settled], _POSTPONED)
        return mine

    def _rows(self, documents: list[Document], send: Texts) -> list[ClaimedText]:
        claim, seen = self._claim, set[bytes]()
        prompt = str(claim.generation.model.options.get("document_prompt", ""))
        rows: list[ClaimedText] = []
        for document in documents:
            for number, (key, text) in enumerate(document.chunks):
                if key in send and key not in seen:
                    seen.add(key)
                    rows.append((claim.token, document.key, number, prompt + text, key, claim.generation.model.name))
        return rows

    def _remember(self, documents: list[Document], handed: set[bytes]) -> None:
        """Write down which rows need which text, and which rows others had locked when they were to be finished."""
        claim = self._claim
        rows = {(h, d.key): estimate_tokens(text) for d in documents for h, text in d.chunks if h in handed}
        if self._result.lost:
            named = {key for _, key in rows}
            left = db.rows(SQL.left_of, claim.generation.id, [*claim.jobs], claim.token)
            rows.update({(b"", row["key"]): 0 for row in left if row["key"] not in named})
        if rows:
            hashes, keys = zip(*rows, strict=True)
            db.run(SQL.hand, claim.token, [*hashes], [*keys], [*rows.values()])
        if not handed:
            close(ExternalClaim(claim.token, claim.pipeline, claim.generation))


def _take(texts: Texts, take: Callable[[list[int]], int]) -> tuple[set[bytes], dict[bytes, ModelError]]:
    """Return the texts that are paid for, and those that no day could pay for."""
    paid: set[bytes] = set()
    refused: dict[bytes, ModelError] = {}
    left = [(key, estimate_tokens(text)) for key, text in texts.items()]
    while left:
        try:
            count = take([tokens for _, tokens in left])
        except RejectedError as error:
            refused[left.pop(0)[0]] = error
            continue
        if not count:
            break
        paid.update(key for key, _ in left[:count])
        left = left[count:]
    return paid, refused


@dataclass(frozen=True)
class ExternalClaim:
    """A claim that embed_claim made."""

    token: int
    pipeline: Pipeline
    generation: Generation
    is_old: bool = False  # a third of the lease is over


@dataclass(frozen=True)
class Text:
    """A text that was handed out: the rows that need it, its tokens, and whether its vector came."""

    keys: tuple[str, ...]
    tokens: int
    received: bool


def find(pipeline: Pipeline, token: int | None) -> ExternalClaim | None:
    """Find a claim and keep other calls for it away; None, with a NOTICE, when it is over and nothing of it is left.

    Raises UserError 42704, 22023, 55P03.
    """
    # One at a time: each of two calls that bring half of a document would miss the other half.
    rows = with_lock_timeout(lambda: db.rows(SQL.hold_lease, token), _LOCK_TIMEOUT)
    if rows is None:
        raise UserError(
            f"claim {token} is in use by another session", "55P03", hint="Try again when its transaction is over."
        )
    if rows and rows[0]["is_outside"]:
        return _of(pipeline, token, rows[0])
    if not rows and db.value(SQL.was_issued, token):
        db.notice(f"claim {token} is over and nothing of it is left to do")
        return None
    raise UserError(
        f"there is no claim {'NULL' if token is None else token}",
        "42704",
        hint="Pass the token that embed_claim returned with the texts.",
    )


def _of(pipeline: Pipeline, token: int | None, row: db.Row) -> ExternalClaim | None:
    generation = next((g for g in pipeline.generations if g.id == row["generation"]), None)
    if generation is None and not db.value(SQL.is_there, row["generation"]):  # it went while the claim was made
        db.notice(f"claim {token} is over: the generation that it is of was retired")
        return None
    if generation is None or token is None:
        raise UserError(
            f'claim {token} is not of pipeline "{pipeline.name}"', hint="Name the pipeline that it was claimed from."
        )
    return ExternalClaim(token, pipeline, generation, bool(row["is_old"]))


def texts(claim: ExternalClaim, hashes: list[bytes]) -> dict[bytes, Text]:
    """Return what was handed out under these hashes; raises 22023 for one that was not."""
    found = {row["hash"]: Text(tuple(row["keys"]), row["tokens"], row["received"]) for row in _rows(claim, hashes)}
    strange = [one for one in hashes if one not in found]
    if strange:
        raise UserError(
            f"{len(strange)} of {len(hashes)} hashes were not handed out by claim {claim.token}, among them"
            f" \\x{strange[0].hex()[:_SHOWN]}…",
            hint="Pass hashes as embed_claim returned them with this token.",
        )
    return found


def _rows(claim: ExternalClaim, hashes: list[bytes]) -> list[db.Row]:
    return db.rows(SQL.texts, claim.token, hashes)


def open_texts(claim: ExternalClaim) -> dict[bytes, Text]:
    """Return the texts whose vectors did not come yet."""
    return {
        row["hash"]: Text(tuple(row["keys"]), row["tokens"], received=False) for row in db.rows(SQL.open, claim.token)
    }


def close(claim: ExternalClaim) -> None:
    """End a claim if nothing of it is open; rows that it still has are free for others at once."""
    if not db.value(SQL.is_open, claim.token):
        db.run(SQL.expire if db.value(SQL.has_jobs, claim.token, claim.generation.id) else SQL.drop, claim.token)
