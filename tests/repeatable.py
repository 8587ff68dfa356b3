"""Hypothesis with the same examples every time: a failure can be looked at again."""

from hypothesis import HealthCheck, Phase, settings


def often(examples: int) -> settings:
    """So many examples, however long each takes."""
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
