"""`tradier-pipeline ledger`: snapshots of the simulated broker against a ledger on disk."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tradier_pipeline import clock
from tradier_pipeline.cli import main
from tradier_pipeline.core.settings import DEMO_ACCOUNT
from tradier_pipeline.ledger.records import EngineOrder, Trade
from tradier_pipeline.ledger.store import Ledger
from tradier_pipeline_tests.conftest import Home, Simulated, take
from tradier_pipeline_tests.cycles.conftest import Clock
from tradier_pipeline_tests.reconcile.values import legs
from tradier_pipeline_tests.support import bodies

SHORT, LONG = "AAPL301220P00290000", "AAPL301220P00285000"
# a Monday's open in which every row of a ledger was written before: SQLite dates them by the machine's own clock
LONG_AGO = datetime(2025, 11, 3, 14, 30, tzinfo=UTC)  # what filled then has moved nothing since
IN_SESSION = datetime(2030, 11, 4, 14, 30, tzinfo=UTC)
TERMS = {"account_id": DEMO_ACCOUNT, "symbol": "AAPL"}


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(main, ["ledger", *arguments], prog_name="tradier-pipeline")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def ledger(home: Home) -> Ledger:
    return Ledger(home.path / "ledger.sqlite")


def test_findings_of_one_kind_are_one_line_with_all_names(home: Home, simulated: Simulated, ledger: Ledger) -> None:
    names = ("AAPL", "F", "KO", "MSFT", "T")
    held = [{"symbol": name, "quantity": number, "cost_basis": 10} for number, name in enumerate(names, 1)]
    simulated.admin("POST", "world", {"account": DEMO_ACCOUNT, "positions": held})
    ledger.record_trade(Trade(trade_id="t", **TERMS, status="CANCELLED", quantity=Decimal(1)))
    take(home, simulated.broker)
    reported = [line for line in run("diff").stdout.splitlines() if "position_without_trade" in line]
    assert len(reported) == 1
    assert reported[0].endswith("no trade accounts for 1 AAPL, 2 F, 3 KO, 4 MSFT, 5 T")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Clock:
    setting = Clock(IN_SESSION)
    monkeypatch.setattr(clock, "now", setting.now)
    return setting


def entry(status: str = "filled") -> dict[str, Any]:
    """The order of incident B1, as the broker lists it."""
    sides = {"sell_to_open": SHORT, "buy_to_open": LONG}
    parts = [
        bodies.leg(22223806 + place, symbol, side, status=status, quantity=1, exec_quantity=1, remaining_quantity=0)
        for place, (side, symbol) in enumerate(sides.items(), 1)
    ]
    now = clock.iso(clock.now())
    return bodies.order(
        22223806,
        **{"class": "multileg", "type": "credit", "duration": "day", "price": Decimal("2.00")},
        status=status,
        quantity=1,
        avg_fill_price=Decimal("-2.05000000"),
        exec_quantity=Decimal("1.00000000"),
        remaining_quantity=0,
        num_legs=2,
        tag="engine-1",
        create_date=now,
        transaction_date=now,
        leg=parts,
    )


SPREAD = {SHORT: -1, LONG: 1}


def shows(
    simulated: Simulated,
    held: dict[str, int],
    orders: list[dict[str, Any]],
    cash: int = 50000,
    each_cost: Decimal = Decimal(100),
) -> None:
    """The broker's whole answer; one share of MSFT, since an account that is flat is another story."""
    positions = [
        {"symbol": symbol, "quantity": quantity, "cost_basis": round(each_cost * quantity, 2)}
        for symbol, quantity in ({"MSFT": 1} | held).items()
    ]
    world = {"account": DEMO_ACCOUNT, "cash": cash, "positions": positions, "orders": orders}
    simulated.admin("POST", "world", json.loads(bodies.dumps(world)))


def believes(ledger: Ledger) -> None:
    """An engine that crashed after its order was accepted: no id, no fill, the trade not open."""
    ledger.record_trade(
        Trade.model_validate(
            TERMS
            | {"trade_id": "t-1", "status": "ENTRY_PENDING", "quantity": Decimal(1), "strategy": "bull_put_credit"}
            | {"legs": legs(1, short=SHORT, long=LONG), "width": Decimal(5)}
        )
    )
    ledger.record_order(
        EngineOrder.model_validate(TERMS | {"client_order_id": "engine-1", "role": "ENTRY", "trade_id": "t-1"})
    )


