"""embed_backfill: every row of a source is to be checked, bit by bit, whatever its triggers have seen of it."""

from evergreen import db
from evergreen.catalog import access, columns
from evergreen.catalog.pipelines import Pipeline
from evergreen.detect import follow
from evergreen.gate import caller, elevated, entry
from evergreen.queries import load
from evergreen.schedule import intake
from evergreen.setup.create import rows_estimate

SQL = load(__file__)


@entry
def embed_backfill(pipeline: str | None) -> None:
    """Have the cursors of every generation begin at the first row; raises 42704, 42501, 55000.

    It goes by the change log, as a TRUNCATE does: whoever moves a cursor just now, or an open drain that has walked
    along it, is not waited for, and the next worker to look begins. What is under way begins anew, because a row that
    it has passed may have changed behind the triggers' back.
    """
    role = caller()

    def backfill() -> None:
        found = follow.readable(access.owned(pipeline, role))
        is_under_way = bool(db.value(SQL.is_under_way, found.id))
        intake.log_scope(found.id, "source")
        db.notice(_next(found, is_under_way=is_under_way))

    elevated(backfill)


def _next(pipeline: Pipeline, *, is_under_way: bool) -> str:
    source = columns.describe(pipeline.source)
    rows = rows_estimate(source) if source is not None else "0 rows"
    what = "the backfill under way begins anew: " if is_under_way else ""
    call = "embed_drain" if pipeline.state == "active" else "embed_resume"
    return f"{what}{rows} will be checked; next: SELECT {call}({db.literal(pipeline.name)})"
