"""What a role may not see has no influence on anything that the role can observe of a search.

The kind: an index finds hidden rows before a policy leaves them out, and the caller can count them: in
pg_stat_xact_all_tables in the same transaction, in the counters of indexes and of I/O, in EXPLAIN ANALYZE, or in a
result that is too short because hidden rows took its places. So two questions that differ only in what hidden rows
have to say to them must look the same. How many rows there are in all is no secret: pg_class.reltuples says it.
"""

import psycopg
import pytest

from tests.fixtures.pipelines.documents import drain_all
from tests.fixtures.roles import hash_model, people

pytestmark = pytest.mark.slow

HIDDEN, OWN = 600, 5
TABLES = """
SELECT relname, seq_scan, seq_tup_read, idx_scan, idx_tup_fetch FROM pg_stat_xact_all_tables
WHERE schemaname IN ('embed_store', 'embed', 'public') ORDER BY relname
"""
INDEXES = """
SELECT i.relname, indexrelname, i.idx_scan, i.idx_tup_read, i.idx_tup_fetch, idx_blks_read + idx_blks_hit
FROM pg_stat_all_indexes i JOIN pg_statio_all_indexes USING (indexrelid, indexrelname)
WHERE i.schemaname IN ('embed_store', 'public') ORDER BY 1, 2
"""
# All of bob's rows are wanted: which of them come first decides on how many are looked up.
ASKING = {
    "vector": "SELECT key FROM embed_search('docs', '{}', k => 5)",
    "keyword": "SELECT key FROM embed_search('docs', '{}', k => 5, mode => 'keyword')",
    "hybrid": "SELECT key FROM embed_search('docs', '{}', k => 5, mode => 'hybrid')",
    "one a key": "SELECT key FROM embed_search('docs', '{}', k => 5, max_per_key => 1)",
    "rows": "SELECT (s.row).id FROM embed_search_rows(NULL::docs, '{}', k => 5) s",
}


@pytest.fixture
def docs(db, connect):
    """Hidden rows that all have one word, as many that lie at one point, and a few of bob's; with both indexes."""
    people(db)
    hash_model(db)
    db.execute(
        f"""
        CREATE TABLE docs (id int PRIMARY KEY, tenant name, body text);
        INSERT INTO docs SELECT i, 'alice', CASE WHEN i % 2 = 0 THEN 'secret number ' || i ELSE 'point' END
        FROM generate_series(1, {HIDDEN}) i;
        INSERT INTO docs SELECT -i, 'bob', 'own number ' || i FROM generate_series(1, {OWN}) i;
        CREATE INDEX ON docs (tenant);
        ALTER TABLE docs ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON docs USING (tenant = current_user);
        GRANT SELECT ON docs TO bob;
        SELECT embed_setting('index_from', '100');
        SELECT embed_create('docs', 'docs', columns => '{{body}}', model => 'hash8',
                            options => '{{"language": "simple"}}')
        """
    )
    drain_all(db)
    connect().execute("CALL embed_work(until_empty => true)")
    assert len(db.execute("SELECT FROM pg_indexes WHERE indexname ~ 'g1_(embedding|words)'").fetchall()) == 2
    db.execute("ANALYZE docs; ANALYZE embed_store.g1")


def warm(bob, asked):
    """Fill a session's caches: it knows the questions' vectors, and plans no more (which counts on indexes, too)."""
    for _ in range(3):
        for word in ("secret", "absent", "point", "number", "own"):
            bob.execute(asked.format(word))


def observed(bob, question):
    """What bob can see of a search besides its rows, and how many rows there were."""
    bob.execute("SELECT pg_stat_force_next_flush()")
    before = bob.execute(INDEXES).fetchall()
    with bob.transaction():
        rows = len(bob.execute(question).fetchall())
        tables = bob.execute(TABLES).fetchall()
    bob.execute("SELECT pg_stat_force_next_flush()")
    after = bob.execute(INDEXES).fetchall()
    work = [
        (*now[:2], *(b - a for a, b in zip(then[2:], now[2:], strict=True)))
        for then, now in zip(before, after, strict=True)
    ]
    plan = bob.execute(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS) {question}").fetchall()
    return {"rows": rows, "tables": tables, "indexes": work, "plan": plan}


