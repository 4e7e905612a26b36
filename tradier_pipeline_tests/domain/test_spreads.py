"""Held legs become the spreads a trader would name, each contract once, whatever the broker's order of rows."""

from __future__ import annotations

import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradier_pipeline.broker.decode import parse
from tradier_pipeline.broker.models import Order, Position, Quote
from tradier_pipeline.domain.positions import PortfolioPosition, value_position
from tradier_pipeline.domain.spreads import Spread, SpreadLeg, group
from tradier_pipeline_tests.domain.uncovered import UncoveredShort, uncovered
from tradier_pipeline_tests.support import bodies

D = Decimal
JAN, FEB, MAR, APR = date(2026, 1, 16), date(2026, 2, 20), date(2026, 3, 20), date(2026, 4, 17)


# --- what is held, written short: "P285" is AAPL's January put at 285 -------------------------------------------------


def contract(name: str, root: str = "AAPL", expiration: date = JAN) -> str:
    if name[0] not in "PC" or not name[1].isdigit():
        return name
    return f"{root}{expiration:%y%m%d}{name[0]}{int(D(name[1:]) * 1000):08d}"


def held(symbol: str, quantity: Any, cost: Any = 0, mark: Any = None) -> PortfolioPosition:
    position = Position(
        id=1,
        symbol=symbol,
        quantity=D(quantity),
        cost_basis=D(cost),
        date_acquired="2025-11-20T14:41:11.405Z",
    )
    quote = None if mark is None else Quote(symbol=symbol, bid=D(mark), ask=D(mark))
    return value_position(1, position, quote)


def holding(*legs: tuple[Any, ...], root: str = "AAPL", expiration: date = JAN) -> list[PortfolioPosition]:
    """Positions from (name, quantity[, cost[, mark]])."""
    return [held(contract(name, root, expiration), *terms) for name, *terms in legs]


def order(number: int, *legs: tuple[str, str, Any], root: str = "AAPL", expiration: date = JAN, **fields: Any) -> Order:
    listed = [
        bodies.leg(number + place, contract(name, root, expiration), side, quantity=D(quantity))
        if name[0] in "PC" and name[1].isdigit()
        else bodies.order(number + place, symbol=name, side=side, quantity=D(quantity))
        for place, (name, side, quantity) in enumerate(legs, 1)
    ]
    body = bodies.spread(number, leg=listed, num_legs=len(listed), **({"status": "filled"} | fields))
    return parse(Order, "orders", "orders.order", body)


def reported(spreads: Iterable[Spread]) -> list[tuple[str, str, Decimal]]:
    return [(spread.strategy, spread.side, spread.quantity) for spread in spreads]


def names(leg: SpreadLeg) -> str:
    return f"{leg.symbol[-9]}{leg.strike.normalize():f}" if leg.strike is not None else leg.symbol


def shape(spread: Spread) -> dict[str, Decimal]:
    return {names(leg): leg.quantity for leg in spread.legs}


# --- the four verticals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("legs", "strategy", "side"),
    [
        ([("P280", 1), ("P285", -1)], "bull_put_credit", "credit"),
        ([("P280", -1), ("P285", 1)], "bear_put_debit", "debit"),
        ([("C280", -1), ("C285", 1)], "bear_call_credit", "credit"),
        ([("C280", 1), ("C285", -1)], "bull_call_debit", "debit"),
    ],
)
def test_the_four_verticals_are_told_apart_by_type_and_strikes(
    legs: list[tuple[Any, ...]], strategy: str, side: str
) -> None:
    (spread,) = group(holding(*legs))
    assert (spread.strategy, spread.side, spread.quantity, spread.width) == (strategy, side, 1, 5)
    assert (spread.spread_no, spread.underlying, spread.expiration) == (1, "AAPL", JAN)
    assert (spread.source, spread.order_id) == ("inferred", None)


@pytest.mark.parametrize(
    ("low", "high", "width"),
    [("100", "101", "1"), ("100", "102.5", "2.5"), ("100", "110", "10"), ("100", "125", "25"), ("10.63", "15.63", "5")],
)
def test_a_width_is_data_and_exact(low: str, high: str, width: str) -> None:
    (spread,) = group(holding((f"P{low}", 1), (f"P{high}", -1)))
    assert (spread.strategy, spread.width) == ("bull_put_credit", D(width))


def test_a_credit_vertical_earns_its_credit_and_risks_the_rest_of_its_width() -> None:
    # 2 units sold at 1.20: 240 received, 2 x 5 x 100 - 240 at risk; now worth 0.80
    (spread,) = group(holding(("P280", 2, 100, "0.30"), ("P285", -2, -340, "1.10")))
    assert (spread.cost, spread.max_profit, spread.max_loss) == (-240, 240, 760)
    assert (spread.market_value, spread.unrealized_pl) == (-160, 80)


