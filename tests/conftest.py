"""Where the tests' fixtures come from, what marks a test has, and what a run can be asked for."""

from pathlib import Path

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("tests.fixtures")

pytest_plugins = [
    "tests.fixtures.plpy_stub",  # first: what the others import needs it
    "tests.fixtures.breakpoints",
    "tests.fixtures.doctor",
    "tests.fixtures.moved_databases",
    "tests.fixtures.package_upgrade",
    "tests.fixtures.pipelines.tables",
    "tests.fixtures.providers.models",
    "tests.fixtures.server.databases",
    "tests.fixtures.server.memory",
    "tests.fixtures.server.scratch",
    "tests.fixtures.wal",
]

# A busy machine is no fault of an example's.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


# Files that wait for minutes of the clock: they start first, and the others fill the processors.
_WAITING = ("test_cron.py", "test_chaos.py")


def _leave_few(items: list[pytest.Item]) -> None:
    """Mark the variants of a test but for some, from the first to the last, as stress."""
    variants: dict[tuple[Path, str], list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("few"):
            variants.setdefault((item.path, item.name.partition("[")[0]), []).append(item)
    for found in variants.values():
        (most,) = found[0].get_closest_marker("few").args
        chosen = {round(number * (len(found) - 1) / max(most - 1, 1)) for number in range(most)}
        for place, item in enumerate(found):
            if place not in chosen:
                item.add_marker("stress")


@pytest.hookimpl(tryfirst=True)  # before items are deselected by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start what waits longest first, and give what is long on purpose the time for it."""
    _leave_few(items)
    items.sort(key=lambda item: item.path.name not in _WAITING)
    for item in items:
        if any(item.get_closest_marker(name) for name in ("stress", "bench", "root")):
            item.add_marker(pytest.mark.timeout(7200))
        elif item.path.parent.name == "chaos":
            item.add_marker(pytest.mark.timeout(420 + float(item.config.getoption("--chaos-seconds"))))


def pytest_addoption(parser: pytest.Parser) -> None:
    """What tests/scenarios/chaos, tests/bench/test_scale.py and tests/bench/test_views.py are told."""
    parser.addoption("--chaos-seed", default=None, help="play the chaos test of this seed (default: a new one)")
    parser.addoption("--chaos-seconds", default="15", help="how long writers, workers and the reaper go on")
    parser.addoption("--products", default="20000", help="products of tests/bench/test_views.py")
    parser.addoption("--rows", default="100000", help="rows of tests/bench/test_scale.py")
