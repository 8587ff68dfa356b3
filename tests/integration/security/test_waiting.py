"""embed_wait under row security: a row that the caller may not see has no influence on the answer.

The kind: an answer about a key, or about all rows, that depends on hidden rows: do they wait, are they dead letters, do
they exist. Hidden rows change between two calls that must answer alike; rows that the caller sees go on counting.
"""

import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from tests.fixtures.external_compute import claim, embed_all, release, submit
from tests.fixtures.roles import people
from tests.fixtures.waiting import Background, wait_until

pytestmark = pytest.mark.shared_database

KEYS = {  # a key's columns and how its values are made of a number: natural and not, of several columns
    "id int": "i",
    "id citext": "'K' || i",
    "id interval": "make_interval(months => -i, hours => i)",
    "id timestamptz, n numeric": "'2020-01-02'::timestamptz + i * '1 h'::interval, i / 4.0",
}


def make(db, key="id int", grant="GRANT SELECT, INSERT, UPDATE, DELETE ON docs TO bob"):
    """Rows 1 to 4 of alice, 5 to 8 of bob, all embedded; each with its key as jsonb."""
    people(db)
    names = ", ".join(column.split()[0] for column in key.split(", "))
    db.execute(
        f"""
        CREATE EXTENSION IF NOT EXISTS citext;
        CREATE TABLE docs ({key}, tenant name, body text, no int, PRIMARY KEY ({names}));
        ALTER TABLE docs ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON docs USING (tenant = current_user);
        {grant};
        INSERT INTO docs SELECT {KEYS[key]}, CASE WHEN i > 4 THEN 'bob' ELSE 'alice' END, 'body ' || i, i
        FROM generate_series(1, 8) i;
        SELECT embed_create('docs', 'docs', columns => '{{body}}', model => 'loop', options => '{{"max_attempts": 1}}')
        """
    )
    embed_all(db)
    found = db.execute("SELECT d.no, e.key FROM docs_embedding e JOIN docs d ON d.body = e.chunk").fetchall()
    return {number: Jsonb(key) for number, key in found}


def as_bob(connect):
    """A session that waits no longer than an answer that comes at once may take."""
    bob = connect("bob")
    bob.execute("SET statement_timeout = '15 s'")
    return bob


def waited(session, key=None, timeout="0 s"):
    return session.execute("SELECT embed_wait('docs', %s::jsonb, %s)", (key, timeout)).fetchone()[0]


@pytest.mark.few(2)
@pytest.mark.parametrize("key", KEYS)
def test_only_rows_that_the_caller_sees_count(db, connect, model, key):
    keys = make(db, key)
    bob = as_bob(connect)
    bob.execute("SET DateStyle = 'German'; SET IntervalStyle = 'sql_standard'; SET TimeZone = 'Asia/Tokyo'")
    db.execute("UPDATE docs SET body = 'waits' WHERE no = 1")
    db.execute("UPDATE docs SET body = 'bad' WHERE no = 2")
    db.execute("DELETE FROM docs WHERE no = 3")
    texts = claim(db)
    hidden = [keys[number] for number in (1, 2, 3, 4)]
    assert [waited(bob, one, "1 h") for one in [*hidden, keys[5], None]] == [True] * 6
    release(db, texts, "no")
    assert [waited(db, keys[number]) for number in (1, 2)] == [False, False]
    assert [waited(bob, one, "1 h") for one in [*hidden, keys[5], None]] == [True] * 6
    bob.execute("UPDATE docs SET body = 'mine' WHERE no = 5")
    assert [waited(bob, one) for one in (keys[5], keys[6], None)] == [False, True, False]
    texts = claim(db)
    assert [waited(bob, one) for one in (keys[5], None)] == [False, False]
    submit(db, texts)
    assert [waited(bob, one) for one in (keys[5], None)] == [True, True]
    bob.execute("UPDATE docs SET body = 'bad' WHERE no = 6")
    release(db, claim(db), "no")
    assert [waited(bob, one, "1 h") for one in (keys[6], keys[5], None)] == [False, True, False]
    bob.execute("DELETE FROM docs WHERE no = 6")
    assert [waited(bob, one, "1 h") for one in (keys[6], None)] == [True, True]


def test_a_paused_pipeline_and_a_check_of_all_rows(db, connect, model):
    keys = make(db)
    bob = as_bob(connect)
    db.execute("SELECT embed_pause('docs')")
    db.execute("UPDATE docs SET body = 'waits' WHERE no = 1")
    assert [waited(bob, one, "1 h") for one in (keys[1], None)] == [True, True]
    bob.execute("UPDATE docs SET body = 'mine' WHERE no = 5")
    assert [waited(bob, one, "1 h") for one in (keys[5], keys[6], None)] == [False, True, False]
    db.execute("SELECT embed_resume('docs')")
    embed_all(db)
    db.execute("SELECT embed_backfill('docs')")
    assert [waited(bob, one) for one in (keys[1], keys[5], None)] == [True, False, False]
    embed_all(db)
    assert waited(bob)


def test_a_row_that_is_handed_over_while_it_is_waited_for(db, connect, model):
    keys = make(db)
    bob = as_bob(connect)
    db.execute("UPDATE docs SET body = 'waits' WHERE no = 5")
    waits = [Background(as_bob(connect), "SELECT embed_wait('docs', %s, '1 h')", (key,)) for key in (keys[5], None)]
    looking = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT embed_wait%1 h%' AND state = 'active'"
    wait_until(lambda: db.execute(looking).fetchone() == (2,), what="two sessions that wait")
    db.execute("UPDATE docs SET tenant = 'alice' WHERE no = 5")
    assert [wait.result() for wait in waits] == [[(True,)], [(True,)]]
    assert waited(bob, keys[5]) is True
    assert waited(db, keys[5]) is False


def test_a_locked_table_is_no_answer_and_no_error(db, connect, model):
    make(db)
    bob = as_bob(connect)
    bob.execute("UPDATE docs SET body = 'mine' WHERE no = 5")
    other = connect(autocommit=False)
    other.execute("LOCK TABLE docs")
    assert waited(bob, None, "0.5 s") is False
    other.rollback()
    embed_all(db)
    assert waited(bob) is True


def test_whoever_administers_the_pipeline_waits_for_all_rows(db, connect, model):
    """embed_failures shows them dead letters anyway; an admin need not be able to read the table."""
    keys = make(db)
    db.execute("ALTER TABLE docs OWNER TO alice")
    embed_all(db)
    db.execute("UPDATE docs SET body = 'waits' WHERE no = 5")
    for role in ("alice", "the_admin"):
        assert [waited(connect(role), key) for key in (keys[5], keys[6], None)] == [False, True, False]


def test_the_key_must_be_readable(db, connect, model):
    keys = make(db, grant="GRANT SELECT (body) ON docs TO bob")
    for key in keys[1], keys[5]:
        with pytest.raises(errors.InsufficientPrivilege):
            waited(as_bob(connect), key)
