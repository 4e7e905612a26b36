"""The command line: what it prints, how it ends, and that every failure is one line with cause and remedy."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import dagster as dg
import duckdb
import pytest
from click.testing import CliRunner, Result

from tradier_pipeline.cli import helps, main
from tradier_pipeline.cli.app import Commands
from tradier_pipeline.core.settings import DEMO_ACCOUNT, DEMO_TOKEN, load_settings
from tradier_pipeline.instance import open_instance
from tradier_pipeline.publish.store import store_snapshot
from tradier_pipeline.simulator.server import embedded_simulator
from tradier_pipeline.simulator.world import ROUND_THE_CLOCK
from tradier_pipeline.verify import CHECKS
from tradier_pipeline.warehouse.reads import connect_readonly, newest_snapshot_ids
from tradier_pipeline_tests.conftest import Home, Simulated, miscount, take
from tradier_pipeline_tests.support.bodies import ACCOUNT, answers, balances, dumps, land, order
from tradier_pipeline_tests.support.sampling import sampled

COMMANDS = (
    *("snapshot", "request", "verify", "rebuild", "query", "balances", "returns", "pnl", "status", "gate", "findings"),
    *("simulate", "up", "listen", "ledger", "backfill", "summary", "report", "flows", "exposure", "export"),
    *("portfolio", "spreads", "orders", "trades", "tables", "describe", "today", "seal", "lake", "broker"),
    *("audit", "backup", "restore", "watch"),
)
UNKNOWN = f"{DEMO_ACCOUNT}@2026-01-05T14:31:00Z"


def run(*arguments: str) -> Result:
    """The command line in this process. An exception that would be a traceback fails the test."""
    result = CliRunner().invoke(main, arguments, prog_name="tradier-pipeline")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def error_line(result: Result, code: int = 1) -> str:
    """What a failed command tells: exactly one line on stderr."""
    assert result.exit_code == code, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("tradier-pipeline: error: ")
    assert line.endswith((".", "`")), "no remedy"
    return line.removeprefix("tradier-pipeline: error: ")


def document(result: Result) -> Any:
    """The one JSON document on stdout; numbers exact."""
    return json.loads(result.stdout, parse_float=Decimal)


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    def start(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tradier_pipeline.cli", *arguments],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with one snapshot, for tests that only read."""
    home = Home(tmp_path_factory.mktemp("history"))
    with embedded_simulator(None, calendar=ROUND_THE_CLOCK) as url:
        take(home, Simulated(url).broker)
    return home


