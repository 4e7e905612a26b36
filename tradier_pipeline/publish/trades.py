"""The trades of the ledger beside what they hold and are worth now."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import duckdb

from tradier_pipeline import clock
from tradier_pipeline.ledger.records import TERMINAL, Trade
from tradier_pipeline.ledger.store import Ledger
from tradier_pipeline.reconcile.fills import ratios
from tradier_pipeline.reconcile.unrealized import is_credit, unrealized
from tradier_pipeline.warehouse.now import MARKS_QUERY, trades_query
from tradier_pipeline.warehouse.sql import rows_of


def trades_now(
    ledger: Ledger, connection: duckdb.DuckDBPyConnection, account_id: str | None, *, everything: bool
) -> list[dict[str, Any]]:
    """The trades of the ledger, those that live first, then the last to close. Money in USD.

    `unrealized_pnl` is that of the open part at the marks of the newest snapshot; None of a trade that holds nothing,
    or of which a mark, the entry or the position is not known.

    Args:
        account_id: None means every account.
        everything: those that have ended, too.

    Raises:
        LedgerError: the ledger cannot be read.
    """
    if not ledger.exists:
        return []
    marks: dict[str, dict[str, Decimal]] = {}
    for account, symbol, mark in connection.execute(MARKS_QUERY).fetchall():
        marks.setdefault(account, {})[symbol] = mark
    shown = {(row["account_id"], row["trade_id"]): row for row in rows_of(connection, trades_query(connection))}
    asked = [
        trade
        for trade in ledger.trades()
        if account_id in (None, trade.account_id) and (everything or trade.status not in TERMINAL)
    ]
    rows = [_row(trade, shown.get((trade.account_id, trade.trade_id)), marks) for trade in asked]
    return sorted(rows, key=_order)


def _row(trade: Trade, shown: Mapping[str, Any] | None, marks: Mapping[str, Mapping[str, Decimal]]) -> dict[str, Any]:
    held = {symbol: Decimal(count) for symbol, count in json.loads(shown["allocated"]).items()} if shown else {}
    units = shown["entered"] - shown["exited"] if shown else Decimal(0)
    profit = unrealized(
        held,
        marks.get(trade.account_id, {}),
        entry_price=shown["entry_price"] if shown else None,
        units=units,
        credit=is_credit(trade.strategy, ratios(trade) or held),  # what is left of it may be one side alone
        multiplier=trade.multiplier,
    )
    days = (trade.expiration - clock.trade_date(clock.now())).days if trade.expiration and profit is not None else None
    columns = ("trade_id", "account_id", "symbol", "strategy", "status", "quantity", "expiration", "entry_price")
    ended = ("exit_price", "exit_reason", "realized_pnl", "opened_at", "closed_at")
    return (
        {name: getattr(trade, name) for name in columns}
        | {"unrealized_pnl": profit, "days_left": days}
        | {name: getattr(trade, name) for name in ended}
        | {"contracts": ", ".join(_contracts(trade))}
    )


def _contracts(trade: Trade) -> Iterator[str]:
    for leg in trade.legs:
        yield f"{leg.side} {leg.quantity:f} {leg.option_symbol}"


def _order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    closed = row["closed_at"]
    if row["status"] not in TERMINAL:
        return (0, str(row["expiration"] or ""), row["trade_id"])
    return (1, -closed.timestamp() if closed else 0.0, row["trade_id"])
