"""The code location on one screen."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import dagster as dg

from tradier_pipeline.assets.account import account
from tradier_pipeline.assets.activity import raw_activity, stored_activity
from tradier_pipeline.assets.calendar import raw_calendar, sessions_equal_brokers
from tradier_pipeline.assets.dividends import dividends
from tradier_pipeline.assets.gate import trade_gate
from tradier_pipeline.assets.maintenance import MAINTENANCE
from tradier_pipeline.assets.prices import daily_prices
from tradier_pipeline.assets.reconciliation import reconciled_ledger
from tradier_pipeline.assets.report import daily_report
from tradier_pipeline.assets.resource import TradierResource
from tradier_pipeline.assets.summary import daily_summary
from tradier_pipeline.checks.claims import ledger_claims, snapshot_claims
from tradier_pipeline.checks.freshness import snapshot_is_fresh
from tradier_pipeline.checks.gainloss import trades_beside_closed_lots
from tradier_pipeline.checks.history import (
    activity_checks,
    cash_beside_history,
    derived_beside_queries,
    statement_beside_days,
)
from tradier_pipeline.checks.published import published_equals_landed
from tradier_pipeline.checks.trade_dates import summary_checks
from tradier_pipeline.core.settings import Settings, load_settings
from tradier_pipeline.cycles.accounts_job import snapshot_accounts
from tradier_pipeline.cycles.alerts import run_failure_alert, run_recovery_alert
from tradier_pipeline.cycles.daily import build_daily_schedules
from tradier_pipeline.cycles.freshness import freshness_sensor
from tradier_pipeline.cycles.jobs import (
    account_activity_job,
    account_sync,
    build_request_snapshot,
    daily_summary_job,
    exchange_calendar,
    monitor_cycle,
    trade_cycle,
)
from tradier_pipeline.cycles.maintenance import maintenance, nightly_maintenance
from tradier_pipeline.cycles.schedules import build_schedules
from tradier_pipeline.cycles.sensors import build_sensors
from tradier_pipeline.cycles.service_levels import service_level_alert
from tradier_pipeline.cycles.snapshot_job import SNAPSHOT_ASSETS, snapshot, snapshot_job
from tradier_pipeline.instance import in_temporary_home

ALERTS = (freshness_sensor, run_failure_alert, run_recovery_alert, service_level_alert)


def build_definitions(settings: Settings | None = None, resources: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Everything Dagster knows of: assets, checks, jobs, schedules, sensors and the one resource.

    Merge it with your own: `dg.Definitions.merge(build_definitions(), mine)`.

    Args:
        settings: from which schedules and sensors are made; default the environment and `.env`, from which every run
            and every tick reads what it needs (accounts, home, token).
        resources: more resources by key, or another one in place of `tradier`.

    Raises:
        SettingsError: a setting is missing or malformed.
    """
    settings = settings or load_settings()
    return dg.Definitions(
        assets=[account, *_assets()],
        asset_checks=[
            *(snapshot_claims, ledger_claims, published_equals_landed, snapshot_is_fresh, sessions_equal_brokers),
            *(summary_checks, activity_checks, trades_beside_closed_lots, cash_beside_history, statement_beside_days),
            derived_beside_queries,
        ],
        jobs=[
            snapshot,
            snapshot_accounts,
            monitor_cycle,
            trade_cycle,
            account_sync,
            build_request_snapshot(snapshot_job),
            exchange_calendar,
            daily_summary_job,
            maintenance,
            account_activity_job,
        ],
        schedules=[*build_schedules(settings), *build_daily_schedules(settings), nightly_maintenance],
        sensors=[
            *build_sensors(settings),
            freshness_sensor,
            run_failure_alert,
            run_recovery_alert,
            service_level_alert,
        ],
        resources={"tradier": TradierResource(), **(resources or {})},
        executor=dg.in_process_executor,
    )


@cache
def _assets() -> Sequence[Any]:
    """With links to their code, for which Dagster reads every file of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.with_source_code_references(
            [
                *(*SNAPSHOT_ASSETS, trade_gate, reconciled_ledger),
                *(raw_calendar, daily_summary, *MAINTENANCE),
                *(raw_activity, stored_activity, daily_prices, dividends, daily_report),
            ]
        )


@dg.definitions
def defs() -> dg.Definitions:
    if in_temporary_home():
        logging.getLogger("dagster").warning(
            f"DAGSTER_HOME is not set: this home is removed at the end, its schedules and sensors are switched off. "
            f"The home that `tradier-pipeline up` uses: DAGSTER_HOME={load_settings().dagster_home}"
        )
    return build_definitions()
