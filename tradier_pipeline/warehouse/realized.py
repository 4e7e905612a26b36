"""What was realized, by the broker's closed lots: how much, how often, and how long it was held; by whom and how.

A closed lot names no order. It is joined to the trade of the ledger that opened its contract on its day, and to the
order that was filled so; where several were, only what they agree on is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Final, Literal

from tradier_pipeline.warehouse import monthly
from tradier_pipeline.warehouse.monthly import MonthlyBy, columns_of, monthly_query
from tradier_pipeline.warehouse.schema import BIGINT, CLOSED_LOTS, DATE, DECIMAL, DOUBLE, VARCHAR, Column, View
from tradier_pipeline.warehouse.sql import where

Group = Literal["symbol", "underlying", "strategy", "tag", "day", "month", "account"]
PnlBy = Literal[Group, MonthlyBy]

_NEW_YORK_DATE = "({instant} AT TIME ZONE 'America/New_York')::DATE"


def _agreed(name: str) -> str:
    """A value that all of a group have; null if they differ, or one has none."""
    return f"CASE WHEN count({name}) = count(*) AND min({name}) = max({name}) THEN min({name}) END AS {name}"


# What was filled or ended on a date is in every list of that date from then on: its last one, which is kept, has all.
_ATTRIBUTED = f"""
    WITH opening AS (
        SELECT DISTINCT account_id, order_id, symbol, {_NEW_YORK_DATE.format(instant="transaction_date")} AS open_date
        FROM day_end_executions SEMI JOIN closed_lots USING (account_id, symbol) WHERE opens
    ), tags AS (
        SELECT account_id, order_id, arg_max(tag, trade_date) AS tag, arg_max(strategy, trade_date) AS word
        FROM day_end_executions GROUP BY account_id, order_id
    ), spreads AS (
        SELECT account_id, order_id, arg_max(strategy, trade_date) AS spread
        FROM day_order_spreads GROUP BY account_id, order_id
    ), by_order AS (
        SELECT account_id, symbol, open_date, {", ".join(map(_agreed, ("order_id", "tag", "order_strategy")))}
        FROM (SELECT *, coalesce(spread, word) AS order_strategy
              FROM opening LEFT JOIN tags USING (account_id, order_id) LEFT JOIN spreads USING (account_id, order_id))
        GROUP BY account_id, symbol, open_date
    ), trades AS (
        SELECT account_id, trade_id, arg_max(strategy, trade_date) AS trade_strategy,
               unnest(arg_max(symbols, trade_date)) AS symbol, arg_max(open_date, trade_date) AS open_date
        FROM day_end_trades GROUP BY account_id, trade_id
    ), by_trade AS (
        SELECT account_id, symbol, open_date, {", ".join(map(_agreed, ("trade_id", "trade_strategy")))}
        FROM trades GROUP BY account_id, symbol, open_date
    )
    SELECT closed_lots.*, trade_id, order_id, coalesce(trade_strategy, order_strategy) AS strategy, tag
    FROM closed_lots LEFT JOIN by_trade USING (account_id, symbol, open_date)
    LEFT JOIN by_order USING (account_id, symbol, open_date)
