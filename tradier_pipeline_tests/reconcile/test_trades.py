"""The incidents of the old system, and what must hold for any state of ledger and broker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradier_pipeline.ledger.changes import LedgerChange, changed
from tradier_pipeline.ledger.records import HOLDING, EngineOrder, Trade
from tradier_pipeline.reconcile.ends import End, Fate, Moved, ends_of
from tradier_pipeline.reconcile.facts import Facts
from tradier_pipeline.reconcile.holdings import Holdings
from tradier_pipeline.reconcile.reconciliation import reconcile
from tradier_pipeline.reconcile.trades import TradeRow
from tradier_pipeline.reconcile.unrealized import is_credit
from tradier_pipeline_tests.reconcile.values import (
    ACCOUNT,
    AS_OF,
    EARLIER,
    EXPIRATION,
    broker_order,
    call,
    engine_order,
    legs,
    put,
    trade,
)

OPENING = {"sell_to_open": put(290), "buy_to_open": put(285)}
CLOSING = {"buy_to_close": put(290), "sell_to_close": put(285)}
HELD = {put(290): -1, put(285): 1}
NOTHING: dict[str, int] = {}


def shown(
    positions: Mapping[str, int] = NOTHING,
    orders: Sequence[Any] = (),
    *,
    before: Mapping[str, int] | None = None,
    as_of: datetime = AS_OF,
    shares: Mapping[str, int] = NOTHING,
    doubtful: bool = False,
) -> Facts:
    """What a snapshot shows; `before` is what the one before it showed."""
    earlier = None
    if before is not None:
        held = frozenset((symbol, "long" if amount > 0 else "short") for symbol, amount in before.items())
        earlier = Holdings(f"{ACCOUNT}@before", as_of - timedelta(minutes=1), held)
    return Facts(
        snapshot_id=f"{ACCOUNT}@now",
        account_id=ACCOUNT,
        as_of=as_of,
        positions={symbol: Decimal(amount) for symbol, amount in positions.items()},
        orders=tuple(orders),
        before=earlier,
        shares_before={trade_id: Decimal(amount) for trade_id, amount in shares.items()},
        session_open=as_of.replace(hour=14, minute=30, second=0, microsecond=0),
        doubtful=doubtful,
    )


def one(orders: Sequence[EngineOrder], trades: Sequence[Trade], facts: Facts) -> TradeRow:
    (row,) = reconcile(orders, trades, facts).trades.rows
    return row


def codes(row: TradeRow) -> set[str]:
    return {finding.code for finding in row.findings}


def filled_entry(number: int = 7, trade_id: str = "t-1", quantity: int = 1, price: str = "-2.00") -> EngineOrder:
    return engine_order(
        f"e-{number}",
        status="FILLED",
        broker_order_id=number,
        trade_id=trade_id,
        order_type="credit",
        legs=legs(quantity, **OPENING),
        quantity=Decimal(quantity),
        filled_quantity=Decimal(quantity),
        avg_fill_price=Decimal(price),
    )


def exit_order(number: int | None = 9, status: Any = "PLACED", trade_id: str = "t-1", **fields: Any) -> EngineOrder:
    return engine_order(
        f"x-{number}",
        "EXIT",
        status,
        **{
            "broker_order_id": number,
            "trade_id": trade_id,
            "order_type": "debit",
            "legs": legs(1, **CLOSING),
            "quantity": Decimal(1),
        }
        | fields,
    )


def filled_exit(number: int = 9, price: str = "0.55", **fields: Any) -> EngineOrder:
    return exit_order(number, "FILLED", filled_quantity=Decimal(1), avg_fill_price=Decimal(price), **fields)


def test_what_a_trade_opened_is_told_of_its_contracts_also_when_it_is_over():
    closed = trade(status="CLOSED", quantity=2, exit_reason="EXPIRED", closed_at=AS_OF)
    row = one([], [closed], shown())
    assert (row.strategy, row.claimed) == ("bull_put_credit", {})
    assert row.legs == {put(290): -2, put(285): 2}
    pending = one([], [trade(status="ENTRY_PENDING")], shown())
    assert pending.legs == {}


def test_an_end_that_the_engine_wrote_since_the_last_snapshot_is_told_once():
    """An expiry is known over night: it is of the day before, and no snapshot was taken meanwhile."""
    over = {"status": "CLOSED", "exit_reason": "EXPIRED", "exit_price": Decimal("0.10"), "exit_price_source": "history"}
    over |= {"entry_price": Decimal("2.00"), "entry_price_source": "fills", "realized_pnl": Decimal(190)}
    over |= {"opened_at": AS_OF - timedelta(days=4), "closed_at": AS_OF - timedelta(days=1)}
    reported = [
        reconcile([], [trade(updated_at=AS_OF - age, **over)], shown(before={})).trades.rows
        for age in (timedelta(seconds=59), timedelta(seconds=61))
    ]
    assert [len(rows) for rows in reported] == [1, 0]


# --- entries ----------------------------------------------------------------------------------------------------------


def test_an_entry_filled_at_the_broker_opens_its_trade_in_the_same_pass():
    theirs = broker_order(7, "filled", OPENING, exec_quantity=1, remaining_quantity=0, avg_fill_price=Decimal("-2.00"))
    orders = [engine_order("e-1", trade_id="t-1", broker_order_id=7)]
    row = one(orders, [trade(status="ENTRY_PENDING")], shown(HELD, [theirs]))
    assert row.change is not None
    assert dict(row.change.after) == {
        "status": "OPEN",
        "entry_price": 2,
        "entry_price_source": "fills",
        "opened_at": EARLIER,
        "broker_order_id_open": 7,
    }


def test_b2_a_transition_that_was_not_written_is_concluded_again_from_the_order_alone():
    row = one([filled_entry()], [trade(status="ENTRY_PENDING")], shown(HELD))
    assert (row.status, row.entry_price) == ("OPEN", 2)


@pytest.mark.parametrize("status", ["CANCELLED", "REJECTED", "EXPIRED", "ERROR"])
def test_an_entry_that_ended_without_a_fill_cancels_its_trade_and_says_why(status: Any):
    orders = [engine_order("e-1", status=status, trade_id="t-1", broker_order_id=7)]
    row = one(orders, [trade(status="ENTRY_PENDING")], shown())
    assert (row.status, row.exit_reason) == ("CANCELLED", f"ENTRY_{status}")


def test_b9_a_cancelled_entry_keeps_the_part_that_was_filled():
    theirs = broker_order(7, "canceled", OPENING, 5, exec_quantity=2, avg_fill_price=Decimal("-2.00"))
    orders = [engine_order("e-1", trade_id="t-1", broker_order_id=7, legs=legs(5, **OPENING), quantity=Decimal(5))]
    row = one(orders, [trade(status="ENTRY_PENDING", quantity=5)], shown({put(290): -2, put(285): 2}, [theirs]))
    assert row.change is not None
    assert (row.status, row.change.after["quantity"]) == ("OPEN", 2)
    assert [leg.quantity for leg in row.change.after["legs"]] == [2, 2]
    assert codes(row) == set()


@pytest.mark.parametrize("quantity", [1, 3, 4])
def test_a_quantity_that_was_changed_by_hand_becomes_what_was_filled_and_no_price_is_divided_by_it(quantity: int):
    held = trade(quantity=quantity, legs=legs(2, short=put(290), long=put(285)), entry_price=Decimal(2))
    row = one([filled_entry(quantity=2)], [held], shown({put(290): -2, put(285): 2}))
    assert row.change is not None
    assert (row.change.after["quantity"], row.entry_price) == (2, 2)
    assert "legs" not in row.change.after


def test_c8_an_entry_that_is_not_shown_is_still_on_its_way():
    orders = [engine_order("e-1", trade_id="t-1", broker_order_id=7, created_at=AS_OF - timedelta(days=10))]
    row = one(orders, [trade(status="ENTRY_PENDING", broker_order_id_open=7)], shown())
    assert (row.status, row.change) == ("ENTRY_PENDING", None)


def test_a_position_that_nobody_claims_keeps_an_unfilled_entry_from_being_cancelled():
    orders = [engine_order("e-1", status="CANCELLED", trade_id="t-1", broker_order_id=7)]
    row = one(orders, [trade(status="ENTRY_PENDING", broker_order_id_open=7)], shown(HELD))
    assert (row.status, row.change) == ("ENTRY_PENDING", None)


def test_c9_a_cancelled_trade_whose_entry_was_filled_stays_and_is_told():
    row = one([filled_entry()], [trade(status="CANCELLED")], shown(HELD))
    assert (row.status, row.change, codes(row)) == ("CANCELLED", None, {"cancelled_but_filled"})


def test_c19_a_price_that_comes_late_does_not_move_the_opening():
    opened = EARLIER - timedelta(hours=3)
    theirs = broker_order(7, "filled", OPENING, exec_quantity=1, remaining_quantity=0, avg_fill_price=Decimal("-2.00"))
    orders = [engine_order("e-1", status="FILLED", trade_id="t-1", broker_order_id=7)]
    row = one(orders, [trade(opened_at=opened, broker_order_id_open=7)], shown(HELD, [theirs]))
    assert row.change is not None
    assert dict(row.change.after) == {"entry_price": 2, "entry_price_source": "fills"}


def test_a_fill_whose_price_is_not_told_yet_opens_the_trade_without_a_price():
    order = filled_entry().model_copy(update={"avg_fill_price": None, "limit_price": Decimal("2.10")})
    row = one([order], [trade(status="ENTRY_PENDING")], shown(HELD))
    assert (row.status, row.entry_price, codes(row)) == ("OPEN", None, {"entry_price_unknown"})


def test_a_zero_that_the_engine_wrote_for_a_price_it_did_not_know_is_no_price():
    row = one([filled_entry(price="0")], [trade(status="ENTRY_PENDING")], shown(HELD))
    assert (row.status, row.entry_price, codes(row)) == ("OPEN", None, {"entry_price_unknown"})
    even = filled_entry(price="0").model_copy(update={"order_type": "even"})
    assert one([even], [trade(status="ENTRY_PENDING")], shown(HELD)).entry_price == 0


def test_more_held_than_the_known_orders_opened_does_not_shrink_a_trade():
    row = one([filled_entry()], [trade(quantity=3)], shown({put(290): -3, put(285): 3}))
    assert row.change is not None
    assert "quantity" not in row.change.after
    assert codes(row) == {"more_held_than_filled"}
    assert one([filled_entry()], [trade(quantity=3)], shown(HELD)).change.after["quantity"] == 1  # type: ignore[union-attr]


def test_orders_of_unknown_size_do_not_change_the_size_of_their_trade():
    unsized = filled_entry().model_copy(update={"quantity": None, "filled_quantity": None})
    row = one([unsized, filled_entry(9)], [trade()], shown({put(290): -2, put(285): 2}))
    assert "quantity" not in (row.change.after if row.change else {})


def test_shares_are_bought_to_open_and_sold_to_close():
    held = trade(strategy=None, width=None, expiration=None, multiplier=1, legs=legs(10, long="AAPL"), quantity=10)
    bought, sold = (
        engine_order(
            name,
            role,
            "FILLED",
            broker_order_id=number,
            trade_id="t-1",
            legs=legs(10, **{side: "AAPL"}),
            quantity=Decimal(10),
            filled_quantity=Decimal(10),
            avg_fill_price=Decimal(price),
        )
        for name, role, number, side, price in (("e", "ENTRY", 7, "buy", "100.5"), ("x", "EXIT", 9, "sell", "101"))
    )
    row = one([bought, sold], [held], shown())
    assert (row.status, row.entry_price, row.exit_price, row.realized_pnl) == ("CLOSED", Decimal("100.5"), 101, 5)
    more = sold.model_copy(update={"legs": legs(10, buy="AAPL")})
    row = one([bought, more], [held], shown({"AAPL": 20}))
    assert (row.status, codes(row)) == ("OPEN", {"wrong_effect"})


@pytest.mark.parametrize(
    ("strategy", "sold", "bought", "paid", "credit"),
    [
        (None, "put 290, call 300", "", None, True),  # a strangle
        (None, "", "put 290, call 300", None, False),
        (None, "put 290", "put 285", None, None),  # either
        ("bull_put_credit", "put 290", "put 285", None, True),
        ("bull_put_debit", "put 290, call 300", "", None, False),
        ("bull_put_debit", "put 290", "put 285", "-1.50", True),  # its fills decide
        (None, "put 290, call 300", "", "0.05", False),
        (None, "", "", None, None),
    ],
)
def test_money_was_received_if_its_fills_its_name_or_legs_of_one_side_say_so(
    strategy: str | None, sold: str, bought: str, paid: str | None, credit: bool | None
):
    signed = {name: Decimal(-1) for name in filter(None, sold.split(", "))}
    signed |= {name: Decimal(1) for name in filter(None, bought.split(", "))}
    assert is_credit(strategy, signed, None if paid is None else Decimal(paid)) is credit


def test_a_strangle_whose_prices_its_engine_knows_has_its_profit():
    """Two legs of one side and no fills: what was received at the entry is paid for at the exit."""
    known = {"entry_price": Decimal(3), "entry_price_source": "engine", "strategy": None, "width": None}
    sold = trade(opened_at=EARLIER, legs=legs(1, short=put(290)) + legs(1, short=call(300)), **known)
    filled = filled_exit().model_copy(
        update={
            "legs": legs(1, buy_to_close=put(290)) + legs(1, buy_to_close=call(300)),
            "quantity": Decimal(1),
            "filled_quantity": Decimal(1),
            "avg_fill_price": Decimal(1),
        }
    )
    row = one([filled], [sold], shown())
    assert (row.status, row.exit_price, row.realized_pnl) == ("CLOSED", 1, 200)


def test_b18_one_order_is_the_entry_of_one_trade_only():
    orders = [filled_entry().model_copy(update={"trade_id": None})]
    twins = [trade(name, "ENTRY_PENDING", broker_order_id_open=7, created_at=EARLIER) for name in ("t-1", "t-2")]
    rows = reconcile(orders, twins, shown(HELD)).trades.rows
    assert [(row.status, row.change) for row in rows] == [("ENTRY_PENDING", None)] * 2
    assert all("order_claimed_twice" in codes(row) for row in rows)


def test_b22_entries_of_the_same_spread_in_the_same_minute_are_told():
    orders = [filled_entry(number, f"t-{number}") for number in (10, 20, 30)]
    trades = [trade(f"t-{number}", opened_at=EARLIER + timedelta(seconds=number)) for number in (10, 20, 30)]
    rows = reconcile(orders, trades, shown({put(290): -3, put(285): 3})).trades.rows
    assert ["duplicate_entry" in codes(row) for row in rows] == [True, True, True]


def test_a_trade_whose_entry_is_still_being_filled_is_not_over_when_what_it_has_is_closed():
    working = filled_entry(quantity=5).model_copy(update={"status": "PARTIAL", "filled_quantity": Decimal(1)})
    row = one([working, filled_exit()], [trade(quantity=5)], shown())
    assert (row.status, row.exit_price) == ("OPEN", None)
    ended = working.model_copy(update={"status": "CANCELLED"})
    assert one([ended, filled_exit()], [trade(quantity=5)], shown()).realized_pnl == 145


def test_b16_a_second_row_of_an_entry_that_never_reached_the_broker_holds_nothing_up():
    twin = engine_order("e-twin", status="PENDING", trade_id="t-1")
    assert one([filled_entry(), twin, filled_exit()], [trade()], shown()).status == "CLOSED"


# --- exits ------------------------------------------------------------------------------------------------------------


def test_an_exit_that_was_filled_closes_its_trade_at_its_price_with_dollars_and_multiplier():
    theirs = broker_order(
        9, "filled", CLOSING, type="debit", exec_quantity=1, remaining_quantity=0, avg_fill_price=Decimal("0.55")
    )
    row = one([filled_entry(), exit_order()], [trade(opened_at=EARLIER)], shown(NOTHING, [theirs]))
    assert row.change is not None
    assert dict(row.change.after) == {
        "status": "CLOSED",
        "entry_price": 2,
        "entry_price_source": "fills",
        "exit_price": Decimal("0.55"),
        "exit_price_source": "fills",
        "exit_reason": "NORMAL_EXIT",
        "realized_pnl": 145,
        "closed_at": EARLIER,
        "broker_order_id_open": 7,
        "broker_order_id_close": 9,
    }
    assert codes(row) == set()


def test_a_debit_trade_gains_what_it_was_sold_for_above_what_it_cost():
    sides = {"buy_to_open": call(290), "sell_to_open": call(295)}
    back = {"sell_to_close": call(290), "buy_to_close": call(295)}
    orders = [
        filled_entry(price="2.00").model_copy(update={"order_type": "debit", "legs": legs(1, **sides)}),
        filled_exit(price="-3.25", order_type="credit", legs=legs(1, **back)),
    ]
    spread = trade(strategy="bull_call_debit", legs=legs(1, long=call(290), short=call(295)))
    row = one(orders, [spread], shown())
    assert (row.entry_price, row.exit_price, row.realized_pnl) == (2, Decimal("3.25"), 125)


def test_c6_dollars_are_per_share_times_multiplier_and_never_clamped():
    row = one([filled_entry(price="-2.00"), filled_exit(price="5.30")], [trade()], shown())
    assert (row.exit_price, row.realized_pnl) == (Decimal("5.30"), -330)
    assert "exit_price_out_of_range" in codes(row)


@pytest.mark.parametrize("price", ["-0.05", "5.10"])
def test_a_price_a_tick_beyond_the_width_is_no_finding(price: str):
    kind = "credit" if price.startswith("-") else "debit"
    row = one([filled_entry(), filled_exit(price=price, order_type=kind)], [trade()], shown())
    assert (row.exit_price, codes(row)) == (Decimal(price), set())


def test_c15_legs_closed_one_by_one_have_one_net_price():
    singles = [
        exit_order(8, "FILLED", **{"class": "option"}, order_type="market", filled_quantity=Decimal(1)).model_copy(
            update={"legs": legs(1, buy_to_close=put(290)), "avg_fill_price": Decimal("1.40")}
        ),
        exit_order(9, "FILLED", **{"class": "option"}, order_type="market", filled_quantity=Decimal(1)).model_copy(
            update={"legs": legs(1, sell_to_close=put(285)), "avg_fill_price": Decimal("0.60")}
        ),
    ]
    row = one([filled_entry(), *singles], [trade()], shown())
    assert (row.status, row.exit_price, row.realized_pnl) == ("CLOSED", Decimal("0.80"), 120)
    half = one([filled_entry(), singles[0]], [trade()], shown({put(285): 1}))
    assert (half.status, half.exit_price) == ("OPEN", None)
    assert {"legs_uneven", "partly_closed"} <= codes(half)


@pytest.mark.parametrize(("number", "status"), [(22107708, "EXPIRED"), (22106142, "CANCELLED")])
def test_c1_a_trade_is_not_closed_by_an_order_that_was_not_filled(number: int, status: Any):
    orders = [filled_entry(), exit_order(number, status)]
    row = one(orders, [trade(status="CLOSING_PENDING", broker_order_id_close=number)], shown(HELD))
    assert row.change is not None
    assert (row.status, row.change.after["broker_order_id_close"]) == ("OPEN", None)
    wrong = one(orders, [trade(status="CLOSED", broker_order_id_close=number)], shown(HELD))
    assert wrong.status == "CLOSED"  # it never comes back, but it is reported
    assert "closed_without_fill" in codes(wrong)
    assert wrong.exit_price is None


def test_c2_a_closed_trade_without_a_price_keeps_a_finding_open_until_fills_tell_it():
    silent = filled_exit().model_copy(update={"avg_fill_price": None})
    row = one([filled_entry(), silent], [trade(status="CLOSED", exit_reason="PROFIT_TARGET")], shown())
    assert (row.exit_price, row.realized_pnl, codes(row)) == (None, None, {"exit_price_unknown"})
    reported = one([filled_entry(), filled_exit()], [trade(status="CLOSED", exit_reason="PROFIT_TARGET")], shown())
    assert (reported.exit_price, reported.realized_pnl, reported.exit_reason) == (Decimal("0.55"), 145, "PROFIT_TARGET")


def test_c5_a_price_of_zero_that_no_fill_told_is_not_taken_for_one():
    invented = trade(status="CLOSED", exit_price=Decimal(0), realized_pnl=None, exit_reason="BROKER_ALREADY_FLAT")
    row = one([filled_entry()], [invented], shown())
    assert row.realized_pnl is None
    assert "exit_price_unproven" in codes(row)
    corrected = one([filled_entry(), filled_exit()], [invented], shown())
    assert (corrected.exit_price, corrected.realized_pnl) == (Decimal("0.55"), 145)


def test_c8_a_closing_trade_whose_order_is_not_shown_stays_as_it_is():
    closing = trade(status="CLOSING_PENDING", broker_order_id_close=9)
    row = one([filled_entry()], [closing], shown(HELD))
    assert (row.status, codes(row)) == ("CLOSING_PENDING", {"order_unknown"})
    row = one([filled_entry(), exit_order(9)], [closing], shown(HELD))
    assert row.status == "CLOSING_PENDING"


def test_a_working_exit_makes_its_trade_closing():
    row = one([filled_entry(), exit_order(9)], [trade()], shown(HELD))
    assert (row.status, row.change and row.change.after["broker_order_id_close"]) == ("CLOSING_PENDING", 9)


def test_b16_a_second_row_of_an_exit_that_never_reached_the_broker_holds_nothing_up():
    twin = exit_order(None, "PENDING", created_at=AS_OF - timedelta(minutes=6))
    closed = one([filled_entry(), filled_exit(), twin], [trade(status="CLOSING_PENDING")], shown())
    assert (closed.status, codes(closed)) == ("CLOSED", {"sent_without_id"})
    back = one([filled_entry(), exit_order(9, "REJECTED"), twin], [trade(status="CLOSING_PENDING")], shown(HELD))
    assert back.status == "OPEN"
    fresh = twin.model_copy(update={"created_at": AS_OF - timedelta(minutes=4)})
    waits = one([filled_entry(), fresh], [trade(status="CLOSING_PENDING")], shown(HELD))
    assert (waits.status, codes(waits)) == ("CLOSING_PENDING", set())


def test_b23_an_entry_on_the_same_strikes_never_closes_the_trade_that_is_open_there():
    other = engine_order("e-9", trade_id=None, broker_order_id=9, status="FILLED", legs=legs(1, **OPENING))
    theirs = broker_order(9, "filled", OPENING, exec_quantity=1, remaining_quantity=0, avg_fill_price=Decimal("-2.10"))
    victim = trade(status="CLOSING_PENDING", broker_order_id_close=9)
    for orders in ([filled_entry(), other], [filled_entry()]):
        row = one(orders, [victim], shown({put(290): -2, put(285): 2}, [theirs]))
        assert row.status in HOLDING
        assert row.exit_price is None
        assert codes(row) & {"wrong_effect", "order_claimed_twice"}


def test_nothing_is_concluded_from_an_exit_that_is_ambiguous():
    twice = [broker_order(number, "canceled", CLOSING, tag="x-9") for number in (9, 19)]
    sent = engine_order("x-9", "EXIT", "PENDING", trade_id="t-1", created_at=EARLIER)
    row = one([filled_entry(), sent], [trade(status="CLOSING_PENDING")], shown(HELD, twice))
    assert (row.status, codes(row)) == ("CLOSING_PENDING", {"order_ambiguous"})


def test_c10_a_trade_in_error_with_its_legs_held_is_told_and_ends_when_it_is_over():
    row = one([filled_entry()], [trade(status="EXIT_ERROR")], shown(HELD))
    assert (row.status, codes(row)) == ("EXIT_ERROR", {"needs_attention"})
    over = one([filled_entry(), filled_exit()], [trade(status="EXIT_ERROR")], shown())
    assert (over.status, over.realized_pnl) == ("CLOSED", 145)


def test_c11_an_exit_that_closed_its_siblings_too_gives_each_share_its_own_price():
    both = exit_order(9, "FILLED", legs=legs(2, **CLOSING), quantity=Decimal(2), filled_quantity=Decimal(2))
    orders = [filled_entry(), filled_entry(17, "t-2"), both.model_copy(update={"avg_fill_price": Decimal("0.55")})]
    rows = reconcile(orders, [trade(), trade("t-2", opened_at=AS_OF)], shown()).trades.rows
    first = next(row for row in rows if row.trade_id == "t-1")
    assert (first.status, first.exit_price, first.realized_pnl) == ("CLOSED", Decimal("0.55"), 145)
    assert codes(first) == {"closed_more_than_held"}
    second = next(row for row in rows if row.trade_id == "t-2")
    assert (second.status, second.exit_price) == ("OPEN", None)


def test_a_position_beats_a_filled_exit_for_still_open():
    row = one([filled_entry(), filled_exit()], [trade(status="CLOSING_PENDING")], shown(HELD))
    assert row.status == "CLOSING_PENDING"
    assert "closed_but_held" in codes(row)


def test_an_exit_filled_in_part_and_then_cancelled_leaves_the_rest_open():
    entry = filled_entry(quantity=5)
    part = exit_order(
        *(9, "CANCELLED"),
        legs=legs(5, **CLOSING),
        quantity=Decimal(5),
        filled_quantity=Decimal(2),
        avg_fill_price=Decimal("0.50"),
    )
    position = {put(290): -3, put(285): 3}
    row = one([entry, part], [trade(quantity=5, status="CLOSING_PENDING")], shown(position))
    assert (row.status, row.exited, row.exit_price) == ("OPEN", 2, None)
    assert codes(row) == {"partly_closed"}
    rest = exit_order(
        *(11, "FILLED"),
        legs=legs(3, **CLOSING),
        quantity=Decimal(3),
        filled_quantity=Decimal(3),
        avg_fill_price=Decimal("1.00"),
    )
    row = one([entry, part, rest], [trade(quantity=5, status="CLOSING_PENDING")], shown())
    assert (row.status, row.exit_price, row.realized_pnl) == ("CLOSED", Decimal("0.80"), 600)


# --- flat, expiry, assignment -----------------------------------------------------------------------------------------


def test_c4_legs_that_do_not_show_yet_are_settling_and_nothing_is_concluded():
    opened = AS_OF - timedelta(minutes=3)
    row = one([filled_entry()], [trade(opened_at=opened)], shown(before=NOTHING))
    assert (row.status, codes(row)) == ("OPEN", {"settling"})
    later = one([filled_entry()], [trade(opened_at=opened)], shown(before=NOTHING, as_of=AS_OF + timedelta(minutes=13)))
    assert later.status == "CLOSED"


def test_a_trade_whose_opening_nobody_timed_settles_from_when_the_ledger_got_it():
    row = one([filled_entry()], [trade(created_at=AS_OF - timedelta(minutes=3))], shown(before=NOTHING))
    assert (row.status, codes(row)) == ("OPEN", {"settling"})


def test_a_trade_is_flat_only_when_two_whole_snapshots_lack_every_leg():
    state = [filled_entry()], [trade(opened_at=EARLIER)]
    for facts in (
        shown(),
        shown(before=HELD),
        shown(before=NOTHING, doubtful=True),
        shown({put(285): 1}, before=NOTHING),
    ):
        row = one(*state, facts)
        assert row.status == "OPEN"
        assert "legs_missing" in codes(row)
    row = one(*state, shown(before=NOTHING))
    assert (row.status, row.exit_reason, row.closed_at) == ("CLOSED", "BROKER_ALREADY_FLAT", AS_OF)
    assert (row.exit_price, row.realized_pnl, codes(row)) == (None, None, {"exit_price_unknown"})


def test_the_reason_of_a_trade_found_flat_is_that_it_was_found_flat():
    held = trade(opened_at=EARLIER, exit_reason="PROFIT_TARGET", status="CLOSING_PENDING")
    row = one([filled_entry(), exit_order(9, "CANCELLED")], [held], shown(before=NOTHING))
    assert (row.status, row.exit_reason) == ("CLOSED", "BROKER_ALREADY_FLAT")


FRIDAY_CLOSE = datetime(2025, 12, 19, 21, tzinfo=UTC)


MONDAY_OPEN = datetime(2025, 12, 22, 14, 30, tzinfo=UTC)


def test_c25_a_spread_that_expired_is_expired_as_of_its_day_and_its_price_is_not_invented():
    row = one([filled_entry()], [trade(opened_at=EARLIER)], shown(before=NOTHING, as_of=MONDAY_OPEN))
    assert (row.status, row.exit_reason) == ("CLOSED", "EXPIRED")
    assert row.closed_at == FRIDAY_CLOSE
    assert (row.exit_price, codes(row)) == (None, {"exit_price_unknown"})


@pytest.mark.parametrize("as_of", [FRIDAY_CLOSE, FRIDAY_CLOSE + timedelta(days=1), MONDAY_OPEN - timedelta(minutes=1)])
def test_whether_a_spread_expired_is_open_until_a_later_session_opens(as_of: datetime):
    facts = shown(before=NOTHING, as_of=as_of)
    if as_of.weekday() == 5:
        facts = replace(facts, session_open=None)
    row = one([filled_entry()], [trade(opened_at=EARLIER)], facts)
    assert (row.status, row.exit_reason, codes(row)) == ("OPEN", None, {"end_open"})
    assert "assigned" not in row.why


def test_shares_that_came_on_the_evening_of_an_expiry_are_a_delivery_at_once():
    held = trade(opened_at=EARLIER, strategy=None, width=None, legs=legs(1, short=put(290)))
    facts = shown({"AAPL": 100}, before={"AAPL": 1}, as_of=FRIDAY_CLOSE, shares={"t-1": 0})
    assert one([], [held], facts).exit_reason == "ASSIGNED"


def test_a_spread_that_is_gone_before_the_close_of_its_last_day_did_not_expire():
    row = one([], [trade(opened_at=EARLIER)], shown(before=NOTHING, as_of=FRIDAY_CLOSE - timedelta(minutes=1)))
    assert (row.status, row.exit_reason) == ("CLOSED", "BROKER_ALREADY_FLAT")


@pytest.mark.parametrize(
    ("fate", "expected"),
    [
        ("uncertain", ("OPEN", None)),
        ("assigned", ("CLOSED", "ASSIGNED")),
        ("exercised", ("CLOSED", "EXERCISED")),
        ("expired", ("CLOSED", "EXPIRED")),
    ],
)
def test_the_ledger_says_of_an_end_what_the_account_proves_of_it(fate: Fate, expected: tuple[str, str | None]):
    held = trade(opened_at=EARLIER, strategy=None, width=None, legs=legs(1, short=put(290)))
    facts = shown(before=NOTHING, as_of=MONDAY_OPEN, shares={"t-1": 0})
    row = one([], [held], replace(facts, ends={put(290): End(fate, FRIDAY_CLOSE)}))
    assert (row.status, row.exit_reason) == expected


@pytest.mark.parametrize(("fate", "expected"), [("assigned", ("CLOSED", "ASSIGNED")), ("uncertain", ("OPEN", None))])
def test_the_account_also_proves_an_end_before_the_expiration(fate: Fate, expected: tuple[str, str | None]):
    held = trade(opened_at=EARLIER, strategy=None, width=None, quantity=Decimal(5), legs=legs(5, short=call(290)))
    facts = shown(before=NOTHING, shares={"t-1": 300})  # the first 2 were assigned the night before
    row = one([], [held], replace(facts, ends={call(290): End(fate, AS_OF)}))
    assert (row.status, row.exit_reason) == expected


def test_a_trade_whose_contracts_were_renamed_stays_and_says_what_it_holds_now():
    ours, now = call(290), "AAPL251219C00145000"
    held = trade(opened_at=EARLIER, strategy=None, width=None, legs=legs(1, short=ours))
    ends = ends_of([Moved(ours, EARLIER + timedelta(hours=1), Decimal(0), Decimal(0), f"+1 became {now}, 2 for 1")])
    facts = replace(shown({now: -2}, before={now: -2}), held_until={"t-1": EARLIER}, ends=ends)
    for as_of in (facts.as_of, MONDAY_OPEN):  # on a later date, and after it has expired
        row = one([], [held], replace(facts, as_of=as_of))
        assert (row.status, row.change and row.change.after.get("status")) == ("OPEN", None)
        (finding,) = (finding for finding in row.findings if finding.code == "legs_missing")
        assert finding.action == f"Enter in the ledger what the trade holds now: {ours} became {now}."
    long_ago = {ours: End("renamed", EARLIER - timedelta(days=2), now)}
    before = replace(facts, ends=long_ago, held_until={"t-1": EARLIER - timedelta(days=1)})
    assert one([], [held], before).exit_reason == "BROKER_ALREADY_FLAT"


def test_what_came_of_a_contract_before_it_was_last_held_is_not_its_end():
    held = trade(opened_at=EARLIER, strategy=None, width=None, legs=legs(1, short=put(290)))
    facts = shown(before=NOTHING, as_of=MONDAY_OPEN, shares={"t-1": 0})
    before = replace(facts, held_until={"t-1": FRIDAY_CLOSE}, ends={put(290): End("assigned", EARLIER)})
    assert one([], [held], before).exit_reason == "EXPIRED"


HALF_DAY_CLOSE = datetime(2025, 12, 19, 18, tzinfo=UTC)


@pytest.mark.parametrize(
    ("symbol", "close", "over"),
    [
        ("AAPL251219P00290000", None, FRIDAY_CLOSE),
        ("AAPL251219P00290000", HALF_DAY_CLOSE, HALF_DAY_CLOSE),
        ("SPXW251219P05975000", None, FRIDAY_CLOSE),
        ("SPX251219P05975000", None, datetime(2025, 12, 19, 14, 30, tzinfo=UTC)),
        ("SPX251219P05975000", HALF_DAY_CLOSE, datetime(2025, 12, 19, 14, 30, tzinfo=UTC)),
    ],
)
def test_a_contract_is_over_when_its_session_closes_or_its_opening_settles_it(
    symbol: str, close: datetime | None, over: datetime
):
    closes = {} if close is None else {EXPIRATION: close}
    held = trade(opened_at=EARLIER, strategy=None, width=None, legs=legs(1, short=symbol))
    seen = {"held_until": {"t-1": over - timedelta(hours=1)}, "closes": closes}
    for as_of, reported in ((over - timedelta(seconds=1), "legs_missing"), (over, "end_open")):
        row = one([], [held], replace(shown(before=NOTHING, as_of=as_of), **seen))
        assert row.status == "OPEN"
        assert reported in codes(row)
    row = one([], [held], replace(shown(before=NOTHING, as_of=MONDAY_OPEN), **seen))
    assert (row.status, row.exit_reason, row.closed_at) == ("CLOSED", "EXPIRED", over)


def test_what_was_held_earlier_on_the_date_does_not_end_without_a_cause():
    state = [filled_entry()], [trade(opened_at=EARLIER - timedelta(days=3))]
    today = replace(shown(before=NOTHING), held_until={"t-1": EARLIER})
    row = one(*state, today)
    assert (row.status, codes(row)) == ("OPEN", {"legs_missing"})
    row = one(*state, replace(today, held_until={"t-1": EARLIER - timedelta(days=1)}))
    assert (row.status, row.exit_reason) == ("CLOSED", "BROKER_ALREADY_FLAT")


def test_positions_that_were_never_shown_since_the_fills_of_the_date_are_still_to_come():
    state = [filled_entry()], [trade(opened_at=EARLIER)]
    row = one(*state, replace(shown(before=NOTHING), never_held=frozenset({"t-1"})))
    assert (row.status, codes(row)) == ("OPEN", {"settling"})


def test_shares_that_an_order_brought_are_no_assignment():
    monday = datetime(2025, 12, 22, 14, 31, tzinfo=UTC)
    when = {"create_date": monday.isoformat(), "transaction_date": monday.isoformat()}
    bought = broker_order(
        8, "filled", {}, 100, **{"class": "equity", "symbol": "AAPL", "side": "buy"}, exec_quantity=100, **when
    )
    held = trade(opened_at=EARLIER, strategy=None, width=None, legs=legs(1, short=put(290)))
    facts = shown({"AAPL": 100}, [bought], before={"AAPL": 1}, as_of=monday, shares={"t-1": 0})
    facts = replace(facts, held_until={"t-1": FRIDAY_CLOSE - timedelta(minutes=1)})
    assert one([], [held], facts).exit_reason == "EXPIRED"
    assert one([], [held], replace(facts, positions={"AAPL": Decimal(200)})).exit_reason == "ASSIGNED"


def by_hand(number: int = 9, sides: Mapping[str, str] = CLOSING, **fields: Any) -> Any:
    done = {"exec_quantity": 1, "remaining_quantity": 0, "avg_fill_price": Decimal("0.55")}
    return broker_order(number, "filled", sides, **done | {"type": "debit"} | fields)


def test_an_exit_by_hand_is_offered_and_nothing_is_closed_without_its_price():
    row = one([filled_entry()], [trade(opened_at=EARLIER)], shown(before=NOTHING, orders=[by_hand()]))
    assert (row.status, row.change and row.change.after.get("status")) == ("OPEN", None)
    (offer,) = [finding for finding in row.findings if finding.code == "exit_offered"]
    assert "order 9" in offer.text
    assert offer.action == "If it closed the trade: `tradier-pipeline ledger link t-1 9`."


def test_an_exit_by_hand_leg_by_leg_is_offered_whole():
    singles = [
        by_hand(number, {side: symbol}, **{"class": "option", "side": side, "option_symbol": symbol, "leg": []})
        for number, (side, symbol) in enumerate(CLOSING.items(), 9)
    ]
    row = one([filled_entry()], [trade(opened_at=EARLIER)], shown(before=NOTHING, orders=singles))
    (offer,) = [finding for finding in row.findings if finding.code == "exit_offered"]
    assert row.status == "OPEN"
    assert offer.action is not None
    assert "ledger link t-1 9" in offer.action
    assert "ledger link t-1 10" in offer.action


@pytest.mark.parametrize(
    "order",
    [
        pytest.param(by_hand(sides=OPENING), id="opens"),
        pytest.param(by_hand(sides={"buy_to_close": put(280)}), id="another contract"),
        pytest.param(by_hand(sides={}), id="legs unknown"),
        pytest.param(by_hand(quantity=2, exec_quantity=2), id="more than is left"),
        pytest.param(by_hand(transaction_date="2025-12-01T15:00:00Z"), id="before it was opened"),
        pytest.param(by_hand(tag="e-7"), id="the tag of an order of the ledger"),
        pytest.param(by_hand(exec_quantity=0), id="not filled"),
    ],
)
def test_what_cannot_have_closed_a_trade_is_not_offered(order: Any):
    row = one([filled_entry()], [trade(opened_at=EARLIER)], shown(before=NOTHING, orders=[order]))
    assert "exit_offered" not in codes(row)
    assert row.status == "CLOSED"


def test_an_order_that_was_filled_beyond_its_quantity_does_not_count_for_a_trade():
    ours = filled_entry().model_copy(update={"filled_quantity": Decimal(2)})
    theirs = by_hand(7, OPENING).model_copy(
        update={"leg": tuple(leg.model_copy(update={"exec_quantity": Decimal(2)}) for leg in by_hand(7, OPENING).leg)}
    )
    row = one([ours], [trade(opened_at=EARLIER)], shown(HELD, orders=[theirs]))
    assert (row.change, "overfilled" in codes(row)) == (None, True)


@pytest.mark.parametrize(
    ("leg", "side", "shares", "reason"),
    [
        (put(290), "short", 100, "ASSIGNED"),
        (call(290), "short", -100, "ASSIGNED"),
        (call(290), "long", 100, "EXERCISED"),
        (put(290), "long", -100, "EXERCISED"),
        (put(290), "short", -100, "EXPIRED"),
        (put(290), "short", 50, "EXPIRED"),
    ],
)
def test_c25_shares_that_came_with_the_expiry_tell_assignment_from_exercise(
    leg: str, side: str, shares: int, reason: str
):
    monday = datetime(2025, 12, 22, 14, 31, tzinfo=UTC)
    held = trade(opened_at=EARLIER, strategy=None, width=None, legs=legs(1, **{side: leg}))
    facts = shown({"AAPL": 300 + shares}, before={"AAPL": 1}, as_of=monday, shares={"t-1": 300})
    row = one([], [held], facts)
    assert (row.status, row.exit_reason) == ("CLOSED", reason)


def test_shares_held_all_along_are_no_assignment():
    monday = datetime(2025, 12, 22, 14, 31, tzinfo=UTC)
    facts = shown({"AAPL": 100}, before={"AAPL": 1}, as_of=monday, shares={"t-1": 100})
    assert one([filled_entry()], [trade(opened_at=EARLIER)], facts).exit_reason == "EXPIRED"


def test_a_short_leg_assigned_early_is_told_and_the_rest_stays_open():
    facts = shown({put(285): 1, "AAPL": 100}, before={put(285): 1, "AAPL": 1}, shares={"t-1": 0})
    row = one([filled_entry()], [trade(opened_at=EARLIER)], facts)
    assert (row.status, codes(row)) == ("OPEN", {"leg_delivered", "legs_missing"})


def test_a_leg_held_after_its_expiration_is_told():
    facts = shown(HELD, as_of=datetime(2025, 12, 22, 14, 31, tzinfo=UTC))
    assert codes(one([filled_entry()], [trade()], facts)) == {"expired_still_held"}


# --- shared and netted legs -------------------------------------------------------------------------------------------


def test_c12_four_trades_on_a_leg_of_67_hold_one_each_and_the_rest_belongs_to_nobody():
    orders = [filled_entry(number * 10, f"t-{number}") for number in range(1, 5)]
    trades = [trade(f"t-{number}", opened_at=EARLIER + timedelta(minutes=number)) for number in range(1, 5)]
    outcome = reconcile(orders, trades, shown({put(290): -67, put(285): 67})).trades
    assert [row.allocated for row in outcome.rows] == [{put(290): -1, put(285): 1}] * 4
    assert outcome.left == {put(290): -63, put(285): 63}
    assert [finding.code for finding in outcome.findings] == ["position_without_trade"] * 2
    assert all("quantity" not in (row.change.after if row.change else {}) for row in outcome.rows)


def test_c24_the_long_leg_of_one_trade_and_the_short_leg_of_another_net_and_both_are_whole():
    low = trade("t-1", strategy="bear_call_credit", legs=legs(1, short=call(280), long=call(285)), opened_at=EARLIER)
    high = trade("t-2", strategy="bear_call_credit", legs=legs(1, short=call(285), long=call(290)), opened_at=AS_OF)
    position = {call(280): -1, call(290): 1}
    outcome = reconcile([], [low, high], shown(position, before=position)).trades
    assert [row.allocated[call(285)] for row in outcome.rows] == [1, -1]
    assert [(row.status, "legs_missing" in codes(row)) for row in outcome.rows] == [("OPEN", False)] * 2
    assert outcome.left == {}


def test_a_shared_leg_that_is_short_is_missing_from_the_trade_that_came_last():
    trades = [trade("t-1", opened_at=EARLIER), trade("t-2", opened_at=EARLIER + timedelta(minutes=2))]
    outcome = reconcile([], trades, shown(HELD, before=HELD)).trades
    first, second = outcome.rows
    assert ("legs_missing" in codes(first), "legs_missing" in codes(second)) == (False, True)
    assert second.status == "OPEN"  # which of the two was closed, nobody knows


# --- what a trade says about itself -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "short", "long"),
    [
        ("bull_put_credit", put(290), put(285)),
        ("bear_put_debit", put(285), put(290)),
        ("bear_call_credit", call(285), call(290)),
        ("bull_call_debit", call(290), call(285)),
    ],
)
def test_c15_a_strategy_that_its_legs_contradict_is_told(strategy: str, short: str, long: str):
    wrong = "bear_put_debit" if strategy == "bull_put_credit" else "bull_put_credit"
    reported = [
        codes(one([], [trade(strategy=name, legs=legs(1, short=short, long=long))], shown({short: -1, long: 1})))
        for name in (strategy, wrong)
    ]
    assert ["strategy_contradicts_legs" in found for found in reported] == [False, True]


def test_c16_a_width_is_the_distance_of_the_strikes():
    assert "width_contradicts_legs" in codes(one([], [trade(width=Decimal(10))], shown(HELD)))


def test_a_trade_without_legs_follows_its_orders_and_is_told():
    bare = {"legs": (), "strategy": "bull_put_credit"}
    held = one([filled_entry()], [trade(**bare)], shown(before=NOTHING))
    assert (held.status, codes(held)) == ("OPEN", {"legs_unknown"})
    over = one([filled_entry(), filled_exit()], [trade(**bare)], shown(before=NOTHING))
    assert (over.status, over.realized_pnl) == ("CLOSED", 145)


def test_trades_of_other_accounts_and_later_ones_are_left_alone():
    trades = [trade("t-1", account_id="VA99999999"), trade("t-2", created_at=AS_OF + timedelta(seconds=1))]
    assert reconcile([], trades, shown()).trades.rows == ()


def test_trades_that_ended_on_an_earlier_day_in_good_order_need_no_row():
    ended = trade(
        status="CLOSED",
        entry_price=Decimal("2"),
        entry_price_source="fills",
        exit_price=Decimal("0.55"),
        exit_price_source="fills",
        realized_pnl=Decimal(145),
        exit_reason="BROKER_ALREADY_FLAT",
        closed_at=AS_OF - timedelta(days=3),
        expiration=date(2025, 12, 19),
    )
    assert reconcile([], [ended], shown()).trades.rows == ()


# --- any state --------------------------------------------------------------------------------------------------------

SPREADS = [(put(290), put(285)), (put(285), put(280)), (put(290), put(280))]
STATUSES = ["ENTRY_PENDING", "OPEN", "CLOSING_PENDING", "CLOSED", "CANCELLED", "EXIT_ERROR"]
BROKER_STATUSES = ["open", "pending", "partially_filled", "filled", "canceled", "rejected", "expired", "error", "held"]
ENGINE_STATUSES = ["PENDING", "PLACED", "PARTIAL", "FILLED", "CANCELLED", "REJECTED", "EXPIRED", "UNKNOWN"]
PRICES = st.none() | st.sampled_from([Decimal("0"), Decimal("0.37"), Decimal("2")])
AMOUNTS = st.none() | st.integers(0, 3).map(Decimal)
MOMENTS = st.integers(0, 90).map(lambda minutes: AS_OF - timedelta(minutes=minutes))


@st.composite
def states(draw: st.DrawFn) -> tuple[list[EngineOrder], list[Trade], Facts]:
    """A few trades and orders that share legs, ids and tags, and whatever positions."""
    numbers = st.none() | st.sampled_from([10, 20, 30, 40])
    trades = []
    for number in range(draw(st.integers(1, 3))):
        short, long = draw(st.sampled_from(SPREADS))
        trades.append(
            trade(
                f"t-{number}",
                draw(st.sampled_from(STATUSES)),
                quantity := draw(st.integers(1, 3)),
                legs=legs(quantity, short=short, long=long),
                strategy=draw(st.sampled_from(["bull_put_credit", "bear_put_debit", None])),
                broker_order_id_open=draw(st.none() | numbers),
                broker_order_id_close=draw(st.none() | numbers),
                entry_price=draw(PRICES),
                exit_price=draw(PRICES),
                exit_price_source=draw(st.sampled_from([None, "fills", "gainloss"])),
                realized_pnl=draw(st.none() | st.just(Decimal("12.34"))),
                opened_at=draw(st.none() | MOMENTS),
                expiration=draw(st.sampled_from([date(2025, 12, 1), date(2025, 12, 19)])),
            )
        )

    def sides() -> dict[str, str]:
        short, long = draw(st.sampled_from(SPREADS))
        opens = {"sell_to_open": short, "buy_to_open": long}
        closes = {"buy_to_close": short, "sell_to_close": long}
        single = {"buy_to_close": short}
        return draw(st.sampled_from([opens, closes, single]))

    def fitting(role: str, owner: Trade) -> dict[str, str]:
        """Sides that do to a trade what the role says."""
        symbols = {leg.side: leg.option_symbol for leg in owner.legs}
        sell, buy = ("short", "long") if role == "ENTRY" else ("long", "short")
        effect = "open" if role == "ENTRY" else "close"
        return {f"sell_to_{effect}": symbols[sell], f"buy_to_{effect}": symbols[buy]}

    orders = []
    for number in range(draw(st.integers(0, 5))):
        role, owner = draw(st.sampled_from(["ENTRY", "EXIT"])), draw(st.sampled_from(trades))
        size = draw(st.integers(1, 3))
        its_sides = fitting(role, owner) if draw(st.integers(0, 3)) else sides()
        orders.append(
            engine_order(
                f"o-{number}",
                role,
                draw(st.sampled_from(["FILLED", *ENGINE_STATUSES])),
                broker_order_id=draw(st.none() | st.just(10 * number) if draw(st.booleans()) and number else numbers),
                trade_id=draw(st.sampled_from([owner.trade_id, owner.trade_id, None])),
                legs=draw(st.sampled_from([(), legs(size, **its_sides)])),
                quantity=draw(st.sampled_from([None, Decimal(size)])),
                order_type=draw(st.sampled_from([None, "credit", "debit", "market", "even"])),
                filled_quantity=draw(AMOUNTS),
                avg_fill_price=draw(PRICES),
                created_at=draw(MOMENTS),
            )
        )
    broker = [
        broker_order(
            number,
            draw(st.sampled_from(BROKER_STATUSES)),
            sides(),
            draw(st.integers(1, 3)),
            tag=draw(st.none() | st.sampled_from(["o-0", "o-1", "o-2"])),
            type=draw(st.sampled_from(["credit", "debit", "market"])),
            exec_quantity=draw(st.integers(0, 3)),
            avg_fill_price=draw(st.sampled_from([0, Decimal("-2.10"), Decimal("0.37")])),
        )
        for number in draw(st.sets(st.sampled_from([10, 20, 30, 40])))
    ]
    positions = st.dictionaries(st.sampled_from([put(280), put(285), put(290)]), st.sampled_from([-2, -1, 1, 2]))
    facts = shown(
        draw(positions),
        broker,
        before=draw(st.none() | positions),
        shares=draw(st.dictionaries(st.just("t-0"), st.sampled_from([-100, 0, 100]))),
        doubtful=draw(st.booleans()),
    )
    return orders, trades, facts


@given(states(), st.randoms())
def test_changes_settle_at_once_whatever_part_of_them_was_written_first(
    state: tuple[list[EngineOrder], list[Trade], Facts], chance: Any
):
    orders, trades, facts = state
    outcome = reconcile(orders, trades, facts)
    first = [change for change in outcome.changes if chance.random() < 0.5]
    partly = _written(orders, trades, first)
    rest = reconcile(*partly, facts).changes
    assert {change.key for change in rest} == {change.key for change in outcome.changes} - {c.key for c in first}
    finally_ = _written(*partly, rest)
    assert finally_ == _written(orders, trades, outcome.changes)
    assert reconcile(*finally_, facts).changes == ()


@given(states())
def test_what_ended_stays_and_parts_add_up_and_prices_have_a_source(
    state: tuple[list[EngineOrder], list[Trade], Facts],
):
    orders, trades, facts = state
    outcome = reconcile(orders, trades, facts).trades
    before = {trade_.trade_id: trade_ for trade_ in trades}
    for row in outcome.rows:
        if before[row.trade_id].status in ("CLOSED", "CANCELLED"):
            assert row.status == before[row.trade_id].status
        if before[row.trade_id].status in HOLDING:
            assert row.status != "ENTRY_PENDING"
        if row.change and "exit_price" in row.change.after:
            assert (row.status, row.exit_price_source) == ("CLOSED", "fills")
        if row.status == "CLOSED" and row.exit_price is None:
            assert "exit_price_unknown" in codes(row)
        if facts.before is None or facts.doubtful:
            assert row.exit_reason not in ("BROKER_ALREADY_FLAT", "EXPIRED", "ASSIGNED", "EXERCISED")
    for symbol in {*facts.positions, *outcome.left}:
        shared = sum((row.allocated.get(symbol, Decimal(0)) for row in outcome.rows), Decimal(0))
        assert shared + outcome.left.get(symbol, 0) == facts.positions.get(symbol, 0)


def _written(
    orders: Sequence[EngineOrder], trades: Sequence[Trade], changes: Sequence[LedgerChange]
) -> tuple[list[EngineOrder], list[Trade]]:
    by_key = {(change.table, change.key): change for change in changes}
    return (
        [changed(order, by_key.get(("orders", order.client_order_id))) for order in orders],
        [changed(trade_, by_key.get(("trades", trade_.trade_id))) for trade_ in trades],
    )
