"""Named queries are found, and names put into them are never read again."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergreen.core.job import MAX_KEY_BYTES
from evergreen.db import queries
from evergreen.db.queries import Query, parse

PACKAGE = Path(queries.__file__).parents[1]


def test_a_file_is_split_at_its_headers():
    found = parse("-- one(int4, text): does this\nSELECT $1,\n -- not a header\n $2;\n\n-- two(): that\nSELECT 1\n")
    assert found["one"] == Query("one", ("int4", "text"), "SELECT $1,\n -- not a header\n $2")
    assert found["two"] == Query("two", (), "SELECT 1")


def test_a_name_is_put_in_wherever_it_stands():
    query = Query("q", ("{vector}[]", "int4"), "SELECT {a}, {b}, {a} FROM {vector}")
    assert query.with_identifiers(a="x", b="y", vector="v.vector") == Query(
        "q", ("v.vector[]", "int4"), "SELECT x, y, x FROM v.vector"
    )


@given(
    st.permutations(["a", "b", "c"]),
    st.lists(st.sampled_from(["{a}", "{b}", "{c}", "{d}", "x"]), min_size=3, max_size=3),
)
def test_a_value_with_braces_is_not_filled_in_again(order, values):
    """A column may be named {source}: it must stay inside the quotes that it was put in with."""
    given = dict(zip(order, values, strict=True))
    assert Query("q", (), "<{a}|{b}|{c}>").with_identifiers(**given).text == f"<{given['a']}|{given['b']}|{given['c']}>"


def test_braces_that_are_no_name_stay():
    assert Query("q", (), "SELECT '{}'::int[], '{\"k\": 1}', {other}").with_identifiers(a="x").text == (
        "SELECT '{}'::int[], '{\"k\": 1}', {other}"
    )


def test_an_unknown_query_is_an_error_that_names_the_file():
    loaded = queries.load("evergreen.queue")
    assert loaded.claim.text.startswith("WITH") or "embed.job" in loaded.claim.text
    with pytest.raises(AttributeError, match=r"queue/queries\.sql.*no_such_query"):
        _ = loaded.no_such_query


def test_constants_are_filled_in_when_a_file_is_loaded():
    loaded = queries.load("evergreen.queue")
    assert any(f"pg_column_size(c.key) <= {MAX_KEY_BYTES}" in query.text for query in loaded)
    assert not any("{max_key_bytes}" in query.text for query in loaded)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.sql")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_query_file_reads_whole(path):
    """Each query has a body, names no parameter that it has no type for, and no two share a name."""
    text = path.read_text("utf-8")
    found = parse(text)
    assert found
    assert text.count("\n-- ") + text.startswith("-- ") >= len(found)
    for query in found.values():
        assert query.text, query.name
        for number in range(len(query.types) + 1, len(query.types) + 5):
            assert f"${number}" not in query.text or query.types == (), f"{query.name} has no type for ${number}"
    names = [line for line in text.splitlines() if queries._HEADER.match(line)]
    assert len(names) == len(found), "two queries of one name"
