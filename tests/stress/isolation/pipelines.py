"""Pipelines of which one is ill, and how long the edits of the others take."""

import time

from tests.fixtures.pipelines.endpoints import create, serve, table
from tests.fixtures.waiting import wait_until

ONE = {"inputs": 1}
WORK = "CALL embed_work(max_runtime => '60 s')"


def chunk_of(db, pipeline, number):
    """The text that a row has in the view."""
    return db.execute(f"SELECT chunk FROM {pipeline}_embedding WHERE id = %s", (number,)).fetchone()[0]


def edits_become_fresh(db, pipeline, edits=5):
    """Edit one row after another; return the longest time to freshness in seconds."""
    longest = 0.0
    for i in range(1, edits + 1):
        text = f"edit {i} {time.monotonic()}"
        db.execute(f"UPDATE {pipeline} SET body = %s WHERE id = %s", (text, i))
        since = time.monotonic()
        wait_until(lambda i=i, text=text: chunk_of(db, pipeline, i).endswith(text), what="an edit")
        longest = max(longest, time.monotonic() - since)
    return longest


def two_pipelines(db, provider, healthy, options=None, **endpoint):
    serve(db, provider, "ill", ONE, **endpoint)
    serve(db, healthy, "well")
    table(db, "docs", 200)
    table(db, "notes", 10)
    create(db, "docs", "ill", **(options or {}))
    create(db, "notes", "well")
