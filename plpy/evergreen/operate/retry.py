"""embed_retry: dead letters, and rows that wait after an error, are to be tried again at once."""

from evergreen import db
from evergreen.catalog import access
from evergreen.catalog.pipelines import Pipeline
from evergreen.gate import caller, elevated, entry
from evergreen.prepare import read
from evergreen.queries import load
from evergreen.wording import counted

SQL = load(__file__)


@entry
def embed_retry(pipeline: str | None, key: str | None) -> int:
    """Queue one failed row, or all of them (NULL); return how many. Raises 42704, 42501, 22023, 22P02.

    The keys go by the change log, as every change does: no job that an open drain holds is waited for, a row that a
    worker has just now is done once more after it, and a key whose row is gone comes to nothing.
    """
    role = caller()

    def retry() -> int:
        found = access.owned(pipeline, role)
        canonical = read.canonical(found, key) if key is not None else None
        count = db.run(SQL.retry, found.id, [g.id for g in found.generations], canonical)
        db.notice(_next(found, canonical, count))
        return count

    return elevated(retry)


def waiting_again(pipeline: Pipeline) -> None:
    """Have rows that wait after an error tried again at once, as its reason may be gone."""
    db.run(SQL.again, pipeline.id, [g.id for g in pipeline.generations])


def _next(pipeline: Pipeline, key: str | None, count: int) -> str:
    if not count and key is not None:
        return (
            f"row {key} did not fail; SELECT embed_explain({db.literal(pipeline.name)}, {db.literal(key)}) tells more"
        )
    if not count:
        return f'no row of pipeline "{pipeline.name}" failed'
    call = "embed_drain" if pipeline.state == "active" else "embed_resume"
    return f"{counted(count, 'row')} queued; next: SELECT {call}({db.literal(pipeline.name)})"
