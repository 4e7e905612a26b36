"""What a spread costs and is worth per share, where it breaks even, how near its short leg is, how it moves."""

from __future__ import annotations

from dataclasses import astuple, fields
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradier_pipeline.broker.models import Quote
from tradier_pipeline.domain.spread_figures import Quoted, SpreadFigures
from tradier_pipeline.domain.spreads import Spread, SpreadLeg, group
from tradier_pipeline_tests.domain.test_spreads import APR, contract, holding

D = Decimal
P280, P285, C300 = contract("P280"), contract("P285"), contract("C300")


def figures(*legs: tuple[Any, ...], quotes: dict[str, Quoted] | None = None) -> SpreadFigures:
    (spread,) = group(holding(*legs), quotes=quotes)
    return spread.figures


def quoted(price: Any, **greeks: float) -> Quoted:
    return Quoted(D(price), D(price), None, **greeks)


def test_a_put_credit_spread_breaks_even_below_its_short_strike_by_what_was_received() -> None:
    quotes = {
        "AAPL": quoted("290.5"),
        P280: quoted("0.30", delta=-0.1, theta=-0.02, vega=0.05),
        P285: quoted("1.10", delta=-0.25, theta=-0.04, vega=0.1),
    }
    found = figures(("P280", 2, 100, "0.30"), ("P285", -2, -340, "1.10"), quotes=quotes)
    assert astuple(found)[:8] == (
        *(D("290.5"), D("-1.2"), D("-0.8"), D("283.8"), None, D(285), "put"),
        D("5.5"),
    )
    assert (found.delta, found.theta, found.vega) == pytest.approx((30, 4, -10))


def test_an_iron_condor_breaks_even_on_both_sides_and_its_nearer_short_leg_is_shown() -> None:
    legs = (("P280", 1, 50), ("P285", -1, -150), ("C300", -1, -160), ("C310", 1, 60))
    found = figures(*legs, quotes={"AAPL": quoted(297)})
    assert (found.entry_price, found.break_even_low, found.break_even_high) == (D(-2), D(283), D(302))
    assert (found.short_strike, found.short_type, found.distance) == (D(300), "call", D(3))


def test_one_that_the_underlying_is_over_is_the_nearest_leg_with_a_distance_below_zero() -> None:
    legs = (("P280", 1, 50), ("P285", -1, -150), ("C300", -1, -160), ("C310", 1, 60))
    found = figures(*legs, quotes={"AAPL": quoted("278.25")})
    assert (found.short_strike, found.short_type, found.distance) == (D(285), "put", D("-6.75"))


def test_a_covered_call_has_no_price_per_share_and_breaks_even_where_its_shares_cost_less_what_was_received() -> None:
    found = figures(("AAPL", 100, 29000), ("C300", -1, -250), quotes={C300: quoted(2, delta=0.3, theta=-0.1, vega=0.2)})
    assert (found.entry_price, found.break_even_low, found.break_even_high) == (None, D("287.5"), None)
    assert (found.delta, found.theta, found.vega) == pytest.approx((70, 10, -20))


def test_without_quotes_nothing_is_said_of_what_follows_from_them() -> None:
    found = figures(("P280", 1, 50), ("P285", -1, -150))
    known = {name: value for name, value in zip(NAMES, astuple(found), strict=True) if value is not None}
    assert known == {"entry_price": D(-1), "break_even_low": D(284), "short_strike": D(280 + 5), "short_type": "put"}


def test_a_greek_that_one_leg_lacks_is_null_and_the_others_are_not() -> None:
    quotes = {P280: quoted(1, delta=-0.1, theta=-0.02), P285: quoted(2, delta=-0.2, theta=-0.03, vega=0.1)}
    found = figures(("P280", 1, 50, 1), ("P285", -1, -150, 2), quotes=quotes)
    assert (found.delta, found.theta) == pytest.approx((10, 1))
    assert found.vega is None


def test_a_calendar_has_no_break_even_because_its_later_leg_is_worth_something_at_the_first_expiration() -> None:
    near, later = holding(("C300", -1, -200)), holding(("C300", 1, 500), expiration=APR)
    (spread,) = group(near + later)
    assert (spread.figures.break_even_low, spread.figures.entry_price) == (None, D(3))


@pytest.mark.parametrize(
    ("bid", "ask", "last", "price"),
    [("1.0", "1.1", "5", "1.05"), ("0", "0.05", "0.02", "0.02"), (None, "1", "3", "3"), ("1", None, None, None)],
)
def test_a_price_is_the_middle_or_the_last_trade_where_one_side_is_missing(
    bid: str | None, ask: str | None, last: str | None, price: str | None
) -> None:
    sides = {name: D(value) for name, value in (("bid", bid), ("ask", ask), ("last", last)) if value is not None}
    assert Quoted.of(Quote(symbol="AAPL", **sides)).price == (None if price is None else D(price))


NAMES = tuple(field.name for field in fields(SpreadFigures))
STRIKES = st.integers(1, 12).map(lambda step: step * 5)
LEGS = st.tuples(
    st.sampled_from("PC"),
    STRIKES,
    st.sampled_from((-3, -2, -1, 1, 2, 3)),
    st.integers(1, 99999).map(lambda n: D(n) / 100),
)


def worth(legs: tuple[SpreadLeg, ...], price: Decimal) -> Decimal:
    """At expiration, of options alone: written from what a contract pays."""
    total = D(0)
    for leg in legs:
        assert leg.strike is not None
        in_the_money = price - leg.strike if leg.option_type == "call" else leg.strike - price
        total += max(in_the_money, D(0)) * 100 * leg.quantity
    return total


@given(st.lists(LEGS, min_size=1, max_size=6, unique_by=lambda leg: leg[:2]))
def test_at_a_break_even_of_any_book_the_options_are_worth_what_they_cost(legs: list[tuple[Any, ...]]) -> None:
    spreads = group(holding(*((f"{kind}{strike}", quantity, cost) for kind, strike, quantity, cost in legs)))
    for spread in spreads:
        figures = spread.figures
        for price in filter(None, (figures.break_even_low, figures.break_even_high)):
            assert spread.cost is not None
            assert abs(worth(spread.legs, price) - spread.cost) < D("0.0001")
        assert (figures.break_even_low is None) == _never_breaks_even(spread)


def _never_breaks_even(spread: Spread) -> bool:
    """Whether its value stays on one side of its cost, at every strike, at a price below all and at one above."""
    assert spread.cost is not None
    prices = [D(0), *sorted({leg.strike for leg in spread.legs if leg.strike is not None}), D(10) ** 6]
    sides = [worth(spread.legs, price) - spread.cost for price in prices]
    return (
        all(side > 0 for side in sides) or all(side < 0 for side in sides) or sides[0] == 0 == max(map(abs, sides[1:]))
    )
