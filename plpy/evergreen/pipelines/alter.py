"""embed_alter, embed_pause, embed_resume, embed_capture_set and embed_setting."""

from evergreen import db
from evergreen.capture import ddl_sync, generated, triggers
from evergreen.capture.triggers import own_ddl
from evergreen.capture.wal import handover, slot
from evergreen.catalog import json_objects, languages, models, pipelines
from evergreen.catalog import options as pipeline_options
from evergreen.catalog.options import SETTINGS, get, interval_seconds
from evergreen.core.errors import UserError
from evergreen.core.pipeline import Pipeline
from evergreen.core.text import quoted
from evergreen.db.locks import with_short_locks
from evergreen.db.privileges import as_extension_owner, caller, sql_entry
from evergreen.db.queries import load
from evergreen.embedding.batches.registry import of_model
from evergreen.embedding.limits import state as counters
from evergreen.pipelines import validation
from evergreen.queue import change_log, claims, failures
from evergreen.source import table
from evergreen.source.table import Source
from evergreen.storage import batch_spool

SQL = load(__package__)
_BUDGET = ("daily_tokens", "daily_cost")
_DIGITS = 15


@sql_entry
def embed_alter(pipeline: str | None, options: str | None) -> str:
    """Merge options into a pipeline's and return all, with defaults; raises 42704, 42501, 22023, 0A000."""
    role = caller()

    def alter() -> str:
        found = pipelines.owned(pipeline, role)
        given = pipeline_options.merge(found.options, options if options is not None else "{}")
        merged = languages.check(pipeline_options.check_intervals(given))
        counters.create_budget(found.id, merged, found.active.model)
        db.run(SQL.set_options, found.id, json_objects.dumps(merged))
        if pipeline_options.effective(merged, "backfill_via") != "batch":
            _give_back_open_batches(found.id)
        elif of_model(found.active.model) is None:
            model = found.active.model.name
            db.notice(f'history goes by requests with model "{model}", whose endpoint has no option batch_api')
        if merged.get("wakeup") != found.options.get("wakeup"):
            generated.replace_capture_function(found.id)
        if any(found.options.get(name) != merged.get(name) for name in _BUDGET):
            failures.retry_now(found)  # jobs that wait for the next day's budget
        shown = {name: pipeline_options.effective(merged, name) for name in pipeline_options.PIPELINE}
        if shown["language"] == pipeline_options.DEFAULT:
            shown["language"] = languages.default()
        return json_objects.dumps(shown)

    return as_extension_owner(alter)


def _give_back_open_batches(pipeline_id: int) -> None:
    """Let rows whose batch was not sent go by requests; a batch that was sent is paid for."""
    for batch in batch_spool.lock_open_of(pipeline_id):
        claims.wake_batch(batch)
        batch_spool.delete(batch)


@sql_entry
def embed_pause(pipeline: str | None) -> None:
    """Pause work on a pipeline; raises 42704, 42501."""
    _set_state(pipeline, "paused")


@sql_entry
def embed_resume(pipeline: str | None) -> None:
    """Resume work on a pipeline; raises 42704, 42501."""
    _set_state(pipeline, "active")


def _set_state(pipeline: str | None, state: str) -> None:
    role = caller()
    as_extension_owner(lambda: db.run(SQL.set_state, pipelines.owned(pipeline, role).id, state))


@sql_entry
def embed_capture_set(pipeline: str | None, capture: str | None) -> None:
    """Switch how changes are captured, without a gap; raises 42704, 42501, 22023, 55000 and 55P03."""
    role = caller()

    def switch() -> None:
        found = pipelines.owned(pipeline, role)
        current = ddl_sync.follow_ddl(found)
        source = table.of_pipeline(found)
        if current is None or source is None:
            raise UserError(
                f'the source of pipeline "{pipeline}" cannot be read',
                "55000",
                hint="SELECT last_error FROM embed_status;",
            )
        wanted = validation.check_capture(capture, source)
        if wanted == current.capture:
            db.notice(f'pipeline "{pipeline}" has capture {wanted} already, skipping')
            return
        with own_ddl(source.oid, *(link.base for link in current.links)):
            with_short_locks(lambda: _switch(current.id, source, wanted), source.qualified)

    as_extension_owner(switch)


def _switch(pipeline_id: int, source: Source, wanted: str) -> None:
    before = pipelines.by_id(pipeline_id)
    assert before is not None
    db.run(SQL.set_capture, pipeline_id, wanted)
    if wanted == "cdc":
        handover.request(pipeline_id, triggers=before.triggers)
        db.notice("a worker creates the replication slot and then reads the WAL; until then capture goes on as before")
        return
    if wanted == "trigger":
        _install_triggers(pipeline_id, source)
    else:
        triggers.remove(before)
    # After the triggers are installed, and so after every writer without them.
    complete = before.capture == "trigger" or (before.capture == "cdc" and handover.leave(pipeline_id))
    slot.unpublish_unused(source.oid)
    if not complete:
        change_log.log_scope(pipeline_id, "source")


def _install_triggers(pipeline_id: int, source: Source) -> None:
    pipeline: Pipeline | None = pipelines.by_id(pipeline_id)
    assert pipeline is not None
    generated.create_functions(pipeline, source)
    triggers.install(pipeline, triggers.captured(pipeline, source))


@sql_entry
def embed_setting(name: str | None, value: str | None) -> str:
    """Return a setting, and set it first when a value is given; raises 22023, 42501, 42704."""
    if name not in SETTINGS:
        raise UserError(f"there is no setting {quoted(name)}", hint=f"Settings are: {', '.join(sorted(SETTINGS))}.")
    role = caller()
    return as_extension_owner(lambda: get(name) if value is None else _set(name, value, role))


def _set(name: str, value: str, role: str) -> str:
    if not pipelines.is_admin(role):
        raise UserError(f'only embed_admin may change setting "{name}"', "42501", hint="Ask a member of embed_admin.")
    if name == "default_model":
        models.by_name(value)
    elif name == "index_from":
        if not value.isdecimal() or len(value) > _DIGITS or int(value) < 1:
            raise UserError(f'setting "{name}" must be a number of chunks, not "{value}"', hint="10000 is the default.")
    elif name == "cache_limit":
        if value != "auto" and (not value.isdecimal() or len(value) > _DIGITS):
            raise UserError(
                f'setting "{name}" must be a number of vectors or auto, not "{value}"',
                hint="'auto', the default, is the number of live vectors.",
            )
    elif name == "watch" and value == "off":
        pass
    elif not pipeline_options.is_interval(value):
        example = "For example '1 hour'; 'off': never." if name == "watch" else "For example '30 days'."
        raise UserError(f'setting "{name}" must be an interval, not "{value}"', hint=example)
    elif name == "lease" and interval_seconds(value) < 1:
        raise UserError(f'setting "lease" must be at least a second, not "{value}"', hint="'5 minutes' is the default.")
    db.run(SQL.upsert_setting, name, value)
    return value
