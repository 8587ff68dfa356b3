"""embed_retry: dead letters, and rows that wait after an error, are tried again at once."""

from evergreen import db
from evergreen.catalog import access, counters
from evergreen.catalog.pipelines import Pipeline
from evergreen.errors import RetryableError, UserError
from evergreen.gate import caller, elevated, entry
from evergreen.model import shared as traffic
from evergreen.model.registry import provider
from evergreen.model.spec import Model
from evergreen.prepare import read
from evergreen.queries import load
from evergreen.wording import counted

SQL = load(__file__)


@entry
def embed_retry(pipeline: str | None, key: str | None) -> int:
    """Queue one failed row, or all of them (NULL); return how many. Raises 42704, 42501, 22023, 22P02, 55P03.

    The keys go by the change log, as every change does: no job that an open drain holds is waited for, a row that a
    worker has just now is done once more after it, and a key whose row is gone comes to nothing. Where the model or its
    endpoint rests, one text is let through, and what comes of it decides over the next request.
    """
    role = caller()

    def retry() -> int:
        found = access.owned(pipeline, role)
        canonical = read.canonical(found, key) if key is not None else None
        count = db.run(SQL.retry, found.id, [g.id for g in found.generations], canonical)
        for line in _in_the_way(found):
            db.notice(line)
        db.notice(_next(found, canonical, count))
        return count

    return elevated(retry)


def waiting_again(pipeline: Pipeline) -> None:
    """Queue rows that wait after an error at once, as its reason may be gone."""
    db.run(SQL.again, pipeline.id, [g.id for g in pipeline.generations])


def _in_the_way(pipeline: Pipeline) -> list[str]:
    """Return what else keeps the rows waiting, and what is done about it."""
    lines = (
        [] if pipeline.broken_reason is None else [f'pipeline "{pipeline.name}" is broken: {pipeline.broken_reason}']
    )
    if spent := db.value(SQL.spent, pipeline.id):
        lines.append(
            f'pipeline "{pipeline.name}" has spent its {" and ".join(spent)} of today (UTC), which a retry does not'
            " change: raise it with embed_alter(), or wait for midnight"
        )
        return lines
    counters.create_all()
    rests = {_try_once(g.model) for g in pipeline.generations if not provider(g.model.provider).free}
    return [*lines, *(f"{reason}; one text tries it now" for reason in sorted(r for r in rests if r is not None))]


def _try_once(model: Model) -> str | None:
    try:
        return traffic.try_once(model)
    except RetryableError as error:
        raise UserError(str(error), "55P03", hint="Try again in a moment.") from error


def _next(pipeline: Pipeline, key: str | None, count: int) -> str:
    if not count and key is not None:
        return (
            f"row {key} did not fail; SELECT embed_explain({db.literal(pipeline.name)}, {db.literal(key)}) tells more"
        )
    if not count:
        return f'no row of pipeline "{pipeline.name}" failed or waits after an error'
    call = "embed_drain" if pipeline.state == "active" else "embed_resume"
    return f"{counted(count, 'row')} queued; next: SELECT {call}({db.literal(pipeline.name)})"
