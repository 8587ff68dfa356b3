"""The capture triggers on a source: row triggers on the root, TRUNCATE triggers on the root and every partition."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager

from evergreen import db
from evergreen.catalog import options
from evergreen.core.frozen import frozen
from evergreen.core.pipeline import Link, Pipeline
from evergreen.db import relations
from evergreen.db.queries import load
from evergreen.source import expressions as ex
from evergreen.source.functions import Function, fill
from evergreen.source.table import Column, Source

SQL = load(__package__)
# Whole-row comparison: a WHEN that names columns would make the owner's ALTER TYPE and DROP COLUMN fail, and UPDATE OF
# misses columns that a BEFORE trigger changes.
_CHANGED = "WHEN (pg_catalog.record_image_ne(OLD.*, NEW.*))"
_ROW_TRIGGERS = (("insert", "INSERT", ""), ("update", "UPDATE", _CHANGED), ("delete", "DELETE", ""))
_own_ddl_tables: set[int] = set()


@frozen
class CapturedTable:
    """A table whose changes a pipeline captures: its source, or one under its view."""

    oid: int
    name: str  # quoted and qualified
    suffix: str = ""  # of its trigger function and of the names of its triggers: _<part> under a view


def parts(pipeline: Pipeline) -> dict[int, list[Link]]:
    """Return the links of the watched tables under a view, by the table's part."""
    found: dict[int, list[Link]] = {}
    for link in pipeline.links:
        if link.columns:
            found.setdefault(link.part, []).append(link)
    return found


def captured(pipeline: Pipeline, source: Source) -> list[CapturedTable]:
    """Return the tables that need triggers: none for a materialized view, whose REFRESH is an event."""
    if source.has_declared_key:
        return [CapturedTable(links[0].base, links[0].base_name, f"_{part}") for part, links in parts(pipeline).items()]
    return [CapturedTable(source.oid, source.qualified)]


def install(pipeline: Pipeline, tables: Sequence[CapturedTable]) -> bool:
    """Create what is missing and enable what is disabled; return whether rows were not captured.

    Those of a partition that had no trigger, and those of a table that came under a view. Takes a lock on the tables
    that conflicts with writers. Raises DatabaseError 42P01 when a table is renamed.
    """
    present = {(row["table_oid"], row["trigger"]): row for row in db.rows(SQL.our_triggers, pipeline.id)}
    for row in present.values():  # an owner can disable those of single partitions, too
        if row["enabled"] != "A":
            _enable(row["table_name"], [db.identifier(row["trigger"])])
    return any([_install_on(pipeline, table, set(present)) for table in tables])  # noqa: C419 - on all of them


def _install_on(pipeline: Pipeline, root: CapturedTable, present: set[tuple[int, str]]) -> bool:
    function = f"embed_store.capture_{pipeline.id}{root.suffix}"
    required = [(root.oid, root.name, event, sql, "ROW", condition) for event, sql, condition in _ROW_TRIGGERS]
    required += [
        (member["table_oid"], member["table_name"], "truncate", "TRUNCATE", "STATEMENT", "")
        for member in db.rows(SQL.partition_tree, root.oid)
    ]
    missed_rows = False
    created: dict[str, list[str]] = {}
    for oid, table, event, sql, level, condition in required:
        trigger = f"evergreen_{pipeline.id}{root.suffix}_{event}"
        names = {"trigger": db.identifier(trigger), "table": table}
        if (oid, trigger) not in present:
            missed_rows = missed_rows or bool((oid != root.oid or root.suffix) and db.value(SQL.has_pages, oid))
            db.ddl(
                SQL.create_trigger.with_identifiers(
                    **names, event=sql, level=level, condition=condition, function=function
                )
            )
            if relations.oid_of(table) != oid:
                raise db.undefined(f"table {table} was renamed during the wait for its lock")
            created.setdefault(table, []).append(names["trigger"])
    for table, triggers in created.items():
        _enable(table, triggers)
    return missed_rows


