"""The ledger in a run: what is proposed, what is written, what a person sees, and what costs no snapshot."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from tradier_pipeline.assets import snapshot as assets_snapshot
from tradier_pipeline.core.settings import load_settings
from tradier_pipeline.ledger.records import EngineOrder, Trade
from tradier_pipeline.ledger.store import Ledger, LedgerError
from tradier_pipeline.verify.claims import LEDGER_CLAIMS
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline_tests.cli.test_ledger import SPREAD, believes, entry, shows
from tradier_pipeline_tests.conftest import Home, Simulated, miscount
from tradier_pipeline_tests.support.dagster_runs import evaluations, failure, new_key, run_job

pytestmark = pytest.mark.usefixtures("without_days")


@pytest.fixture
def ledger(home: Home, simulated: Simulated) -> Ledger:
    """An engine that crashed after its order was accepted, and a broker that has filled it."""
    ledger = Ledger(load_settings().ledger)
    believes(ledger)
    shows(simulated, SPREAD, [entry()])
    return ledger


def statuses(ledger: Ledger) -> list[str]:
    rows: list[EngineOrder | Trade] = [*ledger.orders(), *ledger.trades()]
    return [row.status for row in rows]


def metadata(instance: dg.DagsterInstance, asset: str) -> dict[str, Any]:
    event = instance.get_latest_materialization_event(dg.AssetKey(asset))
    assert event is not None
    assert event.asset_materialization is not None
    return {name: value.value for name, value in event.asset_materialization.metadata.items()}


def proposed(home: Home) -> list[tuple[Any, ...]]:
    """Of each snapshot: what the ledger should say."""
    with connect_readonly(home.warehouse.path) as connection:
        return connection.execute(
            "SELECT orders.proposed IS NOT NULL, trades.proposed IS NOT NULL FROM order_reconciliation AS orders "
            "JOIN trade_reconciliation AS trades USING (snapshot_id) ORDER BY orders.as_of"
        ).fetchall()


def warnings(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    return [entry.user_message for entry in instance.all_logs(run_id) if entry.level == 30]


def test_what_is_proposed_is_shown_with_the_trade_cycle_and_written_by_nobody(
    home: Home, simulated: Simulated, ledger: Ledger, instance: dg.DagsterInstance
) -> None:
    shows(simulated, SPREAD | {"AAPL301220C00310000": 1}, [entry()])
    assert run_job(instance, new_key(), job="trade_cycle").success
    assert statuses(ledger) == ["PENDING", "ENTRY_PENDING"]
    assert metadata(instance, "tradier_snapshot")["ledger_rows_to_change"] == 2
    orders, trades = metadata(instance, "order_reconciliation"), metadata(instance, "trade_reconciliation")
    assert (orders["matched"], orders["proposed"], trades["OPEN"], trades["proposed"]) == (1, 1, 1, 1)
    assert r"- **engine\-1** " in orders["proposals"]
    assert r"status \= FILLED" in orders["proposals"]
    (differing,) = orders["differing"].records
    assert "status: ledger PENDING, broker FILLED" in differing.data["differences"]
    found = metadata(instance, "findings")
    # the share that the owner holds by hand is no problem; an option is
    assert (found["open"], found["error"], found["warn"], found["info"]) == (1, 0, 1, 0)
    assert found["worst"].records[0].data["code"] == "position_without_trade"
    assert "AAPL301220C00310000" in found["worst"].records[0].data["text"]


def test_every_job_writes_what_is_proposed_once_where_the_settings_say_so(
    home: Home, ledger: Ledger, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADIER_LEDGER_WRITE", "apply")
    assert run_job(instance, new_key()).success
    assert statuses(ledger) == ["FILLED", "OPEN"]
    assert ledger.waiting() == []  # what was written asks for no snapshot
    assert run_job(instance, new_key()).success
    assert proposed(home) == [(True, True), (False, False)]


def test_a_run_that_dies_between_publishing_and_writing_loses_nothing(
    home: Home, ledger: Ledger, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise RuntimeError("power failure")

    monkeypatch.setenv("TRADIER_LEDGER_WRITE", "apply")
    with monkeypatch.context() as dying:
        dying.setattr(assets_snapshot, "apply", die)
        key = new_key()
        assert not run_job(instance, key).success
    assert statuses(ledger) == ["PENDING", "ENTRY_PENDING"]
    assert proposed(home) == [(True, True)]
    assert run_job(instance, key).success  # the same again: already published, it says nothing about the ledger of now
    assert statuses(ledger) == ["PENDING", "ENTRY_PENDING"]
    assert run_job(instance, new_key()).success
    assert statuses(ledger) == ["FILLED", "OPEN"]
    assert proposed(home) == [(True, True), (True, True)]


def test_a_ledger_that_cannot_be_written_is_told_as_a_warning(
    home: Home, ledger: Ledger, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise LedgerError("it is locked", "End the other program.")

    monkeypatch.setenv("TRADIER_LEDGER_WRITE", "apply")
    monkeypatch.setattr(assets_snapshot, "apply", refuse)
    result = run_job(instance, new_key())
    assert result.success
    assert warnings(instance, result.run_id) == [
        "Nothing was written to the ledger: it is locked. End the other program."
    ]


def test_a_row_that_the_engine_changed_meanwhile_is_left_alone_and_told(
    home: Home, ledger: Ledger, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = assets_snapshot.read_relevant_ledger  # type: ignore[attr-defined]

    def read_and_change(*of_what: Any) -> Any:
        ledger_state = read(*of_what)
        (order,) = ledger.orders()
        ledger.record_order(order.model_copy(update={"status": "PLACED"}))
        return ledger_state

    monkeypatch.setenv("TRADIER_LEDGER_WRITE", "apply")
    monkeypatch.setattr(assets_snapshot, "read_relevant_ledger", read_and_change)
    result = run_job(instance, new_key())
    assert result.success
    assert statuses(ledger) == ["PLACED", "OPEN"]
    assert warnings(instance, result.run_id) == [
        "orders engine-1 of the ledger was left alone: the engine has changed the row since"
    ]


def test_nothing_is_written_from_a_snapshot_that_is_refused(
    home: Home, simulated: Simulated, ledger: Ledger, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    shows(simulated, {}, [])
    assert run_job(instance, new_key()).success
    monkeypatch.setenv("TRADIER_LEDGER_WRITE", "apply")
    shows(simulated, SPREAD, [entry()])
    miscount(monkeypatch)
    key = new_key()
    assert failure(run_job(instance, key)).startswith(f"{key} was not published")
    assert evaluations(instance, "account_equals_broker")[0] == (key, False)
    assert statuses(ledger) == ["PENDING", "ENTRY_PENDING"]


def test_a_ledger_that_cannot_be_read_costs_no_snapshot(
    home: Home, simulated: Simulated, instance: dg.DagsterInstance
) -> None:
    path = load_settings().ledger
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"no ledger" * 1000)
    result = run_job(instance, new_key(), job="trade_cycle")
    assert result.success
    *_, stored, judged = warnings(instance, result.run_id)
    assert stored.startswith("The snapshot is not set beside the ledger: cannot use the ledger")
    assert judged.startswith("The ledger is not judged: cannot use the ledger")
    assert metadata(instance, "order_reconciliation")["dagster/partition_row_count"] == 0


def verdicts(instance: dg.DagsterInstance, asset: str, check: str) -> list[tuple[str | None, bool]]:
    """What the instance recorded of a check of the ledger, newest first: partition, passed. Not what was left out."""
    key = dg.AssetCheckKey(dg.AssetKey(asset), check)
    records = instance.event_log_storage.get_asset_check_execution_history(key, limit=10)
    reported = {"SUCCEEDED": True, "FAILED": False}
    return [(record.partition, reported[record.status.value]) for record in records if record.status.value in reported]


def test_the_trade_cycle_checks_the_ledger_beside_the_newest_snapshot_and_beside_no_older_one(
    home: Home, ledger: Ledger, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = new_key()
    assert run_job(instance, before, job="trade_cycle").success
    check = ("order_reconciliation", "ledger_orders_agree")
    assert verdicts(instance, *check) == [(before, False)]
    monkeypatch.setenv("TRADIER_LEDGER_WRITE", "apply")
    after = new_key()
    assert run_job(instance, after, job="trade_cycle").success
    assert verdicts(instance, *check) == [(after, True), (before, False)]
    assert run_job(instance, before, job="trade_cycle").success
    assert len(verdicts(instance, *check)) == 2


def test_without_a_ledger_nothing_is_judged(home: Home, simulated: Simulated, instance: dg.DagsterInstance) -> None:
    assert run_job(instance, new_key(), job="trade_cycle").success
    assert not any(verdicts(instance, claim.asset, claim.name) for claim in LEDGER_CLAIMS)
