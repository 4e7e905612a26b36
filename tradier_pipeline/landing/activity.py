"""Landed account activity: history, closed positions and daily balances, by the range of dates that was asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from typing import Literal, Self, get_args

from pydantic import AwareDatetime

from tradier_pipeline.core.errors import ExtractError
from tradier_pipeline.core.files import read_file
from tradier_pipeline.landing.manifest import PageRecord, Record, to_record
from tradier_pipeline.landing.zone import FAILED, MANIFEST, LandedExtract, LandingZone

Resource = Literal["history", "gainloss", "historical_balances"]
RESOURCES: tuple[Resource, ...] = get_args(Resource)
WINDOW = timedelta(days=14)  # read again every day: what is posted late, and what the broker corrects
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
    directory = activity_directory(zone, wanted)
    return LandedActivity(directory) if directory.is_dir() else None


def landed_activity(zone: LandingZone) -> list[LandedActivity]:
    """Every landed extract, by account and dates."""
    found = zone.root.glob(f"*/{_FOLDER}/????-??-??_????-??-??/")
    return [LandedActivity(directory) for directory in sorted(found)]


def last_failure(zone: LandingZone, wanted: ActivityRange) -> ActivityFailure | None:
    """Why a range could not be read the last time that it was tried; None if it has not failed."""
    failed = sorted(activity_directory(zone, wanted).parent.glob(f"{wanted.file_name}{FAILED}*/{MANIFEST}"))
    return to_record(ActivityFailure, read_file(failed[-1]), failed[-1]) if failed else None


def activity_directory(zone: LandingZone, wanted: ActivityRange) -> Path:
    return zone.root / wanted.account_id / _FOLDER / wanted.file_name
