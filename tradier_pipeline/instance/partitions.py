"""The partition axes: a dynamic key per snapshot, `<account number>@<instant>`, and the trade dates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import dagster as dg

from tradier_pipeline import clock
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.snapshot_id import SnapshotId, SnapshotIdError

if TYPE_CHECKING:
    from tradier_pipeline.landing.zone import LandingZone

PARTITION_TAG = "dagster/partition"  # of every run of a partition

TRADE_DATES = dg.DailyPartitionsDefinition("2020-01-01", timezone=str(clock.NEW_YORK), end_offset=1)  # with today
SNAPSHOTS = dg.DynamicPartitionsDefinition(name="tradier_snapshots")


def partition_of(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> SnapshotId:
    """The snapshot that a run is about.

    Raises:
        PipelineError: the run has no partition, or its key names no snapshot.
    """
    key = context.run.tags.get(PARTITION_TAG)
    if key is None:
        raise PipelineError(
            f"the job {context.run.job_name} takes the snapshot of one partition, and none was named",
            "Launch it on a partition, or launch the job request_snapshot, which takes a snapshot of now.",
        )
    return SnapshotId.parse(key)


def remember_partition(instance: dg.DagsterInstance, snapshot_id: SnapshotId) -> None:
    """A partition exists from when its snapshot is landed."""
    if not instance.has_dynamic_partition(str(SNAPSHOTS.name), str(snapshot_id)):
        instance.add_dynamic_partitions(str(SNAPSHOTS.name), [str(snapshot_id)])


def remember_partitions(instance: dg.DagsterInstance, snapshot_ids: Iterable[SnapshotId]) -> None:
    """Those of several landed snapshots; one that exists stays."""
    instance.add_dynamic_partitions(str(SNAPSHOTS.name), [str(snapshot_id) for snapshot_id in snapshot_ids])


@contextmanager
def only_if_landed(
    context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext, zone: LandingZone
) -> Iterator[None]:
    """Whatever fails in here leaves no partition behind of which nothing is landed: mistyped, or missed."""
    try:
        yield
    except Exception:
        key = context.run.tags.get(PARTITION_TAG)
        if key is not None and not _is_landed(zone, key):
            context.instance.delete_dynamic_partition(str(SNAPSHOTS.name), key)
        raise


def _is_landed(zone: LandingZone, key: str) -> bool:
    try:
        return zone.find(SnapshotId.parse(key)) is not None
    except SnapshotIdError:
        return False
