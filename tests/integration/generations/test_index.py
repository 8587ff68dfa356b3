"""The index: built when there are enough rows, without blocking any session, and used by searches."""

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.fixtures.pipelines.documents import drain_all
from tests.fixtures.roles import people
from tests.fixtures.waiting import Background, wait_until

pytestmark = pytest.mark.slow

WORK = "CALL embed_work(until_empty => true)"
DIMENSIONS = {"vector": 32, "halfvec": 32, "bit": 256}


@pytest.fixture
def docs(db):
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text, n int NOT NULL DEFAULT 0)")
    db.execute("INSERT INTO docs SELECT i, 'title ' || i, 'body ' || i FROM generate_series(1, 3000) i")
    db.execute("ANALYZE docs")
    return "docs"


def create(db, options="{}", dimensions=32):
    db.execute("SELECT embed_model_add('hashed', 'hash', %s)", (dimensions,))
    db.execute(
        "SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'hashed', options => %s)", (options,)
    )
    db.execute("SELECT embed_drain(max_rows => 10000)")


def indexed(db):
    return [row[0] for row in db.execute("SELECT indexed FROM embed_generations ORDER BY generation").fetchall()]


def plans(session, statement):
    """Plans of all that a statement runs, also inside of functions."""
    found = []
    session.add_notice_handler(lambda notice: found.append(notice.message_primary))
    session.execute("LOAD 'auto_explain'")
    for setting in ("log_min_duration = 0", "log_nested_statements = on", "log_level = notice"):
        session.execute(f"SET auto_explain.{setting}")
    rows = session.execute(statement).fetchall()
    session.execute("SET auto_explain.log_min_duration = -1")
    return "\n".join(found), rows


def keys(rows):
    return [row[0] for row in rows]


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("storage", "distance", "least"),
    [("vector", "cosine", 5), ("vector", "ip", 5), ("halfvec", "l2", 5), ("bit", "cosine", 2)],
)
def test_searches_use_it_and_find_what_is_nearest(db, connect, docs, storage, distance, least):
    create(db, f'{{"storage": "{storage}", "distance": "{distance}"}}', DIMENSIONS[storage])
    question = "SELECT key, score FROM embed_search('docs', 'body 77', k => 10)"
    exact = connect().execute(question).fetchall()
    assert len(exact) == 10
    assert sorted((score for _, score in exact), reverse=True) == [score for _, score in exact]
    db.execute("SELECT embed_setting('index_from', '3001')")
    connect().execute(WORK)
    assert indexed(db) == [False]
    db.execute("SELECT embed_setting('index_from', '3000')")
    connect().execute(WORK)
    assert indexed(db) == [True]
    db.execute("ANALYZE embed_store.g1")
    for statement in (question, "SELECT (s.row).id, score FROM embed_search_rows(NULL::docs, 'body 77', k => 10) s"):
        plan, rows = plans(connect(), statement)
        assert "Index Scan using g1_embedding_idx" in plan
        assert len(rows) == 10
        scores = dict(zip((str(key[0]) for key, _ in exact), (score for _, score in exact), strict=True))
        found = {str(key[0] if isinstance(key, list) else key): score for key, score in rows}
        same = found.keys() & scores.keys()
        assert len(same) >= least, "an approximate index finds most of what is nearest"
        assert all(found[key] == pytest.approx(scores[key]) for key in same)


def test_row_security_leaves_enough(db, connect, docs):
    """One row in a hundred is seen: more is taken from the index until there are enough."""
    people(db)
    db.execute("ALTER TABLE docs ENABLE ROW LEVEL SECURITY; GRANT SELECT ON docs TO bob")
    db.execute("CREATE POLICY few ON docs USING (id % 100 = 0)")
    db.execute("SELECT embed_setting('index_from', '100')")
    create(db)
    connect().execute(WORK)
    db.execute("ANALYZE embed_store.g1")
    reader = connect("bob")
    rows = reader.execute("SELECT key FROM embed_search('docs', 'body 77', k => 20)").fetchall()
    assert len(rows) == 20
    assert all(key[0][0] % 100 == 0 for key in rows)


def test_whoever_writes_or_reads_meanwhile_is_not_waited_for(db, connect, docs):
    create(db)
    db.execute("SELECT embed_setting('index_from', '100')")
    reader, drain = connect(autocommit=False), connect(autocommit=False)
    reader.execute("SELECT count(*) FROM docs_embedding")
    db.execute("UPDATE docs SET body = 'edited' WHERE id <= 5")
    drain.execute("SELECT embed_drain()")  # has written vectors and does not commit
    db.execute("UPDATE docs SET body = 'edited' WHERE id BETWEEN 6 AND 9")
    connect().execute("CALL embed_work(max_runtime => '2 s')")  # what the drain has is left until it commits
    assert indexed(db) == [False]
    drain.commit()
    assert db.execute("SELECT count(*) FROM docs_embedding WHERE is_stale").fetchone() == (0,)
    connect().execute(WORK)
    assert indexed(db) == [True]
    reader.rollback()


