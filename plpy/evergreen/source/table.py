"""A source table in the catalog: its columns, their base types, its primary key."""

from collections.abc import Sequence

from evergreen import db
from evergreen.core.frozen import frozen
from evergreen.core.pipeline import Pipeline
from evergreen.core.text import pluralize
from evergreen.db.queries import load

SQL = load(__package__)


@frozen
class Column:
    """A column; types are the base types, below any domain."""

    attnum: int
    name: str
    type_name: str  # quoted and qualified
    bare_type: str
    type_oid: int
    parts: frozenset[str]  # names of built-in types in it; "" for other base types, "domain", "composite"
    send: str  # qualified binary output function, or ""
    built_in: bool
    virtual: bool  # virtual generated column (PostgreSQL 18): a trigger sees NULL
    is_domain: bool  # the column's own type


@frozen
class KeyColumn(Column):
    """A key column with the operators of its index, as ``OPERATOR(schema.=)``; in a view, those of its type."""

    equal: str
    greater: str


@frozen
class Source:
    """A source table or view as the catalog has it now."""

    oid: int
    schema: str
    name: str
    kind: str  # r table, p partitioned table, v view, m materialized view
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
        """What to select from: the root of partitions with their rows, but no inheriting tables."""
        return f"ONLY {self.qualified}" if self.kind == "r" else self.qualified

    @property
    def described(self) -> str:
        """What messages call it: ``table public.docs``."""
        kind = {"v": "view", "m": "materialized view"}.get(self.kind, "table")
        return f"{kind} {self.qualified}"

    @property
    def has_declared_key(self) -> bool:
        """Whether it is a view, of either kind: no index ensures that its key is unique and not NULL."""
        return self.kind in {"v", "m"}

    def column(self, name: str) -> Column | None:
        """Return the column of a name."""
        return next((c for c in self.columns if c.name == name), None)

    def by_number(self, attnum: int) -> Column | None:
        """Return the column of a number."""
        return next((c for c in self.columns if c.attnum == attnum), None)


def of_pipeline(pipeline: Pipeline, *, by_name: bool = False) -> Source | None:
    """Describe a pipeline's source; None when it does not exist. ``by_name``: after a restore of a view."""
    return describe(pipeline.source, [name if by_name else number for number, name, _ in pipeline.key])


def describe(oid: int, key: Sequence[int | str] = ()) -> Source | None:
    """Describe a relation from the catalog; None when it does not exist. ``key``: columns of the key of a view."""
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
    if relation["kind"] in {"v", "m"}:
        given = [c.attnum for name in key for c in columns if name in {c.attnum, c.name}]
        operators = _known(db.rows(SQL.type_operators, oid, given))
    else:
        operators = db.rows(SQL.primary_key, oid)
    return Source(
        oid,
        relation["schema"],
        relation["name"],
        relation["kind"],
        relation["owner"],
        relation["owner_name"],
        columns,
        with_operators(columns, operators),
    )


def with_operators(columns: tuple[Column, ...], operators: list[db.Row]) -> tuple[KeyColumn, ...]:
    """Return the columns that operators are given for, with them."""
    by_number = {c.attnum: c for c in columns}
    return tuple(KeyColumn(**vars(by_number[r["attnum"]]), equal=r["equal"], greater=r["greater"]) for r in operators)


def _known(operators: list[db.Row]) -> list[db.Row]:
    return [r for r in operators if r["equal"] is not None]


def comparable_columns(source: Source, numbers: Sequence[int]) -> tuple[KeyColumn, ...]:
    """Return columns with the default operators of their types; without those whose type has none."""
    return with_operators(source.columns, _known(db.rows(SQL.type_operators, source.oid, list(numbers))))


def oid_of(table: str) -> int:
    """Return the oid of a table by its name; raises 42P01."""
    return int(db.value(SQL.source_oid, table))


def untrusted_function(
    source: Source, columns: Sequence[Column] | None = None, *, in_indexes: bool = False
) -> tuple[Column, str] | None:
    """Return a column (of the key) whose type runs a function owned by a non-superuser, and that function; else None.

    Its owner could replace it, and it would run as the extension's owner in the generation table: by ANALYZE, in an
    index, in the planner. ``in_indexes``: only functions of operator classes, which run for each value written.
    """
    numbers = [c.attnum for c in (columns if columns is not None else source.key)]
    found = db.one(SQL.untrusted_function, source.oid, in_indexes, numbers)
    column = source.by_number(found["attnum"]) if found is not None else None
    return (column, found["function"]) if found is not None and column is not None else None


def format_row_estimate(source: Source) -> str:
    """Return the estimated number of rows as text: 1 row, 3,012 rows."""
    return pluralize(int(db.value(SQL.rows_estimate, source.oid)), "row")
