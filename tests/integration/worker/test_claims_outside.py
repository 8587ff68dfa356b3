"""Compute outside, stopped in the middle of a claim or a submit, while rows change and leases run out."""

import pytest

from tests.fixtures.external_compute import Text, claim, release, statement, submit
from tests.fixtures.pipelines.documents import assert_as_source, drain_all, drain_once, verified
from tests.fixtures.stress import left
from tests.fixtures.waiting import Background, begin_to_wait, wait_until

pytestmark = pytest.mark.shared_database

CLAIM = "SELECT count(*) FROM embed_claim('docs', 100)"
STRESS = pytest.mark.stress
CLAIM_STEPS = [
    ("claim", "after"), ("insert_claimed_texts", "after"),
    *(pytest.param(*step, marks=STRESS) for step in (("mark_in_flight", "after"), ("lock_jobs", "after"))),
]  # fmt: skip
SUBMIT_STEPS = [
    ("lock_claimed_jobs", "before"), ("lock_claimed_jobs", "after"),
    *(pytest.param(*step, marks=STRESS) for step in (
        ("lock_lease", "before"), ("finish_unchanged_jobs", "before"), ("upsert_documents", "after"))),
]  # fmt: skip
MOVES = {
    "edit": "UPDATE docs SET body = body || '!'",
    "delete": "DELETE FROM docs WHERE id <= 3",
    "key change": "UPDATE docs SET id = id + 100 WHERE id <= 3",
    "truncate": "TRUNCATE docs",
}


def refill(db, name):
    """Ten rows with texts that were never seen, and their vectors still to come."""
    db.execute("DELETE FROM docs")
    db.execute("INSERT INTO docs SELECT i, %s || i, 'body' FROM generate_series(1, 10) i", (name,))


def out_of_time(db):
    """Every lease, of those who do not hold theirs just now, has run out."""
    free = "SELECT ctid FROM embed.{} FOR UPDATE SKIP LOCKED"
    for table, column in (("lease", "expires_at"), ("job", "ready_at"), ("in_flight", "expires_at")):
        db.execute(
            f"UPDATE embed.{table} SET {column} = clock_timestamp() - interval '1 s'"
            f" WHERE ctid = ANY (ARRAY({free.format(table)}))"
        )


@pytest.mark.few(1)
@pytest.mark.slow
@pytest.mark.parametrize(("query", "when"), SUBMIT_STEPS)
def test_rows_move_while_vectors_are_submitted(connect, db, pipeline, stoppable, query, when):
    mover = connect(options="-c statement_timeout=15000")
    stop = stoppable()
    for move, do in MOVES.items():
        refill(db, f"{query} {when} {move}")
        texts = claim(db)
        assert len(texts) == 10
        assert stop.parked(statement(db, texts), query, when)
        mover.execute(do)
        drain_once(mover)  # folds what it may
        stop.let_go()
        drain_all(db)
        assert_as_source(db)
        assert left(db) == {}, move


@pytest.mark.parametrize(("query", "when"), SUBMIT_STEPS)
def test_a_lease_runs_out_while_vectors_are_submitted(connect, db, pipeline, provider, stoppable, query, when):
    """The session that takes the rows over finds them changed, and a late write does not overwrite that."""
    stop = stoppable()
    refill(db, "old")
    texts = claim(db)
    assert stop.parked(statement(db, texts), query, when)
    out_of_time(db)
    db.execute("UPDATE docs SET title = 'new ' || id WHERE id <= 5")
    drain_once(connect(options="-c statement_timeout=15000"))
    db.execute("UPDATE docs SET title = 'newest' WHERE id = 1")
    stop.let_go()
    drain_all(db)
    assert_as_source(db)
    assert left(db) == {}
    assert provider.sent == dict.fromkeys(provider.sent, 1)


@pytest.mark.few(1)
@pytest.mark.slow
@pytest.mark.parametrize(("query", "when"), CLAIM_STEPS)
def test_rows_move_while_they_are_claimed(connect, db, pipeline, provider, stoppable, query, when):
    mover = connect(options="-c statement_timeout=15000")
    stop = stoppable()
    for number, (move, do) in enumerate(MOVES.items(), 1000):
        refill(db, f"{query} {when} {move}")
        assert stop.parked(CLAIM, query, when)
        mover.execute(do)
        mover.execute("INSERT INTO docs VALUES (%s, %s)", (number, f"{query} {move}"))
        drain_once(mover)
        done = mover.execute("SELECT is_stale FROM docs_embedding WHERE id = %s", (number,)).fetchone()
        assert done == (False,), "a new row has to wait for an open claim"
        assert stop.let_go()[0][0] <= 10
        out_of_time(db)
        drain_all(db)
        assert_as_source(db)
        assert left(db) == {}, move
    assert provider.sent == dict.fromkeys(provider.sent, 1)


