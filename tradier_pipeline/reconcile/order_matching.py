"""Every order of the ledger beside the broker's, every order of the broker beside the ledger's. Pure.

An order of ours is found by the broker's id, else by its tag, which is the client order id. Orders that merely look
alike are a suggestion and never written. One broker order belongs to one order of the ledger at most; whatever
contradicts that is ambiguous, and nothing is concluded from it. An order that the broker does not show is missing,
which is never a cancellation.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from math import gcd
from typing import Any, Literal

from tradier_pipeline import clock
from tradier_pipeline.broker.models import ORDER_WORDS, PACKAGES, Order, OrderLeg
from tradier_pipeline.core.decimals import plain
from tradier_pipeline.landing.manifest import LookupRecord
from tradier_pipeline.ledger.changes import LedgerChange, broker_status, change_to
from tradier_pipeline.ledger.records import SETTLED, EngineOrder, Leg, OrderStatus, settled

MatchState = Literal["matched", "unmatched_ours", "unmatched_external", "missing_at_broker", "ambiguous"]
MatchedBy = Literal["broker_id", "tag"]

ALIKE_WITHIN = timedelta(minutes=15)
ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class OrderRow:
    """One order: of the ledger, of the broker, or of both.

    Attributes:
        matched_by: how the two were found to be one; None unless matched.
        suggested: ids of orders on the other side that look alike; a hint for people.
        broker_status: the broker's word in the ledger's vocabulary; `raw_status` is that word.
        sent_at: when the ledger got it.
        ledger_price, broker_price: average fill, USD per share; a credit is negative.
        differences: what the two sides disagree on, or what is wrong, in words.
        overfilled: more was filled than ordered.
        theirs: the broker's order, if this snapshot shows it.
        change: what the ledger's row should say; None if nothing, or if it cannot be known.
    """

    match_state: MatchState
    client_order_id: str | None = None
    broker_order_id: int | None = None
    trade_id: str | None = None
    tag: str | None = None
    matched_by: MatchedBy | None = None
    suggested: tuple[str, ...] = ()
    ledger_status: OrderStatus | None = None
    broker_status: OrderStatus | None = None
    raw_status: str | None = None
    ledger_filled: Decimal | None = None
    broker_filled: Decimal | None = None
    ledger_price: Decimal | None = None
    broker_price: Decimal | None = None
    sent_at: datetime | None = None
    differences: tuple[str, ...] = ()
    change: LedgerChange | None = None
    overfilled: bool = False
    theirs: Order | None = None


def reconcile_orders(
    ledger: Sequence[EngineOrder],
    broker: Sequence[Order],
    *,
    account_id: str,
    as_of: datetime,
    lookups: Sequence[LookupRecord] = (),
    tag_prefix: str | None = None,
) -> list[OrderRow]:
    """Compare the orders of the ledger with those of one snapshot.

    Args:
        ledger: of every account: the tags of the others are ours, too.
        broker: listed, and read by their ids.
        as_of: when the snapshot was read. It says nothing about an order that the ledger got later.
        lookups: what became of the orders that were asked for by their ids.
        tag_prefix: orders whose tag starts with it are ours, whether the ledger has them or not.

    Returns:
        A row for each broker order and for each order of the account in the ledger, without those that had settled
        before the broker's list of the day began.
    """
    own = [order for order in ledger if order.account_id == account_id]
    known_tags = frozenset(order.client_order_id for order in ledger)
    found = _match(own, broker, known_tags, tag_prefix)
    rows = [_pair_row(pair) for pair in found.pairs]
    rows += [_ambiguous_ledger_row(order, why) for order, why in found.doubtful_ledger]
    rows += [_broker_row("ambiguous", order, (why,)) for order, why in found.doubtful_broker]
    rows += [_unmatched_row(order, known_tags, tag_prefix, found.left_ledger) for order in found.left_broker]
    by_id = {lookup.order_id: lookup for lookup in lookups}
    rows += [
        _missing_row(order, by_id, found.left_broker) for order in found.left_ledger if _should_be_listed(order, as_of)
    ]
    return sorted(rows, key=lambda row: (row.broker_order_id or 0, row.client_order_id or ""))


# --- finding what belongs together ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Pair:
    ours: EngineOrder
    theirs: Order
    by: MatchedBy


@dataclass(frozen=True, slots=True)
class _Matches:
    pairs: list[_Pair]
    doubtful_ledger: list[tuple[EngineOrder, str]]
    doubtful_broker: list[tuple[Order, str]]
    left_ledger: list[EngineOrder]
    left_broker: list[Order]


def _match(
    ours: Sequence[EngineOrder], theirs: Sequence[Order], known_tags: frozenset[str], tag_prefix: str | None
) -> _Matches:
    by_id = {order.id: order for order in theirs}
    by_tag: dict[str, list[Order]] = defaultdict(list)
    for order in by_id.values():
        if order.tag:
            by_tag[order.tag].append(order)
    claims = Counter(order.broker_order_id for order in ours if order.broker_order_id is not None)
    tags = _Tags.of(ours, by_id, known_tags, tag_prefix)
    pairs: list[_Pair] = []
    doubtful: list[tuple[EngineOrder, str]] = []
    suspects: dict[int, str] = {}  # broker order -> why it is in doubt
    left: list[EngineOrder] = []
    for mine in ours:
        tagged = by_tag.get(mine.client_order_id, [])
        candidate = _candidate(mine, by_id, tagged, claims)
        if isinstance(candidate, str):
            doubtful.append((mine, candidate))
            suspects |= {other.id: candidate for other in tagged if other.id not in claims}
            if mine.broker_order_id in by_id:
                suspects[mine.broker_order_id] = candidate
        elif candidate is None:
            left.append(mine)
        elif why := tags.contradict(candidate) or _contradiction(mine, candidate.theirs):
            doubtful.append((mine, why))
            suspects[candidate.theirs.id] = why
        else:
            pairs.append(candidate)
    taken = {pair.theirs.id for pair in pairs}
    return _Matches(
        pairs=pairs,
        doubtful_ledger=doubtful,
        doubtful_broker=[(by_id[number], why) for number, why in suspects.items() if number not in taken],
        left_ledger=left,
        left_broker=[order for number, order in by_id.items() if number not in taken and number not in suspects],
    )


@dataclass(frozen=True, slots=True)
class _Tags:
    """Whether the tag of an order that an id has found says that it is another one.

    An engine sends its client order id as the tag, and Tradier returns a tag as it was sent, so an order that carries
    another one is not ours: in doubt, whether the ledger knows the order of that tag or not. No tag says nothing. A tag
    that the ledger does not know says nothing either where its ids are no tags by what there is to see:

    - the client order id is the broker's id, as this program and imports name what was sent without one;
    - with a tag prefix, neither the client order id nor the tag begins with it;
    - the same tag is on several orders: it names their sort, not one of them;
    - several orders that ids have found carry a tag, and none of them its client order id.
    """

    known: frozenset[str]
    prefix: str | None
    shared: frozenset[str]
    unused: bool

    @classmethod
    def of(
        cls, ours: Sequence[EngineOrder], by_id: Mapping[int, Order], known: frozenset[str], prefix: str | None
    ) -> _Tags:
        pairs = [(mine, theirs) for mine in ours if (theirs := by_id.get(mine.broker_order_id or 0)) and theirs.tag]
        counts = Counter(order.tag for order in by_id.values() if order.tag)
        own = any(theirs.tag == mine.client_order_id for mine, theirs in pairs)
        shared = frozenset(tag for tag, count in counts.items() if count > 1)
        return cls(known, prefix, shared, unused=len(pairs) > 1 and not own and known.isdisjoint(counts))

    def contradict(self, pair: _Pair) -> str | None:
        """Why the two are not one order after all."""
        mine, tag = pair.ours.client_order_id, pair.theirs.tag
        if pair.by == "tag" or not tag or tag == mine:
            return None
        if tag in self.known:
            return f"order {pair.theirs.id} has the tag of the ledger's order {tag}"
        if mine == str(pair.theirs.id) or tag in self.shared or self.unused:
            return None
        if self.prefix and not mine.startswith(self.prefix) and not tag.startswith(self.prefix):
            return None
        return f"order {pair.theirs.id} has the tag {tag}, which is not its own"


def _candidate(
    order: EngineOrder, by_id: Mapping[int, Order], tagged: Sequence[Order], claims: Mapping[int, int]
) -> _Pair | str | None:
    """The broker order that it is, or why that cannot be said, or None."""
    number = order.broker_order_id
    if number is not None:
        if claims[number] > 1:
            return f"{claims[number]} orders of the ledger have the broker's id {number}"
        if number in by_id:
            other = next((other for other in tagged if other.id != number), None)
            if other is not None and by_id[number].tag != order.client_order_id:
                return f"its tag is on order {other.id}, its broker id is {number}"
            return _Pair(order, by_id[number], "broker_id")
        if tagged:
            return f"its tag is on order {tagged[0].id}, its broker id is {number}"
        return None
    if len(tagged) > 1:
        return f"its tag is on orders {', '.join(str(other.id) for other in tagged)}"
    if not tagged:
        return None
    if tagged[0].id in claims:
        return f"its tag is on order {tagged[0].id}, which another order of the ledger has as its broker id"
    return _Pair(order, tagged[0], "tag")


def _contradiction(ours: EngineOrder, theirs: Order) -> str | None:
    """Why a pair cannot be one order after all: other contracts, or opening where ours closes."""
    ours_legs = {(leg.option_symbol, leg.side) for leg in ours.legs}
    theirs_legs = {(symbol, side) for symbol, side, _ in broker_legs(theirs)}
    if ours_legs and theirs_legs and ours_legs != theirs_legs:
        return f"order {theirs.id} has other legs: {_legs_text(theirs_legs)} instead of {_legs_text(ours_legs)}"
    wrong = "_to_close" if ours.role == "ENTRY" else "_to_open"
    if any(side.endswith(wrong) for _, side in theirs_legs):
        return f"order {theirs.id} is no {ours.role.lower()}: {_legs_text(theirs_legs)}"
    return None


def broker_legs(order: Order) -> tuple[tuple[str, str, Decimal], ...]:
    """(contract or equity, side, ordered quantity) of each leg, or of the order itself if it is of one.

    Nothing of an order whose legs are not known: what it names is the underlying.
    """
    return tuple(
        (symbol, part.side, plain(part.quantity))
        for part in (() if order.lacks_legs else order.leg or (order,))
        if (symbol := part.option_symbol or part.symbol) and part.side and part.quantity is not None
    )


def _legs_text(legs: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{side} {symbol}" for symbol, side in sorted(legs))


# --- how far an order has come ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an order of the broker's has come, in what it was ordered in: shares, contracts, or packages of legs.

    The parent of a package counts packages in the documents, and its legs' contracts in live answers: an iron condor of
    one lot says 1 or 4. The legs are the same either way, so a package has come as far as the leg that has come least.
    None is where the broker does not tell, or not in which units.

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


# --- rows -------------------------------------------------------------------------------------------------------------


def _pair_row(pair: _Pair) -> OrderRow:
    ours, theirs = pair.ours, pair.theirs
    row = _sides("matched", ours, theirs)
    differences = [
        f"{what}: ledger {_text(ledger)}, broker {_text(reported)}"
        for what, ledger, reported in (
            ("status", row.ledger_status, row.broker_status),
            ("filled", row.ledger_filled or ZERO, _filled(row)),
            ("price", row.ledger_price, row.broker_price),
            ("ordered", ours.quantity, plain(progress(theirs).ordered) if ours.quantity is not None else None),
            ("broker id", ours.broker_order_id, theirs.id),
        )
        if ledger != reported
    ]
    differences += [
        f"{name.replace('_', ' ')}: ledger {_text(had)}, broker {_text(reported)}"
        for name, reported in _modified(ours, theirs).items()
        if (had := getattr(ours, name)) is not None
    ]
    if theirs.lacks_legs and theirs.exec_quantity:
        differences.append("the broker does not tell its legs")
    if row.broker_status == "UNKNOWN":
        differences.append(f"the broker's word {theirs.status!r} is not understood")
    if _filled(row) != 0 and row.broker_price is None:
        differences.append("filled without a price yet")
    refusal = _refusal(ours, row)
    if refusal:
        differences.append(refusal)
    why = f"order {theirs.id} by {'its tag' if pair.by == 'tag' else 'id'} is {theirs.status}"
    return replace(
        row,
        matched_by=pair.by,
        differences=tuple(differences),
        change=None if refusal else change_to(ours, _wanted(ours, theirs, row), why),
    )


def _filled(row: OrderRow) -> Decimal | None:
    """What the broker says is filled; None if something is and nobody knows how many packages."""
    unclear = row.broker_filled is None and row.theirs is not None and row.theirs.exec_quantity
    return None if unclear else row.broker_filled or ZERO


def _refusal(ours: EngineOrder, row: OrderRow) -> str | None:
    """Why the broker's word is not taken over although the orders are one."""
    if row.overfilled:
        return "more was filled than ordered"
    if settled(ours) and row.broker_status not in SETTLED:
        return f"{ours.status} never becomes {row.broker_status} again"
    filled = _filled(row)
    if ours.filled_quantity and filled is not None and filled < ours.filled_quantity:
        return "fewer are filled than the ledger knows of"
    return None


