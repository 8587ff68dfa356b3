"""What the store takes on disk is bounded by what is live, however often it is replaced.

The kind: bytes that grow with the number of edits, or with page layout, and not with the data. They may be dead rows,
an index, vectors out of line, or vectors that are kept for a revert.
"""

import pytest

from tests.fixtures.error_checks import refused
from tests.fixtures.pipelines.documents import drain_all
from tests.fixtures.roles import hash_model

DIMENSIONS, DOCUMENTS, PARAGRAPHS = 384, 60, 20
SIZE = """SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c
          WHERE c.relkind = 'r' AND c.relnamespace IN ('embed'::regnamespace, 'embed_store'::regnamespace)"""
TABLES = "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relnamespace::regnamespace::text ~ '^embed'"
TEXT = """SELECT string_agg(repeat(md5(concat(i, '/', j, {salt})) || ' ', {words}), E'\\n\\n' ORDER BY j)
          FROM generate_series(1, {paragraphs}) j"""
WORK = "CALL embed_work(until_empty => true)"


def text(salt="''", words=12, paragraphs=PARAGRAPHS):
    return "(" + TEXT.format(salt=salt, words=words, paragraphs=paragraphs) + ")"


def create(db, dimensions=DIMENSIONS, size=500, words=12):
    hash_model(db, f"hash{dimensions}", dimensions)
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text)")
    db.execute(f"INSERT INTO docs SELECT i, {text(words=words)} FROM generate_series(1, {DOCUMENTS}) i")
    db.execute(
        "SELECT embed_create('docs', 'docs', columns => '{body}', model => %s, chunker => embed_chunk_text(%s))",
        (f"hash{dimensions}", size),
    )
    db.execute(WORK)


def replaced(db, salt):
    """Replace every text, and vacuum as autovacuum would."""
    db.execute(f"UPDATE docs SET body = (SELECT t FROM (SELECT docs.id AS i) d, LATERAL {text(salt)} t (t))")
    db.execute(WORK)
    db.execute(WORK)  # its first step is a worker's housekeeping
    for (table,) in db.execute(TABLES).fetchall():
        db.execute(f"VACUUM {table}")


def size(db):
    return db.execute(SIZE).fetchone()[0]


@pytest.mark.slow
@pytest.mark.parametrize("index_from", [1_000_000, pytest.param(500, marks=pytest.mark.stress)])
def test_bulk_edits_do_not_add_up(db, index_from):
    db.execute(f"SELECT embed_setting('index_from', '{index_from}')")
    create(db)
    first = size(db)
    sizes = []
    for salt in range(1, 7):
        replaced(db, salt)
        sizes.append(size(db))
    assert db.execute("SELECT count(*) FROM embed.cache").fetchone()[0] <= DOCUMENTS * PARAGRAPHS
    assert sizes[-1] <= 1.15 * sizes[1], sizes
    assert sizes[-1] <= 4 * first, (first, sizes)


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("dimensions", "chunk", "words"), [(64, 800, 20), (256, 800, 15), (384, 500, 12), (384, 800, 20), (768, 800, 20)]
)
def test_a_page_is_full_to_its_half_and_renumbering_is_hot(db, dimensions, chunk, words):
    """A row that is alone on its page takes 8 kB whatever is in it; one that moves to another page is indexed again."""
    create(db, dimensions, chunk, words)
    chunks, text_size = db.execute("SELECT count(*), avg(length(chunk)) FROM embed_store.g1").fetchone()
    assert chunks == DOCUMENTS * PARAGRAPHS
    table = db.execute("SELECT pg_table_size('embed_store.g1')").fetchone()[0]
    assert table / chunks < 2.3 * (4 * dimensions + float(text_size) + 330)
    db.execute("UPDATE docs SET body = 'One more at the start, and no part of the next one. ' || E'\\n\\n' || body")
    db.execute(WORK)
    db.execute("SELECT pg_stat_force_next_flush()")
    updated, hot = db.execute(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_all_tables WHERE relid = 'embed_store.g1'::regclass"
    ).fetchone()
    assert updated > 0
    assert hot >= 0.97 * updated


def test_what_a_revert_needs_is_kept_and_what_was_imported_too(db):
    create(db)
    db.execute("SELECT embed_import_vectors('docs', ARRAY['imported'], ARRAY[%s::vector])", (str([1.0] * DIMENSIONS),))
    live = DOCUMENTS * PARAGRAPHS
    db.execute("ANALYZE embed_store.g1")
    replaced(db, 1)
    replaced(db, 2)
    assert db.execute("SELECT count(*) FROM embed.cache WHERE replaced").fetchone() == (live,)
    assert db.execute("SELECT count(*) FROM embed.cache WHERE NOT replaced").fetchone() == (1,)
    replaced(db, 1)  # back to what was there before
    assert db.execute("SELECT saved_by_cache >= %s FROM embed_usage", (live,)).fetchone() == (True,)


def test_the_limit_is_a_setting(db):
    create(db)
    db.execute("SELECT embed_setting('cache_limit', '100')")
    replaced(db, 1)
    assert db.execute("SELECT count(*) FROM embed.cache").fetchone() == (100,)
    for wrong in ("-1", "1.5", "much", ""):
        assert refused(db, f"SELECT embed_setting('cache_limit', '{wrong}')").sqlstate == "22023"
    assert db.execute("SELECT embed_setting('cache_limit', 'auto')").fetchone() == ("auto",)
    drain_all(db)
