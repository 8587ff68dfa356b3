"""`evergreen import pgai`: a vectorizer becomes a pipeline, and what it has embedded is not paid for again."""

from dataclasses import dataclass

from psycopg import sql

from evergreen_host.database import Link, linked
from evergreen_host.errors import EvergreenError
from evergreen_host.importers import models, pipeline, vectorizers, vectors
from evergreen_host.importers.models import Model, Wanted
from evergreen_host.importers.pipeline import Pipeline
from evergreen_host.importers.plan import Plan, plan
from evergreen_host.importers.vectorizers import Part, Vectorizer, identifier
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
_PAGE = "docs/moving-in.md says what can be done instead"


@dataclass(frozen=True)
class Wish:
    """What was asked for on the command line."""

    vectorizer: str | None = None
    name: str | None = None
    view: str | None = None
    model: str | None = None
    endpoint: str | None = None
    dry_run: bool = False
    drop: bool = False


def import_pgai(dsn: str, wish: Wish, report: Report) -> None:
    """Take a vectorizer over; raises EvergreenError, before anything is changed where it cannot be done."""
    with linked(dsn, "evergreen import pgai") as link:
        vectorizer = vectorizers.find(link, wish.vectorizer)
        made = plan(vectorizer, vectorizers.columns(link, vectorizer.source))
        wanted = models.wanted(vectorizer.part("embedding"), made.obstacles)
        _check_obstacles(vectorizer, made)
        _check_rights(link, vectorizer)
        _check_target(vectorizer, vectorizers.columns(link, vectorizer.target), wanted)
        _check_retention(link)
        model = models.resolve(link, wanted, wish.model, wish.endpoint)
        target = pipeline.chosen(link, vectorizer, wish.name, wish.view)
        pipeline.check(target, made, model)
        pipeline.rehearse(link, target, made, model)
        report.done("vectorizer", f"{vectorizer.id} ({vectorizer.name}): {vectors.count(link, vectorizer)} chunks")
        for note in made.notes:
            report.missing("note:", note)
        if wish.dry_run:
            _say(link, vectorizer, target, made, model, report)
        else:
            _import(link, vectorizer, target, made, model, wanted, wish, report)


def _check_obstacles(vectorizer: Vectorizer, made: Plan) -> None:
    if made.obstacles:
        reasons = "".join(f"\n  - {one}" for one in made.obstacles)
        raise EvergreenError(f'vectorizer {vectorizer.id} ("{vectorizer.name}") cannot be taken over:{reasons}', _PAGE)


def _check_rights(link: Link, vectorizer: Vectorizer) -> None:
    target = identifier(vectorizer.target).as_string(link.connection)
    rights = link.rows(_RIGHTS, target)[0]
    role = sql.Identifier(rights["role"]).as_string(link.connection)
    if not rights["admin"]:
        raise EvergreenError(
            f"role {role} may not adopt vectors: they are shared by all pipelines of a model",
            f"GRANT embed_admin TO {role}; or connect as a role that has it",
        )
    if rights["readable"] is None:
        raise EvergreenError(f"the vectors' table {target} does not exist", "SELECT * FROM ai.vectorizer;")
    if not rights["readable"]:
        raise EvergreenError(f"permission denied for {target}", f"GRANT SELECT ON {target} TO {role};")


def _check_target(vectorizer: Vectorizer, columns: dict[str, Part], wanted: Wanted) -> None:
    missing = [name for name in ("embedding_uuid", "chunk", "embedding", *vectorizer.key) if name not in columns]
    if missing:
        raise EvergreenError(f"the vectors' table has no column {', '.join(missing)}", "it must be as pgai made it")
    dimensions = columns["embedding"]["modifier"]
    if dimensions != wanted.dimensions:
        raise EvergreenError(
            f"the vectors have {dimensions} dimensions, and the vectorizer's model {wanted.dimensions}",
            "vectors of another model cannot be used",
        )


def _check_retention(link: Link) -> None:
    """What is adopted must still be there when a worker comes to it."""
    setting = link.rows(_RETENTION)[0]
    if setting["short"]:
        raise EvergreenError(
            f"vectors are kept for {setting['kept']} only, and might be gone before a worker uses them",
            "SELECT embed_setting('cache_retention', '30 days');",
        )


def _say(link: Link, vectorizer: Vectorizer, target: Pipeline, made: Plan, model: Model, report: Report) -> None:
    """Say what would be done."""
    call = pipeline.create_call(link, target, made, model).as_string(link.connection)
    if model.adding is not None:
        report.done("would add model", f"{model.name} on endpoint {model.adding[4]}")
    if target.existing is None:
        report.done("would call", call)
    report.done("would adopt", f"the vectors of texts that are still what they were, into pipeline {target.name}")
    report.next("nothing was changed; run it again without --dry-run")
    report.close(vectorizer=vectorizer.id, pipeline=target.name, call=call, notes=made.notes)


def _import(
    link: Link,
    vectorizer: Vectorizer,
    target: Pipeline,
    made: Plan,
    model: Model,
    wanted: Wanted,
    wish: Wish,
    report: Report,
) -> None:
    if target.existing is None:
        pipeline.create(link, target, made, model)
        report.done("pipeline", f"{target.name} with model {model.name}")
    else:
        report.present("pipeline", target.name)
    seen, taken = vectors.adopt(link, vectorizer, target.name, wanted.dimensions, quiet=report.as_json)
    report.done("adopted", f"{taken} of {seen} vectors")
    left = link.rows(_ESTIMATE, target.name)[0]
    report.done("to embed", f"{left['texts']} texts, that changed since or are new")
    if target.is_ours:
        pipeline.resume(link, target)
        report.next("SELECT embed_drain(); or SELECT embed_schedule();")
    else:
        report.next(f"pipeline {target.name} is {target.existing['state'] if target.existing else 'active'}")
    dropped = wish.drop and _drop(link, vectorizer, report, is_whole=seen == taken)
    if not dropped:
        report.next(f"when searches use the pipeline: SELECT ai.drop_vectorizer({vectorizer.id}, drop_all => true);")
    said = {"chunks": seen, "adopted": taken, "to_embed": left["texts"], "dropped": dropped}
    report.close(vectorizer=vectorizer.id, pipeline=target.name, **said)


def _drop(link: Link, vectorizer: Vectorizer, report: Report, *, is_whole: bool) -> bool:
    """Drop the vectorizer, not its vectors: triggers, queue and job go; whoever reads its view goes on."""
    if not is_whole:
        report.missing("drop:", "not all vectors were taken, so the vectorizer stays")
        return False

    def step() -> None:
        with link.connection.transaction():
            link.connection.execute("SET LOCAL lock_timeout = '50ms'")
            link.rows(_DROP, vectorizer.id)

    vectors.patiently(step, f"others keep writing to {'.'.join(vectorizer.source)}")
    table = sql.SQL("DROP TABLE {} CASCADE;").format(identifier(vectorizer.target)).as_string(link.connection)
    report.done("dropped", f"vectorizer {vectorizer.id}; its vectors and its view stay")
    report.next(f"when nobody reads them any more: {table}")
    return True
