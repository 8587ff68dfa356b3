"""The argument ``filter``: conditions on the source's columns, as SQL that runs with the caller's rights.

Values are parameters. They are converted by the input function of the column's type, and compared by the operators of
its default operator class: only a superuser can make either. A cast from text could be another role's function.
"""

import json
from collections.abc import Mapping
from typing import Any, cast

from evergreen import db
from evergreen.catalog import json_objects
from evergreen.core.errors import UserError
from evergreen.core.frozen import frozen
from evergreen.core.text import quoted
from evergreen.db.errors import in_class
from evergreen.db.queries import Query, load
from evergreen.source import expressions as ex
from evergreen.source.table import Column, Source

SQL = load(__package__)
OPERATORS = ("eq", "ne", "gt", "gte", "lt", "lte", "in", "like")
_EXAMPLE = '{"tenant": 5, "lang": ["en", "de"], "price": {"gte": 10, "lt": 20}, "deleted_at": null}'


class _Number(str):
    """A number as JSON has it: numeric loses no digit of it."""


@frozen
class Filter:
    """``where``: conditions on a row of the source; ``{values}`` stands for the parameter that has the values.

    ``columns``: those that the values are compared with.
    """

    where: str
    values: dict[str, object]  # by the names v1, v2, …
    types: list[str]
    columns: list[Column]

    @property
    def json(self) -> str:
        """The values as a JSON object."""
        return json_objects.dumps(self.values)

    def check_values(self) -> None:
        """Convert the values, as the caller; raises the type's error with the column's name, and a HINT."""
        if not self.values:
            return
        try:
            db.atomically(lambda: db.rows(_conversion(self.types), self.json))
        except db.DatabaseError as error:
            if not _is_conversion_error(error):
                raise
            raise self._blame(error) from None

    def _blame(self, error: db.DatabaseError) -> UserError:
        for column, type_name, value in zip(self.columns, self.types, self.values.values(), strict=True):
            given = json_objects.dumps({"v1": value})
            try:
                db.atomically(lambda type_name=type_name, given=given: db.rows(_conversion([type_name]), given))
            except db.DatabaseError as its:
                return UserError(
                    f"filter: {quoted(value)} is no value of column {quoted(column.name)}: {db.message(its)}",
                    db.sqlstate(its),
                    hint=f"The column's type is {column.bare_type}.",
                )
        return UserError(f"filter: {db.message(error)}", db.sqlstate(error), hint=f"Write values as in {_EXAMPLE}.")


class _Builder:
    """Collects conditions and the values that they compare with."""

    def __init__(self, row: str) -> None:
        self._row = row
        self.conditions: list[str] = []
        self.values: dict[str, object] = {}
        self.types: list[str] = []
        self.columns: list[Column] = []

    def add(self, column: Column, operators: Mapping[str, str], condition: object) -> None:
        """Add a column's condition: a value, a list of values, or an object of operators and values."""
        given: dict[str, object] = {"in" if isinstance(condition, list) else "eq": cast("object", condition)}
        if isinstance(condition, dict):
            operators_given = cast("dict[str, object]", condition)
            if column.bare_type != "jsonb" or (operators_given and operators_given.keys() <= set(OPERATORS)):
                given = operators_given
        for operator, value in given.items():
            self.conditions.append(self._compare(column, operators, operator, value))

    def _compare(self, column: Column, operators: Mapping[str, str], operator: str, value: object) -> str:
        left = ex.comparable(self._row, column)
        if operator not in OPERATORS:
            raise UserError(
                f"filter: there is no operator {quoted(operator)}, given for column {quoted(column.name)}",
                hint=f"Operators are: {', '.join(OPERATORS)}.",
            )
        if operator == "in":
            return self._is_in(left, column, operators, value)
        if value is None:
            if operator in {"eq", "ne"}:
                return f"{left} IS {'NOT ' if operator == 'ne' else ''}NULL"
            raise UserError(
                f"filter: {operator} of column {quoted(column.name)} compares with null",
                hint='null goes with eq and ne: {"deleted_at": null}.',
            )
        return f"{left} {_operator(column, operators, operator)} {self._value(column, value)}"

    def _is_in(self, left: str, column: Column, operators: Mapping[str, str], value: object) -> str:
        if not isinstance(value, list):
            raise UserError(
                f"filter: the values of column {quoted(column.name)} are not a list",
                hint='For example {"lang": {"in": ["en", "de"]}}.',
            )
        values = cast("list[object]", value)
        equal = _operator(column, operators, "eq")
        given = [_text(column, one) for one in values if one is not None]
        if column.bare_type.startswith("_"):  # an array of arrays would be one array
            found = [f"{left} {equal} {self._add(column, one, column.type_name)}" for one in given]
        else:
            array = f"{column.type_name}[]"
            # With a cast, though to its own type, ANY takes the subquery for an array and not for rows.
            found = [f"{left} {equal} ANY ({self._add(column, given, array)}::{array})"] if given else []
        found += [f"{left} IS NULL"] if None in values else []
        return f"({' OR '.join(found)})" if found else "false"

    def _value(self, column: Column, value: object) -> str:
        return self._add(column, _text(column, value), column.type_name)

    def _add(self, column: Column, value: object, type_name: str) -> str:
        name = f"v{len(self.values) + 1}"
        self.values[name] = value
        self.types.append(type_name)
        self.columns.append(column)
        return f"(SELECT x.{name} FROM pg_catalog.jsonb_to_record({{values}}) AS x ({name} {type_name}))"


