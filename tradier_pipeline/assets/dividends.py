"""The dividends of what short calls are written on, read in the morning: their holders may exercise for them."""

import dagster as dg

from tradier_pipeline.assets.raw import CODE_VERSION, OWNERS, POOL
from tradier_pipeline.assets.resource import TradierResource, as_dagster_failure
from tradier_pipeline.assets.results import table_metadata
from tradier_pipeline.assets.snapshot import PARTITION_ROWS
from tradier_pipeline.instance.partitions import TRADE_DATES
from tradier_pipeline.publish.dividends import publish_dividends
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
    with as_dagster_failure():
        published = publish_dividends(tradier.settings, tradier.brokers)
    for cause in published.missing:
        context.log.warning(f"ex-dividend dates are not known: {cause}")
    return dg.MaterializeResult(
        metadata={
            PARTITION_ROWS: len(published.symbols),
            "symbols": ", ".join(published.symbols) or "none",
            "state": "; ".join(published.missing) or "read",
        }
    )
