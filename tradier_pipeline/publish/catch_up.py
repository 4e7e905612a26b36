"""What is landed and not published is published by the next run, in the order of reading.

A process that died between landing and publishing, a warehouse that was deleted or is damaged, an older copy that was
restored: the landing zone has all of it. In the normal minute this costs one look at the newest days of the account.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import duckdb

from tradier_pipeline import clock
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.domain.gate import GateRules
from tradier_pipeline.landing.activity import landed_activity
from tradier_pipeline.landing.errors import LandingError
from tradier_pipeline.landing.market import landed_market
from tradier_pipeline.landing.zone import LandedSnapshot, LandingZone
from tradier_pipeline.publish.derive import known_of, store_results, upsert_findings, with_verdict
from tradier_pipeline.publish.missed import Row, missed_row
from tradier_pipeline.publish.store import (
    OF_ONE_SNAPSHOT,
    NotPublishedError,
    look_back,
    refused_row,
    store_activities,
    store_market_of,
    store_verified,
)
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.damaged import keep_aside, set_aside_damaged, waiting_aside
from tradier_pipeline.warehouse.reads import activity_paths, connect_readonly, market_paths
from tradier_pipeline.warehouse.sealed import reaching
from tradier_pipeline.warehouse.staging import StagedWarehouse, Warehouse, WarehouseError, insert, log_of
from tradier_pipeline.warehouse.typed import read_typed
from tradier_pipeline.warehouse.unpublished import EPOCH, newest_published, published_or_refused, unpublished

CAUGHT_UP = "caught_up"  # under this name a run tells what it caught up with
OTHERS_SETTLED = timedelta(minutes=5)  # another account's own run may still be about to publish what is younger


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """What was landed and not published, and is now.

    `refused`: snapshot id or path -> why it still is not. `remaining`: those for which the time was not enough.
    `damage`: why the file that was published had to be set aside; "" if it was sound, or set aside before.
    `kept_as`: the damaged file, once nothing is expected of it any more. `lost`: what no landed byte tells could not be
    read from it.
    """

    published: int = 0
    refused: tuple[tuple[str, str], ...] = ()
    activity: int = 0
    remaining: int = 0
    rebuilt: bool = False
    damage: str = ""
    kept_as: str = ""
    lost: bool = False

    def __bool__(self) -> bool:
        return bool(self.published or self.refused or self.activity or self.remaining or self.damage)

    def __str__(self) -> str:
        how = f"damaged ({self.damage})" if self.damage else "damaged" if self.kept_as else "absent"
        what = f"the warehouse was {how} and is rebuilt" if self.rebuilt else "caught up"
        parts = [f"{self.published} landed snapshots published"]
        if self.activity:
            parts.append(f"{self.activity} extracts of the activity published")
        if self.refused:
            snapshot_id, reason = self.refused[0]
            parts.append(f"{len(self.refused)} left out, such as {snapshot_id} ({reason})")
        if self.remaining:
            parts.append(f"{self.remaining} still to be published")
        if self.kept_as:
            parts.append(f"the damaged file is kept as {self.kept_as}")
        if self.lost:
            parts.append("lost: findings, daily summaries or what the ledger led to, as far as it cannot be read")
        return f"{what} from the landing zone: {', '.join(parts)}"


class BehindError(PipelineError):
    """There was more to catch up with than one run may take; the next one goes on."""


def catch_up(
    warehouse: Warehouse,
    zone: LandingZone,
    rules: GateRules,
    own: Collection[SnapshotId] | None = None,
    *,
    stated: Callable[[], Sequence[Row]] = tuple,
    seconds: float | None = None,
) -> CaughtUp:
    """Publish what is landed and sound and not published, in order, and say what it was. Mostly nothing.

    Args:
        own: the snapshots that are about to be published by the caller, one of an account. Without them every account
            is looked at.
        stated: the flows that the owner states, for a warehouse that is absent or damaged.
        seconds: stop after so long, and publish what was stored by then; None: never.

    Raises:
        BusyError, FileError, WarehouseError: the warehouse cannot be written.
    """
    damage, aside = "", waiting_aside(warehouse.path)
    try:
        behind = _is_behind(warehouse, zone, own)
    except WarehouseError:
        # a log of a program that ended without it: nothing reads through it, and what publishes next removes it
        if not log_of(warehouse.path).exists() and (damage := set_aside_damaged(warehouse) or "") == "":
            raise
        behind = True
    if not (behind or aside.exists()):
        return CaughtUp()
    rebuilt = not warehouse.path.exists()
    kept_as, whole = "", True
    with warehouse.staged() as staged:
        pending = sorted(_pending(staged, zone, own), key=_read_at)
        staged.miss(list(_missed_rows(staged, zone, pending)))
        published, refused, done = _publish(staged, pending, rules, seconds)
        remaining = len(pending) - done
        activity = 0
        if not remaining:
            known = set(activity_paths(staged.connection))
            extracts = [landed for landed in landed_activity(zone) if landed.path not in known]
            unkept = store_activities(staged, extracts, rules.calendar)
            stored = set(market_paths(staged.connection))
            refused |= store_market_of(staged, [landed for landed in landed_market(zone) if landed.path not in stored])
            activity, refused = len(extracts) - len(unkept), refused | unkept
        if rebuilt:
            insert(staged.connection, schema.STATED_FLOWS, stated())
        if not remaining and aside.exists():
            whole = staged.merge_reconciled(aside)
        staged.note_heads(zone)
    if not remaining and aside.exists():
        kept_as = keep_aside(aside, clock.now()).name
    return CaughtUp(published, tuple(refused.items()), activity, remaining, rebuilt, damage, kept_as, not whole)


def _is_behind(warehouse: Warehouse, zone: LandingZone, own: Collection[SnapshotId] | None) -> bool:
    coming = _by_account(own)
    accounts = zone.accounts() if own is None else list(coming)
    if not warehouse.path.exists():
        first = next(iter(coming.values()), None)  # of other accounts, too, what is of now is not behind
        waiting = any(unpublished(None, zone, account, coming.get(account, first)) for account in zone.accounts())
        return waiting or bool(landed_activity(zone))
    # one of an older version may lack a table: the snapshot that completes it goes first, the next run catches up
    with suppress(duckdb.Error), connect_readonly(warehouse.path) as connection:
        return any(unpublished(connection, zone, account, coming.get(account)) for account in accounts)
    return False


def _by_account(own: Collection[SnapshotId] | None) -> Mapping[str, SnapshotId]:
    return {snapshot_id.account_id: snapshot_id for snapshot_id in own or ()}


def _pending(
    staged: StagedWarehouse, zone: LandingZone, own: Collection[SnapshotId] | None
) -> Iterator[LandedSnapshot]:
    settled = clock.now() - OTHERS_SETTLED
    coming = _by_account(own)
    for account in zone.accounts():
        ours = own is None or account in coming
        for landed in unpublished(staged.connection, zone, account, coming.get(account)):
            if ours or landed.snapshot_id.instant < settled:
                yield landed


def _read_at(landed: LandedSnapshot) -> tuple[datetime, SnapshotId]:
    try:
        return landed.manifest.as_of, landed.snapshot_id
    except LandingError:
        return landed.snapshot_id.instant, landed.snapshot_id


def _missed_rows(staged: StagedWarehouse, zone: LandingZone, pending: Sequence[LandedSnapshot]) -> Iterator[Row]:
    """The instants that were missed or failed since what is published, before and between what is about to be."""
    coming = {str(landed.snapshot_id) for landed in pending}
    for account in zone.accounts():
        since = EPOCH.date() if staged.completed else newest_published(staged.connection, account, None)
        with reaching(staged.connection, since):
            done = published_or_refused(staged.connection, account, since)
        for snapshot_id, path in zone.attempts(account, since, clock.now()).items():
            if snapshot_id not in done and snapshot_id not in coming:
                yield missed_row(zone, path, snapshot_id)


def _publish(
    staged: StagedWarehouse, pending: Sequence[LandedSnapshot], rules: GateRules, seconds: float | None
) -> tuple[int, dict[str, str], int]:
    """Store and verify one by one. Returns how many were stored, those that were refused, and how many were tried."""
    until = None if seconds is None else time.monotonic() + seconds
    refused: dict[str, str] = {}
    for place, landed in enumerate(pending):
        if until is not None and time.monotonic() > until:
            return place - len(refused), refused, place
        try:
            _store(staged, landed, rules)
        except OF_ONE_SNAPSHOT as error:
            refused[str(landed.snapshot_id)] = str(error)
            staged.refuse(refused_row(landed, error))
            if isinstance(error, NotPublishedError):
                store_results(staged.connection, landed, error.outcomes)
    return len(pending) - len(refused), refused, len(pending)


def _store(staged: StagedWarehouse, landed: LandedSnapshot, rules: GateRules) -> None:
    """As it would have been stored in its minute, but for the ledger: what it said then is not known any more."""
    typed = read_typed(landed)
    look_back(staged, typed)
    known = known_of(staged.connection, typed)
    typed = with_verdict(staged.connection, typed, rules.calendar, known)
    store_verified(staged, typed, rules, with_missed=False)
    if known.is_news:
        upsert_findings(staged.connection, typed, ledger_read=False)
