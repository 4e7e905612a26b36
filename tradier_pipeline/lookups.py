"""Orders that had been working and left the broker's list: asked for by their ids, never assumed cancelled.

Tradier lists the orders of the current New York day. Whether every resting good-till-cancelled order of an earlier day
stays listed is not documented, so an order that was working in the last snapshot is followed until it has an end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tradier_pipeline.broker import envelope
from tradier_pipeline.broker.client import BrokerClient, Extract, Page
from tradier_pipeline.broker.errors import AuthError, BrokerError
from tradier_pipeline.broker.models import FINISHED
from tradier_pipeline.landing import LandedSnapshot, LandingZone, LookupRecord

BUDGET = 20  # requests of one snapshot
ENOUGH_MISSES = 2
TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Followed:
    """What a landed snapshot says of orders.

    Attributes:
        known: every order that it shows or asked for.
        wanted: those that had not ended, and how often the broker has said that it does not know them.
    """

    known: frozenset[int]
    wanted: Mapping[int, int]


def followed(zone: LandingZone, account_id: str) -> Mapping[int, int]:
    """The orders of what was landed before that had not ended: order id -> how often the broker did not know it.

    What cannot be read is passed over. Beside a snapshot of a wrong clock, which may be newer or older than it says,
    counts the newest of a right one.
    """
    latest = zone.recall(account_id, _followed)
    if latest is None:
        return {}
    timed = zone.recall(account_id, _followed_in_time)
    return {order: misses for order, misses in (timed or latest).wanted.items() if order not in latest.known} | {
        **latest.wanted
    }


def vanished(before: Mapping[int, int], orders: Extract) -> dict[int, int]:
    """The orders to ask for: `followed`, and not listed now."""
    listed = {order_id for order_id, _ in _orders(page.body for page in orders.pages)}
    return {order_id: misses for order_id, misses in before.items() if order_id not in listed}


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


def _followed(landed: LandedSnapshot) -> Followed:
    by_id = (envelope.one("order", envelope.parse_json(body, "order")) for body in landed.bodies("order"))
    shown = [*_orders(landed.bodies("orders")), *_identified(by_id)]
    working = {order_id: 0 for order_id, status in shown if status not in FINISHED}
    asked = {lookup.order_id: lookup for lookup in landed.manifest.lookups}
    unresolved = {
        order_id: lookup.times_not_found
        for order_id, lookup in asked.items()
        if lookup.state != "found" and lookup.times_not_found < ENOUGH_MISSES
    }
    return Followed(frozenset(asked) | {order_id for order_id, _ in shown}, working | unresolved)


def _followed_in_time(landed: LandedSnapshot) -> Followed:
    if landed.manifest.clock_was_wrong:
        raise ValueError("its clock was wrong")
    return _followed(landed)


def _orders(bodies: Iterable[bytes]) -> Iterator[tuple[int, str]]:
    for body in bodies:
        yield from _identified(envelope.rows("orders", envelope.parse_json(body, "orders")))


def _identified(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[int, str]]:
    """Id and status of the orders that can be asked for: by a whole number, also one written as text."""
    for row in rows:
        order_id = row.get("id")
        if isinstance(order_id, str) and order_id.isascii() and order_id.isdecimal():
            order_id = int(order_id)
        if isinstance(order_id, int) and not isinstance(order_id, bool) and order_id > 0:
            yield order_id, str(row.get("status"))