def test_the_halves_of_a_document_come_at_once(connect, db, pipeline, stoppable):
    """Neither sees the other's vector before it is committed: the second waits, and finishes the row."""
    db.execute("SELECT embed_drop('docs')")
    db.execute("DELETE FROM docs WHERE id > 1")
    db.execute("UPDATE docs SET body = E'# a\\none\\n# b\\ntwo'")
    db.execute(
        "SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop', chunker => embed_chunk_markdown())"
    )
    one, two = claim(db)
    stop = stoppable()
    assert stop.parked(statement(db, [one]), "insert_cached", "after")
    session = connect()
    second = Background(session, statement(db, [two]))
    waits = "SELECT count(*) FROM pg_locks WHERE pid = %s AND NOT granted"
    wait_until(lambda: db.execute(waits, (second.pid,)).fetchone() == (1,) or not second.running, what="a wait")
    assert stop.let_go() == [(0,)]
    assert second.result() == [(1,)]
    assert verified(db)["fresh"] == 1
    assert left(db) == {}


def test_jobs_that_others_hold_are_theirs_at_once_when_all_vectors_have_come(connect, db, pipeline, stoppable):
    """A drain that is left open has folded a change of a claimed row: its job is locked when its vector comes."""
    refill(db, "new")
    texts = claim(db)
    db.execute("UPDATE docs SET n = n + 1, title = title || ' again' WHERE id = 1")
    open_drain = connect(autocommit=False)
    open_drain.execute("SELECT embed_drain()")
    assert submit(db, texts) == 9
    open_drain.rollback()
    assert drain_once(db) == 1
    assert_as_source(db)
    assert left(db) == {}


def test_a_wait_is_not_over_for_a_change_of_a_row_that_the_backfill_has(connect, db, docs, model, stoppable):
    """The row changes, a session waits for all changes, and only then the cursor queues it: its job is younger."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    stop, session = stoppable(), connect()
    assert stop.parked("SELECT * FROM embed_claim('docs', 9)", "claim", "after")
    db.execute("UPDATE docs SET body = 'new' WHERE id = 9")
    wait = begin_to_wait(db, session, None)
    texts = [Text(*row) for row in stop.let_go()]
    ninth = [one for one in texts if one.key == [9]]
    assert ninth[0].text.endswith("new")
    drain_once(db)  # folds the change, and does row 10
    submit(db, [one for one in texts if one.key != [9]])
    assert claim(db) == []
    assert db.execute("SELECT running FROM embed.backfill_cursor WHERE running").fetchall() == []
    assert db.execute("SELECT embed_wait('docs', '9', '0.5 s')").fetchone() == (False,)
    assert wait.running
    submit(db, ninth)
    assert wait.result() == [(True,)]


@pytest.mark.fresh_database
def test_a_generation_goes_while_texts_of_it_are_claimed(connect, db, pipeline, provider):
    """The session that retires it cannot see the uncommitted claim; its vectors then belong to no generation."""
    provider.register(db, "other")
    db.execute("SELECT embed_build('docs', model => 'other')")
    db.execute("UPDATE docs SET body = body || '?'")
    claimer, retiring = connect(autocommit=False), connect()
    texts = claim(claimer, model="other")
    retired = Background(retiring, "SELECT embed_retire('docs', 2)")
    waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = %s AND NOT granted)"
    wait_until(lambda: db.execute(waits, (retired.pid,)).fetchone() == (True,), what="the session that retires it")
    claimer.commit()
    retired.result()
    assert db.execute("SELECT count(*) FROM embed_generations WHERE generation = 2").fetchone() == (0,)
    assert submit(db, texts) == 0
    assert release(db, texts) == 0
    drain_all(db)
    assert_as_source(db)


@pytest.mark.fresh_database
def test_a_generation_goes_amid_a_claim(connect, db, pipeline, provider, stoppable):
    """Its work is already deleted when a claim finds a change that was unknown then."""
    provider.register(db, "other")
    db.execute("SELECT embed_build('docs', model => 'other')")
    drain_all(db)
    retiring, claiming = stoppable(), stoppable()
    assert retiring.parked("SELECT embed_retire('docs', 2)", "delete_work", "after")
    db.execute("UPDATE docs SET body = body || '?' WHERE id = 1")
    assert claiming.parked(
        "SELECT count(*) FROM embed_claim('docs', 9, for_model => 'other')", "find_vectors", "before"
    )
    retiring.let_go()
    assert claiming.let_go() == [(0,)]
    drain_all(db)
    assert_as_source(db)
    assert left(db) == {}
