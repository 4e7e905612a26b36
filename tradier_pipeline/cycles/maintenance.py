"""The nightly job that keeps a home small and proves the day before."""

import dagster as dg

from tradier_pipeline import clock
from tradier_pipeline.assets.maintenance import MAINTENANCE
from tradier_pipeline.cycles.defaults import SCHEDULES
from tradier_pipeline.cycles.snapshot_job import EXECUTOR

maintenance = dg.define_asset_job(
    "maintenance",
    selection=dg.AssetSelection.assets(*MAINTENANCE),
    description="Remove old runs from Dagster, compact closed days of the landing zone, seal what is old, prove the "
    "snapshots since the last time again, report sizes. The history itself is never touched.",
    executor_def=EXECUTOR,
    tags={"dagster/max_runtime": "7200"},  # the limit of the instance is that of a snapshot
)

nightly_maintenance = dg.ScheduleDefinition(
    name="maintenance",
    job=maintenance,
    cron_schedule="30 3 * * *",
    execution_timezone=str(clock.NEW_YORK),
    default_status=SCHEDULES,
    description="Every night, far from every session.",
)
