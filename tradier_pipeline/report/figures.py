"""What a report shows: of an account, or of one of its trade dates. `report/reads.py` reads it from the warehouse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

from tradier_pipeline import clock
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.domain.returns import Figures
from tradier_pipeline.landing.chain import Head

LINE_NAMES: Mapping[str, str] = {  # of the lines of a day's profit that are of no spread and no stock, by kind
    "delivery": "Exercise and assignment",
    "fees": "Fees and commissions",
    "dividends": "Dividends",
    "interest": "Interest",
    "tax": "Tax withheld",
    "adjustments": "Other entries of the broker",
    "deposits": "Deposits",
    "withdrawals": "Withdrawals",
    "marks": "The broker's marks against the quotes read after it",
    "unexplained": "Unexplained",
}
LONGEST_LINE = timedelta(minutes=5)  # between two snapshots; more only where the day's snapshots are further apart


class ReportError(PipelineError):
    """There is nothing to report on, or no place to write the report."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The snapshot that a report rests on, and its balances in USD; these are None if it has none.

    Of an account that was never read but for the broker's daily values it is the newest of these: `snapshot_id` is
    None, `as_of` the close of its session, and nothing but the equity is known.
    """

    snapshot_id: str | None
    as_of: datetime
    trade_date: date
    environment: str
    trigger: str | None
    coherence: str | None
    coherence_evidence: str | None
    verdict: str | None
    verdict_evidence: str | None
    code_version: str | None
    account_type: str | None
    equity: Decimal | None
    cash: Decimal | None
    buying_power: Decimal | None
    margin_requirement: Decimal | None
    open_pl: Decimal | None
    close_pl: Decimal | None


@dataclass(frozen=True, slots=True)
class EquityDay:
    """A row of `equity_curve`. Money in USD; `day_return` and `drawdown` are ratios, 0.01 = 1 %."""

    trade_date: date
    equity: Decimal | None
    source: str | None
    deposits: Decimal | None
    withdrawals: Decimal | None
    pnl: Decimal | None
    day_return: float | None
    drawdown: float | None
    gap: bool
    days_spanned: int | None
    provisional: bool
    uncertain: bool
    reason: str | None
    growth: float | None
    benchmark_return: float | None = None


@dataclass(frozen=True, slots=True)
class DayProfit:
    """A row of `day_profit`, in USD: the change of equity since `since`, and of it what is known."""

    trade_date: date
    since: datetime
    as_of: datetime
    equity_before: Decimal | None
    equity: Decimal | None
    change: Decimal | None
    profit: Decimal | None
    reported: bool
    note: str


@dataclass(frozen=True, slots=True)
class ProfitLine:
    """A row of `day_profit_lines`: the lines of a day add up to `change`."""

    kind: str
    underlying: str | None
    strategy: str | None
    expiration: date | None
    symbols: list[str] | None
    amount: Decimal | None


@dataclass(frozen=True, slots=True)
class LastSession:
    """The session before a date on which the exchange was closed: what it made, against the session before it.

    `day` is None where no session is known yet, `profit` where it was not read, `equity` where its value is not known.
    `since` is the change of equity after it, in USD.
    """

    day: date | None
    profit: DayProfit | None = None
    lines: tuple[ProfitLine, ...] = ()
    equity: EquityDay | None = None
    since: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Stock:
    """A row of `stock_book`: shares that are in no spread."""

    symbol: str
    quantity: Decimal
    mark: Decimal | None
    cost: Decimal
    market_value: Decimal | None
    unrealized_pl: Decimal | None


@dataclass(frozen=True, slots=True)
class Spread:
    """A row of `spread_book`; `legs` are its legs: symbol, quantity."""

    underlying: str
    strategy: str
    side: str
    quantity: Decimal
    expiration: date | None
    days_left: int | None
    cost: Decimal | None
    credit: Decimal | None
    market_value: Decimal | None
    entry_price: Decimal | None
    close_price: Decimal | None
    unrealized_pl: Decimal | None
    has_payoff: bool
    max_profit: Decimal | None
    max_loss: Decimal | None
    captured: float | None
    break_even_low: Decimal | None
    break_even_high: Decimal | None
    short_strike: Decimal | None
    short_type: str | None
    distance: Decimal | None
    distance_ratio: float | None
    legs: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Underlying:
    """A row of `book_by_underlying` with that of `exposure`: what is held of an underlying, and its greeks."""

    underlying: str
    positions: int
    market_value: Decimal | None
    unrealized_pl: Decimal | None
    underlying_price: Decimal | None
    delta: float | None
    theta: float | None
    vega: float | None


@dataclass(frozen=True, slots=True)
class BookTotal:
    """A row of `book_total`."""

    positions: int
    market_value: Decimal | None
    unrealized_pl: Decimal | None


@dataclass(frozen=True, slots=True)
class Exposure:
    """A row of `account_exposure`; ratios, 0.25 = 25 %."""

    buying_power_use: float | None
    dollar_delta: float | None
    theta: float | None
    vega: float | None
    option_legs: int
    legs_with_greeks: int
    short_put_notional: Decimal | None
    expiring_7d: Decimal | None
    expiring_30d: Decimal | None


@dataclass(frozen=True, slots=True)
class Expiring:
    """A row of `expiring_options`."""

    symbol: str
    underlying: str
    expiration: date
    days_left: int
    within_7_days: bool
    quantity: Decimal
    underlying_price: Decimal | None
    distance: Decimal | None
    distance_ratio: float | None
    in_the_money: bool | None


@dataclass(frozen=True, slots=True)
class Assignment:
    """A row of `assignment_risk`."""

    symbol: str
    underlying: str
    option_type: str
    quantity: Decimal
    days_left: int
    underlying_price: Decimal | None
    distance: Decimal | None
    in_the_money: bool | None
    time_value: Decimal | None
    cash_needed: Decimal | None
    cash: Decimal | None
    shares_needed: Decimal | None
    shares_held: Decimal
    ex_dividend_date: date | None
    dividend: Decimal | None
    exercise_pays: bool | None


@dataclass(frozen=True, slots=True)
class Realized:
    """A row of `trade_statistics`: how the trades of a group did."""

    name: str | None
    trades: int
    win_rate: float
    average_win: Decimal | None
    average_loss: Decimal | None
    profit_factor: float | None
    gain_loss: Decimal


@dataclass(frozen=True, slots=True)
class Premium:
    """A row of `premium_by_month`."""

    month: date
    lots: int
    sold: Decimal
    bought_back: Decimal
    kept: Decimal
    kept_rate: float | None


@dataclass(frozen=True, slots=True)
class Month:
    """A month of the calendar: the rows of `equity_curve` by their days, and its row of `account_statements`."""

    month: date
    days: Mapping[date, EquityDay]
    pnl: Decimal | None
    rate: float | None
    note: str


@dataclass(frozen=True, slots=True)
class Proof:
    """How many rules the snapshot was held against, and the rows of `check_results`: those that it did not meet."""

    rules: int | None
    unmet: tuple[str, ...]
    chain: Head | None = None  # where the account's hash chain stood at the end of its date


@dataclass(frozen=True, slots=True)
class Order:
    """A row of `orders`; `legs` are its legs: side, quantity, symbol; None of an order without legs."""

    order_id: int
    create_date: datetime | None
    transaction_date: datetime | None
    symbol: str | None
    option_symbol: str | None
    side: str | None
    strategy: str | None
    type: str | None
    duration: str | None
    price: Decimal | None
    stop_price: Decimal | None
    quantity: Decimal | None
    exec_quantity: Decimal | None
    avg_fill_price: Decimal | None
    status: str
    raw_status: str
    reason: str | None
    tag: str | None
    legs: list[dict[str, Any]] | None


@dataclass(frozen=True, slots=True)
class Summary:
    """A row of `newest_daily_summaries`. Of trades all is None if the ledger was not set beside the day."""

    revision: int
    generated_at: datetime
    as_of: datetime
    after_close: bool | None
    equity: Decimal
    equity_open: Decimal
    equity_high: Decimal
    equity_low: Decimal
    equity_change: Decimal | None
    orders_placed: int
    orders_filled: int
    orders_canceled: int
    orders_rejected: int
    orders_expired: int
    trades_opened: int | None
    trades_closed: int | None
    trades_open: int | None
    realized_pnl: Decimal | None
    realized_unknown: int | None
    exit_reasons: dict[str, int] | None
    opened_trades: list[dict[str, Any]] | None
    closed_trades: list[dict[str, Any]] | None


@dataclass(frozen=True, slots=True)
class FindingRow:
    """A row of `findings`."""

    code: str
    subject: str | None
    severity: str
    text: str
    evidence: str | None
    suggested_action: str
    first_seen: datetime
    last_seen: datetime
    times_seen: int
    resolved_at: datetime | None


@dataclass(frozen=True, slots=True)
class Coverage:
    """A row of `coverage`: how much of a session was read. `longest_gap_s` in seconds."""

    trade_date: date
    session_minutes: int
    snapshots: int
    in_session: int
    missed: int
    failed: int
    refused: int
    first_as_of: datetime | None
    last_as_of: datetime | None
    longest_gap_s: float | None


@dataclass(frozen=True, slots=True)
class Instant:
    """The equity of one snapshot, in USD."""

    as_of: datetime
    equity: Decimal


@dataclass(frozen=True, slots=True)
class Missed:
    """Instants without a snapshot that follow each other and have one reason."""

    first: datetime
    last: datetime
    count: int
    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class Held:
    """What a snapshot holds, by underlying, and what was ordered by then."""

    underlyings: tuple[Underlying, ...] = ()
    spreads: tuple[Spread, ...] = ()
    stocks: tuple[Stock, ...] = ()
    total: BookTotal | None = None
    exposure: Exposure | None = None
    expiring: tuple[Expiring, ...] = ()
    assignments: tuple[Assignment, ...] = ()
    orders: tuple[Order, ...] = ()
    proof: Proof | None = None

    def of(self, underlying: str) -> tuple[list[Spread], list[Stock]]:
        """What is held of an underlying."""
        spreads = [one for one in self.spreads if one.underlying == underlying]
        return spreads, [one for one in self.stocks if one.symbol == underlying]


@dataclass(frozen=True, slots=True)
class Cell:
    """The return of a month or a year, 0.01 = 1 %; `note`: what is uncertain or was not read of it; empty: nothing."""

    value: float | None
    note: str


@dataclass(frozen=True, slots=True)
class Year:
    """The returns of a year: by month, from 1 on, as far as they are known, and of the whole.

    `benchmark` is the symbol compared with, None if there is none; `beside` what it made over the same days.
    """

    year: int
    months: dict[int, Cell]
    whole: Cell
    benchmark: str | None
    beside: Cell


@dataclass(frozen=True, slots=True)
class Latency:
    """How the broker answered for a resource, or in an hour of New York: milliseconds, None without a read.

    `failures`: instants of which it was not read.
    """

    name: str | None
    reads: int
    retries: int
    failures: int
    median_ms: float | None
    p95_ms: float | None
    worst_ms: float | None


@dataclass(frozen=True, slots=True)
class Lag:
    """How often, and for how many seconds, a resource did not show yet what had filled."""

    resource: str
    times: int
    median_s: float | None
    p95_s: float | None
    worst_s: float | None
    going_on: int


@dataclass(frozen=True, slots=True)
class Restated:
    """What the broker reported otherwise later, by source and reason; USD, and days after the date."""

    source: str
    reason: str
    changes: int
    largest: Decimal | None
    days_late: int
    newest: datetime


@dataclass(frozen=True, slots=True)
class ServiceLevel:
    """A row of `service_levels` of the month; shares, 0.99 = 99 %."""

    service: str
    objective: float
    events: float
    bad: float
    reached: float | None
    budget_left: float | None


@dataclass(frozen=True, slots=True)
class BrokerCard:
    """How the broker served over the trade dates from `since` to `until`, and history over the month.

    `doubts` are how often snapshots were in doubt, and for how many seconds at worst. `allowed` and `available`: the
    requests a minute that the broker's answers to the snapshot spoke of; None if they did not.
    """

    since: date
    until: date
    resources: tuple[Latency, ...]
    hours: tuple[Latency, ...]
    lags: tuple[Lag, ...]
    restated: tuple[Restated, ...]
    doubts: int
    longest_doubt_s: float | None
    levels: tuple[ServiceLevel, ...]
    allowed: int | None = None
    available: int | None = None


IndexFigures = tuple[str, Snapshot, DayProfit | None, tuple[Month, ...]]
"""What the index shows of an account: its number, newest snapshot, profit of that day, and months, newest first."""


@dataclass(frozen=True, slots=True)
class AccountFigures:
    """The figures of a whole account, oldest first. `days` and `coverage` are those asked for, all others of now.

    `closed` is None unless the exchange was closed on the date of the snapshot. `returns` are by period: the usual
    ones, and `asked` if dates were asked for. `years` are all that are known, and so are `months`, newest first.
    `realized` is by what it is grouped by: account, month, strategy, underlying, tag.
    """

    account_id: str
    generated_at: datetime
    snapshot: Snapshot
    doubtful: Snapshot | None
    days: tuple[EquityDay, ...]
    benchmark: str | None
    profit: DayProfit | None
    lines: tuple[ProfitLine, ...]
    closed: LastSession | None
    months: tuple[Month, ...]
    realized: Mapping[str, tuple[Realized, ...]]
    premium: tuple[Premium, ...]
    returns: dict[str, Figures]
    years: tuple[Year, ...]
    held: Held
    findings: tuple[FindingRow, ...]
    coverage: tuple[Coverage, ...]
    broker: BrokerCard | None

    @property
    def indexed(self) -> IndexFigures:
        """What the index shows of it."""
        return self.account_id, self.snapshot, self.closed.profit if self.closed else self.profit, self.months

    @property
    def newest(self) -> EquityDay | None:
        """The last day whose equity is known."""
        return next((day for day in reversed(self.days) if day.equity is not None), None)


@dataclass(frozen=True, slots=True)
class DayFigures:
    """The figures of one trade date. `before` is the last known equity before it; `summary` its newest revision.

    `closed` is None unless the exchange was closed on it.
    """

    account_id: str
    generated_at: datetime
    day: date
    snapshot: Snapshot
    doubtful: Snapshot | None
    session: tuple[datetime, datetime] | None
    equity: EquityDay | None
    before: EquityDay | None
    profit: DayProfit | None
    lines: tuple[ProfitLine, ...]
    closed: LastSession | None
    instants: tuple[Instant, ...]
    missed: tuple[Missed, ...]
    missed_instants: tuple[datetime, ...]
    summary: Summary | None
    held: Held
    findings: tuple[FindingRow, ...]
    coverage: Coverage | None

    @property
    def fills(self) -> list[datetime]:
        """When the orders that filled on the day last changed."""
        changes = [order.transaction_date for order in self.held.orders if order.exec_quantity]
        return [change for change in changes if change and clock.trade_date(change) == self.day]

    def gaps(self) -> list[tuple[datetime, datetime]]:
        """The neighbours that no line may join: an instant between them was missed, or they are far apart."""
        instants = [instant.as_of for instant in self.instants]
        steps = sorted(later - earlier for earlier, later in pairwise(instants))
        usual = steps[len(steps) // 2] if steps else timedelta()
        longest = max(LONGEST_LINE, 3 * usual)
        return [
            (earlier, later)
            for earlier, later in pairwise(instants)
            if later - earlier > longest or any(earlier < missed < later for missed in self.missed_instants)
        ]
