"""How far an order has come, in the units it was ordered in: shares, contracts, or packages of several legs. Pure.

The parent of a package counts packages in the documents, and its legs' contracts in live answers: an iron condor of one
lot says 1 or 4. The legs are the same either way, so a package has come as far as the leg that has come least.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from math import gcd

from tradier_pipeline.broker.models import PACKAGES, Order, OrderLeg

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Progress:
    """Shares, contracts or whole packages; None where the broker does not tell, or not in which units.

    Attributes:
        is_beyond: more was filled than ordered, of the order or of a leg.
    """

    ordered: Decimal | None
    filled: Decimal | None
    remaining: Decimal | None
    is_beyond: bool = False


def progress(order: Order) -> Progress:
    """How far an order of the broker's has come."""
    if order.class_ not in PACKAGES:
        return Progress(order.quantity, order.exec_quantity, order.remaining_quantity, _is_beyond(order))
    return _of_legs(order) if order.leg else _in_either_unit(order, order.quantity)


def packages(ordered: Decimal | None, legs: tuple[OrderLeg, ...]) -> Decimal | None:
    """How many packages were ordered, counted by the order as such or in contracts; None if neither fits the legs."""
    quantities = [leg.quantity for leg in legs if leg.quantity]
    if not ordered or len(quantities) < len(legs):
        return None
    if not any(quantity % ordered for quantity in quantities):
        return ordered
    if ordered != sum(quantities) or any(quantity % 1 for quantity in quantities):
        return None
    return Decimal(gcd(*map(int, quantities)))


def _of_legs(order: Order) -> Progress:
    ordered, beyond = packages(order.quantity, order.leg), any(map(_is_beyond, order.leg))
    if ordered is None:
        return Progress(None, None, None, beyond)
    done = [leg.exec_quantity for leg in order.leg]
    if None in done:  # the legs do not tell: what the order says is known where it can only be packages
        return replace(_in_either_unit(order, ordered), is_beyond=beyond)
    whole = min((leg.exec_quantity or ZERO) * ordered / (leg.quantity or ordered) for leg in order.leg) // 1
    if order.status == "filled" and whole < ordered:
        return Progress(ordered, None, order.remaining_quantity, beyond)  # the order and its legs contradict each other
    return Progress(ordered, whole, _remaining(order, ordered, whole), beyond)


def _in_either_unit(order: Order, ordered: Decimal | None) -> Progress:
    """Nothing and all are the same in packages and in contracts; what lies between is not."""
    reported = order.exec_quantity
    filled = ordered if reported and order.status == "filled" else reported if not reported else None
    return Progress(ordered, filled, None if filled is None else _remaining(order, ordered, filled))


def _remaining(order: Order, ordered: Decimal | None, filled: Decimal) -> Decimal | None:
    """An order that has ended has 0 remaining, whatever was filled."""
    if not order.remaining_quantity or ordered is None:
        return order.remaining_quantity
    return ordered - filled


def _is_beyond(part: OrderLeg) -> bool:
    return part.quantity is not None and (part.exec_quantity or ZERO) > part.quantity
