"""Markdown is cut at headings and between blocks, loses nothing but white space, and an edit moves little."""

import random
import re
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evergreen.prepare.chunkers import split_markdown

SIZE = 200
WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu"]
words = st.lists(st.sampled_from(WORDS), min_size=1, max_size=25).map(" ".join)
blocks = st.one_of(
    words,
    words.map(lambda text: f"## {text}"),
    words.map(lambda text: f"{text[:40]}\n----"),
    st.lists(words, min_size=1, max_size=5).map(lambda items: "\n".join(f"- {item[:50]}" for item in items)),
    st.lists(words, min_size=1, max_size=5).map(lambda lines: "```\n# no heading\n\n" + "\n".join(lines) + "\n```"),
    st.lists(words, min_size=1, max_size=4).map(
        lambda rows: "| a | b |\n|---|---|\n" + "\n".join(f"| {row[:30]} | x |" for row in rows)
    ),
    words.map(lambda text: "> " + text.replace(" ", "\n> ")),
    st.just("- a\n  - b\n    - c\n\n      deep\n\n- d"),
    st.just("<div>\n# no heading\n</div>"),
)
documents = st.lists(blocks, max_size=20).map("\n\n".join)
anything = st.text(st.sampled_from("ab \n\t\r#-=>`*|~<1.[]:\u00a0\u2028"), max_size=300)
HEADING = re.compile(r"##? |.*\n----$")


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


@settings(deadline=None)
@given(st.one_of(documents, anything), st.integers(1, 300))
def test_nothing_but_white_space_is_lost_and_no_chunk_is_too_long(text, size):
    chunks = split_markdown(text, size)
    assert all(0 < len(chunk) <= size for chunk in chunks)
    assert squeezed("".join(chunks)) == squeezed(text)
    end = 0
    for chunk in chunks:  # each is a slice, in order
        end = text.index(chunk, end) + len(chunk)
    assert split_markdown(text, size) == chunks


@settings(deadline=None)
@given(st.lists(blocks, max_size=20))
def test_no_chunk_holds_text_from_before_and_after_a_heading(parts):
    for chunk in split_markdown("\n\n".join(parts), 10_000):
        found = [part for part in re.split(r"\n\n(?=## |[^\n]*\n----)", chunk) if part]
        bare = [part for part in found[:-1] if not HEADING.fullmatch(part.split("\n\n")[0]) or "\n\n" in part]
        assert not [part for part in bare if not part.startswith("## ") or "\n\n" in part], chunk


@settings(deadline=None)
@given(st.lists(blocks.filter(lambda block: len(block) <= SIZE), max_size=20))
def test_a_block_that_fits_is_whole(parts):
    chunks = split_markdown("\n\n".join(parts), SIZE)
    together = "\n\n".join(parts)
    for part in parts:
        if not re.match(r"- ", part):  # two lists after one another are one
            assert part in together
            assert any(part in chunk for chunk in chunks), part


def test_headings_without_text_stand_before_the_next_part():
    assert split_markdown("# A\n\n## B\n\ntext\n\n## C\n", 800) == ["# A\n\n## B\n\ntext", "## C"]


def test_front_matter_is_no_heading():
    chunks = split_markdown("---\ntitle: x\ntags: [y]\n---\n\nText.\n\n# A\n\nMore.", 800, context=True)
    assert chunks == ["---\ntitle: x\ntags: [y]\n---\n\nText.", "# A\n\nMore."]


def test_the_indentation_of_code_is_kept():
    assert split_markdown("    def f():\n        pass\n", 800) == ["    def f():\n        pass"]


def test_a_list_that_is_too_long_is_cut_between_its_items():
    items = [f"- item {i} " + "word " * 8 + f"\n  and more of {i}" for i in range(30)]
    for chunk in split_markdown("\n".join(items), SIZE):
        assert chunk.startswith("- item ")
        assert re.search(r"and more of \d+$", chunk)


