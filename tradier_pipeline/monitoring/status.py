"""How the history of a home is doing: age, failures, missed instants, disk use, request budget, waiting requests."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from tradier_pipeline import clock
from tradier_pipeline.broker.rate import rate_limit
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.files import size_of
from tradier_pipeline.core.settings import Settings
from tradier_pipeline.domain.budget import Budget
from tradier_pipeline.domain.calendar import MarketCalendar
from tradier_pipeline.domain.ticks import CYCLES, Cadence, is_late
from tradier_pipeline.instance.switches import SwitchesError, read_stopped_schedules
from tradier_pipeline.landing.manifest import FailureRecord
from tradier_pipeline.landing.zone import Damaged, LandedSnapshot, LandingZone
from tradier_pipeline.ledger.records import SnapshotRequest
from tradier_pipeline.ledger.store import Ledger
from tradier_pipeline.monitoring.service_levels import burning
from tradier_pipeline.warehouse.reads import (
    check_account,
    connect_readonly,
    heartbeats,
    known_accounts,
    newest_headers,
    published_among,
)
from tradier_pipeline.warehouse.sealed import lost_files
from tradier_pipeline.warehouse.staging import WarehouseError, sealed_directory
from tradier_pipeline.warehouse.unpublished import unpublished

RECENT = timedelta(hours=24)
LOST = "a sealed month is not there as it was written; `tradier-pipeline rebuild` makes it anew"


@dataclass(frozen=True, slots=True)
class RequestBudget:
    """What the broker's rate-limit headers said in the newest snapshot: requests per minute and token."""

    allowed: int
    available: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The as-of of a cycle's last published snapshot; `late`: it has been due twice since then."""

    cycle: str
    last: datetime | None
    late: bool


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """The state of one account's history. The first fields are None, and `snapshots` 0, before its first snapshot.

    `not_published` is the newest landed snapshot if it is not in the warehouse. `landed_not_published` are all that the
    next snapshot publishes: landed by runs that died, or beside a warehouse that is absent or an older copy. `burning`
    are the service levels whose error budget burns too fast, each in words.
    """

    account_id: str
    environment: str | None
    snapshot_id: str | None
    as_of: datetime | None
    age_s: float | None
    snapshots: int
    not_published: str | None
    failures_24h: int
    last_failure: str | None
    missed_24h: int
    request_budget: RequestBudget | None
    heartbeats: tuple[Heartbeat, ...]
    verdict: str | None = None
    verdict_evidence: str | None = None
    landed_not_published: tuple[str, ...] = ()
    burning: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """The state of a home. Sizes in bytes. Requests for a snapshot wait until one is about to be read.

    `switched_off` are the cycles that were switched off in the UI; None, and why, if that is not known.
    `damaged` is what of the landing zone is passed over: it cannot be read or is not ours. `ledger_error`: why the
    ledger cannot be read; how many requests wait is not known then (None). `warehouse_error`: why what is published
    cannot be; the accounts are then as if nothing were. `requests_warning`: there are more accounts
    than the access token allows to read in a minute.
    """

    home: str
    accounts: tuple[AccountStatus, ...]
    warehouse_bytes: int
    sealed_bytes: int
    landing_bytes: int
    dagster_bytes: int
    waiting_requests: int | None
    oldest_request_age_s: float | None
    damaged: tuple[Damaged, ...] = ()
    ledger_error: str | None = None
    switched_off: tuple[str, ...] | None = ()
    switches_error: str | None = None
    requests_warning: str | None = None
    warehouse_error: str | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def read_status(settings: Settings, account_id: str | None = None) -> Status:
    """Read the state of the home.

    Raises:
        WarehouseError: nothing has been published, landed or tried yet.
        UnknownAccountError: nothing is known of the account.
    """
    zone = LandingZone(settings.landing)
    tried = set(zone.accounts())
    headers: dict[str, dict[str, Any]] = {}
    published: set[str] = set()
    beats: dict[tuple[str, str], datetime] = {}
    known: list[str] = []
    waiting_to_publish: dict[str, tuple[str, ...]] = {}
    lost: list[Damaged] = []
    burns: dict[str, tuple[str, ...]] = {}
    unreadable = _unreadable(settings.warehouse) if tried else None
    if not unreadable and (settings.warehouse.exists() or not tried):
        with connect_readonly(settings.warehouse) as connection:
            headers = {header["account_id"]: header for header in newest_headers(connection)}
            known = known_accounts(connection) if account_id else []
            landed = (next(zone.latest(account), None) for account in tried | headers.keys())
            published = published_among(connection, [str(newest.snapshot_id) for newest in landed if newest])
            beats = {(beat["account_id"], beat["cycle"]): beat["as_of"] for beat in heartbeats(connection)}
            waiting_to_publish = {account: _unpublished(connection, zone, account) for account in tried}
            lost = [Damaged(str(path), f"{path}: {LOST}") for path in lost_files(connection)]
            burns = burning(connection)
    else:
        waiting_to_publish = {account: _unpublished(None, zone, account) for account in tried}
    if account_id is not None:
        check_account(account_id, {*(settings.accounts or ()), *tried, *known})
    switched_off, switches_error = _switches(settings)
    waiting, ledger_error = _waiting(Ledger(settings.ledger), account_id)
    return Status(
        home=str(settings.home),
        accounts=tuple(
            replace(
                _account_status(zone, account, headers.get(account, {}), published),
                heartbeats=_heartbeats(settings, account, beats),
                landed_not_published=waiting_to_publish.get(account, ()),
                burning=burns.get(account, ()),
            )
            for account in sorted(tried | headers.keys())
            if account_id in (None, account)
        ),
        warehouse_bytes=size_of(settings.warehouse),
        sealed_bytes=size_of(sealed_directory(settings.warehouse)),
        landing_bytes=size_of(settings.landing),
        dagster_bytes=size_of(settings.dagster_home),
        waiting_requests=None if ledger_error else len(waiting),
        oldest_request_age_s=_age_s(waiting[0].requested_at) if waiting else None,
        damaged=(*zone.damaged(account_id), *lost),
        warehouse_error=unreadable,
        ledger_error=ledger_error,
        switched_off=switched_off,
        switches_error=switches_error,
        requests_warning=_requests_warning(settings, tried),
    )


