"""embed_get_def, and the comparison of a pipeline with the arguments of embed_create."""

import json
from typing import Any

import evergreen
from evergreen import db
from evergreen.catalog import pipelines
from evergreen.core import template as templates
from evergreen.core.frozen import frozen
from evergreen.core.pipeline import Generation, Model, Pipeline
from evergreen.core.template import Part
from evergreen.db.privileges import as_extension_owner, caller, sql_entry
from evergreen.db.queries import load
from evergreen.pipelines.validation import Preparation
from evergreen.source.depends import NewLink
from evergreen.source.table import Source
from evergreen.storage import generation_tables

SQL = load(__package__)


@frozen
class Wanted:
    """The arguments of embed_create with if_not_exists."""

    source: Source
    preparation: Preparation
    model: Model
    capture: str
    options: dict[str, Any]
    view_name: str | None
    only_if: str | None
    links: tuple[NewLink, ...] = ()


def differences(existing: Pipeline, wanted: Wanted) -> list[str]:
    """Name the arguments in which an existing pipeline differs from a wanted one."""
    generation, preparation = existing.active, wanted.preparation
    same_template = _parts(generation.columns, generation.template) == _parts(preparation.columns, preparation.template)
    view = db.value(SQL.relation_name, existing.view)
    compared = {
        "source": existing.source == wanted.source.oid,
        "columns": generation.columns == preparation.columns,
        "template": same_template,
        "model": generation.model.name == wanted.model.name,
        "chunker": generation.chunker == preparation.chunker,
        "capture": existing.capture == wanted.capture,
        "only_if": (existing.only_if[1] if existing.only_if else None) == wanted.only_if,
        "options": existing.options | generation.options == wanted.options,
        "key": [number for number, _, _ in existing.key] == [c.attnum for c in wanted.source.key],
        "depends": _same_links(existing, wanted.links),
        "view_name": view == (wanted.view_name if wanted.view_name is not None else f"{existing.name}_embedding"),
    }
    return [name for name, same in compared.items() if not same]


def _same_links(existing: Pipeline, wanted: tuple[NewLink, ...]) -> bool:
    def plain(base: int, columns: list[int], target: list[int], via: int | None) -> tuple[object, ...]:
        return (base, *sorted(zip(columns, target, strict=True)), via)

    bases = {link.part: link.base for link in existing.links}
    stored = {
        plain(one.base, [n for n, _ in one.columns], [n for n, _ in one.target], bases.get(one.via or 0))
        for one in existing.links
    }
    return stored == {
        plain(
            one.base.oid,
            [c.attnum for c in one.columns],
            [c.attnum for c in one.target],
            one.via.oid if one.via is not None else None,
        )
        for one in wanted
    }


def _parts(columns: tuple[str, ...] | None, template: str | None) -> tuple[Part, ...] | None:
    return templates.parse(template, framed=columns is not None) if template is not None else None


@sql_entry
def embed_get_def(pipeline: str | None) -> str:
    """Return the calls that recreate a pipeline; raises 42704."""
    role = caller()
    return as_extension_owner(lambda: _calls(pipelines.readable(pipeline, role)), stable=True)


def _calls(pipeline: Pipeline) -> str:
    generation = pipeline.active
    chunker = None if generation.chunker == {"chunker": "none"} else json.dumps(generation.chunker)
    view = db.value(SQL.relation_name, pipeline.view)
    arguments = {
        "columns": _array(generation.columns),
        "template": _escaped(generation.template),
        "model": db.literal(generation.model.name),
        "chunker": db.literal(chunker) if chunker else None,
        "capture": None if pipeline.capture == "trigger" else db.literal(pipeline.capture),
        "view_name": db.literal(view) if view and view != f"{pipeline.name}_embedding" else None,
        "only_if": db.literal(pipeline.only_if[1]) if pipeline.only_if else None,
        "options": _options(pipeline.options | generation.options),
        "key": _array(tuple(name for _, name, _ in pipeline.key)) if pipeline.definition is not None else None,
        "depends": db.literal(str(depends)) if (depends := db.value(SQL.depends, pipeline.id)) is not None else None,
    }
    source = generation_tables.relation_name(pipeline.source) or str(pipeline.source)
    first = [db.literal(pipeline.name), db.literal(source)]
    named = [f"{name} => {value}" for name, value in arguments.items() if value is not None]
    schema = evergreen.extension_schema()
    calls = [f"SELECT {schema}.embed_create({', '.join([*first, *named])});"]
    if pipeline.building is not None:
        calls.append(_build_call(pipeline, pipeline.building))
    if pipeline.state == "paused":
        calls.append(f"SELECT {schema}.embed_pause({db.literal(pipeline.name)});")
    return "\n".join(calls)


def _build_call(pipeline: Pipeline, building: Generation) -> str:
    arguments = {
        "model": db.literal(building.model.name),
        "chunker": db.literal(json.dumps(building.chunker)),
        "columns": _array(building.columns),
        "template": _escaped(building.template),
        "options": _options(building.options),
    }
    named = [f"{name} => {value}" for name, value in arguments.items() if value is not None]
    schema = evergreen.extension_schema()
    return f"SELECT {schema}.embed_build({', '.join([db.literal(pipeline.name), *named])});"


def _options(options: dict[str, Any]) -> str | None:
    return db.literal(json.dumps(options)) if options else None


def _array(columns: tuple[str, ...] | None) -> str | None:
    return f"ARRAY[{', '.join(db.literal(c) for c in columns)}]" if columns is not None else None


def _escaped(template: str | None) -> str | None:
    if template is None or "\n" not in template:
        return db.literal(template) if template is not None else None
    body = template.replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n")
    return f"E'{body}'"
