"""A held position: classified by its symbol, valued by its quote, exact."""

from __future__ import annotations

from dataclasses import fields
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradier_pipeline.broker.decode import parse
from tradier_pipeline.broker.models import Position, Quote
from tradier_pipeline.core.decimals import rounded
from tradier_pipeline.domain.positions import PortfolioPosition, value_position
from tradier_pipeline.warehouse import schema
from tradier_pipeline_tests.support.bodies import option_quote, position

PUT = "SPY251219P00602500"


def held(
    symbol: str = "AAPL", quantity: Any = 1, cost: Any = Decimal("207.01"), reported: Any = None
) -> PortfolioPosition:
    row = parse(Position, "positions", "path", position(symbol, quantity, cost))
    return value_position(1, row, parse(Quote, "quotes", "path", reported) if reported else None)


def test_its_fields_are_columns_of_the_positions_table() -> None:
    names = [field.name for field in fields(PortfolioPosition)]
    assert [*schema.KEY_NAMES, *names] == list(schema.POSITIONS.column_names)


def test_an_option_carries_the_terms_of_its_symbol() -> None:
    reported = held(PUT, -3, Decimal("-147.0"))
    terms = (
        reported.asset_class,
        reported.root,
        reported.underlying,
        reported.expiration,
        reported.option_type,
        reported.strike,
    )
    assert terms == ("option", "SPY", "SPY", date(2025, 12, 19), "put", Decimal("602.5"))
    assert (reported.multiplier, reported.side, reported.cost_basis_per_contract) == (100, "short", 49)


@pytest.mark.parametrize(
    ("symbol", "asset_class", "multiplier"),
    [
        ("AAPL", "equity", 1),
        ("BRK/B", "equity", 1),
        (PUT, "option", 100),
        ("AAPL1251219C00150000", "adjusted_option", None),
        ("AAPL7251219C00150000", "adjusted_option", 10),
        ("odd one", "unparsed", None),
        ("", "unparsed", None),
    ],
)
def test_the_multiplier_without_a_quote_is_what_the_symbol_says(
    symbol: str, asset_class: str, multiplier: int | None
) -> None:
    reported = held(symbol)
    assert (reported.asset_class, reported.multiplier) == (asset_class, multiplier)


@pytest.mark.parametrize("symbol", [PUT, "AAPL1251219C00150000", "odd one"])
def test_the_quotes_contract_size_decides_the_multiplier(symbol: str) -> None:
    assert held(symbol, reported=option_quote(symbol, contract_size=150)).multiplier == 150


@pytest.mark.parametrize(
    ("bid", "ask", "last", "mark"),
    [
        (Decimal("1.00"), Decimal("1.05"), 9, Decimal("1.025")),
        (0, Decimal("0.05"), 9, Decimal("0.025")),  # a worthless option still has a market
        (None, 2, 9, 9),
        (2, None, 9, 9),
        (None, None, None, None),
        (Decimal("0.00000001"), Decimal("0.00000002"), 9, Decimal("0.00000002")),  # half to even
        (Decimal("0.00000002"), Decimal("0.00000003"), 9, Decimal("0.00000002")),
    ],
)
def test_the_mark_is_the_middle_of_bid_and_ask_or_the_last_price(bid: Any, ask: Any, last: Any, mark: Any) -> None:
    reported = held(PUT, reported=option_quote(PUT, bid=bid, ask=ask, last=last))
    assert reported.mark == mark
    assert (reported.market_value is None) == (mark is None)


@pytest.mark.parametrize(
    ("quantity", "cost", "value", "gain"),
    [
        (2, Decimal("410.00"), Decimal("220.00"), Decimal("-190.00")),
        (-2, Decimal("-410.00"), Decimal("-220.00"), Decimal("190.00")),
        (-2, Decimal("410.00"), Decimal("-220.00"), Decimal("190.00")),  # the sign of a short cost varies by source
        (0, Decimal("410.00"), 0, Decimal("-410.00")),
        (Decimal("-0.0"), Decimal("410.00"), 0, Decimal("-410.00")),
    ],
)
def test_market_value_and_gain_are_signed_for_the_holder(quantity: Any, cost: Any, value: Any, gain: Any) -> None:
    reported = held(PUT, quantity, cost, option_quote(PUT, bid=Decimal("1.00"), ask=Decimal("1.20")))
    assert (reported.market_value, reported.unrealized_pl) == (value, gain)


@pytest.mark.parametrize(("quantity", "side"), [(1, "long"), (-1, "short"), (0, None), (Decimal("-0.0"), None)])
def test_the_side_is_the_sign_and_zero_has_none(quantity: Any, side: str | None) -> None:
    assert held(quantity=quantity).side == side


def test_a_zero_quantity_has_no_cost_per_contract() -> None:
    assert held(quantity=Decimal("0E-8")).cost_basis_per_contract is None


def test_without_a_quote_nothing_is_valued() -> None:
    reported = held(PUT)
    assert (
        reported.bid,
        reported.ask,
        reported.last,
        reported.mark,
        reported.market_value,
        reported.unrealized_pl,
    ) == (None,) * 6


def test_a_value_too_large_for_its_column_is_null_not_an_error() -> None:
    huge = Decimal("9999999999999999")
    reported = held(PUT, huge, huge, option_quote(PUT, bid=huge, ask=huge))
    assert (reported.mark, reported.market_value, reported.unrealized_pl) == (huge, None, None)
    assert held(quantity=Decimal("0.00000001"), cost=huge).cost_basis_per_contract is None


UNITS = st.integers(-(10**24) + 1, 10**24 - 1).map(lambda units: Decimal(units).scaleb(-8))
PRICES = st.integers(0, 10**13).map(lambda units: Decimal(units).scaleb(-8))


@given(quantity=UNITS, cost=UNITS, bid=PRICES, ask=PRICES)
def test_every_number_of_a_holding_fits_decimal_24_8(
    quantity: Decimal, cost: Decimal, bid: Decimal, ask: Decimal
) -> None:
    reported = held(PUT, quantity, cost, option_quote(PUT, bid=bid, ask=ask))
    numbers = [getattr(reported, field.name) for field in fields(reported)]
    for value in (number for number in numbers if isinstance(number, Decimal)):
        assert value == rounded(value)


@given(quantity=st.integers(-5000, 5000).filter(bool), cents=st.integers(0, 10**9), bid=PRICES)
def test_gain_is_value_less_cost_and_cost_per_contract_times_quantity_is_the_cost(
    quantity: int, cents: int, bid: Decimal
) -> None:
    cost = Decimal(cents) / 100
    reported = held(PUT, quantity, cost, option_quote(PUT, bid=bid, ask=bid))
    assert reported.market_value == quantity * bid * 100
    assert reported.unrealized_pl == reported.market_value - (cost if quantity > 0 else -cost)
    assert reported.cost_basis_per_contract is not None
    assert abs(reported.cost_basis_per_contract * abs(quantity) - cost) <= abs(quantity) * Decimal("0.000000005")
