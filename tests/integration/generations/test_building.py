"""Building: both generations are kept fresh, searches go on, and texts that are there already are not sent again."""

import pytest

from tests.fixtures.pipelines.documents import assert_as_source, drain_all, drain_once, shown, status_of
from tests.fixtures.pipelines.endpoints import serve
from tests.fixtures.providers.loopback import LoopbackProvider
from tests.fixtures.waiting import Background, wait_until

CALLS = {"drain": "SELECT embed_drain()", "work": "CALL embed_work(until_empty => true)"}


def generations(db, column="state"):
    return dict(db.execute(f"SELECT generation, {column} FROM embed_generations ORDER BY generation").fetchall())


def stored(db, number):
    """Chunks of a generation by key."""
    return dict(db.execute(f"SELECT k1, chunk FROM embed_store.g{number}").fetchall())


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
def test_history_and_edits_go_to_both_and_searches_see_the_active_one(connect, db, pipeline, provider, call):
    assert db.execute("SELECT embed_build('docs', model => 'short')").fetchone() == (2,)
    assert generations(db) == {1: "active", 2: "building"}
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 1")
    db.execute("DELETE FROM docs WHERE id = 2")
    connect().execute(CALLS[call])
    assert_as_source(db)
    assert stored(db, 2) == stored(db, 1)
    assert {len(embedding) for _, embedding in shown(db).values()} == {8}
    assert generations(db, "coverage") == {1: None, 2: 1.0}
    db.execute("UPDATE docs SET body = 'edited again' WHERE id = 1")
    provider.reset()
    connect().execute(CALLS[call])
    assert provider.sent == {"title 1\n\nedited again": 2}
    assert stored(db, 2)[1] == stored(db, 1)[1] == "title 1\n\nedited again"


def test_a_drain_counts_a_row_once_in_however_many_generations(db, pipeline):
    db.execute("SELECT embed_build('docs', model => 'short')")
    assert drain_once(db) == 10
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 1")
    assert drain_once(db) == 1


def test_texts_that_stay_the_same_cost_no_call(db, docs, models, provider):
    """Nine of ten texts fit into a chunk before and after."""
    db.execute("UPDATE docs SET body = repeat('words of a long text. ', 10) WHERE id = 7")
    db.execute(
        "SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'old',"
        " chunker => embed_chunk_text(500))"
    )
    drain_all(db)
    provider.reset()
    db.execute("SELECT embed_build('docs', chunker => embed_chunk_text(100))")
    drain_all(db)
    chunks = [row[0] for row in db.execute("SELECT chunk FROM embed_store.g2 WHERE k1 = 7").fetchall()]
    assert set(provider.sent) == set(chunks)
    assert len(chunks) >= 3
    assert generations(db, "coverage") == {1: None, 2: 1.0}


@pytest.mark.stress
def test_of_ten_thousand_documents_only_those_that_are_cut_in_another_way_cost(db, connect, models, provider):
    """Every tenth is long; the others are one chunk before and after."""
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text)")
    db.execute(
        "INSERT INTO docs SELECT i, CASE WHEN i % 10 = 0 THEN repeat('Sentence ' || i || ' of many. ', 20)"
        " ELSE 'short ' || i END FROM generate_series(1, 10000) i"
    )
    db.execute(
        "SELECT embed_create('docs', 'docs', columns => '{body}', model => 'old', chunker => embed_chunk_text(1000))"
    )
    connect().execute(CALLS["work"])
    provider.reset()
    db.execute("SELECT embed_build('docs', chunker => embed_chunk_text(200))")
    connect().execute(CALLS["work"])
    new = {row[0] for row in db.execute("SELECT chunk FROM embed_store.g2 WHERE k1 % 10 = 0").fetchall()}
    assert set(provider.sent) == new
    assert provider.sent.total() == len(new)
    assert generations(db, "coverage")[2] == 1.0


