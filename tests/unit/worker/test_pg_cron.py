"""Which schedule a version of pg_cron is given, and which of its limits are named."""

from dataclasses import replace

import pytest

from evergreen.worker.pg_cron import EVERY_FEW_SECONDS, EVERY_MINUTE, Limits, limit_problems, schedule

MINUTES = ["1.0", "1.3-1", "1.4", "1.4-1", "1.4.2", None, "", "x"]
SECONDS = ["1.5", "1.5-1", "1.6", "1.10", "2.0", "2"]

# Debian's settings: jobs by connections through the socket.
FINE = Limits(
    preloaded=True, launches=None, in_background=False, most=32, processes=8, connections=97, host="localhost",
    listens=True,
)  # fmt: skip
IN_BACKGROUND = replace(FINE, in_background=True, most=5)


@pytest.mark.parametrize("version", MINUTES)
def test_where_seconds_are_not_known_it_is_a_minute(version):
    assert schedule(version) == EVERY_MINUTE


@pytest.mark.parametrize("version", SECONDS)
def test_since_1_5_a_worker_is_back_in_seconds(version):
    assert schedule(version) == EVERY_FEW_SECONDS


NAMED = {
    "nothing": (FINE, 4, []),
    "a loaded library": (replace(FINE, preloaded=False), 1, ["shared_preload_libraries"]),
    "switched off": (replace(FINE, launches=False), 1, ["cron.launch_active_jobs"]),
    "switched on": (replace(FINE, launches=True), 1, []),
    "four of five in the background": (IN_BACKGROUND, 4, []),
    "five of five in the background": (IN_BACKGROUND, 5, ["cron.max_running_jobs"]),
    "others are there already": (replace(IN_BACKGROUND, others=3), 2, ["cron.max_running_jobs"]),
    "too few processes": (replace(IN_BACKGROUND, most=32), 6, ["max_worker_processes"]),
    "processes do not matter": (replace(FINE, processes=2), 6, []),
    "too few connections": (replace(FINE, connections=5), 5, ["max_connections"]),
    "connections do not matter": (replace(IN_BACKGROUND, connections=2), 3, []),
    "a host without a listener": (replace(FINE, listens=False), 1, ["cron.host"]),
    "a socket": (replace(FINE, listens=False, host="/run/postgresql"), 1, []),
    "the default socket": (replace(FINE, listens=False, host=""), 1, []),
    "a password": (replace(FINE, login="line 1 of pg_hba.conf asks"), 1, ["cron.use_background_workers"]),
    "a password where nothing listens": (replace(FINE, listens=False, login="line 1 asks"), 1, ["cron.host"]),
    "a password and jobs that do not connect": (replace(IN_BACKGROUND, login="line 1 asks"), 1, []),
    "all at once": (
        replace(FINE, launches=False, listens=False), 32,
        ["cron.launch_active_jobs", "cron.max_running_jobs", "cron.host"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NAMED)
def test_limits_are_named(case):
    limits, workers, named = NAMED[case]
    found = limit_problems(limits, workers)
    assert len(found) == len(named)
    for problem, name in zip(found, named, strict=True):
        assert name in problem.said + problem.hint
        assert problem.hint.endswith((".", ";"))