@pytest.mark.few(2)
@pytest.mark.parametrize("way", ASKING)
def test_hidden_rows_leave_no_trace_in_counters(connect, docs, way):
    asked = ASKING[way]
    bob = connect("bob")
    bob.execute("SET enable_sort = off")  # a plan by the vector index is what the caller would choose
    warm(bob, asked)
    absent = observed(bob, asked.format("absent"))
    assert observed(bob, asked.format("absent")) == absent, "what is compared does not change by itself"
    assert observed(bob, asked.format("secret")) == absent
    assert observed(bob, asked.format("point")) == absent
    own = observed(bob, asked.format("own"))
    assert observed(bob, asked.format("number")) == own
    assert own["rows"] == OWN


def test_hidden_rows_take_no_places(connect, docs):
    bob = connect("bob")
    for question in ("point", "own number 3", "secret number 7"):
        found = bob.execute("SELECT key, score FROM embed_search('docs', %s, k => 5)", (question,)).fetchall()
        exact = bob.execute(
            "SELECT key, 1 - (embedding <=> embed_query('docs', %s)) FROM docs_embedding ORDER BY 2 DESC", (question,)
        ).fetchall()
        assert [key for key, _ in found] == [key for key, _ in exact]
        rows = bob.execute(f"SELECT (s.row).id FROM embed_search_rows(NULL::docs, '{question}', k => 5) s").fetchall()
        assert [key[0] for key, _ in exact] == [key for (key,) in rows]


def test_readers_of_all_rows_go_on_by_the_indexes(db, docs):
    for way, index in (("vector", "g1_embedding_idx"), ("keyword", "words"), ("rows", "g1_embedding_idx")):
        seen = observed(db, ASKING[way].format("secret"))
        assert any(index in name and scans for _, name, scans, *_ in seen["indexes"]), way


def test_a_deleted_row_leaves_no_trace_either(db, connect, docs):
    """Its chunks are there until a worker comes; under row security no search finds them."""
    bob = connect("bob")
    asked = ASKING["keyword"]
    db.execute("DELETE FROM docs WHERE tenant = 'alice'")
    warm(bob, asked)
    assert observed(bob, asked.format("secret")) == observed(bob, asked.format("absent"))


def test_texts_are_in_no_statistics(db, connect, docs):
    bob = connect("bob")
    for view in ("pg_stats", "pg_stats_ext", "pg_stats_ext_exprs"):
        assert bob.execute(f"SELECT FROM {view} WHERE schemaname = 'embed_store'").fetchall() == []
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        bob.execute("SELECT * FROM ts_stat('SELECT to_tsvector(chunk) FROM embed_store.g1')")
    words = bob.execute(
        "SELECT word FROM ts_stat('SELECT to_tsvector(''simple'', chunk) FROM docs_embedding')"
    ).fetchall()
    assert "secret" not in {word for (word,) in words}


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "key",
    ["x int", "s varchar(9)", "w numeric", "c mood", "x uuid, s int", "chunk text, distance numeric"],
)
def test_keys_and_names_of_every_kind(db, connect, key):
    """Rows are looked up by key where its equality is leakproof, and joined where it is not."""
    people(db)
    hash_model(db)
    values = {
        "int": "i",
        "varchar(9)": "'k' || i",
        "numeric": "i / 4.0",
        "mood": "(ARRAY['a', 'b', 'c', 'd'])[i]::mood",
        "uuid": "md5(i::text)::uuid",
        "text": "'k' || i",
    }
    columns = [column.split(" ", 1) for column in key.split(", ")]
    db.execute("CREATE TYPE mood AS ENUM ('a', 'b', 'c', 'd')")
    db.execute(
        f"""
        CREATE TABLE docs ({key}, tenant name, body text, PRIMARY KEY ({", ".join(name for name, _ in columns)}));
        INSERT INTO docs SELECT {", ".join(values[kind] for _, kind in columns)}, (ARRAY['alice', 'bob'])[1 + i % 2],
                                'text ' || i FROM generate_series(1, 4) i;
        ALTER TABLE docs ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON docs USING (tenant = current_user);
        GRANT SELECT ON docs TO bob;
        SELECT embed_create('docs', 'docs', columns => '{{body}}', model => 'hash8'); SELECT embed_drain()
        """
    )
    bob = connect("bob")
    for mode in ("vector", "keyword", "hybrid"):
        found = bob.execute("SELECT chunk FROM embed_search('docs', 'text', mode => %s)", (mode,)).fetchall()
        assert sorted(found) == [("text 1",), ("text 3",)], mode
    rows = bob.execute("SELECT (s.row).body, s.chunk FROM embed_search_rows(NULL::docs, 'text') s").fetchall()
    assert sorted(rows) == [("text 1", "text 1"), ("text 3", "text 3")]
