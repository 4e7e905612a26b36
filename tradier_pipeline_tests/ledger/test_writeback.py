from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tradier_pipeline.ledger.changes import LedgerChange, change_to
from tradier_pipeline.ledger.records import EngineOrder, Trade
from tradier_pipeline.ledger.schema import MIGRATIONS
from tradier_pipeline.ledger.store import Ledger, LedgerError
from tradier_pipeline.ledger.writeback import apply
from tradier_pipeline_tests.reconcile.values import ACCOUNT, engine_order, legs, put, trade

SNAPSHOT = f"{ACCOUNT}@2025-12-02T15:00:00Z"


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite")


def rows(ledger: Ledger, sql: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(ledger.path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(sql)]


def execute(ledger: Ledger, sql: str) -> None:
    with closing(sqlite3.connect(ledger.path)) as connection, connection:
        connection.execute(sql)


def recorded(ledger: Ledger, row: EngineOrder | Trade) -> Any:
    if isinstance(row, EngineOrder):
        ledger.record_order(row)
        return ledger.orders()[-1]
    ledger.record_trade(row)
    return ledger.trades()[-1]


def filled(row: EngineOrder) -> LedgerChange:
    change = change_to(row, {"status": "FILLED", "filled_quantity": Decimal("1.50")}, "order 7 is filled")
    assert change is not None
    return change


def test_a_change_is_written_with_its_reason_and_the_values_before_and_after(ledger: Ledger):
    order = recorded(ledger, engine_order(broker_order_id=7))
    written = apply(ledger, SNAPSHOT, [filled(order)])
    assert [change.key for change in written.applied] == ["e-1"]
    (stored,) = ledger.orders()
    assert (stored.status, stored.filled_quantity, stored.snapshot_id) == ("FILLED", Decimal("1.50"), SNAPSHOT)
    (audit,) = rows(ledger, "SELECT * FROM ledger_changes")
    assert (audit["snapshot_id"], audit["table_name"], audit["row_key"]) == (SNAPSHOT, "orders", "e-1")
    assert json.loads(audit["before"]) == {"status": "PLACED", "filled_quantity": None}
    assert json.loads(audit["after"]) == {"status": "FILLED", "filled_quantity": "1.50"}
    assert audit["why"] == "order 7 is filled"


def test_legs_dates_and_cleared_ids_are_written_as_the_ledger_keeps_them(ledger: Ledger):
    before = recorded(ledger, trade(quantity=5, broker_order_id_close=9))
    smaller = legs(2, short=put(290), long=put(285))
    change = change_to(
        before, {"quantity": Decimal(2), "legs": smaller, "broker_order_id_close": None}, "filled in part"
    )
    assert change is not None
    apply(ledger, SNAPSHOT, [change])
    (stored,) = ledger.trades()
    assert (stored.quantity, stored.legs, stored.broker_order_id_close) == (2, smaller, None)


def test_a_row_that_the_engine_changed_meanwhile_is_left_alone_and_told(ledger: Ledger):
    first, second = (
        recorded(ledger, engine_order(name, broker_order_id=number)) for name, number in (("a", 1), ("b", 2))
    )
    execute(ledger, "UPDATE orders SET limit_price = '2.10' WHERE client_order_id = 'a'")
    written = apply(ledger, SNAPSHOT, [filled(first), filled(second)])
    assert [(change.key, why) for change, why in written.skipped] == [("a", "the engine has changed the row since")]
    assert [change.key for change in written.applied] == ["b"]
    assert {order.client_order_id: order.status for order in ledger.orders()} == {"a": "PLACED", "b": "FILLED"}


def test_writing_the_same_changes_again_changes_nothing(ledger: Ledger):
    change = filled(recorded(ledger, engine_order()))
    apply(ledger, SNAPSHOT, [change])
    before = rows(ledger, "SELECT * FROM orders")
    again = apply(ledger, SNAPSHOT, [change])
    assert (again.applied, again.already, again.skipped) == ([], [change], [])
    assert rows(ledger, "SELECT * FROM orders") == before
    assert len(rows(ledger, "SELECT * FROM ledger_changes")) == 1


def test_what_a_snapshot_told_asks_for_no_snapshot(ledger: Ledger):
    order = recorded(ledger, engine_order())
    asked = len(ledger.requests())
    apply(ledger, SNAPSHOT, [filled(order)])
    assert len(ledger.requests()) == asked


def test_a_change_that_the_rules_refuse_costs_only_itself(ledger: Ledger):
    taken = recorded(ledger, engine_order("a", broker_order_id=7))
    other = recorded(ledger, engine_order("b"))
    clash = change_to(other, {"broker_order_id": 7}, "by its tag")
    assert clash is not None
    written = apply(ledger, SNAPSHOT, [clash, filled(taken)])
    assert [change.key for change in written.applied] == ["a"]
    assert "UNIQUE" in written.skipped[0][1]
    assert [audit["row_key"] for audit in rows(ledger, "SELECT row_key FROM ledger_changes")] == ["a"]


def test_nothing_is_written_without_its_row_in_the_audit(ledger: Ledger):
    order = recorded(ledger, engine_order())
    silent = change_to(order, {"status": "FILLED"}, "")
    assert silent is not None
    assert len(apply(ledger, SNAPSHOT, [silent]).skipped) == 1
    assert [order.status for order in ledger.orders()] == ["PLACED"]


def test_a_row_that_is_gone_is_told(ledger: Ledger):
    change = filled(recorded(ledger, engine_order()))
    execute(ledger, "DELETE FROM orders")
    assert apply(ledger, SNAPSHOT, [change]).skipped == [(change, "the row is not there any more")]


def test_all_changes_are_written_or_none(ledger: Ledger):
    good = filled(recorded(ledger, engine_order("a")))
    bad = LedgerChange(recorded(ledger, engine_order("b")), {"status": "FILLED", "no_such_column": 1}, "broken")
    with pytest.raises(LedgerError, match="no_such_column"):
        apply(ledger, SNAPSHOT, [good, bad])
    assert {order.status for order in ledger.orders()} == {"PLACED"}
    assert rows(ledger, "SELECT * FROM ledger_changes") == []


@pytest.mark.parametrize("sql", ["DELETE FROM ledger_changes", "UPDATE ledger_changes SET why = 'else'"])
def test_the_audit_is_never_changed(ledger: Ledger, sql: str):
    apply(ledger, SNAPSHOT, [filled(recorded(ledger, engine_order()))])
    with pytest.raises(sqlite3.IntegrityError, match="stays"):
        execute(ledger, sql)


def test_a_ledger_of_the_first_version_gets_the_audit_and_keeps_its_rows(tmp_path: Path):
    path = tmp_path / "ledger.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"{MIGRATIONS[0]}; PRAGMA user_version = 1;")
        connection.execute("INSERT INTO orders (client_order_id, account_id, role) VALUES ('old', 'VA1', 'ENTRY')")
        connection.commit()
    ledger = Ledger(path)
    assert [order.client_order_id for order in ledger.orders()] == ["old"]
    assert rows(ledger, "SELECT * FROM ledger_changes") == []
