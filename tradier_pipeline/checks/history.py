"""Cash of a session, and the statement of its month, beside what the broker reports the morning after."""

from collections.abc import Iterator
from datetime import date

import dagster as dg

from tradier_pipeline.assets.activity import ACCOUNT_ACTIVITY
from tradier_pipeline.assets.resource import TradierResource, told_in_one_line
from tradier_pipeline.assets.snapshot import check_result, date_check_specs
from tradier_pipeline.reconcile.account_statement import STATEMENT_CHECKS
from tradier_pipeline.reconcile.cash import CASH_CHECKS
from tradier_pipeline.warehouse.closings import cash_days, statement_months
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


@dg.multi_asset_check(
    name="statement_beside_days",
    specs=date_check_specs(ACCOUNT_ACTIVITY, STATEMENT_CHECKS),
    can_subset=True,  # without a close there is no statement
)
def statement_beside_days(
    context: dg.AssetCheckExecutionContext, tradier: TradierResource
) -> Iterator[dg.AssetCheckResult]:
    """Prove the statement of the month of a trade date by what is known by now."""
    day = date.fromisoformat(context.partition_key)
    with told_in_one_line(), reading(tradier.settings.warehouse) as connection:
        require_current(connection)
        months = statement_months(connection, day)
    if not months:
        context.log.info(f"there is no statement of {day:%Y-%m}: no close of it is known")
        return
    for check in STATEMENT_CHECKS:
        yield check_result(check.run(months), ACCOUNT_ACTIVITY)
