"""The dividends of what short calls are written on, read and published: before such a date early exercise may pay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tradier_pipeline.core.errors import ExtractError, PipelineError
from tradier_pipeline.core.settings import Settings
from tradier_pipeline.extract.connection import Broker, Brokers
from tradier_pipeline.extract.dividends import WITHOUT, DividendsRead, read_dividends
from tradier_pipeline.landing.zone import LandingZone
from tradier_pipeline.publish.backfill import BRIEF
from tradier_pipeline.publish.store import store_dividends
from tradier_pipeline.warehouse.reads import connect_readonly, short_call_underlyings
from tradier_pipeline.warehouse.staging import Warehouse


@dataclass(frozen=True, slots=True)
class PublishedDividends:
    """The symbols whose answers are stored, and what is not known, a line each."""

    symbols: tuple[str, ...]
    missing: tuple[str, ...]


def publish_dividends(settings: Settings, brokers: Brokers) -> PublishedDividends:
    """Land, or find landed today, and store the dividends of what the newest snapshots are short calls on.

    Raises:
        FileError, WarehouseError: they cannot be written.
    """
    read: list[DividendsRead] = []
    missing: list[str] = []
    for environment in sorted({one.environment for one in settings.by_token}):
        try:
            read.append(_read(settings, brokers, environment))
        except PipelineError as error:
            missing.append(error.cause)
    landed = [extract for one in read for extract in one.landed]
    refused = store_dividends(Warehouse(settings.warehouse), landed) if landed else {}
    missing += [one.not_read for one in read if one.not_read]
    missing += [f"{path} not stored: {cause}" for path, cause in refused.items()]
    stored = (extract.manifest.symbol for extract in landed if extract.path not in refused)
    return PublishedDividends(tuple(stored), tuple(missing))


def _read(settings: Settings, brokers: Brokers, environment: str) -> DividendsRead:
    with connect_readonly(settings.warehouse) as connection:
        symbols = short_call_underlyings(connection, environment)
    if not symbols:
        return DividendsRead(())
    if environment in WITHOUT:
        return DividendsRead((), f"{', '.join(symbols)} not read: the {environment} has no dividends")
    return brokers.of_any_token(lambda broker: _by(settings, broker, symbols), environment)


def _by(settings: Settings, broker: Broker, symbols: Sequence[str]) -> DividendsRead:
    """What one token reads. Raises ExtractError: nothing at all; another token may."""
    brief = replace(broker, policy=broker.policy or BRIEF)
    read = read_dividends(LandingZone(settings.landing), brief, symbols)
    if read.not_read and not read.landed:
        raise ExtractError(read.not_read, "The next day tries again.")
    return read