def test_the_headings_stand_before_each_chunk_and_count_in_its_size():
    text = "# Guide\n\nIntro.\n\n## Set `up`\n\n" + "\n\n".join(f"Paragraph {i}. " + "word " * 20 for i in range(10))
    chunks = split_markdown(text, SIZE, context=True)
    assert chunks[0] == "# Guide\n\nIntro."
    assert chunks[1].startswith("Guide\n\n## Set `up`\n\nParagraph 0.")
    assert len(chunks) > 3
    assert all(chunk.startswith("Guide > Set `up`\n\nParagraph ") for chunk in chunks[2:])
    assert max(map(len, chunks)) <= SIZE
    bodies = "".join(chunk.removeprefix("Guide > Set `up`").removeprefix("Guide\n") for chunk in chunks)
    assert squeezed(bodies) == squeezed(text)


@settings(deadline=None)
@given(documents, st.integers(1, 60))
def test_a_context_never_makes_a_chunk_too_long(text, size):
    assert all(0 < len(chunk) <= size for chunk in split_markdown(text, size, context=True))


def section(number: int, seed: int) -> list[str]:
    """Paragraphs of one long section, no two alike."""
    rng = random.Random(seed)
    return [f"{rng.random()} " + " ".join(rng.choices(WORDS, k=rng.randint(3, 40))) for _ in range(number)]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 79), st.one_of(words, st.none()))
def test_an_edit_moves_no_boundary_beyond_its_neighbourhood(seed, place, new):
    """``new`` None takes a paragraph away. Of a section of some 12,000 characters few chunks may change."""
    old = section(80, seed)
    edited = [*old[:place], *([f"new {new}"] if new is not None else []), *old[place + (new is None) :]]
    before = split_markdown("\n\n".join(old), 800)
    after = split_markdown("\n\n".join(edited), 800)
    changed = [number for number, chunk in enumerate(after) if chunk not in set(before)]
    assert len(before) > 12
    if changed:
        assert changed[-1] - changed[0] <= 6, (changed, len(after))


def test_no_edit_of_many_reaches_far():
    """Least hashes in each window alone, without those of the neighbourhood, made one of these move 12 chunks."""
    furthest = 0
    for seed in range(300):
        old = section(80, seed)
        place = random.Random(seed).randrange(80)
        before = set(split_markdown("\n\n".join(old), 800))
        after = split_markdown("\n\n".join([*old[:place], f"new {seed} word", *old[place:]]), 800)
        changed = [number for number, chunk in enumerate(after) if chunk not in before]
        furthest = max(furthest, changed[-1] - changed[0] + 1)
    assert furthest <= 5


def test_an_edit_of_a_long_word_moves_little():
    rng = random.Random(1)
    text = "".join(rng.choices("abcdefghijklmnop", k=50_000))
    before = Counter(split_markdown(text, 800))
    after = Counter(split_markdown(text[:20_000] + "x" + text[20_000:], 800))
    assert sum((after - before).values()) <= 5


SHAPES = {
    "one word": "x" * 5_000_000,
    "words": "word " * 500_000,
    "real": ("# Heading\n\n" + "Some words of text. " * 20 + "\n\n- item\n- item\n\n") * 10_000,
    "empty paragraphs": "\n\n" * 500_000,
    "unclosed fence": "```\n" + "x = 1\n" * 100_000,
    "quotes in one line": "> " * 500_000 + "x",
    "deep quotes, lazy lines": ">" * 30 + " a\n" + "b\n" * 30_000,
    "lists in one line": "- " * 300_000 + "x",
    "lists in lists": "".join("  " * i + "- x\n" for i in range(1000)),
    "items": "- item\n" * 30_000,
    "headings": "# h\n" * 30_000,
    "open brackets": "[\n" * 30_000,
    "tabs": "\t" * 1_000_000 + "x",
}


@pytest.mark.few(4)
@pytest.mark.parametrize("shape", SHAPES)
def test_no_shape_takes_more_than_time_in_proportion(shape):
    """Quadratic behaviour would take minutes at least, so a generous limit does not depend on the machine."""
    started = time.process_time()
    chunks = split_markdown(SHAPES[shape], 800)
    assert time.process_time() - started < 20
    assert max(map(len, chunks), default=0) <= 800


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_lines_may_end_in_any_way(end):
    text = "Intro.\n\n# A\n\n- a\n- b\n\n# B\n\n```\n# no heading\n```\n\nC\n---\nend\n"
    chunks = split_markdown(text, 10_000)
    assert len(chunks) == 4
    assert split_markdown(text.replace("\n", end), 10_000) == [chunk.replace("\n", end) for chunk in chunks]
