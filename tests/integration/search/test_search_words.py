"""embed_search by keyword and hybrid: the words, the fusion, the caller's own rights, and the index."""

import pytest
from psycopg import errors

from tests.fixtures.pipelines.documents import drain_all
from tests.fixtures.roles import hash_model, people

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

WORK = "CALL embed_work(until_empty => true)"
TEXTS = {
    1: "To reset your password open the settings",
    2: "Passwords are stored as hashes, never as text",
    3: "Invoices are sent on the first day of each month",
    4: "The settings of the printer",
}


def search(db, query, options="mode => 'keyword'"):
    rows = db.execute(f"SELECT key, score FROM embed_search('docs', %s, {options})", (query,)).fetchall()
    assert [score for _, score in rows] == sorted((score for _, score in rows), reverse=True)
    return [key[0] for key, _ in rows]


@pytest.fixture
def docs(db, model):
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text)")
    db.execute("INSERT INTO docs SELECT * FROM unnest(%s::int[], %s::text[])", (list(TEXTS), list(TEXTS.values())))
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
    db.execute("SELECT embed_drain()")
    return "docs"


def many(db, rows=3000, **options):
    """A table with one rare word in each hundredth row, seen by bob where 500 divides its number."""
    hash_model(db)
    people(db)
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text)")
    word = "CASE WHEN i % 100 = 0 THEN 'needle in row ' ELSE 'hay in row ' END"
    db.execute(f"INSERT INTO docs SELECT i, {word} || i FROM generate_series(1, {rows}) i")
    db.execute("ALTER TABLE docs ENABLE ROW LEVEL SECURITY; GRANT SELECT ON docs TO bob")
    db.execute("CREATE POLICY few ON docs TO bob USING (id % 500 = 0)")
    db.execute("SELECT embed_setting('index_from', '1000')")
    create = "SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8', options => %s)"
    db.execute(create, ('{"language": "simple"}',))
    drain_all(db)


def words_of_index(db):
    found = db.execute("SELECT indexname, indexdef FROM pg_indexes WHERE indexname ~ '_words_'").fetchall()
    return [(name, definition.split("to_tsvector(")[1].split("::")[0]) for name, definition in found]


def test_words_are_found_in_every_form_and_without_a_model(db, docs, provider):
    provider.reset()
    assert set(search(db, "password")) == {1, 2}
    assert search(db, "reset settings") == [1]
    assert search(db, "settings -password") == [4]
    assert search(db, '"first day"') == [3]
    assert search(db, "invoice or printers") in ([3, 4], [4, 3])
    assert search(db, "nothing like it") == []
    assert search(db, "the of") == []
    assert provider.sent == {}


def test_hybrid_fuses_words_and_vectors(db, docs):
    """A chunk with all words comes first; where no word is found the vectors are what is left, in their order."""
    assert search(db, "password settings") == [1]
    rows = db.execute("SELECT key, score FROM embed_search('docs', 'password settings', mode => 'hybrid')").fetchall()
    assert rows[0][0] == [1]
    assert {key[0] for key, _ in rows} == set(TEXTS)
    assert all(0 <= score <= 1 for _, score in rows)
    assert len(search(db, "password", "mode => 'hybrid', k => 2")) == 2
    nearest = db.execute("SELECT key, score FROM embed_search('docs', 'zebra') WHERE score > 0").fetchall()
    found = search(db, "zebra", "mode => 'hybrid'")
    assert set(found) == set(TEXTS), "where no word is found vectors are what is left"
    assert found[: len(nearest)] == [key[0] for key, _ in nearest]


def test_hybrid_finds_what_alone_has_the_rare_words_whatever_the_vectors_say(db, connect):
    """The vectors of all other rows are the question's, and that row's points the other way."""
    db.execute(
        "CREATE FUNCTION opposite(text[]) RETURNS vector[] LANGUAGE sql IMMUTABLE AS"
        " $$ SELECT array_agg(CASE WHEN t LIKE '%ledger%' THEN '[-1,0]' ELSE '[1,0]' END::vector ORDER BY n)"
        " FROM unnest($1) WITH ORDINALITY u (t, n) $$"
    )
    db.execute("SELECT embed_model_add('opposite', 'function', 2, 'public.opposite')")
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text)")
    db.execute("INSERT INTO docs SELECT i, 'how to book and where to go ' || i FROM generate_series(1, 400) i")
    db.execute("INSERT INTO docs VALUES (0, 'the quokka and the vibraphone are in the ledger')")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'opposite')")
    drain_all(db)
    question = "how do I book a quokka with a vibraphone?"
    assert search(db, question, "mode => 'hybrid', k => 3")[0] == 0
    connect().execute(WORK)
    assert len(words_of_index(db)) == 1
    assert search(db, question, "mode => 'hybrid', k => 3")[0] == 0


