"""A hybrid search whose question cannot be embedded goes on by keyword with a WARNING (01000), whatever the reason.

The kind: half of what a search needs is away, and the other half is enough. In vector mode, and for rows, the error's
HINT names that search. What is no failure of the model (a cancel, a time-out of the statement) is an error as ever.
"""

import time

import psycopg
import pytest
from psycopg import errors

from tests.fixtures.pipelines.documents import drain_all
from tests.fixtures.pipelines.endpoints import change, create, rest_longer, serve
from tests.fixtures.providers import faults

pytestmark = pytest.mark.slow

HYBRID = "SELECT key FROM embed_search('docs', %s, mode => 'hybrid')"


@pytest.fixture
def searchable(db, docs, provider):
    """Ten documents behind a model that answers within half a second or not at all."""
    serve(db, provider, total_timeout=0.5)
    create(db, language="english")
    drain_all(db)
    provider.reset()
    return provider


def heard(session, statement, parameters=()):
    """Run a statement; return its rows and the warnings."""
    said = []

    def hear(told):
        said.append((told.severity, told.sqlstate, told.message_primary, told.message_hint))

    session.add_notice_handler(hear)
    rows = session.execute(statement, parameters).fetchall()
    session.remove_notice_handler(hear)
    return rows, said


def by_words(db, session=None, question="title 7"):
    """A hybrid search that finds its row by its words, and warns once; returns the warning's message."""
    rows, said = heard(session or db, HYBRID, (question,))
    assert ([7],) in rows
    ((severity, sqlstate, message, hint),) = said
    assert (severity, sqlstate) == ("WARNING", "01000")
    assert '"loop"' in message
    assert hint
    return message


BROKEN = {
    "500": lambda provider: provider.fail(faults.status(500, b"title 7 is what you asked")),
    "refused": lambda provider: provider.fail(faults.status(400, b"title 7 is no question")),
    "unauthorized": lambda provider: provider.fail(faults.status(401, b"who are you")),
    "reset": lambda provider: provider.fail(faults.reset()),
    "html": lambda provider: provider.fail(faults.html()),
    "zeros": lambda provider: provider.fail(faults.each(lambda _: [0.0] * 8)),
    "silence": lambda provider: provider.hold(),
}


@pytest.mark.few(2)
@pytest.mark.parametrize("name", BROKEN)
def test_whatever_the_server_does(db, searchable, name):
    BROKEN[name](searchable)
    message = by_words(db)
    assert "title 7" not in message  # it stands in the server's log, too
    searchable.mend()
    searchable.release()
    assert heard(db, HYBRID, ("title 7",))[1] == []


def test_nobody_listens_there(db, searchable):
    db.execute("SELECT embed_endpoint_set('loop', 'http://127.0.0.1:1/v1')")
    assert "cannot be reached" in by_words(db)


def test_a_secret_that_is_missing(db, searchable):
    db.execute("SET client_min_messages = error")
    db.execute("SELECT embed_endpoint_set('loop', %s, secret => 'nowhere')", (searchable.url,))
    db.execute("RESET client_min_messages")
    by_words(db)


def test_a_breaker_that_is_open_is_not_waited_for(db, searchable):
    searchable.fail(faults.status(500))
    db.execute("UPDATE docs SET body = 'edited'")
    for _ in range(3):
        db.execute("SELECT embed_drain()")
        if db.execute("SELECT breaker FROM embed_endpoints").fetchone() == ("open",):
            break
    assert db.execute("SELECT breaker FROM embed_endpoints").fetchone() == ("open",)
    rest_longer(db)
    searchable.reset()
    assert "rests after" in by_words(db)
    assert not searchable.requests
    searchable.mend()
    db.execute("SELECT embed_query('docs', 'title 7')")  # the answer is remembered, whatever rests
    assert heard(db, HYBRID, ("title 7",))[1] == []


def test_a_function_that_is_gone(db, docs):
    db.execute(
        "CREATE FUNCTION f(text[]) RETURNS vector[] LANGUAGE sql AS"
        " $$ SELECT array_agg('[1,2]'::vector) FROM unnest($1) $$"
    )
    db.execute("SELECT embed_model_add('loop', 'function', 2, 'public.f')")
    create(db, language="english")
    drain_all(db)
    db.execute("DROP FUNCTION f")
    by_words(db)


def test_in_a_transaction_that_may_not_write(connect, db, searchable):
    searchable.fail(faults.status(500))
    session = connect()
    session.execute("SET default_transaction_read_only = on; SET default_transaction_isolation = 'repeatable read'")
    by_words(db, session)


def test_the_budget_of_a_pipeline_keeps_nobody_from_asking(db, searchable):
    db.execute("SELECT embed_alter('docs', '{\"daily_tokens\": 1}')")
    db.execute("UPDATE docs SET body = 'edited'")
    db.execute("SELECT embed_drain()")
    assert heard(db, HYBRID, ("title 7",))[1] == []


@pytest.mark.parametrize(
    "statement",
    ["SELECT * FROM embed_search('docs', 'title 7')", "SELECT * FROM embed_search_rows(NULL::docs, 'title 7')"],
)
def test_a_search_by_vector_says_which_one_needs_no_model(db, searchable, statement):
    searchable.fail(faults.status(500))
    with pytest.raises(psycopg.Error) as found:
        db.execute(statement)
    assert found.value.sqlstate == "58000"
    call, _, _ = found.value.diag.message_hint.partition(" searches by keyword")
    rows, _ = heard(db, f"SELECT key FROM {call.replace('question', 'title 7')}")
    assert ([7],) in rows


def test_a_cancel_is_a_cancel(connect, db, searchable):
    change(db, searchable, total_timeout=30)
    searchable.hold()
    session = connect()
    session.execute("SET statement_timeout = '300ms'")
    began = time.monotonic()
    with pytest.raises(errors.QueryCanceled):
        session.execute(HYBRID, ("title 7",))
    assert time.monotonic() - began < 15
    searchable.release()


def test_a_search_by_keyword_asks_nobody(db, searchable):
    searchable.fail(faults.status(500))
    rows, said = heard(db, "SELECT key FROM embed_search('docs', 'title 7', mode => 'keyword')")
    assert (rows, said) == ([([7],)], [])
    assert not searchable.requests
