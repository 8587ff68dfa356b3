"""The pipeline for a vectorizer: created paused in one transaction, or found from an earlier import."""

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
        """Whether an import paused it: it is paused and no row is fresh yet."""
        return self.existing is None or (self.existing["state"] == "paused" and not self.existing["fresh"])


def choose(database: Database, vectorizer: Vectorizer, name: str | None, view: str | None) -> Pipeline:
    """Choose name and view; pgai's view often has the default name of ours already."""
    name = name or vectorizer.source[1]
    source = identifier(vectorizer.source).as_string(database.connection)
    found = database.rows(_EXISTING, source, name)
    if view is None and not found and database.rows(_NAME_TAKEN, vectorizer.source[0], f"{name}_embedding")[0]["taken"]:
        view = f"{name}_evergreen"
    return Pipeline(name, source, view, found[0] if found else None)


def check(pipeline: Pipeline, plan: Plan, model: Model) -> None:
    """Raise EvergreenError if the existing pipeline differs from the planned one."""
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
            f'pipeline "{pipeline.name}" already exists with a different {", ".join(different)}',
            "choose another name: --name NAME",
        )
    if existing["state"] == "broken":
        raise EvergreenError(f'pipeline "{pipeline.name}" is broken', "run: evergreen doctor")


def create_call(database: Database, pipeline: Pipeline, plan: Plan, model: Model, **overrides: Any) -> sql.Composed:
    """Return the embed_create call."""
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
    """Register the model and create the pipeline, paused, so no worker embeds texts whose vectors come next."""

    def create_paused() -> None:
        with database.connection.transaction():
            models.add(database, model)
            database.connection.execute(create_call(database, pipeline, plan, model))
            database.rows(_PAUSE, pipeline.name)

    retry_while_locked(create_paused, f"other sessions keep writing to {pipeline.source}")


def dry_run(database: Database, pipeline: Pipeline, plan: Plan, model: Model) -> None:
    """Create and roll back, without triggers, so the server's errors appear before any change."""
    with database.connection.transaction(force_rollback=True):
        models.add(database, model)
        if pipeline.existing is None:
            database.connection.execute(create_call(database, pipeline, plan, model, capture="manual"))


def resume(database: Database, pipeline: Pipeline) -> None:
    """Resume the pipeline."""
    database.rows(_RESUME, pipeline.name)