@pytest.mark.parametrize("sent", [-340, 340])
def test_the_cost_of_a_short_leg_is_received_whatever_sign_the_broker_sends(sent: int) -> None:
    (spread,) = group(holding(("P280", 2, 100), ("P285", -2, sent)))
    assert [leg.cost for leg in spread.legs] == [100, -340]


def test_without_a_quote_of_every_leg_there_is_no_value() -> None:
    (spread,) = group(holding(("P280", 1, 50, "0.30"), ("P285", -1, -170)))
    assert (spread.market_value, spread.unrealized_pl, spread.max_loss) == (None, None, 380)
    assert [leg.market_value for leg in spread.legs] == [30, None]


# --- quantities -------------------------------------------------------------------------------------------------------


def test_three_short_against_five_long_leave_two_long() -> None:
    spreads = group(holding(("P280", 5), ("P285", -3)))
    assert reported(spreads) == [("long_put", "long", 2), ("bull_put_credit", "credit", 3)]


def test_a_partly_closed_spread_leaves_its_short_naked_and_the_others_whole() -> None:
    spreads = group(holding(("P270", 3), ("P275", -3), ("P280", 2), ("P285", -3), ("P290", 3), ("P295", -3)))
    assert [shape(spread) for spread in spreads] == [
        {"P270": 3, "P275": -3},
        {"P280": 2, "P285": -2},
        {"P285": -1},
        {"P290": 3, "P295": -3},
    ]


def test_the_broker_s_sum_of_many_trades_on_one_pair_is_one_spread() -> None:
    assert reported(group(holding(("P280", 67), ("P285", -67)))) == [("bull_put_credit", "credit", 67)]


def test_overlapping_spreads_the_broker_netted_are_one_of_the_whole_width() -> None:
    # 280/285 and 285/290: the long 285 of the one closes the short 285 of the other
    (spread,) = group(holding(("C280", 1), ("C290", -1)))
    assert (spread.strategy, spread.width) == ("bull_call_debit", 10)


def test_interleaved_spreads_keep_their_common_width() -> None:
    spreads = group(holding(("P280", 1), ("P281", 1), ("P282", 1), ("P285", -1), ("P286", -1), ("P287", -1)))
    assert [spread.width for spread in spreads] == [5, 5, 5]


def test_spreads_close_to_each_other_are_not_mixed() -> None:
    # the two nearest legs, 585 and 587, belong to different spreads
    spreads = group(holding(("P575", 1), ("P585", -1), ("P587", 1), ("P597", -1)))
    assert [(spread.strategy, spread.width) for spread in spreads] == [("bull_put_credit", 10)] * 2


def test_a_surplus_long_is_the_one_further_from_the_short() -> None:
    spreads = group(holding(("P90", 1), ("P100", -1), ("P105", 1)))
    assert [shape(spread) for spread in spreads] == [{"P90": 1}, {"P100": -1, "P105": 1}]


def test_duplicate_rows_of_one_symbol_are_summed() -> None:
    (spread,) = group(holding(("P280", 1, 40, "0.5"), ("P280", 2, 110, "0.5"), ("P285", -3, -300, "1")))
    assert (spread.quantity, spread.cost, spread.market_value) == (3, -150, -150)
    assert len(spread.legs) == 2


def test_rows_without_quantity_are_no_legs() -> None:
    assert group(holding(("P280", 0), ("P285", 1), ("P285", -1), ("AAPL", 100))) == ()


def test_fractional_quantities_are_matched_exactly() -> None:
    spreads = group(holding(("P280", "0.5"), ("P285", "-0.75")))
    assert reported(spreads) == [("bull_put_credit", "credit", D("0.5")), ("naked_put", "short", D("0.25"))]


def test_costs_shared_between_spreads_add_up_to_the_cent_of_a_cent() -> None:
    spreads = group(holding(("P280", 1), ("P285", -3, -100, "0.33333333"), ("P290", 1)))
    legs = [leg for spread in spreads for leg in spread.legs if names(leg) == "P285"]
    assert [leg.quantity for leg in legs] == [-2, -1]
    assert sum(leg.cost or 0 for leg in legs) == -100
    assert sum(leg.market_value or 0 for leg in legs) == D("-99.999999")


# --- larger structures ------------------------------------------------------------------------------------------------


def test_a_shared_leg_makes_a_butterfly_and_is_used_once_per_side() -> None:
    (spread,) = group(holding(("C280", 1, 800), ("C285", -2, -900), ("C290", 1, 250)))
    assert (spread.strategy, spread.side, spread.width) == ("butterfly", "long", 5)
    assert [(leg.quantity, leg.ratio) for leg in spread.legs] == [(1, 1), (-2, 2), (1, 1)]
    # 150 paid: 5 x 100 - 150 at 285, the debit outside the wings
    assert (spread.cost, spread.max_profit, spread.max_loss) == (150, 350, 150)


