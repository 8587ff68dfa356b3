"""embed_setting: what holds for a whole database."""

from evergreen import db
from evergreen.catalog import access, intervals, models
from evergreen.catalog.options import SETTINGS
from evergreen.errors import UserError, shown
from evergreen.gate import caller, elevated, entry
from evergreen.queries import load
from evergreen.schedule.arguments import interval_seconds

SQL = load(__file__)

_DIGITS = 15


def get(name: str) -> str:
    """Return a setting, stored or built in; needs the extension's rights."""
    stored = db.value(SQL.get, name)
    return str(stored) if stored is not None else SETTINGS[name]


def lease_seconds() -> float:
    """Return how long a claim is good without being renewed; needs the extension's rights."""
    return interval_seconds(get("lease"))


@entry
def embed_setting(name: str | None, value: str | None) -> str:
    """Return a setting, after setting it when a value is given; raises 22023, 42501, 42704."""
    if name not in SETTINGS:
        raise UserError(f"there is no setting {shown(name)}", hint=f"Settings are: {', '.join(sorted(SETTINGS))}.")
    role = caller()
    return elevated(lambda: get(name) if value is None else _put(name, value, role))


def _put(name: str, value: str, role: str) -> str:
    if not access.is_admin(role):
        raise UserError(f'only embed_admin may change setting "{name}"', "42501", hint="Ask a member of embed_admin.")
    if name == "default_model":
        models.by_name(value)
    elif name == "index_from":
        if not value.isdecimal() or len(value) > _DIGITS or int(value) < 1:
            raise UserError(f'setting "{name}" must be a number of chunks, not "{value}"', hint="10000 is the default.")
    elif name == "cache_limit":
        if value != "auto" and (not value.isdecimal() or len(value) > _DIGITS):
            raise UserError(
                f'setting "{name}" must be a number of vectors or auto, not "{value}"',
                hint="'auto', the default, is as many as are live.",
            )
    elif not intervals.is_one(value):
        raise UserError(f'setting "{name}" must be an interval, not "{value}"', hint="For example '30 days'.")
    elif name == "lease" and interval_seconds(value) < 1:
        raise UserError(f'setting "lease" must be at least a second, not "{value}"', hint="'5 minutes' is the default.")
    db.run(SQL.put, name, value)
    return value
