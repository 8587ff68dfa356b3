"""embed_alter, embed_pause and embed_resume."""

from evergreen import db
from evergreen.catalog import access, counters, intervals, languages, objects
from evergreen.catalog import options as pipeline_options
from evergreen.detect import follow
from evergreen.gate import caller, elevated, entry
from evergreen.operate import retry
from evergreen.queries import load

SQL = load(__file__)

_BUDGET = ("daily_tokens", "daily_cost")


@entry
def embed_alter(pipeline: str | None, options: str | None) -> str:
    """Merge options and return them all, defaults included; raises 42704, 42501, 22023, 0A000."""
    role = caller()

    def alter() -> str:
        found = access.owned(pipeline, role)
        given = pipeline_options.merge(found.options, options if options is not None else "{}")
        merged = languages.check(intervals.check(given))
        counters.create_budget(found.id, merged, found.active.model)
        db.run(SQL.set_options, found.id, objects.dumps(merged))
        if merged.get("wakeup") != found.options.get("wakeup"):
            follow.regenerate_capture(found.id)
        if any(found.options.get(name) != merged.get(name) for name in _BUDGET):
            retry.waiting_again(found)  # what waits for midnight need not any more
        return objects.dumps({name: pipeline_options.effective(merged, name) for name in pipeline_options.PIPELINE})

    return elevated(alter)


@entry
def embed_pause(pipeline: str | None) -> None:
    """Stop the work; raises 42704, 42501."""
    _set_state(pipeline, "paused")


@entry
def embed_resume(pipeline: str | None) -> None:
    """Start the work again; raises 42704, 42501."""
    _set_state(pipeline, "active")


def _set_state(pipeline: str | None, state: str) -> None:
    role = caller()
    elevated(lambda: db.run(SQL.set_state, access.owned(pipeline, role).id, state))
