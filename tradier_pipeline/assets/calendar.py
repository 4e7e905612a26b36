"""The broker's calendar of the exchange, and whether it is the one the cycles would tick by without it."""

from collections.abc import Iterator

import dagster as dg

from tradier_pipeline import clock
from tradier_pipeline.assets.evaluations import evaluations
from tradier_pipeline.assets.raw import CODE_VERSION, OWNERS, POOL, data_version, raw_key
from tradier_pipeline.assets.resource import TradierResource, as_dagster_failure
from tradier_pipeline.domain.calendar import MarketCalendar
from tradier_pipeline.extract.calendar import differing_days, read_calendar

COLUMNS = ("day", "library", "broker")


@dg.asset(
    key=raw_key("calendar"),
    description="The broker's calendar of this month and the next: when the exchange is open. Read once a day, kept "
    "as received. For the days it tells, the cycles tick by it.",
    group_name="raw",
    kinds={"tradier", "json"},
    owners=OWNERS,
    code_version=CODE_VERSION,
    pool=POOL,
    metadata={
        "dagster/column_schema": dg.TableSchema(
            columns=[
                dg.TableColumn("date", "date", description="New York date"),
                dg.TableColumn("status", "string", description="open or closed"),
                dg.TableColumn("open", "object", description="start and end of the session, HH:MM New York time"),
            ]
        )
    },
)
def raw_calendar(
    context: dg.AssetExecutionContext, tradier: TradierResource
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckEvaluation]:
    """Read the broker's calendar of this month and the next, and set it beside the one in use."""
    with as_dagster_failure():
        calendar = MarketCalendar.of(tradier.settings)
        today = clock.trade_date(clock.now())
        pages = tradier.brokers.of_any_token(lambda broker: read_calendar(broker, calendar, today))
        yield dg.MaterializeResult(
            metadata={
                "months": ", ".join(page.file.removesuffix(".json") for page in pages),
                "bytes": sum(page.bytes for page in pages),
                "read_at": dg.MetadataValue.timestamp(min(page.started_at for page in pages)),
            },
            data_version=data_version(pages),
        )
        yield from evaluations(context, [_compared(MarketCalendar.of(tradier.settings))])


@dg.asset_check(asset=raw_key("calendar"))
def sessions_equal_brokers(tradier: TradierResource) -> dg.AssetCheckResult:
    """The sessions of this month and the next are those the broker tells. Where they are not, the broker's count."""
    return _compared(MarketCalendar.of(tradier.settings))


def _compared(calendar: MarketCalendar) -> dg.AssetCheckResult:
    days = list(differing_days(calendar, clock.trade_date(clock.now())))
    rows = [dg.TableRecord({"day": str(day.day), "library": day.library, "broker": day.broker}) for day in days]
    schema = dg.TableSchema(columns=[dg.TableColumn(name) for name in COLUMNS])
    return dg.AssetCheckResult(
        asset_key=raw_key("calendar"),
        check_name="sessions_equal_brokers",
        passed=not days,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(f"{day.day}: library {day.library}, broker {day.broker}" for day in days[:5]) or None,
        metadata={"differing": len(days), "days": dg.MetadataValue.table(records=rows, schema=schema)},
    )
