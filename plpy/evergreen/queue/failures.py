"""Failed keys: retried later, or dead letters."""

import random
from collections import Counter

from evergreen import db
from evergreen.catalog import options
from evergreen.core.errors import CircuitOpenError, ModelError, RejectedError, RetryableError, SuspectError
from evergreen.core.job import Claim, Job
from evergreen.core.pipeline import Pipeline
from evergreen.core.retry import backoff
from evergreen.db import event_log
from evergreen.db.arrays import columns
from evergreen.db.queries import load
from evergreen.queue.claims import finish_or_requeue

SQL = load(__package__, "failures")
_BLAMELESS_RETRY_S = 5.0  # seconds, while no row is to blame
_MAX_RETRY_S = 3600.0
_MIN_UNAVAILABLE_S, _MAX_UNAVAILABLE_S = 1.0, 60.0  # an unavailable model is not called anyway


class Failures:
    """Records the failures of a claim."""

    def __init__(self, claim: Claim) -> None:
        self._claim = claim
        self._max_attempts = int(options.effective(claim.pipeline.options, "max_attempts"))

    def record(self, failures: dict[str, ModelError]) -> list[str]:
        """Reschedule failed keys or make them dead letters; return the keys of the dead letters."""
        # Jitter spreads the retries of workers; one factor for all keys keeps a batch together.
        jitter = random.uniform(0.75, 1.25)  # noqa: S311 - not for secrets
        waiting: list[tuple[str, str, float, int, str, int | None]] = []
        dead_letters: list[tuple[str, str, str, int]] = []
        for key, error in failures.items():
            job = self._claim.jobs[key]
            attempts = job.attempts + isinstance(error, RejectedError)
            if self._is_final(error, attempts):
                dead_letters.append((key, error.failure_class, str(error), attempts))
            else:
                failed = (key, str(error), _pause(job, error) * jitter, attempts, error.scope, error.max_batch)
                waiting.append(failed)
        if waiting:
            db.run(SQL.reschedule, self._claim.generation.id, self._claim.token, *columns(waiting))
        if dead_letters:
            since = [self._claim.jobs[key].unserved_since for key, *_ in dead_letters]
            db.run(SQL.insert_dead_letters, self._claim.generation.id, *columns(dead_letters), since)
            finish_or_requeue(self._claim, [key for key, *_ in dead_letters], None)
        dead = [key for key, *_ in dead_letters]
        self._log(failures, {*dead})
        return dead

    def _log(self, failures: dict[str, ModelError], dead_letters: set[str]) -> None:
        """Log how many rows failed and why, without texts or keys."""
        claim = self._claim
        where = {"generation": claim.generation.id, "model": claim.generation.model.name}
        failed = {key for key in failures if not isinstance(failures[key], CircuitOpenError)} - dead_letters
        for event, say, keys in (
            ("model_failed", event_log.info, failed),
            ("rows_dead_lettered", event_log.warn, dead_letters),
        ):
            reasons = Counter((failures[key].failure_class, failures[key].log_message) for key in keys)
            for (kind, message), rows in reasons.items():
                say(event, pipeline=claim.pipeline.name, **where, rows=rows, kind=kind, reason=message)

    def _is_final(self, error: ModelError, attempts: int) -> bool:
        if isinstance(error, SuspectError):
            return attempts >= self._max_attempts
        return isinstance(error, RejectedError)


def _pause(job: Job, error: ModelError) -> float:
    """Return the seconds until the next try; at most a minute if the server or a breaker asks for a pause."""
    if isinstance(error, RetryableError):
        return min(max(error.pause or 0.0, _MIN_UNAVAILABLE_S), _MAX_UNAVAILABLE_S)
    return backoff(job.attempts, 1.0, _MAX_RETRY_S) if isinstance(error, RejectedError) else _BLAMELESS_RETRY_S


def retry_now(pipeline: Pipeline) -> None:
    """Make rows that wait after an error ready now, because its cause may be gone."""
    db.run(SQL.log_waiting_jobs, pipeline.id, [g.id for g in pipeline.generations])


def requeue(pipeline: Pipeline, key: str | None) -> int:
    """Queue failed rows and rows that wait after an error, one or all (``key`` None); return how many."""
    return db.run(SQL.requeue_failed_keys, pipeline.id, [g.id for g in pipeline.generations], key)


def retry_model(model: int) -> None:
    """Make rows that wait for a model ready now."""
    db.run(SQL.retry_model_jobs, model)


def retry_endpoint(endpoint: int) -> None:
    """Make rows that wait for a model of an endpoint ready now."""
    db.run(SQL.retry_endpoint_jobs, endpoint)
