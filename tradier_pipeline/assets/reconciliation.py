"""The ledger beside a snapshot, as it was published with it, and the problems of the account over time."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
import duckdb

from tradier_pipeline.assets.claims import claim_evaluations
from tradier_pipeline.assets.raw import OWNERS
from tradier_pipeline.assets.resource import TradierResource, as_dagster_failure
from tradier_pipeline.assets.results import ASSET_KEY, SHOWN_ROWS, markdown_list, records_table, table_metadata
from tradier_pipeline.assets.snapshot import PARTITION_ROWS
from tradier_pipeline.core.outcome import Outcome
from tradier_pipeline.core.settings import Settings
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.instance.partitions import SNAPSHOTS, only_if_landed, partition_of
from tradier_pipeline.ledger.store import Ledger, LedgerError
from tradier_pipeline.publish.ledger_state import reconcile_newest
from tradier_pipeline.reconcile.ledger_checks import RECONCILIATION_CHECKS
from tradier_pipeline.verify.claims import LEDGER_CLAIMS
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.reads import connect_readonly, findings, gate_evaluation, reconciliation

Row = dict[str, Any]


@dg.multi_asset(
    name="reconciliation",
    specs=[
        dg.AssetSpec(
            "order_reconciliation",
            deps=[ASSET_KEY],
            description="Every order of the ledger beside the broker's: matched by id or by tag, of others, missing, "
            "or in doubt; what the sides disagree on, and what the ledger should say.",
            group_name="reconciliation",
            kinds={"duckdb", "table"},
            owners=OWNERS,
            metadata=table_metadata("order_reconciliation", schema.ORDER_RECONCILIATION),
        ),
        dg.AssetSpec(
            "trade_reconciliation",
            deps=[ASSET_KEY],
            description="Where every trade of the ledger should stand by its fills, the positions and its expiration, "
            "and what the ledger should say.",
            group_name="reconciliation",
            kinds={"duckdb", "table"},
            owners=OWNERS,
            metadata=table_metadata("trade_reconciliation", schema.TRADE_RECONCILIATION),
        ),
        dg.AssetSpec(
            "findings",
            deps=[ASSET_KEY, "conservation"],
            description="The problems of the account and its ledger: one row each from when it was first seen until it "
            "was gone, with evidence and what to do about it. An open error blocks the trade gate.",
            group_name="reconciliation",
            kinds={"duckdb", "table"},
            owners=OWNERS,
            metadata=table_metadata("findings", schema.FINDINGS),
        ),
    ],
    partitions_def=SNAPSHOTS,
    can_subset=True,
)
def reconciled_ledger(
    context: dg.AssetExecutionContext, tradier: TradierResource
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckEvaluation]:
    """What was published with a snapshot, the findings that are open now, and the checks of the ledger as it is now."""
    with as_dagster_failure(), only_if_landed(context, tradier.landing_zone):
        with connect_readonly(tradier.settings.warehouse) as connection:
            if gate_evaluation(connection, context.partition_key) is None:
                raise dg.Failure(f"{context.partition_key} is not published. Materialize tradier_snapshot first.")
            results = reconciliation_results(connection, partition_of(context))
        yield from (results[key] for key in sorted(context.selected_asset_keys))
        claims = [claim for claim in LEDGER_CLAIMS if dg.AssetKey(claim.asset) in context.selected_asset_keys]
        if claims and (outcomes := ledger_outcomes(context, tradier.settings, context.partition_key)):
            yield from claim_evaluations(context, claims, outcomes)


def reconciliation_results(
    connection: duckdb.DuckDBPyConnection, snapshot_id: SnapshotId
) -> dict[dg.AssetKey, dg.MaterializeResult[None]]:
    """What is reported of the ledger beside a published snapshot, and of the findings that are open now, by asset."""
    stored = reconciliation(connection, str(snapshot_id))
    open_findings = findings(connection, snapshot_id.account_id, resolved=False)
    metadata = {
        "order_reconciliation": _orders_metadata(stored["order_reconciliation"]),
        "trade_reconciliation": _trades_metadata(stored["trade_reconciliation"]),
        "findings": _findings_metadata(open_findings),
    }
    return {dg.AssetKey(name): dg.MaterializeResult(asset_key=name, metadata=found) for name, found in metadata.items()}


def ledger_outcomes(
    context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext | dg.OpExecutionContext,
    settings: Settings,
    partition: str,
) -> list[Outcome]:
    """What the rules say of the ledger as it is now, beside the snapshot of a partition.

    None without a ledger, and none if it is not the newest snapshot: the ledger of its time is not kept.
    """
    account_id = SnapshotId.parse(partition).account_id
    try:
        if Ledger(settings.ledger).empty:
            return []
        (found,) = reconcile_newest(settings, account_id, whole=False)
    except LedgerError as error:
        context.log.warning(f"The ledger is not judged: {error}")
        return []
    if found.facts.snapshot_id != partition:
        context.log.info("not the newest snapshot: its checks are those of its own run")
        return []
    return [check.run(found) for check in RECONCILIATION_CHECKS]


def _orders_metadata(rows: Sequence[Row]) -> Row:
    """How many of each match state, what differs, and what is proposed."""
    columns = ("client_order_id", "order_id", "match_state", "ledger_status", "raw_status", "differences")
    return {
        PARTITION_ROWS: len(rows),
        **dict(sorted(Counter(row["match_state"] for row in rows).items())),
        "differing": records_table([row for row in rows if row["differences"]], columns),
        **_proposals(rows, "client_order_id"),
    }


def _trades_metadata(rows: Sequence[Row]) -> Row:
    """How many of each status, those that should stand elsewhere first, and what is proposed."""
    columns = ("trade_id", "symbol", "ledger_status", "status", "why", "realized_pnl")
    moved_first = sorted(rows, key=lambda row: row["status"] == row["ledger_status"])
    return {
        PARTITION_ROWS: len(rows),
        **dict(sorted(Counter(row["status"] for row in rows).items())),
        "trades": records_table(moved_first, columns),
        **_proposals(rows, "trade_id"),
    }


def _proposals(rows: Sequence[Row], key: str) -> Row:
    proposed = {row[key]: json.loads(row["proposed"]) for row in rows if row["proposed"]}
    items = [
        (name, ", ".join(f"{column} = {value}" for column, value in after.items())) for name, after in proposed.items()
    ]
    return {"proposed": len(proposed), "proposals": markdown_list(items[:SHOWN_ROWS])}


def _findings_metadata(rows: Sequence[Row]) -> Row:
    columns = ("severity", "code", "subject", "text", "first_seen", "times_seen", "suggested_action")
    severities = Counter(row["severity"] for row in rows)
    return {
        "open": len(rows),
        **{severity: severities[severity] for severity in ("error", "warn", "info")},
        "worst": records_table(rows, columns),
    }
