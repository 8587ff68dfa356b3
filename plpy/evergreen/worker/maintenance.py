"""Maintenance that a worker runs every minute; each task may fail on its own."""

from collections.abc import Callable

from evergreen.catalog import maintenance, options, pipelines
from evergreen.catalog.maintenance import Task
from evergreen.core.step import Step
from evergreen.embedding import suspects
from evergreen.embedding.limits import state
from evergreen.embedding.watch import state as watch
from evergreen.generations import bloat, indexing, retire
from evergreen.queue import change_log, claims
from evergreen.storage import generation_tables, recall, remote_batches, usage, vector_cache


def run_all(step: Step, *, is_idle: bool) -> None:
    """Run everything that is due. ``is_idle``: no batch is under way, so an index may take seconds."""
    maintenance.run(step, [*leftovers(), *_counters()])
    _run_found(step, "retirement", retire.due, retire.KINDS)
    if is_idle:
        _run_found(step, "indexes", indexing.due, indexing.KINDS)
        _run_found(step, "bloated indexes", bloat.due, bloat.KINDS)
    maintenance.run(step, [Task("maintenance errors", maintenance.forget_old)])


def leftovers() -> list[Task]:
    """Return the cleanup after crashed workers and dropped pipelines; drains and embed_claim run it too."""
    return [
        Task("jobs of dropped generations", claims.delete_work_of_dropped),
        Task("abandoned claims", claims.delete_abandoned),
        Task("lag", usage.aggregate_lag),
    ]


def _counters() -> list[Task]:
    return [
        Task("cache", lambda: vector_cache.purge(options.get("cache_retention"))),
        Task("cache limit", _trim_cache),
        Task("rows of ended batches", claims.wake_ended),
        Task("old batches", remote_batches.purge),
        Task("suspects", suspects.purge),
        Task("watch of dropped models", watch.forget_dropped),
        Task("counters", state.create_all),
        Task("queue rows", change_log.make_missing),
        Task("names of sources", pipelines.record_names),
        Task("incomplete pipelines", pipelines.warn_of_missing_parts),
        Task("usage", usage.aggregate),
        Task("erased texts", vector_cache.purge_erased),
        Task("statistics of keys", generation_tables.drop_statistics),
        Task("recall of dropped indexes", recall.forget_dropped),
    ]


def _trim_cache() -> None:
    limit = options.get("cache_limit")
    vector_cache.trim(None if limit == "auto" else int(limit))


def _run_found(step: Step, name: str, search: Callable[[], list[Task]], kinds: tuple[str, ...]) -> None:
    """Run the tasks that a search finds."""
    tasks: list[Task] = []
    maintenance.run_found(step, Task(f"search for {name}", lambda: tasks.extend(search())), tasks, kinds)
