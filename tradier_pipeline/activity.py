"""What the broker tells over night - history, gain and loss, daily values - read once for a range of dates, and kept.

    raw/<account>/activity/<since>_<until>/
        history.json history.2.json ... gainloss.json ... historical_balances.json manifest.json     filed together
    raw/<account>/activity/<since>_<until>.failed-<instant>/                                         kept for diagnosis

What is landed is never fetched again. The dates of two extracts may overlap: the later one then shows what the broker
has corrected meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from typing import Literal, Self, get_args

from pydantic import AwareDatetime

from tradier_pipeline import clock
from tradier_pipeline.broker.client import BrokerClient, Extract
from tradier_pipeline.broker.errors import BrokerError
from tradier_pipeline.extract import Broker, ExtractError
from tradier_pipeline.landing import (
    FAILED,
    LOCK_TIMEOUT_S,
    MANIFEST,
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

Resource = Literal["history", "gainloss", "historical_balances"]
RESOURCES: tuple[Resource, ...] = get_args(Resource)
WINDOW = timedelta(days=14)  # read again every day: what is posted late, and what the broker corrects
_MONTH = timedelta(days=28)

_FOLDER = "activity"


def resources_of(environment: str) -> tuple[Resource, ...]:
    """What an environment is known to have.

    Tradier: the sandbox has gainloss and no history, which must not be taken for an empty one. Nothing is said of its
    historical-balances, and a refusal would cost the rest.
    """
    return ("gainloss",) if environment == "sandbox" else RESOURCES


@dataclass(frozen=True, slots=True, order=True)
class ActivityRange:
    """The dates of one account that are read together, first and last included. Raises ExtractError for no account."""

    account_id: str
    since: date
    until: date

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9]{1,32}", self.account_id):
            remedy = "Write its letters and digits, such as VA12345678."
            raise ExtractError(f"{self.account_id[:80]!r} is not an account number", remedy)

    @classmethod
    def of_day(cls, account_id: str, day: date) -> Self:
        """What is read for one day: it, and the days before it on which something may have changed."""
        return cls(account_id, day - WINDOW, day)

    @staticmethod
    def window_of(day: date) -> str:
        """The name of the directory that what is read for one day is landed in, for every account."""
        return f"{day - WINDOW}_{day}"

    @property
    def file_name(self) -> str:
        return f"{self.since}_{self.until}"

    def __str__(self) -> str:
        return f"the activity of {self.account_id} from {self.since} to {self.until}"


class ActivityManifest(Record):
    """What was read for one range of dates, when and how. A resource that the environment lacks is absent.

    `read_at` is when the first page was asked for.
    """

    account_id: str
    environment: str
    since: date
    until: date
    read_at: AwareDatetime
    code_version: str
    resources: dict[Resource, tuple[PageRecord, ...]]


class ActivityFailure(Record):
    """Why nothing was landed, beside whatever bodies did arrive."""

    account_id: str
    environment: str
    since: date
    until: date
    failed_at: AwareDatetime
    errors: dict[str, str]
    resources: dict[Resource, tuple[PageRecord, ...]]


@dataclass(frozen=True)
class LandedActivity(LandedExtract):
    """One landed extract: its manifest and, on demand, its bytes."""

    DEPTH = 3

    @cached_property
    def manifest(self) -> ActivityManifest:
        return to_record(ActivityManifest, self.read(MANIFEST), self.directory / MANIFEST)

    def bodies(self, resource: Resource) -> tuple[bytes, ...]:
        """The landed bodies of a resource, page by page, proven to be what was landed.

        Raises:
            LandingError: a file is missing or is not what was landed.
        """
        return self.proven_bodies(self.manifest.resources[resource])


def find_activity(zone: LandingZone, wanted: ActivityRange) -> LandedActivity | None:
    """The landed extract of a range, if there is one."""
    directory = _directory(zone, wanted)
    return LandedActivity(directory) if directory.is_dir() else None


def landed_activity(zone: LandingZone) -> list[LandedActivity]:
    """Every landed extract, by account and dates."""
    found = zone.root.glob(f"*/{_FOLDER}/????-??-??_????-??-??/")
    return [LandedActivity(directory) for directory in sorted(found)]


def last_failure(zone: LandingZone, wanted: ActivityRange) -> ActivityFailure | None:
    """Why a range could not be read the last time that it was tried; None if it has not failed."""
    failed = sorted(_directory(zone, wanted).parent.glob(f"{wanted.file_name}{FAILED}*/{MANIFEST}"))
    return to_record(ActivityFailure, failed[-1].read_bytes(), failed[-1]) if failed else None


def extract_activity(zone: LandingZone, broker: Broker, wanted: ActivityRange) -> LandedActivity:
    """Land all that the broker tells of a range of dates, or find it landed already. All or nothing.

    Snapshots of the account go on meanwhile.

    Raises:
        ExtractError: the last date is not over yet; nothing was requested.
        BrokerError: a resource was not read; what did arrive is kept for diagnosis.
        LandingError: the landing zone cannot be written.
    """
    folder = _directory(zone, wanted).parent
    with writing(folder):
        make_directory(folder)
    with exclusive(folder / ".lock", LOCK_TIMEOUT_S, f"the activity of account {wanted.account_id} is being read"):
        if landed := find_activity(zone, wanted):
            return landed
        _refuse_other_dates(wanted)
        extracts, failures = broker.read(lambda client: _read(client, wanted, resources_of(broker.environment)))
        if failures:
            _keep(zone, broker, wanted, extracts, failures)
            raise next(iter(failures.values()))
        return _land(zone, broker, wanted, extracts)


async def _read(
    client: BrokerClient, wanted: ActivityRange, resources: tuple[Resource, ...]
) -> tuple[dict[Resource, Extract], dict[Resource, BrokerError]]:
    """One resource after the other, which leaves the request budget to the snapshots; the first failure ends it."""
    extracts: dict[Resource, Extract] = {}
    for resource in resources:
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


def _directory(zone: LandingZone, wanted: ActivityRange) -> Path:
    return zone.root / wanted.account_id / _FOLDER / wanted.file_name


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
    directory = _directory(zone, wanted)
    file_directory(directory, {**bodies, MANIFEST: to_bytes(manifest)})
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
    directory = _directory(zone, wanted)
    stamp = clock.iso(failure.failed_at).replace(":", "-")
    file_directory(directory.with_name(f"{directory.name}{FAILED}{stamp}"), {**bodies, MANIFEST: to_bytes(failure)})


def _records(extracts: Mapping[Resource, Extract]) -> tuple[dict[Resource, tuple[PageRecord, ...]], dict[str, bytes]]:
    resources: dict[Resource, tuple[PageRecord, ...]] = {}
    bodies: dict[str, bytes] = {}
    for resource, extract in extracts.items():
        resources[resource], named = page_records(resource, extract)
        bodies |= named
    return resources, bodies
