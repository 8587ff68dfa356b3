"""embed_claim: texts for compute outside the database; rows that need no model are finished here."""

import random
import time
from collections.abc import Iterator

from evergreen import db
from evergreen.catalog import maintenance, models, options, pipelines
from evergreen.catalog.maintenance import Task
from evergreen.core.errors import UserError
from evergreen.core.job import Claim, ClaimRequest, Lane
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.core.text import quoted
from evergreen.db import privileges, statement_timeout, timeouts
from evergreen.db.errors import is_lock_unavailable, is_undefined_table
from evergreen.db.privileges import as_extension_owner, sql_entry
from evergreen.db.queries import load
from evergreen.embedding.limits import budget as budgets
from evergreen.embedding.limits import state
from evergreen.queue import claims
from evergreen.queue.scan_start import ScanStart
from evergreen.worker import lost_claims, model_change
from evergreen.worker.apply import budget
from evergreen.worker.commit_policy import InCallersTransaction
from evergreen.worker.engine import look
from evergreen.worker.external_batch import ClaimedBatch, ClaimedText
from evergreen.worker.maintenance import leftovers
from evergreen.worker.reentrancy import not_reentrant

SQL = load(__package__)
_MAX_ROWS = 10_000
_MAX_LEASE_S = 86_400.0
_RUNTIME_S = 10.0  # seconds to finish rows that need no model before an empty result is returned
_READ_TIMEOUT_S = 5.0  # seconds to wait for the source to be read
_MIN_LOG_ROWS = 5000  # log rows to coalesce even for a small claim: bulk changes are detected by their row count


@sql_entry
def embed_claim(
    pipeline: str | None, max_rows: int | None, lease: str | None, for_model: str | None
) -> list[ClaimedText]:
    """Claim up to ``max_rows`` rows and return their texts; raises 25001, 22023, 42704, 55000."""
    privileges.check_isolation("embed_claim")
    if max_rows is None or not 1 <= max_rows <= _MAX_ROWS:
        raise UserError(
            f"max_rows must be from 1 to {_MAX_ROWS}, not {quoted(max_rows)}",
            hint="Use a multiple of your model's batch size.",
        )
    options.seconds_of("lease", lease, 0.001, _MAX_LEASE_S, "'5 min'")

    def claim() -> list[ClaimedText]:
        found = pipelines.named(pipeline)
        if for_model is not None:
            models.by_name(for_model)
        with db.planning.prefer_indexes():
            return ClaimCall(found, max_rows, str(lease), for_model).run()

    with not_reentrant("embed_claim"):
        return as_extension_owner(claim)


class ExternalPolicy(InCallersTransaction):
    """The policy of embed_claim: polling leaves no dead rows, and a claim is a lease for the caller's interval."""

    def __init__(self, lease: str) -> None:
        super().__init__()
        self._lease = lease

    def may_have_work(self, pipeline_id: int) -> bool:
        """Return whether the pipeline may have work."""
        return claims.may_have_work(pipeline_id)

    def coalesce(self, pipeline: Pipeline, rows: int) -> None:
        """Coalesce the log."""
        super().coalesce(pipeline, max(rows, _MIN_LOG_ROWS))

    def take(self, wanted: ClaimRequest, own_tokens: list[int]) -> Claim | None:
        """Claim keys of all lanes, ``wanted.limit`` in all."""
        claim = claims.start(wanted.pipeline, wanted.generation, wanted.lane, leased=True)
        abandoned = claims.abandoned_tokens(claim, own_tokens)
        if abandoned:
            lost_claims.count(wanted.pipeline, wanted.generation)
        # First: embed.lease_end() reads the interval there, for the jobs of this claim.
        db.run(
            SQL.insert_external_lease,
            claim.token,
            wanted.generation.id,
            self._lease,
            wanted.generation.model.served.epoch,
        )
        for lane, limit in claims.lanes(wanted.pipeline, wanted.limit):
            if room := min(limit, wanted.limit - len(claim.jobs)):
                claims.fill(claim, lane, room, abandoned, self.cursors, ScanStart())
        if claim.jobs:
            lost_claims.release_surplus(claim)
            return claim
        claims.delete_lease(claim)
        return None


class ClaimCall:
    """One call of embed_claim; like a drain, it locks nothing that workers share, even in a long transaction."""

    def __init__(self, pipeline: Pipeline, max_rows: int, lease: str, for_model: str | None) -> None:
        self._pipeline = pipeline
        self._max_rows = max_rows
        self._for_model = for_model
        self._policy = ExternalPolicy(lease)
        allowed = statement_timeout.left()
        self._deadline = time.monotonic() + min(_RUNTIME_S, allowed / 2)
        self._read_timeout = min(_READ_TIMEOUT_S, max(0.0, allowed) / 4)

    def run(self) -> list[ClaimedText]:
        """Return the texts of one claim, or none; stop when reading the source takes too long."""
        timeouts.take_timeout()
        with timeouts.time_limit(self._read_timeout):
            return self._run()

    def _run(self) -> list[ClaimedText]:
        maintenance.in_transaction([Task("counters", state.create_all)])
        current = look(self._policy, self._pipeline.id, self._max_rows)
        if current is None:
            return []
        self._pipeline = current
        texts: list[ClaimedText] = []
        for generation in self._generations():
            texts = self._claim_unless_locked(generation)
            if texts:
                break
        self._policy.cursors.settle()
        maintenance.in_transaction(leftovers())
        return texts

    def _generations(self) -> Iterator[Generation]:
        """Yield the active generation first, but sometimes last, so that one being built gets its share."""
        every = [
            g for g in self._pipeline.generations if self._for_model in {None, g.model.name} and self._is_served(g)
        ]
        share = float(options.effective(self._pipeline.options, "live_share"))
        first = random.random() < share  # noqa: S311 - not for secrets
        yield from every if first else every[1:] + every[:1]

    def _is_served(self, generation: Generation) -> bool:
        """Return whether a generation's model is served, with a WARNING if it changed."""
        if (changed := model_change.stopped(self._pipeline, generation)) is None:
            return True
        name = self._pipeline.name
        db.warning(
            f'pipeline "{name}": nothing is claimed for generation {generation.id}: {changed.reason}',
            hint=f"SELECT embed_build({db.literal(name)}); embeds it with what is served now.",
        )
        return False

    def _claim_unless_locked(self, generation: Generation) -> list[ClaimedText]:
        """Return ``_claim_texts``, or nothing if the generation is retired or locked meanwhile."""
        try:
            return self._policy.atomically(lambda: self._claim_texts(generation))
        except db.DatabaseError as error:
            if is_lock_unavailable(error):
                db.warning(
                    f'generation {generation.id} of pipeline "{self._pipeline.name}" is locked; nothing is claimed',
                    hint="Claim again later; pg_locks shows which session has embed_store locked.",
                )
            elif not is_undefined_table(error) or db.value(SQL.generation_exists, generation.id):
                raise
            return []

    def _claim_texts(self, generation: Generation) -> list[ClaimedText]:
        """Claim until a text needs a model; rows that need none are finished on the way."""
        wanted = ClaimRequest(self._pipeline, generation, Lane.LIVE, self._max_rows)
        while time.monotonic() < self._deadline and not budgets.wait(budget(self._pipeline)):
            claim = self._policy.claim(wanted, [])
            if claim is None:
                return []
            if not model_change.is_current(claim):
                claims.release_jobs(claim, [*claim.jobs])
                claims.delete_lease(claim)
                return []
            texts = ClaimedBatch(claim).texts()
            if texts or timeouts.take_timeout():
                return texts
        return []
