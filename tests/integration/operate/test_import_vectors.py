"""embed_import_vectors: imported vectors are found by their text, make nothing fresh, and need embed_admin."""

import pytest
from psycopg import DataError, errors

from tests.fixtures.error_checks import agree, complaint
from tests.fixtures.pipelines.documents import assert_as_source, drain_all, source_texts, verified
from tests.fixtures.pipelines.freshness import assert_fresh
from tests.fixtures.providers.loopback import vector
from tests.fixtures.roles import people

pytestmark = pytest.mark.shared_database

IMPORT = "SELECT embed_import_vectors(%s, %s::text[], %s::text[]::vector[], %s::text[]::jsonb[])"
CREATE = "SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop', options => %s)"


def import_vectors(db, texts, keys=None, dimensions=8, pipeline="docs", vectors=None):
    vectors = [str(vector(text, dimensions)) for text in texts] if vectors is None else vectors
    return db.execute(IMPORT, (pipeline, texts, vectors, keys)).fetchone()[0]


def kept(db):
    return db.execute("SELECT count(*) FROM embed.cache").fetchone()[0]


@pytest.fixture
def pipeline(db, docs, model):
    db.execute(CREATE, ("{}",))
    return "docs"


def test_only_texts_that_are_not_among_them_are_sent(db, pipeline, provider):
    texts = source_texts(db)
    assert import_vectors(db, [texts[key] for key in range(1, 8)]) == 7
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 7")
    assert verified(db)["fresh"] == 0  # nothing became fresh by being imported
    drain_all(db)
    assert provider.sent == {text: 1 for key, text in source_texts(db).items() if key >= 7}
    assert_as_source(db)


def test_what_is_live_already_is_not_kept_twice(db, pipeline, provider):
    drain_all(db)
    assert import_vectors(db, list(source_texts(db).values())) == 10
    assert kept(db) == 0


def test_a_vector_of_our_own_is_not_replaced(db, pipeline, provider):
    drain_all(db)
    before = source_texts(db)[1]
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 1")
    drain_all(db)
    assert import_vectors(db, [before], vectors=[str([9.0] * 8)]) == 1
    db.execute("UPDATE docs SET body = 'body 1' WHERE id = 1")
    drain_all(db)
    assert_as_source(db)


def test_blank_texts_need_no_vector_and_the_same_text_may_come_twice(db, pipeline):
    assert import_vectors(db, ["", " \n", "one", "one"]) == 4
    assert kept(db) == 1


def test_a_text_that_may_have_been_cut_is_that_of_a_pipeline_that_cuts(db, docs, provider):
    """A vector of what may be only a text's beginning is none of the text, where texts are not cut."""
    provider.register(db, input_tokens=10)
    db.execute(CREATE, ("{}",))
    short, maybe, long = "ten chars.", "thirty characters, four each..", "x" * 41
    assert import_vectors(db, [short, maybe, long]) == 2
    db.execute("SELECT embed_alter('docs', '{\"on_too_long\": \"truncate\"}')")
    db.execute("DELETE FROM docs")
    db.execute("INSERT INTO docs (id, body) VALUES (1, %s), (2, %s), (3, %s)", (short, maybe, long))
    assert import_vectors(db, [maybe, long]) == 1
    drain_all(db)
    assert provider.sent == {"x" * 40: 1}


def test_an_erased_row_takes_its_imported_vectors_along(db, pipeline, provider):
    """An earlier text of the row, which nothing else knows of any more."""
    assert import_vectors(db, ["earlier text", "text of another"], ["[1]", "2"]) == 2
    db.execute("DELETE FROM docs WHERE id = 1")
    db.execute("SELECT embed_forget('docs', '[1]')")
    assert kept(db) == 1
    assert import_vectors(db, [source_texts(db)[2]], ["[2]"]) == 1
    db.execute("SELECT embed_forget('docs', '[2]')")
    assert import_vectors(db, [source_texts(db)[2]]) == 0  # erased is erased
    assert kept(db) == 0


