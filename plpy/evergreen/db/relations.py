"""Relations by their names."""

from evergreen import db
from evergreen.db.queries import load

SQL = load(__package__)


def oid_of(name: str) -> int | None:
    """Return the oid of a relation by its quoted, qualified name; None if it does not exist."""
    found: int | None = db.value(SQL.relation_oid, name)
    return found
