"""The recursive and the separator chunker cut as LangChain's splitters do, lose nothing, and take linear time.

``langchain_splits.json`` is what langchain-text-splitters 1.1.3 made of 160 texts; where it is installed, it is asked
about others.
"""

import json
import logging
import re
import time
from pathlib import Path

import langchain_text_splitters
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergreen.core.errors import UserError
from evergreen.prepare.chunkers import chunker
from evergreen.prepare.windows import split_at, split_recursive

RECORDED = json.loads(Path(__file__).with_name("langchain_splits.json").read_text("utf-8"))
PGAI = ["\n\n", "\n", ".", "?", "!", " ", ""]

texts = st.one_of(st.text(st.sampled_from("ab.? \n\t\u2028é"), max_size=200), st.text(max_size=200))
sizes = st.integers(1, 40).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size // 2)))
separators = st.lists(st.sampled_from(["\n\n", "\n", ".", "?", " ", "", "ab", ". "]), min_size=1, max_size=6)


def squeezed(text):
    return re.sub(r"\s+", "", text)


def not_blank(chunks):
    return [chunk for chunk in chunks if chunk.strip()]


def test_what_langchain_made_of_these_texts():
    for definition, text, chunks in RECORDED:
        assert chunker(definition)(text) == not_blank(chunks), (definition, text)


@pytest.fixture(scope="module")
def theirs():
    logging.getLogger("langchain_text_splitters").setLevel(logging.ERROR)  # it warns of every long chunk
    return langchain_text_splitters


@given(text=texts, size_and_overlap=sizes, separators=separators)
def test_as_langchain(theirs, text, size_and_overlap, separators):
    size, overlap = size_and_overlap
    sizes = {"chunk_size": size, "chunk_overlap": overlap}
    recursive = theirs.RecursiveCharacterTextSplitter(separators=separators, **sizes)
    assert split_recursive(text, size, overlap, separators) == not_blank(recursive.split_text(text))
    character = theirs.CharacterTextSplitter(separator=separators[0], **sizes)
    assert split_at(text, size, overlap, separators[0]) == not_blank(character.split_text(text))


@given(texts, sizes, separators)
def test_nothing_but_white_space_is_lost_and_an_empty_separator_bounds_every_chunk(text, size_and_overlap, separators):
    size, overlap = size_and_overlap
    assert squeezed("".join(split_recursive(text, size, 0, separators))) == squeezed(text)
    for chunk in split_recursive(text, size, overlap, [*separators, ""]):
        assert len(chunk) <= size
        assert chunk in text


@pytest.mark.parametrize(
    "text", ["ab " * 200_000, "a" * 600_000, "a.b\n\n" * 120_000, "\n" * 600_000, "ab. cd? ef! " * 50_000]
)
def test_time_and_output_are_in_proportion_to_the_text(text):
    for split in (lambda t: split_recursive(t, 800, 400, PGAI), lambda t: split_at(t, 800, 400, " ")):
        took = {}
        for part in (text[: len(text) // 8], text):
            started = time.perf_counter()
            chunks = split(part)
            took[len(part)] = time.perf_counter() - started
            assert sum(map(len, chunks)) <= 4 * len(part) + 800
        short, long = took.values()
        assert long < 40 * short + 0.5, took  # eight times the text; quadratic would be 64 times


@pytest.mark.parametrize(
    "wrong",
    [
        {"chunker": "recursive", "size": 10, "overlap": 0},
        {"chunker": "recursive", "size": 10, "overlap": 0, "separators": []},
        {"chunker": "recursive", "size": 10, "overlap": 0, "separators": "\n"},
        {"chunker": "recursive", "size": 10, "overlap": 0, "separators": [1]},
        {"chunker": "recursive", "size": 10, "overlap": 0, "separators": ["x" * 101]},
        {"chunker": "recursive", "size": 10, "overlap": 0, "separators": ["x"] * 33},
        {"chunker": "recursive", "size": 10, "overlap": 6, "separators": ["x"]},
        {"chunker": "recursive", "size": 0, "overlap": 0, "separators": ["x"]},
        {"chunker": "recursive", "size": True, "overlap": 0, "separators": ["x"]},
        {"chunker": "recursive", "size": 10, "overlap": 0, "separators": ["x"], "more": 1},
        {"chunker": "separator", "size": 10, "overlap": 0, "separators": ["x"]},
        {"chunker": "separator", "size": 10, "overlap": 0, "separator": None},
        {"chunker": "separator", "size": 10, "overlap": 0},
    ],
)
def test_a_definition_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(UserError) as caught:
        chunker(wrong)
    assert caught.value.sqlstate == "22023"
    assert caught.value.hint
    assert not re.search(r"\bNone\b", caught.value.message)
