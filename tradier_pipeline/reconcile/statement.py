"""What one reading says of an account, as far as one reading can be balanced against the next. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Context, Decimal, localcontext
from functools import lru_cache
from typing import Protocol

from tradier_pipeline import clock
from tradier_pipeline.broker.models import FINISHED, Order, OrderLeg
from tradier_pipeline.broker.symbols import classify

EXACT = Context(prec=64)  # holds every sum of products of two stored numbers and a multiplier
ZERO = Decimal(0)

PartKey = tuple[int, int | None]


@dataclass(frozen=True, slots=True)
class Part:
    """An order without legs, or one leg of an order: the smallest thing that fills.

    Attributes:
        symbol: what it trades, as in positions.
        filled: shares or contracts so far, signed like the position they make.
        cash: USD they brought so far, negative when paid, without fees; None while the broker tells no price, and for
            contracts whose multiplier the symbol does not tell.
        price: USD per share, on average; None while the broker tells none.
        changed_at: when the broker last changed it.
        rest: shares or contracts it may still fill, signed; 0 when it has ended.
    """

    order_id: int
    leg_id: int | None
    symbol: str
    filled: Decimal
    cash: Decimal | None
    changed_at: datetime | None
    rest: Decimal
    price: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """What a quote tells of a contract beside its symbol: shares of one contract, and what it is written on."""

    multiplier: int | None
    underlying: str | None


@dataclass(frozen=True, slots=True)
class Holding:
    """The position in one symbol: signed quantity, and total cost in USD as the broker writes it."""

    quantity: Decimal
    cost_basis: Decimal


NOTHING = Holding(ZERO, ZERO)


@dataclass(frozen=True, slots=True)
class Statement:
    """Orders, positions and cash of one reading, which lasted from `as_of` to `as_of_end`.

    Attributes:
        session_close: when the exchange closes on the New York date of `as_of_end`; None if that is not known.
        terms: by option symbol, what quotes told.
    """

    as_of: datetime
    as_of_end: datetime
    parts: Mapping[PartKey, Part]
    holdings: Mapping[str, Holding]
    cash: Decimal
    session_close: datetime | None = None
    terms: Mapping[str, Terms] = field(default_factory=dict)

    def held(self, symbol: str) -> Holding:
        """The position in a symbol; an empty one if there is none."""
        return self.holdings.get(symbol, NOTHING)


@dataclass(frozen=True, slots=True)
class Fill:
    """What one part filled between two statements; `cash` as in `Part`."""

    part: Part
    quantity: Decimal
    cash: Decimal | None

    @property
    def lacks_multiplier(self) -> bool:
        """Whether it is only for the size of its contract that the cash is not known."""
        return self.cash is None and bool(self.part.price)

    @property
    def symbol(self) -> str:
        return self.part.symbol

    @property
    def order(self) -> str:
        """How a person finds it."""
        return f"order {self.part.order_id}"


class Held(Protocol):
    """A position row, of the broker or of the warehouse."""

    @property
    def symbol(self) -> str: ...
    @property
    def quantity(self) -> Decimal: ...
    @property
    def cost_basis(self) -> Decimal: ...


def parts_of(orders: Iterable[Order]) -> dict[PartKey, Part]:
    """What fills of parsed orders. An order with legs names its underlying, so its legs count instead."""
    parts = (
        part_of(
            order.id,
            part.id if order.leg else None,
            part.option_symbol or part.symbol,
            part.side,
            part.quantity,
            part.exec_quantity,
            part.avg_fill_price,
            part.transaction_date or order.transaction_date,
            part.status,
        )
        for order in orders
        for part in _legs(order)
    )
    return by_key(part for part in parts if part)


def _legs(order: Order) -> Sequence[OrderLeg]:
    return order.leg or (order,)


def by_key(parts: Iterable[Part]) -> dict[PartKey, Part]:
    """Parts by order and leg, in that order: what is told must not depend on how a list was sorted."""
    found = {(part.order_id, part.leg_id): part for part in parts}
    return dict(sorted(found.items(), key=lambda item: (item[0][0], item[0][1] or 0)))


def held(positions: Iterable[Held]) -> dict[str, Holding]:
    """Positions by symbol, sorted; several rows of one symbol count as one, rows of nothing do not count."""
    totals: dict[str, tuple[Decimal, Decimal]] = defaultdict(lambda: (ZERO, ZERO))
    with localcontext(EXACT):
        for row in positions:
            quantity, cost = totals[row.symbol]
            totals[row.symbol] = (quantity + row.quantity, cost + row.cost_basis)
    return {symbol: Holding(quantity, cost) for symbol, (quantity, cost) in sorted(totals.items()) if quantity}


def part_of(
    order_id: int,
    leg_id: int | None,
    symbol: str | None,
    side: str | None,
    quantity: Decimal | None,
    filled: Decimal | None,
    price: Decimal | None,
    changed_at: datetime | None,
    status: str,
) -> Part | None:
    """One part; None if the broker does not say what it trades or which way, as on the parent of a bracket."""
    way = 1 if (side or "").startswith("buy") else -1 if (side or "").startswith("sell") else 0
    if not symbol or not way:
        return None
    done = filled or ZERO
    with localcontext(EXACT):
        cash = _cash(way * done, price, symbol) if done else ZERO
        rest = ZERO if status in FINISHED or quantity is None else way * (quantity - done)
    return Part(order_id, leg_id, symbol, way * done, cash, changed_at, rest, price or None)


def _cash(quantity: Decimal, price: Decimal | None, symbol: str) -> Decimal | None:
    """Tradier: an order may be filled before it has a price, which is then null or 0."""
    size = multiplier(symbol)
    return -quantity * price * size if price and size else None


def _brought(part: Part, before: Statement, now: Statement) -> Decimal | None:
    """USD that a part brought so far, with the multiplier that a quote told where the symbol does not."""
    if part.cash is not None or not part.price or not part.filled:
        return part.cash
    sizes = (terms[part.symbol].multiplier for terms in (now.terms, before.terms) if part.symbol in terms)
    size = next((size for size in sizes if size), None)
    return None if size is None else -part.filled * part.price * size


@lru_cache
def multiplier(symbol: str) -> int | None:
    """Shares a unit of a symbol stands for: 1 of an equity, 100 or 10 of an option, None where it does not tell."""
    classified = classify(symbol)
    if classified.option is not None:
        return classified.option.multiplier
    return 1 if classified.asset_class == "equity" else None


def fills(before: Statement, now: Statement) -> tuple[Fill, ...]:
    """What filled between two statements, in the order of the orders; a corrected price is a fill of nothing.

    An order that was not listed before counts whole, unless it last changed before the day of `before`.
    """
    found: list[Fill] = []
    for key, part in sorted(now.parts.items(), key=lambda item: (item[0][0], item[0][1] or 0)):
        had = before.parts.get(key)
        if had is None and part.changed_at and clock.trade_date(part.changed_at) < clock.trade_date(before.as_of):
            continue
        with localcontext(EXACT):
            quantity = part.filled - (had.filled if had else ZERO)
            # a price that was not told before was not counted before
            brought = _brought(part, before, now)
            cash = None if brought is None else brought - ((_brought(had, before, now) if had else None) or ZERO)
        if quantity or cash:
            found.append(Fill(part, quantity, cash))
    return tuple(found)
