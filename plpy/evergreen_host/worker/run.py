"""Runs the workers until a signal: the first one stops them gracefully, the second one cancels their calls."""

import os
import signal

from evergreen_host.errors import EvergreenError
from evergreen_host.log import Log
from evergreen_host.worker.pool import WorkerPool

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_FORCE_EXIT_AFTER = 5  # seconds after the second signal


def run(dsn: str, workers: int, pipeline: str | None, *, as_json: bool) -> None:
    """Work until SIGTERM or SIGINT; raises EvergreenError if a worker fails or a second signal arrives."""
    log = Log(as_json=as_json)
    pool = WorkerPool(dsn, workers, pipeline, log)
    received: list[int] = []

    def handle_signal(number: int, _: object) -> None:
        received.append(number)
        if len(received) == 1:
            log.write("stopping", signal=signal.Signals(number).name)
            pool.stop_signal.set()
        else:
            signal.signal(signal.SIGALRM, force_exit)
            signal.alarm(_FORCE_EXIT_AFTER)
            pool.cancel_calls()

    def force_exit(_number: int, _frame: object) -> None:
        os._exit(EvergreenError.exit_code)

    for number in _SIGNALS:
        signal.signal(number, handle_signal)
    log.write("started", workers=workers, pipeline=pipeline, process=os.getpid())
    pool.run()
    if len(received) > 1:
        raise EvergreenError("canceled by a second signal; other workers take over the unfinished rows")
    log.write("stopped")
