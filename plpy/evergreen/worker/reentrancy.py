"""Guards against a drain or worker inside another one."""

from collections.abc import Generator
from contextlib import contextmanager

from evergreen.core.errors import UserError

_running: list[str] = []


@contextmanager
def not_reentrant(name: str) -> Generator[None]:
    """Refuse another drain or worker inside this block; raises UserError 55000."""
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
