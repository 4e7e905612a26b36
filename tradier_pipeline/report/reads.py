"""The figures of a report, read from the warehouse in one open."""

# ruff: noqa: S608 - every part of these queries is a constant, a field's name or a literal()
from __future__ import annotations

import math
from calendar import month_abbr
from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import date, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeVar

import duckdb

from tradier_pipeline import clock
from tradier_pipeline.core.version import CODE_VERSION
from tradier_pipeline.domain.returns import Figures, Row, figures, standard_periods
from tradier_pipeline.report.figures import (
    AccountFigures,
    Assignment,
    BookTotal,
    BrokerCard,
    Cell,
    Coverage,
    DayFigures,
    DayProfit,
    EquityDay,
    Expiring,
    Exposure,
    FindingRow,
    Held,
    IndexFigures,
    Instant,
    Lag,
    LastSession,
    Latency,
    Missed,
    Month,
    Order,
    Premium,
    ProfitLine,
    Proof,
    Realized,
    ReportError,
    Restated,
    ServiceLevel,
    Snapshot,
    Spread,
    Stock,
    Summary,
    Underlying,
    Year,
)
from tradier_pipeline.verify import CHECKS
from tradier_pipeline.warehouse import service
from tradier_pipeline.warehouse.at_a_glance import OF_SNAPSHOT
from tradier_pipeline.warehouse.chain_heads import noted_head
from tradier_pipeline.warehouse.day_profit import lines_query, profit_query
from tradier_pipeline.warehouse.period_returns import returns_query
from tradier_pipeline.warehouse.reads import equity_curves, require_current
from tradier_pipeline.warehouse.realized import pnl_query
from tradier_pipeline.warehouse.sql import bind, where

T = TypeVar("T")

CARD = timedelta(days=29)  # before the newest snapshot: what the broker's card is of, unless dates are asked for


def account_ids(connection: duckdb.DuckDBPyConnection, day: date | None = None) -> list[str]:
    """The accounts that have a snapshot or a daily value of the broker, or a snapshot of a trade date."""
    of_day = bind("SELECT account_id FROM snapshot_days WHERE trade_date = ?", day)
    known = "SELECT account_id FROM newest_snapshots UNION SELECT account_id FROM broker_daily_balances"
    rows = connection.execute(f"{of_day if day else known} ORDER BY 1")
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
    good, doubtful = _newest(connection, _dates_of_newest(connection, account_id))
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
    query = bind("SELECT trade_date FROM snapshot_days WHERE account_id = ? ORDER BY 1", account_id)
    return [day for (day,) in connection.execute(query).fetchall()]


def months_of(connection: duckdb.DuckDBPyConnection, account_id: str) -> tuple[Month, ...]:
    """The months of an account, newest first."""
    return _months(connection, account_id, _curve(connection, account_id))


def index_figures(connection: duckdb.DuckDBPyConnection, account_id: str) -> IndexFigures | None:
    """What the index shows of an account; None if nothing is known of it."""
    good, doubtful = _newest(connection, _dates_of_newest(connection, account_id))
    snapshot = good or doubtful or _broker_value(connection, account_id)
    if snapshot is None:
        return None
    curve = _curve(connection, account_id)
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
    good, doubtful = _newest(connection, where(account_id, day, day))
    snapshot = good or doubtful
    if snapshot is None:
        query = bind("SELECT close FROM daily_balances WHERE account_id = ? AND trade_date = ?", account_id, day)
        reported = connection.execute(query).fetchone()
        only = f"; all that is known is the broker's value at the close, {reported[0]:,.2f} USD" if reported else ""
        raise ReportError(
            f"no snapshot of {account_id} of {day} is published{only}", "See `tradier-pipeline balances --by day`."
        )
    curve = _curve(connection, account_id)
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


def _dates_of_newest(connection: duckdb.DuckDBPyConnection, account_id: str) -> str:
    """The WHERE of the last date of an account with a good snapshot, and of those after it; all if there is none.

    Constants: by these DuckDB skips the files of other dates.
    """
    query = f"""
        SELECT coalesce(max(trade_date) FILTER (snapshots > 0), min(trade_date)), max(trade_date)
        FROM snapshot_days {where(account_id)}
    """
    return where(account_id, *(connection.execute(query).fetchone() or ()))


def _newest(connection: duckdb.DuckDBPyConnection, asked: str) -> tuple[Snapshot | None, Snapshot | None]:
    """The newest good snapshot, and a doubtful one that is newer.

    Args:
        asked: the WHERE of an account and of the dates on which they are.
    """
    good, newest = (
        _snapshot(connection, asked, verdict) for verdict in ("verdict IS DISTINCT FROM 'doubtful'", "true")
    )
    return good, newest if newest != good else None


def _snapshot(connection: duckdb.DuckDBPyConnection, asked: str, verdict: str) -> Snapshot | None:
    balances = "account_type, equity, cash, buying_power, margin_requirement, open_pl, close_pl"
    source = f"""
        FROM (FROM tradier_snapshots {asked} AND {verdict} QUALIFY as_of = max(as_of) OVER ())
        LEFT JOIN (SELECT snapshot_id, as_of, {balances} FROM account_balances {asked}) USING (snapshot_id, as_of)
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


def _curve(connection: duckdb.DuckDBPyConnection, account_id: str) -> list[EquityDay]:
    return [_equity_day(row) for row in equity_curves(connection, account_id).get(account_id, [])]


def _equity_day(row: Row) -> EquityDay:
    names = [field.name for field in fields(EquityDay)]
    values: dict[str, Any] = {name: row.get("return" if name == "day_return" else name) for name in names}
    return EquityDay(**values)


def _profit(connection: duckdb.DuckDBPyConnection, account_id: str, day: date) -> DayProfit | None:
    of_day = bind("account_id = ? AND trade_date = ?", account_id, day)
    return _first(_read(connection, DayProfit, f"FROM ({profit_query(of_day)})"))


def _profit_lines(connection: duckdb.DuckDBPyConnection, account_id: str, day: date) -> tuple[ProfitLine, ...]:
    of_day = bind("account_id = ? AND trade_date = ?", account_id, day)
    return _read(connection, ProfitLine, f"FROM ({lines_query(of_day)}) ORDER BY line")


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
    of_snapshot = bind(OF_SNAPSHOT, account_id, snapshot.trade_date, snapshot.as_of)
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
