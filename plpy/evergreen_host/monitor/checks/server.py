"""The server: versions, the library, event triggers, the extension's owner, harmful settings."""

from collections.abc import Iterator

import psycopg
from psycopg import sql

from evergreen_host.database import Database
from evergreen_host.monitor.checks.finding import Finding
from evergreen_host.packaging import dist

_OLDEST, _NEWEST = 15, 18
_EXTENSIONS = """
SELECT e.name, e.installed_version, e.default_version FROM pg_catalog.pg_available_extensions e
WHERE e.name IN ('evergreen', 'vector', 'pg_cron') AND e.installed_version IS NOT NULL
"""
# Loads the library; no other effect.
_LIBRARY = "SELECT {schema}.embed_setting('lease'::pg_catalog.text, NULL::pg_catalog.text)"
_EVENT_TRIGGERS = """
SELECT t.evtname AS name FROM pg_catalog.pg_event_trigger t
JOIN pg_catalog.pg_depend d
  ON d.objid = t.oid AND d.classid = 'pg_catalog.pg_event_trigger'::pg_catalog.regclass AND d.deptype = 'e'
JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND e.extname = 'evergreen'
WHERE t.evtenabled <> 'A' ORDER BY 1
"""
# A call that omits arguments resolves to a function with fewer parameters, whatever its owner.
_SHADOWING_ROUTINES = """
SELECT p.oid::pg_catalog.regprocedure::pg_catalog.text AS name, pg_catalog.pg_get_userbyid(p.proowner) AS owner
FROM pg_catalog.pg_extension e
JOIN pg_catalog.pg_proc p ON p.pronamespace = e.extnamespace AND p.proowner <> e.extowner
WHERE e.extname = 'evergreen' AND p.proname IN (
    SELECT o.proname FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_proc o ON o.oid = d.objid
    WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.refobjid = e.oid AND d.deptype = 'e')
ORDER BY 1
"""
_OWNER = """
SELECT pg_catalog.quote_ident(r.rolname) AS role FROM pg_catalog.pg_extension e
JOIN pg_catalog.pg_roles r ON r.oid = e.extowner WHERE e.extname = 'evergreen' AND NOT r.rolsuper
"""
_ITERATIVE_SCAN = (0, 8)


def versions(database: Database) -> Iterator[Finding]:
    """Unsupported PostgreSQL versions, and extensions older than the installed files."""
    major = database.connection.info.server_version // 10000
    if not _OLDEST <= major <= _NEWEST:
        yield Finding("version", "warning", f"PostgreSQL {major} is not supported (supported: {_OLDEST} to {_NEWEST})")
    for row in database.rows(_EXTENSIONS):
        name, installed, available = row["name"], row["installed_version"], row["default_version"]
        if installed != available and available is not None:
            level = "error" if name == "evergreen" else "warning"
            message = f"extension {name} has version {installed} in this database, but {available} is installed"
            yield Finding("version", level, message, f"ALTER EXTENSION {name} UPDATE;")
        if name == "vector" and _number(installed) < _ITERATIVE_SCAN:
            yield Finding(
                "version",
                "warning",
                f"pgvector {installed} has no iterative scan; searches with row security may return too few results",
            )


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def library(database: Database) -> Iterator[Finding]:
    """Whether the server-side library loads and has the version of this command."""
    try:
        database.rows(_LIBRARY)
    except psycopg.errors.LockNotAvailable:
        raise  # it has loaded, and another session has locked a table
    except psycopg.Error as error:
        reason = (error.diag.message_primary or str(error)).strip()
        yield Finding(
            "library", "error", f"the server-side library fails to load: {reason}", "evergreen install", in_shell=True
        )
    if database.version != dist.version():
        yield Finding(
            "library",
            "warning",
            f"this command has version {dist.version()}, the extension in this database {database.version}",
        )


def owner(database: Database) -> Iterator[Finding]:
    """Whether the extension's owner is still a superuser; workers act with its privileges."""
    for row in database.rows(_OWNER):
        message = f"role {row['role']} owns extension evergreen but is no longer a superuser, so workers cannot run"
        yield Finding("owner", "error", message, f"ALTER ROLE {row['role']} SUPERUSER;")


def event_triggers(database: Database) -> Iterator[Finding]:
    """Event triggers that follow DDL."""
    for row in database.rows(_EVENT_TRIGGERS):
        message = f"event trigger {row['name']} is disabled; DDL is followed only once a worker sees it"
        yield Finding("event trigger", "error", message, f"ALTER EVENT TRIGGER {row['name']} ENABLE ALWAYS;")


def shadowing_routines(database: Database) -> Iterator[Finding]:
    """Routines of other roles with names of ours, which calls may resolve to."""
    for row in database.rows(_SHADOWING_ROUTINES):
        message = (
            f"{row['name']} of role {row['owner']} has the name of a routine of evergreen and is in its schema;"
            " calls may run it instead, with the caller's privileges"
        )
        yield Finding("look-alike", "error", message, f"DROP ROUTINE {row['name']};")


