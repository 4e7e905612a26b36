"""What the ledger and the broker say of a date by the morning after: trades, closed lots, cash; from what is stored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import duckdb

from tradier_pipeline import clock
from tradier_pipeline.reconcile.account_statement import StatementMonth
from tradier_pipeline.reconcile.cash import CashDay
from tradier_pipeline.reconcile.derived_rows import DerivedRows
from tradier_pipeline.reconcile.gainloss import ClosedDay, LedgerTrade, Lot
from tradier_pipeline.warehouse.derived import DERIVED
from tradier_pipeline.warehouse.schema import Derived
from tradier_pipeline.warehouse.sql import bind
from tradier_pipeline.warehouse.statements import LINES

_COVERED = """
    SELECT DISTINCT account_id FROM activity_extracts
    WHERE resource = 'gainloss' AND ? BETWEEN since AND until AND read_at >= ? ORDER BY account_id
"""
_TRADES = """
    SELECT trade_id, entered, legs, status, exit_reason, realized_pnl, opened_at, closed_at
    FROM trade_reconciliation
    SEMI JOIN (
        SELECT snapshot_id FROM tradier_snapshots WHERE account_id = ? AND trade_date >= ? AND verdict = 'good'
    ) USING (snapshot_id) WHERE account_id = ? AND trade_date >= ? AND legs IS NOT NULL
    QUALIFY row_number() OVER (PARTITION BY trade_id ORDER BY as_of DESC) = 1 ORDER BY trade_id
"""
_FIRST_PARTS = """
    SELECT trade_id, min(trade_date) FROM trade_reconciliation
    WHERE account_id = ? AND status <> 'CLOSED' AND exited > 0 GROUP BY trade_id
"""
_LOTS = """
    SELECT symbol, quantity, gain_loss FROM closed_lots
    WHERE account_id = ? AND close_date = ? ORDER BY ALL
"""

_CASH = """
    SELECT account_id, trade_date, since, change, trades, flows, unexplained, open_before FROM (
        SELECT *, lag(unexplained) OVER (PARTITION BY account_id ORDER BY trade_date) AS open_before FROM cash_by_day
    ) WHERE trade_date = ? AND unexplained IS NOT NULL ORDER BY account_id
"""

_STATEMENTS = f"""
    WITH days AS (
        SELECT account_id, date_trunc('month', trade_date)::DATE AS month, coalesce(sum(pnl), 0) AS pnl_of_days,
               bool_and(pnl IS NOT NULL OR is_first) AS all_known
        FROM (SELECT *, row_number() OVER (PARTITION BY account_id ORDER BY trade_date) = 1 AS is_first
              FROM equity_curve WHERE equity IS NOT NULL)
        GROUP BY ALL
    ), statements AS (
        SELECT *, lag(closing) OVER (PARTITION BY account_id ORDER BY month) AS closed_before
        FROM account_statements WHERE closing IS NOT NULL
    )
    SELECT account_id, month, opening, {{{", ".join(f"'{name}': {name}" for name in LINES)}}} AS lines, closing, pnl,
           closed_before, CASE WHEN all_known THEN pnl_of_days END
    FROM statements LEFT JOIN days USING (account_id, month)
    WHERE month = date_trunc('month', ?) ORDER BY account_id
"""  # noqa: S608


def statement_months(connection: duckdb.DuckDBPyConnection, day: date) -> list[StatementMonth]:
    """The statement of the month of a date, of each account that has one."""
    return [StatementMonth(*row) for row in connection.execute(bind(_STATEMENTS, day)).fetchall()]


def cash_days(connection: duckdb.DuckDBPyConnection, day: date) -> list[CashDay]:
    """The cash of a date of each account whose history of it has been read since it was over."""
    return [CashDay(*row) for row in connection.execute(bind(_CASH, day)).fetchall()]


def derived_rows(connection: duckdb.DuckDBPyConnection) -> list[DerivedRows]:
    """Each derived table beside its query, which is computed once more: a second or so of a year."""
    return [_compared(connection, derived) for derived in DERIVED]


def _compared(connection: duckdb.DuckDBPyConnection, derived: Derived) -> DerivedRows:
    table = derived.table
    place = ", ".join(name for name in ("account_id", "environment", "trade_date") if name in table.column_names)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE defined_rows AS {derived.query}")  # planned and computed once
    kept, defined = f"FROM {table.name}", "FROM defined_rows"
    (rows,) = connection.execute(f"SELECT count(*) {kept}").fetchone() or (0,)
    only = (
        connection.execute(f"SELECT concat_ws(' ', {place}) FROM ({one} EXCEPT ALL {other}) ORDER BY ALL")  # noqa: S608
        for one, other in ((kept, defined), (defined, kept))
    )
    kept_only, defined_only = (tuple(where for (where,) in found.fetchall()) for found in only)
    connection.execute("DROP TABLE defined_rows")
    return DerivedRows(table.name, rows, kept_only, defined_only)


def covered_accounts(connection: duckdb.DuckDBPyConnection, day: date) -> list[str]:
    """The accounts whose closed lots of a date have been read since it was over (Tradier: a nightly batch)."""
    over = datetime.combine(day + timedelta(days=1), time(), clock.NEW_YORK)
    return [account for (account,) in connection.execute(bind(_COVERED, day, over)).fetchall()]


def closed_day(connection: duckdb.DuckDBPyConnection, account_id: str, day: date) -> ClosedDay | None:
    """Trades and lots of a date, as they are known by now; None if no trade of the ledger is."""
    parts = dict(connection.execute(bind(_FIRST_PARTS, account_id)).fetchall())
    rows = connection.execute(bind(_TRADES, account_id, day, account_id, day)).fetchall()
    trades = tuple(trade for row in rows if (trade := _trade(row, day, parts)))
    if not trades:
        return None
    lots = connection.execute(bind(_LOTS, account_id, day)).fetchall()
    return ClosedDay(account_id, day, trades, tuple(Lot(*lot) for lot in lots))


def _trade(row: tuple[Any, ...], day: date, parts: Mapping[str, date]) -> LedgerTrade | None:
    """None if it was not there on the date."""
    trade_id, units, legs, status, reason, profit, opened_at, closed_at = row
    opened, ended = (at and clock.trade_date(at) for at in (opened_at, closed_at))
    if (opened and opened > day) or (status == "CLOSED" and ended and ended < day):
        return None
    closed = status == "CLOSED" and ended == day
    first_part = parts.get(trade_id)
    return LedgerTrade(
        trade_id=trade_id,
        units=units,
        legs={symbol: Decimal(amount) for symbol, amount in json.loads(legs).items()},
        closed=closed,
        in_parts=first_part is not None and not (closed and first_part >= day),
        delivered=reason in ("ASSIGNED", "EXERCISED"),
        realized_pnl=profit,
    )
