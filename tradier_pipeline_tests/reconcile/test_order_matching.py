from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradier_pipeline.broker.models import Order
from tradier_pipeline.landing.manifest import LookupRecord
from tradier_pipeline.ledger.changes import broker_status, changed
from tradier_pipeline.ledger.records import SETTLED, EngineOrder
from tradier_pipeline.reconcile.facts import Facts
from tradier_pipeline.reconcile.findings import _of_order
from tradier_pipeline.reconcile.order_matching import OrderRow, reconcile_orders
from tradier_pipeline.reconcile.reconciliation import reconcile
from tradier_pipeline_tests.reconcile.values import ACCOUNT, AS_OF, broker_order, engine_order, legs, put

OPENING = {"sell_to_open": put(290), "buy_to_open": put(285)}
CLOSING = {"buy_to_close": put(290), "sell_to_close": put(285)}
FILLED = {"exec_quantity": 1, "remaining_quantity": 0, "avg_fill_price": Decimal("-2.00")}


def reconciled(ledger: Sequence[EngineOrder], broker: Sequence[Order], **options: Any) -> list[OrderRow]:
    return reconcile_orders(ledger, broker, account_id=ACCOUNT, as_of=AS_OF, **options)


def applied(ledger: Sequence[EngineOrder], rows: Sequence[OrderRow]) -> list[EngineOrder]:
    changes = {row.change.key: row.change for row in rows if row.change}
    return [changed(order, changes.get(order.client_order_id)) for order in ledger]


def test_b1_an_order_filled_at_the_broker_and_placed_in_the_ledger_becomes_filled():
    terms = {"legs": legs(1, **OPENING), "quantity": Decimal(1), "order_type": "credit"}
    ours = engine_order(broker_order_id=22223806, **terms)
    (row,) = reconciled([ours], [broker_order(22223806, "filled", OPENING, **FILLED)])
    assert (row.match_state, row.matched_by) == ("matched", "broker_id")
    assert "status: ledger PLACED, broker FILLED" in row.differences
    assert row.change is not None
    assert dict(row.change.after) == {
        "status": "FILLED",
        "raw_status": "filled",
        "filled_quantity": 1,
        "remaining_quantity": 0,
        "avg_fill_price": -2,
    }


def test_terms_that_the_ledger_lacks_are_filled_in_while_the_broker_still_shows_them():
    (row,) = reconciled([engine_order(broker_order_id=7)], [broker_order(7, "open", OPENING)])
    assert row.change is not None
    assert (row.change.after["legs"], row.change.after["order_type"]) == (legs(1, **OPENING), "credit")
    kept = engine_order(broker_order_id=7, legs=legs(2, **OPENING), quantity=Decimal(2), order_type="even")
    (row,) = reconciled([kept], [broker_order(7, "open", OPENING)])
    assert row.change is not None
    assert row.change.after == {"order_type": "credit", "raw_status": "open"}
    assert row.differences == ("ordered: ledger 2, broker 1", "order type: ledger even, broker credit")


def test_b2_b8_what_was_taken_over_is_never_proposed_again():
    ledger, broker = [engine_order()], [broker_order(7, "open", OPENING, tag="e-1")]
    once = applied(ledger, reconciled(ledger, broker))
    assert once[0].broker_order_id == 7
    assert [row.change for row in reconciled(once, broker)] == [None]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("pending", "PLACED"),
        ("open", "PLACED"),
        ("partially_filled", "PARTIAL"),
        ("filled", "FILLED"),
        ("canceled", "CANCELLED"),
        ("rejected", "REJECTED"),
        ("expired", "EXPIRED"),
        ("error", "ERROR"),
        *(
            (word, "PLACED")
            for word in ("held", "calculated", "pending_cancel", "accepted_for_bidding", "open_pending")
        ),
        ("suspended", "UNKNOWN"),
        ("Filled", "UNKNOWN"),
    ],
)
def test_b7_every_word_of_the_broker_has_its_own_status_and_no_other_word_is_understood(raw: str, expected: str):
    assert broker_status(raw) == expected


