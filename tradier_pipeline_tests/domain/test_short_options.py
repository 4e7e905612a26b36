"""What the assignment of a short option is measured against: the price, the cash, the shares."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from tradier_pipeline.domain.short_options import short_options
from tradier_pipeline.domain.spread_figures import Quoted
from tradier_pipeline_tests.domain.test_spreads import contract, held, holding

D = Decimal
P285, C300 = contract("P285"), contract("C300")


def test_each_short_option_stands_beside_the_price_of_its_underlying_the_cash_and_all_shares_of_it() -> None:
    positions = holding(("AAPL", 100, 29000), ("P285", -2, -340, "1.10"), ("P280", 2, 100), ("C300", -1), ("AAPL", 50))
    put, call = short_options(positions, {"AAPL": Quoted(D("290.4"), D("290.6"), D(1))}, D(7))
    assert (put.symbol, put.option_type, put.strike, put.quantity, put.mark) == (P285, "put", D(285), -2, D("1.10"))
    assert [call.symbol, call.option_type] == [C300, "call"]
    for option in (put, call):
        assert (option.underlying, option.underlying_price, option.cash) == ("AAPL", D("290.5"), 7)
        assert option.shares_held == 150


def test_without_a_quote_the_price_is_not_known_and_without_shares_none_are_held() -> None:
    (option,) = short_options(holding(("P285", -1)), {P285: Quoted(D(1), D(1))}, D(0))
    assert (option.underlying_price, option.shares_held) == (None, 0)


def test_a_root_that_is_not_known_stands_for_itself_and_shares_that_no_decimal_holds_for_none_known() -> None:
    unknown = replace(held(C300, -1), underlying=None, root="AAPL1")
    shares = replace(held("AAPL", 1), symbol="AAPL1", quantity=D(10) ** 16)
    (option,) = short_options([unknown, shares], {"AAPL1": Quoted(last=D(3))}, D(0))
    assert (option.underlying, option.underlying_price, option.shares_held) == ("AAPL1", 3, None)
