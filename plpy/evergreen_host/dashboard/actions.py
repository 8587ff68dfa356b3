"""The calls behind the buttons: each is one SQL function, run with the rights of the page's connection."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from evergreen_host.database import Database
from evergreen_host.errors import EvergreenError
from evergreen_host.report import pluralize

Form = Mapping[str, str]


@dataclass(frozen=True)
class Action:
    """A button: what it runs with the fields of its form, and what it says afterwards."""

    query: str
    parameters: Callable[[str, Form], tuple[Any, ...]]
    done: Callable[[Any, str], str]


def _name(pipeline: str, _: Form) -> tuple[Any, ...]:
    return (pipeline,)


def _share(form: Form, field: str, default: float | None) -> float | None:
    given = form.get(field, "").strip()
    if not given:
        return default
    try:
        return float(given)
    except ValueError:
        raise EvergreenError(f'{field} must be a number from 0 to 1, not "{given}"', "for example: 0.95") from None


def _promotion(pipeline: str, form: Form) -> tuple[Any, ...]:
    return pipeline, _share(form, "min_coverage", 1.0), _share(form, "min_overlap", None)


ACTIONS: Mapping[str, Action] = {
    "pause": Action("SELECT {schema}.embed_pause(%s) AS it", _name, lambda _, name: f"{name} is paused"),
    "resume": Action("SELECT {schema}.embed_resume(%s) AS it", _name, lambda _, name: f"{name} resumes"),
    "retry": Action(
        "SELECT {schema}.embed_retry(%s, %s::pg_catalog.jsonb) AS it",
        lambda pipeline, form: (pipeline, form.get("key") or None),
        lambda rows, _: f"{pluralize(rows, 'row')} queued again",
    ),
    "build": Action(
        "SELECT {schema}.embed_build(%s, model => %s) AS it",
        lambda pipeline, form: (pipeline, form.get("model", "").strip() or None),
        lambda generation, _: f"generation {generation} is being built; searches use the active one meanwhile",
    ),
    "promote": Action(
        "SELECT {schema}.embed_promote(%s, %s, %s) AS it", _promotion, lambda _, name: f"{name} uses the new generation"
    ),
    "rollback": Action(
        "SELECT {schema}.embed_rollback(%s) AS it", _name, lambda _, name: f"{name} uses the previous generation again"
    ),
    "cancel-batch": Action(
        "SELECT {schema}.embed_batch_cancel(%s::pg_catalog.int8) AS it",
        lambda _, form: (form.get("batch"),),
        lambda texts, _: f"the batch is cancelled; {pluralize(texts, 'text')} will go by requests",
    ),
    "retire": Action(
        "SELECT {schema}.embed_retire(%s, %s::pg_catalog.int4) AS it",
        lambda pipeline, form: (pipeline, form.get("generation") or None),
        lambda _, name: f"generations of {name} were retired",
    ),
}


def run(database: Database, action: Action, pipeline: str, form: Form) -> str:
    """Run an action; return what it did."""
    found = database.rows(action.query, *action.parameters(pipeline, form))
    return action.done(found[0]["it"], pipeline)
