"""Bodies of the broker as models: once for each resource, whoever reads them."""

from __future__ import annotations

from functools import lru_cache

from tradier_pipeline.broker import envelope
from tradier_pipeline.broker.models import Order, parse, parse_rows


def with_legs(listed: tuple[Order, ...], by_id: tuple[Order, ...]) -> tuple[tuple[Order, ...], tuple[Order, ...]]:
    """The listed orders, each as it was read by its id where only that tells its legs, and those that are not listed.

    An order that was listed without its legs and tells none by its id either counts as it was listed.
    """
    read = {order.id: order for order in by_id}
    numbers = {order.id for order in listed}
    orders = (found if order.lacks_legs and (found := read.get(order.id, order)).leg else order for order in listed)
    return tuple(orders), tuple(order for order in by_id if order.id not in numbers)


@lru_cache(maxsize=2)  # judged, then stored; and most minutes list the orders of the minute before, byte for byte
def parse_orders(listed: tuple[bytes, ...], by_id: tuple[bytes, ...]) -> tuple[tuple[Order, ...], tuple[Order, ...]]:
    """The orders of the bodies of a list, and of those read by their ids, as `with_legs` returns them.

    Raises:
        BodyError: a row is malformed.
    """
    rows = [row for body in listed for row in envelope.order_rows(body)]
    single = [envelope.one("order", envelope.parse_json(body, "order")) for body in by_id]
    return with_legs(
        parse_rows(Order, "orders", "orders.order", rows),
        tuple(parse(Order, "order", "order", row) for row in single),
    )
