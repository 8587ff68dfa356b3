"""Pack texts into requests, by number and by tokens."""

from collections.abc import Iterator

from evergreen.model import tokens
from evergreen.model.provider import Limits

Texts = dict[bytes, str]  # by hash


def pack(texts: Texts, limits: Limits) -> Iterator[list[bytes]]:
    """Group texts into requests that hold no more inputs and tokens than it may; an over-long one goes alone."""
    request: list[bytes] = []
    total = 0
    for key, text in texts.items():
        cost = tokens.estimate(text)
        full = len(request) >= limits.inputs or (limits.request_tokens and total + cost > limits.request_tokens)
        if request and full:
            yield request
            request, total = [], 0
        request.append(key)
        total += cost
    if request:
        yield request
