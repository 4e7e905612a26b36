"""The job `snapshot` alone, for a process that takes a snapshot and ends: the other assets, checks, schedules and
sensors would cost it a tenth of a second.
"""

from functools import cache

import dagster as dg

from tradier_pipeline.assets.raw import raw_extracts, raw_quotes
from tradier_pipeline.assets.resource import TradierResource
from tradier_pipeline.assets.snapshot import tradier_snapshot

EXECUTOR = dg.in_process_executor  # a process per step costs ten times what the snapshot costs


def unchecked(*assets: dg.AssetsDefinition) -> dg.AssetSelection:
    """Assets that report their checks themselves once they are materialized.

    A check that is part of a run is planned when the run starts, and counts as failed if the run fails before it.
    """
    return dg.AssetSelection.assets(*assets).without_checks()


SNAPSHOT_ASSETS = (raw_extracts, raw_quotes, tradier_snapshot)

snapshot = dg.define_asset_job(
    "snapshot",
    selection=unchecked(*SNAPSHOT_ASSETS),
    description="Take the snapshot of one partition: read, land, store, verify, publish.",
    executor_def=EXECUTOR,
)


@cache
def snapshot_job() -> dg.JobDefinition:
    """The job `snapshot`, resolved against its own assets and resource; that of the code location does the same."""
    alone = dg.Definitions(assets=[*SNAPSHOT_ASSETS], jobs=[snapshot], resources={"tradier": TradierResource()})
    return alone.resolve_job_def("snapshot")
