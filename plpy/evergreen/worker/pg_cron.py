"""embed_schedule: pg_cron runs embed_work repeatedly, one job and one slot for each worker."""

import evergreen
from evergreen import db
from evergreen.catalog import pipelines
from evergreen.catalog.pg_cron import (
    MAX_WORKERS,
    WORKER_JOBS,
    cleanup_job,
    database_name,
    index_job,
    installation,
    job_names,
)
from evergreen.core.errors import UserError
from evergreen.core.frozen import frozen
from evergreen.core.text import pluralize, quoted
from evergreen.db.errors import in_class
from evergreen.db.privileges import as_extension_owner, caller, sql_entry
from evergreen.db.queries import load
from evergreen.worker import pg_cron_login

SQL = load(__package__)
# A run lasts almost until the next minute's run, which waits for its slot: no gaps, and runs do not pile up.
_RUNTIME = "58 s"
# Each run leaves a row, 1,440 a day for each worker. Failures are worth reading for a day.
_CLEANUP_SCHEDULE = "17 * * * *"
_RUNS_KEPT = "1 day"
EVERY_MINUTE = "* * * * *"
#: Since 1.5, a job scheduled in seconds restarts at once after a longer run and never queues twice. A worker whose
#: backend is killed is back within these seconds instead of the next minute.
EVERY_FEW_SECONDS = "10 seconds"
_SECONDS_SINCE = (1, 5)


@sql_entry
def embed_schedule(workers: int | None, pipeline: str | None) -> str:
    """Schedule workers for this database or one pipeline, replacing its jobs; raises 22023, 42704, 55000, 58P01."""
    if workers is None or not 1 <= workers <= MAX_WORKERS:
        raise UserError(f"workers must be from 1 to {MAX_WORKERS}, not {quoted(workers)}", hint="1 is the default.")
    chosen = as_extension_owner(lambda: pipelines.chosen(pipeline))
    first_slot = (chosen[0] if pipeline is not None else 0) * MAX_WORKERS
    names = job_names(pipeline)[:workers]
    commands = {name: _command(pipeline, first_slot + n) for n, name in enumerate(names, 1)}
    here = _is_here()
    role = caller()
    obstacles = as_extension_owner(lambda: problems(workers, job_names(pipeline), role))
    for problem in obstacles:
        db.warning(problem.said, hint=problem.hint)
    if not here:
        return _elsewhere(commands)
    _remove(pipeline)
    for name, command in commands.items():
        _put(name, command)
    db.run(SQL.schedule, cleanup_job(), _CLEANUP_SCHEDULE, _cleanup_command())
    if not obstacles:
        db.notice(
            f"pg_cron runs {pluralize(workers, 'worker')} within a minute; see cron.job_run_details,"
            f" of which our rows are kept for {_RUNS_KEPT}"
        )
    return f"scheduled: {', '.join(commands)}"


@frozen
class Problem:
    """A problem that keeps scheduled workers from running, and its remedy."""

    said: str
    hint: str


def problems(workers: int, replaced: list[str], role: str) -> list[Problem]:
    """Return what prevents this many more scheduled workers from running; needs the extension's rights.

    ``replaced``: names of jobs that do not count, because these workers replace them; ``role``: whose jobs they are.
    """
    row = db.one(SQL.worker_limits)
    here = installation()
    assert row is not None
    others = int(db.value(SQL.count_other_workers, replaced)) if here["version"] is not None else 0
    login = None if row["in_background"] else pg_cron_login.obstacle(role, row["host"])
    return limit_problems(Limits(**row, others=others, login=login), workers)


@sql_entry
def cron_problems(workers: int | None) -> list[tuple[str, str]]:
    """Body of embed.cron_problems(): ``problems`` as rows."""
    role = caller()
    return [(problem.said, problem.hint) for problem in as_extension_owner(lambda: problems(workers or 0, [], role))]


