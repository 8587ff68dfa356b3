"""A drain or a worker must not be started by code that one of them runs, such as a model's function."""

from collections.abc import Generator
from contextlib import contextmanager

from evergreen.errors import UserError

_running: list[str] = []


@contextmanager
def running(name: str) -> Generator[None]:
    """While this lasts, another drain or worker in this session is refused; raises UserError 55000 for it."""
    if _running:
        raise UserError(
            f"{name} cannot run inside {_running[-1]}",
            "55000",
            hint=f"It was called by code that {_running[-1]} runs, such as a model's function.",
        )
    _running.append(name)
    try:
        yield
    finally:
        _running.pop()
