"""The daily summary: due once after the close of a session day, for that day's partition."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from tradier_pipeline import clock
from tradier_pipeline.core.settings import DEMO_ACCOUNT, Settings
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.cycles.daily import build_daily_schedules, daily_summary_schedule
from tradier_pipeline.landing.manifest import MissedRecord
from tradier_pipeline.reconcile.facts import LedgerState
from tradier_pipeline.reconcile.summary_checks import SUMMARY_CHECKS
from tradier_pipeline_tests.conftest import Home, Simulated, take
from tradier_pipeline_tests.support.bodies import ACCOUNT
from tradier_pipeline_tests.support.dagster_runs import definitions, failure, materialized, run_job
from tradier_pipeline_tests.warehouse.test_summaries import Book, at, ended

NEW_YORK = ZoneInfo("America/New_York")
SUMMARY = dg.AssetKey("daily_summary")

pytestmark = pytest.mark.usefixtures("without_reports")


def evaluate(instance: dg.DagsterInstance, at: str) -> str:
    """The partition that is asked for at a New York time, or why none is."""
    instant = datetime.fromisoformat(at).replace(tzinfo=NEW_YORK)
    with dg.build_schedule_context(instance=instance, scheduled_execution_time=instant) as context:
        context._instance = instance  # type: ignore[assignment]
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


def run_day(instance: dg.DagsterInstance, day: date) -> dg.ExecuteInProcessResult:
    """Materialize the partition of a date."""
    job = definitions().resolve_job_def("daily_summary")
    return job.execute_in_process(instance=instance, partition_key=str(day), raise_on_error=False)


def shown(instance: dg.DagsterInstance) -> dict[str, Any]:
    """What the last summary shows in the UI."""
    event = instance.get_latest_materialization_event(SUMMARY)
    assert event is not None
    assert event.asset_materialization is not None
    return dict(event.asset_materialization.metadata)


def verdicts(instance: dg.DagsterInstance, check: str) -> list[tuple[str | None, str]]:
    """What the instance recorded of a check of the summary, newest first."""
    key = dg.AssetCheckKey(SUMMARY, check)
    records = instance.event_log_storage.get_asset_check_execution_history(key, limit=10)
    return [(record.partition, record.status.value) for record in records]


def test_the_summary_counts_what_was_read_of_its_day_and_shows_its_figures(
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
    assert not run_job(instance, str(SnapshotId.now(DEMO_ACCOUNT))).success
    assert run_day(instance, day).success
    assert materialized(instance, SUMMARY) == {str(day)}
    text = shown(instance)
    assert {name: text[name].value for name in ("snapshots", "missed", "failed", "refused")} == {
        "snapshots": 2,
        "missed": 1,
        "failed": 1,
        "refused": 0,
    }
    (row,) = text["accounts"].records
    assert (row.data["account_id"], row.data["revision"]) == (DEMO_ACCOUNT, "1")
    assert row.data["as_of"] == f"{second.manifest.as_of.astimezone(NEW_YORK):%m-%d %H:%M:%S}"
    low, equity, high = (float(str(row.data[name])) for name in ("equity_low", "equity", "equity_high"))
    assert 0 < low <= equity <= high
    assert text["equity"].value == equity


def test_a_past_day_can_be_materialized_and_a_summary_is_stored_once(home: Home, instance: dg.DagsterInstance) -> None:
    book = Book(home.path)
    friday, monday = date(2025, 12, 5), date(2025, 12, 8)
    won = ended("t-1", at(friday, "15:00"), "105", opened_at=at(friday, "10:00"), created_at=at(friday, "10:00"))
    book.take(at(friday, "15:15"), 1000, LedgerState(trades=(won,)))
    assert run_day(instance, friday).success
    assert verdicts(instance, "summary_after_close") == [(str(friday), "FAILED")]
    book.take(at(friday, "16:15"), 1000, LedgerState(trades=(won,)))
    book.take(at(monday, "16:15"), 7000, LedgerState())
    for _ in range(2):
        assert run_day(instance, friday).success
    assert book.revisions() == [(friday, 1), (friday, 2)]
    text = shown(instance)
    assert (text["trades_closed"].value, text["realized_pnl"].value, text["realized_unknown"].value) == (1, 105.0, 0)
    (trade,) = text["closed_trades"].records
    assert (trade.data["id"], trade.data["closed_at"]) == ("t-1", "12-05 15:00:00")
    assert text["exit_reasons"].value == rf"- **{ACCOUNT}** EXPIRED\: 1"
    assert text["shown_by"].value == "tradier-pipeline summary 2025-12-05"
    assert text["without_snapshot"].value == DEMO_ACCOUNT
    for check in SUMMARY_CHECKS:
        assert verdicts(instance, check.name)[0] == (str(friday), "SUCCEEDED")


def test_a_day_without_snapshots_fails_in_one_line(
    home: Home, instance: dg.DagsterInstance, simulated: Simulated
) -> None:
    take(home, simulated.broker)
    result = run_day(instance, date(2026, 1, 2))
    assert failure(result).startswith("no snapshot of 2026-01-02 is published. ")
    assert materialized(instance, SUMMARY) == set()
