"""The runs of the instance: their tags, and which of them have not ended."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg

from tradier_pipeline.core.processes import is_gone
from tradier_pipeline.instance.launcher import WORKER_TAG
from tradier_pipeline.instance.partitions import PARTITION_TAG

ACCOUNT_TAG = "tradier/account"  # of every run that takes a snapshot


def abandoned(run: dg.DagsterRun) -> bool:
    """Whether the run's process on this machine is gone without having ended the run."""
    return any(is_gone(run.tags.get(tag, "")) for tag in (PROCESS_TAG, WORKER_TAG))


TRIGGER_TAG = "tradier/trigger"


PROCESS_TAG = "tradier/process"  # of a run that no daemon watches: host, process id and start


UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def unfinished_partitions(instance: dg.DagsterInstance) -> set[str]:
    """The partitions of the runs that have not ended and whose processes live, whoever started them."""
    return {run.tags[PARTITION_TAG] for run in unfinished_runs(instance)}


def unfinished_runs(instance: dg.DagsterInstance) -> Iterator[dg.DagsterRun]:
    runs = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
    return (run for run in runs if PARTITION_TAG in run.tags and not abandoned(run))
