"""Searches go on, and mix no spaces, while bridges and generations come and go."""

import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.fixtures.pipelines import two_models
from tests.fixtures.pipelines.documents import drain_all
from tests.fixtures.pipelines.two_models import QUESTION
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.slow

SEARCHES = (
    "SELECT (key ->> 0)::int FROM embed_search('docs', %s, k => 1)",
    "SELECT (s.row).id FROM embed_search_rows(NULL::docs, %s, k => 1) s",
    "SELECT id FROM docs_embedding ORDER BY embedding <=> embed_query('docs', %s) LIMIT 1",
)
CALLS = (
    "SELECT embed_bridge('docs')",
    "SELECT embed_bridge_drop('docs')",
    "SELECT embed_bridge('docs', 200)",
    "SELECT embed_promote('docs')",
    "SELECT embed_rollback('docs')",
    "SELECT embed_rollback('docs')",
    "SELECT embed_retire('docs')",
)


class Searcher:
    """A session that asks for a row which is known to be the nearest; in the wrong space it would be any."""

    def __init__(self, session: psycopg.Connection[Any], statement: str, stop: threading.Event) -> None:
        self.looks = 0
        self.wrong: list[Any] = []
        self._session, self._statement, self._stop = session, statement, stop
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                found = self._session.execute(self._statement, (QUESTION,)).fetchall()
            except psycopg.Error as error:
                self.wrong.append(str(error))
                return
            self.looks += 1
            if found != [(7,)]:
                self.wrong.append(found)


def looked(searchers: list[Searcher]) -> Callable[[], bool]:
    """Return the condition that each has searched from its beginning to its end."""
    before = [one.looks for one in searchers]
    return lambda: all(one.looks > number + 1 or one.wrong for one, number in zip(searchers, before, strict=True))


def test_each_search_finds_what_it_asks_for(db, docs, connect, provider):
    two_models.serve_both(db, provider)
    two_models.build_both(db)
    stop = threading.Event()
    searchers = [Searcher(connect(), one, stop) for one in SEARCHES]
    try:
        for new in ("old", "new", "old"):
            for call in CALLS:
                db.execute(call)
                wait_until(looked(searchers), what="searches in between")
            db.execute("SELECT embed_build('docs', model => %s)", (new,))
            drain_all(db)
    finally:
        stop.set()
        for one in searchers:
            one.thread.join(20)
    assert [one.wrong for one in searchers] == [[], [], []]