def test_diff_shows_and_apply_writes_what_the_broker_said_once(home: Home, simulated: Simulated, ledger: Ledger):
    believes(ledger)
    shows(simulated, SPREAD, [entry()])
    take(home, simulated.broker)
    shown = run("diff")
    assert shown.exit_code == 0
    assert "orders engine-1: order 22223806 by its tag is filled" in shown.stdout
    assert "status                 PENDING -> FILLED" in shown.stdout
    assert "status                 ENTRY_PENDING -> OPEN" in shown.stdout
    assert [order.status for order in ledger.orders()] == ["PENDING"]

    (document,) = json.loads(run("diff", "--json").stdout)["snapshots"]
    assert (document["orders"], document["unmatched"]) == ({"matched": 1}, [])
    assert {(change["table"], change["key"]) for change in document["changes"]} == {
        ("orders", "engine-1"),
        ("trades", "t-1"),
    }
    after = {change["table"]: change["after"] for change in document["changes"]}
    assert (after["orders"]["avg_fill_price"], after["trades"]["entry_price"]) == ("-2.05", "2.05")

    rows = json.loads(run("diff", "--format", "json").stdout)
    changed = {(row["about"], row["field"]): (row["key"], row["before"], row["after"]) for row in rows}
    assert changed["orders", "status"] == ("engine-1", "PENDING", "FILLED")
    assert changed["trades", "entry_price"] == ("t-1", None, "2.05")

    (document,) = json.loads(run("apply", "--json").stdout)["snapshots"]
    assert (len(document["applied"]), document["skipped"]) == (2, [])
    (order,), (trade,) = ledger.orders(), ledger.trades()
    assert (order.status, order.broker_order_id, order.filled_quantity) == ("FILLED", 22223806, 1)
    assert (trade.status, trade.entry_price, trade.broker_order_id_open) == ("OPEN", Decimal("2.05"), 22223806)
    assert "no rows to change; orders: 1 matched" in run("diff").stdout
    assert "no rows changed" in run("apply").stdout


def held_since_long(home: Home, simulated: Simulated, ledger: Ledger) -> None:
    """An open trade of days ago, whose legs the newest snapshot shows."""
    believes(ledger)
    shows(simulated, SPREAD, [entry()])
    take(home, simulated.broker)
    run("apply")
    long_ago = ledger.trades()[0].model_copy(update={"opened_at": clock.now() - timedelta(days=3)})
    ledger.record_trade(long_ago)  # longer ago than a fill takes to show


def test_a_position_that_is_gone_without_a_trace_closes_its_trade_once_another_session_shows_it_too(
    home: Home, simulated: Simulated, ledger: Ledger, machine: Clock
):
    held_since_long(home, simulated, ledger)
    shows(simulated, {}, [entry()])
    for _ in range(2):  # a minute apart: that may be a list that runs behind
        machine.time += timedelta(minutes=1)
        take(home, simulated.broker)
        shown = run("diff").stdout
        assert "no rows to change" in shown
        assert f"doubtful: {LONG} changed by -1 without a fill or another cause" in shown
    machine.time += timedelta(days=1)
    shows(simulated, {}, [])
    for _ in range(2):
        machine.time += timedelta(minutes=1)
        take(home, simulated.broker)
    shown = run("diff").stdout
    assert "status                 OPEN -> CLOSED" in shown
    assert "exit_reason            - -> BROKER_ALREADY_FLAT" in shown
    assert "exit_price_unknown" in shown
    run("apply")
    (trade,) = ledger.trades()
    assert (trade.status, trade.exit_price) == ("CLOSED", None)
    assert "no rows to change" in run("diff").stdout


