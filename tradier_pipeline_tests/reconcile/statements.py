"""Accounts that change by known causes: the truth that reconciliation must find again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from tradier_pipeline.broker.symbols import classify
from tradier_pipeline.reconcile.account_state import AccountState, Holding, OrderPart, by_key, multiplier, part_of

EXPIRY = date(2026, 11, 20)
OPEN = datetime(2026, 11, 20, 14, 31, tzinfo=UTC)
AFTER_CLOSE = datetime(2026, 11, 20, 21, 20, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

EXPIRING = (
    *("SPY261120P00600000", "SPY261120P00595000", "SPY261120C00610000", "SPY261120C00615000"),
    *("F261120C00012500", "F261120P00011000"),
)
LIVING = ("SPY261218P00600000", "SPY261218P00590000", "AAPL270115C00290000")
STOCKS = ("SPY", "F", "AAPL")


def part(order_id: int, symbol: str, side: str, filled: Any, price: Any, **fields: Any) -> OrderPart:
    """One order without legs."""
    found = part_of(
        order_id,
        None,
        symbol,
        side,
        Decimal(fields.get("quantity", filled)),
        Decimal(filled),
        None if price is None else Decimal(price),
        fields.get("changed_at", OPEN),
        fields.get("status", "filled"),
    )
    assert found is not None
    return found


def statement(
    *parts: OrderPart,
    cash: Any = 1000,
    as_of: datetime = OPEN,
    costs: dict[str, Any] | None = None,
    **held: Any,
) -> AccountState:
    """What is held by symbol, each at a cost of its own unless it is reported."""
    holdings = {
        symbol: Holding(Decimal(quantity), Decimal((costs or {}).get(symbol, f"{quantity}.{number:03}1")))
        for number, (symbol, quantity) in enumerate(held.items())
    }
    return AccountState(as_of, as_of + timedelta(milliseconds=400), by_key(parts), holdings, Decimal(cash))


@dataclass
class Book:
    """A broker's own books: orders, positions and cash that always agree."""

    cash: Decimal = Decimal("100000.00")
    holdings: dict[str, Holding] = field(default_factory=dict)
    parts: list[OrderPart] = field(default_factory=list)
    contracts: Decimal = Decimal(0)
    fee: Decimal = Decimal(0)  # USD of each contract

    def statement(self, as_of: datetime) -> AccountState:
        held = {symbol: holding for symbol, holding in self.holdings.items() if holding.quantity}
        return AccountState(as_of, as_of + timedelta(milliseconds=400), by_key(self.parts), held, self.cash)

    def move(self, symbol: str, quantity: Decimal, gross: Decimal) -> None:
        had = self.holdings.get(symbol, Holding(Decimal(0), Decimal(0)))
        self.holdings[symbol] = Holding(had.quantity + quantity, had.cost_basis + gross + Decimal("0.0001"))

    def fill(self, symbol: str, quantity: int, price: Decimal, as_of: datetime) -> None:
        side = "buy_to_open" if quantity > 0 else "sell_to_close"
        one = part(len(self.parts) + 1, symbol, side, abs(quantity), price, changed_at=as_of)
        gross = quantity * price * (multiplier(symbol) or 0)
        self.parts.append(one)
        self.cash -= gross + self._fees(symbol, quantity)
        self.contracts += abs(quantity) if classify(symbol).option else 0
        self.move(symbol, Decimal(quantity), gross)

    def bust(self, number: int, as_of: datetime) -> bool:
        """A trade is taken back, its order is cancelled with nothing filled; false if it was before."""
        one = self.parts[number]
        if not one.filled:
            return False
        self.parts[number] = replace(one, filled=Decimal(0), cash=Decimal(0), changed_at=as_of)
        gross = -(one.cash or Decimal(0))
        self.cash += gross + self._fees(one.symbol, one.filled)
        self.move(one.symbol, -one.filled, -gross)
        return True

    def _fees(self, symbol: str, quantity: Decimal | int) -> Decimal:
        return abs(quantity) * self.fee if classify(symbol).option else Decimal(0)

    def end(self, symbol: str, contracts: int, delivered: int) -> None:
        """So many contracts as held go, so many of them against shares."""
        option = classify(symbol).option
        assert option is not None
        self.move(symbol, Decimal(-contracts), Decimal(0))
        shares = Decimal(delivered * 100 * (1 if option.option_type == "call" else -1))
        if shares:
            self.cash -= shares * option.strike
            self.move(option.underlying, shares, shares * option.strike)


PRICES = st.decimals(Decimal("0.01"), Decimal("700"), places=2)
FILLS = st.tuples(
    st.sampled_from(STOCKS + LIVING + EXPIRING), st.integers(-5, 5).filter(bool), PRICES.map(lambda price: price)
)


@st.composite
def books(draw: st.DrawFn) -> Book:
    """An account that holds something, with the orders that made it."""
    book = Book()
    for symbol, quantity, price in draw(st.lists(FILLS, max_size=5)):
        book.fill(symbol, quantity, price, OPEN - MINUTE)
    return book


@st.composite
def after_fills(draw: st.DrawFn) -> tuple[Book, AccountState, AccountState]:
    """A book, and its statements before and after any fills."""
    book = draw(books())
    before = book.statement(OPEN)
    had = book.contracts
    for symbol, quantity, price in draw(st.lists(FILLS, max_size=6)):
        book.fill(symbol, quantity, price, OPEN + MINUTE / 2)
    book.contracts -= had
    return book, before, book.statement(OPEN + MINUTE)


@st.composite
def after_expiry(draw: st.DrawFn) -> tuple[Book, AccountState, AccountState]:
    """A book, and its statements before and after a close: fills, then options that ended in any way."""
    book = draw(books())
    before = book.statement(OPEN)
    had = book.contracts
    for symbol, quantity, price in draw(st.lists(FILLS, max_size=3)):
        book.fill(symbol, quantity, price, OPEN + MINUTE / 2)
    book.contracts -= had
    for symbol in EXPIRING:
        if held := int(book.holdings.get(symbol, Holding(Decimal(0), Decimal(0))).quantity):
            delivered = draw(st.integers(0, abs(held))) * (1 if held > 0 else -1)
            book.end(symbol, held, delivered)
    return book, before, book.statement(AFTER_CLOSE)


def changed(statement: AccountState, symbol: str, by: Decimal) -> AccountState:
    """The statement as if one position had changed by so much, for no reason."""
    had = statement.held(symbol)
    held = dict(statement.holdings) | {symbol: Holding(had.quantity + by, had.cost_basis + Decimal("3.1415"))}
    kept = {name: holding for name, holding in held.items() if holding.quantity}
    return AccountState(statement.as_of, statement.as_of_end, statement.parts, kept, statement.cash)


def paid(statement: AccountState, by: Decimal) -> AccountState:
    """The statement as if cash had changed by so much, for no reason."""
    return AccountState(statement.as_of, statement.as_of_end, statement.parts, statement.holdings, statement.cash + by)


def without(statement: AccountState, *order_ids: int) -> AccountState:
    """The statement as if the list of orders did not show some yet."""
    shown: Sequence[OrderPart] = [one for one in statement.parts.values() if one.order_id not in order_ids]
    return AccountState(statement.as_of, statement.as_of_end, by_key(shown), statement.holdings, statement.cash)
