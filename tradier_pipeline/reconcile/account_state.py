"""What one reading says of an account, as far as one reading can be balanced against the next. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Context, Decimal, localcontext
from functools import lru_cache
from typing import Protocol

from tradier_pipeline import clock
from tradier_pipeline.broker.models import FINISHED, Order
from tradier_pipeline.broker.symbols import classify

EXACT = Context(prec=64)  # holds every sum of products of two stored numbers and a multiplier
ZERO = Decimal(0)

PartKey = tuple[int, int | None]


@dataclass(frozen=True, slots=True)
class OrderPart:
    """An order without legs, or one leg of an order: the smallest thing that fills.

    Attributes:
        symbol: what it trades, as in positions.
        filled: shares or contracts so far, signed like the position they make.
        cash: USD they brought so far, negative when paid, without fees; None while the broker tells no price, and for
            contracts whose multiplier the symbol does not tell.
        price: USD per share, on average; None while the broker tells none.
        changed_at: when the broker last changed it.
        rest: shares or contracts it may still fill, signed; 0 when it has ended.
        created_at: when the broker got the order.
    """

    order_id: int
    leg_id: int | None
    symbol: str
    filled: Decimal
    cash: Decimal | None
    changed_at: datetime | None
    rest: Decimal
    created_at: datetime | None = None
    price: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Legless:
    """An order of several that the broker shows without its legs: what it traded is not known.

    Attributes:
        symbol: the underlying that it names.
        filled: as the broker counts, packages or contracts, without sign.
        works: whether it may still fill.
    """

    order_id: int
    symbol: str | None
    filled: Decimal
    works: bool

    @property
    def may_have_filled(self) -> bool:
        """Whether it may stand behind a change."""
        return bool(self.filled) or self.works


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


def terms_of(quotes: Iterable[tuple[str, int | None, str | None]]) -> dict[str, Terms]:
    """Option symbol -> what its quote tells: symbol, shares of one contract and underlying of each quote."""
    return {symbol: Terms(size, underlying) for symbol, size, underlying in quotes if classify(symbol).option}


@dataclass(frozen=True, slots=True)
class AccountState:
    """Orders, positions and cash of one reading, which lasted from `as_of` to `as_of_end`.

    Attributes:
        legless: by id, the orders whose legs are not known; none of `parts` is theirs.
        session_open, session_close: when the exchange opens and closes on the New York date of `as_of_end`; None
            without a session, or if that is not known.
        terms: by option symbol, what quotes reported.
        ended: contracts of the options that expired lately, as they were held: their shares or cash may be yet to come.
        owed: the shares of which fractions may be yet to be paid.
        claimed: the contracts that may stand behind shares or cash of the last days whose cause is not known.
        gone: shares or contracts of each symbol that changed lately without a cause: they may be yet to be paid for.
    """

    as_of: datetime
    as_of_end: datetime
    parts: Mapping[PartKey, OrderPart]
    holdings: Mapping[str, Holding]
    cash: Decimal
    legless: Mapping[int, Legless] = field(default_factory=dict)
    session_close: datetime | None = None
    session_open: datetime | None = None
    terms: Mapping[str, Terms] = field(default_factory=dict)
    ended: Mapping[str, Decimal] = field(default_factory=dict)
    owed: frozenset[str] = frozenset()
    claimed: frozenset[str] = frozenset()
    gone: Mapping[str, Decimal] = field(default_factory=dict)

    @property
    def in_session(self) -> bool:
        """Whether the exchange was open when it was read, as far as that is known."""
        opened, close = self.session_open, self.session_close
        return opened is not None and close is not None and opened <= self.as_of < close

    def held(self, symbol: str) -> Holding:
        """The position in a symbol; an empty one if there is none."""
        return self.holdings.get(symbol, NOTHING)


@dataclass(frozen=True, slots=True)
class Fill:
    """What one part filled between two statements; `cash` as in `OrderPart`.

    Attributes:
        at_most: the part filled before either statement, too, nobody knows how much: `quantity` is as much of it as
            the position changed by.
    """

    part: OrderPart
    quantity: Decimal
    cash: Decimal | None
    at_most: bool = False

    @property
    def lacks_multiplier(self) -> bool:
        """Whether it is only for the size of its contract that the cash is not known."""
        return self.cash is None and bool(self.part.price)

    @property
    def is_taken_back(self) -> bool:
        """Whether the order has filled less than before: the trade was busted or corrected."""
        return abs(self.part.filled) < abs(self.part.filled - self.quantity)

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


def parts_of(orders: Iterable[Order]) -> dict[PartKey, OrderPart]:
    """What fills of parsed orders. An order with legs names its underlying, so its legs count instead.

    An order of several without its legs fills nothing that anybody knows: see `legless_of`.
    """
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
            created_at=order.create_date,
            is_even=is_even(order.type, order.avg_fill_price),
        )
        for order in orders
        if not order.lacks_legs
        for part in order.leg or (order,)
    )
    return by_key(part for part in parts if part)


def legless_of(orders: Iterable[Order]) -> dict[int, Legless]:
    """The orders whose legs are not known, by id."""
    return {
        order.id: Legless(order.id, order.symbol, order.exec_quantity or ZERO, order.status not in FINISHED)
        for order in orders
        if order.lacks_legs
    }


def is_even(kind: str | None, price: Decimal | None) -> bool:
    """Whether a package traded for nothing: only of an even one is 0 a price, of others it is not reported yet."""
    return kind == "even" and price == 0


def by_key(parts: Iterable[OrderPart]) -> dict[PartKey, OrderPart]:
    """Parts by order and leg, in that order: what is reported must not depend on how a list was sorted."""
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
    *,
    created_at: datetime | None = None,
    is_even: bool = False,
) -> OrderPart | None:
    """One part; None if the broker does not say what it trades or which way, as on the parent of a bracket.

    Args:
        created_at: of its order.
        is_even: its package traded at an even price, so that a price of 0 is one.
    """
    way = 1 if (side or "").startswith("buy") else -1 if (side or "").startswith("sell") else 0
    if not symbol or not way:
        return None
    done = filled or ZERO
    with localcontext(EXACT):
        cash = ZERO if not done or (is_even and price == 0) else _cash(way * done, price, symbol)
        rest = ZERO if status in FINISHED or quantity is None else way * (quantity - done)
    return OrderPart(order_id, leg_id, symbol, way * done, cash, changed_at, rest, created_at, price or None)


def _cash(quantity: Decimal, price: Decimal | None, symbol: str) -> Decimal | None:
    """Tradier: an order may be filled before it has a price, which is then null or 0."""
    size = multiplier(symbol)
    return -quantity * price * size if price and size else None


def _brought(part: OrderPart, before: AccountState, now: AccountState) -> Decimal | None:
    """USD that a part brought so far, with the multiplier that a quote reported where the symbol does not."""
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


def fills(before: AccountState, now: AccountState) -> tuple[Fill, ...]:
    """What filled between two statements, in the order of the orders; a corrected price is a fill of nothing.

    An order that `before` does not know counts whole, unless it last changed before the day of `before`. One that is of
    an earlier day may have filled before: it counts for no more than its position changed by. One that had filled in
    `before` without its legs counts for nothing: the positions of then had the most of it.
    """
    found: list[Fill] = []
    for key, part in sorted(now.parts.items(), key=lambda item: (item[0][0], item[0][1] or 0)):
        had = before.parts.get(key)
        if had is None and (_is_old(part.changed_at, before) or _had_filled_unseen(part, before)):
            continue
        with localcontext(EXACT):
            quantity = part.filled - (had.filled if had else ZERO)
            # a price that was not reported before was not counted before
            brought = _brought(part, before, now)
            cash = None if brought is None else brought - ((_brought(had, before, now) if had else None) or ZERO)
        if quantity or cash:
            found.append(Fill(part, quantity, cash, at_most=had is None and _is_old(part.created_at, before)))
    return tuple(_as_moved(found, before, now))


def _is_old(instant: datetime | None, before: AccountState) -> bool:
    return instant is not None and clock.trade_date(instant) < clock.trade_date(before.as_of)


def _had_filled_unseen(part: OrderPart, before: AccountState) -> bool:
    return part.order_id in before.legless and bool(before.legless[part.order_id].filled)


def _as_moved(found: Sequence[Fill], before: AccountState, now: AccountState) -> Iterator[Fill]:
    """The fills; of those that may have been before only as much as their positions changed by, others aside."""
    moved: dict[str, Decimal] = {}
    for fill in found:
        was = moved.setdefault(fill.symbol, now.held(fill.symbol).quantity - before.held(fill.symbol).quantity)
        moved[fill.symbol] = was if fill.at_most else was - fill.quantity
    for fill in found:
        if not fill.at_most:
            yield fill
            continue
        least, most = sorted((ZERO, fill.quantity))
        quantity = min(max(moved[fill.symbol], least), most)
        moved[fill.symbol] -= quantity
        if quantity:
            with localcontext(EXACT):
                cash = None if fill.cash is None else fill.cash * quantity / fill.quantity
            yield replace(fill, quantity=quantity, cash=cash)


def may_be_unknown_legs(symbol: str, before: AccountState, now: AccountState) -> bool:
    """Whether an order on the underlying of an option filled between two statements, and its legs are not shown."""
    option = classify(symbol).option
    return option is not None and any(
        order.symbol == option.underlying and order.filled != (had.filled if (had := before.legless.get(key)) else ZERO)
        for key, order in now.legless.items()
    )
