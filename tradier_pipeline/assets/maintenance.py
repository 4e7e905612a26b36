"""What keeps a home small and trustworthy: pruned runs, compacted days, snapshots proven again, sizes."""

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from tradier_pipeline import clock
from tradier_pipeline.assets.raw import OWNERS
from tradier_pipeline.assets.resource import TradierResource, as_dagster_failure
from tradier_pipeline.core.files import size_of
from tradier_pipeline.instance.partitions import SNAPSHOTS
from tradier_pipeline.instance.prune import prune
from tradier_pipeline.landing.compaction import compact
from tradier_pipeline.publish.reverify import Reverified, reverify
from tradier_pipeline.publish.seal import Sealing, seal
from tradier_pipeline.warehouse.reads import connect_readonly, snapshots_read_after
from tradier_pipeline.warehouse.staging import Warehouse, sealed_directory

GROUP = "reporting"
REVERIFIED = dg.AssetKey("reverified_snapshots")
PROVEN_UNTIL = "proven_until"
PROVEN_BACK = timedelta(days=7)  # after a longer pause: `tradier-pipeline verify --all`
SHOWN_ROWS = 100


@dg.asset(group_name=GROUP, kinds={"dagster"}, owners=OWNERS)
def pruned_runs(context: dg.AssetExecutionContext, tradier: TradierResource) -> dg.MaterializeResult[None]:
    """Runs older than TRADIER_KEEP_RUN_DAYS, with all they recorded, and their partition keys, leave Dagster's storage.

    What has not ended stays. The snapshots themselves are in DuckDB and in the landing zone.
    """
    with as_dagster_failure():
        before = clock.now() - timedelta(days=tradier.settings.keep_run_days)
        pruned = prune(context.instance, before)
        return dg.MaterializeResult(
            metadata={
                "runs": pruned.runs,
                "partition_keys": pruned.partition_keys,
                "before": dg.MetadataValue.timestamp(before),
            }
        )


@dg.asset(group_name=GROUP, kinds={"zip"}, owners=OWNERS)
def compacted_days(tradier: TradierResource) -> dg.MaterializeResult[None]:
    """Days of the landing zone older than TRADIER_COMPACT_AFTER_DAYS become one archive each, read as before."""
    with as_dagster_failure():
        before = clock.trade_date(clock.now()) - timedelta(days=tradier.settings.compact_after_days)
        compaction = compact(tradier.landing_zone, before)
        if compaction.refused:
            day, reason = next(iter(compaction.refused.items()))
            raise dg.Failure(
                f"{len(compaction.refused)} days were not compacted, such as {day}: {reason}",
                metadata=dict(compaction.refused),
                allow_retries=False,
            )
        days = compaction.days
        rows = [{"account": day.account_id, "day": str(day.trade_date), "files": day.files} for day in days]
        return dg.MaterializeResult(
            metadata={
                "days": len(days),
                "files": sum(day.files for day in days),
                "bytes_before": sum(day.bytes_before for day in days),
                "bytes_after": sum(day.bytes_after for day in days),
                "compacted": _table(rows, ("account", "day", "files")),
            }
        )


@dg.asset(group_name=GROUP, kinds={"parquet"}, owners=OWNERS)
def sealed_months(tradier: TradierResource) -> dg.MaterializeResult[None]:
    """What is old of the tables that grow by the minute becomes Parquet files, and leaves the file that every publish
    copies. Readers see no difference.
    """
    with as_dagster_failure():
        warehouse = Warehouse(tradier.settings.warehouse)
        sealing = seal(warehouse) if warehouse.path.exists() else Sealing()
        return dg.MaterializeResult(
            metadata={
                "months": ", ".join(f"{month:%Y-%m}" for month in sealing.months),
                "years": ", ".join(f"{year:%Y}" for year in sealing.years),
                "days_to": str(sealing.days_to or ""),
                "files": sealing.files,
                "rows": sealing.rows,
                "sealed_mb": _megabytes(sealing.bytes),
                "warehouse_mb_before": _megabytes(sealing.warehouse_before),
                "warehouse_mb_after": _megabytes(sealing.warehouse_after),
            }
        )


