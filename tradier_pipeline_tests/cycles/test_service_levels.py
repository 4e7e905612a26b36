"""The alert of a burning error budget: told once, and again when it is over, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg
import pytest

from tradier_pipeline.cycles.service_levels import service_level_alert
from tradier_pipeline_tests.cli.test_service import MINUTE, OPEN, miss
from tradier_pipeline_tests.conftest import Home
from tradier_pipeline_tests.support.inboxes import webhook
from tradier_pipeline_tests.support.scripted_account import ACCOUNT, ScriptedAccount, scripted_account


@pytest.fixture
def account(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedAccount]:
    with scripted_account(home, monkeypatch) as scripted:
        yield scripted


def test_a_budget_that_burns_is_told_once_and_so_is_its_end(
    account: ScriptedAccount, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    cursor: str | None = None

    def tick() -> None:
        nonlocal cursor
        with dg.build_sensor_context(instance=instance, cursor=cursor) as context:
            answer = service_level_alert(context)
        assert isinstance(answer, dg.SensorResult)
        cursor = answer.cursor

    with webhook() as hook:
        monkeypatch.setenv("TRADIER_ALERT_URLS", hook.url)
        tick()  # nothing is published yet
        account.shows(OPEN, ("KO", 100, 6000), cash=1000)
        tick()
        assert hook.titles == []
        miss(account, OPEN + MINUTE)
        account.shows(OPEN + 2 * MINUTE, ("KO", 100, 6000), cash=1000)
        tick()
        tick()
        assert hook.titles == ["Tradier: an error budget burns"]
        assert f"{ACCOUNT}: coverage 0.00% of 99.0% over the month" in hook.messages[0]["message"]
        account.shows(OPEN + timedelta(days=40), ("KO", 100, 6000), cash=1000)
        tick()
        tick()
        assert hook.titles[1:] == ["Tradier: an error budget burns no more"]
