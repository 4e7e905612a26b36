"""The jobs: one that takes the snapshot of a partition, and one that asks for a snapshot of now."""

import dagster as dg

from tradier_pipeline.assets.raw import raw_extracts, raw_quotes
from tradier_pipeline.assets.resource import TradierResource, told_in_one_line
from tradier_pipeline.assets.snapshot import tradier_snapshot
from tradier_pipeline.checks.published import published_equals_landed
from tradier_pipeline.cycles.on_demand import run_snapshots
from tradier_pipeline.extract import accounts_to_read

snapshot = dg.define_asset_job(
    "snapshot",
    selection=dg.AssetSelection.assets(raw_extracts, raw_quotes, tradier_snapshot)
    - dg.AssetSelection.checks(published_equals_landed),  # it would only repeat what has just been proven
    description="Take the snapshot of one partition: read, land, store, verify, publish.",
    executor_def=dg.in_process_executor,  # a process per step costs ten times what the snapshot costs
)


class SnapshotRequest(dg.Config):
    """What to take a snapshot of. Nothing needs to be filled in: the default is every configured account."""

    account_id: str | None = None
    reason: str = "manual"


@dg.op
def take_requested_snapshot(context: dg.OpExecutionContext, config: SnapshotRequest, tradier: TradierResource) -> None:
    """Run the job `snapshot` on a new partition of now for every configured account, and wait for it."""
    with told_in_one_line():
        named = config.account_id
        accounts = (named,) if named else accounts_to_read(tradier.settings)
        runs = run_snapshots(context.instance, accounts, config.reason)
        context.add_output_metadata({str(run.snapshot_id): dg.MetadataValue.dagster_run(run.run_id) for run in runs})
        for run in runs:
            run.raise_unless_published()


@dg.job(
    description="Take a snapshot now. Needs no input: press Launch Run.",
    executor_def=dg.in_process_executor,
)
def request_snapshot() -> None:
    take_requested_snapshot()
