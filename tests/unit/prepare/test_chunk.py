"""Chunks are never longer than asked, lose nothing but white space, and take time in proportion to the text."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evergreen.core.errors import UserError
from evergreen.prepare.chunkers import MAX_SIZE, check_sizes, chunker, split_text, whole

# Mostly what makes boundaries, so that examples have many of them.
texts = st.one_of(
    st.text(st.sampled_from("ab.!? \n\t\r\u00a0\u2028。é́\x1c"), max_size=300),
    st.text(max_size=300),
)
sizes = st.integers(1, 60)


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


@settings(deadline=None)
@given(texts, sizes)
def test_nothing_but_white_space_is_lost_and_no_chunk_is_too_long(text, size):
    chunks = split_text(text, size)
    assert all(0 < len(chunk) <= size for chunk in chunks)
    assert all(not chunk.isspace() for chunk in chunks)
    assert squeezed("".join(chunks)) == squeezed(text)


@settings(deadline=None)
@given(texts, sizes, st.integers(0, 30))
def test_an_overlap_repeats_the_end_of_the_chunk_before_and_counts_in_the_size(text, size, overlap):
    overlap = min(overlap, size // 2)
    chunks = split_text(text, size, overlap)
    assert all(0 < len(chunk) <= size for chunk in chunks)
    rest = squeezed(text)
    ends = {0}  # where the text may be after a chunk: one that repeats itself fits in several places
    for chunk in chunks:
        piece = squeezed(chunk)
        starts = ((at, end) for end in ends for at in range(max(0, end - overlap), end + 1))
        ends = {max(end, at + len(piece)) for at, end in starts if rest.startswith(piece, at)}
        assert ends, f"{chunk!r} does not go on where the text does"
    assert len(rest) in ends


@settings(deadline=None)
@given(texts, sizes)
def test_the_same_text_gives_the_same_chunks(text, size):
    assert split_text(text, size) == split_text(text, size)


def test_a_text_that_fits_is_one_chunk():
    assert split_text("A line.\n\nAnother. And more.\n", 800) == ["A line.\n\nAnother. And more."]


@pytest.mark.parametrize("text", ["", " ", "\n\n\t", "\u00a0\u2028"])
def test_a_blank_text_has_no_chunk(text):
    assert split_text(text, 10) == []
    assert whole(text) == []


def test_a_chunk_ends_at_the_coarsest_boundary_that_fits():
    paragraph, sentence, word = "one two.\n\nthree four. five\nsix", "one two. three four", "three four"
    assert split_text(paragraph, 18) == ["one two.", "three four. five", "six"]
    assert split_text(sentence, 12) == ["one two.", "three four"]
    assert split_text(word, 6) == ["three", "four"]
    assert split_text("abcdefgh", 3) == ["abc", "def", "gh"]


def test_the_overlap_starts_at_a_word():
    chunks = split_text("alpha beta gamma delta", 14, 6)
    assert len(chunks) > 1
    words = {"alpha", "beta", "gamma", "delta"}
    assert all(set(chunk.split()) <= words for chunk in chunks), chunks
    assert any(chunks[i].split()[0] == chunks[i - 1].split()[-1] for i in range(1, len(chunks)))


def test_without_a_chunker_the_text_is_sent_as_it_is():
    assert whole("  kept \n") == ["  kept \n"]


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "text",
    [
        "x" * 5_000_000,
        "x " * 2_500_000,
        "\n" * 4_999_999 + "x",
        "\n " * 2_499_999 + "x",
        " " * 4_999_999 + "x",
        "\n" + " \t" * 2_499_998 + "x",
        "." * 5_000_000,
        ". " * 2_500_000,
        "é" * 5_000_000,
    ],
    ids=["one word", "words", "line breaks", "blank lines", "blanks", "blanks after a break", "dots", "sentences", "é"],
)
def test_five_million_characters_take_seconds_at_most(text):
    """Quadratic behaviour would take hours here, so a generous limit does not depend on the machine."""
    started = time.process_time()
    chunks = split_text(text, 800)
    assert time.process_time() - started < 20
    assert squeezed("".join(chunks)) == squeezed(text)
    assert max(map(len, chunks)) <= 800


@pytest.mark.parametrize(
    "definition",
    [
        {},
        {"chunker": "text"},
        {"chunker": "text", "size": 10},
        {"chunker": "text", "size": 10, "overlap": 0, "more": 1},
        {"chunker": "none", "size": 10},
        {"chunker": "markdown", "size": 10},
        {"chunker": "text", "size": "10", "overlap": 0},
        {"chunker": "text", "size": 1.5, "overlap": 0},
        {"chunker": "text", "size": True, "overlap": False},
        {"chunker": "text", "size": 0, "overlap": 0},
        {"chunker": "text", "size": 10, "overlap": 6},
    ],
)
def test_a_definition_that_is_not_understood_is_refused(definition):
    with pytest.raises(UserError) as refused:
        chunker(definition)
    assert refused.value.sqlstate == "22023"
    assert refused.value.hint


@pytest.mark.parametrize("value", [[], "none", None, 3])
def test_a_definition_that_is_no_object_is_refused(value):
    with pytest.raises(UserError):
        chunker(value)


@pytest.mark.parametrize(
    ("size", "overlap"), [(None, 0), (0, 0), (-1, 0), (MAX_SIZE + 1, 0), (10, None), (10, -1), (10, 6), (1, 1)]
)
def test_sizes_that_make_no_sense_are_refused(size, overlap):
    with pytest.raises(UserError) as refused:
        check_sizes(size, overlap)
    assert refused.value.hint


@pytest.mark.parametrize(("size", "overlap"), [(1, 0), (2, 1), (MAX_SIZE, MAX_SIZE // 2)])
def test_the_outermost_sizes_are_allowed(size, overlap):
    check_sizes(size, overlap)
