"""sync_tradier_snapshot(): a published snapshot as a value, from wherever Python runs."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import dagster as dg
import pytest

from tradier_pipeline import TradierSnapshot, sync_tradier_snapshot
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.settings import DEMO_ACCOUNT
from tradier_pipeline.cycles.on_demand import SnapshotFailedError
from tradier_pipeline.instance import open_instance
from tradier_pipeline.verify import CHECKS
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline_tests.conftest import Home, Simulated, miscount


async def within_a_loop() -> TradierSnapshot:
    return sync_tradier_snapshot()


def in_a_thread() -> TradierSnapshot:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(sync_tradier_snapshot).result()


def test_the_value_is_what_was_published_and_the_run_is_in_the_history(
    home: Home, simulated: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "/somebody/elses")
    taken = sync_tradier_snapshot(trigger="notebook")
    assert os.environ["DAGSTER_HOME"] == "/somebody/elses"

    with connect_readonly(home.warehouse.path) as connection:
        stored = connection.execute("SELECT snapshot_id, as_of, equity, cash, trigger FROM balance_history").fetchall()
        positions = connection.execute("SELECT symbol, quantity FROM positions ORDER BY row_no").fetchall()
        orders = connection.execute("SELECT order_id FROM orders ORDER BY order_id").fetchall()
    balances = taken.balances
    assert stored == [(taken.snapshot_id, taken.as_of, balances.total_equity, balances.total_cash, "notebook")]
    assert isinstance(balances.total_equity, Decimal)
    assert taken.account.account_number == DEMO_ACCOUNT
    assert [(held.symbol, held.quantity) for held in taken.positions] == positions != []
    assert sorted((order.id,) for order in taken.orders) == orders != []
    assert [(outcome.check, outcome.passed) for outcome in taken.checks] == [(check.name, True) for check in CHECKS]
    with pytest.raises(dataclasses.FrozenInstanceError):
        taken.snapshot_id = "another"  # type: ignore[misc]

    with open_instance(home.path / "dagster") as instance:
        (run,) = instance.get_runs()
    assert (run.job_name, run.status) == ("snapshot", dg.DagsterRunStatus.SUCCESS)
    assert run.tags["tradier/trigger"] == "notebook"
    assert run.tags["dagster/partition"] == taken.snapshot_id


@pytest.mark.parametrize("take", [lambda: asyncio.run(within_a_loop()), in_a_thread], ids=["event loop", "thread"])
def test_it_works_inside_a_running_event_loop_and_from_any_thread(
    take: Callable[[], TradierSnapshot], home: Home, simulated: Simulated
) -> None:
    taken = take()
    assert all(outcome.passed for outcome in taken.checks)


def test_a_failure_is_told_with_cause_and_remedy_and_leaves_the_last_one_current(
    home: Home, simulated: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = sync_tradier_snapshot()
    with monkeypatch.context() as patched:
        miscount(patched)
        with pytest.raises(SnapshotFailedError) as refused:
            sync_tradier_snapshot()
    assert "was not published: the check balances_equal" in refused.value.cause
    assert "tradier-pipeline verify" in refused.value.remedy
    assert [outcome.check for outcome in refused.value.outcomes if outcome.blocks] == ["balances_equal"]
    assert all(outcome.differences for outcome in refused.value.outcomes if outcome.blocks)

    simulated.fault("/balances", "status", status=400, body="no", times=1)
    with pytest.raises(PipelineError, match="balances: HTTP 400") as unread:
        sync_tradier_snapshot()
    assert unread.value.remedy
    with connect_readonly(home.warehouse.path) as connection:
        assert connection.execute("SELECT snapshot_id FROM newest_snapshots").fetchall() == [(good.snapshot_id,)]


def test_another_account_than_the_tokens_is_refused(home: Home, simulated: Simulated) -> None:
    with pytest.raises(PipelineError, match="VA99999999"):
        sync_tradier_snapshot("VA99999999")
    with pytest.raises(PipelineError, match="'no account' is not an account number"):
        sync_tradier_snapshot("no account")
    assert not home.warehouse.path.exists()
