"""A model is changed, and changed back, on a table under writes and searches: no result is of two models, or none."""

import threading
from contextlib import contextmanager
from functools import cache

import numpy as np
import orjson
import psycopg
import pytest

from tests.fixtures.pipelines.documents import drain_all
from tests.fixtures.providers.loopback import LoopbackProvider, vector
from tests.fixtures.waiting import Background, wait_until

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


class Models:
    """Two models by name, asked apart from all pipelines."""

    def __init__(self, asks):
        self._asks = {name: cache(ask) for name, ask in asks.items()}

    def vector(self, name, text):
        return self._asks[name](text)

    def of(self, question, rows):
        """The models of which all scores of a result are right."""
        return {name for name in self._asks if all(abs(s - self._score(name, question, c)) < 1e-4 for c, s in rows)}

    def _score(self, name, question, chunk):
        pair = [self.vector(name, text) for text in (question, chunk)]
        return float(pair[0] @ pair[1] / (np.linalg.norm(pair[0]) * np.linalg.norm(pair[1])))


@pytest.fixture
def long():
    with LoopbackProvider(16) as made:
        yield made


@pytest.fixture
def short():
    with LoopbackProvider(12) as made:
        yield made


@pytest.fixture
def served(db, long, short):
    """Two models behind HTTP."""
    for name, provider in (("first", long), ("second", short)):
        provider.register(db, name)
    return Models({"first": lambda t: np.array(vector(t, 16)), "second": lambda t: np.array(vector(t, 12))})


@pytest.fixture
def built_in(connect):
    """The built-in model, at full length and at half of it."""
    session = connect()

    def ask(name):
        return lambda text: np.array(orjson.loads(session.execute("SELECT embed(%s, %s)", (text, name)).fetchone()[0]))

    return Models({name: ask(name) for name in ("wordllama-256", "wordllama-128")})


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


def begin(db, model):
    """A hundred rows, embedded."""
    db.execute("INSERT INTO docs SELECT i, 'title ' || i, 'body ' || i FROM generate_series(11, 100) i")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => %s)", (model,))
    drain_all(db)


def there_and_back(connect, db, first, second, halfway=lambda: None):
    """Change the model and change it back, under writes and searches; return what the searches found."""
    begin(db, first)
    searchers = Searchers(connect)
    with busy(connect):
        searchers.search_on()
        change_to(db, second)
        searchers.search_on()
        halfway()
        change_to(db, first)
        for _ in range(4):
            db.execute("SELECT embed_rollback('docs')")
        searchers.search_on()
        searchers.stop()
    assert searchers.errors == []
    drain_all(db)
    return searchers.found


def check(db, models, found, last):
    """Each result has enough rows, all of one model; what is shown in the end is of the last one."""
    seen = set()
    for question, rows in found:
        assert len(rows) == K, f"{len(rows)} results"
        right = models.of(question, rows)
        assert right, f"no model gives {rows}"
        seen |= right
    assert len(seen) == 2
    for chunk, shown in db.execute("SELECT chunk, embedding::text FROM docs_embedding").fetchall():
        assert orjson.loads(shown) == pytest.approx(models.vector(last, chunk), abs=1e-5)


def test_every_result_is_of_one_model_and_there_always_is_one(connect, db, docs, served, long):
    found = there_and_back(connect, db, "first", "second", halfway=long.reset)
    check(db, served, found, "first")
    assert not [text for text in long.sent if "body" in text], "what the previous generation has, of the same model"


@pytest.mark.stress
def test_the_same_with_the_built_in_model(connect, db, docs, built_in):
    found = there_and_back(connect, db, "wordllama-256", "wordllama-128")
    check(db, built_in, found, "wordllama-256")
