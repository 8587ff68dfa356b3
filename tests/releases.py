"""Earlier versions, installed beside the current one; what an extension consists of, to compare."""

import re
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from evergreen_host.packaging import build, install
from evergreen_host.packaging.postgres import Postgres

WHEELS = Path(__file__).with_name("released")
_WHEEL = re.compile(r"pg_evergreen-([0-9.]+)-py3-none-any\.whl")


def versions() -> list[str]:
    """The versions there are wheels of in tests/released; none before the first release."""
    if not WHEELS.is_dir():
        return []
    return sorted(found[1] for path in WHEELS.iterdir() if (found := _WHEEL.fullmatch(path.name)))


@contextmanager
def installed(postgres: Postgres, version: str, current: str, scratch: Path) -> Iterator[None]:
    """Have an earlier version's files beside those of the current one, which stays the default.

    The packages that its library needs are the current one's: to install them again would take a minute.
    """
    with zipfile.ZipFile(WHEELS / f"pg_evergreen-{version}-py3-none-any.whl") as wheel:
        wheel.extractall(scratch)
    root = install.library_root(postgres)
    library = root / version
    shutil.rmtree(library, ignore_errors=True)
    library.mkdir()
    for path in (root / current).iterdir():
        if path.name != "evergreen":
            (library / path.name).symlink_to(path)
    shutil.copytree(scratch / "evergreen", library / "evergreen")
    script = build.render_script(scratch / "evergreen_host/_extension/sql", version)
    files = {f"evergreen--{version}.sql": script, f"evergreen--{version}.control": f"module_pathname = '{library}'\n"}
    try:
        for name, content in files.items():
            (postgres.extension_dir / name).write_text(content, "utf-8")
        yield
    finally:
        for name in files:
            (postgres.extension_dir / name).unlink()
        shutil.rmtree(library)


_MEMBERS = """
WITH member AS (
    SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
    WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'evergreen'
)
"""
_PARTS = {
    "functions": """
        SELECT p.oid::regprocedure::text, pg_get_functiondef(p.oid), obj_description(p.oid, 'pg_proc'),
               (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(p.proacl) a)
        FROM member m JOIN pg_proc p ON p.oid = m.objid AND m.classid = 'pg_proc'::regclass ORDER BY 1""",
    "relations": """
        SELECT c.oid::regclass::text, c.relkind, array(SELECT o FROM unnest(c.reloptions) o ORDER BY 1),
               obj_description(c.oid, 'pg_class'), (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(c.relacl) a),
               CASE c.relkind WHEN 'v' THEN pg_get_viewdef(c.oid) END
        FROM member m JOIN pg_class c ON c.oid = m.objid AND m.classid = 'pg_class'::regclass ORDER BY 1""",
    "columns": """
        SELECT c.oid::regclass::text, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
               pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum)
        FROM member m JOIN pg_class c ON c.oid = m.objid AND m.classid = 'pg_class'::regclass
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum ORDER BY 1, 2""",
    "indexes": """
        SELECT pg_get_indexdef(i.indexrelid) FROM member m
        JOIN pg_index i ON i.indrelid = m.objid AND m.classid = 'pg_class'::regclass ORDER BY 1""",
    "constraints": """
        SELECT k.conrelid::regclass::text, k.conname, pg_get_constraintdef(k.oid) FROM member m
        JOIN pg_constraint k ON k.conrelid = m.objid AND m.classid = 'pg_class'::regclass
        WHERE k.contype <> 'n' ORDER BY 1, 2""",
    "triggers": """
        SELECT pg_get_triggerdef(t.oid), t.tgenabled FROM member m
        JOIN pg_trigger t ON t.tgrelid = m.objid AND m.classid = 'pg_class'::regclass
        WHERE NOT t.tgisinternal ORDER BY 1""",
    "event triggers": """
        SELECT t.evtname, t.evtevent, t.evtenabled, t.evttags, t.evtfoid::regprocedure::text,
               obj_description(t.oid, 'pg_event_trigger')
        FROM member m JOIN pg_event_trigger t ON t.oid = m.objid
        WHERE m.classid = 'pg_event_trigger'::regclass ORDER BY 1""",
    "schemas": """
        SELECT n.nspname, obj_description(n.oid, 'pg_namespace'),
               (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(n.nspacl) a)
        FROM member m JOIN pg_namespace n ON n.oid = m.objid AND m.classid = 'pg_namespace'::regclass ORDER BY 1""",
    "dumped": """
        SELECT c::regclass::text, k FROM pg_extension e, unnest(e.extconfig, e.extcondition) x (c, k)
        WHERE e.extname = 'evergreen' ORDER BY 1""",
    "version": "SELECT extversion FROM pg_extension WHERE extname = 'evergreen'",
}


def described(db: psycopg.Connection[Any]) -> dict[str, list[Any]]:
    """Everything that the extension consists of, as the catalog has it."""
    db.execute("SET search_path = pg_catalog")
    found = {part: db.execute(_MEMBERS + query).fetchall() for part, query in _PARTS.items()}
    db.execute("RESET search_path")
    return found
