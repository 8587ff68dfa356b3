"""embed and embed_query: the vector of one text, now."""

from collections import OrderedDict

from evergreen import db
from evergreen.catalog import models, options, pipelines
from evergreen.core.embedding import EmbeddingTask, Usage
from evergreen.core.errors import ConfigurationError, ModelError, UserError
from evergreen.core.frozen import frozen
from evergreen.core.pipeline import Model, Pipeline
from evergreen.db.errors import is_undefined_table
from evergreen.db.privileges import as_extension_owner, caller, sql_entry
from evergreen.db.queries import load
from evergreen.embedding import permissions
from evergreen.embedding.dispatcher import embed_once
from evergreen.embedding.http import credentials, parameters
from evergreen.embedding.limits.shared import SharedLimits
from evergreen.embedding.providers.registry import provider
from evergreen.embedding.watch import packaged
from evergreen.search.bridged import Asking, asking
from evergreen.search.hexadecimal import hexadecimal
from evergreen.search.view import look, shows_another, snapshot_is_kept, switched, view_of
from evergreen.storage import bridges, usage
from evergreen.storage.bridges import Bridge
from evergreen.storage.chunks import vector_literal

SQL = load(__package__)
# A STABLE function in ORDER BY is evaluated for each row when no index serves it: the same question is not sent twice.
# Each role has its own: after SET ROLE a question that costs nothing would be one that the role before has asked.
_MEMORY = 1000
_AGAIN = "Try again, or look at the model's server."
_Identity = tuple[str, str, str, str]  # role, model, kind, text
_remembered: OrderedDict[_Identity, str] = OrderedDict()
_VECTORS = 100
_warned: dict[int, str] = {}  # by pipeline: the statement that was warned that its model changed
_known: OrderedDict[tuple[str | None, str], "_Known"] = OrderedDict()


class NotEmbeddedError(UserError):
    """A model did not give the vector of a text. ``log_message``: as much of the reason as may stand in a log."""

    def __init__(self, model: Model, error: ModelError) -> None:
        super().__init__(f"the text could not be embedded: {error}", "58000", hint=_hint(model, error))
        self.log_message = error.log_message


@frozen
class Asked:
    """The vector of a text, and what it cost; None where it was remembered."""

    model: Model
    vector: str
    spent: Usage | None = None


@frozen
class _Known:
    """The vector of a question to a pipeline, and what has to be the same for ``embed_query`` to return it again."""

    vector: str
    view: int
    source: int
    seen: tuple[str, str]
    bridge: Bridge | None

    def holds(self) -> bool:
        """Return whether the caller, the generation and the bridge are the same."""
        if look(self.view, self.source) != self.seen:
            return False
        bridge = self.bridge
        if bridge is None:  # a vector by the generation's own model is right, with or without a bridge
            return True
        now = as_extension_owner(lambda: bridges.version_of(bridge.active, bridge.building), stable=True)
        return now == bridge.version


@sql_entry
def embed(text: str | None, model: str | None) -> str | None:
    """Return the vector of a text; NULL for NULL. Raises 42704, 42501 for models that cost money, 58000."""
    if text is None:
        return None
    role = caller()

    def run() -> Asked:
        chosen = models.by_name(model if model is not None else options.get("default_model"))
        permissions.check_may_spend(role, chosen)
        return ask(chosen, text, "document", role)

    return _paid(as_extension_owner(run, stable=True), None)


@sql_entry
def embed_query(pipeline: str | None, text: str | None) -> str | None:
    """Return the vector of a question by the model of the generation that searches see; raises 42704, 58000."""
    if text is None:
        return None
    known = _known.get((pipeline, text))
    if known is not None and known.holds():
        return known.vector
    role = caller()

    def resolve() -> tuple[Pipeline, Asking]:
        readable = pipelines.readable(pipeline, role)
        return readable, asking(readable)

    found, by = as_extension_owner(resolve, stable=True)
    seen = look(found.view, found.source) if found.view is not None and _fits(by.model) else None
    warn_if_changed(found, by.model)
    if snapshot_is_kept() and shows_another(as_extension_owner(lambda: view_of(found)), found.active.id):
        raise switched(pipeline)
    vector = by.mapped(_paid(as_extension_owner(lambda: ask(by.model, text, "query", role), stable=True), found.id))
    if seen is not None and found.view is not None:
        _keep(pipeline, text, _Known(hexadecimal(vector), found.view, found.source, seen, by.bridge))
    return vector