def build(source: Source, given: str | None, row: str) -> Filter | None:
    """Return the conditions of a filter on ``row`` of the source; None where there are none.

    Needs the extension's rights. Raises 22023, 42703 for a column that does not exist, 42883 for an operator that its
    type does not have.
    """
    if given is None:
        return None
    try:
        conditions: object = json.loads(given, parse_int=_Number, parse_float=_Number)
    except RecursionError:
        conditions = None
    if not isinstance(conditions, dict):
        raise UserError("filter must be a JSON object", hint=f"For example {_EXAMPLE}.")
    builder = _Builder(row)
    for name, condition in cast("dict[str, object]", conditions).items():
        column = source.column(name)
        if column is None:
            raise UserError(
                f"filter: there is no column {quoted(name)} in {source.qualified}",
                "42703",
                hint=f"Its columns are: {', '.join(column.name for column in source.columns)}.",
            )
        builder.add(column, _operators(column), condition)
    return (
        Filter(" AND ".join(builder.conditions), builder.values, builder.types, builder.columns)
        if builder.conditions
        else None
    )


def _is_conversion_error(error: db.DatabaseError) -> bool:
    return in_class(error, "22") or db.sqlstate(error) in {"42846", "42704", "42P01", "42602"}


def _conversion(types: list[str]) -> Query:
    parts = ", ".join(f"v{place} {type_name}" for place, type_name in enumerate(types, 1))
    return Query("filter_values", ("jsonb",), f"SELECT FROM pg_catalog.jsonb_to_record($1) AS x ({parts})")


def _operators(column: Column) -> dict[str, str]:
    return {row["name"]: row["operator"] for row in db.rows(SQL.operators_of_type, column.type_oid)}


def _operator(column: Column, operators: Mapping[str, str], name: str) -> str:
    try:
        return operators[name]
    except KeyError:
        has = f"It has: {', '.join(one for one in OPERATORS if one in operators)}." if operators else "It has none."
        raise UserError(
            f"filter: type {column.type_name} of column {quoted(column.name)} has no operator {name}", "42883", hint=has
        ) from None


def _plain(value: object) -> object:
    """Return JSON with its numbers as numbers."""
    if isinstance(value, _Number):
        return json.loads(value)
    if isinstance(value, list):
        return [_plain(one) for one in cast("list[object]", value)]
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in cast("dict[str, object]", value).items()}
    return value


def _text(column: Column, value: object) -> object:
    """Return a value as the text that its type reads; JSON as it is for a column of JSON."""
    if column.bare_type == "jsonb":
        return _plain(value)
    if isinstance(value, dict | list):
        raise UserError(
            f"filter: {json_objects.dumps(_plain(cast('object', value)))} is no single value of column"
            f" {quoted(column.name)}",
            hint=f"Pass a string, a number, true, false or null, as in {_EXAMPLE}.",
        )
    return json_objects.scalar_text(value)


def rows(query: Query, found: Filter | None, *arguments: Any) -> list[db.Row]:
    """Run a query whose text may have the conditions in it; the values are its last parameter."""
    if found is None:
        return db.rows(query, *arguments)
    text = query.text.replace("{values}", f"${len(arguments) + 1}")
    return db.rows(Query(query.name, (*query.types, "jsonb"), text), *arguments, found.json)
