"""What a person sees of what is held, ordered and traded: in 80 columns, in a pipe, and in the exports."""

from __future__ import annotations

import csv
import io
from datetime import date
from decimal import Decimal

import pytest

from tradier_pipeline.cli import screen
from tradier_pipeline.core.settings import DEMO_ACCOUNT
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline.warehouse.sql import rows_of
from tradier_pipeline_tests.conftest import Home
from tradier_pipeline_tests.support.command_line import rows_of as exported
from tradier_pipeline_tests.support.command_line import run
from tradier_pipeline_tests.support.terminal import on_terminal, plain

HELD = ("portfolio", "spreads", "orders", "trades")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with a snapshot of the demo account, its trades in the ledger."""
    home = Home(tmp_path_factory.mktemp("demo") / "home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRADIER_PIPELINE_HOME", str(home.path))
        assert run("snapshot").exit_code == 0
    return home


@pytest.fixture(autouse=True)
def _its_home(demo: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADIER_PIPELINE_HOME", str(demo.path))


@pytest.mark.parametrize("command", [*HELD, "balances", "tables"])
def test_in_80_columns_no_line_is_longer_and_no_value_is_cut(command: str) -> None:
    code, reported = on_terminal(command)
    assert code == 0, reported
    assert max(map(len, plain(reported).splitlines())) <= 80
    assert "…" not in reported


@pytest.mark.parametrize("setting", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_without_colours_a_terminal_gets_plain_text(setting: dict[str, str]) -> None:
    assert "\x1b" in on_terminal("portfolio")[1]
    assert "\x1b" not in on_terminal("portfolio", **setting)[1]
    assert "\x1b" not in run("portfolio").stdout


def test_the_portfolio_shows_each_position_as_a_trader_calls_it_and_their_sum(demo: Home) -> None:
    with connect_readonly(demo.warehouse.path) as connection:
        rows = rows_of(connection, "FROM portfolio_positions")
    reported = run("portfolio").stdout
    total = next(line for line in reported.splitlines() if line.startswith("total"))
    assert f"{sum(row['market_value'] for row in rows):,.2f}" in total
    assert f"{sum(row['unrealized_pl'] for row in rows):+,.2f}" in total
    assert len(exported("portfolio")) == len(rows)
    for row in rows:
        named = f"{row['underlying']} " if row["strike"] else row["symbol"]
        worth = f"{row['market_value']:,.2f}"
        assert any(line.startswith(named) and worth in line.split() for line in reported.splitlines())


def test_trades_show_what_each_would_make_if_it_were_closed_at_the_marks(demo: Home) -> None:
    with connect_readonly(demo.warehouse.path) as connection:
        of_spreads = {
            (row["underlying"], row["strategy"], row["expiration"]): row["unrealized_pl"]
            for row in rows_of(connection, "FROM spread_book")
        }
    found = exported("trades")
    assert len(found) > 1
    for row in found:
        expected = of_spreads[row["symbol"], row["strategy"], date.fromisoformat(row["expiration"])]
        assert abs(Decimal(row["unrealized_pnl"]) - expected) < Decimal("0.01")
        assert f"{expected:+,.2f}" in run("trades").stdout
    ended = [row for row in exported("trades", "--all") if row["status"] == "CLOSED"]
    assert ended
    assert {row["unrealized_pnl"] for row in ended} == {None}


def test_what_has_no_room_is_named_and_ids_give_way_first() -> None:
    reported = plain(on_terminal("query", "SELECT * EXCLUDE (account_type) FROM account_balances")[1])
    header, _, *notes = reported.splitlines()
    assert header.split()[0] == "as_of"
    assert "snapshot_id" not in header
    assert "not shown here: snapshot_id" in " ".join(notes)
    assert "buying_power" in header
    assert "snapshot_id" in run("query", "FROM account_balances").stdout


def test_money_has_thousands_and_cents_and_the_exports_are_exact() -> None:
    (row,) = exported("query", "SELECT equity FROM account_balances")
    assert f"{Decimal(row['equity']):,.2f}" in run("query", "SELECT equity FROM account_balances").stdout
    reported = run("query", "SELECT equity FROM account_balances", "--format", "csv").stdout
    assert next(csv.DictReader(io.StringIO(reported)))["equity"] == row["equity"]
    (line,) = run("query", "SELECT -1234567.125::DECIMAL(24,8) AS x").stdout.splitlines()[1:]
    assert line.strip() == "-1,234,567.125"  # what the schema does not call money is shown as it is


@pytest.mark.parametrize(
    ("amount", "shown"),
    [("0.00000001", "0.00"), ("-0.00000001", "0.00"), ("0.10001", "0.10"), ("0.0125", "0.0125"), ("-0.5", "-0.50")],
)
def test_an_amount_below_a_dollar_has_its_cents_and_no_loose_point(amount: str, shown: str) -> None:
    assert screen.money(Decimal(amount)) == shown


def test_times_are_new_yorks() -> None:
    reported = run("query", "SELECT TIMESTAMPTZ '2026-07-01 14:31:00+00' AS t").stdout
    assert "2026-07-01 10:31:00" in reported


@pytest.mark.parametrize("command", HELD)
def test_an_account_that_there_is_not_is_an_error_that_names_those_there_are(command: str) -> None:
    result = run(command, "--account", "VA1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"tradier-pipeline: error: nothing is known of account VA1. Name one of those there are: {DEMO_ACCOUNT}.\n"
    )


def test_tables_and_describe_tell_what_the_schema_says() -> None:
    reported = run("tables").stdout
    assert {"portfolio_positions", "equity_curve", "orders"} <= {line.split()[0] for line in reported.splitlines()}
    reported = run("describe", "positions").stdout
    assert "USD per share: middle of bid and ask" in reported
    assert "DECIMAL(24,8)" in reported
    assert "Did you mean positions?" in run("describe", "position").stderr


@pytest.mark.parametrize(
    ("sql", "reported"),
    [
        ("FROM ordrs", 'Did you mean "orders"?'),
        ("SELECT equit FROM account_balances", '"equity"'),
        ("DELETE FROM orders", "read-only"),
        ("CREATE TABLE t AS SELECT 1", "read-only"),
        ("COPY orders TO 'x.csv'", "read-only"),
    ],
)
def test_a_query_that_fails_says_what_was_meant_or_that_it_only_reads(sql: str, reported: str) -> None:
    result = run("query", sql)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert reported in line


def test_nothing_to_show_is_said_and_is_no_table() -> None:
    assert run("orders", "--since", "2999-01-01").stderr == "no orders\n"
