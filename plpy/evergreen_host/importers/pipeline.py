"""The pipeline that a vectorizer becomes: made and paused in one transaction, or found as it was made before."""

import json
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from evergreen_host.database import Database, Row
from evergreen_host.errors import EvergreenError
from evergreen_host.importers import models
from evergreen_host.importers.models import Model
from evergreen_host.importers.plan import Plan
from evergreen_host.importers.vectorizers import Vectorizer, identifier
from evergreen_host.importers.vectors import retry_while_locked

_EXISTING = """
SELECT p.state, p.source = pg_catalog.to_regclass(%s) AS source, p.columns::text[] AS columns, p.template, p.model,
       p.chunker, s.fresh
FROM {schema}.embed_pipelines p JOIN {schema}.embed_status s USING (pipeline) WHERE p.pipeline = %s
"""
_NAME_TAKEN = "SELECT pg_catalog.to_regclass(pg_catalog.format('%%I.%%I', %s::text, %s::text)) IS NOT NULL AS taken"
_PAUSE = "SELECT {schema}.embed_pause(%s)"
_RESUME = "SELECT {schema}.embed_resume(%s)"
_NO_CHUNKER = {"chunker": "none"}


@dataclass(frozen=True)
class Pipeline:
    """A pipeline to create, or the ``existing`` one."""

    name: str
    source: str  # quoted and qualified
    view: str | None
    existing: Row | None

    @property
    def paused_by_import(self) -> bool:
        """True when it is paused because we paused it."""
        return self.existing is None or (self.existing["state"] == "paused" and not self.existing["fresh"])


def choose(database: Database, vectorizer: Vectorizer, name: str | None, view: str | None) -> Pipeline:
    """Choose name and view; pgai's own view has often the name that ours would have."""
    name = name or vectorizer.source[1]
    source = identifier(vectorizer.source).as_string(database.connection)
    found = database.rows(_EXISTING, source, name)
    if view is None and not found and database.rows(_NAME_TAKEN, vectorizer.source[0], f"{name}_embedding")[0]["taken"]:
        view = f"{name}_evergreen"
    return Pipeline(name, source, view, found[0] if found else None)


def check(pipeline: Pipeline, plan: Plan, model: Model) -> None:
    """Raise EvergreenError when the pipeline that is there is another one than would be made."""
    existing = pipeline.existing
    if existing is None:
        return
    wanted = {
        "source": True,
        "columns": plan.columns,
        "template": plan.template,
        "model": model.name,
        "chunker": plan.chunker or _NO_CHUNKER,
    }
    different = [name for name, value in wanted.items() if existing[name] != value]
    if different:
        raise EvergreenError(
            f'pipeline "{pipeline.name}" exists already, with another {", ".join(different)}',
            "choose another name with --name",
        )
    if existing["state"] == "broken":
        raise EvergreenError(f'pipeline "{pipeline.name}" is broken', "evergreen doctor says what to do")


def create_call(database: Database, pipeline: Pipeline, plan: Plan, model: Model, **overrides: Any) -> sql.Composed:
    """Return the call that makes the pipeline."""
    arguments: dict[str, Any] = {
        "columns": plan.columns,
        "template": plan.template,
        "model": model.name,
        "chunker": json.dumps(plan.chunker) if plan.chunker else None,
        "view_name": pipeline.view,
        "options": json.dumps(plan.options),
        **overrides,
    }
    named = [
        sql.SQL("{} => {}").format(sql.Identifier(name), sql.Literal(value))
        for name, value in arguments.items()
        if value is not None
    ]
    call = sql.SQL("SELECT {}.embed_create({}, {}, {})")
    first = sql.Literal(pipeline.name), sql.Literal(pipeline.source)
    return call.format(sql.Identifier(database.schema), *first, sql.SQL(", ").join(named))


def create(database: Database, pipeline: Pipeline, plan: Plan, model: Model) -> None:
    """Register the model and make the pipeline, paused: a worker would pay for what is adopted a moment later."""

    def create_paused() -> None:
        with database.connection.transaction():
            models.add(database, model)
            database.connection.execute(create_call(database, pipeline, plan, model))
            database.rows(_PAUSE, pipeline.name)

    retry_while_locked(create_paused, f"others keep writing to {pipeline.source}")


def dry_run(database: Database, pipeline: Pipeline, plan: Plan, model: Model) -> None:
    """Do it and undo it, without triggers: what the server has to say against it, it says now."""
    with database.connection.transaction(force_rollback=True):
        models.add(database, model)
        if pipeline.existing is None:
            database.connection.execute(create_call(database, pipeline, plan, model, capture="manual"))


def resume(database: Database, pipeline: Pipeline) -> None:
    """Let workers begin."""
    database.rows(_RESUME, pipeline.name)
