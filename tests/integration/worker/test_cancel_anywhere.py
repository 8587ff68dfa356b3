"""A cancel before any statement of a call ends the call as cancelled, and leaves neither locks nor settings.

The kind: whatever runs while an error is on its way (the end of a context, a release of locks, a note of the error)
may fail in turn, and its own error would hide the cancel: the call would go on with the next pipeline.
"""

import itertools

import psycopg
import pytest

from tests.fixtures.pipelines.documents import drain_all, stale_keys
from tests.fixtures.stress import locks

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

CALLS = {
    "drain": "SELECT embed_drain(max_runtime => '5 s')",
    "work": "CALL embed_work(until_empty => true, max_runtime => '5 s')",
    "outside": "SELECT count(*) FROM embed_claim('docs', 10, interval '1 s')",
}
# From the next call on, statements are counted, and the process sends itself a SIGINT before one of them.
_CANCEL_AT = """
DO LANGUAGE plpython3u $$
import os, signal
from evergreen import db
GD.setdefault("execute", db._execute)
left = [{number}]
def counted(query, arguments):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGINT)
    return GD["execute"](query, arguments)
GD["left"], db._execute = left, counted
$$"""
_COUNTED = """
CREATE FUNCTION pg_temp.is_reached() RETURNS bool LANGUAGE plpython3u AS $$
from evergreen import db
db._execute = GD["execute"]
return GD["left"][0] <= 0
$$"""


@pytest.fixture
def quick(db):
    """A model in SQL: its function runs with the session's own settings."""
    db.execute("""
        CREATE FUNCTION quick(texts text[]) RETURNS vector[] LANGUAGE sql
        AS $$ SELECT array_agg('[1,2,3]'::vector) FROM unnest(texts) $$""")
    db.execute("SELECT embed_model_add('quick', 'function', 3, remote_name => 'quick', options => '{\"inputs\": 2}')")


@pytest.mark.few(1)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "step", [pytest.param(5, id="every fifth"), pytest.param(1, id="each", marks=pytest.mark.stress)]
)
def test_a_cancel_before_any_statement_is_one(connect, db, docs, quick, call, step):
    for name in ("docs", "more"):
        db.execute("SELECT embed_create(%s, 'docs', columns => '{title,body}', model => 'quick')", (name,))
    drain_all(db)
    session = connect()
    session.execute("SET client_min_messages = error; SELECT embed_drain()")
    session.execute(_COUNTED)
    before = settings(session)
    for number in itertools.count(1, step):
        db.execute("UPDATE docs SET body = %s || id", (f"edit {number} ",))
        session.execute(_CANCEL_AT.format(number=number))
        try:
            session.execute(CALLS[call])
        except psycopg.errors.QueryCanceled:
            is_cancelled = True
        else:
            is_cancelled = False
        ((is_reached,),) = session.execute("SELECT pg_temp.is_reached()").fetchall()
        assert is_cancelled == is_reached, number
        assert locks(db) == [], number
        assert settings(session) == before, number
        if not is_reached:
            break
        db.execute("SELECT embed_release('docs', token) FROM embed.lease WHERE external_interval IS NOT NULL")
    drain_all(db)
    assert stale_keys(db) == []


def settings(session: psycopg.Connection) -> list[tuple[str, str]]:
    """What a session has set."""
    return session.execute("SELECT name, setting FROM pg_settings WHERE source = 'session' ORDER BY 1").fetchall()
