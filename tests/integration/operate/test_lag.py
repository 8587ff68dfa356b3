"""Lag percentiles in embed_status: from a change to its being searchable."""

from datetime import timedelta

import pytest

from tests.fixtures.external_compute import claim, submit
from tests.fixtures.pipelines.documents import drain_all, status_of

pytestmark = pytest.mark.shared_database


@pytest.fixture
def pipeline(db, docs, model):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    drain_all(db)
    return "docs"


def lags(db):
    """p50, p95, p99 in seconds."""
    found = [status_of(db, name) for name in ("lag_p50", "lag_p95", "lag_p99")]
    return tuple(one.total_seconds() if isinstance(one, timedelta) else None for one in found)


def aged(db, *ages):
    """As if the changes that are logged had been made so many seconds ago, one each."""
    db.execute(
        "UPDATE embed.change_log c SET changed_at = clock_timestamp() - make_interval(secs => a.age)"
        " FROM unnest(%s::float8[]) WITH ORDINALITY a (age, n) WHERE c.key = jsonb_build_array(a.n)",
        ([float(age) for age in ages],),
    )


@pytest.mark.parametrize("road", ["drain", "work", "outside"])
def test_percentiles_are_right_to_a_fifth(db, pipeline, road):
    ages = [10.0, 11, 12, 13, 14, 15, 16, 17, 18, 400]
    db.execute("UPDATE docs SET body = 'new ' || id")
    aged(db, *ages)
    if road == "drain":
        drain_all(db)
    elif road == "work":
        db.execute("CALL embed_work(until_empty => true)")
    else:
        submit(db, claim(db))
    p50, p95, p99 = lags(db)
    took = 10.0  # seconds that the test may have taken meanwhile
    assert 14 <= p50 <= (14 + took) * 1.19
    assert 400 <= p95 <= (400 + took) * 1.19
    assert p99 == p95


def test_minutes_are_folded_and_hours_dropped(db, pipeline):
    for n in range(6):
        db.execute("UPDATE docs SET body = 'new' || %s", (n,))
        aged(db, *([1.0] * 10 if n < 3 else [100.0] * 10))
        drain_all(db)
    before = lags(db)
    db.execute("UPDATE embed.lag SET at = date_trunc('minute', at) - interval '2 min' + random() * interval '50 s'")
    drain_all(db)
    assert db.execute("SELECT count(*), sum((SELECT sum(n) FROM unnest(counts) n)) FROM embed.lag").fetchone() == (
        1,
        60,
    )
    assert lags(db) == before
    db.execute("UPDATE embed.lag SET at = at - interval '1 h'")
    assert lags(db) == (None, None, None)
    drain_all(db)
    assert db.execute("SELECT count(*) FROM embed.lag").fetchone() == (0,)


def test_a_row_that_changes_again_and_again_counts_each_time_anew(connect, db, pipeline, provider):
    """What is left to be done after a text was written is newer than that text's change."""
    db.execute("UPDATE docs SET body = 'first' WHERE id = 1")
    aged(db, 400)
    other = connect()
    texts = iter(["second", "third"])

    def change_again(_):
        if text := next(texts, None):
            other.execute("UPDATE docs SET body = %s WHERE id = 1", (text,))
            other.execute("SELECT embed_drain()")  # queues it: the row is at the model

    provider.answer = change_again
    db.execute("CALL embed_work(until_empty => true)")
    assert status_of(db, "texts") == 13
    p50, p95, _ = lags(db)
    assert p50 < 60
    assert p95 >= 400
