"""What is held, ordered and traded now: the queries behind `portfolio`, `spreads` and `orders`."""

from __future__ import annotations

from datetime import date

import duckdb

from tradier_pipeline.warehouse.exposure import good_snapshots
from tradier_pipeline.warehouse.schema import GOOD_OF_DAY
from tradier_pipeline.warehouse.sealed import of_now
from tradier_pipeline.warehouse.spread_book import book_query
from tradier_pipeline.warehouse.sql import where


def positions_query(connection: duckdb.DuckDBPyConnection, account_id: str | None) -> str:
    """The positions of the newest snapshots, as `portfolio_positions` has them.

    And of each its `weight`: market value / equity of the account, 0.25 = 25 %; null where either is not known; and the
    `environment` of the account: simulator, sandbox or live.
    """
    query = f"""
        SELECT held.*, market_value::DOUBLE / nullif(equity, 0)::DOUBLE AS weight, environment
        FROM (FROM portfolio_positions {where(account_id)}) AS held LEFT JOIN account_environments USING (account_id)
        LEFT JOIN (SELECT snapshot_id, equity FROM account_balances) AS balances USING (snapshot_id)
        ORDER BY held.account_id, underlying, expiration, strike, symbol
    """  # noqa: S608
    return of_now(connection, query)


def spreads_query(connection: duckdb.DuckDBPyConnection, account_id: str | None) -> str:
    """The spreads of the newest good snapshots, as `spread_book` has them; the next to expire first."""
    newest = good_snapshots(where(account_id), "newest")
    return of_now(connection, f"FROM ({book_query(newest)}) ORDER BY account_id, expiration, spread_no")


def orders_query(
    connection: duckdb.DuckDBPyConnection, account_id: str | None, since: date | None, until: date | None
) -> str:
    """Each order as the last good snapshot that showed it has it, the newest first; without dates those of the newest
    trade date that has any.
    """
    if since is None and until is None:
        since = until = _newest_with_orders(connection, account_id)
    return f"""
        SELECT * EXCLUDE is_doubtful FROM (FROM orders {where(account_id, since, until)}) {GOOD_OF_DAY}
        QUALIFY row_number() OVER (PARTITION BY account_id, order_id ORDER BY as_of DESC) = 1
        ORDER BY create_date DESC, order_id DESC
    """  # noqa: S608


def _newest_with_orders(connection: duckdb.DuckDBPyConnection, account_id: str | None) -> date | None:
    """The newest trade date of which a good snapshot shows an order: mostly the last one, so back in longer and longer
    spans.
    """
    query = f"SELECT DISTINCT trade_date FROM snapshot_days {where(account_id)} ORDER BY trade_date DESC"  # noqa: S608
    days = [day for (day,) in connection.execute(query).fetchall()]
    done, number = 0, 1
    while span := days[done : done + number]:
        asked = where(account_id, span[-1], span[0])
        query = f"SELECT max(trade_date) FROM (FROM orders {asked}) {GOOD_OF_DAY}"  # noqa: S608
        if (found := connection.execute(query).fetchone()) and found[0]:
            return found[0]  # type: ignore[no-any-return]
        done, number = done + number, number * 2
    return None


MARKS_QUERY = """
    SELECT account_id, symbol, mark FROM portfolio_positions WHERE mark IS NOT NULL
"""


def trades_query(connection: duckdb.DuckDBPyConnection) -> str:
    """The trades of the ledger as the newest snapshots show them."""
    query = """
        SELECT account_id, trade_id, entered, exited, allocated, entry_price
        FROM trade_reconciliation SEMI JOIN newest_snapshots USING (snapshot_id)
    """
    return of_now(connection, query)
