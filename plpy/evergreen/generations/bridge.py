"""embed_bridge: questions to the active generation by the model of the one that is being built."""

from evergreen import db
from evergreen.catalog import models, pipelines
from evergreen.core.errors import UserError
from evergreen.core.frozen import frozen
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.core.text import format_number, quoted
from evergreen.db import event_log
from evergreen.db.errors import is_undefined_table
from evergreen.db.privileges import as_extension_owner, caller, sql_entry
from evergreen.generations import procrustes
from evergreen.generations.build import built, changed, hold
from evergreen.generations.procrustes import KnownItems, Matrix
from evergreen.storage import bridges, indexes

_SAMPLE, _MAX_SAMPLE = 5000, 20_000
_LEAST_PAIRS = 100
_ALIKE = 0.95  # recall of related models; at 0.86, questions found a third of what they found before
_HELD_OUT = 0.2
_MAX_HELD_OUT = 1000
_MAX_CHUNKS = 50_000  # among which a known item has to be found
_MAX_NUMBERS = 4096 * 4096  # of a matrix: 64 MB, and half a minute to decompose


@frozen
class _Learned:
    """A map, and what it is worth. ``pairs``: with those held out."""

    matrix: Matrix
    pairs: int
    held_out: int
    recall: float
    overlap: float | None


@sql_entry
def embed_bridge(
    pipeline: str | None, sample: int | None, min_recall: float | None
) -> tuple[int, float, float | None, bool]:
    """Return (pairs, recall, overlap, active); raises 42704, 42501, 22023, 54000, 55000 (none is built, or below)."""
    role = caller()
    most, least = _checked(sample, min_recall)

    def build() -> _Learned:
        found = pipelines.owned(pipeline, role)
        building = built(found)
        _check_size(found, building)
        learned = _learn(found, building, most)
        _check_recall(found, building, learned, most, least)
        _begin(found, building, learned)
        return learned

    learned = as_extension_owner(build)
    return learned.pairs, learned.recall, learned.overlap, True


@sql_entry
def embed_bridge_drop(pipeline: str | None) -> None:
    """Embed questions by the active generation's model again; raises 42704, 42501."""
    role = caller()

    def drop() -> None:
        found = pipelines.owned(pipeline, role)
        hold(found)
        if bridges.delete([found.active.id]):
            event_log.info("bridge_dropped", pipeline=found.name, generation=found.active.id)
        else:
            db.notice(f'pipeline "{found.name}" has no bridge')

    as_extension_owner(drop)


def _checked(sample: int | None, min_recall: float | None) -> tuple[int, float]:
    most = sample if sample is not None else _SAMPLE
    if not _LEAST_PAIRS <= most <= _MAX_SAMPLE:
        raise UserError(
            f"sample must be from {_LEAST_PAIRS} to {format_number(_MAX_SAMPLE)}, not {quoted(most)}",
            hint=f"{_SAMPLE} is the default.",
        )
    least = min_recall if min_recall is not None else 0.8
    if not 0 <= least <= 1:
        raise UserError(f"min_recall must be from 0 to 1, not {quoted(least)}", hint="0.8 is the default.")
    return most, least


def _check_size(pipeline: Pipeline, building: Generation) -> None:
    new, old = building.model.dimensions, pipeline.active.model.dimensions
    if new * old > _MAX_NUMBERS:
        raise UserError(
            f"a bridge from {format_number(new)} to {format_number(old)} dimensions is too large",
            "54000",
            hint=f"Let the build end, then SELECT embed_promote({db.literal(pipeline.name)}).",
        )


def _learn(pipeline: Pipeline, building: Generation, most: int) -> _Learned:
    """Learn from all pairs but those held out; locks on the tables are given up in between."""
    active, schema = pipeline.active, models.vector_schema()
    try:
        new, old = db.in_discarded_subtransaction(lambda: bridges.read_pairs(active, building, most))
        if len(new) < _LEAST_PAIRS:
            raise _too_few(pipeline, building, len(new))
        held_out = min(int(_HELD_OUT * len(new)), _MAX_HELD_OUT)
        matrix = procrustes.learn(new[held_out:], old[held_out:])
        mapped = new[:held_out] @ matrix
        db.check_interrupts()
        distances = [indexes.index_of_options(generation, schema).distance for generation in (building, active)]
        overlap = procrustes.overlap(mapped, (new, distances[0]), (old, distances[1]), held_out)
        items = KnownItems(mapped, old[:held_out], distances[1])
        db.in_discarded_subtransaction(lambda: _compare_all(items, active))
    except db.DatabaseError as error:
        if is_undefined_table(error):
            raise changed(pipeline) from error
        raise
    return _Learned(matrix, len(new), held_out, items.recall, overlap)


def _compare_all(items: KnownItems, active: Generation) -> None:
    for chunks in bridges.read_vectors(active, _MAX_CHUNKS):
        items.add(chunks)


def _too_few(pipeline: Pipeline, building: Generation, pairs: int) -> UserError:
    active, name = pipeline.active, db.literal(pipeline.name)
    prepared = [(one.columns, one.template, one.chunker) for one in (active, building)]
    hint = f"SELECT embed_drain({name}) embeds more; then try again."
    if prepared[0] != prepared[1]:
        hint = "Generations that differ in text or chunker have few chunks in common: change only the model. " + hint
    return UserError(
        f"generations {active.id} and {building.id} of pipeline {quoted(pipeline.name)} have {format_number(pairs)}"
        f" chunks in common, and a bridge needs {_LEAST_PAIRS}",
        "55000",
        hint=hint,
    )


def _check_recall(pipeline: Pipeline, building: Generation, learned: _Learned, most: int, least: float) -> None:
    if learned.recall >= least:
        return
    name = db.literal(pipeline.name)
    hint = f"Let the build end, then SELECT embed_promote({name}): the two models are too different."
    if learned.pairs < _SAMPLE:
        more = f"SELECT embed_drain({name}) embeds more;" if learned.pairs < most else f"sample => {_SAMPLE};"
        hint = f"More pairs make a better bridge. {more} then try again."
    overlap = f"{learned.overlap:.4f}" if learned.overlap is not None else "unknown"
    raise UserError(
        f"a bridge from generation {building.id} to {pipeline.active.id} of pipeline {quoted(pipeline.name)} has a"
        f" recall of {learned.recall:.4f}, below min_recall {least:g} ({format_number(learned.pairs)} pairs,"
        f" {format_number(learned.held_out)} held out, overlap {overlap})",
        "55000",
        hint=hint,
    )


def _begin(pipeline: Pipeline, building: Generation, learned: _Learned) -> None:
    """Record the bridge, if the generations are still the same."""
    hold(pipeline)
    now = pipelines.by_id(pipeline.id)
    if now is None or now.active.id != pipeline.active.id or now.building is None or now.building.id != building.id:
        raise changed(pipeline)
    bridges.record(now.active, building, learned.matrix, learned.pairs, learned.recall, learned.overlap)
    event_log.info(
        "bridge_built",
        pipeline=pipeline.name,
        generation=building.id,
        pairs=learned.pairs,
        recall=round(learned.recall, 4),
    )
    _say(pipeline, building, learned)


def _say(pipeline: Pipeline, building: Generation, learned: _Learned) -> None:
    name = db.literal(pipeline.name)
    said = f"questions are embedded by {building.model.name} until embed_promote({name}) or embed_bridge_drop({name})"
    if learned.recall < _ALIKE:
        said += f"; the models are unlike, and results much worse: SELECT * FROM embed_compare({name}) shows them"
    db.notice(said)
