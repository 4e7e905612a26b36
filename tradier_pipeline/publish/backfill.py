"""All that the broker still tells of an account's past, in one extract: history does not begin on installation day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal

from tradier_pipeline import clock
from tradier_pipeline.broker.client import RetryPolicy
from tradier_pipeline.broker.decode import parse_accounts
from tradier_pipeline.core import progress
from tradier_pipeline.core.errors import ExtractError
from tradier_pipeline.core.settings import Settings
from tradier_pipeline.domain.calendar import MarketCalendar
from tradier_pipeline.extract.activity import extract_activity
from tradier_pipeline.extract.connection import Broker, not_of_token
from tradier_pipeline.extract.prices import extract_prices
from tradier_pipeline.landing.activity import ActivityRange, Resource
from tradier_pipeline.landing.prices import PriceRange
from tradier_pipeline.landing.zone import LandingZone
from tradier_pipeline.publish.store import store_activity, store_prices
from tradier_pipeline.warehouse.activity import Upserted
from tradier_pipeline.warehouse.reads import connect_readonly, external_flows, unknown_words
from tradier_pipeline.warehouse.staging import Warehouse

PATIENT = RetryPolicy(deadline=900.0)  # years of pages, and nobody's minute waits for them
BRIEF = RetryPolicy(attempts=2, deadline=30.0)  # of prices: the next backfill or morning reads them again


@dataclass(frozen=True, slots=True)
class Backfilled:
    """What was published of one account: the dates asked for, rows by resource, and what counts of its money.

    Attributes:
        path: the extract, relative to the landing zone.
        kept: of each resource that the environment has.
        deposits, withdrawals: USD, neither negative.
        unknown: the broker's words that are not known: word -> rows with money, USD of them.
    """

    account_id: str
    since: date
    until: date
    path: str
    kept: Mapping[Resource, Upserted]
    deposits: Decimal
    withdrawals: Decimal
    unknown: Mapping[str, tuple[int, Decimal]]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What of it is uncertain, in words."""
        return tuple(
            f"unknown word {word!r} in the history: {amount:,.2f} USD in {rows} row{'s' * (rows > 1)}; those days are "
            "uncertain until `tradier-pipeline flows add` states what came or left"
            for word, (rows, amount) in self.unknown.items()
        )


def backfill(settings: Settings, broker: Broker, account_id: str, since: date | None = None) -> Backfilled:
    """Read and publish what the broker tells from a date until yesterday, New York time. The same day again replays.

    Args:
        since: default the day on which the account was opened.

    Raises:
        PipelineError: nothing was published; the message says why and what to do.
    """
    until = clock.trade_date(clock.now()) - timedelta(days=1)
    wanted = ActivityRange(account_id, since or _opened(broker, account_id), until)
    patient = replace(broker, policy=broker.policy or PATIENT)
    landed = extract_activity(LandingZone(settings.landing), patient, wanted)
    progress.working(f"storing and proving the history of {account_id}")
    stored = store_activity(Warehouse(settings.warehouse), landed, MarketCalendar.of(settings))
    with connect_readonly(settings.warehouse) as connection:
        deposits, withdrawals = external_flows(connection, account_id, wanted.since, until)
        unknown = unknown_words(connection, account_id, wanted.since, until)
    return Backfilled(account_id, wanted.since, until, landed.path, stored.kept, deposits, withdrawals, unknown)


@dataclass(frozen=True, slots=True)
class BackfilledPrices:
    """What was published of the prices of a symbol: the dates asked for, and how many of them have one."""

    symbol: str
    since: date
    until: date
    path: str
    days: int

    @property
    def warning(self) -> str | None:
        return None if self.days else f"the broker has no price of {self.symbol} from {self.since} to {self.until}"


def backfill_prices(settings: Settings, broker: Broker, symbol: str, since: date) -> BackfilledPrices:
    """Read and publish the daily prices of a symbol until yesterday, New York time. The same day again replays.

    Raises:
        PipelineError: nothing was published; the message says why and what to do.
    """
    until = clock.trade_date(clock.now()) - timedelta(days=1)
    progress.working(f"reading prices of {symbol}")
    brief = replace(broker, policy=broker.policy or BRIEF)
    landed = extract_prices(LandingZone(settings.landing), brief, PriceRange(symbol, since, until))
    days = store_prices(Warehouse(settings.warehouse), landed)
    return BackfilledPrices(symbol, since, until, landed.path, days)


def _opened(broker: Broker, account_id: str) -> date:
    """The New York date on which the account was opened, as the profile tells it."""
    (profile,) = broker.read(lambda client: client.fetch_account()).pages
    accounts = parse_accounts([profile.body])
    if account_id not in accounts:
        raise not_of_token(account_id, accounts, broker.check_settings)
    opened_at = accounts[account_id].date_created
    if opened_at is None:
        raise ExtractError(f"the profile does not tell when {account_id} was opened", "Name a first date with --since.")
    opened = clock.trade_date(opened_at)
    if opened >= clock.trade_date(clock.now()):
        raise ExtractError(f"{account_id} was opened today", "The broker tells its first day tomorrow morning.")
    return opened
