"""The figures of option spreads that a version before 17 has stored, which kept none: found from rows that it kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal, localcontext
from typing import Any

import duckdb

from tradier_pipeline.core.decimals import UNROUNDED
from tradier_pipeline.domain.spread_figures import Quoted, spread_figures
from tradier_pipeline.warehouse.schema import BIGINT, MOMENT, SPREAD_FIGURES, Column, Table
from tradier_pipeline.warehouse.sql import literal, rows_of

Row = dict[str, Any]

FOUND = Table(
    "found_figures",
    "One row per spread of which the figures were found.",
    (Column("of_row", BIGINT, "The rowid of the spread", required=True), *SPREAD_FIGURES),
)
CREATE = f"CREATE TEMP TABLE {FOUND.name} ({', '.join(f'{column.name} {column.type}' for column in FOUND.columns)})"


@dataclass(frozen=True, slots=True)
class _Leg:
    symbol: str
    asset_class: str
    option_type: str | None
    strike: Decimal | None
    multiplier: int | None
    quantity: Decimal


def days_of(connection: duckdb.DuckDBPyConnection, spreads: str, which: str) -> list[date]:
    """The trade dates of the spreads in a table, those of a condition."""
    found = connection.execute(f"SELECT DISTINCT trade_date FROM {spreads} WHERE {which} ORDER BY ALL")  # noqa: S608
    return [day for (day,) in found.fetchall()]


def found_figures(connection: duckdb.DuckDBPyConnection, spreads: str, which: str, day: date) -> list[Row]:
    """Rows of `FOUND` of the spreads of a trade date.

    Args:
        spreads: the table that has them.
        which: the condition of those that are asked for.
    """
    with localcontext(UNROUNDED):
        return [_found(row) for row in rows_of(connection, _query(spreads, which, day))]


def _query(spreads: str, which: str, day: date) -> str:
    of_day = f"trade_date = {literal(day)}"
    return f"""
    WITH of_quotes AS (
        SELECT {MOMENT}, symbol, bid, ask, last, delta, theta, vega FROM quotes WHERE {of_day}
    ), of_legs AS (
        SELECT {MOMENT}, spread_no,
               list({{'symbol': symbol, 'asset_class': asset_class, 'option_type': option_type, 'strike': strike,
                     'multiplier': multiplier, 'quantity': quantity, 'delta': delta, 'theta': theta, 'vega': vega}}
                    ORDER BY leg_no) AS legs
        FROM (FROM option_spread_legs WHERE {of_day}) LEFT JOIN of_quotes USING ({MOMENT}, symbol) GROUP BY ALL
    )
    SELECT of_row, spreads.underlying, quantity, cost, market_value, has_payoff, legs, bid, ask, last
    FROM (SELECT rowid AS of_row, * FROM {spreads} WHERE {of_day} AND {which}) AS spreads
    JOIN of_legs USING ({MOMENT}, spread_no)
    LEFT JOIN (SELECT * RENAME (symbol AS underlying) FROM of_quotes) USING ({MOMENT}, underlying)
    """  # noqa: S608


def _found(row: Row) -> Row:
    quotes = {row["underlying"]: Quoted(row["bid"], row["ask"], row["last"])}
    legs = []
    for leg in row["legs"]:
        delta, theta, vega = leg.pop("delta"), leg.pop("theta"), leg.pop("vega")
        legs.append(_Leg(**leg))
        quotes.setdefault(leg["symbol"], Quoted(delta=delta, theta=theta, vega=vega))
    figures = spread_figures(
        row["underlying"],
        row["quantity"],
        row["cost"],
        row["market_value"],
        legs,
        quotes,
        has_payoff=row["has_payoff"],
    )
    return {"of_row": row["of_row"], **{column.name: getattr(figures, column.name) for column in SPREAD_FIGURES}}
