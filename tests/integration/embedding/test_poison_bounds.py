"""What poison, outages and texts that hang may cost: calls, attempts, and the time of others."""

from math import log2

import pytest

from tests.fixtures.pipelines.documents import drain_once, shown
from tests.fixtures.pipelines.endpoints import create, hurry, let_time_pass, serve, table
from tests.fixtures.providers import faults
from tests.fixtures.waiting import wait_until
from tests.integration.embedding.poison import (
    ROWS,
    SHORT,
    are_fresh,
    breaker,
    is_poison,
    make,
    poisoned,
    spoil,
    stop,
    work_in_background,
)

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]


@pytest.mark.stress
def test_a_culprit_in_every_batch_of_every_pipeline_leaves_the_endpoint_in_use(connect, db, provider):
    serve(db, provider, "loop", {"inputs": 32}, **SHORT)
    names = ("a", "b", "c")
    for name in names:
        table(db, name, 200)
        db.execute(f"UPDATE {name} SET body = 'poison' WHERE id % 40 = 3")
        create(db, name)
    spoil(provider, "500")
    session, work = work_in_background(connect)
    wait_until(lambda: all(are_fresh(db, 195, name) for name in names), timeout=15, what="all neighbours")
    assert breaker(db) == ("closed", 0)
    stop(session, work)


def test_a_text_that_brings_the_server_down_is_found_over_several_tries(db, provider):
    """After it nothing is answered for a while: neither a harmless text nor a part of the request."""
    make(db, provider, rows=64, culprits=(7,), options={"max_attempts": 2})
    down = []

    def fall(reply):
        if any(map(is_poison, reply.call.texts)):
            down.append(True)
        if down:
            faults.reset()(reply)

    provider.fail(fall)

    def restart():
        down.clear()
        let_time_pass(db)
        provider.reset()
        drain_once(db)
        return db.execute("SELECT count(*) FROM embed_failures").fetchone() == (1,) and len(shown(db)) == 63

    wait_until(restart, what="a dead letter, and nothing else")
    assert sorted(shown(db)) == [i for i in range(1, 65) if i != 7]


def test_an_endpoint_that_fails_for_everything_costs_few_calls_and_no_attempt(db, provider):
    make(db, provider, culprits=())
    provider.fail(faults.status(500))
    drain_once(db)
    assert len(provider.requests) == 3, "twice as it is, and a harmless text"
    assert breaker(db)[0] == "open"
    assert db.execute("SELECT max(attempts), count(*) FROM embed.job").fetchone() == (0, ROWS)


def test_the_bound_of_one_culprit_wherever_it_is(db, provider):
    make(db, provider, rows=64, culprits=())
    spoil(provider, "500")
    db.execute("SELECT embed_drain()")
    for place in (1, 22, 43, 64):
        db.execute(
            "UPDATE docs SET body = CASE id WHEN %s THEN 'poison ' ELSE '' END || %s || id", (place, f"{place}-")
        )
        provider.reset()
        drain_once(db)
        assert len(provider.requests) <= 2 * log2(64) + 5
        db.execute("UPDATE docs SET body = 'well' WHERE id = %s", (place,))
        hurry(db)
        drain_once(db)


def test_a_model_that_fails_for_everything_keeps_no_other_model_of_its_endpoint_waiting(connect, db, provider):
    make(db, provider, rows=20, culprits=())
    other = "SELECT embed_model_add('other', 'openai', 8, endpoint => 'loop', remote_name => 'other')"
    db.execute(other)
    table(db, "notes", 100)
    create(db, "notes", "other")
    db.execute("SELECT embed_pause('notes')")
    provider.fail(faults.status(500), when=lambda call: call.body["model"] == "other")
    session, work = work_in_background(connect)
    wait_until(lambda: are_fresh(db, 20), what="the backfill")
    db.execute("SELECT embed_resume('notes')")
    wait_until(lambda: any(call.body["model"] == "other" for call in provider.calls), what="a request to the other")
    for number in range(5):
        db.execute("UPDATE docs SET body = %s WHERE id = 5", (f"edit {number}",))
        wait_until(lambda n=number: shown(db)[5][0].endswith(f"edit {n}"), what="an edit")
        assert breaker(db) == ("closed", 0)
    stop(session, work)
    assert db.execute("SELECT max(attempts), count(*) FROM embed.job").fetchone() == (0, 100)


def test_a_text_that_hangs_costs_its_neighbours_one_time_out(connect, db, provider):
    """What a text takes is known: the parts of the request that hung are not waited for as long as the whole."""
    serve(db, provider, "loop", read_timeout=8.0, total_timeout=9.0)
    table(db, "docs", ROWS)
    create(db)
    drain_once(db)
    provider.fail(lambda _: provider.stopped.wait(10), when=poisoned)
    db.execute("UPDATE docs SET body = CASE id WHEN 137 THEN 'poison' ELSE 'edit ' || id END")
    session, work = work_in_background(connect)
    edited = "SELECT count(*) >= 280 FROM docs_embedding WHERE chunk LIKE '%edit%'"
    wait_until(lambda: db.execute(edited).fetchone() == (True,), timeout=20, what="all but the nearest neighbours")
    assert breaker(db) == ("closed", 0)
    stop(session, work)


def test_texts_that_hang_leave_seats_to_others(connect, db, provider):
    serve(db, provider, "loop", read_timeout=8.0, total_timeout=9.0, max_in_flight=2)
    names = ("a", "b", "c")
    for name in ("docs", *names):
        table(db, name, 5)
        create(db, name)
    drain_once(db)
    db.execute("SELECT embed_drain()")
    provider.fail(faults.status(500), when=poisoned)
    for name in names:
        db.execute(f"UPDATE {name} SET body = 'poison' WHERE id = 3")
        drain_once(db, name)
    provider.mend()
    provider.fail(lambda _: provider.stopped.wait(10), when=poisoned)
    provider.reset()
    hurry(db)
    session, work = work_in_background(connect)
    provider.wait_for_requests(1)
    for number in range(3):
        db.execute("UPDATE docs SET body = %s WHERE id = 5", (f"edit {number}",))
        wait_until(lambda n=number: shown(db)[5][0].endswith(f"edit {n}"), timeout=4, what="another row's edit")
    stop(session, work)
