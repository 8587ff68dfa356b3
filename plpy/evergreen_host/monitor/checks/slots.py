"""Whether the WAL is read: what the replication slot keeps on disk, and for whom."""

from collections.abc import Iterator

from psycopg import sql

from evergreen_host.database import Link
from evergreen_host.monitor.checks import workers
from evergreen_host.monitor.checks.finding import Finding

_UNREAD = 64 << 20  # bytes that nobody has read, or a quarter of what the slot may keep: more than a pause between runs
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
# What has a transaction id keeps the slot where it was when that began.
_HOLDERS = """
SELECT a.pid, a.usename, a.application_name, NULL AS gid,
       pg_catalog.date_trunc('second', pg_catalog.clock_timestamp() - a.xact_start) AS age, a.xact_start AS since
FROM pg_catalog.pg_stat_activity a WHERE a.backend_xid IS NOT NULL AND a.pid <> pg_catalog.pg_backend_pid()
UNION ALL
SELECT NULL, p.owner, NULL, p.gid,
       pg_catalog.date_trunc('second', pg_catalog.clock_timestamp() - p.prepared), p.prepared
FROM pg_catalog.pg_prepared_xacts p
ORDER BY since LIMIT 1
"""


def slots(link: Link) -> Iterator[Finding]:
    """A slot that grows: nobody reads it, or an open transaction keeps it where it is."""
    for row in link.rows(_SLOTS):
        keeps = (
            f"replication slot {row['slot']} of {row['pipelines']} keeps {row['kept']} of WAL on disk"
            f" (slot_limit: {row['allowed']}, beyond which a worker drops it and checks every row)"
        )
        if row["unread"] > min(_UNREAD, row["most"] // 4) and not workers.are_there(link):
            yield Finding("slot", "error", f"nobody reads the WAL: {keeps}", workers.how_to_work(link))
        elif row["lag"] > row["most"] // 2:
            yield _held(link, keeps)


def _held(link: Link, keeps: str) -> Finding:
    for row in link.rows(_HOLDERS):
        who = f"of {row['usename']} ({row['application_name'] or row['gid'] or row['pid']})"
        advice = f"SELECT pg_terminate_backend({row['pid']});"
        if row["gid"] is not None:
            advice = f"ROLLBACK PREPARED {sql.Literal(row['gid']).as_string(link.connection)};"
        return Finding("slot", "warning", f"{keeps}; a transaction {who} has been open for {row['age']}", advice)
    return Finding("slot", "warning", f"{keeps}; it is being read, and more is written than that")
