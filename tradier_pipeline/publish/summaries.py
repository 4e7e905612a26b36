"""Making the summaries of trade dates from what is stored, and keeping every revision."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import duckdb

from tradier_pipeline import clock
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.domain.daily_summary import Day, DayOrder, DayTrade, LedgerDay, Row, summarize
from tradier_pipeline.reconcile.summary_checks import SummaryEvidence
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.reads import connect_readonly, daily_summaries, require_current
from tradier_pipeline.warehouse.sealed import reaching
from tradier_pipeline.warehouse.sql import bind, rows_of, transaction, where
from tradier_pipeline.warehouse.staging import Warehouse, insert

T = TypeVar("T")

_GOOD = "verdict = 'good'"
_LATELY = timedelta(days=7)

_FIGURES = f"""
    WITH snapshots AS (
        SELECT snapshot_id, as_of, positions_count, equity, cash, buying_power, close_pl, {_GOOD} AS good
        FROM tradier_snapshots JOIN account_balances USING (snapshot_id, account_id, as_of, trade_date)
        WHERE account_id = ? AND trade_date = ?
    ), last AS (
        FROM snapshots ORDER BY good DESC, as_of DESC LIMIT 1
    ), extremes AS (
        SELECT arg_min(snapshots.equity, snapshots.as_of) AS equity_open,
               max(snapshots.equity) AS equity_high, min(snapshots.equity) AS equity_low
        FROM snapshots JOIN last USING (good)
    ), absent AS (
        SELECT count(*) FILTER (kind = 'missed') AS missed, count(*) FILTER (kind = 'failed') AS failed,
               count(*) FILTER (kind = 'refused') AS refused
        FROM missed_snapshots WHERE account_id = ? AND trade_date = ?
    )
    SELECT last.snapshot_id, last.as_of, (SELECT session_close FROM sessions WHERE trade_date = ?) AS session_close,
           (SELECT count(*) FROM snapshots) AS snapshots, absent.*,
           equity, extremes.*, cash, buying_power, close_pl, positions_count AS positions,
           (SELECT count(*) FROM option_spreads SEMI JOIN last USING (snapshot_id, as_of)) AS open_spreads
    FROM last, extremes, absent
"""  # noqa: S608
_EQUITY = f"""
    SELECT equity FROM tradier_snapshots JOIN account_balances USING (snapshot_id, account_id, as_of, trade_date)
    WHERE account_id = ? AND trade_date BETWEEN ? AND ? AND {_GOOD} ORDER BY as_of DESC LIMIT 1
"""  # noqa: S608
_ORDERS = """
    SELECT status, create_date, transaction_date FROM orders WHERE account_id = ? AND trade_date = ? AND as_of <= ?
    QUALIFY row_number() OVER (PARTITION BY order_id ORDER BY as_of DESC) = 1
"""
# of a snapshot that the ledger was not set beside there is no row
_LEDGER_SEEN = f"""
    SELECT max(as_of) FROM tradier_snapshots SEMI JOIN (
        SELECT snapshot_id FROM trade_reconciliation {{dates}}
        UNION ALL SELECT snapshot_id FROM order_reconciliation {{dates}}
    ) USING (snapshot_id) {{dates}} AND {_GOOD}
"""  # noqa: S608
_BEFORE = "SELECT trade_id, status FROM trade_reconciliation WHERE account_id = ? AND as_of = ?"
_SEEN = f"""
    SELECT trade_id, symbol, strategy, status, entered, entry_price, exit_price, exit_reason, realized_pnl,
           opened_at, closed_at, as_of
    FROM trade_reconciliation SEMI JOIN (
        SELECT snapshot_id FROM tradier_snapshots WHERE account_id = ? AND trade_date = ? AND {_GOOD}
    ) USING (snapshot_id) WHERE account_id = ? AND trade_date = ?
    QUALIFY row_number() OVER (PARTITION BY trade_id ORDER BY as_of DESC) = 1 ORDER BY trade_id
"""  # noqa: S608
_NEWEST = "SELECT revision, content_key FROM newest_daily_summaries WHERE account_id = ? AND trade_date = ?"
_SNAPSHOT = """
    SELECT trade_date, as_of, equity, cash, buying_power, close_pl
    FROM tradier_snapshots JOIN account_balances USING (snapshot_id, account_id, as_of, trade_date)
    WHERE snapshot_id = ?
"""
_SUMMARY_BEFORE = """
    FROM newest_daily_summaries WHERE account_id = ? AND trade_date < ? AND trades_open IS NOT NULL
    ORDER BY trade_date DESC LIMIT 1
"""
_DAYS = """
    SELECT DISTINCT trade_date FROM tradier_snapshots
    WHERE account_id = ? AND trade_date BETWEEN coalesce(
        (SELECT max(trade_date) FROM daily_summaries WHERE account_id = ? AND trade_date < ?), ?
    ) AND ? ORDER BY trade_date
