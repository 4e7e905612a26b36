"""The checks of what is done once a day, as Dagster shows them: of what ran, and of nothing else; each alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from tradier_pipeline import report
from tradier_pipeline.assets.date_checks import OF_ACTIVITY, OF_SUMMARY
from tradier_pipeline.instance import open_instance
from tradier_pipeline.verify.activity import ACTIVITY_CHECK
from tradier_pipeline_tests.conftest import Home, Simulated, take
from tradier_pipeline_tests.cycles.conftest import Clock
from tradier_pipeline_tests.support.dagster_runs import definitions, run_job, shown_checks, statuses_of

MIDNIGHT = datetime(2026, 11, 18, 4, 59, 59, tzinfo=UTC)  # the last second of Tuesday in New York
MORNING = datetime(2026, 11, 18, 12, 10, tzinfo=UTC)
TUESDAY, MONDAY = "2026-11-17", "2026-11-16"
ASSETS = ("daily_summary", "account_activity", "closed_lots", "raw/calendar")
SUMMARY = {check.name for check in OF_SUMMARY.checks}
MORNING_AFTER = {ACTIVITY_CHECK, *(check.name for group in OF_ACTIVITY for check in group.checks)}


@pytest.fixture
def instance(home: Home) -> Iterator[dg.DagsterInstance]:
    with open_instance(home.path / "dagster") as opened:
        yield opened


@pytest.fixture
def tuesday(home: Home, simulated: Simulated, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A snapshot of the last second of a Tuesday; it is the morning after."""
    machine = Clock(MIDNIGHT)
    monkeypatch.setattr("tradier_pipeline.clock.now", machine.now)
    monkeypatch.setattr(report, "write_reports", lambda *_, **__: [])  # cycles/test_daily_report
    simulated.admin("POST", "clock", {"now": MIDNIGHT.isoformat()})
    simulated.admin("POST", "reset")
    take(home, simulated.broker)
    machine.time = MORNING
    simulated.admin("POST", "clock", {"now": MORNING.isoformat()})
    return machine


def run_daily(instance: dg.DagsterInstance, job: str, day: str | None = None) -> dg.ExecuteInProcessResult:
    return run_job(instance, job=job, tags={"dagster/partition": day} if day else {})


def prove(instance: dg.DagsterInstance, day: str) -> dict[str, bool]:
    """Execute a check of the summary and one of the activity alone; what each said."""
    checks = {"daily_summary": "summary_history", "account_activity": ACTIVITY_CHECK}
    selection = dg.AssetSelection.checks(*[dg.AssetCheckKey(dg.AssetKey(key), name) for key, name in checks.items()])
    within = dg.Definitions.merge(definitions(), dg.Definitions(jobs=[dg.define_asset_job("alone", selection)]))
    result = run_job(instance, job="alone", within=within, tags={"dagster/partition": day})
    return {one.check_name: one.passed for one in result.get_asset_check_evaluations()}


def planned(instance: dg.DagsterInstance, run_id: str) -> int:
    kinds = [entry.dagster_event_type for entry in instance.all_logs(run_id)]
    return kinds.count(dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED)


@pytest.mark.usefixtures("tuesday")
def test_a_daily_job_that_fails_leaves_no_check_red_and_of_one_that_succeeds_each_is_shown_and_proven_alone(
    home: Home, simulated: Simulated, instance: dg.DagsterInstance
) -> None:
    failed = [run_daily(instance, "daily_summary", MONDAY)]  # nothing was read that day
    simulated.fault("/gainloss", "status", status=400, body="no", times=1)
    failed.append(run_daily(instance, "account_activity", TUESDAY))
    simulated.fault("/calendar", "status", status=400, body="no", times=1)
    failed.append(run_daily(instance, "exchange_calendar"))
    assert [result.success for result in failed] == [False, False, False]
    assert [planned(instance, result.run_id) for result in failed] == [0, 0, 0]
    shown = shown_checks(instance, ASSETS)
    assert shown.keys() >= SUMMARY | MORNING_AFTER
    assert [found for found in statuses_of(shown).values() if found] == []
    assert shown["sessions_equal_brokers"]["executionForLatestMaterialization"] is None

    for job, day in (("daily_summary", TUESDAY), ("account_activity", TUESDAY), ("exchange_calendar", None)):
        assert run_daily(instance, job, day).success
    shown = shown_checks(instance, ASSETS)
    found = statuses_of(shown)
    assert {name: found[name] for name in (*SUMMARY, ACTIVITY_CHECK)} == {
        name: {("succeeded", f"{TUESDAY} {TUESDAY}")} for name in (*SUMMARY, ACTIVITY_CHECK)
    }
    assert shown["sessions_equal_brokers"]["executionForLatestMaterialization"]["status"] == "SUCCEEDED"
    assert {one["canExecuteIndividually"] for one in shown.values()} == {"CAN_EXECUTE"}

    # each alone on a date of before: it asks the broker nothing, and finds what was changed
    asked = len(simulated.requests())
    assert prove(instance, TUESDAY) == {"summary_history": True, ACTIVITY_CHECK: True}
    change(home.warehouse.path, "UPDATE account_activity_versions SET amount = amount + 0.00000001")
    change(home.warehouse.path, "UPDATE daily_summaries SET equity = equity + 0.00000001")
    assert prove(instance, TUESDAY) == {"summary_history": False, ACTIVITY_CHECK: False}
    assert prove(instance, MONDAY) == {}
    assert len(simulated.requests()) == asked


def change(path: Path, statement: str) -> None:
    path.chmod(0o644)
    with duckdb.connect(path) as connection:
        connection.execute(statement)


def test_the_name_of_the_landed_dates_is_that_of_every_account() -> None:
    from tradier_pipeline.landing.activity import ActivityRange

    day = date(2026, 11, 17)
    assert ActivityRange.window_of(day) == ActivityRange.of_day("VA1", day).file_name
