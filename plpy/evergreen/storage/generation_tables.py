"""The generation table and the view over it."""

from collections.abc import Sequence

from evergreen import db
from evergreen.catalog import models
from evergreen.core.errors import UserError
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.db import event_log, privileges, relations
from evergreen.db.locks import with_lock_timeout
from evergreen.db.queries import load
from evergreen.source import expressions as ex
from evergreen.source import view as views
from evergreen.source.functions import Function, fill
from evergreen.source.table import Column, Source

SQL = load(__package__, "generation_tables")
# Chunks of one document are renumbered all at once. Half of each page stays free for new versions of its rows,
# so that renumbering is HOT and touches no index. The vector is stored inline if two rows fit into the other half:
# inserts ran 1.3 times as fast, and a search reads the vector with the row. Otherwise it is out of line; renumbering
# does not copy it: inline rows of 384 dimensions and 400 characters filled a page each, 8.2 kB instead of 2.5 kB. With
# one chunk per row, no chunk is renumbered.
_MAX_INLINE_DIMENSIONS, _MAX_INLINE_ROW_BYTES = 512, 2000
_AVERAGE_FILL = 0.65  # average length of a chunk, as a share of the maximum
_ROW_OVERHEAD_BYTES = 330  # bytes of a row in addition to text and vector
_INLINE_VECTORS = "toast_tuple_target = 8160"
_FILL_ONE_CHUNK, _FILL_MANY_CHUNKS = "fillfactor = 70", "fillfactor = 50"
# A bulk edit replaces all rows, and the next one should reuse the dead space. Each VACUUM reads the whole HNSW index,
# so it waits for a tenth of the rows, and then makes no pauses: with the default ones it took longer than the edits.
_VACUUM = (
    "autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 0,"
    " toast.autovacuum_vacuum_scale_factor = 0.1, toast.autovacuum_vacuum_cost_delay = 0"
)
_COLUMNS = tuple("document id key chunk_no chunk chunk_hash embedding model fingerprint src_hash embedded_at".split())
_VIEW_COLUMNS = frozenset("key chunk_no chunk embedding model fingerprint embedded_at is_stale generation".split())


def create_table(pipeline: Pipeline, generation: Generation, source: Source) -> None:
    """Create the table of a generation with its policy; the source's hash function must exist."""
    keys = [(f"k{i}", type_name) for i, (_, _, type_name) in enumerate(pipeline.key, 1)]
    table = {"table": generation.table}
    db.ddl(
        SQL.create_table.with_identifiers(
            **table,
            key_columns=", ".join(f"{name} {type_name} NOT NULL" for name, type_name in keys),
            vector=f"{models.vector_schema()}.vector",
            dimensions=str(generation.model.dimensions),
            storage=_storage(generation),
        )
    )
    _no_statistics(generation.table, ["chunk", "embedding", *(name for name, _ in keys)])
    db.ddl(SQL.index_key.with_identifiers(**table, key_names=", ".join(name for name, _ in keys)))
    db.ddl(SQL.index_hash.with_identifiers(**table))
    comment = f"evergreen: vectors of pipeline {pipeline.name} by model {generation.model.name}"
    db.ddl(SQL.comment_table.with_identifiers(**table, comment=db.literal(comment)))
    privileges.revoke_all("TABLE", generation.table)
    privileges.revoke_all("SEQUENCE", f"{generation.table}_id_seq")
    db.ddl(SQL.create_trigger.with_identifiers(**table))
    db.ddl(SQL.enable_always.with_identifiers(**table))
    db.run(SQL.guard_generation, generation.id)
    _create_policy(generation.table, generation, source)
    _create_readable(generation, source, [name for name, _ in keys])
    follow_row_security(generation, source)


def _create_readable(generation: Generation, source: Source, keys: list[str]) -> None:
    both = {"readable": generation.readable, "table": generation.table}
    db.ddl(SQL.create_readable.with_identifiers(**both))
    privileges.revoke_all("TABLE", generation.readable)
    _no_statistics(generation.readable, [*_COLUMNS, *keys])
    db.ddl(SQL.attach_table.with_identifiers(**both))
    comment = f"evergreen: {generation.table} as readers see it, by their rights on the source"
    db.ddl(SQL.comment_readable.with_identifiers(**both, comment=db.literal(comment)))
    _create_policy(generation.readable, generation, source)
    _protect(generation.readable)


def _create_policy(table: str, generation: Generation, source: Source) -> None:
    own = table.split(".")[1]
    db.ddl(
        SQL.create_policy.with_identifiers(
            table=table, generation=str(generation.id), matches=_matches(source, own), name=own
        )
    )


def _protect(table: str) -> None:
    db.ddl(SQL.enable_policy.with_identifiers(table=table))
    db.ddl(SQL.grant_table.with_identifiers(table=table))


