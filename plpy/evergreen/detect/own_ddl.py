"""Marks DDL on a source as our own, so that the event trigger does not follow it."""

from collections.abc import Generator
from contextlib import contextmanager

_under_way: set[int] = set()


@contextmanager
def own_ddl(source: int) -> Generator[None]:
    """While this lasts, DDL of this session on that table is ours."""
    added = source not in _under_way
    _under_way.add(source)
    try:
        yield
    finally:
        if added:
            _under_way.discard(source)


def is_own(source: int) -> bool:
    """True for DDL that we do ourselves."""
    return source in _under_way
