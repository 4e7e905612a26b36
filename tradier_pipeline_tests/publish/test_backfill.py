"""The past in one command: all that the broker tells, from the opening of the account until yesterday."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tradier_pipeline import clock
from tradier_pipeline.cli import main
from tradier_pipeline.core.settings import DEMO_ACCOUNT
from tradier_pipeline.landing.activity import landed_activity
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline_tests.conftest import Home, Simulated


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(main, ["backfill", *arguments], prog_name="tradier-pipeline")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def document(result: Result) -> Any:
    return json.loads(result.stdout, parse_float=Decimal)


def yesterday() -> date:
    return clock.trade_date(clock.now()) - timedelta(days=1)


def query(home: Home, sql: str) -> list[tuple[Any, ...]]:
    with connect_readonly(home.warehouse.path) as connection:
        return connection.execute(sql).fetchall()


def paths_asked(simulated: Simulated) -> list[str]:
    """Each once, however many pages it had."""
    return list(dict.fromkeys(request["path"].rpartition("/")[2] for request in simulated.requests()))


def test_it_brings_all_since_the_account_was_opened_and_says_what(home: Home, simulated: Simulated) -> None:
    result = run("--json")
    assert (result.exit_code, result.stderr) == (0, "")
    (reported,) = document(result)["accounts"]
    world = simulated.admin("GET", "world")["accounts"][DEMO_ACCOUNT]
    opened = clock.trade_date(datetime.fromisoformat(world["created"]))
    assert (reported["account"], reported["since"], reported["until"]) == (DEMO_ACCOUNT, str(opened), str(yesterday()))
    over = [event for event in world["history"] if clock.trade_date(datetime.fromisoformat(event["at"])) <= yesterday()]
    assert reported["resources"]["history"] == {
        **{"rows": len(over), "new": len(over), "retracted": 0},
        **{"first": str(opened), "last": str(query(home, "SELECT max(trade_date) FROM account_activity")[0][0])},
    }
    assert query(home, "SELECT sum(amount), count(*) FROM account_activity") == [
        (sum(Decimal(event["amount"]) for event in over), len(over))
    ]
    money = sum(Decimal(event["amount"]) for event in over if event["kind"] == "ach")
    assert (Decimal(reported["deposits"]), Decimal(reported["withdrawals"])) == (money, 0)
    assert reported["published"] is True
    assert query(home, "SELECT min(trade_date) >= max(since) FROM sessions, activity_extracts") == [(True,)]


def test_the_same_day_again_replays_and_another_day_reads_again(
    home: Home, simulated: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    since = ("--since", str(yesterday() - timedelta(days=20)))
    assert run(*since).exit_code == 0
    assert paths_asked(simulated) == ["history", "gainloss", "historical-balances"]
    simulated.admin("DELETE", "requests")
    again = run(*since, "--json")
    assert simulated.requests() == []
    (reported,) = document(again)["accounts"]
    assert {resource["new"] for resource in reported["resources"].values()} == {0}
    tomorrow = clock.now() + timedelta(days=1)
    monkeypatch.setattr(clock, "now", lambda: tomorrow)
    simulated.admin("POST", "clock", {"now": tomorrow.isoformat()})
    (reported,) = document(run(*since, "--json"))["accounts"]
    assert paths_asked(simulated) == ["history", "gainloss", "historical-balances"]
    assert reported["resources"]["history"]["new"] > 0
    assert len(landed_activity(home.zone)) == 2


def test_in_words_it_is_a_few_lines(home: Home, simulated: Simulated) -> None:
    lines = run().stdout.splitlines()
    assert lines[0].startswith(f"{DEMO_ACCOUNT}  20")
    assert [line.split()[0] for line in lines[1:]] == [
        *("history", "gainloss", "historical_balances", "deposits", "withdrawals", "SPY")
    ]
    assert lines[4].endswith("250,000.00 USD")


def test_what_fails_is_one_line_and_exit_code_1(home: Home, simulated: Simulated) -> None:
    simulated.fault("/gainloss", "status", status=400, body="no")
    result = run()
    assert result.exit_code == 1
    assert result.stderr.startswith("tradier-pipeline: error: gainloss: HTTP 400")
    assert not home.warehouse.path.exists()


def test_what_is_no_account_number_becomes_no_directory(home: Home, simulated: Simulated) -> None:
    result = run("--account", "../elsewhere", "--since", "2026-01-01")
    assert (result.exit_code, simulated.requests()) == (1, [])
    assert "'../elsewhere' is not an account number" in result.stderr
    assert not (home.path / "elsewhere").exists()


def test_one_account_that_fails_does_not_keep_the_others_from_it(
    home: Home, simulated: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADIER_ENV", "simulator")
    monkeypatch.setenv("TRADIER_ACCOUNT_ID", f"VA99999999,{DEMO_ACCOUNT}")
    result = run("--json")
    assert result.exit_code == 1
    failed, done = document(result)["accounts"]
    assert (failed["account"], failed["published"]) == ("VA99999999", False)
    assert failed["error"]["cause"] == "VA99999999 is not among the accounts of this access token"
    assert (done["account"], done["published"]) == (DEMO_ACCOUNT, True)


def test_an_account_that_was_opened_today_has_nothing_yet(home: Home, simulated: Simulated) -> None:
    simulated.admin("POST", "world", {"account": "SIM00000009"})
    result = run("--account", "SIM00000009")
    assert result.exit_code == 1
    assert "was opened today" in result.stderr
