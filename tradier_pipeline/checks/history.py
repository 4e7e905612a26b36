"""Cash of a session beside what the broker tells of it the morning after."""

from collections.abc import Iterator
from datetime import date

import dagster as dg

from tradier_pipeline.assets.activity import ACCOUNT_ACTIVITY
from tradier_pipeline.assets.resource import TradierResource, told_in_one_line
from tradier_pipeline.assets.snapshot import check_result, date_check_specs
from tradier_pipeline.reconcile.cash import CASH_CHECKS
from tradier_pipeline.warehouse.closings import cash_days
from tradier_pipeline.warehouse.reads import reading, require_current


@dg.multi_asset_check(
    name="cash_beside_history",
    specs=date_check_specs(ACCOUNT_ACTIVITY, CASH_CHECKS),
    can_subset=True,  # what cannot be compared has no result
)
def cash_beside_history(
    context: dg.AssetCheckExecutionContext, tradier: TradierResource
) -> Iterator[dg.AssetCheckResult]:
    """Compare what is known by now of a trade date; nothing without its history and a snapshot after each close."""
    day = date.fromisoformat(context.partition_key)
    with told_in_one_line(), reading(tradier.settings.warehouse) as connection:
        require_current(connection)
        days = cash_days(connection, day)
    if not days:
        context.log.info(f"{day} is not judged: its history was not read, or there is no snapshot after its close")
        return
    for check in CASH_CHECKS:
        yield check_result(check.run(days), ACCOUNT_ACTIVITY)
