"""What a person wants to see of a snapshot at once: what it is worth, what changed, what is held, what was filled."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import duckdb

from tradier_pipeline.warehouse.sql import bind, rows_of


@dataclass(frozen=True, slots=True)
class Glance:
    """A snapshot at a glance. Money in USD.

    Attributes:
        since: when the last good snapshot before it was read; None: there is none.
        change: of the equity since then.
        spreads: rows of `spread_book`, the next to expire first.
        stocks: how many symbols are held outside of spreads, their value and unrealized profit, null where unknown.
        fills: symbol, side, what was filled since and at what average price; from the orders of both snapshots.
    """

    account_id: str
    since: datetime | None
    equity: Decimal
    change: Decimal | None
    cash: Decimal
    buying_power: Decimal
    open_profit: Decimal
    realized: Decimal
    spreads: tuple[dict[str, Any], ...]
    stocks: tuple[int, Decimal | None, Decimal | None]
    fills: tuple[dict[str, Any], ...]


def at_a_glance(connection: duckdb.DuckDBPyConnection, snapshot_id: str, as_of: datetime) -> Glance:
    """Read it of a published snapshot."""
    (now,) = _rows(connection, "SELECT * FROM balance_history WHERE snapshot_id = ? AND as_of = ?", snapshot_id, as_of)
    this = now["account_id"], now["trade_date"], now["as_of"]
    ((day,),) = connection.execute(bind(_DAY_BEFORE, now["account_id"], now["as_of"])).fetchall()
    before = _rows(connection, _BEFORE, now["account_id"], day, now["as_of"])
    (stocks,) = _rows(connection, _STOCKS, *this)
    known = stocks["known"]
    return Glance(
        account_id=now["account_id"],
        since=before[0]["as_of"] if before else None,
        equity=now["equity"],
        change=now["equity"] - before[0]["equity"] if before else None,
        cash=now["cash"],
        buying_power=now["buying_power"],
        open_profit=now["open_pl"],
        realized=now["close_pl"],
        spreads=tuple(_rows(connection, f"FROM spread_book WHERE {OF_SNAPSHOT} ORDER BY expiration, spread_no", *this)),
        stocks=(stocks["held"], stocks["value"] if known else None, stocks["profit"] if known else None),
        fills=tuple(_rows(connection, _FILLS, *this)) if before else (),
    )


_DAY_BEFORE = "SELECT max(trade_date) FROM snapshot_days WHERE account_id = ? AND first_as_of < ?"
_BEFORE = """
    SELECT as_of, equity FROM balance_history WHERE account_id = ? AND trade_date = ? AND as_of < ? AND verdict = 'good'
    ORDER BY as_of DESC LIMIT 1
"""
# by what the parts of a view are joined by: DuckDB then skips the rest of a long history in each of them
OF_SNAPSHOT = "account_id = ? AND trade_date = ? AND as_of = ?"
_STOCKS = f"""
    SELECT count(*) AS held, sum(market_value) AS value, sum(unrealized_pl) AS profit,
           count(market_value) = count(*) AS known
    FROM stock_book WHERE {OF_SNAPSHOT}
"""  # noqa: S608
_FILLS = f"""
    SELECT symbol, coalesce(raw_side, raw_class) AS what, events.avg_fill_price AS price,
           events.exec_quantity - coalesce(previous_exec_quantity, 0) AS quantity
    FROM (FROM order_events WHERE {OF_SNAPSHOT}) AS events
    JOIN orders USING (account_id, trade_date, as_of, order_id)
    WHERE events.exec_quantity > coalesce(previous_exec_quantity, 0)
    ORDER BY order_id
"""  # noqa: S608


def _rows(connection: duckdb.DuckDBPyConnection, query: str, *values: Any) -> list[dict[str, Any]]:
    return rows_of(connection, bind(query, *values))
