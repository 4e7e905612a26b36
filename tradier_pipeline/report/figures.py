"""What a report shows, read from the warehouse in one open: of an account, or of one of its trade dates."""

# ruff: noqa: S608 - every part of these queries is a constant, a field's name or a literal()
from __future__ import annotations

import math
from calendar import month_abbr
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any, TypeVar

import duckdb

from tradier_pipeline import clock
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.version import CODE_VERSION
from tradier_pipeline.domain.returns import Figures, Row, figures, standard_periods
from tradier_pipeline.landing.chain import Head
from tradier_pipeline.verify import CHECKS
from tradier_pipeline.warehouse import service
from tradier_pipeline.warehouse.chain_heads import noted_head
from tradier_pipeline.warehouse.period_returns import returns_query
from tradier_pipeline.warehouse.reads import equity_curves, require_current
from tradier_pipeline.warehouse.realized import pnl_query
from tradier_pipeline.warehouse.sql import bind

T = TypeVar("T")

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
CARD = timedelta(days=29)  # before the newest snapshot: what the broker's card is of, unless dates are asked for
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


def account_ids(connection: duckdb.DuckDBPyConnection, day: date | None = None) -> list[str]:
    """The accounts that have a snapshot or a daily value of the broker, or a snapshot of a trade date."""
    known = bind("WHERE trade_date = ?", day) if day else "UNION SELECT account_id FROM broker_daily_balances"
    rows = connection.execute(
        f"SELECT account_id FROM (SELECT DISTINCT account_id FROM tradier_snapshots {known}) ORDER BY 1"
    )
    return [account_id for (account_id,) in rows.fetchall()]


def account_figures(
    connection: duckdb.DuckDBPyConnection,
    account_id: str,
    since: date | None = None,
    until: date | None = None,
    benchmark: str = "",
) -> AccountFigures:
    """The figures of an account; the curves and the coverage from one trade date to another.

    Args:
        benchmark: the symbol that returns are compared with; empty: none.

    Raises:
        ReportError: nothing is known of the account.
        WarehouseError: the file is of another version.
    """
    require_current(connection)
    good, doubtful = _newest(connection, bind("account_id = ?", account_id))
    snapshot = good or doubtful or _broker_value(connection, account_id)
    if snapshot is None:
        raise ReportError(
            f"nothing of account {account_id} is published",
            "Take a snapshot: `tradier-pipeline snapshot`; or read its past: `tradier-pipeline backfill`.",
        )
    curve = equity_curves(connection, account_id, benchmark).get(account_id, [])
    asked = figures(curve, since, until) if since or until else None
    first, last = since or date.min, until or date.max
    every_day = [_equity_day(row) for row in curve]
    days = tuple(day for day in every_day if first <= day.trade_date <= last)
    dates = bind("account_id = ? AND trade_date BETWEEN ? AND ?", account_id, first, last)
    return AccountFigures(
        account_id=account_id,
        generated_at=clock.now(),
        snapshot=snapshot,
        doubtful=doubtful,
        days=days,
        benchmark=benchmark if any(day.benchmark_return is not None for day in days) else None,
        profit=_profit(connection, account_id, snapshot.trade_date),
        lines=_profit_lines(connection, account_id, snapshot.trade_date),
        closed=_closed(connection, account_id, snapshot, every_day),
        months=_months(connection, account_id, every_day),
        realized=_realized(connection, account_id),
        premium=_read(connection, Premium, f"FROM ({pnl_query('premium', account_id)}) ORDER BY month DESC"),
        returns=({"asked": asked} if asked else {}) | _told_once(standard_periods(curve)),
        years=_years(connection, account_id, benchmark),
        held=_held(connection, account_id, snapshot),
        findings=_findings(connection, bind("account_id = ? AND resolved_at IS NULL", account_id)),
        coverage=_read(
            connection, Coverage, f"FROM coverage WHERE {dates} AND longest_gap_s IS NOT NULL ORDER BY trade_date"
        ),
        broker=_broker(connection, account_id, since or snapshot.trade_date - CARD, until or snapshot.trade_date),
    )


