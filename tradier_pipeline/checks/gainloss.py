"""The trades of the ledger that were closed on a date, beside what the broker says of it the morning after."""

from collections.abc import Iterator
from datetime import date

import dagster as dg

from tradier_pipeline.assets.resource import TradierResource, told_in_one_line
from tradier_pipeline.assets.snapshot import check_result, date_check_specs
from tradier_pipeline.reconcile.gainloss import GAINLOSS_CHECKS
from tradier_pipeline.warehouse.closings import closed_day, covered_accounts
from tradier_pipeline.warehouse.reads import reading, require_current

CLOSED_LOTS = dg.AssetKey("closed_lots")


@dg.multi_asset_check(
    name="trades_beside_closed_lots",
    specs=date_check_specs(CLOSED_LOTS, GAINLOSS_CHECKS),
    can_subset=True,  # what cannot be compared has no result
)
def trades_beside_closed_lots(
    context: dg.AssetCheckExecutionContext, tradier: TradierResource
) -> Iterator[dg.AssetCheckResult]:
    """Compare what is known by now of a trade date; nothing if the broker was not asked, or without a ledger."""
    day = date.fromisoformat(context.partition_key)
    with told_in_one_line(), reading(tradier.settings.warehouse) as connection:
        require_current(connection)
        covered = covered_accounts(connection, day)
        days = [found for account_id in covered if (found := closed_day(connection, account_id, day))]
    if not days:
        why = "no trade of the ledger is known of it" if covered else "the broker's gain and loss of it was not read"
        context.log.info(f"{day} is not judged: {why}")
        return
    for check in GAINLOSS_CHECKS:
        if dg.AssetCheckKey(CLOSED_LOTS, check.name) in context.selected_asset_check_keys:
            yield check_result(check.run(days), CLOSED_LOTS)
