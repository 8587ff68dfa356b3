"""embed_claim and embed_submit: the same claim and apply for compute outside; only texts that need a call come out."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fixtures.external_compute import claim, embed_all, kept, let_leases_run_out, submit
from tests.fixtures.pipelines.documents import (
    assert_as_source,
    drain_all,
    drain_once,
    source_texts,
    stale_keys,
    status_of,
    verified,
)
from tests.fixtures.stress import Team, left, make_docs
from tests.fixtures.waiting import Background, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]


@pytest.fixture
def pipeline(db, docs, model):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    return "docs"


@pytest.fixture
def chunked(db, docs, model):
    """One row of three chunks."""
    db.execute("DELETE FROM docs WHERE id > 1")
    db.execute("UPDATE docs SET body = E'# a\\none\\n# b\\ntwo\\n# c\\nthree'")
    db.execute(
        "SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop', chunker => embed_chunk_markdown())"
    )
    return "docs"


def test_rows_are_the_same_as_if_they_were_embedded_inside(db, pipeline, provider):
    texts = claim(db)
    assert {one.key[0]: one.text for one in texts} == source_texts(db)
    assert {(one.chunk_no, one.model) for one in texts} == {(0, "loop")}
    assert len({one.token for one in texts}) == 1
    assert status_of(db, "in_flight") == 10
    assert submit(db, texts) == 10
    assert_as_source(db)
    assert left(db) == {}
    assert drain_once(db) == 0
    assert provider.sent.total() == 0


def test_only_texts_that_need_a_call_come_out(db, pipeline, provider):
    """Live in another row, kept from earlier, repeated in the batch: done without; text that is gone: done, too."""
    drain_all(db)
    provider.reset()
    db.execute("UPDATE docs SET title = 'a', body = 'b' WHERE id = 1")  # what row 1 had is kept
    drain_all(db)
    db.execute("UPDATE docs SET title = 'title 1', body = 'body 1' WHERE id = 2")
    db.execute("UPDATE docs SET title = 'title 4', body = 'body 4' WHERE id = 3")
    db.execute("UPDATE docs SET title = 'new', body = 'one' WHERE id IN (5, 6)")
    db.execute("DELETE FROM docs WHERE id = 7")
    db.execute("UPDATE docs SET title = NULL, body = NULL WHERE id = 8")
    provider.reset()
    texts = claim(db)
    assert [one.text for one in texts] == ["new\n\none"]
    assert stale_keys(db) == [5, 6]
    assert submit(db, texts) == 2
    assert_as_source(db)
    assert provider.sent.total() == 0
    assert left(db) == {}


def test_what_needs_no_model_is_done_by_the_claim_alone(db, pipeline):
    embed_all(db)
    db.execute("DELETE FROM docs WHERE id < 4")
    db.execute("SELECT embed_touch('docs', '[5]')")
    assert claim(db) == []
    assert verified(db) == {"fresh": 7, "stale": 0, "missing": 0, "orphan": 0, "mixed": 0}
    assert left(db) == {}


def test_a_text_is_in_one_place_at_a_time(connect, db, pipeline, provider):
    """At the model of a worker: it does not come out. Handed out: no worker sends it."""
    provider.hold()
    work = Background(connect(), "CALL embed_work('docs', until_empty => true, max_runtime => '20 s')")
    provider.wait_for_requests()
    db.execute("CREATE TABLE twins (id int PRIMARY KEY, title text, body text)")
    db.execute("INSERT INTO twins SELECT id, title, body FROM docs")
    db.execute("SELECT embed_create('twins', 'twins', columns => '{title,body}', model => 'loop')")
    assert claim(db, pipeline="twins") == []
    provider.release()
    work.result()
    assert wait_until(lambda: not claim(db, pipeline="twins") and verified(db, "twins")["fresh"] == 10)
    db.execute("UPDATE docs SET body = 'newer ' || id")
    db.execute("UPDATE twins SET body = 'newer ' || id")
    texts = claim(db)
    assert drain_once(db, "twins") == 0
    submit(db, texts)
    wait_until(lambda: not drain_once(db, "twins") and verified(db, "twins")["fresh"] == 10)
    assert provider.sent == dict.fromkeys(provider.sent, 1)
    assert provider.sent.total() == 10


def test_parts_of_a_document_are_saved_until_all_are_there(db, chunked, provider):
    texts = claim(db)
    assert [one.chunk_no for one in texts] == [0, 1, 2]
    assert submit(db, texts[2:]) == 0
    assert submit(db, texts[:1]) == 0
    assert kept(db) == 2
    assert submit(db, texts[1:2]) == 1
    assert kept(db) == 0
    assert verified(db)["fresh"] == 1
    assert left(db) == {}


def test_a_claimer_that_dies_half_way_costs_only_what_it_did_not_submit(db, chunked, provider):
    texts = claim(db)
    submit(db, texts[:2])
    let_leases_run_out(db)
    assert drain_once(db) == 1
    assert list(provider.sent) == [texts[2].text]
    assert verified(db)["fresh"] == 1


def test_the_same_vectors_twice_are_no_error_and_count_once(db, chunked):
    texts = claim(db)
    submit(db, texts[:2])
    assert submit(db, texts[:2]) == 0
    assert submit(db, texts[1:]) == 1
    assert submit(db, texts) == 0  # the answer was lost, and the claim is over
    assert status_of(db, "texts") == 3
    assert kept(db) == 0


def test_a_late_vector_is_never_wasted(db, pipeline, provider):
    """Another has the rows by now: nothing of it is written, and what the other did not get to is there for it."""
    provider.answer = lambda _: (503, b"down")
    texts = claim(db)
    let_leases_run_out(db)
    other = claim(db)
    assert len(other) == 10
    assert submit(db, texts) == 0
    assert kept(db) == 10
    assert stale_keys(db) == []
    assert db.execute("SELECT count(*) FROM docs_embedding").fetchone() == (0,)
    let_leases_run_out(db)
    assert drain_once(db) == 10
    assert provider.sent.total() == 0
    assert_as_source(db)


def test_nobody_had_the_rows_since_the_time_was_up(db, pipeline):
    texts = claim(db)
    let_leases_run_out(db)
    assert submit(db, texts) == 10
    assert_as_source(db)
    assert left(db) == {}


def test_a_claim_goes_by_time_alone(connect, db, pipeline, provider):
    """Its session ends, and anybody may sit on any advisory lock: neither says anything of a claim outside."""
    session = connect()
    texts = claim(session)
    session.close()
    assert claim(db) == []
    assert drain_once(db) == 0
    db.execute("CALL embed_work(until_empty => true, max_runtime => '1 s')")
    assert provider.sent.total() == 0
    db.execute("SELECT pg_advisory_lock(1163285062, %s)", (texts[0].token & 0x7FFFFFFF,))
    let_leases_run_out(db)
    assert len(claim(db)) == 10


def test_a_lease_is_as_long_as_was_asked_and_is_renewed_by_each_submit(db, chunked, provider):
    seconds = (
        "SELECT date_part('epoch', (SELECT expires_at FROM embed.lease) - clock_timestamp())::int,"
        " date_part('epoch', (SELECT ready_at FROM embed.job) - clock_timestamp())::int,"
        " (SELECT date_part('epoch', max(expires_at) - clock_timestamp())::int FROM embed.in_flight)"
    )
    texts = claim(db, lease="1 hour")
    assert all(3590 < one <= 3600 for one in db.execute(seconds).fetchone())
    for submitted in ([], texts[:1]):
        db.execute("UPDATE embed.lease SET expires_at = clock_timestamp() + interval '1 s'")
        db.execute("SELECT embed_submit('docs', %s, '{}', '{}')", (texts[0].token,)) if not submitted else submit(
            db, submitted
        )
        assert all(3590 < one <= 3600 for one in db.execute(seconds).fetchone())
    assert drain_once(db) == 0


def test_claimers_and_workers_side_by_side_embed_each_text_once(connect, db, provider):
    provider.register(db)
    texts = make_docs(db, 300)
    sessions = [connect() for _ in range(3)]
    first = claim(db, 50)  # in flight before any worker can be there
    team = Team(connect, ["CALL embed_work(until_empty => true)", "SELECT embed_drain(max_rows => 20)"])
    with ThreadPoolExecutor(3) as pool:
        outside = [text for done in pool.map(lambda session: embed_all(session, 15), sessions) for text in done]
    outside += [one.text for one in first]
    submit(db, first)
    team.stop()
    wait_until(lambda: outside.extend(embed_all(db)) or left(db) == {}, what="an empty queue")
    assert_as_source(db)
    assert sorted([*outside, *provider.sent.elements()]) == sorted(texts)
    assert outside


def test_an_open_claim_keeps_nobody_from_the_other_rows(connect, db, pipeline, provider):
    open_one = connect(autocommit=False)
    assert len(claim(open_one, 4)) == 4
    other = connect(options="-c statement_timeout=10000")
    assert drain_once(other) == 6
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 10")
    other.execute("CALL embed_work(until_empty => true, max_runtime => '1 s')")
    db.execute("TRUNCATE docs")
    open_one.rollback()
    drain_all(db)
    assert left(db) == {}


def test_a_paused_pipeline_gives_none(db, pipeline):
    db.execute("SELECT embed_pause('docs')")
    assert claim(db) == []
    db.execute("SELECT embed_resume('docs')")
    assert len(claim(db, 3)) == 3


def test_two_generations_each_with_its_own_model(db, pipeline, provider):
    embed_all(db)
    db.execute("SELECT embed_model_add('half', 'openai', 4, endpoint => 'loop')")
    db.execute("SELECT embed_build('docs', model => 'half')")
    db.execute("UPDATE docs SET body = 'new' WHERE id = 1")
    assert claim(db, model="half")[0].model == "half"
    let_leases_run_out(db)
    seen = set()
    while texts := claim(db, 4):
        seen.add(texts[0].model)
        assert len({one.model for one in texts}) == 1
        submit(db, texts, dimensions={"loop": 8, "half": 4}[texts[0].model])
    assert seen == {"loop", "half"}
    db.execute("SELECT embed_promote('docs')")
    assert db.execute("SELECT count(*), min(vector_dims(embedding)) FROM docs_embedding").fetchone() == (10, 4)
    assert verified(db)["fresh"] == 10


def test_a_prompt_is_put_before_the_text(db, docs, provider):
    provider.register(db, document_prompt="passage: ")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    texts = claim(db)
    assert {one.text for one in texts} == {f"passage: {text}" for text in source_texts(db).values()}
    assert submit(db, texts) == 10
    assert drain_once(db) == 0


def test_live_changes_and_history_have_their_shares(db, pipeline):
    embed_all(db)
    db.execute("INSERT INTO docs SELECT i, 'old', i FROM generate_series(100, 1200) i")  # over 1000: the backfill lane
    assert {one.key[0] >= 100 for one in claim(db, 10)} == {True}
    db.execute("UPDATE docs SET body = 'live ' || id WHERE id <= 10")
    texts = claim(db, 10)
    assert sum(one.key[0] <= 10 for one in texts) == 8
    assert len(texts) == 10


def test_outside_nothing_is_free(db, docs):
    """A text of a built-in model, too, is handed out once, though workers may well embed it twice."""
    db.execute("SELECT embed_model_add('hash8', 'hash', 8)")
    db.execute("UPDATE docs SET title = 'same', body = NULL")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'hash8')")
    assert len(claim(db, 4)) == 1
    assert claim(db) == []
