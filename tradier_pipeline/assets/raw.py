"""The raw extracts: what the broker sent, landed byte for byte."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

import dagster as dg

from tradier_pipeline.assets.resource import TradierResource, as_dagster_failure
from tradier_pipeline.broker.models import (
    Account,
    Balances,
    BrokerModel,
    ClosedPosition,
    DailyBalance,
    HistoryEvent,
    Order,
    Position,
    Quote,
)
from tradier_pipeline.core import progress
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.extract.connection import Broker
from tradier_pipeline.extract.snapshot import (
    UNASKED,
    extract_quotes,
    extract_snapshot,
    refuse_other_times,
    refuse_unknown_account,
)
from tradier_pipeline.instance.partitions import SNAPSHOTS, only_if_landed, partition_of, remember_partition
from tradier_pipeline.instance.runs import TRIGGER_TAG
from tradier_pipeline.landing.manifest import PageRecord, QuotesManifest
from tradier_pipeline.landing.zone import REQUIRED_RESOURCES, LandedSnapshot
from tradier_pipeline.publish.store import publish_missed

OWNERS = ["team:trading"]
# Of every step that asks the broker: one token, one rate limit. Without a limit unless somebody sets one in the UI: our
# own lock lets one reading of an account at it, and a slot that is waited for makes a minute too late.
POOL = "tradier"
SCHEDULE_TAG = "dagster/schedule_name"  # of a run that a schedule launched
CODE_VERSION = "1"  # of how the broker is read: raise it when the same answers would be landed otherwise

DESCRIPTIONS = {
    "account": "The user profile: the accounts of the access token, their type, status and option level.",
    "balances": "The balances of the account: equity, cash, buying power, requirements. USD.",
    "positions": "The positions of the account: symbol, signed quantity, total cost basis.",
    "orders": "The orders of the current trading day with legs and tags, and older orders that still work.",
}
MODELS: Mapping[str, type[BrokerModel]] = {
    "account": Account,
    "balances": Balances,
    "positions": Position,
    "orders": Order,
    "quotes": Quote,
    "history": HistoryEvent,
    "gainloss": ClosedPosition,
    "historical_balances": DailyBalance,
}


def raw_key(resource: str) -> dg.AssetKey:
    """The asset key of a resource's raw extract."""
    return dg.AssetKey(["raw", resource])


def _body_schema(resource: str) -> dg.TableSchema:
    """The fields the broker is known to send, from the models that validate them."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                field.alias or name,
                str(getattr(field.annotation, "__name__", field.annotation)).replace("NoneType", "null"),
                constraints=dg.TableColumnConstraints(nullable=not field.is_required()),
            )
            for name, field in MODELS[resource].model_fields.items()
        ]
    )


def definition_metadata(resource: str) -> dict[str, Any]:
    """The columns that the broker's rows of a resource are known to have."""
    return {"dagster/column_schema": _body_schema(resource), "dagster/storage_kind": "json"}


@dg.multi_asset(
    name="raw_extracts",
    specs=[
        dg.AssetSpec(
            raw_key(resource),
            description=DESCRIPTIONS[resource] + " Landed as received, never fetched twice.",
            group_name="raw",
            kinds={"tradier", "json"},
            owners=OWNERS,
            metadata=definition_metadata(resource),
            code_version=CODE_VERSION,
        )
        for resource in REQUIRED_RESOURCES
    ],
    partitions_def=SNAPSHOTS,
    pool=POOL,
)
def raw_extracts(context: dg.AssetExecutionContext, tradier: TradierResource) -> Iterator[dg.MaterializeResult[None]]:
    """Read account, balances, positions and orders in parallel and land them by one rename."""
    zone = tradier.landing_zone
    with as_dagster_failure(), only_if_landed(context, zone):
        snapshot_id = partition_of(context)
        trigger = trigger_of(context.run)
        landed = zone.find(snapshot_id)
        context.log.info("replaying %s" if landed else "reading %s", snapshot_id)
        started = time.monotonic()
        progress.working(f"reading {snapshot_id.account_id}")
        landed = landed or _extract(context, tradier, snapshot_id, trigger)
        progress.step("read", _reported(landed), started)
        remember_partition(context.instance, snapshot_id)
        yield from raw_results(landed)


def raw_results(landed: LandedSnapshot) -> Iterator[dg.MaterializeResult[None]]:
    """What is reported of the required resources of a landed snapshot."""
    for resource in REQUIRED_RESOURCES:
        yield dg.MaterializeResult(
            asset_key=raw_key(resource),
            metadata=_landed_metadata(landed, resource),
            data_version=data_version(landed.pages(resource)),
        )


