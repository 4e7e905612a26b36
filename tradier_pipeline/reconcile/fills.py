"""What the orders of a trade did to it: contracts opened and closed, and what was paid for them. Pure.

Money is counted as paid: what was received is negative. Tradier's average of a credit is negative, that of a single leg
is not, whatever its side; where the type of the order says credit or debit, the type decides.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from math import gcd
from typing import Literal

from tradier_pipeline.broker.models import Order
from tradier_pipeline.ledger.changes import changed
from tradier_pipeline.ledger.records import EngineOrder, Leg, OrderStatus, Trade, settled
from tradier_pipeline.reconcile.facts import Facts, TradeFinding
from tradier_pipeline.reconcile.order_matching import OrderRow, ledger_order_of

Role = Literal["ENTRY", "EXIT"]
ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Execution:
    """One order of a trade.

    Attributes:
        linked: the ledger ties it to the trade by itself, not only the trade's own id of it.
        waiting: it is not known to be at the broker.
        units: spreads, contracts or shares of the order that were filled.
        assumed: nobody recorded how many; they are taken for as many as the trade has.
        legs: contract -> quantity filled, without sign.
        paid: USD per share times units, what was received is negative; None while the price of a fill is not known.
        at: when the broker last changed it, if this snapshot shows it.
    """

    name: str
    broker_order_id: int | None
    status: OrderStatus
    linked: bool
    waiting: bool
    finished: bool
    units: Decimal
    assumed: bool
    legs: Mapping[str, Decimal]
    paid: Decimal | None
    at: datetime | None
    sent_at: datetime | None


@dataclass(frozen=True)
class Side:
    """The entry or the exit of a trade: its orders, and their sum.

    Attributes:
        unknown: the trade names an order that neither the ledger nor this snapshot has.
        doubtful: an order may or may not be of this side, and does not count.
    """

    orders: tuple[Execution, ...] = ()
    unknown: int | None = None
    doubtful: bool = False

    @property
    def uncertain(self) -> bool:
        """Whether there may be more to it than its orders."""
        return self.doubtful or self.unknown is not None

    @cached_property
    def filled(self) -> tuple[Execution, ...]:
        return tuple(order for order in self.orders if order.units)

    @cached_property
    def legs(self) -> Mapping[str, Decimal]:
        """Contract -> quantity filled, without sign."""
        total: dict[str, Decimal] = defaultdict(Decimal)
        for order in self.orders:
            for symbol, amount in order.legs.items():
                total[symbol] += amount
        return total

    @cached_property
    def paid(self) -> Decimal | None:
        """None without fills, and while the price of one is not known."""
        amounts = [order.paid for order in self.filled]
        known = [amount for amount in amounts if amount is not None]
        return sum(known, ZERO) if amounts and len(known) == len(amounts) else None

    @property
    def at(self) -> datetime | None:
        """When the last fill was, as far as this snapshot shows all of them."""
        moments = [order.at for order in self.filled]
        known = [moment for moment in moments if moment is not None]
        return max(known) if moments and len(known) == len(moments) else None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{order.name} {order.status}" for order in self.orders)


@dataclass(frozen=True, slots=True)
class TradeExecutions:
    """What the orders did to a trade, and which of them do not count, and why.

    Attributes:
        unclaimed: orders of the broker that are nobody's, whose fills would close legs of the trade.
    """

    entry: Side
    exit: Side
    findings: tuple[TradeFinding, ...]
    unclaimed: tuple[Order, ...] = ()


def executions_of(
    trades: Sequence[Trade], orders: Sequence[EngineOrder], rows: Sequence[OrderRow], facts: Facts
) -> dict[str, TradeExecutions]:
    """Trade id -> what its orders did.

    An order counts for one trade in one role, and only if its legs open or close that trade's.

    Args:
        orders: of the ledger.
        rows: what `reconcile_orders` made of them.
    """
    book = _Book(orders, rows, facts)
    claims = {trade.trade_id: tuple(book.claims(trade)) for trade in trades}
    claimed: dict[str, set[tuple[str, Role]]] = defaultdict(set)
    for trade_id, of_trade in claims.items():
        for order, role in of_trade:
            claimed[order.client_order_id].add((order.trade_id or trade_id, order.role))
            claimed[order.client_order_id].add((trade_id, role))
    return {trade.trade_id: _executions_of(trade, claims[trade.trade_id], claimed, book) for trade in trades}


def ratios(trade: Trade) -> dict[str, Decimal]:
    """Contract -> how many of it are in one unit of the trade, negative when short.

    The legs alone say it, as they do at the broker: the trade's quantity may be what is wrong.
    """
    legs = [leg for leg in trade.legs if leg.quantity]
    exponent = min((int(leg.quantity.as_tuple().exponent) for leg in legs), default=0)
    unit = Decimal(gcd(*(int(leg.quantity.scaleb(-exponent)) for leg in legs))).scaleb(exponent)
    return {leg.option_symbol: _sign(leg.side) * leg.quantity / unit for leg in legs}


class _Book:
    """The ledger's orders as they will be, and the broker's that it does not have."""

    def __init__(self, orders: Sequence[EngineOrder], rows: Sequence[OrderRow], facts: Facts) -> None:
        self.changes = {row.client_order_id: row.change for row in rows if row.change}
        self.ambiguous = {row.client_order_id for row in rows if row.match_state == "ambiguous" and row.client_order_id}
        beyond = [row for row in rows if row.overfilled]
        self.overfilled = {row.client_order_id for row in beyond if row.client_order_id}
        self.doubtful = {row.broker_order_id for row in rows if row.match_state == "ambiguous" and row.raw_status}
        self.doubtful |= {row.broker_order_id for row in beyond if row.client_order_id is None}
        self.theirs = {order.id: order for order in facts.orders}
        self.matched = {row.client_order_id for row in rows if row.match_state == "matched"}
        self.account_id = facts.account_id
        self.tags = {order.client_order_id for order in orders}
        self.unmatched = [
            row.theirs
            for row in rows
            if row.theirs and row.match_state in ("unmatched_external", "unmatched_ours") and not row.overfilled
        ]
        self.by_trade: dict[str, list[EngineOrder]] = defaultdict(list)
        self.by_id: dict[int, EngineOrder] = {}
        for order in orders:
            if order.account_id != facts.account_id:
                continue
            if order.trade_id is not None:
                self.by_trade[order.trade_id].append(order)
            change = self.changes.get(order.client_order_id)
            number = change.after.get("broker_order_id", order.broker_order_id) if change else order.broker_order_id
            if number is not None:
                self.by_id[number] = order

    def _will_be(self, order: EngineOrder) -> EngineOrder:
        return changed(order, self.changes.get(order.client_order_id))

    def claims(self, trade: Trade) -> Iterable[tuple[EngineOrder, Role]]:
        """The orders that are said to be the trade's, and in which role."""
        yield from ((self._will_be(order), order.role) for order in self.by_trade[trade.trade_id])
        roles: tuple[tuple[int | None, Role], ...] = (
            (trade.broker_order_id_open, "ENTRY"),
            (trade.broker_order_id_close, "EXIT"),
        )
        for number, role in roles:
            order = self.named(number, role)
            if order is not None and (order.trade_id, order.role) != (trade.trade_id, role):
                yield order, role

    def named(self, number: int | None, role: Role) -> EngineOrder | None:
        """The order of that broker id, from the ledger or else from the snapshot."""
        if number is None or number in self.doubtful:
            return None
        if number in self.by_id:
            return self._will_be(self.by_id[number])
        return ledger_order_of(self.theirs[number], self.account_id, role) if number in self.theirs else None

    def unclaimed(self, trade: Trade, claimed: Mapping[str, set[tuple[str, Role]]]) -> tuple[Order, ...]:
        """The broker's orders that filled, that neither ledger nor trade has, and that would close legs of a trade."""
        return tuple(
            order
            for order in self.unmatched
            if str(order.id) not in claimed and (order.tag or "") not in self.tags and closes(order, trade)
        )

    def shown(self, order: EngineOrder) -> Order | None:
        """The broker's row of it in this snapshot."""
        of_broker = order.client_order_id in self.matched or order.client_order_id == str(order.broker_order_id)
        return self.theirs.get(order.broker_order_id or 0) if of_broker else None


