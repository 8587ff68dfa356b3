"""Pipelines by name, and who may own or read them."""

import json

from evergreen import db
from evergreen.catalog import models
from evergreen.core.errors import UserError
from evergreen.core.pipeline import Generation, Link, Pipeline
from evergreen.core.text import quoted
from evergreen.db import event_log
from evergreen.db.queries import load

SQL = load(__package__)


def _generation(row: db.Row) -> Generation:
    return Generation(
        id=row["id"],
        pipeline=row["pipeline"],
        known_model=models.of_generation(row["model"], row["model_revision"]),
        columns=tuple(row["columns"]) if row["columns"] is not None else None,
        template=row["template"],
        chunker=json.loads(row["chunker"]),
        watched=tuple(zip(row["watched_attnums"], row["watched_names"], strict=True)),
        state=row["state"],
        options=json.loads(row["options"]),
    )


def _pipeline(row: db.Row) -> Pipeline:
    return Pipeline(
        id=row["id"],
        name=row["name"],
        source=row["source"],
        source_name=row["source_name"],
        recorded_name=row["recorded_name"],
        key=tuple(zip(row["key_attnums"], row["key_names"], row["key_types"], strict=True)),
        only_if=(row["only_if_attnum"], row["only_if"]) if row["only_if"] is not None else None,
        capture=row["capture"],
        triggers=row["triggers"],
        state=row["state"],
        broken_reason=row["broken_reason"],
        bound_name=row["bound_name"],
        view=row["view"],
        options=json.loads(row["options"]),
        seen=(row["system_identifier"], row["database_oid"], row["source_oid"]),
        owner=row["owner"],
        generations=tuple(_generation(g) for g in db.rows(SQL.generations, row["id"])),
        missing_part=(row["missing_part"], row["remedy"]) if row["missing_part"] is not None else None,
        definition=row["definition"],
        links=tuple(map(_link, db.rows(SQL.links, row["id"]))) if row["definition"] else (),
    )


def _link(row: db.Row) -> Link:
    def pairs(kind: str) -> tuple[tuple[int, str], ...]:
        numbers: list[int] = row[f"{kind}attnums"] or []
        return tuple(zip(numbers, row[f"{kind}names"] or [], strict=True))

    return Link(
        id=row["id"],
        part=row["part"],
        base=row["base"],
        base_name=row["base_name"],
        columns=pairs(""),
        target=pairs("via_" if row["via_part"] is not None else "view_"),
        via=row["via_part"],
        is_key=row["is_key"],
        watched=pairs("watched_"),
    )


def find(name: str) -> Pipeline | None:
    """Find a pipeline by name."""
    row = db.one(SQL.find_pipeline, name, None)
    return _pipeline(row) if row else None


def by_id(number: int) -> Pipeline | None:
    """Find a pipeline by id."""
    row = db.one(SQL.find_pipeline, None, number)
    return _pipeline(row) if row else None


def warn_of_missing_parts() -> None:
    """Write to the log which pipelines refer to what is not there: no worker can do anything about it."""
    for row in db.rows(SQL.missing_part):
        event_log.warn("pipeline_not_whole", pipeline=row["name"], reason=row["what"], remedy=row["remedy"])


def record_names() -> None:
    """Store the current names of sources and views, where a rename went unnoticed."""
    db.run(SQL.record_names)


def every() -> list[int]:
    """Return the ids of all pipelines."""
    return [row["id"] for row in db.rows(SQL.all_ids)]


def missing(name: str | None) -> UserError:
    """Build the error for a pipeline that is not there, or that the caller may not know of."""
    return UserError(
        f"pipeline {quoted(name)} does not exist",
        "42704",
        hint="SELECT pipeline FROM embed_pipelines lists those you may use.",
    )


def is_admin(role: str) -> bool:
    """Return whether the role has embed_admin's rights."""
    return bool(db.value(SQL.is_admin, role))


def is_member(role: str, of: str) -> bool:
    """Return whether the role has the rights of another."""
    return bool(db.value(SQL.is_member, role, of))


def may_own(role: str, owner: int | None) -> bool:
    """Return whether the role may administer what ``owner`` (a role's oid; None when it is gone) owns."""
    return bool(db.value(SQL.is_owner, role, owner if owner is not None else 0))


def may_read(role: str, source: int) -> bool:
    """Return whether the role may select from the source, or from some of its columns."""
    return bool(db.value(SQL.may_read, role, source))


def may_trigger(role: str, table: int) -> bool:
    """Return whether the role may create triggers on a table."""
    return bool(db.value(SQL.may_trigger, role, table))


def owned(name: str | None, role: str, *, whole: bool = True) -> Pipeline:
    """Return the pipeline for a role that changes it; raises 42704, 42501, 55000 unless it is ``whole``."""
    found = find(name) if name is not None else None
    if found is None:
        raise missing(name)
    if may_own(role, found.owner):
        if whole:
            found.check_whole()
        return found
    if not may_read(role, found.source):
        raise missing(name)
    kind = "table" if found.definition is None else "view"
    source = f"{kind} {found.source_name}"
    raise UserError(
        f'must be owner of {source} to change pipeline "{name}"',
        "42501",
        hint=f"Ask the {kind}'s owner, or a member of embed_admin.",
    )


def readable(name: str | None, role: str) -> Pipeline:
    """Return the pipeline for a role that searches it; raises UserError 42704, 55000."""
    found = find(name) if name is not None else None
    if found is None or not (may_read(role, found.source) or may_own(role, found.owner)):
        raise missing(name)
    found.check_whole()
    return found


def chosen(pipeline: str | None) -> list[int]:
    """Return the ids of the pipelines to work on; raises 42704."""
    if pipeline is None:
        return every()
    found = find(pipeline)
    if found is None:
        raise missing(pipeline)
    return [found.id]


def named(pipeline: str | None) -> Pipeline:
    """Return the pipeline of a name; raises 42704, 55000."""
    found = find(pipeline) if pipeline is not None else None
    if found is None:
        raise missing(pipeline)
    found.check_whole()
    return found