def test_a_word_that_is_not_understood_is_kept_and_told():
    (row,) = reconciled([engine_order(broker_order_id=7)], [broker_order(7, "suspended", OPENING)])
    assert row.change is not None
    assert (row.change.after["status"], row.change.after["raw_status"]) == ("UNKNOWN", "suspended")
    assert "the broker's word 'suspended' is not understood" in row.differences


@pytest.mark.parametrize("word", ["open", "pending_cancel", "held", "calculated", "accepted_for_bidding"])
def test_what_works_with_fills_is_partial_and_keeps_the_word_of_the_broker(word: str):
    theirs = broker_order(7, word, OPENING, 5, exec_quantity=2, remaining_quantity=3, avg_fill_price=Decimal("-2"))
    (row,) = reconciled([engine_order(broker_order_id=7)], [theirs])
    assert row.change is not None
    after = row.change.after
    assert (after["status"], after["raw_status"], after["filled_quantity"]) == ("PARTIAL", word, 2)


def test_b3_b5_a_live_order_the_broker_does_not_show_is_missing_and_stays_live():
    ours = engine_order(broker_order_id=7, created_at=AS_OF - timedelta(days=10))
    (row,) = reconciled([ours], [])
    assert (row.match_state, row.change) == ("missing_at_broker", None)
    misses = LookupRecord(order_id=7, state="not_found", times_not_found=2, reason="Unauthorized Account")
    (row,) = reconciled([ours], [], lookups=[misses])
    assert (row.match_state, row.change) == ("missing_at_broker", None)
    assert "did not know its id 2 times" in row.differences[0]


def test_c8_a_failed_lookup_says_nothing_about_the_order():
    failed = LookupRecord(order_id=7, state="failed", reason="HTTP 500")
    (row,) = reconciled([engine_order(broker_order_id=7)], [], lookups=[failed])
    assert (row.match_state, row.change) == ("missing_at_broker", None)
    assert row.differences == ("the broker does not list it; asking for it by its id failed (HTTP 500)",)


def test_an_order_written_after_the_snapshot_was_read_is_no_business_of_that_snapshot():
    assert reconciled([engine_order(created_at=AS_OF + timedelta(seconds=1))], []) == []


def test_orders_settled_on_earlier_days_need_no_row():
    old = engine_order(status="FILLED", broker_order_id=7, created_at=AS_OF - timedelta(days=1))
    assert reconciled([old], []) == []
    (row,) = reconciled([old.model_copy(update={"created_at": AS_OF - timedelta(hours=1)})], [])
    assert row.match_state == "missing_at_broker"


def test_b9_a_cancelled_order_keeps_the_part_that_was_filled():
    theirs = broker_order(
        7, "canceled", OPENING, 5, exec_quantity=2, remaining_quantity=0, avg_fill_price=Decimal("-2")
    )
    (row,) = reconciled([engine_order(broker_order_id=7, quantity=Decimal(5))], [theirs])
    assert row.change is not None
    assert (row.change.after["status"], row.change.after["filled_quantity"]) == ("CANCELLED", 2)


def test_b10_a_missing_id_is_filled_in_by_the_tag_one_to_one():
    ledger = [engine_order("e-1", status="PENDING"), engine_order("e-2", status="PENDING")]
    broker = [broker_order(8, "open", OPENING, tag="e-2"), broker_order(7, "open", OPENING, tag="e-1")]
    once = applied(ledger, reconciled(ledger, broker))
    assert [order.broker_order_id for order in once] == [7, 8]


@pytest.mark.parametrize(
    ("tag", "state"),
    [("GEKKOWORKS-ENTRY", "unmatched_ours"), ("theirs", "unmatched_external"), (None, "unmatched_external")],
)
def test_b12_b13_b15_orders_of_others_are_listed_and_nothing_is_proposed(tag: str | None, state: str):
    rows = reconciled([], [broker_order(7, "open", OPENING, tag=tag)], tag_prefix="GEKKOWORKS-")
    assert [(row.match_state, row.broker_order_id, row.change) for row in rows] == [(state, 7, None)]


