"""Chunks are added by COPY in binary where that is possible and by INSERT elsewhere: one sees no difference."""

import pytest

from tests.fixtures.pipelines.documents import assert_as_source, drain_all

pytestmark = [pytest.mark.shared_database, pytest.mark.own_sessions]

TABLE = "CREATE TABLE docs (a int2, b int4, c int8, d text, e varchar(9), f uuid, {extra} title text, body text, "
ROWS = """INSERT INTO docs (a, b, c, d, e, f, title, body)
SELECT -i, -i * 100000, -i * 10000000000, 'Ä"\\ ☃' || i, E'\\té' || i, md5(i::text)::uuid, 'Größe ' || i, 'body — ' || i
FROM generate_series(1, 20) i"""
WAYS = {
    "COPY": "pass",
    "COPY from several writes": "binary_copy._PARTS_AT_ONCE = 7",
    "no files in memory": "del os.memfd_create",
    "no leave to make one": "os.memfd_create = lambda name: open('/proc/nothing')",
    "the server may not open it": "binary_copy.in_memory_file = elsewhere",
}
WAY = """DO LANGUAGE plpython3u $$
import contextlib, os
from evergreen.storage import binary_copy, chunks

@contextlib.contextmanager
def elsewhere(fields, rows):
    yield '/proc/nothing'

def counted(*arguments, _insert=chunks._insert):
    GD['inserts'] = GD.get('inserts', 0) + 1
    _insert(*arguments)

chunks._insert = counted
{way}
$$"""
WORK = {"drain": "SELECT embed_drain()", "worker": "CALL embed_work(until_empty => true)"}


@pytest.fixture
def inserts(db):
    """Count the INSERTs of a session so far."""
    db.execute("""CREATE FUNCTION inserts() RETURNS int LANGUAGE plpython3u AS $$return GD.get('inserts', 0)$$""")
    return lambda session: session.execute("SELECT inserts()").fetchone()[0]


@pytest.fixture
def open_files(db):
    """Count the open files of a session's backend."""
    db.execute("""CREATE FUNCTION files() RETURNS int LANGUAGE plpython3u AS $$
        import os
        return sum(os.readlink(f'/proc/self/fd/{fd}').startswith('/memfd:') for fd in os.listdir('/proc/self/fd')
                   if os.path.exists(f'/proc/self/fd/{fd}'))$$""")
    return lambda session: session.execute("SELECT files()").fetchone()[0]


def made(db, session, work, *, extra=""):
    """Make docs with keys of several types and a pipeline over it, embed it, return what is stored, by key."""
    db.execute(TABLE.format(extra=extra) + f"PRIMARY KEY (a, b, c, d, e, f{', g' if extra else ''}))")
    db.execute(ROWS)
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    session.execute(work)
    return db.execute("""SELECT key::text, a, b, c, d, e, f, chunk_no, chunk, embedding::text, model, fingerprint,
        embedded_at BETWEEN clock_timestamp() - interval '1 min' AND clock_timestamp() AS now, is_stale
        FROM docs_embedding ORDER BY a DESC""").fetchall()


@pytest.mark.few(5)
@pytest.mark.slow
@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
@pytest.mark.parametrize("way", WAYS)
def test_every_way_writes_the_same(db, connect, model, provider, inserts, open_files, way, work):
    session = connect()
    session.execute("SELECT embed_drain()")
    session.execute(WAY.replace("{way}", WAYS[way]))
    rows = made(db, session, work)
    assert inserts(session) == (0 if way.startswith("COPY") else 1)
    assert open_files(session) == 0
    source = db.execute("SELECT a, b, c, d, e, f, title || E'\\n\\n' || body FROM docs ORDER BY a DESC").fetchall()
    assert [(*row[1:7], row[8]) for row in rows] == source
    assert all(row[7] == 0 and row[10] == "loop" and row[12] and not row[13] for row in rows)
    db.execute("SELECT embed_verify('docs')")
    assert db.execute("SELECT embed_drain()").fetchone() == (0,)


@pytest.mark.slow
def test_what_is_copied_is_what_would_be_inserted(db, connect, model):
    """Fingerprints, keys and vectors to the last bit."""
    found = []
    for way in ("COPY", "no files in memory"):
        session = connect()
        session.execute("SELECT embed_drain()")
        session.execute(WAY.replace("{way}", WAYS[way]))
        found.append(made(db, session, WORK["drain"]))
        db.execute("SELECT embed_drop('docs')")
        db.execute("DROP TABLE docs; DELETE FROM embed.cache")
    assert found[0] == found[1]


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["LATIN1", "SJIS", "UTF8"])
def test_the_encoding_of_whoever_drains_changes_nothing(db, connect, model, encoding):
    session = connect(client_encoding=encoding)
    rows = made(db, session, WORK["drain"])
    assert [row[8] for row in rows] == [f"Größe {i}\n\nbody — {i}" for i in range(1, 21)]
    assert [row[4] for row in rows] == [f'Ä"\\ ☃{i}' for i in range(1, 21)]


@pytest.mark.slow
def test_a_key_of_another_type_is_inserted(db, connect, model, inserts):
    session = connect()
    session.execute("SELECT embed_drain()")
    session.execute(WAY.replace("{way}", "pass"))
    assert len(made(db, session, WORK["drain"], extra="g date DEFAULT '2024-02-29',")) == 20
    assert inserts(session) == 1


def test_vectors_that_were_kept_come_back_the_same(db, docs, model, provider):
    """From a table to the cache and from there to a table, in binary, without another call."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    drain_all(db)
    before = db.execute("SELECT id, embedding::text FROM docs_embedding ORDER BY id").fetchall()
    db.execute("CREATE TABLE copy AS SELECT * FROM docs; DELETE FROM docs")
    drain_all(db)
    db.execute("INSERT INTO docs SELECT * FROM copy")
    provider.reset()
    drain_all(db)
    assert db.execute("SELECT id, embedding::text FROM docs_embedding ORDER BY id").fetchall() == before
    assert not provider.sent
    assert_as_source(db)


def test_an_error_leaves_nothing_behind(db, connect, docs, model, open_files):
    """A row that the table refuses: neither documents nor chunks nor files stay."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    (table,) = db.execute("SELECT 'embed_store.g' || max(id) FROM embed.generation").fetchone()
    db.execute(f"ALTER TABLE {table} ADD CONSTRAINT not_three CHECK (k1 <> 3)")
    session = connect()
    session.execute("SELECT embed_drain()")
    assert open_files(session) == 0
    assert db.execute(f"SELECT (SELECT count(*) FROM {table}), (SELECT count(*) FROM embed.document)").fetchone() == (
        0,
        0,
    )
