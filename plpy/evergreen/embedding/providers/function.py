"""Provider ``function``: a SQL function ``f(text[]) returns vector[]`` of the user's, run as its owner."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from evergreen import db
from evergreen.catalog import models
from evergreen.core.embedding import Answer, Limits, Request
from evergreen.core.errors import ConfigurationError, RejectedError, SuspectError, UserError, doubtful
from evergreen.core.lazy import lazy
from evergreen.core.pipeline import Model
from evergreen.db import errors, session_guard
from evergreen.db.queries import load

if TYPE_CHECKING:
    import numpy as np
    import orjson
else:
    np, orjson = lazy("numpy"), lazy("orjson")

SQL = load(__package__)
T = TypeVar("T")
# What a text can be to blame for: bad data, a violated rule, a RAISE EXCEPTION.
_REJECTED = ("22", "23", "P0001")
# What seldom is a text's fault: rights, missing objects, wrong code. A harmless text tells.
_CONFIGURATION = ("42", "0A", "2F")


def wrapper(model: int) -> str:
    """Name the SECURITY DEFINER wrapper of a model's function."""
    return f"embed_store.call_{model}"


def resolve(name: str) -> str:
    """Return the qualified name of the function, by default in ``public``; raises UserError 42883 or 42P13."""
    row = _look_up(name) or _look_up(f"public.{name}")
    if row is None:
        raise UserError(
            f"function {name}(text[]) does not exist",
            "42883",
            hint="Pass remote_name => 'schema.name' of a function f(text[]) returns vector[].",
        )
    if not row["returns_vectors"]:
        raise UserError(f"function {name}(text[]) does not return vector[]", "42P13", hint="Declare RETURNS vector[].")
    return str(row["name"])


def _look_up(name: str) -> db.Row | None:
    try:
        return db.atomically(lambda: db.one(SQL.resolve, f"{name}(text[])", f"{models.vector_schema()}.vector[]"))
    except db.DatabaseError as error:
        if not db.sqlstate(error).startswith(("42", "22")):
            raise
        return None  # not the form of a name


class Function:
    """Calls the wrapper; its work is the caller's transaction."""

    free = False
    sql = True
    zeros = False

    def check(self, model: Model) -> None:
        """The function must be there with the right types."""
        if model.remote_name is None:
            raise UserError("provider function needs remote_name", hint="remote_name => 'schema.name' of f(text[]).")

    def limits(self, model: Model) -> Limits:
        """As many texts as one array may sensibly hold."""
        return Limits(inputs=int(model.options.get("inputs", 1000)))

    def embed(self, model: Model, request: Request) -> Answer:
        """Call the function in a subtransaction; what it raises says whose fault it is."""
        # A deferred trigger, a cursor WITH HOLD or a setting of the owner's code would outlive the call and act as us:
        # all that it did is undone. Unless it is a superuser's, who gains nothing by it and may want to keep a log.
        texts = request.texts
        run = db.atomically if self._is_trusted(model) else _undone
        query = SQL.call.with_identifiers(wrapper=wrapper(model.id))
        try:
            with db.planning.as_session():
                answer = run(lambda: db.value(query, texts))
        except db.DatabaseError as error:
            raise _translated(error, model) from error
        if answer is None or len(answer) != len(texts) or None in answer:
            raise RejectedError(f"model {model.name}: {len(texts)} texts gave {_count(answer)} vectors")
        return Answer([np.array(orjson.loads(vector), dtype=np.float32) for vector in answer])

    def _is_trusted(self, model: Model) -> bool:
        state = db.one(SQL.state, f"{model.remote_name}(text[])", f"{wrapper(model.id)}(text[])")
        assert state is not None
        if not state["there"]:
            raise ConfigurationError(f"model {model.name}: function {model.remote_name}(text[]) does not exist")
        if not state["same_owner"]:
            raise ConfigurationError(
                f"model {model.name}: function {model.remote_name}(text[]) has another owner than when it was"
                " registered; embed_model_drop() it and add it again"
            )
        return bool(state["trusted"])


def _undone(body: Callable[[], T]) -> T:
    return session_guard.contained(lambda: db.in_discarded_subtransaction(body))


def _count(answer: list[str | None] | None) -> int:
    return sum(1 for vector in answer or [] if vector is not None)


def _translated(error: db.DatabaseError, model: Model) -> Exception:
    state = db.sqlstate(error)
    if errors.is_genuine_cancel(error):  # not the model's answer
        return error
    text = f"model {model.name}: {db.message(error)}"
    if state.startswith(_REJECTED):
        return RejectedError(text)
    if state.startswith(_CONFIGURATION):
        return doubtful(ConfigurationError(text))
    return SuspectError(text)
