"""What the broker reports the morning after: itself proven again, and beside it cash and the statement of the month."""

from collections.abc import Iterator
from datetime import date

import dagster as dg

from tradier_pipeline.assets.activity import proven_activity
from tradier_pipeline.assets.date_checks import ACCOUNT_ACTIVITY, OF_CASH, OF_STATEMENT
from tradier_pipeline.assets.resource import TradierResource, as_dagster_failure
from tradier_pipeline.checks.trade_dates import checks_of_date
from tradier_pipeline.instance.partitions import TRADE_DATES
from tradier_pipeline.landing.activity import ActivityRange, landed_activity
from tradier_pipeline.verify.activity import ACTIVITY_CHECK, ACTIVITY_CLAIM, verify_activity
from tradier_pipeline.warehouse.reads import connect_readonly, require_current

cash_beside_history = checks_of_date(OF_CASH)
statement_beside_days = checks_of_date(OF_STATEMENT)


@dg.multi_asset_check(
    name="activity_checks",
    specs=[
        dg.AssetCheckSpec(
            ACTIVITY_CHECK,
            asset=ACCOUNT_ACTIVITY,
            description=ACTIVITY_CLAIM,
            blocking=True,
            partitions_def=TRADE_DATES,
        )
    ],
    can_subset=True,  # a date that was not read has no result
    description="Prove again what was landed of a trade date and the two weeks before it; it asks the broker nothing.",
)
def activity_checks(context: dg.AssetCheckExecutionContext, tradier: TradierResource) -> Iterator[dg.AssetCheckResult]:
    day = date.fromisoformat(context.partition_key)
    with as_dagster_failure(), connect_readonly(tradier.settings.warehouse) as connection:
        require_current(connection)
        outcomes = {
            landed.manifest.account_id: verify_activity(landed, connection)
            for landed in landed_activity(tradier.landing_zone)
            if landed.directory.name == ActivityRange.window_of(day)
        }
    if not outcomes:
        context.log.info(f"{day} is not judged: what the broker reports of it was not read on the morning after")
        return
    yield proven_activity(outcomes)
