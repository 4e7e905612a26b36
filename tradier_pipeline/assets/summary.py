"""The summary of a trade date, once its session is over: stored, revision by revision."""

from collections.abc import Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import dagster as dg

from tradier_pipeline import clock
from tradier_pipeline.assets.date_checks import DAILY_SUMMARY, OF_SUMMARY
from tradier_pipeline.assets.evaluations import evaluations
from tradier_pipeline.assets.raw import OWNERS
from tradier_pipeline.assets.resource import TradierResource, as_dagster_failure
from tradier_pipeline.assets.results import ASSET_KEY, cell_text, markdown_list, table_metadata
from tradier_pipeline.assets.snapshot import PARTITION_ROWS
from tradier_pipeline.instance.partitions import TRADE_DATES
from tradier_pipeline.publish.summaries import make_summaries
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.reads import connect_readonly

Row = dict[str, Any]

SUMMED = ("snapshots", "missed", "failed", "refused", "trades_opened", "trades_closed", "trades_open")
SHOWN = (
    *("account_id", "revision", "as_of", "after_close", "equity", "equity_change", "cash", "buying_power"),
    *("equity_open", "equity_high", "equity_low", "close_pl", "snapshots", "missed", "failed", "refused"),
    *("positions", "open_spreads", "orders_placed", "orders_filled", "orders_canceled", "orders_rejected"),
    *("orders_expired", "trades_opened", "trades_closed", "trades_open", "realized_pnl", "realized_unknown"),
)
TRADES = ("opened_trades", "closed_trades", "open_trades")
TRADE_COLUMNS = (
    *("id", "symbol", "strategy", "status", "quantity", "entry_price", "exit_price", "exit_reason", "realized_pnl"),
    *("opened_at", "closed_at"),
)


@dg.multi_asset(
    name="summarize_day",  # a job of Dagster must not share its name with an op
    specs=[
        dg.AssetSpec(
            DAILY_SUMMARY,
            # what was published that day is found by its trade date: no mapping from days to the keys of snapshots
            deps=[dg.AssetDep(ASSET_KEY, partition_mapping=dg.SpecificPartitionsPartitionMapping([]))],
            description="What a trade date came to, for each account, by what was stored of it alone: snapshots, "
            "equity, orders, the trades opened, closed and open, and what they brought. A revision never changes; a "
            "day that turns out otherwise gets another one.",
            group_name="reporting",
            kinds={"duckdb", "table"},
            owners=OWNERS,
            metadata=table_metadata("daily_summaries", schema.DAILY_SUMMARIES),
        )
    ],
    partitions_def=TRADE_DATES,
)
def daily_summary(
    context: dg.AssetExecutionContext, tradier: TradierResource
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckEvaluation]:
    """Summarize a trade date for every account, show it, and check what is stored of it."""
    from tradier_pipeline.assets.missed_minutes import record_gaps  # the cycles know the assets

    with as_dagster_failure():
        record_gaps(tradier.settings, context.instance)  # before anything is concluded from the day
        day = date.fromisoformat(context.partition_key)
        rows = make_summaries(tradier.warehouse, day)
        yield dg.MaterializeResult(asset_key=DAILY_SUMMARY, metadata=_metadata(rows, tradier))
        with connect_readonly(tradier.settings.warehouse) as connection:
            yield from evaluations(context, OF_SUMMARY.results(context, connection))


def _metadata(rows: Sequence[Row], tradier: TradierResource) -> dict[str, Any]:
    """Sums to be plotted, the figures of each account, the trades, and where all of it is."""
    profits = [row["realized_pnl"] for row in rows if row["realized_pnl"] is not None]
    unknown = [row["realized_unknown"] for row in rows if row["realized_unknown"] is not None]
    silent = sorted({*(tradier.settings.accounts or ())} - {row["account_id"] for row in rows})
    return {
        PARTITION_ROWS: len(rows),
        **{name: sum(row[name] or 0 for row in rows) for name in SUMMED if any(row[name] is not None for row in rows)},
        "equity": float(sum((row["equity"] for row in rows), Decimal(0))),  # the UI plots floats
        **({"realized_pnl": float(sum(profits, Decimal(0)))} if profits else {}),
        **({"realized_unknown": sum(unknown)} if unknown else {}),
        "accounts": _table([{name: row[name] for name in SHOWN} for row in rows], SHOWN),
        **{name: _table([trade for row in rows for trade in row[name] or ()], TRADE_COLUMNS) for name in TRADES},
        "exit_reasons": _counts(rows, "exit_reasons"),
        "trades_by_strategy": _counts(rows, "trades_by_strategy"),
        **({"without_snapshot": ", ".join(silent)} if silent else {}),
        "shown_by": f"tradier-pipeline summary {rows[0]['trade_date']}",
        "dagster/uri": tradier.settings.warehouse.as_uri(),
    }


def _counts(rows: Sequence[Row], column: str) -> dg.MarkdownMetadataValue:
    return markdown_list(
        (row["account_id"], f"{word}: {count}") for row in rows for word, count in (row[column] or {}).items()
    )


def _table(rows: Sequence[Row], columns: Sequence[str]) -> dg.TableMetadataValue:
    """All rows: the trades of a day are few."""
    return dg.MetadataValue.table(
        records=[dg.TableRecord({name: _cell_text(row[name]) for name in columns}) for row in rows],
        schema=dg.TableSchema(columns=[dg.TableColumn(name) for name in columns]),
    )


def _cell_text(value: Any) -> str:
    return f"{value.astimezone(clock.NEW_YORK):%m-%d %H:%M:%S}" if isinstance(value, datetime) else cell_text(value)