def _broker(connection: duckdb.DuckDBPyConnection, account_id: str, since: date, until: date) -> BrokerCard | None:
    """None if nothing was read over these dates."""
    asked = (account_id, since, until)
    resources, hours = (
        _read(connection, Latency, f"FROM (SELECT *, {name} AS name FROM ({query}))")
        for name, query in (
            ("resource", service.latency_query(*asked, "resource")),
            ("printf('%02d:00', hour)", service.latency_query(*asked, "hour")),
        )
    )
    if not resources:
        return None
    spans = f"SELECT count(*), max(seconds) FROM ({service.spans_query(*asked)})"
    doubts, longest = connection.execute(spans).fetchone() or (0, None)
    return BrokerCard(
        since=since,
        until=until,
        resources=resources,
        hours=hours,
        lags=_read(connection, Lag, f"FROM ({service.lags_query(*asked)})"),
        restated=_read(connection, Restated, f"FROM ({service.restated_query(*asked)})"),
        doubts=doubts,
        longest_doubt_s=longest,
        levels=_read(
            connection,
            ServiceLevel,
            f"FROM ({service.levels_query(account_id)}) WHERE \"window\" = 'month' AND events > 0",
        ),
    )


def report_days(connection: duckdb.DuckDBPyConnection, account_id: str) -> list[date]:
    """The trade dates of an account that have a snapshot, oldest first."""
    query = bind("SELECT DISTINCT trade_date FROM tradier_snapshots WHERE account_id = ? ORDER BY 1", account_id)
    return [day for (day,) in connection.execute(query).fetchall()]


def index_figures(
    connection: duckdb.DuckDBPyConnection, account_id: str
) -> tuple[str, Snapshot, DayProfit | None, tuple[Month, ...]] | None:
    """What the index shows of an account; None if nothing is known of it."""
    good, doubtful = _newest(connection, bind("account_id = ?", account_id))
    snapshot = good or doubtful or _broker_value(connection, account_id)
    if snapshot is None:
        return None
    curve = [_equity_day(row) for row in equity_curves(connection, account_id).get(account_id, [])]
    profit = _profit(connection, account_id, snapshot.trade_date)
    closed = _closed(connection, account_id, snapshot, curve)
    return account_id, snapshot, closed.profit if closed else profit, _months(connection, account_id, curve)


def day_figures(connection: duckdb.DuckDBPyConnection, account_id: str, day: date) -> DayFigures:
    """The figures of a trade date of an account.

    Raises:
        ReportError: the account has no snapshot of that day.
        WarehouseError: the file is of another version.
    """
    require_current(connection)
    of_day = bind("account_id = ? AND trade_date = ?", account_id, day)
    good, doubtful = _newest(connection, of_day)
    snapshot = good or doubtful
    if snapshot is None:
        query = bind("SELECT close FROM daily_balances WHERE account_id = ? AND trade_date = ?", account_id, day)
        reported = connection.execute(query).fetchone()
        only = f"; all that is known is the broker's value at the close, {reported[0]:,.2f} USD" if reported else ""
        raise ReportError(
            f"no snapshot of {account_id} of {day} is published{only}", "See `tradier-pipeline balances --by day`."
        )
    curve = [_equity_day(row) for row in equity_curves(connection, account_id).get(account_id, [])]
    equity = next((one for one in curve if one.trade_date == day), None)
    before = [one for one in curve if one.trade_date < day and one.equity is not None]
    missed = connection.execute(
        f"SELECT requested_at, kind, reason FROM missed_snapshots WHERE {of_day} ORDER BY requested_at"
    ).fetchall()
    session = connection.execute(
        bind("SELECT session_open, session_close FROM sessions WHERE trade_date = ?", day)
    ).fetchone()
    begin, end = (datetime(one.year, one.month, one.day, tzinfo=clock.NEW_YORK) for one in (day, day + timedelta(1)))
    return DayFigures(
        account_id=account_id,
        generated_at=clock.now(),
        day=day,
        snapshot=snapshot,
        doubtful=doubtful,
        session=(session[0], session[1]) if session else None,
        equity=equity,
        before=before[-1] if before else None,
        profit=_profit(connection, account_id, day),
        lines=_profit_lines(connection, account_id, day),
        closed=_closed(connection, account_id, snapshot, curve),
        instants=_read(connection, Instant, f"FROM account_balances WHERE {of_day} ORDER BY as_of"),
        missed=_grouped(missed),
        missed_instants=tuple(row[0] for row in missed),
        summary=_first(_read(connection, Summary, f"FROM newest_daily_summaries WHERE {of_day}")),
        held=_held(connection, account_id, snapshot),
        findings=_findings(
            connection, bind("account_id = ? AND first_seen < ? AND last_seen >= ?", account_id, end, begin)
        ),
        coverage=_first(_read(connection, Coverage, f"FROM coverage WHERE {of_day}")),
    )


