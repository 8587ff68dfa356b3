"""embed_capture_set: another way to see changes, without a change that neither way sees."""

from evergreen import db
from evergreen.catalog import access, columns, pipelines
from evergreen.catalog.columns import Source
from evergreen.catalog.pipelines import Pipeline
from evergreen.detect import follow, slot, triggers
from evergreen.detect.own_ddl import own_ddl
from evergreen.errors import UserError
from evergreen.gate import caller, elevated, entry
from evergreen.queries import load
from evergreen.schedule import intake
from evergreen.setup import request
from evergreen.setup.create import with_short_locks

SQL = load(__file__)


@entry
def embed_capture_set(pipeline: str | None, capture: str | None) -> None:
    """Switch; raises 42704, 42501, 22023, 55000 and 55P03."""
    role = caller()

    def switch() -> None:
        found = access.owned(pipeline, role)
        current = follow.check(found)
        source = columns.describe(found.source)
        if current is None or source is None:
            raise UserError(
                f'the source of pipeline "{pipeline}" cannot be read',
                "55000",
                hint="SELECT last_error FROM embed_status;",
            )
        wanted = request.check_capture(capture, source)
        if wanted == current.capture:
            db.notice(f'pipeline "{pipeline}" has capture {wanted} already, skipping')
            return
        with own_ddl(source.oid):
            with_short_locks(lambda: _switch(current.id, source, wanted), source.qualified)

    elevated(switch)


def _switch(number: int, source: Source, wanted: str) -> None:
    before = pipelines.by_id(number)
    assert before is not None
    db.run(SQL.set_capture, number, wanted)
    if wanted == "cdc":
        db.run(SQL.want_wal, number, before.triggers)
        db.notice("the WAL is read as soon as a worker has made the replication slot; until then all goes on as it was")
        return
    if wanted == "trigger":
        _capture(number, source)
    else:
        triggers.remove(before)
    # After the triggers are there, and so after all who wrote without them.
    complete = before.capture == "trigger" or (before.capture == "cdc" and db.value(SQL.leave_wal, number))
    slot.unpublish_in_vain(source.oid)
    if not complete:
        intake.log_scope(number, "source")


def _capture(number: int, source: Source) -> None:
    pipeline: Pipeline | None = pipelines.by_id(number)
    assert pipeline is not None
    follow.functions_of(pipeline, source)
    triggers.install(pipeline, source)
