"""Dagster's record of old runs goes; the history itself is in the warehouse and the landing zone, and stays."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg

from tradier_pipeline.core.snapshot_id import SnapshotId, SnapshotIdError
from tradier_pipeline.instance.partitions import PARTITION_TAG, SNAPSHOTS
from tradier_pipeline.instance.runs import SNAPSHOTS_TAG, keys_together

FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
# one run a day: a year of them takes less than an hour of cycles, and the UI plots what they report
DAILY_JOBS = frozenset({"maintenance", "daily_summary", "exchange_calendar"})
DAILY_JOBS_KEPT = timedelta(days=366)


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many runs and partition keys were removed from Dagster's storage."""

    runs: int
    partition_keys: int


def prune(instance: dg.DagsterInstance, before: datetime) -> Pruned:
    """Remove the finished runs from before an instant, with all they recorded, and the keys that no run names any more.

    One run is one short transaction: no minute cycle waits for long. What has not ended stays, and so does its key.
    """
    records = instance.get_run_records(dg.RunsFilter(statuses=FINISHED, created_before=before), ascending=True)
    expired = [
        record.dagster_run.run_id
        for record in records
        if record.dagster_run.job_name not in DAILY_JOBS or record.create_timestamp < before - DAILY_JOBS_KEPT
    ]
    for run_id in expired:
        instance.compute_log_manager.delete_logs(prefix=[run_id])
        instance.delete_run(run_id)
        # of earlier versions, which captured what runs print
        shutil.rmtree(Path(instance.storage_directory()) / run_id, ignore_errors=True)
    keys = [key for key in instance.get_dynamic_partitions(str(SNAPSHOTS.name)) if _is_before(key, before)]
    named = {key for _, values in instance.get_run_tags([PARTITION_TAG]) for key in values}
    together = {value for _, values in instance.get_run_tags([SNAPSHOTS_TAG]) for value in values}
    named |= {key for value in together for key in keys_together(value)}
    unnamed = [key for key in keys if key not in named]
    for key in unnamed:
        instance.delete_dynamic_partition(str(SNAPSHOTS.name), key)
    return Pruned(runs=len(expired), partition_keys=len(unnamed))


def _is_before(key: str, instant: datetime) -> bool:
    try:
        return SnapshotId.parse(key).instant < instant
    except SnapshotIdError:  # somebody's own
        return False
