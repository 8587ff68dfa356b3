"""embed_promote and embed_rollback: one change of the catalog, after which every search sees another generation."""

import time

from evergreen import db
from evergreen.catalog import pipelines
from evergreen.core.errors import UserError
from evergreen.core.frozen import frozen
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.core.text import format_number, quoted
from evergreen.db import event_log
from evergreen.db.locks import with_short_locks
from evergreen.db.privileges import as_extension_owner, caller, sql_entry
from evergreen.db.queries import load
from evergreen.generations import indexing
from evergreen.generations.build import built, changed, hold
from evergreen.generations.compare import mean_overlap
from evergreen.source import table
from evergreen.storage import bridges, generation_tables

SQL = load(__package__)
# New rows are embedded in one generation first and then in the other, so a few can be missing for a moment.
_COVERAGE_TIMEOUT_S = 3.0
_FEW_KEYS = 1000
_POLL_INTERVAL_S = 0.02


@sql_entry
def embed_promote(pipeline: str | None, min_coverage: float | None, min_overlap: float | None) -> None:
    """Make the generation that is being built the active one.

    Raises 42704, 42501, 22023, 55000 (there is none, or it is below a gate), 55P03.
    """
    role = caller()
    least = _share("min_coverage", min_coverage if min_coverage is not None else 1.0)
    if min_overlap is not None:
        _check_overlap(pipeline, role, _share("min_overlap", min_overlap))

    def promote() -> None:
        found = pipelines.owned(pipeline, role)
        building = built(found)
        reached = coverage_reached(found.active, building, least)
        if reached.share < least:
            raise UserError(
                f"generation {building.id} of pipeline {quoted(found.name)} covers {format_number(reached.covered)} of"
                f" {format_number(reached.keys)} rows ({reached.share:.4f}), below min_coverage {least:g}",
                "55000",
                hint=f"SELECT embed_drain({db.literal(found.name)}) goes on; embed_failures lists what was given up.",
            )
        switch(found, building)
        db.notice(
            f"generation {building.id} ({building.model.name}) is active; it covers {format_number(reached.covered)} of"
            f" {format_number(reached.keys)} rows; embed_rollback({db.literal(found.name)}) goes back"
        )
        _say_without_index(building)

    as_extension_owner(promote)


@sql_entry
def embed_rollback(pipeline: str | None) -> None:
    """Make the previous generation the active one again; raises 42704, 42501, 55000, 55P03."""
    role = caller()

    def rollback() -> None:
        found = pipelines.owned(pipeline, role)
        if not found.previous:
            raise UserError(
                f'pipeline "{found.name}" has no previous generation',
                "55000",
                hint="It was retired, or nothing was promoted yet; embed_generations lists what there is.",
            )
        last = found.previous[0]
        switch(found, last)
        db.notice(f"generation {last.id} ({last.model.name}) is active again; embed_rollback() again undoes that")
        _say_without_index(last)

    as_extension_owner(rollback)


def switch(pipeline: Pipeline, to: Generation) -> None:
    """Make a generation the active one and let the view show it; the view is locked last, and for an instant."""
    hold(pipeline)
    now = pipelines.by_id(pipeline.id)
    states = {g.id: g.state for g in now.generations} if now is not None else {}
    if now is None or now.active.id != pipeline.active.id or states.get(to.id) != to.state:
        raise changed(pipeline)
    db.run(SQL.set_state, pipeline.active.id, "previous")
    db.run(SQL.set_state, to.id, "active")
    bridges.delete([pipeline.active.id, to.id])
    view, source = generation_tables.relation_name(pipeline.view), table.of_pipeline(pipeline)
    if view is None or source is None:
        raise UserError(
            f'the source or the view of pipeline "{pipeline.name}" is gone',
            "55000",
            hint="embed_drop() the pipeline and create it again.",
        )
    with_short_locks(lambda: generation_tables.create_view(pipeline, to, source, view), view)
    event = "generation_promoted" if to.state == "building" else "generation_rolled_back"
    about = {"generation": to.id, "model": to.model.name, "instead_of": pipeline.active.id}
    event_log.info(event, pipeline=pipeline.name, **about)


def _say_without_index(generation: Generation) -> None:
    said = indexing.not_yet(generation)
    if said is not None:
        db.notice(said)


def _share(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise UserError(f"{name} must be from 0 to 1, not {quoted(value)}", hint="1 means all of it.")
    return value


def _check_overlap(pipeline: str | None, role: str, least: float) -> None:
    found = as_extension_owner(lambda: pipelines.owned(pipeline, role))
    overlap = mean_overlap(found.name)
    if overlap is not None and overlap < least:
        raise UserError(
            f"the results of generation {built(found).id} of pipeline {quoted(found.name)} overlap by {overlap:.4f} on"
            f" average with those of the active one, below min_overlap {least:g}",
            "55000",
            hint=f"SELECT * FROM embed_compare({db.literal(found.name)}) shows where they differ.",
        )


@frozen
class Coverage:
    """Of the keys embedded in one generation, how many have a document in the other; no dead letters of either."""

    keys: int
    covered: int

    @property
    def share(self) -> float:
        """From 0 to 1; all of nothing is 1."""
        return self.covered / self.keys if self.keys else 1.0

    @property
    def missing(self) -> int:
        """Keys that have no document yet."""
        return self.keys - self.covered


def measure(active: Generation, building: Generation) -> Coverage:
    """Count the keys of both generations in the current snapshot."""
    row = db.one(SQL.coverage, active.id, building.id)
    assert row is not None
    return Coverage(row["keys"], row["covered"])


def coverage_reached(active: Generation, building: Generation, least: float) -> Coverage:
    """Measure coverage, and retry while only a few keys are missing: under steady writes some always are."""
    until = time.monotonic() + _COVERAGE_TIMEOUT_S
    while True:
        found = measure(active, building)
        if found.share >= least or found.missing > _FEW_KEYS or time.monotonic() > until:
            return found
        time.sleep(_POLL_INTERVAL_S)  # workers commit in between, and each measurement has its own snapshot
        db.check_interrupts()