def test_b14_finished_orders_of_others_are_kept_and_not_listed():
    orders = (broker_order(7, "open"), broker_order(9, "canceled"))
    found = reconcile([], [], Facts("s", ACCOUNT, AS_OF, positions={}, orders=orders))
    assert [row.broker_order_id for row in found.orders] == [7, 9]
    assert [row.broker_order_id for row in found.unmatched] == [7]


def test_b16_two_rows_with_one_broker_id_are_ambiguous():
    rows = reconciled(
        [engine_order("e-1", broker_order_id=7), engine_order("e-2", broker_order_id=7)],
        [broker_order(7, "filled", OPENING, **FILLED)],
    )
    assert {row.match_state for row in rows} == {"ambiguous"}
    assert [row.change for row in rows] == [None, None, None]


def test_b17_a_second_order_under_one_tag_is_told_and_the_first_stays_matched():
    ledger = [engine_order("e-1", broker_order_id=7)]
    broker = [broker_order(7, "open", OPENING, tag="e-1"), broker_order(9, "open", OPENING, tag="e-1")]
    assert [row.match_state for row in reconciled(ledger, broker)] == ["matched", "unmatched_ours"]
    unknown = [engine_order("e-1")]
    rows = reconciled(unknown, broker)
    assert [(row.match_state, row.change) for row in rows] == [("ambiguous", None)] * 3


def test_b18_orders_that_look_alike_are_suggested_and_never_written():
    twins = [engine_order(name, legs=legs(1, **OPENING), quantity=Decimal(1)) for name in ("e-1", "e-2")]
    rows = reconciled(twins, [broker_order(7, "open", OPENING)])
    assert [row.change for row in rows] == [None, None, None]
    assert {row.client_order_id: row.suggested for row in rows} == {
        "e-1": ("7",),
        "e-2": ("7",),
        None: ("e-1", "e-2"),
    }


def test_b23_an_opening_order_is_never_taken_for_an_exit():
    ours = engine_order("x-1", role="EXIT", broker_order_id=7)
    rows = reconciled([ours], [broker_order(7, "filled", OPENING, **FILLED)])
    assert [(row.match_state, row.change) for row in rows] == [("ambiguous", None)] * 2
    (row,) = reconciled([ours], [broker_order(7, "filled", CLOSING, **FILLED)])
    assert row.change is not None


def test_an_id_that_names_other_contracts_is_ambiguous():
    ours = engine_order(broker_order_id=7, legs=legs(1, sell_to_open=put(280), buy_to_open=put(275)))
    rows = reconciled([ours], [broker_order(7, "filled", OPENING, **FILLED)])
    assert {row.match_state for row in rows} == {"ambiguous"}


def test_an_id_and_a_tag_that_point_to_different_orders_are_ambiguous():
    rows = reconciled([engine_order("e-1", broker_order_id=8)], [broker_order(7, "open", OPENING, tag="e-1")])
    assert [(row.match_state, row.change) for row in rows] == [("ambiguous", None)] * 2


def reported(rows: Sequence[OrderRow]) -> list[tuple[str | None, int | None, str, bool]]:
    return [(row.client_order_id, row.broker_order_id, row.match_state, row.change is not None) for row in rows]


def test_an_order_that_one_row_names_by_id_and_another_by_tag_is_in_doubt_for_all():
    for other in ({}, {"account_id": "VA99999999"}, {"broker_order_id": 9}):
        ledger = [engine_order("e-1", broker_order_id=7), engine_order("e-2", **other)]
        rows = reconciled(ledger, [broker_order(7, "filled", OPENING, tag="e-2", **FILLED)])
        mine = {("e-1", 7, "ambiguous", False), (None, 7, "ambiguous", False)}
        assert mine <= set(reported(rows)), other
        assert not any(row.change for row in rows)


