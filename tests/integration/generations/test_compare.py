"""embed_compare: equal generations agree, and it reveals no hidden row to a caller."""

import pytest

from tests.fixtures.pipelines.documents import drain_all
from tests.fixtures.roles import people

pytestmark = pytest.mark.shared_database


@pytest.fixture
def built(db, pipeline):
    db.execute("INSERT INTO docs SELECT i, 'title ' || i, 'body ' || i FROM generate_series(11, 60) i")
    db.execute("SELECT embed_build('docs')")
    drain_all(db)


def test_identical_generations_find_the_same(db, built, provider):
    provider.reset()
    found = db.execute("SELECT overlap, active_keys = building_keys FROM embed_compare('docs', k => 7)").fetchall()
    assert len(found) >= 10
    assert set(found) == {(1.0, True)}
    assert all(len(texts) == 1 for texts in provider.requests), "questions only"


def test_questions_that_are_given(db, built):
    rows = db.execute("SELECT * FROM embed_compare('docs', ARRAY['one', NULL, ' ', 'two'], 3)").fetchall()
    assert [row[0] for row in rows] == ["one", "two"]
    for _, overlap, active, building in rows:
        assert overlap == 1.0
        assert len(active) == len(building) == 3
        assert active == [row[0] for row in db.execute("SELECT key FROM embed_search('docs', %s, 3)", (_,)).fetchall()]


def test_rows_with_many_chunks_count_once(db, docs, models):
    db.execute("UPDATE docs SET body = repeat('some words. ', 60)")
    db.execute(
        "SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'old',"
        " chunker => embed_chunk_text(60))"
    )
    db.execute("SELECT embed_build('docs', chunker => embed_chunk_text(120))")
    drain_all(db)
    for _, _, active, building in db.execute("SELECT * FROM embed_compare('docs', k => 4)").fetchall():
        for keys in (active, building):
            assert len({str(key) for key in keys}) == len(keys) == 4


def test_rows_that_are_hidden_stay_hidden(db, connect, docs, models):
    """Also from the owner of the table, if row security is forced."""
    people(db)
    db.execute("ALTER TABLE docs OWNER TO alice; ALTER TABLE docs ENABLE ROW LEVEL SECURITY")
    db.execute("INSERT INTO docs SELECT i, 'secret', 'secret ' || i FROM generate_series(11, 30) i")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'old')")
    db.execute("SELECT embed_build('docs')")
    drain_all(db)
    db.execute("CREATE POLICY few ON docs USING (id <= 5); ALTER TABLE docs FORCE ROW LEVEL SECURITY")
    rows = connect("alice").execute("SELECT * FROM embed_compare('docs', k => 10)").fetchall()
    assert rows
    for question, _, active, building in rows:
        assert "secret" not in question
        assert {key[0] for key in (*active, *building)} <= {1, 2, 3, 4, 5}
