"""What the broker tells over night - history, gain and loss, daily values - read once for a range of dates, and kept.

    raw/<account>/activity/<since>_<until>/
        history.json history.2.json ... gainloss.json ... historical_balances.json manifest.json     filed together
    raw/<account>/activity/<since>_<until>.failed-<instant>/                                         kept for diagnosis

What is landed is never fetched again. The dates of two extracts may overlap: the later one then shows what the broker
has corrected meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from tradier_pipeline import clock
from tradier_pipeline.broker.client import BrokerClient
from tradier_pipeline.broker.errors import BrokerError
from tradier_pipeline.broker.pages import Extract
from tradier_pipeline.core import progress
from tradier_pipeline.core.errors import ExtractError
from tradier_pipeline.core.version import CODE_VERSION
from tradier_pipeline.extract.connection import Broker, explained_refusal
from tradier_pipeline.extract.records import page_records
from tradier_pipeline.landing.activity import (
    ActivityFailure,
    ActivityManifest,
    ActivityRange,
    LandedActivity,
    Resource,
    activity_directory,
    find_activity,
    resources_of,
)
from tradier_pipeline.landing.manifest import PageRecord, to_bytes
from tradier_pipeline.landing.zone import FAILED, LandingZone, one_reader

_MONTH = timedelta(days=28)


def extract_activity(zone: LandingZone, broker: Broker, wanted: ActivityRange) -> LandedActivity:
    """Land all that the broker tells of a range of dates, or find it landed already. All or nothing.

    Snapshots of the account go on meanwhile.

    Raises:
        ExtractError: the last date is not over yet; nothing was requested.
        BrokerError: a resource was not read; what did arrive is kept for diagnosis.
        FileError: the landing zone cannot be written.
    """
    folder = activity_directory(zone, wanted).parent
    with one_reader(folder, f"the activity of account {wanted.account_id} is"):
        if landed := find_activity(zone, wanted):
            return landed
        _refuse_other_dates(wanted)
        extracts, failures = broker.read(lambda client: _read(client, wanted, resources_of(broker.environment)))
        if failures:
            _keep(zone, broker, wanted, extracts, failures)
            raise explained_refusal(broker, wanted.account_id, failures.values()) or next(iter(failures.values()))
        return _land(zone, broker, wanted, extracts)


async def _read(
    client: BrokerClient, wanted: ActivityRange, resources: tuple[Resource, ...]
) -> tuple[dict[Resource, Extract], dict[Resource, BrokerError]]:
    """One resource after the other, which leaves the request budget to the snapshots; the first failure ends it."""
    extracts: dict[Resource, Extract] = {}
    for done, resource in enumerate(resources):
        progress.working(f"reading {resource} of {wanted.account_id}", done, len(resources))
        try:
            extracts[resource] = await _fetch(client, wanted, resource)
        except BrokerError as error:
            return extracts, {resource: error}
    return extracts, {}


async def _fetch(client: BrokerClient, wanted: ActivityRange, resource: Resource) -> Extract:
    match resource:
        case "history":
            return await client.fetch_history(wanted.account_id, wanted.since, wanted.until)
        case "gainloss":
            return await client.fetch_gainloss(wanted.account_id, wanted.since, wanted.until)
        case "historical_balances":
            recent = clock.trade_date(clock.now()) - wanted.since <= _MONTH
            return await client.fetch_historical_balances(wanted.account_id, "MONTH" if recent else "ALL")


def _refuse_other_dates(wanted: ActivityRange) -> None:
    today = clock.trade_date(clock.now())
    if wanted.until >= today:
        raise ExtractError(
            f"{wanted} is not complete: the broker tells a day the morning after, and in New York it is {today}",
            f"Ask for days until {today - timedelta(days=1)}.",
        )
    if wanted.since > wanted.until:
        raise ExtractError(f"{wanted} has no day", "Name a first date that is not after the last one.")


def _land(
    zone: LandingZone, broker: Broker, wanted: ActivityRange, extracts: Mapping[Resource, Extract]
) -> LandedActivity:
    resources, bodies = _records(extracts)
    manifest = ActivityManifest(
        account_id=wanted.account_id,
        environment=broker.environment,
        since=wanted.since,
        until=wanted.until,
        read_at=min(extract.started_at for extract in extracts.values()),
        code_version=CODE_VERSION,
        resources=resources,
    )
    directory = activity_directory(zone, wanted)
    zone.file(directory, bodies, to_bytes(manifest))
    return LandedActivity(directory)


def _keep(
    zone: LandingZone,
    broker: Broker,
    wanted: ActivityRange,
    extracts: Mapping[Resource, Extract],
    failures: Mapping[Resource, BrokerError],
) -> None:
    """Keep what a failed read did receive: whole resources, and the answers that were refused."""
    refused = {name: Extract(name, failure.pages) for name, failure in failures.items() if failure.pages}
    resources, bodies = _records({**extracts, **refused})
    failure = ActivityFailure(
        account_id=wanted.account_id,
        environment=broker.environment,
        since=wanted.since,
        until=wanted.until,
        failed_at=clock.now(),
        errors={name: str(error) for name, error in failures.items()},
        resources=resources,
    )
    directory = activity_directory(zone, wanted)
    stamp = clock.iso(failure.failed_at).replace(":", "-")
    zone.file(directory.with_name(f"{directory.name}{FAILED}{stamp}"), bodies, to_bytes(failure))


def _records(extracts: Mapping[Resource, Extract]) -> tuple[dict[Resource, tuple[PageRecord, ...]], dict[str, bytes]]:
    resources: dict[Resource, tuple[PageRecord, ...]] = {}
    bodies: dict[str, bytes] = {}
    for resource, extract in extracts.items():
        resources[resource], named = page_records(resource, extract)
        bodies |= named
    return resources, bodies