def test_renumbering_stays_hot_with_an_index(db, connect):
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text)")
    db.execute("INSERT INTO docs SELECT 1, 't', string_agg('paragraph ' || i, E'\n\n') FROM generate_series(1, 500) i")
    db.execute("SELECT embed_model_add('hashed', 'hash', 32)")
    db.execute(
        "SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hashed', chunker => embed_chunk_text(16))"
    )
    drain_all(db)
    db.execute("SELECT embed_setting('index_from', '100')")
    connect().execute(WORK)
    assert indexed(db) == [True]
    db.execute("VACUUM embed_store.g1")
    db.execute("SELECT pg_stat_reset()")
    db.execute("UPDATE docs SET body = E'first of all\n\n' || body")
    with connect() as worker:  # its end reports what it counted
        worker.execute(WORK)
    counts = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relid = 'embed_store.g1'::regclass"
    wait_until(lambda: db.execute(counts).fetchone()[0] == 500, what="statistics")
    assert db.execute(counts).fetchone()[1] >= 490
    assert db.execute("SELECT count(*), max(chunk_no) FROM docs_embedding").fetchone() == (501, 500)


def test_a_building_generation_gets_one_before_it_is_promoted(db, connect, docs):
    create(db)
    db.execute("SELECT embed_setting('index_from', '100')")
    db.execute("SELECT embed_build('docs', options => '{\"distance\": \"l2\"}')")
    connect().execute(WORK)
    connect().execute(WORK)
    assert indexed(db) == [True, True]
    assert (
        "vector_l2_ops" in db.execute("SELECT pg_get_indexdef('embed_store.g2_embedding_idx'::regclass)").fetchone()[0]
    )
    db.execute("SELECT embed_promote('docs')")
    plan, _ = plans(connect(), "SELECT * FROM embed_search('docs', 'q', k => 3)")
    assert "g2_embedding_idx" in plan


def test_options_belong_to_a_generation(db, docs):
    create(db, '{"distance": "ip", "max_attempts": 3}')
    assert db.execute("SELECT options FROM embed_generations").fetchone() == ({"distance": "ip"},)
    assert "ip" in db.execute("SELECT embed_get_def('docs')").fetchone()[0]
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="belongs to a generation"):
        db.execute("SELECT embed_alter('docs', '{\"distance\": \"l2\"}')")
    for options in ('{"distance": "far"}', '{"storage": "tape"}', '{"nope": 1}', "[]"):
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            db.execute("SELECT embed_build('docs', options => %s)", (options,))


@pytest.fixture
def with_cron():
    with Cluster() as made, psycopg.connect(made.dsn(), autocommit=True) as db:
        db.execute("CREATE EXTENSION evergreen CASCADE; CREATE EXTENSION pg_cron")
        yield made, db


def test_where_pg_cron_is_it_makes_the_index_concurrently(with_cron):
    """Its statement is run here by hand, as it would be within a minute."""
    cluster, db = with_cron
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text)")
    db.execute("INSERT INTO docs SELECT i, 'title ' || i, 'body ' || i FROM generate_series(1, 200) i")
    db.execute("SELECT embed_setting('index_from', '100')")
    create(db)
    db.execute("""SELECT embed_alter('docs', '{"language": null}')""")
    db.execute(WORK)
    ((job, command),) = db.execute("SELECT jobname, command FROM cron.job").fetchall()
    assert job == "evergreen index postgres g1_embedding_idx"
    assert indexed(db) == [False]
    # A run that fails leaves an index that is none: it is taken away, and made again.
    reader = psycopg.connect(cluster.dsn())
    reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    reader.execute("SELECT count(*) FROM docs_embedding")
    with psycopg.connect(cluster.dsn(), autocommit=True) as session:
        make = Background(session, command)
        wait_until(lambda: db.execute("SELECT to_regclass('embed_store.g1_embedding_idx')").fetchone() != (None,))
        db.execute(WORK)  # it is under way
        assert make.running
        session.cancel()
        with pytest.raises(psycopg.errors.QueryCanceled):
            make.result()
    reader.close()
    assert indexed(db) == [False]
    with psycopg.connect(cluster.dsn(), autocommit=True) as session:
        session.execute(WORK)
    assert db.execute("SELECT to_regclass('embed_store.g1_embedding_idx')").fetchone() == (None,)
    db.execute(command)
    assert indexed(db) == [True]
    with psycopg.connect(cluster.dsn(), autocommit=True) as session:
        session.execute(WORK)
    assert db.execute("SELECT count(*) FROM cron.job").fetchone() == (0,)
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 1")
    drain_all(db)
    assert db.execute("SELECT count(*) FROM docs_embedding WHERE is_stale").fetchone() == (0,)