def _executions_of(
    trade: Trade,
    claims: Iterable[tuple[EngineOrder, Role]],
    claimed: Mapping[str, set[tuple[str, Role]]],
    book: _Book,
) -> TradeExecutions:
    counted: dict[Role, list[Execution]] = {"ENTRY": [], "EXIT": []}
    doubtful: set[Role] = set()
    findings: list[TradeFinding] = []
    for order, role in claims:
        name = f"order {order.broker_order_id or order.client_order_id}"
        if order.client_order_id in book.ambiguous:
            doubtful.add(role)
            findings.append(TradeFinding("order_ambiguous", "warn", f"{name} is ambiguous and does not count", (name,)))
        elif order.client_order_id in book.overfilled:
            doubtful.add(role)
            text = f"{name} was filled beyond its quantity and does not count"
            findings.append(TradeFinding("overfilled", "error", text, (name,)))
        elif len(claimed[order.client_order_id]) > 1:
            doubtful.add(role)
            reported = tuple(
                f"{role.lower()} of {trade_id}" for trade_id, role in sorted(claimed[order.client_order_id])
            )
            findings.append(
                TradeFinding(
                    "order_claimed_twice", "error", f"{name} is said to be of several trades or roles", reported
                )
            )
        elif (legs := _legs(order, trade, role)) is None:
            wrong = tuple(f"{leg.side} {leg.option_symbol}" for leg in order.legs)
            text = f"{name} does not {'open' if role == 'ENTRY' else 'close'} this trade's legs"
            findings.append(TradeFinding("wrong_effect", "error", text, wrong))
        else:
            counted[role].append(_execution(name, order, trade, legs, book))
    return TradeExecutions(
        entry=Side(tuple(counted["ENTRY"]), _unknown(trade.broker_order_id_open, claims), "ENTRY" in doubtful),
        exit=Side(tuple(counted["EXIT"]), _unknown(trade.broker_order_id_close, claims), "EXIT" in doubtful),
        findings=tuple(findings),
        unclaimed=book.unclaimed(trade, claimed),
    )


