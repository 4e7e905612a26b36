"""The warehouse as its users find it: names, types, comments, file format, and what the views say."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tradier_pipeline.landing.zone import LandingZone
from tradier_pipeline.publish.store import store_snapshot
from tradier_pipeline.warehouse import derived, macros, schema, views
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline.warehouse.staging import StagedWarehouse, Warehouse
from tradier_pipeline_tests.support.bodies import (
    account,
    answers,
    balances,
    land,
    position,
    rich,
    store,
    warehouse_in_memory,
    zone_in,
)

DESIGNED = {
    "tradier_snapshots": "snapshot_id account_id environment trigger requested_at as_of as_of_end trade_date "
    "positions_count orders_count code_version committed_at",
    "account_balances": "snapshot_id account_id as_of trade_date cash buying_power equity margin_requirement "
    "account_type total_equity total_cash market_value long_market_value short_market_value stock_long_value "
    "option_long_value option_short_value open_pl close_pl current_requirement option_requirement pending_cash "
    "pending_orders_count uncleared_funds option_buying_power stock_buying_power day_trade_buying_power fed_call "
    "maintenance_call stock_short_value sweep cash_available unsettled_funds",
    "positions": "snapshot_id account_id as_of trade_date symbol quantity asset_class root underlying expiration "
    "option_type strike multiplier side cost_basis cost_basis_per_contract date_acquired bid ask last mark "
    "market_value unrealized_pl",
    "orders": "snapshot_id account_id as_of trade_date order_id class type symbol option_symbol side quantity status "
    "raw_status duration price stop_price avg_fill_price exec_quantity remaining_quantity create_date "
    "transaction_date num_legs strategy tag reason",
    "order_legs": "snapshot_id account_id as_of trade_date order_id leg_id leg_no class type symbol option_symbol side "
    "quantity status raw_status duration price stop_price avg_fill_price exec_quantity remaining_quantity create_date "
    "transaction_date reason",
    "quotes": "snapshot_id account_id as_of trade_date symbol bid ask last",
    "raw_payloads": "snapshot_id account_id as_of trade_date resource status started_at ended_at bytes sha256 path",
    "portfolio_positions": "snapshot_id account_id as_of trade_date symbol quantity market_value",
    "balance_history": "snapshot_id account_id as_of trade_date cash buying_power equity margin_requirement",
    "daily_balances": "account_id trade_date open high low close",
    "order_events": "snapshot_id account_id as_of trade_date order_id event previous_status status "
    "previous_exec_quantity exec_quantity avg_fill_price remaining_quantity",
    "coverage": "account_id trade_date session_minutes snapshots in_session missed failed refused first_as_of "
    "last_as_of longest_gap_s",
    "account_performance": "snapshot_id account_id as_of trade_date cash buying_power equity open_spreads "
    "open_positions unrealized_pl realized_today realized_7d realized_7d_days trades_open trades_closed_today "
    "trades_realized_today",
    "positions_at(now())": "snapshot_id account_id as_of trade_date symbol quantity market_value",
    "balances_at(now())": "snapshot_id account_id as_of trade_date cash buying_power equity margin_requirement",
    "orders_at(now())": "snapshot_id account_id as_of trade_date order_id status exec_quantity",
    "position_history('F')": "account_id symbol quantity cost_basis from_as_of last_as_of until_as_of mark snapshots",
}
MONEY = "cash buying_power equity margin_requirement strike cost_basis quantity bid ask mark market_value price open"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    path = home / "tradier.duckdb"
    store_snapshot(Warehouse(path), land(zone_in(home), rich()))
    return path


@pytest.fixture(scope="module")
def reader(published: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect_readonly(published) as connection:
        yield connection


def columns(reader: duckdb.DuckDBPyConnection, relation: str) -> dict[str, str]:
    rows = reader.execute(f"SELECT column_name, column_type FROM (DESCRIBE FROM {relation})").fetchall()
    return {name: "TIMESTAMPTZ" if type_ == "TIMESTAMP WITH TIME ZONE" else type_ for name, type_ in rows}


@pytest.mark.parametrize("relation", DESIGNED)
def test_the_names_users_rely_on_are_there(reader: duckdb.DuckDBPyConnection, relation: str) -> None:
    assert set(DESIGNED[relation].split()) <= columns(reader, relation).keys()


@pytest.mark.parametrize(
    "relation", [*schema.TABLES, *derived.TABLES, *views.VIEWS], ids=lambda relation: relation.name
)
def test_every_relation_has_the_declared_columns_and_types(
    reader: duckdb.DuckDBPyConnection, relation: schema.Table | schema.View
) -> None:
    assert columns(reader, relation.name) == {column.name: column.type for column in relation.columns}


@pytest.mark.parametrize("macro", macros.MACROS, ids=lambda macro: macro.name)
def test_every_macro_has_the_declared_columns_types_and_parameters(
    reader: duckdb.DuckDBPyConnection, macro: macros.Macro
) -> None:
    named = ", ".join(f"{parameter} := '2025-11-20'" for parameter in macro.parameters)
    assert columns(reader, f"{macro.name}({named})") == {column.name: column.type for column in macro.columns}


@pytest.mark.parametrize("relation", DESIGNED)
def test_money_is_decimal_instants_have_a_zone_and_dates_are_dates(
    reader: duckdb.DuckDBPyConnection, relation: str
) -> None:
    for name, type_ in columns(reader, relation).items():
        if name in MONEY.split():
            assert type_ == "DECIMAL(24,8)"
        elif name in ("as_of", "committed_at") or name.endswith("_at"):
            assert type_ == "TIMESTAMPTZ"
        elif name in ("trade_date", "expiration"):
            assert type_ == "DATE"
        assert type_ not in ("FLOAT", "TIMESTAMP")


def test_every_table_carries_snapshot_account_as_of_and_trade_date() -> None:
    for table in schema.TABLES:
        assert table.columns[:4] == schema.KEY_COLUMNS


def test_every_table_view_and_column_of_the_published_file_has_a_comment(reader: duckdb.DuckDBPyConnection) -> None:
    bare = reader.execute(
        """
        SELECT table_name AS name FROM duckdb_tables() WHERE database_name = 'tradier' AND comment IS NULL
        UNION ALL SELECT view_name FROM duckdb_views()
            WHERE database_name = 'tradier' AND NOT internal AND comment IS NULL
        UNION ALL SELECT table_name || '.' || column_name FROM duckdb_columns()
            WHERE database_name = 'tradier' AND NOT internal AND comment IS NULL
        """
    ).fetchall()
    assert bare == []
    named = reader.execute(
        "SELECT DISTINCT comment FROM duckdb_columns() "
        "WHERE column_name = 'buying_power' AND table_name IN ('account_balances', 'balance_history')"
    ).fetchall()
    assert named == [("USD; = option_buying_power (margin, pdt) or cash_available (cash)",)]


@pytest.mark.parametrize("macro", macros.MACROS, ids=lambda macro: macro.name)
def test_every_macro_of_the_published_file_has_a_comment_that_tells_its_columns(
    reader: duckdb.DuckDBPyConnection, macro: macros.Macro
) -> None:
    ((comment,),) = reader.execute(
        f"SELECT comment FROM duckdb_functions() WHERE function_name = '{macro.name}' AND database_name = 'tradier'"
    ).fetchall()
    first, *reported = comment.splitlines()
    assert first == macro.comment
    assert reported == [f"{column.name}: {column.comment}" for column in macro.columns]


def test_a_file_without_the_newer_views_and_macros_gets_them(published: Path, tmp_path: Path) -> None:
    older = Warehouse(tmp_path / "tradier.duckdb")
    older.path.write_bytes(published.read_bytes())
    with duckdb.connect(older.path) as connection:
        connection.execute("DROP MACRO TABLE positions_at; DROP VIEW coverage")
        connection.execute("CREATE OR REPLACE MACRO schema_version() AS 4")
    with older.staged():
        pass
    with connect_readonly(older.path) as connection:
        assert connection.execute("FROM positions_at(now())").fetchall()
        assert connection.execute("FROM coverage").fetchall()


def test_a_word_that_an_earlier_version_did_not_know_is_known_in_what_it_stored(
    published: Path, tmp_path: Path
) -> None:
    older = Warehouse(tmp_path / "tradier.duckdb")
    older.path.write_bytes(published.read_bytes())
    with duckdb.connect(older.path) as connection:
        connection.execute("UPDATE orders SET status = 'unknown', raw_status = 'pending_cancel'")
        connection.execute("CREATE OR REPLACE MACRO schema_version() AS 6")
    with older.staged():
        pass
    with connect_readonly(older.path) as connection:
        assert connection.execute("SELECT DISTINCT status, raw_status FROM orders").fetchall() == [
            ("pending", "pending_cancel")
        ]


def test_every_amount_names_its_unit() -> None:
    relations: list[Any] = [*schema.TABLES, *derived.TABLES, *views.VIEWS, *macros.MACROS]
    amounts = [column for relation in relations for column in relation.columns if column.type == schema.DECIMAL]
    units = ("USD", "hares", "ontract", "spreads", "Filled", "Still working", "Percent", "seconds")
    assert [column.name for column in amounts if not any(unit in column.comment for unit in units)] == []


def test_the_published_file_is_of_the_storage_version_that_duckdb_1_2_opens(published: Path) -> None:
    with duckdb.connect(published, read_only=True) as connection:
        (tags,) = connection.execute("SELECT tags FROM duckdb_databases() WHERE NOT internal").fetchone() or ({},)
    assert tags == {"storage_version": "v1.2.0+"}


# --- the views --------------------------------------------------------------------------------------------------------


def put(staged: StagedWarehouse, zone: LandingZone, number: str, as_of: datetime, equity: str, *symbols: str) -> None:
    reported = answers(
        account={"profile": {"account": account(number)}},
        balances={"balances": balances(number=number, total_equity=Decimal(equity), total_cash=Decimal(equity) - 1)},
        positions=[position(symbol) for symbol in symbols],
    )
    store(staged, land(zone, reported, as_of, account_id=number))


def instants(*texts: str) -> list[datetime]:
    return [datetime.fromisoformat(text).astimezone(UTC) for text in texts]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """Two accounts, two New York days around a midnight that is another date in UTC, stored out of order."""
    zone = zone_in(tmp_path_factory.mktemp("zone"))
    morning, noon, evening, night = instants(
        "2025-11-20T09:31-05:00", "2025-11-20T12:00-05:00", "2025-11-20T23:59:59-05:00", "2025-11-21T00:00-05:00"
    )
    with warehouse_in_memory() as staged:
        put(staged, zone, "VA1", night, "400", "MSFT")
        put(staged, zone, "VA1", evening, "200.5", "AAPL", "SPY")
        put(staged, zone, "VA1", morning, "100")
        put(staged, zone, "VA1", noon, "300")
        put(staged, zone, "VA2", noon, "-5", "F")
        derived.refresh(staged.connection)
        yield staged.connection


def rows(connection: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[Any, ...]]:
    return connection.execute(sql).fetchall()


def test_daily_balances_open_high_low_close_by_account_and_new_york_date(history: duckdb.DuckDBPyConnection) -> None:
    found = rows(
        history,
        "SELECT account_id, trade_date, open, high, low, close, cash_close, snapshots FROM daily_balances ORDER BY ALL",
    )
    assert found == [
        ("VA1", date(2025, 11, 20), 100, 300, 100, Decimal("200.5"), Decimal("199.5"), 3),
        ("VA1", date(2025, 11, 21), 400, 400, 400, 400, 399, 1),
        ("VA2", date(2025, 11, 20), -5, -5, -5, -5, -6, 1),
    ]


def test_daily_balances_say_when_the_day_was_first_and_last_read(history: duckdb.DuckDBPyConnection) -> None:
    (found,) = rows(
        history,
        "SELECT first_as_of, last_as_of FROM daily_balances WHERE account_id = 'VA1' AND trade_date = '2025-11-20'",
    )
    assert found == (datetime(2025, 11, 20, 14, 31, tzinfo=UTC), datetime(2025, 11, 21, 4, 59, 59, tzinfo=UTC))


def test_balance_history_has_one_row_per_snapshot_with_its_circumstances(history: duckdb.DuckDBPyConnection) -> None:
    found = rows(
        history, "SELECT account_id, equity, environment, trigger FROM balance_history ORDER BY as_of, account_id"
    )
    assert [row[:2] for row in found] == [
        ("VA1", 100),
        ("VA1", 300),
        ("VA2", -5),
        ("VA1", Decimal("200.5")),
        ("VA1", 400),
    ]
    assert {row[2:] for row in found} == {("sandbox", "test")}
    (late,) = rows(history, "SELECT max(as_of_end - as_of) FROM balance_history")
    assert late == (timedelta(milliseconds=400),)


def test_portfolio_positions_are_those_of_each_accounts_newest_snapshot(history: duckdb.DuckDBPyConnection) -> None:
    found = rows(history, "SELECT account_id, symbol FROM portfolio_positions ORDER BY ALL")
    assert found == [("VA1", "MSFT"), ("VA2", "F")]


def test_an_account_that_is_flat_now_has_no_portfolio_positions(tmp_path: Path) -> None:
    first, second = instants("2025-11-20T09:31-05:00", "2025-11-21T09:31-05:00")
    with warehouse_in_memory() as staged:
        put(staged, zone_in(tmp_path), "VA1", first, "100", "MSFT")
        put(staged, zone_in(tmp_path), "VA1", second, "100")
        assert rows(staged.connection, "SELECT symbol FROM portfolio_positions") == []


def test_the_newest_snapshot_is_the_one_read_last_whenever_it_was_stored(history: duckdb.DuckDBPyConnection) -> None:
    found = rows(history, "SELECT account_id, snapshot_id FROM newest_snapshots ORDER BY ALL")
    assert found == [("VA1", "VA1@2025-11-21T05:00:00Z"), ("VA2", "VA2@2025-11-20T17:00:00Z")]
