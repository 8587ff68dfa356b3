"""The argument ``depends`` of embed_create: which columns of the tables under a view lead to which of its rows."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from evergreen import db
from evergreen.core.errors import UserError
from evergreen.core.frozen import frozen
from evergreen.db.queries import load
from evergreen.source import expressions as ex
from evergreen.source import table, view
from evergreen.source.proposals import propose
from evergreen.source.table import Column, Source
from evergreen.source.view import Base

SQL = load(__package__, "view")
_EXAMPLE = """For example {"brand": {"id": "brand_id"}}: brand.id has the values of the view's column brand_id."""
_SYSTEM = ("pg_catalog", "information_schema", "embed", "embed_store")


@frozen
class NewLink:
    """A link that ``depends`` gives; ``columns`` is empty for a table that is not watched."""

    base: Source
    columns: tuple[Column, ...] = ()
    target: tuple[Column, ...] = ()  # of the view, or of ``via``
    via: Source | None = None
    is_key: bool = False
    watched: tuple[Column, ...] = ()


def resolve(source: Source, depends: Mapping[str, Any], bases: Sequence[Base]) -> tuple[NewLink, ...]:
    """Check ``depends`` against a view and the tables under it; raises 22023, 42P01, 42703, 42804, 0A000."""
    named = {name: _named(source, name, bases) for name in depends}
    missing = [base for base in bases if base.table.oid not in {found.table.oid for found in named.values()}]
    if missing:
        _raise_missing(source, depends, bases, missing)
    links = [
        link
        for name, base in named.items()
        for link in _links_of(source, base, depends[name], [found.table for found in named.values()])
    ]
    for link in links:
        check_via(link, links)
    return tuple(links)


def parse(depends: str | None) -> dict[str, Any]:
    """Parse the argument; raises UserError 22023."""
    given: object = json.loads(depends) if depends is not None else None
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise UserError("depends must be an object of tables", hint=_EXAMPLE)
    return cast("dict[str, Any]", given)


def _raise_missing(source: Source, depends: Mapping[str, Any], bases: Sequence[Base], missing: list[Base]) -> None:
    whole = {**depends, **propose(source, bases, missing)}
    names = ", ".join(base.table.qualified for base in missing)
    raise UserError(
        f"depends does not say what a change of {names} means for view {source.qualified}",
        hint=f"Check and pass: depends => {db.literal(json.dumps(whole))}. null: changes of a table are not watched.",
    )


def _named(source: Source, name: str, bases: Sequence[Base]) -> Base:
    found = [base for base in bases if name in view.names(base.table, source, bases)]
    if len(found) != 1:
        read = ", ".join(view.shown_name(base.table, source) for base in bases) or "no table"
        what = "several tables of this name" if found else "no such table"
        raise UserError(
            f'depends names "{name}", but view {source.qualified} reads {what}', "42P01", hint=f"It reads {read}."
        )
    return found[0]


def _links_of(source: Source, base: Base, value: object, named: list[Source]) -> list[NewLink]:
    if value is None:
        return [NewLink(base.table)]
    _check_base(base.table)
    links = cast("list[object]", value) if isinstance(value, list) else [value]
    if not links:
        raise UserError(f"depends has no link for table {base.table.qualified}", hint=_EXAMPLE)
    return [link_of(source, base, one, named) for one in links]


def _check_base(base: Source) -> None:
    reason = ""
    if base.kind == "f":
        reason = "is a foreign table: nothing tells when its rows change"
    elif base.schema in _SYSTEM or base.schema.startswith("pg_temp"):
        reason = "is a system table or a temporary one, whose changes cannot be captured"
    elif base.kind == "r" and db.value(SQL.has_children, base.oid):
        reason = "has tables that inherit from it, and their rows do not fire its triggers"
    if reason:
        raise UserError(
            f"table {base.qualified} {reason}",
            "0A000",
            hint=f'Pass null for it: depends => {{"{base.name}": null, …}}.',
        )