@pytest.fixture
def taken(history: Home, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of the one snapshot."""
    monkeypatch.setenv("TRADIER_PIPELINE_HOME", str(history.path))
    with connect_readonly(history.warehouse.path) as connection:
        (snapshot_id,) = newest_snapshot_ids(connection)
    return snapshot_id


@pytest.fixture
def copied(history: Home, home: Home) -> Home:
    """The home of this test, with that snapshot."""
    shutil.copytree(history.path, home.path)
    return home


# ---------------------------------------------------------------- calls


TABLES = (
    *("query", "balances", "pnl", "exposure", "summary", "status", "gate", "findings", "verify"),
    *("ledger diff", "flows list", "returns", "portfolio", "spreads", "orders", "trades", "tables", "describe"),
    *("today", "broker"),
)


@pytest.mark.parametrize("command", TABLES)
def test_every_command_that_prints_a_table_has_the_same_format_option(command: str) -> None:
    text = " ".join(run(*command.split(), "--help").stdout.split())
    assert "--format [text|csv|json|parquet]" in text
    assert "-o, --output PATH" in text


def test_what_verify_proves_is_a_table_with_a_row_for_each_check(copied: Home) -> None:
    result = run("verify", "--format", "json")
    assert result.exit_code == 0, result.stderr
    rows = document(result)
    assert {row["passed"] for row in rows if row["severity"] == "fatal"} == {True}
    assert len({row["check"] for row in rows}) == len(rows) > 10
    assert [row["check"] for row in rows] == [
        check["check"] for check in document(run("verify", "--json"))["snapshots"][0]["checks"]
    ]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_explains_itself(command: str) -> None:
    result = run(*command.split(), "--help")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"Usage: tradier-pipeline {command}")
    assert set(main.commands) == set(COMMANDS)


def test_the_bare_command_is_its_help_with_every_command_in_one_group() -> None:
    bare, asked = run(), run("--help")
    assert (bare.exit_code, bare.stderr, bare.stdout) == (0, "", asked.stdout)
    named = [name for group in helps.GROUPS.values() for name in group]
    assert sorted(named) == sorted(main.commands)
    for line in (f"{title}:" for title in helps.GROUPS):
        assert f"\n{line}\n" in bare.stdout
    assert max(map(len, bare.stdout.splitlines())) <= 80
    assert "...\n" not in bare.stdout.split("Take:")[1]
    assert run("ledger").stdout == run("ledger", "--help").stdout


def commands(group: click.Group = main, path: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield f"{path} {name}".strip(), command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}".strip())


@pytest.mark.parametrize("path", [path for path, _ in commands()])
def test_every_help_ends_with_examples_that_can_be_called(path: str) -> None:
    reported = run(*path.split(), "--help").stdout
    examples = re.findall(r"^    tradier-pipeline (.*)$", reported, re.MULTILINE)
    assert examples
    for example in examples:
        command: click.Command = main
        words = shlex.split(example.split("&&")[0])
        while isinstance(command, click.Group):
            command = command.commands[words.pop(0)]
        command.make_context(command.name, words)


def test_the_shell_completes_commands() -> None:
    asked = {"COMP_WORDS": "tradier-pipeline re", "COMP_CWORD": "1", "_TRADIER_PIPELINE_COMPLETE": "bash_complete"}
    result = CliRunner().invoke(main, [], prog_name="tradier-pipeline", env=asked)
    assert result.stdout.splitlines() == [
        f"plain,{name}" for name in ("rebuild", "report", "request", "restore", "returns")
    ]


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        (["nope"], "No such command 'nope'. See `tradier-pipeline --help`."),
        (["snapshot", "--nope"], "No such option '--nope'. See `tradier-pipeline snapshot --help`."),
        (["request"], "Missing option '--reason'. Choose from: order_placed, position_flat, manual, debug"),
        (["request", "--reason", "because"], "Invalid value for '--reason': 'because' is not one of "),
        (["query"], "Missing argument 'SQL'. See `tradier-pipeline query --help`."),
        (["balances", "--by", "decade"], "Invalid value for '--by': 'decade' is not one of "),
        (["balances", "--format", "xml"], "Invalid value for '--format': 'xml' is not one of "),
        (
            ["balances", "--since", "yesterday"],
            "Invalid value for '--since': 'yesterday' does not match the format YYYY-MM-DD. See ",
        ),
        (["up", "--port", "0"], "Invalid value for '--port': 0 is not in the range 1<=x<=65535"),
        (["simulate", "--port", "70000"], "Invalid value for '--port': 70000 is not in the range 0<=x<=65535"),
    ],
)
def test_a_wrong_call_is_told_in_one_line(arguments: list[str], reported: str) -> None:
    result = run(*arguments)
    assert error_line(result, 2).startswith(reported)
    assert result.stdout == ""


def test_a_wrong_call_with_json_is_one_document_too() -> None:
    result = run("verify", "--json", "--nope")
    assert error_line(result, 2)
    assert document(result)["error"]["cause"] == "No such option '--nope'"


@pytest.mark.parametrize(
    "arguments", [["verify"], ["balances"], ["query", "SELECT 1"], ["status"], ["verify", "--all"]], ids=" ".join
)
def test_before_the_first_snapshot_there_is_a_line_that_says_what_to_do(arguments: list[str], home: Home) -> None:
    reported = error_line(run(*arguments))
    assert reported == (
        f"there is no warehouse at {home.warehouse.path} yet. Take a snapshot: `tradier-pipeline snapshot`."
    )


def test_a_malformed_setting_is_one_line_and_one_document(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADIER_ENV", "production")
    result = run("snapshot", "--json")
    assert error_line(result) == "TRADIER_ENV is malformed. Set it to simulator, sandbox or live."
    assert document(result) == {
        "error": {"cause": "TRADIER_ENV is malformed", "remedy": "Set it to simulator, sandbox or live."},
        "checks": [],
    }


# of the snapshot: test_snapshot_as_json, and the one that a signal ends
@sampled("command", ["snapshot", "status"], kept=(1,))
def test_the_first_line_says_what_is_read_and_where_it_is_kept(command: str, home: Home, simulated: Simulated) -> None:
    take(home, simulated.broker)
    (home.path / ".env").touch()
    host = simulated.url.removeprefix("http://")
    expected = f"SIMULATED account {DEMO_ACCOUNT}, {host}, home {home.path}, .env {home.path}/.env"
    assert run(command).stdout.splitlines()[0] == expected
    reported = document(run(command, "--json"))
    assert (reported["host"], reported["home"], reported["dotenv"]) == (host, str(home.path), str(home.path / ".env"))


@pytest.mark.parametrize(
    "command",
    [
        *(
            "balances",
            "balances --by month",
            "returns",
            "pnl",
            "exposure",
            "summary",
            "report",
            "export --format hledger",
        ),
        *("portfolio", "spreads", "orders", "trades", "gate", "findings", "status", "ledger diff", "flows list"),
        *("verify", "verify --all"),
    ],
)
def test_an_account_that_there_is_not_is_an_error_everywhere(command: str, copied: Home) -> None:
    result = run(*command.split(), "--account", "VA1")
    assert error_line(result) == f"nothing is known of account VA1. Name one of those there are: {DEMO_ACCOUNT}."
    assert result.stdout == ""


def test_a_program_that_names_an_unknown_account_gets_balances_without_rows_and_a_line_of_those_there_are(
    taken: str,
) -> None:
    for form, begins in (("csv", "as_of,"), ("json", "[")):
        result = run("balances", "--account", "VA1", "--format", form)
        assert (result.exit_code, result.stdout.startswith(begins), "VA1" in result.stdout) == (0, True, False)
        assert f"no balances of VA1; there are those of {DEMO_ACCOUNT} from " in result.stderr


@pytest.mark.parametrize("command", ["snapshot", "backfill", "backfill --since 2026-01-01"])
def test_an_account_that_is_none_of_the_token_is_told_with_those_it_has(
    command: str, home: Home, simulated: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADIER_ENV", "simulator")
    monkeypatch.setenv("TRADIER_ACCOUNT_ID", "VA99999999")
    reported = error_line(run(*command.split()))
    assert reported.startswith("VA99999999 is not among the accounts of this access token. It has: SIM00000001, ")


# ---------------------------------------------------------------- snapshot


def test_snapshot_prints_what_is_held_and_how_many_rules_hold_on_one_screen(home: Home, simulated: Simulated) -> None:
    assert " since " not in run("snapshot").stdout  # there is nothing before it
    result = run("snapshot")
    assert (result.exit_code, result.stderr) == (0, "")
    with connect_readonly(home.warehouse.path) as connection:
        before, found = connection.execute(
            "SELECT equity, cash, buying_power, open_pl, snapshot_id FROM balance_history ORDER BY as_of"
        ).fetchall()
        spreads = connection.execute(
            "SELECT underlying, unrealized_pl, days_left FROM spread_book "
            "SEMI JOIN newest_snapshots USING (snapshot_id) ORDER BY expiration"
        ).fetchall()
    equity, cash, buying_power, open_profit, snapshot_id = found
    lines = result.stdout.splitlines()
    assert len(lines) <= 23  # of a terminal with 24, the prompt included
    assert max(map(len, lines[1:-3])) <= 80  # the last name the command, which is a long path in a test
    assert [line.split()[0] for line in lines[1:4]] == ["read", "proved", "published"]
    assert all(re.search(r" \d+\.\d s$", line) for line in lines[1:4])
    assert snapshot_id in lines[3]
    text = "\n".join(lines)
    assert re.search(rf"equity +{equity:,.2f} +{re.escape(f'{equity - before[0]:+,.2f}')} since ", text)
    for amount in (f"cash +{cash:,.2f}", f"buying power +{buying_power:,.2f}"):
        assert re.search(amount, text)
    assert re.search(f"open profit +{re.escape(f'{open_profit:+,.2f}')} ", text)
    for underlying, profit, days in spreads[:5]:
        assert re.search(rf"^{underlying} .* {re.escape(f'{profit:+,.2f}')} .* {days}$", text, re.MULTILINE)
    assert "filled since " in text
    checks = document(run("verify", "--json"))["snapshots"][0]["checks"]
    idle = sum(not check["judged"] for check in checks)
    assert f"{len(CHECKS)} of {len(CHECKS)} rules hold; {idle} had nothing to judge yet (-v shows them)\n" in text
    assert "  ok   " not in text


def test_with_v_every_rule_is_shown_and_none_is_ok_that_had_nothing_to_judge(home: Home, simulated: Simulated) -> None:
    reported = run("snapshot", "-v").stdout
    marks = {name: mark for mark, name in re.findall(r"^  (ok|-|warn) +(\w+) ", reported, re.MULTILINE)}
    assert marks.keys() == {check.name for check in CHECKS}
    assert marks["balances_equal"] == "ok"
    assert (marks["equity_does_not_jump"], marks["positions_follow_fills"]) == ("-", "-")
    assert "1970" not in reported


def test_a_fill_since_the_snapshot_before_is_told(home: Home, simulated: Simulated) -> None:
    works = order(1, symbol="F", quantity=1, remaining_quantity=1)
    world = {"account": DEMO_ACCOUNT, "cash": 1000, "positions": [], "orders": [works]}
    simulated.admin("POST", "world", json.loads(dumps(world)))
    take(home, simulated.broker)
    filled = works | {"status": "filled", "exec_quantity": 1, "avg_fill_price": 2, "remaining_quantity": 0}
    held = {"symbol": "F", "quantity": 1, "cost_basis": 2}
    world = {"account": DEMO_ACCOUNT, "cash": 998, "orders": [filled], "positions": [held]}
    simulated.admin("POST", "world", json.loads(dumps(world)))
    assert re.search(r"^filled since [\d:]+: buy 1 F at 2\.00$", run("snapshot").stdout, re.MULTILINE)


def test_a_rule_that_does_not_hold_is_shown_in_full(home: Home, simulated: Simulated) -> None:
    world = {"account": DEMO_ACCOUNT, "cash": 1000, "positions": [], "orders": [order(1, tag=None)]}
    simulated.admin("POST", "world", json.loads(dumps(world)))
    reported = run("snapshot").stdout
    warned = reported.count("\n  warn ")
    assert f"{len(CHECKS) - warned} of {len(CHECKS)} rules hold; " in reported
    assert "  warn orders_tagged " in reported
    assert "  ok   " not in reported


def test_snapshot_as_json_is_one_document_with_exact_amounts(home: Home, simulated: Simulated) -> None:
    result = run("snapshot", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    taken = json.loads(result.stdout)
    with connect_readonly(home.warehouse.path) as connection:
        (stored,) = connection.execute("SELECT equity, cash FROM account_balances").fetchall()
    assert [Decimal(taken["balances"][name]) for name in ("equity", "cash")] == list(stored)
    assert isinstance(taken["balances"]["equity"], str)
    assert taken["snapshot_id"].startswith(f"{DEMO_ACCOUNT}@")
    assert (taken["account"], taken["environment"], taken["published"]) == (DEMO_ACCOUNT, "simulator", True)
    assert (taken["host"], taken["home"]) == (simulated.url.removeprefix("http://"), str(home.path))
    assert set(taken["counts"]) == {"positions", "orders"}
    assert [check["check"] for check in taken["checks"] if not check["passed"]] == []
    claims = {check["check"]: check["claim_name"] for check in taken["checks"]}
    assert (claims["balances_equal"], claims["quotes_sane"]) == ("account_equals_broker", "positions_priced")
    assert all(check["claim"] != check["claim_name"] for check in taken["checks"])  # claim is the rule's text


def test_a_refused_snapshot_shows_the_checks_that_failed(
    home: Home, simulated: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    miscount(monkeypatch)
    result = run("snapshot")
    assert "was not published: the check balances_equal" in error_line(result)
    assert "  FAIL balances_equal " in result.stdout
    result = run("snapshot", "--json")
    assert "balances_equal" in document(result)["error"]["cause"]
    failed = [check for check in document(result)["checks"] if not check["passed"] and check["severity"] == "fatal"]
    assert [check["check"] for check in failed] == ["balances_equal"]
    assert failed[0]["differences"]
    assert error_line(result)


@pytest.mark.soak  # one that a signal ends fails in a process of its own, too
def test_a_snapshot_that_was_not_read_fails_in_one_line_in_a_process_of_its_own(
    home: Home, simulated: Simulated, program: Callable[..., subprocess.Popen[str]]
) -> None:
    simulated.fault("/balances", "status", status=400, body="no")
    process = program("snapshot", "--account", DEMO_ACCOUNT, "--json")
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert json.loads(stdout)["error"]["cause"].startswith("balances: HTTP 400")
    (line,) = stderr.splitlines()
    assert line.startswith("tradier-pipeline: error: balances: HTTP 400")


# ---------------------------------------------------------------- verify, rebuild, status


def test_verify_proves_the_newest_again_and_finds_a_changed_value(home: Home, simulated: Simulated) -> None:
    old, _ = take(home, simulated.broker)
    new, _ = take(home, simulated.broker)
    result = run("verify")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{new.snapshot_id}: verified\n")
    assert str(old.snapshot_id) not in result.stdout

    home.warehouse.path.chmod(0o644)
    with duckdb.connect(home.warehouse.path) as connection:
        connection.execute(
            "UPDATE positions SET quantity = quantity + 1 WHERE row_no = 1 AND snapshot_id = $1", [str(old.snapshot_id)]
        )
    assert run("verify").exit_code == 0  # the newest is as it was
    result = run("verify", "--all")
    assert result.exit_code == 1
    assert f"{old.snapshot_id}: FAILED\n  FAIL position_quantities_equal " in result.stdout
    assert f"{new.snapshot_id}: verified\n" in result.stdout
    result = run("verify", str(old.snapshot_id), "--json")
    assert result.exit_code == 1
    (proof,) = document(result)["snapshots"]
    assert (proof["snapshot_id"], proof["published"], proof["passed"]) == (str(old.snapshot_id), True, False)

    assert run("rebuild").stdout == f"{home.warehouse.path}: 2 snapshots\n"
    reported = document(run("rebuild", "--json"))
    kept = {"kept_findings": True, "kept_rows": 0, "kept_as": ""}
    assert reported == {"published": 2, "refused": {}, "activity": 0, **kept}
    assert run("verify", "--all").exit_code == 0


@pytest.mark.parametrize(
    ("snapshot", "reported"),
    [
        ("yesterday", "'yesterday' is not a snapshot id. Write <account number>@<UTC instant>"),
        (UNKNOWN, f"no snapshot {UNKNOWN} is landed in "),
    ],
)
def test_verify_of_what_is_no_snapshot_is_told(snapshot: str, reported: str, copied: Home) -> None:
    assert error_line(run("verify", snapshot)).startswith(reported)
    result = run("verify", snapshot, "--json")
    assert document(result)["error"]["cause"].startswith(reported.split(". ")[0])
    assert error_line(result)


def test_status_tells_age_failures_missed_disk_and_budget(home: Home, simulated: Simulated) -> None:
    landed, _ = take(home, simulated.broker)
    state = document(run("status", "--json"))
    (account,) = state["accounts"]
    assert account["snapshot_id"] == str(landed.snapshot_id)
    assert (account["snapshots"], account["failures_24h"], account["missed_24h"]) == (1, 0, 0)
    pages = [page for pages in landed.manifest.resources.values() for page in pages]
    available = 120 - len(pages)  # the demo has as many orders as two pages hold at times
    assert account["request_budget"] == {"allowed": 120, "available": available}
    assert account["age_s"] >= 0
    result = run("status")
    assert (result.exit_code, result.stderr) == (0, "")
    for words in (
        f"last snapshot   {landed.snapshot_id}, ",
        "failed in 24 h  0",
        "missed in 24 h  0",
        f"{available} of 120",
    ):
        assert words in result.stdout
    assert f"{home.path}: warehouse " in result.stdout


def test_a_request_is_written_and_counted_until_a_snapshot_answers_it(home: Home, simulated: Simulated) -> None:
    take(home, simulated.broker)
    assert run("request", "--reason", "manual").stdout == f"request 1 for {DEMO_ACCOUNT}\n"
    written = document(run("request", "--reason", "order_placed", "--order-id", "o-1", "--note", "by hand", "--json"))
    (request,) = written["requests"]
    assert request.pop("requested_at").endswith("Z")
    assert request == {
        "request_id": 2,
        "account_id": DEMO_ACCOUNT,
        "reason": "order_placed",
        "order_id": "o-1",
        "note": "by hand",
    }
    reported = error_line(run("request", "--reason", "manual", "--account", "VA1"))
    assert reported == f"VA1 is not an account of this home ({DEMO_ACCOUNT}). Add it to TRADIER_ACCOUNT_ID."
    state = document(run("status", "--json"))
    assert state["waiting_requests"] == 2
    assert state["oldest_request_age_s"] >= 0
    assert "requests waiting for a snapshot: 2, the oldest for " in run("status").stdout
    there_is = f"Name one of those there are: {DEMO_ACCOUNT}."
    for command in ("status", "findings"):
        assert error_line(run(command, "--account", "VA1")) == f"nothing is known of account VA1. {there_is}"
    assert document(run("status", "--json", "--account", DEMO_ACCOUNT))["waiting_requests"] == 2
    assert run("snapshot").exit_code == 0
    state = document(run("status", "--json"))
    assert (state["waiting_requests"], state["oldest_request_age_s"]) == (0, None)
    assert "waiting" not in run("status").stdout


# ---------------------------------------------------------------- query, balances


def test_balances_are_the_same_in_every_format(taken: str, history: Home, tmp_path: Path) -> None:
    with connect_readonly(history.warehouse.path) as connection:
        stored = connection.execute(
            "SELECT account_id, equity, cash, buying_power, margin_requirement, snapshot_id FROM account_balances"
        ).fetchall()
    columns = ("account_id", "equity", "cash", "buying_power", "margin_requirement", "snapshot_id")

    (row,) = csv.DictReader(io.StringIO(run("balances", "--format", "csv").stdout))
    assert [_exact(row[name]) for name in columns] == list(stored[0])

    (row,) = document(run("balances", "--format", "json"))
    assert [row[name] for name in columns] == [str(value) for value in stored[0]]

    file = tmp_path / "balances.parquet"
    assert run("balances", "--format", "parquet", "--output", str(file)).stdout == ""
    assert duckdb.sql(f"SELECT {', '.join(columns)} FROM '{file}'").fetchall() == stored
    file.write_bytes(run("balances", "--format", "parquet").stdout_bytes)
    assert duckdb.sql(f"SELECT {', '.join(columns)} FROM '{file}'").fetchall() == stored

    text = run("balances").stdout
    assert [value for value in stored[0][1:5] if f"{value:,.2f}" not in text] == []
    assert taken in text


def _exact(text: str) -> str | Decimal:
    return Decimal(text) if text.replace(".", "").replace("-", "").isdigit() else text


def test_balances_by_account_and_date(taken: str, history: Home) -> None:
    with connect_readonly(history.warehouse.path) as connection:
        ((day, equity),) = connection.execute("SELECT trade_date, equity FROM account_balances").fetchall()
    (row,) = document(run("balances", "--by", "day", "--format", "json"))
    assert (row["trade_date"], row["open"], row["last"], row["snapshots"]) == (str(day), str(equity), str(equity), 1)
    shown = ["--since", str(day), "--until", str(day), "--account", DEMO_ACCOUNT]
    assert len(document(run("balances", "--format", "json", *shown))) == 1


@sampled("by", ["snapshot", "hour", "day", "month", "year"], kept=(3,))
def test_no_balances_are_told_beside_what_there_is(by: str, taken: str, history: Home) -> None:
    with connect_readonly(history.warehouse.path) as connection:
        ((day,),) = connection.execute("SELECT trade_date FROM account_balances").fetchall()
    reported = error_line(run("balances", "--by", by, "--account", "o'hara"))
    assert reported == f"nothing is known of account o'hara. Name one of those there are: {DEMO_ACCOUNT}."
    there = f"there are those of {DEMO_ACCOUNT} from {day} to {day}"
    for asked, reported in (
        (["--since", "2999-01-01"], "no balances since 2999-01-01; "),
        (["--until", "2020-01-01"], "no balances until 2020-01-01; "),
        (["--account", DEMO_ACCOUNT, "--until", "2020-01-01"], f"no balances of {DEMO_ACCOUNT} until 2020-01-01; "),
    ):
        empty = run("balances", "--by", by, *asked)
        assert (empty.exit_code, empty.stdout, empty.stderr) == (0, "", f"{reported}{there}\n")
        as_json = run("balances", "--by", by, "--format", "json", *asked)
        assert (as_json.exit_code, document(as_json), as_json.stderr) == (0, [], empty.stderr)
        (header,) = run("balances", "--by", by, "--format", "csv", *asked).stdout.splitlines()
        assert "account_id" in header


@sampled(
    "arguments, column",
    [
        (["status"], "snapshot_id"),
        (["today"], "verdict"),
        (["returns"], "period"),
        (["flows"], "flow_id"),
        (["gate"], "blockers"),
        (["findings"], "suggested_action"),
        (["balances", "--by", "month"], "closing"),
        (["query", "FROM account_balances"], "equity"),
    ],
    kept=(0, 3, 4),
)
def test_every_table_is_the_same_in_every_format(
    arguments: list[str], column: str, taken: str, history: Home, tmp_path: Path
) -> None:
    rows = document(run(*arguments, "--format", "json"))
    as_csv = list(csv.DictReader(io.StringIO(run(*arguments, "--format", "csv").stdout)))
    file = tmp_path / "rows.parquet"
    run(*arguments, "--format", "parquet", "--output", str(file))
    columns = duckdb.sql(f"FROM '{file}'").columns
    assert column in columns
    assert len(rows) == len(as_csv) == len(duckdb.sql(f"FROM '{file}'"))
    for row, line in zip(rows, as_csv, strict=True):
        assert list(row) == list(line) == columns
        shares = ("age_s", "buying_power_use", "month_return")  # floats, which this reader makes decimals
        assert not any(isinstance(value, Decimal) for name, value in row.items() if name not in shares)
        assert line[column] == ("" if row[column] is None else str(row[column]))


WEEK = (  # Wednesday; Thanksgiving, on which nothing was due; nothing of the Friday; Monday, in another month
    ("2025-11-26T14:31:00", "1000.5"),
    ("2025-11-26T14:59:00", "3000"),
    ("2025-11-26T21:15:00", "2000"),
    ("2025-12-01T21:15:00", "8000.25"),
)


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("week"))
    for as_of, equity in WEEK:
        reported = answers(
            balances={"balances": balances(total_equity=Decimal(equity), total_cash=Decimal(equity) - 1)}
        )
        store_snapshot(home.warehouse, land(home.zone, reported, datetime.fromisoformat(as_of).replace(tzinfo=UTC)))
    return home


@sampled(
    "by, periods",
    [
        ("hour", ["2025-11-26 09:00:00-05", "2025-11-26 16:00:00-05", "2025-12-01 16:00:00-05"]),
        ("day", ["2025-11-26", "2025-12-01"]),
        ("month", ["2025-11-01", "2025-12-01"]),
    ],
)
def test_balances_by_period_are_the_same_in_every_format(
    by: str, periods: list[str], week: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TRADIER_PIPELINE_HOME", str(week.path))
    column = {"day": "trade_date"}.get(by, by)
    rows = document(run("balances", "--by", by, "--format", "json"))
    assert [row[column] for row in rows] == periods
    figures = ("open", "high", "low", "close", "cash_close", "snapshots")
    close, cash, count = (3000, 2999, 2) if by == "hour" else (2000, 1999, 3)
    opened = Decimal("1000.5")
    assert [Decimal(rows[0][figure]) for figure in figures] == [opened, 3000, opened, close, cash, count]

    as_csv = list(csv.DictReader(io.StringIO(run("balances", "--by", by, "--format", "csv").stdout)))
    assert [[Decimal(row[figure]) for figure in figures] for row in as_csv] == [
        [Decimal(row[figure]) for figure in figures] for row in rows
    ]
    assert [row[column] for row in as_csv] == periods
    file = tmp_path / "balances.parquet"
    file.write_bytes(run("balances", "--by", by, "--format", "parquet").stdout_bytes)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'America/New_York'")
        stored = connection.execute(f"SELECT {column}::VARCHAR, {', '.join(figures)} FROM '{file}'").fetchall()
    assert stored == [(row[column], *(Decimal(row[figure]) for figure in figures)) for row in rows]
    text = run("balances", "--by", by).stdout
    assert [period for period in periods if period.removesuffix("-05") not in text] == []


@sampled("by, blocks", [("snapshot", "▁▃▂ █"), ("hour", "▂▁ █"), ("day", "▁ █"), ("month", "▁█")], kept=(0, 2))
def test_balances_as_text_end_with_a_line_of_equity_that_fits_and_shows_gaps(
    by: str, blocks: str, week: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADIER_PIPELINE_HOME", str(week.path))
    for columns in ("80", "60"):
        monkeypatch.setenv("COLUMNS", columns)
        result = run("balances", "--by", by)
        assert (result.exit_code, result.stderr) == (0, "")
        *_, title, line = result.stdout.splitlines()
        assert title.split() == ["equity,", "USD", "low", "high", "last"]
        assert line == f"{ACCOUNT:<11}  {blocks}  1,000.50  8,000.25  8,000.25"
    monkeypatch.setenv("COLUMNS", "45")  # room for two
    *_, title, line = run("balances").stdout.splitlines()
    assert (line, len(title), len(line)) == (f"{ACCOUNT:<11}  ▁█  1,000.50  8,000.25  8,000.25", 45, 45)
    for form in ("csv", "json", "parquet"):
        assert b"equity, USD" not in run("balances", "--by", by, "--format", form).stdout_bytes


def test_a_query_that_is_not_printed_to_a_terminal_loses_no_row_and_no_column(taken: str) -> None:
    shown = run("query", "SELECT *, repeat('x', 500) AS long FROM balance_history").stdout
    assert "…" not in shown
    assert "x" * 500 in shown
    assert taken in shown
    assert run("query", "FROM range(9999)").stdout.count("\n") > 9999
    reported = error_line(run("query", "FROM range(10000)"))
    assert reported == "10,000 rows are too many for text. Choose --format csv, json or parquet."
    assert run("query", "FROM range(10000)", "--format", "csv").stdout.count("\n") == 10001


@pytest.mark.parametrize(
    ("command", "remedy"),
    [
        ("balances", "--since, --until, --by day"),
        ("balances --since 2020-01-01", "--until, --by day"),
        ("balances --by hour", "--since, --until, --by day"),
        ("balances --by day", "--since, --until"),
        ("exposure --each snapshot", "--since, --until, --each day"),
    ],
)
@pytest.mark.usefixtures("taken")
def test_rows_that_are_too_many_for_text_are_narrowed_by_the_options_that_there_are(
    command: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tradier_pipeline.cli.tables.MAX_PIPED_ROWS", 0)
    reported = error_line(run(*command.split()))
    assert re.fullmatch(
        f"\\d+ rows are too many for text. Choose --format csv, json or parquet, or narrow it: {remedy}.", reported
    )


@pytest.mark.parametrize(
    ("sql", "first_value"),
    [
        ("SELECT 1;", 1),
        ("SELECT 1 -- said", 1),
        ("WITH a AS (SELECT 2 AS n UNION ALL SELECT 3) FROM a ORDER BY n DESC", 3),
        ("CREATE TEMP TABLE mine AS SELECT 4; FROM mine", 4),
        ("PIVOT (SELECT 'k' AS k, 5 AS v) ON k IN ('k') USING sum(v)", 5),
        ("DESCRIBE orders", "snapshot_id"),
    ],
)
def test_a_query_is_any_statement_that_returns_rows(sql: str, first_value: object, taken: str) -> None:
    (row, *_) = document(run("query", sql, "--format", "json"))
    assert next(iter(row.values())) == first_value
    assert str(first_value) in run("query", sql).stdout


@sampled(
    "sql",
    [
        "INSERT INTO orders FROM orders",
        "DELETE FROM positions",
        "DROP VIEW balance_history",
        "COPY orders TO 'written.csv'",
        "ATTACH 'written.duckdb'",
        "EXPORT DATABASE 'written'",
        "CREATE TEMP TABLE t AS FROM orders; COPY t TO 'written.csv'; FROM t",
        "SET enable_external_access = true; SELECT 1",
        "RESET lock_configuration; SELECT 1",
        "FROM read_text('secret.txt')",
        "FROM 'secret.txt'",
        "INSTALL httpfs; SELECT 1",
        "SELECT 1; SELECT 2",
        "SELECT 1; CREATE TEMP TABLE t AS SELECT 1",
        "",
        "/* nothing */",
        "SELEC 1",
        "FROM nowhere",
        "SELECT no_column FROM orders",
        "SELECT 1/'a'",
    ],
    kept=(0, 3, 4, 6, 7, 9, 11, 12, 14, 16),
)
def test_a_query_writes_nothing_reads_no_other_file_and_fails_in_one_line(
    sql: str, taken: str, history: Home, tmp_path: Path
) -> None:
    (tmp_path / "secret.txt").write_text("5up3r53cr3t")
    before = history.warehouse.path.read_bytes()
    result = run("query", sql)
    assert error_line(result)
    assert "5up3r53cr3t" not in result.output
    assert history.warehouse.path.read_bytes() == before
    assert list(tmp_path.rglob("written*")) == []


def test_output_that_cannot_be_written_is_told(taken: str, tmp_path: Path) -> None:
    reported = error_line(run("query", "SELECT 1", "--format", "csv", "--output", str(tmp_path / "no" / "where")))
    assert reported.startswith(f"cannot write {tmp_path / 'no' / 'where'}: No such file or directory. ")


@sampled("form", ["text", "csv"])
def test_a_reader_that_leaves_early_is_no_error(
    form: str, taken: str, program: Callable[..., subprocess.Popen[str]]
) -> None:
    process = program("query", "SELECT repeat('x', 1000) FROM range(9000)", "--format", form)
    assert process.stdout
    assert process.stderr
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == ""
    process.wait(timeout=30)


@sampled("arguments", [["tables"], ["query", "SELECT 1", "--format", "csv"], ["none", "--json"]], kept=(1,))
def test_output_that_a_full_disk_takes_no_more_of_is_one_line(arguments: list[str], taken: str) -> None:
    command = [sys.executable, "-m", "tradier_pipeline.cli", *arguments]
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.stderr == (
        "tradier-pipeline: error: the output cannot be written: No space left on device. "
        "Make room, or write it elsewhere.\n"
    )
    assert ended.returncode == 1


def test_a_command_that_is_started_without_any_stream_writes_into_no_file_of_its_own(history: Home) -> None:
    before = history.warehouse.path.read_bytes()
    ended = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m tradier_pipeline.cli tables <&- >&- 2>&-"],
        env=os.environ | {"TRADIER_PIPELINE_HOME": str(history.path)},
        check=False,
    )
    assert ended.returncode == 0
    assert history.warehouse.path.read_bytes() == before


# ---------------------------------------------------------------- simulate


def test_simulate_serves_until_interrupted(home: Home, program: Callable[..., subprocess.Popen[str]]) -> None:
    process = program("simulate", "--port", "0")
    assert process.stderr
    line = process.stderr.readline()
    url = line.split("TRADIER_BASE_URL=")[1].split(")")[0]
    _, outcomes = take(home, Simulated(url).broker)
    assert all(outcome.passed for outcome in outcomes)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=10) == ("", "")
    assert process.returncode == 0


def test_simulate_on_a_taken_port_is_told(home: Home) -> None:
    with embedded_simulator(None, token=DEMO_TOKEN) as url:
        reported = error_line(run("simulate", "--port", url.rpartition(":")[2]))
    assert "Address already in use" in reported


def test_the_gate_exits_0_only_if_every_account_asked_for_is_ready(
    home: Home, simulated: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "there is no warehouse" in error_line(run("gate"))
    monkeypatch.setenv("TRADIER_CALENDAR", "24/7")
    assert run("snapshot").exit_code == 0
    ready = run("gate")
    assert (ready.exit_code, ready.stdout) == (0, f"{DEMO_ACCOUNT}: ready\n")
    assert document(run("gate", "--json"))["ready"] is True

    assert error_line(run("gate", "--account", "NOBODY")).startswith("nothing is known of account NOBODY. ")
    nobody = run("gate", "--account", "NOBODY", "--json")  # for a program: not ready, as ever
    assert (nobody.exit_code, document(nobody)["ready"]) == (1, False)
    monkeypatch.setenv("TRADIER_ENV", "simulator")
    monkeypatch.setenv("TRADIER_ACCOUNT_ID", f"{DEMO_ACCOUNT},NOBODY")
    both = run("gate")
    assert (both.exit_code, both.stdout.splitlines()[0]) == (1, f"{DEMO_ACCOUNT}: ready")
    monkeypatch.setenv("TRADIER_ENV", "simulator")
    monkeypatch.setenv("TRADIER_ACCOUNT_ID", "all")
    assert run("gate").exit_code == 0

    simulated.fault("/balances", "status", status=400, body="no", times=1)
    assert run("snapshot", "--account", DEMO_ACCOUNT).exit_code == 1
    failed = run("gate", "--account", DEMO_ACCOUNT, "--json")
    assert failed.exit_code == 1
    (account,) = document(failed)["accounts"]
    assert account["ready"] is False
    assert "balances: HTTP 400" in account["blockers"]["missed_snapshots"]


def test_a_rebuild_judges_by_the_settings_of_today(copied: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADIER_CALENDAR", "24/7")
    monkeypatch.setenv("TRADIER_MAX_OPEN_POSITIONS", "0")
    assert run("rebuild").exit_code == 0
    assert "max_open_positions (" in run("gate").stdout


def test_a_warehouse_without_a_gate_is_not_ready(copied: Home) -> None:
    copied.warehouse.path.chmod(0o644)
    with duckdb.connect(copied.warehouse.path) as connection:
        connection.execute("DROP VIEW trade_gate")
    assert "cannot read the trade gate" in error_line(run("gate"))


def test_an_interrupt_amid_a_query_is_one_line() -> None:
    commands = Commands()

    @commands.command()
    def endless() -> None:
        raise RuntimeError("Query interrupted") from KeyboardInterrupt()  # as DuckDB does

    ended = CliRunner().invoke(commands, ["endless"])
    assert (ended.exit_code, ended.stderr) == (130, "tradier-pipeline: interrupted.\n")


@sampled("number", [signal.SIGTERM, signal.SIGINT])
def test_a_snapshot_that_is_ended_by_a_signal_is_told_in_one_line_and_ends_at_once(
    number: signal.Signals,
    home: Home,
    empty_dagster_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    interruptible: None,
) -> None:
    home.path.mkdir(0o700)
    shutil.copytree(empty_dagster_home, home.path / "dagster")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("TRADIER_BASE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        command = [sys.executable, "-m", "tradier_pipeline.cli", "snapshot"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            silent.settimeout(60)
            connection, _ = silent.accept()  # it reads
            process.send_signal(number)
            stdout, reported = process.communicate(timeout=20)
            connection.close()
        assert stdout.splitlines() == [load_settings().identity]
    assert process.returncode == 1
    assert reported == (
        "tradier-pipeline: error: the run was interrupted. "
        "What it had landed is published by the next snapshot; take it again.\n"
    )
    assert not home.warehouse.path.exists()
    with open_instance(home.path / "dagster") as instance:
        assert [run.status for run in instance.get_runs()] == [dg.DagsterRunStatus.FAILURE]  # not started for ever
