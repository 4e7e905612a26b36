"""Checks of a trade date executed alone, by what is known of it by now."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from tradier_pipeline.assets.date_checks import OF_SUMMARY, ChecksOfDate
from tradier_pipeline.assets.resource import TradierResource, as_dagster_failure
from tradier_pipeline.assets.results import date_check_specs
from tradier_pipeline.warehouse.reads import connect_readonly, require_current


def checks_of_date(group: ChecksOfDate[Any]) -> dg.AssetChecksDefinition:
    """Checks that run apart from the materialization of their asset: all, or some of them alone."""
    specs = date_check_specs(group.asset, group.checks)

    @dg.multi_asset_check(name=group.name, specs=specs, can_subset=True, description=group.description)
    def of_date(context: dg.AssetCheckExecutionContext, tradier: TradierResource) -> Iterator[dg.AssetCheckResult]:
        with as_dagster_failure(), connect_readonly(tradier.settings.warehouse) as connection:
            require_current(connection)
            results = group.results(context, connection)
        for result in results:
            if dg.AssetCheckKey(group.asset, str(result.check_name)) in context.selected_asset_check_keys:
                yield result

    return of_date


summary_checks = checks_of_date(OF_SUMMARY)
