"""Templates are read as they are written, and mistakes are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergreen.core.errors import UserError
from evergreen.core.template import Literal, Placeholder, columns, parse, rename

names = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("template", "parts"),
    [
        ("$title\n\n$body", (Placeholder("title"), Literal("\n\n"), Placeholder("body"))),
        ("${Odd Name}s", (Placeholder("Odd Name"), Literal("s"))),
        ("$$5 for $name.", (Literal("$5 for "), Placeholder("name"), Literal("."))),
        ("$$name", (Literal("$name"),)),
        ("$a$b", (Placeholder("a"), Placeholder("b"))),
        ("$größe²", (Placeholder("größe²"),)),
        ("100 % {of} it", (Literal("100 % {of} it"),)),
        ("", ()),
    ],
)
def test_a_template_is_read_as_written(template, parts):
    assert parse(template) == parts


@pytest.mark.parametrize("template", ["costs 5$", "$ name", "$1", "a $$$", "${unclosed", "$-"])
def test_a_lone_dollar_is_refused_with_the_way_to_write_it(template):
    with pytest.raises(UserError) as refused:
        parse(template)
    assert refused.value.sqlstate == "22023"
    assert "$$" in refused.value.hint


def test_a_backslash_n_is_refused_with_the_way_to_write_it():
    with pytest.raises(UserError) as refused:
        parse(r"$title\n\n$body")
    assert refused.value.hint.count("E'") == 1


def test_columns_come_once_and_in_order():
    assert columns(parse("$b $a ${b} $c")) == ("b", "a", "c")


def test_a_rename_changes_the_columns_and_nothing_else():
    written = rename("$$ $title-$body $$title", {"title": "Das Ding", "body": "b"})
    assert parse(written) == (
        Literal("$ "),
        Placeholder("Das Ding"),
        Literal("-"),
        Placeholder("b"),
        Literal(" $title"),
    )


def test_two_columns_can_swap_their_names():
    assert columns(parse(rename("$a $b", {"a": "b", "b": "a"}))) == ("b", "a")


@given(names)
def test_a_column_may_be_renamed_to_any_name(name):
    assert parse(rename("a $column b", {"column": name})) == (Literal("a "), Placeholder(name), Literal(" b"))


@pytest.mark.parametrize("name", ["a}b", "}", "}}", "{", "a{b}", r"a\nb", "$", "$$", "a\nb", "\\"])
def test_the_names_hardest_to_write_survive_a_rename(name):
    assert parse(rename("$column", {"column": name})) == (Placeholder(name),)


@given(st.lists(st.one_of(names.map(Literal), names.map(Placeholder)), max_size=8))
def test_what_is_written_is_read_back(parts):
    template = "".join(
        part.text.replace("$", "$$") if isinstance(part, Literal) else "$x" + str(i) + " "
        for i, part in enumerate(parts)
    )
    if r"\n" in template:
        return
    texts = "".join(part.text if isinstance(part, Literal) else "\0" for part in parse(template))
    assert texts == "".join(part.text if isinstance(part, Literal) else "\0 " for part in parts)
