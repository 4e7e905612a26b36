"""How the history of a home is doing: age, failures, missed instants, disk use, request budget."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tradier_pipeline import clock
from tradier_pipeline.landing import FailureRecord, LandedSnapshot, LandingZone
from tradier_pipeline.settings import Settings
from tradier_pipeline.warehouse.reads import newest_headers, reading

RECENT = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class RequestBudget:
    """What the broker's rate-limit headers said in the newest snapshot: requests per minute and token."""

    allowed: int
    available: int


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """The state of one account's history."""

    account_id: str
    environment: str
    snapshot_id: str
    as_of: datetime
    age_s: float
    snapshots: int
    failures_24h: int
    last_failure: str | None
    missed_24h: int
    request_budget: RequestBudget | None


@dataclass(frozen=True, slots=True)
class Status:
    """The state of a home. Sizes in bytes."""

    home: str
    accounts: tuple[AccountStatus, ...]
    warehouse_bytes: int
    landing_bytes: int
    dagster_bytes: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def read_status(settings: Settings) -> Status:
    """Read the state of the home.

    Raises:
        WarehouseError: nothing has been published yet.
    """
    zone = LandingZone(settings.landing)
    with reading(settings.warehouse) as connection:
        headers = newest_headers(connection)
    return Status(
        home=str(settings.home),
        accounts=tuple(_account_status(zone, header) for header in headers),
        warehouse_bytes=_size(settings.warehouse),
        landing_bytes=_size(settings.landing),
        dagster_bytes=_size(settings.dagster_home),
    )


def _account_status(zone: LandingZone, header: dict[str, Any]) -> AccountStatus:
    now = clock.now()
    account_id = header["account_id"]
    failures = [failure for failure in zone.failures(account_id) if failure.failed_at > now - RECENT]
    missed = [missed for missed in zone.missed(account_id) if missed.recorded_at > now - RECENT]
    return AccountStatus(
        account_id=account_id,
        environment=header["environment"],
        snapshot_id=header["snapshot_id"],
        as_of=header["as_of"],
        age_s=round((now - header["as_of"]).total_seconds(), 1),
        snapshots=header["snapshots"],
        failures_24h=len(failures),
        last_failure=_told(failures[-1]) if failures else None,
        missed_24h=len(missed),
        request_budget=_request_budget(zone.newest(account_id)),
    )


def _told(failure: FailureRecord) -> str:
    return f"{failure.snapshot_id}: {next(iter(failure.errors.values()))}"


def _request_budget(landed: LandedSnapshot | None) -> RequestBudget | None:
    """The tightest figure any answer of the newest snapshot carried."""
    if landed is None:
        return None
    pages = [page for pages in landed.manifest.resources.values() for page in pages]
    figures = [
        RequestBudget(int(page.headers["x-ratelimit-allowed"]), int(page.headers["x-ratelimit-available"]))
        for page in pages
        if {"x-ratelimit-allowed", "x-ratelimit-available"} <= page.headers.keys()
    ]
    return min(figures, key=lambda budget: budget.available, default=None)


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
