"""The snapshot: typed, stored in one transaction, verified against the landed bytes, then published."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import dagster as dg
import duckdb

from tradier_pipeline import clock
from tradier_pipeline.assets.account import account_materialization
from tradier_pipeline.assets.claims import claim_evaluations, collect
from tradier_pipeline.assets.raw import OWNERS, raw_key
from tradier_pipeline.assets.resource import TradierResource, as_dagster_failure
from tradier_pipeline.assets.results import ASSET_KEY, SHOWN_ROWS, markdown_list, rows_table, table_metadata
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.settings import Settings
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.core.texts import printable
from tradier_pipeline.domain.gate import GateRules
from tradier_pipeline.instance.partitions import SNAPSHOTS, only_if_landed, partition_of
from tradier_pipeline.instance.runs import PROCESS_TAG
from tradier_pipeline.instance.switches import stopped_schedules
from tradier_pipeline.landing.zone import REQUIRED_RESOURCES
from tradier_pipeline.ledger.store import Ledger
from tradier_pipeline.ledger.writeback import apply
from tradier_pipeline.monitoring.ping import ping_published
from tradier_pipeline.publish.catch_up import CAUGHT_UP, BehindError, catch_up
from tradier_pipeline.publish.ledger_state import read_relevant_ledger
from tradier_pipeline.publish.stated_flows import stated_rows
from tradier_pipeline.publish.store import NotPublishedError, ReadLedger, Stored, store_snapshot
from tradier_pipeline.reconcile.facts import LedgerState
from tradier_pipeline.verify.claims import CLAIMS
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.damaged import set_aside_damaged
from tradier_pipeline.warehouse.staging import WarehouseError
from tradier_pipeline.warehouse.typed import TypedSnapshot

PARTITION_ROWS = "dagster/partition_row_count"  # by which the UI plots the rows of a partition
T = TypeVar("T")
CATCH_UP_S = 90.0  # of a run; the instance ends one that takes 180 s


SPREADS = (schema.OPTION_SPREADS, schema.OPTION_SPREAD_LEGS, schema.SHORT_OPTIONS)
DERIVED = (*SPREADS, schema.TRADE_GATE_READINGS, schema.CONSERVATION, *schema.RECONCILED)
OBSERVED = tuple(table for table in schema.TABLES if table not in DERIVED)


@dg.multi_asset(
    name="tradier_snapshot",
    specs=[
        dg.AssetSpec(
            ASSET_KEY,
            deps=[raw_key(resource) for resource in (*REQUIRED_RESOURCES, "quotes")],
            description="One snapshot of one account in DuckDB: account, balances, positions, orders, legs and quotes "
            "under one id. A row of `tradier_snapshots` proves that every table holds the whole of it. Nothing is "
            "visible to a reader before every blocking check has passed.",
            group_name="snapshot",
            kinds={"duckdb", "table"},
            owners=OWNERS,
            metadata=table_metadata("tradier_snapshots", *OBSERVED),
            # a badge that knows no holidays: longer than a long weekend; the check snapshot_is_fresh knows the sessions
            freshness_policy=dg.FreshnessPolicy.time_window(timedelta(days=4), timedelta(hours=84)),
        ),
        dg.AssetSpec(
            "portfolio_positions",
            deps=[ASSET_KEY],
            description="What each account holds now: the positions of its newest snapshot, with their quotes.",
            group_name="portfolio",
            kinds={"duckdb", "view"},
            owners=OWNERS,
            metadata=table_metadata("portfolio_positions", schema.POSITIONS),
        ),
        dg.AssetSpec(
            "option_spreads",
            deps=[ASSET_KEY],
            description="The option positions of a snapshot as spreads - verticals, condors, calendars, covered calls, "
            "naked legs - with cost, width, maximum profit and loss. Derived: every contract is in exactly one.",
            group_name="portfolio",
            kinds={"duckdb", "table"},
            owners=OWNERS,
            metadata=table_metadata("option_spreads", *SPREADS),
        ),
        dg.AssetSpec(
            "conservation",
            deps=[ASSET_KEY],
            description="Why every position and the cash changed since the last good snapshot: fills, expiry, "
            "assignment, exercise, corporate actions - and what nothing explains, to the cent, with what may be behind "
            "it. In flight for one snapshot, unexplained after two.",
            group_name="reconciliation",
            kinds={"duckdb", "table"},
            owners=OWNERS,
            metadata=table_metadata("conservation", schema.CONSERVATION),
        ),
    ],
    partitions_def=SNAPSHOTS,
)
def tradier_snapshot(
    context: dg.AssetExecutionContext, tradier: TradierResource
) -> Iterator[dg.AssetCheckEvaluation | dg.AssetMaterialization | dg.MaterializeResult[None]]:
    """Store, verify and publish one landed snapshot, with what is derived from it, in one transaction."""
    with as_dagster_failure(), only_if_landed(context, tradier.landing_zone):
        landed = tradier.landing_zone.find(partition_of(context))
        if landed is None:
            raise dg.Failure(f"{context.partition_key} is not landed. Materialize the raw extracts first.")
        own = landed.snapshot_id
        rules, read_ledger = GateRules.of(tradier.settings), reading_ledger(context, tradier.settings)
        started = clock.now()

        def publish() -> Stored:
            return store_snapshot(tradier.warehouse, landed, rules, read_ledger, stopped_cycles(context))

        try:
            (typed, outcomes), behind = publish_in_turn(context, tradier, [own], rules, publish)
        except NotPublishedError as error:
            collect(error.outcomes)
            yield from claim_evaluations(context, CLAIMS, error.outcomes, published=False)
            raise
        collect(outcomes)
        ping_published(tradier.settings)
        publish_ms = round((clock.now() - started).total_seconds() * 1000, 1)
        write_back(context, tradier, typed)
        yield from snapshot_results(typed, {"publish_ms": publish_ms, **behind})
        if (newest := account_materialization(tradier.settings, [own])) is not None:
            yield newest
        # after what they are about: what is materialized later than it was checked counts as not checked
        yield from claim_evaluations(context, CLAIMS, outcomes)


Context = dg.AssetExecutionContext | dg.OpExecutionContext


def snapshot_results(typed: TypedSnapshot, more: Mapping[str, Any]) -> Iterator[dg.MaterializeResult[None]]:
    """What is reported of a published snapshot, `more` of the snapshot itself."""
    yield dg.MaterializeResult(asset_key=ASSET_KEY, metadata={**_snapshot_metadata(typed), **more})
    yield dg.MaterializeResult(asset_key="portfolio_positions", metadata=_positions_metadata(typed))
    yield dg.MaterializeResult(asset_key="option_spreads", metadata=_spreads_metadata(typed))
    yield dg.MaterializeResult(asset_key="conservation", metadata=_conservation_metadata(typed))


def publish_in_turn(
    context: Context,
    tradier: TradierResource,
    own: Sequence[SnapshotId],
    rules: GateRules,
    publish: Callable[[], T],
) -> tuple[T, dict[str, str]]:
    """Publish snapshots after what is behind; a damaged warehouse is set aside and made anew from what is landed.

    Returns:
        What `publish` returns, and what to say of what was behind.
    """
    try:
        behind = _prepare_publishing(context, tradier, own, rules)
        return publish(), behind
    except WarehouseError:
        if set_aside_damaged(tradier.warehouse) is None:
            raise
    behind = _prepare_publishing(context, tradier, own, rules)
    return publish(), behind


def _prepare_publishing(
    context: Context, tradier: TradierResource, own: Sequence[SnapshotId], rules: GateRules
) -> dict[str, str]:
    """Record what was missed before snapshots and publish what is behind; returns what to say of it."""
    if PROCESS_TAG not in context.run.tags:  # of the scheduler's
        _record_gaps(context, tradier.settings, own)
    return _catch_up(context, tradier, own, rules)


def stopped_cycles(context: Context) -> tuple[str, ...] | None:
    """Which cycles are switched off in the UI; None if Dagster's storage does not tell, which costs no snapshot."""
    try:
        return None if context.instance.is_ephemeral else stopped_schedules(context.instance)
    except Exception as error:  # whatever a damaged database leads to
        context.log.warning(f"Which cycles are switched off is not known: {error}")
        return None


