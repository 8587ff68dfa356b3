"""How pg_cron of a version is told to keep a worker running, and which of its limits are in the way of so many."""

from dataclasses import dataclass

EVERY_MINUTE = "* * * * *"
#: Since 1.5 a job of seconds starts again at once when its run was longer, and never queues twice: a worker whose
#: backend is killed is back within these seconds, and not only in the next minute.
EVERY_FEW_SECONDS = "10 seconds"
_SECONDS_SINCE = (1, 5)


def schedule(version: str | None) -> str:
    """Return the schedule of a worker's job; None: a version that is not known, as in another database."""
    parts = (version or "").replace("-", ".").split(".")[:2]
    known = tuple(int(part) for part in parts if part.isdigit())
    return EVERY_FEW_SECONDS if known >= _SECONDS_SINCE else EVERY_MINUTE


@dataclass(frozen=True)
class Limits:
    """What the server says of pg_cron; None for a setting that its version does not have."""

    preloaded: bool
    launches: bool | None  # cron.launch_active_jobs
    in_background: bool | None  # cron.use_background_workers
    most: int | None  # cron.max_running_jobs
    processes: int  # max_worker_processes
    connections: int  # max_connections, without those that are reserved
    host: str | None  # cron.host
    listens: bool  # listen_addresses is not empty
    others: int = 0  # workers that are scheduled already, and are not replaced


@dataclass(frozen=True)
class Problem:
    """Something that keeps scheduled workers from running, and what mends it."""

    said: str
    hint: str


def problems(limits: Limits, workers: int) -> list[Problem]:
    """Return what is in the way of so many workers beside those that are scheduled already."""
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
        said = f"pg_cron runs {limits.most} jobs at once (cron.max_running_jobs): {_all(wanted)} leave none for others"
        found.append(Problem(said, hint))
    if limits.in_background:
        found += _in_background(limits, wanted)
    else:
        found += _by_connections(limits, wanted)
    return found


def _all(workers: int) -> str:
    return f"{workers} workers" if workers != 1 else "1 worker"


def _in_background(limits: Limits, wanted: int) -> list[Problem]:
    left = limits.processes - 2  # pg_cron's own, and that of logical replication
    if wanted < left:
        return []
    hint = f"Set max_worker_processes to {wanted + 8} or more, or cron.use_background_workers to off, and restart."
    said = (
        f"max_worker_processes is {limits.processes}, and pg_cron runs jobs as such (cron.use_background_workers):"
        f" {_all(wanted)} leave none for others and for parallel queries"
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
    return found
