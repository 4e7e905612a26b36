"""The daily prices of symbols, from landed bodies into the warehouse.

Of several reads of a day counts the newest that has a day before it, else the newest: so every change of a day is of
prices of one read, which a split between two reads cannot falsify. It does not matter in what order they are stored.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import duckdb

from tradier_pipeline.broker.decode import parse_rows, rows_of
from tradier_pipeline.broker.errors import BodyError
from tradier_pipeline.broker.models import DailyPrice
from tradier_pipeline.landing.errors import LandingError
from tradier_pipeline.landing.prices import LandedPrices
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.sql import bind
from tradier_pipeline.warehouse.staging import insert
from tradier_pipeline.warehouse.typed import Row

_KEY = "environment, symbol, trade_date"
_RANK = "({side}.previous_close IS NOT NULL, {side}.read_at, {side}.path)"


def upsert_prices(connection: duckdb.DuckDBPyConnection, landed: LandedPrices) -> int:
    """Add one extract to what is stored; within the caller's transaction. Returns how many days have a price.

    Raises:
        BodyError: a row is malformed, or a day has two prices.
        LandingError: a landed file is missing or was changed, or what is stored is not what was landed.
    """
    rows = price_rows(landed)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE incoming AS FROM {schema.DAILY_PRICES.name} LIMIT 0")
    insert(connection, replace(schema.DAILY_PRICES, name="incoming"), rows)
    newer = f"{_RANK.format(side='incoming')} >= {_RANK.format(side='known')}"
    connection.execute(
        f"""
        MERGE INTO daily_prices AS known USING incoming USING ({_KEY})
        WHEN MATCHED AND {newer} THEN UPDATE WHEN NOT MATCHED THEN INSERT BY NAME
        """
    )
    connection.execute("DROP TABLE incoming")
    _verify(connection, landed)
    return sum(row["close"] is not None for row in rows)


def price_rows(landed: LandedPrices) -> list[Row]:
    """The rows of the table, by day; those outside the dates of the extract left out. A price is above zero."""
    manifest = landed.manifest
    prices = parse_rows(DailyPrice, "prices", f"{landed.path}: history.day", rows_of("prices", landed.bodies()))
    rows: list[Row] = []
    priced: Row = {}
    for price in sorted(prices, key=lambda one: one.date):
        if not manifest.since <= price.date <= manifest.until:
            continue
        if rows and rows[-1]["trade_date"] == price.date:
            raise BodyError("prices", f"{manifest.symbol} has two prices on {price.date}", path=landed.path)
        row: Row = {
            **{"environment": manifest.environment, "symbol": manifest.symbol, "trade_date": price.date},
            **price.model_dump(include={"open", "high", "low", "volume"}),
            **{"close": price.close if price.close and price.close > 0 else None},
            **{"read_at": manifest.read_at, "path": landed.path},
        }
        if row["close"] is not None:
            row |= {"previous_date": priced.get("trade_date"), "previous_close": priced.get("close")}
            priced = row
        rows.append(row)
    return rows


def _verify(connection: duckdb.DuckDBPyConnection, landed: LandedPrices) -> None:
    """The closes that count of an extract are those of its bodies, decoded anew without the model."""
    reported: dict[str, Any] = {}
    for body in landed.bodies():
        days: Any = (json.loads(body, parse_float=Decimal).get("history") or {}) if body.strip() else {}
        days = days.get("day") if isinstance(days, dict) else None
        reported |= {row["date"][:10]: row.get("close") for row in _list(days)}
    stored = connection.execute(bind("SELECT trade_date::VARCHAR, close FROM daily_prices WHERE path = ?", landed.path))
    for day, close in stored.fetchall():
        sent = reported.get(day)
        if close is not None and (sent is None or abs(Decimal(sent) - close) > Decimal("1e-8")):
            raise LandingError(
                f"{landed.path} was not published: on {day} the broker has {sent}, and {close} would be stored",
                "Its bytes are landed. Report it: no answer of the broker explains this.",
            )


def _list(days: Any) -> Sequence[Any]:
    return days if isinstance(days, list) else [days] if isinstance(days, dict) and days else []
