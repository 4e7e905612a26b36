"""The daily prices of a symbol, such as the benchmark that returns are compared with: read once for a range of dates.

    raw/_prices/<environment>/<symbol>/<since>_<until>/ prices.json manifest.json     filed together

They belong to no account. What is landed is never fetched again; a later extract shows what was corrected, or split.
"""

from __future__ import annotations

from tradier_pipeline.core.version import CODE_VERSION
from tradier_pipeline.extract.connection import Broker
from tradier_pipeline.extract.records import page_records
from tradier_pipeline.landing.manifest import to_bytes
from tradier_pipeline.landing.market import market_folder
from tradier_pipeline.landing.prices import LandedPrices, PriceManifest, PriceRange
from tradier_pipeline.landing.zone import PRICES, LandingZone, one_reader


def extract_prices(zone: LandingZone, broker: Broker, wanted: PriceRange) -> LandedPrices:
    """Land the prices of a range of dates, or find them landed already.

    Raises:
        BrokerError: they were not read.
        FileError: the landing zone cannot be written.
    """
    folder = market_folder(zone, PRICES, broker.environment, wanted.symbol)
    directory = folder / f"{wanted.since}_{wanted.until}"
    with one_reader(folder, f"the prices of {wanted.symbol} are"):
        if not directory.is_dir():
            extract = broker.read(lambda client: client.fetch_prices(wanted.symbol, wanted.since, wanted.until))
            pages, bodies = page_records("prices", extract)
            manifest = PriceManifest(
                environment=broker.environment,
                symbol=wanted.symbol,
                since=wanted.since,
                until=wanted.until,
                read_at=extract.started_at,
                code_version=CODE_VERSION,
                pages=pages,
            )
            zone.file(directory, bodies, to_bytes(manifest))
    return LandedPrices(directory)
