"""The simulated brokerage's books: accounts, orders, positions and every movement of money. No I/O.

Money is conserved: an account's cash changes only in `World.record`, which writes the history row of the same amount,
and its positions only in `World._move`. The state is plain dataclasses, stored as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field

from tradier_pipeline.domain.calendar import MarketCalendar
from tradier_pipeline.simulator.market import CONTRACT_SIZE, NEW_YORK, ZERO, Market, closes_at, multiplier, parse_option

AccountType = Literal["margin", "cash", "pdt"]
LIVE = frozenset({"pending", "open", "partially_filled"})
BRACKETS = frozenset({"oco", "oto", "otoco"})
EXCHANGE = MarketCalendar("XNYS")
ROUND_THE_CLOCK = MarketCalendar("24/7")

_EIGHT_PLACES = Decimal(1).scaleb(-8)
FEE_PER_CONTRACT = Decimal("0.0412")
_ORDERS_KEPT = timedelta(days=60)
_ROWS_KEPT = timedelta(days=400)
# Ages bound a normal demo; these bound one whose strategy or user is very busy (the state file stays below 2 MB).
_MOST_ORDERS = 300
_MOST_ROWS = 1500


@dataclass(slots=True)
class Order:
    """An order, or a leg of one (Tradier: legs are order-shaped). Quantities in shares, contracts or spreads; USD."""

    id: int
    cls: str
    created: datetime
    updated: datetime
    type: str | None = None
    symbol: str | None = None
    option_symbol: str | None = None
    side: str | None = None
    quantity: Decimal = ZERO
    duration: str = "day"
    price: Decimal | None = None
    stop_price: Decimal | None = None
    status: str = "pending"
    executed: Decimal = ZERO
    notional: Decimal = ZERO  # sum of fill price x quantity; a multi-leg parent's net, negative for credits
    last_price: Decimal = ZERO
    last_quantity: Decimal = ZERO
    tag: str | None = None
    strategy: str | None = None
    reason: str | None = None
    legs: list[Order] = field(default_factory=list)
    due: datetime | None = None  # when the market looks at it next; None while it waits for another order
    triggered: bool = False  # a stop that has been reached

    @property
    def is_live(self) -> bool:
        return self.status in LIVE

    @property
    def instrument(self) -> str:
        """What one unit of a single order or leg trades."""
        return self.option_symbol or self.symbol or ""

    @property
    def sign(self) -> int:
        return 1 if (self.side or "buy").startswith("buy") else -1

    @property
    def remaining(self) -> Decimal:
        """Tradier: zero on every finished order, whether it filled or not."""
        return self.quantity - self.executed if self.is_live else ZERO

    @property
    def average_price(self) -> Decimal:
        return (self.notional / self.executed).quantize(_EIGHT_PLACES) if self.executed else ZERO


@dataclass(slots=True)
class Position:
    """A holding. `cost_basis` is the total paid (negative: received), without fees; `acquired` moves on every fill."""

    id: int
    symbol: str
    quantity: Decimal
    cost_basis: Decimal
    acquired: datetime
    opened: datetime


@dataclass(frozen=True, slots=True)
class Event:
    """A row of the account's history: cash moved by `amount`, and `quantity` of `symbol` came in (negative: went)."""

    at: datetime
    kind: str  # trade | option | ach | dividend
    amount: Decimal
    description: str = ""  # of a trade: what the symbol is called
    symbol: str | None = None
    quantity: Decimal = ZERO
    price: Decimal | None = None
    commission: Decimal = ZERO
    option_type: str | None = None  # OPTEXP | OPTASN | OPTEXC


@dataclass(frozen=True, slots=True)
class ClosedLot:
    """A closed holding or part of one. `quantity` is negative for a short; USD without fees."""

    symbol: str
    quantity: Decimal
    cost: Decimal
    proceeds: Decimal
    opened: datetime
    closed: datetime

    @property
    def gain(self) -> Decimal:
        return self.proceeds - self.cost


