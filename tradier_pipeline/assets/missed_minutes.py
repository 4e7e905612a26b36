"""The ledger of gaps: every due minute is a snapshot, a failed attempt, or a missed one with its cause.

A tick only asks for runs; it writes nothing, so that it may be previewed. What it did not ask for, or asked for in
vain, is recorded here, a minute and a half after it was due: by a sensor, by every run of a cycle for the minutes
before its own, and before anything is concluded from a day. `scheduled.json` in the home says until when that is done.
It begins with the first minute that was asked for: a minute that leaves nothing else is a row all the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import AwareDatetime, BaseModel, ValidationError

from tradier_pipeline import clock
from tradier_pipeline.core.files import write_whole
from tradier_pipeline.core.settings import Settings
from tradier_pipeline.core.snapshot_id import MAX_LATENESS, SnapshotId
from tradier_pipeline.domain.calendar import MarketCalendar
from tradier_pipeline.domain.ticks import CYCLES, MINUTE, Cadence, due, widest
from tradier_pipeline.extract.connection import known_accounts
from tradier_pipeline.instance.partitions import PARTITION_TAG
from tradier_pipeline.instance.runs import ACCOUNT_TAG, SEVERAL, accounts_of, partitions_of, unfinished_partitions
from tradier_pipeline.instance.switches import stopped_schedules
from tradier_pipeline.landing.manifest import MissedRecord
from tradier_pipeline.landing.zone import LandingZone
from tradier_pipeline.publish.store import publish_missed
from tradier_pipeline.warehouse.staging import Warehouse

FILE = "scheduled.json"
LONGEST_GAP = timedelta(days=7)  # beyond it the gap between two snapshots speaks for itself
SETTLED = MAX_LATENESS + timedelta(seconds=30)  # by then a due minute is landed, failed, missed or being read
LONGEST_RUN = timedelta(minutes=10)  # what has not ended by then has no say any more
NOT_RUNNING = "the scheduler was not running"
LONGEST_REASON = 300


class Scheduled(BaseModel, frozen=True):
    """Account -> the minute until which every due one is accounted for."""

    until: dict[str, AwareDatetime] = {}


def record_gaps(settings: Settings, instance: dg.DagsterInstance) -> list[SnapshotId]:
    """Record and publish, for every account, the due minutes of which there is nothing. Returns them.

    It looks on where it last left off, but no more than a week back. A home begins with the first minute that was asked
    for, an account that comes to it when it is first seen.

    Raises:
        PipelineError: the accounts of the token are not known, or the home cannot be written.
    """
    now = clock.now()
    path, zone = settings.home / FILE, LandingZone(settings.landing)
    before, until = _read(path), _minute(now - SETTLED)
    begin = {
        account_id: before.until.get(account_id) or _begin(instance, now, is_first=not before.until)
        for account_id in known_accounts(settings)
    }
    recorded = _recorded(settings, instance, zone, {account_id: (since, until) for account_id, since in begin.items()})
    found = [snapshot_id for missed, _ in recorded.values() for snapshot_id in missed]
    after = Scheduled(until={account_id: reached for account_id, (_, reached) in recorded.items()})
    if after != before:
        write_whole(path, after.model_dump_json().encode())
    for newest in {missed.account_id: missed for missed in found}.values():
        publish_missed(Warehouse(settings.warehouse), zone, newest)
    return found


def begin_with(settings: Settings, due: Iterable[SnapshotId]) -> None:
    """Note, before anything of them is read, that accounts of which nothing was ever due begin with these snapshots.

    Raises:
        FileError: the home cannot be written.
    """
    path = settings.home / FILE
    before = _read(path).until
    begun = {one.account_id: one.instant - MINUTE for one in due if one.account_id not in before}
    if begun:
        write_whole(path, Scheduled(until={**before, **begun}).model_dump_json().encode())


def record_gaps_before(settings: Settings, instance: dg.DagsterInstance, own: Iterable[SnapshotId]) -> None:
    """Record the gaps of accounts before snapshots of theirs that are about to be published with them."""
    reached = _read(settings.home / FILE).until
    spans = {
        one.account_id: (since, one.instant - MAX_LATENESS) for one in own if (since := reached.get(one.account_id))
    }
    _recorded(settings, instance, LandingZone(settings.landing), spans)


def _recorded(
    settings: Settings,
    instance: dg.DagsterInstance,
    zone: LandingZone,
    spans: Mapping[str, tuple[datetime, datetime]],
) -> dict[str, tuple[list[SnapshotId], datetime]]:
    """Of each account the minutes after one and up to another that are recorded as missed now, and how far this came.

    Dagster is asked once for all of them.
    """
    starts = {account_id: max(since, until - LONGEST_GAP) for account_id, (since, until) in spans.items()}
    if all(starts[account_id] >= until for account_id, (_, until) in spans.items()):
        return {account_id: ([], since) for account_id, since in starts.items()}
    look = _Look(settings, zone, unfinished_partitions(instance), Causes(instance, min(starts.values())))
    return {
        account_id: _recorded_of(look, account_id, starts[account_id], spans[account_id][1]) for account_id in spans
    }


@dataclass(frozen=True, slots=True)
class _Look:
    """What the minutes of every account are judged by: `alive` are the partitions of runs that have not ended."""

    settings: Settings
    zone: LandingZone
    alive: Collection[str]
    causes: Causes


def _recorded_of(look: _Look, account_id: str, since: datetime, until: datetime) -> tuple[list[SnapshotId], datetime]:
    found: list[SnapshotId] = []
    if since >= until:
        return found, since
    calendar, cadence = MarketCalendar.of(look.settings), Cadence.of(look.settings)
    known = look.zone.attempts(account_id, clock.trade_date(since), clock.now()).keys()
    minute = _minute(since)
    while (minute := minute + MINUTE) <= until:
        session = calendar.session_of(clock.trade_date(minute))
        cycles = tuple(cycle for cycle in due(minute, session, cadence) if cycle not in look.causes.stopped)
        snapshot_id = SnapshotId(account_id, minute)
        if not cycles or str(snapshot_id) in known:
            continue
        if str(snapshot_id) in look.alive and minute > clock.now() - LONGEST_RUN:
            return found, minute - MINUTE
        look.zone.record_missed(
            MissedRecord(
                snapshot_id=str(snapshot_id),
                trigger=",".join(cycles),
                recorded_at=clock.now(),
                reason=look.causes.of(snapshot_id, cycles)[:LONGEST_REASON],
            )
        )
        found.append(snapshot_id)
    return found, until


@dataclass
class Causes:
    """Why due minutes have no snapshot, as Dagster remembers its ticks and runs."""

    instance: dg.DagsterInstance
    since: datetime
    _states: list[Any] = field(init=False)

    def __post_init__(self) -> None:
        self._states = [one for one in self.instance.all_instigator_state() if one.instigator_name in CYCLES]

    @cached_property
    def stopped(self) -> Collection[str]:
        """The cycles that somebody switched off in the UI: their minutes are not due."""
        return stopped_schedules(self.instance)

    @cached_property
    def _ticks(self) -> Mapping[str, Mapping[datetime, Any]]:
        """Cycle -> minute -> its tick."""
        ticks: dict[str, dict[datetime, Any]] = {}
        for state in self._states:
            found = self.instance.get_ticks(
                state.instigator_origin_id, state.selector_id, after=self.since.timestamp() - 1
            )
            ticks.setdefault(state.instigator_name, {}).update(
                (_minute(datetime.fromtimestamp(tick.timestamp, UTC)), tick) for tick in found
            )
        return ticks

    def of(self, snapshot_id: SnapshotId, cycles: tuple[str, ...]) -> str:
        """Why there is nothing of a minute."""
        ticks = {cycle: self._ticks.get(cycle, {}).get(snapshot_id.instant) for cycle in cycles}
        asked = {cycle: tick for cycle, tick in ticks.items() if tick is not None}
        if not asked:
            return NOT_RUNNING
        return (
            self._of_its_run(snapshot_id)
            or _of_ticks(asked, snapshot_id.account_id)
            or self._of_another_run(snapshot_id)
            or f"the tick of {widest(tuple(asked))} asked for no run"
        )

    def _of_its_run(self, snapshot_id: SnapshotId) -> str | None:
        runs = self.instance.get_runs(dg.RunsFilter(tags={PARTITION_TAG: str(snapshot_id)}), limit=1)
        for run in runs or self._groups_of(snapshot_id):
            ended = run.status.value.lower() if run.is_finished else "killed"
            return f"its run {run.run_id} ended before anything was landed: {ended}"
        return None

    def _groups_of(self, snapshot_id: SnapshotId) -> Iterable[dg.DagsterRun]:
        """The runs for several accounts that were to take it."""
        return [run for run in self._group_runs if str(snapshot_id) in partitions_of(run)]

    @cached_property
    def _group_runs(self) -> Sequence[dg.DagsterRun]:
        return self.instance.get_runs(dg.RunsFilter(tags={ACCOUNT_TAG: SEVERAL}, created_after=self.since - MINUTE))

    def _of_another_run(self, snapshot_id: SnapshotId) -> str | None:
        """One of the account that was on at the minute."""
        at = snapshot_id.instant.timestamp()
        of_account = dg.RunsFilter(tags={ACCOUNT_TAG: [snapshot_id.account_id, SEVERAL]})
        for record in self.instance.get_run_records(of_account, limit=50):
            if snapshot_id.account_id not in accounts_of(record.dagster_run):
                continue
            started, ended = record.start_time or record.create_timestamp.timestamp(), record.end_time
            if started <= at + MAX_LATENESS.total_seconds() and (ended is None or ended >= at):
                keys = [
                    key for key in partitions_of(record.dagster_run) if key.startswith(f"{snapshot_id.account_id}@")
                ]
                return f"overlap: {', '.join(keys)} was still being taken"
        return None


def _of_ticks(ticks: Mapping[str, Any], account_id: str) -> str | None:
    """What a tick says itself: its error, or why it skipped the account."""
    for cycle, tick in ticks.items():
        if tick.error is not None:
            return f"the tick of {cycle} failed: {_innermost(tick.error)}"
    for tick in ticks.values():
        for part in (tick.skip_reason or "").split("; "):
            if part.startswith(f"{account_id}: "):
                return str(part.removeprefix(f"{account_id}: ").removeprefix("missed, "))
    return None


def _innermost(error: Any) -> str:
    while error.cause is not None:
        error = error.cause
    line = next(iter(error.message.strip().splitlines()), "")
    return str(line.rpartition("Failure: ")[2])


def last_ticks(instance: dg.DagsterInstance, before: datetime) -> Iterable[float]:
    """When the schedules of the cycles ticked last, in seconds since the epoch."""
    for state in instance.all_instigator_state():
        if state.instigator_name in CYCLES:
            found = instance.get_ticks(
                state.instigator_origin_id, state.selector_id, before=before.timestamp(), limit=1
            )
            yield from (tick.timestamp for tick in found)


def _begin(instance: dg.DagsterInstance, now: datetime, *, is_first: bool) -> datetime:
    """Where an account begins that the file does not have. Without a file the newest tick was the first, and counts."""
    newest = max(last_ticks(instance, now), default=None)
    if newest is None:
        return _minute(now)
    return _minute(datetime.fromtimestamp(newest, UTC)) - (MINUTE if is_first else timedelta())


def _minute(instant: datetime) -> datetime:
    return instant.replace(second=0, microsecond=0)


def _read(path: Path) -> Scheduled:
    """A file that is damaged counts as none: it is written anew."""
    with suppress(FileNotFoundError, ValidationError):
        return Scheduled.model_validate_json(path.read_bytes())
    return Scheduled()
