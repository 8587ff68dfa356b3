"""The functions generated for a pipeline that run as the source's owner: reader, scan, count and key."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from evergreen import db
from evergreen.core import template as templates
from evergreen.core.errors import UserError
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.core.template import Literal, Placeholder
from evergreen.db import privileges
from evergreen.db.queries import Query, load
from evergreen.source import expressions as ex
from evergreen.source.table import Column, Source

SQL = load(__package__)
_ARGUMENTS = 90  # a function call takes 100
_READING = "\nSET row_security = off"


@dataclass(frozen=True)
class Function:
    """A function to create in embed_store."""

    signature: str
    returns: str
    language: str
    volatility: str
    body: str
    settings: str = ""
    definer: bool = True
    grantee: str | None = None  # a role that may run it, beside its owner
    comment: str = ""

    def create(self, owner: str | None) -> None:
        """Create or replace it; ``owner`` (a role name) gets it, else the extension's owner keeps it."""
        on = {"signature": self.signature, "returns": self.returns, "body": db.literal(self.body)}
        if self.definer:
            db.ddl(
                SQL.replace_function.on(
                    **on,
                    language=self.language,
                    volatility=self.volatility,
                    security="SECURITY DEFINER",
                    settings=self.settings,
                )
            )
            privileges.revoke_all("FUNCTION", self.signature)
        else:
            db.ddl(SQL.replace_inlined_function.on(**on))
            privileges.revoke_all("FUNCTION", self.signature)
            db.ddl(SQL.grant_execute_to_public.on(signature=self.signature))
        given = db.identifier(owner) if owner is not None else db.value(SQL.other_owner, self.signature)
        if given is not None:
            give(self.signature, given)
        if self.grantee is not None:
            db.ddl(SQL.grant_execute.on(signature=self.signature, role=db.identifier(self.grantee)))
        db.ddl(SQL.comment_function.on(signature=self.signature, comment=db.literal(self.comment)))


def give(signature: str, owner: str) -> None:
    """Make a role, quoted, the owner of a function."""
    db.ddl(SQL.give_function.on(signature=signature, owner=owner))


def drop(signature: str) -> None:
    """Drop a function if it exists."""
    db.ddl(SQL.drop_function.on(signature=signature))


@contextmanager
def unchecked() -> Generator[None]:
    """Create functions without a look at what their bodies name: that would lock the source to the end of the call.

    A TRUNCATE would wait for it. For a pipeline that has its functions already, made for these columns; where the
    first ones are made, an error in them is to be told at once. An error undoes the setting with everything else.
    """
    before = db.value(SQL.check_bodies, "off")
    yield
    db.run(SQL.check_bodies, before)


def filled(query: Query, **names: str) -> str:
    """Return the text of a query with expressions in the place of its names."""
    return query.on(**names).text


def reader(generation: Generation, source: Source, watched: tuple[Column, ...], only_if: Column | None) -> Function:
    """Reads rows by key and renders their text, as the source's owner."""
    text = content(generation.columns, generation.template, source)
    around = wrapper(generation.columns, generation.template, source)
    if only_if is not None:
        text = f"CASE WHEN {ex.reference('s', only_if)} THEN {text} END"
        around = f"CASE WHEN {ex.reference('s', only_if)} THEN {around} END"
    matches = " AND ".join(
        f"{ex.comparable('s', c)} {c.equal} {ex.key_value('k.key', i, c)}" for i, c in enumerate(source.key)
    )
    return Function(
        signature=f"embed_store.reader_{generation.id}(jsonb)",
        returns="TABLE (ord int, src_hash bytea, content text, frame text[])",
        language="sql",
        volatility="VOLATILE",
        body=filled(
            SQL.reader_body,
            src_hash=ex.src_hash("s", watched),
            content=text,
            frame=around,
            source=source.from_clause,
            matches=matches,
            key_document=ex.key("s", source.key),
        ),
        settings=_READING + ex.all_pins(),
        comment="evergreen: reads the source as its owner",
    )


def content(columns: tuple[str, ...] | None, template: str | None, source: Source) -> str:
    """The text of a row ``s`` that is cut: columns joined by blank lines, NULLs skipped; else the template."""
    if columns is not None:
        values = ", ".join(ex.reference("s", _column(source, name)) for name in columns)
        return f"pg_catalog.concat_ws(E'\\n\\n', {values})"
    return _concatenated(templates.wrapper(templates.parse(template or ""))[0], source)


