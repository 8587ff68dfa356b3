"""A worker's part in option max_lag: it looks every second whether a pipeline has become late, or is on time again."""

import time

from evergreen import db
from evergreen.core.step import Step
from evergreen.db import event_log
from evergreen.db.errors import is_shutdown_or_cancel
from evergreen.queue import lateness
from evergreen.worker.sleep import WorkerState

_CHECK_S = 1.0
_SHARE = 20  # looks take at most a twentieth of the time: dead rows of a queue that cannot be vacuumed make them slow


class Lateness:
    """Looks whether pipelines keep what option max_lag promises."""

    def __init__(self, step: Step, kept: WorkerState) -> None:
        self._step = step
        self._kept = kept

    def run(self) -> None:
        """Look if it is time. An error here must not keep rows from being embedded."""
        if time.monotonic() >= self._kept.late_at:
            self.look()

    def look(self) -> None:
        """Look now, as when the last change has become searchable and the worker is about to leave."""
        started = time.monotonic()
        try:
            self._kept.promises = self._step("promises", lateness.is_promised)
            if self._kept.promises:
                self._step("lateness", lateness.log_turned)
        except db.DatabaseError as error:
            if is_shutdown_or_cancel(error):
                raise
            event_log.info("lateness_unknown", reason=db.message(error))
        ended = time.monotonic()
        self._kept.late_at = ended + max(_CHECK_S, _SHARE * (ended - started))

    def finish(self) -> None:
        """Look once more, if any pipeline has the option."""
        if self._kept.promises:
            self.look()
