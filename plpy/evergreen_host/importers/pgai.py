"""`evergreen import pgai`: turns a vectorizer into a pipeline and imports its vectors."""

from dataclasses import dataclass

from psycopg import sql

from evergreen_host.database import Database, open_database
from evergreen_host.errors import EvergreenError
from evergreen_host.importers import models, pipeline, vectorizers, vectors
from evergreen_host.importers.models import Model, SourceModel
from evergreen_host.importers.pipeline import Pipeline
from evergreen_host.importers.plan import Plan, make_plan
from evergreen_host.importers.vectorizers import Config, Vectorizer, identifier
from evergreen_host.report import Report

_RIGHTS = """
SELECT pg_catalog.pg_has_role(current_user, 'embed_admin', 'USAGE') AS admin, current_user::text AS role,
       pg_catalog.has_table_privilege(pg_catalog.to_regclass(%s), 'SELECT') AS readable
"""
_RETENTION = """
SELECT s.kept, s.kept::interval < '1 day' AS short FROM (SELECT {schema}.embed_setting('cache_retention')) s (kept)
"""
_ESTIMATE = "SELECT texts, tokens FROM {schema}.embed_estimate(%s)"
_DROP = "SELECT ai.drop_vectorizer(%s)"
_HINT = "see docs/how-to/moving-in/pgai.md for alternatives"


@dataclass(frozen=True)
class ImportOptions:
    """The options of the command."""

    vectorizer: str | None = None
    name: str | None = None
    view: str | None = None
    model: str | None = None
    endpoint: str | None = None
    dry_run: bool = False
    drop: bool = False


def import_pgai(dsn: str, options: ImportOptions, report: Report) -> None:
    """Import a vectorizer; raises EvergreenError before any change if it cannot be imported."""
    with open_database(dsn, "evergreen import pgai") as database:
        vectorizer = vectorizers.find(database, options.vectorizer)
        plan = make_plan(vectorizer, vectorizers.columns(database, vectorizer.source))
        source_model = models.source_model(vectorizer.part("embedding"), plan.obstacles)
        _check_obstacles(vectorizer, plan)
        _check_rights(database, vectorizer)
        _check_vectors(vectorizer, vectorizers.columns(database, vectorizer.target), source_model)
        _check_retention(database)
        model = models.resolve(database, source_model, options.model, options.endpoint)
        target = pipeline.choose(database, vectorizer, options.name, options.view)
        pipeline.check(target, plan, model)
        pipeline.dry_run(database, target, plan, model)
        report.done("vectorizer", f"{vectorizer.id} ({vectorizer.name}): {vectors.count(database, vectorizer)} chunks")
        for note in plan.notes:
            report.missing("note:", note)
        if options.dry_run:
            _print_plan(database, vectorizer, target, plan, model, report)
        else:
            _run_import(database, vectorizer, target, plan, model, source_model, options, report)


def _check_obstacles(vectorizer: Vectorizer, plan: Plan) -> None:
    if plan.obstacles:
        reasons = "".join(f"\n  - {one}" for one in plan.obstacles)
        raise EvergreenError(f'vectorizer {vectorizer.id} ("{vectorizer.name}") cannot be imported:{reasons}', _HINT)


def _check_rights(database: Database, vectorizer: Vectorizer) -> None:
    target = identifier(vectorizer.target).as_string(database.connection)
    rights = database.rows(_RIGHTS, target)[0]
    role = sql.Identifier(rights["role"]).as_string(database.connection)
    if not rights["admin"]:
        raise EvergreenError(
            f"role {role} may not import vectors: all pipelines of a model share them",
            f"GRANT embed_admin TO {role};",
        )
    if rights["readable"] is None:
        raise EvergreenError(f"the vectors' table {target} does not exist", "SELECT * FROM ai.vectorizer;")
    if not rights["readable"]:
        raise EvergreenError(f"permission denied for {target}", f"GRANT SELECT ON {target} TO {role};")


