"""What is landed of the market, and of no account: the daily prices and the dividends of symbols."""

from __future__ import annotations

from pathlib import Path

from tradier_pipeline.landing.dividends import LandedDividends, landed_dividends
from tradier_pipeline.landing.prices import LandedPrices, landed_prices
from tradier_pipeline.landing.zone import LandingZone

MarketExtract = LandedPrices | LandedDividends


def landed_market(zone: LandingZone) -> list[MarketExtract]:
    """Every landed extract of prices and of dividends."""
    return [*landed_prices(zone), *landed_dividends(zone)]


def market_folder(zone: LandingZone, kind: str, environment: str, symbol: str) -> Path:
    """Where the extracts of a kind, PRICES or DIVIDENDS, of a symbol lie."""
    return zone.root / kind / environment / symbol.replace("/", ".")