@dataclass(slots=True)
class Account:
    id: str
    type: AccountType
    created: datetime
    cash: Decimal = ZERO
    # What the rows no longer kept added up to: cash == opening_cash + sum of history amounts, always.
    opening_cash: Decimal = ZERO
    opening_positions: dict[str, Decimal] = field(default_factory=dict)
    positions: dict[str, Position] = field(default_factory=dict)
    live: list[Order] = field(default_factory=list)
    finished: list[Order] = field(default_factory=list)
    history: list[Event] = field(default_factory=list)
    closed: list[ClosedLot] = field(default_factory=list)
    closing_equity: dict[date, Decimal] = field(default_factory=dict)
    listed: list[str] = field(default_factory=list)  # JSON texts of orders forced into the list by a test
    wakes_at: datetime | None = None  # when the demo strategy acts next; None: nobody trades by itself
    steps: int = 0  # actions of the demo strategy so far

    @property
    def orders(self) -> list[Order]:
        """Every order that is still kept, by id."""
        return sorted([*self.finished, *self.live], key=lambda order: order.id)

    def quantity(self, symbol: str) -> Decimal:
        position = self.positions.get(symbol)
        return position.quantity if position else ZERO


@dataclass(slots=True)
class Watchlist:
    """A list of symbols that the user keeps."""

    id: str
    name: str
    symbols: list[str]


