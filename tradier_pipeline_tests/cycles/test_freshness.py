"""The freshness sensor: red without any run, once, reported once, green again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from tradier_pipeline import clock
from tradier_pipeline.core.settings import DEMO_ACCOUNT
from tradier_pipeline.cycles.freshness import freshness_sensor
from tradier_pipeline_tests.conftest import Home, Simulated, take
from tradier_pipeline_tests.support.dagster_runs import definitions, evaluations
from tradier_pipeline_tests.support.inboxes import Webhook, webhook

NAME = "snapshot_is_fresh"


class Watcher:
    """Evaluates the sensor as the daemon does, a minute later each time."""

    def __init__(self, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
        self.instance = instance
        # a session that is always on: no test depends on the day it runs
        monkeypatch.setenv("TRADIER_CALENDAR", "24/7")
        today = clock.trade_date(clock.now())
        self.time = datetime(today.year, today.month, today.day, 17, tzinfo=UTC)
        monkeypatch.setattr(clock, "now", lambda: self.time)
        self.cursor: str | None = None

    def tick(self, after: timedelta = timedelta(minutes=1)) -> None:
        self.time += after
        with dg.build_sensor_context(instance=self.instance, cursor=self.cursor) as context:
            answer = freshness_sensor(context)
        assert isinstance(answer, dg.SensorResult)
        self.cursor = answer.cursor
        for event in answer.asset_events:
            self.instance.report_runless_asset_event(event)

    def verdicts(self) -> list[bool]:
        """What the instance has recorded, oldest first."""
        return [passed for _, passed in evaluations(self.instance, NAME)][::-1]


@pytest.fixture
def watcher(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Watcher:
    return Watcher(instance, monkeypatch)


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    with webhook() as inbox:
        monkeypatch.setenv("TRADIER_ALERT_URLS", inbox.url)
        yield inbox


def test_a_history_that_goes_stale_is_reported_and_told_once_and_again_when_it_is_not(
    home: Home, watcher: Watcher, hook: Webhook, simulated: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        watcher.tick()
    assert (watcher.verdicts(), hook.titles) == ([True], [])
    for _ in range(3):
        watcher.tick()
    assert watcher.verdicts() == [True, False]
    assert hook.titles == [f"Tradier: stale: {DEMO_ACCOUNT}"]
    assert hook.messages[0]["message"] == f"{DEMO_ACCOUNT} has no snapshot"
    landed, _ = take(home, simulated.broker)
    watcher.time = landed.manifest.as_of
    watcher.tick()
    watcher.tick()
    assert watcher.verdicts() == [True, False, True]
    assert hook.titles[1:] == [f"Tradier: up to date again: {DEMO_ACCOUNT}"]
    assert watcher.instance.get_runs_count() == 0


def test_an_alert_that_reached_nobody_is_told_later_and_does_not_hold_up_the_report(
    home: Home, watcher: Watcher, hook: Webhook
) -> None:
    hook.status = 500
    for _ in range(5):
        watcher.tick()
    assert watcher.verdicts() == [True, False]
    assert len(hook.messages) == 2
    hook.status = 200
    for _ in range(3):
        watcher.tick()
    assert len(hook.messages) == 3
    assert watcher.verdicts() == [True, False]


def test_a_machine_that_was_off_gets_its_two_minutes(home: Home, watcher: Watcher, hook: Webhook) -> None:
    watcher.tick()
    watcher.tick(timedelta(hours=2))
    watcher.tick()
    watcher.tick()
    assert hook.titles == []
    watcher.tick()
    assert hook.titles == [f"Tradier: stale: {DEMO_ACCOUNT}"]


def test_the_check_can_be_executed_alone(
    home: Home, instance: dg.DagsterInstance, simulated: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADIER_CALENDAR", "24/7")
    take(home, simulated.broker)
    selection = dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey("tradier_snapshot"), NAME))
    checks = dg.define_asset_job("only_the_check", selection=selection)
    within = dg.Definitions.merge(definitions(), dg.Definitions(jobs=[checks]))
    result = within.resolve_job_def("only_the_check").execute_in_process(instance=instance)
    (found,) = result.get_asset_check_evaluations()
    assert (found.passed, found.severity) == (True, dg.AssetCheckSeverity.ERROR)
    assert evaluations(instance, NAME) == [(None, True)]
