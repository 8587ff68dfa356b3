"""A vector index that edits have bloated is built again, while searches go on."""

import pytest

pytestmark = pytest.mark.slow

WORK = "CALL embed_work(until_empty => true)"
ROWS = 2_000
INDEXES = """
SELECT c.relname::text, c.oid::int, pg_relation_size(c.oid)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = 'embed_store.g1'::regclass AND pg_get_indexdef(c.oid) LIKE '%hnsw%' ORDER BY c.relname
"""


@pytest.fixture
def indexed(db, connect):
    """A pipeline whose index has been built and measured; returns the index's oid and size."""
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, version int, body text)")
    db.execute("INSERT INTO docs SELECT i, 0, 'body ' || i FROM generate_series(1, %s) i", (ROWS,))
    db.execute("SELECT embed_setting('index_from', '1000')")
    db.execute("SELECT embed_model_add('hashed', 'hash', 128)")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{version,body}', model => 'hashed')")
    for _ in range(3):  # embeds; builds the index; measures it
        connect().execute(WORK)
    ((_, oid, size),) = db.execute(INDEXES).fetchall()
    return oid, size


def edit(db, rows=ROWS):
    db.execute("UPDATE docs SET version = version + 1 WHERE id <= %s", (rows,))


def test_it_is_built_again_after_edits(db, connect, indexed):
    oid, size = indexed
    edit(db)
    connect().execute(WORK)
    connect().execute(WORK)
    connect().execute(WORK)
    ((name, now, smaller),) = db.execute(INDEXES).fetchall()
    assert name == "g1_embedding_idx"
    assert now != oid
    assert smaller < 1.2 * size
    assert db.execute("SELECT indexed FROM embed_generations").fetchone() == (True,)
    ((key,),) = db.execute("SELECT key FROM embed_search('docs', E'1\n\nbody 77', k => 1)").fetchall()
    assert key == [77]
    connect().execute(WORK)
    assert db.execute(INDEXES).fetchall() == [(name, now, smaller)], "it is built once"


@pytest.mark.stress
def test_a_few_edits_leave_it_alone(db, connect, indexed):
    edit(db, ROWS // 2)
    for _ in range(3):
        connect().execute(WORK)
    ((_, oid, _),) = db.execute(INDEXES).fetchall()
    assert oid == indexed[0]


@pytest.mark.stress
def test_growth_leaves_it_alone(db, connect, indexed):
    db.execute(
        "INSERT INTO docs SELECT i, 0, 'body ' || i FROM generate_series(%s::int, %s::int) i", (ROWS + 1, 2 * ROWS)
    )
    for _ in range(3):
        connect().execute(WORK)
    ((_, oid, _),) = db.execute(INDEXES).fetchall()
    assert oid == indexed[0]


@pytest.mark.stress
def test_a_reader_is_not_waited_for(db, connect, indexed):
    """The new index waits for its turn; the old one serves until then."""
    oid, _ = indexed
    edit(db)
    connect().execute(WORK)
    connect().execute(WORK)
    reader = connect(autocommit=False)
    reader.execute("SELECT count(*) FROM docs_embedding")
    edit(db, 5)
    connect().execute(WORK)
    assert [(name, found == oid) for name, found, _ in db.execute(INDEXES).fetchall()] == [
        ("g1_embedding_idx", True),
        ("g1_embedding_new_idx", False),
    ]
    assert db.execute("SELECT indexed, maintenance_error FROM embed_generations").fetchone() == (True, None)
    assert len(connect().execute("SELECT FROM embed_search('docs', 'body 77', k => 5)").fetchall()) == 5
    reader.rollback()
    connect().execute(WORK)
    ((name, now, _),) = db.execute(INDEXES).fetchall()
    assert (name, now == oid) == ("g1_embedding_idx", False)
