"""A bridge: the old model is gone, and its generation is searched by the model of the next one."""

import pytest
from psycopg import errors

from tests.fixtures.pipelines import two_models
from tests.fixtures.pipelines.documents import drain_all
from tests.fixtures.pipelines.two_models import QUESTION, ROWS
from tests.fixtures.roles import people
from tests.fixtures.waiting import Background, wait_until

KEYS = "SELECT key FROM embed_search('docs', %s, k => 10, mode => %s)"
BRIDGE = "SELECT pairs, recall, overlap, active FROM embed_bridge('docs')"
RECALL = "SELECT generation, bridge_recall FROM embed_generations ORDER BY generation"
NEAREST = "SELECT id FROM docs_embedding ORDER BY embedding <=> embed_query('docs', 'a question') LIMIT 3"
BY_MODEL = "SELECT id FROM docs_embedding ORDER BY embedding <=> (SELECT embed('a question', %s)) LIMIT 3"


@pytest.fixture
def models(db, docs, provider):
    two_models.serve_both(db, provider)


@pytest.fixture
def pair(db, models):
    """Four hundred rows, of which both generations have all."""
    two_models.build_both(db)


@pytest.fixture
def bridge(db, pair, provider):
    db.execute(BRIDGE)
    provider.reset()


def refused(db, statement):
    """The SQLSTATE of an error, and its message."""
    with pytest.raises(errors.Error) as caught:
        db.execute(statement)
    assert caught.value.diag.message_hint or caught.value.sqlstate == "42501"
    return caught.value.sqlstate, str(caught.value)


def asked(provider):
    """Which model was asked, and for what."""
    return [(call.body["model"], call.texts) for call in provider.calls]


def keys(db, mode="vector", question=QUESTION):
    return [key for (key,) in db.execute(KEYS, (question, mode)).fetchall()]


def test_searches_go_on_when_the_old_model_is_gone(db, connect, pair, provider):
    before = {mode: keys(db, mode) for mode in ("vector", "hybrid")}
    rows = "SELECT (s.row).id FROM embed_search_rows(NULL::docs, %s) s"
    found_rows = db.execute(rows, (QUESTION,)).fetchall()
    two_models.switch_off_old(provider)
    stranger = connect()
    with pytest.raises(errors.SystemError):
        keys(stranger)
    pairs, recall, overlap, active = db.execute(BRIDGE).fetchone()
    assert (pairs, active) == (ROWS, True)
    assert recall >= 0.99
    assert overlap > 0.9
    assert dict(db.execute(RECALL).fetchall()) == {1: None, 2: recall}
    provider.reset()
    session = connect()
    for mode, expected in before.items():
        found = keys(session, mode)
        assert found[0] == [7]
        assert len({key[0] for key in found} & {key[0] for key in expected}) >= 8, mode
    assert len({*session.execute(rows, (QUESTION,)).fetchall()} & {*found_rows}) >= 8
    nearest = "SELECT id FROM docs_embedding ORDER BY embedding <=> embed_query('docs', %s) LIMIT 1"
    assert session.execute(nearest, (QUESTION,)).fetchone() == (7,)
    assert asked(provider) == [("new", [QUESTION])], "once a session"
    assert db.execute("SELECT count(*) FROM embed_compare('docs', '{a,b}')").fetchone() == (2,)


def test_what_it_was_learned_from_goes_on_being_searched_and_edited(db, bridge, provider):
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 9; DELETE FROM docs WHERE id = 10")
    drain_all(db)
    assert keys(db, question="title 9\n\nedited")[0] == [9]
    assert {model for model, _ in asked(provider)} == {"old", "new"}, "rows are embedded by their own models"
    assert asked(provider)[-1] == ("new", ["title 9\n\nedited"])


def test_below_min_recall_nothing_changes(db, docs, provider):
    two_models.serve_both(db, provider, two_models.unrelated)
    two_models.build_both(db)
    with pytest.raises(errors.ObjectNotInPrerequisiteState) as caught:
        db.execute(BRIDGE)
    assert "has a recall of 0." in str(caught.value)
    assert "below min_recall 0.8 (400 pairs, 80 held out, overlap" in str(caught.value)
    assert "embed_drain('docs')" in caught.value.diag.message_hint
    assert dict(db.execute(RECALL).fetchall()) == {1: None, 2: None}
    heard = []
    db.add_notice_handler(lambda notice: heard.append(notice.message_primary))
    low = db.execute("SELECT recall FROM embed_bridge('docs', min_recall => 0)").fetchone()[0]
    assert low < 0.8
    assert ["the models are unlike" in one for one in heard] == [True]
    with pytest.raises(errors.ObjectNotInPrerequisiteState):
        db.execute(BRIDGE)
    assert dict(db.execute(RECALL).fetchall()) == {1: None, 2: low}, "the one that stands is kept"


