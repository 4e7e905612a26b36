"""The trade gate of a snapshot: whether it may be traded on."""

from typing import Any

import dagster as dg

from tradier_pipeline.assets.raw import OWNERS
from tradier_pipeline.assets.resource import TradierResource, as_dagster_failure
from tradier_pipeline.assets.results import ASSET_KEY, table_metadata
from tradier_pipeline.assets.snapshot import PARTITION_ROWS
from tradier_pipeline.instance.partitions import SNAPSHOTS, only_if_landed, partition_of
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.reads import connect_readonly, gate_evaluation


@dg.asset(
    deps=[ASSET_KEY, "option_spreads"],
    partitions_def=SNAPSHOTS,
    description="Whether a snapshot may be traded on, and every blocker by name: the row of `trade_gate_readings` that "
    "was published with it. Whether to trade now says the view `trade_gate`, or `tradier-pipeline gate`.",
    group_name="portfolio",
    kinds={"duckdb", "table"},
    owners=OWNERS,
    metadata=table_metadata("trade_gate_readings", schema.TRADE_GATE_READINGS),
)
def trade_gate(context: dg.AssetExecutionContext, tradier: TradierResource) -> dg.MaterializeResult[None]:
    """What the gate said of a published snapshot when it was read."""
    with as_dagster_failure(), only_if_landed(context, tradier.landing_zone):
        partition_of(context)
        with connect_readonly(tradier.settings.warehouse) as connection:
            gate = gate_evaluation(connection, context.partition_key)
        if gate is None:
            raise dg.Failure(f"{context.partition_key} is not published. Materialize tradier_snapshot first.")
        context.log.info("ready" if gate["ready"] else f"not ready: {', '.join(gate['blockers'])}")
        return gate_result(gate)


def gate_result(gate: dict[str, Any]) -> dg.MaterializeResult[None]:
    """What is reported of a reading of the gate."""
    return dg.MaterializeResult(asset_key="trade_gate", metadata=_metadata(gate))


def _metadata(gate: dict[str, Any]) -> dict[str, Any]:
    return {
        PARTITION_ROWS: 1,
        "ready": gate["ready"],
        "blockers": ", ".join(gate["blockers"]) or "-",
        "open_positions": gate["open_positions"],
        "max_open_positions": "-" if gate["max_open_positions"] is None else gate["max_open_positions"],
    }
