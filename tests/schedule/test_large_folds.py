"""Folding a log of many rows by a plan that was made, and kept, when it was short."""

import pytest
from people import hash_model

ROWS = 30_000
FOLD = """
DO LANGUAGE plpython3u $$
from evergreen.catalog import pipelines
from evergreen.schedule import intake
from evergreen.schedule.floors import Floor
intake.shared(pipelines.find('docs'), Floor())
$$
"""


@pytest.mark.parametrize("live_rows", [0, 5])
def test_a_plan_for_few_does_for_many(db, docs, live_rows):
    """Comparing each key with each takes a minute here, and a second when it is not done."""
    hash_model(db)
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8', backfill => false)")
    db.execute("ANALYZE embed.change, embed.job")  # they are empty
    for number in range(8):  # from the sixth time on a plan is kept
        db.execute("UPDATE docs SET body = %s WHERE id <= %s", (f"edit {number}", live_rows))
        db.execute(FOLD)
    db.execute("INSERT INTO docs SELECT i, 'title', 'body ' || i FROM generate_series(11, %s) i", (ROWS,))
    db.execute("SET statement_timeout = '20 s'")
    db.execute(FOLD)
    assert db.execute("SELECT count(*) FROM embed.change").fetchone() == (0,)
    assert db.execute("SELECT count(*) FROM embed.job WHERE lane = 1").fetchone() == (ROWS - 10,)
