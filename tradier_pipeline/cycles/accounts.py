"""Which accounts there are, and which of them have a run that has not ended. For schedules and sensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

import dagster as dg

from tradier_pipeline import clock
from tradier_pipeline.assets.raw import raw_key
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.settings import Settings
from tradier_pipeline.core.snapshot_id import MAX_LATENESS, SnapshotId, SnapshotIdError
from tradier_pipeline.cycles.on_demand import abandoned
from tradier_pipeline.extract.snapshot import accounts_to_read
from tradier_pipeline.instance.partitions import PARTITION_TAG
from tradier_pipeline.landing.zone import REQUIRED_RESOURCES, LandingZone

ACCOUNTS_KEPT = timedelta(hours=1)
READ_FIRST = {raw_key(resource) for resource in REQUIRED_RESOURCES}  # by one request each, together
LONGEST_READING = timedelta(minutes=5)  # runs are ended after three
UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

WAITING = [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.QUEUED]

_active_accounts: dict[Settings, tuple[datetime, tuple[str, ...]]] = {}


def unfinished_partitions(instance: dg.DagsterInstance) -> set[str]:
    """The partitions of the runs that have not ended and whose processes live, whoever started them."""
    return {run.tags[PARTITION_TAG] for run in _unfinished(instance)}


def running_partitions(instance: dg.DagsterInstance, zone: LandingZone) -> Mapping[str, str]:
    """Account -> the partition of its unfinished run that reads the broker, or is about to.

    None of them are runs of what is landed already, of what is too late to be read, and of checks or the gate alone.
    """
    reading = {run.tags[PARTITION_TAG] for run in _unfinished(instance) if _reads(run, zone)}
    return {partition.partition("@")[0]: partition for partition in reading}


def _unfinished(instance: dg.DagsterInstance) -> Iterator[dg.DagsterRun]:
    runs = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
    return (run for run in runs if PARTITION_TAG in run.tags and not abandoned(run))


def _reads(run: dg.DagsterRun, zone: LandingZone) -> bool:
    if run.asset_selection is not None and run.asset_selection.isdisjoint(READ_FIRST):
        return False
    try:
        snapshot_id = SnapshotId.parse(run.tags[PARTITION_TAG])
    except SnapshotIdError:
        return False
    # one that has begun in time may still be at it; one that waits for its turn begins in time or not at all
    limit = MAX_LATENESS if run.status in WAITING else LONGEST_READING
    return clock.now() <= snapshot_id.instant + limit and zone.find(snapshot_id) is None


def known_accounts(settings: Settings) -> tuple[str, ...]:
    """The accounts to read. For `all` the profile is asked once an hour, not every minute.

    Raises:
        PipelineError: the accounts of the token cannot be read.
    """
    if settings.accounts is not None:
        return settings.accounts
    now = clock.now()
    read_at, accounts = _active_accounts.get(settings, (None, ()))
    if read_at is None or now - read_at > ACCOUNTS_KEPT:
        try:
            accounts = accounts_to_read(settings)
        except PipelineError as error:
            remedy = "Name the accounts in TRADIER_ACCOUNT_ID: then no cycle depends on this."
            raise PipelineError(f"the accounts of the token are not known: {error.cause}", remedy) from None
        _active_accounts[settings] = (now, accounts)
    return accounts