def _unreadable(warehouse: Path) -> str | None:
    """Why the published file cannot be opened: that hides nothing of what is landed."""
    try:
        if warehouse.exists():
            with connect_readonly(warehouse):
                pass
    except WarehouseError as error:
        return str(error)
    return None


def _requests_warning(settings: Settings, tried: Collection[str]) -> str | None:
    """Whether there are more accounts than an access token allows to read; `all` are those of which anything is."""
    accounts = {one.group: tried if one.accounts is None else one.accounts for one in settings.by_token}
    budgets = [Budget.of(one.environment, len(accounts[one.group]), one.group) for one in settings.by_token]
    return " ".join(filter(None, (budget.warning(settings.monitor_minutes) for budget in budgets))) or None


def _account_status(
    zone: LandingZone,
    account_id: str,
    header: Mapping[str, Any],
    published: Collection[str],
) -> AccountStatus:
    now = clock.now()
    as_of = header.get("as_of")
    newest = next(zone.latest(account_id), None)
    failures = list(zone.failures(account_id, since=now - RECENT))
    missed = list(zone.missed(account_id, since=now - RECENT))
    return AccountStatus(
        account_id=account_id,
        environment=header.get("environment"),
        snapshot_id=header.get("snapshot_id"),
        as_of=as_of,
        age_s=_age_s(as_of) if as_of else None,
        snapshots=header.get("snapshots", 0),
        not_published=str(newest.snapshot_id) if newest and str(newest.snapshot_id) not in published else None,
        failures_24h=len(failures),
        last_failure=_failure_line(failures[-1]) if failures else None,
        missed_24h=len(missed),
        request_budget=request_budget(newest),
        heartbeats=(),
        verdict=header.get("verdict"),
        verdict_evidence=header.get("verdict_evidence"),
    )


def _unpublished(connection: duckdb.DuckDBPyConnection | None, zone: LandingZone, account_id: str) -> tuple[str, ...]:
    with suppress(duckdb.Error):  # a warehouse of an older version lacks a table: nothing is known of it
        return tuple(str(landed.snapshot_id) for landed in unpublished(connection, zone, account_id))
    return ()


def _heartbeats(
    settings: Settings, account_id: str, beats: Mapping[tuple[str, str], datetime]
) -> tuple[Heartbeat, ...]:
    """Of the cycles that are switched on. One that has never beaten has not been started: it is not late."""
    calendar, cadence, now = MarketCalendar.of(settings), Cadence.of(settings), clock.now()
    switched_on = zip(CYCLES, (cadence.monitor, cadence.trade, cadence.sync), strict=True)
    last = {cycle: beats.get((account_id, cycle)) for cycle, minutes in switched_on if minutes}
    return tuple(
        Heartbeat(cycle, at, late=at is not None and is_late(cycle, at, now, calendar, cadence))
        for cycle, at in last.items()
    )


def _switches(settings: Settings) -> tuple[tuple[str, ...] | None, str | None]:
    try:
        return read_stopped_schedules(settings.dagster_home), None
    except SwitchesError as error:
        return None, str(error)


def _waiting(ledger: Ledger, account_id: str | None) -> tuple[list[SnapshotRequest], str | None]:
    """The requests that wait, or why they are not known: a ledger that is damaged hides nothing of the history."""
    try:
        found = ledger.waiting() if ledger.exists else []
    except PipelineError as error:
        return [], str(error)
    return [request for request in found if account_id in (None, request.account_id)], None


def _age_s(instant: datetime) -> float:
    return round((clock.now() - instant).total_seconds(), 1)


def _failure_line(failure: FailureRecord) -> str:
    return f"{failure.snapshot_id}: {next(iter(failure.errors.values()))}"


def request_budget(landed: LandedSnapshot | None) -> RequestBudget | None:
    """The tightest figure any answer of the newest snapshot carried."""
    if landed is None:
        return None
    pages = (page for pages in landed.manifest.resources.values() for page in pages)
    sent = (rate_limit(page.headers, page.ended_at) for page in pages)
    figures = [RequestBudget(one.allowed, one.available) for one in sent if one and one.allowed is not None]
    return min(figures, key=lambda budget: budget.available, default=None)
