"""One text for which a SQL function raises, as a model: its neighbours are embedded, whatever the SQLSTATE says.

The kind: an error of a whole call whose class is that of broken code, missing rights or a cancel, though another text
passes. A harmless text tells. Members: each class that a function can raise, in a worker and in a drain.
"""

import psycopg
import pytest

from tests.fixtures.pipelines.documents import shown, status_of
from tests.fixtures.pipelines.endpoints import create, table
from tests.fixtures.waiting import Background, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

ROWS = 40
FUNCTION = """
CREATE FUNCTION toy(texts text[]) RETURNS vector[] LANGUAGE plpgsql AS $$
DECLARE one text;
BEGIN
    FOREACH one IN ARRAY texts LOOP
        CASE split_part(one, ' ', 1)
            WHEN 'poison' THEN RAISE EXCEPTION 'not this one' USING ERRCODE = '%s';
            WHEN 'slow' THEN PERFORM pg_sleep(60);
            ELSE
        END CASE;
    END LOOP;
    RETURN (SELECT array_agg(format('[%%s,1]', length(t))::vector ORDER BY n)
            FROM unnest(texts) WITH ORDINALITY u (t, n));
END $$
"""
CALLS = {"work": "CALL embed_work(until_empty => true, max_runtime => '30 s')", "drain": "SELECT embed_drain()"}
STATES = ("42883", "42501", "0A000", "2F005", "57014", "57P01", "XX000", "P0001")


def make(db, state, word, options=None):
    db.execute(FUNCTION % state)
    db.execute("SELECT embed_model_add('toy', 'function', 2, 'toy')")
    table(db, "docs", ROWS)
    db.execute("UPDATE docs SET title = %s WHERE id = 17", (f"{word} 17",))
    create(db, model="toy", **(options or {}))


@pytest.mark.few(6)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("state", STATES)
def test_neighbours_are_embedded_and_the_culprit_ends_as_a_dead_letter(db, state, call):
    make(db, state, "poison", {"max_attempts": 1})
    db.execute(CALLS[call])
    assert sorted(shown(db)) == [i for i in range(1, ROWS + 1) if i != 17]
    assert db.execute("SELECT key::text FROM embed_failures").fetchall() == [("[17]",)]
    assert status_of(db, "pending") == 0


def test_a_function_that_is_broken_for_every_text_costs_no_attempt(db):
    make(db, "42883", "well")
    db.execute(FUNCTION.replace("CREATE", "CREATE OR REPLACE").replace("'poison'", "'evergreen', 'well'") % "42883")
    db.execute(CALLS["work"])
    assert db.execute("SELECT max(attempts), count(*) FROM embed.job").fetchone() == (0, ROWS)
    assert "not this one" in status_of(db, "last_error")


@pytest.mark.parametrize("call", CALLS)
def test_a_cancel_within_the_function_is_a_cancel(connect, db, call):
    make(db, "57014", "slow")
    session = connect()
    work = Background(session, CALLS[call])
    asleep = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event = 'PgSleep'"
    wait_until(lambda: db.execute(asleep, (work.pid,)).fetchone(), what="the function's sleep")
    session.cancel()
    with pytest.raises(psycopg.errors.QueryCanceled):
        work.result()
    assert db.execute("SELECT coalesce(max(attempts), 0) FROM embed.job").fetchone() == (0,)


def test_a_timeout_of_the_session_within_the_function_is_a_cancel(connect, db):
    make(db, "57014", "slow")
    session = connect()
    session.execute("SELECT embed_drain(max_rows => 1)")  # loads the library
    session.execute("SET statement_timeout = '1 s'")
    with pytest.raises(psycopg.errors.QueryCanceled):
        session.execute(CALLS["drain"])
