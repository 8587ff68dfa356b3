"""Models that are slower than a lease, or fail at random, under several workers: nothing starves, nothing is lost."""

import random
import threading

import pytest

from tests.fixtures.pipelines.documents import assert_as_source, rested, source_texts
from tests.fixtures.providers import faults
from tests.fixtures.stress import WORK, Counting, Team, Writers, finish, left, locks, make_docs, seed_of
from tests.fixtures.waiting import Background, wait_until

pytestmark = pytest.mark.stress

LONG = "CALL embed_work(max_runtime => '30 s', until_empty => true)"
USAGE = "SELECT sum(calls)::int, sum(texts)::int FROM embed.usage"


def test_four_workers_wait_for_a_model_that_is_slower_than_a_lease(connect, db, provider):
    """Each answer takes two and a half leases."""
    db.execute("SELECT embed_setting('lease', '1 s')")
    provider.register(db, endpoint={"max_in_flight": 2}, inputs=10)
    Counting(provider, pause=2.5)
    make_docs(db, 60)
    works = [Background(connect(), LONG) for _ in range(4)]
    for work in works:
        work.result(40)
    assert_as_source(db)
    assert provider.sent == dict.fromkeys(source_texts(db).values(), 1)
    assert left(db) == {}


@pytest.mark.parametrize(
    "workers",
    [
        1,
        3,
    ],
)
def test_a_batch_of_a_function_that_takes_longer_than_a_lease(connect, db, workers):
    """Each call is shorter than a lease, all of them are longer."""
    db.execute("SELECT embed_setting('lease', '1 s')")
    db.execute("""
        CREATE TABLE calls (texts text[]);
        CREATE FUNCTION slow(texts text[]) RETURNS vector[] LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_sleep(0.4);
            INSERT INTO calls VALUES (texts);
            RETURN (SELECT array_agg('[1,2,3]'::vector) FROM unnest(texts));
        END $$""")
    db.execute("SELECT embed_model_add('slow', 'function', 3, remote_name => 'slow', options => '{\"inputs\": 5}')")
    make_docs(db, 60, "slow")
    # Not until_empty: they stay, and look for claims that are over.
    works = [Background(connect(), "CALL embed_work(max_runtime => '6 s')") for _ in range(workers)]
    for work in works:
        work.result(40)
    finish(db)
    sent = [text for (texts,) in db.execute("SELECT texts FROM calls").fetchall() for text in texts]
    assert sorted(sent) == sorted(set(source_texts(db).values()))
    assert left(db).keys() <= {"lease"}


def test_random_faults_lose_nothing(connect, db, provider):
    seed = seed_of("faults")
    chance = random.Random(seed)
    lock = threading.Lock()

    def now_and_then(share):
        def dice(_):
            with lock:
                return chance.random() < share

        return dice

    provider.register(db, endpoint={"max_in_flight": 4}, inputs=5)
    texts = make_docs(db, 100)
    provider.fail(faults.status(503), when=now_and_then(0.05))
    provider.fail(faults.status(429, Retry_After="1"), when=now_and_then(0.02))
    provider.fail(faults.reset(), when=now_and_then(0.05))
    provider.fail(faults.truncated(), when=now_and_then(0.05))
    provider.fail(faults.count(-1), when=now_and_then(0.05))
    provider.fail(
        faults.each(lambda _: [float("nan")] * 8, only=lambda _: now_and_then(0.1)(None)), when=now_and_then(0.1)
    )
    team = Team(connect, [WORK, WORK, "SELECT embed_drain()", "SELECT embed_drain(max_rows => 7)"])
    with Writers(connect, seed, sessions=2, saves=100, rows=100) as writers:
        pass
    team.stop()
    provider.mend()

    def done():
        rested(db)
        db.execute("UPDATE embed.job SET ready_at = clock_timestamp() WHERE token IS NULL")
        db.execute("SELECT embed_drain()")
        return left(db).keys() <= {"lease"}

    wait_until(done, what="an empty queue")
    assert_as_source(db)
    assert set(provider.sent) <= texts | writers.written | {"evergreen"}
    assert locks(db) == []


def test_what_was_paid_for_is_written_down(connect, db, provider):
    seed = seed_of("usage")
    provider.register(db, endpoint={"max_in_flight": 8}, inputs=5)
    Counting(provider, pause=0.01)
    make_docs(db, 100)
    team = Team(connect, [WORK, WORK, "SELECT embed_drain()", "SELECT embed_drain(max_rows => 7)"])
    with Writers(connect, seed, sessions=2, saves=100, rows=100):
        pass
    team.stop()
    finish(db)
    assert db.execute(USAGE).fetchone() == (len(provider.requests), provider.sent.total())
