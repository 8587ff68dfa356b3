"""SQL that is run for a model: what goes wrong with it is the model's failure, and nobody else's."""

from collections.abc import Callable
from typing import Any

from evergreen import db
from evergreen.errors import RetryableError
from evergreen.model.courier import Step


def model_step(step: Step) -> Step:
    """Make a step raise RetryableError where a statement fails; a cancel stays what it is."""

    def careful(body: Callable[[], Any], /) -> Any:
        try:
            return step(body)
        except db.DatabaseError as error:
            if db.sqlstate(error).startswith("57"):
                raise
            raise RetryableError(db.message(error)) from error

    return careful
