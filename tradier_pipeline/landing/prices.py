"""Landed daily prices of symbols."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property

from pydantic import AwareDatetime

from tradier_pipeline import clock
from tradier_pipeline.core.errors import ExtractError
from tradier_pipeline.landing.manifest import PageRecord, Record, to_record
from tradier_pipeline.landing.zone import MANIFEST, PRICES, LandedExtract, LandingZone

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
