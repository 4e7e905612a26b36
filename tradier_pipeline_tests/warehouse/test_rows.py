"""From landed bytes to rows: whole, exact, refused by name, and the same whenever and wherever it is done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradier_pipeline.broker.errors import BodyError
from tradier_pipeline.landing.errors import LandingError
from tradier_pipeline.landing.zone import LandedSnapshot
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.rows import table_rows
from tradier_pipeline.warehouse.staging import insert
from tradier_pipeline.warehouse.typed import read_typed
from tradier_pipeline_tests.support import bodies
from tradier_pipeline_tests.support.bodies import (
    ACCOUNT,
    AS_OF,
    Answers,
    account,
    answers,
    balances,
    dumps,
    land,
    leg,
    option_quote,
    order,
    position,
    quote,
    rich,
    spread,
    warehouse_in_memory,
    zone_in,
)

PUT = "SPY251219P00602500"


def rows_of(home: Path, answers: Answers, as_of: datetime = AS_OF) -> dict[str, list[dict[str, Any]]]:
    return table_rows(read_typed(land(zone_in(home), answers, as_of)))


def test_every_row_carries_the_snapshot_account_as_of_and_trade_date(tmp_path: Path) -> None:
    lead = {
        "snapshot_id": "VA12345678@2025-11-20T14:31:00Z",
        "account_id": ACCOUNT,
        "as_of": AS_OF,
        "trade_date": date(2025, 11, 20),
    }
    for table, listed in rows_of(tmp_path, rich()).items():
        # these compare with a snapshot before, and with a ledger
        assert listed or table in ("conservation", *(reconciled.name for reconciled in schema.RECONCILED))
        assert all(lead.items() <= row.items() for row in listed)


@pytest.mark.parametrize(
    ("as_of", "trade_date"),
    [
        (datetime(2025, 11, 21, 4, 59, 59, 999_999, UTC), date(2025, 11, 20)),
        (datetime(2025, 11, 21, 5, 0, 0, 0, UTC), date(2025, 11, 21)),
        (datetime(2025, 7, 1, 3, 59, 59, 0, UTC), date(2025, 6, 30)),
        (datetime(2025, 7, 1, 4, 0, 0, 0, UTC), date(2025, 7, 1)),
    ],
)
def test_the_trade_date_is_the_new_york_date_of_the_read(tmp_path: Path, as_of: datetime, trade_date: date) -> None:
    (header,) = rows_of(tmp_path, answers(), as_of)["tradier_snapshots"]
    assert header["trade_date"] == trade_date


def test_no_row_has_a_column_its_table_lacks_and_no_required_column_is_left_empty(tmp_path: Path) -> None:
    for block in ("margin", "cash", "pdt"):
        for name, listed in rows_of(tmp_path / block, rich(block)).items():
            table = next(table for table in schema.TABLES if table.name == name)
            for row in listed:
                assert row.keys() <= set(table.column_names)
                assert [
                    column.name for column in table.columns if column.required and row.get(column.name) is None
                ] == []


def test_the_account_wanted_is_found_among_several(tmp_path: Path) -> None:
    others = [account("6YA1", status="closed", type="cash"), account(option_level=3), account("6YA2")]
    (row,) = rows_of(tmp_path, answers(account={"profile": {"account": others}}))["accounts"]
    assert (row["account_id"], row["status"], row["type"], row["option_level"]) == (ACCOUNT, "active", "margin", 3)


def test_the_four_names_of_the_old_system_are_mapped_from_the_fields_that_hold_them(tmp_path: Path) -> None:
    mapped = {"cash": "6363.86", "buying_power": "6363.86", "equity": "17798.36", "margin_requirement": "2557"}
    for block in ("margin", "pdt", "cash"):
        (row,) = rows_of(tmp_path / block, answers(balances={"balances": balances(block)}))["account_balances"]
        expected = mapped | ({"buying_power": "4343.38"} if block == "cash" else {})
        assert {name: row[name] for name in mapped} == {name: Decimal(text) for name, text in expected.items()}


@pytest.mark.parametrize(
    ("word", "stored_as"),
    [
        ("pending_cancel", "pending"),
        ("open_pending", "pending"),
        ("calculated", "held"),
        ("accepted_for_bidding", "held"),
        ("held", "held"),
    ],
)
def test_a_status_that_still_works_is_one_of_the_closed_set_beside_the_brokers_word(
    tmp_path: Path, word: str, stored_as: str
) -> None:
    stored = rows_of(tmp_path, answers(orders=[spread(status=word, leg=leg(2, PUT, "buy_to_open", status=word))]))
    for table in ("orders", "order_legs"):
        assert [(row["status"], row["raw_status"]) for row in stored[table]] == [(stored_as, word)]


@pytest.mark.parametrize("word", ["suspended", "cancelled", "FILLED", "", "null"])
def test_a_status_outside_the_closed_set_is_unknown_beside_the_brokers_word(tmp_path: Path, word: str) -> None:
    stored = rows_of(tmp_path, answers(orders=[spread(status=word, leg=leg(2, PUT, "buy_to_open", status=word))]))
    for table in ("orders", "order_legs"):
        assert [(row["status"], row["raw_status"]) for row in stored[table]] == [("unknown", word)]


def test_all_pages_of_orders_and_all_their_legs_are_rows_in_their_order(tmp_path: Path) -> None:
    pages = [
        {"orders": {"order": [order(1), spread(10)]}},
        {"orders": {"order": {**order(20), "class": "oco", "leg": leg(21, PUT, "sell_to_close")}}},
    ]
    stored = rows_of(tmp_path, replace(answers(), orders=pages))
    assert [row["order_id"] for row in stored["orders"]] == [1, 10, 20]
    legs = [(row["order_id"], row["leg_no"], row["leg_id"]) for row in stored["order_legs"]]
    assert legs == [(10, 1, 11), (10, 2, 12), (20, 1, 21)]
    assert [row["page"] for row in stored["raw_payloads"] if row["resource"] == "orders"] == [1, 2]


def test_several_rows_of_one_symbol_and_rows_of_nothing_are_all_kept(tmp_path: Path) -> None:
    held = [position(PUT, 1), position(PUT, 2), position(PUT, 0), position("", 3)]
    stored = rows_of(tmp_path, answers(positions=held))["positions"]
    assert [(row["row_no"], row["symbol"], row["quantity"]) for row in stored] == [
        (1, PUT, 1),
        (2, PUT, 2),
        (3, PUT, 0),
        (4, "", 3),
    ]


# --- quotes never cost a snapshot -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spoiled",
    [
        {"bid": "1.05"},
        {"ask": Decimal("1E+16")},
        {"volume": 10**17},
        {"contract_size": 0},
        {"bid_date": 10**18},
        {"greeks": "null"},
        {"greeks": {"delta": 10**400}},
        {"underlying": 5},
        {"symbol": None},
    ],
)
def test_a_malformed_quote_is_left_out_and_the_others_are_stored(tmp_path: Path, spoiled: bodies.Body) -> None:
    reported = answers(
        positions=[position("AAPL"), position(PUT, -1)], quotes=[quote("AAPL"), option_quote(PUT) | spoiled]
    )
    stored = rows_of(tmp_path, reported)
    assert [row["symbol"] for row in stored["quotes"]] == ["AAPL"]
    assert [row["bid"] for row in stored["positions"]] == [Decimal("208.19"), None]


@pytest.mark.parametrize("quotes", [None, {"quotes": "null"}, {"quotes": {"unmatched_symbols": {"symbol": "AAPL"}}}])
def test_without_quotes_there_are_no_prices_and_no_zeros(tmp_path: Path, quotes: Any) -> None:
    stored = rows_of(tmp_path, replace(answers(positions=[position()]), quotes=quotes))
    assert stored["quotes"] == []
    (held,) = stored["positions"]
    assert {held[name] for name in ("bid", "ask", "last", "mark", "market_value", "unrealized_pl")} == {None}


def test_a_symbol_quoted_twice_is_one_row(tmp_path: Path) -> None:
    reported = answers(positions=[position()], quotes=[quote(bid=1), quote(bid=2)])
    assert [row["bid"] for row in rows_of(tmp_path, reported)["quotes"]] == [2]


def test_epochs_are_exact_to_the_millisecond_and_zero_is_never(tmp_path: Path) -> None:
    reported = answers(quotes=[quote(bid_date=253402300799999, ask_date=0, trade_date=1557168406001)])
    (row,) = rows_of(tmp_path, reported)["quotes"]
    assert row["bid_date"] == datetime(9999, 12, 31, 23, 59, 59, 999_000, UTC)
    assert row["ask_date"] is None
    assert row["last_date"] == datetime(2019, 5, 6, 18, 46, 46, 1_000, UTC)


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoiled", "path"),
    [
        ({"account": {"profile": {"account": account("6YA1")}}}, "profile.account"),
        ({"account": {"profile": {"account": [account("6YA1"), {}]}}}, "profile.account[1].account_number"),
        ({"balances": {"balances": {**balances(), "total_equity": None}}}, "balances.total_equity"),
        (
            {"positions": {"positions": {"position": [position(), position(quantity="1")]}}},
            "positions.position[1].quantity",
        ),
        ({"orders": {"orders": {"order": spread(leg=[{"id": 1}])}}}, "orders.order[0].leg.0.class"),
        ({"positions": {}}, "positions"),
        ({"orders": {"orders": {}}, "balances": {"balances": "null"}}, "balances"),
    ],
)
def test_a_body_that_is_not_whole_is_refused_by_snapshot_resource_and_path(
    tmp_path: Path, spoiled: dict[str, Any], path: str
) -> None:
    landed = land(zone_in(tmp_path), replace(answers(), **spoiled))
    with pytest.raises(BodyError) as reported:
        read_typed(landed)
    assert reported.value.path == path
    assert path in str(reported.value)
    assert "(snapshot VA12345678@2025-11-20T14:31:00Z)" in str(reported.value)
    assert reported.value.resource == path.split(".")[0].replace("profile", "account")


def test_bytes_that_are_not_those_landed_are_refused(tmp_path: Path) -> None:
    landed = land(zone_in(tmp_path), answers())
    (landed.directory / "balances.json").write_bytes(dumps({"balances": balances(total_cash=1)}).encode())
    with pytest.raises(LandingError, match="sha256 differs"):
        read_typed(landed)


def test_unknown_fields_of_the_broker_cost_nothing(tmp_path: Path) -> None:
    reported = answers(
        account={"profile": {"account": account(tier=1)}},
        positions=[position(venue="X"), position(venue="Y")],
        orders=[spread(leg=[leg(1, PUT, "buy_to_open", exch="C")])],
    )
    rows = table_rows(read_typed(land(zone_in(tmp_path), reported)))
    assert [len(rows[table]) for table in ("accounts", "positions", "order_legs")] == [1, 2, 1]


def test_reading_again_gives_the_same_rows_but_the_time_of_the_commit(tmp_path: Path) -> None:
    landed = land(zone_in(tmp_path), rich())
    first, second = (
        table_rows(read_typed(one)) for one in (landed, LandedSnapshot(landed.snapshot_id, landed.directory))
    )
    for header in (*first["tradier_snapshots"], *second["tradier_snapshots"]):
        assert header.pop("committed_at")
    assert first == second


# --- through the database ---------------------------------------------------------------------------------------------

CELL = schema.Table(
    "cell",
    "Every type.",
    (
        schema.Column("number", schema.DECIMAL, ""),
        schema.Column("text", schema.VARCHAR, ""),
        schema.Column("instant", schema.INSTANT, ""),
        schema.Column("day", schema.DATE, ""),
        schema.Column("model_value", schema.DOUBLE, ""),
        schema.Column("whole", schema.BIGINT, ""),
        schema.Column("flag", schema.BOOLEAN, ""),
    ),
)
NUMBERS = st.tuples(st.integers(-(10**24) + 1, 10**24 - 1), st.integers(0, 20))


@pytest.fixture(scope="module")
def cells() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(schema.ddl(CELL))
        yield connection


@given(
    numbers=st.lists(NUMBERS, min_size=1, max_size=50),
    text=st.none() | st.text(st.characters(exclude_categories=["Cs"])),
    instant=st.none() | st.datetimes(datetime(1677, 9, 22), datetime(9999, 12, 30), timezones=st.just(UTC)),  # noqa: DTZ001
    model_value=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    whole=st.none() | st.integers(-(2**63), 2**63 - 1),
    flag=st.none() | st.booleans(),
)
def test_every_value_comes_back_from_the_database_exactly(
    cells: duckdb.DuckDBPyConnection,
    numbers: list[tuple[int, int]],
    text: str | None,
    instant: datetime | None,
    model_value: float | None,
    whole: int | None,
    flag: bool | None,
) -> None:
    shared: dict[str, Any] = {
        "text": text,
        "instant": instant,
        "model_value": model_value,
        "whole": whole,
        "flag": flag,
    }
    shared["day"] = instant.date() if instant else None
    # a literal may have more zeros than the column has places
    decimals = [Decimal(f"{Decimal(units).scaleb(-8):f}{'0' * zeros}") for units, zeros in numbers]
    rows = [{"number": number, **shared} for number in decimals]
    cells.execute("DELETE FROM cell")
    insert(cells, CELL, rows)
    found = [dict(zip(CELL.column_names, row, strict=True)) for row in cells.execute("SELECT * FROM cell").fetchall()]
    assert found == rows
    assert all(type(row["number"]) is Decimal for row in found)


def test_the_rows_of_a_snapshot_come_back_from_the_database_exactly(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, rich())
    with warehouse_in_memory() as staged:
        staged.store("VA12345678@2025-11-20T14:31:00Z", rows)
        for table in schema.TABLES:
            found = staged.connection.execute(f"SELECT * FROM {table.name}").fetchall()
            expected = [tuple(row.get(name) for name in table.column_names) for row in rows[table.name]]
            assert found == expected
