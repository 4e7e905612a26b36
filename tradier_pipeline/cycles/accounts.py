"""Which accounts there are, and which of them have a run that has not ended. For schedules and sensors."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import dagster as dg

from tradier_pipeline import clock
from tradier_pipeline.assets.raw import raw_key
from tradier_pipeline.core.snapshot_id import MAX_LATENESS, SnapshotId, SnapshotIdError
from tradier_pipeline.instance.runs import partitions_of, unfinished_runs
from tradier_pipeline.landing.zone import REQUIRED_RESOURCES, LandingZone

READ_FIRST = {raw_key(resource) for resource in REQUIRED_RESOURCES}  # by one request each, together
LONGEST_READING = timedelta(minutes=5)  # runs are ended after three

WAITING = [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.QUEUED]


def running_partitions(instance: dg.DagsterInstance, zone: LandingZone) -> Mapping[str, str]:
    """Account -> the partition of its unfinished run that reads the broker, or is about to.

    None of them are runs of what is landed already, of what is too late to be read, and of checks or the gate alone.
    """
    reading = (key for run in unfinished_runs(instance) for key in partitions_of(run) if _reads(run, key, zone))
    return {partition.partition("@")[0]: partition for partition in reading}


def _reads(run: dg.DagsterRun, partition: str, zone: LandingZone) -> bool:
    if run.asset_selection is not None and run.asset_selection.isdisjoint(READ_FIRST):
        return False
    try:
        snapshot_id = SnapshotId.parse(partition)
    except SnapshotIdError:
        return False
    # one that has begun in time may still be at it; one that waits for its turn begins in time or not at all
    limit = MAX_LATENESS if run.status in WAITING else LONGEST_READING
    return clock.now() <= snapshot_id.instant + limit and zone.find(snapshot_id) is None
