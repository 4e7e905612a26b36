"""What is held, ordered and traded now: the queries behind `portfolio`, `spreads` and `orders`."""

from __future__ import annotations

from datetime import date

from tradier_pipeline.warehouse.exposure import good_snapshots
from tradier_pipeline.warehouse.schema import GOOD
from tradier_pipeline.warehouse.spread_book import book_query
from tradier_pipeline.warehouse.sql import where


def positions_query(account_id: str | None) -> str:
    """The positions of the newest snapshots, as `portfolio_positions` has them.

    And of each its `weight`: market value / equity of the account, 0.25 = 25 %; null where either is not known; and the
    `environment` of the account: simulator, sandbox or live.
    """
    return f"""
        SELECT held.*, market_value::DOUBLE / nullif(equity, 0)::DOUBLE AS weight, environment
        FROM (FROM portfolio_positions {where(account_id)}) AS held LEFT JOIN account_environments USING (account_id)
        LEFT JOIN (SELECT snapshot_id, equity FROM account_balances) AS balances USING (snapshot_id)
        ORDER BY held.account_id, underlying, expiration, strike, symbol
    """  # noqa: S608


def spreads_query(account_id: str | None) -> str:
    """The spreads of the newest good snapshots, as `spread_book` has them; the next to expire first."""
    newest = good_snapshots(where(account_id), "newest")
    return f"FROM ({book_query(newest)}) ORDER BY account_id, expiration, spread_no"


def orders_query(account_id: str | None, since: date | None, until: date | None) -> str:
    """Each order as the last good snapshot that showed it has it, the newest first; without dates those of the newest
    trade date.
    """
    asked = where(account_id, since, until)
    newest = "" if since or until else "WHERE trade_date = (SELECT max(trade_date) FROM shown)"
    return f"""
        WITH shown AS (
            SELECT * FROM orders {GOOD} {asked}
        )
        SELECT * FROM shown {newest}
        QUALIFY row_number() OVER (PARTITION BY account_id, order_id ORDER BY as_of DESC) = 1
        ORDER BY create_date DESC, order_id DESC
    """  # noqa: S608


MARKS_QUERY = """
    SELECT account_id, symbol, mark FROM portfolio_positions WHERE mark IS NOT NULL
"""

TRADES_NOW_QUERY = """
    SELECT account_id, trade_id, entered, exited, allocated, entry_price
    FROM trade_reconciliation SEMI JOIN newest_snapshots USING (snapshot_id)
"""
