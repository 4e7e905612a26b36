"""What is newest: found by the dates that a publish keeps, and the same as by a look at all headers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest

from tradier_pipeline.report.reads import account_figures
from tradier_pipeline.warehouse.exposure import exposure_query
from tradier_pipeline.warehouse.now import orders_query, positions_query, spreads_query
from tradier_pipeline.warehouse.reads import connect_readonly, newest_headers
from tradier_pipeline.warehouse.schema import SCHEMA_VERSION
from tradier_pipeline.warehouse.sql import bind, where
from tradier_pipeline.warehouse.staging import Warehouse
from tradier_pipeline_tests.support.year import fill, sessions

ACCOUNT, OTHER = "VA12345678", "VA87654321"
DAYS = (date(2025, 1, 2), date(2025, 1, 3), date(2025, 1, 8), date(2025, 1, 10))
GOOD = "SELECT account_id, max(as_of) FROM tradier_snapshots WHERE verdict = 'good' GROUP BY account_id"
ORDERS = "FROM orders SEMI JOIN (FROM tradier_snapshots WHERE verdict = 'good') USING (snapshot_id)"


def doubt(days: tuple[date, ...], account_id: str = ACCOUNT) -> str:
    """The statement after which all snapshots of an account on some days are doubtful."""
    which = ", ".join(bind("?", day) for day in days)
    query = f"UPDATE tradier_snapshots SET verdict = 'doubtful' WHERE account_id = ? AND trade_date IN ({which})"
    return bind(query, account_id)


def without_orders(*days: date) -> str:
    which = ", ".join(bind("?", day) for day in days)
    return f"DELETE FROM orders WHERE trade_date IN ({which})"


CHANGES = {
    "all good": "",
    "the last date doubtful": doubt(DAYS[-1:]),
    "two dates doubtful": doubt(DAYS[-2:]),
    "nothing good": doubt(DAYS),
    "one account doubtful": doubt(DAYS, OTHER),
    "the last snapshot doubtful": "UPDATE tradier_snapshots SET verdict = 'doubtful' "
    "WHERE as_of IN (SELECT max(as_of) FROM tradier_snapshots)",
    "no orders on the last date": without_orders(DAYS[-1]),
    "orders on the first date alone": without_orders(*DAYS[1:]),
    "no orders": "DELETE FROM orders",
    "a good one without balances": bind("DELETE FROM account_balances WHERE trade_date = ?", DAYS[-1]),
}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("newest") / "tradier.duckdb"
    days = [replace(one, close=one.open + timedelta(hours=1)) for day in DAYS for one in sessions(1, day)]
    with Warehouse(path).staged() as staged:
        fill(staged.connection, days, ACCOUNT, ledger=False, minutes=20)
        fill(staged.connection, days[:-1], OTHER, ledger=False, minutes=20)
    return path


@pytest.fixture
def changed(filled: Path, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    path = tmp_path / "tradier.duckdb"
    path.write_bytes(filled.read_bytes())
    with Warehouse(path).staged() as staged:
        staged.connection.execute(request.param or "SELECT 1")
    with connect_readonly(path) as connection:
        yield connection


@pytest.mark.parametrize("changed", CHANGES.values(), ids=CHANGES.keys(), indirect=True)
@pytest.mark.parametrize("account_id", [None, ACCOUNT])
def test_what_is_shown_as_newest_is_of_the_newest_good_snapshot(
    changed: duckdb.DuckDBPyConnection, account_id: str | None
) -> None:
    def found(query: str) -> list[tuple[object, ...]]:
        return sorted(changed.execute(f"SELECT DISTINCT account_id, as_of FROM ({query})").fetchall())

    good = [row for row in changed.execute(GOOD).fetchall() if account_id in (None, row[0])]
    valued = {row[0] for row in changed.execute("SELECT DISTINCT snapshot_id FROM account_balances").fetchall()}
    newest = where(account_id)
    assert found(exposure_query("underlying", newest, each="newest")) == sorted(good)
    of_accounts = changed.execute(f"FROM ({exposure_query('account', newest, each='newest')})").fetchall()
    assert {row[0] for row in of_accounts} <= valued
    assert found(positions_query(changed, account_id)) == sorted(good)
    assert set(found(spreads_query(changed, account_id))) <= set(good)

    shown = changed.execute(f"SELECT account_id, trade_date, order_id, as_of {ORDERS}").fetchall()
    shown = [row for row in shown if account_id in (None, row[0])]
    last = max((row[1] for row in shown), default=None)
    by_order = {(account, order): as_of for account, day, order, as_of in sorted(shown) if day == last}
    query = f"SELECT account_id, order_id, as_of FROM ({orders_query(changed, account_id, None, None)})"
    assert {(account, order): as_of for account, order, as_of in changed.execute(query).fetchall()} == by_order


@pytest.mark.parametrize(
    "changed",
    [
        CHANGES[name]
        for name in ("two dates doubtful", "nothing good", "the last snapshot doubtful", "a good one without balances")
    ],
    indirect=True,
)
def test_a_report_rests_on_the_newest_good_snapshot_and_names_a_doubtful_one_that_is_newer(
    changed: duckdb.DuckDBPyConnection,
) -> None:
    headers = "SELECT as_of, verdict FROM tradier_snapshots WHERE account_id = ? ORDER BY as_of"
    rows = changed.execute(bind(headers, ACCOUNT)).fetchall()
    newest, good = rows[-1][0], [as_of for as_of, verdict in rows if verdict == "good"]
    figures = account_figures(changed, ACCOUNT)
    assert figures.snapshot.as_of == (good[-1] if good else newest)
    assert (figures.doubtful.as_of if figures.doubtful else None) == (None if good[-1:] == [newest] else newest)


def test_how_many_snapshots_an_account_has_is_known_of_a_file_of_an_earlier_version_too(
    filled: Path, tmp_path: Path
) -> None:
    older = tmp_path / "tradier.duckdb"
    older.write_bytes(filled.read_bytes())
    with duckdb.connect(str(older)) as connection:
        connection.execute("ALTER TABLE snapshot_days DROP COLUMN taken")
        connection.execute(f"CREATE OR REPLACE MACRO schema_version() AS {SCHEMA_VERSION - 1}")
    counted = []
    for path in (filled, older):
        with connect_readonly(path) as connection:
            counted.append({one["account_id"]: one["snapshots"] for one in newest_headers(connection)})
            all_there = connection.execute("SELECT account_id, count(*) FROM tradier_snapshots GROUP BY 1").fetchall()
    assert counted == [dict(all_there)] * 2
