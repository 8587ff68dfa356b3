"""What ``depends`` probably is: proposed from foreign keys and equal names of columns."""

from collections.abc import Sequence
from typing import Any

from evergreen import db
from evergreen.core.frozen import frozen
from evergreen.db.queries import load
from evergreen.source import view
from evergreen.source.table import Source
from evergreen.source.view import Base

SQL = load(__package__, "view")
UNKNOWN = "…"  # no column has this name, so a proposal that contains it is refused


@frozen
class _ForeignKey:
    source: Source
    target: Source
    columns: tuple[str, ...]
    referenced: tuple[str, ...]


def propose(
    source: Source, bases: Sequence[Base], missing: Sequence[Base], *, only_foreign_keys: bool = False
) -> dict[str, Any]:
    """Propose what leads from the missing tables to the rows of a view.

    ``only_foreign_keys``: they are used unchecked, so names that happen to be equal are not enough.
    """
    tables = [base.table for base in bases]
    keys = _foreign_keys(tables)
    shown = {c.name for c in source.columns}
    key = [c.name for c in source.key]
    roots = _roots(source, tables, keys, shown)
    missing_roots = {base.table.oid for base in missing} & set(roots) if only_foreign_keys else set[int]()
    found = {one.oid: _direct(one, keys, shown, key, roots) for one in tables}
    proposed: dict[str, Any] = {}
    for base in missing:
        link = found[base.table.oid] if base.table.oid not in missing_roots else None
        link = link or _through(base.table, source, keys, found)
        if link is None and not only_foreign_keys:
            link = _equal(base.table, key)
        proposed[view.shown_name(base.table, source)] = link or {UNKNOWN: key[0] if key else UNKNOWN}
    return proposed


def _roots(source: Source, tables: list[Source], keys: list[_ForeignKey], shown: set[str]) -> list[int]:
    """Return the table whose rows are the view's: its primary key has the names of the view's key."""
    names = {c.name for c in source.key}
    alike = [one.oid for one in tables if one.key and {c.name for c in one.key} == names]
    parents = {key.target.oid for key in keys if set(key.columns) <= shown}
    own = [oid for oid in alike if oid not in parents] or alike
    referencing = [oid for oid in own if any(key.source.oid == oid for key in keys)]
    return (referencing or own)[:1]


def _direct(
    one: Source, keys: list[_ForeignKey], shown: set[str], key: list[str], roots: list[int]
) -> dict[str, str] | None:
    if one.oid in roots:
        return {name: name for name in key}
    for foreign in keys:
        if foreign.target.oid == one.oid and foreign.source.oid != one.oid and set(foreign.columns) <= shown:
            return dict(zip(foreign.referenced, foreign.columns, strict=True))
    for foreign in keys:
        if foreign.source.oid == one.oid and foreign.target.oid in roots and set(foreign.referenced) == set(key):
            return dict(zip(foreign.columns, foreign.referenced, strict=True))
    return None


def _through(
    one: Source, source: Source, keys: list[_ForeignKey], found: dict[int, dict[str, str] | None]
) -> dict[str, str] | None:
    """Propose a link through a table that refers to this one, and leads to the view's key."""
    names = {c.name for c in source.key}
    for foreign in keys:
        between = found.get(foreign.source.oid)
        if foreign.target.oid == one.oid and between is not None and set(between.values()) == names:
            prefix = view.shown_name(foreign.source, source)
            return {a: f"{prefix}.{b}" for a, b in zip(foreign.referenced, foreign.columns, strict=True)}
    return None


def _equal(one: Source, key: list[str]) -> dict[str, str] | None:
    return {name: name for name in key} if key and all(one.column(name) for name in key) else None


def _foreign_keys(tables: list[Source]) -> list[_ForeignKey]:
    by_oid = {one.oid: one for one in tables}

    def names(oid: int, numbers: list[int]) -> tuple[str, ...]:
        return tuple(c.name for number in numbers for c in by_oid[oid].columns if c.attnum == number)

    return [
        _ForeignKey(
            by_oid[row["source"]],
            by_oid[row["target"]],
            names(row["source"], row["columns"]),
            names(row["target"], row["referenced"]),
        )
        for row in db.rows(SQL.foreign_keys, list(by_oid))
    ]
