"""What the broker tells over night: read for a day and the two weeks before it, then stored, for every account."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import dagster as dg

from tradier_pipeline.assets.date_checks import ACCOUNT_ACTIVITY, OF_ACTIVITY
from tradier_pipeline.assets.evaluations import evaluations
from tradier_pipeline.assets.raw import CODE_VERSION, OWNERS, POOL, data_version, definition_metadata, raw_key
from tradier_pipeline.assets.resource import TradierResource, as_dagster_failure
from tradier_pipeline.assets.results import check_result, records_table, table_metadata
from tradier_pipeline.assets.snapshot import PARTITION_ROWS
from tradier_pipeline.core.errors import ExtractError, PipelineError
from tradier_pipeline.core.outcome import MAX_DIFFERENCES, Outcome
from tradier_pipeline.domain.calendar import MarketCalendar
from tradier_pipeline.extract.activity import extract_activity
from tradier_pipeline.extract.connection import accounts_to_read
from tradier_pipeline.instance.partitions import TRADE_DATES
from tradier_pipeline.landing.activity import (
    RESOURCES,
    ActivityRange,
    LandedActivity,
    Resource,
    find_activity,
    last_failure,
)
from tradier_pipeline.landing.manifest import PageRecord
from tradier_pipeline.landing.zone import LandingZone
from tradier_pipeline.publish.store import ActivityRefusedError, StoredActivity, store_activity
from tradier_pipeline.verify.activity import ACTIVITY_CHECK
from tradier_pipeline.warehouse.activity import DESTINATIONS
from tradier_pipeline.warehouse.reads import activity_totals, connect_readonly

EVERY_NIGHT = " Read the morning after, with the two weeks before: what is posted late or corrected comes with it."
RAW: Mapping[Resource, str] = {
    "history": "The account's history: trades, deposits, dividends, fees. The sandbox has none.",
    "gainloss": "The closed lots of the account, with cost, proceeds, gain or loss.",
    "historical_balances": "The value of the account day by day, by the broker's own history. Not of the sandbox.",
}
TABLES: Mapping[Resource, str] = {
    "history": "Every event of the account's history with its amount: what cash changed by and what for. What the "
    "broker took back stays in `account_activity_versions`, with `retracted_at`.",
    "gainloss": "Every closed lot with its realized gain or loss, as the broker reports it.",
    "historical_balances": "The broker's own closing value of each day.",
}


@dg.multi_asset(
    name="raw_activity",
    specs=[
        dg.AssetSpec(
            raw_key(resource),
            description=RAW[resource] + EVERY_NIGHT,
            group_name="raw",
            kinds={"tradier", "json"},
            owners=OWNERS,
            metadata=definition_metadata(resource),
            code_version=CODE_VERSION,
        )
        for resource in RESOURCES
    ],
    partitions_def=TRADE_DATES,
    pool=POOL,
)
def raw_activity(context: dg.AssetExecutionContext, tradier: TradierResource) -> Iterator[dg.MaterializeResult[None]]:
    """Land what the broker tells of every account. One that fails does not touch the others; it is reported when they
    are stored.
    """
    with as_dagster_failure():
        extracts: list[LandedActivity] = []
        failures: list[PipelineError] = []
        for wanted in _wanted(context, tradier):
            landed = find_activity(tradier.landing_zone, wanted)
            context.log.info("replaying %s" if landed else "reading %s", wanted)
            try:
                extracts.append(landed or _extract(tradier, wanted))
            except PipelineError as error:
                context.log.error(f"{wanted.account_id}: {error}")
                failures.append(error)
        if not extracts:
            raise failures[0]
        for resource in RESOURCES:
            pages = [page for landed in extracts for page in landed.manifest.resources.get(resource, ())]
            yield dg.MaterializeResult(
                asset_key=raw_key(resource),
                metadata=_landed_metadata(extracts, pages),
                data_version=data_version(pages) if pages else None,
            )


@dg.multi_asset(
    name="store_activity",
    specs=[
        dg.AssetSpec(
            DESTINATIONS[resource].name,
            deps=[raw_key(resource)],
            description=TABLES[resource],
            group_name="reporting",
            kinds={"duckdb", "table"},
            owners=OWNERS,
            metadata=table_metadata(DESTINATIONS[resource].name, DESTINATIONS[resource].table),
        )
        for resource in RESOURCES
    ],
    partitions_def=TRADE_DATES,
)
def stored_activity(
    context: dg.AssetExecutionContext, tradier: TradierResource
) -> Iterator[dg.AssetCheckEvaluation | dg.MaterializeResult[None]]:
    """Store, verify and publish what is landed, account by account; then say what is known of the date by now."""
    with as_dagster_failure():
        calendar = MarketCalendar.of(tradier.settings)
        wanted = _wanted(context, tradier)
        stored: dict[str, StoredActivity] = {}
        failures: list[PipelineError] = []
        for one in wanted:
            try:
                landed = _find(tradier.landing_zone, one)
                stored[one.account_id] = store_activity(tradier.warehouse, landed, calendar)
            except PipelineError as error:
                context.log.error(f"{one.account_id}: {error}")
                failures.append(error)
        refused = [failure.outcome for failure in failures if isinstance(failure, ActivityRefusedError)]
        refusal = (check_result(outcome, ACCOUNT_ACTIVITY) for outcome in refused[:1])
        yield from evaluations(context, refusal, blocking={ACTIVITY_CHECK}, published=False)
        if failures:
            raise failures[0]
        with connect_readonly(tradier.settings.warehouse) as connection:
            for resource in RESOURCES:
                totals = activity_totals(connection, resource, wanted[0].since, wanted[0].until)
                yield dg.MaterializeResult(
                    asset_key=DESTINATIONS[resource].name, metadata=_stored_metadata(stored, resource, totals)
                )
            proven = proven_activity({account_id: one.outcome for account_id, one in stored.items()})
            yield from evaluations(context, [proven], blocking={ACTIVITY_CHECK})
            for group in OF_ACTIVITY:
                yield from evaluations(context, group.results(context, connection))


def _extract(tradier: TradierResource, wanted: ActivityRange) -> LandedActivity:
    return extract_activity(tradier.landing_zone, tradier.brokers.of_account(wanted.account_id), wanted)


def _wanted(context: dg.AssetExecutionContext, tradier: TradierResource) -> list[ActivityRange]:
    day = date.fromisoformat(context.partition_key)
    return [ActivityRange.of_day(account_id, day) for account_id in accounts_to_read(tradier.settings)]


def _find(zone: LandingZone, wanted: ActivityRange) -> LandedActivity:
    """What was landed; raises what kept it from being landed."""
    if landed := find_activity(zone, wanted):
        return landed
    failure = last_failure(zone, wanted)
    why = f": {next(iter(failure.errors.values()))}" if failure else ""
    raise ExtractError(f"{wanted} is not landed{why}", "The next run reads it again; or materialize raw/history.")


def proven_activity(outcomes: Mapping[str, Outcome]) -> dg.AssetCheckResult:
    """One result for all accounts, by their numbers: it has passed for each, or it has failed."""
    broker, of_store = (
        "; ".join(f"{account_id}: {getattr(outcome, side)}" for account_id, outcome in outcomes.items())
        for side in ("broker", "stored")
    )
    differences = [difference for outcome in outcomes.values() for difference in outcome.differences]
    merged = replace(
        next(iter(outcomes.values())),
        passed=all(outcome.passed for outcome in outcomes.values()),
        broker=broker,
        stored=of_store,
        differing=sum(outcome.differing for outcome in outcomes.values()),
        differences=tuple(differences[:MAX_DIFFERENCES]),
    )
    return check_result(merged, ACCOUNT_ACTIVITY)


def _landed_metadata(extracts: Sequence[LandedActivity], pages: Sequence[PageRecord]) -> dict[str, Any]:
    if not pages:
        return {"state": f"not read: there is none in the environment {extracts[0].manifest.environment}"}
    return {
        "accounts": ", ".join(landed.manifest.account_id for landed in extracts),
        "bytes": sum(page.bytes for page in pages),
        "pages": len(pages),
        "attempts": sum(len(page.attempts) for page in pages),
        "read_at": dg.MetadataValue.timestamp(min(page.started_at for page in pages)),
        "sha256": ", ".join(page.sha256 for page in pages),
        "dagster/uri": extracts[0].directory.as_uri(),
    }


def _stored_metadata(
    stored: Mapping[str, StoredActivity], resource: Resource, totals: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    kept = [one.kept[resource] for one in stored.values() if resource in one.kept]
    if not kept:
        return {"state": "not read in this environment"}
    counts = {name: sum(getattr(one, name) for one in kept) for name in ("rows", "new", "known", "retracted")}
    # what is read for a day is that day and the two weeks before it
    return {
        PARTITION_ROWS: counts["rows"],
        **counts,
        "totals": records_table(totals, tuple(totals[0]) if totals else ("account_id",)),
    }
