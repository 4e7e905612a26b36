"""Checks of a trade date that are made by themselves, by what is known of it by now."""

from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import TypeVar

import dagster as dg
import duckdb

from tradier_pipeline.assets.resource import TradierResource, told_in_one_line
from tradier_pipeline.assets.results import check_result, date_check_specs
from tradier_pipeline.reconcile.daily import DateCheck
from tradier_pipeline.warehouse.reads import reading, require_current

E = TypeVar("E")
Evidence = Callable[[duckdb.DuckDBPyConnection, date], Sequence[E] | str]


def checks_of_date(
    name: str, asset: dg.AssetKey, checks: Sequence[DateCheck[E]], find: Evidence[E], description: str
) -> dg.AssetChecksDefinition:
    """Checks of an asset that run apart from its materialization.

    Args:
        find: what is known of a date, or why it is not judged: then no check has a result.
    """

    @dg.multi_asset_check(name=name, specs=date_check_specs(asset, checks), can_subset=True, description=description)
    def of_date(context: dg.AssetCheckExecutionContext, tradier: TradierResource) -> Iterator[dg.AssetCheckResult]:
        with told_in_one_line(), reading(tradier.settings.warehouse) as connection:
            require_current(connection)
            found = find(connection, date.fromisoformat(context.partition_key))
        if isinstance(found, str):
            context.log.info(found)
            return
        for check in checks:
            if dg.AssetCheckKey(asset, check.name) in context.selected_asset_check_keys:
                yield check_result(check.run(found), asset)

    return of_date
