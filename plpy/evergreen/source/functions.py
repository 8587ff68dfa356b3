"""Generated functions that run as the source's owner: reader, scan, count and key."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager

from evergreen import db
from evergreen.core import template as templates
from evergreen.core.errors import UserError
from evergreen.core.frozen import frozen
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.core.template import Literal, Placeholder
from evergreen.db import privileges
from evergreen.db.queries import Query, load
from evergreen.source import expressions as ex
from evergreen.source import view
from evergreen.source.table import Column, KeyColumn, Source

SQL = load(__package__)
_MAX_ARGUMENTS = 90  # a function takes at most 100
_NO_ROW_SECURITY = "\nSET row_security = off"


@frozen
class Function:
    """A function to create in embed_store."""

    signature: str
    returns: str
    language: str
    volatility: str
    body: str
    settings: str = ""
    definer: bool = True
    grantee: str | None = None  # a role that may run it, too
    comment: str = ""

    def create(self, owner: str | None) -> None:
        """Create or replace the function; it belongs to the role ``owner``, or to the extension's owner."""
        names = {"signature": self.signature, "returns": self.returns, "body": db.literal(self.body)}
        if self.definer:
            db.ddl(
                SQL.replace_function.with_identifiers(
                    **names,
                    language=self.language,
                    volatility=self.volatility,
                    security="SECURITY DEFINER",
                    settings=self.settings,
                )
            )
            privileges.revoke_all("FUNCTION", self.signature)
        else:
            db.ddl(SQL.replace_inlined_function.with_identifiers(**names))
            privileges.revoke_all("FUNCTION", self.signature)
            db.ddl(SQL.grant_execute_to_public.with_identifiers(signature=self.signature))
        new_owner = db.identifier(owner) if owner is not None else db.value(SQL.owner_to_restore, self.signature)
        if new_owner is not None:
            set_owner(self.signature, new_owner)
        if self.grantee is not None:
            db.ddl(SQL.grant_execute.with_identifiers(signature=self.signature, role=db.identifier(self.grantee)))
        db.ddl(SQL.comment_function.with_identifiers(signature=self.signature, comment=db.literal(self.comment)))


def set_owner(signature: str, owner: str) -> None:
    """Change a function's owner; the role is quoted."""
    db.ddl(SQL.set_function_owner.with_identifiers(signature=signature, owner=owner))


def drop(signature: str) -> None:
    """Drop a function if it exists."""
    db.ddl(SQL.drop_function.with_identifiers(signature=signature))


@contextmanager
def without_body_checks() -> Generator[None]:
    """Create functions without checking their bodies, which would lock the source until the transaction ends.

    TRUNCATE would wait for that lock. Only for a pipeline that has its functions: the first ones are checked, so an
    error in them shows at once. A rollback restores the setting.
    """
    before = db.value(SQL.set_body_checks, "off")
    yield
    db.run(SQL.set_body_checks, before)


def fill(query: Query, **names: str) -> str:
    """Return the text of a query with its placeholders filled in."""
    return query.with_identifiers(**names).text


def reader(generation: Generation, source: Source, watched: tuple[Column, ...], only_if: Column | None) -> Function:
    """Return the function that reads rows by key and renders their text."""
    text = content(generation.columns, generation.template, source)
    wrapped = wrapper(generation.columns, generation.template, source)
    if only_if is not None:
        text = f"CASE WHEN {ex.reference('s', only_if)} THEN {text} END"
        wrapped = f"CASE WHEN {ex.reference('s', only_if)} THEN {wrapped} END"
    matches = matching("s", source.key, "k.key")
    copies = source.has_declared_key
    return Function(
        signature=f"embed_store.reader_{generation.id}(jsonb)",
        returns=f"TABLE (ord int, src_hash bytea, content text, wrapper text[]{', copies bigint' if copies else ''})",
        language="sql",
        volatility="VOLATILE",
        body=fill(
            SQL.reader_grouped_body if view.is_grouped(source) else SQL.reader_body,
            src_hash=ex.src_hash("s", watched),
            content=text,
            wrapper=wrapped,
            source=source.from_clause,
            matches=matches,
            key_document=ex.key("s", source.key),
            copies=", count(*) OVER (PARTITION BY k.ord)" if copies else "",
        ),
        settings=_NO_ROW_SECURITY + ex.all_pinned_settings(),
        comment="evergreen: reads the source as its owner",
    )


def content(columns: tuple[str, ...] | None, template: str | None, source: Source) -> str:
    """Return the text of a row ``s`` to cut: columns joined by blank lines without NULLs, or the template."""
    if columns is not None:
        values = ", ".join(ex.reference("s", _column(source, name)) for name in columns)
        return f"pg_catalog.concat_ws(E'\\n\\n', {values})"
    return _concatenated(templates.wrapper(templates.parse(template or ""))[0], source)


def wrapper(columns: tuple[str, ...] | None, template: str | None, source: Source) -> str:
    """Return what a template puts around the chunks of a row ``s``, as an array; NULL without both."""
    if columns is None or template is None:
        return "NULL::pg_catalog.text[]"
    segments = templates.wrapper(templates.parse(template, framed=True))
    return f"ARRAY[{', '.join(_concatenated(segment, source) for segment in segments)}]"


