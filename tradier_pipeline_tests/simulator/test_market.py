"""Prices are a function of the instant, on the tick, with the bid below the ask."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradier_pipeline.domain.calendar import MarketCalendar
from tradier_pipeline.simulator.market import Market, closes_at, option_symbol, parse_option
from tradier_pipeline.simulator.world import ROUND_THE_CLOCK, World

NOW = datetime(2026, 11, 16, 17, 0, tzinfo=UTC)
MARKET = Market(7)
_instants = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(ticker=st.from_regex(r"[A-Y]{1,5}", fullmatch=True), at=_instants)
def test_every_ticker_has_a_bid_not_above_its_ask_on_the_cent(ticker, at):
    quote = MARKET.quote(ticker, at)
    assert 0 < quote.bid <= quote.last <= quote.ask
    assert {price.as_tuple().exponent for price in (quote.bid, quote.ask, quote.last)} == {-2}


@given(
    strike=st.integers(1, 1500),
    right=st.sampled_from(["call", "put"]),
    days=st.integers(0, 700),
    seed=st.integers(0, 9),
)
def test_every_option_is_worth_its_intrinsic_value_or_more_and_ticks_in_cents_or_nickels(strike, right, days, seed):
    market = Market(seed)
    symbol = option_symbol("SPY", NOW.date() + timedelta(days=days), right, Decimal(strike))
    quote, spot = market.quote(symbol, NOW), market.price("SPY", NOW)
    assert 0 <= quote.bid <= quote.last <= quote.ask
    assert quote.ask >= parse_option(symbol).intrinsic(spot) - Decimal("0.01")
    if quote.bid >= 3:
        assert quote.bid % Decimal("0.05") == quote.ask % Decimal("0.05") == 0


def test_an_option_is_quoted_until_it_expires():
    symbol = option_symbol("AAPL", date(2026, 11, 20), "call", Decimal("12.5"))
    assert symbol == "AAPL261120C00012500"
    close = closes_at(date(2026, 11, 20))
    assert close == datetime(2026, 11, 20, 21, 0, tzinfo=UTC)
    assert MARKET.quote(symbol, close) is not None
    assert MARKET.quote(symbol, close + timedelta(milliseconds=1)) is None


@pytest.mark.parametrize(
    ("symbol", "underlying"),
    [("SPXW261120P06700000", "SPX"), ("BRKB261120C00500000", "BRK/B"), ("AAPL1261120C00100000", "AAPL")],
)
def test_a_root_names_its_underlying(symbol, underlying):
    assert parse_option(symbol).underlying == underlying
    assert MARKET.quote(symbol, NOW) is not None


@pytest.mark.parametrize("symbol", ["", "ZZTOP", "SPY261340C00100000", "spy", "TOOLONG", "SPY261120X00100000"])
def test_what_is_no_symbol_has_no_quote(symbol):
    assert MARKET.quote(symbol, NOW) is None


def test_the_index_is_ten_times_the_fund_and_moves_within_minutes():
    spx, spy = MARKET.price("SPX", NOW), MARKET.price("SPY", NOW)
    assert abs(spx - 10 * spy) < 2
    assert MARKET.price("SPY", NOW + timedelta(minutes=1)) != spy


def test_prices_stand_still_from_the_close_until_the_next_opening():
    thanksgiving = datetime(2026, 11, 26, 18, 0, tzinfo=UTC)
    closed, opened = datetime(2026, 11, 25, 21, 0, tzinfo=UTC), datetime(2026, 11, 27, 14, 30, tzinfo=UTC)
    put = option_symbol("SPY", date(2026, 12, 18), "put", Decimal(650))
    market = World(7, thanksgiving, thanksgiving, calendar=MarketCalendar("XNYS")).market
    for symbol in ("SPY", put):
        standing = market.quote(symbol, closed)
        assert standing != market.quote(symbol, closed - timedelta(hours=1))
        assert standing == market.quote(symbol, thanksgiving) == market.quote(symbol, opened - timedelta(seconds=1))
        assert standing != market.quote(symbol, opened + timedelta(hours=1))
        moving = World(7, thanksgiving, thanksgiving, calendar=ROUND_THE_CLOCK).market
        assert moving.quote(symbol, thanksgiving) != moving.quote(symbol, thanksgiving + timedelta(hours=1))
    assert market.greeks(parse_option(put), thanksgiving) == market.greeks(parse_option(put), closed)
    early = datetime(2026, 11, 27, 18, 0, tzinfo=UTC)  # 13:00 on the day after
    assert market.price("SPY", early) == market.price("SPY", closes_at(date(2026, 11, 27)))
