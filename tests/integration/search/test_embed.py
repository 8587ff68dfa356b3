"""embed and embed_query: whose model, whose money, which errors."""

import pytest
from psycopg import Error, errors

from tests.fixtures.error_checks import fault
from tests.fixtures.roles import hash_model, people

pytestmark = pytest.mark.shared_database


@pytest.mark.slow
def test_a_model_that_may_cost_money_needs_embed_user(db, connect, docs, model):
    people(db)
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
    db.execute("GRANT SELECT ON docs TO bob")
    with pytest.raises(errors.InsufficientPrivilege) as caught:
        connect("bob").execute("SELECT embed('q', 'loop')")
    assert fault(caught.value) is None
    assert "loop" in caught.value.diag.message_primary
    for role, statement in (
        ("the_payer", "SELECT embed('q', 'loop')"),
        ("the_admin", "SELECT embed('q', 'loop')"),
        ("bob", "SELECT embed('q', 'wordllama-64')"),
        ("bob", "SELECT embed_query('docs', 'q')"),
    ):
        assert connect(role).execute(statement).fetchone()[0] is not None


def test_a_denied_text_is_not_sent(db, connect, model, provider):
    people(db)
    db.execute("SELECT embed('q', 'loop')")
    provider.reset()
    with pytest.raises(errors.InsufficientPrivilege):
        connect("bob").execute("SELECT embed('q', 'loop')")
    assert not provider.sent


def test_what_one_role_asked_is_not_remembered_for_another(db, connect, model):
    """One session, as behind a connection pool: the memory of answers is no way round the right to ask."""
    people(db)
    session = connect()
    session.execute("SELECT embed('secret question', 'loop')")
    session.execute("SET ROLE bob")
    with pytest.raises(errors.InsufficientPrivilege):
        session.execute("SELECT embed('secret question', 'loop')")


def test_a_question_has_the_query_prompt_and_a_document_the_other(db, docs, provider):
    provider.register(db, "prompted", document_prompt="passage: ", query_prompt="query: ")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'prompted')")
    db.execute("SELECT embed_drain()")
    assert all(text.startswith("passage: body") for text in provider.sent)
    assert db.execute("SELECT chunk FROM docs_embedding WHERE id = 1").fetchone() == ("body 1",)
    provider.reset()
    db.execute("SELECT embed_query('docs', 'q')")
    assert list(provider.sent) == ["query: q"]


@pytest.mark.fresh_database
def test_a_model_that_refuses_is_a_proper_error(db, docs, model, provider):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
    for status in (400, 401, 429, 500):
        provider.answer = lambda _, status=status: (status, b'{"error": "no"}')
        for call in ("embed_query('docs', 'q')", "embed('q', 'loop')", "embed_search('docs', 'q')"):
            with pytest.raises(Error) as caught:
                db.execute(f"SELECT {call}")
            assert caught.value.sqlstate == "58000"
            assert fault(caught.value) is None
            assert str(status) in caught.value.diag.message_primary
    provider.answer = None
    assert db.execute("SELECT embed_query('docs', 'q')").fetchone()[0] is not None  # a failure is not remembered


@pytest.mark.fresh_database
def test_a_model_of_other_dimensions_than_registered_is_an_error(db, model, provider):
    provider.dimensions = 5
    with pytest.raises(Error) as caught:
        db.execute("SELECT embed('q', 'loop')")
    assert fault(caught.value) is None
    assert "5" in caught.value.diag.message_primary


def test_the_free_models_give_unit_vectors_of_their_size(db):
    hash_model(db, "hash33", 33)
    for name, size in (("wordllama-256", 256), ("wordllama-128", 128), ("wordllama-64", 64), ("hash33", 33)):
        row = db.execute("SELECT vector_dims(e), vector_norm(e) FROM embed('a sentence', %s) e", [name]).fetchone()
        assert row == (size, pytest.approx(1, abs=1e-5))
