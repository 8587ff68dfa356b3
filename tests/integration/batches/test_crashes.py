"""A worker is killed with its server, between a call and its commit: the next one does the rest."""

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.fixtures.breakpoints import Stoppable, commit_of
from tests.fixtures.endings import after_crash
from tests.fixtures.pipelines.documents import assert_as_source
from tests.integration.batches.lane import HURRY, WORK, create, fill, through

pytestmark = pytest.mark.stress

ROWS = 3000
KILLED_AT = [
    ("seal", "after"), ("upload", "before"), ("create", "before"), ("get", "after"),
    ("file", "before"), ("file", "after"), ("collect", "before"), ("clean", "before"),
]  # fmt: skip


@pytest.fixture(scope="module")
def server():
    """A server of this file's own."""
    with Cluster(options={"shared_preload_libraries": ""}) as made, psycopg.connect(made.dsn(), autocommit=True) as db:
        db.execute("CREATE EXTENSION evergreen CASCADE; SELECT embed_setting('watch', 'off')")
        db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text)")
        yield made


def work_until_killed(db, stop, where, when):
    while True:
        stop.start(WORK, where, when, how="kill").result()
        db.execute(HURRY)


@pytest.mark.parametrize("api", ["openai", "voyage", "mistral", "gemini"], indirect=True)
def test_a_worker_that_is_killed_pays_for_no_text_twice(server, api):
    with psycopg.connect(server.dsn(), autocommit=True) as db:
        api.register(db)
        fill(db, ROWS)
        create(db, batch_min_texts=100)
    for step, when in KILLED_AT:
        db = psycopg.connect(server.dsn(), autocommit=True)
        stop = Stoppable(psycopg.connect(server.dsn(), autocommit=True), db)
        with pytest.raises(psycopg.OperationalError):
            work_until_killed(db, stop, commit_of(f"batch {step}"), when)
        db = after_crash(server, db)
    with psycopg.connect(server.dsn(), autocommit=True) as worker:
        through(db, worker)
    assert_as_source(db)
    assert api.sent.total() == 0
    assert not api.paid_twice
    assert api.counts["create"] == 1
    assert api.files == {}
    db.execute("SELECT embed_drop('docs')")
    db.execute("SELECT embed_model_drop('loop')")
    db.close()