def test_a_short_butterfly_of_puts() -> None:
    assert reported(group(holding(("P280", -2), ("P285", 4), ("P290", -2)))) == [("butterfly", "short", 2)]


def test_a_butterfly_is_not_torn_apart_for_an_iron_condor() -> None:
    spreads = group(holding(("P280", 1), ("P285", -2), ("P290", 1), ("C300", -1), ("C305", 1)))
    assert [spread.strategy for spread in spreads] == ["butterfly", "bear_call_credit"]


def test_a_broken_wing_counts_as_its_wider_one() -> None:
    (spread,) = group(holding(("P270", 1), ("P285", -2), ("P290", 1)))
    assert (spread.strategy, spread.width) == ("butterfly", 15)


def test_an_iron_condor_is_its_two_credit_verticals() -> None:
    spreads = group(holding(("P280", 2, 50), ("P285", -2, -150), ("C300", -2, -160), ("C310", 2, 60)))
    (spread,) = spreads
    assert (spread.strategy, spread.side, spread.quantity, spread.width) == ("iron_condor", "credit", 2, 10)
    # 200 received; the wider wing costs 2 x 10 x 100
    assert (spread.cost, spread.max_profit, spread.max_loss) == (-200, 200, 1800)
    assert uncovered(spreads) == ()


def test_a_reverse_iron_condor_is_a_debit() -> None:
    assert reported(group(holding(("P280", -1), ("P285", 1), ("C300", 1), ("C305", -1)))) == [
        ("iron_condor", "debit", 1)
    ]


def test_an_iron_butterfly_shares_the_short_strike() -> None:
    (spread,) = group(holding(("P280", 1, 50), ("P290", -1, -400), ("C290", -1, -500), ("C300", 1, 150)))
    # 700 received against wings of 10
    assert (spread.strategy, spread.side, spread.max_profit, spread.max_loss) == ("iron_butterfly", "credit", 700, 300)


def test_a_condor_of_one_type() -> None:
    (spread,) = group(holding(("C280", 1, 900), ("C285", -1, -600), ("C295", -1, -300), ("C300", 1, 150)))
    # 150 paid
    assert (spread.strategy, spread.side, spread.max_profit, spread.max_loss) == ("condor", "long", 350, 150)


def test_two_condors_nest_at_their_own_widths() -> None:
    legs = [("P260", 1), ("P270", -1), ("P280", 1), ("P285", -1), ("C300", -1), ("C305", 1), ("C310", -1), ("C320", 1)]
    assert [shape(spread) for spread in group(holding(*legs))] == [
        {"P260": 1, "P270": -1, "C310": -1, "C320": 1},
        {"P280": 1, "P285": -1, "C300": -1, "C305": 1},
    ]


def test_two_condors_of_one_width_nest() -> None:
    legs = [("P270", 1), ("P275", -1), ("P280", 1), ("P285", -1), ("C300", -1), ("C305", 1), ("C310", -1), ("C315", 1)]
    assert [shape(spread) for spread in group(holding(*legs))] == [
        {"P270": 1, "P275": -1, "C310": -1, "C315": 1},
        {"P280": 1, "P285": -1, "C300": -1, "C305": 1},
    ]


def test_condors_are_made_of_equal_quantities_first() -> None:
    legs = [("P270", 1), ("P275", -1), ("P280", 2), ("P285", -2), ("C300", -1), ("C305", 1), ("C310", -2), ("C315", 2)]
    assert [(spread.quantity, shape(spread).keys()) for spread in group(holding(*legs))] == [
        (1, {"P270", "P275", "C300", "C305"}),
        (2, {"P280", "P285", "C310", "C315"}),
    ]


def test_more_calls_than_puts_leave_a_vertical_beside_the_condor() -> None:
    spreads = group(holding(("P280", 3), ("P285", -3), ("C300", -5), ("C305", 5)))
    assert reported(spreads) == [("iron_condor", "credit", 3), ("bear_call_credit", "credit", 2)]


def test_a_credit_below_a_debit_is_no_condor() -> None:
    spreads = group(holding(("P280", 1), ("P285", -1), ("C300", 1), ("C305", -1)))
    assert [spread.strategy for spread in spreads] == ["bull_put_credit", "bull_call_debit"]


def test_verticals_that_overlap_are_no_condor() -> None:
    spreads = group(holding(("P290", 1), ("P300", -1), ("C295", -1), ("C305", 1)))
    assert sorted(spread.strategy for spread in spreads) == ["bear_call_credit", "bull_put_credit"]


# --- one of each type, other expirations, shares ----------------------------------------------------------------------


def test_a_straddle_and_a_strangle_have_their_side() -> None:
    assert reported(group(holding(("P285", 1), ("C285", 1)))) == [("straddle", "long", 1)]
    assert reported(group(holding(("P285", -2), ("C285", -2)))) == [("straddle", "short", 2)]
    assert reported(group(holding(("P280", 1), ("C290", 1)))) == [("strangle", "long", 1)]
    (spread,) = group(holding(("P280", -1, -100), ("C290", -1, -150)))
    # 250 received; nothing limits the rise
    assert (spread.strategy, spread.side, spread.width) == ("strangle", "short", None)
    assert (spread.has_payoff, spread.max_profit, spread.max_loss) == (True, 250, None)


