"""Who may have texts sent to a model."""

from evergreen import db
from evergreen.catalog.pipelines import is_member
from evergreen.core.errors import UserError
from evergreen.core.pipeline import Model
from evergreen.db.queries import load
from evergreen.embedding.providers import function, registry

SQL = load(__package__)


def check_may_spend(role: str, model: Model) -> None:
    """Raise 42501 unless the role may have texts sent to a model that may cost money."""
    if registry.may_cost(model) and not is_member(role, "embed_user"):
        raise UserError(
            f'model "{model.name}" may cost money: only embed_user may send texts to it',
            "42501",
            hint=f"GRANT embed_user TO {db.identifier(role)}; or search an existing pipeline with embed_search().",
        )


def check_may_assign(role: str, model: Model) -> None:
    """Raise 42501 unless the role may give a pipeline this model: an owner may have his own function called."""
    if model.provider != "function" or not db.value(SQL.runs_as, role, f"{function.wrapper(model.id)}(text[])"):
        check_may_spend(role, model)