def _check_vectors(vectorizer: Vectorizer, columns: dict[str, Config], source_model: SourceModel) -> None:
    missing = [name for name in ("embedding_uuid", "chunk", "embedding", *vectorizer.key) if name not in columns]
    if missing:
        raise EvergreenError(
            f"the vectors' table has no column {', '.join(missing)}", "import a table that pgai created"
        )
    dimensions = columns["embedding"]["modifier"]
    if dimensions != source_model.dimensions:
        raise EvergreenError(
            f"the vectors have {dimensions} dimensions, but the vectorizer's model has {source_model.dimensions}",
            "vectors of different models cannot be mixed",
        )


def _check_retention(database: Database) -> None:
    """Imported vectors must stay in the cache until a worker needs them."""
    setting = database.rows(_RETENTION)[0]
    if setting["short"]:
        raise EvergreenError(
            f"cache_retention is {setting['kept']}; imported vectors could expire before a worker uses them",
            "SELECT embed_setting('cache_retention', '30 days');",
        )


def _print_plan(
    database: Database, vectorizer: Vectorizer, target: Pipeline, plan: Plan, model: Model, report: Report
) -> None:
    """Print what an import would do."""
    call = pipeline.create_call(database, target, plan, model).as_string(database.connection)
    if model.add_arguments is not None:
        report.done("would add model", f"{model.name} on endpoint {model.add_arguments[4]}")
    if target.existing is None:
        report.done("would call", call)
    report.done("would import", f"the vectors of unchanged texts into pipeline {target.name}")
    report.next("nothing was changed; run again without --dry-run")
    report.close(vectorizer=vectorizer.id, pipeline=target.name, call=call, notes=plan.notes)


def _run_import(
    database: Database,
    vectorizer: Vectorizer,
    target: Pipeline,
    plan: Plan,
    model: Model,
    source_model: SourceModel,
    options: ImportOptions,
    report: Report,
) -> None:
    if target.existing is None:
        pipeline.create(database, target, plan, model)
        report.done("pipeline", f"{target.name} with model {model.name}")
    else:
        report.present("pipeline", target.name)
    seen, copied = vectors.copy(database, vectorizer, target.name, source_model.dimensions, quiet=report.as_json)
    report.done("imported", f"{copied} of {seen} vectors")
    estimate = database.rows(_ESTIMATE, target.name)[0]
    report.done("to embed", f"{estimate['texts']} new or changed texts")
    if target.paused_by_import:
        pipeline.resume(database, target)
        report.next("SELECT embed_drain(); or SELECT embed_schedule();")
    else:
        report.next(f"pipeline {target.name} is {target.existing['state'] if target.existing else 'active'}")
    dropped = options.drop and _drop_vectorizer(database, vectorizer, report, complete=seen == copied)
    if not dropped:
        report.next(f"once searches use the pipeline: SELECT ai.drop_vectorizer({vectorizer.id}, drop_all => true);")
    result = {"chunks": seen, "imported": copied, "to_embed": estimate["texts"], "dropped": dropped}
    report.close(vectorizer=vectorizer.id, pipeline=target.name, **result)


def _drop_vectorizer(database: Database, vectorizer: Vectorizer, report: Report, *, complete: bool) -> bool:
    """Drop the vectorizer with its triggers, queue and job; its vectors and view stay."""
    if not complete:
        report.missing("drop:", "not all vectors were imported, so the vectorizer stays")
        return False

    def drop() -> None:
        with database.connection.transaction():
            database.connection.execute("SET LOCAL lock_timeout = '50ms'")
            database.rows(_DROP, vectorizer.id)

    vectors.retry_while_locked(drop, f"other sessions keep writing to {'.'.join(vectorizer.source)}")
    table = sql.SQL("DROP TABLE {} CASCADE;").format(identifier(vectorizer.target)).as_string(database.connection)
    report.done("dropped", f"vectorizer {vectorizer.id}; its vectors and its view stay")
    report.next(f"once nothing reads them any more: {table}")
    return True
