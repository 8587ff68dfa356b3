"""Models of a package, which an upgrade changes: compared with their references by each session that loads them.

A session keeps the package that it has loaded. So it looks before it writes its first vector, and again after each
change that another session has noticed; one that loaded the package before a change cannot say what is served since.
"""

import time

from evergreen.core.embedding import Request
from evergreen.core.pipeline import Model
from evergreen.db import locks
from evergreen.embedding.limits.admission import Permit
from evergreen.embedding.providers import local
from evergreen.embedding.providers.registry import provider
from evergreen.embedding.watch import state
from evergreen.embedding.watch.decision import LookVectors, Verdict, drift
from evergreen.embedding.watch.texts import TEXTS

_LOCK_TIMEOUT = "50ms"  # an open drain may have the first look in hand
_LOCKED_S = 1.0
_OUTDATED_S = 30.0
#: Scope of a permit that no session gets until it reconnects.
SESSION = "session"
_vectors: dict[int, LookVectors] = {}  # by model, as this session makes them
_verified: dict[int, int] = {}  # by model: the epoch in which they are of the revision that is served
_outdated: dict[int, int] = {}  # by model: the epoch in which they are of an earlier one
_differs: dict[
    tuple[int, int], tuple[int, bool]
] = {}  # by model and revision: whether they are of another, in an epoch
_locked_until: dict[int, float] = {}  # by model, monotonic


def unavailable(model: Model) -> Permit | None:
    """Return why this session makes no vectors of a model; None if it does."""
    if (left := _locked_until.get(model.id, 0.0) - time.monotonic()) > 0:
        return Permit(left, open=True, reason=f'model "{model.name}" is being looked at by another session')
    if _outdated.get(model.id) == model.served.epoch:
        why = f'this session loaded model "{model.name}" before it changed: reconnect to go on'
        return Permit(_OUTDATED_S, open=True, reason=why, scope=SESSION)
    return None


def is_served(model: Model) -> bool:
    """Return whether this session's vectors are of the revision that is served; note a change. Needs a transaction."""
    if model.options.get("watch", "") is None or local.loaded_at(model) is None:
        return True
    if _verified.get(model.id) == model.served.epoch:
        return True
    return _outdated.get(model.id) != model.served.epoch and _look(model)


def differs(model: Model) -> bool:
    """Return whether this session's vectors are of another revision than ``model.revision``; writes nothing."""
    if model.provider != "wordllama" or model.options.get("watch", "") is None:
        return False
    epoch, found = _differs.get((model.id, model.revision), (None, False))
    if epoch != model.served.epoch:
        known = state.known(model.id)
        reference = known.known.references.get(model.revision) if known is not None else None
        found = reference is not None and drift(_made(model), reference) > state.drift_limit(model)
        if reference is not None:
            _differs[model.id, model.revision] = (model.served.epoch, found)
    return found


def _look(model: Model) -> bool:
    seen = state.known(model.id)
    if seen is None or not seen.known.references:
        return _record(model)
    if not seen.known.settled:
        return False
    apart = drift(_made(model), seen.known.references.get(seen.known.revision, ()))
    if apart <= state.drift_limit(model):
        state.confirm(model.id, apart)
        if seen.is_old:  # else its transaction may be this one, and be rolled back
            _verified[model.id] = seen.epoch
        return True
    if _is_outdated(model, seen):
        _outdated[model.id] = seen.epoch
        return False
    return _record(model)


def can_tell(model: Model, vectors: LookVectors) -> bool:
    """Return whether a look by this session says what is served: not if its package is one of before a change."""
    seen = state.known(model.id)
    if local.loaded_at(model) is None or seen is None or not _is_outdated(model, seen):
        return True
    return drift(vectors, seen.known.references.get(seen.known.revision, ())) <= state.drift_limit(model)


def _is_outdated(model: Model, seen: state.Seen) -> bool:
    loaded = local.loaded_at(model)
    return loaded is not None and seen.changed_at is not None and loaded <= seen.changed_at


def _record(model: Model) -> bool:
    """Store the first look, or a change: two embeddings in a row are compared."""
    vectors = _made(model)
    found = locks.with_lock_timeout(
        lambda: state.record_loaded(model, vectors, lambda: _embedded(model)), _LOCK_TIMEOUT
    )
    if found is None:
        _locked_until[model.id] = time.monotonic() + _LOCKED_S
        return False
    return found.verdict in (Verdict.FIRST, Verdict.UNCHANGED)


def _made(model: Model) -> LookVectors:
    if model.id not in _vectors:
        _vectors[model.id] = _embedded(model)
    return _vectors[model.id]


def _embedded(model: Model) -> LookVectors:
    return provider(model.provider).embed(model, Request([*TEXTS], "document")).vectors
