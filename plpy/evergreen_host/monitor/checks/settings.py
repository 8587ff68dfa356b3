"""What a database or a role sets for every session, and stands in the way of ours or of those who search."""

from collections.abc import Iterator

from psycopg import sql

from evergreen_host.database import Link
from evergreen_host.monitor.checks.finding import Finding

_CRON_HERE = "SELECT pg_catalog.to_regclass('cron.job') IS NOT NULL AS here"
_CRON_ROLES = """
SELECT DISTINCT j.username AS role FROM cron.job j
WHERE j.command ~ '^CALL .*embed_work[(]' AND j.database = pg_catalog.current_database()
"""
# What holds for a role, in this order: its own in this database, its own, the database's, all roles', the server's.
_IN_FORCE = """
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
_SHORT = 60.0  # seconds: a drain may take as many
_ON = {"on", "true", "yes", "1"}
_OFF = {"off", "false", "no", "0"}
_TIMEOUT = "embed_drain() ends before it, and embed_verify() and embed_create() may be cancelled; workers {}"
_HARM: dict[str, tuple[str, str]] = {  # what it does, and the value that does not
    "statement_timeout": (_TIMEOUT.format("lift it"), "0"),
    "transaction_timeout": (_TIMEOUT.format("set it to 0"), "0"),
    "default_transaction_read_only": (
        "embed_drain(), embed_create() and the like fail outside of BEGIN READ WRITE; workers set it off",
        "off",
    ),
    "default_transaction_isolation": (
        "embed_drain(), embed_claim() and embed_submit() are refused; workers set it to read committed",
        "'read committed'",
    ),
    "row_security": ("searches fail for every role that row security applies to", "on"),
    "event_triggers": ("changes of tables are followed only when a worker meets them", "on"),
}


def settings(link: Link) -> Iterator[Finding]:
    """Settings of this database, of the role that asks, and of the roles that pg_cron works as."""
    has_cron = link.rows(_CRON_HERE)[0]["here"]
    roles = [row["role"] for row in link.rows(_CRON_ROLES)] if has_cron else []
    for row in link.rows(_IN_FORCE, roles, [*_HARM]):
        if _hurts(link, row["name"], str(row["value"]).lower()):
            what, better = _HARM[row["name"]]
            says = f"{row['name']} is {row['value']} for role {row['role']} (set for {row['at']}): {what}"
            yield Finding("setting", "warning", says, _set(link, row["role"], row["name"], better))


def _hurts(link: Link, name: str, value: str) -> bool:
    if name.endswith("_timeout"):
        return 0 < link.rows(_SECONDS, value)[0]["number"] < _SHORT
    if name == "default_transaction_isolation":
        return value not in {"read committed", "read uncommitted"}
    return value in (_ON if name == "default_transaction_read_only" else _OFF)


def _set(link: Link, role: str, name: str, value: str) -> str:
    first = f"SET {name} = off; " if name == "default_transaction_read_only" else ""  # or it could not be changed
    text = sql.SQL("ALTER ROLE {} IN DATABASE {} SET {} = {};")
    names = (sql.Identifier(one) for one in (role, link.database, name))
    return first + text.format(*names, sql.SQL(value)).as_string(link.connection)  # pyright: ignore[reportArgumentType]
