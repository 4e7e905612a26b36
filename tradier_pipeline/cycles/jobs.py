"""The jobs: one that takes the snapshot of a partition, that of each cycle, and one that asks for a snapshot of now."""

import dagster as dg

from tradier_pipeline.assets.activity import raw_activity, stored_activity
from tradier_pipeline.assets.calendar import raw_calendar
from tradier_pipeline.assets.dividends import dividends
from tradier_pipeline.assets.gate import trade_gate
from tradier_pipeline.assets.prices import daily_prices
from tradier_pipeline.assets.reconciliation import reconciled_ledger
from tradier_pipeline.assets.report import daily_report
from tradier_pipeline.assets.resource import TradierResource, as_dagster_failure
from tradier_pipeline.assets.summary import daily_summary
from tradier_pipeline.cycles.on_demand import SnapshotJob, run_snapshots
from tradier_pipeline.cycles.snapshot_job import EXECUTOR, SNAPSHOT_ASSETS, unchecked
from tradier_pipeline.extract.connection import accounts_to_read
from tradier_pipeline.ledger.records import Reason

ONE_SNAPSHOT = unchecked(*SNAPSHOT_ASSETS)

# The same work under the name of each cycle: the run list shows why a run was.
monitor_cycle = dg.define_asset_job(
    "monitor_cycle",
    selection=ONE_SNAPSHOT,
    description="The snapshot of the session, every TRADIER_MONITOR_MINUTES.",
    executor_def=EXECUTOR,
)
trade_cycle = dg.define_asset_job(
    "trade_cycle",
    selection=ONE_SNAPSHOT | unchecked(trade_gate, reconciled_ledger),
    description="The snapshot a trading decision is made on, with the trade gate and the ledger beside it, "
    "every TRADIER_TRADE_MINUTES of the session.",
    executor_def=EXECUTOR,
)
account_sync = dg.define_asset_job(
    "account_sync",
    selection=ONE_SNAPSHOT,
    description="The snapshots around the session: 08:00, every TRADIER_SYNC_MINUTES from 07:00 to 20:00, and 15 "
    "minutes after the close.",
    executor_def=EXECUTOR,
)

exchange_calendar = dg.define_asset_job(
    "exchange_calendar",
    selection=unchecked(raw_calendar),
    description="The broker's calendar, once a day before the first cycle, compared with the one in use.",
    executor_def=EXECUTOR,
)

daily_summary_job = dg.define_asset_job(
    "daily_summary",
    selection=unchecked(daily_summary, daily_report),
    description="The summary and the report of a session day, TRADIER_SUMMARY_AFTER_CLOSE_MINUTES after its close.",
    executor_def=EXECUTOR,
)


account_activity_job = dg.define_asset_job(
    "account_activity",
    selection=unchecked(raw_activity, stored_activity, daily_prices, dividends),
    description="What the broker reports over night, the morning after a session day: history, gain and loss, values; "
    "the prices of the benchmark, and the dividends of what short calls are written on.",
    executor_def=EXECUTOR,
    tags={"dagster/max_runtime": "1800"},  # the limit of the instance is that of a snapshot
)


class SnapshotRequest(dg.Config):
    """What to take a snapshot of. Nothing needs to be filled in: the default is every configured account."""

    account_id: str | None = None
    reason: Reason = "manual"


def build_request_snapshot(snapshot_job: SnapshotJob) -> dg.JobDefinition:
    """The job `request_snapshot`, which runs the snapshot job on a partition of now."""

    @dg.op
    def take_requested_snapshot(
        context: dg.OpExecutionContext, config: SnapshotRequest, tradier: TradierResource
    ) -> None:
        """Run the job `snapshot` on a new partition of now for every configured account, and wait for it."""
        with as_dagster_failure():
            named = config.account_id
            accounts = (named,) if named else accounts_to_read(tradier.settings)
            runs = run_snapshots(context.instance, snapshot_job, tradier.settings, accounts, config.reason)
            context.add_output_metadata(
                {str(run.snapshot_id): dg.MetadataValue.dagster_run(run.run_id) for run in runs}
            )
            for run in runs:
                run.raise_unless_published()

    @dg.job(
        description="Take a snapshot now. Needs no input: press Launch Run.",
        executor_def=EXECUTOR,
    )
    def request_snapshot() -> None:
        take_requested_snapshot()

    return request_snapshot
