"""The daily prices of the benchmark, read the morning after with the two weeks before."""

from datetime import date

import dagster as dg

from tradier_pipeline.assets.raw import CODE_VERSION, OWNERS, POOL, data_version
from tradier_pipeline.assets.resource import TradierResource, as_dagster_failure
from tradier_pipeline.assets.results import table_metadata
from tradier_pipeline.assets.snapshot import PARTITION_ROWS
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.extract.prices import extract_prices
from tradier_pipeline.instance.partitions import TRADE_DATES
from tradier_pipeline.landing.activity import WINDOW
from tradier_pipeline.landing.prices import PriceRange
from tradier_pipeline.publish.store import store_prices
from tradier_pipeline.warehouse.schema import DAILY_PRICES


@dg.asset(
    key=DAILY_PRICES.name,
    description="The daily prices of the benchmark that returns are compared with (TRADIER_BENCHMARK), as the broker "
    "reports them. Without them an account's history is whole all the same: that they could not be read is a warning.",
    group_name="reporting",
    kinds={"duckdb", "table"},
    owners=OWNERS,
    metadata=table_metadata(DAILY_PRICES.name, DAILY_PRICES),
    partitions_def=TRADE_DATES,
    code_version=CODE_VERSION,
    pool=POOL,
)
def daily_prices(context: dg.AssetExecutionContext, tradier: TradierResource) -> dg.MaterializeResult[None]:
    """Land, or find landed, and store the prices of the benchmark."""
    symbol, day = tradier.settings.benchmark, date.fromisoformat(context.partition_key)
    if not symbol:
        return dg.MaterializeResult(metadata={"state": "not read: TRADIER_BENCHMARK is off"})
    with as_dagster_failure():
        try:
            wanted = PriceRange(symbol, day - WINDOW, day)
            landed = tradier.brokers.of_any_token(lambda broker: extract_prices(tradier.landing_zone, broker, wanted))
            days = store_prices(tradier.warehouse, landed)
        except PipelineError as error:
            context.log.warning(f"{symbol}: {error}")
            return dg.MaterializeResult(metadata={"symbol": symbol, "state": f"not read: {error.cause}"})
    return dg.MaterializeResult(
        metadata={
            PARTITION_ROWS: days,
            "symbol": symbol,
            "days": days,
            "dagster/uri": landed.directory.as_uri(),
            "path": landed.path,
        },
        data_version=data_version(landed.manifest.pages),
    )
