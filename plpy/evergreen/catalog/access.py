"""Who may: ownership of a pipeline follows its source; reading it follows SELECT on the source."""

from evergreen import db
from evergreen.catalog import pipelines
from evergreen.catalog.pipelines import SQL, Pipeline
from evergreen.errors import UserError
from evergreen.model import function, registry
from evergreen.model.spec import Model


def is_admin(role: str) -> bool:
    """True when the role has embed_admin's rights."""
    return bool(db.value(SQL.is_admin, role))


def is_member(role: str, of: str) -> bool:
    """True when the role has the rights of another."""
    return bool(db.value(SQL.is_member, role, of))


def may_own(role: str, owner: int | None) -> bool:
    """True when the role may administer what ``owner`` (a role's oid; None when it is gone) owns."""
    return bool(db.value(SQL.is_owner, role, owner if owner is not None else 0))


def may_read(role: str, source: int) -> bool:
    """True when the role may select from the source, or from some of its columns."""
    return bool(db.value(SQL.may_read, role, source))


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


def owned(name: str | None, role: str, *, whole: bool = True) -> Pipeline:
    """Return the pipeline for a role that changes it; raises 42704, 42501, 55000 unless it is ``whole``."""
    found = pipelines.find(name) if name is not None else None
    if found is None:
        raise pipelines.missing(name)
    if may_own(role, found.owner):
        if whole:
            found.check_whole()
        return found
    if not may_read(role, found.source):
        raise pipelines.missing(name)
    raise UserError(
        f'must be owner of table {found.source_name} to change pipeline "{name}"',
        "42501",
        hint="Ask the table's owner, or a member of embed_admin.",
    )


def readable(name: str | None, role: str) -> Pipeline:
    """Return the pipeline for a role that searches it; raises UserError 42704, 55000."""
    found = pipelines.find(name) if name is not None else None
    if found is None or not (may_read(role, found.source) or may_own(role, found.owner)):
        raise pipelines.missing(name)
    found.check_whole()
    return found