def follow_row_security(generation: Generation, source: Source) -> None:
    """Enable row security on the generation table if the source has it, so that a dump shows no more than the source.

    Readers do not depend on it: they use ``readable``, and may read the table itself only with row security.
    """
    row = db.one(SQL.has_row_security, source.oid, generation.table)
    if row is None or row["source"] == row["own"]:
        return
    if row["source"]:
        _protect(generation.table)
    else:
        privileges.revoke_all("TABLE", generation.table)
        db.ddl(SQL.disable_policy.with_identifiers(table=generation.table))


def repair(pipeline: Pipeline, generation: Generation) -> None:
    """Delete documents that miss chunks, and chunks without a document.

    Their vectors are cached, so the texts are not sent again. The cursors find the rows.
    """
    table = {"table": generation.table}
    lost = int(db.value(SQL.delete_incomplete_documents.with_identifiers(**table), generation.id))
    model = generation.model
    db.run(SQL.cache_orphaned_chunks.with_identifiers(**table), generation.id, model.id, pipeline.id, model.revision)
    orphans = db.run(SQL.delete_orphaned_chunks.with_identifiers(**table), generation.id)
    if lost or orphans:
        about = {"pipeline": pipeline.name, "generation": generation.id}
        event_log.warn("vectors_missing", **about, rows=lost, chunks_without_row=orphans)
        db.notice(
            f'pipeline "{pipeline.name}": the vectors of {lost:,} rows are missing from {generation.table},'
            f" and {orphans:,} chunks belong to no row; all rows are checked"
        )


def drop_table(generation: Generation) -> None:
    """Drop the generation table and its readable parent."""
    db.ddl(SQL.drop_table.with_identifiers(table=generation.table, readable=generation.readable))


def drop_view(view: str) -> None:
    """Drop a view, quoted and qualified; raises 2BP01 if another object depends on it."""
    db.ddl(SQL.drop_view.with_identifiers(view=view))


def drop_policy(table: str) -> None:
    """Drop our row security policy on a table."""
    db.ddl(SQL.drop_policy.with_identifiers(table=table))


def detach(generation: Generation) -> None:
    """Turn the generation table into an ordinary table."""
    both = {"readable": generation.readable, "table": generation.table}
    for statement in (SQL.detach_table, SQL.drop_readable, SQL.drop_policy, SQL.disable_policy):
        db.ddl(statement.with_identifiers(**both))
    privileges.revoke_all("TABLE", generation.table)
    for row in db.rows(SQL.own_triggers, generation.table):
        db.ddl(SQL.drop_trigger.with_identifiers(**both, **row))


def _no_statistics(table: str, names: Sequence[str]) -> None:
    columns = ", ".join(
        SQL.column_without_statistics.with_identifiers(column=db.identifier(name)).text for name in names
    )
    db.ddl(SQL.no_statistics.with_identifiers(table=table, columns=columns))


def drop_statistics() -> None:
    """Delete statistics on texts, vectors and keys of all generations; skip locked tables."""
    for row in db.rows(SQL.with_statistics):
        with_lock_timeout(lambda row=row: _drop_statistics(row["name"], row["columns"]), "50ms")


def _drop_statistics(table: str, names: Sequence[str]) -> None:
    _no_statistics(table, names)
    db.run(SQL.forget_statistics, table, names)


def _storage(generation: Generation) -> str:
    if generation.chunker == {"chunker": "none"}:
        is_inline, fill = generation.model.dimensions <= _MAX_INLINE_DIMENSIONS, _FILL_ONE_CHUNK
    else:
        text = _AVERAGE_FILL * float(generation.chunker.get("size", 0))
        is_inline, fill = (
            4 * generation.model.dimensions + text + _ROW_OVERHEAD_BYTES <= _MAX_INLINE_ROW_BYTES,
            _FILL_MANY_CHUNKS,
        )
    return ", ".join([*([_INLINE_VECTORS] if is_inline else []), fill, _VACUUM])


def _matches(source: Source, table: str) -> str:
    return " AND ".join(f"s.k{i} {column.equal} {table}.k{i}" for i, column in enumerate(source.key, 1))


def view_columns(names: Sequence[str]) -> list[str]:
    """Return the key columns' names in the view, prefixed until they are unique."""
    taken = set(_VIEW_COLUMNS) | set(names)
    found: list[str] = []
    for name in names:
        column = name
        while column in _VIEW_COLUMNS or (column != name and column in taken):
            column = f"key_{column}"
        taken.add(column)
        found.append(column)
    return found


