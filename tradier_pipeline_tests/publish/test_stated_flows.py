"""What the owner states by `flows` enters every figure, as stated; what cannot be is one line and changes nothing."""

from __future__ import annotations

import csv
import io
import json
import shutil
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from click.testing import Result

from tradier_pipeline import clock
from tradier_pipeline.domain.calendar import MarketCalendar
from tradier_pipeline.publish.store import store_activity, store_snapshot
from tradier_pipeline_tests.conftest import Home
from tradier_pipeline_tests.support.activities import body_of, event, filed
from tradier_pipeline_tests.support.bodies import ACCOUNT, answers, balances, land
from tradier_pipeline_tests.support.command_line import rows_of, run
from tradier_pipeline_tests.support.histories import at

CALENDAR = MarketCalendar("XNYS")
MONDAY, TUESDAY, WEDNESDAY = (date(2025, 11, day) for day in (3, 4, 5))
FRIDAY = date(2025, 10, 31)
STATED = ("flows", "add", "--account", ACCOUNT, "--date", str(TUESDAY))


def done(*arguments: str) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    return result


@pytest.fixture(scope="module")
def transferred(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """An account of 10,000 into which shares came by ACAT: equity doubles, and no cash did."""
    home = Home(tmp_path_factory.mktemp("transferred") / "home")
    evenings = ((FRIDAY, "10000", "10000"), (MONDAY, "10000.01", "10000.01"), (TUESDAY, "20500.01", "10000.01"))
    for day, equity, cash in evenings:
        worth = balances(total_equity=Decimal(equity), total_cash=Decimal(cash))
        store_snapshot(home.warehouse, land(home.zone, answers(balances={"balances": worth}), at(day, time(21, 15))))
    history = [body_of("history", [event(TUESDAY, 0, "acat", description="ACAT IN"), event(MONDAY, Decimal("0.01"))])]
    read = filed(home.zone, (date(2025, 10, 1), TUESDAY), at(WEDNESDAY, time(12)), history=history)
    store_activity(home.warehouse, read, CALENDAR)
    return home


@pytest.fixture
def shares_came(home: Home, transferred: Home) -> Home:
    shutil.copytree(transferred.path, home.path)
    return home


def curve() -> dict[str, dict[str, Any]]:
    return {row["trade_date"]: row for row in rows_of("query", "FROM equity_curve ORDER BY trade_date")}


def test_a_stated_flow_enters_every_figure_and_is_shown_as_stated(shares_came: Home) -> None:
    before = curve()[str(TUESDAY)]
    assert (before["uncertain"], before["return"]) == (True, None)
    assert "came or left by transfer" in before["reason"]
    done(*STATED, "--symbol", "AAPL", "--quantity", "50", "--value", "10000", "--note", "from my old broker")
    after = curve()[str(TUESDAY)]
    assert (after["uncertain"], Decimal(after["deposits"]), Decimal(after["stated"])) == (False, 10_000, 10_000)
    assert after["return"] == pytest.approx(20_500.01 / 20_000.01 - 1)
    (november,) = [row for row in rows_of("balances", "--by", "month") if row["month"] == "2025-11-01"]
    assert Decimal(november["deposits"]) == Decimal("10000.01")
    assert Decimal(november["trading"]) == 500
    (reported,) = json.loads(done("returns", "--json").stdout)["returns"][:1]
    assert Decimal(reported["periods"]["inception"]["stated"]) == 10_000
    assert "10,000.00 USD of deposits less withdrawals are stated by the owner" in done("returns").stdout
    (flow,) = [row for row in rows_of("query", "FROM cash_flows") if row["source"] == "owner"]
    assert (flow["kind"], flow["external"], flow["description"]) == ("deposit", True, "from my old broker")
    total = rows_of("query", f"SELECT stated FROM total_equity_curve WHERE trade_date = '{TUESDAY}'")
    assert [Decimal(row["stated"]) for row in total] == [10_000]


def test_a_removed_flow_leaves_every_figure_and_the_ledger_keeps_it(shares_came: Home) -> None:
    flow = json.loads(done(*STATED, "--amount", "-500", "--json").stdout)["flow"]
    assert (flow["kind"], Decimal(flow["amount"]), flow["symbol"]) == ("withdrawal", -500, None)
    assert Decimal(curve()[str(TUESDAY)]["withdrawals"]) == 500
    done("flows", "remove", str(flow["flow_id"]))
    assert Decimal(curve()[str(TUESDAY)]["stated"]) == 0
    assert done("flows", "list").stdout == "no stated flows\n"
    kept = done("flows", "list", "--all").stdout
    assert "-500.00 USD" in kept
    assert "taken back by" in kept


def test_a_stated_flow_survives_a_rebuild(shares_came: Home) -> None:
    done(*STATED, "--amount", "123.45")
    done("rebuild")
    assert Decimal(curve()[str(TUESDAY)]["stated"]) == Decimal("123.45")


def test_the_list_is_a_table_for_programs_too(shares_came: Home) -> None:
    done(*STATED, "--symbol", "AAPL", "--quantity", "0.5", "--value", "100.10")
    (row,) = rows_of("flows", "list")
    assert (row["account_id"], row["trade_date"], row["symbol"]) == (ACCOUNT, str(TUESDAY), "AAPL")
    assert (row["amount"], row["quantity"], row["removed_at"]) == ("100.10000000", "0.50000000", None)
    (line,) = csv.DictReader(io.StringIO(done("flows", "list", "--format", "csv").stdout))
    assert Decimal(line["amount"]) == Decimal("100.10")
    assert "nothing is known of account 6YA00009" in run("flows", "list", "--account", "6YA00009").stderr


BAD = [
    (("--amount", "1"), {"--account": "NOBODY"}, "nothing is known of account NOBODY"),
    (("--amount", "1"), {"--date": "2025-13-01"}, "does not match the format"),
    (("--amount", "1"), {"--date": "tomorrow"}, "does not match the format"),
    (("--amount", "1"), {"--date": str(clock.trade_date(clock.now()) + timedelta(days=2))}, "is not over"),
    (("--amount", "ten"), {}, "--amount is no number: ten"),
    (("--amount", "NaN"), {}, "--amount is no amount: NaN"),
    (("--amount", "1e15"), {}, "--amount is no amount: 1e15"),
    (("--amount", "0.000000001"), {}, "--amount is no amount: 0.000000001"),
    (("--amount", "-5", "--kind", "deposit"), {}, "-5 is below zero, and a deposit is not"),
    (("--amount", "5", "--value", "5"), {}, "state --amount, or --symbol, --quantity and --value"),
    (("--symbol", "AAPL"), {}, "state --amount, or --symbol, --quantity and --value"),
    (("--symbol", "AAPL", "--value", "5"), {}, "securities are a symbol and a quantity"),
    (("--symbol", "AAPL", "--value", "5", "--quantity", "many"), {}, "--quantity is no number: many"),
    (("--symbol", "AAPL", "--value", "5", "--quantity", "-2"), {}, "--quantity is not above zero: -2"),
    (("--symbol", "not a symbol", "--value", "5", "--quantity", "2"), {}, "not a symbol is no symbol"),
    ((), {}, "state --amount, or --symbol, --quantity and --value"),
]


@pytest.mark.parametrize(("arguments", "instead", "reported"), BAD, ids=[f"{'_'.join(a)}{b or ''}" for a, b, _ in BAD])
def test_a_flow_that_cannot_be_is_one_line_and_changes_nothing(
    arguments: tuple[str, ...], instead: dict[str, str], reported: str, shares_came: Home
) -> None:
    before = curve()
    options = {"--account": ACCOUNT, "--date": str(TUESDAY)} | instead
    result = run("flows", "add", *(word for option in options.items() for word in option), *arguments)
    assert result.exit_code in (1, 2)
    assert reported in result.stderr
    assert (len(result.stderr.splitlines()), result.stdout) == (1, "")
    assert done("flows", "list", "--all").stdout == "no stated flows\n"
    assert curve() == before


def test_what_the_brokers_history_has_or_was_stated_already_does_not_count_twice(shares_came: Home) -> None:
    known = run("flows", "add", "--account", ACCOUNT, "--date", str(WEDNESDAY), "--amount", "0.01")
    assert known.exit_code == 1
    assert f"the broker's history has 0.01 USD of {MONDAY} already, as ach" in known.stderr
    done(*STATED, "--amount", "700")
    again = run(*STATED, "--amount", "700.00")
    assert again.exit_code == 1
    assert "is stated already" in again.stderr
    assert Decimal(curve()[str(TUESDAY)]["stated"]) == 700
    done(*STATED, "--amount", "700", "--note", "a second one")  # its note tells it from the first
    assert Decimal(curve()[str(TUESDAY)]["stated"]) == 1400


def test_a_stated_flow_that_the_broker_posts_later_counts_once_as_the_broker_has_it(shares_came: Home) -> None:
    """Two of 700 were stated, and a withdrawal; of these the broker posts one of 700 a day later."""
    done(*STATED, "--amount", "700")
    done(*STATED, "--amount", "700", "--note", "a second one")
    done(*STATED, "--amount", "-20")
    history = [body_of("history", [event(WEDNESDAY, 700), event(WEDNESDAY, -21)])]
    late = filed(shares_came.zone, (date(2025, 10, 1), WEDNESDAY), clock.now(), history=history)
    store_activity(shares_came.warehouse, late, CALENDAR)
    query = "SELECT source, amount FROM cash_flows WHERE external AND amount NOT IN (0, 0.01) ORDER BY ALL"
    counted = [("broker", -21), ("broker", 700), ("owner", -20), ("owner", 700)]
    assert [(row["source"], Decimal(row["amount"])) for row in rows_of("query", query)] == counted
    first, second, _ = done("flows", "list").stdout.splitlines()
    assert first.endswith(f"the broker's history has it of {WEDNESDAY}, and it counts once")
    assert second.endswith(": a second one")
    books = done("export", "--format", "beancount").stdout
    assert books.count(" 700.00 USD") == 2
    done("rebuild")
    assert [(row["source"], Decimal(row["amount"])) for row in rows_of("query", query)] == counted


@pytest.mark.parametrize("flow_id", ["7", "0", "-1"])
def test_a_flow_that_there_is_not_cannot_be_removed(flow_id: str, shares_came: Home) -> None:
    done(*STATED, "--amount", "700")
    result = run("flows", "remove", "--", flow_id)
    assert result.exit_code == 1
    assert f"no stated flow {flow_id} stands" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert Decimal(curve()[str(TUESDAY)]["stated"]) == 700


def test_a_flow_is_not_removed_twice(shares_came: Home) -> None:
    done(*STATED, "--amount", "700")
    done("flows", "remove", "1")
    assert "no stated flow 1 stands" in run("flows", "remove", "1").stderr


def test_the_report_names_uncertain_days_and_why_until_the_owner_states_what_came(shares_came: Home) -> None:
    def page(*arguments: str) -> str:
        path = shares_came.path.parent / "page.html"
        done("report", "--output", str(path), *arguments)
        return path.read_text()

    why = "securities came or left by transfer, and what they were worth is not known"
    assert f">{why}</td>" in page()
    assert "Uncertain days: what came or left is not known" in page()
    assert f"left out of all returns: {why}" in page("--day", str(TUESDAY))
    done(*STATED, "--symbol", "AAPL", "--quantity", "50", "--value", "10000")
    assert why not in page()
    assert "Uncertain days" not in page()
    assert why not in page("--day", str(TUESDAY))
