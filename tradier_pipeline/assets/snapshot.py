"""The snapshot: typed, stored in one transaction, verified against the landed bytes, then published."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from tradier_pipeline import clock
from tradier_pipeline.assets.partitions import SNAPSHOTS
from tradier_pipeline.assets.raw import OWNERS, raw_key
from tradier_pipeline.assets.resource import TradierResource, told_in_one_line
from tradier_pipeline.landing import REQUIRED_RESOURCES
from tradier_pipeline.portfolio import PortfolioPosition
from tradier_pipeline.snapshot import SnapshotId
from tradier_pipeline.store import NotPublishedError, store_snapshot
from tradier_pipeline.verify import CHECKS
from tradier_pipeline.verify.check import Check
from tradier_pipeline.verify.evidence import shown
from tradier_pipeline.verify.outcome import Outcome, Severity
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.rows import TypedSnapshot

ASSET_KEY = dg.AssetKey("tradier_snapshot")
SHOWN_POSITIONS = 50


def describe(check: Check) -> str:
    """The claim of a check, with its number in the list of consistency checks."""
    return check.claim if check.number is None else f"{check.claim} (check {check.number})"


def _table_schema() -> dg.TableSchema:
    """Every column of every table a snapshot fills, as `table.column`."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                f"{table.name}.{column.name}",
                column.type,
                description=column.comment,
                constraints=dg.TableColumnConstraints(nullable=not column.required),
            )
            for table in schema.TABLES
            for column in table.columns
        ]
    )


@dg.asset(
    key=ASSET_KEY,
    deps=[raw_key(resource) for resource in (*REQUIRED_RESOURCES, "quotes")],
    partitions_def=SNAPSHOTS,
    check_specs=[
        dg.AssetCheckSpec(
            check.name,
            asset=ASSET_KEY,
            description=describe(check),
            blocking=check.severity is Severity.FATAL,
            partitions_def=SNAPSHOTS,
        )
        for check in CHECKS
    ],
    group_name="snapshot",
    kinds={"duckdb", "table"},
    owners=OWNERS,
    metadata={"dagster/column_schema": _table_schema(), "dagster/table_name": "tradier.main.tradier_snapshots"},
)
def tradier_snapshot(
    context: dg.AssetExecutionContext, tradier: TradierResource
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult[None]]:
    """One snapshot of one account in DuckDB: account, balances, positions, orders, legs and quotes under one id.

    A row of `tradier_snapshots` proves that every table holds the whole of it. Nothing is visible to a reader before
    every blocking check has passed.
    """
    with told_in_one_line():
        landed = tradier.landing_zone.find(SnapshotId.parse(context.partition_key))
        if landed is None:
            raise dg.Failure(f"{context.partition_key} is not landed. Materialize the raw extracts first.")
        started = clock.now()
        try:
            typed, outcomes = store_snapshot(tradier.warehouse, landed)
        except NotPublishedError as error:
            yield from map(_check_result, error.outcomes)
            raise
        publish_ms = round((clock.now() - started).total_seconds() * 1000, 1)
        if typed.unknown_fields:
            context.log.warning(
                "the broker sent fields this version does not know: %s", ", ".join(typed.unknown_fields)
            )
        yield from map(_check_result, outcomes)
        yield dg.MaterializeResult(metadata={**_metadata(typed), "publish_ms": publish_ms})


def _metadata(typed: TypedSnapshot) -> dict[str, Any]:
    manifest, balances = typed.landed.manifest, typed.balances
    return {
        "equity": float(balances.total_equity),  # the UI plots floats; the warehouse keeps the exact values
        "cash": float(balances.total_cash),
        "buying_power": float(balances.buying_power),
        "positions": len(typed.positions),
        "orders": len(typed.orders),
        "fetch_ms": round((manifest.as_of_end - manifest.as_of).total_seconds() * 1000, 1),
        "as_of": dg.MetadataValue.timestamp(manifest.as_of),
        "environment": manifest.environment,
        "trigger": manifest.trigger,
        "portfolio": _position_table(typed.positions[:SHOWN_POSITIONS]),
        "unknown_fields": ", ".join(typed.unknown_fields) or "-",
    }


def _position_table(positions: tuple[PortfolioPosition, ...]) -> dg.TableMetadataValue:
    columns = ("symbol", "quantity", "cost_basis", "mark", "market_value", "unrealized_pl")
    return dg.MetadataValue.table(
        records=[dg.TableRecord({name: _cell(getattr(position, name)) for name in columns}) for position in positions],
        schema=dg.TableSchema(columns=[dg.TableColumn(name) for name in columns]),
    )


def _cell(value: Any) -> str:
    return "" if value is None else shown(value)


def _check_result(outcome: Outcome) -> dg.AssetCheckResult:
    """The result in the UI: both figures, and the rows that differ if any do."""
    metadata: dict[str, Any] = {"broker": outcome.broker, "stored": outcome.stored}
    if outcome.differences:
        columns = ("where", "broker", "stored")
        rows = [dg.TableRecord({name: getattr(row, name) for name in columns}) for row in outcome.differences]
        table_schema = dg.TableSchema(columns=[dg.TableColumn(name) for name in columns])
        metadata["differences"] = dg.MetadataValue.table(records=rows, schema=table_schema)
        metadata["differing"] = outcome.differing
    return dg.AssetCheckResult(
        asset_key=ASSET_KEY,
        check_name=outcome.check,
        passed=outcome.passed,
        severity=dg.AssetCheckSeverity.ERROR if outcome.severity is Severity.FATAL else dg.AssetCheckSeverity.WARN,
        metadata=metadata,
    )