def _modified(ours: EngineOrder, theirs: Order) -> dict[str, Any]:
    """What may be changed of an order while it works, where the broker says something else than the ledger.

    The ledger's limit has no sign, whether money is paid or received.
    """
    reported = {
        "order_type": theirs.type if theirs.type in ORDER_WORDS["type"] else None,
        "limit_price": plain(abs(theirs.price)) if theirs.price else None,
        "duration": theirs.duration if theirs.duration in ORDER_WORDS["duration"] else None,
    }
    if ours.limit_price is not None and reported["limit_price"] == abs(ours.limit_price):
        del reported["limit_price"]
    return {name: value for name, value in reported.items() if value is not None and value != getattr(ours, name)}


def _wanted(ours: EngineOrder, theirs: Order, row: OrderRow) -> dict[str, Any]:
    """What the broker knows; what it does not say stays as it is. Legs and quantity only where the ledger has none."""
    done = progress(theirs)
    terms = {
        "legs": tuple(
            Leg(option_symbol=symbol, side=side, quantity=ordered) for symbol, side, ordered in broker_legs(theirs)
        ),
        "quantity": plain(done.ordered),
    }
    said = {
        **{name: value for name, value in terms.items() if value and not getattr(ours, name)},
        **_modified(ours, theirs),
        "broker_order_id": theirs.id,
        "status": row.broker_status,
        "raw_status": theirs.status,
        "filled_quantity": plain(done.filled),
        "remaining_quantity": plain(done.remaining),
        "avg_fill_price": row.broker_price,
        "reject_reason": theirs.reason_description,
    }
    return {name: value for name, value in said.items() if value is not None}


