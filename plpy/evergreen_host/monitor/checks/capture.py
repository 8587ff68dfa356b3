"""Whether changes are captured: the triggers on the sources, and the replication slot."""

from collections.abc import Iterator

from psycopg import sql

from evergreen_host.database import Database
from evergreen_host.monitor.checks import workers
from evergreen_host.monitor.checks.finding import Finding

# Includes partitions. The name of a capture function ends with the pipeline's id, and under a view the table's part.
_DISABLED = """
SELECT p.pipeline, t.tgname AS trigger, t.tgrelid::pg_catalog.regclass::text AS "table"
FROM {schema}.embed_pipelines p
JOIN pg_catalog.pg_proc f ON f.pronamespace = pg_catalog.to_regnamespace('embed_store')
                         AND f.proname ~ ('^capture_' || p.id || '(_[0-9]+)?$')
JOIN pg_catalog.pg_trigger t ON t.tgfoid = f.oid AND NOT t.tgisinternal
WHERE t.tgenabled <> 'A' ORDER BY p.pipeline, 3, 2
"""
_MISSING = """
SELECT p.pipeline, coalesce(min(d.base_name), min(p.source::text)) AS "table"
FROM {schema}.embed_pipelines p
JOIN pg_catalog.pg_class c ON c.oid = p.source AND c.relkind <> 'm'
LEFT JOIN embed.dependency d ON d.pipeline = p.id AND d.names IS NOT NULL AND c.relkind = 'v'
WHERE p.capture = 'trigger' AND (c.relkind <> 'v' OR d.base IS NOT NULL)
  AND (SELECT count(*) FROM pg_catalog.pg_trigger t
       WHERE t.tgrelid = coalesce(d.base, p.source)
         AND t.tgfoid = pg_catalog.to_regproc('embed_store.capture_' || p.id || coalesce('_' || d.part, ''))) < 4
GROUP BY p.pipeline ORDER BY p.pipeline
"""


def triggers(database: Database) -> Iterator[Finding]:
    """Triggers that are disabled or missing; the advice also queues the changes they missed."""
    for row in database.rows(_DISABLED):
        trigger = sql.Identifier(row["trigger"]).as_string(database.connection)
        yield Finding(
            "trigger",
            "error",
            f"trigger {row['trigger']} on table {row['table']} is not ENABLE ALWAYS: changes are missed",
            f"ALTER TABLE {row['table']} ENABLE ALWAYS TRIGGER {trigger}; {_verify(database, row['pipeline'])}",
        )
    for row in database.rows(_MISSING):
        name = sql.Literal(row["pipeline"]).as_string(database.connection)
        where = sql.Identifier(database.schema).as_string(database.connection)
        again = "; ".join(f"SELECT {where}.embed_capture_set({name}, '{capture}')" for capture in ("manual", "trigger"))
        yield Finding(
            "trigger",
            "error",
            f"triggers of pipeline {row['pipeline']} are missing on table {row['table']}: changes are missed",
            f"{again}; {_verify(database, row['pipeline'])}",
        )


def _verify(database: Database, pipeline: str) -> str:
    call = sql.SQL("SELECT * FROM {}.embed_verify({}, repair => true);")
    return call.format(sql.Identifier(database.schema), sql.Literal(pipeline)).as_string(database.connection)


# Bytes; a quarter of slot_limit if that is less.
_MAX_UNREAD = 64 << 20
_SLOTS = """
SELECT s.slot_name AS slot, k.pipelines, k.lag, k.most,
       pg_catalog.pg_size_pretty(k.lag) AS kept, pg_catalog.pg_size_pretty(k.most) AS allowed,
       pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), s.confirmed_flush_lsn)::bigint AS unread
FROM pg_catalog.pg_replication_slots s
CROSS JOIN (SELECT pg_catalog.string_agg(e.pipeline, ', ' ORDER BY e.pipeline) AS pipelines, max(e.slot_lag) AS lag,
                   coalesce(min(pg_catalog.pg_size_bytes(p.options ->> 'slot_limit')),
                            pg_catalog.pg_size_bytes('10 GB')) AS most
            FROM {schema}.embed_status e JOIN {schema}.embed_pipelines p USING (pipeline)
            WHERE e.slot_lag IS NOT NULL) k
WHERE s.database = pg_catalog.current_database()
  AND pg_catalog.starts_with(s.slot_name::pg_catalog.text, 'evergreen_') AND k.lag IS NOT NULL
  AND NOT pg_catalog.pg_is_in_recovery()
"""
# A transaction with an xid holds the slot back.
_OLDEST_TRANSACTION = """
SELECT a.pid, a.usename, a.application_name, NULL AS gid,
       pg_catalog.date_trunc('second', pg_catalog.clock_timestamp() - a.xact_start) AS age, a.xact_start AS since
FROM pg_catalog.pg_stat_activity a WHERE a.backend_xid IS NOT NULL AND a.pid <> pg_catalog.pg_backend_pid()
UNION ALL
SELECT NULL, p.owner, NULL, p.gid,
       pg_catalog.date_trunc('second', pg_catalog.clock_timestamp() - p.prepared), p.prepared
FROM pg_catalog.pg_prepared_xacts p
ORDER BY since LIMIT 1
"""


def slots(database: Database) -> Iterator[Finding]:
    """A slot that retains much WAL: no worker reads it, or an open transaction holds it back."""
    for row in database.rows(_SLOTS):
        retained = (
            f"replication slot {row['slot']} of {row['pipelines']} retains {row['kept']} of WAL"
            f" (slot_limit: {row['allowed']}; beyond it a worker drops the slot and checks every row)"
        )
        if row["unread"] > min(_MAX_UNREAD, row["most"] // 4) and not workers.any_worker(database):
            yield Finding("slot", "error", f"no worker reads the WAL: {retained}", workers.start_statement(database))
        elif row["lag"] > row["most"] // 2:
            yield _slot_held_back(database, retained)


def _slot_held_back(database: Database, retained: str) -> Finding:
    for row in database.rows(_OLDEST_TRANSACTION):
        client = f"of {row['usename']} ({row['application_name'] or row['gid'] or row['pid']})"
        advice = f"SELECT pg_terminate_backend({row['pid']});"
        if row["gid"] is not None:
            advice = f"ROLLBACK PREPARED {sql.Literal(row['gid']).as_string(database.connection)};"
        return Finding("slot", "warning", f"{retained}; a transaction {client} has been open for {row['age']}", advice)
    return Finding("slot", "warning", f"{retained}; a worker reads it, but slower than WAL is written")
