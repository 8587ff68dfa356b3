"""Budgets under misuse: many sessions at once, texts that no day can pay for, wrong options."""

import pytest
from psycopg.types.json import Jsonb

from tests.fixtures.error_checks import refused
from tests.fixtures.pipelines.documents import drain_once, shown, status_of
from tests.fixtures.pipelines.endpoints import CALLS, create, hurry, serve
from tests.fixtures.waiting import Background
from tests.stress.test_misuse import words

pytestmark = pytest.mark.stress

A_DAY = 1 << 44


def next_day(db, number=1):
    """As if the counters were of yesterday."""
    for kind in ("tokens", "cost"):
        name = f"embed.pipeline_{number}_{kind}"
        db.execute(f"SELECT setval('{name}', greatest(1, last_value - {A_DAY})) FROM {name}")
    hurry(db)


@pytest.mark.parametrize("kind", ["tokens", "cost"])
def test_many_at_once_do_not_spend_more_than_there_is(connect, db, provider, kind):
    serve(db, provider, model={"inputs": 4, "price": 1_000_000})
    words(db, 400)
    create(db, **{f"daily_{kind}": 500})
    workers = [Background(connect(), CALLS["work"]) for _ in range(3)]
    drains = [Background(connect(), "SELECT embed_drain(max_rows => 60)") for _ in range(2)]
    for one in (*workers, *drains):
        one.result()
    assert 450 <= provider.tokens <= 500 + 4 * 6
    assert status_of(db, "state") == "over budget"


def test_what_is_billed_above_the_estimate_overspends_by_what_was_under_way(connect, db, provider):
    """Words of one letter: the server bills 21 tokens where 11 were estimated, so 18 requests take off and no more."""
    serve(db, provider, model={"inputs": 1}, max_in_flight=16)
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text)")
    db.execute("INSERT INTO docs SELECT i, repeat('a ', 20), i FROM generate_series(1, 200) i")
    create(db, daily_tokens=200)
    provider.hold()
    workers = [Background(connect(), CALLS["work"]) for _ in range(2)]
    provider.wait_for_requests(8)
    provider.release()
    for one in workers:
        one.result()
    assert provider.tokens <= 18 * 21
    assert status_of(db, "state") == "over budget"


def test_a_budget_raised_a_little_can_be_spent(db, provider):
    """Half of it was spent when a request did not fit; with twice as much the rest can go on the same day."""
    serve(db, provider, model={"inputs": 1})
    words(db, 10)
    create(db, daily_tokens=27)
    drain_once(db)
    drain_once(db)
    spent = provider.tokens
    assert 15 <= spent <= 27
    db.execute("""SELECT embed_alter('docs', '{"daily_tokens": 45}')""")
    assert status_of(db, "state") == "active"
    hurry(db)
    drain_once(db)
    assert spent < provider.tokens <= 45


def test_a_text_that_no_day_can_pay_for_does_not_stop_the_others(db, provider):
    serve(db, provider)
    words(db, 5)
    db.execute("INSERT INTO docs VALUES (0, repeat('word ', 500), 'x')")
    create(db, daily_tokens=100)
    for _ in range(3):
        drain_once(db)
        next_day(db)
    assert sorted(shown(db)) == [1, 2, 3, 4, 5]


def test_a_text_that_no_day_can_pay_for_is_said_to_be_one(db, provider):
    serve(db, provider)
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text)")
    db.execute("INSERT INTO docs VALUES (0, repeat('word ', 500), 'x')")
    create(db, daily_tokens=100)
    for _ in range(3):
        drain_once(db)
        next_day(db)
    drain_once(db)
    assert provider.tokens == 0
    assert "100" in status_of(db, "last_error"), "how much there is"


def test_what_is_left_of_a_budget_goes_to_texts_that_fit(db, provider):
    """A text that is too long for what is left of the day leaves that to shorter ones, or to the next call at least."""
    serve(db, provider)
    words(db, 5)
    db.execute("INSERT INTO docs VALUES (0, repeat('word ', 60), 'x')")
    create(db, daily_tokens=100)
    drain_once(db)
    hurry(db)
    assert len(shown(db)) > 0


def test_a_budget_in_money_needs_a_price(db, docs, provider):
    """Otherwise nothing would ever be counted, and the admin would believe that the limit holds."""
    serve(db, provider)
    error = refused(
        db,
        "SELECT embed_create('docs', 'docs', columns => '{title}', model => 'loop', options => %s)",
        (Jsonb({"daily_cost": 1}),),
    )
    assert "price" in str(error)


@pytest.mark.parametrize(
    "options", [{"daily_tokens": 30.4}, {"daily_tokens": 0.3}, {"daily_cost": 1e-7}, {"daily_cost": 20_000_000}]
)
def test_a_budget_that_cannot_be_counted_is_refused(db, provider, options):
    """Tokens are whole, money is counted in millionths, up to seventeen millions a day."""
    serve(db, provider, model={"price": 1_000_000})
    words(db, 4)
    error = refused(
        db,
        "SELECT embed_create('docs', 'docs', columns => '{title}', model => 'loop', options => %s)",
        (Jsonb(options),),
    )
    assert next(iter(options)) in str(error)


def test_the_next_day_goes_on_by_itself_and_the_option_can_be_taken_away(connect, db, provider):
    serve(db, provider, model={"inputs": 1})
    words(db, 12)
    create(db, daily_tokens=27)
    session = connect(autocommit=False)
    session.execute("SELECT embed_drain()")
    session.execute("ROLLBACK")
    spent = provider.tokens
    drain_once(db)
    assert provider.tokens == spent, "a rollback gives no money back"
    next_day(db)
    drain_once(db)
    assert provider.tokens > spent
    db.execute("""SELECT embed_alter('docs', '{"daily_tokens": null}')""")
    assert status_of(db, "state") == "active"
    for _ in range(2):
        hurry(db)
        drain_once(db)
    assert len(shown(db)) == 12
