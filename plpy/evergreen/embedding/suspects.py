"""Texts that made a request fail for all its texts: they are sent alone, whatever row or pipeline has them."""

from evergreen import db
from evergreen.db.locks import with_lock_timeout
from evergreen.db.queries import load

SQL = load(__package__)
_LOCK_TIMEOUT = "20ms"


def among(model: int, hashes: list[bytes]) -> dict[bytes, bool]:
    """Return those of these texts that are sent alone, and whether the server refused them."""
    return {row["hash"]: row["refused"] for row in db.rows(SQL.among, model, hashes)} if hashes else {}


def note(model: int, culprits: dict[bytes, bool]) -> None:
    """Remember texts, and whether they were refused. A lock is not waited for: it would be found out again."""
    if culprits:
        with_lock_timeout(lambda: db.run(SQL.note, model, [*culprits], [*culprits.values()]), _LOCK_TIMEOUT)


def clear(model: int, hashes: list[bytes]) -> None:
    """Forget texts that passed."""
    if hashes:
        db.run(SQL.clear, model, hashes)


def purge() -> None:
    """Forget texts that no row had for long, and those of models that are gone."""
    db.run(SQL.purge)
