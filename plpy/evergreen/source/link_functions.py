"""Generated functions that find the rows of a view to which a changed row of a table leads; they run as its owner."""

from collections.abc import Sequence

from evergreen import db
from evergreen.core.frozen import frozen
from evergreen.core.pipeline import Link, Pipeline
from evergreen.db.queries import load
from evergreen.source import expressions as ex
from evergreen.source import functions, table
from evergreen.source.functions import Function, fill
from evergreen.source.table import KeyColumn, Source

SQL = load(__package__, "view")
_SETTINGS = "\nSET row_security = off" + ex.all_pinned_settings()


@frozen
class _Lookup:
    """Where keys are looked up by the values of a link: in the view, or in the table that it leads through."""

    relation: str
    columns: Sequence[KeyColumn]  # that have the values
    key: Sequence[KeyColumn]


def of_link(pipeline: Pipeline, link: Link, view: Source) -> list[Function]:
    """Return the functions of a link that is not the key itself."""
    lookup = _lookup(pipeline, link, view)
    common = {
        "source": lookup.relation,
        "key_document": ex.key("s", lookup.key),
        "not_null": functions.not_null("s", lookup.key),
        "order": functions.ordering("s", lookup.key),
    }
    keys = fill(SQL.keys_of_link, **common, matches=functions.matching("s", lookup.columns, "$1"))
    comment = f"evergreen: rows of pipeline {pipeline.name} that a change of {link.base_name} concerns"
    return [
        Function(
            signature=f"embed_store.expand_{link.id}(jsonb, int)",
            returns="TABLE (ord int, key jsonb)",
            language="sql",
            volatility="VOLATILE",
            body=fill(SQL.expand_body, **common, matches=functions.matching("s", lookup.columns, "v.link")),
            settings=_SETTINGS,
            comment=comment,
        ),
        Function(
            signature=f"embed_store.page_{link.id}(jsonb, jsonb, jsonb, int)",
            returns="SETOF jsonb",
            language="plpgsql",
            volatility="VOLATILE",
            body=fill(
                SQL.page_body,
                keys=db.literal(keys),
                after=db.literal(f" AND ({functions.after('s', lookup.key, '$2')})"),
                up_to=db.literal(f" AND NOT ({functions.after('s', lookup.key, '$3')})"),
                order=db.literal(f" ORDER BY {common['order']} LIMIT $4"),
            ),
            settings=_SETTINGS,
            comment=comment,
        ),
    ]


def signatures(link: Link) -> list[str]:
    """Return the functions of a link, to drop them."""
    return [f"embed_store.expand_{link.id}(jsonb, int)", f"embed_store.page_{link.id}(jsonb, jsonb, jsonb, int)"]


def _lookup(pipeline: Pipeline, link: Link, view: Source) -> _Lookup:
    numbers = [number for number, _ in link.target]
    if link.via is None:
        return _Lookup(view.from_clause, table.comparable_columns(view, numbers), view.key)
    through = next(one for one in pipeline.links if one.part == link.via and one.is_key)
    between = table.describe(through.base)
    assert between is not None  # the view reads it
    by_target = {target[0]: column[0] for column, target in zip(through.columns, through.target, strict=True)}
    key = table.comparable_columns(between, [by_target[column.attnum] for column in view.key])
    return _Lookup(between.qualified, table.comparable_columns(between, numbers), key)
