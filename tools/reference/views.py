"""Reference of the views and roles: columns, types and comments of a live database."""

from typing import Any

import psycopg

from tools.reference.markdown import code, page, sentence, table

INTRODUCTION = """\
Every view, with its columns and their types, and what each role may do. The text is the `COMMENT ON` of the view or the
role."""
ROLES = """\
`CREATE EXTENSION` makes these roles where they are absent. They belong to the whole cluster, and `DROP EXTENSION` leaves
them. Everything else follows the source: its owner administers the pipeline, and a search shows each caller the rows that the
caller may read."""
_VIEWS = """
SELECT c.oid::regclass::text, pg_catalog.obj_description(c.oid, 'pg_class'), c.oid
FROM pg_catalog.pg_class c
WHERE c.relkind = 'v' AND c.relname LIKE '%embed%' AND c.relnamespace = 'public'::regnamespace
ORDER BY c.relname LIKE 'embed%', c.relname
"""
_COLUMNS = """
SELECT a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod)
FROM pg_catalog.pg_attribute a WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_ROLES = """
SELECT rolname::text, pg_catalog.shobj_description(oid, 'pg_authid') FROM pg_catalog.pg_roles
WHERE rolname LIKE 'embed%' ORDER BY rolname
"""


def render(db: psycopg.Connection[Any]) -> str:
    """Return the page; the database has a pipeline named docs, whose view stands for all such views."""
    parts = []
    for name, comment, number in db.execute(_VIEWS).fetchall():
        shown = name.replace("docs_embedding", "PIPELINE_embedding")
        columns = [(code(column), kind) for column, kind in db.execute(_COLUMNS, [number])]
        parts += [
            f"## {shown}",
            sentence(comment.replace("pipeline docs", "a pipeline")),
            table(("column", "type"), columns),
        ]
    roles = [(code(name), sentence(comment.removeprefix("evergreen: "))) for name, comment in db.execute(_ROLES)]
    parts += ["## Roles", ROLES, table(("role", "may"), roles)]
    return page("Views and roles", INTRODUCTION, *parts)