def _ambiguous_ledger_row(order: EngineOrder, why: str) -> OrderRow:
    return replace(_sides("ambiguous", order, None), differences=(why,))


def _broker_row(
    state: MatchState, order: Order, differences: tuple[str, ...], suggested: tuple[str, ...] = ()
) -> OrderRow:
    return replace(_sides(state, None, order), differences=differences, suggested=suggested)


def _unmatched_row(
    order: Order, known_tags: frozenset[str], tag_prefix: str | None, candidates: Sequence[EngineOrder]
) -> OrderRow:
    alike = tuple(ours.client_order_id for ours in candidates if _alike(ours, order))
    if order.tag and order.tag in known_tags:
        why = f"the ledger's order {order.tag} is another one or of another account"
        return _broker_row("unmatched_ours", order, (why,), alike)
    if order.tag and tag_prefix and order.tag.startswith(tag_prefix):
        return _broker_row("unmatched_ours", order, ("our tag, and the ledger does not have it",), alike)
    return _broker_row("unmatched_external", order, (), alike)


def _missing_row(order: EngineOrder, lookups: Mapping[int, LookupRecord], candidates: Sequence[Order]) -> OrderRow:
    return replace(
        _sides("missing_at_broker", order, None),
        differences=(_absence(order, lookups),),
        suggested=tuple(str(theirs.id) for theirs in candidates if _alike(order, theirs)),
    )


