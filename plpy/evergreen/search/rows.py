"""embed_search_rows: the statement that finds whole source rows."""

from evergreen import db
from evergreen.catalog import pipelines
from evergreen.core.errors import UserError
from evergreen.core.pipeline import Pipeline
from evergreen.db.privileges import as_extension_owner, caller, sql_entry
from evergreen.db.queries import load
from evergreen.search import keys, search
from evergreen.source import expressions as ex
from evergreen.source import table

SQL = load(__package__)


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
def search_rows_sql(
    source: str | None,
    query: str | None,
    k: int | None,
    pipeline: str | None,
    mode: str | None,
    filter_: str | None,
    max_per_key: int | None,
) -> list[str]:
    """Return what embed_search_rows runs: its statement, and for its $1 the chunks that were found."""
    role = caller()
    search.check(query, k, mode, "serve", max_per_key)
    oid = table.oid_of(source) if source is not None and source != "-" else None

    def find() -> tuple[str, str]:
        name = pipeline if pipeline is not None else _only(source, role)
        found = pipelines.readable(name, role)
        if oid != found.source:
            raise UserError(
                f'pipeline "{name}" is not on table {source}', "42809", hint=f"Pass NULL::{found.source_name}."
            )
        return name, _statement(found)

    name, statement = as_extension_owner(find)
    most = max_per_key if max_per_key is not None else 1
    rows = search.search(name, str(query), search.Asked(str(mode), int(k or 0), filter_, most))
    return [statement, keys.records(rows, "chunk", "score")]


def _statement(pipeline: Pipeline) -> str:
    source = table.of_pipeline(pipeline)
    assert source is not None
    alias = "s"  # a column of this name would be taken for the row
    while source.column(alias) is not None:
        alias += "_"
    types = [column.type_name for column in source.key]
    matches = (
        f"{ex.comparable(alias, column)} {column.equal} {value}"
        for column, value in zip(source.key, keys.values("b", types), strict=True)
    )
    return SQL.rows_of_keys.with_identifiers(
        source=source.from_clause, alias=alias, columns=keys.columns(types), matches=" AND ".join(matches)
    ).text
