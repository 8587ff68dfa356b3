"""Reference of the SQL functions: signatures and comments of a live database, by the folders of extension/sql."""

import re
from typing import Any

import psycopg

from tools.paths import ROOT
from tools.reference.markdown import block, page, sentence

SQL = ROOT / "extension" / "sql"
SECTIONS = {
    "50_pipelines": "Set up",
    "30_prepare": "Chunkers",
    "70_worker": "Work",
    "41_search": "Ask",
    "60_generations": "Change the model, the text or the chunker",
    "61_operate": "Operate",
}
INTRODUCTION = """\
Every SQL function and procedure, with its arguments, defaults and result. The text is the function's `COMMENT ON`: in psql,
`\\df+ embed_*` shows the same.

`key` is a jsonb array in the order of the primary key (`[42]`, `["acme", 7]`). For a single column, the plain value works,
too. Errors name the object, have the SQLSTATE of their class, and a HINT that you can type. A NOTICE says what comes next."""
_INTERNAL = "internal: "
_MEMBERS = """
SELECT p.proname::text, pg_catalog.pg_get_function_arguments(p.oid), pg_catalog.pg_get_function_result(p.oid),
       pg_catalog.obj_description(p.oid, 'pg_proc')
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND e.extname = 'evergreen' AND e.extnamespace = p.pronamespace
"""
_LITERAL = re.compile(r"'((?:[^']|'')*)'(?:::[\w ]+(?:\[\])?)?")
_CREATED = re.compile(r"^CREATE (?:FUNCTION|PROCEDURE) @extschema@\.(\w+)", re.MULTILINE)
_LONG = 100


def _literal(match: re.Match[str]) -> str:
    """A constant as one would type it."""
    text = match[1]
    return f"E'{text}'".replace("\n", r"\n") if "\n" in text else f"'{text}'"


def _arguments(text: str) -> list[str]:
    """Split a list of arguments at commas that are in no literal, bracket or parenthesis."""
    parts, depth, quoted, start = [], 0, False, 0
    for place, letter in enumerate(text):
        if letter == "'":
            quoted = not quoted
        elif not quoted:
            depth += (letter in "([") - (letter in ")]")
            if letter == "," and depth == 0:
                parts.append(text[start:place].strip())
                start = place + 1
    return [*parts, text[start:].strip()] if text else []


def signature(name: str, arguments: str, result: str | None) -> str:
    """Return how a function is called and what it returns; each argument on a line of its own where they are many."""
    given = re.sub(r"\bDEFAULT NULL::[\w ]+(\[\])?", "= NULL", re.sub(r"(^|, )IN ", r"\1", arguments))
    given = _LITERAL.sub(_literal, given).replace(" DEFAULT ", " = ")
    inward, _, outward = given.partition(", OUT ")
    if outward:
        result = f"({outward.replace('OUT ', '')})"
    gives = "" if result in {None, "void"} else f" → {result.removeprefix('TABLE')}"
    call = f"{'CALL ' if result is None else ''}{name}"
    if len(f"{call}({inward}){gives}") <= _LONG:
        return f"{call}({inward}){gives}"
    lines = ",\n".join(f"    {argument}" for argument in _arguments(inward))
    return f"{call}(\n{lines}\n){gives}"


def functions(db: psycopg.Connection[Any]) -> dict[str, list[tuple[str, str, str]]]:
    """Return name, signature and comment of each public function, by section, in the order of the files."""
    members = {row[0]: row for row in db.execute(_MEMBERS) if not (row[3] or "").startswith(_INTERNAL)}
    found: dict[str, list[tuple[str, str, str]]] = {title: [] for title in SECTIONS.values()}
    for folder, title in SECTIONS.items():
        for file in sorted((SQL / folder).glob("*.sql")):
            for name in _CREATED.findall(file.read_text("utf-8")):
                if row := members.pop(name, None):
                    found[title].append((name, signature(*row[:3]), row[3]))
    if members:
        raise ValueError(f"functions in no section: {sorted(members)}")
    return found


def render(db: psycopg.Connection[Any]) -> str:
    """Return the page."""
    parts = []
    for title, calls in functions(db).items():
        parts.append(f"## {title}")
        for name, call, comment in calls:
            parts += [f"### {name}", block(call), sentence(comment)]
    return page("SQL functions", INTRODUCTION, *parts)
