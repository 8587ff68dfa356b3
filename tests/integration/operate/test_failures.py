"""embed_failures lists dead letters, to those who administer the pipeline."""

import pytest

from tests.fixtures.roles import people

pytestmark = pytest.mark.shared_database

COLUMNS = "pipeline, key, class, attempts, message"


def failures(db):
    return db.execute(f"SELECT {COLUMNS} FROM embed_failures ORDER BY key").fetchall()


@pytest.fixture
def pipeline(db, docs, model):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")


def test_a_refused_text_is_a_dead_letter_with_the_models_words(db, pipeline, provider):
    provider.answer = lambda texts: (400, b"no poison, please") if "body 5" in texts else None
    db.execute("SELECT embed_drain()")
    [(name, key, kind, attempts, message)] = failures(db)
    assert (name, key, kind, attempts) == ("docs", [5], "permanent", 1)
    assert "no poison, please" in message
    first = db.execute("SELECT first_at = last_at, last_at > now() - interval '1 min' FROM embed_failures").fetchone()
    assert first == (True, True)
    db.execute("SELECT embed_touch('docs', '5'), embed_drain()")
    db.execute("SELECT embed_drain()")
    assert db.execute("SELECT count(*), bool_and(first_at < last_at) FROM embed_failures").fetchone() == (1, True)
    db.execute("UPDATE docs SET body = 'wholesome' WHERE id = 5")
    db.execute("SELECT embed_drain()")
    assert failures(db) == []


def test_rows_that_wait_are_no_dead_letters_and_status_says_why_they_wait(db, pipeline, provider):
    provider.answer = lambda _: (503, b"asleep")
    db.execute("SELECT embed_drain()")
    assert failures(db) == []
    failed, pending, error = db.execute("SELECT failed, pending, last_error FROM embed_status").fetchone()
    assert (failed, pending) == (0, 10)
    assert "asleep" in error


def test_only_those_who_administer_the_pipeline_see_them(db, connect, provider):
    people(db)
    provider.register(db)
    db.execute("CREATE TABLE alice.docs (id int PRIMARY KEY, body text)")
    db.execute("ALTER TABLE alice.docs OWNER TO alice")
    db.execute("INSERT INTO alice.docs VALUES (1, 'secret')")
    db.execute("SELECT embed_create('docs', 'alice.docs', columns => '{body}', model => 'loop')")
    provider.answer = lambda texts: (400, b"cannot embed secret") if "secret" in texts else None
    db.execute("SELECT embed_drain()")
    db.execute("GRANT SELECT ON alice.docs TO bob")
    seen = {who: len(failures(connect(who))) for who in ("alice", "deputy", "the_admin", "bob", "the_payer")}
    assert seen == {"alice": 1, "deputy": 1, "the_admin": 1, "bob": 0, "the_payer": 0}
    bob = connect("bob")
    heard = []
    bob.add_notice_handler(lambda notice: heard.append(notice.message_primary))
    bob.execute(
        """CREATE FUNCTION pg_temp.leak(t text) RETURNS bool LANGUAGE plpgsql COST 0.0001
           AS $$BEGIN RAISE NOTICE '%', t; RETURN true; END$$"""
    )
    bob.execute("SELECT count(*) FROM embed_failures WHERE pg_temp.leak(message)")
    assert heard == []
