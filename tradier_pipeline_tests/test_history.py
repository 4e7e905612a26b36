"""The history in pandas: typed, exact when asked, never interpolated, and no file held."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from inspect import getdoc
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tradier_pipeline import history, known_at
from tradier_pipeline.clock import NEW_YORK, trade_date
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.publish.store import store_snapshot
from tradier_pipeline.warehouse import derived, schema
from tradier_pipeline.warehouse.reads import By
from tradier_pipeline.warehouse.staging import Warehouse, WarehouseError, insert
from tradier_pipeline_tests.conftest import dear_examples
from tradier_pipeline_tests.support.bodies import (
    ACCOUNT,
    Answers,
    answers,
    balances,
    land,
    order,
    position,
    rich,
    zone_in,
)
from tradier_pipeline_tests.support.curves import days_made_later

THURSDAY = datetime(2025, 11, 20, 14, 31, tzinfo=UTC)
MONDAY = datetime(2025, 11, 24, 21, 1, tzinfo=UTC)
BIG = 2**62 + 1  # no float holds it


def worth(equity: str, answers: Answers) -> Answers:
    return replace(
        answers, balances={"balances": balances(total_equity=Decimal(equity), total_cash=Decimal(equity) - 1)}
    )


def publish(home: Path, as_of: datetime, answers: Answers) -> None:
    store_snapshot(Warehouse(home / "tradier.duckdb"), land(zone_in(home), answers, as_of))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two snapshots of Thursday, none of Friday, and one of Monday; for tests that only read."""
    home = tmp_path_factory.mktemp("home")
    with days_made_later():
        publish(home, THURSDAY, worth("100000.1", rich()))
        publish(home, THURSDAY + timedelta(hours=1), worth("100000.2", rich()))
    publish(home, MONDAY, worth("99000", rich()))
    return home