def test_keys_are_brought_to_their_stored_form(db, model):
    db.execute("CREATE TABLE docs (id numeric, at timestamptz, body text, PRIMARY KEY (id, at))")
    db.execute("INSERT INTO docs VALUES (1.50, '2024-05-01 12:00+00', 'body')")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
    db.execute("SET TimeZone = 'Asia/Kathmandu'")
    key = db.execute("SELECT jsonb_build_array(id, at)::text FROM docs").fetchone()[0]
    import_vectors(db, ["earlier text"], [key])
    assert db.execute("SELECT key FROM embed.cache").fetchone()[0] == [1.5, "2024-05-01T12:00:00+00:00"]


GOOD = [str([1.0] * 8)]
BAD = [
    (("nope", ["a"], GOOD, None), "42704"),
    ((None, ["a"], GOOD, None), "42704"),
    (("docs", None, GOOD, None), "22004"),
    (("docs", ["a"], None, None), "22004"),
    (("docs", [None], GOOD, None), "22004"),
    (("docs", ["a"], [None], None), "22004"),
    (("docs", ["a"], GOOD, [None]), "22004"),
    (("docs", ["a", "b"], GOOD, None), "2202E"),
    (("docs", ["a"], GOOD, ["1", "2"]), "2202E"),
    (("docs", [["a"]], GOOD, None), "2202E"),
    (("docs", ["a"], [str([1.0] * 7)], None), "22023"),
    (("docs", ["a"], ["[1]"], None), "22023"),
    (("docs", ["a"], GOOD, ['"x"']), "22P02"),
    (("docs", ["a"], GOOD, ["[1, 2]"]), "22023"),
    (("docs", ["a", "b"], GOOD * 2, ["[1]", '["x"]']), "22P02"),
]


def test_what_makes_no_sense_is_refused(db, pipeline):
    found = {str(arguments): complaint(db, db, IMPORT, arguments) for arguments, _ in BAD}
    agree(found, {str(arguments): (state, None) for arguments, state in BAD})
    assert kept(db) == 0


def test_a_vector_that_is_not_finite_is_refused(db, pipeline):
    for number in ("NaN", "Infinity", "1e39"):
        with pytest.raises(DataError):
            import_vectors(db, ["a"], vectors=[f"[{number},1,1,1,1,1,1,1]"])
    assert kept(db) == 0


def test_a_mistake_in_one_leaves_none(db, pipeline):
    with pytest.raises(errors.InvalidParameterValue, match="vector 2 has 3 dimensions"):
        import_vectors(db, ["a", "b"], vectors=[str([1.0] * 8), "[1,2,3]"])
    assert kept(db) == 0


def test_vectors_are_shared_so_only_an_admin_may(db, connect, model):
    """The owner of a table could else give a text the vector of another in everybody's pipelines."""
    people(db)
    db.execute("CREATE TABLE alice.docs (id int PRIMARY KEY, title text, body text)")
    db.execute("INSERT INTO alice.docs VALUES (1, 'a', 'b'); ALTER TABLE alice.docs OWNER TO alice")
    db.execute("SELECT embed_create('docs', 'alice.docs', columns => '{title,body}', model => 'loop')")
    for name in ("alice", "bob", "the_worker", "the_payer"):
        with pytest.raises(errors.InsufficientPrivilege):
            import_vectors(connect(name), ["a\n\nb"])
    assert kept(db) == 0
    assert import_vectors(connect("the_admin"), ["a\n\nb"]) == 1


def test_in_read_committed_only(db, pipeline):
    with db.transaction():
        db.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        with pytest.raises(errors.ActiveSqlTransaction), db.transaction():
            import_vectors(db, ["a"])


def test_a_chunked_text_is_found_chunk_by_chunk(db, provider, model):
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text)")
    db.execute("INSERT INTO docs VALUES (1, 'T', 'one two three four five')")
    db.execute(
        "SELECT embed_create('docs', 'docs', columns => '{body}', template => '$title: $chunk', model => 'loop',"
        " chunker => embed_chunk_recursive(size => 10, overlap => 4, separators => ARRAY[' ', '']))"
    )
    assert import_vectors(db, ["T: one two", "T: four five"]) == 2
    drain_all(db)
    shown = db.execute("SELECT chunk FROM docs_embedding ORDER BY chunk_no").fetchall()
    assert [chunk for (chunk,) in shown] == ["T: one two", "T: two three", "T: four five"]
    assert provider.sent == {"T: two three": 1}
    assert_fresh(db, "docs", 1)
