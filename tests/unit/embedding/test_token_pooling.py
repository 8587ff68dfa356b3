"""The built-in model gives the vectors that its package gives, faster."""

from pathlib import Path

import numpy as np
import pytest
import wordllama
from hypothesis import given, settings
from hypothesis import strategies as st

from evergreen.embedding.providers import token_pooling
from evergreen.embedding.providers.token_pooling import TokenPooling

FOLDER = Path(wordllama.__file__).parent
# What the tokenizer treats specially: spaces, its sign for them, special tokens, characters without a token.
PIECES = [*" ▁\n\té😀\x00", "  ", "<s>", "</s>", "<unk>", "the", "and,", "re-embed", "e\u0301", "日本"]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=8), max_size=30).map("".join)


def load(dimensions=64):
    return wordllama.WordLlama.load(cache_dir=FOLDER, disable_download=True, trunc_dim=dimensions)


PACKAGE = load()
POOLING = TokenPooling(load())


def expected(texts, model=PACKAGE):
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(model.embed(texts, norm=True))


@settings(max_examples=100)
@given(st.lists(TEXTS, min_size=1, max_size=5))
def test_vectors_are_those_of_the_package(texts):
    assert np.abs(POOLING.embed(texts) - expected(texts)).max() < 1e-6


ODD = ["", " ", "a ", " a", "a  b", "a▁b", "a ▁", "▁", "<s>", "a <unk>b", "x" * 200, "a b " * 500]


@pytest.mark.parametrize("text", ODD)
def test_odd_texts(text):
    for given_texts in ([text], ["known words", text, "known words"], [text, text]):
        assert np.abs(POOLING.embed(given_texts) - expected(given_texts)).max() < 1e-6


@pytest.mark.parametrize("dimensions", [128, 256])
def test_other_sizes(dimensions):
    texts = ["The quick brown fox", "", "jumps over the lazy dog"]
    assert np.abs(TokenPooling(load(dimensions)).embed(texts) - expected(texts, load(dimensions))).max() < 1e-6


def test_no_token_reaches_across_words():
    """A text may be cut into tokens word by word because no token has a space after another character."""
    assert not [token for token in POOLING._tokenizer.get_vocab() if "▁" in token.lstrip("▁")]


def test_the_words_that_are_kept_are_limited(monkeypatch):
    monkeypatch.setattr(token_pooling, "_MOST_WORDS", 100)
    pooling = TokenPooling(load())
    texts = [" ".join(f"word{n}" for n in range(start, start + 30)) for start in range(0, 300, 10)]
    for text in texts:
        assert np.abs(pooling.embed([text]) - expected([text])).max() < 1e-6
        assert len(pooling._words) <= 100
    assert np.abs(pooling.embed(texts) - expected(texts)).max() < 1e-6
