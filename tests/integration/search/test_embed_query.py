"""embed_query in the view's ORDER BY: what a session remembers is what a look-up would give."""

import pytest
from psycopg import errors

from tests.fixtures.pipelines.documents import drain_all
from tests.fixtures.roles import hash_model, people

pytestmark = pytest.mark.shared_database

NEAREST = "SELECT key FROM docs_embedding ORDER BY embedding <=> embed_query('docs', 'a question') LIMIT 3"


@pytest.fixture
def asked(db, docs, provider):
    """Two models whose vectors differ, the second one in a generation that may be promoted."""
    provider.register(db, "loop")
    hash_model(db, "other", 16)
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
    drain_all(db)
    db.execute("SELECT embed_build('docs', model => 'other')")
    drain_all(db)


def nearest_by(db, model):
    """What the question of a model finds."""
    query = "SELECT key FROM docs_embedding ORDER BY embedding <=> (SELECT embed('a question', %s)) LIMIT 3"
    return db.execute(query, (model,)).fetchall()


def test_a_question_that_is_remembered_has_the_same_vector(db, asked):
    """The second call reads it from other text than the first."""
    for question in ("a question", "another", ""):
        (expected,) = db.execute("SELECT embed(%s, 'loop')", (question,)).fetchone()
        found = [db.execute("SELECT embed_query('docs', %s)", (question,)).fetchone()[0] for _ in range(3)]
        assert found == [expected] * 3


def test_a_question_that_is_remembered_follows_a_promotion_at_once(db, asked):
    """In the same transaction, by a prepared statement, and back."""
    db.execute(f"PREPARE nearest AS {NEAREST}")
    for _ in range(7):  # a generic plan from the sixth time on
        assert db.execute("EXECUTE nearest").fetchall() == nearest_by(db, "loop")
    with db.transaction(force_rollback=True):
        db.execute("SELECT embed_promote('docs')")
        assert db.execute("EXECUTE nearest").fetchall() == nearest_by(db, "other")
        assert db.execute(NEAREST).fetchall() == nearest_by(db, "other")
    db.execute(f"PREPARE again AS {NEAREST}")  # the client has deallocated the other one with the rollback
    for _ in range(7):
        assert db.execute("EXECUTE again").fetchall() == nearest_by(db, "loop")
    db.execute("SELECT embed_promote('docs')")
    assert db.execute("EXECUTE again").fetchall() == nearest_by(db, "other")
    db.execute("SELECT embed_rollback('docs')")
    assert db.execute("EXECUTE again").fetchall() == nearest_by(db, "loop")


def test_another_roles_question_is_not_remembered(db, asked):
    people(db)
    db.execute(NEAREST)
    db.execute("SET ROLE bob")
    with pytest.raises(errors.Error) as caught:
        db.execute("SELECT embed_query('docs', 'a question')")
    assert caught.value.sqlstate == "42704", "bob may not see the pipeline"
    db.execute("RESET ROLE; GRANT SELECT ON docs TO bob; SET ROLE bob")
    assert len(db.execute(NEAREST).fetchall()) == 3
    db.execute("RESET ROLE; REVOKE SELECT ON docs FROM bob; SET ROLE bob")
    with pytest.raises(errors.Error):
        db.execute("SELECT embed_query('docs', 'a question')")


def test_a_question_is_remembered_under_the_pipelines_name_only_while_it_is_the_same(db, asked):
    before = db.execute("SELECT embed_query('docs', 'a question')::text").fetchone()
    db.execute("SELECT embed_drop('docs')")
    with pytest.raises(errors.UndefinedObject):
        db.execute("SELECT embed_query('docs', 'a question')")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'other')")
    after = db.execute("SELECT embed_query('docs', 'a question')::text").fetchone()
    assert after != before
    assert after == db.execute("SELECT embed('a question', 'other')::text").fetchone()