def _record_gaps(context: Context, settings: Settings, own: Sequence[SnapshotId]) -> None:
    """What was due before snapshots and has none is published with them."""
    from tradier_pipeline.assets.missed_minutes import record_gaps_before  # the cycles know the assets

    try:
        record_gaps_before(settings, context.instance, own)
    except PipelineError as error:
        context.log.warning(f"The minutes missed before are not recorded yet: {error}")


def _catch_up(
    context: Context, tradier: TradierResource, own: Sequence[SnapshotId], rules: GateRules
) -> dict[str, str]:
    """Publish first what earlier runs landed and did not publish; say so."""
    seconds = None if PROCESS_TAG in context.run.tags else CATCH_UP_S
    stated = partial(_stated, context, tradier.ledger)
    caught = catch_up(tradier.warehouse, tradier.landing_zone, rules, own, stated=stated, seconds=seconds)
    if not caught:
        return {}
    context.log.warning(str(caught))
    if caught.remaining:
        landed = ", ".join(map(str, own))
        raise BehindError(str(caught), f"{landed} is landed, and published in its turn: the next run goes on.")
    return {CAUGHT_UP: str(caught)}


def _stated(context: Context, ledger: Ledger) -> list[dict[str, Any]]:
    """The flows that the owner states; a ledger that cannot be read costs no snapshot."""
    try:
        return stated_rows(ledger)
    except PipelineError as error:
        context.log.warning(f"The flows that the owner stated are not in the warehouse: {error}")
        return []