def wrapper(columns: tuple[str, ...] | None, template: str | None, source: Source) -> str:
    """What a template puts around the chunks of a row ``s``, as an array; NULL without columns and a template."""
    if columns is None or template is None:
        return "NULL::pg_catalog.text[]"
    segments = templates.wrapper(templates.parse(template, framed=True))
    return f"ARRAY[{', '.join(_concatenated(segment, source) for segment in segments)}]"


def _concatenated(parts: tuple[Literal | Placeholder, ...], source: Source) -> str:
    texts = [_part(part, source) for part in parts] or ["''"]
    groups = [", ".join(texts[start : start + _ARGUMENTS]) for start in range(0, len(texts), _ARGUMENTS)]
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
    """Walks the source in key order, as its owner."""
    values = [ex.key_value("$1", i, c) for i, c in enumerate(source.key)]
    # (a, b) > (x, y) spelled out, because each column has its own type's operator
    terms: list[str] = []
    for i, column in enumerate(source.key):
        same = [f"{ex.comparable('s', c)} {c.equal} {values[j]}" for j, c in enumerate(source.key[:i])]
        terms.append(" AND ".join([*same, f"{ex.comparable('s', column)} {column.greater} {values[i]}"]))
    return Function(
        signature=f"embed_store.scan_{pipeline.id}(jsonb, int)",
        returns="SETOF jsonb",
        language="plpgsql",
        volatility="VOLATILE",
        body=filled(
            SQL.scan_body,
            key_document=ex.key("s", source.key),
            source=source.from_clause,
            order=", ".join(ex.reference("s", c) for c in source.key),
            after=" OR ".join(f"({term})" for term in terms),
        ),
        settings=_READING + ex.all_pins(),
        comment=f"evergreen: keys of pipeline {pipeline.name} in order",
    )


def count(pipeline: Pipeline, source: Source) -> Function:
    """Counts the source's rows, as its owner."""
    return Function(
        signature=f"embed_store.count_{pipeline.id}()",
        returns="bigint",
        language="plpgsql",
        volatility="STABLE",
        body=filled(SQL.count_body, source=source.from_clause),
        settings=_READING,
        comment=f"evergreen: number of rows of pipeline {pipeline.name}",
    )


def canonical_key(pipeline: Pipeline, source: Source) -> Function:
    """Casts a user's key to the key's types and back, as the source's owner."""
    return Function(
        signature=f"embed_store.key_{pipeline.id}(jsonb)",
        returns="jsonb",
        language="sql",
        volatility="VOLATILE",
        body=filled(
            SQL.key_body,
            row_key=ex.key("r", source.key),
            source=source.from_clause,
            matches=" AND ".join(
                f"{ex.comparable('r', c)} {c.equal} {ex.key_value('$1', i, c)}" for i, c in enumerate(source.key)
            ),
            key_document=ex.key("s", source.key),
            values=", ".join(ex.key_value("$1", i, c) for i, c in enumerate(source.key)),
            names=", ".join(db.identifier(c.name) for c in source.key),
        ),
        settings=_READING + ex.all_pins(),
        comment=f"evergreen: stored form of a key of pipeline {pipeline.name}",
    )


def ensure_schema() -> None:
    """Create the schema of generation tables and generated functions; raises 42501 when it is somebody else's."""
    row = db.one(SQL.store_schema_owner)
    if row is None:
        for statement in (
            SQL.store_schema,
            SQL.store_schema_comment,
        ):
            db.ddl(statement)
        privileges.revoke_all("SCHEMA", "embed_store")
    elif not row["ours"]:
        raise UserError(
            "schema embed_store belongs to another role than the extension",
            "42501",
            hint="A superuser can rename that schema, or ALTER SCHEMA embed_store OWNER TO the extension's owner.",
        )
    for creator in db.rows(SQL.creators):  # by default privileges, as after a restore, or by mistake
        db.ddl(SQL.close_store_schema.on(role=creator["name"]))
        db.notice(f"CREATE on schema embed_store was taken from {creator['name']}: what is made there runs as others")
