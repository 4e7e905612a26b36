"""A problem is one thing over time: it begins, lasts and ends, and comes back as another one."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradier_pipeline.reconcile import conservation, fills, findings, trades
from tradier_pipeline.reconcile.facts import Facts
from tradier_pipeline.reconcile.findings import (
    ACTIONS,
    DOUBTFUL,
    UNEXPLAINED,
    UNKNOWN_WORD,
    Finding,
    FindingScope,
    FindingState,
    findings_of,
    update_findings,
)
from tradier_pipeline.reconcile.orders import OrderRow
from tradier_pipeline.reconcile.reconciliation import Reconciliation, reconcile
from tradier_pipeline.reconcile.trades import TradeReconciliation
from tradier_pipeline_tests.reconcile.values import ACCOUNT, AS_OF, broker_order, engine_order, put, trade

MINUTE = timedelta(minutes=1)
MISSING = Finding("legs_missing", "t-1", "error", "less is held than it ought to hold", ("-1 of -2",))
CODES = ("legs_missing", "order_missing", UNEXPLAINED)


def scope(minute: int = 0, **fields: bool) -> FindingScope:
    return FindingScope(f"snapshot {minute}", ACCOUNT, AS_OF + minute * MINUTE, **fields)


def after(*said: Sequence[Finding]) -> list[FindingState]:
    """The rows after snapshots a minute apart, as a table keeps them."""
    rows: list[FindingState] = []
    for minute, found in enumerate(said):
        rows = step(rows, found, scope(minute))
    return rows


def step(rows: list[FindingState], said: Sequence[Finding], seen: FindingScope) -> list[FindingState]:
    is_open = [row for row in rows if row.resolved_at is None]
    return [*(row for row in rows if row.resolved_at is not None), *update_findings(is_open, said, seen)]


def test_the_same_problem_is_one_row_that_says_since_when_how_often_and_what_was_last_seen() -> None:
    worse = replace(MISSING, text="nothing is held", evidence=("0 of -2",))
    (row,) = after([MISSING], [MISSING], [worse])
    assert (row.finding_id, row.times_seen, row.resolved_at) == (f"{ACCOUNT}:legs_missing:t-1", 3, None)
    assert (row.first_snapshot_id, row.last_snapshot_id) == ("snapshot 0", "snapshot 2")
    assert (row.last_seen - row.first_seen, row.text, row.evidence) == (2 * MINUTE, "nothing is held", "0 of -2")


def test_what_a_good_snapshot_does_not_show_is_resolved_and_what_comes_back_is_another_row() -> None:
    first, second = after([MISSING], [], [], [MISSING])
    assert (first.resolved_at, first.times_seen) == (AS_OF + MINUTE, 1)
    assert (second.finding_id, second.first_seen, second.resolved_at) == (first.finding_id, AS_OF + 3 * MINUTE, None)


def test_two_problems_of_one_kind_with_one_trade_are_one_row_with_both_evidences() -> None:
    twice = [replace(MISSING, code="wrong_effect", evidence=(f"order {number}",)) for number in (7, 8)]
    (row,) = after(twice, twice)
    assert (row.evidence, row.times_seen) == ("order 7; order 8", 2)


def test_a_snapshot_that_could_not_be_set_beside_the_ledger_leaves_what_the_ledger_told() -> None:
    rows = step(after([MISSING]), [], scope(1, ledger_read=False))
    assert rows == after([MISSING])


def test_a_change_that_nothing_explained_is_told_once_and_stays_open_until_the_next_day() -> None:
    deposit = Finding(UNEXPLAINED, "cash", "warn", "nothing explains +5000 of cash")
    rows = after([deposit], [], [])
    assert [row.resolved_at for row in rows] == [None]
    next_day = 24 * 60
    assert [row.resolved_at for row in step(rows, [], scope(next_day, conserved=False))] == [None]
    assert [row.resolved_at for row in step(rows, [], scope(next_day))] == [AS_OF + timedelta(days=1)]


def resolved(rows: Sequence[FindingState]) -> set[FindingState]:
    return {row for row in rows if row.resolved_at is not None}


SNAPSHOTS = st.lists(
    st.tuples(st.booleans(), st.booleans(), st.sets(st.tuples(st.sampled_from(CODES), st.sampled_from("ab")))),
    max_size=12,
)


@given(SNAPSHOTS)
def test_any_story_has_one_open_row_for_each_problem_and_counts_every_time_it_was_told(
    story: list[tuple[bool, bool, set[tuple[str, str]]]],
) -> None:
    rows: list[FindingState] = []
    reported: dict[str, int] = {}
    for minute, (doubtful, read, said) in enumerate(story):
        seen = scope(minute, doubtful=doubtful, ledger_read=read)
        shown = [Finding(code, subject, "warn", "text") for code, subject in sorted(said)]
        shown = findings_of(seen) if doubtful else shown
        before, rows = rows, step(rows, shown, seen)
        ids = {f"{ACCOUNT}:{problem.code}" + (f":{problem.subject}" if problem.subject else "") for problem in shown}
        for finding_id in ids:
            reported[finding_id] = reported.get(finding_id, 0) + 1
        opened = [row.finding_id for row in rows if row.resolved_at is None]
        assert len(opened) == len(set(opened))
        assert ids <= set(opened)
        if doubtful:
            assert resolved(rows) == resolved(before)
    assert {key: sum(row.times_seen for row in rows if row.finding_id == key) for key in reported} == reported
    assert {row.finding_id for row in rows} == set(reported)
    for row in rows:
        assert row.first_seen <= row.last_seen
        assert row.resolved_at is None or row.last_seen < row.resolved_at


# --- what a snapshot shows to be wrong --------------------------------------------------------------------------------


def test_a_doubtful_snapshot_shows_nothing_but_that_and_the_next_good_one_resolves_it() -> None:
    doubtful = scope(doubtful=True)
    said = findings_of(doubtful, evidence=("AAPL changed by +5, and 0 filled",), reconciled=of(OrderRow("ambiguous")))
    assert [(problem.code, problem.severity) for problem in said] == [(DOUBTFUL, "warn")]
    (row,) = step(update_findings([], said, doubtful), [], scope(1, ledger_read=False, conserved=False))
    assert (row.resolved_at, row.evidence) == (AS_OF + MINUTE, "AAPL changed by +5, and 0 filled")


def of(*rows: OrderRow) -> Reconciliation:
    facts = Facts("snapshot 0", ACCOUNT, AS_OF, {}, ())
    return Reconciliation(facts, rows, TradeReconciliation((), {}, ()))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (OrderRow("unmatched_ours", broker_order_id=7, broker_status="PLACED"), ("order_unmatched", "7", "error")),
        (OrderRow("unmatched_ours", broker_order_id=7, broker_status="REJECTED"), ("order_unmatched", "7", "warn")),
        (
            OrderRow("unmatched_ours", broker_order_id=7, broker_status="CANCELLED", broker_filled=Decimal(1)),
            ("order_unmatched", "7", "error"),
        ),
        (OrderRow("missing_at_broker", client_order_id="e-1"), ("order_missing", "e-1", "warn")),
        (OrderRow("ambiguous", client_order_id="e-1", broker_order_id=7), ("order_doubtful", "7", "error")),
        (
            OrderRow("matched", broker_order_id=7, differences=("x",), ledger_status="FILLED", broker_status="FILLED"),
            ("order_contradicts", "7", "warn"),
        ),
        (
            OrderRow("matched", broker_order_id=7, differences=("x",), ledger_status="FILLED", broker_status="PLACED"),
            ("order_contradicts", "7", "error"),
        ),
        (OrderRow("matched", broker_order_id=7), None),
        (OrderRow("unmatched_external", broker_order_id=7, broker_status="PLACED"), None),
    ],
)
def test_an_order_is_a_problem_when_the_broker_cannot_just_be_believed(
    row: OrderRow, expected: tuple[str, str, str] | None
) -> None:
    said = [(problem.code, problem.subject, problem.severity) for problem in findings_of(scope(), reconciled=of(row))]
    assert said == ([expected] if expected else [])


def test_what_the_ledger_only_has_to_take_over_is_a_proposal_and_no_problem() -> None:
    order = engine_order(broker_order_id=7)
    theirs = broker_order(7, "filled", {"sell_to_open": put(290), "buy_to_open": put(285)}, exec_quantity=1)
    facts = Facts("snapshot 0", ACCOUNT, AS_OF, {}, (theirs,))
    found = reconcile([order], [], facts)
    assert found.changes
    assert findings_of(scope(), reconciled=found) == []


def test_a_problem_of_a_trade_is_about_that_trade_and_a_stray_position_about_its_symbol() -> None:
    facts = Facts("snapshot 0", ACCOUNT, AS_OF, {put(270): Decimal(5), "MSFT": Decimal(5), put(290): Decimal(-1)}, ())
    found = reconcile([], [trade(opened_at=AS_OF - timedelta(days=1))], facts)
    said = {(problem.code, problem.subject) for problem in findings_of(scope(), reconciled=found)}
    assert {("legs_missing", "t-1"), ("position_without_trade", put(270))} <= said
    assert ("position_without_trade", "MSFT") not in said  # shares held by hand are no problem


def test_only_what_is_still_unexplained_after_the_next_snapshot_is_a_problem() -> None:
    changed = conservation.ItemChange("cash", Decimal(5000), ())
    in_flight = conservation.settle([changed], {})
    left = conservation.settle([], {"cash": conservation.Open(Decimal(5000))})
    assert findings_of(scope(), changes=in_flight) == []
    (problem,) = findings_of(scope(), changes=left)
    assert (problem.code, problem.subject, problem.text) == (
        UNEXPLAINED,
        "cash",
        "nothing explains +5000 of cash",
    )


def test_every_code_that_the_source_names_has_its_suggested_action_and_no_other_has() -> None:
    named = {
        DOUBTFUL,
        UNEXPLAINED,
        UNKNOWN_WORD,
        "order_unmatched",
        "order_missing",
        "order_doubtful",
        "order_contradicts",
    }
    for module in (trades, fills):
        for node in ast.walk(ast.parse(Path(str(module.__file__)).read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Finding":
                code = node.args[0]
                assert isinstance(code, ast.Constant)
                named.add(code.value)
    assert named == set(ACTIONS)
    assert all(action.endswith(".") and len(action) < 100 for action in findings.ACTIONS.values())


def test_an_order_filled_beyond_its_quantity_is_an_error_with_or_without_a_ledger_until_it_is_gone() -> None:
    sold = broker_order(7, "filled", {}, 10, **{"class": "equity"}, exec_quantity=12)
    one_leg = broker_order(8, "filled", {"buy_to_open": put(290), "sell_to_open": put(285)}, 1)
    beyond = one_leg.leg[0].model_copy(update={"exec_quantity": Decimal(2)})
    orders = [sold, one_leg.model_copy(update={"leg": (beyond, one_leg.leg[1])}), broker_order(9, "filled", {})]
    said = findings_of(scope(), orders=orders)
    assert [(problem.code, problem.subject, problem.severity) for problem in said] == [
        ("overfilled", "7", "error"),
        ("overfilled", "8", "error"),
    ]
    assert said[0].evidence == ("12 of 10 AAPL",)
    tracked = update_findings([], said, scope())
    (first, second) = update_findings(tracked, findings_of(scope(1, ledger_read=False)), scope(1, ledger_read=False))
    assert first.resolved_at is not None
    assert second.resolved_at is not None


def test_what_to_do_is_told_with_the_names_where_more_can_be_said() -> None:
    said = [Finding("exit_offered", "t-1", "warn", "x", action="link it")]
    (row,) = update_findings([], said, scope())
    assert row.suggested_action == "link it"
