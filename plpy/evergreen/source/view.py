"""What a view reads: its base tables with the columns that it uses, and what leads from them to its rows."""

from collections.abc import Sequence

from evergreen import db
from evergreen.core.frozen import frozen
from evergreen.db.queries import load
from evergreen.source import table
from evergreen.source.table import Column, Source

SQL = load(__package__, "view")
#: Types whose equal values have the same text: not so 'A' and 'a' of citext, or an interval's days and hours.
_SAME_TEXT = frozenset(
    "int2 int4 int8 numeric text varchar name uuid bool date timestamp timestamptz oid bytea".split()
)
_FAMILIES = (frozenset({"int2", "int4", "int8"}), frozenset({"text", "varchar", "name"}))


@frozen
class Base:
    """A table under a view, and its columns that the view uses."""

    table: Source
    used: tuple[Column, ...]


def digest(oid: int) -> str:
    """Return a hash of the queries of a view and of those below it."""
    return str(db.value(SQL.view_digest, oid))


def is_grouped(source: Source) -> bool:
    """Return whether a source is a view that aggregates its rows."""
    return source.kind == "v" and bool(db.value(SQL.is_grouped, source.oid))


def bases(view: Source) -> list[Base]:
    """Return the tables that a view reads, also through other views; those of a materialized view are not looked at."""
    if view.kind != "v":
        return []
    found: list[Base] = []
    for row in db.rows(SQL.view_tables, view.oid):
        described = table.describe(row["relation"])
        if described is not None:
            found.append(Base(described, tuple(c for c in described.columns if c.attnum in row["attnums"])))
    return found


def names(base: Source, view: Source, others: Sequence[Base]) -> set[str]:
    """Return what ``depends`` may call a table: its bare name only if no other table of the view has that."""
    found = {f"{base.schema}.{base.name}", base.qualified}
    if base.schema == view.schema or sum(other.table.name == base.name for other in others) == 1:
        found |= {base.name, db.identifier(base.name)}
    return found


def shown_name(base: Source, view: Source) -> str:
    """Return what ``embed_pipelines.depends`` calls a table."""
    return base.name if base.schema == view.schema else f"{base.schema}.{base.name}"


def is_comparable(one: Column, other: Column) -> bool:
    """Return whether values of one column can be looked up in the other as the same text."""
    return one.type_oid == other.type_oid or any({one.bare_type, other.bare_type} <= family for family in _FAMILIES)


def equal_as_text(relation: Source, column: Column) -> bool:
    """Return whether equal values of a column have the same text, so that a key is found by its text."""
    if not column.built_in or column.bare_type not in _SAME_TEXT:
        return False
    return bool(db.value(SQL.is_deterministic, relation.oid, column.attnum))