def test_strangles_nest_and_use_up_every_leg() -> None:
    spreads = group(holding(("P270", 1), ("P280", 3), ("C280", 1), ("C300", 2), ("C310", 1)))
    assert [(spread.strategy, spread.quantity, list(shape(spread))) for spread in spreads] == [
        ("strangle", 1, ["P270", "C310"]),
        ("straddle", 1, ["P280", "C280"]),
        ("strangle", 2, ["P280", "C300"]),
    ]


def test_a_long_straddle_gains_without_limit() -> None:
    (spread,) = group(holding(("P285", 1, 300), ("C285", 1, 350)))
    assert (spread.max_profit, spread.max_loss) == (None, 650)


def test_a_calendar_has_one_strike_and_no_payoff() -> None:
    legs = holding(("C285", -1, -200, 2)) + holding(("C285", 1, 500, 4), expiration=MAR)
    (spread,) = group(legs)
    assert (spread.strategy, spread.side, spread.expiration, spread.width) == ("calendar", "long", JAN, None)
    assert (spread.cost, spread.market_value, spread.unrealized_pl) == (300, 200, -100)
    assert (spread.has_payoff, spread.max_profit, spread.max_loss) == (False, None, None)


def test_a_diagonal_has_two_strikes() -> None:
    legs = holding(("P285", -1)) + holding(("P280", 1), expiration=FEB)
    assert reported(group(legs)) == [("diagonal", "long", 1)]


def test_a_vertical_wins_over_a_calendar() -> None:
    legs = holding(("C285", -1), ("C290", 1)) + holding(("C285", 1), expiration=FEB)
    assert [spread.strategy for spread in group(legs)] == ["bear_call_credit", "long_call"]


def test_a_calendar_wins_over_a_nearer_diagonal() -> None:
    legs = holding(("C285", -1)) + holding(("C290", 1), expiration=FEB) + holding(("C285", 1), expiration=MAR)
    assert sorted(spread.strategy for spread in group(legs)) == ["calendar", "long_call"]


def test_a_long_that_expires_first_covers_nothing() -> None:
    spreads = group(holding(("C285", 1)) + holding(("C285", -1), expiration=FEB))
    assert [spread.strategy for spread in spreads] == ["long_call", "naked_call"]
    assert [short.quantity for short in uncovered(spreads)] == [1]


def test_later_shorts_choose_first_so_that_none_is_left_without_need() -> None:
    legs = holding(("C285", -1)) + holding(("C290", -1), expiration=MAR)
    legs += holding(("C290", 1), expiration=FEB) + holding(("C285", 1), expiration=APR)
    assert uncovered(group(legs)) == ()


def test_a_ratio_is_a_vertical_and_a_naked_remainder() -> None:
    spreads = group(holding(("C280", 1), ("C290", -2)))
    assert reported(spreads) == [("bull_call_debit", "debit", 1), ("naked_call", "short", 1)]
    assert uncovered(spreads) == (UncoveredShort(2, contract("C290"), D(1)),)


def test_a_covered_call_takes_only_the_shares_it_delivers() -> None:
    (spread,) = group(holding(("AAPL", 250, 50_000, 280), ("C300", -1, -400, 3)))
    assert (spread.strategy, spread.underlying, spread.expiration) == ("covered_call", "AAPL", JAN)
    assert shape(spread) == {"AAPL": 100, "C300": -1}
    assert [leg.ratio for leg in spread.legs] == [100, 1]
    # 200 a share less 4: 10 400 if called at 300, 19 600 if the shares are worth nothing
    assert (spread.cost, spread.max_profit, spread.max_loss) == (19_600, 10_400, 19_600)
    assert spread.market_value == 27_700


def test_fewer_shares_than_a_contract_delivers_cover_nothing() -> None:
    assert [spread.strategy for spread in group(holding(("AAPL", 99), ("C300", -1)))] == ["naked_call"]


def test_short_shares_cover_nothing() -> None:
    assert [spread.strategy for spread in group(holding(("AAPL", -100), ("C300", -1)))] == ["naked_call"]


def test_the_shares_of_another_company_cover_nothing() -> None:
    assert [spread.strategy for spread in group(holding(("MSFT", 100), ("C300", -1)))] == ["naked_call"]


def test_a_share_class_covers_the_calls_of_its_root() -> None:
    legs = [held("BRK/B", 100), held("BRKB260116C00500000", -1)]
    assert reported(group(legs)) == [("covered_call", "long", 1)]


