"""The capture triggers on a source: row triggers on the root, TRUNCATE triggers on the root and every leaf."""

from evergreen import db
from evergreen.catalog.columns import Source
from evergreen.catalog.pipelines import Pipeline
from evergreen.detect.functions import SQL

# Whole-row comparison: a WHEN that names columns would make the owner's ALTER TYPE and DROP COLUMN fail, and UPDATE OF
# misses columns that a BEFORE trigger changes.
_CHANGED = "WHEN (pg_catalog.record_image_ne(OLD.*, NEW.*))"
_ROW_TRIGGERS = (("insert", "INSERT", ""), ("update", "UPDATE", _CHANGED), ("delete", "DELETE", ""))


def install(pipeline: Pipeline, source: Source) -> bool:
    """Create what is missing and enable what is disabled; True when a partition with rows had no triggers of ours.

    Needs a lock on the source that waits for its writers.
    """
    function = f"embed_store.capture_{pipeline.id}"
    present = {(row["table_oid"], row["trigger"]): row for row in db.rows(SQL.our_triggers, function)}
    for row in present.values():  # those of partitions too, which their owner can disable one by one
        if row["enabled"] != "A":
            db.ddl(SQL.always.on(trigger=db.identifier(row["trigger"]), table=row["table_name"]))
    wanted = [(source.oid, source.qualified, event, sql, "ROW", condition) for event, sql, condition in _ROW_TRIGGERS]
    wanted += [
        (leaf["table_oid"], leaf["table_name"], "truncate", "TRUNCATE", "STATEMENT", "")
        for leaf in db.rows(SQL.leaves, source.oid)
    ]
    came_with_rows = False
    for oid, table, event, sql, level, condition in wanted:
        trigger = f"evergreen_{pipeline.id}_{event}"
        names = {"trigger": db.identifier(trigger), "table": table}
        if (oid, trigger) not in present:
            came_with_rows = came_with_rows or bool(oid != source.oid and db.value(SQL.has_pages, oid))
            db.ddl(SQL.create_trigger.on(**names, event=sql, level=level, condition=condition, function=function))
            if db.value(SQL.named, table) != oid:
                raise db.undefined(f"table {table} was renamed while its lock was waited for")
            db.ddl(SQL.always.on(**names))
    return came_with_rows


def remove_strays(pipeline: Pipeline, source: Source) -> bool:
    """Drop our triggers from tables that are partitions no more; True when there were any."""
    leaves = {row["table_oid"] for row in db.rows(SQL.leaves, source.oid)}
    strays = [
        row for row in db.rows(SQL.our_triggers, f"embed_store.capture_{pipeline.id}") if row["table_oid"] not in leaves
    ]
    for row in strays:
        db.ddl(SQL.drop_trigger.on(trigger=db.identifier(row["trigger"]), table=row["table_name"]))
    return bool(strays)


def remove_ownerless(source: Source) -> None:
    """Drop the triggers of pipelines that are not there: a restore without the catalog brings them."""
    for row in db.rows(SQL.ownerless, source.oid):
        db.ddl(SQL.drop_trigger.on(trigger=db.identifier(row["trigger"]), table=row["table_name"]))


def remove(pipeline: Pipeline) -> None:
    """Drop the triggers wherever they are, also from partitions that were detached."""
    function = f"embed_store.capture_{pipeline.id}"
    for row in db.rows(SQL.our_triggers, function):
        if not row["inherited"]:
            db.ddl(SQL.drop_trigger.on(trigger=db.identifier(row["trigger"]), table=row["table_name"]))
