"""Four workers side by side: every row ends fresh, and no text is paid for twice."""

import random
import threading

import psycopg
import pytest

from tests.fixtures.pipelines.documents import assert_as_source, drain_all, source_texts

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

WORK = "CALL embed_work(until_empty => true)"
DRAIN = "SELECT embed_drain()"
SMALL_DRAIN = "SELECT embed_drain(max_rows => 7)"
TEAMS = {
    "four workers": [WORK] * 4,
    "four drains": [DRAIN, DRAIN, DRAIN, SMALL_DRAIN],
    "two of each": [WORK, WORK, DRAIN, SMALL_DRAIN],
}
WRITERS = 3
EDITS = 60
TEXTS = [f"text {i}" for i in range(25)]  # few, so that rows often have the same one


class Team:
    """Workers that repeat their statements until they are told to stop."""

    def __init__(self, sessions, statements):
        self.errors: list[psycopg.Error] = []
        self._done = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=pair, daemon=True)
            for pair in zip(sessions, statements, strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def _work(self, session, statement):
        try:
            while not self._done.is_set():
                session.execute(statement)
        except psycopg.Error as error:
            self.errors.append(error)

    def stop(self):
        self._done.set()
        for thread in self._threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self._threads)
        assert self.errors == []


def edit(session, seed, written):
    """Random edits, each a transaction of its own; every text that was ever written is noted."""
    chance = random.Random(seed)
    for number in range(EDITS):
        key, other = chance.randrange(40), 1000 * seed + number
        text = chance.choice([*TEXTS, f"text of {other}"])
        written.add(f"title\n\n{text}")
        match chance.randrange(10):
            case 0:
                session.execute("DELETE FROM docs WHERE id = %s", (key,))
            case 1:
                session.execute("UPDATE docs SET id = %s WHERE id = %s", (other, key))
            case 2:
                session.execute("UPDATE docs SET n = n + 1 WHERE id = %s", (key,))
            case 3:
                session.execute("UPDATE docs SET body = body WHERE id < 5")
            case 4:
                session.execute("BEGIN")
                session.execute("UPDATE docs SET body = 'never' WHERE id = %s", (key,))
                session.execute("ROLLBACK")
            case 5 | 6:
                session.execute(
                    "INSERT INTO docs VALUES (%s, 'title', %s) ON CONFLICT (id) DO UPDATE SET body = EXCLUDED.body",
                    (key, text),
                )
            case _:
                session.execute("UPDATE docs SET body = %s WHERE id = %s", (text, key))


@pytest.mark.few(1)
@pytest.mark.parametrize("team", TEAMS)
def test_random_edits_end_fresh(connect, db, model, provider, team):
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text, n int NOT NULL DEFAULT 0)")
    db.execute("INSERT INTO docs SELECT i, 'title', 'text ' || i % 25 FROM generate_series(0, 39) i")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    workers = Team([connect() for _ in TEAMS[team]], TEAMS[team])
    written = set(source_texts(db).values())
    writers = [threading.Thread(target=edit, args=(connect(), seed, written)) for seed in range(1, WRITERS + 1)]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join(60)
    workers.stop()
    drain_all(db)
    assert_as_source(db)
    assert set(source_texts(db).values()) <= set(provider.sent) <= written
    assert provider.sent.total() == len(provider.sent), "a text was sent twice"


@pytest.mark.few(1)
@pytest.mark.parametrize("team", TEAMS)
def test_as_many_texts_are_sent_as_there_are(connect, db, model, provider, team):
    """300 rows of two pipelines with 60 texts, in many small transactions, so that the workers share them out."""
    for source in ("docs", "notes"):
        db.execute(f"CREATE TABLE {source} (id int PRIMARY KEY, title text, body text)")
        db.execute(f"SELECT embed_create('{source}', '{source}', columns => '{{title,body}}', model => 'loop')")
    workers = Team([connect() for _ in TEAMS[team]], TEAMS[team])
    for i in range(0, 150, 5):
        for source in ("docs", "notes"):
            db.execute(
                f"INSERT INTO {source} SELECT i, 'title', 'text ' || (i * 7) % 60 FROM generate_series({i}, {i + 4}) i"
            )
    workers.stop()
    drain_all(db)
    assert_as_source(db)
    assert_as_source(db, "notes")
    assert provider.sent == dict.fromkeys(source_texts(db).values(), 1)
    assert len(provider.sent) == 60
