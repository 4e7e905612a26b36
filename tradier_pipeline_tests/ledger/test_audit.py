"""What this program wrote to the ledger and somebody changed since is named by an audit."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from tradier_pipeline.core.settings import DEMO_ACCOUNT
from tradier_pipeline.ledger.audit import audit_ledger
from tradier_pipeline.ledger.store import Ledger
from tradier_pipeline_tests.conftest import Home
from tradier_pipeline_tests.support.command_line import run

ABOUT_A_CHANGE = f"""
    INSERT INTO ledger_changes (snapshot_id, table_name, row_key, before, after, why)
    VALUES ('{DEMO_ACCOUNT}@2026-11-20T14:31:00Z', 'orders', 'one', '{{}}', '{{}}', 'it filled')
"""


def by_hand(ledger: Ledger, *statements: str) -> None:
    """What somebody does who takes the rules of the file away."""
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as connection:
        for trigger in ("stated_flows_are_kept", "ledger_changes_stay", "ledger_changes_are_kept"):
            connection.execute(f"DROP TRIGGER IF EXISTS {trigger}")
        for statement in statements:
            connection.execute(statement)


@pytest.fixture
def ledger(home: Home) -> Ledger:
    """Two changes, and two flows."""
    written = Ledger(home.path / "ledger.sqlite")
    for amount in (100, 250):
        written.state_flow(
            *(DEMO_ACCOUNT, date(2026, 11, 20), "deposit", Decimal(amount)),
            **{"symbol": None, "quantity": None, "note": None, "stated_by": "owner"},
        )
    by_hand(written, ABOUT_A_CHANGE, ABOUT_A_CHANGE)
    return written


@pytest.fixture
def anchors(ledger: Ledger, tmp_path: Path) -> str:
    path = str(tmp_path / "anchors.jsonl")
    result = run("audit", "--anchor", path)
    assert result.exit_code == 0, result.output
    return path


def test_what_is_added_and_taken_back_is_as_it_was(ledger: Ledger, anchors: str) -> None:
    ledger.remove_flow(1, "owner")
    by_hand(ledger, ABOUT_A_CHANGE)
    assert [len(chain.links) for chain in audit_ledger(ledger.path)] == [3, 2]
    result = run("audit", "--against", anchors)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("table", "statement"),
    [
        ("stated_flows", "UPDATE stated_flows SET amount = '101' WHERE flow_id = 1"),
        ("ledger_changes", "UPDATE ledger_changes SET why = 'it was cancelled' WHERE change_id = 2"),
    ],
)
def test_a_row_that_was_changed_is_named_by_what_was_anchored(
    ledger: Ledger, anchors: str, table: str, statement: str
) -> None:
    by_hand(ledger, statement)
    result = run("audit", "--against", anchors)
    assert result.exit_code == 1
    assert f"the chain of _{table} has no line 2 of the hash" in result.stdout


@pytest.mark.parametrize(("table", "number"), [("stated_flows", 1), ("ledger_changes", 2)])
def test_a_row_that_was_removed_is_named_without_an_anchor(ledger: Ledger, table: str, number: int) -> None:
    key = "flow_id" if table == "stated_flows" else "change_id"
    by_hand(ledger, f"DELETE FROM {table} WHERE {key} = {number}")
    result = run("audit", "--quick")
    assert result.exit_code == 1
    assert f"row {number} of {table} in {ledger.path} was removed" in result.stdout


def test_a_ledger_that_is_no_database_is_named(ledger: Ledger) -> None:
    ledger.path.write_bytes(b"\0" * 8192)
    ((chain,), path) = audit_ledger(ledger.path), ledger.path
    assert [damage.path for damage in chain.wrong] == [str(path)]
