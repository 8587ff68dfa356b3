"""A model turns into another one under four workers, writers and searches."""

import random
import threading
from collections import Counter

import psycopg
import pytest

from tests.fixtures.pipelines.documents import source_texts, status_of, verified
from tests.fixtures.providers.turning import model_of_vectors
from tests.fixtures.waiting import wait_until
from tests.integration.models.watching import is_marked, look_once, watch

pytestmark = pytest.mark.slow


class Team:
    """Sessions that repeat what they do until they are told to stop; ``errors``: what they raised."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self._done = threading.Event()
        self._threads: list[threading.Thread] = []

    def add(self, body) -> None:
        thread = threading.Thread(target=self._run, args=(body,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self, body) -> None:
        try:
            while not self._done.is_set():
                body()
        except (psycopg.Error, AssertionError) as error:
            self.errors.append(error)

    def stop(self) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self._threads)
        assert self.errors == []


def test_under_four_workers_writers_and_searches(db, connect, watched):
    db.execute("INSERT INTO docs SELECT i, 'title', 'long ' || i FROM generate_series(11, 200) i")
    look_once(db, watched)
    team = Team()
    for _ in range(4):
        session = connect()
        team.add(lambda session=session: session.execute("CALL embed_work(max_runtime => '1 s')"))
    numbers = iter(range(10**9))
    for seed in range(2):
        session, chance = connect(), random.Random(seed)

        def edit(session=session, chance=chance):
            session.execute(
                "UPDATE docs SET body = %s WHERE id = %s", (f"edit {next(numbers)}", chance.randrange(1, 200))
            )
            threading.Event().wait(0.01)

        team.add(edit)
    searcher = connect()

    def search():
        assert searcher.execute("SELECT count(*) FROM embed_search('docs', 'question')").fetchone() == (10,)

    team.add(search)
    wait_until(lambda: len(watched.rows) > 250)
    watched.become("new")
    wait_until(lambda: status_of(db, "state") == "model changed" and is_marked(db), timeout=60)
    assert watch(db) == (2, True)
    for _ in range(10):
        assert "new" not in model_of_vectors(db, "embed_store.g1", watched)
    paid = len(watched.rows)
    db.execute("SELECT embed_build('docs')")
    wait_until(lambda: len(watched.rows) > paid + 100, timeout=60)
    team.stop()
    db.execute("CALL embed_work(until_empty => true)")
    db.execute("SELECT embed_promote('docs')")
    assert status_of(db, "state") == "active"
    assert set(model_of_vectors(db, "embed_store.g2", watched)) == {"new"}
    assert "new" not in model_of_vectors(db, "embed_store.g1", watched)
    assert verified(db)["fresh"] == len(source_texts(db)) == 200
    again = {text: count for text, count in Counter(watched.rows[paid:]).items() if count > 1}
    assert again == {}
