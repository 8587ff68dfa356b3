"""ANALYZE, autovacuum and the planner run no code of a key's type: no statistics are kept on keys.

The code here is ``subtype_diff`` of a range: ANALYZE runs it, and so does the planner where ANALYZE kept values.
"""

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.fixtures.roles import hash_model, people
from tests.fixtures.takeover import CREATE, DIFF, EVIL, SPAN, assert_no_takeover, give
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.slow

TABLE = "CREATE TABLE alice.docs (id alice.span PRIMARY KEY, body text)"
FILL = "INSERT INTO alice.docs SELECT int4range(i, i + 5)::text::alice.span, 'body ' || i FROM generate_series(1, 40) i"


@pytest.fixture
def alice(db, connect):
    people(db)
    hash_model(db)
    yield connect("alice")
    db.execute("ALTER ROLE alice NOSUPERUSER")


def make_pipeline(db, alice):
    """Forty documents under keys of a range whose code belongs to a superuser."""
    db.execute(EVIL + DIFF.format(body=""))
    for statement in (SPAN, TABLE, FILL, CREATE):
        alice.execute(statement)
    db.execute("SELECT embed_drain()")


def test_autovacuum_analyzes_a_generation_without_code_of_its_keys():
    options = {"autovacuum_naptime": "1s", "autovacuum_analyze_threshold": 1, "autovacuum_analyze_scale_factor": "0"}
    with Cluster(options=options) as cluster:
        dsn = cluster.dsn()
        with psycopg.connect(dsn, autocommit=True) as db, psycopg.connect(dsn, autocommit=True) as alice:
            db.execute("CREATE EXTENSION evergreen CASCADE")
            people(db)
            hash_model(db)
            alice.execute("SET ROLE alice")
            make_pipeline(db, alice)
            give(db, alice)
            for _ in range(2):  # one that is under way may have read the function before
                before = autoanalyzes(db)
                alice.execute("UPDATE alice.docs SET body = body || '.'")
                db.execute("SELECT embed_drain()")
                wait_until(lambda before=before: autoanalyzes(db) > before, 60, "ANALYZE by autovacuum")
            wait_until(lambda: db.execute("SELECT who FROM alice.seen").fetchone(), 60, "ANALYZE of alice's own table")
            assert_no_takeover(db)


def autoanalyzes(db):
    counted = "SELECT autoanalyze_count FROM pg_stat_all_tables WHERE relid = 'embed_store.g1'::regclass"
    return db.execute(counted).fetchone()[0]


@pytest.mark.parametrize("statement", ["ANALYZE", "VACUUM (ANALYZE)", "ANALYZE embed_store.readable_1"])
def test_analyze_by_a_superuser_runs_no_code_of_keys(db, connect, alice, statement):
    """Of the whole database, as after an upgrade, and of what autovacuum never analyzes: a partitioned table."""
    make_pipeline(db, alice)
    give(db, alice)
    connect().execute(statement)
    assert_no_takeover(db)


def test_the_planner_finds_no_values_to_run_code_on(db, connect, alice):
    """Estimates of range operators run ``subtype_diff`` on the bounds that ANALYZE kept."""
    make_pipeline(db, alice)
    db.execute("ANALYZE")
    give(db, alice)
    session = connect()
    for relation, key in (("embed_store.g1", "k1"), ("embed_store.readable_1", "k1"), ("alice.docs_embedding", "id")):
        for operator in ("&&", "@>", "<@", "<<", ">>", "&<", "&>", "-|-", "<", "<=", ">", ">=", "=", "<>"):
            session.execute(f"EXPLAIN SELECT FROM {relation} WHERE {key} {operator} '[3,9)'")
    session.execute("EXPLAIN SELECT FROM embed_store.g1 a JOIN embed_store.g1 b ON a.k1 && b.k1 AND a.k1 < b.k1")
    assert db.execute("SELECT FROM alice.seen").fetchall() == []
    assert_no_takeover(db)


TYPES = """
CREATE TYPE alice.mood AS ENUM ('sad', 'glad', 'mad');
CREATE TYPE alice.times AS RANGE (subtype = time);
CREATE DOMAIN alice.low AS int CHECK (VALUE < 5);
"""
# Every column of a type of alice's, or of one made of it, in a table of the extension.
OF_HER_TYPES = """
WITH RECURSIVE hers (type) AS (
    SELECT t.oid FROM pg_type t WHERE t.typnamespace = 'alice'::regnamespace
    UNION
    SELECT t.oid FROM hers h, pg_type t LEFT JOIN pg_range r ON t.oid IN (r.rngtypid, r.rngmultitypid)
    WHERE h.type IN (t.typelem, t.typbasetype, r.rngsubtype)
)
SELECT a.attrelid::regclass::text, a.attname, a.attstattarget, a.attgenerated, a.atthasdef
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN hers h ON h.type = a.atttypid
WHERE c.relnamespace IN ('embed'::regnamespace, 'embed_store'::regnamespace) AND c.relkind IN ('r', 'p', 'm')
ORDER BY 1, 2
"""
# What may run code on values of a table, other than its columns' types and their operator classes.
AROUND_THEM = """
SELECT 'check', conname FROM pg_constraint WHERE contype NOT IN ('p', 'n') AND conrelid = %(table)s::regclass
UNION ALL SELECT 'rule', rulename FROM pg_rewrite WHERE ev_class = %(table)s::regclass
UNION ALL SELECT 'statistics', stxname FROM pg_statistic_ext WHERE stxrelid = %(table)s::regclass
UNION ALL SELECT 'function of a trigger', tgfoid::regproc::name FROM pg_trigger
          WHERE tgrelid = %(table)s::regclass AND NOT tgisinternal AND tgfoid::regproc::text !~ '^embed\\.'
UNION ALL SELECT 'index over an expression of a key', indexrelid::regclass::name FROM pg_index
          WHERE indrelid = %(table)s::regclass AND indexprs IS NOT NULL AND pg_get_indexdef(indexrelid) ~ '\\mk[0-9]'
"""


def test_values_of_users_types_stand_in_key_columns_alone(db, connect, alice):
    alice.execute(TYPES)
    alice.execute(
        "CREATE TABLE alice.docs (a alice.mood, b alice.times[], c alice.low, body text, m alice.mood, n alice.times,"
        " PRIMARY KEY (a, b, c))"
    )
    alice.execute("INSERT INTO alice.docs VALUES ('sad', '{\"[10:00,11:00)\"}', 4, 'body', 'mad', 'empty')")
    alice.execute(
        CREATE.replace("{body}", "{body,m,n}").replace("'hash8'", "'hash8', options => '{\"language\": \"english\"}'")
    )
    db.execute("CALL embed_work(until_empty => true)")
    rows = db.execute(OF_HER_TYPES).fetchall()
    tables = ("embed_store.g1", "embed_store.readable_1")
    assert rows == [
        (table, key, 0, "", False) for table in tables for key in ("k1", "k2")
    ]  # k3 is an int: its column has the type below the domain
    for table in tables:
        assert db.execute(AROUND_THEM, {"table": table}).fetchall() == [], table
