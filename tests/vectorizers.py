"""pgai's vectorizers without pgai: its catalog, and what its worker would have embedded, put there by the test."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import psycopg
from provider import vector
from psycopg import sql

Connection = psycopg.Connection[Any]

CATALOG = Path(__file__).with_name("vectorizers.sql")
_KEY = """
SELECT jsonb_agg(jsonb_build_object('attnum', a.attnum, 'pknum', k.place, 'attname', a.attname,
                                    'typname', format_type(a.atttypid, a.atttypmod)) ORDER BY a.attnum)
FROM pg_constraint c CROSS JOIN unnest(c.conkey) WITH ORDINALITY k (attnum, place)
JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attnum
WHERE c.contype = 'p' AND c.conrelid = to_regclass(%s)
"""


def config(column: str = "body", model: str = "m", dimensions: int = 8, **parts: dict[str, Any]) -> dict[str, Any]:
    """A vectorizer's configuration, as ai.create_vectorizer writes it down; ``parts`` replaces some of it."""
    return {
        "loading": {"implementation": "column", "column_name": column, "retries": 6},
        "parsing": {"implementation": "auto"},
        "embedding": {"implementation": "openai", "model": model, "dimensions": dimensions, "api_key_name": "KEY"},
        "chunking": {"implementation": "none"},
        "indexing": {"implementation": "none"},
        "formatting": {"implementation": "python_template", "template": "$chunk"},
        "scheduling": {"implementation": "none"},
        "processing": {"implementation": "default"},
        **parts,
    }


def recursive(size: int, overlap: int, separators: Sequence[str] = ("\n\n", "\n", ".", "?", "!", " ", "")) -> Any:
    """The part ``chunking`` of pgai's recursive splitter."""
    return {
        "implementation": "recursive_character_text_splitter",
        "chunk_size": size, "chunk_overlap": overlap, "separators": [*separators], "is_separator_regex": False,
    }  # fmt: skip


def template(text: str) -> Any:
    """The part ``formatting``."""
    return {"implementation": "python_template", "template": text}


def make(
    db: Connection, table: str, configuration: dict[str, Any], *, schema: str = "public", name: str | None = None
) -> int:
    """Make a vectorizer of a table, with trigger, target table and view; returns its id."""
    if db.execute("SELECT to_regclass('ai.vectorizer')").fetchone() == (None,):
        db.execute(CATALOG.read_text("utf-8"))  # type: ignore[arg-type]
    target = (schema, f"{table}_embedding_store")
    view = sql.Identifier(schema, f"{table}_embedding")
    source = sql.Identifier(schema, table)
    (key,) = db.execute(_KEY, (source.as_string(db),)).fetchall()[0]
    written = configuration | {
        "destination": configuration.get("destination")
        or {"implementation": "table", "target_schema": schema, "target_table": target[1], "view_schema": schema,
            "view_name": f"{table}_embedding"}
    }  # fmt: skip
    number: int = db.execute(
        "INSERT INTO ai.vectorizer (source_schema, source_table, source_pk, trigger_name, config, name)"
        " VALUES (%s, %s, %s, %s, %s, %s) RETURNING id",
        (schema, table, json.dumps(key), "_vectorizer_src_trg", json.dumps(written), name or f"v{abs(hash(target))}"),
    ).fetchall()[0][0]
    columns = sql.SQL(", ").join(
        sql.SQL("{} {} NOT NULL").format(sql.Identifier(column["attname"]), sql.SQL(column["typname"]))
        for column in key
    )
    names = sql.SQL(", ").join(sql.Identifier(column["attname"]) for column in key)
    dimensions = sql.Literal(configuration["embedding"]["dimensions"])
    statements = """
        CREATE TABLE {target} (embedding_uuid uuid PRIMARY KEY DEFAULT gen_random_uuid(), {columns},
            chunk_seq int NOT NULL, chunk text NOT NULL, embedding vector({dimensions}) NOT NULL,
            UNIQUE ({names}, chunk_seq));
        CREATE VIEW {view} AS SELECT * FROM {target};
        CREATE TRIGGER _vectorizer_src_trg AFTER INSERT OR UPDATE OR DELETE ON {source}
            FOR EACH ROW EXECUTE FUNCTION ai.enqueue();
    """
    named = {"target": sql.Identifier(*target), "view": view, "source": source}
    db.execute(sql.SQL(statements).format(columns=columns, names=names, dimensions=dimensions, **named))
    return number


def embedded(
    db: Connection, table: str, chunks: Iterable[tuple[Any, Sequence[str]]], *, schema: str = "public", width: int = 8
) -> None:
    """Put there what the worker would have: of each key, a value or a tuple, the texts as they were sent."""
    insert = sql.SQL("INSERT INTO {} VALUES (gen_random_uuid(), {})")
    target = sql.Identifier(schema, f"{table}_embedding_store")
    for key, texts in chunks:
        values = key if isinstance(key, tuple) else (key,)
        for number, text in enumerate(texts):
            row = sql.SQL(", ").join(map(sql.Literal, (*values, number, text, str(vector(text, width)))))
            db.execute(insert.format(target, row))