def _newest(connection: duckdb.DuckDBPyConnection, which: str) -> tuple[Snapshot | None, Snapshot | None]:
    """The newest good snapshot, and a doubtful one that is newer."""
    good, newest = (
        _snapshot(connection, f"FROM tradier_snapshots WHERE {which} AND {verdict} QUALIFY as_of = max(as_of) OVER ()")
        for verdict in ("verdict IS DISTINCT FROM 'doubtful'", "true")
    )
    return good, newest if newest != good else None


def _snapshot(connection: duckdb.DuckDBPyConnection, headers: str) -> Snapshot | None:
    balances = "account_type, equity, cash, buying_power, margin_requirement, open_pl, close_pl"
    source = f"""
        FROM (SELECT * {headers}) LEFT JOIN (SELECT snapshot_id, as_of, {balances} FROM account_balances)
        USING (snapshot_id, as_of)
    """
    return _first(_read(connection, Snapshot, source))


def _broker_value(connection: duckdb.DuckDBPyConnection, account_id: str) -> Snapshot | None:
    """The newest daily value of the broker, in the place of a snapshot."""
    unknown = "trigger, coherence, coherence_evidence, code_version, account_type, cash, buying_power"
    nulls = ", ".join(f"NULL AS {name}" for name in f"{unknown}, margin_requirement, open_pl, close_pl".split(", "))
    missing = f"NULL AS snapshot_id, NULL AS verdict, NULL AS verdict_evidence, {nulls}"
    of_account = bind("account_id = ? AND source = 'broker'", account_id)
    source = f"""
        FROM (SELECT session_close AS as_of, trade_date, environment, close AS equity, {missing}
              FROM daily_balances JOIN sessions USING (trade_date) LEFT JOIN account_environments USING (account_id)
              WHERE {of_account} ORDER BY trade_date DESC LIMIT 1)
    """
    return _first(_read(connection, Snapshot, source))


def _equity_day(row: Row) -> EquityDay:
    names = [field.name for field in fields(EquityDay)]
    values: dict[str, Any] = {name: row.get("return" if name == "day_return" else name) for name in names}
    return EquityDay(**values)


def _profit(connection: duckdb.DuckDBPyConnection, account_id: str, day: date) -> DayProfit | None:
    of_day = bind("account_id = ? AND trade_date = ?", account_id, day)
    return _first(_read(connection, DayProfit, f"FROM day_profit WHERE {of_day}"))


def _profit_lines(connection: duckdb.DuckDBPyConnection, account_id: str, day: date) -> tuple[ProfitLine, ...]:
    of_day = bind("account_id = ? AND trade_date = ?", account_id, day)
    return _read(connection, ProfitLine, f"FROM day_profit_lines WHERE {of_day} ORDER BY line")


