"""What was realized, by the broker's closed lots: how much, how often, and how long it was held."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Final, Literal

from tradier_pipeline.warehouse.schema import BIGINT, DATE, DECIMAL, DOUBLE, VARCHAR, Column, View
from tradier_pipeline.warehouse.sql import where

PnlBy = Literal["symbol", "underlying", "day", "month", "account"]

# the column of a group and what it is of a lot; none: each account is one
_GROUPS: Final[Mapping[PnlBy, tuple[Column, str] | None]] = {
    "symbol": (Column("symbol", VARCHAR, "Equity ticker or compact OCC option symbol"), "symbol"),
    "underlying": (
        Column("underlying", VARCHAR, "What the option is written on, or the equity; null for an unknown root"),
        "underlying",
    ),
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
    """What was realized between two dates of closing, by account and group, in the order of the group."""
    group = _GROUPS[by]
    ordered = f"{group[0].name} NULLS LAST, account_id" if group else "account_id"
    return f"FROM ({_grouped(by, where(account_id, since, until, on='close_date'))}) ORDER BY {ordered}"


def _grouped(by: PnlBy, asked: str = "") -> str:
    group = _GROUPS[by]
    key = f"{group[1]} AS {group[0].name}, " if group else ""
    name = f"{group[0].name}, " if group else ""
    return f"""
    WITH grouped AS (
        SELECT account_id, {key}count(*) AS lots, count(*) FILTER (gain_loss > 0) AS wins,
               count(*) FILTER (gain_loss < 0) AS losses, sum(cost) AS cost, sum(proceeds) AS proceeds,
               sum(gain_loss) AS gain_loss, coalesce(sum(gain_loss) FILTER (gain_loss > 0), 0) AS gains,
               coalesce(-sum(gain_loss) FILTER (gain_loss < 0), 0) AS lost, avg(close_date - open_date) AS days_held
        FROM closed_lots {asked} GROUP BY ALL
    )
    SELECT account_id, environment, {name}lots, wins, losses, cost::{DECIMAL} AS cost, proceeds::{DECIMAL} AS proceeds,
           gain_loss::{DECIMAL} AS gain_loss, gains::{DECIMAL} AS gains, wins / lots AS win_rate,
           CASE WHEN wins > 0 THEN gains / wins END::{DECIMAL} AS average_win,
           CASE WHEN losses > 0 THEN -lost / losses END::{DECIMAL} AS average_loss,
           CASE WHEN lost > 0 THEN gains::DOUBLE / lost::DOUBLE END AS profit_factor, days_held
    FROM grouped LEFT JOIN account_environments USING (account_id)
    """  # noqa: S608


def in_text(query: str) -> str:
    """As people read it: amounts to the cent, ratios to two places."""
    cents = ", ".join(f"{column.name}::DECIMAL(24,2) AS {column.name}" for column in _FIGURES if column.type == DECIMAL)
    places = {"profit_factor": 2, "days_held": 1}
    ratios = ", ".join(f"round({name}, {digits}) AS {name}" for name, digits in places.items())
    percent = "round(100 * win_rate, 1) AS win_rate"
    rows = f"SELECT * REPLACE ({cents}, {ratios}, {percent}) FROM ({query})"  # noqa: S608
    return f'SELECT * RENAME (win_rate AS "win_rate, %") FROM ({rows})'  # noqa: S608


_ACCOUNT = (
    Column("account_id", VARCHAR, "Account number"),
    Column("environment", VARCHAR, "simulator, sandbox or live"),
)


def _view(by: PnlBy) -> View:
    group = _GROUPS[by]
    columns = (*_ACCOUNT, *((group[0],) if group else ()), *_FIGURES)
    what = group[0].name if group else "account"
    return View(f"pnl_by_{by}", f"What was realized, by account and {what}, from closed_lots.", columns, _grouped(by))


VIEWS = tuple(_view(by) for by in _GROUPS)
