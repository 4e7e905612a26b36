"""The job that takes the snapshots of several accounts at one instant, whoever asks for them."""

from functools import cache

import dagster as dg

from tradier_pipeline.assets.raw import POOL
from tradier_pipeline.assets.resource import TradierResource, as_dagster_failure
from tradier_pipeline.assets.several import take_several
from tradier_pipeline.cycles.snapshot_job import EXECUTOR

SNAPSHOT_ACCOUNTS = "snapshot_accounts"


@dg.op(pool=POOL)
def take_snapshots(context: dg.OpExecutionContext, tradier: TradierResource) -> None:
    """Read the accounts side by side, store and verify each by itself, publish them by one rename."""
    with as_dagster_failure():
        take_several(context, tradier)


@dg.job(
    name=SNAPSHOT_ACCOUNTS,
    description="The snapshots of several accounts at one instant, each a partition of its own. The cycles launch it "
    "where there is more than one account; by hand, launch request_snapshot.",
    executor_def=EXECUTOR,
)
def snapshot_accounts() -> None:
    take_snapshots()


@cache
def accounts_job() -> dg.JobDefinition:
    """The job alone, for a process that takes snapshots and ends."""
    alone = dg.Definitions(jobs=[snapshot_accounts], resources={"tradier": TradierResource()})
    return alone.resolve_job_def(SNAPSHOT_ACCOUNTS)