def link_of(source: Source, base: Base, given: object, named: list[Source]) -> NewLink:
    """Resolve one link, an object of the table's columns and what has the same values; raises as ``resolve``."""
    if not isinstance(given, dict) or not given:
        raise UserError(f"depends of table {base.table.qualified} must be an object of columns", hint=_EXAMPLE)
    pairs = cast("dict[str, object]", given)
    columns = tuple(_column(base.table, name) for name in pairs)
    targets = [_target(source, value, named) for value in pairs.values()]
    via = targets[0][0]
    if any(other is not via for other, _ in targets):
        raise UserError(
            f"a link of table {base.table.qualified} leads to columns of several tables",
            hint="Pass a list of links, one for each: [{…}, {…}].",
        )
    target = tuple(column for _, column in targets)
    _check_types(base.table, columns, via or source, target)
    watched = tuple(dict.fromkeys((*base.used, *columns)))
    for column in watched:
        if (reason := ex.unwatchable(column)) is not None:
            what = f'column "{column.name}" of table {base.table.qualified} {reason[0]}'
            raise UserError(what, "0A000", hint=reason[1])
    return NewLink(
        base.table, columns, target, via, via is None and is_key(source, base.table, columns, target), watched
    )


def is_key(source: Source, base: Source, columns: Sequence[Column], target: Sequence[Column]) -> bool:
    """Return whether a link is the whole key, and a key made of the table's columns is that of the view's row."""
    return (
        {c.attnum for c in target} == {c.attnum for c in source.key}
        and all(view.equal_as_text(base, column) for column in columns)
        and all(view.equal_as_text(source, column) for column in target)
    )


def _column(relation: Source, name: object) -> Column:
    column = relation.column(name) if isinstance(name, str) else None
    if column is None:
        raise UserError(
            f'column "{name}" of {relation.qualified} in depends does not exist',
            "42703",
            hint=f"Its columns are: {', '.join(c.name for c in relation.columns)}.",
        )
    return column


def _target(source: Source, name: object, named: list[Source]) -> tuple[Source | None, Column]:
    """Return a column of the view, or of a table that a link leads through and that table."""
    if isinstance(name, str) and source.column(name) is None:
        for other in named:
            for prefix in (view.shown_name(other, source), other.name, other.qualified):
                if name.startswith(f"{prefix}.") and other.column(name[len(prefix) + 1 :]) is not None:
                    return other, _column(other, name[len(prefix) + 1 :])
    return None, _column(source, name)


def _check_types(base: Source, columns: tuple[Column, ...], relation: Source, target: tuple[Column, ...]) -> None:
    for column, other in zip(columns, target, strict=True):
        what = f'column "{column.name}" of table {base.qualified}'
        if not column.parts.isdisjoint({"domain", "composite"}) or ex.contains_object_names(column):
            raise UserError(f"{what} cannot be in a link: it is of type {column.type_name}", "0A000", hint=_EXAMPLE)
        if not view.is_comparable(column, other):
            raise UserError(
                f'{what} is of type {column.type_name}, and column "{other.name}" of {relation.qualified} of type'
                f" {other.type_name}",
                "42804",
                hint="Cast the column in the view to the type of the table's.",
            )
        if not table.comparable_columns(relation, [other.attnum]):
            raise UserError(f"{what}: type {column.type_name} has no equality", "0A000", hint=_EXAMPLE)
    if (code := table.untrusted_function(base, columns)) is not None:
        raise UserError(
            f'column "{code[0].name}" of table {base.qualified} cannot be in a link: its type runs function {code[1]}',
            "0A000",
            hint="No superuser owns that function, and it would run with other rights than its owner's.",
        )


def check_via(link: NewLink, links: Sequence[NewLink]) -> None:
    """Check that the table a link leads through leads to the view's key itself; raises UserError 22023."""
    if link.via is None:
        return
    through = [other for other in links if other.base.oid == link.via.oid and other.is_key]
    if len(through) != 1:
        raise UserError(
            f"the link of table {link.base.qualified} leads through table {link.via.qualified}, which does not lead to"
            " the view's key by one link",
            hint='For example {"tag": {"id": "product_tag.tag_id"}, "product_tag": {"product_id": "id"}}.',
        )
