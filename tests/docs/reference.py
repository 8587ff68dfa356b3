"""Generates the README's API section from COMMENT ON, by the folders of extension/sql."""

import re
from typing import Any

import psycopg

from tests.fixtures.paths import PROJECT

SQL = PROJECT / "extension" / "sql"
SECTIONS = {
    "50_pipelines": "Set up",
    "30_prepare": "Chunkers",
    "70_worker": "Work",
    "41_search": "Ask",
    "60_generations": "Change the model, the text or the chunker",
    "61_operate": "Operate",
}
_INTERNAL = "internal: "
_MEMBERS = """
SELECT p.proname::text, pg_catalog.pg_get_function_arguments(p.oid), pg_catalog.pg_get_function_result(p.oid),
       pg_catalog.obj_description(p.oid, 'pg_proc')
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND e.extname = 'evergreen' AND e.extnamespace = p.pronamespace
"""
_VIEWS = """
SELECT c.relname::text, pg_catalog.obj_description(c.oid, 'pg_class'),
       (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
FROM pg_catalog.pg_class c
WHERE c.relkind = 'v' AND c.relname LIKE '%embed%' AND c.relnamespace = 'public'::regnamespace
ORDER BY c.relname LIKE 'embed%', c.relname
"""
_LITERAL = re.compile(r"'((?:[^']|'')*)'(?:::[\w ]+(?:\[\])?)?")


def _literal(match: re.Match[str]) -> str:
    """A constant as one would type it."""
    text = match[1]
    return f"E'{text}'".replace("\n", r"\n") if "\n" in text else f"'{text}'"


def _signature(name: str, arguments: str, result: str | None) -> str:
    """One line of a function, as it is called; what it gives back."""
    given = re.sub(r"\bDEFAULT NULL::[\w ]+(\[\])?", "= NULL", re.sub(r"(^|, )IN ", r"\1", arguments))
    given = _LITERAL.sub(_literal, given).replace(" DEFAULT ", " = ")
    inward, _, outward = given.partition(", OUT ")
    if outward:
        result = f"({outward.replace('OUT ', '')})"
    gives = "" if result in {None, "void"} else f" → {result.removeprefix('TABLE')}"
    return f"{'CALL ' if result is None else ''}{name}({inward}){gives}"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def _functions(db: psycopg.Connection[Any]) -> dict[str, list[tuple[str, str]]]:
    """Signature and comment of each public function, by section, in the order of the files."""
    members = {row[0]: row for row in db.execute(_MEMBERS) if not (row[3] or "").startswith(_INTERNAL)}
    found: dict[str, list[tuple[str, str]]] = {title: [] for title in SECTIONS.values()}
    for folder, title in SECTIONS.items():
        for file in sorted((SQL / folder).glob("*.sql")):
            for name in re.findall(
                r"^CREATE (?:FUNCTION|PROCEDURE) @extschema@\.(\w+)", file.read_text("utf-8"), re.MULTILINE
            ):
                if row := members.pop(name, None):
                    found[title].append((_signature(*row[:3]), row[3]))
    assert not members, f"in no section: {sorted(members)}"
    return found


def as_markdown(db: psycopg.Connection[Any]) -> str:
    """The section; the database has a pipeline named docs, whose view stands for all such views."""
    lines = []
    for title, calls in _functions(db).items():
        lines += [f"**{title}**", "", "| call | |", "|---|---|"]
        lines += [f"| `{_cell(call)}` | {_cell(comment)} |" for call, comment in calls] + [""]
    lines += ["**Views**", "", "| view | columns | |", "|---|---|---|"]
    for name, comment, columns in db.execute(_VIEWS).fetchall():
        shown = "PIPELINE_embedding" if name == "docs_embedding" else name
        lines.append(f"| `{shown}` | {', '.join(columns)} | {_cell(comment.replace('pipeline docs', 'a pipeline'))} |")
    return "\n".join(lines) + "\n"