def _closed(
    connection: duckdb.DuckDBPyConnection, account_id: str, snapshot: Snapshot, curve: Sequence[EquityDay]
) -> LastSession | None:
    """The session before the date of a snapshot that has none; None: the date has one."""
    query = bind("SELECT max(trade_date) FROM sessions WHERE trade_date <= ?", snapshot.trade_date)
    (last,) = connection.execute(query).fetchone() or (None,)
    if last == snapshot.trade_date:
        return None
    if last is None:
        return LastSession(None)
    profit = _profit(connection, account_id, last)
    equity = next((one for one in curve if one.trade_date == last), None)
    before = profit.equity if profit else equity.equity if equity else None
    since = None if before is None or snapshot.equity is None else snapshot.equity - before
    return LastSession(last, profit, _profit_lines(connection, account_id, last), equity, since)


def _realized(connection: duckdb.DuckDBPyConnection, account_id: str) -> dict[str, tuple[Realized, ...]]:
    """The rows of `trade_statistics` by grouping: months newest first, else what made the most first."""
    order = {"month": "name DESC"}
    groupings = ("account", "month", "strategy", "underlying", "tag")
    of_account = bind("account_id = ?", account_id)
    return {
        by: _read(
            connection,
            Realized,
            f"FROM trade_statistics WHERE {of_account} AND grouping = '{by}' "
            f"ORDER BY {order.get(by, 'gain_loss DESC, name')}",
        )
        for by in groupings
    }


def _months(connection: duckdb.DuckDBPyConnection, account_id: str, curve: Sequence[EquityDay]) -> tuple[Month, ...]:
    """The days of each month with the profit of its statement and its time-weighted return, newest first."""
    query = bind(
        'SELECT month, pnl, "return", note FROM account_statements WHERE account_id = ? AND closing IS NOT NULL',
        account_id,
    )
    stated = {row[0]: row[1:] for row in connection.execute(query).fetchall()}
    months = [
        Month(month, {day.trade_date: day for day in days}, *stated.get(month, (None, None, "")))
        for month, days in groupby(curve, lambda day: day.trade_date.replace(day=1))
    ]
    return tuple(reversed(months))


def _told_once(periods: dict[str, Figures]) -> dict[str, Figures]:
    """Without the periods that are the whole history."""
    return {name: one for name, one in periods.items() if name == "inception" or one.since > periods["inception"].since}


def _years(connection: duckdb.DuckDBPyConnection, account_id: str, benchmark: str) -> tuple[Year, ...]:
    """The returns of every year of an account, by month."""
    columns = 'year(month), month(month), "return", note, benchmark, benchmark_return, benchmark_note'
    query = f"SELECT {columns} FROM ({returns_query('month', account_id, benchmark=benchmark)})"
    years = []
    for year, rows in groupby(connection.execute(query).fetchall(), itemgetter(0)):
        months = list(rows)
        cells = {month: Cell(value, note) for _, month, value, note, *_ in months}
        beside = [one[5] for one in months if one[2] is not None]
        whole = Cell(_linked([cell.value for cell in cells.values() if cell.value is not None]), _noted(cells))
        lacking = "; ".join(one[6] for one in months if one[6])
        years.append(Year(year, cells, whole, months[0][4], Cell(None if None in beside else _linked(beside), lacking)))
    return tuple(years)


def _linked(returns: Sequence[float]) -> float | None:
    return math.prod(1 + one for one in returns) - 1 if returns else None


def _noted(months: dict[int, Cell]) -> str:
    marked = [month_abbr[month] for month, cell in months.items() if cell.note]
    return f"see {', '.join(marked)}" if marked else ""