def test_it_needs_a_generation_that_is_built_and_pairs(db, models, provider):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'old')")
    drain_all(db)
    assert refused(db, BRIDGE)[0] == "55000"
    assert "no generation that is being built" in refused(db, BRIDGE)[1]
    db.execute("SELECT embed_build('docs', model => 'new')")
    drain_all(db)
    assert refused(db, BRIDGE)[0] == "55000"
    assert "have 10 chunks in common, and a bridge needs 100" in refused(db, BRIDGE)[1]
    for call, state in (
        ("embed_bridge('docs', 99)", "22023"),
        ("embed_bridge('docs', 20001)", "22023"),
        ("embed_bridge('docs', min_recall => 1.1)", "22023"),
        ("embed_bridge('none')", "42704"),
        ("embed_bridge_drop('none')", "42704"),
    ):
        assert refused(db, f"SELECT {call}")[0] == state, call


def test_only_texts_that_are_the_same_are_pairs(db, pair):
    """One row was edited in between; a worker has written it in one generation only."""
    db.execute("UPDATE embed_store.g2 SET chunk = 'another' WHERE k1 <= 50")
    assert db.execute(BRIDGE).fetchone()[0] == ROWS - 50


def test_blank_chunks_are_no_pairs(db, pair):
    db.execute("UPDATE embed_store.g2 SET embedding = '[0,0,0,0,0,0,0,0]' WHERE k1 <= 20")
    db.execute("UPDATE embed_store.g1 SET embedding = '[0,0,0,0,0,0,0,0]' WHERE k1 BETWEEN 11 AND 40")
    assert db.execute(BRIDGE).fetchone()[0] == ROWS - 40


def test_a_sample_of_many_rows_is_of_the_whole_table(db, pair):
    """Four times the sample is read at random places: here 40 chunks for each of 4,000 documents would be too slow."""
    db.execute("INSERT INTO docs SELECT i, 'title ' || i, 'body ' || i FROM generate_series(401, 900) i")
    drain_all(db)
    pairs, recall = db.execute("SELECT pairs, recall FROM embed_bridge('docs', 200)").fetchone()
    assert 150 <= pairs <= 200
    assert recall >= 0.95


@pytest.mark.parametrize("old", ["cosine", "l2", "ip"])
def test_dimensions_and_distances_may_differ(db, docs, models, provider, old):
    db.execute("INSERT INTO docs SELECT i, 'title ' || i, 'body ' || i FROM generate_series(11, 300) i")
    options = '{"send_dimensions": true}'
    db.execute("SELECT embed_model_add('wide', 'openai', 16, endpoint => 'old', options => %s)", (options,))
    db.execute(
        "SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'old', options => %s::jsonb)",
        (f'{{"distance": "{old}"}}',),
    )
    drain_all(db)
    db.execute("SELECT embed_build('docs', model => 'wide')")
    drain_all(db)
    # The first eight numbers of the wide model's vectors, before they are made unit vectors, are the old one's.
    recall = db.execute("SELECT recall FROM embed_bridge('docs', min_recall => 0.5)").fetchone()[0]
    assert recall > 0.5
    two_models.switch_off_old(provider)
    assert len(keys(db)) == 10


ENDS = {
    "promote": "SELECT embed_promote('docs')",
    "retire": "SELECT embed_retire('docs', 2)",
    "drop the bridge": "SELECT embed_bridge_drop('docs')",
}


@pytest.mark.few(1)
@pytest.mark.parametrize("end", ENDS)
def test_it_ends_at_once_in_a_session_that_knows_it(db, bridge, provider, end):
    db.execute(f"PREPARE nearest AS {NEAREST}")
    for _ in range(7):  # a generic plan from the sixth time on
        db.execute("EXECUTE nearest")
    keys(db, question="a question")
    assert asked(provider) == [("new", ["a question"])]
    with db.transaction(force_rollback=True):
        db.execute(ENDS[end])
        model = "new" if end == "promote" else "old"
        assert db.execute("EXECUTE nearest").fetchall() == db.execute(BY_MODEL, (model,)).fetchall()
    db.execute(f"PREPARE again AS {NEAREST}")  # the client has deallocated the other one with the rollback
    assert db.execute("SELECT count(*) FROM embed.bridge").fetchone() == (1,)
    db.execute(ENDS[end])
    assert db.execute("EXECUTE again").fetchall() == db.execute(BY_MODEL, (model,)).fetchall()
    vectors = "SELECT embed_query('docs', 'a question')::text, embed('a question', %s)::text"
    assert len({*db.execute(vectors, (model,)).fetchone()}) == 1
    provider.reset()
    keys(db, question="another question")
    assert asked(provider) == [(model, ["another question"])]
    assert db.execute("SELECT count(*) FROM embed.bridge").fetchone() == (0,)


