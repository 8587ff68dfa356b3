"""What pg_stat_statements, auto_explain and log_statement record of our statements.

The kind: observers of SQL that keep each distinct text. A text of a row, a query or a secret must not be in one of
ours, and a batch must not be a new one: pg_stat_statements has room for 5,000 and would forget the application's.
"""

import re

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.fixtures.pipelines.freshness import assert_fresh

pytestmark = pytest.mark.slow

PRIVATE = "Mrs Robinson"
OBSERVERS = {
    "shared_preload_libraries": "pg_stat_statements,auto_explain",
    "pg_stat_statements.track": "all",
    "log_statement": "all",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_nested_statements": True,
    "log_parameter_max_length": 0,
}
COPY = re.compile(r"^COPY ([\w.]+)", re.MULTILINE)
# Two statements in three forms each: by age, by key (around a lock), and those new since the last look. Locks and time
# decide which form a batch takes.
COALESCE = re.compile(r"WITH generations AS MATERIALIZED \(\s+SELECT g\.id FROM embed\.generation")
COALESCE_VARIANTS = 6
# Lines of a plan: auto_explain shows the values that a plan was made for, and leaves no way but generic plans.
PLANNED = {"Filter", "Join Filter", "Index Cond", "Function Call"}
RECORDED = "SELECT queryid, query FROM pg_stat_statements WHERE NOT toplevel"


@pytest.fixture(scope="module")
def observed():
    """A server that records every statement, with the extension."""
    with Cluster(options=OBSERVERS) as made:
        with psycopg.connect(made.dsn(), autocommit=True) as db:
            db.execute("CREATE EXTENSION evergreen CASCADE; CREATE EXTENSION pg_stat_statements")
        yield made


def edit_and_embed(cluster, db, number):
    """Two batches, by a worker in a session of its own and by a drain, and what people ask meanwhile."""
    for work in ("CALL embed_work(until_empty => true)", "SELECT embed_drain()"):
        db.execute("UPDATE docs SET body = %s || id || %s WHERE id <= %s", (PRIVATE, f"{work}{number}", 3 + number))
        with psycopg.connect(cluster.dsn(), autocommit=True) as session:
            for _ in range(number):  # files that are open here have the next numbers
                session.execute("SELECT pg_read_file('PG_VERSION')")
            session.execute(work)
    key = f'[{number + 1}, "{PRIVATE} {number + 1}"]'
    for mode in ("vector", "keyword", "hybrid"):
        db.execute("SELECT * FROM embed_search('docs', %s, %s::int, %s)", (f"{PRIVATE} {number}", 3 + number, mode))
    for call in ("embed_explain('docs', %s)", "embed_touch('docs', %s)", "embed_forget('docs', %s)"):
        db.execute(f"SELECT {call}", (key,))
    db.execute("SELECT * FROM embed_verify('docs', true)")
    db.execute("SELECT * FROM embed_status, embed_usage, embed_failures")


def test_a_batch_is_no_new_statement_and_none_has_a_text(observed, provider):
    with psycopg.connect(observed.dsn(), autocommit=True) as db:
        provider.register(db)
        db.execute("CREATE TABLE docs (id int, name text, body text, PRIMARY KEY (id, name))")
        db.execute("INSERT INTO docs SELECT i, %s || i, %s || i FROM generate_series(1, 40) i", (f"{PRIVATE} ",) * 2)
        db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
        for number in range(8):
            edit_and_embed(observed, db, number)
        before = {number for number, _ in db.execute(RECORDED)}
        for number in range(8, 12):
            edit_and_embed(observed, db, number)
        recorded = dict(db.execute(RECORDED).fetchall())
        assert [text for text in recorded.values() if PRIVATE in text] == []
        copied = [found[1] for text in recorded.values() if (found := COPY.search(text))]
        assert sorted(copied) == ["embed.document", "embed_store.g1"]
        coalescing = [number for number, text in recorded.items() if COALESCE.search(text)]
        assert len(coalescing) <= COALESCE_VARIANTS
        assert [text for number, text in recorded.items() if number not in {*before, *coalescing}] == []
        assert_fresh(db, "docs", 40)
    told = [line for line in observed.logfile.read_text().splitlines() if PRIVATE in line]
    assert {line.split(":")[0].strip() for line in told} <= PLANNED