def _keep(pipeline: str | None, text: str, known: _Known) -> None:
    """Remember a vector: in ORDER BY the function is called once for each row that is returned."""
    _known[pipeline, text] = known
    _known.move_to_end((pipeline, text))
    if len(_known) > _VECTORS:
        _known.popitem(last=False)


def _paid(asked: Asked, pipeline_id: int | None) -> str:
    """Write down what was spent in a step of its own, as a STABLE one cannot; return the vector."""
    if asked.spent is not None and not provider(asked.model.provider).free:
        spent = asked.spent
        as_extension_owner(lambda: usage.record_query_usage(pipeline_id, asked.model, spent))
    return asked.vector


def _fits(model: Model) -> bool:
    """Return whether questions are embedded by the revision that the vectors are of, as far as that is known."""
    if not model.is_served:
        return False
    return provider(model.provider).sql or not as_extension_owner(lambda: packaged.differs(model), stable=True)


def warn_if_changed(pipeline: Pipeline, model: Model) -> None:
    """Warn, once a statement, if questions and vectors are of different models."""
    if _fits(model):
        return
    now = str(as_extension_owner(lambda: db.value(SQL.statement_time), stable=True))
    if _warned.get(pipeline.id) == now:
        return
    _warned[pipeline.id] = now
    db.warning(
        f'model "{model.name}" of pipeline "{pipeline.name}" changed: questions are embedded by another model than the'
        " vectors",
        hint=f"SELECT embed_build({db.literal(pipeline.name)}); embeds the rows with what is served now.",
    )


def vector(pipeline: Pipeline, model: Model, text: str, role: str) -> str:
    """Embed a role's question to a pipeline, or remember it, and write down what it cost; raises UserError 58000."""
    warn_if_changed(pipeline, model)
    asked = ask(model, text, "query", role)
    if asked.spent is not None and not provider(model.provider).free:
        usage.record_query_usage(pipeline.id, model, asked.spent)
    return asked.vector


def vector_or_none(pipeline: Pipeline, model: Model, text: str, role: str) -> str | None:
    """As ``vector``, for a search that can do without: None, and a WARNING, where the model does not answer."""
    rests = None if _identity(role, model, "query", text) in _remembered else _rests(model)
    try:
        if rests is None:
            return vector(pipeline, model, text, role)
        why, hint = rests, _AGAIN
    except NotEmbeddedError as error:
        why, hint = error.log_message, error.hint
    # It goes to the server's log, too: nothing in it may be what the model's server said.
    because = f": {why}" if why is not None else ""
    db.warning(f'model "{model.name}" did not embed the question, so this search uses keywords only{because}', hint)
    return None


def _rests(model: Model) -> str | None:
    """Return why a model is left alone after failures: a search that can do without does not wait for a time-out."""
    if provider(model.provider).free:
        return None
    try:
        leave = db.atomically(lambda: SharedLimits().wait(model, None))
    except db.DatabaseError as error:
        if not is_undefined_table(error):
            raise
        return None  # restored a moment ago, and nothing is known yet
    return leave.reason if leave.open else None


def _identity(role: str, model: Model, kind: str, text: str) -> _Identity:
    """Return what makes a question another one; what was asked before a change of the model is asked again."""
    return (role, f"{model.identity} {model.served.epoch}", kind, text)


def ask(model: Model, text: str, kind: str, role: str) -> Asked:
    """Embed one text, or remember that this role asked it; raises UserError 58000 when the model does not answer."""
    identity = _identity(role, model, kind, text)
    if identity in _remembered:
        _remembered.move_to_end(identity)
        return Asked(model, _remembered[identity])
    order = EmbeddingTask(provider(model.provider), model, {b"": text}, kind, retries=False)
    outcome = embed_once(order, db.check_interrupts)
    if outcome.failures:
        raise NotEmbeddedError(model, outcome.failures[b""])
    _remembered[identity] = vector_literal(outcome.vectors[b""])
    if len(_remembered) > _MEMORY:
        _remembered.popitem(last=False)
    return Asked(model, _remembered[identity], order.usage)


def _hint(model: Model, error: ModelError) -> str:
    """What to do: about a key that is missing or refused, more than to try again."""
    names = parameters.secret_names(model.endpoint) if model.endpoint is not None else []
    if names and isinstance(error, ConfigurationError):
        named = next((name for name in names if f'secret "{name}"' in str(error)), names[0])
        return f"If it is the key: {credentials.remedy(named).command}"
    return _AGAIN