def reading_ledger(context: Context, settings: Settings) -> ReadLedger:
    """Reads what the ledger says when it is asked; None if it cannot be read, which costs no snapshot."""

    def read_ledger(connection: duckdb.DuckDBPyConnection, typed: TypedSnapshot) -> LedgerState | None:
        try:
            return read_relevant_ledger(settings, connection, typed)
        except PipelineError as error:
            context.log.warning(f"The snapshot is not set beside the ledger: {error}")
            return None

    return read_ledger


def write_back(context: Context, tradier: TradierResource, typed: TypedSnapshot) -> None:
    """Write to the ledger what a published snapshot has shown. What fails, the next snapshot proposes again."""
    reconciled = typed.reconciled
    if reconciled is None or not reconciled.changes or tradier.settings.ledger_write != "apply":
        return
    try:
        written = apply(tradier.ledger, reconciled.facts.snapshot_id, reconciled.changes)
    except PipelineError as error:
        context.log.warning(f"Nothing was written to the ledger: {error}")
        return
    context.log.info(f"{len(written.applied)} rows of the ledger changed")
    for change, why in written.skipped:
        context.log.warning(f"{change.table} {change.key} of the ledger was left alone: {why}")


def _snapshot_metadata(typed: TypedSnapshot) -> dict[str, Any]:
    manifest, balances = typed.landed.manifest, typed.balances
    return {
        PARTITION_ROWS: 1,
        "equity": float(balances.total_equity),  # the UI plots floats; the warehouse keeps the exact values
        "cash": float(balances.total_cash),
        "buying_power": float(balances.buying_power),
        "positions": len(typed.positions),
        "orders": len(typed.orders),
        "fetch_ms": round((manifest.as_of_end - manifest.as_of).total_seconds() * 1000, 1),
        "as_of": dg.MetadataValue.timestamp(manifest.as_of),
        "environment": manifest.environment,
        "trigger": manifest.trigger,
        "coherence": manifest.readings[-1].verdict if manifest.readings else "not judged",
        "readings": len(manifest.readings),
        "verdict": typed.verdict,
        **({"verdict_evidence": printable(typed.verdict_evidence)} if typed.verdict_evidence else {}),
        **({"ledger_rows_to_change": len(typed.reconciled.changes)} if typed.reconciled else {}),
    }


def _positions_metadata(typed: TypedSnapshot) -> dict[str, Any]:
    largest = sorted(typed.positions, key=lambda held: abs(held.market_value or held.cost_basis), reverse=True)
    columns = ("symbol", "quantity", "mark", "market_value", "unrealized_pl")
    return {PARTITION_ROWS: len(typed.positions), "largest": rows_table(largest, columns)}


def _spreads_metadata(typed: TypedSnapshot) -> dict[str, Any]:
    columns = ("underlying", "expiration", "strategy", "quantity", "cost", "unrealized_pl", "max_loss")
    return {PARTITION_ROWS: len(typed.spreads), "spreads": rows_table(typed.spreads, columns)}


def _conservation_metadata(typed: TypedSnapshot) -> dict[str, Any]:
    """What is not explained comes first: it is what a person looks for."""
    if typed.conserved is None:
        return {PARTITION_ROWS: 0, "compared_with": "nothing: the first snapshot, or torn"}
    found = sorted(typed.conserved.findings, key=lambda finding: finding.state == "explained")
    columns = ("item", "change", "explained", "unexplained", "state")
    items = [(finding.item, f"{finding.state}: {'; '.join(finding.explanation)}") for finding in found]
    return {
        PARTITION_ROWS: len(found),
        "compared_with": typed.conserved.previous_snapshot_id,
        "unexplained": sum(finding.state == "unexplained" for finding in found),
        "in_flight": sum(finding.state == "in_flight" for finding in found),
        "changes": rows_table(found, columns),
        "explanations": markdown_list(items[:SHOWN_ROWS]),
    }
