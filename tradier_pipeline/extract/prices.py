"""The daily prices of a symbol, such as the benchmark that returns are compared with: read once for a range of dates.

    raw/_prices/<environment>/<symbol>/<since>_<until>/ prices.json manifest.json     filed together

They belong to no account. What is landed is never fetched again; a later extract shows what was corrected, or split.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property

from pydantic import AwareDatetime

from tradier_pipeline import clock
from tradier_pipeline.extract.snapshot import Broker, ExtractError
from tradier_pipeline.landing.zone import (
    LOCK_TIMEOUT_S,
    MANIFEST,
    PRICES,
    LandedExtract,
    LandingZone,
    PageRecord,
    Record,
    exclusive,
    file_directory,
    make_directory,
    page_records,
    to_bytes,
    to_record,
    writing,
)
from tradier_pipeline.warehouse.rows import CODE_VERSION

SYMBOL = r"[A-Z0-9]{1,8}([/.][A-Z0-9]{1,4})?"


@dataclass(frozen=True, slots=True)
class PriceRange:
    """The dates of one symbol that are read together, first and last included. Raises ExtractError for no symbol."""

    symbol: str
    since: date
    until: date

    def __post_init__(self) -> None:
        if not re.fullmatch(SYMBOL, self.symbol):
            raise ExtractError(f"{self.symbol[:80]!r} is not a symbol", "Write it in capitals, such as SPY or BRK/B.")
        today = clock.trade_date(clock.now())
        if self.until >= today:
            remedy = f"Ask for days until {today - timedelta(days=1)}."
            raise ExtractError(f"{self} are not complete: in New York it is {today}", remedy)
        if self.since > self.until:
            raise ExtractError(f"{self} have no day", "Name a first date that is not after the last one.")

    def __str__(self) -> str:
        return f"the prices of {self.symbol} from {self.since} to {self.until}"


class PriceManifest(Record):
    """What was read of a symbol, when and how."""

    environment: str
    symbol: str
    since: date
    until: date
    read_at: AwareDatetime
    code_version: str
    pages: tuple[PageRecord, ...]


@dataclass(frozen=True)
class LandedPrices(LandedExtract):
    """One landed extract: its manifest and, on demand, its bytes."""

    DEPTH = 4

    @cached_property
    def manifest(self) -> PriceManifest:
        return to_record(PriceManifest, self.read(MANIFEST), self.directory / MANIFEST)

    def bodies(self) -> tuple[bytes, ...]:
        """The landed bodies, proven to be what was landed. Raises LandingError if one is missing or was changed."""
        return self.proven_bodies(self.manifest.pages)


def landed_prices(zone: LandingZone) -> list[LandedPrices]:
    """Every landed extract of prices, by environment, symbol and dates."""
    found = zone.root.glob(f"{PRICES}/*/*/????-??-??_????-??-??/")
    return [LandedPrices(directory) for directory in sorted(found)]


def extract_prices(zone: LandingZone, broker: Broker, wanted: PriceRange) -> LandedPrices:
    """Land the prices of a range of dates, or find them landed already.

    Raises:
        BrokerError: they were not read.
        LandingError: the landing zone cannot be written.
    """
    name = wanted.symbol.replace("/", ".")
    directory = zone.root / PRICES / broker.environment / name / f"{wanted.since}_{wanted.until}"
    folder = directory.parent
    with writing(folder):
        make_directory(folder)
    with exclusive(folder / ".lock", LOCK_TIMEOUT_S, f"the prices of {wanted.symbol} are being read"):
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
            file_directory(directory, {**bodies, MANIFEST: to_bytes(manifest)})
    return LandedPrices(directory)
