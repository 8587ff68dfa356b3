"""What was spent and saved is written down as it was."""

import pytest

from tests.fixtures.pipelines.documents import drain_all, drain_once, status_of
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.shared_database

CALLS = {"drain": "SELECT embed_drain()", "work": "CALL embed_work(until_empty => true, max_runtime => '20 s')"}


def usage(db):
    row = db.execute(
        "SELECT sum(calls), sum(texts), sum(saved_by_fingerprint), sum(saved_by_cache), sum(saved_by_dedupe)"
        " FROM embed_usage"
    ).fetchone()
    return dict(zip(("calls", "texts", "fingerprint", "cache", "dedupe"), (int(n or 0) for n in row), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
def test_calls_and_texts_are_those_the_provider_counted(connect, db, docs, provider, call):
    provider.register(db, price=2)
    db.execute("INSERT INTO docs SELECT i, 'title 1', 'body 1' FROM generate_series(11, 15) i")  # five twins of row 1
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    connect().execute(CALLS[call])
    assert usage(db) == {"calls": len(provider.requests), "texts": 10, "fingerprint": 0, "cache": 0, "dedupe": 5}
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 2")
    connect().execute(CALLS[call])
    db.execute("UPDATE docs SET body = 'body 2' WHERE id = 2")  # and back: its vector was kept
    db.execute("SELECT embed_touch('docs', '3', '4')")  # nothing changed there
    connect().execute(CALLS[call])
    assert usage(db) == {"calls": len(provider.requests), "texts": 11, "fingerprint": 2, "cache": 1, "dedupe": 5}
    calls, texts, tokens, cost, saved = (
        status_of(db, column) for column in ("calls", "texts", "tokens", "cost", "texts_saved")
    )
    assert (calls, texts, saved) == (len(provider.requests), 11, 8)
    assert tokens >= 11
    assert cost == pytest.approx(tokens * 2e-6)


def test_hours_that_are_over_become_one_row_each(connect, db, docs, model, provider):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    for number in range(3):
        db.execute("UPDATE docs SET body = %s WHERE id = 1", (f"edit {number}",))
        drain_all(db)
    before = usage(db)
    db.execute("UPDATE embed.usage SET at = at - interval '2 hours'")
    connect().execute("CALL embed_work(until_empty => true)")
    assert db.execute("SELECT count(*) FROM embed.usage").fetchone() == (1,)
    assert usage(db) == before


def test_requests_that_failed_are_calls_without_texts(db, docs, model, provider):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    provider.answer = lambda _: (500, b"out of order")
    drain_once(db)
    assert usage(db) == {"calls": 3, "texts": 0, "fingerprint": 0, "cache": 0, "dedupe": 0}


def test_what_costs_nothing_costs_nothing(db, docs):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}')")
    wait_until(lambda: drain_once(db) == 0, what="an empty queue")
    assert status_of(db, "cost") == 0
    assert status_of(db, "texts") == 10


def test_usage_is_shown_to_those_who_administer_the_pipeline(connect, db, docs, model):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    drain_all(db)
    db.execute("CREATE ROLE usage_reader")
    db.execute("GRANT SELECT ON docs TO usage_reader")
    try:
        assert connect("usage_reader").execute("SELECT * FROM embed_usage").fetchall() == []
    finally:
        db.execute("DROP OWNED BY usage_reader")
        db.execute("DROP ROLE usage_reader")
