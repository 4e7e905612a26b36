"""The summary of a trade date, once its session is over."""

from datetime import date
from typing import Any

import dagster as dg

from tradier_pipeline import clock
from tradier_pipeline.assets.partitions import TRADE_DATES
from tradier_pipeline.assets.raw import OWNERS
from tradier_pipeline.assets.resource import TradierResource, told_in_one_line
from tradier_pipeline.assets.snapshot import ASSET_KEY
from tradier_pipeline.errors import PipelineError
from tradier_pipeline.verify.evidence import shown
from tradier_pipeline.warehouse.reads import balances_of_day, reading

FIGURES = ("open", "high", "low", "close", "cash_close")
COLUMNS = {
    "account_id": "Account number",
    "snapshots": "Snapshots published",
    "missed": "Due minutes that were not read",
    "failed": "Attempts that failed",
    "first_as_of": "As-of of the first snapshot, New York time",
    "last_as_of": "As-of of the last snapshot, New York time",
    **{name: f"USD; {name.removesuffix('_close')} of the day" for name in FIGURES},
}
SCHEMA = dg.TableSchema(columns=[dg.TableColumn(name, description=text) for name, text in COLUMNS.items()])


@dg.multi_asset(
    name="summarize_day",  # a job of Dagster must not share its name with an op
    specs=[
        dg.AssetSpec(
            "daily_summary",
            # what was published that day is found by its trade date: no mapping from days to the keys of snapshots
            deps=[dg.AssetDep(ASSET_KEY, partition_mapping=dg.SpecificPartitionsPartitionMapping([]))],
            description="What a trade date brought, for each account: snapshots published, missed and failed, and "
            "equity at the first, highest, lowest and last of them.",
            group_name="reporting",
            kinds={"duckdb"},
            owners=OWNERS,
            metadata={"dagster/column_schema": SCHEMA},
        )
    ],
    partitions_def=TRADE_DATES,
)
def daily_summary(context: dg.AssetExecutionContext, tradier: TradierResource) -> dg.MaterializeResult[None]:
    """Count the snapshots of a trade date and show its balances."""
    with told_in_one_line():
        rows = _summarized(tradier, date.fromisoformat(context.partition_key))
    counts = {name: sum(row[name] for row in rows) for name in ("snapshots", "missed", "failed")}
    table = dg.MetadataValue.table(
        records=[dg.TableRecord({name: _told(row.get(name)) for name in COLUMNS}) for row in rows], schema=SCHEMA
    )
    return dg.MaterializeResult(metadata={**counts, "accounts": table})


def _summarized(tradier: TradierResource, day: date) -> list[dict[str, Any]]:
    """A row for each account that was to be read or was; raises PipelineError if nothing was published."""
    with reading(tradier.settings.warehouse) as connection:
        balances = balances_of_day(connection, day)
    if not balances:
        remedy = "`tradier-pipeline status` tells what failed or was missed; what was not read then is gone."
        raise PipelineError(f"no snapshot of {day} is published", remedy)
    zone = tradier.landing_zone
    return [
        {
            "snapshots": 0,
            "missed": sum(1 for _ in zone.missed(account_id, day=day)),
            "failed": sum(1 for _ in zone.failures(account_id, day=day)),
            **balances.get(account_id, {"account_id": account_id}),
        }
        for account_id in sorted({*balances, *(tradier.settings.accounts or ())})
    ]


def _told(value: Any) -> str:
    return f"{value.astimezone(clock.NEW_YORK):%H:%M:%S}" if hasattr(value, "astimezone") else shown(value)
