"""A reading of the required resources, judged against the readings of the account that were landed before."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from itertools import islice

from tradier_pipeline import clock
from tradier_pipeline.broker import envelope
from tradier_pipeline.broker.decode import parse_orders
from tradier_pipeline.broker.errors import BodyError
from tradier_pipeline.broker.models import Balances, Order, Position, parse, parse_rows
from tradier_pipeline.broker.pages import Extract
from tradier_pipeline.landing.manifest import FetchRound, UnlistedRecord
from tradier_pipeline.landing.zone import PASSED_OVER, LandedSnapshot, LandingZone
from tradier_pipeline.reconcile.coherence import Coherence, judge_coherence
from tradier_pipeline.reconcile.statement import AccountState, OrderPart, PartKey, by_key, held, legless_of, parts_of

JUDGED = ("balances", "positions", "orders")
LONGEST = timedelta(days=90)  # that an order which is not shown any more is remembered


@dataclass(frozen=True, slots=True)
class Earlier:
    """The statements to compare with: of the last snapshot that is not torn, and of the first torn one since."""

    good: AccountState | None
    torn: AccountState | None


def earlier(zone: LandingZone, account_id: str) -> Earlier:
    """What was landed before. What cannot be read, or a wrong clock timed, is passed over."""
    torn: AccountState | None = None
    for landed in islice(zone.latest(account_id), PASSED_OVER):
        if landed.manifest.clock_was_wrong:
            continue
        with suppress(Exception):  # landed bytes may be anything by now
            statement = _landed(landed)
            if not landed.manifest.is_torn:
                return Earlier(statement, torn)
            torn = statement
    return Earlier(None, None)


def judged(extracts: Mapping[str, Extract], before: Earlier) -> tuple[FetchRound, bool]:
    """The verdict on what was just read, and whether reading again in a moment may tell more."""
    as_of = min(extracts[resource].started_at for resource in JUDGED)
    as_of_end = max(extracts[resource].ended_at for resource in JUDGED)
    bodies = {resource: tuple(page.body for page in extract.pages) for resource, extract in extracts.items()}
    try:
        coherence = judge_coherence(_statement(bodies, as_of, as_of_end), before.good, before.torn)
    except BodyError as error:
        coherence = Coherence("unknown", (str(error),))
    except Exception as error:  # judging must not cost a snapshot
        coherence = Coherence("unknown", (f"it cannot be judged: {type(error).__name__}: {error}",))
    record = FetchRound(as_of=as_of, as_of_end=as_of_end, verdict=coherence.verdict, evidence=coherence.evidence)
    return record, coherence.is_settling


def unlisted(extracts: Mapping[str, Extract], newest: LandedSnapshot | None) -> tuple[UnlistedRecord, ...]:
    """What the orders that were just read do not show of what had filled, as far as it may come back.

    That is what still works, as a good-till-cancelled order does over days, and what changed on this date, since the
    list may be empty for a minute. What cannot be read costs no snapshot.

    Args:
        newest: the snapshot that was landed last.
    """
    if newest is None:
        return ()
    try:
        known = _known_parts(newest)
        bodies = {resource: tuple(page.body for page in extract.pages) for resource, extract in extracts.items()}
        shown = {order.id for order in _orders(bodies["orders"], bodies.get("order", ()))}
    except Exception:  # landed bytes may be anything by now
        return ()
    now = extracts["orders"].started_at
    return tuple(
        UnlistedRecord(**asdict(part))
        for part in known.values()
        if part.order_id not in shown and part.filled and _may_come_back(part, now)
    )


def _may_come_back(part: OrderPart, now: datetime) -> bool:
    if part.changed_at is None or now - part.changed_at > LONGEST:
        return False
    return bool(part.rest) or clock.trade_date(part.changed_at) == clock.trade_date(now)


def _known_parts(landed: LandedSnapshot) -> dict[PartKey, OrderPart]:
    """What fills of the orders that a landed snapshot shows, and of those that it does not show any more."""
    orders = _orders(landed.bodies("orders"), landed.bodies("order"))
    gone = by_key(OrderPart(**dict(record)) for record in landed.manifest.unlisted)
    return {**gone, **parts_of(orders)}


def _landed(landed: LandedSnapshot) -> AccountState:
    pages = [page for resource in JUDGED for page in landed.pages(resource)]
    statement = _statement(
        {resource: landed.bodies(resource) for resource in (*JUDGED, "order")},
        min(page.started_at for page in pages),
        max(page.ended_at for page in pages),
    )
    return replace(statement, parts=_known_parts(landed))


def _statement(bodies: Mapping[str, tuple[bytes, ...]], as_of: datetime, as_of_end: datetime) -> AccountState:
    (body,) = bodies["balances"]
    balances = parse(Balances, "balances", "balances", envelope.one("balances", envelope.parse_json(body, "balances")))
    rows = [row for body in bodies["positions"] for row in _rows("positions", body)]
    positions = held(parse_rows(Position, "positions", "positions.position", rows))
    orders = _orders(bodies["orders"], bodies.get("order", ()))
    return AccountState(as_of, as_of_end, parts_of(orders), positions, balances.total_cash, legless_of(orders))


def _orders(listed: tuple[bytes, ...], by_id: tuple[bytes, ...]) -> tuple[Order, ...]:
    orders, others = parse_orders(listed, by_id)
    return (*orders, *others)


def _rows(resource: envelope.ListResource, body: bytes) -> list[dict[str, object]]:
    return envelope.rows(resource, envelope.parse_json(body, resource))
