from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradier_pipeline.broker.symbols import classify


@pytest.mark.parametrize(
    ("symbol", "root", "underlying", "expiration", "option_type", "strike", "multiplier", "settlement"),
    [
        ("AAPL260102P00290000", "AAPL", "AAPL", date(2026, 1, 2), "put", "290", 100, None),
        ("SPY251219C00602500", "SPY", "SPY", date(2025, 12, 19), "call", "602.5", 100, None),
        ("F251219C00010630", "F", "F", date(2025, 12, 19), "call", "10.63", 100, None),
        ("F251219C00016149", "F", "F", date(2025, 12, 19), "call", "16.149", 100, None),
        ("SPXW251205P06000000", "SPXW", "SPX", date(2025, 12, 5), "put", "6000", 100, "PM"),
        ("SPX251219P06000000", "SPX", "SPX", date(2025, 12, 19), "put", "6000", 100, "AM"),
        ("NDXP251219P21000000", "NDXP", "NDX", date(2025, 12, 19), "put", "21000", 100, "PM"),
        ("VIXW251210C00020000", "VIXW", "VIX", date(2025, 12, 10), "call", "20", 100, "AM"),
        ("BRKB251219C00500000", "BRKB", "BRK/B", date(2025, 12, 19), "call", "500", 100, None),
        ("C260102P00000001", "C", "C", date(2026, 1, 2), "put", "0.001", 100, None),
    ],
)
def test_an_option_symbol_gives_the_exact_contract(
    symbol, root, underlying, expiration, option_type, strike, multiplier, settlement
):
    classified = classify(symbol)
    assert classified.asset_class == "option"
    assert classified.problem is None
    option = classified.option
    assert (option.root, option.underlying, option.expiration) == (root, underlying, expiration)
    assert (option.option_type, option.strike) == (option_type, Decimal(strike))
    assert (option.multiplier, option.settlement) == (multiplier, settlement)
    assert option.symbol == symbol


@pytest.mark.parametrize(
    ("symbol", "underlying", "multiplier"),
    [
        ("AAPL1251219C00150000", "AAPL", None),
        ("AAPL2251219C00150000", "AAPL", None),
        ("AAPL7251219C00150000", "AAPL", 10),
        ("BRKB1251219C00500000", "BRK/B", None),
    ],
)
def test_a_digit_after_the_root_is_an_adjusted_contract_of_which_only_a_mini_has_a_known_multiplier(
    symbol, underlying, multiplier
):
    classified = classify(symbol)
    assert classified.asset_class == "adjusted_option"
    assert (classified.option.underlying, classified.option.multiplier) == (underlying, multiplier)
    assert classified.option.symbol == symbol


@pytest.mark.parametrize(
    "symbol",
    [
        "AAPL",
        "F",
        "SPY",
        "GOOGL",
        "BRK.B",
        "BRK/B",
        "BRK-B",
        "BAC/PRL",
        "ABC.WS.A",
        "SPX",
        "^VIX",
        "ABCDEF",
        "594918104",
    ],
)
def test_a_ticker_is_an_equity(symbol):
    assert classify(symbol).asset_class == "equity"
    assert classify(symbol).option is None


@pytest.mark.parametrize(
    ("symbol", "problem"),
    [
        ("", "empty"),
        ("aapl260102p00290000", "neither"),
        ("aapl", "neither"),
        ("AAPL261302P00290000", "261302 is not a date"),
        ("AAPL260230P00290000", "260230 is not a date"),
        ("AAPL260100P00290000", "260100 is not a date"),
        ("AAPL260102P00000000", "strike is zero"),
        ("2SPY260102P00290000", "root 2SPY"),
        ("260102P00290000", "neither"),
        ("ABCDEFG260102P00290000", "neither"),
        ("AAPL260102X00290000", "neither"),
        ("AAPL260102P0029000", "neither"),
        ("AAPL 260102P00290000", "neither"),  # padded, but not to 21
        ("  AAPL260102P00290000", "neither"),
        ("AA PL 260102P00290000", "neither"),
        ("AAPL260102P00290000\n", "neither"),
        ("AAPL٢60102P00290000", "neither"),
        ("AAPL; DROP TABLE", "neither"),
        ("AAPL,SPY", "neither"),
    ],
)
def test_anything_else_is_unparsed_and_says_why(symbol, problem):
    classified = classify(symbol)
    assert classified.asset_class == "unparsed"
    assert classified.option is None
    assert problem in classified.problem


valid_parts = st.tuples(
    st.from_regex(r"[A-Z]{1,6}|[A-Z]{1,5}[0-9]", fullmatch=True),
    st.dates(date(2000, 1, 1), date(2099, 12, 31)),
    st.sampled_from("CP"),
    st.integers(1, 99_999_999),
)


@given(valid_parts)
def test_every_valid_symbol_padded_or_not_rebuilds_to_its_compact_form(parts):
    root, expiration, letter, thousandths = parts
    rest = f"{expiration:%y%m%d}{letter}{thousandths:08d}"
    compact = classify(root + rest).option
    assert compact.symbol == root + rest
    assert (compact.expiration, compact.strike * 1000) == (expiration, thousandths)
    assert classify(f"{root:<6}{rest}").option == compact


@given(st.text())
def test_no_text_breaks_the_classification(text):
    classified = classify(text)
    assert (classified.option is not None) == (classified.asset_class in ("option", "adjusted_option"))
    assert (classified.problem is not None) == (classified.asset_class == "unparsed")
