"""embed_search_rows: the statement that finds whole source rows."""

from evergreen import db
from evergreen.catalog import pipelines
from evergreen.core.errors import UserError
from evergreen.core.pipeline import Pipeline
from evergreen.db.privileges import as_extension_owner, caller, sql_entry
from evergreen.db.queries import load
from evergreen.search import query as queries
from evergreen.search import search
from evergreen.search.view import key_columns, view_of
from evergreen.source import expressions as ex
from evergreen.source import row_security, table
from evergreen.storage.chunks import is_zero

SQL = load(__package__)
_CHUNKS_A_ROW = 10


@sql_entry
def only_pipeline(source: str | None) -> str:
    """Return the pipeline of a table that has just one; raises 42704, 42P09."""
    role = caller()
    return as_extension_owner(lambda: _only(source, role), stable=True)


def _only(source: str | None, role: str) -> str:
    if source is None or source == "-":
        raise UserError("the first argument is not a row of a table", "42809", hint="Pass NULL::your_table.")
    oid = table.oid_of(source)
    names = [str(row["name"]) for row in db.rows(SQL.pipelines_of_source, oid)] if pipelines.may_read(role, oid) else []
    if not names:
        raise UserError(f"table {source} has no pipeline", "42704", hint="Make one with embed_create().")
    if len(names) > 1:
        raise UserError(
            f"table {source} has several pipelines: {', '.join(names)}", "42P09", hint="Name one: pipeline => '…'."
        )
    return names[0]


@sql_entry
def search_rows_sql(source: str | None, query: str | None, k: int | None, pipeline: str | None) -> list[str]:
    """Return what embed_search_rows runs: its statement, the question's vector for $1, and a statement that tells
    whether the view shows another generation by now. Of the catalog as it is now, see ``search.resolve``."""
    role = caller()
    search.check(query, k, "vector", "serve", None)
    oid = table.oid_of(source) if source is not None and source != "-" else None
    is_restricted = oid is not None and row_security.is_restricted(oid)

    def run() -> list[str]:
        name = pipeline if pipeline is not None else _only(source, role)
        found = pipelines.readable(name, role)
        if oid != found.source:
            raise UserError(
                f'pipeline "{name}" is not on table {source}', "42809", hint=f"Pass NULL::{found.source_name}."
            )
        with search.by_words_meanwhile(found):
            vector = queries.vector(found, found.active.model, str(query), role)
        return [
            _statement(found, int(k or 0), is_blank=is_zero(vector), is_restricted=is_restricted),
            vector,
            SQL.shows_another.with_identifiers(view=view_of(found), generation=str(found.active.id)).text,
        ]

    return as_extension_owner(run)


def _statement(pipeline: Pipeline, k: int, *, is_blank: bool, is_restricted: bool) -> str:
    source = table.describe(pipeline.source)
    assert source is not None
    alias = "s"  # a column of this name would be taken for the row
    while source.column(alias) is not None:
        alias += "_"
    several = pipeline.active.chunker.get("chunker") != "none"
    matches = (f"{ex.comparable(alias, c)} {c.equal} b.k{i}" for i, c in enumerate(source.key, 1))
    columns_of_key = (f"v.{name} AS k{i}" for i, name in enumerate(key_columns(pipeline), 1))
    where = search.target(pipeline, None)
    index = where.index
    question = f"$1::{index.schema}.vector"
    distance = f"v.embedding {index.operator} {question}"
    is_rough = where.is_indexed and index.oversampling > 1 and not is_restricted
    nearest = (SQL.nearest_rows_exactly if is_restricted else SQL.nearest_rows).with_identifiers(
        view=where.view,
        visible=search.visible(pipeline) if is_restricted else "",
        columns=", ".join(columns_of_key),
        generation=str(where.generation),
        distance=distance,
        condition=" AND false" if is_blank else where.not_blank,
        order=index.order("v.embedding", question) if is_rough else distance,
        fetch=str(k * (_CHUNKS_A_ROW if several else 1) * (index.oversampling if is_rough else 1)),
    )
    return SQL.nearest_source_rows.with_identifiers(
        nearest=nearest.text,
        score=index.score("b.distance"),
        source=source.from_clause,
        alias=alias,
        matches=" AND ".join(matches),
        k=str(k),
    ).text
