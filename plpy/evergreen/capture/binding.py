"""Find a pipeline's columns in its source again, by number or name, and store what they are called now."""

from collections.abc import Iterable

from evergreen import db
from evergreen.core import template
from evergreen.core.frozen import frozen
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.db import event_log, relations
from evergreen.db.queries import load
from evergreen.source import expressions as ex
from evergreen.source import table as columns
from evergreen.source.table import Column, Source

SQL = load(__package__)


@frozen
class Binding:
    """A pipeline's columns in the source as it is now; ``broken`` says why they cannot be used."""

    key: tuple[Column, ...]
    only_if: Column | None
    watched: dict[int, tuple[Column, ...]]  # by generation
    broken: str | None
    key_broken: bool


def find(pipeline: Pipeline, source: Source, *, by_name: bool, renamed: int | None) -> Binding:
    """Find the columns in the source, by name after a restore; ``renamed``: number of a column renamed just now."""
    missing: list[str] = []

    def find_column(number: int, name: str) -> Column | None:
        column = source.column(name) if by_name else source.by_number(number)
        if column is None and by_name and renamed:
            column = source.by_number(renamed)
        if column is None:
            missing.append(name)
        return column

    key = tuple(c for number, name, _ in pipeline.key if (c := find_column(number, name)) is not None)
    watched: dict[int, tuple[Column, ...]] = {
        g.id: tuple(c for number, name in g.watched if (c := find_column(number, name)) is not None)
        for g in pipeline.generations
    }
    only_if = find_column(*pipeline.only_if) if pipeline.only_if is not None else None
    # The generation table's columns still have the key's types, whatever those are called now.
    table = relations.oid_of(pipeline.active.table)
    types = [row["type"] for row in db.rows(SQL.stored_key_types, table)]
    key_broken = [c.attnum for c in key] != [c.attnum for c in source.key] or [c.type_oid for c in key] != types
    if key_broken:
        broken = "the primary key of the source changed; embed_drop() the pipeline and create it again"
    else:
        broken = _broken_reason(source, missing, only_if, [c for g in watched.values() for c in g])
    return Binding(key, only_if, watched, broken, key_broken)


def _broken_reason(source: Source, missing: list[str], only_if: Column | None, watched: list[Column]) -> str | None:
    if missing:
        names = ", ".join(f'"{name}"' for name in dict.fromkeys(missing))
        # Another column may have taken the name.
        suffix = "" if all(source.column(name) for name in missing) else " without it"
        return f"column {names} of the source was dropped; embed_drop() the pipeline and create it again{suffix}"
    if only_if is not None and only_if.bare_type != "bool":
        return f'only_if column "{only_if.name}" is no longer boolean; make it so, or embed_drop() the pipeline'
    if (unwatchable := _unwatchable(watched)) is not None:
        return unwatchable
    if (code := columns.untrusted_function(source)) is not None:
        return (
            f'key column "{code[0].name}" runs function {code[1]}, which no superuser owns; embed_drop() the pipeline'
        )
    return None


def _unwatchable(watched: Iterable[Column]) -> str | None:
    """Return why changes of a column's text would go unnoticed; None where they would not."""
    for column in watched:
        reason = ex.unwatchable(column)
        if reason is not None:
            return f'column "{column.name}" of the source {reason[0]}; {reason[1][0].lower()}{reason[1][1:]}'
    return None


def store(pipeline: Pipeline, source: Source, found: Binding) -> None:
    """Store current names and numbers, or only the reason where the pipeline is broken."""
    if found.broken is not None:
        if source.qualified != pipeline.recorded_name:
            db.run(SQL.set_source_name, pipeline.id, source.qualified)
        if found.broken != pipeline.broken_reason:
            mark_broken(pipeline, found.broken)
        return
    only_if = (found.only_if.name, found.only_if.attnum) if found.only_if is not None else (None, None)
    numbers = [c.attnum for c in found.key]
    types = [c.type_name for c in found.key]
    db.run(SQL.update_pipeline, pipeline.id, [c.name for c in found.key], numbers, types, *only_if, source.qualified)
    for generation in pipeline.generations:
        watched = found.watched[generation.id]
        names = dict(zip((name for _, name in generation.watched), (c.name for c in watched), strict=True))
        db.run(
            SQL.update_generation,
            generation.id,
            [names[name] for name in generation.columns] if generation.columns is not None else None,
            _renamed(generation, names),
            [c.name for c in watched],
            [c.attnum for c in watched],
        )


def mark_broken(pipeline: Pipeline, reason: str) -> None:
    """Store and log why the source cannot be read."""
    db.run(SQL.set_broken, pipeline.id, reason)
    event_log.warn("pipeline_broken", pipeline=pipeline.name, reason=reason)


def _renamed(generation: Generation, names: dict[str, str]) -> str | None:
    if generation.template is None:
        return None
    return template.rename(generation.template, names, framed=generation.columns is not None)
