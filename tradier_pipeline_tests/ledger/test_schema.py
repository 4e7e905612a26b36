"""The ledger guards itself: whatever engine writes by plain SQL, the constraints and triggers do the work."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from tradier_pipeline.ledger import schema
from tradier_pipeline.ledger.records import REASONS, EngineOrder, OrderStatus, Trade, TradeStatus
from tradier_pipeline.ledger.store import Ledger

ACCOUNT = "VA12345678"
SNAPSHOT, LATER = f"{ACCOUNT}@2026-11-20T14:31:00Z", f"{ACCOUNT}@2026-11-20T14:32:00Z"
LEG = '{"option_symbol": "SPY261218P00650000", "side": "buy_to_open", "quantity": 1}'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    Ledger(tmp_path / "ledger.sqlite").waiting()
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def engine(path: Path) -> Iterator[sqlite3.Connection]:
    """A program that knows nothing of this one."""
    connection = sqlite3.connect(path, isolation_level=None)
    yield connection
    connection.close()


def insert(engine: sqlite3.Connection, table: str, **values: Any) -> None:
    names, places = ", ".join(values), ", ".join("?" * len(values))
    engine.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", list(values.values()))


def place(engine: sqlite3.Connection, client_order_id: str = "gw-1-entry", **values: Any) -> None:
    insert(engine, "orders", **{"client_order_id": client_order_id, "account_id": ACCOUNT, "role": "ENTRY"} | values)


def open_trade(engine: sqlite3.Connection, **values: Any) -> None:
    sound = {"trade_id": "t-1", "account_id": ACCOUNT, "symbol": "SPY", "quantity": "1", "status": "OPEN"}
    insert(engine, "trades", **sound | values)


def asked(engine: sqlite3.Connection) -> list[tuple[str, str, str]]:
    """The requests that wait: account, reason, order."""
    return engine.execute(
        "SELECT account_id, reason, order_id FROM snapshot_requests WHERE snapshot_id IS NULL ORDER BY request_id"
    ).fetchall()


def answer(engine: sqlite3.Connection) -> None:
    engine.execute("UPDATE snapshot_requests SET snapshot_id = ?, claimed_at = '2026-11-20T14:31:00Z'", [SNAPSHOT])


ORDER = [(ACCOUNT, "order_placed", "gw-1-entry")]


def test_the_file_is_in_wal_mode_and_every_table_is_strict(engine: sqlite3.Connection) -> None:
    assert engine.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    tables = engine.execute("PRAGMA table_list").fetchall()
    assert {name: strict for _, name, _, _, _, strict in tables if not name.startswith("sqlite_")} == {
        "snapshot_requests": 1,
        "orders": 1,
        "trades": 1,
        "ledger_changes": 1,
        "stated_flows": 1,
    }


@pytest.mark.parametrize("table", ["snapshot_requests", "orders", "trades"])
def test_every_column_has_a_comment_where_anybody_can_read_it(table: str, engine: sqlite3.Connection) -> None:
    (ddl,) = engine.execute("SELECT sql FROM sqlite_master WHERE name = ?", [table]).fetchone()
    for _, name, *_ in engine.execute(f"PRAGMA table_info({table})"):
        definition = re.search(rf"^    {name} .*?(?=^    \w|\Z)", ddl, re.MULTILINE | re.DOTALL)
        assert definition is not None
        assert " -- " in definition[0], name


def test_the_typed_rows_have_the_columns_and_words_of_the_tables(engine: sqlite3.Connection) -> None:
    for table, model in (("orders", EngineOrder), ("trades", Trade)):
        columns = {name for _, name, *_ in engine.execute(f"PRAGMA table_info({table})")}
        assert columns == {field.alias or name for name, field in model.model_fields.items()}
    columns = {name for _, name, *_ in engine.execute("PRAGMA table_info(orders)")}
    assert columns - set(schema.ENGINE_COLUMNS) == {"client_order_id", "snapshot_id", "created_at", "updated_at"}
    assert set(get_args(OrderStatus)) == set(schema.ORDER_STATUSES)
    assert set(get_args(TradeStatus)) == set(schema.TRADE_STATUSES)


# ---------------------------------------------------------------- constraints


@pytest.mark.parametrize("reason", REASONS)
def test_a_request_needs_an_account_and_a_known_reason(reason: str, engine: sqlite3.Connection) -> None:
    insert(engine, "snapshot_requests", account_id=ACCOUNT, reason=reason)
    ((requested_at,),) = engine.execute("SELECT requested_at FROM snapshot_requests").fetchall()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", requested_at)


@pytest.mark.parametrize(
    ("values", "reported"),
    [
        ({"account_id": None}, "NOT NULL"),
        ({"account_id": ""}, "account_number"),
        ({"account_id": "../../etc"}, "account_number"),
        ({"account_id": "VA@2026"}, "account_number"),
        ({"account_id": "V" * 33}, "account_number"),
        ({"reason": "because"}, "reason_is_known"),
        ({"reason": None}, "NOT NULL"),
        ({"requested_at": "yesterday"}, "requested_at_is_an_instant"),
        ({"requested_at": "2026-13-20T14:31:00Z"}, "requested_at_is_an_instant"),
        ({"requested_at": "2026-02-30T14:31:00Z"}, "requested_at_is_an_instant"),
        ({"requested_at": "2026-11-20T14:31Z"}, "requested_at_is_an_instant"),
        ({"requested_at": "2026-11-20T14:31:00"}, "requested_at_is_an_instant"),
        ({"snapshot_id": SNAPSHOT}, "claimed_with_its_instant"),
        ({"claimed_at": "2026-11-20T14:31:00Z"}, "claimed_with_its_instant"),
        ({"snapshot_id": "VA1@2026-11-20T14:31:00Z", "claimed_at": "2026-11-20T14:31:00Z"}, "snapshot_of_the_account"),
    ],
)
def test_a_malformed_request_is_refused(values: dict[str, Any], reported: str, engine: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.IntegrityError, match=reported):
        insert(engine, "snapshot_requests", **{"account_id": ACCOUNT, "reason": "manual"} | values)


@pytest.mark.parametrize(
    ("values", "reported"),
    [
        ({"client_order_id": "under_score"}, "client_order_id_is_a_tag"),
        ({"client_order_id": "x" * 256}, "client_order_id_is_a_tag"),
        ({"client_order_id": ""}, "client_order_id_is_a_tag"),
        ({"account_id": "not one"}, "account_number"),
        ({"role": "entry"}, "role_is_known"),
        ({"status": "OPEN"}, "status_is_known"),
        ({"class": "future"}, "class_is_known"),
        ({"order_type": "guess"}, "order_type_is_known"),
        ({"duration": "ever"}, "duration_is_known"),
        ({"broker_order_id": "abc"}, "cannot store"),
        ({"broker_order_id": 0}, "CHECK"),
        ({"quantity": "-1"}, "quantity_is_an_amount"),
        ({"quantity": "one"}, "quantity_is_an_amount"),
        ({"limit_price": "1e-7"}, "limit_price_is_a_decimal"),
        ({"limit_price": "--1"}, "limit_price_is_a_decimal"),
        ({"limit_price": "1.2.3"}, "limit_price_is_a_decimal"),
        ({"limit_price": "nan"}, "limit_price_is_a_decimal"),
        ({"limit_price": ""}, "limit_price_is_a_decimal"),
        ({"limit_price": 1e30}, "limit_price_is_a_decimal"),
        ({"legs": "{"}, "legs_are_a_list"),
        ({"legs": '"SPY"'}, "a leg of orders needs"),
        ({"legs": '["SPY"]'}, "a leg of orders needs"),
        ({"legs": LEG}, "a leg of orders needs"),
        ({"legs": f"[{LEG.replace('buy_to_open', 'long')}]"}, "a leg of orders needs"),
        ({"legs": f"[{LEG.replace(': 1', ': -1')}]"}, "a leg of orders needs"),
        ({"legs": f"[{LEG.replace('quantity', 'count')}]"}, "a leg of orders needs"),
        ({"legs": f"[{LEG.replace('option_symbol', 'symbol')}]"}, "a leg of orders needs"),
        ({"snapshot_id": "VA1@2026-11-20T14:31:00Z"}, "snapshot_of_the_account"),
        ({"created_at": "now"}, "created_at_is_an_instant"),
    ],
)
def test_a_malformed_order_is_refused_and_asks_for_nothing(
    values: dict[str, Any], reported: str, engine: sqlite3.Connection
) -> None:
    with pytest.raises(sqlite3.IntegrityError, match=reported):
        place(engine, **values)
    assert asked(engine) == []


@pytest.mark.parametrize(
    ("values", "reported"),
    [
        ({"trade_id": ""}, "CHECK"),
        ({"status": "open"}, "status_is_known"),
        ({"quantity": None}, "NOT NULL"),
        ({"expiration": "2026-02-30"}, "CHECK"),
        ({"multiplier": 0}, "CHECK"),
        ({"managed": 2}, "CHECK"),
        ({"realized_pnl": "lots"}, "realized_pnl_is_a_decimal"),
        ({"opened_at": "today"}, "opened_at_is_an_instant"),
        ({"legs": f"[{LEG}]"}, "a leg of trades needs"),
    ],
)
def test_a_malformed_trade_is_refused(values: dict[str, Any], reported: str, engine: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.IntegrityError, match=reported):
        open_trade(engine, **values)


def test_numbers_become_exact_decimal_text(engine: sqlite3.Connection) -> None:
    place(engine, quantity=2, limit_price=0.85, avg_fill_price=-1.1, filled_quantity=1.5, legs=f"[{LEG}]")
    row = engine.execute("SELECT quantity, limit_price, avg_fill_price, filled_quantity FROM orders").fetchone()
    assert row == ("2", "0.85", "-1.1", "1.5")
    with pytest.raises(sqlite3.IntegrityError, match="a leg of orders needs"):
        engine.execute("UPDATE orders SET legs = '[1]'")


def test_a_brokers_order_is_one_order_of_an_account(engine: sqlite3.Connection) -> None:
    place(engine, "a", broker_order_id=228175)
    place(engine, "b", broker_order_id=228175, account_id="VA00000002")
    place(engine, "c")
    place(engine, "d")
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        place(engine, "e", broker_order_id=228175)


# ---------------------------------------------------------------- triggers


def test_a_new_order_asks_for_a_snapshot_in_its_own_transaction(path: Path, engine: sqlite3.Connection) -> None:
    engine.execute("BEGIN")
    place(engine)
    assert asked(engine) == ORDER
    other = sqlite3.connect(path)
    assert asked(other) == []
    other.close()
    engine.execute("ROLLBACK")
    assert asked(engine) == []
    place(engine)
    assert asked(engine) == ORDER


@pytest.mark.parametrize(
    "change",
    [
        *("status = 'PLACED'", "broker_order_id = 228175", "trade_id = 't-1'", "limit_price = '0.90'", "role = 'EXIT'"),
        *("quantity = 2", "duration = 'gtc'", "raw_status = 'open'", "reject_reason = 'no'", f"legs = '[{LEG}]'"),
    ],
)
def test_a_change_of_an_order_asks_again_once_the_last_request_was_answered(
    change: str, engine: sqlite3.Connection
) -> None:
    place(engine)
    engine.execute(f"UPDATE orders SET {change}")
    assert asked(engine) == ORDER  # the one that waits answers both
    answer(engine)
    engine.execute(f"UPDATE orders SET {change}")
    assert asked(engine) == []  # the same values
    engine.execute("UPDATE orders SET filled_quantity = 7")
    assert asked(engine) == ORDER


def test_what_a_snapshot_told_us_asks_for_no_snapshot_and_what_the_engine_does_after_it_does(
    engine: sqlite3.Connection,
) -> None:
    place(engine, "imported", snapshot_id=SNAPSHOT)
    assert asked(engine) == []
    place(engine)
    answer(engine)
    engine.execute("UPDATE orders SET status = 'FILLED', snapshot_id = ?", [LATER])
    assert asked(engine) == []
    engine.execute("UPDATE orders SET status = 'PLACED' WHERE client_order_id = 'gw-1-entry'")
    assert asked(engine) == ORDER
    answer_all = "UPDATE snapshot_requests SET snapshot_id = ?, claimed_at = requested_at WHERE snapshot_id IS NULL"
    engine.execute(answer_all, [LATER])
    place_again = "INSERT OR REPLACE INTO orders (client_order_id, account_id, role) VALUES ('gw-1-entry', ?, 'EXIT')"
    engine.execute(place_again, [ACCOUNT])
    assert asked(engine) == ORDER
    engine.execute(answer_all, [LATER])
    engine.execute("UPDATE orders SET status = 'FILLED', snapshot_id = ? WHERE role = 'EXIT'", [SNAPSHOT])
    engine.execute("UPDATE orders SET status = 'PLACED', snapshot_id = NULL WHERE role = 'EXIT'")
    assert asked(engine) == ORDER


def test_requests_of_other_accounts_orders_and_reasons_do_not_stand_in_for_one(engine: sqlite3.Connection) -> None:
    insert(engine, "snapshot_requests", account_id=ACCOUNT, reason="manual", order_id="gw-1-entry")
    insert(engine, "snapshot_requests", account_id="VA2", reason="order_placed", order_id="gw-1-entry")
    insert(engine, "snapshot_requests", account_id=ACCOUNT, reason="order_placed", order_id="gw-2-entry")
    place(engine)
    assert asked(engine)[3:] == ORDER


def test_an_answered_request_stays_as_it_is(engine: sqlite3.Connection) -> None:
    insert(engine, "snapshot_requests", account_id=ACCOUNT, reason="manual")
    answer(engine)
    with pytest.raises(sqlite3.IntegrityError, match="has answered this request"):
        engine.execute("UPDATE snapshot_requests SET snapshot_id = ?", [LATER])
    with pytest.raises(sqlite3.IntegrityError, match="has answered this request"):
        engine.execute("UPDATE snapshot_requests SET snapshot_id = NULL, claimed_at = NULL")


@pytest.mark.parametrize("recursive", ["ON", "OFF"])
@pytest.mark.parametrize("table", ["orders", "trades"])
def test_updated_at_is_kept_when_the_writer_does_not(table: str, recursive: str, engine: sqlite3.Connection) -> None:
    engine.execute(f"PRAGMA recursive_triggers = {recursive}")
    old = "2026-01-02T03:04:05.000Z"
    if table == "orders":
        place(engine, updated_at=old)
    else:
        open_trade(engine, updated_at=old)
    engine.execute(f"UPDATE {table} SET quantity = 3")
    ((touched,),) = engine.execute(f"SELECT updated_at FROM {table}").fetchall()
    assert touched > old
    for number in range(200):  # several in the same millisecond
        engine.execute(f"UPDATE {table} SET quantity = ?", [number])
    engine.execute(f"UPDATE {table} SET quantity = 4, updated_at = '2027-01-02T03:04:05.000Z'")
    assert engine.execute(f"SELECT updated_at FROM {table}").fetchall() == [("2027-01-02T03:04:05.000Z",)]