_CRON_HERE = "SELECT pg_catalog.to_regclass('cron.job') IS NOT NULL AS here"
_CRON_ROLES = """
SELECT DISTINCT j.username AS role FROM cron.job j
WHERE j.command ~ '^CALL .*embed_work[(]' AND j.database = pg_catalog.current_database()
"""
# Precedence: role in database, role, database, all roles, server.
_EFFECTIVE_SETTINGS = """
WITH here AS (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()),
said AS (
    SELECT s.setrole, s.setdatabase, pg_catalog.split_part(c, '=', 1) AS name,
           pg_catalog.substr(c, pg_catalog.strpos(c, '=') + 1) AS value
    FROM pg_catalog.pg_db_role_setting s CROSS JOIN pg_catalog.unnest(s.setconfig) c
    WHERE s.setdatabase IN (0, (SELECT oid FROM here))
    UNION ALL
    SELECT NULL, NULL, g.name, g.reset_val || coalesce(g.unit, '') FROM pg_catalog.pg_settings g
)
SELECT DISTINCT ON (1, 2) r.rolname AS role, s.name, s.value,
       CASE WHEN s.setrole <> 0 THEN 'role ' || r.rolname
            WHEN s.setdatabase <> 0 THEN 'database ' || pg_catalog.current_database()
            WHEN s.setrole = 0 THEN 'all roles' ELSE 'the server' END AS at
FROM pg_catalog.pg_roles r
JOIN said s ON s.setrole IN (0, r.oid) OR s.setrole IS NULL AND r.rolname = session_user
WHERE (r.rolname = session_user OR r.rolname = ANY (%s::pg_catalog.text[])) AND s.name = ANY (%s::pg_catalog.text[])
ORDER BY 1, 2, s.setrole IS NULL, s.setrole = 0, s.setdatabase = 0
"""
_SECONDS = """
SELECT pg_catalog.date_part('epoch', (CASE WHEN v ~ '^[0-9]+$' THEN v || 'ms' ELSE v END)::interval) AS number
FROM (SELECT %s::pg_catalog.text) x (v)
"""
_MIN_TIMEOUT = 60.0  # seconds, the length of a long drain
_ON = {"on", "true", "yes", "1"}
_OFF = {"off", "false", "no", "0"}
_TIMEOUT = "embed_drain() stops early, embed_verify() and embed_create() may be canceled; workers {}"
_HARMFUL_SETTINGS: dict[str, tuple[str, str]] = {  # the effect, and a harmless value
    "statement_timeout": (_TIMEOUT.format("override it"), "0"),
    "transaction_timeout": (_TIMEOUT.format("set it to 0"), "0"),
    "default_transaction_read_only": (
        "embed_drain(), embed_create() and other writes fail outside BEGIN READ WRITE; workers override it",
        "off",
    ),
    "default_transaction_isolation": (
        "embed_drain(), embed_claim() and embed_submit() fail; workers override it",
        "'read committed'",
    ),
    "row_security": ("searches fail for roles that row security applies to", "on"),
    "event_triggers": ("DDL is followed only once a worker sees it", "on"),
}


def settings(database: Database) -> Iterator[Finding]:
    """Harmful settings that apply to the current role or to roles of pg_cron jobs in this database."""
    has_cron = database.rows(_CRON_HERE)[0]["here"]
    roles = [row["role"] for row in database.rows(_CRON_ROLES)] if has_cron else []
    for row in database.rows(_EFFECTIVE_SETTINGS, roles, [*_HARMFUL_SETTINGS]):
        if _is_harmful(database, row["name"], str(row["value"]).lower()):
            effect, harmless = _HARMFUL_SETTINGS[row["name"]]
            message = f"{row['name']} is {row['value']} for role {row['role']} (set for {row['at']}): {effect}"
            yield Finding("setting", "warning", message, _set_statement(database, row["role"], row["name"], harmless))


def _is_harmful(database: Database, name: str, value: str) -> bool:
    if name.endswith("_timeout"):
        return 0 < database.rows(_SECONDS, value)[0]["number"] < _MIN_TIMEOUT
    if name == "default_transaction_isolation":
        return value not in {"read committed", "read uncommitted"}
    return value in (_ON if name == "default_transaction_read_only" else _OFF)


def _set_statement(database: Database, role: str, name: str, value: str) -> str:
    first = f"SET {name} = off; " if name == "default_transaction_read_only" else ""  # ALTER ROLE is a write
    text = sql.SQL("ALTER ROLE {} IN DATABASE {} SET {} = {};")
    names = (sql.Identifier(one) for one in (role, database.name, name))
    return first + text.format(*names, sql.SQL(value)).as_string(database.connection)  # pyright: ignore[reportArgumentType]
