"""embed_search: order, limits, staleness, read-only transactions, and the index."""

import numpy as np
import pytest
from psycopg import errors

from tests.fixtures.providers.loopback import vector
from tests.fixtures.roles import hash_model

pytestmark = pytest.mark.shared_database

SEARCH = "SELECT key, chunk_no, chunk, score, is_stale FROM embed_search('docs', %s, {})"


def search(db, query, options="k => 10"):
    return db.execute(SEARCH.format(options), [query]).fetchall()


@pytest.fixture
def searchable(db, docs, model):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
    db.execute("SELECT embed_drain()")


@pytest.fixture
def chunked(db):
    """Three rows of six chunks each."""
    hash_model(db)
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text)")
    body = "string_agg(repeat(chr(96 + i) || j || ' ', 9), E'\\n\\n')"
    db.execute(f"INSERT INTO docs SELECT i, {body} FROM generate_series(1, 3) i, generate_series(1, 6) j GROUP BY i")
    chunker = "embed_chunk_text(size => 30)"
    db.execute(f"SELECT embed_create('docs', 'docs', columns => '{{body}}', chunker => {chunker}, model => 'hash8')")
    db.execute("SELECT embed_drain()")


def test_scores_are_cosine_similarities_best_first(db, searchable):
    """Compared with the vectors that the test's own model gives."""
    found = search(db, "where is it?")
    question = np.array(vector("where is it?", 8))
    expected = {i: float(question @ np.array(vector(f"body {i}", 8))) for i in range(1, 11)}
    assert [key[0] for key, *_ in found] == sorted(expected, key=lambda i: -expected[i])
    assert [score for *_, score, _ in found] == pytest.approx(sorted(expected.values(), reverse=True), abs=1e-6)
    assert search(db, "body 7")[0][0] == [7]
    assert search(db, "body 7")[0][3] == pytest.approx(1, abs=1e-6)


def test_k_counts_chunks(db, chunked):
    assert [len(search(db, "q", f"k => {k}")) for k in (1, 5, 18, 100_000)] == [1, 5, 18, 18]
    assert len(db.execute("SELECT FROM embed_search('docs', 'q')").fetchall()) == 10
    assert {no for _, no, *_ in search(db, "q", "k => 99")} == set(range(6))


def test_max_per_key_leaves_room_for_other_rows(db, chunked):
    found = search(db, "q", "k => 6, max_per_key => 2")
    assert len(found) == 6
    assert sorted(key[0] for key, *_ in found) == [1, 1, 2, 2, 3, 3]
    every = search(db, "q", "k => 18")
    for number in (1, 2, 3):  # the best ones of each
        best = [row for row in every if row[0] == [number]][:2]
        assert [row for row in found if row[0] == [number]] == best
    assert len(search(db, "q", "k => 3, max_per_key => 1")) == 3


def test_min_score_cuts_off(db, searchable):
    found = search(db, "q")
    for threshold, number in ((found[3][3], 4), (-1, 10), (2, 0)):
        assert len(search(db, "q", f"min_score => {threshold!r}")) == number


def test_stale_chunks_are_served_or_hidden(db, searchable):
    db.execute("UPDATE docs SET body = 'new' WHERE id IN (1, 2)")
    db.execute("UPDATE docs SET n = 5")  # not part of the text
    served = search(db, "q")
    assert {key[0] for key, *_, stale in served if stale} == {1, 2}
    assert len(served) == 10
    hidden = search(db, "q", "stale => 'hide', k => 8")
    assert len(hidden) == 8
    assert {key[0] for key, *_ in hidden} == set(range(3, 11))
    assert search(db, "q", "stale => 'hide', k => 3") == [row for row in served if row[0][0] > 2][:3]
    db.execute("DELETE FROM docs WHERE id = 3")
    assert all(key != [3] for key, *_ in search(db, "q"))


def test_asking_works_in_a_read_only_transaction(db, connect, searchable):
    db.execute("UPDATE docs SET body = body || '!'")
    session = connect(autocommit=False)
    session.execute("SET TRANSACTION READ ONLY")
    assert len(session.execute("SELECT FROM embed_search('docs', 'q')").fetchall()) == 10
    assert len(session.execute("SELECT FROM embed_search_rows(NULL::docs, 'q')").fetchall()) == 10
    row = session.execute("SELECT embed('q', 'loop'), embed_query('docs', 'q')").fetchone()
    assert row[0] == row[1]
    assert session.execute("SELECT pending FROM embed_status").fetchone() == (10,)
    assert "embed_create" in session.execute("SELECT embed_get_def('docs')").fetchone()[0]
    with pytest.raises(errors.ReadOnlySqlTransaction):
        session.execute("SELECT embed_drain()")


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_search_sees_the_snapshot_of_its_transaction(db, connect, searchable, level):
    session = connect(autocommit=False)
    session.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
    before = search(session, "q")
    db.execute("UPDATE docs SET body = 'new' WHERE id = 1; DELETE FROM docs WHERE id = 2")
    db.execute("SELECT embed_drain()")
    assert search(session, "q") == before


def test_the_same_question_is_sent_once_a_session(db, connect, searchable, provider):
    provider.reset()
    for _ in range(3):
        db.execute("SELECT FROM docs_embedding ORDER BY embedding <=> embed_query('docs', 'a question') LIMIT 3")
        search(db, "a question")
    assert provider.sent == {"a question": 1}


@pytest.mark.fresh_database
def test_the_view_is_served_by_an_hnsw_index(db, connect, docs):
    """An owner of the extension may index the generation table; the view's own query, and a reader's, then use it."""
    hash_model(db)
    db.execute("INSERT INTO docs SELECT i, 't', 'body ' || i FROM generate_series(11, 2000) i")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')")
    db.execute("SELECT embed_drain(max_rows => 5000)")
    db.execute("CREATE INDEX nearest ON embed_store.g1 USING hnsw (embedding vector_cosine_ops)")
    db.execute("ANALYZE")
    query = "SELECT key FROM docs_embedding ORDER BY embedding <=> embed_query('docs', 'body 77') LIMIT 5"
    plan = "\n".join(line for (line,) in db.execute(f"EXPLAIN {query}"))
    assert "Index Scan using nearest" in plan
    assert "docs_pkey" in plan
    assert db.execute(query).fetchone() == ([77],)
    before = scans(db)
    assert search(db, "body 78")[0][0] == [78]
    assert scans(db) > before


def scans(db):
    db.execute("SELECT pg_stat_force_next_flush()")
    return db.execute("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'nearest'").fetchone()[0]


def test_the_views_columns_are_the_documented_ones(db, docs):
    hash_model(db)
    db.execute("ALTER TABLE docs RENAME id TO chunk")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')")
    names = [column.name for column in db.execute("SELECT * FROM docs_embedding").description]
    documented = [
        "key_chunk",
        "key",
        "chunk_no",
        "chunk",
        "embedding",
        "model",
        "fingerprint",
        "embedded_at",
        "is_stale",
    ]
    assert names[: len(documented)] == documented
