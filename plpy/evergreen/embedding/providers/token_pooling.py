"""Pools token vectors as WordLlama does, without padding, and without tokenizing a known word again."""

import re
from typing import TYPE_CHECKING, Any

from evergreen.core.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy("numpy")

# A word with the spaces before it. The tokenizer writes a space as U+2581 and puts one before the text; no token of its
# vocabulary has that character after another one, so none reaches across two words.
_WORD = re.compile(r" +[^ ]*")
_SPACE = "▁"
_LONGEST_WORD = 32  # characters: longer ones seldom return
_MOST_WORDS = 50_000  # some 10 MB


class TokenPooling:
    """Embeds texts with the token vectors and the tokenizer of a loaded WordLlama.

    Measured for 850 characters of English: 330 µs by the package, half of them for the tokens; 110 µs here.
    """

    def __init__(self, model: Any) -> None:
        """Take over a model; its tokenizer does not pad from now on."""
        self._vectors: NDArray[np.float32] = model.embedding
        self._tokenizer = model.tokenizer
        self._tokenizer.no_padding()
        self._special = [token.content for token in self._tokenizer.get_added_tokens_decoder().values()]
        vocabulary = {number: token for token, number in self._tokenizer.get_vocab().items()}
        tokens = [vocabulary.get(number, "") for number in range(max(vocabulary) + 1)]
        self._begins = np.array([token.startswith(_SPACE) for token in tokens])
        self._is_space = np.array([token != "" and not token.strip(_SPACE) for token in tokens])
        self._words: dict[str, bytes] = {}  # the tokens of a word, as an array of int32

    def embed(self, texts: list[str]) -> "NDArray[np.float32]":
        """Return a unit vector a text, which is that of the mean of its tokens; zeros for a text without a token."""
        pooled = np.zeros((len(texts), self._vectors.shape[1]), dtype=np.float32)
        for place, tokens in enumerate(self._tokens(texts)):
            if tokens:
                ids = np.frombuffer(tokens, dtype=np.int32)
                self._vectors.take(ids, axis=0, mode="clip").sum(axis=0, out=pooled[place])
        lengths = np.linalg.norm(pooled, axis=1, keepdims=True)
        lengths[lengths == 0] = 1
        pooled /= lengths
        return pooled

    def _tokens(self, texts: list[str]) -> list[bytes]:
        """Return the tokens of each text."""
        words = [_WORD.findall(f" {text}") if self._is_plain(text) else None for text in texts]
        whole = iter(self._tokenize([text for text, some in zip(texts, words, strict=True) if some is None]))
        known, found = self._look_up({word for some in words if some is not None for word in some})
        return [
            next(whole).tobytes() if some is None else b"".join([known.get(word) or found[word] for word in some])
            for some in words
        ]

    def _is_plain(self, text: str) -> bool:
        """Return whether the tokens of a text are those of its words.

        A space that ends a text, and an empty text, would each be a word without characters, which has no token.
        """
        return bool(text) and text[-1] != " " and _SPACE not in text and not any(s in text for s in self._special)

    def _look_up(self, words: set[str]) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """Return the tokens of known words, and those of the others; remember these.

        No word leaves a dictionary that another thread may be reading: a full one is replaced.
        """
        known = self._words
        new = [word for word in words if word not in known]
        if not new:
            return known, {}
        found = dict(zip(new, self._split("".join(new)[1:]), strict=True))
        if len(known) + len(new) > _MOST_WORDS:
            self._words = {}
        self._words.update({word: tokens for word, tokens in found.items() if len(word) <= _LONGEST_WORD})
        return known, found

    def _split(self, text: str) -> list[bytes]:
        """Return the tokens of each word of a text: a word begins at a space that follows another character."""
        (ids,) = self._tokenize([text])
        begins = self._begins[ids]
        begins[1:] &= ~self._is_space[ids[:-1]]
        return [word.tobytes() for word in np.split(ids, np.flatnonzero(begins)[1:])]

    def _tokenize(self, texts: list[str]) -> "list[NDArray[np.int32]]":
        if not texts:
            return []
        encoded = self._tokenizer.encode_batch_fast(texts, is_pretokenized=False, add_special_tokens=False)
        return [np.array(one.ids, dtype=np.int32) for one in encoded]
