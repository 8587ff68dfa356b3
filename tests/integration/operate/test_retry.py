"""embed_retry requeues failed rows, to be retried immediately; it waits for no lock and loses nothing."""

import pytest

from tests.fixtures.error_checks import refused
from tests.fixtures.pipelines.documents import assert_as_source, drain_all, drain_once, rested, status_of
from tests.fixtures.roles import people
from tests.fixtures.waiting import Background

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]


@pytest.fixture
def notices(db):
    heard = []
    db.add_notice_handler(lambda notice: heard.append(notice.message_primary))
    return heard


@pytest.fixture
def poisoned(db, docs, model, provider):
    """Ten documents of which 3, 4 and 5 are dead letters; the provider is well again."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    provider.answer = lambda texts: (400, b"refused") if any(t[-1] in "345" for t in texts) else None
    drain_all(db)
    assert status_of(db, "failed") == 3
    provider.answer = None
    provider.reset()


def retry(db, *arguments):
    places = ", ".join(["%s"] * (1 + len(arguments)))
    return db.execute(f"SELECT embed_retry({places})", ("docs", *arguments)).fetchone()[0]


def test_all_dead_letters_go_back_and_are_done(db, poisoned, provider, notices):
    assert retry(db) == 3
    assert notices == ["3 rows queued; next: SELECT embed_drain('docs')"]
    assert db.execute("SELECT failed, pending FROM embed_status").fetchone() == (0, 3)
    assert db.execute("SELECT count(*) FROM embed_failures").fetchone() == (0,)
    assert drain_all(db) == 1
    assert_as_source(db)
    assert provider.sent == {f"title {i}\n\nbody {i}": 1 for i in (3, 4, 5)}


@pytest.mark.parametrize("key", ["[4]", "4", '["4"]', "4.0"])
def test_one_dead_letter_in_any_form_of_its_key(db, poisoned, provider, key):
    if key == "4.0":
        assert refused(db, "SELECT embed_retry('docs', %s)", [key]).sqlstate == "22P02"
        return
    assert retry(db, key) == 1
    drain_all(db)
    assert provider.sent == {"title 4\n\nbody 4": 1}
    assert db.execute("SELECT array_agg(key->>0 ORDER BY key) FROM embed_failures").fetchone() == (["3", "5"],)


def test_what_did_not_fail_is_not_queued(db, poisoned, notices):
    assert retry(db, "1") == 0
    assert "row [1] did not fail" in notices[-1]
    assert retry(db, "999") == 0
    retry(db)
    drain_all(db)
    assert retry(db) == 0
    assert "no row" in notices[-1]
    assert status_of(db, "pending") == 0


def test_a_failure_that_is_still_one_comes_back_with_its_attempts_counted_anew(db, poisoned, provider):
    provider.answer = lambda texts: (400, b"refused again") if "evergreen" not in texts else None
    retry(db)
    drain_all(db)
    rows = db.execute("SELECT attempts, message LIKE '%refused again%' FROM embed_failures").fetchall()
    assert rows == [(1, True)] * 3


def test_a_row_that_is_gone_meanwhile_vanishes(db, poisoned, provider):
    db.execute("DELETE FROM docs WHERE id = 3")
    retry(db)
    db.execute("DELETE FROM docs WHERE id = 4")
    drain_all(db)
    assert_as_source(db)
    assert db.execute("SELECT failed, pending, last_error FROM embed_status").fetchone() == (0, 0, None)
    assert provider.sent == {"title 5\n\nbody 5": 1}


def test_rows_that_wait_after_an_error_are_tried_at_once(db, docs, model, provider, notices):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    provider.answer = lambda _: (503, b"asleep")
    drain_once(db)
    provider.answer = None
    assert status_of(db, "pending") == 10
    assert retry(db, "7") == 1
    assert retry(db) == 10
    rested(db)
    drain_all(db)
    assert_as_source(db)


def test_a_paused_pipeline_says_what_comes_next(db, poisoned, notices):
    db.execute("SELECT embed_pause('docs')")
    assert retry(db) == 3
    assert "embed_resume('docs')" in notices[-1]


def test_many_go_to_the_backfill_lane(db, model, provider):
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text)")
    db.execute("INSERT INTO docs SELECT i, 't', 'b ' || i FROM generate_series(1, 1100) i")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    generation = db.execute("SELECT id FROM embed.generation").fetchone()[0]
    db.execute("UPDATE embed.backfill_cursor SET running = false")
    db.execute(
        """INSERT INTO embed.failure SELECT %s, jsonb_build_array(i), 'permanent', 'm', 1, now(), now()
           FROM generate_series(1, 1100) i""",
        [generation],
    )
    assert retry(db) == 1100
    provider.answer = lambda _: (503, b"asleep")
    db.execute("SELECT embed_drain(max_rows => 2000)")
    assert db.execute("SELECT DISTINCT lane FROM embed.job").fetchall() == [(1,)]


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_an_open_drain_that_holds_the_rows_is_not_waited_for(db, connect, poisoned, provider, end):
    """It has tried them again, after a touch: forgiven, not committed."""
    db.execute("SELECT embed_touch('docs', '3', '4')")
    session = connect()
    session.execute("BEGIN")
    assert session.execute("SELECT embed_drain()").fetchone() == (2,)
    short = connect(options="-c statement_timeout=3000")
    assert retry(short) == 3
    session.execute(end)
    drain_all(db)
    assert_as_source(db)
    assert db.execute("SELECT failed, pending FROM embed_status").fetchone() == (0, 0)


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_an_open_retry_keeps_nothing_from_others(db, connect, poisoned, end):
    session = connect()
    session.execute("BEGIN")
    assert retry(session) == 3
    db.execute("UPDATE docs SET body = 'edited' WHERE id IN (1, 3)")
    assert drain_once(db) == 2
    session.execute(end)
    assert status_of(db, "failed") == (0 if end == "COMMIT" else 3)
    retry(db)
    drain_all(db)
    assert_as_source(db)


def test_a_row_that_is_at_the_model_is_done_once_more(db, connect, poisoned, provider):
    db.execute("SELECT embed_touch('docs', '3')")
    provider.hold()
    provider.answer = lambda _: (400, b"refused") if len(provider.requests) == 1 else None
    work = Background(connect(), "CALL embed_work(until_empty => true)")
    provider.wait_for_requests()
    assert retry(db, "3") == 1
    provider.release()
    work.result()
    assert provider.sent["title 3\n\nbody 3"] == 2
    assert db.execute("SELECT array_agg(key->>0 ORDER BY key) FROM embed_failures").fetchone() == (["4", "5"],)
    retry(db)
    drain_all(db)
    assert_as_source(db)


@pytest.mark.parametrize(
    ("arguments", "state"),
    [(["nope"], "42704"), ([None], "42704"), (["docs", "[1, 2]"], "22023"), (["docs", "null"], "22023"),
     (["docs", '"one"'], "22P02"), (["docs", "[]"], "22023")],
)  # fmt: skip
def test_wrong_input(db, poisoned, arguments, state):
    places = ", ".join(["%s"] * len(arguments))
    assert refused(db, f"SELECT embed_retry({places})", arguments).sqlstate == state


def test_a_reader_may_not_retry(db, connect, poisoned):
    people(db)
    bob = connect("bob")
    assert refused(bob, "SELECT embed_retry('docs')", count_as=db).sqlstate == "42704"
    db.execute("GRANT SELECT ON docs TO bob")
    assert refused(bob, "SELECT embed_retry('docs')", count_as=db).sqlstate == "42501"
