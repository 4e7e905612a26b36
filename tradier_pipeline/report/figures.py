"""What a report shows, read from the warehouse in one open: of an account, or of one of its trade dates."""

# ruff: noqa: S608 - every part of these queries is a constant, a field's name or a literal()
from __future__ import annotations

import math
from calendar import month_abbr
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any, TypeVar

import duckdb

from tradier_pipeline import clock
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.domain.returns import Figures, Row, figures, standard_periods
from tradier_pipeline.warehouse.period_returns import returns_query
from tradier_pipeline.warehouse.reads import equity_curves, require_current
from tradier_pipeline.warehouse.sql import bind

T = TypeVar("T")

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


@dataclass(frozen=True, slots=True)
class Position:
    """A row of `positions`."""

    symbol: str
    quantity: Decimal
    mark: Decimal | None
    cost_basis: Decimal
    market_value: Decimal | None
    unrealized_pl: Decimal | None


@dataclass(frozen=True, slots=True)
class Spread:
    """A row of `option_spreads`; `legs` are its legs: symbol, quantity."""

    underlying: str
    strategy: str
    side: str
    quantity: Decimal
    expiration: date | None
    cost: Decimal | None
    market_value: Decimal | None
    unrealized_pl: Decimal | None
    has_payoff: bool
    max_profit: Decimal | None
    max_loss: Decimal | None
    legs: list[dict[str, Any]]


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
class Finding:
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
    """What a snapshot holds and what was ordered by then."""

    positions: tuple[Position, ...]
    spreads: tuple[Spread, ...]
    orders: tuple[Order, ...]


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
class AccountFigures:
    """The figures of a whole account, oldest first. `days` and `coverage` are those asked for, all others of now.

    `returns` are by period: the usual ones, and `asked` if dates were asked for. `years` are all that are known.
    """

    account_id: str
    generated_at: datetime
    snapshot: Snapshot
    days: tuple[EquityDay, ...]
    returns: dict[str, Figures]
    years: tuple[Year, ...]
    held: Held
    findings: tuple[Finding, ...]
    coverage: tuple[Coverage, ...]

    @property
    def newest(self) -> EquityDay | None:
        """The last day whose equity is known."""
        return next((day for day in reversed(self.days) if day.equity is not None), None)


@dataclass(frozen=True, slots=True)
class DayFigures:
    """The figures of one trade date. `before` is the last known equity before it; `summary` its newest revision."""

    account_id: str
    generated_at: datetime
    day: date
    snapshot: Snapshot
    session: tuple[datetime, datetime] | None
    equity: EquityDay | None
    before: EquityDay | None
    instants: tuple[Instant, ...]
    missed: tuple[Missed, ...]
    missed_instants: tuple[datetime, ...]
    summary: Summary | None
    held: Held
    findings: tuple[Finding, ...]
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
    newest = _snapshot(connection, bind("FROM newest_snapshots WHERE account_id = ?", account_id))
    snapshot = newest or _broker_value(connection, account_id)
    if snapshot is None:
        raise ReportError(
            f"nothing of account {account_id} is published",
            "Take a snapshot: `tradier-pipeline snapshot`; or read its past: `tradier-pipeline backfill`.",
        )
    curve = equity_curves(connection, account_id, benchmark).get(account_id, [])
    asked = figures(curve, since, until) if since or until else None
    first, last = since or date.min, until or date.max
    days = tuple(_equity_day(row) for row in curve if first <= row["trade_date"] <= last)
    dates = bind("account_id = ? AND trade_date BETWEEN ? AND ?", account_id, first, last)
    return AccountFigures(
        account_id=account_id,
        generated_at=clock.now(),
        snapshot=snapshot,
        days=days,
        returns=({"asked": asked} if asked else {}) | _told_once(standard_periods(curve)),
        years=_years(connection, account_id, benchmark),
        held=_held(connection, snapshot),
        findings=_findings(connection, bind("account_id = ? AND resolved_at IS NULL", account_id)),
        coverage=_read(
            connection, Coverage, f"FROM coverage WHERE {dates} AND longest_gap_s IS NOT NULL ORDER BY trade_date"
        ),
    )


def day_figures(connection: duckdb.DuckDBPyConnection, account_id: str, day: date) -> DayFigures:
    """The figures of a trade date of an account.

    Raises:
        ReportError: the account has no snapshot of that day.
        WarehouseError: the file is of another version.
    """
    require_current(connection)
    of_day = bind("account_id = ? AND trade_date = ?", account_id, day)
    newest = f"(SELECT max_by(snapshot_id, as_of) FROM tradier_snapshots WHERE {of_day})"
    snapshot = _snapshot(connection, f"FROM tradier_snapshots WHERE {of_day} AND snapshot_id = {newest}")
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
        session=(session[0], session[1]) if session else None,
        equity=equity,
        before=before[-1] if before else None,
        instants=_read(connection, Instant, f"FROM account_balances WHERE {of_day} ORDER BY as_of"),
        missed=_grouped(missed),
        missed_instants=tuple(row[0] for row in missed),
        summary=_first(_read(connection, Summary, f"FROM newest_daily_summaries WHERE {of_day}")),
        held=_held(connection, snapshot),
        findings=_findings(
            connection, bind("account_id = ? AND first_seen < ? AND last_seen >= ?", account_id, end, begin)
        ),
        coverage=_first(_read(connection, Coverage, f"FROM coverage WHERE {of_day}")),
    )


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
    return EquityDay(**{name: row["return" if name == "day_return" else name] for name in names})


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


def _held(connection: duckdb.DuckDBPyConnection, snapshot: Snapshot) -> Held:
    if snapshot.snapshot_id is None:
        return Held((), (), ())
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
    return Held(
        positions=_read(connection, Position, f"FROM positions WHERE {of_snapshot} ORDER BY symbol, row_no"),
        spreads=_read(
            connection,
            Spread,
            f"FROM (FROM option_spreads WHERE {of_snapshot}) JOIN ({spread_legs}) USING (spread_no) ORDER BY spread_no",
        ),
        orders=_read(
            connection,
            Order,
            f"FROM (FROM orders WHERE {of_snapshot}) LEFT JOIN ({order_legs}) USING (order_id) "
            "ORDER BY create_date DESC NULLS LAST, order_id DESC",
        ),
    )


def _findings(connection: duckdb.DuckDBPyConnection, condition: str) -> tuple[Finding, ...]:
    worst_first = "list_position(['error', 'warn', 'info'], severity), first_seen, finding_id"
    return _read(connection, Finding, f"FROM findings WHERE {condition} ORDER BY {worst_first}")


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
