"""The daily summary: due once after the close of a session day, for that day's partition."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from tradier_pipeline import clock
from tradier_pipeline.cycles.daily import build_daily_schedules, daily_summary_schedule
from tradier_pipeline.landing import MissedRecord
from tradier_pipeline.settings import DEMO_ACCOUNT, Settings
from tradier_pipeline.snapshot import SnapshotId
from tradier_pipeline_tests.conftest import Home, Simulated, take
from tradier_pipeline_tests.dagster_runs import definitions, failure, materialized, run_job

NEW_YORK = ZoneInfo("America/New_York")
SUMMARY = dg.AssetKey("daily_summary")


def evaluate(instance: dg.DagsterInstance, at: str) -> str:
    """The partition that is asked for at a New York time, or why none is."""
    instant = datetime.fromisoformat(at).replace(tzinfo=NEW_YORK)
    with dg.build_schedule_context(instance=instance, scheduled_execution_time=instant) as context:
        context._instance = instance
        answer = daily_summary_schedule(context)
    return str(answer.skip_message if isinstance(answer, dg.SkipReason) else answer.partition_key)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("at", "answer"),
    [
        ("2026-11-23 16:25", "due at 16:30 New York time"),
        ("2026-11-23 16:30", "2026-11-23"),
        ("2026-11-23 21:00", "2026-11-23"),  # `up` was not running at 16:30
        ("2026-11-26 16:30", "the exchange is closed on 2026-11-26"),
        ("2026-11-27 13:25", "due at 13:30 New York time"),
        ("2026-11-27 13:30", "2026-11-27"),
    ],
)
def test_a_session_day_is_due_half_an_hour_after_its_close(instance: dg.DagsterInstance, at: str, answer: str) -> None:
    assert evaluate(instance, at) == answer


def test_the_minutes_after_the_close_and_the_extension_are_settings(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADIER_SUMMARY_AFTER_CLOSE_MINUTES", "60")
    monkeypatch.setenv("TRADIER_CLOSE_EXTENSION_MINUTES", "15")
    assert evaluate(instance, "2026-11-23 17:10") == "due at 17:15 New York time"


def test_a_day_is_asked_for_once(instance: dg.DagsterInstance) -> None:
    create_run_for_test(
        instance,
        job_name="daily_summary",
        status=dg.DagsterRunStatus.FAILURE,
        tags={"dagster/partition": "2026-11-23"},
    )
    assert evaluate(instance, "2026-11-23 16:35") == "2026-11-23 has a run already"
    assert evaluate(instance, "2026-11-24 16:35") == "2026-11-24"


def test_a_calendar_without_closes_has_no_summary_schedule() -> None:
    always = {"account_activity"}
    found = {schedule.name for schedule in build_daily_schedules(Settings())}
    assert found == {"exchange_calendar", "daily_summary", *always}
    assert {schedule.name for schedule in build_daily_schedules(Settings(calendar="24/7"))} == always


def test_the_summary_counts_the_snapshots_of_its_day_and_shows_its_balances(
    home: Home, instance: dg.DagsterInstance, simulated: Simulated
) -> None:
    first, _ = take(home, simulated.broker)
    second, _ = take(home, simulated.broker)
    day = clock.trade_date(first.manifest.as_of)
    for instant in (datetime.now(UTC), datetime.now(UTC) - timedelta(days=7)):
        missed = SnapshotId(DEMO_ACCOUNT, instant.replace(microsecond=0))
        home.zone.record_missed(
            MissedRecord(snapshot_id=str(missed), trigger="monitor_cycle", recorded_at=clock.now(), reason="late")
        )
    simulated.fault("/positions", "status", status=400, body="no")
    result = run_job(instance, str(SnapshotId.now(DEMO_ACCOUNT)))
    assert not result.success
    result = definitions().resolve_job_def("daily_summary").execute_in_process(
        instance=instance, partition_key=str(day)
    )  # fmt: skip
    assert materialized(instance, SUMMARY) == {str(day)}
    (event,) = result.asset_materializations_for_node("summarize_day")
    assert {name: event.metadata[name].value for name in ("snapshots", "missed", "failed")} == {
        "snapshots": 2,
        "missed": 1,
        "failed": 1,
    }
    table = event.metadata["accounts"]
    assert isinstance(table, dg.TableMetadataValue)
    (row,) = table.records
    assert row.data["account_id"] == DEMO_ACCOUNT
    assert row.data["first_as_of"] == f"{first.manifest.as_of.astimezone(NEW_YORK):%H:%M:%S}"
    assert row.data["last_as_of"] == f"{second.manifest.as_of.astimezone(NEW_YORK):%H:%M:%S}"
    figures = [float(str(row.data[name])) for name in ("low", "open", "close", "high")]
    assert figures[0] == min(figures) > 0
    assert figures[3] == max(figures)


def test_a_day_without_snapshots_fails_in_one_line(
    home: Home, instance: dg.DagsterInstance, simulated: Simulated
) -> None:
    take(home, simulated.broker)
    job = definitions().resolve_job_def("daily_summary")
    result = job.execute_in_process(instance=instance, partition_key="2026-01-02", raise_on_error=False)
    assert failure(result).startswith("no snapshot of 2026-01-02 is published. ")
    assert materialized(instance, SUMMARY) == set()
