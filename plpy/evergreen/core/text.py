"""Texts for people and logs: token estimates, numbers, plurals, quoting, logfmt."""

import json
import re
from datetime import UTC, datetime

_ASCII_CHARACTERS_A_TOKEN = 4
_PLAIN = re.compile(r"[\w.:/+-]+", re.ASCII)
_LONGEST = 300
_MICROSECONDS = 1_000_000
Detail = str | int | float | None


def estimate_tokens(text: str) -> int:
    """Estimate a text's tokens: four ASCII characters each, and one for every other character.

    Four characters of English a token is OpenAI's rule of thumb (https://platform.openai.com/tokenizer); texts in other
    scripts come to about one token a character with its cl100k_base encoding.
    """
    plain = len(text) if text.isascii() else len(text.encode("ascii", "ignore"))
    return -(-plain // _ASCII_CHARACTERS_A_TOKEN) + len(text) - plain


def truncate_text(text: str, tokens: int) -> str:
    """Return the longest beginning of a text that is estimated at no more than so many tokens."""
    if estimate_tokens(text) <= tokens:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if estimate_tokens(text[:middle]) <= tokens:
            low = middle
        else:
            high = middle - 1
    return text[:low]


def format_number(value: float) -> str:
    """Group digits in threes: 3,012."""
    return f"{value:,.0f}"


def pluralize(value: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun: 1 row, 3,012 rows."""
    return f"{format_number(value)} {one if value == 1 else many or f'{one}s'}"


def quoted(value: object) -> str:
    """Return a value as it stands in a message: NULL for none."""
    return "NULL" if value is None else f'"{value}"'


def logfmt(event: str, details: dict[str, Detail]) -> str:
    """Return a line in logfmt, without the details that are None."""
    told = {"event": event, **{name: value for name, value in details.items() if value is not None}}
    return "evergreen: " + " ".join(f"{name}={_written(value)}" for name, value in told.items())


def moment(microseconds: int) -> str:
    """Return a time since 1970 as it stands in a line."""
    at = datetime.fromtimestamp(microseconds / _MICROSECONDS, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _written(value: str | int | float) -> str:
    if not isinstance(value, str):
        return f"{value:g}" if isinstance(value, float) else str(value)
    text = value if len(value) <= _LONGEST else f"{value[:_LONGEST]}..."
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)
