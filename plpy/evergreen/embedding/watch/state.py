"""Looks at models and what follows from them, in the catalog: who looks, when, and what is served since."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from evergreen import db
from evergreen.catalog import models, options
from evergreen.core.errors import UserError
from evergreen.core.frozen import frozen
from evergreen.core.lazy import lazy
from evergreen.core.pipeline import TOTAL_TIMEOUT, Model
from evergreen.db import event_log
from evergreen.db.queries import load
from evergreen.embedding.watch.decision import Finding, Known, LookVectors, Verdict, decide
from evergreen.embedding.watch.texts import TEXTS

if TYPE_CHECKING:
    import numpy as np
    import orjson
else:
    np, orjson = lazy("numpy"), lazy("orjson")

SQL = load(__package__)
DRIFT_LIMIT = 0.02
OFF = "off"  # the setting's value
_WATCHED = {"watched": SQL.watched.text}
_UNCONFIRMED = 0  # the revision under which a look is stored that matched no revision
_LEASE_S = 45.0  # seconds that a look may wait for its turn before another session takes it
_SOON = "5 s"  # until a second look must agree
_HASTENED_S = 60.0  # seconds after a look until another name brings the next one forward
_ALTERNATING = "1 min"
_FAILED = "1 min"


@frozen
class Look:
    """A look that this session has taken. ``number``: its fencing token.

    ``before_writing``: every session looks before it writes its first vector, so a change leaves none to mark.
    """

    model: Model
    number: int
    sent_at: str
    before_writing: bool = False


@frozen
class Seen:
    """What other sessions have noted. ``changed_at``: seconds since 1970; ``is_old``: before this transaction began."""

    known: Known
    epoch: int
    changed_at: float | None
    is_old: bool


@frozen
class Sweep:
    """Vectors of a revision that were written since a time, and may be of another model."""

    model: int
    revision: int
    since: str
    dated: bool
    ready: bool


def _default() -> str | None:
    """Return how often models behind an endpoint are looked at, None for never."""
    value = options.get("watch")
    return None if value == OFF else value


def interval(model: Model) -> str | None:
    """Return how often a model is looked at; None for never."""
    if "watch" in model.options:
        return model.options["watch"]
    return _default() if model.endpoint is not None else None


def take_due() -> list[Look]:
    """Take the looks that are due."""
    default = _default()
    db.run(SQL.insert_missing.with_identifiers(**_WATCHED), default)
    rows = db.rows(SQL.take_due.with_identifiers(**_WATCHED), default, _LEASE_S, TOTAL_TIMEOUT)
    found = ((models.by_id(row["model"]), row) for row in rows)
    return [Look(model, row["looks"], row["sent_at"]) for model, row in found if model is not None]


def seconds_left() -> float | None:
    """Return the seconds until a look is due; None if no model is watched."""
    left = db.value(SQL.seconds_left.with_identifiers(**_WATCHED), _default())
    return None if left is None else float(left)


def drift_limit(model: Model) -> float:
    """Return 1 - cosine above which a model is another one."""
    return float(model.options.get("drift_limit", DRIFT_LIMIT))


def known(model: int) -> Seen | None:
    """Return what is known of a model; None if it was never looked at."""
    row = db.one(SQL.find_watch, model)
    if row is None:
        return None
    references = _references(model)
    unconfirmed = references.pop(_UNCONFIRMED, None)
    found = Known(row["revision"], row["settled"], row["agreeing"], references, unconfirmed)
    return Seen(found, row["epoch"], row["changed_at"], bool(row["is_old"]))


def confirm(model: int, drift: float) -> None:
    """Note now and then that a session found a model unchanged; locks nothing that another session has locked."""
    db.run(SQL.confirm, model, drift)


def record_loaded(model: Model, vectors: LookVectors, again: Callable[[], LookVectors]) -> Finding | None:
    """Record what a session that has loaded a model sees before it writes; a second look follows at once."""
    db.run(SQL.insert_watch, model.id)
    row = db.one(SQL.take_look, model.id)
    assert row is not None
    look = Look(model, row["looks"], row["sent_at"], before_writing=True)
    found = record(look, vectors, None)
    return record(look, again(), None) if found is not None and found.verdict is Verdict.DOUBT else found


def fail(look: Look, why: str) -> None:
    """Note that a look got no answer: it is tried again, and nothing stops."""
    event_log.info("model_not_watched", model=look.model.name, reason=why)
    db.run(SQL.postpone, look.model.id, look.number, _at_most(look.model, _FAILED))


def record(look: Look, vectors: LookVectors, served_as: str | None) -> Finding | None:
    """Compare a look with what is known and store what follows; None if another session has looked since."""
    model = look.model
    row = db.one(SQL.lock_watch, model.id, look.number)
    if row is None:
        return None
    references = _references(model.id)
    unconfirmed = references.pop(_UNCONFIRMED, None)
    before = Known(row["revision"], row["settled"], row["agreeing"], references, unconfirmed)
    found = decide(before, vectors, drift_limit(model))
    _keep(model.id, found, references, unconfirmed, vectors)
    good = look.sent_at if found.verdict in (Verdict.FIRST, Verdict.UNCHANGED, Verdict.CHANGED) else None
    _change(look, found, row)
    db.run(SQL.record_look, model.id, found.drift, served_as, _next(model, found), found.agreeing, good)
    return found


def _keep(
    model: int,
    found: Finding,
    references: dict[int, LookVectors],
    unconfirmed: LookVectors | None,
    vectors: LookVectors,
) -> None:
    """Store the vectors of a look that is a reference, or that the next one has to agree with."""
    if unconfirmed is not None:
        db.run(SQL.delete_references, model, _UNCONFIRMED)
    if found.verdict in (Verdict.DOUBT, Verdict.ALTERNATES, Verdict.UNSETTLED):
        _insert(model, _UNCONFIRMED, vectors)
    elif found.revision not in references:
        _insert(model, found.revision, vectors)


def _change(look: Look, found: Finding, before: db.Row) -> None:
    """Store a change of what is served. Vectors written since the last good look are marked later: see ``Sweep``."""
    if found.verdict not in (Verdict.CHANGED, Verdict.ALTERNATES):
        return
    model, settled = look.model, found.verdict is Verdict.CHANGED
    if before["settled"] and not look.before_writing:
        db.run(SQL.insert_sweep, model.id, before["revision"], before["good_at"])
    db.run(SQL.record_change, model.id, found.revision, settled, look.sent_at if settled else None)
    drift = round(found.drift, 4)
    if not settled:
        event_log.warn("model_alternates", model=model.name, revision=found.revision, drift=drift)
    elif db.one(SQL.generation_of, model.id, found.revision) is not None:
        event_log.info("model_returned", model=model.name, revision=found.revision, drift=drift)
    else:
        event_log.warn("model_changed", model=model.name, revision=found.revision, drift=drift)


def _next(model: Model, found: Finding) -> str:
    """Return how long to wait for the next look."""
    if found.verdict is Verdict.DOUBT or found.agreeing > 1:
        return _at_most(model, _SOON)
    if found.verdict in (Verdict.ALTERNATES, Verdict.UNSETTLED):
        return _at_most(model, _SOON if found.verdict is Verdict.ALTERNATES else _ALTERNATING)
    return interval(model) or _ALTERNATING


def _at_most(model: Model, longest: str) -> str:
    usual = interval(model)
    if usual is None:
        return longest
    return min(usual, longest, key=options.interval_seconds)


def _references(model: int) -> dict[int, LookVectors]:
    found: dict[int, LookVectors] = {}
    for row in db.rows(SQL.references, model):
        vectors = found.setdefault(row["revision"], [])
        assert isinstance(vectors, list)
        vectors.append(np.array(orjson.loads(row["vector"]), dtype=np.float32))
    return found


def _insert(model: int, revision: int, vectors: LookVectors) -> None:
    assert len(vectors) == len(TEXTS)
    for number, vector in enumerate(vectors):
        numbers = orjson.dumps(np.asarray(vector, dtype=np.float32).tolist()).decode()
        db.run(SQL.insert_reference, model, revision, number, numbers)


def hasten(model: int, served_as: str) -> None:
    """Look at a model soon if its server calls it by another name than before."""
    db.run(SQL.hasten, model, served_as, _HASTENED_S)


def look_now(model: int) -> None:
    """Look at a model as soon as a worker comes."""
    db.run(SQL.look_now, model)


def sweeps() -> list[Sweep]:
    """Return what is to be marked after changes."""
    return [Sweep(r["model"], r["revision"], r["since"], r["dated"], r["ready"]) for r in db.rows(SQL.sweeps)]


def date(sweep: Sweep) -> None:
    """Note in a transaction after the change which transactions may still write; the sweep waits for their end."""
    db.run(SQL.date_sweep, sweep.model, sweep.revision)


def lock(sweep: Sweep) -> bool:
    """Lock a sweep for this transaction; return False if another session has it, or finished it."""
    return bool(db.rows(SQL.lock_sweep, sweep.model, sweep.revision, sweep.since))


def end(sweep: Sweep) -> None:
    """Note that everything is marked."""
    db.run(SQL.delete_sweep, sweep.model, sweep.revision)


def accept(model: Model) -> int:
    """Take what is served as the revision of the active generations; raises UserError 55000."""
    row = db.one(SQL.lock_watch_of, model.id)
    if row is None:
        db.notice(f'model "{model.name}" has not been looked at yet: nothing to accept')
        return model.revision
    if not row["settled"]:
        raise UserError(
            f'answers of model "{model.name}" alternate between models',
            "55000",
            hint=f"SELECT settled FROM embed_models WHERE model = {db.literal(model.name)}; has to be true first.",
        )
    served: int = row["revision"]
    accepted = db.value(SQL.accepted_revision, model.id, served)
    if accepted is None:
        db.notice(f'model "{model.name}" has not changed')
        return served
    other = db.one(SQL.generation_of, model.id, served)
    if other is not None:
        raise UserError(
            f'generation {other["id"]} of pipeline "{other["pipeline"]}" has vectors of revision {served}',
            "55000",
            hint=f"SELECT embed_retire({db.literal(other['pipeline'])}, {other['id']}); drops it.",
        )
    db.run(SQL.delete_references, model.id, accepted)
    db.run(SQL.delete_references, model.id, _UNCONFIRMED)
    db.run(SQL.renumber_references, model.id, served, accepted)
    db.run(SQL.accept, model.id, accepted)
    event_log.info("model_accepted", model=model.name, revision=accepted)
    return int(accepted)


def delete(model: int) -> None:
    """Delete what is known of a model."""
    db.run(SQL.delete_watch, model)


def forget_dropped() -> None:
    """Delete what is known of models that do not exist."""
    db.run(SQL.forget_dropped)
