"""The budget that doctor advises is never below the one that was spent."""

import pytest

from evergreen_host.monitor.checks.pipelines import raised


@pytest.mark.parametrize(
    ("kind", "limit", "needed", "then"),
    [
        ("daily_tokens", 5, 0, 10),
        ("daily_tokens", 5, 101, 157),
        ("daily_cost", 5, 0, 10),
        ("daily_cost", 5, 12.3456, 23.5),
        ("daily_cost", 0.001, 0, 0.002),
        ("daily_cost", 0.0000001, 0, 0.0000002),
    ],
)
def test_it_suffices(kind: str, limit: float, needed: float, then: float):
    assert raised(kind, limit, needed) == then
