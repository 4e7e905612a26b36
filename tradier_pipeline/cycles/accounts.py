"""Which accounts there are, and which of them have a run that has not ended. For schedules and sensors."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import dagster as dg

from tradier_pipeline import clock
from tradier_pipeline.cycles.on_demand import abandoned
from tradier_pipeline.errors import PipelineError
from tradier_pipeline.extract import accounts_to_read
from tradier_pipeline.settings import Settings

PARTITION_TAG = "dagster/partition"
ACCOUNTS_KEPT = timedelta(hours=1)
UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

_active_accounts: dict[Settings, tuple[datetime, tuple[str, ...]]] = {}


def running_partitions(instance: dg.DagsterInstance) -> Mapping[str, str]:
    """Account -> the partition of its unfinished run, whoever started it."""
    runs = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
    partitions = [run.tags[PARTITION_TAG] for run in runs if PARTITION_TAG in run.tags and not abandoned(run)]
    return {partition.partition("@")[0]: partition for partition in partitions}


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
