"""embed_schedule: pg_cron runs embed_work again and again, one job a worker, each in a slot of its own."""

import evergreen
from evergreen import db
from evergreen.errors import UserError, shown
from evergreen.gate import caller, elevated, entry
from evergreen.queries import load
from evergreen.schedule import arguments, cadence
from evergreen.schedule.cadence import Limits, Problem
from evergreen.wording import counted

SQL = load(__file__)

# A run lasts almost to the next minute's; the next one waits for its slot, so that runs neither gap nor pile up.
_RUNTIME = "58 s"
_MAX_WORKERS = 32
# A run of a minute leaves a row behind, 1,440 a day and worker. What failed is worth reading for a day.
_HOUSEKEEPING = "17 * * * *"
_KEPT = "1 day"


@entry
def embed_schedule(workers: int | None, pipeline: str | None) -> str:
    """Schedule the workers of this database (or of one pipeline) anew; raises 22023, 42704, 55000, 58P01."""
    if workers is None or not 1 <= workers <= _MAX_WORKERS:
        raise UserError(f"workers must be from 1 to {_MAX_WORKERS}, not {shown(workers)}", hint="1 is the default.")
    chosen = elevated(lambda: arguments.chosen(pipeline))
    first_slot = (chosen[0] if pipeline is not None else 0) * _MAX_WORKERS
    names = _names(pipeline)[:workers]
    commands = {name: _command(pipeline, first_slot + n) for n, name in enumerate(names, 1)}
    here = _is_here()
    for problem in elevated(lambda: problems(workers, _names(pipeline))):
        db.warning(problem.said, hint=problem.hint)
    if not here:
        return _elsewhere(commands)
    _remove(pipeline)
    for name, command in commands.items():
        _put(name, command)
    db.run(SQL.schedule, _house(), _HOUSEKEEPING, _cleaning())
    db.notice(
        f"pg_cron runs {workers} worker{'s' if workers > 1 else ''} within a minute; see cron.job_run_details,"
        f" of which our rows are kept for {_KEPT}"
    )
    return f"scheduled: {', '.join(commands)}"


def problems(workers: int, replaced: list[str]) -> list[Problem]:
    """Return what keeps so many workers from running beside those that are scheduled; needs the extension's rights.

    ``replaced``: names of jobs that do not count, because these workers are to come in their place.
    """
    row = db.one(SQL.limits)
    here = _extension()
    assert row is not None
    others = int(db.value(SQL.others, replaced)) if here["version"] is not None else 0
    return cadence.problems(Limits(**row, others=others), workers)


@entry
def cron_problems(workers: int | None) -> list[tuple[str, str]]:
    """Body of embed.cron_problems(): the same, as rows."""
    return [(problem.said, problem.hint) for problem in problems(workers or 0, [])]


@entry
def embed_unschedule(pipeline: str | None) -> str:
    """Remove the jobs that embed_schedule made with the same argument; raises 55000, 58P01."""
    if not _is_here():
        names = ", ".join(db.literal(name) for name in _names(pipeline))
        return (
            f"SELECT cron.unschedule(jobid) FROM cron.job WHERE jobname IN ({names});\n"
            f"SELECT cron.unschedule(jobid) FROM cron.job WHERE jobname = {db.literal(_house())} AND NOT EXISTS (SELECT"
            f" FROM cron.job j WHERE j.database = {db.literal(_here())} AND j.jobname ~ '^evergreen .*#[0-9]+$');"
        )
    removed = _remove(pipeline)
    db.rows(SQL.unschedule_house, _house())
    elevated(lambda: db.rows(SQL.unschedule_indexes))  # those are of the extension's owner
    running = elevated(lambda: db.rows(SQL.running))
    if running:
        pids = ", ".join(str(row["pid"]) for row in running)
        db.notice(
            f"{counted(len(running), 'worker is', 'workers are')} still running (pid {pids}): one of pg_cron's ends"
            " within a minute, `evergreen worker` when it is stopped"
        )
    return f"unscheduled: {', '.join(removed) or 'nothing was scheduled'}"


