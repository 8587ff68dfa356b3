"""embed_estimate says what the provider is then really sent; it calls no model and changes nothing."""

import pytest

from tests.fixtures.error_checks import everything, refused
from tests.fixtures.pipelines.documents import assert_as_source, drain_all, drain_once, rested
from tests.fixtures.roles import hash_model, people
from tests.fixtures.waiting import Background

pytestmark = pytest.mark.shared_database


def estimate(db, pipeline="docs"):
    """(texts, tokens, calls, cost, seconds)"""
    return db.execute("SELECT texts, tokens, calls, cost, seconds FROM embed_estimate(%s)", [pipeline]).fetchone()


def tokens_of(sent):
    return sum(len(text) // 4 + 1 for text in sent)


@pytest.fixture
def holds(db, provider):
    """Estimates, drains, and compares with what the provider got."""

    def check():
        before = everything(db)
        said = estimate(db)
        assert everything(db) == before
        provider.reset()
        drain_all(db)
        assert said[:2] == (provider.sent.total(), tokens_of(provider.sent.elements()))
        assert len(provider.requests) <= said[2]
        assert estimate(db)[:4] == (0, 0, 0, 0.0)
        assert_as_source(db)
        return said

    return check


@pytest.fixture
def pipeline(db, docs, provider):
    provider.register(db, inputs=4, price=2.0)
    db.execute("UPDATE docs SET title = 'the', body = 'same' WHERE id IN (2, 3, 4)")
    db.execute("UPDATE docs SET title = NULL, body = ' ' WHERE id = 5")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")


def test_a_new_pipeline_with_duplicates(pipeline, holds):
    texts, tokens, calls, cost, seconds = holds()
    assert (texts, calls) == (7, 2)
    assert cost == pytest.approx(tokens * 2e-6)
    assert seconds > 0


def test_edits_and_reverts(db, pipeline, holds):
    drain_all(db)
    assert estimate(db) == (0, 0, 0, 0, 0)
    db.execute("UPDATE docs SET body = 'edited ' || id WHERE id > 6")
    db.execute("UPDATE docs SET n = n + 1; DELETE FROM docs WHERE id = 1")
    db.execute("INSERT INTO docs VALUES (11, 'the', 'same'), (12, 'brand', 'new')")
    assert holds()[0] == 5
    db.execute("UPDATE docs SET body = 'body ' || id WHERE id > 6 AND id < 11")
    assert holds()[0] == 0


@pytest.mark.slow
def test_what_waits_after_an_error_and_what_was_given_up(db, pipeline, provider):
    drain_all(db)
    db.execute("UPDATE docs SET body = 'edited ' || id")
    provider.answer = lambda _: (503, b"asleep")
    drain_once(db)
    provider.answer = lambda texts: (400, b"poison") if any("edited 7" in t for t in texts) else None
    assert estimate(db)[0] == 10
    rested(db)
    db.execute("SELECT embed_retry('docs')")
    drain_all(db)
    assert db.execute("SELECT failed FROM embed_status").fetchone() == (1,)
    assert estimate(db)[0] == 0
    db.execute("SELECT embed_retry('docs')")
    assert estimate(db)[0] == 1


@pytest.mark.slow
def test_a_running_backfill_without_what_a_worker_has(db, connect, model, provider):
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text)")
    db.execute("INSERT INTO docs SELECT i, 'title', 'body ' || i FROM generate_series(1, 2500) i")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    drain_once(db)
    assert estimate(db)[0] == 1500
    provider.reset()
    provider.hold()
    work = Background(connect(), "CALL embed_work(until_empty => true)")
    provider.wait_for_requests()
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 1")

    def said_and_left():
        under_way = db.execute("SELECT count(*) FROM embed.job WHERE token IS NOT NULL").fetchone()[0]
        return estimate(db)[0], 1500 - under_way + 1

    said, left = said_and_left()
    for _ in range(20):  # the worker claims on while its first batch is held
        said, left = said_and_left()
        if said == left:
            break
    assert said == left
    provider.release()
    work.result()
    assert provider.sent.total() == 1501
    assert estimate(db)[0] == 0