def test_ids_that_are_exchanged_are_in_doubt_on_both_sides():
    ledger = [engine_order("e-1", broker_order_id=7), engine_order("e-2", broker_order_id=8)]
    rows = reconciled(ledger, [broker_order(7, "open", OPENING, tag="e-2"), broker_order(8, "open", tag="e-1")])
    assert {row.match_state for row in rows} == {"ambiguous"}
    assert len(rows) == 4


def test_a_tag_that_the_ledger_does_not_know_contradicts_an_id():
    rows = reconciled([engine_order("e-1", broker_order_id=7)], [broker_order(7, "filled", tag="other", **FILLED)])
    assert reported(rows) == [(None, 7, "ambiguous", False), ("e-1", 7, "ambiguous", False)]
    problems = [_of_order(row) for row in rows]
    assert [(problem.code, problem.severity) for problem in problems if problem] == [("order_doubtful", "error")] * 2
    (row,) = reconciled([engine_order("e-1", broker_order_id=7)], [broker_order(7, "filled", tag=None, **FILLED)])
    assert row.change is not None


@pytest.mark.parametrize(
    ("ledger", "tags", "prefix"),
    [
        pytest.param({"7": 7}, {7: "app"}, None, id="a client order id that is the broker's"),
        pytest.param({"old-1": 7}, {7: "app"}, "bot-", id="neither is ours by the prefix"),
        pytest.param({"e-1": 7}, {7: "ENTRY", 8: "ENTRY"}, None, id="a tag of a sort"),
        pytest.param({"e-1": 7, "e-2": 8}, {7: "x-1", 8: "x-2"}, None, id="no tag is an id of the ledger"),
    ],
)
def test_a_ledger_whose_ids_are_no_tags_is_matched_by_the_ids_of_the_broker(
    ledger: dict[str, int], tags: dict[int, str], prefix: str | None
):
    ours = [engine_order(name, broker_order_id=number) for name, number in ledger.items()]
    rows = reconciled(ours, [broker_order(number, tag=tag) for number, tag in tags.items()], tag_prefix=prefix)
    assert {row.client_order_id for row in rows if row.match_state == "matched"} == ledger.keys()


def test_a_tag_that_looks_like_ours_contradicts_an_id_of_a_row_that_has_none():
    rows = reconciled(
        [engine_order("old-1", broker_order_id=7)], [broker_order(7, tag="bot-9", **FILLED)], tag_prefix="bot-"
    )
    assert {row.match_state for row in rows} == {"ambiguous"}


def test_what_was_modified_at_the_broker_is_told_and_proposed():
    ours = engine_order(broker_order_id=7, order_type="credit", limit_price=Decimal("2.10"), duration="day")
    theirs = broker_order(7, "open", OPENING, type="credit", price=Decimal("1.9500"), duration="gtc")
    (row,) = reconciled([ours], [theirs])
    assert row.change is not None
    assert {name: row.change.after.get(name) for name in ("order_type", "limit_price", "duration")} == {
        "order_type": None,
        "limit_price": Decimal("1.95"),
        "duration": "gtc",
    }
    assert row.differences == ("limit price: ledger 2.1, broker 1.95", "duration: ledger day, broker gtc")
    (row,) = reconciled([ours], [broker_order(7, "open", OPENING, type="market", price=None)])
    assert row.change is not None
    assert (row.change.after["order_type"], "limit_price" in row.change.after) == ("market", False)


def test_a_limit_price_has_no_sign():
    ours = engine_order(broker_order_id=7, order_type="credit", limit_price=Decimal("-2.10"))
    (row,) = reconciled([ours], [broker_order(7, "open", OPENING, type="credit", price=Decimal("2.10"))])
    assert row.differences == ()


def package(sides: dict[str, int], lots: int, done: int, exec_quantity: int, rest: int, status: str) -> Order:
    """An order of so many packages, whose legs have a ratio each, `done` of them filled."""
    theirs = broker_order(7, status, dict(zip(("sell_to_open", "buy_to_open"), sides, strict=True)), lots)
    legs_of = [
        leg.model_copy(update={"quantity": Decimal(lots * ratio), "exec_quantity": Decimal(done * ratio)})
        for leg, ratio in zip(theirs.leg, sides.values(), strict=True)
    ]
    counts = {"exec_quantity": Decimal(exec_quantity), "remaining_quantity": Decimal(rest)}
    return theirs.model_copy(update={"leg": tuple(legs_of), "avg_fill_price": Decimal("-2"), **counts})