def test_a_collar_is_shares_between_a_put_and_a_call() -> None:
    (spread,) = group(holding(("AAPL", 200, 56_000), ("P270", 2, 500), ("C300", -2, -600)))
    assert (spread.strategy, spread.quantity) == ("collar", 2)
    # 55 900 paid for what is worth between 54 000 and 60 000
    assert (spread.max_profit, spread.max_loss) == (4_100, 1_900)
    assert uncovered((spread,)) == ()


def test_a_protective_put_limits_the_loss_of_its_shares() -> None:
    (spread,) = group(holding(("AAPL", 100, 28_000), ("P270", 1, 300)))
    assert (spread.strategy, spread.max_profit, spread.max_loss) == ("protective_put", None, 1_300)


def test_shares_are_protected_by_the_nearest_put_of_the_highest_strike() -> None:
    legs = holding(("AAPL", 100), ("P260", 1), ("P270", 1)) + holding(("P280", 1), expiration=FEB)
    (protected,) = (spread for spread in group(legs) if spread.strategy == "protective_put")
    assert shape(protected) == {"AAPL": 100, "P270": 1}


def test_shares_cover_the_call_of_a_short_strangle_first() -> None:
    spreads = group(holding(("AAPL", 100), ("P270", -1), ("C300", -1)))
    assert sorted(spread.strategy for spread in spreads) == ["covered_call", "naked_put"]


@pytest.mark.parametrize(
    ("leg", "strategy", "side", "max_profit", "max_loss"),
    [
        (("C285", 1, 300), "long_call", "long", None, 300),
        (("P285", 1, 300), "long_put", "long", 28_200, 300),
        (("C285", -1, -300), "naked_call", "short", 300, None),
        (("P285", -1, -300), "naked_put", "short", 300, 28_200),
    ],
)
def test_a_leg_alone(
    leg: tuple[Any, ...], strategy: str, side: str, max_profit: int | None, max_loss: int | None
) -> None:
    (spread,) = group(holding(leg))
    assert (spread.strategy, spread.side) == (strategy, side)
    assert (spread.max_profit, spread.max_loss, spread.has_payoff) == (max_profit, max_loss, True)


# --- what must not be mixed -------------------------------------------------------------------------------------------


def test_an_am_and_a_pm_settled_leg_of_one_day_are_no_vertical() -> None:
    spreads = group(holding(("P6000", 1), root="SPX") + holding(("P6005", -1), root="SPXW"))
    assert [(spread.underlying, spread.strategy) for spread in spreads] == [("SPX", "long_put"), ("SPX", "naked_put")]
    assert [short.symbol for short in uncovered(spreads)] == ["SPXW260116P06005000"]


def test_adjusted_and_unreadable_contracts_stand_alone() -> None:
    legs = holding(("P280", 1, 80), ("P285", -1, -90), root="AAPL1")
    legs += [held("AAPL261302P00290000", 2), held("", 1)]
    spreads = group(legs)
    assert {(spread.strategy, spread.has_payoff, spread.max_loss) for spread in spreads} == {("other", False, None)}
    assert sorted((leg.symbol, leg.quantity) for spread in spreads for leg in spread.legs) == [
        ("", 1),
        ("AAPL1260116P00280000", 1),
        ("AAPL1260116P00285000", -1),
        ("AAPL261302P00290000", 2),
    ]
    assert [spread.side for spread in spreads].count("short") == 1
    assert [short.symbol for short in uncovered(spreads)] == ["AAPL1260116P00285000"]


def test_contracts_of_different_size_are_not_paired() -> None:
    small = Quote(symbol=contract("P280"), contract_size=10)
    position = Position(
        id=1, symbol=small.symbol, quantity=D(1), cost_basis=D(0), date_acquired="2025-11-20T14:41:11.405Z"
    )
    spreads = group([value_position(1, position, small), *holding(("P285", -1))])
    assert [spread.strategy for spread in spreads] == ["long_put", "naked_put"]


# --- orders -----------------------------------------------------------------------------------------------------------


def test_the_legs_of_an_order_stay_together() -> None:
    # inference would join the two verticals that the strikes suggest, 280/285 and 290/300
    legs = holding(("P280", 1), ("P285", -1), ("P290", 1), ("P300", -1))
    spreads = group(legs, [order(700, ("P280", "buy_to_open", 1), ("P300", "sell_to_open", 1))])
    assert [(shape(spread), spread.source, spread.order_id) for spread in spreads] == [
        ({"P280": 1, "P300": -1}, "order", 700),
        ({"P285": -1, "P290": 1}, "inferred", None),
    ]


def test_an_order_s_group_takes_all_units_that_are_held() -> None:
    legs = holding(("C280", 3), ("C285", -6), ("C290", 4))
    spreads = group(
        legs, [order(700, ("C280", "buy_to_open", 2), ("C285", "sell_to_open", 4), ("C290", "buy_to_open", 2))]
    )
    assert [(spread.strategy, spread.source, spread.quantity) for spread in spreads] == [
        ("butterfly", "order", 3),
        ("long_call", "inferred", 1),
    ]