def _reported(landed: LandedSnapshot) -> str:
    """What was read, in words: how many answers, and how many of them were asked for again."""
    pages = [page for resource in REQUIRED_RESOURCES for page in landed.pages(resource)]
    again = sum(len(page.attempts) - 1 for page in pages)
    readings = len(landed.manifest.readings)
    return (
        f"{len(pages)} answers of the broker, byte for byte"
        + (f"; {again} asked for again" if again else "")
        + (f"; read {readings} times, until they agreed or time was up" if readings > 1 else "")
    )


def trigger_of(run: dg.DagsterRun) -> str:
    """What a run takes its snapshot for: as its tag says, or else the cycle whose schedule launched it."""
    return run.tags.get(TRIGGER_TAG) or run.tags.get(SCHEDULE_TAG) or UNASKED


def _extract(
    context: dg.AssetExecutionContext, tradier: TradierResource, snapshot_id: SnapshotId, trigger: str
) -> LandedSnapshot:
    try:
        return extract(tradier, snapshot_id, trigger, context.log)
    except PipelineError:
        publish_missed(tradier.warehouse, tradier.landing_zone, snapshot_id)
        raise


def extract(
    tradier: TradierResource,
    snapshot_id: SnapshotId,
    trigger: str,
    log: logging.Logger,
    may_repeat: Callable[[], bool] = lambda: True,
    broker: Broker | None = None,
) -> LandedSnapshot:
    """Land the required resources of a snapshot of now; read them again while they may be torn and `may_repeat`.

    Args:
        broker: that of the account's token, if it shares an answer with others.

    Raises:
        PipelineError: they were not read; what is known of it is in the landing zone.
    """
    zone = tradier.landing_zone
    refuse_other_times(zone, snapshot_id, trigger)
    broker = broker or tradier.brokers.of_account(snapshot_id.account_id)
    refuse_unknown_account(zone, tradier.settings.accounts, broker, snapshot_id.account_id)
    ledger = tradier.ledger
    return extract_snapshot(zone, broker, snapshot_id, trigger, ledger=ledger, log=log, may_repeat=may_repeat)


@dg.asset(
    key=raw_key("quotes"),
    deps=[raw_key("positions")],
    partitions_def=SNAPSHOTS,
    description="Quotes of all held symbols, one request after the positions. Its failure never costs the snapshot.",
    group_name="raw",
    kinds={"tradier", "json"},
    owners=OWNERS,
    metadata=definition_metadata("quotes"),
    code_version=CODE_VERSION,
    pool=POOL,
)
def raw_quotes(context: dg.AssetExecutionContext, tradier: TradierResource) -> dg.MaterializeResult[None]:
    """Quotes of all held symbols, one request right after the positions."""
    zone = tradier.landing_zone
    with as_dagster_failure(), only_if_landed(context, zone):
        landed = zone.find(partition_of(context))
        if landed is None:
            raise dg.Failure(f"{context.partition_key} is not landed. Materialize raw/positions first.")
        broker = tradier.brokers.of_account(landed.snapshot_id.account_id)
        manifest = landed.quotes or extract_quotes(zone, broker, landed)
        if manifest.reason:
            context.log.warning("no quotes: %s", manifest.reason)
        return quotes_result(landed, manifest)


def quotes_result(landed: LandedSnapshot, manifest: QuotesManifest) -> dg.MaterializeResult[None]:
    """What is reported of the quotes of a landed snapshot."""
    facts = _landed_metadata(landed, "quotes") if manifest.pages else {}
    return dg.MaterializeResult(
        asset_key=raw_key("quotes"),
        metadata={"state": manifest.state, "reason": manifest.reason or "-", **facts},
        data_version=data_version(manifest.pages) if manifest.pages else None,
    )


def data_version(pages: Sequence[PageRecord]) -> dg.DataVersion:
    """The SHA-256 of the landed body; of several pages that of their hexadecimal SHA-256s, one after the other."""
    hashes = [page.sha256 for page in pages]
    return dg.DataVersion(hashes[0] if len(hashes) == 1 else sha256("".join(hashes).encode()).hexdigest())


def _landed_metadata(landed: LandedSnapshot, resource: str) -> dict[str, Any]:
    pages = landed.pages(resource)
    took = max(page.ended_at for page in pages) - min(page.started_at for page in pages)
    return {
        "fetch_ms": round(took.total_seconds() * 1000, 1),
        "bytes": sum(page.bytes for page in pages),
        "pages": len(pages),
        "attempts": sum(len(page.attempts) for page in pages),
        "read_at": dg.MetadataValue.timestamp(min(page.started_at for page in pages)),
        "sha256": ", ".join(page.sha256 for page in pages),
        "dagster/uri": (landed.directory / pages[0].file).as_uri(),
    }
