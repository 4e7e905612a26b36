"""A question about now, or about a date, takes what it takes: no file of a year that nobody asks about is opened."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from tradier_pipeline import clock, history
from tradier_pipeline.publish.seal import seal
from tradier_pipeline.report.reads import account_ids, report_days
from tradier_pipeline.warehouse import reads, schema, sealed
from tradier_pipeline.warehouse.at_a_glance import at_a_glance
from tradier_pipeline.warehouse.now import trades_query
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline.warehouse.staging import Warehouse
from tradier_pipeline_tests.conftest import Home
from tradier_pipeline_tests.support.command_line import rows_of, run
from tradier_pipeline_tests.support.year import fill, sessions

ACCOUNT, ENDED = "VA12345678", "VA10000000"  # the other one has not been read since the first year
# of the files that a table is shown from together the first tells DuckDB the columns: it is opened whatever is asked
FIRST, UNASKED, ASKED = date(2020, 3, 2), (date(2021, 3, 1), date(2022, 6, 1)), date(2024, 5, 1)
WITHOUT = date(2023, 11, 1)  # the fourth has no snapshot
NEWEST = (date(2025, 1, 2), date(2025, 3, 3))
UNREAD = (schema.RAW_PAYLOADS, schema.ACCOUNTS, schema.ORDER_RECONCILIATION, schema.RECONCILIATION_FINDINGS)
NOW = datetime(2025, 4, 20, 15, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def sealed_years(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a session a year, of which the files of some years are damaged: whoever opens one fails."""
    path = tmp_path_factory.mktemp("years") / "home" / "tradier.duckdb"
    days = [sessions(1, day)[0] for day in (FIRST, *UNASKED, WITHOUT, ASKED, *NEWEST)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(clock, "now", lambda: NOW)
        patched.setattr(sealed, "TABLES", [table for table in sealed.TABLES if table not in UNREAD])
        with Warehouse(path).staged() as staged:
            read = [replace(one, close=one.open + timedelta(hours=1)) for one in days]
            fill(staged.connection, read, ACCOUNT, minutes=20)
            fill(staged.connection, read[:1], ENDED, minutes=20)
        seal(Warehouse(path))
    with connect_readonly(path) as connection:
        files = sealed.sealed_files(connection)
        root = sealed.sealed_root(connection)
    unasked = [file for file in files if file.month.year in {day.year for day in UNASKED}]
    assert {file.table_name for file in unasked} >= {"tradier_snapshots", "account_balances", "orders", "positions"}
    for file in unasked:
        (root / file.path).chmod(0o600)
        (root / file.path).write_bytes(b"nothing that could be opened")
    return path.parent


@pytest.fixture
def years(sealed_years: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(clock, "now", lambda: NOW)
    monkeypatch.setenv("TRADIER_PIPELINE_HOME", str(sealed_years))
    return Home(sealed_years)


@pytest.mark.parametrize(
    "command",
    [
        "orders",
        f"orders --account {ACCOUNT}",
        f"orders --since {ASKED} --until {ASKED}",
        "portfolio",
        "spreads",
        "exposure",
        "exposure --by account",
        "exposure --by expiring",
        f"exposure --since {ASKED} --until {ASKED}",
        f"balances --by hour --since {ASKED} --until {ASKED}",
        f"balances --since {ASKED} --until {ASKED}",
        "today",
    ],
)
def test_no_file_of_another_year_is_opened(years: Home, command: str) -> None:
    assert rows_of(*command.split())


def test_a_question_about_a_damaged_year_fails(years: Home) -> None:
    asked = ("--since", str(UNASKED[0]), "--until", str(UNASKED[0]), "--format", "json")
    assert run("orders", *asked).exit_code == 1


def test_nor_is_it_by_what_goes_with_a_snapshot_or_a_report(years: Home) -> None:
    with connect_readonly(years.warehouse.path) as connection:
        assert reads.known_accounts(connection) == account_ids(connection) == [ENDED, ACCOUNT]
        assert reads.newest_trade_date(connection, ACCOUNT) == NEWEST[-1]
        assert report_days(connection, ACCOUNT) == [FIRST, *UNASKED, ASKED, *NEWEST]
        assert account_ids(connection, UNASKED[0]) == [ACCOUNT]
        snapshot_id, as_of = reads.newest_snapshot_ids(connection)[-1], reads.newest_as_of(connection)[ACCOUNT]
        before = at_a_glance(connection, snapshot_id, as_of).since
        assert [clock.trade_date(one) for one in (before,) if one] == [NEWEST[-1]]
        _, account = reads.accounts_now(connection)
        assert (account["snapshot_id"], account["equity"] > 0) == (snapshot_id, True)
        assert connection.execute(f"FROM ({trades_query(connection)})").fetchall()
    assert len(history.exposure(since=ASKED, until=ASKED)) > 0
    assert len(history.balances(since=ASKED, until=ASKED, by="hour")) > 0