@pytest.mark.parametrize("indexed", [False, True])
def test_rare_words_decide_among_those_with_a_common_one(db, connect, indexed):
    many(db, 1500)
    if indexed:
        connect().execute(WORK)
        assert len(words_of_index(db)) == 1
    assert search(db, "needle 700 hay", "mode => 'hybrid', k => 3")[0] == 700
    assert search(db, "needle or 700", "mode => 'keyword', k => 3")[0] == 700
    assert sorted(search(db, "needle", "mode => 'keyword', k => 50")) == list(range(100, 1501, 100))
    odd = r"it's \ '' \\ & ! needle:* <-> 700"
    assert search(db, odd, "mode => 'hybrid', k => 3")[0] == 700


def test_stale_and_deleted_rows(db, docs):
    db.execute("UPDATE docs SET body = 'no such word' WHERE id = 2")
    assert set(search(db, "password")) == {1, 2}
    for mode in ("keyword", "hybrid"):
        assert 2 not in search(db, "password", f"mode => '{mode}', stale => 'hide'")
    db.execute("DELETE FROM docs WHERE id = 1")
    for mode in ("keyword", "hybrid"):
        assert 1 not in search(db, "password", f"mode => '{mode}'")


def test_the_language_is_the_pipelines(db, docs):
    db.execute("UPDATE docs SET body = 'Die Rechnungen kommen im Herbst' WHERE id = 3")
    db.execute("SELECT embed_drain()")
    assert search(db, "rechnung") == []
    stored = db.execute("""SELECT embed_alter('docs', '{"language": "german"}')""").fetchone()[0]
    assert stored["language"] == "pg_catalog.german"
    assert search(db, "rechnung") == [3]
    assert '"language": "pg_catalog.german"' in db.execute("SELECT embed_get_def('docs')").fetchone()[0]
    db.execute('CREATE TEXT SEARCH CONFIGURATION public."My Words" (COPY = pg_catalog.german)')
    db.execute("""SELECT embed_alter('docs', '{"language": "public.\\"My Words\\""}')""")
    assert search(db, "rechnung") == [3]
    db.execute("""SELECT embed_alter('docs', '{"language": null}')""")
    assert search(db, "rechnung") == []


@pytest.mark.parametrize("language", ['"klingon"', '"a b c"', '"public.english"', '""', "7", '"13043"'])
def test_a_language_that_is_none_is_refused(db, docs, language):
    with pytest.raises(errors.Error) as caught:
        db.execute("SELECT embed_alter('docs', %s)", (f'{{"language": {language}}}',))
    assert caught.value.sqlstate in {"42704", "22023"}
    assert "language" in str(caught.value)
    assert caught.value.diag.message_hint


def test_an_index_serves_words_and_row_security_holds(db, connect):
    many(db)
    assert words_of_index(db) == []
    connect().execute(WORK)
    ((name, language),) = words_of_index(db)
    assert language == "'simple'"
    before = scans(db, name)
    assert len(search(db, "needle", "mode => 'keyword', k => 50")) == 30
    assert scans(db, name) > before
    reader = connect("bob")
    assert sorted(search(reader, "needle", "mode => 'keyword', k => 6")) == [500, 1000, 1500, 2000, 2500, 3000]
    assert set(search(reader, "needle", "mode => 'hybrid', k => 50")) == {500, 1000, 1500, 2000, 2500, 3000}
    with pytest.raises(errors.UndefinedObject):
        search(connect("the_worker"), "needle")


def test_more_candidates_are_looked_at_until_the_caller_sees_enough(db, connect):
    """All rows match, and of those that come first bob sees none."""
    many(db, 1500)
    db.execute("UPDATE docs SET body = 'needle needle needle ' || id WHERE id % 500 <> 0")
    db.execute("UPDATE docs SET body = 'needle and much more of it ' || id WHERE id % 500 = 0")
    drain_all(db)
    assert sorted(search(connect("bob"), "needle", "mode => 'keyword', k => 3")) == [500, 1000, 1500]


