"""`today`: the six questions of an evening, each answered on one screen by the figures of the views."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from tradier_pipeline.cli.today import exits
from tradier_pipeline.domain.calendar import MarketCalendar
from tradier_pipeline.publish.store import store_activity, store_snapshot
from tradier_pipeline.report.figures import Order
from tradier_pipeline.report.reads import day_figures
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline.warehouse.staging import Warehouse
from tradier_pipeline_tests.conftest import Home
from tradier_pipeline_tests.report.trader import ACCOUNT, LAST
from tradier_pipeline_tests.support.activities import body_of, day_value, filed
from tradier_pipeline_tests.support.bodies import answers, balances, land
from tradier_pipeline_tests.support.command_line import rows_of, run
from tradier_pipeline_tests.support.curves import days_made_later
from tradier_pipeline_tests.support.terminal import on_terminal, plain


@pytest.fixture
def evening(seven_weeks: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRADIER_PIPELINE_HOME", str(seven_weeks))
    seven_weeks.chmod(0o700)
    return seven_weeks


def amount(text: str) -> Decimal:
    return Decimal(text.replace(",", ""))


def test_it_answers_the_six_questions_on_one_screen(evening: Path) -> None:
    code, reported = on_terminal("today")
    assert code == 0
    lines = plain(reported).splitlines()
    assert len(lines) <= 23
    assert all(len(line) <= 80 for line in lines)
    said = {line[:16].strip(): line[16:].split() for line in lines[1:] if line[:1].strip()}
    of_day = f"account_id = '{ACCOUNT}' AND trade_date = '{LAST}'"
    (profit,) = rows_of("query", f"FROM day_profit WHERE {of_day}")
    assert amount(said["profit"][0]) == Decimal(profit["profit"])
    made = [amount(found[1]) for line in lines if (found := re.match(r" {8,}([+-][\d,]+\.\d\d)  \w", line))]
    assert sum(made) == Decimal(profit["change"])
    (month,) = rows_of("query", f"FROM account_statements WHERE month = '{LAST.replace(day=1)}'")
    assert amount(said["month"][0]) == Decimal(month["pnl"])
    (exposure,) = rows_of("query", f"FROM account_exposure WHERE {of_day} QUALIFY as_of = max(as_of) OVER ()")
    assert said["buying power"][0] == f"{float(exposure['buying_power_use']):.2%}"
    assert "AAPL bull put credit 275" in " ".join(lines)
    assert "no short option is in the money; nearest AAPL" in " ".join(" ".join(lines).split())


def test_a_program_gets_the_same_figures(evening: Path) -> None:
    (account,) = json.loads(run("today", "--json").stdout)["accounts"]
    lines = rows_of("query", f"FROM day_profit_lines WHERE trade_date = '{LAST}'")
    assert sorted(Decimal(one["amount"]) for one in account["lines"]) == sorted(Decimal(one["amount"]) for one in lines)
    assert {one["days_left"] for one in account["expiring"]} == {2}
    assert [one["reasons"] for one in account["exits"]] == [["expires in 2 days"], ["67% of its maximum profit"]]
    more = json.loads(run("today", "--json", "--target", "30", "--days", "0").stdout)["accounts"][0]["exits"]
    assert [one["underlying"] for one in more] == ["QQQ", "AAPL"]
    (row,) = rows_of("today")
    assert [row[name] for name in ("verdict", "snapshot_id")] == [account[name] for name in ("verdict", "snapshot_id")]
    assert Decimal(row["equity"]) == Decimal(account["equity"])
    assert Decimal(row["profit"]) == Decimal(account["profit"]["profit"])
    assert (row["expiring"], row["exits"]) == (len(account["expiring"]), 2)


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("pnl", "gain_loss  lots won, %"),
        ("pnl --by strategy", "gain_loss  lots won, %"),
        ("exposure --by account", "buying_power_use  buying_power"),
        ("exposure --by expiring", "in_the_money"),
        ("balances --by day", "close"),
        ("orders", "rejected 90001: Account does not have sufficient buying power"),
    ],
)
def test_what_is_asked_for_is_not_what_80_columns_leave_out(evening: Path, command: str, shown: str) -> None:
    code, reported = on_terminal(*command.split())
    assert code == 0
    assert shown in plain(reported)
    assert all(len(line) <= 80 for line in plain(reported).splitlines())


def test_each_position_says_its_part_of_the_equity(evening: Path) -> None:
    (equity,) = rows_of("query", "SELECT equity FROM account_balances QUALIFY as_of = max(as_of) OVER ()")
    held = rows_of("portfolio")
    for row in held:
        assert row["weight"] == pytest.approx(float(row["market_value"]) / float(equity["equity"]))
    reported = run("portfolio").stdout
    assert f"{sum(row['weight'] for row in held):.1%}" in reported
    assert "-0.0%" not in reported


def test_an_exit_that_an_order_works_to_close_says_so(seven_weeks: Path) -> None:
    with connect_readonly(Warehouse(seven_weeks / "tradier.duckdb").path) as connection:
        held = day_figures(connection, ACCOUNT, LAST).held
    order = next(one for one in held.orders if one.legs)
    symbol = held.spreads[0].legs[0]["symbol"]

    def orders(status: str, side: str) -> list[Order]:
        return [replace(order, status=status, legs=[{"side": side, "quantity": 1, "symbol": symbol}])]

    def closing(*of: Order) -> tuple[int, ...]:
        return exits(held.spreads, of, 50, 7)[0].orders

    assert closing(*orders("open", "buy_to_close")) == (order.order_id,)
    assert closing(*orders("filled", "buy_to_close")) == ()
    assert closing(*orders("open", "sell_to_open")) == ()


def test_of_the_first_day_it_says_what_is_not_known(home: Home, simulated: object) -> None:
    assert run("snapshot").exit_code == 0
    reported = run("today").stdout
    assert "profit          not known: no snapshot of an earlier day" in reported
    assert "month           not known yet" in reported
    assert "buying power    " in reported


def test_on_a_day_without_a_session_it_shows_the_last_session_against_the_one_before(home: Home) -> None:
    for day, hour, equity in ((24, 21, 10_000), (25, 21, 10_250), (26, 16, 10_240)):  # the 26th is Thanksgiving
        worth = {"balances": balances(total_equity=Decimal(equity), total_cash=Decimal(equity))}
        landed = land(home.zone, answers(balances=worth), datetime(2026, 11, day, hour, 15, tzinfo=UTC))
        with days_made_later() if day < 26 else nullcontext():
            store_snapshot(home.warehouse, landed)
    shown = run("today").stdout.splitlines()
    said = {line[:16].strip(): line[16:].split() for line in shown[1:]}
    assert " ".join(said["closed"]) == "the exchange was, on Thu Nov 26; the last session was Wed Nov 25"
    assert said["profit"] == ["+250.00", "+2.50%", "equity", "10,250.00"]
    assert said["since then"] == ["-10.00", "equity", "10,240.00"]
    (account,) = json.loads(run("today", "--json").stdout)["accounts"]
    assert (account["last_session"]["day"], account["last_session"]["profit"]["profit"]) == ("2026-11-25", "250")
    assert run("report", "--day", "2026-11-26").exit_code == 0
    page = (home.path / "reports" / ACCOUNT / "2026-11-26.html").read_text()
    text = " ".join(re.sub("<[^>]+>", " ", page).split())
    assert "Profit of Wed 25 Nov 2026 +$250.00" in text
    assert "The exchange was closed on Thu 26 Nov 2026. The last session was Wed 25 Nov 2026" in text


def test_on_a_first_day_without_a_session_what_the_broker_values_at_the_closes_is_the_profit(
    home: Home,
) -> None:
    days = (date(2026, 11, 24), date(2026, 11, 25))
    values = [body_of("historical_balances", [day_value(day, 10_000 + 100 * at) for at, day in enumerate(days)])]
    read = filed(home.zone, days, datetime(2026, 11, 26, 12, tzinfo=UTC), historical_balances=values)
    with days_made_later():
        store_activity(home.warehouse, read, MarketCalendar("XNYS"))
    worth = {"balances": balances(total_equity=Decimal(10_100), total_cash=Decimal(10_100))}
    store_snapshot(home.warehouse, land(home.zone, answers(balances=worth), datetime(2026, 11, 26, 16, tzinfo=UTC)))
    shown = run("today").stdout
    assert "profit                 +100.00    +1.00%   equity 10,100.00" in shown
    assert "since then               +0.00" in shown


def test_without_a_snapshot_it_says_what_to_do(home: Home) -> None:
    failed = run("today")
    assert failed.exit_code == 1
    assert "Take a snapshot: `tradier-pipeline snapshot`." in failed.stderr
