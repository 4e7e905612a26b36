"""What is asked as it was known at an instant is answered as it was then, whatever came since."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from tradier_pipeline import clock, history, known_at
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline_tests.conftest import Home
from tradier_pipeline_tests.support.activities import day_value, event
from tradier_pipeline_tests.support.command_line import rows_of, run
from tradier_pipeline_tests.support.scripted_account import ScriptedAccount, scripted_account
from tradier_pipeline_tests.warehouse.test_statements import report, show

THURSDAY, FRIDAY, MONDAY = date(2025, 11, 20), date(2025, 11, 21), date(2025, 11, 24)
KNOWN = "2025-11-22T09:00"  # New York, of the Saturday
KNOWN_UTC = datetime(2025, 11, 22, 14, tzinfo=UTC)
NOW = KNOWN_UTC + timedelta(days=10)
TABLES = (
    "balances --by day",
    "balances --by month",
    "returns --by month",
    "pnl",
    "findings --all",
    "portfolio",
    "orders",
)


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, dict[str, str]]:
    """A history of which much came to light later, and what was reported of it on the Saturday."""
    home = Home(tmp_path_factory.mktemp("lived") / "home")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TRADIER_PIPELINE_HOME", str(home.path))
        return home, live(home, patched)


@pytest.fixture
def then(lived: tuple[Home, dict[str, str]], home: Home, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What was reported; of a copy of that history."""
    monkeypatch.setattr(clock, "now", lambda: NOW)
    shutil.copytree(lived[0].path, home.path)
    return lived[1]


def live(home: Home, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setattr(clock, "now", lambda: KNOWN_UTC)
    show(home, (THURSDAY, 10_000))
    show(home, (FRIDAY, 15_100))
    report(home, THURSDAY, FRIDAY, history=[], historical_balances=[day_value(THURSDAY, 10_000)])
    then = reported()
    assert run("report").exit_code == 0
    then["report"] = page(home.path)
    monkeypatch.setattr(clock, "now", lambda: NOW)
    show(home, (MONDAY, 15_300))
    report(
        home,
        THURSDAY,
        MONDAY,
        history=[event(FRIDAY, 5000)],  # posted late
        historical_balances=[day_value(THURSDAY, Decimal("9999.50")), day_value(FRIDAY, 15_100)],  # restated
    )
    stated = ("flows", "add", "--account", "VA12345678", "--date", str(FRIDAY), "--amount", "25", "--note", "a gift")
    assert run(*stated).exit_code == 0
    assert run("report").exit_code == 0
    return then


def reported(*options: str) -> dict[str, str]:
    answers = {}
    for command in TABLES:
        ended = run(*command.split(), "--format", "json", *options)
        assert ended.exit_code == 0, ended.stderr
        answers[command] = ended.stdout
    return answers


def page(home: Path) -> str:
    return (home / "reports" / "VA12345678" / "account.html").read_text()


def test_every_table_answers_as_it_did_then(then: dict[str, str], home: Home) -> None:
    now = reported()
    assert now["balances --by month"] != then["balances --by month"]
    assert now["returns --by month"] != then["returns --by month"]
    again = reported("--known-at", KNOWN)
    assert again == {command: then[command] for command in TABLES}


def test_the_report_of_then_is_made_again_to_the_byte(then: dict[str, str], home: Home) -> None:
    made = run("report", "--known-at", KNOWN)
    assert made.exit_code == 0, made.stderr
    (path,) = (home.path / "past").glob("*/")
    assert page(path) == then["report"]
    assert page(home.path) != then["report"]


def test_a_notebook_reads_what_was_known(then: dict[str, str], home: Home) -> None:
    past = known_at(KNOWN_UTC)
    assert len(history.balances(home=past)) == 2
    assert len(history.balances()) == 3
    flows = history.cash_flows(home=past)
    assert list(flows["amount"]) == []
    assert sorted(history.cash_flows()["amount"]) == [25.0, 5000.0]


@pytest.fixture
def account(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedAccount]:
    with scripted_account(home, monkeypatch) as scripted:
        yield scripted


def test_a_doubtful_snapshot_that_was_confirmed_later_is_doubtful_then(account: ScriptedAccount) -> None:
    opened = datetime(2025, 11, 20, 15, tzinfo=UTC)
    account.shows(opened, ("KO", 100, 6000), cash=1000)
    account.shows(opened + timedelta(minutes=1), cash=1000)
    minutes = 2
    while account.verdicts[1] == "doubtful":
        account.shows(opened + timedelta(minutes=minutes), cash=1000)
        minutes += 6
    then = known_at(opened + timedelta(minutes=1, seconds=30))
    with connect_readonly(then / "tradier.duckdb") as connection:
        rows = connection.execute("SELECT verdict FROM tradier_snapshots ORDER BY as_of").fetchall()
        (held,) = connection.execute("SELECT quantity FROM portfolio_positions").fetchone() or (None,)
    assert rows == [("good",), ("doubtful",)]
    assert held == Decimal(100)


def test_a_flow_that_was_stated_and_taken_back_stands_between(
    then: dict[str, str], home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    stated = clock.now()
    (flow,) = rows_of("flows", "list")
    monkeypatch.setattr(clock, "now", lambda: stated + timedelta(days=1))
    assert run("flows", "remove", str(flow["flow_id"])).exit_code == 0
    monkeypatch.setattr(clock, "now", lambda: stated + timedelta(days=9))
    between = known_at(stated + timedelta(hours=1))
    after = known_at(stated + timedelta(days=2))
    assert sorted(history.cash_flows(home=between)["amount"]) == [25.0, 5000.0]
    assert sorted(history.cash_flows(home=after)["amount"]) == [5000.0]


@pytest.mark.parametrize(
    ("instant", "words"),
    [
        ("2025-11-01", "nothing had been read by 2025-11-02T04:00:00Z"),
        ("2031-01-01", "is yet to come"),
        ("yesterday", "is no date and no time"),
        ("9999-12-31", "is no date and no time"),  # its end is no instant
        ("0001-01-01T00:00+14:00", "is no date and no time"),
    ],
)
def test_an_instant_of_which_nothing_is_known_is_refused_in_one_line(
    then: dict[str, str], home: Home, instant: str, words: str
) -> None:
    refused = run("balances", "--known-at", instant)
    assert refused.exit_code != 0
    assert refused.stderr.count("\n") == 1
    assert words in refused.stderr
    assert not list((home.path / "past").glob("*/*"))


def test_what_was_reported_otherwise_later_is_listed_with_when_by_how_much_and_why(
    then: dict[str, str], home: Home
) -> None:
    names = "trade_date, source, reason, before, after, difference"
    rows = rows_of("query", f"SELECT {names} FROM restatements")
    figures = {(row["trade_date"], row["source"], row["reason"]): (row["before"], row["after"]) for row in rows}
    assert figures == {
        (str(FRIDAY), "history", "posted late"): (None, "5000.00000000"),
        (str(THURSDAY), "historical_balances", "restated"): ("10000.00000000", "9999.50000000"),
        (str(FRIDAY), "stated_flows", "stated by the owner"): (None, "25.00000000"),
    }
    assert rows_of("query", "SELECT * FROM restatements", "--known-at", KNOWN) == []