def is_scheduled(pipeline: str) -> bool:
    """Tell whether pg_cron runs workers here that work on a pipeline; needs the extension's rights."""
    here = _extension()
    return here["version"] is not None and bool(db.value(SQL.is_scheduled, [*_names(None), *_names(pipeline)]))


def _extension() -> db.Row:
    """Return where pg_cron is. Whether it is loaded is a setting that only pg_read_all_settings sees."""
    row = elevated(lambda: db.one(SQL.extension))
    assert row is not None
    return row


def _names(pipeline: str | None) -> list[str]:
    """The names of all jobs there can be; a pipeline's is quoted, so that none is a part of another."""
    which = db.literal(pipeline) if pipeline is not None else "*"
    return [f"evergreen {_here()} {which} #{number}" for number in range(1, _MAX_WORKERS + 1)]


def _here() -> str:
    return str(_extension()["here"])


def _house() -> str:
    return f"evergreen {_here()} housekeeping"


def _put(name: str, command: str) -> None:
    """Schedule a worker, by the minute where pg_cron's library is older than its extension says."""
    here = _extension()
    try:
        db.atomically(lambda: db.run(SQL.schedule, name, cadence.schedule(here["version"]), command))
    except db.DatabaseError as error:
        if db.sqlstate(error) != "22023":
            raise
        db.run(SQL.schedule, name, cadence.EVERY_MINUTE, command)


def _cleaning() -> str:
    """Delete old rows of our own runs; a role may delete its own, by pg_cron's policy."""
    worker = f"CALL {evergreen.extension_schema()}.embed_work("
    return (
        "SET TRANSACTION READ WRITE; DELETE FROM cron.job_run_details WHERE status IN ('succeeded', 'failed')"
        f" AND coalesce(end_time, start_time, '-infinity') < now() - interval '{_KEPT}'"
        f" AND (database = {db.literal(_here())} AND starts_with(command, {db.literal(worker)})"
        f" OR jobid IN (SELECT jobid FROM cron.job WHERE jobname = {db.literal(_house())}))"
    )


def _command(pipeline: str | None, slot: int) -> str:
    """The call with every argument and its type: a procedure of this name by another role is never nearer to it."""
    which = db.literal(pipeline) if pipeline is not None else "NULL"
    return (
        f"CALL {evergreen.extension_schema()}.embed_work({which}::pg_catalog.text,"
        f" max_runtime => '{_RUNTIME}'::pg_catalog.interval, until_empty => false, slot => {slot}, until_idle => false)"
    )


def _is_here() -> bool:
    """True when pg_cron runs in this database and the caller may use it; raises when it runs nowhere."""
    here = _extension()
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
    if not db.value(SQL.may_use):
        role = caller()
        raise UserError(
            f'role "{role}" may not use pg_cron', "42501", hint=f"GRANT USAGE ON SCHEMA cron TO {db.identifier(role)};"
        )
    return True


def _elsewhere(commands: dict[str, str]) -> str:
    here = _extension()
    database = db.literal(here["here"])
    every = db.literal(cadence.schedule(None))
    calls = [
        f"SELECT cron.schedule_in_database({db.literal(name)}, {every}, {db.literal(command)}, {database});"
        for name, command in commands.items()
    ]
    house = (_house(), _HOUSEKEEPING, _cleaning())
    calls.append(f"SELECT cron.schedule({', '.join(db.literal(part) for part in house)});")
    db.notice(f'pg_cron lives in database "{here["home"]}": run the returned statements there')
    return "\n".join(calls)


def _remove(pipeline: str | None) -> list[str]:
    removed = [(row["jobid"], row["jobname"]) for row in db.rows(SQL.jobs, _names(pipeline))]
    for number, _ in removed:
        db.run(SQL.unschedule, number)
    return [name for _, name in removed]
