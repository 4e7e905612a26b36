"""The code location on one screen."""

import warnings

import dagster as dg

from tradier_pipeline.assets.raw import raw_extracts, raw_quotes
from tradier_pipeline.assets.resource import TradierResource
from tradier_pipeline.assets.snapshot import tradier_snapshot
from tradier_pipeline.checks.published import published_equals_landed
from tradier_pipeline.cycles.jobs import account_sync, monitor_cycle, request_snapshot, snapshot, trade_cycle
from tradier_pipeline.cycles.schedules import build_schedules
from tradier_pipeline.cycles.sensors import build_sensors
from tradier_pipeline.settings import load_settings


def build_definitions() -> dg.Definitions:
    """Everything Dagster knows of: assets, checks, jobs, schedules, sensors and the one resource."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # links from assets to their code
        assets = dg.with_source_code_references([raw_extracts, raw_quotes, tradier_snapshot])
    return dg.Definitions(
        assets=assets,
        asset_checks=[published_equals_landed],
        jobs=[snapshot, monitor_cycle, trade_cycle, account_sync, request_snapshot],
        schedules=build_schedules(load_settings()),
        sensors=build_sensors(load_settings()),
        resources={"tradier": TradierResource()},
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    return build_definitions()