@pytest.mark.slow
def test_a_model_that_is_down_delays_the_active_generation_by_nothing(connect, db, pipeline, provider):
    with LoopbackProvider() as ill:
        serve(db, ill, "ill", total_timeout=60)
        ill.hold()
        db.execute("SELECT embed_build('docs', model => 'ill')")
        worker = connect()
        work = Background(worker, "CALL embed_work(max_runtime => '60 s')")
        ill.wait_for_requests(1)
        for edit in range(3):
            db.execute("UPDATE docs SET body = 'edit ' || %s", (edit,))
            wait_until(lambda edit=edit: {t.split()[-1] for t in stored(db, 1).values()} == {str(edit)})
        assert stored(db, 2) == {}
        worker.cancel()
        ill.release()
        with pytest.raises(Exception, match="cancel"):
            work.result()
    assert status_of(db, "failed") == 0


@pytest.mark.slow
def test_a_column_that_is_watched_from_now_on_waits_for_its_writers(connect, db, docs, models, provider):
    """A writer that is open when the generation starts does not log the new column: it must end first."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'old')")
    drain_all(db)
    writer = connect(autocommit=False)
    writer.execute("UPDATE docs SET title = 'late' WHERE id = 3")
    build = Background(connect(), "SELECT embed_build('docs', columns => '{title}')")
    wait_until(
        lambda: (
            db.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND state = 'active'", (build.pid,)
            ).fetchone()
            == (1,)
        )
    )
    reader = connect()
    reader.execute("SET lock_timeout = '2 s'")
    for number in range(20):  # no session queues behind a lock that is waited for
        reader.execute("UPDATE docs SET n = %s WHERE id = 4", (number,))
    assert build.running
    assert generations(db) == {1: "active"}
    writer.commit()
    assert build.result() == [(2,)]
    drain_all(db)
    assert stored(db, 2)[3] == "late"
    db.execute("UPDATE docs SET title = 'later' WHERE id = 3")
    drain_all(db)
    assert stored(db, 2)[3] == "later"


@pytest.mark.stress  # a lock is tried for a quarter of a minute
def test_a_writer_that_stays_is_named_and_nothing_is_left(connect, db, docs, models):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'old')")
    drain_all(db)
    before = db.execute("SELECT count(*) FROM pg_class").fetchone()
    writer = connect(autocommit=False)
    writer.execute("UPDATE docs SET title = 'late' WHERE id = 3")
    session = connect()
    build = Background(session, "SELECT embed_build('docs', columns => '{title}')")
    with pytest.raises(Exception, match="could not lock table"):
        build.result()
    assert generations(db) == {1: "active"}
    assert db.execute("SELECT count(*) FROM pg_class").fetchone() == before


def test_what_nobody_watches_any_more_is_logged_no_more(db, docs, models):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'old')")
    db.execute("SELECT embed_build('docs', columns => '{title,body}')")
    drain_all(db)
    db.execute("UPDATE docs SET title = 'new title' WHERE id = 1")
    assert db.execute("SELECT count(*) FROM embed.change_log").fetchone() == (1,)
    drain_all(db)
    db.execute("SELECT embed_retire('docs', 2)")
    db.execute("UPDATE docs SET title = 'newer title' WHERE id = 1")
    assert db.execute("SELECT count(*) FROM embed.change_log").fetchone() == (0,)


def test_a_definition_has_the_generation_that_is_built(db, pipeline):
    db.execute("SELECT embed_build('docs', model => 'short', template => E'$title:\\n$body')")
    calls = db.execute("SELECT embed_get_def('docs')").fetchone()[0]
    db.execute("SELECT embed_drop('docs')")
    for call in calls.split(";\n"):
        db.execute(call)
    assert db.execute("SELECT embed_get_def('docs')").fetchone() == (calls,)
    assert list(generations(db).values()) == ["active", "building"]


def test_what_is_not_given_is_as_in_the_active_one(db, docs, models):
    db.execute(
        "SELECT embed_create('docs', 'docs', template => 'T $title', model => 'old', chunker => embed_chunk_text(50))"
    )
    db.execute("SELECT embed_build('docs', model => 'new')")
    found = db.execute("SELECT columns, template, chunker FROM embed_generations ORDER BY generation").fetchall()
    assert found[0] == found[1]
