"""Chunks of a document that is edited: as if cut from scratch, unchanged ones kept, old or new but never a half."""

import threading
from collections import Counter, defaultdict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evergreen.prepare.chunkers import split_markdown
from tests.fixtures.markdown_edits import document, edited, edits
from tests.fixtures.pipelines.documents import drain_all, verified
from tests.fixtures.providers.loopback import vector
from tests.fixtures.roles import hash_model
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.shared_database

SIZE = 400
ROWS = "SELECT chunk_no, chunk, id, embedding::vector::float4[] FROM embed_store.g{} ORDER BY chunk_no"


class Document:
    """One row of a pipeline with the markdown chunker; every text it ever had was paid for once."""

    def __init__(self, db, provider):
        self.db, self.provider = db, provider
        db.execute("CREATE TABLE pages (id int PRIMARY KEY, body text)")
        db.execute("INSERT INTO pages VALUES (1, '')")
        chunker = f"embed_chunk_markdown({SIZE})"
        db.execute(f"SELECT embed_create('pages', 'pages', '{{body}}', model => 'loop', chunker => {chunker})")
        self.rows = ROWS.format(db.execute("SELECT id FROM embed.generation").fetchone()[0])
        self.paid: set[str] = set()
        self.ids: dict[str, set[int]] = {}

    def save(self, blocks):
        """Write, drain and compare with chunks made from scratch."""
        text = "\n\n".join(blocks)
        wanted = split_markdown(text, SIZE)
        self.provider.reset()
        self.db.execute("UPDATE pages SET body = %s", (text,))
        drain_all(self.db)
        found = self.db.execute(self.rows).fetchall()
        assert [(number, chunk) for number, chunk, *_ in found] == list(enumerate(wanted))
        assert self.provider.sent == Counter(set(wanted) - self.paid)
        self.paid.update(wanted)
        self._compare_identity(found)

    def _compare_identity(self, found):
        ids = defaultdict(set)
        for _, chunk, number, embedding in found:
            ids[chunk].add(number)
            assert embedding == pytest.approx(vector(chunk, 8)), chunk
        for chunk, before in self.ids.items():
            now = ids.get(chunk, set())
            assert len(before & now) == min(len(before), len(now)), f"{chunk!r} did not keep its rows"
        self.ids = ids

    def check(self):
        """What the view and embed_verify say at the end."""
        view = self.db.execute("SELECT chunk, is_stale FROM pages_embedding ORDER BY chunk_no").fetchall()
        assert view == [(chunk, False) for _, chunk, *_ in self.db.execute(self.rows).fetchall()]
        assert verified(self.db, "pages") == {"fresh": 1, "stale": 0, "missing": 0, "orphan": 0, "mixed": 0}


def stories(number, length):
    """Run so many documents through so many edits each."""

    def run(db, provider):
        page = Document(db, provider)

        @settings(max_examples=number, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(st.integers(0, 2**32 - 1), st.lists(edits, min_size=length, max_size=length))
        def story(seed, steps):
            blocks = document(seed)
            page.save(blocks)
            for step in steps:
                blocks = edited(blocks, step)
                page.save(blocks)
            page.check()

        story()

    return run


def test_edits_at_random_leave_what_cutting_from_scratch_gives(db, model, provider):
    stories(4, 12)(db, provider)


@pytest.mark.stress
def test_a_thousand_edits_at_random_leave_what_cutting_from_scratch_gives(db, model, provider):
    stories(40, 25)(db, provider)


@pytest.mark.parametrize("call", ["SELECT embed_drain()", "CALL embed_work(until_empty => true)"])
def test_readers_see_old_or_new_chunks_and_never_a_half(db, connect, model, call):
    db.execute("CREATE TABLE pages (id int PRIMARY KEY, body text)")
    versions = ["\n\n".join(document(seed, 60)) for seed in (1, 2)]
    versions.append("\n\n".join(block for text in versions for block in text.split("\n\n")[::2]))
    whole = [split_markdown(text, SIZE) for text in versions]
    assert min(map(len, whole)) > 10
    db.execute("INSERT INTO pages VALUES (1, %s)", (versions[0],))
    chunker = f"embed_chunk_markdown({SIZE})"
    db.execute(f"SELECT embed_create('pages', 'pages', '{{body}}', model => 'loop', chunker => {chunker})")
    db.execute(call)
    reader, seen, stop = connect(), [], threading.Event()

    def read():
        while not stop.is_set():
            found = reader.execute("SELECT array_agg(chunk ORDER BY chunk_no) FROM pages_embedding").fetchone()[0]
            if not seen or seen[-1] != found:
                seen.append(found)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    for number in range(1, 16):
        db.execute("UPDATE pages SET body = %s", (versions[number % 3],))
        db.execute(call)
        wait_until(lambda number=number: seen and seen[-1] == whole[number % 3], what="the reader's turn")
    stop.set()
    thread.join(20)
    assert [found for found in seen if found not in whole] == []


def test_renumbering_a_long_document_touches_no_index(db):
    """A chunk put in at the front renumbers thousands, on their own pages."""
    hash_model(db)
    db.execute("CREATE TABLE pages (id int PRIMARY KEY, body text)")
    text = "\n\n".join(f"# Section {i}\n\nText of {i}." for i in range(3000))
    db.execute("INSERT INTO pages VALUES (1, %s)", (text,))
    chunker = "embed_chunk_markdown(800)"
    db.execute(f"SELECT embed_create('pages', 'pages', '{{body}}', model => 'hash8', chunker => {chunker})")
    drain_all(db)
    db.execute("UPDATE pages SET body = E'# New\n\nText.\n\n' || body")
    drain_all(db)
    db.execute("SELECT pg_stat_force_next_flush()")
    table = db.execute("SELECT 'g' || id FROM embed.generation").fetchone()[0]
    query = "SELECT n_tup_upd, n_tup_hot_upd, n_tup_ins, n_tup_del FROM pg_stat_all_tables WHERE relname = %s"
    found = db.execute(query, (table,)).fetchone()
    assert found == (3000, 3000, 3001, 0)
