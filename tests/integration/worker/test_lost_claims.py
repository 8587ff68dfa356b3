"""One text ends the process that embeds it outside: its neighbours are fresh after a few claims, and it is given up.

The kind: a claim of embed_claim is lost as a whole, without a word, and nothing tells whether a text or the machine is
to blame. Members: a text that crashes the process, that takes all its memory, that hangs it for longer than the lease.
"""

import pytest

from tests.fixtures.external_compute import claim, let_leases_run_out, release, submit
from tests.fixtures.pipelines.documents import status_of
from tests.fixtures.stress import left, make_docs

pytestmark = pytest.mark.shared_database

ROWS = 65  # lost twice whole, then in quarters of 16, 4 and 1
LIMIT = "SELECT embed_alter('docs', '{\"max_attempts\": 2}')"


def embed(db, culprits, max_rows=1000):
    """Claim until nothing is ready; each claim with a culprit is lost. Returns the sizes of the lost ones."""
    lost = []
    while texts := claim(db, max_rows):
        if any(one.text.endswith(culprits) for one in texts):
            lost.append(len(texts))
        else:
            submit(db, texts)
    return lost


def lease_by_lease(db, culprits, max_rows=1000):
    """Embed until no row is left; each round begins when every lease has run out."""
    rounds = [embed(db, culprits, max_rows)]
    while db.execute("SELECT count(*) FROM embed.job").fetchone() != (0,):
        let_leases_run_out(db)
        db.execute("UPDATE embed.job SET ready_at = clock_timestamp() WHERE token IS NULL")
        rounds.append(embed(db, culprits, max_rows))
    return rounds


@pytest.fixture
def docs65(db, model):
    make_docs(db, ROWS)
    db.execute("UPDATE docs SET title = NULL, body = CASE id WHEN 41 THEN 'poison' ELSE 'text ' || id END")
    db.execute(LIMIT)
    return db


def test_the_culprit_is_found_by_quarters_and_given_up(docs65):
    assert lease_by_lease(docs65, "poison") == [[65], [65], [16], [4], [1], [], [1], []]
    assert status_of(docs65, "fresh") == ROWS - 1
    failures = docs65.execute("SELECT key, attempts, message FROM embed_failures").fetchall()
    assert failures == [([41], 2, "its claim expired: the process that embeds it ended or is too slow")]
    assert docs65.execute("SELECT count(*) FROM embed.job").fetchone() == (0,)


def test_neighbours_are_fresh_before_the_culprit_is_found(docs65):
    for _ in range(3):
        embed(docs65, "poison")
        let_leases_run_out(docs65)
    assert status_of(docs65, "fresh") == ROWS - 16


def test_new_rows_are_not_claimed_with_it(docs65):
    for number in range(4):
        docs65.execute("UPDATE docs SET body = 'edit ' || %s WHERE id IN (1, 2)", (number,))
        embed(docs65, "poison")
        let_leases_run_out(docs65)
    docs65.execute("UPDATE docs SET body = 'last' WHERE id IN (1, 2)")
    assert embed(docs65, "poison") == [1]
    assert docs65.execute("SELECT count(*) FROM docs_embedding WHERE chunk LIKE '%%last'").fetchone() == (2,)


def test_several_culprits(docs65):
    docs65.execute("UPDATE docs SET body = id || ' poison' WHERE id IN (1, 2, 60)")
    assert len(lease_by_lease(docs65, "poison")) <= 10
    assert status_of(docs65, "fresh") == ROWS - 4
    assert docs65.execute("SELECT count(*) FROM embed_failures").fetchone() == (4,)


def test_a_machine_that_is_lost_costs_no_attempt_and_no_quarter(docs65):
    """Also a row that was claimed alone because the claimer asked for one."""
    assert len(claim(docs65)) == ROWS
    let_leases_run_out(docs65)
    assert len(claim(docs65, 1)) == 1
    let_leases_run_out(docs65)
    assert len(claim(docs65)) + len(claim(docs65)) == ROWS
    assert docs65.execute("SELECT max(attempts) FROM embed.job").fetchone() == (0,)


def test_what_was_submitted_or_released_is_not_lost(docs65):
    for _ in range(2):
        texts = claim(docs65, 10)
        submit(docs65, texts[:3])
        release(docs65, texts[3:6])
        let_leases_run_out(docs65)
    lost = {tuple(row[0]) for row in docs65.execute("SELECT key FROM embed.job WHERE max_batch IS NOT NULL").fetchall()}
    assert len(lost) <= 4
    assert embed(docs65, "nothing") == []
    assert left(docs65) == {}


def test_a_claim_is_counted_once(docs65):
    texts = claim(docs65)
    let_leases_run_out(docs65)
    for _ in range(5):
        release(docs65, claim(docs65))
    assert docs65.execute("SELECT DISTINCT max_batch FROM embed.job").fetchall() == [(len(texts),)]