"""  # noqa: S608
_OF_ORDERS = (
    Column("trade_id", VARCHAR, "The trade of the ledger that opened it; null: not known, or several"),
    Column("order_id", BIGINT, "The broker's order that opened it; null: not known, or several"),
    Column(
        "strategy",
        VARCHAR,
        "The ledger's word for the trade, else as in option_spreads, else the broker's for the order; null: not known, "
        "or several",
    ),
    Column("tag", VARCHAR, "The client's own id of the order; null: none, not known, or several"),
)
ATTRIBUTED_LOTS = View(
    "attributed_lots",
    "One row per closed lot as it stands now, with the trade and the order that opened it, where they are known: those "
    "of its symbol on its open_date.",
    (*CLOSED_LOTS.columns, *_OF_ORDERS),
    _ATTRIBUTED,
)

# the column of a group and what it is of a lot; none: each account is one
_GROUPS: Final[Mapping[Group, tuple[Column, str] | None]] = {
    "symbol": (Column("symbol", VARCHAR, "Equity ticker or compact OCC option symbol"), "symbol"),
    "underlying": (
        Column("underlying", VARCHAR, "What the option is written on, or the equity; null for an unknown root"),
        "underlying",
    ),
    "strategy": (_OF_ORDERS[2], "strategy"),
    "tag": (_OF_ORDERS[3], "tag"),
    "day": (Column("close_date", DATE, "When it was closed"), "close_date"),
    "month": (
        Column("month", DATE, "First day of the month in which it was closed"),
        "date_trunc('month', close_date)::DATE",
    ),
    "account": None,
}

_FIGURES = (
    Column("lots", BIGINT, "Closed lots; one close may be several"),
    Column("wins", BIGINT, "Those with a gain"),
    Column("losses", BIGINT, "Those with a loss"),
    Column("cost", DECIMAL, "USD"),
    Column("proceeds", DECIMAL, "USD"),
    Column("gain_loss", DECIMAL, "USD; realized profit or loss"),
    Column("gains", DECIMAL, "USD; the gains alone: gain_loss less these is what the losses cost"),
    Column("win_rate", DOUBLE, "wins / lots, 0.5 = 50 %"),
    Column("average_win", DECIMAL, "USD, rounded; null without one"),
    Column("average_loss", DECIMAL, "USD, negative, rounded; null without one"),
    Column("profit_factor", DOUBLE, "gains / what the losses cost; null without a loss"),
    Column("days_held", DOUBLE, "Calendar days from opening to closing, the average of the lots"),
)


def pnl_query(by: PnlBy, account_id: str | None = None, since: date | None = None, until: date | None = None) -> str:
    """What was realized between two dates of closing, by account and group, in the order of the group.

    By `premium`, `fees` and `income`: what short options, costs, and dividends and interest came to, by month.
    """
    if by == "premium" or by == "fees" or by == "income":
        return monthly_query(by, account_id, since, until)
    group = _GROUPS[by]
    ordered = f"{group[0].name} NULLS LAST, account_id" if group else "account_id"
    return f"FROM ({_grouped(by, where(account_id, since, until, on='close_date'))}) ORDER BY {ordered}"


def _grouped(by: Group, asked: str = "") -> str:
    group = _GROUPS[by]
    key = f"{group[1]} AS {group[0].name}, " if group else ""
    name = f"{group[0].name}, " if group else ""
    source = "attributed_lots" if by in ("strategy", "tag") else "closed_lots"
    return f"""
    WITH grouped AS (
        SELECT account_id, {key}count(*) AS lots, count(*) FILTER (gain_loss > 0) AS wins,
               count(*) FILTER (gain_loss < 0) AS losses, sum(cost) AS cost, sum(proceeds) AS proceeds,
               sum(gain_loss) AS gain_loss, coalesce(sum(gain_loss) FILTER (gain_loss > 0), 0) AS gains,
               coalesce(-sum(gain_loss) FILTER (gain_loss < 0), 0) AS lost, avg(close_date - open_date) AS days_held
        FROM {source} {asked} GROUP BY ALL
    )
    SELECT account_id, environment, {name}lots, wins, losses, cost::{DECIMAL} AS cost, proceeds::{DECIMAL} AS proceeds,
           gain_loss::{DECIMAL} AS gain_loss, gains::{DECIMAL} AS gains, wins / lots AS win_rate,
           CASE WHEN wins > 0 THEN gains / wins END::{DECIMAL} AS average_win,
           CASE WHEN losses > 0 THEN -lost / losses END::{DECIMAL} AS average_loss,
           CASE WHEN lost > 0 THEN gains::DOUBLE / lost::DOUBLE END AS profit_factor, days_held
    FROM grouped LEFT JOIN account_environments USING (account_id)
    """  # noqa: S608


def in_text(query: str, by: PnlBy) -> str:
    """As people read it: amounts to the cent, ratios to two places, profit before what it is made of."""
    columns = columns_of(by) if by == "premium" or by == "fees" or by == "income" else _FIGURES
    cents = [f"{column.name}::DECIMAL(24,2) AS {column.name}" for column in columns if column.type == DECIMAL]
    rounded = [f"{text} AS {name}" for name, text in _ROUNDED.items() if name in {one.name for one in columns}]
    rows = f"SELECT * REPLACE ({', '.join([*cents, *rounded])}) FROM ({query})"  # noqa: S608
    names = [column.name for column in columns]
    renamed = ", ".join(f'{name} AS "{title}"' for name, title in _PERCENT.items() if name in names)
    titled = f"SELECT * RENAME ({renamed}) FROM ({rows})" if renamed else rows  # noqa: S608
    if by == "premium" or by == "fees" or by == "income":
        return titled
    group = _GROUPS[by]
    keys = [column.name for column in (*_ACCOUNT, *(group[:1] if group else ()))]
    leading = ", ".join([*keys, *(f'"{_PERCENT.get(name, name)}"' for name in _FIRST)])
    return f"SELECT {leading}, * EXCLUDE ({leading}) FROM ({titled})"  # noqa: S608


_FIRST: Final = ("gain_loss", "win_rate", "lots", "average_win", "average_loss", "profit_factor")
# of lots, not of trades: a spread that won has a leg that lost
_PERCENT: Final = {"win_rate": "lots won, %", "kept_rate": "kept_rate, %"}
_ROUNDED: Final = {
    "profit_factor": "round(profit_factor, 2)",
    "days_held": "round(days_held, 1)",
    **{name: f"round(100 * {name}, 1)" for name in _PERCENT},
}

_ACCOUNT = (
    Column("account_id", VARCHAR, "Account number"),
    Column("environment", VARCHAR, "simulator, sandbox or live"),
)


def _view(by: Group) -> View:
    group = _GROUPS[by]
    columns = (*_ACCOUNT, *((group[0],) if group else ()), *_FIGURES)
    what = group[0].name if group else "account"
    return View(
        f"pnl_by_{by}", f"What was realized, by account and {what}, from the closed lots.", columns, _grouped(by)
    )


VIEWS = (ATTRIBUTED_LOTS, *(_view(by) for by in _GROUPS), *monthly.VIEWS)