def _concatenated(parts: tuple[Literal | Placeholder, ...], source: Source) -> str:
    texts = [_part(part, source) for part in parts] or ["''"]
    groups = [", ".join(texts[start : start + _MAX_ARGUMENTS]) for start in range(0, len(texts), _MAX_ARGUMENTS)]
    return " OPERATOR(pg_catalog.||) ".join(f"pg_catalog.concat({group})" for group in groups)


def _part(part: Literal | Placeholder, source: Source) -> str:
    if isinstance(part, Literal):
        return db.literal(part.text)
    return ex.reference("s", _column(source, part.column))


def _column(source: Source, name: str) -> Column:
    column = source.column(name)
    assert column is not None, name  # watched columns were checked before
    return column


def scan(pipeline: Pipeline, source: Source) -> Function:
    """Return the function that walks the source in key order."""
    return Function(
        signature=f"embed_store.scan_{pipeline.id}(jsonb, int)",
        returns="SETOF jsonb",
        language="plpgsql",
        volatility="VOLATILE",
        body=fill(
            SQL.scan_declared_body if source.has_declared_key else SQL.scan_body,
            key_document=ex.key("s", source.key),
            source=source.from_clause,
            order=ordering("s", source.key),
            after=after("s", source.key, "$1"),
            not_null=not_null("s", source.key),
        ),
        settings=_NO_ROW_SECURITY + ex.all_pinned_settings(),
        comment=f"evergreen: keys of pipeline {pipeline.name} in order",
    )


def matching(row: str, columns: Sequence[KeyColumn], document: str) -> str:
    """Return the condition that columns of a row equal the values of a key."""
    return " AND ".join(matching_one(row, c, document, i) for i, c in enumerate(columns))


def after(row: str, columns: Sequence[KeyColumn], document: str) -> str:
    """Return the condition that a row comes after a key: (a, b) > (x, y) with each column's own operators."""
    terms: list[str] = []
    for i, column in enumerate(columns):
        same = [matching_one(row, c, document, j) for j, c in enumerate(columns[:i])]
        terms.append(" AND ".join([*same, matching_one(row, column, document, i, column.greater)]))
    return " OR ".join(f"({term})" for term in terms)


def matching_one(row: str, column: KeyColumn, document: str, place: int, operator: str | None = None) -> str:
    """Return the comparison of one column with its value in a key, by default for equality."""
    return f"{ex.comparable(row, column)} {operator or column.equal} {ex.key_value(document, place, column)}"


def ordering(row: str, columns: Sequence[Column]) -> str:
    """Return what to order by for the order of keys."""
    return ", ".join(ex.reference(row, c) for c in columns)


def not_null(row: str, columns: Sequence[Column]) -> str:
    """Return the condition that no column of a key is NULL: such a key identifies no row."""
    return f"pg_catalog.num_nulls({ordering(row, columns)}) OPERATOR(pg_catalog.=) 0"


def count(pipeline: Pipeline, source: Source) -> Function:
    """Return the function that counts the source's rows; those of a view only if that is cheap."""
    return Function(
        signature=f"embed_store.count_{pipeline.id}()",
        returns="bigint",
        language="plpgsql",
        volatility="VOLATILE" if source.kind == "v" else "STABLE",  # EXPLAIN needs a volatile function
        body=fill(
            SQL.count_view_body if source.kind == "v" else SQL.count_body,
            source=source.from_clause,
            explain=db.literal(f"EXPLAIN (FORMAT JSON) SELECT FROM {source.from_clause}"),
        ),
        settings=_NO_ROW_SECURITY,
        comment=f"evergreen: number of rows of pipeline {pipeline.name}",
    )


def canonical_key(pipeline: Pipeline, source: Source) -> Function:
    """Return the function that casts a user's key to the key's types and back."""
    return Function(
        signature=f"embed_store.key_{pipeline.id}(jsonb)",
        returns="jsonb",
        language="sql",
        volatility="VOLATILE",
        body=fill(
            SQL.key_body,
            row_key=ex.key("r", source.key),
            source=source.from_clause,
            matches=matching("r", source.key, "$1"),
            key_document=ex.key("s", source.key),
            values=", ".join(ex.key_value("$1", i, c) for i, c in enumerate(source.key)),
            names=", ".join(db.identifier(c.name) for c in source.key),
        ),
        settings=_NO_ROW_SECURITY + ex.all_pinned_settings(),
        comment=f"evergreen: stored form of a key of pipeline {pipeline.name}",
    )


def ensure_schema() -> None:
    """Create schema embed_store; raises UserError 42501 when it belongs to another role."""
    row = db.one(SQL.store_schema_owner)
    if row is None:
        for statement in (
            SQL.create_store_schema,
            SQL.comment_store_schema,
        ):
            db.ddl(statement)
        privileges.revoke_all("SCHEMA", "embed_store")
    elif not row["ours"]:
        raise UserError(
            "schema embed_store does not belong to the extension's owner",
            "42501",
            hint="As a superuser, rename that schema, or ALTER SCHEMA embed_store OWNER TO the extension's owner.",
        )
    for creator in db.rows(SQL.roles_with_create):  # granted by default privileges, as after a restore, or by mistake
        db.ddl(SQL.revoke_create.with_identifiers(role=creator["name"]))
        db.notice(
            f"CREATE on schema embed_store was revoked from {creator['name']}: functions there run with others' rights"
        )
