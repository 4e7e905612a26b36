"""The runs of the instance: their tags, and which of them have not ended."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import dagster as dg

from tradier_pipeline.core.processes import is_gone
from tradier_pipeline.instance.launcher import WORKER_TAG
from tradier_pipeline.instance.partitions import PARTITION_TAG

ACCOUNT_TAG = ".dagster/tradier_account"  # of every run that takes a snapshot; not shown: its partition begins with it
TRIGGER_TAG = "tradier/trigger"  # of a run that was taken for more than the schedule that launched it
PROCESS_TAG = ".dagster/tradier_process"  # not shown; of a run that no daemon watches: host, process id and start
UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


FAILED = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
AT_MOST = 50  # of one look


def failed_runs(instance: dg.DagsterInstance, since: datetime) -> list[dg.DagsterRun]:
    """The runs that failed or were canceled since an instant, oldest first."""
    found = instance.get_runs(dg.RunsFilter(statuses=FAILED, updated_after=since), limit=AT_MOST)
    return list(reversed(found))


def abandoned(run: dg.DagsterRun) -> bool:
    """Whether the run's process on this machine is gone without having ended the run."""
    return any(is_gone(run.tags.get(tag, "")) for tag in (PROCESS_TAG, WORKER_TAG))


def unfinished_partitions(instance: dg.DagsterInstance) -> set[str]:
    """The partitions of the runs that have not ended and whose processes live, whoever started them."""
    return {run.tags[PARTITION_TAG] for run in unfinished_runs(instance)}


def unfinished_runs(instance: dg.DagsterInstance) -> Iterator[dg.DagsterRun]:
    runs = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
    return (run for run in runs if PARTITION_TAG in run.tags and not abandoned(run))
