"""Importing the old system's database, with the dirt that it had."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tradier_pipeline.cli import main
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.ledger.import_d1 import Imported, import_d1
from tradier_pipeline.ledger.records import EngineOrder, Trade
from tradier_pipeline.ledger.store import Ledger
from tradier_pipeline_tests.conftest import Home
from tradier_pipeline_tests.reconcile.values import ACCOUNT

TABLES = """
PRAGMA defer_foreign_keys=TRUE;
CREATE TABLE proposals (id TEXT PRIMARY KEY, symbol TEXT);
INSERT INTO "proposals" VALUES('p-1','AAPL');
CREATE TABLE trades (id TEXT PRIMARY KEY, proposal_id TEXT, symbol TEXT, expiration TEXT, short_strike REAL,
  long_strike REAL, width REAL, quantity INTEGER, entry_price REAL, exit_price REAL, max_profit REAL, max_loss REAL,
  status TEXT, exit_reason TEXT, broker_order_id_open TEXT, broker_order_id_close TEXT, opened_at TEXT, closed_at TEXT,
  realized_pnl REAL, max_seen_profit_fraction REAL, iv_entry REAL, strategy TEXT DEFAULT 'BULL_PUT_CREDIT',
  origin TEXT, managed INTEGER, created_at TEXT, updated_at TEXT);
CREATE TABLE orders (id TEXT PRIMARY KEY, proposal_id TEXT NOT NULL, trade_id TEXT,
  client_order_id TEXT NOT NULL UNIQUE, tradier_order_id TEXT, side TEXT, status TEXT, avg_fill_price REAL,
  filled_quantity INTEGER, remaining_quantity INTEGER, snapshot_id TEXT, created_at TEXT, updated_at TEXT,
  FOREIGN KEY (trade_id) REFERENCES trades(id));
