"""The life of orders: accepted or rejected, filled in parts, triggered, linked, canceled, expired."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from tradier_pipeline.simulator import bodies
from tradier_pipeline.simulator.exchange import FinalizedOrderError, advance, cancel, change
from tradier_pipeline.simulator.market import option_symbol
from tradier_pipeline.simulator.strategy import act
from tradier_pipeline.simulator.world import Account, Order, World
from tradier_pipeline_tests.simulator.worlds import assert_books_balance, body, order, quiet_world, wait

LATE = date(2026, 12, 18)
NEAR, FAR = (option_symbol("SPY", LATE, "put", Decimal(strike)) for strike in (650, 640))


def statuses(placed: Order) -> list[str]:
    return [leg.status for leg in placed.legs]


def buy(world: World, account: Account, quantity: str = "20", **form: str) -> Order:
    fields = {"class_": "equity", "symbol": "F", "side": "buy", "type": "market", **form}
    return order(world, account, quantity=quantity, **fields)


def hold(world: World, account: Account, quantity: int) -> None:
    world.trade(account, "F", Decimal(quantity), Decimal("13.00"))


def test_an_order_is_pending_then_open_then_filled_in_parts():
    world, account = quiet_world()
    placed = buy(world, account, "97")
    seen = [placed.status]
    for _ in range(400):
        wait(world, seconds=0.5)
        if placed.status != seen[-1]:
            assert placed.updated > placed.created
            seen.append(placed.status)
    assert seen == ["pending", "open", "partially_filled", "filled"]
    assert account.quantity("F") == 97


def test_a_market_buy_pays_the_ask():
    world, account = quiet_world()
    placed = buy(world, account, "1")
    wait(world, seconds=10)
    quote = world.market.quote("F", placed.updated)
    assert placed.average_price == quote.ask
    assert account.cash == 100000 - quote.ask


def test_a_limit_below_the_market_rests_and_is_still_listed_the_next_day_only_if_good_til_canceled():
    world, account = quiet_world()
    today, resting = (
        buy(world, account, "1", type="limit", price="5"),
        buy(world, account, "1", type="limit", price="5", duration="gtc"),
    )
    advance(world, datetime(2026, 11, 16, 20, 59, tzinfo=UTC))
    assert [today.status, resting.status] == ["open", "open"]
    advance(world, datetime(2026, 11, 16, 21, 0, tzinfo=UTC))
    assert [today.status, resting.status] == ["expired", "open"]
    assert today.remaining == 0

    listed = bodies.orders(world, account, page=1, limit=25, tags=False)
    assert [row["id"] for row in listed["orders"]["order"]] == [today.id, resting.id]
    advance(world, datetime(2026, 11, 17, 6, 0, tzinfo=UTC))
    listed = bodies.orders(world, account, page=1, limit=25, tags=False)
    assert listed["orders"]["order"]["id"] == resting.id


def test_an_order_placed_after_the_close_works_until_the_next_close():
    world, account = quiet_world()
    wait(world, hours=5)
    placed = buy(world, account, "1", type="limit", price="5")
    advance(world, datetime(2026, 11, 17, 20, 59, tzinfo=UTC))
    assert placed.status == "open"
    advance(world, datetime(2026, 11, 17, 21, 0, tzinfo=UTC))
    assert placed.status == "expired"


def test_a_changed_limit_fills_and_a_finished_order_can_no_longer_be_touched():
    world, account = quiet_world()
    placed = buy(world, account, "1", type="limit", price="5")
    wait(world, minutes=5)
    change(world, placed, price=Decimal(20))
    wait(world, minutes=5)
    assert placed.status == "filled"
    with pytest.raises(FinalizedOrderError, match="filled"):
        cancel(world, account, placed)
    with pytest.raises(FinalizedOrderError, match="filled"):
        change(world, placed, price=Decimal(1))


def test_an_order_changed_to_market_forgets_its_limit():
    world, account = quiet_world()
    placed = buy(world, account, "1", type="limit", price="5")
    change(world, placed, kind="market")
    assert "price" not in body(bodies.order(placed, tags=False))["order"]
    wait(world, minutes=5)
    assert placed.status == "filled"


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ({"quantity": "1000000"}, "buying power"),
        ({"side": "sell", "quantity": "6"}, "closing a long position"),
        ({"side": "buy_to_cover", "quantity": "1"}, "closing a short position"),
        ({"symbol": "ZZT", "quantity": "1"}, "not tradable"),
        ({"symbol": "SPX", "quantity": "1"}, "not tradable"),
    ],
)
def test_an_impossible_order_is_rejected_with_its_reason_and_moves_nothing(form, reason):
    world, account = quiet_world()
    hold(world, account, 5)
    cash = account.cash
    placed = buy(world, account, **form)
    wait(world, minutes=5)
    assert placed.status == "rejected"
    assert reason in (placed.reason or "")
    assert (account.cash, account.quantity("F")) == (cash, 5)


def test_shares_promised_to_one_sale_cannot_be_sold_by_another():
    world, account = quiet_world()
    hold(world, account, 5)
    first = buy(world, account, "4", side="sell", type="limit", price="90")
    second = buy(world, account, "2", side="sell")
    wait(world, minutes=5)
    assert [first.status, second.status] == ["open", "rejected"]


def test_a_cash_account_spends_what_it_has_and_a_margin_account_twice_as_much():
    for account_type, expected in (("cash", "rejected"), ("margin", "filled")):
        world, account = quiet_world(account_type, "1000")
        placed = buy(world, account, "110")
        wait(world, minutes=10)
        assert placed.status == expected


def test_a_stop_waits_until_its_price_is_reached():
    world, account = quiet_world()
    hold(world, account, 5)
    spot = world.market.price("F", world.now)
    below = buy(world, account, "1", side="sell", type="stop", stop=str(spot - 3))
    reached = buy(world, account, "1", side="sell", type="stop", stop=str(spot + 1))
    wait(world, minutes=10)
    assert [below.status, reached.status] == ["open", "filled"]


def test_a_credit_spread_fills_its_legs_together_at_a_negative_net():
    world, account = quiet_world()
    placed = order(
        world, account, class_="multileg", symbol="SPY", type="credit", price="0.10",
        option_symbol_0=NEAR, side_0="sell_to_open", quantity_0="4",
        option_symbol_1=FAR, side_1="buy_to_open", quantity_1="4",
    )  # fmt: skip
    assert [leg.id for leg in placed.legs] == [placed.id + 1, placed.id + 2]
    wait(world, minutes=10)
    assert placed.status == "filled"
    short, long = (leg.average_price for leg in placed.legs)
    assert placed.average_price == long - short < Decimal("-0.10")
    assert (account.quantity(NEAR), account.quantity(FAR)) == (-4, 4)
    assert account.positions[NEAR].cost_basis == -short * 400
    row = body(bodies.order(placed, tags=False))["order"]
    assert (row["num_legs"], row["strategy"], row["side"]) == (2, "spread", "buy")
    assert [leg["price"] for leg in row["leg"]] == [Decimal("0.10")] * 2


def oco(world: World, account: Account, above: Decimal, below: Decimal) -> Order:
    return order(
        world, account, class_="oco", symbol="F", duration="gtc",
        type_0="limit", side_0="sell", quantity_0="5", price_0=str(above),
        type_1="stop", side_1="sell", quantity_1="5", stop_1=str(below),
    )  # fmt: skip


def test_the_first_fill_of_an_oco_cancels_its_rival():
    world, account = quiet_world()
    hold(world, account, 5)
    spot = world.market.price("F", world.now)
    placed = oco(world, account, spot + 9, spot + 1)
    wait(world, minutes=10)
    assert (placed.status, statuses(placed)) == ("filled", ["canceled", "filled"])
    assert account.quantity("F") == 0
    row = body(bodies.order(placed, tags=False))["order"]
    assert set(row) == {"id", "status", "create_date", "transaction_date", "class", "leg"}


def test_canceling_an_oco_cancels_both_legs():
    world, account = quiet_world()
    hold(world, account, 5)
    spot = world.market.price("F", world.now)
    placed = oco(world, account, spot + 9, spot - 9)
    wait(world, minutes=10)
    assert (placed.status, statuses(placed)) == ("open", ["open", "open"])
    cancel(world, account, placed)
    assert (placed.status, statuses(placed)) == ("canceled", ["canceled", "canceled"])
    assert not account.live


@pytest.mark.parametrize(
    ("entry", "status", "legs"),
    [("20", "open", ["filled", "open", "open"]), ("5", "open", ["open", "pending", "pending"])],
)
def test_the_exits_of_an_otoco_wait_for_its_entry(entry, status, legs):
    world, account = quiet_world()
    placed = order(
        world, account, class_="otoco", symbol="F", duration="gtc",
        type_0="limit", side_0="buy", quantity_0="5", price_0=entry,
        type_1="limit", side_1="sell", quantity_1="5", price_1="90",
        type_2="stop", side_2="sell", quantity_2="5", stop_2="1",
    )  # fmt: skip
    wait(world, minutes=10)
    assert (placed.status, statuses(placed)) == (status, legs)
    assert_books_balance(world)


def test_a_rejected_entry_of_an_oto_ends_what_waits_for_it():
    world, account = quiet_world(cash="10")
    placed = order(
        world, account, class_="oto", symbol="F", duration="gtc",
        type_0="limit", side_0="buy", quantity_0="5", price_0="20",
        type_1="limit", side_1="sell", quantity_1="5", price_1="90",
    )  # fmt: skip
    wait(world, minutes=10)
    assert (placed.status, statuses(placed)) == ("rejected", ["rejected", "canceled"])
    assert "buying power" in (placed.reason or "")


def test_the_demo_trader_leaves_orders_of_others_alone():
    world, account = quiet_world("margin", "250000")
    mine = [buy(world, account, "1", type="limit", price="0.50", duration="gtc") for _ in range(6)]
    account.wakes_at = world.now
    advance(world, world.now + timedelta(days=2), act)
    assert account.steps > 10
    assert {placed.status for placed in mine} == {"open"}
