"""What is landed of the market, into its tables."""

from __future__ import annotations

import duckdb

from tradier_pipeline.landing.market import MarketExtract
from tradier_pipeline.landing.prices import LandedPrices
from tradier_pipeline.warehouse.dividends import upsert_dividends
from tradier_pipeline.warehouse.prices import upsert_prices


def upsert_market(connection: duckdb.DuckDBPyConnection, landed: MarketExtract) -> int:
    """Add one extract to what is stored; see `upsert_prices` and `upsert_dividends`."""
    if isinstance(landed, LandedPrices):
        return upsert_prices(connection, landed)
    return upsert_dividends(connection, landed)
