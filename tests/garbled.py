"""Answers that no server should give, made by hypothesis: one thing is wrong with an answer that is otherwise right.

None of them holds a vector that is of the right kind and not that of its text: nobody could tell such a one.
"""

import gzip
import json
from collections.abc import Callable
from typing import Any

from faults import Fault, Reply
from hypothesis import strategies as st

_NUMBERS = [1e39, -1e39, float("nan"), float("inf"), 10**400, -(10**400)]
_WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_LEAF = st.one_of(st.none(), st.sampled_from(_NUMBERS), _WORDS)
JUNK = st.recursive(
    _LEAF,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_WORDS, inner, max_size=3)),
    max_leaves=5,
)
_BODIES = dict(enumerate([
    b"", b"\0", b"[" * 20_000, b'{"data":' * 5000, b"\xff\xfe{}", b'"\xed\xa0\x80"', b"\xef\xbb\xbf{}", b"1" * 5000,
    b'{"data": [], "data": [{}]}', b'{"embeddings": {"float": [[]]}}', b"nan", b"-", b'{"a"', b"\x1f\x8b\x08\x00",
]))  # fmt: skip
_STATUSES = [
    0,
    99,
    100,
    102,
    199,
    200,
    201,
    206,
    226,
    299,
    300,
    304,
    400,
    404,
    418,
    429,
    451,
    499,
    500,
    529,
    599,
    600,
    999,
]
_HEADERS = [
    "Retry-After", "retry-after-ms", "x-ratelimit-remaining-requests", "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-requests", "x-ratelimit-reset-tokens", "x-ratelimit-limit-tokens", "Content-Type",
    "Content-Length", "Content-Encoding", "Transfer-Encoding", "Connection", "Location", "X",
]  # fmt: skip
_VALUES = [
    "0", "-1", "1", "1e400", "NaN", "inf", "9" * 400, "6m0s", "1h" * 50, "-5s", "Wed, 21 Oct 9999 07:28:00 GMT",
    "Wed, 99", "gzip", "br", "chunked", "gzip, chunked", "identity", "close", "text/html; charset=nope", "\xe9", ",",
    "a" * 9000, "2",
]  # fmt: skip


def _changed(answer: Any, steps: list[int], change: Callable[[Any, Any], None]) -> None:
    """Walk down as the steps say and change one member of where they end."""
    where = answer
    while True:
        places = list(where) if isinstance(where, dict) else list(range(len(where)))
        place = places[steps[0] % len(places)]
        steps = steps[1:]
        if not steps or not isinstance(where[place], dict | list) or not where[place]:
            change(where, place)
            return
        where = where[place]


def _replaced(steps: list[int], junk: Any) -> Fault:
    def fault(reply: Reply) -> None:
        answer = reply.call.protocol.answer(reply.call, reply.items)
        _changed(answer, steps, lambda where, place: where.__setitem__(place, junk))
        reply.body = json.dumps(answer, ensure_ascii=False).encode()

    return fault


def _removed(steps: list[int]) -> Fault:
    def fault(reply: Reply) -> None:
        answer = reply.call.protocol.answer(reply.call, reply.items)
        _changed(answer, steps, lambda where, place: where.__delitem__(place))
        reply.body = json.dumps(answer).encode()

    return fault


def _torn(place: int, piece: bytes) -> Fault:
    """Some bytes in the place of as many others."""

    def fault(reply: Reply) -> None:
        body = reply.rendered()[1]
        at = place % len(body)
        reply.body = body[:at] + piece

    return fault


def _said(status: int | None, body: bytes | None, headers: dict[str, str], *, packed: bool) -> Fault:
    def fault(reply: Reply) -> None:
        reply.status = status if status is not None else reply.status
        reply.body = body if body is not None else reply.body
        if packed:
            reply.body = gzip.compress(reply.rendered()[1])
            reply.headers["Content-Encoding"] = "gzip"
        reply.headers |= headers

    return fault


_STEPS = st.lists(st.integers(0, 40), min_size=1, max_size=4)
GARBLED: st.SearchStrategy[Fault] = st.one_of(
    st.builds(_replaced, _STEPS, JUNK),
    st.builds(_removed, _STEPS),
    st.builds(_torn, st.integers(0, 4000), st.binary(max_size=12)),
    st.builds(
        _said,
        st.one_of(st.none(), st.sampled_from(_STATUSES)),
        st.one_of(
            st.none(),
            st.sampled_from(list(_BODIES)).map(_BODIES.__getitem__),
            JUNK.map(lambda junk: json.dumps(junk).encode()),
        ),
        st.dictionaries(st.sampled_from(_HEADERS), st.sampled_from(_VALUES), max_size=3),
        packed=st.booleans(),
    ),
)