def by_hand(number: int = 22224000, filled_at: datetime | None = None, **fields: Any) -> dict[str, Any]:
    """An order that closes the spread, placed in the broker's app: no tag."""
    sides = {"buy_to_close": SHORT, "sell_to_close": LONG}
    now = clock.iso(filled_at or clock.now())
    at = {"create_date": now, "transaction_date": now}
    parts = [
        bodies.leg(
            number + place, symbol, side, status="filled", quantity=1, exec_quantity=1, remaining_quantity=0, **at
        )
        for place, (side, symbol) in enumerate(sides.items(), 1)
    ]
    reported = {"class": "multileg", "type": "debit", "duration": "day", "price": Decimal("0.60"), "tag": None}
    done = {"status": "filled", "quantity": 1, "exec_quantity": 1, "remaining_quantity": 0, "num_legs": 2}
    given = reported | done | {"avg_fill_price": Decimal("0.55")} | at
    return bodies.order(number, **given | {"leg": parts} | fields)


def test_an_exit_by_hand_is_offered_by_name_and_one_command_makes_it_the_exit(
    home: Home, simulated: Simulated, ledger: Ledger, machine: Clock
):
    held_since_long(home, simulated, ledger)
    machine.time += timedelta(minutes=1)
    shows(simulated, {}, [entry(), by_hand()], cash=49945)
    take(home, simulated.broker)
    run("apply")
    (trade,) = ledger.trades()
    assert (trade.status, trade.exit_price) == ("OPEN", None)  # never closed without the price that is there
    shown = run("diff").stdout
    assert "exit_offered               t-1: order 22224000 at the broker may be its exit" in shown

    linked = run("link", "t-1", "22224000")
    assert (linked.exit_code, linked.stderr) == (0, "")
    (order,) = [order for order in ledger.orders() if order.broker_order_id == 22224000]
    assert (order.role, order.trade_id, order.status, order.avg_fill_price) == (
        "EXIT",
        "t-1",
        "FILLED",
        Decimal("0.55"),
    )
    with sqlite3.connect(ledger.path) as connection:
        audit = "SELECT table_name, row_key, before, why FROM ledger_changes ORDER BY change_id DESC LIMIT 1"
        assert connection.execute(audit).fetchone() == (
            "orders",
            "22224000",
            "{}",
            "linked by hand: order 22224000 is the exit of t-1",
        )
    assert not [request for request in ledger.waiting() if request.order_id == "22224000"]
    run("apply")
    (trade,) = ledger.trades()
    assert (trade.status, trade.exit_price, trade.exit_reason) == ("CLOSED", Decimal("0.55"), "NORMAL_EXIT")
    assert (trade.realized_pnl, trade.broker_order_id_close) == (Decimal("150"), 22224000)
    assert "exit_offered" not in run("diff").stdout
    again = run("link", "t-1", "22224000")
    assert (again.exit_code, "CLOSED already" in again.stderr) == (1, True)


def test_what_does_not_close_the_trade_is_not_linked(
    home: Home, simulated: Simulated, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
):
    held_since_long(home, simulated, ledger)
    opens = by_hand(22225000, leg=entry()["leg"])
    unfilled = by_hand(22226000, status="open", exec_quantity=0, leg=[])
    too_many = by_hand(
        22227000, leg=[leg | {"exec_quantity": 2, "quantity": 2} for leg in by_hand(filled_at=LONG_AGO)["leg"]]
    )
    known = by_hand(22228000, LONG_AGO, tag="engine-1")
    shows(simulated, SPREAD, [entry(), opens, unfilled, too_many, known])
    take(home, simulated.broker)
    before = ledger.orders()
    for number, why in {
        22225000: "does not close the legs",
        22226000: "does not tell the legs",
        22227000: "more than the trade has left",
        22228000: "its tag is that of the ledger's order engine-1",
        22223806: "its tag is that of the ledger's order engine-1",
        99: "no snapshot of SIM00000001 that is good shows order 99",
    }.items():
        refused = run("link", "t-1", str(number))
        assert (refused.exit_code, why in refused.stderr) == (1, True), refused.stderr
    assert "has no trade t-9" in run("link", "t-9", "22225000").stderr
    monkeypatch.setenv("TRADIER_LEDGER_WRITE", "off")
    assert "TRADIER_LEDGER_WRITE is off" in run("link", "t-1", "22225000").stderr
    assert ledger.orders() == before


