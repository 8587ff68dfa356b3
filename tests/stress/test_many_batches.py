"""Many batches of one worker are at the model at once, while the source, the pipelines and the sessions move on."""

import psycopg
import pytest

from tests.fixtures.pipelines.documents import assert_as_source, drain_all, shown, source_texts
from tests.fixtures.stress import Counting, finish, left, locks, make_docs
from tests.fixtures.waiting import Background, wait_until

pytestmark = pytest.mark.stress

LONG = "CALL embed_work(max_runtime => '20 s', until_empty => true)"
XMIN = "SELECT backend_xmin FROM pg_stat_activity WHERE pid = %s"


@pytest.fixture
def small(db, provider):
    """A model that takes two texts a request and four requests at once."""
    provider.register(db, endpoint={"max_in_flight": 4}, inputs=2)


def batches(db):
    """Claims under way."""
    return db.execute("SELECT count(*) FROM embed.lease").fetchone()[0]


@pytest.fixture
def three_out(connect, db, provider, small):
    """Table docs and notes, a pipeline each and one more of docs; a worker with a batch of each at the held model."""

    def start(call=LONG):
        db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text, n int NOT NULL DEFAULT 0)")
        db.execute("INSERT INTO docs SELECT i, 'title', 'text ' || i FROM generate_series(1, 6) i")
        db.execute("CREATE TABLE notes (id int PRIMARY KEY, title text, body text, n int NOT NULL DEFAULT 0)")
        db.execute("INSERT INTO notes SELECT i, 'title', 'text ' || i + 3 FROM generate_series(1, 6) i")
        for name, source in (("docs", "docs"), ("notes", "notes"), ("again", "docs")):
            db.execute(
                "SELECT embed_create(%s, %s::regclass, columns => '{title,body}', model => 'loop')", (name, source)
            )
        provider.hold()
        session = connect()
        work = Background(session, call)
        if "embed_work" in call:
            wait_until(lambda: batches(db) == 3, what="three claims")
        provider.wait_for_requests(4)
        return session, work

    return start


def is_well(db, names=("docs", "notes", "again")):
    """Everything is fresh, and nothing is left."""
    finish(db)
    for name in names:
        assert_as_source(db, name, "docs" if name == "again" else name)
    assert locks(db) == []
    assert left(db).keys() <= {"lease"}


def test_texts_of_several_batches_are_sent_once(db, provider, three_out):
    _, work = three_out()
    provider.release()
    work.result()
    is_well(db)
    assert provider.sent == dict.fromkeys({f"title\n\ntext {i}" for i in range(1, 10)}, 1)
    assert left(db) == {}


MOVES = {
    "edited": ["UPDATE docs SET body = 'new ' || id", "UPDATE notes SET body = 'new ' || id"],
    "swapped": ["UPDATE docs SET body = 'text ' || 7 - id"],
    "deleted": ["DELETE FROM docs WHERE id < 4", "DELETE FROM notes"],
    "keys changed": ["UPDATE docs SET id = id + 100", "UPDATE notes SET id = id + 3 WHERE id > 3"],
    "truncated": ["TRUNCATE docs, notes"],
    "truncated and filled": ["TRUNCATE docs", "INSERT INTO docs VALUES (1, 'title', 'text 5')"],
    "column renamed": ["ALTER TABLE docs RENAME body TO content", "ALTER TABLE docs RENAME content TO body"],
    "type changed": ["ALTER TABLE docs ALTER body TYPE varchar", "UPDATE docs SET body = 'typed' WHERE id = 2"],
    "table renamed": [
        "ALTER TABLE docs RENAME TO other",
        "UPDATE other SET body = 'x'",
        "ALTER TABLE other RENAME TO docs",
    ],
    "paused": [
        "SELECT embed_pause('docs')",
        "UPDATE docs SET body = 'paused' WHERE id = 1",
        "SELECT embed_resume('docs')",
    ],
    "altered": ['SELECT embed_alter(\'docs\', \'{"max_attempts": 2, "live_share": 0.5, "daily_tokens": 100000}\')'],
    "forgotten": ["SELECT embed_forget('docs', '1')", "SELECT embed_forget('notes', '1')"],
    "retried": ["SELECT embed_retry('docs')", "SELECT embed_retry('notes', '1')", "SELECT embed_touch('again', '2')"],
    "verified": ["SELECT embed_verify('docs', repair => true)", "SELECT embed_verify('notes', repair => true)"],
}


