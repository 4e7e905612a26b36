"""The reports of a trade date, once its summary is made."""

import base64
from datetime import date

import dagster as dg

from tradier_pipeline.assets.raw import OWNERS
from tradier_pipeline.assets.resource import TradierResource, as_dagster_failure
from tradier_pipeline.instance.partitions import TRADE_DATES


@dg.asset(
    deps=["daily_summary"],
    partitions_def=TRADE_DATES,
    description="The report of a trade date and that of the whole account, for each account: HTML files to open in a "
    "browser, and reports/index.html, which links them all. They need nothing else, so they can be kept or sent.",
    group_name="reporting",
    kinds={"html"},
    owners=OWNERS,
)
def daily_report(context: dg.AssetExecutionContext, tradier: TradierResource) -> dg.MaterializeResult[None]:
    """Write them under `<home>/reports/<account>/`."""
    from tradier_pipeline.assets.missed_minutes import record_gaps  # the cycles know the assets
    from tradier_pipeline.report import index_path, write_reports  # Jinja, which no run of a snapshot needs

    with as_dagster_failure():
        record_gaps(tradier.settings, context.instance)  # before anything is concluded from the day
        settings = tradier.settings.model_copy(update={"read": "home"})  # no run waits for the lake
        of_day = write_reports(settings, day=date.fromisoformat(context.partition_key))
        of_accounts = [report for one in of_day for report in write_reports(settings, one.account_id)]
    written = [*of_day, *of_accounts]
    shown = [_shown(one.account_id, one.chart) for one in of_day if one.chart]
    return dg.MaterializeResult(
        metadata={
            **{f"{one.account_id} {one.path.stem}": dg.MetadataValue.url(one.path.as_uri()) for one in written},
            "index": dg.MetadataValue.url(index_path(tradier.settings).as_uri()),
            "directory": dg.MetadataValue.path(tradier.settings.reports),
            "bytes": sum(one.path.stat().st_size for one in written),
            "equity": dg.MetadataValue.md("\n\n".join(shown)),
        }
    )


def _shown(account_id: str, chart: str) -> str:
    """An SVG in Markdown, with no other file."""
    encoded = base64.b64encode(chart.encode()).decode()
    return f"**{account_id}**\n\n![Equity of {account_id}](data:image/svg+xml;base64,{encoded})"