@pytest.mark.parametrize(
    "other",
    [
        order(700, ("P280", "buy_to_open", 1), ("P300", "sell_to_open", 1), status="open"),
        order(700, ("P280", "buy_to_open", 1), ("P300", "sell_to_open", 1), status="canceled"),
        order(700, ("P280", "buy_to_close", 1), ("P300", "sell_to_close", 1)),
        order(700, ("P280", "sell_to_open", 1), ("P300", "buy_to_open", 1)),
        order(700, ("P280", "buy_to_open", 1), ("P310", "sell_to_open", 1)),
        order(700, ("P280", "buy_to_open", 1), ("P300", "sell_to_open", 2)),
        order(700, ("P280", "buy_to_open", 1), ("P300", "sell_to_open", 1), **{"class": "oco"}),
        order(700, ("P280", "buy_to_open", -1), ("P300", "sell_to_open", -1)),
        order(700, ("P280", "buy_to_open", D("1.5")), ("P300", "sell_to_open", D("1.5"))),
    ],
    ids=[
        "open",
        "canceled",
        "closing",
        "other side",
        "not held",
        "other ratio",
        "not one order",
        "negative",
        "fraction",
    ],
)
def test_an_order_that_did_not_open_what_is_held_tells_nothing(other: Order) -> None:
    legs = holding(("P280", 1), ("P285", -1), ("P290", 1), ("P300", -1))
    assert group(legs, [other]) == group(legs)


def test_a_roll_tells_of_the_legs_it_opened() -> None:
    rolled = order(
        700,
        ("P270", "sell_to_close", 1),
        ("P275", "buy_to_close", 1),
        ("P280", "buy_to_open", 1),
        ("P300", "sell_to_open", 1),
    )
    spreads = group(holding(("P280", 1), ("P285", -1), ("P290", 1), ("P300", -1)), [rolled])
    assert shape(spreads[0]) == {"P280": 1, "P300": -1}


def test_the_order_with_more_legs_comes_before_an_older_one_that_wants_the_same() -> None:
    condor = [("P280", "buy_to_open", 1), ("P285", "sell_to_open", 1), ("C300", "sell_to_open", 1)]
    orders = [order(600, *condor[:2]), order(700, *condor, ("C305", "buy_to_open", 1))]
    spreads = group(holding(("P280", 2), ("P285", -2), ("C300", -1), ("C305", 1)), orders)
    assert [(spread.strategy, spread.order_id) for spread in spreads] == [
        ("bull_put_credit", 600),
        ("iron_condor", 700),
    ]


def test_a_combo_order_binds_its_shares() -> None:
    legs = holding(("AAPL", 100), ("C300", -1), ("C310", 1))
    combo = order(700, ("AAPL", "buy", 100), ("C300", "sell_to_open", 1), **{"class": "combo"})
    assert [spread.strategy for spread in group(legs, [combo])] == ["covered_call", "long_call"]
    assert [spread.strategy for spread in group(legs)] == ["bear_call_credit"]


def test_an_order_of_an_unnamed_shape_is_other_with_its_payoff() -> None:
    legs = holding(("C280", 1, 500), ("C290", -2, -600))
    spreads = group(legs, [order(700, ("C280", "buy_to_open", 1), ("C290", "sell_to_open", 2))])
    (spread,) = spreads
    assert (spread.strategy, spread.side, spread.source, spread.width) == ("other", "credit", "order", 10)
    assert (spread.max_profit, spread.max_loss) == (1_100, None)
    assert uncovered(spreads) == (UncoveredShort(1, contract("C290"), D(1)),)


def order_for(rows: list[PortfolioPosition]) -> Order:
    """The order that opened these positions."""
    sides = ("sell_to_open", "buy_to_open")
    legs = tuple(
        bodies.leg(number, row.symbol, sides[row.quantity > 0], quantity=abs(row.quantity))
        for number, row in enumerate(rows, 701)
    )
    return parse(Order, "orders", "orders.order", bodies.spread(700, leg=list(legs), status="filled"))