def _enable(table: str, triggers: Sequence[str]) -> None:
    # One command, because the event triggers look at each.
    actions = ", ".join(SQL.always_enabled.with_identifiers(trigger=trigger).text for trigger in triggers)
    db.ddl(SQL.alter_table.with_identifiers(table=table, actions=actions))


def remove_from_others(pipeline: Pipeline, tables: Sequence[CapturedTable]) -> bool:
    """Drop our triggers from all but these tables and their partitions; return whether there were any."""
    members = {row["table_oid"] for one in tables for row in db.rows(SQL.partition_tree, one.oid)}
    present = db.rows(SQL.our_triggers, pipeline.id)
    former = [row for row in present if row["table_oid"] not in members and not row["inherited"]]
    for row in former:
        db.ddl(SQL.drop_trigger.with_identifiers(trigger=db.identifier(row["trigger"]), table=row["table_name"]))
    return bool(former)


def remove_leftovers(table: int) -> None:
    """Drop triggers whose pipeline does not exist: a restore without the catalog leaves them."""
    for row in db.rows(SQL.leftover_triggers, table):
        db.ddl(SQL.drop_trigger.with_identifiers(trigger=db.identifier(row["trigger"]), table=row["table_name"]))


def remove(pipeline: Pipeline) -> None:
    """Drop all triggers of a pipeline, including those on detached partitions."""
    for row in db.rows(SQL.our_triggers, pipeline.id):
        if not row["inherited"]:
            db.ddl(SQL.drop_trigger.with_identifiers(trigger=db.identifier(row["trigger"]), table=row["table_name"]))


@contextmanager
def own_ddl(*tables: int) -> Generator[None]:
    """Mark DDL on tables as ours, so that the event triggers ignore it."""
    added = set(tables) - _own_ddl_tables
    _own_ddl_tables.update(added)
    try:
        yield
    finally:
        _own_ddl_tables.difference_update(added)


def is_own_ddl(pipeline: Pipeline) -> bool:
    """Return whether DDL on a pipeline's source, or a table under it, is ours."""
    return not _own_ddl_tables.isdisjoint({pipeline.source, *(link.base for link in pipeline.links)})


def capture_function(pipeline: Pipeline, source: Source, watched: tuple[Column, ...], *, broken: bool) -> Function:
    """Return the trigger function; in PL/pgSQL, so that writers need not start Python."""
    names = ", ".join
    body = SQL.capture_noop_body.text
    if not broken:
        body = fill(
            SQL.capture_body,
            pipeline=str(pipeline.id),
            old_watched=names(ex.reference("OLD", c) for c in (*source.key, *watched)),
            new_watched=names(ex.reference("NEW", c) for c in (*source.key, *watched)),
            old_key=names(ex.reference("OLD", c) for c in source.key),
            new_key=names(ex.reference("NEW", c) for c in source.key),
            old_key_document=ex.key("OLD", source.key),
            new_key_document=ex.key("NEW", source.key),
            probe=wake_probe(pipeline),
        )
    return Function(
        signature=f"embed_store.capture_{pipeline.id}()",
        returns="trigger",
        language="plpgsql",
        volatility="VOLATILE",
        body=body,
        settings="" if broken else ex.pinned_settings(source.key),
        grantee=source.owner_name,
        comment=f"evergreen: logs changed keys of pipeline {pipeline.name}",
    )


def wake_probe(pipeline: Pipeline) -> str:
    """Return what a trigger function does to wake a sleeping worker."""
    return f"\n        {SQL.sleeper_probe.text};" if wakes_workers(pipeline) else ""


def wakes_workers(pipeline: Pipeline) -> bool:
    """Return whether writers wake a sleeping worker: a transaction that sent NOTIFY cannot be prepared."""
    chosen = options.effective(pipeline.options, "wakeup")
    return bool(chosen) if chosen is not None else not db.value(SQL.can_prepare)
