"""Rows as the arrays that unnest() takes."""

from collections.abc import Sequence


def columns(rows: Sequence[tuple[object, ...]]) -> list[list[object]]:
    """Return an array for each column of the rows, of which there is at least one."""
    return [list(column) for column in zip(*rows, strict=True)]
