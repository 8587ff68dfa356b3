"""Roles for tests about rights. They are cluster-wide, so each has one set of memberships in the whole run."""

from typing import Any

import psycopg

# name: what it is a member of
PEOPLE = {
    "alice": (),  # owns what is attacked, or plants what attacks
    "bob": (),  # has no rights but those a test gives him
    "deputy": ("alice",),
    "the_admin": ("embed_admin",),
    "the_worker": ("embed_worker",),
    "the_payer": ("embed_user",),
}

_MAKE = """
DO $do$ BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('people'));
    IF to_regrole({name}) IS NULL THEN CREATE ROLE {role} LOGIN; END IF;
END $do$
"""


def people(db: psycopg.Connection[Any]) -> None:
    """Make the roles, each with a schema of its own name in this database."""
    for name, memberships in PEOPLE.items():
        make = psycopg.sql.SQL(_MAKE).format(name=psycopg.sql.Literal(name), role=psycopg.sql.Identifier(name))
        db.execute(make)
        for other in memberships:
            db.execute(
                psycopg.sql.SQL("GRANT {} TO {}").format(psycopg.sql.Identifier(other), psycopg.sql.Identifier(name))
            )
        db.execute(psycopg.sql.SQL("CREATE SCHEMA {0} AUTHORIZATION {0}").format(psycopg.sql.Identifier(name)))
        db.execute(psycopg.sql.SQL("GRANT USAGE ON SCHEMA {} TO PUBLIC").format(psycopg.sql.Identifier(name)))


def hash_model(db: psycopg.Connection[Any], name: str = "hash8", dimensions: int = 8) -> str:
    """Register a model of the deterministic provider: free and fast."""
    db.execute("SELECT embed_model_add(%s, 'hash', %s)", (name, dimensions))
    return name
