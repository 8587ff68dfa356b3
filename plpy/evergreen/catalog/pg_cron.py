"""The jobs that pg_cron has for the workers of this database."""

from evergreen import db
from evergreen.db.privileges import as_extension_owner
from evergreen.db.queries import load

SQL = load(__package__)
MAX_WORKERS = 32
#: A regular expression for the names of the workers' jobs, see ``job_names``.
WORKER_JOBS = "^evergreen .*#[0-9]+$"


def is_scheduled(pipeline: str) -> bool:
    """Return whether pg_cron runs workers here that work on a pipeline; needs the extension's rights."""
    here = installation()
    return here["version"] is not None and bool(db.value(SQL.is_scheduled, [*job_names(None), *job_names(pipeline)]))


def next_drain(pipeline: str) -> str:
    """Return what embeds the rows that wait, for a NOTICE; needs the extension's rights."""
    drain = f"SELECT embed_drain({db.literal(pipeline)})"
    if is_scheduled(pipeline):
        return f"pg_cron runs a worker that does it; next: {drain} to have it done at once"
    return f"next: {drain}"


def installation() -> db.Row:
    """Return where pg_cron is. Whether it is loaded is a setting that only pg_read_all_settings sees."""
    row = as_extension_owner(lambda: db.one(SQL.extension))
    assert row is not None
    return row


def job_names(pipeline: str | None) -> list[str]:
    """Return the names of all jobs there can be; a pipeline's is quoted, so that none is a part of another."""
    which = db.literal(pipeline) if pipeline is not None else "*"
    return [f"evergreen {database_name()} {which} #{number}" for number in range(1, MAX_WORKERS + 1)]


def index_job(index: str) -> str:
    """Return the name of the job that builds an index, whose own name begins with its generation's, such as ``g7``."""
    return f"evergreen index {database_name()} {index}"


def cleanup_job() -> str:
    """Return the name of the job that deletes old rows of our runs."""
    return f"evergreen {database_name()} cleanup"


def database_name() -> str:
    """Return the name of this database."""
    return str(installation()["here"])
