"""The capture triggers on a source: row triggers on the root, TRUNCATE triggers on the root and every leaf."""

from evergreen import db
from evergreen.catalog.columns import Source
from evergreen.catalog.pipelines import Pipeline
from evergreen.detect.functions import SQL

# Whole-row comparison: a WHEN that names columns would make the owner's ALTER TYPE and DROP COLUMN fail, and UPDATE OF
# misses columns that a BEFORE trigger changes.
_CHANGED = "WHEN (pg_catalog.record_image_ne(OLD, NEW))"
_ROW_TRIGGERS = (("insert", "INSERT", ""), ("update", "UPDATE", _CHANGED), ("delete", "DELETE", ""))


def install(pipeline: Pipeline, source: Source) -> None:
    """Create what is missing and enable what is disabled. Needs a lock on the source that waits for its writers."""
    function = f"embed_store.capture_{pipeline.id}"
    present = {(row["table_oid"], row["trigger"]): row["enabled"] for row in db.rows(SQL.our_triggers, function)}
    wanted = [(source.oid, source.qualified, event, sql, "ROW", condition) for event, sql, condition in _ROW_TRIGGERS]
    wanted += [
        (leaf["table_oid"], leaf["table_name"], "truncate", "TRUNCATE", "STATEMENT", "")
        for leaf in db.rows(SQL.leaves, source.oid)
    ]
    for oid, table, event, sql, level, condition in wanted:
        trigger = f"evergreen_{pipeline.id}_{event}"
        names = {"trigger": db.identifier(trigger), "table": table}
        enabled = present.get((oid, trigger))
        if enabled is None:
            db.ddl(SQL.create_trigger.on(**names, event=sql, level=level, condition=condition, function=function))
        if enabled != "A":
            db.ddl(SQL.always.on(**names))


def remove(pipeline: Pipeline) -> None:
    """Drop the triggers wherever they are, also from partitions that were detached."""
    function = f"embed_store.capture_{pipeline.id}"
    for row in db.rows(SQL.our_triggers, function):
        if not row["inherited"]:
            db.ddl(SQL.drop_trigger.on(trigger=db.identifier(row["trigger"]), table=row["table_name"]))
