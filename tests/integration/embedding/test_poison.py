"""One text that spoils every request it is in: its neighbours are fresh within seconds, and it alone waits.

The kind: a request fails as a whole, and neither its status nor its body says whether a text, the size of the request
or the endpoint is to blame. Members: any 5xx, a 4xx that is neither a refusal nor a matter of set-up, a time-out, a
connection that is dropped, an answer that is empty, cut off or broken, a 4xx or redirect as of a wrong set-up, a 429,
and an answer with no good vector for any of the texts. The poison is told from an outage by a harmless text, and found
by quarters.
"""

import pytest

from tests.fixtures.pipelines.documents import drain_once, shown, status_of
from tests.fixtures.pipelines.endpoints import create, hurry, let_time_pass, rest_over, table
from tests.fixtures.providers import faults
from tests.fixtures.stress import often
from tests.fixtures.waiting import wait_until
from tests.fixtures.worker_processes import ListeningWorker
from tests.integration.embedding.poison import (
    KINDS,
    MOST,
    OFTEN,
    ROWS,
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


@pytest.mark.few(4)
@pytest.mark.parametrize("kind", often(KINDS, *OFTEN))
def test_neighbours_are_fresh_within_seconds(connect, db, provider, kind):
    make(db, provider)
    spoil(provider, kind)
    session, work = work_in_background(connect)
    wait_until(lambda: are_fresh(db, ROWS - 1), timeout=5, what="299 neighbours")
    wait_until(lambda: status_of(db, "last_error") is not None, what="the culprit's failure")
    stop(session, work)
    assert breaker(db) == ("closed", 0)
    assert len(provider.requests) <= MOST + 2, "and its first try alone"
    assert 137 not in shown(db)
    assert db.execute("SELECT count(*) FROM embed.job").fetchone() == (1,)


@pytest.mark.parametrize("kind", ["404", "429", "other dimensions"])
def test_one_text_that_is_edited_alone_keeps_no_other_edit_waiting(connect, db, provider, kind):
    make(db, provider, rows=20, culprits=())
    drain_once(db)
    provider.fail(KINDS.get(kind) or faults.status(429), when=poisoned)
    session, work = work_in_background(connect)
    db.execute("UPDATE docs SET body = 'poison' WHERE id = 7")
    provider.wait_for_requests(2)
    for number in range(4):
        db.execute("UPDATE docs SET body = %s WHERE id = 5", (f"edit {number}",))
        wait_until(lambda n=number: shown(db)[5][0].endswith(f"edit {n}"), timeout=10, what="another row's edit")
    wait_until(lambda: db.execute("SELECT max(attempts) FROM embed.job").fetchone()[0], what="the culprit's attempt")
    stop(session, work)
    assert breaker(db) == ("closed", 0)


def test_one_text_that_is_always_answered_429_is_told_from_a_rate_limit(connect, db, provider):
    make(db, provider, rows=64, culprits=(7,), options={"max_attempts": 1})
    provider.fail(faults.status(429), when=poisoned)
    session, work = work_in_background(connect)
    wait_until(lambda: are_fresh(db, 63), what="63 neighbours")
    wait_until(
        lambda: db.execute("SELECT key::text FROM embed_failures").fetchall() == [("[7]",)], what="a dead letter"
    )
    stop(session, work)
    assert len(provider.requests) <= 2 * MOST


@pytest.mark.parametrize("code", [500, 503, 429])
def test_one_text_that_makes_the_server_ask_for_a_pause_gets_one_pause_and_no_more(connect, db, provider, code):
    """As an endpoint that rests keeps all its pipelines waiting: the first wish is heeded, by all."""
    make(db, provider, options={"max_attempts": 2})
    provider.fail(faults.status(code, retry_after="60"), when=poisoned)
    session, work = work_in_background(connect)
    wait_until(lambda: breaker(db) == ("resting", 0), what="the pause")
    rest_over(db)

    def are_done():
        hurry(db)
        return are_fresh(db, ROWS - 1) and db.execute("SELECT key::text FROM embed_failures").fetchall() == [("[137]",)]

    wait_until(are_done, what="299 neighbours and a dead letter")
    assert breaker(db) == ("closed", 0)
    stop(session, work)


@pytest.mark.few(1)
@pytest.mark.parametrize("lets_small_ones_pass", [True, False])
def test_a_rate_limit_costs_no_attempt(db, provider, lets_small_ones_pass):
    make(db, provider, rows=64, culprits=(), model={"inputs": 32})
    provider.fail(faults.status(429), when=lambda call: not lets_small_ones_pass or call.texts != ["evergreen"])
    for _ in range(2):
        let_time_pass(db)
        drain_once(db)
    attempts, smaller = db.execute("SELECT max(attempts), max(max_batch) FROM embed.job").fetchone()
    assert attempts == 0
    assert lets_small_ones_pass or smaller == 24, "as many as at first: it wants fewer requests, not smaller ones"


def test_a_text_that_spoils_the_vectors_of_some_others_is_found(db, provider):
    """As in a padded batch: the vectors of those that are longer are not numbers."""
    make(db, provider, rows=64, culprits=(7,), model={"inputs": 32})
    provider.fail(faults.each(lambda _: None, only=lambda text: text > "poison"), when=poisoned)
    drain_once(db)
    assert sorted(shown(db)) == [i for i in range(1, 65) if i != 7]


@pytest.mark.parametrize("kind", ["500", "times out"])
def test_a_drain_embeds_the_neighbours(db, provider, kind):
    make(db, provider)
    spoil(provider, kind)
    for _ in range(3):
        hurry(db)
        drain_once(db)
    assert len(shown(db)) == ROWS - 1
    assert len(provider.requests) <= MOST + 4, "and two tries alone"


def test_a_listening_worker_embeds_the_neighbours_and_later_edits(dsn, db, provider):
    """As the text is among many: it comes with an edit of all rows."""
    make(db, provider, culprits=())
    with ListeningWorker(dsn):
        wait_until(lambda: are_fresh(db, ROWS), timeout=20, what="the backfill")
        spoil(provider, "dropped")
        db.execute("UPDATE docs SET body = CASE id WHEN 137 THEN 'poison' ELSE 'edit ' || id END")
        edited = "SELECT count(*) FROM docs_embedding WHERE chunk LIKE '%edit%'"
        wait_until(lambda: db.execute(edited).fetchone() == (ROWS - 1,), timeout=5, what="299 neighbours")
        db.execute("UPDATE docs SET body = 'edit again' WHERE id = 5")
        wait_until(lambda: shown(db)[5][0].endswith("edit again"), timeout=5, what="a later edit")
    assert breaker(db) == ("closed", 0)


def test_the_culprit_goes_alone_waits_longer_each_time_and_ends_as_a_dead_letter(db, provider):
    make(db, provider, rows=20, culprits=(7,), options={"max_attempts": 4})
    spoil(provider, "500")
    drain_once(db)
    pauses = []
    for attempt in range(2, 5):
        waits = "SELECT attempts, extract(epoch FROM ready_at - clock_timestamp())::float8 FROM embed.job"
        (attempts, seconds) = db.execute(waits).fetchone()
        assert attempts == attempt - 1
        pauses.append(seconds)
        db.execute("INSERT INTO docs VALUES (%s, 'new', %s)", (100 + attempt, str(attempt)))
        hurry(db)
        provider.reset()
        drain_once(db)
        assert [texts for texts in provider.requests if any(map(is_poison, texts))] == [["poison 7\n\ndocs"]]
        assert len(provider.requests) <= 3, "the new row, the culprit, and perhaps a harmless text"
    assert pauses[1] > 1.2 * pauses[0]
    assert pauses[2] > 1.2 * pauses[1]
    assert db.execute("SELECT key::text, class FROM embed_failures").fetchall() == [("[7]", "retryable")]
    assert db.execute("SELECT count(*) FROM embed.job").fetchone() == (0,)
    assert breaker(db) == ("closed", 0)


@pytest.mark.parametrize("kind", ["500", "400"])
def test_the_same_text_spoils_no_other_row_or_pipeline(db, provider, kind):
    make(db, provider, rows=20, culprits=(7,))
    provider.fail(faults.status(int(kind)), when=poisoned)
    drain_once(db)
    provider.reset()
    table(db, "notes", 100)
    db.execute("UPDATE notes SET title = 'poison 7', body = 'docs' WHERE id = 50")
    create(db, "notes")
    drain_once(db, "notes")
    assert len(shown(db, "notes")) == 99
    assert [len(texts) for texts in provider.requests if any(map(is_poison, texts))] == [1]


def test_a_culprit_that_passes_is_one_text_among_others_again(db, provider):
    make(db, provider, rows=20, culprits=(7,))
    spoil(provider, "500")
    drain_once(db)
    provider.mend()
    hurry(db)
    drain_once(db)
    assert len(shown(db)) == 20
    assert db.execute("SELECT count(*) FROM embed.suspect").fetchone() == (0,)


@pytest.mark.parametrize("culprits", [(1, 300), (10, 11), (1, 75, 150, 225, 300)])
def test_several_culprits_in_a_batch_cost_as_much_as_each_alone(db, provider, culprits):
    make(db, provider, culprits=culprits)
    spoil(provider, "500")
    drain_once(db)
    assert len(shown(db)) == ROWS - len(culprits)
    assert len(provider.requests) <= len(culprits) * MOST
    assert breaker(db) == ("closed", 0)
    failed = db.execute("SELECT (key ->> 0)::int FROM embed.job ORDER BY 1").fetchall()
    assert [number for (number,) in failed] == [*culprits]
