"""Money and positions are conserved, whatever is traded and however the clock moves."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tradier_pipeline.simulator.exchange import FinalizedOrderError, advance, cancel, change, place
from tradier_pipeline.simulator.market import option_symbol
from tradier_pipeline.simulator.strategy import act, create_world
from tradier_pipeline.simulator.tickets import InvalidParameterError, read_ticket
from tradier_pipeline.simulator.world import Account, World
from tradier_pipeline_tests.simulator.worlds import (
    MONDAY_NOON,
    assert_books_balance,
    assert_history_explains,
    order,
    quiet_world,
    wait,
)

FRIDAY = date(2026, 11, 20)
SPY_CALLS = [option_symbol("SPY", FRIDAY, "call", Decimal(strike)) for strike in (400, 640, 680, 900)]
SPY_PUTS = [option_symbol("SPY", FRIDAY, "put", Decimal(strike)) for strike in (400, 680, 900)]
SPXW = [option_symbol("SPXW", date(2026, 11, 18), right, Decimal(6700)) for right in ("call", "put")]
LATER = [option_symbol("AAPL", date(2026, 12, 4), "put", Decimal(strike)) for strike in (250, 260, 270)]
OPTIONS = [*SPY_CALLS, *SPY_PUTS, *SPXW, *LATER]

_lots = st.integers(1, 7).map(str)
_price = st.sampled_from(["0.05", "2.50", "11.00", "13.30", "40", "660.00", "700"])
_kind = {
    "type": st.sampled_from(["market", "limit", "stop", "stop_limit"]),
    "price": _price,
    "stop": _price,
    "duration": st.sampled_from(["day", "gtc"]),
}
_equity = st.fixed_dictionaries(
    {
        "class": st.just("equity"),
        "symbol": st.sampled_from(["F", "SPY", "AAPL"]),
        "side": st.sampled_from(["buy", "sell", "sell_short", "buy_to_cover"]),
        "quantity": _lots,
        **_kind,
    }
)
_option = st.fixed_dictionaries(
    {
        "class": st.just("option"),
        "option_symbol": st.sampled_from(OPTIONS),
        "side": st.sampled_from(["buy_to_open", "sell_to_open", "buy_to_open", "buy_to_close", "sell_to_close"]),
        "quantity": _lots,
        **_kind,
    }
)
_side = st.sampled_from(["buy_to_open", "sell_to_open"])
_spread = st.fixed_dictionaries(
    {
        "class": st.just("multileg"),
        "symbol": st.just("SPY"),
        "type": st.sampled_from(["market", "debit", "credit", "even"]),
        "price": _price,
        "duration": st.just("day"),
        "option_symbol[0]": st.sampled_from(SPY_CALLS),
        "option_symbol[1]": st.sampled_from(SPY_PUTS),
        "side[0]": _side,
        "side[1]": _side,
        "quantity[0]": st.sampled_from(["1", "2", "4"]),
        "quantity[1]": st.sampled_from(["2", "6"]),
    }
)
_combo = st.fixed_dictionaries(
    {
        "class": st.just("combo"),
        "symbol": st.just("SPY"),
        "type": st.just("market"),
        "duration": st.just("day"),
        "side[0]": st.just("buy"),
        "quantity[0]": st.sampled_from(["100", "200"]),
        "option_symbol[1]": st.sampled_from(SPY_CALLS),
        "side[1]": st.just("sell_to_open"),
        "quantity[1]": st.sampled_from(["1", "2"]),
    }
)
_bracket = st.sampled_from(["oco", "otoco"]).map(
    lambda cls: {
        "class": cls,
        "symbol": "F",
        "duration": "gtc",
        **{
            f"{name}[{n}]": value
            for n, leg in enumerate(
                ([("limit", "buy", "20.00", "")] if cls == "otoco" else [])
                + [("limit", "sell", "13.21", ""), ("stop", "sell", "", "13.19")]
            )
            for name, value in zip(("type", "side", "price", "stop"), leg, strict=True)
            if value
        },
        **{f"quantity[{n}]": "5" for n in range(2 if cls == "oco" else 3)},
    }
)
_waits = st.tuples(st.just("wait"), st.sampled_from([0.5, 1, 3, 20, 61, 600, 7200, 86400, 3 * 86400]))
_actions = st.one_of(
    st.tuples(st.just("place"), st.one_of(_equity, _option, _option, _spread, _combo, _bracket)),
    _waits,
    _waits,
    st.tuples(st.just("cancel"), st.integers(0, 5)),
    st.tuples(st.just("change"), st.integers(0, 5)),
)


def _do(world: World, account: Account, action: tuple[str, object]) -> None:
    match action:
        case ("place", dict() as form):
            place(world, account, read_ticket(form, world.now))
        case ("wait", int() | float() as seconds):
            wait(world, seconds=seconds)
        case (verb, int() as n) if account.orders:
            chosen = account.orders[n % len(account.orders)]
            if verb == "cancel":
                cancel(world, account, chosen)
            else:
                change(world, chosen, price=Decimal("12.34"), duration="gtc")


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(account_type=st.sampled_from(["margin", "cash", "pdt"]), actions=st.lists(_actions, min_size=4, max_size=30))
def test_the_books_balance_after_any_flow_of_orders(account_type, actions):
    world, account = quiet_world(account_type, "500000")
    for action in [*actions, ("wait", 5.0), ("wait", 4 * 86400)]:
        try:
            _do(world, account, action)
        except (FinalizedOrderError, InvalidParameterError):
            continue
        assert_books_balance(world)


def test_the_demo_trader_keeps_the_books_balanced_through_expirations_and_pruning():
    world = create_world(MONDAY_NOON)
    for days in (1, 1, 2, 3, 14, 45, 2):
        advance(world, world.now + timedelta(days=days), act)
        for account in world.accounts.values():
            assert_history_explains(account)
    kinds = {event.kind for account in world.accounts.values() for event in account.history}
    assert kinds >= {"ach", "trade", "option"}


@pytest.mark.parametrize(
    ("symbol", "side", "word", "shares"),
    [
        (SPY_CALLS[0], "buy_to_open", "OPTEXC", 100),
        (SPY_CALLS[0], "sell_to_open", "OPTASN", -100),
        (SPY_PUTS[2], "buy_to_open", "OPTEXC", -100),
        (SPY_PUTS[2], "sell_to_open", "OPTASN", 100),
        (SPY_CALLS[3], "buy_to_open", "OPTEXP", 0),
        (SPY_PUTS[0], "sell_to_open", "OPTEXP", 0),
    ],
)
def test_an_option_settles_at_its_expiration_in_shares_at_the_strike_or_worthless(symbol, side, word, shares):
    world, account = quiet_world(cash="300000")
    bought = order(world, account, class_="option", option_symbol=symbol, side=side, quantity="1", type="market")
    wait(world, minutes=5)
    assert bought.status == "filled"

    advance(world, datetime(2026, 11, 20, 20, 59, 59, tzinfo=UTC))
    assert symbol in account.positions
    advance(world, datetime(2026, 11, 20, 21, 0, tzinfo=UTC))

    assert symbol not in account.positions
    assert account.quantity("SPY") == shares
    assert [event.option_type for event in account.history if event.kind == "option"] == [word]
    assert account.closed[-1].symbol == symbol
    assert_books_balance(world)


def test_an_index_option_settles_in_cash():
    world, account = quiet_world(cash="300000")
    symbol = option_symbol("SPXW", FRIDAY, "call", Decimal(5000))
    order(world, account, class_="option", option_symbol=symbol, side="buy_to_open", quantity="1", type="market")
    advance(world, datetime(2026, 11, 20, 21, 0, tzinfo=UTC))

    assert not account.positions
    spot = world.market.price("SPX", datetime(2026, 11, 20, 21, 0, tzinfo=UTC))
    assert account.history[-1].amount == (spot - 5000) * 100
    assert account.closed[-1].proceeds == (spot - 5000) * 100


def test_selling_part_of_a_holding_closes_it_at_average_cost_and_leaves_the_rest_exact():
    world, account = quiet_world()
    world.trade(account, "F", Decimal(3), Decimal("10.00"))
    world.trade(account, "F", Decimal(4), Decimal("13.00"))
    wait(world, hours=1)
    world.trade(account, "F", Decimal(-2), Decimal("15.00"))

    assert account.positions["F"].acquired == world.now > account.positions["F"].opened
    lot = account.closed[0]
    assert (lot.quantity, lot.proceeds) == (2, 30)
    assert lot.cost + account.positions["F"].cost_basis == 82
    assert account.positions["F"].quantity == 5


def test_a_sale_through_zero_closes_the_long_and_opens_a_short():
    world, account = quiet_world()
    world.trade(account, "F", Decimal(3), Decimal("10.00"))
    world.trade(account, "F", Decimal(-5), Decimal("12.00"))

    assert (account.positions["F"].quantity, account.positions["F"].cost_basis) == (-2, -24)
    assert [(lot.quantity, lot.cost, lot.proceeds) for lot in account.closed] == [(3, 30, 36)]


def test_an_earlier_instant_leaves_the_world_as_it_is():
    world, account = quiet_world()
    order(world, account, class_="equity", symbol="F", side="buy", quantity="5", type="market")
    wait(world, minutes=10)
    before = (world.version, world.now, account.cash)

    advance(world, MONDAY_NOON)

    assert (world.version, world.now, account.cash) == before


def test_one_seed_gives_one_world():
    assert create_world(MONDAY_NOON, 11) == create_world(MONDAY_NOON, 11)
    assert create_world(MONDAY_NOON, 11) != create_world(MONDAY_NOON, 12)


def test_small_steps_and_one_step_agree_on_every_fill():
    small, large = create_world(MONDAY_NOON), create_world(MONDAY_NOON)
    for _ in range(60):
        advance(small, small.now + timedelta(seconds=43), act)
    advance(large, small.now, act)

    assert small == large


def test_a_leap_looks_at_instants_of_the_small_grid_only_and_so_never_contradicts_what_was_seen():
    fills = []
    for step in (timedelta(minutes=1), timedelta(hours=30)):
        world, account = quiet_world()
        spot = world.market.price("SPY", world.now)
        placed = [
            order(world, account, class_="equity", symbol="SPY", side="buy", quantity="1", type="limit",
                  duration="gtc", price=str((spot * Decimal(factor)).quantize(Decimal("0.01"))))
            for factor in ("0.9997", "0.999", "0.998", "0.996")
        ]  # fmt: skip
        while world.now < MONDAY_NOON + timedelta(hours=30):
            wait(world, seconds=step.total_seconds())
        fills.append([one.updated for one in placed if one.status == "filled"])
    close, coarse = fills
    assert coarse
    assert all(at.second % 15 == 0 and at.microsecond == 0 for at in coarse)
    assert all(seen <= at for seen, at in zip(close, coarse, strict=False))


def test_what_is_forgotten_is_carried_in_the_opening_figures():
    world, account = quiet_world()
    world.trade(account, "F", Decimal(3), Decimal("10.00"))
    cash = account.cash

    advance(world, world.now + timedelta(days=405))

    assert not account.history
    assert account.opening_cash == account.cash == cash
    assert account.opening_positions == {"F": Decimal(3)}