def create_view(pipeline: Pipeline, generation: Generation, source: Source, view: str) -> int:
    """Create or switch the view ``view`` (qualified, quoted) to a generation; return its oid."""
    names = view_columns([c.name for c in source.key])
    is_new = relations.oid_of(view) is None
    columns = (f"g.k{i} AS {db.identifier(name)}" for i, name in enumerate(names, 1))
    db.ddl(
        SQL.create_view.with_identifiers(
            view=view,
            key_columns=", ".join(columns),
            vector=f"{models.vector_schema()}.vector",
            readable=generation.readable,
            generation=str(generation.id),
            source=fill(
                SQL.grouped_source if views.is_grouped(source) else SQL.joined_source,
                generation=str(generation.id),
                matches=_matches(source, "g"),
            ),
        )
    )
    comment = (
        f"embeddings of pipeline {pipeline.name}: one row per chunk; is_stale is exact for your snapshot."
        " Where row security applies to you, stale chunks are left out"
    )
    db.ddl(SQL.comment_view.with_identifiers(view=view, comment=db.literal(comment)))
    if is_new:
        privileges.revoke_all("TABLE", view)
    db.ddl(SQL.grant_view.with_identifiers(view=view))
    oid = relations.oid_of(view)
    assert oid is not None
    return oid


def view_name(source: Source, pipeline: str, wanted: str | None, role: str) -> str:
    """Choose the view's qualified name; raises UserError 42P07, 42501, 42622."""
    name = wanted if wanted is not None else f"{pipeline}_embedding"
    if wanted is not None and not db.value(SQL.may_create, role, source.schema):
        raise UserError(
            f"permission denied for schema {source.schema}",
            "42501",
            hint="A view_name of your choice needs CREATE on the source's schema; without it the name is the default.",
        )
    if not name:
        raise UserError("a view needs a name", "42602", hint="Leave view_name out, or pass a name.")
    if len(name.encode()) > 63:  # noqa: PLR2004 - NAMEDATALEN - 1
        raise UserError(f'view name "{name}" is longer than 63 bytes', "42622", hint="Pass a shorter view_name => '…'.")
    qualified = f"{db.identifier(source.schema)}.{db.identifier(name)}"
    if db.value(SQL.relation_exists, source.schema, name):
        hint = "Pass another name: view_name => '…'."
        if db.value(SQL.is_leftover_view, source.schema, name):
            hint = f"A restore without the data of embed.pipeline left it. DROP VIEW {qualified};"
        raise UserError(f'relation "{source.schema}.{name}" exists already', "42P07", hint=hint)
    return qualified


def relation_name(oid: int | None) -> str | None:
    """Return the qualified name of a relation, or None if it no longer exists."""
    found = db.value(SQL.relation_name, oid) if oid is not None else None
    return str(found) if found is not None else None


def _shows_stale(pipeline: Pipeline, view: Source) -> str:
    """Return whether a reader of a view sees chunks of earlier texts: not where the view may show each other rows."""
    if views.digest(view.oid).startswith("reader "):
        return "pg_catalog.pg_has_role(c.relowner, 'USAGE')"
    tables = [db.literal(name) for name in dict.fromkeys(link.base_name for link in pipeline.links)]
    restricted = (
        f"coalesce(pg_catalog.row_security_active(pg_catalog.to_regclass({name})::pg_catalog.oid), true)"
        for name in tables
    )
    return f"NOT ({' OR '.join(restricted)})" if tables else "true"


def src(
    generation: Generation,
    pipeline: Pipeline,
    source: Source | None,
    watched: tuple[Column, ...],
    only_if: Column | None = None,
) -> Function:
    """Return the function that reads keys and hashes of the source's rows where ``only_if`` is true, as the caller."""
    columns = ", ".join(f"k{i} {type_name}" for i, (_, _, type_name) in enumerate(pipeline.key, 1))
    if source is None:
        nothing = ", ".join(f"NULL::{type_name}" for _, _, type_name in pipeline.key)
        body = fill(SQL.src_empty_body, columns=nothing)
    else:
        body = fill(
            SQL.src_view_body if source.kind == "v" else SQL.src_body,
            columns=", ".join(f"{ex.reference('s', c)}::{c.type_name}" for c in source.key),
            src_hash=ex.src_hash("s", watched),
            source=source.from_clause,
            table=db.literal(source.qualified),
            condition=f"{ex.reference('s', only_if)} IS TRUE AND " if only_if is not None else "",
            owner=db.literal(source.owner_name),
            shows_stale=_shows_stale(pipeline, source) if source.kind == "v" else "",
        )
    return Function(
        signature=f"embed_store.src_{generation.id}()",
        returns=f"TABLE ({columns}, h bytea, shows_stale boolean)",
        language="sql",
        volatility="STABLE",
        body=body,
        definer=False,
        comment=f"evergreen: what the view of pipeline {pipeline.name} joins",
    )