@pytest.mark.parametrize(
    ("ratios", "lots", "done", "exec_quantity", "rest"),
    [
        ((1, 1), 1, 1, 1, 0),
        ((1, 1), 1, 1, 2, 0),
        ((1, 1), 10, 4, 4, 6),
        ((1, 1), 10, 4, 8, 12),
        ((1, 2), 1, 1, 3, 0),
        ((1, 2), 5, 2, 6, 9),
        ((2, 3), 4, 3, 15, 5),
    ],
)
def test_a_package_is_counted_by_its_legs_whether_the_broker_counts_packages_or_contracts(
    ratios: tuple[int, int], lots: int, done: int, exec_quantity: int, rest: int
):
    status = "filled" if done == lots else "partially_filled"
    theirs = package(dict(zip((put(290), put(285)), ratios, strict=True)), lots, done, exec_quantity, rest, status)
    (row,) = reconciled([engine_order(broker_order_id=7, quantity=Decimal(lots))], [theirs])
    assert row.change is not None
    after = row.change.after
    assert (after["filled_quantity"], after["remaining_quantity"]) == (done, 0 if done == lots else lots - done)
    assert "quantity" not in after


def test_a_package_that_is_ordered_in_contracts_is_as_many_packages_as_its_legs():
    theirs = package({put(290): 1, put(285): 1}, 3, 3, 6, 0, "filled").model_copy(update={"quantity": Decimal(6)})
    (row,) = reconciled([engine_order(broker_order_id=7)], [theirs])
    assert row.change is not None
    assert (row.change.after["quantity"], row.change.after["filled_quantity"]) == (3, 3)


def test_of_legs_that_filled_unevenly_the_package_has_what_all_have():
    theirs = package({put(290): 1, put(285): 1}, 5, 3, 7, 3, "partially_filled")
    uneven = (theirs.leg[0], theirs.leg[1].model_copy(update={"exec_quantity": Decimal(4)}))
    (row,) = reconciled([engine_order(broker_order_id=7)], [theirs.model_copy(update={"leg": uneven})])
    assert row.change is not None
    assert row.change.after["filled_quantity"] == 3


def test_an_order_without_its_legs_is_matched_and_its_underlying_is_no_leg():
    ours = engine_order(broker_order_id=7, legs=legs(1, **OPENING), quantity=Decimal(1))
    (row,) = reconciled([ours], [broker_order(7, "filled", {}, exec_quantity=2, avg_fill_price=Decimal("-2"))])
    assert row.change is not None
    assert (row.change.after["status"], row.change.after["filled_quantity"]) == ("FILLED", 1)
    assert "the broker does not tell its legs" in row.differences
    partial = broker_order(7, "partially_filled", {}, 10, exec_quantity=4, avg_fill_price=Decimal("-2"))
    (row,) = reconciled([engine_order(broker_order_id=7, quantity=Decimal(10))], [partial])
    assert row.change is not None
    assert "filled_quantity" not in row.change.after  # four packages, or two: the broker does not say


@pytest.mark.parametrize("status", ["PLACED", "PARTIAL", "FILLED"])
def test_of_an_order_that_was_filled_beyond_its_quantity_nothing_is_proposed(status: Any):
    theirs = broker_order(7, "filled", {}, 10, **{"class": "equity"}, exec_quantity=12, avg_fill_price=5)
    ours = engine_order(status=status, broker_order_id=7, quantity=Decimal(10), filled_quantity=Decimal(10))
    (row,) = reconciled([ours], [theirs])
    assert (row.overfilled, row.change) == (True, None)


