"""Texts at the edges: none, blank, left out, huge, and every character that Postgres stores."""

import unicodedata

import pytest

from tests.fixtures.pipelines.freshness import Status, assert_fresh, drain, status, texts_in_view

pytestmark = pytest.mark.shared_database

BLANK = (None, "", " ", "\n\t \r\n", "\u00a0\u2003\u3000", "\x0b\x0c")


@pytest.mark.parametrize("chunker", ["none", "text"])
def test_a_row_without_text_costs_no_call_and_counts_as_fresh(db, model, provider, chunker):
    db.execute("CREATE TABLE t (id int PRIMARY KEY, body text)")
    db.execute(
        f"SELECT embed_create('t', 't', columns => '{{body}}', model => 'loop', chunker => embed_chunk_{chunker}())"
    )
    for number, text in enumerate(BLANK):
        db.execute("INSERT INTO t VALUES (%s, %s)", (number, text))
    assert_fresh(db, "t", len(BLANK))
    assert texts_in_view(db, "t_embedding") == []
    assert not provider.sent
    db.execute("UPDATE t SET body = 'text'")
    assert_fresh(db, "t", len(BLANK))
    for number, text in enumerate(BLANK):
        db.execute("UPDATE t SET body = %s WHERE id = %s", (text, number))
    assert_fresh(db, "t", len(BLANK))
    assert texts_in_view(db, "t_embedding") == []
    assert provider.sent == {"text": 1}


def test_nulls_are_skipped_and_leave_no_blank_line(db, model, provider):
    db.execute("CREATE TABLE t (id int PRIMARY KEY, a text, b text, c text)")
    db.execute("SELECT embed_create('t', 't', columns => '{a,b,c}', model => 'loop')")
    db.execute("INSERT INTO t VALUES (1, 'a', NULL, 'c'), (2, NULL, 'b', NULL), (3, NULL, NULL, NULL)")
    assert_fresh(db, "t", 3)
    assert provider.sent == {"a\n\nc": 1, "b": 1}


def test_only_if_takes_rows_in_and_out(db, model, provider):
    db.execute("CREATE TABLE t (id int PRIMARY KEY, body text, live bool, n int)")
    db.execute("SELECT embed_create('t', 't', columns => '{body}', only_if => 'live', model => 'loop')")
    db.execute("INSERT INTO t VALUES (1, 'one', true), (2, 'two', false), (3, 'three', NULL)")
    assert_fresh(db, "t", 3)
    assert provider.sent == {"one": 1}
    for live, shown in [("NULL", []), ("false", []), ("true", ["one", "three", "two"]), ("NOT live", [])]:
        db.execute(f"UPDATE t SET live = {live}")
        assert_fresh(db, "t", 3)
        assert texts_in_view(db, "t_embedding") == shown
    db.execute("UPDATE t SET body = 'not to be seen', n = 1")
    assert_fresh(db, "t", 3)
    assert provider.sent == {"one": 1, "two": 1, "three": 1}, "a text that was embedded before is not sent again"


def test_status_counts_rows_without_text_as_fresh_before_and_after(db, model):
    db.execute("CREATE TABLE t (id int PRIMARY KEY, body text)")
    db.execute("INSERT INTO t VALUES (1, NULL), (2, ''), (3, 'text')")
    db.execute("SELECT embed_create('t', 't', columns => '{body}', model => 'loop')")
    assert status(db, "t") == Status("active", 0, 3, 0, None)
    drain(db)
    assert status(db, "t") == Status("active", 3, 0, 0, None)
    db.execute("INSERT INTO t VALUES (4, NULL)")
    assert status(db, "t") == Status("active", 3, 1, 0, None)
    db.execute("UPDATE t SET body = ' ' WHERE id = 3")
    assert status(db, "t").pending == 2
    assert_fresh(db, "t", 4)


def storable():
    """Every character of the basic plane but NUL and surrogates, and some beyond it."""
    basic = (chr(code) for code in range(1, 0x10000) if not 0xD800 <= code <= 0xDFFF)
    beyond = "😀👩\u200d👩\u200d👧🇦🇶\U0001d518\U000e0001\U000fffff\U0010ffff"
    return "".join([*basic, beyond])


