"""Proving a published snapshot again, whenever somebody wants to know."""

import dagster as dg

from tradier_pipeline.assets.claims import differences_table
from tradier_pipeline.assets.resource import TradierResource, as_dagster_failure
from tradier_pipeline.assets.results import ASSET_KEY
from tradier_pipeline.instance.partitions import SNAPSHOTS, only_if_landed, partition_of
from tradier_pipeline.verify import verify_snapshot
from tradier_pipeline.warehouse.reads import connect_readonly, require_current


@dg.asset_check(asset=ASSET_KEY, partitions_def=SNAPSHOTS)
def published_equals_landed(context: dg.AssetCheckExecutionContext, tradier: TradierResource) -> dg.AssetCheckResult:
    """Every check of the published rows against the landed bytes, run again on demand."""
    with as_dagster_failure(), only_if_landed(context, tradier.landing_zone):
        snapshot_id = partition_of(context)
        landed = tradier.landing_zone.find(snapshot_id)
        if landed is None:
            raise dg.Failure(f"{snapshot_id} is not landed.")
        with connect_readonly(tradier.settings.warehouse) as connection:
            require_current(connection)
            outcomes = verify_snapshot(landed, connection)
    failed = [outcome for outcome in outcomes if outcome.blocks]
    warned = [outcome for outcome in outcomes if not outcome.passed and not outcome.blocks]
    return dg.AssetCheckResult(
        passed=not failed,
        description=", ".join(outcome.check for outcome in failed) or f"{len(outcomes)} checks",
        metadata={
            "checks": len(outcomes),
            "failed": ", ".join(outcome.check for outcome in failed) or "-",
            "warnings": ", ".join(outcome.check for outcome in warned) or "-",
            **({"differences": differences_table(failed)} if failed else {}),
        },
    )
