"""Text between Python and a server whose encoding is not UTF-8.

PL/Python hands SQL texts over as UTF-8 whatever the server's encoding is, and reads the server's error messages as
UTF-8. Where a message cannot be converted, either way, it raises inside of Python's C code: the error jumps over
Python's frames, and the backend crashes soon after. So nothing reaches it that cannot be converted, and it can read
every message.
"""

import codecs
import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import cast

_TOKENS = re.compile(
    r"""(?<![\w$])[Ee]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | /\*.*?\*/""",
    re.DOTALL | re.VERBOSE,
)
_NO_TEXT = (int, float, bytes)
_STRICT = codecs.lookup_error("strict")
_SUBSTITUTE = "?"
_SPELLED = {"…": "...", "→": "->", "µ": "u"}  # what our own messages have
_Handler = Callable[[UnicodeError], tuple[str | bytes, int]]
_CODECS = {"MULE_INTERNAL": "latin-1", "EUC_TW": "latin-1", "SQL_ASCII": "utf-8", "WIN866": "cp866", "WIN874": "cp874"}


def ascii_sql(text: str) -> str:
    """Spell a statement with ASCII characters: what stands in quotes by Unicode escapes."""
    return text if text.isascii() else _TOKENS.sub(lambda token: _spelled(token[0]), text)


def _spelled(token: str) -> str:
    if token.isascii():
        return token
    if token.startswith(("--", "/*")):
        return token.encode("ascii", "replace").decode()
    if token.startswith('"'):
        return "U&" + _escaped(token.replace("\\", "\\\\"), "\\{:04x}", "\\+{:06x}")
    if token.startswith("'"):
        token = "E" + token.replace("\\", "\\\\")
    return _escaped(token, "\\u{:04x}", "\\U{:08x}")


def _escaped(text: str, short: str, long: str) -> str:
    return "".join(
        one if one.isascii() else (short if ord(one) < 0x10000 else long).format(ord(one))  # noqa: PLR2004 - the BMP
        for one in text
    )


def storable(text: str) -> str:
    """Put a question mark for what no server takes: NUL, and half of a surrogate pair."""
    if text.isascii():
        return text.replace("\0", _SUBSTITUTE) if "\0" in text else text
    return text.replace("\0", _SUBSTITUTE).encode("utf-8", "replace").decode()


def is_text(text: str) -> bool:
    """False where a surrogate stands for a byte."""
    return text.isascii() or text == text.encode("utf-8", "replace").decode()


class Encoder:
    """Knows which characters a server's encoding has, by asking the server: ``fits`` tells it of a text."""

    def __init__(self, fits: Callable[[str], bool]) -> None:
        self._fits = fits
        self._known: dict[str, bool] = {}

    def text(self, text: str) -> str:
        """Put a question mark for each character that the encoding does not have."""
        text = storable(text)
        if text.isascii() or self._has_all(set(text)):
            return text
        return "".join(one if self._has(one) else _SPELLED.get(one, _SUBSTITUTE) for one in text)

    def value(self, value: object) -> object:
        """As text, for every text in a value: in lists, tuples and dicts, too."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            items = cast("list[object]", value)
            return (
                [self.value(one) for one in items] if items and not isinstance(items[0], int | bytes | float) else items
            )
        if isinstance(value, tuple):
            return tuple(self.value(one) for one in cast("tuple[object, ...]", value))
        if isinstance(value, dict):
            return {key: self.value(one) for key, one in cast("dict[object, object]", value).items()}
        return value

    def _has_all(self, characters: set[str]) -> bool:
        unknown = {one for one in characters if not one.isascii() and one not in self._known}
        if unknown and self._fits("".join(unknown)):
            self._known.update(dict.fromkeys(unknown, True))
        return all(one.isascii() or self._known.get(one, False) for one in characters)

    def _has(self, character: str) -> bool:
        if character.isascii():
            return True
        if character not in self._known:
            self._known[character] = self._fits(character)
        return self._known[character]


def codec(server: str) -> str:
    """Return Python's name for a server's encoding, or Latin 1."""
    name = _CODECS.get(server, re.sub(r"^WIN(?=\d)", "cp", server).replace("ISO_8859_", "iso8859-"))
    try:
        return codecs.lookup(name).name
    except LookupError:
        return "latin-1"


@contextmanager
def lenient() -> Generator[None]:
    """While this lasts, bytes that are not UTF-8 become surrogates, from which ``reread`` gets them back.

    PL/Python makes exceptions of the server's messages and leaves no other way to have a say in it.
    """
    with _handling(codecs.lookup_error("surrogateescape")):
        yield


def reread(text: str, name: str) -> str:
    """Read a text again that is in this codec and was taken for UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode(name, "replace")


@contextmanager
def strict() -> Generator[None]:
    """Code of ours that a lenient statement runs reads UTF-8 as ever."""
    with _handling(_STRICT):
        yield


@contextmanager
def _handling(handler: _Handler) -> Generator[None]:
    before = codecs.lookup_error("strict")
    if before is handler:
        yield
        return
    codecs.register_error("strict", handler)
    try:
        yield
    finally:
        codecs.register_error("strict", before)