@pytest.mark.parametrize(
    ("near", "far", "strategy", "side"),
    [
        ([("P285", 1)], [("P285", -1)], "calendar", "short"),
        ([("C285", 1)], [("C285", -1)], "calendar", "short"),
        ([("P285", 1)], [("P280", -1)], "diagonal", "short"),
        ([("C280", 1)], [("C285", -1)], "diagonal", "short"),
        ([("P285", -1)], [("P285", 1)], "calendar", "long"),
        ([("C285", -1)], [("C280", 1)], "diagonal", "long"),
        ([("C280", 1), ("P290", 1)], [], "strangle", "long"),
        ([("C280", -1), ("P290", -1)], [], "strangle", "short"),
        ([("P280", -1), ("P285", 1), ("C285", 1), ("C290", -1)], [], "iron_butterfly", "debit"),
        ([("P280", 1), ("P285", -1), ("P290", -1), ("P295", 1)], [], "condor", "long"),
        ([("P280", -1), ("P285", 1), ("P290", 1), ("P295", -1)], [], "condor", "short"),
        ([("C280", -1), ("C285", 1), ("C290", 1), ("C295", -1)], [], "condor", "short"),
        ([("P280", 1), ("P285", -2), ("P290", 1)], [], "butterfly", "long"),
        ([("C280", -1), ("C285", 2), ("C290", -1)], [], "butterfly", "short"),
        ([("P280", -1), ("C290", -1), ("C295", 1)], [], "other", "debit"),
    ],
)
def test_an_order_names_what_its_legs_are(
    near: list[tuple[str, int]], far: list[tuple[str, int]], strategy: str, side: str
) -> None:
    legs = holding(*near) + holding(*far, expiration=FEB)
    (spread,) = group(legs, [order_for(legs)])
    assert (spread.strategy, spread.side, spread.quantity, spread.source) == (strategy, side, 1, "order")


def test_a_short_calendar_leaves_its_short_uncovered() -> None:
    legs = holding(("C285", 1)) + holding(("C285", -1), expiration=FEB)
    spreads = group(legs, [order_for(legs)])
    assert uncovered(spreads) == (UncoveredShort(1, contract("C285", expiration=FEB), D(1)),)


def test_one_long_covers_one_of_two_shorts() -> None:
    legs = holding(("C280", 1), ("C285", -1), ("C290", -1))
    assert [short.quantity for short in uncovered(group(legs, [order_for(legs)]))] == [1]


def test_shares_of_an_order_that_fall_short_of_a_contract_cover_nothing() -> None:
    legs = holding(("AAPL", 75), ("C300", -1))
    spreads = group(legs, [order(700, ("AAPL", "buy", 150), ("C300", "sell_to_open", 2), **{"class": "combo"})])
    assert (len(spreads[0].legs), spreads[0].strategy) == (2, "other")
    assert [short.quantity for short in uncovered(spreads)] == [1]


def test_an_order_across_settlements_is_other_without_a_payoff() -> None:
    legs = holding(("P6000", 1), root="SPX") + holding(("P6005", -1), root="SPXW")
    (spread,) = group(legs, [order_for(legs)])
    assert (spread.strategy, spread.has_payoff, len(spread.legs)) == ("other", False, 2)


def test_both_legs_of_a_short_straddle_are_uncovered() -> None:
    spreads = group(holding(("P285", -2), ("C285", -2)))
    assert [(short.symbol, short.quantity) for short in uncovered(spreads)] == [
        (contract("P285"), 2),
        (contract("C285"), 2),
    ]


# --- any holding ------------------------------------------------------------------------------------------------------

_OPTIONS = st.builds(
    contract,
    st.builds("{}{}".format, st.sampled_from("PC"), st.sampled_from(["95", "100", "102.5", "105", "110", "120"])),
    st.sampled_from(["SPX", "SPXW", "AAPL", "AAPL", "AAPL", "AAPL1"]),
    st.sampled_from([JAN, FEB, MAR]),
)
_WHOLE = st.integers(-6, 6)
_FRACTION = st.integers(-600, 600).map(lambda hundredths: D(hundredths) / 100)
_COST = st.integers(0, 100_000).map(lambda cents: D(cents) / 100)


@st.composite
def accounts(draw: st.DrawFn, quantities: st.SearchStrategy[Any] = _WHOLE | _FRACTION) -> list[PortfolioPosition]:
    symbols = draw(st.lists(_OPTIONS, max_size=14))
    rows = [held(symbol, draw(quantities), draw(_COST), draw(st.none() | st.just("1.07"))) for symbol in symbols]
    return [*rows, *draw(st.lists(st.builds(held, st.just("AAPL"), st.integers(-150, 450), _COST), max_size=2))]


@st.composite
def accounts_with_orders(draw: st.DrawFn) -> tuple[list[PortfolioPosition], list[Order]]:
    rows = draw(accounts())
    symbols = sorted({row.symbol for row in rows})
    orders = []
    for number in range(draw(st.integers(0, 3)) if symbols else 0):
        legs = draw(st.lists(st.sampled_from(symbols), min_size=2, max_size=4))
        blank = order(1000 + 10 * number, *((symbol, "buy", 1) for symbol in legs))
        listed = tuple(
            leg.model_copy(
                update={
                    "class_": "equity" if leg.symbol == "AAPL" else "option",
                    "option_symbol": None if leg.symbol == "AAPL" else leg.symbol,
                    "side": draw(st.sampled_from(["buy", "buy_to_open", "sell_to_open", "sell_short", "buy_to_close"])),
                    "quantity": D(draw(st.integers(1, 3)) * (100 if leg.symbol == "AAPL" else 1)),
                }
            )
            for leg in blank.leg
        )
        orders.append(blank.model_copy(update={"leg": listed}))
    return rows, orders


