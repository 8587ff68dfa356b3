"""The caller's role, and code that runs with the extension's rights on the caller's behalf.

The API functions are SECURITY INVOKER, so that ``current_user`` is the caller whatever SET ROLE or definer function
stands around the call. What needs the extension's rights is a Python callable, left here and run by the SECURITY
DEFINER function ``embed_elevate()``. SQL cannot write this module's memory, so a caller who runs that function by
hand gets an error and nothing else.
"""

from collections.abc import Callable
from functools import wraps
from typing import Literal, ParamSpec, TypeVar, cast

import evergreen
from evergreen import db
from evergreen.core.errors import ModelError, UserError
from evergreen.db import encoding
from evergreen.db.errors import is_shutdown_or_cancel
from evergreen.db.queries import Query, load

SQL = load(__package__)
P = ParamSpec("P")
T = TypeVar("T")
_waiting: list[Callable[[], None]] = []
_CALLER = Query("caller", (), "SELECT current_user::pg_catalog.text AS caller")
LOCKED_HINT = "Try again when the transaction of the session that has it locked is over; pg_locks shows whose."
_HINTS = {"55P03": LOCKED_HINT}
STANDBY_HINT = "Call it on the primary server."
_READ_ONLY = {
    True: STANDBY_HINT,
    False: "This is the primary server, and the session is read-only: SET default_transaction_read_only = off; or BEGIN"
    " READ WRITE first. CALL embed_work() does so itself.",
}
_IS_STANDBY = Query("is_standby", (), "SELECT pg_catalog.pg_is_in_recovery()")
_OWNER = Query(
    "owner_without_rights",
    (),
    "SELECT pg_catalog.quote_ident(r.rolname) FROM pg_catalog.pg_extension e"
    " JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) e.extowner"
    " WHERE e.extname OPERATOR(pg_catalog.=) 'evergreen' AND NOT r.rolsuper",
)
Kind = Literal["FUNCTION", "TABLE", "SEQUENCE", "SCHEMA"]


def sql_entry(function: Callable[P, T]) -> Callable[P, T]:
    """Mark a function that SQL calls: a UserError becomes a Postgres error with SQLSTATE and HINT."""

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return db.server.values([function(*args, **kwargs)])[0]
        except UserError as error:
            db.fail(error)
        except db.DatabaseError as error:
            if is_shutdown_or_cancel(error):  # a cancel is not ours to rewrite
                raise
            try:
                shown = _with_hint(db.plain(error))
            except UserError as reason:
                shown = reason
            db.fail(shown)

    return called


def check_owner() -> None:
    """Raise 42501 if the extension's owner is no longer a superuser: no worker can work then."""
    owner = db.value(_OWNER)
    if owner is not None:
        raise UserError(
            f"role {owner} owns extension evergreen and is not a superuser any more",
            "42501",
            hint=f"ALTER ROLE {owner} SUPERUSER; or hand all that it owns over: REASSIGN OWNED BY {owner} TO postgres;",
        )


def _with_hint(error: UserError) -> UserError:
    if error.sqlstate == "42501" and error.hint is None:
        check_owner()
    if error.sqlstate == "25006" and error.hint is None:
        error.hint = _READ_ONLY[bool(db.value(_IS_STANDBY))]
    error.hint = error.hint or _HINTS.get(error.sqlstate)
    return error


def caller() -> str:
    """Return the role that called; only meaningful outside ``as_extension_owner``."""
    return cast(str, db.value(_CALLER))


def run() -> None:
    """Body of embed_elevate(): run what ``as_extension_owner`` left, with the rights of the extension's owner."""
    if not _waiting:
        db.fail(
            UserError(
                "embed_elevate is internal to evergreen and does nothing when it is called directly",
                "42501",
                hint="Call the embed_* function that you need.",
            )
        )
    with encoding.strict():
        _waiting.pop()()


def as_extension_owner(body: Callable[[], T], *, stable: bool = False) -> T:
    """Run body with the extension's rights. ``stable``: read-only, in the snapshot of the calling query."""
    results: list[T] = []
    errors: list[UserError | ModelError] = []

    def step() -> None:
        try:
            results.append(body())
        except (UserError, ModelError) as error:  # keep its type across the SQL call
            errors.append(error)

    name = "embed_elevate_stable" if stable else "embed_elevate"
    mark = len(_waiting)
    _waiting.append(step)
    try:
        db.run(Query(name, (), f"SELECT {evergreen.extension_schema()}.{name}()"))
    finally:
        del _waiting[mark:]
    if errors:
        raise errors[0]
    return results[0]


def revoke_all(kind: Kind, name: str) -> None:
    """Revoke every privilege from all roles but the owner; ``name`` is qualified, quoted, with arguments."""
    for row in db.rows(SQL.grantees, kind, name):
        db.ddl(SQL.revoke.with_identifiers(kind=kind, name=name, grantee=row["name"]))


def check_isolation(function: str) -> None:
    """Raise 25001 unless READ COMMITTED: elsewhere a worker would read old rows, or make writers fail."""
    level = str(db.value(SQL.isolation))
    if level not in {"read committed", "read uncommitted"}:
        raise UserError(
            f"{function} works in READ COMMITTED only, and this transaction is {level.upper()}",
            "25001",
            hint="BEGIN ISOLATION LEVEL READ COMMITTED first; where another level is the default, also for one call.",
        )
