"""Checks of the arguments of embed_create against the source, before anything is created."""

from typing import Any

from evergreen import db
from evergreen.capture.wal import slot
from evergreen.catalog import json_objects, languages, models, options, pipelines
from evergreen.core import template as templates
from evergreen.core.errors import UserError
from evergreen.core.frozen import frozen
from evergreen.core.pipeline import Model
from evergreen.core.text import quoted
from evergreen.prepare import chunkers
from evergreen.source import expressions as ex
from evergreen.source import table, view
from evergreen.source.depends import NewLink, parse, resolve
from evergreen.source.table import Column, Source

_MAX_COLUMNS = 90  # a function call takes 100 arguments
_MAX_NAME = 63


@frozen
class Preparation:
    """How a row becomes texts: columns, a template, or both, where the template goes around each chunk; chunker.

    ``watched``: all columns that are read.
    """

    columns: tuple[str, ...] | None
    template: str | None
    chunker: dict[str, Any]
    watched: tuple[Column, ...]


def check_name(name: str | None) -> str:
    """Check a pipeline's name."""
    if not name or len(name.encode()) > _MAX_NAME:
        raise UserError(
            f'"{name or ""}" cannot be the name of a pipeline', "42602", hint="Use a name of 1 to 63 bytes."
        )
    return name


def check_source(source: str | None, role: str, key: list[str | None] | None, depends: str | None) -> Source:
    """Check that the source can be embedded and is the caller's; raises 42501, 42809, 42P17, 22004, 22023, 42703."""
    found = _find_source(source, key)
    if (key is not None or depends is not None) and not found.has_declared_key:
        raise UserError(
            f"{found.qualified} is a table: its primary key identifies its rows, and it depends on no other table",
            hint="Leave out key and depends; they are for views.",
        )
    if depends is not None and found.kind == "m":
        raise UserError(f"{found.qualified} is a materialized view: its REFRESH is captured", hint="Leave out depends.")
    if not pipelines.may_own(role, found.owner):
        raise UserError(
            f"must be owner of {found.described}",
            "42501",
            hint="Ask the table's owner, or a member of embed_admin.",
        )
    _check_key(found, key)
    return _check_table(found)


def _check_key(source: Source, key: list[str | None] | None) -> None:
    """Check the columns that a view's key names; raises 22023, 42703, 0A000."""
    names = [existing(source, str(name)).name for name in key or []]
    if len(set(names)) != len(names):
        raise UserError("key names a column twice", hint="Name each column once: key => '{id}'.")
    for name in names:
        if name not in {c.name for c in source.key}:
            column = existing(source, name)
            raise UserError(
                f'key column "{name}" of view {source.qualified} cannot be of type {column.type_name}',
                "0A000",
                hint="The type has no default B-tree operators, so its values cannot be ordered. Cast it to text.",
            )


def check_depends(source: Source, depends: str | None, role: str) -> tuple[NewLink, ...]:
    """Check what leads from the tables under a view to its rows; raises as ``resolve`` does, and 42501."""
    if source.kind != "v":
        return ()
    links = resolve(source, parse(depends), view.bases(source))
    for link in links:
        if link.columns and not (pipelines.is_admin(role) or pipelines.may_trigger(role, link.base.oid)):
            raise UserError(
                f"permission denied for table {link.base.qualified}: changes of it are captured by triggers",
                "42501",
                hint=f"As its owner: GRANT TRIGGER ON {link.base.qualified} TO {db.identifier(role)};",
            )
    return links


def check_readable(source: str | None, role: str) -> Source:
    """Check the source for a preview, which needs SELECT only; raises 42501, 42809, 42P17, 22004."""
    found = _find_source(source, None)
    if not pipelines.may_read(role, found.oid):
        raise UserError(
            f"permission denied for table {found.qualified}",
            "42501",
            hint="Ask its owner for SELECT on it.",
        )
    if found.has_declared_key:  # read without a key
        return found
    return _check_table(found)


def _find_source(source: str | None, key: list[str | None] | None) -> Source:
    if source is None:
        raise UserError("source must be a table, not NULL", "22004", hint="Pass its name: source => 'docs'.")
    names = [name for name in key or [] if isinstance(name, str)]
    if len(names) < len(key or []):
        raise UserError("a column of key is NULL or a list", hint="Name columns: key => '{id}'.")
    oid = (int(source) if source.isdigit() else table.oid_of(source)) if source != "-" else 0
    found = table.describe(oid, names)
    if found is None:
        raise UserError(f"table {source} does not exist", "42P01", hint="Pass its name: source => 'docs'.")
    return found


