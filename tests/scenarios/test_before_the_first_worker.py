"""Work in progress during the dump, and the owner's DDL before the first worker runs."""

from typing import Any

import psycopg
import pytest

from tests.fixtures.dumps import Place, contents, drain, verified
from tests.fixtures.waiting import Background

Connection = psycopg.Connection[tuple[Any, ...]]


def test_work_that_was_at_the_model_during_the_dump_is_done_at_once(connect, db, docs, model, provider, move):
    """The claims of the other server's workers, restored with the rest, block no worker."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    db.execute("UPDATE docs SET body = 'logged' WHERE id = 1")
    provider.hold()
    work = Background(connect(), "CALL embed_work(until_empty => true)")
    provider.wait_for_requests()
    restored = move(Place("same", "custom"))
    assert contents(restored)["embed.lease"]
    provider.release()
    work.result()
    drain(restored)
    assert verified(restored, "docs") == {"fresh": 10}
    status = "SELECT state, fresh, pending, in_flight, failed FROM embed_status"
    assert restored.execute(status).fetchone() == ("active", 10, 0, 0, 0)


@pytest.fixture(params=["restored", "cloned"])
def unvisited(request, db, provider, model, move, clone) -> Connection:
    """A moved database in which no worker has run yet; the source has a gap in its columns' numbers."""
    db.execute("CREATE TABLE docs (gone int, id int PRIMARY KEY, body text); ALTER TABLE docs DROP COLUMN gone")
    db.execute("INSERT INTO docs SELECT i, 'body ' || i FROM generate_series(1, 3) i")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
    drain(db)
    db.close()
    provider.reset()
    return move(Place("same", "custom")) if request.param == "restored" else clone()


@pytest.mark.few(1)
def test_a_column_renamed_before_the_first_worker_came_stays_watched(unvisited, provider):
    unvisited.execute("ALTER TABLE docs RENAME COLUMN body TO content")
    unvisited.execute("UPDATE docs SET content = 'edited' WHERE id = 1")
    drain(unvisited)
    assert provider.sent == {"edited": 1}
    assert verified(unvisited, "docs") == {"fresh": 3}


@pytest.mark.few(1)
def test_a_table_renamed_before_the_first_worker_came_is_followed(unvisited, provider):
    unvisited.execute("CREATE SCHEMA elsewhere; ALTER TABLE docs SET SCHEMA elsewhere")
    unvisited.execute("ALTER TABLE elsewhere.docs RENAME TO papers")
    assert unvisited.execute("SELECT count(*) FROM public.docs_embedding WHERE NOT is_stale").fetchone() == (3,)
    unvisited.execute("UPDATE elsewhere.papers SET body = 'edited' WHERE id = 1")
    drain(unvisited)
    assert provider.sent == {"edited": 1}
    assert verified(unvisited, "docs") == {"fresh": 3}


@pytest.mark.few(1)
def test_a_watched_column_dropped_before_the_first_worker_came_stops_the_pipeline_and_no_writer(unvisited):
    unvisited.execute("ALTER TABLE docs ADD COLUMN n int, DROP COLUMN body")
    unvisited.execute("UPDATE docs SET n = 1")
    unvisited.execute("DELETE FROM docs WHERE id = 1")
    drain(unvisited)
    state, error = unvisited.execute("SELECT state, last_error FROM embed_status").fetchone()
    assert state == "broken"
    assert '"body"' in error
    unvisited.execute("SELECT embed_drop('docs')")