def test_texts_that_another_pipeline_has_cost_nothing(db, pipeline, provider):
    drain_all(db)
    db.execute("CREATE TABLE notes AS SELECT * FROM docs; ALTER TABLE notes ADD PRIMARY KEY (id)")
    db.execute("INSERT INTO notes VALUES (99, 'a', 'new one')")
    db.execute("SELECT embed_create('notes', 'notes', columns => '{title,body}', model => 'loop')")
    assert estimate(db, "notes")[:3] == (1, 3, 1)


@pytest.mark.stress
@pytest.mark.slow
def test_of_more_than_some_thousand_rows_a_sample_speaks_for_the_rest(db):
    hash_model(db)
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text)")
    db.execute("INSERT INTO docs SELECT i, 'body ' || i FROM generate_series(1, 12000) i")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')")
    assert estimate(db)[0] == 12000
    db.execute("SELECT embed_drain(max_rows => 2000)")
    assert estimate(db)[0] == 10000
    drain_all(db)
    db.execute("UPDATE docs SET body = 'other ' || id WHERE id % 2 = 0")
    db.execute("UPDATE docs SET body = body || '!'")
    assert estimate(db)[0] == 12000
    drain_all(db)
    assert estimate(db) == (0, 0, 0, 0, 0)


@pytest.mark.slow
def test_cost_and_seconds(db, docs, provider):
    provider.register(db, "unpriced")
    provider.register(db, "slow", inputs=1, price=1.0)
    db.execute("SELECT embed_endpoint_set('slow', %s, options => '{\"requests_per_minute\": 2}')", [provider.url])
    for name in ("unpriced", "slow", "wordllama-64"):
        db.execute("SELECT embed_create(%s, 'docs', columns => '{body}', model => %s)", [name, name])
    assert estimate(db, "unpriced")[:4] == (10, 20, 1, None)
    assert estimate(db, "slow")[:4] == (10, 20, 10, pytest.approx(20e-6))
    assert estimate(db, "slow")[4] >= 300
    assert estimate(db, "wordllama-64")[3] == 0


@pytest.mark.slow
def test_over_long_texts_are_not_sent(db, docs, provider):
    provider.register(db, input_tokens=5)
    db.execute("UPDATE docs SET body = repeat('word ', 50) WHERE id = 1")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
    assert estimate(db)[0] == 9
    db.execute("""SELECT embed_alter('docs', '{"on_too_long": "truncate"}')""")
    assert estimate(db)[0] == 10


@pytest.mark.slow
def test_nobody_waits_for_an_estimate_that_is_left_open(db, connect, pipeline, provider):
    session = connect()
    session.execute("BEGIN")
    assert estimate(session)[0] == 7
    owner = connect(options="-c lock_timeout=1000")
    owner.execute("ALTER TABLE docs ADD COLUMN extra int")
    owner.execute("UPDATE docs SET body = 'edited' WHERE id = 1")
    drain_all(owner)
    assert_as_source(db)
    assert provider.sent.total() == 7
    session.execute("COMMIT")


@pytest.mark.slow
def test_wrong_input_and_rights(db, connect, pipeline):
    assert refused(db, "SELECT embed_estimate('nope')").sqlstate == "42704"
    assert refused(db, "SELECT embed_estimate(NULL)").sqlstate == "42704"
    people(db)
    bob = connect("bob")
    assert refused(bob, "SELECT embed_estimate('docs')", count_as=db).sqlstate == "42704"
    db.execute("GRANT SELECT ON docs TO bob")
    assert refused(bob, "SELECT embed_estimate('docs')", count_as=db).sqlstate == "42501"
    db.execute("ALTER TABLE docs DROP COLUMN body")
    assert refused(db, "SELECT embed_estimate('docs')").sqlstate == "55000"