@sql_entry
def embed_unschedule(pipeline: str | None) -> str:
    """Remove the jobs that embed_schedule made with the same argument; raises 55000, 58P01."""
    if not _is_here():
        names, here = ", ".join(db.literal(name) for name in job_names(pipeline)), database_name()
        cleanup = db.literal(cleanup_job())
        return (
            f"SELECT cron.unschedule(jobid) FROM cron.job WHERE jobname IN ({names});\n"
            f"SELECT cron.unschedule(jobid) FROM cron.job WHERE jobname = {cleanup} AND NOT EXISTS (SELECT"
            f" FROM cron.job j WHERE j.database = {db.literal(here)} AND j.jobname ~ {db.literal(WORKER_JOBS)});"
        )
    removed = _remove(pipeline)
    db.rows(SQL.unschedule_cleanup, cleanup_job(), WORKER_JOBS)
    as_extension_owner(
        lambda: db.rows(SQL.unschedule_index_jobs, index_job("g"), WORKER_JOBS)
    )  # these belong to the extension's owner
    running = as_extension_owner(lambda: db.rows(SQL.running_workers))
    if running:
        pids = ", ".join(str(row["pid"]) for row in running)
        db.notice(
            f"{pluralize(len(running), 'worker is', 'workers are')} still running (pid {pids}): one of pg_cron's ends"
            " within a minute, `evergreen worker` when it is stopped"
        )
    return f"unscheduled: {', '.join(removed) or 'nothing was scheduled'}"


def _put(name: str, command: str) -> None:
    """Schedule a worker; by the minute if pg_cron's library is older than its extension."""
    here = installation()
    try:
        db.atomically(lambda: db.run(SQL.schedule, name, schedule(here["version"]), command))
    except db.DatabaseError as error:
        if not in_class(error, "22023"):
            raise
        db.run(SQL.schedule, name, EVERY_MINUTE, command)


def _cleanup_command() -> str:
    """Return the command that deletes old rows of our runs; pg_cron's policy lets a role delete its own."""
    worker = f"CALL {evergreen.extension_schema()}.embed_work("
    return (
        "SET TRANSACTION READ WRITE; DELETE FROM cron.job_run_details WHERE status IN ('succeeded', 'failed')"
        f" AND coalesce(end_time, start_time, '-infinity') < now() - interval '{_RUNS_KEPT}'"
        f" AND (database = {db.literal(database_name())} AND starts_with(command, {db.literal(worker)})"
        f" OR jobid IN (SELECT jobid FROM cron.job WHERE jobname = {db.literal(cleanup_job())}))"
    )


def _command(pipeline: str | None, slot: int) -> str:
    """The call with every argument and its type: a procedure of this name by another role is never nearer to it."""
    which = db.literal(pipeline) if pipeline is not None else "NULL"
    return (
        f"CALL {evergreen.extension_schema()}.embed_work({which}::pg_catalog.text,"
        f" max_runtime => '{_RUNTIME}'::pg_catalog.interval, until_empty => false, slot => {slot}, until_idle => false)"
    )


def _is_here() -> bool:
    """Return whether pg_cron runs in this database; raises if it runs nowhere, or the caller may not use it."""
    here = installation()
    if not here["preloaded"] or here["home"] is None:
        raise UserError(
            "pg_cron is not loaded in this server",
            "58P01",
            hint="Install it (evergreen setup), add pg_cron to shared_preload_libraries and restart the server.",
        )
    if here["home"] != here["here"]:
        return False
    if here["version"] is None:
        raise UserError("extension pg_cron is not created in this database", "55000", hint="CREATE EXTENSION pg_cron;")
    if not db.value(SQL.may_use_pg_cron):
        role = caller()
        raise UserError(
            f'role "{role}" may not use pg_cron', "42501", hint=f"GRANT USAGE ON SCHEMA cron TO {db.identifier(role)};"
        )
    return True


