"""What can be traded: the tickers that are searched, and the option contracts that are listed for each. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import count, islice

from tradier_pipeline.domain.calendar import MarketCalendar
from tradier_pipeline.simulator.market import (
    INDEXES,
    Market,
    Option,
    closes_at,
    describe,
    is_quoted,
    listed_tickers,
    option_symbol,
    parse_option,
    root_of,
)

_FRIDAY = 4
_WEEKLY, _MONTHLY = 8, 12  # how many of each are listed
_THIRD_WEEK = range(15, 22)
_HALF = Decimal("0.5")
# up to this price of the underlying, strikes lie so far apart
_STRIKE_STEPS = ((25, _HALF), (250, Decimal(1)), (1000, Decimal(5)))
_WIDEST_STEP = Decimal(25)
_REACH = Decimal("0.25")  # strikes reach so far around the level of the underlying


def weekly_expirations(after: date, calendar: MarketCalendar) -> Iterator[date]:
    """The Fridays later than a date, each moved to the session before if it is a holiday."""
    friday = after + timedelta(days=(_FRIDAY - after.weekday() - 1) % 7 + 1)
    for week in count():
        day = friday + timedelta(weeks=week)
        while calendar.session_of(day) is None:
            day -= timedelta(days=1)
        yield day


def expirations(at: datetime, calendar: MarketCalendar) -> list[date]:
    """The expirations listed at an instant: eight weekly ones, and the monthly ones of about a year."""
    today = at.date()
    ahead = [day for day in islice(weekly_expirations(today - timedelta(days=2), calendar), 54) if closes_at(day) >= at]
    monthly = [day for day in ahead if is_monthly(day)][:_MONTHLY]
    return sorted({*ahead[:_WEEKLY], *monthly})


def is_monthly(expiration: date) -> bool:
    """Whether it is the standard expiration of its month: the third Friday, or the session before it."""
    friday = expiration + timedelta(days=(_FRIDAY - expiration.weekday()) % 7)
    return friday.day in _THIRD_WEEK


def strikes(market: Market, underlying: str) -> list[Decimal]:
    """The strikes listed for every expiration of an underlying, USD; the same at any time."""
    level = market.level(underlying)
    step = next((step for limit, step in _STRIKE_STEPS if level < limit), _WIDEST_STEP)
    lowest = max(step, (level * (1 - _REACH) / step).to_integral_value() * step)
    number = int((level * (1 + _REACH) - lowest) / step) + 1
    return [lowest + n * step for n in range(number)]


def contracts(market: Market, underlying: str, expiration: date) -> list[Option]:
    """The contracts of one expiration, by strike, call before put."""
    symbols = (
        option_symbol(root_of(underlying), expiration, right, strike)
        for strike in strikes(market, underlying)
        for right in ("call", "put")
    )
    return [option for symbol in symbols if (option := parse_option(symbol))]


def has_options(underlying: str) -> bool:
    """Whether contracts of a ticker are listed."""
    return is_quoted(underlying)


def easy_to_borrow() -> list[str]:
    """The tickers that may be sold short without asking."""
    return [ticker for ticker in listed_tickers() if ticker not in INDEXES]


def search(text: str) -> list[str]:
    """The tickers whose symbol or name contains a text."""
    wanted = text.upper()
    return [ticker for ticker in listed_tickers() if wanted in ticker or wanted in describe(ticker).upper()]


def lookup(text: str) -> list[str]:
    """The tickers that begin with a text; one that is not among those searched is known by its whole symbol."""
    wanted = text.upper()
    found = [ticker for ticker in listed_tickers() if ticker.startswith(wanted)]
    return found or ([wanted] if is_quoted(wanted) else [])
