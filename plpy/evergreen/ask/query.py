"""embed and embed_query: the vector of one text, now."""

from collections import OrderedDict

from evergreen import db
from evergreen.apply.vectors import literal
from evergreen.ask.view import shows_another, snapshot_is_kept, switched, view_of
from evergreen.catalog import access, models
from evergreen.errors import ConfigurationError, ModelError, UserError
from evergreen.gate import caller, elevated, entry
from evergreen.model import parameters, secrets
from evergreen.model.errand import carry
from evergreen.model.order import Order
from evergreen.model.registry import provider
from evergreen.model.spec import Model
from evergreen.setup import setting

# A STABLE function in ORDER BY is evaluated for each row when no index serves it: the same question is not sent twice.
_MEMORY = 1000
_remembered: OrderedDict[tuple[str, str, str], str] = OrderedDict()


@entry
def embed(text: str | None, model: str | None) -> str | None:
    """Return the vector of a text; NULL for NULL. Raises 42704, 42501 for models that cost money, 58000."""
    if text is None:
        return None
    role = caller()

    def run() -> str:
        chosen = models.by_name(model if model is not None else setting.get("default_model"))
        if not provider(chosen.provider).free and not access.is_member(role, "embed_user"):
            raise UserError(
                f'model "{chosen.name}" may cost money: only embed_user may send texts to it',
                "42501",
                hint="GRANT embed_user to the role, or search a pipeline with embed_query().",
            )
        return vector(chosen, text, "document")

    return elevated(run, stable=True)


@entry
def embed_query(pipeline: str | None, text: str | None) -> str | None:
    """Return the vector of a question by the model of the generation that searches see; raises 42704, 58000."""
    if text is None:
        return None
    role = caller()
    found = elevated(lambda: access.readable(pipeline, role), stable=True)
    if snapshot_is_kept() and shows_another(elevated(lambda: view_of(found)), found.active.id):
        raise switched(pipeline)
    return elevated(lambda: vector(found.active.model, text, "query"), stable=True)


def vector(model: Model, text: str, kind: str) -> str:
    """Embed one text, or remember it; raises UserError 58000 when the model does not answer."""
    identity = (model.identity, kind, text)
    if identity in _remembered:
        _remembered.move_to_end(identity)
        return _remembered[identity]
    order = Order(provider(model.provider), model, {b"": text}, kind, patient=False)
    outcome = carry(order, db.check_interrupts)
    if outcome.failures:
        raise UserError(
            f"the text could not be embedded: {outcome.failures[b'']}",
            "58000",
            hint=_hint(model, outcome.failures[b""]),
        )
    _remembered[identity] = literal(outcome.vectors[b""])
    if len(_remembered) > _MEMORY:
        _remembered.popitem(last=False)
    return _remembered[identity]


def _hint(model: Model, error: ModelError) -> str:
    """What to do: about a key that is missing or refused, more than to try again."""
    names = parameters.secret_names(model.endpoint) if model.endpoint is not None else []
    if names and isinstance(error, ConfigurationError):
        named = next((name for name in names if f'secret "{name}"' in str(error)), names[0])
        return f"If it is the key: {secrets.how_to_replace(named)}"
    return "Try again, or look at the model's server."