def test_every_character_arrives_at_the_model_and_comes_back(db, model, provider):
    everything = storable()
    pieces = [f"<{everything[start : start + 500]}>" for start in range(0, len(everything), 500)]
    pieces += [
        "combining: e\u0301\u0327\u0301, Z\u0351\u036b\u0343",
        "right to left: \u202e\u05e9\u05dc\u05d5\u05dd\u202c \u0645\u0631\u062d\u0628\u0627",
        unicodedata.normalize("NFC", "a\u030a"),
        unicodedata.normalize("NFD", "\u00e5"),
        r"\n \\ \x41 \u0041 \0 {} %s %% $1 $$ ${body} '' \" E'\\' /* -- */",
        "\ufeffbyte order mark, \u2028 and \u2029, \x7f, \x85",
    ]
    db.execute("CREATE TABLE t (id int PRIMARY KEY, body text)")
    db.execute("SELECT embed_create('t', 't', columns => '{body}', model => 'loop')")
    with db.cursor() as cursor:
        cursor.executemany("INSERT INTO t VALUES (%s, %s)", list(enumerate(pieces)))
    assert_fresh(db, "t", len(pieces))
    assert provider.sent == dict.fromkeys(pieces, 1)
    assert texts_in_view(db, "t_embedding") == sorted(pieces)
    found = db.execute("SELECT count(*) FROM t JOIN t_embedding v USING (id) WHERE v.chunk = t.body").fetchone()
    assert found == (len(pieces),)


def test_every_character_survives_the_chunker(db, model, provider):
    everything = storable()
    db.execute("CREATE TABLE t (id int PRIMARY KEY, body text)")
    db.execute("SELECT embed_create('t', 't', columns => '{body}', model => 'loop', chunker => embed_chunk_text(300))")
    db.execute("INSERT INTO t VALUES (1, %s)", (everything,))
    assert_fresh(db, "t", 1)
    chunks = [c for (c,) in db.execute("SELECT chunk FROM t_embedding ORDER BY chunk_no")]
    assert "".join("".join(chunks).split()) == "".join(everything.split())
    assert max(map(len, chunks)) <= 300
    assert sum(provider.sent.values()) == len(set(chunks))


ODD_KEYS = ("a\nb", "\x01\x1f\x7f", '"[]{}\\', "'; --", "😀", "\ufffe\uffff", " ", "", "e\u0301", "\u00e9", "$1 %s {0}")


def test_a_key_of_odd_characters_finds_its_row(db, model):
    db.execute("CREATE TABLE t (id text PRIMARY KEY, body text)")
    db.execute("SELECT embed_create('t', 't', columns => '{body}', model => 'loop')")
    for key in ODD_KEYS:
        db.execute("INSERT INTO t VALUES (%s, 'text of ' || %s)", (key, key))
    assert_fresh(db, "t", len(ODD_KEYS))
    found = db.execute("SELECT id, key, chunk FROM t_embedding").fetchall()
    assert sorted(found) == sorted((key, [key], f"text of {key}") for key in ODD_KEYS)
    keys = "ARRAY(SELECT jsonb_build_array(id) FROM t)"
    assert db.execute(f"SELECT embed_touch('t', VARIADIC {keys})").fetchall() == [(len(ODD_KEYS),)]
    db.execute("DELETE FROM t")
    assert_fresh(db, "t", 0)


@pytest.mark.few(1)
@pytest.mark.slow
@pytest.mark.parametrize("chunker", ["embed_chunk_none()", "embed_chunk_text(100000)"])
def test_a_document_of_five_megabytes_is_embedded_whole(db, provider, chunker):
    provider.register(db, input_tokens=10_000_000)
    db.execute("CREATE TABLE t (id int PRIMARY KEY, body text)")
    db.execute(f"SELECT embed_create('t', 't', columns => '{{body}}', model => 'loop', chunker => {chunker})")
    text = "".join(f"Sentence number {i} of the long text. " for i in range(140_000))[:5_000_000]
    db.execute("INSERT INTO t VALUES (1, %s), (2, 'small')", (text,))
    assert_fresh(db, "t", 2)
    chunks = [c for (c,) in db.execute("SELECT chunk FROM t_embedding WHERE id = 1 ORDER BY chunk_no")]
    assert provider.sent == dict.fromkeys([*chunks, "small"], 1)
    assert "".join("".join(chunks).split()) == "".join(text.split())
    provider.reset()
    db.execute("UPDATE t SET body = body || 'More.' WHERE id = 1")
    assert_fresh(db, "t", 2)
    assert sum(provider.sent.values()) == 1, "of many chunks only the last one changed"


@pytest.mark.stress
@pytest.mark.slow
def test_more_text_than_is_held_at_a_time_comes_in_rounds(db, provider):
    """48 MB in one claim: what does not fit is put back, and nothing is forgotten."""
    provider.register(db, input_tokens=10_000_000)
    db.execute("CREATE TABLE t (id int PRIMARY KEY, body text)")
    db.execute("SELECT embed_create('t', 't', columns => '{body}', model => 'loop')")
    db.execute("INSERT INTO t SELECT i, repeat(i || ' ', 6000000 / length(i || ' ')) FROM generate_series(1, 8) i")
    assert_fresh(db, "t", 8)
    assert sorted(provider.sent.values()) == [1] * 8
