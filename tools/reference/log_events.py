"""Reference of the log events: names, levels and fields from the code; what each means and asks of the operator."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from tools.code import calls, name_of, text_of
from tools.paths import SERVER
from tools.reference.markdown import block, code, page, table

INTRODUCTION = """\
Every line that Evergreen writes to the server's log when something changes state, and what to do about it."""
FORMAT = """\
Lines are in logfmt. Events that may need action are logged at `WARNING`, the others at `LOG`. Each batch (`batch_done`) is logged when
`log_min_messages` is `debug2`. Lines contain no text of a row, no response and no secret."""
EXAMPLE = "evergreen: event=breaker_opened endpoint=local failures=3 rests_until=2026-11-26T03:12:09Z"
LEVELS = {"info": "LOG", "warn": "WARNING", "debug": "DEBUG2"}
MEANINGS = {
    "batch_done": "A batch was written.",
    "batch_ended": "A batch ended; what has no vector goes by requests. `embed_batches` has the details.",
    "batch_overdue": "A batch passed its deadline, so its rows go by requests, at the full price.",
    "batch_refused": "The provider refused a step of a batch; its rows go by requests. `embed_batches.last_error` says why.",
    "batch_sealed": "A batch takes no more texts and is uploaded.",
    "batch_step_failed": "A step of a batch failed in the database; it is tried again within seconds.",
    "batch_submitted": "The provider has a batch.",
    "batch_text_sent_twice": "Live rows needed texts that are in a batch, too. They do not wait, so these are paid for twice.",
    "breaker_closed": "The model or endpoint answers again.",
    "breaker_opened": "Nothing is sent to this model or endpoint for now. `evergreen doctor` says why.",
    "bridge_built": "Questions to the active generation are embedded by the model of the one being built.",
    "bridge_dropped": "Questions to the active generation are embedded by its own model again.",
    "budget_exhausted": "A daily budget is spent; the pipeline waits until midnight UTC. `embed_alter` raises the budget.",
    "budget_not_charged": "Tokens of answers that were paid for could not be charged to the budget.",
    "endpoint_set": "An endpoint was created or changed; its breakers are closed.",
    "generation_promoted": "Searches use the new generation.",
    "generation_retired": "The vectors of a previous generation were dropped.",
    "generation_rolled_back": "Searches use the previous generation again.",
    "generation_started": "A generation is being built.",
    "index_built_modestly": "The index was built with one process and little memory, because a larger build failed.",
    "index_rebuilt": "A vector index that edits had bloated was built again.",
    "recall_measured": "The recall of a vector index was measured, and with it the width of searches (`ef_search`).",
    "lateness_unknown": "Workers could not see whether pipelines are late; they look again within seconds.",
    "maintenance_failed": "A maintenance task failed and is retried. `evergreen doctor` says what to type.",
    "maintenance_recovered": "A maintenance task that had failed works again.",
    "model_failed": "Rows wait after an error of the model and are retried automatically.",
    "model_accepted": "What a model serves now counts as the model of before, by `embed_model_accept`.",
    "model_alternates": "Answers of a model are by two models in turn, so nothing is written. Its endpoint has to serve one.",
    "model_changed": "Another model is served under a model's name, and no vector is written. `evergreen doctor` names the ways"
    " out.",
    "model_not_watched": "A model could not be compared with what it was; it is tried again, and nothing stops.",
    "model_returned": "The model of a generation is served again, and work on it resumes.",
    "model_set": "Options of a model were changed.",
    "pipeline_backed_off": "Work on a pipeline failed, so workers leave it alone for a while.",
    "pipeline_broken": "A pipeline stopped: its source was changed or dropped. `embed_status.last_error` says what to do.",
    "pipeline_late": "A live change has been waiting for longer than `max_lag`. `evergreen doctor` says why, and what to do.",
    "pipeline_on_time": "No live change of a late pipeline waits any more, or none for longer than `max_lag`.",
    "pipeline_not_whole": "A part of a pipeline is missing, as after a partial restore. The line has the remedy.",
    "pipeline_recovered": "A broken pipeline works again.",
    "row_security_waits": "Row security of the source could not be applied to the vectors yet; the next worker tries again.",
    "rows_dead_lettered": "Rows were given up. `embed_failures` lists them; `embed_retry` queues them again.",
    "slot_created": "The replication slot was created.",
    "slot_dropped": "The replication slot was dropped. If a reason other than the last pipeline is given, every row is checked.",
    "vectors_marked": "Vectors written before a change of the model was noticed were marked as stale.",
    "watch_failed": "A step of watching models failed; it is tried again within seconds.",
    "usage_not_recorded": "What a request cost could not be recorded.",
    "vectors_missing": "Rows have lost their vectors, as after a restore without them. They are queued.",
}


@dataclass
class Event:
    """An event: its levels and the fields of its line."""

    levels: set[str] = field(default_factory=set)
    fields: dict[str, None] = field(default_factory=dict)


def events() -> dict[str, Event]:
    """Return every event in the code by its name."""
    found: dict[str, Event] = {}
    for level, name, fields in [*_direct(), *_in_tables()]:
        event = found.setdefault(name, Event())
        event.levels.add(level)
        event.fields |= dict.fromkeys(fields)
    return dict(sorted(found.items()))


def _direct() -> Iterator[tuple[str, str, list[str]]]:
    """Yield level, name and fields of calls like event_log.info("name", …)."""
    for path, call in calls(SERVER):
        if not (isinstance(call.func, ast.Attribute) and name_of(call.func.value) == "event_log"):
            continue
        fields = [keyword.arg for keyword in call.keywords if keyword.arg]
        for name in _names(call.args[0], path.read_text("utf-8")):
            yield LEVELS[call.func.attr], name, fields


def _names(given: ast.expr, source: str) -> list[str]:
    """Return the names that an argument may be: written out, or a variable that is one of two."""
    if (text := text_of(given)) is not None:
        return [text]
    chosen = [
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Assign) and name_of(node.targets[0]) == name_of(given)
    ]
    parts = [part for value in chosen if isinstance(value, ast.IfExp) for part in (value.body, value.orelse)]
    return [text for part in parts if (text := text_of(part)) is not None]


def _in_tables() -> Iterator[tuple[str, str, list[str]]]:
    """Yield the events of tuples like ("name", event_log.warn, …)."""
    for path in sorted(SERVER.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Tuple) or len(node.elts) < 2:  # noqa: PLR2004
                continue
            name, say = node.elts[0], node.elts[1]
            if isinstance(say, ast.Attribute) and name_of(say.value) == "event_log" and (text := text_of(name)):
                yield LEVELS[say.attr], text, []


def render() -> str:
    """Return the page; raises KeyError for an event without a meaning."""
    rows = [
        (code(name), ", ".join(sorted(event.levels)), ", ".join(map(code, event.fields)), MEANINGS[name])
        for name, event in events().items()
    ]
    return page(
        "Log events", INTRODUCTION, FORMAT, block(EXAMPLE), table(("event", "level", "fields", "meaning"), rows)
    )