@pytest.fixture
def home(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRADIER_PIPELINE_HOME", str(shared))
    return shared


def dtypes(frame: pd.DataFrame) -> dict[str, str]:
    return {str(name): str(dtype) for name, dtype in frame.dtypes.items()}


# --- what a column is -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", ["", "LIMIT 0"], ids=["rows", "none"])
def test_the_type_of_a_column_is_that_of_what_it_holds_missing_or_not(home: Path, rows: str) -> None:
    frame = history.query(
        f"""
        SELECT 1::INTEGER AS known, NULL::BIGINT AS missing, sum(2) AS summed, true AS yes, NULL::BOOLEAN AS unsaid,
               'a' AS word, NULL::VARCHAR AS wordless, 0.1::DECIMAL(24,8) AS amount, NULL::DECIMAL(24,8) AS unpriced,
               0.5::DOUBLE AS ratio, DATE '2025-11-20' AS day, NULL::DATE AS never,
               TIMESTAMPTZ '2025-11-20 14:31:00.25+00' AS moment, NULL::TIMESTAMPTZ AS momentless
        {rows}
        """
    )
    assert dtypes(frame) == {
        **dict.fromkeys(("known", "missing", "summed"), "Int64"),
        **dict.fromkeys(("yes", "unsaid"), "boolean"),
        **dict.fromkeys(("word", "wordless"), "string"),
        **dict.fromkeys(("amount", "unpriced", "ratio"), "float64"),
        **dict.fromkeys(("day", "never"), "datetime64[us]"),
        **dict.fromkeys(("moment", "momentless"), "datetime64[us, UTC]"),
    }
    if not rows:
        (row,) = frame.to_dict("records")
        gone = {name for name, value in row.items() if pd.isna(value)}
        assert gone == {"missing", "unsaid", "wordless", "unpriced", "never", "momentless"}
        assert frame["missing"].iloc[0] is pd.NA
        assert (row["known"], row["summed"], row["yes"], row["word"], row["amount"]) == (1, 2, True, "a", 0.1)
        assert row["day"] == pd.Timestamp("2025-11-20")
        assert row["moment"] == pd.Timestamp("2025-11-20T14:31:00.25Z")


def test_an_id_that_no_float_holds_stays_itself_beside_a_missing_one(home: Path) -> None:
    frame = history.query(f"SELECT unnest([{BIG}, NULL]) AS id")
    assert frame["id"].tolist() == [BIG, pd.NA]


def test_amounts_are_exact_decimals_on_demand(home: Path) -> None:
    sql = "SELECT unnest([0.1, 0.2, NULL])::DECIMAL(24,8) AS amount, 1 AS count, 0.5::DOUBLE AS ratio"
    exact = history.query(sql, decimals=True)
    assert dtypes(exact) == {"amount": "object", "count": "Int64", "ratio": "float64"}
    assert exact["amount"].tolist() == [Decimal("0.1"), Decimal("0.2"), None]
    assert exact["amount"].sum() == Decimal("0.3")
    assert history.query(sql)["amount"].sum() != 0.3


def test_columns_may_be_named_alike_or_oddly(home: Path) -> None:
    for decimals in (False, True):
        frame = history.query('SELECT 1.5 AS a, 2.5 AS a, 3 AS "we""ird.x", 4.5 AS "#1"', decimals=decimals)
        assert frame.to_dict("list") == {"a": [1.5], "a_1": [2.5], 'we"ird.x': [3], "#1": [4.5]}


def test_lists_and_maps_stay_python_values_beside_a_missing_one(home: Path) -> None:
    frame = history.query("FROM (VALUES (['a', 'b'], MAP {'x': 1}), (NULL, NULL)) AS reported(list, map)")
    assert frame["list"].tolist()[0].tolist() == ["a", "b"]
    assert frame["map"].tolist()[0] == {"x": 1}
    assert frame.isna().to_numpy().tolist() == [[False, False], [True, True]]


def test_the_stored_amounts_are_exact_in_every_frame(home: Path) -> None:
    exact = history.balances(decimals=True)
    assert exact["equity"].tolist() == [Decimal("100000.1"), Decimal("100000.2"), Decimal(99000)]
    assert exact["equity"].iloc[1] - exact["equity"].iloc[0] == Decimal("0.1")
    assert history.balances()["equity"].tolist() == [100000.1, 100000.2, 99000.0]
    held = history.positions(decimals=True)
    assert {type(quantity) for quantity in held["quantity"]} == {Decimal}
    assert {type(strike) for strike in held["strike"]} == {Decimal, type(None)}


@pytest.mark.parametrize("zone", ["America/New_York", NEW_YORK], ids=["name", "tzinfo"])
def test_instants_are_shown_in_the_zone_asked_for(home: Path, zone: Any) -> None:
    (there, *_) = history.balances(tz=zone)["as_of"]
    (here, *_) = history.balances()["as_of"]
    assert there == here == pd.Timestamp(THURSDAY)
    assert (here.isoformat(), there.isoformat()) == ("2025-11-20T14:31:00+00:00", "2025-11-20T09:31:00-05:00")
    assert dtypes(history.positions(tz=zone))["date_acquired"] == "datetime64[us, America/New_York]"


# --- what a row is ----------------------------------------------------------------------------------------------------

EVERY: dict[str, Callable[..., pd.DataFrame]] = {
    "balances": history.balances,
    "balances by": partial(history.balances, by="day"),
    "statement": history.statement,
    "pnl": history.pnl,
    "positions": history.positions,
    "orders": history.orders,
    "cash_flows": history.cash_flows,
    "closed_lots": history.closed_lots,
    "equity_curve": history.equity_curve,
    "total_equity_curve": history.total_equity_curve,
    "coverage": history.coverage,
    "daily_summaries": history.daily_summaries,
    "findings": history.findings,
}


@pytest.mark.parametrize("name", EVERY)
def test_every_column_is_told_in_the_words_of_its_function(home: Path, name: str) -> None:
    reported = getdoc(getattr(history, name.split()[0])) or ""
    assert [column for column in EVERY[name]().columns if f"`{column}`" not in reported] == []


@pytest.mark.parametrize("name", EVERY)
def test_nothing_found_is_a_frame_with_the_same_types(home: Path, name: str) -> None:
    function = EVERY[name]
    full, empty = function(), function("nobody")
    assert len(empty) == 0
    assert dtypes(empty) == dtypes(full)


def test_dates_are_both_included_and_given_as_people_give_them(home: Path) -> None:
    thursday = date(2025, 11, 20)
    for since, until, found in (
        (None, None, 3),
        (thursday, thursday, 2),
        ("2025-11-20", "2025-11-23", 2),
        ("2025-11-21", None, 1),
        (pd.Timestamp("2025-11-24"), None, 1),
        (datetime(2025, 11, 25, 4, tzinfo=UTC), None, 1),  # still Monday in New York
        (None, date(2025, 11, 19), 0),
    ):
        assert len(history.balances(ACCOUNT, since, until)) == found
        assert history.positions(ACCOUNT, since, until)["as_of"].nunique() == found
        assert history.orders(ACCOUNT, since, until)["as_of"].nunique() == found


def test_positions_at_an_instant_are_those_of_the_snapshot_before_it(home: Path) -> None:
    for ts, as_of in (
        (THURSDAY - timedelta(seconds=1), None),
        (THURSDAY, THURSDAY),
        (THURSDAY + timedelta(minutes=59), THURSDAY),
        ("2025-11-20T10:31-05:00", THURSDAY + timedelta(hours=1)),
        ("2025-11-23T12:00Z", THURSDAY + timedelta(hours=1)),
        (pd.Timestamp(MONDAY), MONDAY),
    ):
        held = history.positions_at(ts)
        assert set(held["as_of"]) == ({pd.Timestamp(as_of)} if as_of else set())
        assert held["symbol"].tolist() == (history.positions()["symbol"].tolist()[:7] if as_of else [])
    assert len(history.positions_at(MONDAY, "nobody")) == 0


def test_positions_and_orders_have_the_columns_of_their_tables(home: Path) -> None:
    assert tuple(history.positions().columns) == schema.POSITIONS.column_names
    assert tuple(history.positions_at(MONDAY).columns) == schema.POSITIONS.column_names
    assert tuple(history.orders().columns) == schema.ORDERS.column_names


def test_the_equity_curve_marks_the_day_without_a_snapshot_as_a_gap(home: Path) -> None:
    curve = history.equity_curve().set_index("trade_date")
    assert curve.index.tolist() == [pd.Timestamp(2025, 11, day) for day in (20, 21, 24)]
    assert curve["equity"].isna().tolist() == [False, True, False]
    assert curve["gap"].tolist() == [False, True, False]
    assert curve["return"].iloc[2] == pytest.approx(99000 / 100000.2 - 1)
    (thursday, friday, monday) = history.coverage()["snapshots"]
    assert (thursday, friday, monday) == (2, 0, 1)


def test_what_the_broker_tells_over_night_is_there_unless_it_was_retracted(tmp_path: Path) -> None:
    publish(tmp_path, THURSDAY, rich())
    read = {"content_key": "k", "ordinal": 1, "first_read_at": MONDAY, "last_read_at": MONDAY}
    day = date(2025, 11, 20)
    paid = {"account_id": ACCOUNT, "trade_date": day, "type": "ach", **read}
    lot = {"account_id": ACCOUNT, "close_date": day, "open_date": day, "symbol": "AAPL", "quantity": 1, "cost": 2}
    lot |= {"proceeds": 5, "gain_loss": 3, **read}
    with Warehouse(tmp_path / "tradier.duckdb").staged() as staged:
        rows = [paid | {"amount": amount} for amount in (Decimal("500.1"), Decimal("-20.2"))]
        insert(staged.connection, schema.ACCOUNT_ACTIVITY, [*rows, rows[0] | {"retracted_at": MONDAY}])
        insert(staged.connection, schema.CLOSED_LOTS, [lot, lot | {"retracted_at": MONDAY}])
    flows = history.cash_flows(home=tmp_path, decimals=True)
    assert flows[["kind", "amount"]].to_dict("list") == {
        "kind": ["deposit", "withdrawal"],
        "amount": [Decimal("500.1"), Decimal("-20.2")],
    }
    assert flows["external"].all()
    (realized,) = history.closed_lots(since=day, until=day, home=tmp_path).to_dict("records")
    assert (realized["symbol"], realized["gain_loss"], realized["term_days"]) == ("AAPL", 3.0, None)
    assert len(history.closed_lots(since="2025-11-21", home=tmp_path)) == 0


# --- periods ----------------------------------------------------------------------------------------------------------

AROUND = (  # both changes of the clock, a month's end, a year's end
    *(datetime(2025, 3, 9, 6), datetime(2025, 11, 2, 5), datetime(2025, 12, 1, 4), datetime(2026, 1, 1, 4)),  # noqa: DTZ001
)
MOMENTS = st.sampled_from(AROUND).flatmap(
    lambda around: st.datetimes(around - timedelta(hours=30), around + timedelta(hours=30))
)
AMOUNTS = st.decimals(-(10**9), 10**9, places=8)
SNAPSHOTS = st.dictionaries(
    st.tuples(st.sampled_from(["VA1", "VA2"]), MOMENTS.map(lambda moment: moment.replace(tzinfo=UTC))),
    st.tuples(AMOUNTS, AMOUNTS),
    max_size=30,
)
Snapshots = dict[tuple[str, datetime], tuple[Decimal, Decimal]]

FILLERS: dict[str, Any] = {schema.VARCHAR: "x", schema.DECIMAL: 0, schema.INTEGER: 0, schema.BIGINT: 0}


def stored(table: schema.Table, account: str, as_of: datetime, **values: Any) -> dict[str, Any]:
    fillers = FILLERS | {schema.INSTANT: as_of}
    filled = {column.name: fillers.get(column.type) for column in table.columns if column.required}
    return filled | {"account_id": account, "as_of": as_of, "trade_date": trade_date(as_of)} | values


def began(as_of: datetime, by: By) -> pd.Timestamp:
    """When the period of an instant began, by the clock on a wall in New York."""
    there = as_of.astimezone(NEW_YORK)
    if by == "hour":
        return pd.Timestamp(there.replace(minute=0, second=0, microsecond=0).astimezone(UTC))
    return pd.Timestamp(there.year, there.month, there.day if by == "day" else 1)


def aggregated(snapshots: Snapshots, by: By) -> list[tuple[Any, ...]]:
    periods: dict[tuple[pd.Timestamp, str], list[tuple[Decimal, Decimal]]] = {}
    for account, as_of in sorted(snapshots, key=lambda key: key[1]):
        periods.setdefault((began(as_of, by), account), []).append(snapshots[account, as_of])
    rows = []
    for (start, account), reported in sorted(periods.items()):
        equity = [one for one, _ in reported]
        rows.append((account, start, equity[0], max(equity), min(equity), equity[-1], reported[-1][1], len(reported)))
    return rows


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose warehouse is written in place: publishing it anew for every example takes too long."""
    home = tmp_path_factory.mktemp("scratch")
    with Warehouse(home / "tradier.duckdb").staged():
        pass
    (home / "tradier.duckdb").chmod(0o644)
    return home


@settings(max_examples=dear_examples(6), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(snapshots=SNAPSHOTS)
def test_balances_by_hour_day_and_month_are_what_the_snapshots_add_up_to(scratch: Path, snapshots: Snapshots) -> None:
    with duckdb.connect(scratch / "tradier.duckdb") as connection:
        connection.execute("DELETE FROM account_balances; DELETE FROM tradier_snapshots; DELETE FROM snapshot_days")
        headers = [stored(schema.TRADIER_SNAPSHOTS, *key, verdict="good") for key in snapshots]
        rows = [
            stored(schema.ACCOUNT_BALANCES, *key, equity=equity, cash=cash) for key, (equity, cash) in snapshots.items()
        ]
        insert(connection, schema.TRADIER_SNAPSHOTS, headers)
        insert(connection, schema.ACCOUNT_BALANCES, rows)
        derived.refresh(connection)
    figures = ["open", "high", "low", "close", "cash_close", "snapshots"]
    periods: dict[By, str] = {"hour": "hour", "day": "trade_date"}
    for by, column in periods.items():
        frame = history.balances(by=by, decimals=True, home=scratch)[["account_id", column, *figures]]
        assert list(frame.itertuples(index=False, name=None)) == aggregated(snapshots, by)
    month = history.balances(by="month", decimals=True, home=scratch)
    extremes = [(*row[:5], row[7]) for row in aggregated(snapshots, "month")]
    columns = ["account_id", "month", "open", "high", "low", "snapshots"]
    assert list(month[columns].itertuples(index=False, name=None)) == extremes
    day = history.balances(by="day", decimals=True, home=scratch)
    view = history.query("FROM daily_balances ORDER BY trade_date, account_id", decimals=True, home=scratch)
    pd.testing.assert_frame_equal(day, view[day.columns])


# --- the file ---------------------------------------------------------------------------------------------------------


def open_files() -> list[str]:
    return [str(file.readlink()) for file in Path("/proc/self/fd").iterdir() if file.is_symlink()]


def test_the_file_is_let_go_of_and_the_next_call_sees_the_next_snapshot(tmp_path: Path) -> None:
    publish(tmp_path, THURSDAY, rich())
    first = history.balances(home=tmp_path)
    with pytest.raises(duckdb.Error):
        history.query("FROM nowhere", home=tmp_path)
    assert [file for file in open_files() if file.startswith(str(tmp_path))] == []
    publish(tmp_path, MONDAY, rich())
    assert (len(first), len(history.balances(home=tmp_path))) == (1, 2)
    (tmp_path / "tradier.duckdb").rename(tmp_path / "away.duckdb")
    with pytest.raises(WarehouseError, match="there is no warehouse at"):
        history.balances(home=tmp_path)


def test_orders_of_any_id_are_exact(tmp_path: Path) -> None:
    publish(tmp_path, THURSDAY, answers(orders=[order(2**53 + 1)], positions=[position()]))
    found = history.orders(home=tmp_path)
    assert (found["order_id"].tolist(), found["num_legs"].tolist()) == ([2**53 + 1], [pd.NA])


def test_a_query_cannot_write(home: Path) -> None:
    for sql in ("DELETE FROM positions", "CREATE TABLE tradier.mine AS SELECT 1"):
        with pytest.raises(duckdb.Error, match="read-only"):
            history.query(sql)
    assert history.query("CREATE TEMP TABLE mine AS SELECT 4 AS four; FROM mine")["four"].tolist() == [4]


def test_a_home_is_where_it_is_said_to_be(home: Path, tmp_path: Path) -> None:
    assert len(history.balances(home=str(home))) == 3
    with pytest.raises(WarehouseError, match=f"no warehouse at {tmp_path}"):
        history.balances(home=tmp_path)


@pytest.mark.parametrize(
    ("call", "reported"),
    [
        (lambda: history.balances(by="daily"), "by is one of snapshot, hour, day, month, quarter, year, not 'daily'"),  # type: ignore[arg-type]
        (lambda: history.balances(since="yesterday"), "yesterday"),
        (lambda: history.pnl(since="2025-11-21", until="2025-11-20"), "since, 2025-11-21, is after until, 2025-11-20"),
        (lambda: history.positions(["6YA1"]), "is neither text nor a number or a date"),  # type: ignore[arg-type]
        (lambda: history.positions_at(datetime(2025, 11, 20, 15)), "has no zone"),  # noqa: DTZ001
        (lambda: history.positions_at("2025-11-20 15:00"), "2025-11-20 15:00 has no zone"),
        *(
            (lambda moment=moment: history.positions_at(moment), "is no instant; write it like 2026-11-20T15:00-05:00")
            for moment in ("2026-11", "yesterday", np.datetime64("2026-11-20"), date(2026, 11, 20), 20261120, None)
        ),
        (lambda: known_at("2026-11-20"), "has no zone"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_argument_is_told(home: Path, call: Callable[[], pd.DataFrame], reported: str) -> None:
    with pytest.raises(ValueError, match=reported):
        call()


def test_a_table_that_is_not_there_is_not_looked_for_among_the_variables(home: Path) -> None:
    for name in ("pd", "balances", "sql"):
        with pytest.raises(duckdb.CatalogException, match=f"Table with name {name} does not exist"):
            history.query(f"FROM {name}")


def test_sql_that_returns_no_rows_is_told(home: Path) -> None:
    with pytest.raises(PipelineError, match="the SQL returns no rows"):
        history.query("SET threads = 1")


def test_a_warehouse_of_another_version_is_told(tmp_path: Path) -> None:
    with duckdb.connect(tmp_path / "tradier.duckdb") as connection:
        connection.execute("CREATE MACRO schema_version() AS 1")
    with pytest.raises(WarehouseError, match="another schema version"):
        history.balances(home=tmp_path)
    assert history.query("SELECT schema_version() AS version", home=tmp_path)["version"].tolist() == [1]


def test_the_package_is_imported_without_pandas() -> None:
    imported = "import sys, tradier_pipeline, tradier_pipeline.cli; print('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", imported], capture_output=True, text=True).stdout == "False\n"
