"""embed_schedule: pg_cron runs embed_work every minute, one job a worker, each in a slot of its own."""

import evergreen
from evergreen import db
from evergreen.errors import UserError, shown
from evergreen.gate import elevated, entry
from evergreen.queries import load
from evergreen.schedule import arguments

SQL = load(__file__)

# A run lasts almost to the next minute's; the next one waits for its slot, so that runs neither gap nor pile up.
_RUNTIME = "58 s"
_MAX_WORKERS = 32


@entry
def embed_schedule(workers: int | None, pipeline: str | None) -> str:
    """Schedule the workers of this database (or of one pipeline) anew; raises 22023, 42704, 55000, 58P01."""
    if workers is None or not 1 <= workers <= _MAX_WORKERS:
        raise UserError(f"workers must be from 1 to {_MAX_WORKERS}, not {shown(workers)}", hint="1 is the default.")
    chosen = elevated(lambda: arguments.chosen(pipeline))
    first_slot = (chosen[0] if pipeline is not None else 0) * _MAX_WORKERS
    names = _names(pipeline)[:workers]
    commands = {name: _command(pipeline, first_slot + n) for n, name in enumerate(names, 1)}
    if not _is_here():
        return _elsewhere(commands)
    _remove(pipeline)
    for name, command in commands.items():
        db.run(SQL.schedule, name, command)
    db.notice(
        f"pg_cron runs {workers} worker{'s' if workers > 1 else ''} from the next minute on; see cron.job_run_details"
    )
    return f"scheduled: {', '.join(commands)}"


@entry
def embed_unschedule(pipeline: str | None) -> str:
    """Remove the jobs that embed_schedule made with the same argument; raises 55000, 58P01."""
    if not _is_here():
        names = ", ".join(db.literal(name) for name in _names(pipeline))
        return f"SELECT cron.unschedule(jobid) FROM cron.job WHERE jobname IN ({names});"
    return f"unscheduled: {', '.join(_remove(pipeline)) or 'nothing was scheduled'}"


def _names(pipeline: str | None) -> list[str]:
    """The names of all jobs there can be; a pipeline's is quoted, so that none is a part of another."""
    here = db.one(SQL.extension)
    assert here is not None
    which = db.literal(pipeline) if pipeline is not None else "*"
    return [f"evergreen {here['here']} {which} #{number}" for number in range(1, _MAX_WORKERS + 1)]


def _command(pipeline: str | None, slot: int) -> str:
    which = f"{db.literal(pipeline)}, " if pipeline is not None else ""
    return f"CALL {evergreen.extension_schema()}.embed_work({which}max_runtime => '{_RUNTIME}', slot => {slot})"


def _is_here() -> bool:
    """True when pg_cron runs in this database; raises when it runs nowhere."""
    here = db.one(SQL.extension)
    assert here is not None
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
    return True


def _elsewhere(commands: dict[str, str]) -> str:
    here = db.one(SQL.extension)
    assert here is not None
    database = db.literal(here["here"])
    calls = [
        f"SELECT cron.schedule_in_database({db.literal(name)}, '* * * * *', {db.literal(command)}, {database});"
        for name, command in commands.items()
    ]
    db.notice(f'pg_cron lives in database "{here["home"]}": run the returned statements there')
    return "\n".join(calls)


def _remove(pipeline: str | None) -> list[str]:
    removed = [(row["jobid"], row["jobname"]) for row in db.rows(SQL.jobs, _names(pipeline))]
    for number, _ in removed:
        db.run(SQL.unschedule, number)
    return [name for _, name in removed]