@pytest.mark.parametrize("call", [LONG, "SELECT embed_drain()"])
@pytest.mark.parametrize("move", MOVES)
def test_the_world_moves_on_while_they_are_out(connect, db, provider, three_out, call, move):
    """No statement waits for the model, and in the end all is as it should be."""
    _, work = three_out(call)
    if "drain" in call and move == "forgotten":
        with pytest.raises(psycopg.errors.LockNotAvailable):
            db.execute("SELECT embed_forget('docs', '1')")
    else:
        owner = connect(options="-c statement_timeout=5000 -c lock_timeout=2000")
        for statement in MOVES[move]:
            owner.execute(statement)
    assert work.running
    provider.release()
    work.result()
    is_well(db)


@pytest.mark.parametrize("dropped", ["docs", "notes", "again"])
def test_a_pipeline_is_dropped_whose_texts_others_wait_for(db, provider, three_out, dropped):
    """Its order is on its way, and the orders of others follow it."""
    _, work = three_out()
    db.execute("SELECT embed_drop(%s)", (dropped,))
    provider.release()
    work.result()
    is_well(db, {"docs", "notes", "again"} - {dropped})
    assert provider.sent.total() == len(provider.sent)
    assert len(provider.sent) <= 9


@pytest.mark.parametrize("call", ["CALL embed_work(max_runtime => '3 s')", "SELECT embed_drain(max_runtime => '3 s')"])
def test_the_time_is_up_while_they_are_out(connect, db, provider, three_out, call):
    """What is out comes in and is used; what was not sent is not."""
    session, work = three_out(call)
    db.execute("SELECT pg_sleep(3.2)")
    assert work.running
    provider.release()
    work.result()
    assert len(provider.requests) == 4
    assert provider.sent.total() <= 8
    used = {chunk for name in ("docs", "notes", "again") for chunk, _ in shown(db, name).values()}
    assert used == set(provider.sent)
    assert left(db).keys() <= {"job", "change_log"}
    db.execute("UPDATE embed.job SET ready_at = clock_timestamp()")
    session.execute(call)
    is_well(db)
    assert provider.sent.total() == len(provider.sent)


@pytest.mark.parametrize("call", [LONG, "SELECT embed_drain()"])
def test_a_cancelled_session_works_on(db, provider, three_out, call):
    session, work = three_out(call)
    session.cancel()
    with pytest.raises(psycopg.errors.QueryCanceled):
        work.result(5)
    assert locks(db) == []
    provider.release()
    assert session.execute("SELECT embed_drain()").fetchone() == (18,)
    session.execute(LONG)
    is_well(db)


def test_no_snapshot_is_held_while_they_are_out(db, provider, three_out):
    _, work = three_out()

    def quiet():
        return db.execute(XMIN, (work.pid,)).fetchone() == (None,)

    for _ in range(3):  # the first steps and the first requests of a session take their time
        db.execute("SELECT pg_sleep(0.3)")
        wait_until(quiet, what="no snapshot")
    seen = [quiet() for _ in range(300)]
    assert sum(seen) > 240, "a snapshot is held for longer than the steps take"
    provider.release()
    work.result()
    is_well(db)


