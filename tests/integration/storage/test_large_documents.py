"""An edit of a large document costs in proportion to its chunks.

The kind: something looks at all chunks for each chunk (a chunker, the diff, a plan that reads the table once a row, an
index that is written for a row that only got another number). So the work of an edit is counted, for a document and one
twice as long: pages touched in the server, and rows whose new version needed an entry in every index.
"""

from contextlib import contextmanager

import pytest

from tests.fixtures.pipelines.documents import stale_keys
from tests.fixtures.roles import hash_model, people
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.slow

WORK = "CALL embed_work(until_empty => true)"
CHUNKERS = (
    "embed_chunk_markdown(80)",
    "embed_chunk_markdown(80, context => true)",
    "embed_chunk_text(80, 20)",
    "embed_chunk_html(80)",
)
EDITS = (
    "E'# First of all\n\n' || body",
    "body || E'\n\n# Last of all\n\nand the end'",
    "overlay(body PLACING '' FROM 900 FOR 9)",
)
PARAGRAPHS = """
SELECT string_agg(format(E'## Heading %s\n\nParagraph %s of many.\n\n', i, i), '') FROM generate_series(1, {}) i
"""


def pages(db):
    """Pages that this session's transactions have touched so far, once its statistics are out."""
    db.execute("SELECT pg_stat_force_next_flush()")
    touched = "SELECT blks_hit + blks_read FROM pg_stat_database WHERE datname = current_database()"
    return db.execute(touched).fetchone()[0]


def work_of(db, edit):
    """Pages touched by an edit and all that follows."""
    before = pages(db)
    db.execute(f"UPDATE docs SET body = {edit}")
    db.execute(WORK)
    return pages(db) - before


@pytest.mark.few(2)
@pytest.mark.parametrize("chunker", CHUNKERS)
def test_an_edit_costs_in_proportion(db, chunker):
    hash_model(db)
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text); INSERT INTO docs VALUES (1, 'start')")
    db.execute(f"SELECT embed_create('docs', 'docs', columns => '{{body}}', model => 'hash8', chunker => {chunker})")
    db.execute(WORK)
    costs = []
    for length in (300, 600):
        db.execute(f"UPDATE docs SET body = ({PARAGRAPHS.format(length)})")
        db.execute(WORK)
        costs.append([work_of(db, edit) for edit in EDITS])
    assert stale_keys(db) == []
    for edit, small, large in zip(EDITS, *costs, strict=True):
        assert large < 3 * small, f"{edit}: {small} pages, twice the document {large}"


def test_renumbering_writes_no_index(db):
    """Else each chunk that only got another number is inserted into the HNSW index once more: milliseconds each."""
    hash_model(db)
    db.execute("SELECT embed_setting('index_from', '100')")
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text)")
    db.execute(f"INSERT INTO docs SELECT 1, ({PARAGRAPHS.format(1000)})")
    chunker = "embed_chunk_markdown(60)"
    db.execute(f"SELECT embed_create('docs', 'docs', columns => '{{body}}', model => 'hash8', chunker => {chunker})")
    db.execute(WORK)
    db.execute(WORK)
    assert db.execute("SELECT indexed FROM embed_generations").fetchone() == (True,)
    for number in range(3):
        db.execute("UPDATE docs SET body = %s || body", (f"# Heading {number}\n\n",))
        db.execute(WORK)
    counts = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relid = 'embed_store.g1'::regclass"
    wait_until(lambda: db.execute(counts).fetchone()[0] >= 2900, what="statistics")
    updated, hot = db.execute(counts).fetchone()
    assert hot > 0.98 * updated


def test_an_old_snapshot_keeps_edits_in_proportion(db, connect):
    """It keeps every version of a row, so pages fill up and kept chunks are inserted into the HNSW index again.

    That costs milliseconds a chunk, but nothing may look at all versions for each of them.
    """
    hash_model(db)
    db.execute("SELECT embed_setting('index_from', '100')")
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text); INSERT INTO docs VALUES (1, 'start')")
    chunker = "embed_chunk_markdown(80)"
    db.execute(f"SELECT embed_create('docs', 'docs', columns => '{{body}}', model => 'hash8', chunker => {chunker})")
    costs = []
    for length in (300, 600):
        db.execute(f"UPDATE docs SET body = ({PARAGRAPHS.format(length)})")
        db.execute(WORK)
        db.execute(WORK)
        assert db.execute("SELECT indexed FROM embed_generations").fetchone() == (True,)
        with held_snapshot(connect):
            before = not_hot(db)
            costs.append([work_of(db, f"E'# Heading {number}\n\n' || body") for number in range(4)])
            assert not_hot(db) - before >= length, "no page was full"
    assert stale_keys(db) == []
    small, large = map(sum, costs)
    assert large < 3 * small, f"{small} pages, twice the document {large}"


def test_a_restricted_search_hashes_a_row_once(db, connect):
    """A reader subject to row security is searched exactly; is_stale hashed the whole row for each of its chunks."""
    people(db)
    hash_model(db)
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text); ALTER TABLE docs ALTER body SET STORAGE EXTERNAL")
    db.execute(f"INSERT INTO docs SELECT 1, ({PARAGRAPHS.format(300)})")
    db.execute("ALTER TABLE docs ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON docs USING (id > 0)")
    db.execute("GRANT SELECT ON docs TO bob")
    chunker = "embed_chunk_markdown(80)"
    db.execute(f"SELECT embed_create('docs', 'docs', columns => '{{body}}', model => 'hash8', chunker => {chunker})")
    db.execute(WORK)
    bob = connect("bob")
    for statement in ("SELECT is_stale FROM embed_search('docs', 'many')", "SELECT is_stale FROM docs_embedding"):
        before = body_reads(bob)
        assert {stale for (stale,) in bob.execute(statement)} == {False}
        assert body_reads(bob) - before < 100, statement


def body_reads(session):
    """Pages of texts out of line that have been read."""
    session.execute("SELECT pg_stat_force_next_flush()")
    reads = "SELECT toast_blks_hit + toast_blks_read FROM pg_statio_user_tables WHERE relid = 'docs'::regclass"
    return session.execute(reads).fetchone()[0]


@contextmanager
def held_snapshot(connect):
    """A session whose snapshot is older than all that follows."""
    with connect(autocommit=False) as session:
        session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        session.execute("SELECT count(*) FROM docs")
        yield


def not_hot(db):
    """Rows whose new version needed an entry in every index."""
    db.execute("SELECT pg_stat_force_next_flush()")
    counts = "SELECT n_tup_upd - n_tup_hot_upd FROM pg_stat_user_tables WHERE relid = 'embed_store.g1'::regclass"
    return db.execute(counts).fetchone()[0]