def _elsewhere(commands: dict[str, str]) -> str:
    here = installation()
    database = db.literal(here["here"])
    every = db.literal(schedule(None))
    calls = [
        f"SELECT cron.schedule_in_database({db.literal(name)}, {every}, {db.literal(command)}, {database});"
        for name, command in commands.items()
    ]
    cleanup = (cleanup_job(), _CLEANUP_SCHEDULE, _cleanup_command())
    calls.append(f"SELECT cron.schedule({', '.join(db.literal(part) for part in cleanup)});")
    db.notice(f'pg_cron lives in database "{here["home"]}": run the returned statements there')
    return "\n".join(calls)


def _remove(pipeline: str | None) -> list[str]:
    removed = [(row["jobid"], row["jobname"]) for row in db.rows(SQL.scheduled_jobs, job_names(pipeline))]
    for number, _ in removed:
        db.run(SQL.unschedule, number)
    return [name for _, name in removed]


def schedule(version: str | None) -> str:
    """Return the schedule of a worker's job; None: unknown version, as in another database."""
    parts = (version or "").replace("-", ".").split(".")[:2]
    known = tuple(int(part) for part in parts if part.isdigit())
    return EVERY_FEW_SECONDS if known >= _SECONDS_SINCE else EVERY_MINUTE


@frozen
class Limits:
    """Settings of the server for pg_cron; None for those that its version does not have."""

    preloaded: bool
    launches: bool | None  # cron.launch_active_jobs
    in_background: bool | None  # cron.use_background_workers
    most: int | None  # cron.max_running_jobs
    processes: int  # max_worker_processes
    connections: int  # max_connections, without those that are reserved
    host: str | None  # cron.host
    listens: bool  # listen_addresses is not empty
    others: int = 0  # workers already scheduled and not replaced
    login: str | None = None  # what keeps pg_cron's connections out


def limit_problems(limits: Limits, workers: int) -> list[Problem]:
    """Return what prevents this many workers in addition to those already scheduled."""
    if not limits.preloaded:
        hint = "Add pg_cron to shared_preload_libraries and restart the server."
        return [Problem("pg_cron is not loaded in this server", hint)]
    found: list[Problem] = []
    if limits.launches is False:
        hint = "ALTER SYSTEM SET cron.launch_active_jobs = on; SELECT pg_reload_conf();"
        found.append(Problem("cron.launch_active_jobs is off: pg_cron starts no job", hint))
    wanted = workers + limits.others
    if limits.most is not None and wanted >= limits.most:
        hint = f"Schedule fewer, or set cron.max_running_jobs to {wanted + 2} or more and restart the server."
        workers_in_all = pluralize(wanted, "worker")
        said = f"pg_cron runs {limits.most} jobs at once (cron.max_running_jobs): with {workers_in_all} none is left"
        found.append(Problem(said, hint))
    if limits.in_background:
        found += _in_background(limits, wanted)
    else:
        found += _by_connections(limits, wanted)
    return found


def _in_background(limits: Limits, wanted: int) -> list[Problem]:
    left = limits.processes - 2  # pg_cron's own, and that of logical replication
    if wanted < left:
        return []
    hint = f"Set max_worker_processes to {wanted + 8} or more, or cron.use_background_workers to off, and restart."
    said = (
        f"max_worker_processes is {limits.processes}, and pg_cron's jobs are such processes"
        f" (cron.use_background_workers): with {pluralize(wanted, 'worker')} none is left for others and for parallel"
        " queries"
    )
    return [Problem(said, hint)]


def _by_connections(limits: Limits, wanted: int) -> list[Problem]:
    found: list[Problem] = []
    if wanted >= limits.connections:
        said = f"max_connections leaves {limits.connections} sessions, and pg_cron opens one for each job"
        found.append(Problem(said, "Schedule fewer workers, or set cron.use_background_workers = on."))
    if limits.host and not limits.host.startswith("/") and not limits.listens:
        said = f'pg_cron connects to "{limits.host}" (cron.host), and the server listens on no address'
        found.append(Problem(said, "Set cron.host to the directory of the server's socket, and restart the server."))
    elif limits.login:
        hint = "Set cron.use_background_workers = on and restart the server: such jobs do not connect."
        found.append(Problem(f"pg_cron cannot connect: {limits.login}", hint))
    return found
