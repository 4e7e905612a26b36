"""The dividends of what short calls are written on, read in the morning: their holders may exercise for them."""

from collections.abc import Sequence
from dataclasses import replace

import dagster as dg

from tradier_pipeline.assets.raw import CODE_VERSION, OWNERS, POOL
from tradier_pipeline.assets.resource import TradierResource, as_dagster_failure
from tradier_pipeline.assets.results import table_metadata
from tradier_pipeline.assets.snapshot import PARTITION_ROWS
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.extract.connection import Broker
from tradier_pipeline.extract.dividends import WITHOUT, DividendsRead, read_dividends
from tradier_pipeline.instance.partitions import TRADE_DATES
from tradier_pipeline.publish.backfill import BRIEF
from tradier_pipeline.publish.store import store_dividends
from tradier_pipeline.warehouse.reads import connect_readonly, short_call_underlyings
from tradier_pipeline.warehouse.schema import DIVIDENDS


@dg.asset(
    key=DIVIDENDS.name,
    description="When the underlyings of short calls go ex-dividend, and what they pay, as the broker reports it on "
    "the day of the run (Tradier's beta; the sandbox has none). Where it does not, `assignment_risk` has null: that is "
    "a warning and costs nothing else.",
    group_name="reporting",
    kinds={"duckdb", "table"},
    owners=OWNERS,
    metadata=table_metadata(DIVIDENDS.name, DIVIDENDS),
    partitions_def=TRADE_DATES,
    code_version=CODE_VERSION,
    pool=POOL,
)
def dividends(context: dg.AssetExecutionContext, tradier: TradierResource) -> dg.MaterializeResult[None]:
    """Land, or find landed today, and store the dividends of what short calls are written on."""
    read: list[DividendsRead] = []
    missing: list[str] = []
    with as_dagster_failure():
        for environment in sorted({one.environment for one in tradier.settings.by_token}):
            try:
                one = _read(tradier, environment)
            except PipelineError as error:
                missing.append(error.cause)
                continue
            if one is not None:
                read.append(one)
        landed = [extract for one in read for extract in one.landed]
        refused = store_dividends(tradier.warehouse, landed) if landed else {}
    missing += [one.not_read for one in read if one.not_read]
    missing += [f"{path} not stored: {cause}" for path, cause in refused.items()]
    for cause in missing:
        context.log.warning(f"ex-dividend dates are not known: {cause}")
    return dg.MaterializeResult(
        metadata={
            PARTITION_ROWS: len(landed) - len(refused),
            "symbols": ", ".join(extract.manifest.symbol for extract in landed) or "none",
            "state": "; ".join(missing) or "read",
        }
    )


def _read(tradier: TradierResource, environment: str) -> DividendsRead | None:
    """What is landed of an environment; None: none is wanted."""
    with connect_readonly(tradier.warehouse.path) as connection:
        symbols = short_call_underlyings(connection, environment)
    if not symbols:
        return None
    if environment in WITHOUT:
        return DividendsRead((), f"{', '.join(symbols)} not read: the {environment} has no dividends")
    return tradier.brokers.of_any_token(lambda broker: _by(tradier, broker, symbols), environment)


def _by(tradier: TradierResource, broker: Broker, symbols: Sequence[str]) -> DividendsRead:
    return read_dividends(tradier.landing_zone, replace(broker, policy=broker.policy or BRIEF), symbols)
