"""The dividends of symbols, past and announced: read once a day for each underlying of a short call.

    raw/_dividends/<environment>/<symbol>/<New York date>/ dividends.json manifest.json     filed together

They belong to no account. What was landed on a day is not fetched again on it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date

from tradier_pipeline import clock
from tradier_pipeline.broker.errors import BodyError, BrokerError
from tradier_pipeline.broker.rate import rate_limit
from tradier_pipeline.core.version import CODE_VERSION
from tradier_pipeline.extract.connection import Broker
from tradier_pipeline.extract.records import page_records
from tradier_pipeline.landing.dividends import DividendManifest, LandedDividends
from tradier_pipeline.landing.manifest import to_bytes
from tradier_pipeline.landing.market import market_folder
from tradier_pipeline.landing.zone import DIVIDENDS, LandingZone, one_reader

WITHOUT = frozenset({"sandbox"})  # Tradier: fundamentals are read with a token of the live environment
LEFT_OVER = 30  # requests for market data of the minute, for the quotes of snapshots


@dataclass(frozen=True, slots=True)
class DividendsRead:
    """What is landed of the wanted symbols, and why of the others nothing is, in one line; None: all are."""

    landed: tuple[LandedDividends, ...]
    not_read: str | None = None


def read_dividends(zone: LandingZone, broker: Broker, symbols: Collection[str]) -> DividendsRead:
    """Land the dividends of symbols, those first that were read longest ago, or find them landed today.

    A refusal, or an outage, is the same for every symbol: it ends the reading, and the next day tries again. So do the
    requests of the minute once they are nearly used up.

    Raises:
        FileError: the landing zone cannot be written.
    """
    today = clock.trade_date(clock.now())
    landed: list[LandedDividends] = []
    unusable: list[str] = []
    ordered = sorted(symbols, key=lambda symbol: (_last_day(zone, broker.environment, symbol), symbol))
    for number, symbol in enumerate(ordered):
        rest = f"{', '.join(ordered[number:])} not read"
        if landed and _are_used_up(landed[-1]):
            return DividendsRead(tuple(landed), f"{rest}: the requests of this minute are left to the snapshots")
        try:
            landed.append(_extract(zone, broker, symbol, today))
        except BodyError as error:
            unusable.append(f"{symbol} not read: {error.cause}")
        except BrokerError as error:
            return DividendsRead(tuple(landed), f"{rest}: {error.cause}")
    return DividendsRead(tuple(landed), "; ".join(unusable) or None)


def _extract(zone: LandingZone, broker: Broker, symbol: str, day: date) -> LandedDividends:
    directory = market_folder(zone, DIVIDENDS, broker.environment, symbol) / str(day)
    with one_reader(directory.parent, f"the dividends of {symbol} are"):
        if not directory.is_dir():
            extract = broker.read(lambda client: client.fetch_dividends(symbol))
            pages, bodies = page_records("dividends", extract)
            manifest = DividendManifest(
                environment=broker.environment,
                symbol=symbol,
                read_at=extract.started_at,
                code_version=CODE_VERSION,
                pages=pages,
            )
            zone.file(directory, bodies, to_bytes(manifest))
    return LandedDividends(directory)


def _last_day(zone: LandingZone, environment: str, symbol: str) -> str:
    found = market_folder(zone, DIVIDENDS, environment, symbol).glob("????-??-??")
    return max((path.name for path in found), default="")


def _are_used_up(landed: LandedDividends) -> bool:
    """Whether the broker said, with what was just read, that few requests are left of the minute that is on."""
    page = landed.manifest.pages[-1]
    said = rate_limit(page.headers, page.ended_at)
    return said is not None and said.available < LEFT_OVER and (said.ends_at is None or clock.now() < said.ends_at)
