"""The server and its extensions: versions that fit each other, a library that loads."""

from collections.abc import Iterator

import psycopg

from evergreen_host.database import Link
from evergreen_host.monitor.checks.finding import Finding
from evergreen_host.packaging import dist

_OLDEST, _NEWEST = 15, 18
_EXTENSIONS = """
SELECT e.name, e.installed_version, e.default_version FROM pg_catalog.pg_available_extensions e
WHERE e.name IN ('evergreen', 'vector', 'pg_cron') AND e.installed_version IS NOT NULL
"""
# Loads the library and does nothing else.
_LIBRARY = "SELECT {schema}.embed_setting('lease'::pg_catalog.text, NULL::pg_catalog.text)"
_EVENT_TRIGGERS = """
SELECT t.evtname AS name FROM pg_catalog.pg_event_trigger t
JOIN pg_catalog.pg_depend d
  ON d.objid = t.oid AND d.classid = 'pg_catalog.pg_event_trigger'::pg_catalog.regclass AND d.deptype = 'e'
JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND e.extname = 'evergreen'
WHERE t.evtenabled <> 'A' ORDER BY 1
"""
# A call that leaves out arguments takes the function that has no others, whoever made it.
_LOOK_ALIKES = """
SELECT p.oid::pg_catalog.regprocedure::pg_catalog.text AS name, pg_catalog.pg_get_userbyid(p.proowner) AS owner
FROM pg_catalog.pg_extension e
JOIN pg_catalog.pg_proc p ON p.pronamespace = e.extnamespace AND p.proowner <> e.extowner
WHERE e.extname = 'evergreen' AND p.proname IN (
    SELECT o.proname FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_proc o ON o.oid = d.objid
    WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.refobjid = e.oid AND d.deptype = 'e')
ORDER BY 1
"""
_ITERATIVE = (0, 8)


def versions(link: Link) -> Iterator[Finding]:
    """PostgreSQL itself, and extensions that are older than what is installed beside them."""
    major = link.connection.info.server_version // 10000
    if not _OLDEST <= major <= _NEWEST:
        yield Finding(
            "version", "warning", f"PostgreSQL {major} is not one of {_OLDEST} to {_NEWEST}, which are supported"
        )
    for row in link.rows(_EXTENSIONS):
        name, here, there = row["name"], row["installed_version"], row["default_version"]
        if here != there and there is not None:
            level = "error" if name == "evergreen" else "warning"
            says = f"extension {name} is {here} in this database, and {there} is installed"
            yield Finding("version", level, says, f"ALTER EXTENSION {name} UPDATE;")
        if name == "vector" and _number(here) < _ITERATIVE:
            yield Finding(
                "version",
                "warning",
                f"pgvector {here} has no iterative scan: searches under row security may find too few",
            )


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def library(link: Link) -> Iterator[Finding]:
    """Whether the server's Python loads what the extension needs."""
    try:
        link.rows(_LIBRARY)
    except psycopg.Error as error:
        told = (error.diag.message_primary or str(error)).strip()
        yield Finding(
            "library", "error", f"the server-side library does not load: {told}", "evergreen install", in_shell=True
        )
    if link.version != dist.version():
        yield Finding(
            "library",
            "warning",
            f"this command is of evergreen {dist.version()}, the extension in this database {link.version}",
        )


def event_triggers(link: Link) -> Iterator[Finding]:
    """Those that follow ALTER TABLE and the like."""
    for row in link.rows(_EVENT_TRIGGERS):
        says = f"event trigger {row['name']} is disabled: changes of tables are followed only when a worker meets them"
        yield Finding("event trigger", "error", says, f"ALTER EVENT TRIGGER {row['name']} ENABLE ALWAYS;")


def look_alikes(link: Link) -> Iterator[Finding]:
    """Routines of other roles under names of ours, which a call may take for ours."""
    for row in link.rows(_LOOK_ALIKES):
        says = (
            f"{row['name']} of role {row['owner']} has the name of one of evergreen's and stands in its schema:"
            " a call may run it instead, with the rights of the caller"
        )
        yield Finding("look-alike", "error", says, f"DROP ROUTINE {row['name']};")
