"""A single order for which somebody waits: no rules of the road, no second try."""

from collections.abc import Callable

from evergreen.model.courier import Courier
from evergreen.model.order import Order, Outcome
from evergreen.model.traffic import Open


def carry(order: Order, breathe: Callable[[], None]) -> Outcome:
    """Carry a single order for which somebody waits."""
    courier = Courier(Open(), lambda body: body(), breathe, longest_wait=0.0)
    try:
        courier.take(order, set())
        while courier.busy:
            courier.turn()
    finally:
        courier.close()
    return order.outcome