def total(rows: Iterable[Any], attribute: str = "quantity") -> Counter[str]:
    sums: Counter[str] = Counter()
    for row in rows:
        sums[row.symbol] += getattr(row, attribute)
    return sums


def used(spreads: Iterable[Spread]) -> list[SpreadLeg]:
    return [leg for spread in spreads for leg in spread.legs]


@given(accounts_with_orders())
def test_every_contract_and_dollar_is_in_exactly_one_spread(
    account: tuple[list[PortfolioPosition], list[Order]],
) -> None:
    rows, orders = account
    spreads = group(rows, orders)
    have, spent = total(rows), total(used(spreads))
    shares = abs(have.pop("AAPL", 0)), spent.pop("AAPL", 0)
    assert {symbol: quantity for symbol, quantity in have.items() if quantity} == spent
    assert 0 <= abs(shares[1]) <= shares[0]
    costs = total(used(spreads), "cost")
    for symbol in spent:
        assert costs[symbol] == sum(abs(row.cost_basis).copy_sign(row.quantity) for row in rows if row.symbol == symbol)
    for spread in spreads:
        assert spread.quantity > 0
        assert all(abs(leg.quantity) == leg.ratio * spread.quantity for leg in spread.legs)


@given(accounts_with_orders(), st.randoms(use_true_random=False))
def test_the_order_of_rows_and_orders_changes_nothing(
    account: tuple[list[PortfolioPosition], list[Order]], shuffle: random.Random
) -> None:
    rows, orders = account
    expected = group(rows, orders)
    shuffle.shuffle(rows)
    shuffle.shuffle(orders)
    assert group(rows, orders) == expected


@given(accounts(_WHOLE))
def test_no_more_shorts_are_uncovered_than_must_be(rows: list[PortfolioPosition]) -> None:
    bare: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for short in uncovered(group(rows)):
        bare[short.symbol[:-15], short.symbol[-9]] += short.quantity
    shares = max(total(rows)["AAPL"], 0) // 100
    for root in ("SPX", "SPXW", "AAPL"):
        assert bare[root, "P"] == least_uncovered(rows, root, "put", 0)
        assert bare[root, "C"] == least_uncovered(rows, root, "call", shares if root == "AAPL" else 0)


def least_uncovered(rows: list[PortfolioPosition], root: str, option_type: str, shares: Decimal | int) -> Decimal:
    """Counted from the last expiration back: the shorts so far can use only the longs so far."""
    net = total(row for row in rows if row.root == root and row.option_type == option_type)
    short, covered = D(0), D(0)
    longs = D(shares)
    for expiration in (MAR, FEB, JAN):
        of_day = [quantity for symbol, quantity in net.items() if f"{expiration:%y%m%d}" in symbol]
        longs += sum(quantity for quantity in of_day if quantity > 0)
        due = -sum(quantity for quantity in of_day if quantity < 0)
        short += due
        covered += min(due, longs - covered)
    return short - covered


@given(accounts_with_orders())
def test_profit_and_loss_are_the_extremes_over_every_price_at_expiration(
    account: tuple[list[PortfolioPosition], list[Order]],
) -> None:
    for spread in group(*account):
        if not spread.has_payoff:
            assert (spread.max_profit, spread.max_loss) == (None, None)
            continue
        gains = [gain(spread, D(cents) / 2) for cents in range(0, 2 * 130)]
        rise = gain(spread, D(1_000_001)) - gain(spread, D(1_000_000))
        assert spread.max_profit == (None if rise > 0 else max(gains))
        assert spread.max_loss == (None if rise < 0 else -min(gains))


def gain(spread: Spread, price: Decimal) -> Decimal:
    worth = {"call": lambda strike: max(price - strike, D(0)), "put": lambda strike: max(strike - price, D(0))}
    values = (
        leg.quantity * (leg.multiplier or 0) * (worth[leg.option_type](leg.strike) if leg.option_type else price)
        for leg in spread.legs
    )
    return sum(values, D(0)) - sum(leg.cost or 0 for leg in spread.legs)


@pytest.mark.parametrize("far", [JAN, FEB, APR], ids=["one expiration", "calendars and diagonals", "three expirations"])
def test_ten_times_the_legs_take_about_ten_times_the_steps(far: date) -> None:
    def steps(count: int) -> int:
        rows = []
        for number in range(count):
            name = f"{'PC'[number % 2]}{100 + number // 2}"
            short = number // 2 % 4 in (1, 2) if far == JAN else number // 2 % 2
            rows.append(held(contract(name, expiration=far if not short else JAN), -1 if short else 1, 100))
        seen = 0

        def count_calls(*_: Any) -> None:
            nonlocal seen
            seen += 1

        sys.setprofile(count_calls)
        try:
            group(rows)
        finally:
            sys.setprofile(None)
        return seen

    assert steps(1000) < 12 * steps(100)
