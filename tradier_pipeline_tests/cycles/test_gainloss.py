"""The trades of a day beside the closed lots that the broker tells the morning after, in the run that reads them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import partial

import dagster as dg
import pytest

from tradier_pipeline.core.settings import DEMO_ACCOUNT, load_settings
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.extract.snapshot import extract_snapshot
from tradier_pipeline.ledger.store import Ledger
from tradier_pipeline.publish.ledger_state import read_relevant_ledger
from tradier_pipeline.publish.store import store_snapshot
from tradier_pipeline.reconcile.facts import LedgerState
from tradier_pipeline.reconcile.gainloss import GAINLOSS_CHECKS
from tradier_pipeline.simulator.engine import DemoEngine
from tradier_pipeline.simulator.server import embedded_simulator
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline_tests.conftest import Home, Simulated
from tradier_pipeline_tests.cycles.conftest import Clock
from tradier_pipeline_tests.support.dagster_runs import definitions

TUESDAY = date(2026, 11, 17)
MIDNIGHT = datetime(2026, 11, 18, 4, 59, tzinfo=UTC)  # in New York; the demo trades day and night
TIMES = [MIDNIGHT - timedelta(hours=hours) for hours in (14, 10, 5, 0)]
MORNING = datetime(2026, 11, 18, 12, 10, tzinfo=UTC)


@pytest.fixture
def broker(home: Home, machine: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulated]:
    """The demo on a Tuesday morning, with its engine."""
    machine.time = TIMES[0]
    engine = DemoEngine(Ledger(load_settings().ledger), (DEMO_ACCOUNT,))
    with embedded_simulator(None, clock=machine.now, keeper=engine.keep) as url:
        monkeypatch.setenv("TRADIER_BASE_URL", url)
        yield Simulated(url)


def read_over_the_day(home: Home, broker: Simulated, machine: Clock, *, ledger: bool = True) -> None:
    for machine.time in TIMES if ledger else TIMES[-1:]:
        landed = extract_snapshot(home.zone, broker.broker, SnapshotId.now(DEMO_ACCOUNT), "test")
        read_ledger = partial(read_relevant_ledger, load_settings()) if ledger else lambda *_: LedgerState()
        store_snapshot(home.warehouse, landed, read_ledger=read_ledger)
    machine.time = MORNING


def run_activity(instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    job = definitions().resolve_job_def("account_activity")
    return job.execute_in_process(instance=instance, partition_key=str(TUESDAY), raise_on_error=False)


def verdicts(instance: dg.DagsterInstance) -> dict[str, list[tuple[str | None, str]]]:
    """What the instance recorded of the checks: partition, status."""
    storage, lots = instance.event_log_storage, dg.AssetKey("closed_lots")
    return {
        check.name: [
            (record.partition, record.status.value)
            for record in storage.get_asset_check_execution_history(dg.AssetCheckKey(lots, check.name), limit=10)
            if record.status.value in ("SUCCEEDED", "FAILED")
        ]
        for check in GAINLOSS_CHECKS
    }


def test_the_trades_of_the_demo_are_what_its_broker_closed(
    home: Home, instance: dg.DagsterInstance, broker: Simulated, machine: Clock
) -> None:
    read_over_the_day(home, broker, machine)
    with connect_readonly(home.warehouse.path) as connection:
        closed = connection.execute(
            "SELECT count(DISTINCT trade_id) FROM trade_reconciliation "
            f"WHERE status = 'CLOSED' AND closed_at::DATE = '{TUESDAY}'"
        ).fetchone()
    assert closed is not None
    assert closed[0] > 0
    assert run_activity(instance).success
    assert verdicts(instance) == {check.name: [(str(TUESDAY), "SUCCEEDED")] for check in GAINLOSS_CHECKS}


def test_without_a_ledger_there_is_nothing_to_compare_and_that_is_no_success(
    home: Home, instance: dg.DagsterInstance, broker: Simulated, machine: Clock
) -> None:
    read_over_the_day(home, broker, machine, ledger=False)
    result = run_activity(instance)
    assert result.success
    assert verdicts(instance) == {check.name: [] for check in GAINLOSS_CHECKS}
    reported = [entry.user_message for entry in instance.all_logs(result.run_id)]
    assert f"{TUESDAY} is not judged: no trade of the ledger is known of it" in reported
