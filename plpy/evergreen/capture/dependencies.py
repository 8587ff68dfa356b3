"""The tables under a source that is a view: their links are stored, and followed when tables and views are altered."""

from collections.abc import Sequence

from evergreen import db
from evergreen.core.errors import UserError
from evergreen.core.frozen import frozen
from evergreen.core.pipeline import Link, Pipeline
from evergreen.db.queries import load
from evergreen.queue import links as queued
from evergreen.source import depends, link_functions, table, view
from evergreen.source.depends import NewLink
from evergreen.source.functions import drop
from evergreen.source.proposals import propose
from evergreen.source.table import Column, Source
from evergreen.source.view import Base

SQL = load(__package__)


class _BrokenError(Exception):
    """Why the links of a view cannot be derived again."""


@frozen
class _Followed:
    """A stored link and what it is now."""

    link: Link
    now: NewLink


def store(pipeline_id: int, links: Sequence[NewLink]) -> None:
    """Store the links of a new pipeline."""
    parts: dict[int, int] = {}
    for link in links:
        parts.setdefault(link.base.oid, len(parts) + 1)
    for link in links:
        _insert(pipeline_id, link, parts)


def _insert(pipeline_id: int, link: NewLink, parts: dict[int, int]) -> None:
    db.run(SQL.insert_dependency, pipeline_id, parts[link.base.oid], *_stored(link, parts))


def _stored(link: NewLink, parts: dict[int, int]) -> list[object]:
    """Return a link as ``insert_dependency`` and ``update_dependency`` store it."""

    def both(columns: Sequence[Column]) -> tuple[list[str] | None, list[int] | None]:
        return ([c.name for c in columns], [c.attnum for c in columns]) if columns else (None, None)

    of_view, of_via = ((), link.target) if link.via is not None else (link.target, ())
    via = parts[link.via.oid] if link.via is not None else None
    watched = [c.name for c in link.watched], [c.attnum for c in link.watched]
    return [
        link.base.oid,
        link.base.qualified,
        *both(link.columns),
        *both(of_view),
        via,
        *both(of_via),
        link.is_key,
        *watched,
    ]


def delete(pipeline_id: int) -> None:
    """Delete the links of a pipeline."""
    db.run(SQL.delete_dependencies, pipeline_id)


def matches_catalog(pipeline: Pipeline, source: Source) -> bool:
    """Return whether the links are those of the view as it is now, under the same names."""
    if source.kind != "v":
        return True
    if view.digest(source.oid) != pipeline.definition:
        return False
    bases = {link.part: table.describe(link.base) for link in pipeline.links}
    return all(
        (base := bases[link.part]) is not None
        and base.qualified == link.base_name
        and _has_names(base, (*link.columns, *link.watched))
        and _has_names(bases[link.via] if link.via is not None else source, link.target)
        for link in pipeline.links
    )


def _has_names(relation: Source | None, pairs: Sequence[tuple[int, str]]) -> bool:
    names = {c.attnum: c.name for c in relation.columns} if relation is not None else {}
    return all(names.get(number) == name for number, name in pairs)


def follow(pipeline: Pipeline, source: Source, *, by_name: bool) -> str | None:
    """Derive the links again after DDL or a restore; return why they cannot be, or None."""
    if source.kind != "v":
        return None
    bases = view.bases(source)
    found = [(link, _base_of(link, bases, by_name=by_name)) for link in pipeline.links]
    try:
        followed = [
            _Followed(link, _now(pipeline, link, base, source, found, by_name=by_name)) for link, base in found if base
        ]
        new = _new(source, bases, [one.now for one in followed])
        for one in [*(f.now for f in followed), *new]:
            depends.check_via(one, [*(f.now for f in followed), *new])
    except (UserError, _BrokenError) as error:
        return f"{error}; embed_drop() the pipeline and create it again"
    parts = {one.now.base.oid: one.link.part for one in followed}
    for link in new:
        parts.setdefault(link.base.oid, max([*parts.values(), *(link.part for link in pipeline.links), 0]) + 1)
    for one in followed:
        db.run(SQL.update_dependency, one.link.id, *_stored(one.now, parts))
    for link in new:
        _insert(pipeline.id, link, parts)
    _forget([link for link, base in found if base is None])
    return None


def _forget(links: Sequence[Link]) -> None:
    """Delete links whose table the view does not read any more."""
    queued.delete([link.id for link in links])
    for link in links:
        db.run(SQL.delete_dependency, link.id)
        for signature in link_functions.signatures(link):
            drop(signature)


def _base_of(link: Link, bases: Sequence[Base], *, by_name: bool) -> Base | None:
    named = next((base for base in bases if base.table.qualified == link.base_name), None) if by_name else None
    return named or next((base for base in bases if base.table.oid == link.base), None)


def _now(
    pipeline: Pipeline,
    link: Link,
    base: Base,
    source: Source,
    found: Sequence[tuple[Link, Base | None]],
    *,
    by_name: bool,
) -> NewLink:
    """Return a stored link with the columns that it has now; raises _BrokenError."""
    if not link.columns:
        return NewLink(base.table)
    via = next((b.table for other, b in found if b is not None and other.part == link.via), None)
    if link.via is not None and via is None:
        raise _BrokenError(
            f"view {pipeline.source_name} does not read the table that a link of {link.base_name} leads through"
        )
    columns = [_find(base.table, pair, by_name=by_name) for pair in link.columns]
    target = [_find(via or source, pair, by_name=by_name) for pair in link.target]
    watched = tuple(dict.fromkeys((*base.used, *columns)))
    is_key = via is None and depends.is_key(source, base.table, columns, target)
    return NewLink(base.table, tuple(columns), tuple(target), via, is_key, watched)


def _find(relation: Source, pair: tuple[int, str], *, by_name: bool) -> Column:
    column = relation.column(pair[1]) if by_name else relation.by_number(pair[0])
    if column is None:
        raise _BrokenError(f'column "{pair[1]}" of {relation.qualified} was dropped')
    return column


def _new(source: Source, bases: Sequence[Base], known: Sequence[NewLink]) -> list[NewLink]:
    """Return links of tables that the view did not read before, as they are proposed; raises _BrokenError."""
    missing = [base for base in bases if base.table.oid not in {link.base.oid for link in known}]
    named = [base.table for base in bases]
    proposed = propose(source, bases, missing, only_foreign_keys=True) if missing else {}
    try:
        return [depends.link_of(source, base, proposed[view.shown_name(base.table, source)], named) for base in missing]
    except UserError as error:
        names = ", ".join(base.table.qualified for base in missing)
        raise _BrokenError(
            f"view {source.qualified} now reads {names}, which depends does not name ({error})"
        ) from error
