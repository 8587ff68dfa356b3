"""The trigger functions on the tables under a view: they log keys of the view's rows, or values that lead to them."""

from collections.abc import Sequence

from evergreen.capture.triggers import wake_probe
from evergreen.core.pipeline import Link, Pipeline
from evergreen.db.queries import load
from evergreen.source import expressions as ex
from evergreen.source import functions
from evergreen.source.functions import Function, fill
from evergreen.source.table import Column, Source

SQL = load(__package__)


def capture_function(
    pipeline: Pipeline, part: int, links: Sequence[Link], base: Source | None, view: Source | None
) -> Function:
    """Return the trigger function of one table; without the view or the table, it logs nothing."""
    body, settings = SQL.capture_noop_body.text, ""
    if base is not None and view is not None:
        body = _body(pipeline, links, base, view)
        settings = ex.pinned_settings(column for link in links for column in _columns(base, link.columns))
    return Function(
        signature=f"embed_store.capture_{pipeline.id}_{part}()",
        returns="trigger",
        language="plpgsql",
        volatility="VOLATILE",
        body=body,
        settings=settings,
        grantee=base.owner_name if base is not None else None,
        comment=f"evergreen: logs rows of pipeline {pipeline.name} that changes of {links[0].base_name} concern",
    )


def _body(pipeline: Pipeline, links: Sequence[Link], base: Source, view: Source) -> str:
    watched = _columns(base, [*links[0].watched, *(pair for link in links for pair in link.columns)])
    moved: list[str] = []
    removed: list[str] = []
    written: list[str] = []
    logged: list[str] = []
    for number, link in enumerate(links, 1):
        columns = _in_key_order(link, base, view)
        old, new = f"old_{number}", f"new_{number}"
        log = {"pipeline": str(pipeline.id), "dependency": str(link.id), "column": "key" if link.is_key else "link"}
        moved_link = fill(
            SQL.moved_link_body,
            old=functions.ordering("OLD", columns),
            new=functions.ordering("NEW", columns),
            value=old,
            document=_document("OLD", columns),
        )
        moved.append(f"{moved_link};")  # a query has no semicolon at its end
        removed.append(f"{old} = {_document('OLD', columns)};")
        written.append(f"{new} = {_document('NEW', columns)};")
        logged += [f"{fill(SQL.log_link_body, **log, value=value)};" for value in (old, new)]
    lines = "\n            ".join
    return fill(
        SQL.capture_links_body,
        pipeline=str(pipeline.id),
        declared=" ".join(f"{side}_{n} pg_catalog.jsonb;" for n in range(1, len(links) + 1) for side in ("old", "new")),
        old_watched=functions.ordering("OLD", watched),
        new_watched=functions.ordering("NEW", watched),
        moved=lines(moved),
        removed=lines(removed),
        written=lines(written),
        logged="\n    ".join(logged),
        probe=wake_probe(pipeline),
    )


def _columns(base: Source, pairs: Sequence[tuple[int, str]]) -> list[Column]:
    found = (base.by_number(number) for number, _ in pairs)
    return list(dict.fromkeys(column for column in found if column is not None))


def _in_key_order(link: Link, base: Source, view: Source) -> list[Column]:
    """Return the link's columns, in the order of the key if they are a key."""
    by_target = {target[0]: column for column, target in zip(link.columns, link.target, strict=True)}
    pairs = [by_target[column.attnum] for column in view.key] if link.is_key else link.columns
    return [column for number, _ in pairs if (column := base.by_number(number)) is not None]


def _document(row: str, columns: Sequence[Column]) -> str:
    """Return the values as a JSON array; NULL where one is NULL, which leads nowhere."""
    return f"CASE WHEN {functions.not_null(row, columns)} THEN {ex.key(row, columns)} END"
