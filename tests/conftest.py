"""Where the tests' fixtures come from, what marks a test has, and what a run can be asked for."""

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("tests.fixtures")

pytest_plugins = [
    "tests.fixtures.breakpoints",
    "tests.fixtures.doctor",
    "tests.fixtures.moved_databases",
    "tests.fixtures.pipelines.tables",
    "tests.fixtures.providers.models",
    "tests.fixtures.server.databases",
    "tests.fixtures.server.scratch",
    "tests.fixtures.wal",
]

# A busy machine is no fault of an example's.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

# Whole files that `make test` has no time for, and `make attack` has: each goes through every step, kind or server of
# something that a shorter file of the default run looks at, too.
LONG = frozenset(
    {
        "test_backfills.py",
        "test_wal_steps.py",
        "test_wal_keys.py",
        "test_slot.py",
        "test_replica_identity.py",
        "test_killed_readers.py",
        "test_huge_transaction.py",
        "test_ray.py",
        "test_import_pgai.py",
        "test_distribution.py",
        "test_ddl_from_afar.py",
        "test_search_quality.py",
    }
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is in long files, before markers choose; give what is long on purpose the time for it."""
    for item in items:
        if item.path.name in LONG:
            item.add_marker(pytest.mark.attack)
        if any(item.get_closest_marker(name) for name in ("attack", "bench", "root")):
            item.add_marker(pytest.mark.timeout(7200))
        elif item.path.parent.name == "chaos":
            item.add_marker(pytest.mark.timeout(420 + float(item.config.getoption("--chaos-seconds"))))


def pytest_addoption(parser: pytest.Parser) -> None:
    """What tests/scenarios/chaos is played with."""
    parser.addoption("--chaos-seed", default=None, help="play the chaos test of this seed (default: a new one)")
    parser.addoption("--chaos-seconds", default="25", help="how long writers, workers and the reaper go on")
