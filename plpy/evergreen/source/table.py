"""What a source table looks like now: its columns, their base types, its primary key."""

from dataclasses import dataclass

from evergreen import db
from evergreen.core.text import pluralize
from evergreen.db.queries import load

SQL = load(__package__)


@dataclass(frozen=True)
class Column:
    """A column; types are the base types, below any domain."""

    attnum: int
    name: str
    type_name: str  # quoted and qualified
    bare_type: str
    type_oid: int
    parts: frozenset[str]  # built-in types in it; "" for another base type, "domain", "composite"
    send: str  # qualified binary output function, or ""
    built_in: bool
    virtual: bool  # generated when it is read (PostgreSQL 18): a trigger sees NULL
    is_domain: bool  # the column's own type


@dataclass(frozen=True)
class KeyColumn(Column):
    """A primary-key column with the operators of its index, as ``OPERATOR(schema.=)``."""

    equal: str
    greater: str


@dataclass(frozen=True)
class Source:
    """A source table as the catalog has it now."""

    oid: int
    schema: str
    name: str
    kind: str  # r table, p partitioned table
    owner: int
    owner_name: str
    columns: tuple[Column, ...]
    key: tuple[KeyColumn, ...]

    @property
    def qualified(self) -> str:
        """The quoted, qualified name."""
        return f"{db.identifier(self.schema)}.{db.identifier(self.name)}"

    @property
    def from_clause(self) -> str:
        """What to select from: rows of inheriting tables belong to those, rows of partitions to the root."""
        return self.qualified if self.kind == "p" else f"ONLY {self.qualified}"

    def column(self, name: str) -> Column | None:
        """Find a column by name."""
        return next((c for c in self.columns if c.name == name), None)

    def numbered(self, attnum: int) -> Column | None:
        """Find a column by number."""
        return next((c for c in self.columns if c.attnum == attnum), None)


def describe(oid: int) -> Source | None:
    """Read the catalog; None when there is no such relation."""
    relation = db.one(SQL.relation, oid)
    if relation is None:
        return None
    columns = tuple(
        Column(
            r["attnum"],
            r["name"],
            r["type_name"],
            r["bare_type"],
            r["type"],
            frozenset(r["parts"]),
            r["send"],
            r["built_in"],
            r["virtual"],
            r["is_domain"],
        )
        for r in db.rows(SQL.columns, oid)
    )
    by_number = {c.attnum: c for c in columns}
    key = tuple(
        KeyColumn(**vars(by_number[r["attnum"]]), equal=r["equal"], greater=r["greater"])
        for r in db.rows(SQL.primary_key, oid)
    )
    return Source(
        oid,
        relation["schema"],
        relation["name"],
        relation["kind"],
        relation["owner"],
        relation["owner_name"],
        columns,
        key,
    )


def oid_of(table: str) -> int:
    """Return the oid of a table by its name; raises 42P01."""
    return int(db.value(SQL.source_oid, table))


def foreign_code(source: Source, *, in_indexes: bool = False) -> tuple[Column, str] | None:
    """Return a key column whose type runs a function that a role without superuser could replace, and that function.

    ``in_indexes``: only functions of operator classes, which run with each value that is written.

    Such code would run in the generation table as the extension's owner: by ANALYZE, in an index, in the planner.
    """
    found = db.one(SQL.foreign_code, source.oid, in_indexes)
    column = source.numbered(found["attnum"]) if found is not None else None
    return (column, found["function"]) if found is not None and column is not None else None


def rows_estimate(source: Source) -> str:
    """Return how many rows a table has, about: 1 row, 3,012 rows."""
    return pluralize(int(db.value(SQL.rows_estimate, source.oid)), "row")