@pytest.mark.parametrize("status", sorted(SETTLED))
def test_what_has_settled_never_becomes_live_again(status: Any):
    (row,) = reconciled([engine_order(status=status, broker_order_id=7)], [broker_order(7, "open", OPENING)])
    assert row.change is None
    assert f"{status} never becomes PLACED again" in row.differences


def test_c9_an_order_cancelled_by_the_ledger_and_filled_at_the_broker_is_filled():
    (row,) = reconciled(
        [engine_order(status="CANCELLED", broker_order_id=7)], [broker_order(7, "filled", OPENING, **FILLED)]
    )
    assert row.change is not None
    assert row.change.after["status"] == "FILLED"


def test_a_fill_without_a_price_writes_no_price():
    theirs = broker_order(7, "filled", OPENING, exec_quantity=1, remaining_quantity=0, avg_fill_price=0)
    (row,) = reconciled([engine_order(broker_order_id=7, limit_price=Decimal("2.10"))], [theirs])
    assert row.change is not None
    assert "avg_fill_price" not in row.change.after
    assert "filled without a price yet" in row.differences


def test_fewer_fills_than_are_known_change_nothing():
    ours = engine_order(status="PARTIAL", broker_order_id=7, filled_quantity=Decimal(3))
    (row,) = reconciled([ours], [broker_order(7, "partially_filled", OPENING, 5, exec_quantity=2)])
    assert row.change is None


def test_the_orders_of_another_account_are_left_alone_and_their_tags_are_ours():
    elsewhere = engine_order("e-1", account_id="VA99999999")
    (row,) = reconciled([elsewhere], [broker_order(7, "open", OPENING, tag="e-1")])
    assert (row.match_state, row.change) == ("unmatched_ours", None)


STATUSES = ("open", "pending", "partially_filled", "filled", "canceled", "rejected", "expired", "error", "held")


@st.composite
def books(draw: st.DrawFn) -> tuple[list[EngineOrder], list[Order]]:
    numbers = st.none() | st.integers(1, 4).map(lambda number: number * 10)
    ledger = [
        engine_order(
            name,
            role=draw(st.sampled_from(["ENTRY", "EXIT"])),
            status=draw(st.sampled_from(["PENDING", "PLACED", "PARTIAL", "FILLED", "CANCELLED", "UNKNOWN"])),
            broker_order_id=draw(numbers),
            filled_quantity=draw(st.none() | st.integers(0, 3).map(Decimal)),
        )
        for name in draw(st.sets(st.sampled_from(["e-1", "e-2", "e-3"])))
    ]
    broker = [
        broker_order(
            number * 10,
            draw(st.sampled_from(STATUSES)),
            draw(st.sampled_from([OPENING, CLOSING])),
            3,
            tag=draw(st.none() | st.sampled_from(["e-1", "e-2", "e-3", "other"])),
            exec_quantity=draw(st.integers(0, 3)),
            avg_fill_price=draw(st.sampled_from([0, Decimal("-2.10")])),
        )
        for number in draw(st.sets(st.integers(1, 4)))
    ]
    return ledger, broker


@given(books())
def test_the_changes_of_any_books_settle_at_once_and_use_each_order_once(state: tuple[list[EngineOrder], list[Order]]):
    ledger, broker = state
    rows = reconciled(ledger, broker)
    used = [row.broker_order_id for row in rows if row.match_state == "matched"]
    assert len(used) == len(set(used))
    reported = [row.broker_order_id or 0 for row in rows if row.raw_status is not None]
    assert sorted(reported) == sorted(order.id for order in broker)  # every broker order has exactly one row
    assert [row.change for row in reconciled(applied(ledger, rows), broker) if row.change] == []


@given(books())
def test_the_order_of_the_rows_read_does_not_matter(state: tuple[list[EngineOrder], list[Order]]):
    ledger, broker = state
    outcomes = {
        tuple((row.client_order_id, row.broker_order_id, row.match_state) for row in reconciled(shuffled, broker[::-1]))
        for shuffled in permutations(ledger)
    }
    assert len(outcomes) == 1
