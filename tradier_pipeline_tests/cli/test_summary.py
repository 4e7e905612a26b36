"""`tradier-pipeline summary`: stored summaries in a terminal and as JSON, and how one is made."""

from __future__ import annotations

import json
import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tradier_pipeline.reconcile.facts import LedgerState
from tradier_pipeline_tests.cli.test_cli import error_line, run
from tradier_pipeline_tests.conftest import Home
from tradier_pipeline_tests.reconcile.values import ACCOUNT
from tradier_pipeline_tests.warehouse.test_summaries import FRIDAY, MONDAY, Book, at, ended, opened


@pytest.fixture(scope="module")
def two_days(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("two_days") / "home"
    book = Book(home)
    book.take(at(FRIDAY, "16:15"), 1000, LedgerState(trades=(opened("t-1", at(FRIDAY, "10:00")),)))
    won = ended("t-1", at(MONDAY, "15:00"), "105", opened_at=at(FRIDAY, "10:00"))
    unknown = ended("t-2", at(MONDAY, "15:00"), None)
    book.take(at(MONDAY, "16:15"), 1100, LedgerState(trades=(won, unknown, opened("t-3"))))
    book.take(at(MONDAY, "16:15"), 2000, number="VA2")
    return home


@pytest.fixture
def book(home: Home, two_days: Path) -> Book:
    """Two days, of which nobody has made a summary yet."""
    shutil.copytree(two_days, home.path)
    return Book(home.path)


def reported(*arguments: str) -> str:
    result = run("summary", *arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def document(*arguments: str) -> list[dict[str, Any]]:
    return list(json.loads(reported(*arguments, "--json"))["summaries"])


def test_what_is_not_stored_is_told_with_the_command_that_makes_it(book: Book) -> None:
    assert error_line(run("summary")).startswith(
        "there is no summary yet. Make it: `tradier-pipeline summary --generate`, or materialize"
    )
    assert error_line(run("summary", "2025-12-05", "--account", "VA2")).startswith(
        "there is no summary of 2025-12-05 of account VA2. Make it: `tradier-pipeline summary 2025-12-05 --generate`"
    )
    assert error_line(run("summary", "2025-12-09", "--generate")).startswith("no snapshot of 2025-12-09 is published.")
    assert error_line(run("summary", "--account", "VA9", "--generate")).startswith("nothing is known of account VA9. ")
    assert "--help" in error_line(run("summary", "yesterday"), 2)


def test_it_is_made_on_demand_and_read_in_a_terminal(book: Book) -> None:
    shown = reported("--generate", "--account", ACCOUNT)
    assert shown.startswith(f"2025-12-08  {ACCOUNT}, revision 1, as of 16:15:00\n")
    for line in (
        "  equity                  1,100.00 USD\n",
        "  equity_change            +100.00 USD\n",
        "  snapshots 1, missed 0, failed 0, refused 0\n",
        "  orders: placed 0, filled 0, canceled 0, rejected 0, expired 0\n",
        "  trades: opened 2, closed 2, open 1\n",
        "  realized +105.00 USD, 1 unknown\n",
        "  exit reasons: EXPIRED 2\n",
        "  closed  t-1 1 AAPL bull_put_credit 2.05 -> 1.00 EXPIRED +105.00 USD\n",
        "  closed  t-2 1 AAPL bull_put_credit 2.05 EXPIRED - USD\n",
        "  open    t-3 1 AAPL bull_put_credit 2.05 OPEN\n",
    ):
        assert line in shown
    assert reported("--account", ACCOUNT) == shown
    assert reported("--generate", "--account", ACCOUNT) == shown


def test_the_default_is_the_newest_date_of_every_account(book: Book) -> None:
    reported("2025-12-05", "--generate")
    assert [row["trade_date"] for row in document()] == ["2025-12-05"]
    reported("--generate")
    assert [(row["trade_date"], row["account_id"]) for row in document()] == [
        ("2025-12-08", ACCOUNT),
        ("2025-12-08", "VA2"),
    ]
    assert [row["trade_date"] for row in document("2025-12-05")] == ["2025-12-05"]


def test_json_has_every_figure_with_exact_amounts_and_null_where_nobody_knows(book: Book) -> None:
    reported("--generate")
    ours, other = document()
    assert (ours["equity"], ours["realized_pnl"], ours["realized_unknown"]) == ("1100", "105", 1)
    assert ours["exit_reasons"] == {"EXPIRED": 2}
    assert ours["closed_trades"][0]["closed_at"] == "2025-12-08T20:00:00Z"
    assert (other["trades_open"], other["realized_pnl"], other["open_trades"]) == (None, None, None)
    assert Decimal(ours["equity_change"]) == 100


def test_the_list_has_a_line_for_each_date_and_says_what_was_read_before_the_close(book: Book) -> None:
    book.take(at(FRIDAY, "15:00"), 900, number="VA2")
    for day in ("2025-12-05", "2025-12-08"):
        reported(day, "--generate")
    first, early, last, other = reported("--list").splitlines()
    assert first.startswith(f"2025-12-05  {ACCOUNT}")
    assert early.endswith("no ledger; revision 1, before the close")
    assert "realized +105.00 USD, 1 unknown; 2 closed, 1 open; revision 1" in last
    assert "before the close" not in first + last + other
    assert len(reported("--list", "--account", ACCOUNT).splitlines()) == 2
    assert "BEFORE THE CLOSE" in reported("2025-12-05", "--account", "VA2")
