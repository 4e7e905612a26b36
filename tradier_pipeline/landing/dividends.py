"""Landed dividends of symbols."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from pydantic import AwareDatetime

from tradier_pipeline.landing.manifest import PageRecord, Record, to_record
from tradier_pipeline.landing.zone import DIVIDENDS, MANIFEST, LandedExtract, LandingZone


class DividendManifest(Record):
    """What was read of a symbol, when and how."""

    environment: str
    symbol: str
    read_at: AwareDatetime
    code_version: str
    pages: tuple[PageRecord, ...]


@dataclass(frozen=True)
class LandedDividends(LandedExtract):
    """One landed extract: its manifest and, on demand, its bytes."""

    DEPTH = 4

    @cached_property
    def manifest(self) -> DividendManifest:
        return to_record(DividendManifest, self.read(MANIFEST), self.directory / MANIFEST)

    def bodies(self) -> tuple[bytes, ...]:
        """The landed bodies, proven to be what was landed. Raises LandingError if one is missing or was changed."""
        return self.proven_bodies(self.manifest.pages)


def landed_dividends(zone: LandingZone) -> list[LandedDividends]:
    """Every landed extract of dividends, by environment, symbol and day."""
    return [LandedDividends(found) for found in sorted(zone.root.glob(f"{DIVIDENDS}/*/*/????-??-??/"))]
