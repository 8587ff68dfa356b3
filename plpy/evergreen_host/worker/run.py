"""Runs the workers of `evergreen worker` until a signal: the first one lets them finish, the second one does not."""

import os
import signal

from evergreen_host.errors import EvergreenError
from evergreen_host.log import Log
from evergreen_host.worker.pool import Team

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_MERCY = 5  # seconds for which a second signal lets the server answer


def run(dsn: str, workers: int, pipeline: str | None, *, as_json: bool) -> None:
    """Work until SIGTERM or SIGINT; raises EvergreenError when that is impossible, or was cut short by a second one."""
    log = Log(as_json=as_json)
    team = Team(dsn, workers, pipeline, log)
    received: list[int] = []

    def heed(number: int, _: object) -> None:
        received.append(number)
        if len(received) == 1:
            log.say("stopping", signal=signal.Signals(number).name)
            team.stopping.begin()
        else:
            signal.signal(signal.SIGALRM, give_up)
            signal.alarm(_MERCY)
            team.break_off()

    def give_up(_number: int, _frame: object) -> None:
        os._exit(EvergreenError.exit_code)

    for number in _SIGNALS:
        signal.signal(number, heed)
    log.say("started", workers=workers, pipeline=pipeline, process=os.getpid())
    team.run()
    if len(received) > 1:
        raise EvergreenError("broken off by a second signal; the next worker takes over what was under way")
    log.say("stopped")
