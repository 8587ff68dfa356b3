"""Pack texts into requests, by number and by tokens."""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace

from evergreen.model import tokens
from evergreen.model.order import Order, Parcel
from evergreen.model.provider import Limits, Texts


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


def pack_order(order: Order, limits: Limits, answers: int = 0) -> None:
    """Cut the texts of an order into parcels; those that were in a request that failed come last, and in smaller ones.

    One that is to be sent alone may bring the server down: when no other text goes first, a harmless one does.
    ``answers``: how many the model has given.
    """
    fresh = {key: text for key, text in order.texts.items() if key not in order.company}
    order.waiting = deque(Parcel(keys) for keys in pack(fresh, limits))
    for most in sorted({*order.company.values()}, reverse=True):
        some = {key: order.texts[key] for key, company in order.company.items() if company == most}
        smaller = replace(limits, inputs=min(most, limits.inputs))
        again = Parcel([], since=answers, acquitted=True, alone=most == 1)
        order.waiting.extend(replace(again, keys=keys) for keys in pack(some, smaller))
    if order.wary and {*order.company.values()} == {1} and not fresh:
        order.waiting.appendleft(Parcel([], canary=True))
