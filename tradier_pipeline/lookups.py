"""Orders that had been working and left the broker's list: asked for by their ids, never assumed cancelled.

Tradier lists the orders of the current New York day. Whether every resting good-till-cancelled order of an earlier day
stays listed is not documented, so an order that was working in the last snapshot is followed until it has an end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from tradier_pipeline.broker import envelope
from tradier_pipeline.broker.client import BrokerClient, Extract, Page
from tradier_pipeline.broker.errors import AuthError, BodyError, BrokerError
from tradier_pipeline.broker.models import FINISHED, identifier
from tradier_pipeline.landing import LandedSnapshot, LookupRecord

BUDGET = 20  # requests of one snapshot
ENOUGH_MISSES = 2
TIMEOUT_S = 10.0


def vanished(before: LandedSnapshot | None, orders: Extract) -> dict[int, int]:
    """The orders to ask for: working or unresolved in the snapshot before, and not listed now.

    Returns:
        Order id -> how often the broker has said that it does not know it.
    """
    if before is None:
        return {}
    listed = {order_id for order_id, _ in _orders(page.body for page in orders.pages)}
    working = {order_id: 0 for order_id in _working(before) if order_id not in listed}
    unresolved = {
        lookup.order_id: lookup.times_not_found
        for lookup in before.manifest.lookups
        if lookup.state != "found" and lookup.times_not_found < ENOUGH_MISSES and lookup.order_id not in listed
    }
    return working | unresolved


async def look_up(
    client: BrokerClient, account_id: str, wanted: Mapping[int, int]
) -> tuple[tuple[LookupRecord, ...], tuple[Page, ...]]:
    """Ask for each order, at most `BUDGET` of them. A failure never fails the snapshot: it is recorded."""
    now, later = sorted(wanted)[:BUDGET], sorted(wanted)[BUDGET:]
    answers = await asyncio.gather(*(_ask(client, account_id, order_id, wanted[order_id]) for order_id in now))
    deferred = [
        LookupRecord(order_id=order_id, state="deferred", times_not_found=wanted[order_id]) for order_id in later
    ]
    pages = [replace(page, number=place) for place, page in enumerate((page for _, page in answers if page), 1)]
    return (*(record for record, _ in answers), *deferred), tuple(pages)


async def _ask(client: BrokerClient, account_id: str, order_id: int, misses: int) -> tuple[LookupRecord, Page | None]:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            extract = await client.fetch_order(account_id, order_id)
    except AuthError as error:  # Tradier: an unknown order is answered like a foreign account
        return LookupRecord(order_id=order_id, state="not_found", times_not_found=misses + 1, reason=error.what), None
    except (BrokerError, TimeoutError) as error:
        reason = error.what if isinstance(error, BrokerError) else f"no answer within {TIMEOUT_S:.0f} s"
        return LookupRecord(order_id=order_id, state="failed", times_not_found=misses, reason=reason), None
    (page,) = extract.pages
    return LookupRecord(order_id=order_id, state="found"), page


def _working(landed: LandedSnapshot) -> Iterator[int]:
    for order_id, status in (*_orders(landed.bodies("orders")), *_by_id(landed.bodies("order"))):
        if status not in FINISHED:
            yield order_id


def _by_id(bodies: Iterable[bytes]) -> Iterator[tuple[int, str]]:
    for body in bodies:
        yield from _id_and_status(envelope.one("order", envelope.parse_json(body, "order")))


def _orders(bodies: Iterable[bytes]) -> Iterator[tuple[int, str]]:
    for body in bodies:
        for order in envelope.rows("orders", envelope.parse_json(body, "orders")):
            yield from _id_and_status(order)


def _id_and_status(order: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    with suppress(BodyError):  # an order without an id, as older versions landed it, cannot be asked for
        yield identifier("order", "id", order.get("id")), str(order.get("status"))
