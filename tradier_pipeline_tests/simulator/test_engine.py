"""The engine of the demo: its ledger follows the spreads that the simulated broker trades, and nobody else's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tradier_pipeline.core.settings import DEMO_ACCOUNT, load_settings
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.extract.connection import connect
from tradier_pipeline.ledger.records import EngineOrder, Trade
from tradier_pipeline.ledger.store import Ledger
from tradier_pipeline.simulator.engine import LEARNS_AFTER, DemoEngine
from tradier_pipeline.simulator.server import embedded_simulator
from tradier_pipeline.simulator.store import Store
from tradier_pipeline.simulator.world import ROUND_THE_CLOCK, World
from tradier_pipeline_tests.conftest import Home, take

MONDAY = datetime(2026, 11, 16, 17, 3, tzinfo=UTC)  # in the session; no order was placed in the minutes before
OTHER = "SIM00000003"  # trades spreads, too
ENDED = {"FILLED", "CANCELLED", "REJECTED", "EXPIRED"}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite")


@pytest.fixture
def demo(tmp_path: Path, ledger: Ledger) -> Store:
    store = Store(tmp_path / "simulator")
    store.keepers.append(DemoEngine(ledger, (DEMO_ACCOUNT,)).keep)
    return store


def visit(store: Store, at: datetime) -> World:
    with store.at(at) as world:
        return world


def test_the_spreads_of_the_demo_are_in_the_ledger_and_nothing_else_is(demo: Store, ledger: Ledger) -> None:
    world = visit(demo, MONDAY)
    spreads = {order.tag: order for order in world.accounts[DEMO_ACCOUNT].orders if order.cls == "multileg"}
    orders = {order.client_order_id: order for order in ledger.orders()}
    assert orders.keys() == spreads.keys()
    rows: list[EngineOrder | Trade] = [*orders.values(), *ledger.trades()]
    assert {row.account_id for row in rows} == {DEMO_ACCOUNT}
    for tag, order in orders.items():
        if order.status in ENDED:
            assert (order.broker_order_id, order.filled_quantity) == (spreads[tag].id, spreads[tag].executed)
    held = {
        symbol: position.quantity
        for symbol, position in world.accounts[DEMO_ACCOUNT].positions.items()
        if len(symbol) > 6
    }
    claimed = {
        leg.option_symbol: leg.quantity * (1 if leg.side == "long" else -1)
        for trade in ledger.trades({"OPEN"})
        for leg in trade.legs
    }
    assert claimed.items() <= held.items()
    assert claimed


def test_an_order_of_long_ago_asks_for_no_snapshot_and_a_new_one_asks(demo: Store, ledger: Ledger) -> None:
    visit(demo, MONDAY)
    assert ledger.requests() == []
    known = {order.client_order_id for order in ledger.orders()}
    at = MONDAY
    while known == (now := {order.client_order_id for order in ledger.orders()}):
        at += timedelta(minutes=1)
        visit(demo, at)
    asked = {request.order_id for request in ledger.waiting()}
    assert now - known <= asked <= now


def test_the_engine_learns_minutes_later_how_an_order_ended(demo: Store, ledger: Ledger) -> None:
    at = MONDAY
    visit(demo, at)
    known = {order.client_order_id: order for order in ledger.orders() if order.status in ENDED}
    while known.keys() >= (ended := {one.client_order_id for one in ledger.orders() if one.status in ENDED}):
        at += timedelta(minutes=1)
        world = visit(demo, at)
    orders = {order.tag: order for order in world.accounts[DEMO_ACCOUNT].orders}
    waited = [at - orders[news].updated for news in ended - known.keys()]
    assert all(LEARNS_AFTER <= wait <= LEARNS_AFTER + timedelta(minutes=1) for wait in waited)


def test_whoever_visits_and_however_often_the_ledger_says_the_same(demo: Store, ledger: Ledger, tmp_path: Path) -> None:
    visit(demo, MONDAY)
    said = (ledger.orders(), ledger.trades(), ledger.requests())
    again = Store(tmp_path / "simulator")
    again.keepers.append(DemoEngine(ledger, (DEMO_ACCOUNT,)).keep)
    visit(again, MONDAY)
    visit(demo, MONDAY)
    assert (ledger.orders(), ledger.trades(), ledger.requests()) == said


def test_every_trade_ends_as_it_did_in_the_account(demo: Store, ledger: Ledger) -> None:
    for hours in range(0, 48, 4):
        world = visit(demo, MONDAY + timedelta(hours=hours))
    with demo.at(world.now) as world:
        world.accounts[DEMO_ACCOUNT].wakes_at = None  # nobody closes anything any more
        world.version += 1
    held = {trade.trade_id for trade in ledger.trades({"OPEN"})}
    for days in range(3, 46, 7):
        visit(demo, MONDAY + timedelta(days=days))
    trades = {trade.trade_id: trade for trade in ledger.trades()}
    assert {trade.status for trade in trades.values()} <= {"CLOSED", "CANCELLED"}
    assert held
    assert {trades[one].exit_reason for one in held} <= {"EXPIRED", "ASSIGNED", "EXERCISED"}
    assert {trade.exit_reason for name, trade in trades.items() if trade.entry_price and name not in held} == {
        "NORMAL_EXIT"
    }


def test_a_ledger_that_cannot_be_used_costs_no_visit_and_is_told_once(
    demo: Store, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    ledger.path.write_bytes(b"this is no database at all" * 50)
    assert visit(demo, MONDAY).accounts[DEMO_ACCOUNT].orders
    visit(demo, MONDAY)
    assert caplog.text.count("cannot write its ledger") == 1


def test_only_the_embedded_broker_of_a_home_writes_its_ledger(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with embedded_simulator(None, calendar=ROUND_THE_CLOCK) as url:
        monkeypatch.setenv("TRADIER_BASE_URL", url)
        with connect(load_settings()) as broker:
            take(home, broker)
        assert not load_settings().ledger.exists()
    monkeypatch.delenv("TRADIER_BASE_URL")
    with connect(load_settings()):
        pass
    assert {order.account_id for order in Ledger(load_settings().ledger).orders()} == {DEMO_ACCOUNT}


def test_the_ledger_of_a_new_demo_agrees_with_its_first_snapshot(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from tradier_pipeline.publish.ledger_state import reconcile_newest

    monkeypatch.setenv("TRADIER_CALENDAR", "24/7")  # orders of today to match, on a holiday as well
    settings = load_settings()
    with connect(settings) as broker:
        take(home, broker)
    (found,) = reconcile_newest(settings)
    assert [finding for _, finding in found.findings if finding.severity == "error"] == []
    assert SnapshotId.parse(found.facts.snapshot_id).account_id == DEMO_ACCOUNT
    spreads = {order.client_order_id for order in Ledger(settings.ledger).orders()}
    of_today = [order for order in found.facts.orders if order.tag in spreads]  # none just after midnight
    assert found.match_counts.get("matched", 0) == len(of_today)