def test_the_databases_language_is_the_default_and_null_turns_the_index_off(db, connect):
    """What a session has set is another matter."""
    hash_model(db)
    name = db.execute("SELECT quote_ident(current_database())").fetchone()[0]
    db.execute(f"ALTER DATABASE {name} SET default_text_search_config = 'pg_catalog.german'")
    db.execute("SET default_text_search_config = 'pg_catalog.french'")
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text)")
    db.execute("INSERT INTO docs SELECT i, 'Die Rechnungen im Herbst ' || i FROM generate_series(1, 300) i")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')")
    drain_all(db)
    for options, language in (
        ("{}", "german"),
        ('{"language": null}', None),
        ('{"language": "default"}', "german"),
        ('{"language": "simple"}', "simple"),
        ('{"language": "default"}', "german"),
    ):
        altered = db.execute("SELECT embed_alter('docs', %s)", (options,)).fetchone()[0]
        connect().execute(WORK)
        assert [found for _, found in words_of_index(db)] == ([f"'{language}'"] if language else [])
        assert altered["language"] == (f"pg_catalog.{language}" if language else None)
        definition = db.execute("SELECT embed_get_def('docs')").fetchone()[0]
        assert ('"language": null' in definition) == (language is None)
        expected = 0 if language == "simple" else 5
        assert len(search(db, "rechnung", "mode => 'keyword', k => 5")) == expected
    db.execute(f"ALTER DATABASE {name} SET default_text_search_config = 'pg_catalog.simple'")
    connect().execute(WORK)
    assert [found for _, found in words_of_index(db)] == ["'simple'"]
    assert search(db, "rechnung") == []


def test_the_index_follows_the_language(db, connect):
    many(db, 1200)
    connect().execute(WORK)
    ((first, _),) = words_of_index(db)
    db.execute("""SELECT embed_alter('docs', '{"language": "english"}')""")
    assert len(search(db, "needles", "mode => 'keyword', k => 50")) == 12
    connect().execute(WORK)
    ((second, language),) = words_of_index(db)
    assert (second != first, language) == (True, "'english'")
    db.execute("ANALYZE embed_store.g1")
    assert db.execute(
        "SELECT count(*) FROM pg_statistic WHERE starelid = %s::regclass", (f"embed_store.{second}",)
    ).fetchone() == (0,)
    db.execute("""SELECT embed_alter('docs', '{"language": null}')""")
    connect().execute(WORK)
    assert words_of_index(db) == []


@pytest.mark.parametrize(
    "text",
    [
        "string_agg(md5(i::text), ' ') FROM generate_series(1, 60000) i",
        "string_agg('https://example.com/' || i || '/a?b=' || i, ' ') FROM generate_series(1, 60000) i",
        "string_agg(i || '-x' || i || '-y' || i, ' ') FROM generate_series(1, 100000) i",
        "string_agg(chr(131072 + i % 40000) || chr(131072 + i * 7 % 40000), ' ') FROM generate_series(1, 400000) i",
        "string_agg(i::text, ' ') FROM generate_series(1, 300000) i",
    ],
    ids=["hashes", "urls", "hyphens", "four bytes", "numbers"],
)
def test_long_texts_have_words_too(db, connect, text):
    hash_model(db)
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text)")
    db.execute(f"INSERT INTO docs SELECT 1, 'needle ' || {text}")
    db.execute("SELECT embed_setting('index_from', '1')")
    db.execute(
        "SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8',"
        ' options => \'{"language": "english", "on_too_long": "truncate"}\')'
    )
    db.execute("SELECT embed_drain()")
    connect().execute(WORK)
    assert len(words_of_index(db)) == 1
    assert search(db, "needle") == [1]


def test_keys_of_every_kind(db):
    hash_model(db)
    db.execute("CREATE TYPE mood AS ENUM ('good', 'bad')")
    db.execute(
        "CREATE TABLE docs (a mood, b numeric, c timestamptz, chunk text, body text, PRIMARY KEY (a, b, c, chunk))"
    )
    row = "'bad', i / 7.0, now() - i * interval '1 s', 'é ' || i, 'word ' || i"
    db.execute(f"INSERT INTO docs SELECT {row} FROM generate_series(1, 9) i")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')")
    db.execute("SELECT embed_drain()")
    db.execute("SET datestyle = 'SQL, DMY'; SET timezone = 'Asia/Tokyo'")
    for mode in ("keyword", "hybrid"):
        found = db.execute("SELECT key FROM embed_search('docs', 'word', mode => %s, k => 9)", (mode,)).fetchall()
        assert len(found) == 9


def test_max_per_key_and_min_score(db):
    hash_model(db)
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text)")
    body = "string_agg('word ' || repeat(chr(96 + i) || j || ' ', 9), E'\\n\\n')"
    db.execute(f"INSERT INTO docs SELECT i, {body} FROM generate_series(1, 3) i, generate_series(1, 6) j GROUP BY i")
    chunker = "embed_chunk_text(size => 30)"
    db.execute(f"SELECT embed_create('docs', 'docs', columns => '{{body}}', chunker => {chunker}, model => 'hash8')")
    db.execute("SELECT embed_drain()")
    for mode in ("keyword", "hybrid"):
        found = search(db, "word", f"mode => '{mode}', k => 6, max_per_key => 2")
        assert sorted(found) == [1, 1, 2, 2, 3, 3]
        assert search(db, "word", f"mode => '{mode}', min_score => 1.1") == []


def scans(db, index):
    db.execute("SELECT pg_stat_force_next_flush()")
    return db.execute("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = %s", (index,)).fetchone()[0]
