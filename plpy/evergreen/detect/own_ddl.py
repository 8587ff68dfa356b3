"""Marks DDL on a source as our own, so that the event trigger does not follow it."""

from collections.abc import Generator
from contextlib import contextmanager

_under_way: set[int] = set()


@contextmanager
def own_ddl(pipeline: int) -> Generator[None]:
    """While this lasts, DDL of this session on the pipeline's source is ours."""
    added = pipeline not in _under_way
    _under_way.add(pipeline)
    try:
        yield
    finally:
        if added:
            _under_way.discard(pipeline)


def is_own(pipeline: int) -> bool:
    """True for DDL that we do ourselves."""
    return pipeline in _under_way
