"""The capture triggers on a source: row triggers on the root, TRUNCATE triggers on the root and every partition."""

from collections.abc import Generator
from contextlib import contextmanager

from evergreen import db
from evergreen.catalog import options
from evergreen.core.pipeline import Pipeline
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
_own_ddl_sources: set[int] = set()


def install(pipeline: Pipeline, source: Source) -> bool:
    """Create what is missing and enable what is disabled; return whether a partition with rows had no trigger.

    Takes a lock on the source that conflicts with writers. Raises DatabaseError 42P01 when a table is renamed.
    """
    function = f"embed_store.capture_{pipeline.id}"
    present = {(row["table_oid"], row["trigger"]): row for row in db.rows(SQL.our_triggers, function)}
    for row in present.values():  # an owner can disable those of single partitions, too
        if row["enabled"] != "A":
            db.ddl(SQL.enable_always.with_identifiers(trigger=db.identifier(row["trigger"]), table=row["table_name"]))
    required = [(source.oid, source.qualified, event, sql, "ROW", condition) for event, sql, condition in _ROW_TRIGGERS]
    required += [
        (member["table_oid"], member["table_name"], "truncate", "TRUNCATE", "STATEMENT", "")
        for member in db.rows(SQL.partition_tree, source.oid)
    ]
    missed_rows = False
    for oid, table, event, sql, level, condition in required:
        trigger = f"evergreen_{pipeline.id}_{event}"
        names = {"trigger": db.identifier(trigger), "table": table}
        if (oid, trigger) not in present:
            missed_rows = missed_rows or bool(oid != source.oid and db.value(SQL.has_pages, oid))
            db.ddl(
                SQL.create_trigger.with_identifiers(
                    **names, event=sql, level=level, condition=condition, function=function
                )
            )
            if relations.oid_of(table) != oid:
                raise db.undefined(f"table {table} was renamed during the wait for its lock")
            db.ddl(SQL.enable_always.with_identifiers(**names))
    return missed_rows


def remove_from_former_partitions(pipeline: Pipeline, source: Source) -> bool:
    """Drop our triggers from tables that are no longer partitions; return whether there were any."""
    members = {row["table_oid"] for row in db.rows(SQL.partition_tree, source.oid)}
    present = db.rows(SQL.our_triggers, f"embed_store.capture_{pipeline.id}")
    former = [row for row in present if row["table_oid"] not in members]
    for row in former:
        db.ddl(SQL.drop_trigger.with_identifiers(trigger=db.identifier(row["trigger"]), table=row["table_name"]))
    return bool(former)


def remove_leftovers(source: Source) -> None:
    """Drop triggers whose pipeline does not exist: a restore without the catalog leaves them."""
    for row in db.rows(SQL.leftover_triggers, source.oid):
        db.ddl(SQL.drop_trigger.with_identifiers(trigger=db.identifier(row["trigger"]), table=row["table_name"]))


def remove(pipeline: Pipeline) -> None:
    """Drop all triggers of a pipeline, including those on detached partitions."""
    function = f"embed_store.capture_{pipeline.id}"
    for row in db.rows(SQL.our_triggers, function):
        if not row["inherited"]:
            db.ddl(SQL.drop_trigger.with_identifiers(trigger=db.identifier(row["trigger"]), table=row["table_name"]))


@contextmanager
def own_ddl(source: int) -> Generator[None]:
    """Mark DDL on a table as ours, so that the event triggers ignore it."""
    added = source not in _own_ddl_sources
    _own_ddl_sources.add(source)
    try:
        yield
    finally:
        if added:
            _own_ddl_sources.discard(source)


def is_own_ddl(source: int) -> bool:
    """Return whether DDL on a table is ours."""
    return source in _own_ddl_sources


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
            probe=f"\n        {SQL.sleeper_probe.text};" if wakes_workers(pipeline) else "",
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


def wakes_workers(pipeline: Pipeline) -> bool:
    """Return whether writers wake a sleeping worker: a transaction that sent NOTIFY cannot be prepared."""
    chosen = options.effective(pipeline.options, "wakeup")
    return bool(chosen) if chosen is not None else not db.value(SQL.can_prepare)
