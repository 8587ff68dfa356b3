"""Promoting and going back: one change for everybody, with a gate before it, and never a mixed vector space."""

import psycopg
import pytest

from tests.fixtures.pipelines.documents import assert_as_source, drain_all, shown
from tests.fixtures.waiting import Background, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

TWICE = "SELECT embed_promote('docs')", "SELECT embed_rollback('docs')"


@pytest.fixture
def built(db, pipeline):
    db.execute("SELECT embed_build('docs', model => 'short')")
    drain_all(db)


def dimensions(db):
    return {len(embedding) for _, embedding in shown(db).values()}


def states(db):
    return dict(db.execute("SELECT generation, state FROM embed_generations ORDER BY generation").fetchall())


def test_there_and_back(db, built, provider):
    provider.reset()
    assert dimensions(db) == {8}
    for expected, call in ((4, TWICE[0]), (8, TWICE[1]), (4, TWICE[1])):
        db.execute(call)
        assert dimensions(db) == {expected}
        assert_as_source(db)
        assert db.execute("SELECT vector_dims(embed_query('docs', 'q'))").fetchone() == (expected,)
        assert len(db.execute("SELECT embed_search('docs', 'q')").fetchall()) == 10
        assert len(db.execute("SELECT embed_search_rows(NULL::docs, 'q')").fetchall()) == 10
    assert {text for text in provider.sent if text != "q"} == set()
    assert states(db) == {1: "previous", 2: "active"}


def test_the_previous_one_is_kept_fresh(db, built):
    db.execute(TWICE[0])
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 1")
    drain_all(db)
    db.execute(TWICE[1])
    assert_as_source(db)


def test_dependents_and_prepared_statements_go_on(db, connect, built):
    db.execute("CREATE VIEW mine AS SELECT id, embedding FROM docs_embedding")
    session = connect()
    session.execute(
        "PREPARE nearest AS SELECT id, vector_dims(embedding) FROM mine"
        " ORDER BY embedding <=> embed_query('docs', 'q') LIMIT 3"
    )
    for call, expected in ((None, 8), (TWICE[0], 4), (TWICE[1], 8)):
        if call:
            db.execute(call)
        for _ in range(7):  # a generic plan, too
            assert {row[1] for row in session.execute("EXECUTE nearest").fetchall()} == {expected}


def test_below_the_gate_the_figures_are_told(db, pipeline):
    db.execute("SELECT embed_build('docs', model => 'short')")
    db.execute("SELECT embed_drain(max_rows => 6)")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=r"covers 6 of 10 rows \(0\.6000\)"):
        db.execute(TWICE[0])
    assert states(db) == {1: "active", 2: "building"}
    db.execute("SELECT embed_promote('docs', min_coverage => 0.6)")
    assert states(db) == {1: "previous", 2: "active"}
    assert len(shown(db)) == 6
    drain_all(db)
    assert_as_source(db)


@pytest.mark.fresh_database
def test_dead_letters_are_left_out(db, pipeline, provider):
    provider.answer = lambda texts: (400, b"no") if any("body 4" in text for text in texts) else None
    db.execute("SELECT embed_build('docs', model => 'short')")
    drain_all(db)
    assert db.execute("SELECT failed, coverage FROM embed_generations WHERE generation = 2").fetchone() == (1, 1.0)
    db.execute(TWICE[0])


def test_results_that_differ_too_much_are_refused(db, built):
    db.execute("INSERT INTO docs SELECT i, 'title ' || i, 'body ' || i FROM generate_series(11, 60) i")
    drain_all(db)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="below min_overlap 1"):
        db.execute("SELECT embed_promote('docs', min_overlap => 1.0)")
    overlaps = [row[0] for row in db.execute("SELECT overlap FROM embed_compare('docs', k => 3)").fetchall()]
    assert overlaps
    assert min(overlaps) < 1
    db.execute("SELECT embed_promote('docs', min_overlap => 0.0)")


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize(
    "question", ["embed_search('docs', 'q')", "embed_search_rows(NULL::docs, 'q')", "embed_query('docs', 'q')"]
)
def test_an_older_snapshot_is_told_to_try_again(db, connect, built, level, question):
    """Its catalog has the old model, and the view shows the new vectors: never one with the other."""
    session = connect(autocommit=False)
    session.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
    session.execute(f"SELECT {question}").fetchall()
    session.rollback()
    session.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
    session.execute("SELECT count(*) FROM docs")
    db.execute(TWICE[0])
    with pytest.raises(psycopg.errors.SerializationFailure, match="promoted since"):
        session.execute(f"SELECT {question}")
    session.rollback()
    session.execute(f"SELECT {question}").fetchall()


