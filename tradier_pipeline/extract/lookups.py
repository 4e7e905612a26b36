"""Orders that are read by their ids: those that left the broker's list, and those that it lists without their legs.

Tradier lists the orders of the current New York day. Whether every resting good-till-cancelled order of an earlier day
stays listed is not documented, so an order that was working in the last snapshot is followed until it has an end, never
assumed cancelled. The sandbox may list an order of several legs without them: whether it tells more by the id is asked
once, and asked again only if it reported legs and the order has changed since.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from tradier_pipeline.broker.client import BrokerClient
from tradier_pipeline.broker.decode import row_of, rows_of
from tradier_pipeline.broker.errors import AccountRefusedError, BodyError, BrokerError
from tradier_pipeline.broker.models import FINISHED, OF_SEVERAL, identifier
from tradier_pipeline.broker.pages import Attempt, Extract, Page
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.landing.manifest import LookupRecord, PageRecord
from tradier_pipeline.landing.zone import LandedSnapshot, LandingZone

About = Literal["vanished", "legs"]
Asked = tuple[tuple[LookupRecord, ...], tuple[Page, ...]]

NOTHING_ASKED: Asked = ((), ())

BUDGET = 20  # requests of one snapshot
MAX_LOOKUP_MISSES = 2
TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Legless:
    """The orders that are listed without legs: those to ask for, and what the snapshot before knows of the others."""

    wanted: tuple[int, ...] = ()
    records: tuple[LookupRecord, ...] = ()
    pages: tuple[Page, ...] = ()


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
    listed = {order_id for order_id, _ in _identified(rows_of("orders", (page.body for page in orders.pages)))}
    return {order_id: misses for order_id, misses in before.items() if order_id not in listed}


def legless(before: LandedSnapshot | None, orders: Extract, asked_now: Asked = NOTHING_ASKED) -> Legless:
    """The orders that are listed without the legs that their class has, if they filled or may.

    Args:
        before: the snapshot before.
        asked_now: what an earlier reading for this snapshot asked, and the answers.
    """
    rows = [row for row in rows_of("orders", (page.body for page in orders.pages)) if _lacks_legs(row)]
    listed = {order_id: row for row in rows for order_id, _ in _identified([row])}
    if not listed:
        return Legless()
    asked = _answers(_asked_before(before)) | _answers(asked_now)
    wanted: list[int] = []
    records: list[LookupRecord] = []
    pages: list[Page] = []
    for order_id, row in listed.items():
        record, page = asked.get(order_id, (None, None))
        if record is None or (page is not None and _has_changed(row, page.body)):
            wanted.append(order_id)
        else:
            records.append(record)
            pages += [page] if page is not None else []
    return Legless(tuple(wanted), tuple(records), tuple(pages))


async def look_up(
    client: BrokerClient, account_id: str, wanted: Mapping[int, int], without_legs: Legless | None = None
) -> tuple[tuple[LookupRecord, ...], tuple[Page, ...]]:
    """Ask for each order, at most `BUDGET` of them. A failure never fails the snapshot: it is recorded."""
    without_legs = without_legs or Legless()
    questions: list[tuple[int, int, About]] = [(order_id, wanted[order_id], "vanished") for order_id in sorted(wanted)]
    questions += [(order_id, 0, "legs") for order_id in sorted(without_legs.wanted)]
    now, later = questions[:BUDGET], questions[BUDGET:]
    answers = await asyncio.gather(*(_ask(client, account_id, *question) for question in now))
    deferred = [
        LookupRecord(order_id=order_id, state="deferred", times_not_found=misses, about=about)
        for order_id, misses, about in later
    ]
    received = [page for _, page in answers if page] + list(without_legs.pages)
    pages = [replace(page, number=place) for place, page in enumerate(received, 1)]
    return (*(record for record, _ in answers), *deferred, *without_legs.records), tuple(pages)


async def _ask(
    client: BrokerClient, account_id: str, order_id: int, misses: int, about: About
) -> tuple[LookupRecord, Page | None]:
    answer = partial(LookupRecord, order_id=order_id, about=about)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            extract = await client.fetch_order(account_id, order_id)
    except AccountRefusedError as error:  # Tradier: an unknown order is answered like a foreign account
        return answer(state="not_found", times_not_found=misses + 1, reason=error.what), None
    except (BrokerError, TimeoutError) as error:
        reason = error.what if isinstance(error, BrokerError) else f"no answer within {TIMEOUT_S:.0f} s"
        return answer(state="failed", times_not_found=misses, reason=reason), None
    (page,) = extract.pages
    return answer(state="found"), page


def _asked_before(before: LandedSnapshot | None) -> Asked:
    if before is None or not any(lookup.about == "legs" for lookup in before.manifest.lookups):
        return NOTHING_ASKED
    try:
        pages = zip(before.pages("order"), before.bodies("order"), strict=True)
        return before.manifest.lookups, tuple(_as_received(record, body) for record, body in pages)
    except PipelineError:  # what is damaged is asked again
        return NOTHING_ASKED


def _answers(asked: Asked) -> dict[int, tuple[LookupRecord, Page | None]]:
    """What was asked about legs and answered, by order id, with the body if it tells legs."""
    lookups, received = asked
    pages: dict[int, Page] = {}
    for page in received:
        row = row_of("order", page.body)
        if not _lacks_legs(row):
            pages |= {order_id: page for order_id, _ in _identified([row])}
    return {
        lookup.order_id: (lookup, pages.get(lookup.order_id))
        for lookup in lookups
        if lookup.about == "legs" and lookup.state in ("found", "not_found")
    }


def _as_received(record: PageRecord, body: bytes) -> Page:
    attempts = tuple(Attempt(one.started_at, one.ended_at, one.outcome) for one in record.attempts)
    return Page(
        number=record.number,
        path=record.path,
        query=record.query,
        status=record.status,
        headers=record.headers,
        body=body,
        started_at=record.started_at,
        ended_at=record.ended_at,
        attempts=attempts,
    )


def _lacks_legs(row: Mapping[str, Any]) -> bool:
    """Whether an order of several has no legs, and has filled or may."""
    if row.get("class") not in OF_SEVERAL or row.get("leg") not in (None, "null", []):
        return False
    return str(row.get("status")) not in FINISHED or bool(row.get("exec_quantity"))


def _has_changed(listed: Mapping[str, Any], body: bytes) -> bool:
    """Whether an order has moved on since it was read by its id."""
    read = row_of("order", body)
    return any(listed.get(name) != read.get(name) for name in ("status", "exec_quantity", "transaction_date"))


def _followed(landed: LandedSnapshot) -> Followed:
    by_id = (row_of("order", body) for body in landed.bodies("order"))
    shown = [*_identified(rows_of("orders", landed.bodies("orders"))), *_identified(by_id)]
    working = {order_id: 0 for order_id, status in shown if status not in FINISHED}
    asked = {lookup.order_id: lookup for lookup in landed.manifest.lookups if lookup.about == "vanished"}
    unresolved = {
        order_id: lookup.times_not_found
        for order_id, lookup in asked.items()
        if lookup.state != "found" and lookup.times_not_found < MAX_LOOKUP_MISSES
    }
    return Followed(frozenset(asked) | {order_id for order_id, _ in shown}, working | unresolved)


def _followed_in_time(landed: LandedSnapshot) -> Followed:
    if landed.manifest.clock_was_wrong:
        raise ValueError("its clock was wrong")
    return _followed(landed)


def _identified(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[int, str]]:
    """Id and status of the orders that can be asked for: by a whole number, however it is written."""
    for row in rows:
        with suppress(BodyError):
            order_id = identifier("orders", "orders.order.id", row.get("id"))
            if order_id > 0:
                yield order_id, str(row.get("status"))