def test_an_order_that_another_trade_has_is_not_linked(home: Home, simulated: Simulated, ledger: Ledger):
    held_since_long(home, simulated, ledger)
    shows(simulated, SPREAD, [entry(), by_hand(filled_at=clock.now() - timedelta(days=2))])
    take(home, simulated.broker)
    twin = ledger.trades()[0].model_copy(update={"trade_id": "t-2", "broker_order_id_close": 22224000})
    ledger.record_trade(twin)
    refused = run("link", "t-1", "22224000")
    assert (refused.exit_code, "is of trade t-2 in the ledger already" in refused.stderr) == (1, True), refused.stderr


def test_shares_that_replace_a_short_put_are_its_assignment(home: Home, simulated: Simulated, ledger: Ledger):
    terms = {"trade_id": "t-1", "status": "OPEN", "quantity": Decimal(1), "opened_at": bodies.AS_OF}
    ledger.record_trade(Trade.model_validate(TERMS | terms | {"legs": legs(1, short=SHORT)}))
    shows(simulated, {SHORT: -1, "AAPL": 7}, [])
    take(home, simulated.broker)
    for _ in range(2):
        shows(simulated, {"AAPL": 107}, [], cash=50000 - 29000, each_cost=Decimal(700 + 29000) / 107)
        take(home, simulated.broker)
    run("apply")
    (trade,) = ledger.trades()
    assert (trade.status, trade.exit_reason, trade.exit_price) == ("CLOSED", "ASSIGNED", None)


def test_shares_are_counted_from_when_all_legs_were_held(home: Home, simulated: Simulated, ledger: Ledger):
    terms = {"trade_id": "t-1", "status": "OPEN", "quantity": Decimal(1), "opened_at": bodies.AS_OF}
    ledger.record_trade(Trade.model_validate(TERMS | terms | {"legs": legs(1, short=SHORT, long=LONG)}))
    for held in (SPREAD, {LONG: 1, "AAPL": 100}, {LONG: 1, "AAPL": 100}):
        shows(simulated, held, [])
        take(home, simulated.broker)
    shown = run("diff").stdout
    assert "leg_delivered              t-1: a leg is gone and its shares came or went: assigned" in shown
    assert "CLOSED" not in shown


def test_apply_does_nothing_while_writing_is_off(
    home: Home, simulated: Simulated, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
):
    believes(ledger)
    shows(simulated, SPREAD, [entry()])
    take(home, simulated.broker)
    monkeypatch.setenv("TRADIER_LEDGER_WRITE", "off")
    refused = run("apply")
    assert (refused.exit_code, [order.status for order in ledger.orders()]) == (1, ["PENDING"])
    assert refused.stderr.startswith("tradier-pipeline: error: TRADIER_LEDGER_WRITE is off.")


def test_orders_of_others_are_listed_and_never_touched(
    home: Home, simulated: Simulated, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TRADIER_ORDER_TAG_PREFIX", "engine-")
    ours, theirs = entry(), bodies.order(22223900, create_date=clock.iso(clock.now()))
    shows(simulated, SPREAD, [ours, theirs])
    take(home, simulated.broker)
    simulated.admin("DELETE", "requests")
    (document,) = json.loads(run("diff", "--json").stdout)["snapshots"]
    assert (document["orders"], document["changes"]) == ({"unmatched_external": 1, "unmatched_ours": 1}, [])
    assert [order["broker_order_id"] for order in document["unmatched"]] == [22223806, 22223900]
    reported = run("diff").stdout
    assert (
        "unmatched_ours                   order 22223806 filled: our tag, and the ledger does not have it" in reported
    )
    run("apply")
    assert simulated.requests() == []  # the broker is not even asked


def test_a_home_without_a_ledger_has_only_orders_of_others_and_gets_none_by_looking(
    home: Home, simulated: Simulated, ledger: Ledger
):
    shows(simulated, SPREAD, [entry("open")])
    take(home, simulated.broker)
    assert "no rows to change; orders: 1 unmatched_external" in run("diff").stdout
    assert not ledger.exists


def test_before_the_first_snapshot_there_is_a_line_that_says_what_to_do(home: Home):
    for command in ("diff", "apply"):
        assert "Take a snapshot" in run(command).stderr
