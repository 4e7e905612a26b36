"""The short options that a version before 19 has not stored: found from rows that it kept."""

from __future__ import annotations

from datetime import date

import duckdb

from tradier_pipeline.warehouse.exposure import prices
from tradier_pipeline.warehouse.schema import DECIMAL, KEYS, MOMENT, UNDERLYING_OF_POSITION
from tradier_pipeline.warehouse.sql import literal

_UNDERLYING = f"{UNDERLYING_OF_POSITION} AS underlying"


def months_of(connection: duckdb.DuckDBPyConnection, which: str) -> list[date]:
    """The first days of the months that have positions, those of a condition."""
    months = f"SELECT DISTINCT date_trunc('month', trade_date)::DATE FROM positions WHERE {which} ORDER BY ALL"  # noqa: S608
    return [month for (month,) in connection.execute(months).fetchall()]


def rows_query(month: date, which: str) -> str:
    """The rows of `short_options` of a month, by name, of positions of a condition."""
    of_month = f"trade_date BETWEEN {literal(month)} AND last_day({literal(month)})"
    return f"""
    SELECT * EXCLUDE shares, coalesce(shares, 0)::{DECIMAL} AS shares_held
    FROM (SELECT {KEYS}, row_no, symbol, {_UNDERLYING}, option_type, strike, expiration, quantity, multiplier, mark
          FROM positions WHERE {of_month} AND {which} AND quantity < 0 AND option_type IS NOT NULL)
    LEFT JOIN {prices(f"WHERE {of_month}")} USING ({MOMENT}, underlying)
    LEFT JOIN (SELECT {MOMENT}, cash FROM account_balances WHERE {of_month}) USING ({MOMENT})
    LEFT JOIN (SELECT {MOMENT}, {_UNDERLYING}, sum(quantity) AS shares
               FROM positions WHERE {of_month} AND asset_class = 'equity' GROUP BY ALL) USING ({MOMENT}, underlying)
    ORDER BY as_of, row_no
    """  # noqa: S608