CREATE INDEX idx_orders ON orders (tradier_order_id);
"""
GOOD_TRADE: dict[str, Any] = {
    "id": "t-1",
    "proposal_id": "p-1",
    "symbol": "AAPL",
    "expiration": "2025-12-19",
    "short_strike": 290.0,
    "long_strike": 285.0,
    "width": 5.0,
    "quantity": 2,
    "entry_price": 2.01,
    "status": "OPEN",
    "broker_order_id_open": "22223806",
    "opened_at": "2025-12-01T14:31:00.000Z",
    "strategy": "BULL_PUT_CREDIT",
    "managed": 1,
    "created_at": "2025-12-01 14:30:00",
}
GOOD_ORDER: dict[str, Any] = {
    "id": "o-1",
    "proposal_id": "p-1",
    "trade_id": "t-1",
    "client_order_id": "GEKKOWORKS-p1-ENTRY-1764599400000",
    "tradier_order_id": "22223806",
    "side": "ENTRY",
    "status": "FILLED",
    "avg_fill_price": 2.01,
    "filled_quantity": 0,
    "remaining_quantity": 0,
    "created_at": "2025-12-01 14:30:30",
}


def insert(table: str, row: dict[str, Any]) -> str:
    with closing(sqlite3.connect(":memory:")) as connection:
        cells = [connection.execute("SELECT quote(?)", (value,)).fetchone()[0] for value in row.values()]
    return f'INSERT INTO "{table}" ({", ".join(row)}) VALUES({",".join(cells)});\n'


Import = Callable[..., Imported]


@pytest.fixture
def ledger(home: Home) -> Ledger:
    return Ledger(home.path / "ledger.sqlite")


@pytest.fixture
def dump(tmp_path: Path) -> Callable[..., Path]:
    def write(*statements: str) -> Path:
        path = tmp_path / "d1.sql"
        path.write_text(TABLES + "".join(statements))
        return path

    return write


@pytest.fixture
def imported(ledger: Ledger, dump: Callable[..., Path]) -> Import:
    """Import rows given as changes of a good one."""

    def run(trades: tuple[dict[str, Any], ...] = (), orders: tuple[dict[str, Any], ...] = ()) -> Imported:
        statements = [insert("trades", GOOD_TRADE | row) for row in trades]
        statements += [insert("orders", GOOD_ORDER | row) for row in orders]
        return import_d1(ledger, dump(*statements), ACCOUNT)

    return run


def reported(done: Imported, key: str) -> str:
    return "\n".join(note.why for note in done.notes if note.key == key)


def test_a_trade_and_its_order_arrive_exact_with_legs_units_and_signs(imported: Import, ledger: Ledger):
    done = imported(({"realized_pnl": 1.46, "max_loss": 5.98},), ({},))
    assert done.written == {"trades": 1, "orders": 1}
    (trade,), (order,) = ledger.trades(), ledger.orders()
    assert (trade.account_id, trade.strategy, trade.quantity) == (ACCOUNT, "bull_put_credit", 2)
    assert [(leg.option_symbol, leg.side, leg.quantity) for leg in trade.legs] == [
        ("AAPL251219P00290000", "short", 2),
        ("AAPL251219P00285000", "long", 2),
    ]
    assert (trade.entry_price, trade.entry_price_source) == (Decimal("2.01"), "imported")
    assert (trade.realized_pnl, trade.max_loss) == (146, 598)  # dollars now
    assert (trade.expiration, trade.opened_at) == (date(2025, 12, 19), datetime(2025, 12, 1, 14, 31, tzinfo=UTC))
    assert (order.broker_order_id, order.avg_fill_price, order.order_type) == (22223806, Decimal("-2.01"), "credit")
    assert order.created_at == datetime(2025, 12, 1, 14, 30, 30, tzinfo=UTC)
    assert (order.filled_quantity, reported(done, order.client_order_id)) == (
        None,
        "filled, and 0 of it; imported without the quantity",
    )


def test_importing_twice_changes_nothing(imported: Import, ledger: Ledger):
    first = imported(({},), ({},))
    ledger.record_trade(ledger.trades()[0].model_copy(update={"status": "CLOSED"}))  # the engine went on
    before = ledger.trades(), ledger.orders()
    again = imported(({},), ({},))
    assert (again.written, again.already) == ({"trades": 0, "orders": 0}, 2)
    assert (ledger.trades(), ledger.orders()) == before
    assert again.notes == first.notes


def test_an_import_asks_for_no_snapshot_and_leaves_the_requests_that_wait(imported: Import, ledger: Ledger):
    ledger.request(ACCOUNT, "manual")
    imported(({},), ({},))
    assert [request.reason for request in ledger.requests()] == ["manual"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"status": "WEIRD"}, "its status 'WEIRD' is not known"),
        ({"status": None}, "its status None is not known"),
        ({"quantity": 0}, "its quantity 0 is no amount"),
        ({"quantity": None}, "its quantity None is no amount"),
        ({"symbol": None}, "it has no symbol"),
    ],
)
def test_a_trade_that_is_not_understood_is_left_out_and_told(
    changes: dict[str, Any], why: str, imported: Import, ledger: Ledger
):
    done = imported((changes, {"id": "t-2"}))
    assert [(note.table, note.key, note.why) for note in done.notes if note.left_out and note.key != "*"] == [
        ("trades", "t-1", why)
    ]
    assert [trade.trade_id for trade in ledger.trades()] == ["t-2"]


@pytest.mark.parametrize(
    ("changes", "column", "kept"),
    [
        ({"exit_price": 0.0}, "exit_price", None),
        ({"exit_price": None}, "exit_price", None),
        ({"exit_price": "n/a"}, "exit_price", None),
        ({"entry_price": 0.1 + 0.2}, "entry_price", Decimal("0.3")),
        ({"entry_price": 1e300}, "entry_price", None),
        ({"short_strike": 602.5, "long_strike": 600}, "short_strike", Decimal("602.5")),
        ({"opened_at": "yesterday"}, "opened_at", None),
        ({"opened_at": 1764599400000}, "opened_at", datetime(2025, 12, 1, 14, 30, tzinfo=UTC)),
        ({"opened_at": "2025-12-01T09:30:00-05:00"}, "opened_at", datetime(2025, 12, 1, 14, 30, tzinfo=UTC)),
        ({"broker_order_id_open": "abc"}, "broker_order_id_open", None),
        ({"broker_order_id_open": "22223806.0"}, "broker_order_id_open", 22223806),
        ({"iv_entry": -0.2}, "iv_entry", None),
        ({"strategy": None}, "legs", ()),
        ({"short_strike": 285.0, "long_strike": 290.0}, "legs", ()),
    ],
)
def test_a_value_is_taken_as_it_was_meant_or_not_at_all(
    changes: dict[str, Any], column: str, kept: Any, imported: Import, ledger: Ledger
):
    done = imported((changes,))
    (trade,) = ledger.trades()
    assert getattr(trade, column) == kept
    silent = changes.get("exit_price", 1) is None or kept not in (None, ())
    assert bool(reported(done, "t-1")) != silent


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("PLACED", "PLACED"),
        ("OPEN", "PLACED"),
        ("NEW", "PLACED"),
        ("partially_filled", "PARTIAL"),
        ("canceled", "CANCELLED"),
        ("EXPIRED", "EXPIRED"),
        ("UNKNOWN", "UNKNOWN"),
        ("held", "UNKNOWN"),
    ],
)
def test_the_words_of_three_vocabularies_become_one(word: str, status: str, imported: Import, ledger: Ledger):
    imported(({},), ({"status": word},))
    (order,) = ledger.orders()
    assert (order.status, order.raw_status) == (status, word)


def test_two_rows_of_one_exit_are_both_kept_and_the_filled_one_has_the_broker_id(imported: Import, ledger: Ledger):
    exits = (
        {"id": "a", "client_order_id": "x-1", "side": "EXIT", "status": "PENDING", "tradier_order_id": "9"},
        {"id": "b", "client_order_id": "x-2", "side": "EXIT", "status": "FILLED", "tradier_order_id": "9"},
        {"id": "c", "client_order_id": "x-3", "side": "EXIT", "status": "PENDING", "tradier_order_id": None},
    )
    done = imported(({},), exits)
    assert {order.client_order_id: order.broker_order_id for order in ledger.orders()} == {
        "x-1": None,
        "x-2": 9,
        "x-3": None,
    }
    assert reported(done, "x-1") == "the broker's id 9 is that of x-2, too; imported without it"
    assert reported(done, "x-3") == "PENDING, and never known at the broker"
    prices = {order.client_order_id: order.avg_fill_price for order in ledger.orders()}
    assert prices["x-2"] == Decimal("2.01")  # to close a credit costs


def test_an_order_whose_trade_nobody_knows_keeps_no_price_without_a_sign(imported: Import, ledger: Ledger):
    done = imported((), ({"trade_id": None},))
    (order,) = ledger.orders()
    assert order.avg_fill_price is None
    assert "nobody knows whether 2.01 was paid or received" in reported(done, order.client_order_id)


def test_orders_that_are_not_understood_are_left_out_and_told(imported: Import, ledger: Ledger):
    done = imported((), ({"side": "BOTH"}, {"id": "o-2", "client_order_id": "under_score"}))
    assert {note.key for note in done.notes if note.left_out} == {"*", GOOD_ORDER["client_order_id"], "under_score"}
    assert ledger.orders() == []


def test_tables_that_the_ledger_does_not_have_are_told_with_their_rows(imported: Import):
    (note,) = [note for note in imported().notes if note.table == "proposals"]
    assert (note.why, note.left_out) == ("1 rows: the ledger has no such table", True)


def test_a_sqlite_file_is_read_like_a_dump_and_stays_as_it_was(ledger: Ledger, tmp_path: Path):
    path = tmp_path / "d1.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(TABLES + insert("trades", GOOD_TRADE) + insert("orders", GOOD_ORDER))
    before = path.read_bytes()
    assert import_d1(ledger, path, ACCOUNT).written == {"trades": 1, "orders": 1}
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "statement",
    [
        "ATTACH DATABASE '{victim}' AS victim; CREATE TABLE victim.harmed (x);",
        "PRAGMA writable_schema = ON;",
        "VACUUM INTO '{victim}';",
        "CREATE TRIGGER t AFTER INSERT ON trades BEGIN DELETE FROM trades; END;",
        "CREATE VIRTUAL TABLE v USING fts5(x);",
        "INSERT INTO trades (id) SELECT zeroblob(1000000000);",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) INSERT INTO trades (id) SELECT i FROM n;",
        "SELECT load_extension('x');",
        "this is no SQL",
    ],
)
def test_a_dump_that_does_more_than_take_rows_is_refused_and_nothing_is_written(
    statement: str, ledger: Ledger, dump: Callable[..., Path], tmp_path: Path
):
    victim = tmp_path / "victim"
    with pytest.raises(PipelineError, match="is no export of D1"):
        import_d1(ledger, dump(insert("trades", GOOD_TRADE), statement.format(victim=victim)), ACCOUNT)
    assert not victim.exists()
    assert not ledger.exists


def test_what_is_no_export_is_told(ledger: Ledger, tmp_path: Path):
    binary, empty = tmp_path / "binary", tmp_path / "empty.sql"
    binary.write_bytes(b"\xff\xfe\x00")
    empty.write_text("")
    for path, why in ((tmp_path / "none", "cannot read"), (binary, "neither a SQL dump"), (empty, "neither a table")):
        with pytest.raises(PipelineError, match=why):
            import_d1(ledger, path, ACCOUNT)


def test_the_command_prints_what_came_and_fails_if_rows_were_left_out(home: Home, dump: Callable[..., Path]):
    def run(*arguments: str) -> Any:
        return CliRunner().invoke(main, ["ledger", "import", *arguments, "--account", ACCOUNT])

    whole = run(str(dump(insert("trades", GOOD_TRADE))))
    assert whole.exit_code == 0
    assert whole.stdout.startswith("1 trades, 0 orders written, 0 were there already\n  left out proposals *: 1 rows")
    partial = run(str(dump(insert("trades", GOOD_TRADE | {"status": "WEIRD"}))), "--json")
    assert partial.exit_code == 1
    document = json.loads(partial.stdout)
    assert document["written"] == {"trades": 0, "orders": 0}
    assert {"table": "trades", "key": "t-1", "why": "its status 'WEIRD' is not known", "left_out": True} in document[
        "notes"
    ]


def test_what_is_imported_is_new_to_the_ledger_whenever_the_old_system_wrote_it(
    imported: Import, ledger: Ledger
) -> None:
    old = {"updated_at": "2025-12-01 14:30:30"}
    imported((old,), (old,))
    rows: list[EngineOrder | Trade] = [*ledger.trades(), *ledger.orders()]
    for row in rows:
        assert row.updated_at is not None
        assert row.updated_at > datetime(2025, 12, 1, 14, 30, 30, tzinfo=UTC)