def _absence(order: EngineOrder, lookups: Mapping[int, LookupRecord]) -> str:
    if order.broker_order_id is None:
        return "no order of the broker has its tag"
    lookup = lookups.get(order.broker_order_id)
    if lookup is None:
        return "the broker does not list it"
    reported = {
        "found": "the broker does not list it and reported it in a body that is not stored",
        "not_found": f"the broker does not list it and did not know its id {lookup.times_not_found} times",
        "failed": "the broker does not list it; asking for it by its id failed",
        "deferred": "the broker does not list it; it is asked for by its id with a later snapshot",
    }[lookup.state]
    return f"{reported} ({lookup.reason})" if lookup.reason else reported


def _should_be_listed(order: EngineOrder, as_of: datetime) -> bool:
    """Tradier lists the orders of the current New York day; what is live should be there or be found by its id."""
    created = order.created_at
    if created is not None and created > as_of:
        return False
    if not settled(order):
        return True
    today = created is not None and clock.trade_date(created) == clock.trade_date(as_of)
    return today and order.broker_order_id is not None


def _alike(ours: EngineOrder, theirs: Order) -> bool:
    """Same legs, same quantity, about the same time."""
    if ours.created_at is None or abs(ours.created_at - theirs.create_date) > ALIKE_WITHIN:
        return False
    legs = {(leg.option_symbol, leg.side) for leg in ours.legs}
    same_legs = bool(legs) and legs == {(symbol, side) for symbol, side, _ in broker_legs(theirs)}
    return same_legs and ours.quantity == progress(theirs).ordered