def _check_table(found: Source) -> Source:
    is_system = found.schema in {"pg_catalog", "information_schema", "embed", "embed_store"}
    if found.kind not in {"r", "p", "v", "m"} or is_system:
        hint = "Use an ordinary or partitioned table, or a view."
        raise UserError(f"{found.qualified} is not a table that can be embedded", "42809", hint=hint)
    if found.schema.startswith("pg_temp"):
        raise UserError(f"{found.qualified} is a temporary table", "42809", hint="Workers cannot see its rows.")
    if found.has_declared_key and not found.key:
        hint = "Name the columns that identify a row: key => '{id}'; see docs/how-to/views.md."
        raise UserError(f"view {found.qualified} has no primary key", "42809", hint=hint)
    if not found.key:
        raise UserError(
            f"table {found.qualified} has no primary key",
            "42P17",
            hint=f"ALTER TABLE {found.qualified} ADD PRIMARY KEY (…);",
        )
    for column in found.key:
        if not column.parts.isdisjoint({"domain", "composite"}):
            raise UserError(
                f'key column "{column.name}" of {found.described} cannot be of type {column.type_name}',
                "0A000",
                hint="A domain in it, now or later, would run its checks with other rights than the owner's.",
            )
        if ex.contains_object_names(column):
            raise UserError(
                f'key column "{column.name}" of {found.described} cannot be of type {column.type_name}',
                "0A000",
                hint="Its text is the name of an object, so renaming that would change the key. Use type oid or text.",
            )
    code = table.untrusted_function(found)
    if code is not None:
        raise UserError(
            f'key column "{code[0].name}" of {found.described} cannot be of type {code[0].type_name}',
            "0A000",
            hint=f"The type runs function {code[1]} on each value, and no superuser owns it, so it would run with other"
            " rights than its owner's. Use a type without code of your own, such as a range without subtype_diff.",
        )
    return found


def check_preparation(
    source: Source, names: list[str | None] | None, template: str | None, chunker: str | None, only_if: str | None
) -> Preparation:
    """Check what the text is made of; raises 22023, 42703, 42804, 54011."""
    around = _check_template(source, names, template)
    given = tuple(names) if names is not None else around
    used = tuple(name for name in given if isinstance(name, str))
    if not used or len(used) < len(given):
        raise UserError(
            "no column is named, or one is NULL or a list, so there is no text to embed",
            hint="Name at least one column of the source: columns => '{title,body}'.",
        )
    if len(set(used)) != len(used):
        raise UserError(f"a column is named twice in {', '.join(used)}", hint="Name each column once.")
    read = tuple(dict.fromkeys((*used, *around)))
    if len(read) > _MAX_COLUMNS:
        raise UserError(f"{len(read)} columns are too many", "54011", hint=f"Use at most {_MAX_COLUMNS}.")
    watched = [existing(source, name) for name in read]
    if only_if is not None:
        watched += _check_only_if(source, only_if, watched)
    for column in watched:
        _check_watched(source, column)
    definition = json_objects.parse(chunker, '{"chunker": "none"}') if chunker is not None else {"chunker": "none"}
    chunkers.chunker(definition)
    return Preparation(used if names is not None else None, template, definition, tuple(watched))


def _check_watched(source: Source, column: Column) -> None:
    """Raise UserError 0A000 for a column whose text may change unnoticed."""
    reason = ex.unwatchable(column)
    if reason is not None:
        raise UserError(f'column "{column.name}" of {source.described} {reason[0]}', "0A000", hint=reason[1])


def _check_template(source: Source, names: list[str | None] | None, template: str | None) -> tuple[str, ...]:
    """Return the columns that a template names; together with columns it must contain $chunk."""
    parts = templates.parse(template, framed=names is not None) if template is not None else ()
    if (names is None) == (template is None) and templates.Chunk() not in parts:
        raise UserError(
            "give either columns or a template",
            hint="For example columns => '{title,body}'. With both, the columns are cut into chunks, and the template"
            r" says by $chunk where each of them stands: columns => '{body}', template => E'$title\n\n$chunk'.",
        )
    named = templates.columns(parts)
    if names is None and "chunk" in named and source.column("chunk") is None:
        raise UserError(
            "the template has $chunk, but no columns are given whose chunks could stand there",
            hint=r"Name the columns that are cut: columns => '{body}', template => E'$title\n\n$chunk'.",
        )
    return named


def _check_only_if(source: Source, only_if: str, watched: list[Column]) -> list[Column]:
    column = existing(source, only_if)
    if column.bare_type != "bool":
        raise UserError(
            f'only_if column "{only_if}" must be boolean, not {column.bare_type}',
            "42804",
            hint="For another condition add a generated boolean column.",
        )
    return [] if column in watched else [column]


def existing(source: Source, name: str) -> Column:
    """Find a column; raises 42703."""
    column = source.column(name)
    if column is None:
        raise UserError(
            f'column "{name}" of {source.described} does not exist',
            "42703",
            hint=f"Its columns are: {', '.join(c.name for c in source.columns)}.",
        )
    return column


def check_model(name: str | None) -> Model:
    """Resolve a model's name, or the database's default."""
    return models.by_name(name if name is not None else options.get("default_model"))


def check_capture(capture: str | None, source: Source) -> str:
    """Check the kind of capture, and that the server supports it; raises 22023, 55000, 42501."""
    if capture not in {"trigger", "cdc", "manual"}:
        raise UserError(f"there is no capture {quoted(capture)}", hint="Use 'trigger', 'cdc' or 'manual'.")
    if capture == "cdc" and source.has_declared_key:
        raise UserError(
            f"changes of view {source.qualified} cannot be read from the WAL",
            "0A000",
            hint="Use capture => 'trigger', the default.",
        )
    if capture == "cdc":
        slot.check_possible(source)
    return capture


def check_options(given: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Check the options of a new pipeline; return its own and those of its first generation."""
    own, index = options.both(given if given is not None else "{}")
    return languages.check(options.check_intervals(own)), index
