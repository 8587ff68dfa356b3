"""Translates a vectorizer into arguments of embed_create; notes what differs and what prevents an import."""

import string
from dataclasses import dataclass, field
from typing import Any

from evergreen_host.importers.vectorizers import Config, Vectorizer

# Types with the same text in Python, where pgai rendered it, and in Postgres.
_SAME_TEXT = frozenset({"text", "character varying", "smallint", "integer", "bigint", "uuid", "name"})
_DISTANCES = {"vector_cosine_ops": "cosine", "vector_ip_ops": "ip"}
_REGEX_CHARACTERS = frozenset(".^$*+?{}[]\\|()")


@dataclass
class Plan:
    """How a vectorizer becomes a pipeline.

    ``obstacles``: why it cannot be imported. ``notes``: what will differ.
    """

    columns: list[str] = field(default_factory=list[str])
    template: str | None = None
    chunker: dict[str, Any] | None = None
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    obstacles: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])


def make_plan(vectorizer: Vectorizer, columns: dict[str, Config]) -> Plan:
    """Plan the pipeline of a vectorizer whose source has these columns."""
    # pgai or its server truncated texts that are too long.
    plan = Plan(options={"on_too_long": "truncate"})
    if not columns:
        plan.obstacles.append(f"its table {'.'.join(vectorizer.source)} does not exist")
    if vectorizer.part("destination").get("implementation") != "table":
        plan.obstacles.append(
            "its vectors are in a column of the table itself, without the text they were made from, so it is unknown"
            " whether they match the current text"
        )
    _plan_columns(plan, vectorizer, columns)
    _plan_chunker(plan, vectorizer.part("chunking"))
    _plan_template(plan, vectorizer.part("formatting"), columns)
    _plan_index(plan, vectorizer.part("indexing"))
    if vectorizer.part("scheduling").get("implementation") == "timescaledb":
        plan.notes.append(
            "TimescaleDB's job runs pgai until it is dropped; Evergreen's counterpart: SELECT embed_schedule()"
        )
    if not vectorizer.disabled:
        plan.notes.append("stop pgai's worker, or it keeps embedding the same texts until the vectorizer is dropped")
    return plan


def _plan_columns(plan: Plan, vectorizer: Vectorizer, columns: dict[str, Config]) -> None:
    loading = vectorizer.part("loading")
    column = str(loading.get("column_name"))
    plan.columns = [column]
    if loading.get("implementation") != "column":
        plan.obstacles.append(f"it loads documents from the URLs in column {column}; Evergreen reads text from columns")
    elif columns and column not in columns:
        plan.obstacles.append(f"its column {column} does not exist any more")
    elif columns and columns[column]["type"] == "bytea":
        plan.obstacles.append(
            f"it parses the documents in column {column} (bytea); store their text in a text column and embed that"
        )
    elif vectorizer.part("parsing").get("implementation") not in {"none", "auto", None}:
        plan.obstacles.append("it parses documents; Evergreen embeds text")


def _plan_chunker(plan: Plan, chunking: Config) -> None:
    kind = chunking.get("implementation")
    if kind == "none":
        return
    size, overlap = chunking.get("chunk_size"), chunking.get("chunk_overlap")
    if kind == "recursive_character_text_splitter":
        separators: list[str] = list(chunking.get("separators") or [])
        plan.chunker = {"chunker": "recursive", "size": size, "overlap": overlap, "separators": separators}
    elif kind == "character_text_splitter":
        separators = [str(chunking.get("separator"))]
        plan.chunker = {"chunker": "separator", "size": size, "overlap": overlap, "separator": separators[0]}
    else:
        plan.obstacles.append(f"its chunking {kind} is not supported")
        return
    if chunking.get("is_separator_regex") and any(_REGEX_CHARACTERS.intersection(one) for one in separators):
        plan.obstacles.append("it splits at regular expressions, which no chunker of Evergreen does")
    if not (isinstance(size, int) and isinstance(overlap, int)) or overlap > size // 2:
        plan.obstacles.append(f"its chunks overlap by {overlap} of {size} characters; Evergreen allows at most half")


def _plan_template(plan: Plan, formatting: Config, columns: dict[str, Config]) -> None:
    source_template = formatting.get("template", "$chunk")
    if formatting.get("implementation") != "python_template":
        plan.obstacles.append(f"its formatting {formatting.get('implementation')} is not supported")
    elif source_template != "$chunk":
        plan.template, used = translate_template(source_template, plan.obstacles)
        plan.notes += [note for name in used if (note := _difference(name, columns))]


def translate_template(template: str, obstacles: list[str]) -> tuple[str, list[str]]:
    """Translate a template of Python's string.Template; also return the columns that it names."""
    text, used, end = "", dict[str, None](), 0

    def literal(part: str) -> None:
        nonlocal text
        if text.endswith("$chunk") and (part[:1].isalnum() or part[:1] == "_"):
            obstacles.append(
                f"its template has {part[:1]!r} right after $chunk, which Evergreen's templates cannot express"
            )
        text += part.replace("$", "$$")

    for found in string.Template.pattern.finditer(template):
        literal(template[end : found.start()])
        end = found.end()
        name = found["named"] or found["braced"]
        if found["escaped"] is not None:
            literal("$")
        elif name is None:
            obstacles.append("its template has a lone $")
        elif name == "chunk":
            text += "$chunk"
        else:
            used[name] = None
            text += f"${{{name}}}"
    literal(template[end:])
    return text, list(used)


def _difference(name: str, columns: dict[str, Config]) -> str | None:
    """Return a note if some rows' text around a chunk may differ from pgai's."""
    column = columns.get(name)
    if column is None:
        return None  # embed_create reports it
    if column["type"] not in _SAME_TEXT:
        return f"{column['type']} {name} may be formatted differently than by pgai; such rows are embedded again"
    if not column["not_null"]:
        return f"where column {name} is NULL pgai wrote None and Evergreen writes nothing; such rows are embedded again"
    return None


def _plan_index(plan: Plan, indexing: Config) -> None:
    kind, operators = indexing.get("implementation"), indexing.get("opclass", "vector_cosine_ops")
    if kind == "hnsw" and operators in _DISTANCES:
        plan.options["distance"] = _DISTANCES[operators]
    elif kind == "hnsw":
        plan.notes.append(f"an index with {operators} has no counterpart; the distance is cosine")
    elif kind == "diskann":
        plan.notes.append("a DiskANN index has no counterpart; an HNSW index is built from index_from rows on")
    elif kind == "none":
        plan.notes.append("it had no index; an HNSW index is built from index_from rows on")