def _held(connection: duckdb.DuckDBPyConnection, account_id: str, snapshot: Snapshot) -> Held:
    if snapshot.snapshot_id is None:
        return Held()
    # by as_of, too: it lets DuckDB skip all other rows of a long history
    of_snapshot = bind("snapshot_id = ? AND as_of = ?", snapshot.snapshot_id, snapshot.as_of)
    spread_legs = f"""
        SELECT spread_no, list({{'symbol': symbol, 'quantity': quantity}} ORDER BY leg_no) AS legs
        FROM option_spread_legs WHERE {of_snapshot} GROUP BY spread_no
    """
    order_legs = f"""
        SELECT order_id, list(
            {{'side': coalesce(raw_side, side), 'quantity': quantity, 'symbol': coalesce(option_symbol, symbol)}}
            ORDER BY leg_no
        ) AS legs FROM order_legs WHERE {of_snapshot} GROUP BY order_id
    """
    greeks = f"SELECT underlying, underlying_price, delta, theta, vega FROM exposure WHERE {of_snapshot}"
    return Held(
        underlyings=_read(
            connection,
            Underlying,
            f"FROM (FROM book_by_underlying WHERE {of_snapshot}) LEFT JOIN ({greeks}) USING (underlying) "
            "ORDER BY underlying",
        ),
        spreads=_read(
            connection,
            Spread,
            f"FROM (FROM spread_book WHERE {of_snapshot}) JOIN ({spread_legs}) USING (spread_no) "
            "ORDER BY expiration, spread_no",
        ),
        stocks=_read(connection, Stock, f"FROM stock_book WHERE {of_snapshot} ORDER BY symbol"),
        total=_first(_read(connection, BookTotal, f"FROM book_total WHERE {of_snapshot}")),
        exposure=_first(_read(connection, Exposure, f"FROM account_exposure WHERE {of_snapshot}")),
        expiring=_read(
            connection,
            Expiring,
            f"FROM expiring_options WHERE {of_snapshot} ORDER BY expiration, underlying, strike, symbol",
        ),
        assignments=_read(
            connection, Assignment, f"FROM assignment_risk WHERE {of_snapshot} ORDER BY distance NULLS FIRST, symbol"
        ),
        orders=_read(
            connection,
            Order,
            f"FROM (FROM orders WHERE {of_snapshot}) LEFT JOIN ({order_legs}) USING (order_id) "
            "ORDER BY create_date DESC NULLS LAST, order_id DESC",
        ),
        proof=_proof(connection, account_id, snapshot, of_snapshot),
    )


def _proof(connection: duckdb.DuckDBPyConnection, account_id: str, snapshot: Snapshot, of_snapshot: str) -> Proof:
    """How the snapshot stood the rules; how many there were of another version is not known."""
    rows = connection.execute(f"SELECT rule FROM check_results WHERE {of_snapshot} ORDER BY rule").fetchall()
    rules = len(CHECKS) if snapshot.code_version == CODE_VERSION else None
    chain = noted_head(connection, account_id, snapshot.trade_date)
    return Proof(rules, tuple(rule for (rule,) in rows), chain)


def _findings(connection: duckdb.DuckDBPyConnection, condition: str) -> tuple[FindingRow, ...]:
    worst_first = "list_position(['error', 'warn', 'info'], severity), first_seen, finding_id"
    return _read(connection, FindingRow, f"FROM findings WHERE {condition} ORDER BY {worst_first}")


def _grouped(rows: Sequence[tuple[datetime, str, str]]) -> tuple[Missed, ...]:
    """Neighbours of one kind and reason as one row."""
    groups: list[Missed] = []
    for requested_at, kind, reason in rows:
        if groups and (groups[-1].kind, groups[-1].reason) == (kind, reason):
            before = groups.pop()
            groups.append(Missed(before.first, requested_at, before.count + 1, kind, reason))
        else:
            groups.append(Missed(requested_at, requested_at, 1, kind, reason))
    return tuple(groups)


def _read(connection: duckdb.DuckDBPyConnection, model: type[T], source: str) -> tuple[T, ...]:
    """The rows of `FROM ...` as a dataclass whose fields are columns of it."""
    names = ", ".join(f'"{field.name}"' for field in fields(model))  # type: ignore[arg-type]
    rows: Iterable[tuple[Any, ...]] = connection.execute(f"SELECT {names} {source}").fetchall()
    return tuple(model(*row) for row in rows)


def _first(rows: Sequence[T]) -> T | None:
    return rows[0] if rows else None
