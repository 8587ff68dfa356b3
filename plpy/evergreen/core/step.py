"""A named step: SQL that happens as a whole or not at all, in a transaction of a worker's or of its caller."""

from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Step(Protocol):
    """Runs steps; tests stop a worker at a step by its name (tests/fixtures/breakpoints_backend.py)."""

    def __call__(self, name: str, body: Callable[[], T], /) -> T:
        """Run the body with the extension's rights and return what it returns."""
        ...


def run_directly(_name: str, body: Callable[[], T], /) -> T:
    """Run a step in the caller's transaction."""
    return body()
