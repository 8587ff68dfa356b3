"""Templates around chunks: ``$chunk`` is each chunk of the columns, and the rest of the row stands around it."""

import psycopg
import pytest

from tests.fixtures.pipelines.documents import drain_all, verified
from tests.fixtures.roles import hash_model

pytestmark = pytest.mark.shared_database

BODY = "\n\n".join(f"Paragraph {i} of the body says {'something ' * 6}and ends." for i in range(8))
TEMPLATE = "$title\n\n$chunk"


@pytest.fixture
def pages(db, model):
    """A table ``pages(id, title, author, body)`` with one row of several chunks."""
    db.execute("CREATE TABLE pages (id int PRIMARY KEY, title text, author text, body text, shown bool DEFAULT true)")
    db.execute("INSERT INTO pages VALUES (1, 'One', 'Ann', %s)", (BODY,))


def create(db, template=TEMPLATE, **more):
    arguments = {"columns": ["body"], "template": template, "model": "loop", **more}
    named = "".join(f", {name} => %({name})s" for name in arguments)
    db.execute(f"SELECT embed_create('p', 'pages', chunker => embed_chunk_text(200){named})", arguments)


def chunks(db, key=1):
    return [c for (c,) in db.execute("SELECT chunk FROM p_embedding WHERE id = %s ORDER BY chunk_no", (key,))]


def plain(db):
    """The chunks without a template."""
    found = "SELECT chunk FROM embed_preview('pages', '{body}', chunker => embed_chunk_text(200), model => 'loop')"
    return [c for (c,) in db.execute(f"{found} WHERE chunk IS NOT NULL ORDER BY chunk_no")]


def test_the_text_as_sent_is_stored_and_shown(db, pages, provider):
    create(db)
    drain_all(db)
    expected = [f"One\n\n{chunk}" for chunk in plain(db)]
    assert len(expected) > 3
    assert chunks(db) == expected
    assert set(provider.sent) == set(expected)
    assert verified(db, "p")["fresh"] == 1
    assert db.execute("SELECT embed_explain('p', '1')").fetchone()[0].count(": One Paragraph") >= 3


def test_several_places_null_and_dollars(db, pages, provider):
    db.execute("UPDATE pages SET author = NULL, title = '$chunk'")
    create(db, template="[$title|$author] $chunk $$ $chunk")
    drain_all(db)
    assert chunks(db) == [f"[$chunk|] {chunk} $ {chunk}" for chunk in plain(db)]


def test_what_stands_around_re_embeds_all_and_what_is_cut_only_what_changed(db, pages, provider):
    create(db)
    drain_all(db)
    number = len(chunks(db))
    provider.reset()
    db.execute("UPDATE pages SET author = 'Bea'")
    drain_all(db)
    assert not provider.sent, "the author is not in the template"
    db.execute("UPDATE pages SET body = body || ' More.'")
    drain_all(db)
    assert sum(provider.sent.values()) == 1
    provider.reset()
    db.execute("UPDATE pages SET title = 'Two'")
    assert db.execute("SELECT bool_and(is_stale) FROM p_embedding").fetchone() == (True,)
    drain_all(db)
    assert sum(provider.sent.values()) == number
    assert all(chunk.startswith("Two\n\n") for chunk in chunks(db))


def test_a_row_without_text_has_no_chunk_whatever_stands_around(db, pages):
    create(db, only_if="shown")
    db.execute("INSERT INTO pages VALUES (2, 'Title only', NULL, NULL, true), (3, 'Hidden', NULL, 'text', false)")
    drain_all(db)
    assert chunks(db, 2) == chunks(db, 3) == []
    assert verified(db, "p")["fresh"] == 3
    db.execute("UPDATE pages SET shown = true, title = NULL WHERE id = 3")
    drain_all(db)
    assert chunks(db, 3) == ["\n\ntext"]


def test_renames_are_followed_even_to_chunk(db, pages, provider):
    create(db)
    drain_all(db)
    before = chunks(db)
    provider.reset()
    db.execute("ALTER TABLE pages RENAME title TO chunk")
    db.execute("ALTER TABLE pages RENAME body TO title")
    db.execute("SELECT embed_touch('p', '1')")
    drain_all(db)
    assert (chunks(db), dict(provider.sent)) == (before, {})
    assert verified(db, "p")["fresh"] == 1
    definition = db.execute("SELECT embed_get_def('p')").fetchone()[0]
    assert r"E'${chunk}\n\n$chunk'" in definition
    assert "ARRAY['title']" in definition
    db.execute("UPDATE pages SET chunk = 'Three'")
    drain_all(db)
    assert chunks(db)[0].startswith("Three\n\nParagraph")


def test_a_column_named_chunk_is_itself_where_nothing_is_cut(db, pages):
    db.execute("ALTER TABLE pages ADD chunk text DEFAULT 'of wood'")
    db.execute("SELECT embed_create('p', 'pages', template => '$title $chunk', model => 'loop')")
    drain_all(db)
    assert chunks(db) == ["One of wood"]


def test_if_not_exists_compares_template_and_columns(db, pages):
    create(db)
    create(db, template="${title}\n\n$chunk", if_not_exists=True)
    for other in ({"template": "$title\n$chunk"}, {"columns": ["body", "author"]}):
        with pytest.raises(Exception, match=r"another (template|columns)"):
            create(db, **other, if_not_exists=True)


def test_a_preview_shows_what_would_be_sent(db, pages):
    call = "SELECT chunk FROM embed_preview('pages', '{body}', %s, embed_chunk_text(200), 'loop') ORDER BY chunk_no"
    previewed = [c for (c,) in db.execute(call, (TEMPLATE,))]
    create(db)
    drain_all(db)
    assert previewed == chunks(db)


def test_what_is_too_long_after_rendering_fails_or_is_cut(db, pages, provider):
    provider.register(db, "small", input_tokens=60)
    create(db, model="small")
    db.execute("UPDATE pages SET title = repeat('long ', 30)")
    drain_all(db)
    assert chunks(db) == []
    assert "tokens" in db.execute("SELECT message FROM embed_failures").fetchone()[0]
    db.execute("""SELECT embed_alter('p', '{"on_too_long": "truncate"}'), embed_retry('p')""")
    drain_all(db)
    assert {len(chunk) for chunk in chunks(db)} == {240}


def test_a_text_that_each_of_many_chunks_would_repeat_is_refused_and_delays_nobody(db, pages):
    hash_model(db)
    create(db, template="$author$chunk", model="hash8")
    db.execute("INSERT INTO pages SELECT i, '', repeat('x', 100000), %s FROM generate_series(2, 4) i", (BODY * 100,))
    db.execute("INSERT INTO pages SELECT i, '', repeat('x', 400000), %s FROM generate_series(5, 9) i", (BODY,))
    drain_all(db)
    assert db.execute("SELECT array_agg(key ORDER BY key) FROM embed_failures").fetchone() == ([[2], [3], [4]],)
    assert "repeats" in db.execute("SELECT message FROM embed_failures").fetchone()[0]
    assert verified(db, "p")["fresh"] == 6
    with pytest.raises(psycopg.Error, match="repeats") as refused:
        db.execute("SELECT embed_preview('pages', '{body}', '$author$chunk', embed_chunk_text(200), 'loop')")
    assert refused.value.sqlstate == "54000"


def test_a_template_of_very_many_parts(db, pages):
    template = "".join(f"{i} $title " for i in range(150))
    create(db, template=template + "$chunk")
    drain_all(db)
    assert chunks(db)[0].startswith(template.replace("$title", "One") + "Paragraph 0")