@dg.asset(key=REVERIFIED, group_name=GROUP, kinds={"duckdb"}, owners=OWNERS)
def reverified_snapshots(context: dg.AssetExecutionContext, tradier: TradierResource) -> dg.MaterializeResult[None]:
    """Every check of the snapshots published since the last time, run again: stored rows against landed bytes.

    A blocking check that fails now fails the run; the same snapshots are proven again the next time.
    """
    with as_dagster_failure():
        settings = tradier.settings
        since = max(_proven_until(context.instance), clock.now() - PROVEN_BACK)
        snapshots: dict[str, datetime] = {}
        if settings.warehouse.exists():
            with connect_readonly(settings.warehouse) as connection:
                snapshots = snapshots_read_after(connection, since)
        results = list(reverify(settings, list(snapshots), everything=False)) if snapshots else []
        failed = [result for result in results if any(outcome.blocks for outcome in result.outcomes)]
        if failed:
            raise dg.Failure(
                f"{len(failed)} of {len(results)} published snapshots are not what was landed, such as "
                f"{failed[0].snapshot_id}. See `tradier-pipeline verify {failed[0].snapshot_id}`; "
                "`tradier-pipeline rebuild` writes the warehouse anew.",
                metadata={"snapshots": len(results), "failed": len(failed), "failures": _failures(failed)},
                allow_retries=False,
            )
        until = max(snapshots.values(), default=since)
        warned = sum(not outcome.passed for result in results for outcome in result.outcomes)
        return dg.MaterializeResult(
            metadata={
                "snapshots": len(results),
                "checks": sum(len(result.outcomes) for result in results),
                "warnings": warned,
                PROVEN_UNTIL: dg.MetadataValue.timestamp(until),
            }
        )


@dg.asset(group_name=GROUP, deps=[pruned_runs, compacted_days, sealed_months], kinds={"report"}, owners=OWNERS)
def storage_report(context: dg.AssetExecutionContext, tradier: TradierResource) -> dg.MaterializeResult[None]:
    """What the home takes on disk after maintenance, in MB, and what Dagster still remembers."""
    with as_dagster_failure():
        settings = tradier.settings
        return dg.MaterializeResult(
            metadata={
                "warehouse_mb": _megabytes(size_of(settings.warehouse)),
                "sealed_mb": _megabytes(size_of(sealed_directory(settings.warehouse))),
                "landing_zone_mb": _megabytes(size_of(settings.landing)),
                "ledger_mb": _megabytes(size_of(settings.ledger)),
                "dagster_mb": _megabytes(size_of(settings.dagster_home)),
                "free_mb": _megabytes(shutil.disk_usage(settings.home).free),
                "runs": context.instance.get_runs_count(),
                "partition_keys": len(context.instance.get_dynamic_partitions(str(SNAPSHOTS.name))),
            }
        )


MAINTENANCE = (pruned_runs, compacted_days, sealed_months, reverified_snapshots, storage_report)


def _proven_until(instance: dg.DagsterInstance) -> datetime:
    """The as-of of the newest snapshot that was proven again."""
    event = instance.get_latest_materialization_event(REVERIFIED)
    materialization = event.asset_materialization if event else None
    until = materialization.metadata.get(PROVEN_UNTIL) if materialization else None
    return datetime.fromtimestamp(until.value if isinstance(until, dg.TimestampMetadataValue) else 0.0, UTC)


def _failures(failed: Sequence[Reverified]) -> dg.TableMetadataValue:
    rows = [
        {"snapshot": result.snapshot_id, "check": outcome.check, "broker": outcome.broker, "stored": outcome.stored}
        for result in failed
        for outcome in result.outcomes
        if outcome.blocks
    ]
    return _table(rows, ("snapshot", "check", "broker", "stored"))


def _table(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> dg.TableMetadataValue:
    return dg.MetadataValue.table(
        records=[dg.TableRecord(row) for row in rows[:SHOWN_ROWS]],
        schema=dg.TableSchema(columns=[dg.TableColumn(name) for name in columns]),
    )


def _megabytes(size: int) -> float:
    return round(size / 1e6, 1)
