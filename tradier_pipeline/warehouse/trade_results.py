"""What was realized, trade by trade: `realized_trades`, and how often and how much they won: `trade_statistics`.

A closed lot is a leg: of a spread that was sold and bought back one leg nearly always wins and one loses. Here the lots
that one order opened are one trade, or one trade of the ledger, with what all of them made.
"""

from __future__ import annotations

from typing import Final

from tradier_pipeline.warehouse.schema import BIGINT, DATE, DECIMAL, DOUBLE, VARCHAR, Column, View

_ACCOUNT: Final = (
    Column("account_id", VARCHAR, "Account number"),
    Column("environment", VARCHAR, "simulator, sandbox or live"),
)
# What a trade is grouped by, and the text of it.
_GROUPS: Final = {
    "account": "'all'",
    "month": "strftime(close_date, '%Y-%m')",
    "strategy": "strategy",
    "underlying": "underlying",
    "tag": "tag",
}


def _agreed(name: str) -> str:
    return f"CASE WHEN count({name}) = count(*) AND min({name}) = max({name}) THEN min({name}) END AS {name}"


REALIZED_TRADES = View(
    "realized_trades",
    "One row per trade of which something was closed: the lots that one trade of the ledger, or else one order, "
    "opened. A lot of which that is not known is a trade of its own.",
    (
        *_ACCOUNT,
        Column("trade", VARCHAR, "What its lots have in common: the trade, the order, or the lot's symbol and dates"),
        Column("open_date", DATE, "When the first of its lots was opened"),
        Column("close_date", DATE, "When the last of its lots was closed"),
        Column("underlying", VARCHAR, "As in attributed_lots; null: several"),
        Column("strategy", VARCHAR, "As in attributed_lots; null: not known"),
        Column("tag", VARCHAR, "As in attributed_lots; null: none, or not known"),
        Column("lots", BIGINT, "Its closed lots"),
        Column("gain_loss", DECIMAL, "USD; realized profit or loss"),
    ),
    f"""
    WITH named AS (
        SELECT *, coalesce('trade ' || trade_id, 'order ' || order_id,
                           concat_ws(' ', symbol, open_date, close_date)) AS trade
        FROM attributed_lots
    ), summed AS (
        SELECT account_id, trade, min(open_date) AS open_date, max(close_date) AS close_date,
               {", ".join(map(_agreed, ("underlying", "strategy", "tag")))},
               count(*) AS lots, sum(gain_loss)::{DECIMAL} AS gain_loss
        FROM named GROUP BY account_id, trade
    )
    SELECT account_id, environment, trade, open_date, close_date, underlying, strategy, tag, lots, gain_loss
    FROM summed LEFT JOIN account_environments USING (account_id)
    """,  # noqa: S608
)

TRADE_STATISTICS = View(
    "trade_statistics",
    "One row per account, grouping and group of realized_trades: how many won, and how much.",
    (
        *_ACCOUNT,
        Column("grouping", VARCHAR, f"What they are grouped by: {', '.join(_GROUPS)}"),
        Column("name", VARCHAR, "The group: all, 2026-11, a strategy, an underlying, a tag; null: not known"),
        Column("trades", BIGINT, "Trades, a month's by their last close"),
        Column("wins", BIGINT, "Those with a gain"),
        Column("losses", BIGINT, "Those with a loss"),
        Column("win_rate", DOUBLE, "wins / trades, 0.5 = 50 %"),
        Column("average_win", DECIMAL, "USD, rounded; null without one"),
        Column("average_loss", DECIMAL, "USD, negative, rounded; null without one"),
        Column("profit_factor", DOUBLE, "gains / what the losses cost; null without a loss"),
        Column("gain_loss", DECIMAL, "USD; realized profit or loss"),
    ),
    f"""
    WITH grouped AS (
        SELECT account_id, environment, unnest({list(_GROUPS)}) AS grouping,
               unnest([{", ".join(_GROUPS.values())}]) AS name, gain_loss
        FROM realized_trades
    ), summed AS (
        SELECT account_id, environment, grouping, name, count(*) AS trades, count(*) FILTER (gain_loss > 0) AS wins,
               count(*) FILTER (gain_loss < 0) AS losses, sum(gain_loss) AS gain_loss,
               coalesce(sum(gain_loss) FILTER (gain_loss > 0), 0) AS gains,
               coalesce(-sum(gain_loss) FILTER (gain_loss < 0), 0) AS lost
        FROM grouped GROUP BY account_id, environment, grouping, name
    )
    SELECT account_id, environment, grouping, name, trades, wins, losses, wins / trades AS win_rate,
           CASE WHEN wins > 0 THEN gains / wins END::{DECIMAL} AS average_win,
           CASE WHEN losses > 0 THEN -lost / losses END::{DECIMAL} AS average_loss,
           CASE WHEN lost > 0 THEN gains::DOUBLE / lost::DOUBLE END AS profit_factor, gain_loss::{DECIMAL} AS gain_loss
    FROM summed
    """,  # noqa: S608
)

VIEWS = (REALIZED_TRADES, TRADE_STATISTICS)
