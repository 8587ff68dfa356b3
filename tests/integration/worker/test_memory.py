"""A worker's memory is bounded by a few rows, however many long ones wait."""

import pytest

from tests.fixtures.memory_use import Peak
from tests.fixtures.roles import hash_model
from tests.fixtures.waiting import Background

pytestmark = pytest.mark.slow

ROWS, LENGTH = 40, 4_000_000


@pytest.mark.stress
def test_long_rows_are_read_a_few_at_a_time(db, connect):
    """All of them at once would be 160 MB in Postgres, and as much again in Python."""
    hash_model(db)
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text)")
    db.execute(
        "INSERT INTO docs SELECT i, repeat(i || ' ', %s) FROM generate_series(10, %s) i", (LENGTH // 3, 9 + ROWS)
    )
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')")
    worker = connect()
    with Peak(worker) as peak:
        Background(worker, "CALL embed_work(until_empty => true, max_runtime => '10 min')").result(300)
    assert db.execute("SELECT fresh FROM embed_status").fetchone() == (ROWS,)
    assert peak.most < 250
