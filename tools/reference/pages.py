"""All reference pages, by file name."""

from typing import Any

import psycopg

from tools.paths import DOCS
from tools.reference import cli, errors, functions, log_events, metrics, options, views

#: What the database must have had run: a pipeline named docs that has embedded a row.
PREPARE = """
CREATE EXTENSION IF NOT EXISTS evergreen CASCADE;
CREATE TABLE docs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text, body text);
INSERT INTO docs (title) VALUES ('Invoices');
SELECT embed_create('docs', 'docs', columns => '{title,body}');
UPDATE docs SET title = 'Invoices and bills';
SELECT embed_drain();
"""


def render(db: psycopg.Connection[Any]) -> dict[str, str]:
    """Return every page from a database that PREPARE was run in."""
    return {
        "functions.md": functions.render(db),
        "views.md": views.render(db),
        "options.md": options.render(),
        "cli.md": cli.render(),
        "metrics.md": metrics.render(db.info.dsn),
        "log-events.md": log_events.render(),
        "errors.md": errors.render(),
    }


def committed(name: str) -> str | None:
    """Return a page as it is in docs/reference."""
    path = DOCS / "reference" / name
    return path.read_text("utf-8") if path.exists() else None