def test_it_ends_with_a_rollback_and_with_the_pipeline(db, pair):
    db.execute("SELECT embed_promote('docs'); SELECT embed_build('docs', model => 'old')")
    drain_all(db)
    db.execute("SELECT embed_bridge('docs', min_recall => 0)")
    db.execute("SELECT embed_rollback('docs')")
    assert db.execute("SELECT count(*) FROM embed.bridge").fetchone() == (0,)
    db.execute("SELECT embed_bridge('docs', min_recall => 0)")
    db.execute("SELECT embed_drop('docs')")
    assert db.execute("SELECT count(*) FROM embed.bridge").fetchone() == (0,)


def test_a_remembered_question_follows_a_new_bridge(db, bridge, provider):
    """In ORDER BY the vector is remembered; it is not that of a bridge that was replaced."""
    vector = "SELECT embed_query('docs', 'a question')::text"
    before = db.execute(vector).fetchone()
    assert db.execute(vector).fetchone() == before
    db.execute("UPDATE embed.bridge SET matrix = substr(matrix, 33) || substr(matrix, 1, 32)")
    assert db.execute(vector).fetchone() != before


def test_the_matrix_is_read_once_a_session(db, connect, bridge):
    scans = (
        "SELECT sum(pg_stat_get_xact_numscans(oid)) FROM pg_class"
        " WHERE oid IN ('embed.bridge'::regclass, 'embed.bridge_pkey'::regclass)"
    )
    session = connect()
    counts = []
    with session.transaction():
        for question in ("one", "two", "three"):
            keys(session, question=question)
            counts.append(session.execute(scans).fetchone()[0])
    assert counts == [2, 3, 4], "its version is looked up for each question"


def test_a_promotion_in_the_meantime_is_not_overlooked(db, connect, pair):
    other = connect()
    other.autocommit = False
    other.execute("SELECT embed_promote('docs')")
    call = Background(connect(), "SELECT embed_bridge('docs')")
    waits = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
    wait_until(lambda: db.execute(waits, (call.pid,)).fetchone(), what="the wait for the generations")
    other.commit()
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="changed by another session"):
        call.result()
    assert db.execute("SELECT count(*) FROM embed.bridge").fetchone() == (0,)


def test_writers_workers_and_ddl_do_not_wait_for_an_open_one(db, connect, pair, provider):
    other = connect()
    other.autocommit = False
    other.execute(BRIDGE)
    db.execute("SET lock_timeout = '100ms'")
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 9")
    drain_all(db)
    db.execute("TRUNCATE docs")
    held = "SELECT relation::regclass FROM pg_locks WHERE pid = %s AND relation IN (SELECT to_regclass(%s))"
    for table in ("embed_store.g1", "embed_store.g2", "docs"):
        assert db.execute(held, (other.info.backend_pid, table)).fetchall() == []
    other.rollback()


def test_owners_make_it_and_readers_search_their_own_rows_through_it(db, connect, pair, provider):
    people(db)
    db.execute("GRANT SELECT ON docs TO bob; ALTER TABLE docs ENABLE ROW LEVEL SECURITY")
    db.execute("CREATE POLICY own ON docs TO bob USING (id % 2 = 1)")
    db.execute("SET ROLE bob")
    assert refused(db, BRIDGE)[0] == "42501"
    assert refused(db, "SELECT embed_bridge_drop('docs')")[0] == "42501"
    assert refused(db, "SELECT * FROM embed.bridge")[0] == "42501"
    db.execute("RESET ROLE")
    db.execute(BRIDGE)
    two_models.switch_off_old(provider)
    mine = keys(db)
    assert mine[0] == [7]
    db.execute("SET ROLE bob")
    found = keys(db)
    assert found[0] == [7]
    assert all(key[0] % 2 == 1 for key in found)
    nearest = NEAREST.replace("a question", QUESTION)
    assert all(number % 2 == 1 for (number,) in db.execute(nearest).fetchall())
    db.execute("RESET ROLE; REVOKE SELECT ON docs FROM bob; SET ROLE bob")
    assert refused(db, "SELECT embed_query('docs', 'a question')")[0] == "42704"


def test_an_old_snapshot_gets_no_vector_of_another_space(db, connect, bridge):
    session = connect()
    session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM docs")
    db.execute("SELECT embed_promote('docs')")
    for call in (KEYS, "SELECT embed_query('docs', %s), %s"):
        session.execute("SAVEPOINT s")
        with pytest.raises(errors.SerializationFailure):
            session.execute(call, (QUESTION, "vector"))
        session.execute("ROLLBACK TO s")