@dataclass(slots=True)
class World:
    """All accounts at one instant.

    `version` counts changes, so that an unchanged world need not be stored again. `calendar` says when the market is
    open; it belongs to the process and is not stored.
    """

    seed: int
    now: datetime
    next_close: datetime
    accounts: dict[str, Account] = field(default_factory=dict)
    next_order_id: int = 38_400_001
    next_position_id: int = 130_001
    version: int = 0
    watchlists: dict[str, Watchlist] = field(
        default_factory=lambda: {"default": Watchlist("default", "default", ["SPY", "AAPL"])}
    )
    calendar: Annotated[MarketCalendar, Field(exclude=True)] = field(default=EXCHANGE, repr=False, compare=False)

    @property
    def market(self) -> Market:
        return Market(self.seed, self.calendar)

    def opening(self, at: datetime) -> datetime:
        """The first instant, not before `at`, at which orders trade: inside a regular session."""
        day = new_york_date(at)
        while True:
            session = self.calendar.session_of(day)
            if session is not None and at < session.close:
                return max(at, session.open)
            day += timedelta(days=1)

    @property
    def is_open(self) -> bool:
        return self.opening(self.now) == self.now

    def mark(self, symbol: str, position: Position) -> Decimal:
        """Market value of a position, USD. What nobody quotes is carried at cost, so that equity does not jump."""
        quote = self.market.quote(symbol, self.now)
        return quote.mark * position.quantity * multiplier(symbol) if quote else position.cost_basis

    def record(self, account: Account, event: Event) -> None:
        """The only place where cash moves."""
        account.cash += event.amount
        account.history.append(event)
        self.version += 1

    def credit(self, account: Account, amount: Decimal, kind: str, description: str) -> None:
        """Money from outside: a deposit (`ach`) or a dividend."""
        self.record(account, Event(self.now, kind, amount, description))

    def trade(self, account: Account, symbol: str, quantity: Decimal, price: Decimal, *, fee: bool = True) -> None:
        """Book one fill: `quantity` signed, `price` USD per share; options also pay a small fee per contract."""
        gross = quantity * price * multiplier(symbol)
        charge = abs(quantity) * FEE_PER_CONTRACT if fee and parse_option(symbol) else ZERO
        self.record(account, Event(self.now, "trade", -gross - charge, "", symbol, quantity, price, charge))
        self._move(account, symbol, quantity, gross)

    def expire(self, account: Account, symbol: str) -> None:
        """Settle an option at its expiration: worthless, in cash (index), or in shares at the strike."""
        option = parse_option(symbol)
        assert option is not None
        held = account.positions[symbol].quantity
        spot = self.market.price(option.underlying, closes_at(option.expiration))
        value = option.intrinsic(spot) if spot is not None else ZERO
        word, text = ("OPTEXC", "Exercise") if held > 0 else ("OPTASN", "Assignment")
        if not value:
            word, text = "OPTEXP", "Expired"
        paid = held * value * CONTRACT_SIZE if option.settles_in_cash else ZERO
        self.record(account, Event(self.now, "option", paid, text, symbol, -held, option_type=word))
        self._move(account, symbol, -held, -paid)
        if value and not option.settles_in_cash:
            shares = held * CONTRACT_SIZE * (1 if option.right == "call" else -1)
            self.trade(account, option.underlying, shares, option.strike, fee=False)

    def _move(self, account: Account, symbol: str, quantity: Decimal, gross: Decimal) -> None:
        """Change a position by `quantity` that cost `gross` (negative: earned); average cost, flat rows vanish."""
        position = account.positions.get(symbol)
        if position is not None and (position.quantity > 0) != (quantity > 0):
            closing = min(abs(quantity), abs(position.quantity))
            flat, whole = closing == abs(position.quantity), closing == abs(quantity)
            basis = position.cost_basis
            if not flat:
                basis = (basis * closing / abs(position.quantity)).quantize(_EIGHT_PLACES)
            part = gross if whole else (gross * closing / abs(quantity)).quantize(_EIGHT_PLACES)
            signed = closing if position.quantity > 0 else -closing
            cost, proceeds = (basis, -part) if signed > 0 else (part, -basis)
            account.closed.append(ClosedLot(symbol, signed, cost, proceeds, position.opened, self.now))
            position.quantity -= signed
            position.cost_basis -= basis
            position.acquired = self.now
            quantity, gross = quantity + signed, gross - part
            if flat:
                del account.positions[symbol]
        if not quantity:
            return
        position = account.positions.get(symbol)
        if position is None:
            account.positions[symbol] = Position(self.next_position_id, symbol, quantity, gross, self.now, self.now)
            self.next_position_id += 1
            return
        position.quantity += quantity
        position.cost_basis += gross
        position.acquired = self.now

    def prune(self, account: Account) -> None:
        """Forget old finished orders and rows; what the rows moved is carried in the opening figures."""
        today = new_york_date(self.now)
        account.finished = [
            order
            for age, order in enumerate(reversed(account.finished))
            if new_york_date(order.updated) == today
            or (age < _MOST_ORDERS and self.now - order.updated <= _ORDERS_KEPT)
        ][::-1]
        kept = [event for event in account.history if self.now - event.at <= _ROWS_KEPT][-_MOST_ROWS:]
        for event in account.history[: len(account.history) - len(kept)]:
            account.opening_cash += event.amount
            if event.symbol:
                total = account.opening_positions.get(event.symbol, ZERO) + event.quantity
                account.opening_positions[event.symbol] = total
                if not total:
                    del account.opening_positions[event.symbol]
        account.history = kept
        account.closed = [lot for lot in account.closed if self.now - lot.closed <= _ROWS_KEPT][-_MOST_ROWS:]
        account.closing_equity = {
            day: equity for day, equity in account.closing_equity.items() if (today - day) <= _ROWS_KEPT
        }


def new_york_date(at: datetime) -> date:
    """The trading day an instant belongs to."""
    return at.astimezone(NEW_YORK).date()


def start_of_day(at: datetime) -> datetime:
    """Midnight in New York of the trading day an instant belongs to, UTC."""
    return datetime.combine(new_york_date(at), time(), NEW_YORK).astimezone(UTC)


def next_close(after: datetime) -> datetime:
    """The first 16:00 in New York later than `after`, every calendar day."""
    day = new_york_date(after)
    return close if (close := closes_at(day)) > after else closes_at(day + timedelta(days=1))


def to_milliseconds(at: datetime) -> datetime:
    """The broker's clock ticks in milliseconds."""
    utc = at.astimezone(UTC)
    return utc.replace(microsecond=utc.microsecond // 1000 * 1000)
