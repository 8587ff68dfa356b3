"""Folding a log of many rows by a plan that was made, and kept, when it was short."""

from tests.fixtures.roles import hash_model

ROWS = 50_000
FOLD = """
DO LANGUAGE plpython3u $$
from evergreen import db
from evergreen.catalog import pipelines
from evergreen.queue import change_log
from evergreen.queue.scan_start import ScanStart
with db.planning.prefer_indexes():
    change_log.coalesce(pipelines.find('docs'), ScanStart())
$$
"""


def test_a_plan_for_few_does_for_many(db, docs):
    """Comparing each key with each takes half a minute here, and a second when it is not done."""
    hash_model(db)
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8', backfill => false)")
    db.execute("ANALYZE embed.change_log, embed.job")  # they are empty
    for number in range(8):  # from the sixth time on a plan is kept
        db.execute("UPDATE docs SET body = %s WHERE id <= 5", (f"edit {number}",))
        db.execute(FOLD)
    db.execute("INSERT INTO docs SELECT i, 'title', 'body ' || i FROM generate_series(11, %s) i", (ROWS,))
    db.execute("SET statement_timeout = '20 s'")
    db.execute(FOLD)
    assert db.execute("SELECT count(*) FROM embed.change_log").fetchone() == (0,)
    assert db.execute("SELECT count(*) FROM embed.job WHERE lane = 1").fetchone() == (ROWS - 10,)