def closes(order: Order, trade: Trade) -> bool:
    """Whether what an order of the broker's filled would close legs of a trade, all of it."""
    units, filled = ratios(trade), filled_legs(order)
    return bool(filled) and all(amount * units.get(symbol, ZERO) < 0 and not opens for symbol, amount, opens in filled)


def filled_legs(order: Order) -> list[tuple[str, Decimal, bool]]:
    """What an order filled: contract, signed quantity, and whether it was to open. Nothing if its legs are unknown."""
    parts = () if order.lacks_legs else order.leg or (order,)
    return [
        (part.option_symbol or part.symbol or "", _sign(part.side) * part.exec_quantity, part.side.endswith("_to_open"))
        for part in parts
        if part.side and part.exec_quantity
    ]


def _unknown(number: int | None, claims: Iterable[tuple[EngineOrder, Role]]) -> int | None:
    return number if number not in {order.broker_order_id for order, _ in claims} else None


def _legs(order: EngineOrder, trade: Trade, role: Role) -> tuple[Leg, ...] | None:
    """The order's legs, or by the trade if it has none; None if they do not do to the trade what the role says."""
    units = ratios(trade)
    if not units:
        return order.legs
    opens = role == "ENTRY"
    if not order.legs:
        if order.class_ == "option" and len(units) > 1:
            return None  # one of the legs, nobody knows which
        buys = {symbol: (ratio > 0) == opens for symbol, ratio in units.items()}
        return tuple(
            Leg(option_symbol=symbol, side="buy" if buys[symbol] else "sell", quantity=abs(ratio))
            for symbol, ratio in units.items()
        )
    for leg in order.legs:
        ratio = units.get(leg.option_symbol)
        if ratio is None or ((_sign(leg.side) == (1 if ratio > 0 else -1)) != opens):
            return None
        if leg.side.endswith("_to_close" if opens else "_to_open"):
            return None
    return order.legs


def _execution(name: str, order: EngineOrder, trade: Trade, legs: Sequence[Leg], book: _Book) -> Execution:
    units = _filled(order, trade)
    ordered = order.quantity if order.legs and order.quantity else None
    shown = book.shown(order)
    return Execution(
        name=name,
        broker_order_id=order.broker_order_id,
        status=order.status,
        linked=order.trade_id == trade.trade_id,
        waiting=order.status == "PENDING" and order.broker_order_id is None,
        finished=settled(order),
        units=units,
        assumed=order.status == "FILLED" and not (order.filled_quantity or order.quantity),
        legs={leg.option_symbol: (leg.quantity / ordered if ordered else _one(leg, order)) * units for leg in legs},
        paid=_paid(order, legs, units),
        at=shown.transaction_date if shown else None,
        sent_at=order.created_at,
    )


def _one(leg: Leg, order: EngineOrder) -> Decimal:
    """How many of a leg are in a unit of an order whose size is not known: legs of the trade are given by the unit."""
    return leg.quantity / min(other.quantity for other in order.legs) if order.legs else leg.quantity


def _filled(order: EngineOrder, trade: Trade) -> Decimal:
    if order.status == "FILLED":
        return order.filled_quantity or order.quantity or trade.quantity
    return order.filled_quantity or ZERO


def _paid(order: EngineOrder, legs: Sequence[Leg], units: Decimal) -> Decimal | None:
    price = order.avg_fill_price
    if not units or price is None or (not price and order.order_type != "even"):
        return None if units else ZERO  # a fill at 0 is a price that the broker has not reported yet
    if order.order_type in ("credit", "debit"):
        return abs(price) * units * (1 if order.order_type == "debit" else -1)
    if len(legs) == 1:
        return abs(price) * units * _sign(legs[0].side)
    return price * units


def _sign(side: str) -> int:
    return 1 if side == "long" or side.startswith("buy") else -1