def test_a_drain_in_an_exception_block_is_undone_and_done_again(connect, db, provider, small):
    make_docs(db, 20)
    db.execute("""
        DO $$
        BEGIN
            BEGIN
                PERFORM embed_drain();
                RAISE 'no';
            EXCEPTION WHEN raise_exception THEN NULL;
            END;
            BEGIN
                PERFORM embed_drain(max_rows => 5);
            EXCEPTION WHEN OTHERS THEN RAISE;
            END;
            UPDATE docs SET body = 'inside' WHERE id = 3;
            PERFORM embed_drain();
        END $$""")
    is_well(db, ["docs"])


def test_savepoints_around_drains(connect, db, provider, small):
    make_docs(db, 20)
    session = connect()
    session.execute("BEGIN")
    session.execute("SAVEPOINT one")
    assert session.execute("SELECT embed_drain(max_rows => 8)").fetchone() == (8,)
    session.execute("SAVEPOINT two")
    assert session.execute("SELECT embed_drain(max_rows => 8)").fetchone() == (8,)
    session.execute("ROLLBACK TO two")
    assert session.execute("SELECT embed_drain()").fetchone() == (12,)
    session.execute("ROLLBACK TO one")
    session.execute("UPDATE docs SET body = 'after it' WHERE id = 2")
    assert session.execute("SELECT embed_drain(max_rows => 4)").fetchone() == (4,)
    session.execute("COMMIT")
    is_well(db, ["docs"])


def test_a_late_vector_of_a_claim_that_was_lost_is_kept(connect, db, provider, three_out):
    """All leases end while three batches are out; others do the rows with other texts; then the first come back."""
    _, work = three_out()
    db.execute("UPDATE docs SET body = 'new ' || id")
    db.execute("UPDATE notes SET body = 'new ' || id")
    db.execute("UPDATE embed.lease SET expires_at = clock_timestamp() - interval '1 s'")
    db.execute("UPDATE embed.job SET ready_at = clock_timestamp() - interval '1 s', token = NULL")
    provider.release()
    work.result()
    is_well(db)
    sent = provider.sent.copy()
    db.execute("UPDATE docs SET body = 'text ' || id")
    db.execute("UPDATE notes SET body = 'text ' || id + 3")
    is_well(db)
    assert {text: count for text, count in provider.sent.items() if count > 1} == {}
    assert set(sent) >= {f"title\n\ntext {i}" for i in range(1, 10)}


def test_a_claim_that_was_lost_in_part_leaves_no_lease(connect, db, provider, small):
    make_docs(db, 10)
    provider.hold()
    work = Background(connect(), LONG)
    provider.wait_for_requests()
    other = connect(autocommit=False)
    other.execute("SELECT FROM embed.job WHERE key = '[1]' FOR UPDATE")
    provider.release()
    wait_until(lambda: len(shown(db)) == 9, what="the others")
    other.rollback()
    work.result()
    finish(db)
    assert_as_source(db)
    assert left(db) == {}


def test_no_more_requests_than_allowed_and_more_than_one(connect, db, provider):
    """Five thousand rows, a hundred a request."""
    provider.register(db, endpoint={"max_in_flight": 8}, inputs=100)
    counting = Counting(provider, pause=0.01)
    make_docs(db, 5000)
    db.execute(LONG)
    assert 2 <= counting.most <= 8
    assert provider.sent == dict.fromkeys(source_texts(db).values(), 1)
    assert left(db) == {}


@pytest.mark.parametrize("call", [LONG, "SELECT embed_drain(max_rows => 5000)"])
def test_claims_go_on_while_requests_are_out(connect, db, provider, call):
    """The model is held: more than one batch is claimed and sent. What it has answered before says how fast it is."""
    provider.register(db, endpoint={"max_in_flight": 8}, inputs=1000)
    make_docs(db, 5000)
    db.execute("SELECT embed_drain(max_rows => 1)")
    provider.hold()
    work = Background(connect(), call)
    provider.wait_for_requests(4)
    provider.release()
    work.result()
    drain_all(db)
    assert provider.sent == dict.fromkeys(source_texts(db).values(), 1)
