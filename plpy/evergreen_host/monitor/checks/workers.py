"""Workers: running sessions, pg_cron's jobs, and old transactions that hold VACUUM back."""

from collections.abc import Iterator

from psycopg import sql

from evergreen_host.database import Database
from evergreen_host.monitor.checks.finding import Finding
from evergreen_host.monitor.lateness import any_worker
from evergreen_host.report import pluralize

_MAX_WAIT = "2 minutes"  # a pg_cron job starts within a minute
_MAX_TRANSACTION_AGE = "1 hour"
_WAITING = """
SELECT s.pipeline, s.pending, s.oldest_pending_age > interval '{max_wait}' AS is_old FROM {{schema}}.embed_status s
WHERE s.state IN ('active', 'late') AND s.pending + s.in_flight > 0
"""
_CRON_HERE = "SELECT pg_catalog.to_regclass('cron.job') IS NOT NULL AS here"
_JOBS = """
SELECT j.jobid, j.jobname, j.active, r.status, r.return_message
FROM cron.job j
LEFT JOIN LATERAL (SELECT d.status, d.return_message FROM cron.job_run_details d
                   WHERE d.jobid = j.jobid AND d.status IN ('succeeded', 'failed')
                   ORDER BY d.runid DESC LIMIT 1) r ON true
WHERE j.command ~ '^CALL .*embed_work[(]' AND j.database = pg_catalog.current_database()
ORDER BY j.jobid
"""
_OLD_TRANSACTIONS = """
SELECT a.pid, a.usename, a.application_name,
       pg_catalog.date_trunc('second', pg_catalog.clock_timestamp() - a.xact_start) AS age
FROM pg_catalog.pg_stat_activity a
WHERE a.backend_xmin IS NOT NULL AND a.xact_start < pg_catalog.clock_timestamp() - interval '{old}'
  AND a.backend_type = 'client backend'
ORDER BY a.xact_start LIMIT 3
"""
_PREPARED = """
SELECT p.gid, pg_catalog.date_trunc('second', pg_catalog.clock_timestamp() - p.prepared) AS age
FROM pg_catalog.pg_prepared_xacts p
WHERE p.database = pg_catalog.current_database() AND p.prepared < pg_catalog.clock_timestamp() - interval '{old}'
"""


_LIMITS = "SELECT problem, hint FROM embed.cron_problems(0)"
_IS_SCHEDULED = """
SELECT EXISTS (SELECT FROM cron.job j
               WHERE j.command ~ '^CALL .*embed_work[(]' AND j.database = pg_catalog.current_database()) AS it
"""


def limits(database: Database) -> Iterator[Finding]:
    """Limits of pg_cron that prevent scheduled workers from running."""
    if database.rows(_CRON_HERE)[0]["here"] and database.rows(_IS_SCHEDULED)[0]["it"]:
        for row in database.rows(_LIMITS):
            yield Finding("limits", "error", row["problem"], row["hint"])


def jobs(database: Database) -> Iterator[Finding]:
    """pg_cron jobs that are inactive or failed last time."""
    if not database.rows(_CRON_HERE)[0]["here"]:
        return
    for row in database.rows(_JOBS):
        if not row["active"]:
            message = f'job "{row["jobname"]}" is not active'
            yield Finding("workers", "error", message, f"SELECT cron.alter_job({row['jobid']}, active => true);")
        elif row["status"] == "failed":
            yield Finding(
                "workers",
                "error",
                f'the last run of job "{row["jobname"]}" failed: {row["return_message"]}',
                "SELECT * FROM cron.job_run_details ORDER BY runid DESC LIMIT 5;",
            )


def no_worker(database: Database) -> Iterator[Finding]:
    """Rows that wait without a worker."""
    waiting = [row for row in database.rows(_WAITING.format(max_wait=_MAX_WAIT)) if row["is_old"]]
    if waiting and not any_worker(database):
        names = ", ".join(row["pipeline"] for row in waiting)
        rows = pluralize(sum(row["pending"] for row in waiting), "row")
        yield Finding("workers", "error", f"no worker is running: {rows} pending in {names}", start_statement(database))


def start_statement(database: Database) -> str:
    """Return the statement that starts a worker."""
    has_cron = database.rows(_CRON_HERE)[0]["here"]
    what = "SELECT {}.embed_schedule();" if has_cron else "CALL {}.embed_work(until_empty => true);"
    return sql.SQL(what).format(sql.Identifier(database.schema)).as_string(database.connection)  # pyright: ignore[reportArgumentType]


def old_transactions(database: Database) -> Iterator[Finding]:
    """Old transactions, which keep VACUUM from removing dead rows of every table, including the queue."""
    for row in database.rows(_OLD_TRANSACTIONS.format(old=_MAX_TRANSACTION_AGE)):
        client = f"{row['usename']} ({row['application_name']})" if row["application_name"] else row["usename"]
        message = f"a transaction of {client} has been open for {row['age']}; VACUUM cannot remove dead rows"
        yield Finding("held xmin", "warning", message, f"SELECT pg_terminate_backend({row['pid']});")
    for row in database.rows(_PREPARED.format(old=_MAX_TRANSACTION_AGE)):
        gid = sql.Literal(row["gid"]).as_string(database.connection)
        message = (
            f"transaction {row['gid']} was prepared {row['age']} ago; its rows stay locked, and VACUUM is held back"
        )
        yield Finding("held xmin", "warning", message, f"ROLLBACK PREPARED {gid};")