def test_a_reader_in_a_transaction_holds_the_switch_up_and_nobody_else(db, connect, built):
    reader, other = connect(autocommit=False), connect()
    reader.execute("SELECT count(*) FROM docs_embedding")
    promote = Background(connect(), TWICE[0])
    other.execute("SET statement_timeout = '5 s'")
    for _ in range(20):
        other.execute("SELECT count(*) FROM docs_embedding").fetchone()
        other.execute("SELECT * FROM embed_search('docs', 'q')").fetchall()
    assert promote.running
    reader.commit()
    promote.result()
    assert dimensions(db) == {4}


@pytest.mark.parametrize("call", TWICE)
def test_a_cancelled_or_terminated_switch_did_not_happen(db, connect, built, call):
    if call == TWICE[1]:
        db.execute(TWICE[0])
    before = states(db), dimensions(db)
    for how in ("pg_cancel_backend", "pg_terminate_backend"):
        reader = connect(autocommit=False)
        reader.execute("SELECT count(*) FROM docs_embedding")
        switch = Background(connect(), call)
        wait_until(
            lambda pid=switch.pid: (
                db.execute(
                    "SELECT count(*) FROM pg_locks WHERE pid = %s AND relation = 'embed.generation'::regclass", (pid,)
                ).fetchone()
                != (0,)
            )
        )
        db.execute(f"SELECT {how}(%s)", (switch.pid,))
        with pytest.raises(psycopg.OperationalError):
            switch.result()
        reader.rollback()
        assert (states(db), dimensions(db)) == before


@pytest.mark.fresh_database
def test_two_promotions_at_once_are_one(db, connect, built):
    reader = connect(autocommit=False)
    reader.execute("SELECT count(*) FROM docs_embedding")
    both = [Background(connect(), TWICE[0]) for _ in range(2)]
    wait_until(lambda: sum(one.running for one in both) == 1, what="one to be refused")
    reader.rollback()
    outcomes = []
    for one in both:
        try:
            one.result()
            outcomes.append("promoted")
        except psycopg.Error as error:
            outcomes.append(error.sqlstate)
    assert sorted(outcomes) in (["55000", "promoted"], ["55P03", "promoted"])
    assert states(db) == {1: "previous", 2: "active"}


def test_full_coverage_can_be_reached_under_steady_writes(db, connect, built):
    """Rows that come in just now are in one generation first; promoting waits for a moment without such."""
    worker, writer = connect(), connect()
    work = Background(worker, "CALL embed_work(max_runtime => '60 s')")
    write = Background(
        writer,
        """DO $$ BEGIN FOR i IN 1..100000 LOOP
             INSERT INTO docs VALUES (1000 + i, 'title', 'body ' || i); COMMIT; PERFORM pg_sleep(0.02);
           END LOOP; END $$""",
    )
    wait_until(lambda: db.execute("SELECT count(*) > 20 FROM docs_embedding").fetchone()[0], what="new rows")
    db.execute(TWICE[0])
    assert write.running
    for session, running in ((writer, write), (worker, work)):
        session.cancel()
        with pytest.raises(psycopg.errors.QueryCanceled):
            running.result()
    drain_all(db)
    assert_as_source(db)


def test_a_switch_before_the_index_is_there_says_so(db, connect, pipeline):
    """The kind: searches become slow, in silence, by a switch to a generation without its index, forth or back."""
    db.execute("SELECT embed_setting('index_from', '5')")
    heard = []
    db.add_notice_handler(lambda notice: heard.append(notice.message_primary))
    db.execute("SELECT embed_build('docs', model => 'new')")
    db.execute("SELECT embed_drain()")
    for call in ("embed_promote", "embed_rollback"):
        heard.clear()
        db.execute(f"SELECT {call}('docs')")
        assert "has no HNSW index yet" in heard[-1]
        assert "10 vectors" in heard[-1]
        assert heard[-1].endswith("about 1 s")
    worker = connect()
    worker.execute("CALL embed_work(until_empty => true)")
    heard.clear()
    db.execute("SELECT embed_rollback('docs')")
    db.execute("SELECT embed_rollback('docs')")
    assert not [said for said in heard if "generation 1 has no HNSW" in said]
    db.execute("SELECT embed_setting('index_from', '100')")
    heard.clear()
    db.execute("SELECT embed_rollback('docs')")
    assert not [said for said in heard if "HNSW" in said]
