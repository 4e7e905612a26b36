"""The runs of the instance: their tags, and which of them have not ended."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

import dagster as dg

from tradier_pipeline.core.processes import is_gone
from tradier_pipeline.instance.launcher import WORKER_TAG
from tradier_pipeline.instance.partitions import PARTITION_TAG

ACCOUNT_TAG = ".dagster/tradier_account"  # of every run that takes a snapshot; not shown: its partition begins with it
TRIGGER_TAG = "tradier/trigger"  # of a run that was taken for more than the schedule that launched it
PROCESS_TAG = ".dagster/tradier_process"  # not shown; of a run that no daemon watches: host, process id and start
SNAPSHOTS_TAG = ".dagster/tradier_snapshots"  # not shown; of a run for several accounts: its snapshots, `A,B@<instant>`
SEVERAL = "several"  # the account of such a run
FAILED_TAG = ".dagster/tradier_failed"  # not shown; of such a run: account -> why it failed, as JSON
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


def snapshots_tags(accounts: Iterable[str], instant: str) -> dict[str, str]:
    """The tags of a run that takes the snapshots of several accounts at one instant, given as in a partition's key."""
    return {SNAPSHOTS_TAG: f"{','.join(accounts)}@{instant}", ACCOUNT_TAG: SEVERAL}


def partitions_of(run: dg.DagsterRun) -> tuple[str, ...]:
    """The keys of the partitions that a run is about: that of its tag, or one for each of several accounts."""
    if key := run.tags.get(PARTITION_TAG):
        return (key,)
    return keys_together(run.tags.get(SNAPSHOTS_TAG, ""))


def keys_together(tag: str) -> tuple[str, ...]:
    """The keys that the tag of a run for several accounts means."""
    accounts, _, instant = tag.rpartition("@")
    return tuple(f"{account_id}@{instant}" for account_id in accounts.split(",") if account_id)


def accounts_of(run: dg.DagsterRun) -> tuple[str, ...]:
    """The accounts whose snapshots a run takes."""
    account_id = run.tags.get(ACCOUNT_TAG)
    if account_id in (None, SEVERAL):
        return tuple(key.partition("@")[0] for key in partitions_of(run)) if account_id else ()
    return (account_id,)


def failures_of(run: dg.DagsterRun) -> Mapping[str, str]:
    """The accounts of a run for several that it says have failed, and why."""
    found: dict[str, str] = json.loads(run.tags.get(FAILED_TAG, "{}"))
    return found


def failed_account(run: dg.DagsterRun, account_id: str | None) -> bool:
    """Whether a run has failed as far as it is about an account: all of it, or of several accounts this one."""
    failures = failures_of(run)
    return account_id in failures if failures else run.status is dg.DagsterRunStatus.FAILURE


def unfinished_partitions(instance: dg.DagsterInstance) -> set[str]:
    """The partitions of the runs that have not ended and whose processes live, whoever started them."""
    return {key for run in unfinished_runs(instance) for key in partitions_of(run)}


def unfinished_runs(instance: dg.DagsterInstance) -> Iterator[dg.DagsterRun]:
    runs = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
    return (run for run in runs if partitions_of(run) and not abandoned(run))
