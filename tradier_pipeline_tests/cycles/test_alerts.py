"""Alerts about runs: once for a series, hourly while it lasts, once when it is over; never twice, never lost."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from tradier_pipeline import clock
from tradier_pipeline.core.settings import DEMO_ACCOUNT
from tradier_pipeline.cycles.alerts import run_failure_alert, run_recovery_alert
from tradier_pipeline.monitoring.alerts import AlertError
from tradier_pipeline_tests.conftest import Simulated
from tradier_pipeline_tests.support.dagster_runs import new_key, run_job
from tradier_pipeline_tests.support.inboxes import Webhook, webhook

FAILURE, SUCCESS = dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    with webhook() as inbox:
        monkeypatch.setenv("TRADIER_ALERT_URLS", inbox.url)
        yield inbox


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time = datetime(2026, 11, 20, 15, tzinfo=UTC)
        monkeypatch.setattr(clock, "now", lambda: self.time)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def ended(
    instance: dg.DagsterInstance,
    status: dg.DagsterRunStatus,
    account_id: str = DEMO_ACCOUNT,
    *,
    job: str = "monitor_cycle",
    process: str = "",
) -> None:
    """A run that has ended, and what the sensors make of it."""
    tags = {"tradier/account": account_id} if account_id else {}
    if process:
        tags["tradier/process"] = process
    seen(instance, create_run_for_test(instance, job_name=job, status=status, tags=tags))


def seen(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    failed = run.status is FAILURE
    kind = dg.DagsterEventType.RUN_FAILURE if failed else dg.DagsterEventType.RUN_SUCCESS
    sensor = run_failure_alert if failed else run_recovery_alert
    event = dg.DagsterEvent(event_type_value=kind.value, job_name=run.job_name, message="the process died")
    context = dg.build_run_status_sensor_context(
        sensor_name=sensor.name, dagster_event=event, dagster_instance=instance, dagster_run=run
    )
    sensor(context.for_run_failure() if failed else context)


def test_an_outage_is_told_at_once_then_hourly_then_its_end(
    instance: dg.DagsterInstance, hook: Webhook, machine: Clock
) -> None:
    ended(instance, SUCCESS)
    for _ in range(125):
        ended(instance, FAILURE)
        machine.time += timedelta(minutes=1)
    assert [message["message"].partition(" Run ")[0] for message in hook.messages] == [
        "the process died",
        "the process died It is failed run 61 in a row.",
        "the process died It is failed run 121 in a row.",
    ]
    assert set(hook.titles) == {f"Tradier: monitor_cycle {DEMO_ACCOUNT} failed"}
    for _ in range(3):
        ended(instance, SUCCESS)
    (recovered,) = hook.messages[3:]
    assert recovered["title"] == f"Tradier: monitor_cycle {DEMO_ACCOUNT} recovered"
    assert recovered["message"].startswith("after 125 failed runs. Run ")
    ended(instance, FAILURE)
    assert len(hook.messages) == 5  # a new series


def test_each_account_and_each_job_without_one_has_its_own_series(instance: dg.DagsterInstance, hook: Webhook) -> None:
    ended(instance, FAILURE)
    ended(instance, FAILURE, "SIM00000002", job="trade_cycle")
    ended(instance, FAILURE, "", job="daily_summary")
    ended(instance, FAILURE, job="trade_cycle")  # of the first account: another cycle, the same series
    ended(instance, SUCCESS, "", job="exchange_calendar")
    assert hook.titles == [
        f"Tradier: monitor_cycle {DEMO_ACCOUNT} failed",
        "Tradier: trade_cycle SIM00000002 failed",
        "Tradier: daily_summary failed",
    ]


def test_an_alert_that_reached_nobody_is_told_with_the_next_run(instance: dg.DagsterInstance, hook: Webhook) -> None:
    hook.status = 500
    for _ in range(2):
        with pytest.raises(AlertError, match="was delivered nowhere"):
            ended(instance, FAILURE)
    hook.status = 200
    ended(instance, FAILURE)
    ended(instance, FAILURE)
    assert len(hook.messages) == 3
    assert "It is failed run 3 in a row." in hook.messages[-1]["message"]
    hook.status = 500
    with pytest.raises(AlertError, match="was delivered nowhere"):
        ended(instance, SUCCESS)
    hook.status = 200
    ended(instance, SUCCESS)
    ended(instance, SUCCESS)
    assert len(hook.messages) == 5
    assert hook.messages[-1]["message"].startswith("after 4 failed runs.")


def test_a_run_within_a_process_that_is_told_anyway_alerts_nobody(instance: dg.DagsterInstance, hook: Webhook) -> None:
    ended(instance, FAILURE, job="snapshot", process="host 1")
    ended(instance, SUCCESS, job="snapshot", process="host 1")
    assert hook.messages == []


def test_without_urls_it_is_only_logged(instance: dg.DagsterInstance, caplog: pytest.LogCaptureFixture) -> None:
    ended(instance, FAILURE)
    ended(instance, SUCCESS)
    (failed, recovered) = instance.get_runs()[::-1]
    assert "tradier/alerted" in failed.tags
    assert "tradier/recovered" in failed.tags
    assert recovered.tags == {"tradier/account": DEMO_ACCOUNT}


def test_the_message_names_job_snapshot_cause_and_remedy_in_one_line(
    instance: dg.DagsterInstance, hook: Webhook, simulated: Simulated
) -> None:
    simulated.fault("/positions", "status", status=400, body="no")
    key = new_key()
    result = run_job(instance, key, tags={"tradier/account": DEMO_ACCOUNT})
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    seen(instance, run)
    (message,) = hook.messages
    assert message["title"] == f"Tradier: snapshot {key} failed"
    assert message["message"] == (
        "positions: HTTP 400 Bad Request: 'no'. Correct what the broker names; the request was not repeated. "
        f"Run {run.run_id}."
    )


def test_a_request_that_fails_alerts_once(instance: dg.DagsterInstance, hook: Webhook, simulated: Simulated) -> None:
    simulated.fault("/orders", "status", status=400, body="no")
    assert not run_job(instance, job="request_snapshot").success
    inner, outer = instance.get_runs()
    for run in (inner, outer):
        seen(instance, run)
    assert hook.titles == ["Tradier: request_snapshot failed"]
    assert hook.messages[0]["message"].startswith("orders: ")