"""


def make_summaries(warehouse: Warehouse, day: date, account_id: str | None = None) -> list[Row]:
    """Summarize a trade date for every account that has a snapshot of it, or for one, in one transaction.

    The figures that are stored already add nothing, others are the next revision. The dates since the newest summary
    before are made with it, and that one again: its evening was not over when it was made.

    Returns:
        The newest revisions of the date.

    Raises:
        WarehouseError: nothing has been published yet, or the file is of another version.
        PipelineError: no snapshot of the date is published.
    """
    with connect_readonly(warehouse.path) as connection:
        require_current(connection)
        query = bind("SELECT DISTINCT account_id FROM tradier_snapshots WHERE trade_date = ? ORDER BY account_id", day)
        accounts = [found for (found,) in connection.execute(query).fetchall() if account_id in (None, found)]
    if not accounts:
        whose = f" of {account_id}" if account_id else ""
        remedy = "`tradier-pipeline status` tells what failed or was missed; what was not read then is gone."
        raise PipelineError(f"no snapshot{whose} of {day} is published", remedy)
    with warehouse.staged() as staged:
        with reaching(staged.connection, date.min), transaction(staged.connection):
            for account in accounts:
                upsert_summaries(staged.connection, account, day)
        return [row for row in daily_summaries(staged.connection, day) if row["account_id"] in accounts]


def upsert_summaries(connection: duckdb.DuckDBPyConnection, account_id: str, day: date) -> None:
    """Store what is new of a trade date of an account, and of the dates since the newest summary before it."""
    for (found,) in connection.execute(bind(_DAYS, account_id, account_id, day, day, day)).fetchall():
        row = summarize(read_day(connection, account_id, found))
        newest = connection.execute(bind(_NEWEST, account_id, found)).fetchone()
        revision, content_key = newest or (0, None)
        if content_key != row["content_key"]:
            made = {"revision": revision + 1, "generated_at": clock.now()}
            insert(connection, schema.DAILY_SUMMARIES, [row | made])


def read_day(connection: duckdb.DuckDBPyConnection, account_id: str, day: date) -> Day:
    """What is stored of a trade date that has a snapshot."""
    (figures,) = rows_of(connection, bind(_FIGURES, account_id, day, account_id, day, day))
    before = _before(day, partial(_equity, connection, account_id))
    orders = connection.execute(bind(_ORDERS, account_id, day, figures["as_of"])).fetchall()
    return Day(
        account_id=account_id,
        trade_date=day,
        figures=figures,
        equity_before=before[0] if before else None,
        orders=tuple(DayOrder(*row) for row in orders),
        ledger=_read_ledger(connection, account_id, day),
    )


def _before(day: date, found: Callable[[date, date], T | None]) -> T | None:
    """What is found of the dates before a day: mostly in the last week; only else are the files of years opened."""
    yesterday = day - timedelta(days=1)
    return found(day - _LATELY, yesterday) or found(date.min, yesterday)


def _equity(connection: duckdb.DuckDBPyConnection, account_id: str, first: date, last: date) -> tuple[Any, ...] | None:
    """The equity of the last good snapshot of these dates."""
    found: tuple[Any, ...] | None = connection.execute(bind(_EQUITY, account_id, first, last)).fetchone()
    return found


def summary_evidence(connection: duckdb.DuckDBPyConnection, summary: Row) -> SummaryEvidence:
    """A stored summary with what it rests on."""
    before = rows_of(connection, bind(_SUMMARY_BEFORE, summary["account_id"], summary["trade_date"]))
    snapshot = rows_of(connection, bind(_SNAPSHOT, summary["snapshot_id"]))
    return SummaryEvidence(summary, before[0] if before else None, snapshot[0] if snapshot else None)


def _read_ledger(connection: duckdb.DuckDBPyConnection, account_id: str, day: date) -> LedgerDay | None:
    as_of = _ledger_seen(connection, account_id, day, day)
    if as_of is None:
        return None
    since = _before(day, partial(_ledger_seen, connection, account_id))
    before = connection.execute(bind(_BEFORE, account_id, since)).fetchall() if since else []
    seen = connection.execute(bind(_SEEN, account_id, day, account_id, day)).fetchall()
    return LedgerDay(
        as_of=as_of,
        since=since,
        before=dict(before),
        seen=tuple(DayTrade(*row[:-1]) for row in seen),
        held=frozenset(row[0] for row in seen if row[-1] == as_of),
    )


def _ledger_seen(connection: duckdb.DuckDBPyConnection, account_id: str, first: date, last: date) -> datetime | None:
    """The as-of of the last good snapshot of these dates that the ledger was set beside."""
    query = _LEDGER_SEEN.format(dates=where(account_id, first, last))
    found: tuple[Any, ...] | None = connection.execute(query).fetchone()
    return found[0] if found else None
