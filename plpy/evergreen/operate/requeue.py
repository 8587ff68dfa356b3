"""embed_retry, embed_backfill and embed_touch."""

from evergreen import db
from evergreen.capture import ddl_sync, triggers
from evergreen.catalog import pg_cron, pipelines
from evergreen.core.errors import RetryableError, UserError
from evergreen.core.pipeline import Model, Pipeline
from evergreen.core.text import pluralize
from evergreen.db.errors import is_lock_unavailable
from evergreen.db.privileges import as_extension_owner, caller, sql_entry
from evergreen.db.queries import load
from evergreen.embedding.limits import shared, state
from evergreen.embedding.providers.registry import provider
from evergreen.queue import change_log, failures
from evergreen.source import reader, table
from evergreen.source.table import format_row_estimate

SQL = load(__package__)


@sql_entry
def embed_retry(pipeline: str | None, key: str | None) -> int:
    """Queue one failed row, or all of them (NULL); return how many. Raises 42704, 42501, 22023, 22P02, 55P03.

    The keys go through the change log, like every change: this never waits for an open drain, a row that a worker has
    claimed is checked again afterwards, and a key without a row has no effect. If the breaker of the model or its
    endpoint is open, one text is sent, and its result decides whether it closes.
    """
    role = caller()

    def retry() -> int:
        found = pipelines.owned(pipeline, role)
        canonical = reader.canonical(found, key) if key is not None else None
        count = failures.requeue(found, canonical)
        for line in _in_the_way(found):
            db.notice(line)
        db.notice(_next(found, canonical, count))
        return count

    return as_extension_owner(retry)


def _in_the_way(pipeline: Pipeline) -> list[str]:
    """Return what else keeps the rows waiting, and what happens about it."""
    lines = (
        [] if pipeline.broken_reason is None else [f'pipeline "{pipeline.name}" is broken: {pipeline.broken_reason}']
    )
    if spent := db.value(SQL.spent_budgets, pipeline.id):
        lines.append(
            f'pipeline "{pipeline.name}" has spent its {" and ".join(spent)} of today (UTC), which a retry does not'
            " change: raise it with embed_alter(), or wait for midnight"
        )
        return lines
    state.create_all()
    rests = {_try_once(g.model) for g in pipeline.generations if not provider(g.model.provider).free}
    return [*lines, *(f"{reason}; one text tries it now" for reason in sorted(r for r in rests if r is not None))]


def _try_once(model: Model) -> str | None:
    try:
        return shared.try_once(model)
    except RetryableError as error:
        raise UserError(str(error), "55P03", hint="Try again in a moment.") from error


def _next(pipeline: Pipeline, key: str | None, count: int) -> str:
    if not count and key is not None:
        return (
            f"row {key} did not fail; SELECT embed_explain({db.literal(pipeline.name)}, {db.literal(key)}) tells more"
        )
    if not count:
        return f'no row of pipeline "{pipeline.name}" failed or waits after an error'
    return f"{pluralize(count, 'row')} queued; {_what_embeds(pipeline)}"


def _what_embeds(pipeline: Pipeline) -> str:
    if pipeline.state != "active":
        return f"next: SELECT embed_resume({db.literal(pipeline.name)})"
    return pg_cron.next_drain(pipeline.name)


@sql_entry
def embed_backfill(pipeline: str | None) -> None:
    """Restart the cursors of every generation at the first row; raises 42704, 42501, 55000.

    Like a TRUNCATE it writes to the change log: it waits neither for a session that moves a cursor nor for an open
    drain, and the next worker starts the backfill. A backfill under way restarts, because rows that it has passed may
    have changed without firing the triggers.
    """
    role = caller()

    def backfill() -> None:
        found = ddl_sync.require_readable(pipelines.owned(pipeline, role))
        is_under_way = bool(db.value(SQL.is_backfill_running, found.id))
        change_log.log_scope(found.id, "source")
        db.notice(_next_backfill(found, is_under_way=is_under_way))

    as_extension_owner(backfill)


def _next_backfill(pipeline: Pipeline, *, is_under_way: bool) -> str:
    source = table.of_pipeline(pipeline)
    rows = format_row_estimate(source) if source is not None else "0 rows"
    what = "the backfill under way restarts: " if is_under_way else ""
    return f"{what}{rows} will be checked; {_what_embeds(pipeline)}"


@sql_entry
def embed_touch(pipeline: str | None, keys: list[str | None] | None) -> int:
    """Mark rows to be checked; return how many. Raises 42704, 42501, 22004, 22023, 22P02."""
    role = caller()

    def touch() -> int:
        found = pipelines.owned(pipeline, role)
        if not keys or not all(isinstance(key, str) for key in keys):
            raise UserError(
                "a key to touch is NULL or a list of keys",
                "22004",
                hint="Pass keys: embed_touch('docs', '[42]', '[43]').",
            )
        return _mark(found, [key for key in keys if key is not None])

    return as_extension_owner(touch)


def _mark(pipeline: Pipeline, keys: list[str]) -> int:
    try:
        canonical = reader.canonical_all(pipeline, keys)
    except db.DatabaseError as error:
        if not is_lock_unavailable(error):
            raise
        # Another session truncates or alters the source. A user's trigger that touches rows must not fail because of
        # that: all rows are checked, and fresh rows cost no call.
        change_log.log_scope(pipeline.id, "source")
        return len(keys)
    return change_log.touch(pipeline.id, canonical, wake=triggers.wakes_workers(pipeline))
