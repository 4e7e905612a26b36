"""What the last good snapshot of each account and date shows, kept by every publish: `day_profit` compares the dates.
And which snapshots of a date are doubtful: most views leave them out.

A year has hundreds of thousands of rows of positions and orders, of which the ends of its days are a few thousand, and
the doubtful headers a few.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tradier_pipeline.warehouse.schema import (
    BIGINT,
    BOOLEAN,
    DATE,
    DECIMAL,
    INSTANT,
    INTEGER,
    UNDERLYING_OF_POSITION,
    VARCHAR,
    WORDS,
    Column,
    Derived,
    Table,
)

_KEY: Final = "account_id, trade_date"
_KEY_COLUMNS: Final = (
    Column("account_id", VARCHAR, "Account number", required=True),
    Column("trade_date", DATE, "America/New_York date", required=True),
)


def _at_end(dates: str) -> str:
    """Leaves the rows of the last good snapshots; of a few dates DuckDB then reads the rows of their instants alone."""
    ends = f"(SELECT account_id, last_as_of AS as_of FROM (FROM snapshot_days {dates}) WHERE snapshots > 0)"  # noqa: S608
    return f"SEMI JOIN {ends} USING (account_id, as_of)"


@dataclass(frozen=True, slots=True)
class DayEnd:
    """A table of what the ends of days show. `query` takes the condition on the dates that are asked for."""

    table: Table
    query: Callable[[str], str]

    @property
    def derived(self) -> Derived:
        """Of all dates."""
        return Derived(self.table, self.query(""))


def _positions(dates: str) -> str:
    return f"""
    SELECT {_KEY}, symbol, sum(quantity)::{DECIMAL} AS quantity, max(multiplier) AS multiplier,
           min(asset_class) AS asset_class,
           CASE WHEN bool_and(quantity = 0 OR market_value IS NOT NULL)
                THEN coalesce(sum(market_value) FILTER (quantity <> 0), 0) END::{DECIMAL} AS worth,
           min({UNDERLYING_OF_POSITION}) AS underlying, min(expiration) AS expiration
    FROM (FROM positions {dates}) {_at_end(dates)} GROUP BY {_KEY}, symbol
    """  # noqa: S608


def _orders(dates: str) -> str:
    return f"SELECT {_KEY}, order_id, status, exec_quantity FROM (FROM orders {dates}) {_at_end(dates)}"  # noqa: S608


def _executions(dates: str) -> str:
    return f"""
    WITH listed AS (
        FROM (FROM orders {dates}) {_at_end(dates)}
    )
    SELECT {_KEY}, order_id, leg_no::INTEGER AS leg_no, symbol, transaction_date,
           CASE WHEN side LIKE 'buy%' THEN exec_quantity WHEN side LIKE 'sell%' THEN -exec_quantity END AS bought,
           avg_fill_price AS price,
           coalesce(side IN ('buy_to_open', 'sell_to_open', 'buy', 'sell_short'), false) AS opens, tag, strategy
    FROM (SELECT {_KEY}, order_id, 0 AS leg_no, coalesce(option_symbol, symbol) AS symbol, side,
                 exec_quantity, avg_fill_price, transaction_date, tag, strategy
          FROM listed WHERE class IN ('equity', 'option')
          UNION ALL
          SELECT {_KEY}, order_id, leg_no, coalesce(option_symbol, symbol), side,
                 exec_quantity, avg_fill_price, transaction_date, tag, strategy
          FROM (SELECT * FROM (FROM order_legs {dates}) {_at_end(dates)})
          LEFT JOIN (SELECT account_id, as_of, order_id, tag, strategy FROM listed) USING (account_id, as_of, order_id))
    WHERE exec_quantity > 0
    """  # noqa: S608


def _order_spreads(dates: str) -> str:
    return f"""
    SELECT {_KEY}, order_id, arg_max(strategy, as_of) AS strategy
    FROM (FROM option_spreads {dates}) WHERE order_id IS NOT NULL GROUP BY {_KEY}, order_id
    """  # noqa: S608


def _trades(dates: str) -> str:
    return f"""
    SELECT {_KEY}, trade_id, strategy, json_keys(legs) AS symbols,
           (opened_at AT TIME ZONE 'America/New_York')::DATE AS open_date
    FROM (FROM trade_reconciliation {dates}) {_at_end(dates)} WHERE legs IS NOT NULL AND opened_at IS NOT NULL
    """  # noqa: S608


def _spread_legs(dates: str) -> str:
    return f"""
    WITH legs AS (
        FROM (FROM option_spread_legs {dates}) {_at_end(dates)} WHERE asset_class <> 'equity'
    ), whole AS (
        SELECT account_id, as_of, spread_no, string_agg(symbol, ' ' ORDER BY leg_no) AS legs_of
        FROM legs GROUP BY ALL
    )
    SELECT {_KEY}, symbol, count(*) AS spreads, min(strategy) AS strategy, min(legs_of) AS legs_of
    FROM (SELECT {_KEY}, as_of, spread_no, symbol FROM legs) JOIN whole USING (account_id, as_of, spread_no)
    JOIN (SELECT account_id, as_of, spread_no, strategy
          FROM (FROM option_spreads {dates}) {_at_end(dates)}) USING (account_id, as_of, spread_no)
    GROUP BY {_KEY}, symbol
    """  # noqa: S608


def _explained_cash(dates: str) -> str:
    return f"""
    SELECT {_KEY}, trade_date + coalesce(as_of > last_as_of, false)::INTEGER AS counts_from,
           sum(explained)::{DECIMAL} AS explained
    FROM (FROM conservation {dates})
    LEFT JOIN (SELECT {_KEY}, last_as_of FROM (FROM snapshot_days {dates})) USING ({_KEY})
    WHERE item = 'cash' AND explained IS NOT NULL GROUP BY ALL
    """  # noqa: S608


def _doubts(dates: str) -> str:
    return f"""
    SELECT {_KEY}, as_of, verdict, verdict_evidence
    FROM (FROM tradier_snapshots {dates}) WINDOW of_date AS (PARTITION BY {_KEY} ORDER BY as_of)
    QUALIFY verdict_evidence IS NOT NULL OR lag(verdict_evidence) OVER of_date IS NOT NULL
            OR row_number() OVER of_date = 1
    """  # noqa: S608


def _doubtful(dates: str) -> str:
    return f"SELECT {_KEY}, as_of FROM (FROM tradier_snapshots {dates}) WHERE verdict = 'doubtful'"  # noqa: S608


DAY_ENDS: Final = (
    DayEnd(
        Table(
            "day_explained_cash",
            "One row per account, trade date and date that it counts from: what the snapshots explain of the change of "
            "cash. Kept by every publish.",
            (
                *_KEY_COLUMNS,
                Column("counts_from", DATE, "The date; the day after, what its last good snapshot does not have yet"),
                Column("explained", DECIMAL, "USD, as in conservation"),
            ),
        ),
        _explained_cash,
    ),
    DayEnd(
        Table(
            "day_doubts",
            "One row per snapshot that was in doubt, or is the first of its date, or the next after one that was: "
            "between them doubt begins and ends. Kept by every publish: read doubtful_spans.",
            (
                *_KEY_COLUMNS,
                Column("as_of", INSTANT, "As-of of the snapshot (UTC)", required=True),
                Column("verdict", VARCHAR, "As in tradier_snapshots"),
                Column("verdict_evidence", VARCHAR, "As in tradier_snapshots"),
            ),
        ),
        _doubts,
    ),
    DayEnd(
        Table(
            "doubtful_snapshots",
            "One row per doubtful snapshot. Kept by every publish: those of a day are found without a sealed year.",
            (*_KEY_COLUMNS, Column("as_of", INSTANT, "As-of of the snapshot (UTC)", required=True)),
        ),
        _doubtful,
    ),
    DayEnd(
        Table(
            "day_end_positions",
            "One row per account, trade date and symbol of the last good snapshot of the date. Kept by every publish.",
            (
                *_KEY_COLUMNS,
                Column("symbol", VARCHAR, "As in positions", required=True),
                Column("quantity", DECIMAL, "Shares or contracts; negative when short"),
                Column("multiplier", INTEGER, "As in positions"),
                Column("asset_class", VARCHAR, "As in positions"),
                Column("worth", DECIMAL, "USD; its market value, negative when short; null without a quote"),
                Column("underlying", VARCHAR, "What it is written on, or the symbol"),
                Column("expiration", DATE, "Of an option"),
            ),
        ),
        _positions,
    ),
    DayEnd(
        Table(
            "day_end_orders",
            "One row per account, trade date and order that the last good snapshot of the date shows. Kept by every "
            "publish.",
            (
                *_KEY_COLUMNS,
                Column("order_id", BIGINT, "The broker's order id", required=True),
                Column("status", VARCHAR, "As in orders"),
                Column("exec_quantity", DECIMAL, "Filled by then: shares, contracts or spreads"),
            ),
        ),
        _orders,
    ),
    DayEnd(
        Table(
            "day_end_executions",
            "One row per account, trade date and order, or leg of one, that had filled something, as the last good "
            "snapshot of the date shows it. Kept by every publish.",
            (
                *_KEY_COLUMNS,
                Column("order_id", BIGINT, "The broker's order id", required=True),
                Column("leg_no", INTEGER, "As in order_legs; 0: the order has no legs", required=True),
                Column("symbol", VARCHAR, "What was filled"),
                Column("transaction_date", INSTANT, "As in orders (UTC)"),
                Column("bought", DECIMAL, "Filled so far: shares or contracts, negative when sold; null: neither"),
                Column("price", DECIMAL, "USD per share; the average of these fills"),
                Column("opens", BOOLEAN, "Whether its side opens a position, or may: buy, sell_short"),
                Column("tag", VARCHAR, "Of its order, as in orders"),
                Column("strategy", VARCHAR, "Of its order, as in orders"),
            ),
        ),
        _executions,
    ),
    DayEnd(
        Table(
            "day_end_spread_legs",
            "One row per account, trade date and contract of a spread of the last good snapshot of the date. Kept "
            "by every publish.",
            (
                *_KEY_COLUMNS,
                Column("symbol", VARCHAR, "The contract", required=True),
                Column("spreads", BIGINT, "Spreads that it is a leg of", required=True),
                Column("strategy", VARCHAR, "Of the spread; the first of several"),
                Column("legs_of", VARCHAR, "The contracts of the spread; the first of several"),
            ),
        ),
        _spread_legs,
    ),
    DayEnd(
        Table(
            "day_order_spreads",
            "One row per account, trade date and order that opened an option spread of it. Kept by every publish.",
            (
                *_KEY_COLUMNS,
                Column("order_id", BIGINT, "The broker's order id", required=True),
                Column("strategy", VARCHAR, "As in option_spreads, at the last snapshot that shows it"),
            ),
        ),
        _order_spreads,
    ),
    DayEnd(
        Table(
            "day_end_trades",
            "One row per account, trade date and opened trade of the ledger, as it was reconciled with the last good "
            "snapshot of the date. Kept by every publish.",
            (
                *_KEY_COLUMNS,
                Column("trade_id", VARCHAR, "The engine's own id", required=True),
                Column("strategy", VARCHAR, "The ledger's word"),
                Column("symbols", WORDS, "The contracts that were opened"),
                Column("open_date", DATE, "America/New_York date on which it was opened"),
            ),
        ),
        _trades,
    ),
)
