"""What we make is closed first: default privileges of a database or a role may have opened it to anybody."""

from typing import Literal

from evergreen import db
from evergreen.queries import load

SQL = load(__file__)

Kind = Literal["FUNCTION", "TABLE", "SEQUENCE", "SCHEMA"]


def close(kind: Kind, name: str) -> None:
    """Take every privilege on an object from everybody but its owner; ``name`` is qualified, quoted, with arguments."""
    for row in db.rows(SQL.grantees, kind, name):
        db.ddl(SQL.revoke.on(kind=kind, name=name, grantee=row["name"]))
