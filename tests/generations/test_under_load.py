"""A model is changed, and changed back, on a table under writes and searches: no result is of two models, or none."""

import threading
from contextlib import contextmanager

import numpy as np
import orjson
import psycopg
import pytest
from documents import drain_all
from provider import LoopbackProvider, vector
from waiting import Background, wait_until

QUESTIONS = [f"question {number}" for number in range(5)]
K = 5


class Searchers:
    """Sessions that search without end, and remember what they were given."""

    def __init__(self, connect):
        self.found = []
        self.errors = []
        self._over = threading.Event()
        statements = {
            "function": "SELECT chunk, score FROM embed_search('docs', %s, k => 5)",
            "view": "SELECT chunk, 1 - (embedding <=> embed_query('docs', %s)) AS score FROM docs_embedding"
            " ORDER BY embedding <=> embed_query('docs', %s) LIMIT 5",
            "rows": "SELECT chunk, score FROM embed_search_rows(NULL::docs, %s, k => 5)",
        }
        self._threads = [
            threading.Thread(target=self._search, args=(connect(), statement), daemon=True)
            for statement in (*statements.values(), statements["function"])
        ]
        for thread in self._threads:
            thread.start()

    def _search(self, session, statement):
        try:
            while not self._over.is_set():
                for question in QUESTIONS:
                    rows = session.execute(statement, [question] * statement.count("%s")).fetchall()
                    self.found.append((question, rows))
        except psycopg.Error as error:
            self.errors.append(error)

    def search_on(self):
        """Wait for some more results."""
        asked = len(self.found)
        wait_until(lambda: len(self.found) > asked + 40, what="searches")

    def stop(self):
        self._over.set()
        for thread in self._threads:
            thread.join(30)


def score(model, question, chunk):
    pair = [np.array(vector(text, model)) for text in (question, chunk)]
    return float(pair[0] @ pair[1])


def models_of(question, rows, lengths):
    """The models of which all scores of a result are right."""
    return [m for m in lengths if all(abs(s - score(m, question, chunk)) < 1e-5 for chunk, s in rows)]


@pytest.fixture
def long():
    with LoopbackProvider(16) as made:
        yield made


@pytest.fixture
def short():
    with LoopbackProvider(12) as made:
        yield made


@pytest.fixture
def pipeline(db, docs, long, short):
    """A hundred rows under model ``first``, and a model ``second``."""
    db.execute("INSERT INTO docs SELECT i, 'title ' || i, 'body ' || i FROM generate_series(11, 100) i")
    for name, provider in (("first", long), ("second", short)):
        provider.register(db, name)
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'first')")
    drain_all(db)


@contextmanager
def busy(connect):
    """A worker, and a writer who edits one row after the other."""
    statements = (
        "CALL embed_work(max_runtime => '120 s')",
        """DO $$ BEGIN FOR i IN 1..1000000 LOOP
             UPDATE docs SET body = 'edit ' || i WHERE id = 1 + i % 100; COMMIT; PERFORM pg_sleep(0.01);
           END LOOP; END $$""",
    )
    running = [(session, Background(session, statement)) for statement in statements for session in (connect(),)]
    yield
    for session, statement in running:
        session.cancel()
        with pytest.raises(psycopg.errors.QueryCanceled):
            statement.result()


def change_to(db, model):
    db.execute("SELECT embed_build('docs', model => %s)", (model,))
    ready = "SELECT coverage = 1 AND NOT backfilling FROM embed_generations WHERE state = 'building'"
    wait_until(lambda: db.execute(ready).fetchone()[0], timeout=60, what="coverage")
    db.execute("SELECT embed_promote('docs')")


def test_every_result_is_of_one_model_and_there_always_is_one(connect, db, pipeline, long):
    searchers = Searchers(connect)
    with busy(connect):
        searchers.search_on()
        change_to(db, "second")
        searchers.search_on()
        long.reset()
        change_to(db, "first")
        paid_again = [text for text in long.sent if "body" in text]
        for _ in range(4):
            db.execute("SELECT embed_rollback('docs')")
        searchers.search_on()
        searchers.stop()
    assert searchers.errors == []
    seen = set()
    for question, rows in searchers.found:
        assert len(rows) == K, f"{len(rows)} results"
        right = models_of(question, rows, (16, 12))
        assert right, f"no model gives {rows}"
        seen.update(right)
    assert seen == {16, 12}
    assert paid_again == [], "what stands in the previous generation, of the same model"
    drain_all(db)
    rows = db.execute("SELECT chunk, embedding::text FROM docs_embedding").fetchall()
    assert all(orjson.loads(found) == pytest.approx(vector(chunk, 16), abs=1e-6) for chunk, found in rows)
