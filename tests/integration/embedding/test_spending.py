"""Exactly-once spending, with many batches of every worker under way at once."""

import threading

import pytest

from tests.fixtures.pipelines.documents import assert_as_source, shown, verified
from tests.fixtures.providers import faults
from tests.fixtures.stress import WORK, Counting, Team, Writers, finish, left, locks, make_docs, seed_of
from tests.fixtures.waiting import Background, wait_until

pytestmark = pytest.mark.shared_database

DRAIN = "SELECT embed_drain()"
SMALL = "SELECT embed_drain(max_rows => 7)"
TEAMS = {
    "four workers": [WORK] * 4,
    "workers and drains": [WORK, WORK, DRAIN, SMALL],
    "four drains": [DRAIN, DRAIN, SMALL, SMALL],
}


@pytest.fixture
def small(db, provider):
    """A model that takes five texts a request and eight requests at once."""
    provider.register(db, endpoint={"max_in_flight": 8}, inputs=5)


@pytest.mark.few(2)
@pytest.mark.slow
@pytest.mark.parametrize("team", TEAMS)
def test_every_text_is_paid_for_once(connect, db, provider, small, team):
    seed = seed_of(team)
    Counting(provider, pause=0.02)
    texts = make_docs(db, 200)
    workers = Team(connect, TEAMS[team])
    with Writers(connect, seed, sessions=3, saves=150, rows=200) as writers:
        pass
    workers.stop()
    finish(db)
    assert_as_source(db)
    assert set(provider.sent) <= texts | writers.written
    assert {text: count for text, count in provider.sent.items() if count > 1} == {}
    assert locks(db) == []
    assert left(db).keys() <= {"lease"}  # see test_many_batches.py


def notes_of(db, options="{}"):
    """A second pipeline with the same texts."""
    db.execute("CREATE TABLE notes AS SELECT id, title, body FROM docs; ALTER TABLE notes ADD PRIMARY KEY (id)")
    db.execute(
        "SELECT embed_create('notes', 'notes', columns => '{title,body}', model => 'loop', options => %s)", (options,)
    )


@pytest.mark.slow
@pytest.mark.parametrize("first", ["docs", "notes", None])
def test_a_text_that_was_cut_is_not_taken_for_the_whole(db, provider, first):
    """Both have a text that the server finds too long; one pipeline wants it truncated, the other one an error."""
    provider.register(db, inputs=5, input_tokens=20)
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text)")
    db.execute("INSERT INTO docs VALUES (1, 'title', 'short'), (2, 'title', repeat('x ', 20))")
    notes_of(db, '{"on_too_long": "truncate"}')
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    provider.fail(faults.status(400, b"too long"), when=lambda call: any(len(text) > 30 for text in call.texts))
    if first:
        db.execute("CALL embed_work(%s, until_empty => true)", (first,))
    db.execute(WORK)
    assert set(shown(db)) == {1}
    assert set(shown(db, "notes")) == {1, 2}
    assert verified(db, "notes")["fresh"] == 2
    db.execute("SELECT embed_alter('notes', '{\"on_too_long\": null}')")
    assert verified(db, "notes") == {"fresh": 1, "stale": 1, "missing": 0, "orphan": 0, "mixed": 0}


@pytest.mark.slow
def test_a_budget_stops_nobody_but_its_pipeline(connect, db, provider, small):
    make_docs(db, 10)
    notes_of(db)
    db.execute("SELECT embed_alter('notes', '{\"daily_tokens\": 20}')")
    db.execute(WORK)
    assert set(shown(db)) == set(range(10))


@pytest.mark.slow
def test_a_probe_holds_up_its_own_model_only(connect, db, provider):
    provider.register(db, endpoint={"max_in_flight": 8}, inputs=1)
    db.execute(
        "SELECT embed_model_add('bad', 'openai', 8, remote_name => 'bad', endpoint => 'loop', options => %s)",
        ('{"inputs": 1}',),
    )
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text)")
    db.execute("INSERT INTO docs SELECT i, 'title', 'text ' || i FROM generate_series(1, 20) i")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'bad')")
    db.execute("CREATE TABLE notes (id int PRIMARY KEY, title text, body text)")
    db.execute("SELECT embed_create('notes', 'notes', columns => '{title,body}', model => 'loop')")
    of_bad = {"when": lambda call: call.body["model"] == "bad"}
    provider.fail(faults.status(404, b"no such model"), **of_bad)
    db.execute("SELECT embed_drain()")
    provider.mend()
    gate = threading.Event()
    provider.fail(lambda _: gate.wait(30), **of_bad)
    number = db.execute("SELECT id FROM embed.model WHERE name = 'bad'").fetchone()[0]
    rested = f"SELECT last_value < extract(epoch FROM clock_timestamp()) * 1e6 FROM embed.model_{number}_rests_until"
    wait_until(lambda: db.execute(rested).fetchone()[0], what="the end of the rest")
    db.execute("UPDATE embed.job SET ready_at = clock_timestamp()")
    provider.reset()
    work = Background(connect(), "CALL embed_work(max_runtime => '20 s', until_empty => true)")
    try:
        provider.wait_for_requests()
        db.execute("INSERT INTO notes SELECT i, 'title', 'note ' || i FROM generate_series(1, 20) i")
        wait_until(lambda: len(shown(db, "notes")) == 20, timeout=4, what="the other model's rows")
    finally:
        gate.set()
    work.result()


@pytest.mark.slow
def test_a_shorter_lease_is_renewed_in_its_time(connect, db, provider, small):
    make_docs(db, 10)
    provider.hold()
    work = Background(connect(), WORK)
    provider.wait_for_requests()
    db.execute("SELECT embed_setting('lease', '1 s')")
    db.execute("INSERT INTO docs VALUES (100, 'title', 'one more')")
    leases = "SELECT count(*), bool_and(expires_at > clock_timestamp()) FROM embed.lease"
    wait_until(lambda: db.execute(leases).fetchone()[0] == 2, what="a second claim")
    ends = set()
    while len(ends) < 6:
        ends.add(db.execute("SELECT min(expires_at) FROM embed.lease").fetchone()[0])
        assert db.execute(leases).fetchone()[1], "a claim of a worker that lives is over"
    provider.release()
    work.result()


@pytest.mark.parametrize(
    "call", ["SELECT embed_drain(max_runtime => '500 ms')", "CALL embed_work(max_runtime => '500 ms')"]
)
def test_the_time_is_kept_with_a_function_model(db, call):
    db.execute("""
        CREATE TABLE calls (at timestamptz);
        CREATE FUNCTION slow(texts text[]) RETURNS vector[] LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_sleep(0.05);
            INSERT INTO calls VALUES (clock_timestamp());
            RETURN (SELECT array_agg('[1,2,3]'::vector) FROM unnest(texts));
        END $$""")
    db.execute("SELECT embed_model_add('slow', 'function', 3, remote_name => 'slow', options => '{\"inputs\": 1}')")
    make_docs(db, 60, "slow")
    db.execute(call)
    # ten calls take all of the time
    assert db.execute("SELECT count(*) < 20 FROM calls").fetchone() == (True,)
