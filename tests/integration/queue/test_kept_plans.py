"""Plans that a session made while the queue was empty are good enough when it is full."""

import pytest

from tests.fixtures.roles import hash_model

pytestmark = pytest.mark.shared_database

ROWS = 20_000
OURS = """
SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname IN ('embed', 'embed_store') AND c.relkind = 'r'
"""
READ = "SELECT relname, seq_tup_read FROM pg_stat_all_tables WHERE schemaname IN ('embed', 'embed_store')"

WORK = {
    "a worker": "CALL embed_work(until_empty => true)",
    "a drain": "SELECT embed_drain(max_rows => 1000000)",
}


@pytest.mark.few(1)
@pytest.mark.parametrize("who", WORK)
def test_no_table_is_read_from_end_to_end(connect, db, who):
    """By index, a row that is done costs the same whatever was there when its statements were planned."""
    hash_model(db)
    db.execute("CREATE TABLE big (id int PRIMARY KEY, body text NOT NULL)")
    db.execute("SELECT embed_create('big', 'big', columns => '{body}', model => 'hash8')")
    for (name,) in db.execute(OURS).fetchall():  # an ANALYZE would invalidate every plan
        db.execute(f"ALTER TABLE {name} SET (autovacuum_enabled = off)")
    with connect() as session:
        for number in range(8):  # after five times a plan is made for all
            db.execute("INSERT INTO big VALUES (%s, %s)", (number, f"text {number}"))
            session.execute(WORK[who])
        before = read(session)
        db.execute("INSERT INTO big SELECT i, 'text ' || i FROM generate_series(8, %s) i", (ROWS,))
        session.execute(WORK[who])
        after = read(session)
    assert {name: count - before[name] for name, count in after.items() if count - before[name] > ROWS} == {}
    assert db.execute("SELECT count(*) FROM big_embedding WHERE NOT is_stale").fetchone() == (ROWS + 1,)


def read(session):
    """Rows that were read so far by scans of whole tables, by table."""
    session.execute("SELECT pg_stat_force_next_flush()")
    return dict(session.execute(READ).fetchall())


def test_code_of_the_users_is_planned_as_ever(db, docs):
    """Neither a function that is a model, nor what comes after a drain in its transaction, has our settings."""
    db.execute(
        "CREATE FUNCTION planned(texts text[]) RETURNS vector[] LANGUAGE plpgsql AS $$ BEGIN"
        " ASSERT current_setting('enable_seqscan') || current_setting('jit') = 'onoff';"
        " RETURN ARRAY(SELECT '[1,2]'::vector FROM unnest(texts)); END $$"
    )
    db.execute("SELECT embed_model_add('planned', 'function', 2, remote_name => 'planned')")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'planned')")
    with db.transaction():
        db.execute("SET LOCAL jit = off")
        assert db.execute("SELECT embed_drain()").fetchone() == (10,)
        assert db.execute("SELECT current_setting('enable_seqscan'), current_setting('jit')").fetchone() == (
            "on",
            "off",
        )