def _sides(state: MatchState, ours: EngineOrder | None, theirs: Order | None) -> OrderRow:
    done = progress(theirs) if theirs else None
    return OrderRow(
        match_state=state,
        client_order_id=ours.client_order_id if ours else None,
        broker_order_id=theirs.id if theirs else ours.broker_order_id if ours else None,
        trade_id=ours.trade_id if ours else None,
        tag=theirs.tag if theirs else None,
        ledger_status=ours.status if ours else None,
        broker_status=broker_status(theirs.status, theirs.exec_quantity) if theirs else None,
        raw_status=theirs.status if theirs else None,
        ledger_filled=ours.filled_quantity if ours else None,
        broker_filled=plain(done.filled) if done else None,
        ledger_price=ours.avg_fill_price if ours else None,
        broker_price=_price(theirs) if theirs else None,
        sent_at=ours.created_at if ours else None,
        overfilled=bool(done and done.is_beyond),
        theirs=theirs,
    )


def _price(order: Order) -> Decimal | None:
    """USD per share. Tradier: an order may be filled before its price is; 0 until then."""
    if not order.exec_quantity or order.avg_fill_price is None:
        return None
    if not order.avg_fill_price and order.type != "even":
        return None
    return plain(order.avg_fill_price)


def _text(value: object) -> str:
    return "-" if value is None else f"{value.normalize():f}" if isinstance(value, Decimal) else str(value)


def ledger_order_of(order: Order, account_id: str, role: Literal["ENTRY", "EXIT"]) -> EngineOrder:
    """A broker order that the ledger does not have, in the ledger's words; its client order id is the broker's id."""
    ours = EngineOrder(client_order_id=str(order.id), account_id=account_id, role=role, created_at=order.create_date)
    return ours.model_copy(update=_wanted(ours, order, _sides("matched", ours, order)))
