"""A pipeline that has spent its day's money waits for the next day, says so, and delays no other one."""

import psycopg
import psycopg.types.json
import pytest

from tests.fixtures.pipelines.documents import assert_as_source, drain_all, drain_once, shown, status_of

pytestmark = pytest.mark.shared_database

CALLS = {"drain": "SELECT embed_drain()", "work": "CALL embed_work(until_empty => true, max_runtime => '20 s')"}


def create(db, options, pipeline="docs", model="loop"):
    db.execute(
        f"SELECT embed_create('{pipeline}', '{pipeline}', columns => '{{title,body}}', model => %s, options => %s)",
        (model, psycopg.types.json.Jsonb(options)),
    )


def next_day(db, kind="tokens"):
    """As if the counter were of yesterday."""
    db.execute(f"SELECT setval('embed.pipeline_1_{kind}', last_value - (1::bigint << 44)) FROM embed.pipeline_1_{kind}")


@pytest.mark.few(2)
@pytest.mark.fresh_database
@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", ["tokens", "cost"])
def test_what_a_day_may_cost(connect, db, docs, provider, call, kind):
    """Four texts' worth: no more than that is sent, by whatever calls, until the day is over."""
    provider.register(db, price=1_000_000)  # a token costs 1
    db.execute("UPDATE docs SET title = 'ti le', body = repeat(chr(96 + id), 5)")  # 12 characters, 3 words: 3 tokens
    create(db, {f"daily_{kind}": 13})
    db.execute("CREATE TABLE notes (id int PRIMARY KEY, title text, body text)")
    db.execute("INSERT INTO notes VALUES (1, 'no', 'budget')")
    create(db, {}, "notes")
    for _ in range(3):
        connect().execute(CALLS[call])
    assert provider.sent.total() == 4 + 1
    assert len(shown(db)) == 4
    assert status_of(db, "state") == "over budget"
    assert "budget" in status_of(db, "last_error")
    assert status_of(db, "failed") == 0
    assert status_of(db, "state", "notes") == "active"
    next_day(db, kind)
    assert status_of(db, "state") == "active"
    db.execute("UPDATE embed.job SET ready_at = clock_timestamp()")
    connect().execute(CALLS[call])
    assert len(shown(db)) == 8


@pytest.mark.slow
def test_raising_the_budget_is_enough(db, docs, model, provider):
    create(db, {"daily_tokens": 7})
    drain_all(db)
    assert status_of(db, "state") == "over budget"
    db.execute("""SELECT embed_alter('docs', '{"daily_tokens": 10000}')""")
    assert status_of(db, "state") == "active"
    db.execute("UPDATE embed.job SET ready_at = clock_timestamp()")
    drain_all(db)
    assert_as_source(db)


@pytest.mark.slow
def test_what_is_rolled_back_is_spent_all_the_same(connect, db, docs, model, provider):
    create(db, {"daily_tokens": 60})
    session = connect(autocommit=False)
    assert drain_once(session) == 10
    session.execute("ROLLBACK")
    drain_all(db)
    assert provider.sent.total() < 20
    assert status_of(db, "state") == "over budget"


@pytest.mark.fresh_database
@pytest.mark.slow
def test_what_was_billed_counts_and_not_what_was_guessed(db, docs, model, provider):
    """A request that fails costs nothing."""
    create(db, {"daily_tokens": 60})
    provider.answer = lambda _: (500, b"out of order")
    drain_once(db)
    provider.answer = None
    db.execute("SELECT setval('embed.endpoint_1_rests_until', 1)")
    db.execute("UPDATE embed.job SET ready_at = clock_timestamp()")
    drain_all(db)
    assert_as_source(db)


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
def test_what_requests_under_way_do_not_need_is_spent_on_others(connect, db, docs, provider, call):
    """Cyrillic is estimated at a token a letter, and billed at a token a word here: a tenth or so."""
    provider.register(db, inputs=1)
    db.execute("UPDATE docs SET title = repeat('\u0441\u043b\u043e\u0432\u043e ', 20), body = id")
    create(db, {"daily_tokens": 250})  # estimated, there is room for two
    connect().execute(CALLS[call])
    assert len(shown(db)) == 7  # another one might go beyond
    assert provider.tokens == 7 * 21
    assert status_of(db, "state") == "over budget"


@pytest.mark.parametrize("value", ["0", "-1", '"much"', "true"])
def test_a_budget_is_a_number_above_0(db, docs, model, value):
    for option in ("daily_tokens", "daily_cost"):
        with pytest.raises(psycopg.errors.InvalidParameterValue, match=option):
            db.execute(
                "SELECT embed_create('docs', 'docs', columns => '{title}', options => %s)",
                (f'{{"{option}": {value}}}',),
            )


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
def test_a_text_that_no_day_can_pay_for_is_a_dead_letter_and_delays_no_other(connect, db, docs, model, call):
    db.execute("UPDATE docs SET body = repeat('word ', 2000) WHERE id = 3")
    create(db, {"daily_tokens": 1000})
    connect().execute(CALLS[call])
    assert sorted(shown(db)) == [i for i in range(1, 11) if i != 3]
    assert db.execute("SELECT key::text, class FROM embed_failures").fetchall() == [("[3]", "permanent")]
