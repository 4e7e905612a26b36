"""The market as Tradier's JSON bodies: quotes, contracts, prices of the past, symbols, clock and calendar. Pure.

What there is none of is JSON null here, and the string "null" in the bodies of an account.
"""

from __future__ import annotations

import calendar as months
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from itertools import groupby

from tradier_pipeline.domain.calendar import MarketCalendar, Session
from tradier_pipeline.simulator import listings
from tradier_pipeline.simulator.market import (
    CONTRACT_SIZE,
    ETFS,
    INDEXES,
    NEW_YORK,
    ZERO,
    Market,
    Option,
    closes_at,
    describe,
    exchange_of,
    parse_option,
    root_of,
)
from tradier_pipeline.simulator.wire import Json
from tradier_pipeline.simulator.world import new_york_date

_HUNDRED = Decimal(100)
_DAILY_VOLUME = 50_000_000
_SEASON_OF_OPTION = 4  # of the grid's instants: a contract is listed for some months, and a chain has hundreds
_PREMARKET, _POSTMARKET_END = time(7), time(20)
_POSTMARKET_END_OF_HALF_DAY = time(17)
_REGULAR_CLOSE = time(16)

# of a bar: the key under which it belongs to its day, week or month
_PERIOD_OF: dict[str, Callable[[date], date]] = {
    "daily": lambda day: day,
    "weekly": lambda day: day - timedelta(days=day.weekday()),
    "monthly": lambda day: day.replace(day=1),
}
INTERVALS = frozenset(_PERIOD_OF)
# (time between two rows, how far back they go); a tick is simulated as one print a minute
_STEP_OF = {
    "tick": (timedelta(minutes=1), timedelta(days=5)),
    "1min": (timedelta(minutes=1), timedelta(days=20)),
    "5min": (timedelta(minutes=5), timedelta(days=40)),
    "15min": (timedelta(minutes=15), timedelta(days=40)),
}
STEPS = frozenset(_STEP_OF)


def quotes(market: Market, symbols: Sequence[str], at: datetime, *, greeks: bool) -> Json:
    """Bare object for one, array for many, also among the unmatched symbols."""
    found: list[Json] = []
    unmatched: list[Json] = []
    grid = _Grid.around(at)
    for symbol in symbols:
        row = _quote_row(market, symbol, at, grid, greeks=greeks)
        (found.append(row) if row is not None else unmatched.append(symbol))
    body: dict[str, Json] = {}
    if found:
        body["quote"] = found[0] if len(found) == 1 else found
    if unmatched:
        body["unmatched_symbols"] = {"symbol": unmatched[0] if len(unmatched) == 1 else unmatched}
    return {"quotes": body}


def quote_rows(market: Market, symbols: Sequence[str], at: datetime) -> list[dict[str, Json]]:
    """The quotes of those symbols that have one."""
    grid = _Grid.around(at)
    rows = (_quote_row(market, symbol, at, grid, greeks=False) for symbol in symbols)
    return [row for row in rows if row is not None]


@dataclass(frozen=True, slots=True)
class _Grid:
    """Instants whose prices make up a day's and a year's range. A fixed grid: its prices are remembered."""

    day: tuple[datetime, ...]  # yesterday's close, today's opening, then some hours
    season: tuple[datetime, ...]

    @classmethod
    def around(cls, at: datetime) -> _Grid:
        today = new_york_date(at)
        hour = at.replace(minute=0, second=0, microsecond=0)
        opening = datetime.combine(today, time(9, 30), NEW_YORK).astimezone(UTC)
        return cls(
            (closes_at(today - timedelta(days=1)), min(opening, hour), *(hour - timedelta(hours=n) for n in range(5))),
            tuple(closes_at(today - timedelta(days=26 * n)) for n in range(1, 15)),
        )


@dataclass(frozen=True, slots=True)
class _Past:
    """What a quote says of earlier prices, USD per share; None and empty where nobody quoted the symbol."""

    before: Decimal | None
    opening: Decimal | None
    day_range: tuple[Decimal, ...]  # lowest and highest
    season_range: tuple[Decimal, ...]

    @staticmethod
    @lru_cache(maxsize=16384)  # every contract of some underlyings: whoever reads all chains does so again
    def of(market: Market, symbol: str, grid: _Grid) -> _Past:
        season = grid.season[:_SEASON_OF_OPTION] if parse_option(symbol) else grid.season
        day, earlier = (
            [quote.last if (quote := market.quote(symbol, instant)) else None for instant in instants]
            for instants in (grid.day, season)
        )
        return _Past(day[0], day[1], _range(day[1:]), _range(earlier))


def _range(prices: Sequence[Decimal | None]) -> tuple[Decimal, ...]:
    known = [price for price in prices if price is not None]
    return (min(known), max(known)) if known else ()


def _quote_row(market: Market, symbol: str, at: datetime, grid: _Grid, *, greeks: bool) -> dict[str, Json] | None:
    quote = market.quote(symbol, at)
    if quote is None:
        return None
    option = parse_option(symbol)
    past = _Past.of(market, symbol, grid)
    before, opening = (quote.last if price is None else price for price in (past.before, past.opening))
    day = [quote.last, opening, *past.day_range]
    season = [*day, *past.season_range]
    traded_at = market.moment(at)
    stamp = int(traded_at.timestamp()) * 1000
    volume = int(traded_at.timestamp()) % 86400 * (len(symbol) + 3)
    row: dict[str, Json] = {
        "symbol": symbol,
        "description": describe(symbol),
        "exch": exchange_of(symbol),
        "type": security_type(symbol),
        "last": quote.last,
        "change": quote.last - before,
        "volume": volume,
        "open": opening,
        "high": max(day),
        "low": min(day),
        "close": None,
        "bid": quote.bid,
        "ask": quote.ask,
        "change_percentage": ((quote.last - before) / before * _HUNDRED).quantize(Decimal("0.01")) if before else ZERO,
        "average_volume": 0 if option else 1000000,
        "last_volume": 1 + stamp // 1000 % 9,
        "trade_date": stamp,
        "prevclose": before,
        "week_52_high": max(season),
        "week_52_low": min(season),
        "bidsize": 1 + stamp // 1000 % 17,
        "bidexch": "Q",
        "bid_date": stamp,
        "asksize": 1 + stamp // 1000 % 13,
        "askexch": "Q",
        "ask_date": stamp,
    }
    if option is None:
        return row | {"root_symbols": "SPX,SPXW" if symbol == "SPX" else symbol.replace("/", "")}
    return row | _option_fields(market, option, at, greeks=greeks)


def _option_fields(market: Market, option: Option, at: datetime, *, greeks: bool) -> dict[str, Json]:
    row: dict[str, Json] = {
        "underlying": option.underlying,
        "strike": option.strike,
        "open_interest": 100 + int(option.strike) % 900,
        "contract_size": CONTRACT_SIZE,
        "expiration_date": option.expiration.isoformat(),
        "expiration_type": _expiration_type(option.expiration),
        "option_type": option.right,
        "root_symbol": option.root,
    }
    if greeks:
        measured = market.greeks(option, at)
        row["greeks"] = {
            "delta": measured.delta,
            "gamma": measured.gamma,
            "theta": measured.theta,
            "vega": measured.vega,
            "rho": measured.rho,
            "phi": -measured.rho,
            "bid_iv": measured.volatility,
            "mid_iv": measured.volatility,
            "ask_iv": measured.volatility,
            "smv_vol": measured.volatility,
            "updated_at": at.strftime("%Y-%m-%d %H:00:00"),
        }
    return row


def _expiration_type(expiration: date) -> str:
    return "standard" if listings.is_monthly(expiration) else "weeklys"


@dataclass(frozen=True, slots=True)
class _Bar:
    """The prices of one span of time, USD per share."""

    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal

    @classmethod
    def over(cls, market: Market, symbol: str, start: datetime, end: datetime, samples: int) -> _Bar | None:
        """Of a span, seen at both ends and some instants between; None if nobody quotes the symbol in it."""
        step = (end - start) / samples
        quotes = (market.quote(symbol, start + n * step) for n in range(samples + 1))
        return cls.of([quote.last for quote in quotes if quote is not None])

    @classmethod
    def of(cls, path: Sequence[Decimal]) -> _Bar | None:
        return cls(path[0], max(path), min(path), path[-1]) if path else None

    def row(self, volume: int) -> dict[str, Json]:
        return {"open": self.open, "high": self.high, "low": self.low, "close": self.close, "volume": volume}


def prices(
    market: Market,
    calendar: MarketCalendar,
    symbol: str,
    now: datetime,
    *,
    interval: str,
    start: date | None,
    end: date | None,
) -> Json:
    """The prices of each day, week or month, of its sessions that are over."""
    last = min(end or date.max, new_york_date(now))
    first = start or last.replace(month=1, day=1)
    bars = (
        (session.date, bar)
        for session in _sessions(calendar, first, last)
        if session.close <= now and (bar := _Bar.over(market, symbol, session.open, session.close, 6)) is not None
    )
    rows: list[Json] = []
    for period, group in groupby(bars, key=lambda dated: _PERIOD_OF[interval](dated[0])):
        days = [bar for _, bar in group]
        whole = _Bar(days[0].open, max(bar.high for bar in days), min(bar.low for bar in days), days[-1].close)
        rows.append({"date": period.isoformat(), **whole.row(_DAILY_VOLUME * len(days))})
    return _market_listing("history", "day", rows)


def time_sales(
    market: Market,
    calendar: MarketCalendar,
    symbol: str,
    now: datetime,
    *,
    interval: str,
    start: datetime | None,
    end: datetime | None,
    regular: bool = False,
) -> Json:
    """The prices of each minute or few, of today or from `start` to `end`, as far back as the interval goes.

    There is nothing outside the regular sessions, asked for (`regular`) or not.
    """
    step, reach = _STEP_OF[interval]
    until = min(end or now, now)
    since = max(start or datetime.combine(new_york_date(until), time(), NEW_YORK), now - reach)
    rows: list[Json] = []
    for session in _sessions(calendar, new_york_date(since), new_york_date(until)):
        for n in range((session.close - session.open) // step):
            at = session.open + n * step
            if since <= at and at + step <= until and (bar := _Bar.over(market, symbol, at, at + step, 3)) is not None:
                rows.append(_sale(at, bar))
    return _market_listing("series", "data", rows)


def _sale(at: datetime, bar: _Bar) -> Json:
    middle = ((bar.high + bar.low + bar.close) / 3).quantize(Decimal("0.0001"))
    stamp = int(at.timestamp())
    clock_time = f"{at.astimezone(NEW_YORK):%Y-%m-%dT%H:%M:%S}"
    return {"time": clock_time, "timestamp": stamp, "price": bar.close, **bar.row(1 + stamp % 90_000), "vwap": middle}


def _sessions(calendar: MarketCalendar, first: date, last: date) -> Iterator[Session]:
    days = (first + timedelta(days=number) for number in range((last - first).days + 1))
    return (session for day in days if (session := calendar.session_of(day)) is not None)


def option_expirations(
    market: Market, calendar: MarketCalendar, underlying: str, now: datetime, *, with_strikes: bool, detailed: bool
) -> Json:
    """The expirations of an underlying: dates, or (`detailed`) what each is, `with_strikes` with its strikes."""
    if not listings.has_options(underlying):
        return {"expirations": None}
    dates = listings.expirations(now, calendar)
    if not (with_strikes or detailed):
        return _market_listing("expirations", "date", [day.isoformat() for day in dates])
    rows: list[Json] = []
    for day in dates:
        row: dict[str, Json] = {
            "date": day.isoformat(),
            "contract_size": CONTRACT_SIZE,
            "expiration_type": _expiration_type(day),
        }
        rows.append({**row, "strikes": {"strike": _strikes(market, underlying)}} if with_strikes else row)
    return _market_listing("expirations", "expiration", rows)


def option_strikes(market: Market, calendar: MarketCalendar, underlying: str, expiration: date, now: datetime) -> Json:
    """The strikes of one expiration, USD."""
    listed = listings.has_options(underlying) and expiration in listings.expirations(now, calendar)
    return _market_listing("strikes", "strike", _strikes(market, underlying) if listed else [])


def _strikes(market: Market, underlying: str) -> list[Json]:
    return [strike.quantize(Decimal("0.1")) for strike in listings.strikes(market, underlying)]


def option_chain(
    market: Market, calendar: MarketCalendar, underlying: str, expiration: date, now: datetime, *, greeks: bool
) -> Json:
    """A quote for each contract of one expiration."""
    rows: list[Json] = []
    if listings.has_options(underlying) and expiration in listings.expirations(now, calendar):
        grid = _Grid.around(now)
        quoted = (
            _quote_row(market, option.symbol, now, grid, greeks=greeks)
            for option in listings.contracts(market, underlying, expiration)
        )
        rows += [row for row in quoted if row is not None]
    return _market_listing("options", "option", rows)


def option_symbols(
    market: Market, calendar: MarketCalendar, underlying: str, now: datetime, wanted: Callable[[Option], bool]
) -> Json:
    """The symbols of all contracts of an underlying that are `wanted`. Always a list of roots (Tradier)."""
    if not listings.has_options(underlying):
        return {"symbols": None}
    found = [
        option.symbol
        for expiration in listings.expirations(now, calendar)
        for option in listings.contracts(market, underlying, expiration)
        if wanted(option)
    ]
    return {"symbols": [{"rootSymbol": root_of(underlying), "options": found}]}


def securities(tickers: Sequence[str]) -> Json:
    """What the tickers are."""
    rows: list[Json] = [
        {
            "symbol": ticker,
            "exchange": exchange_of(ticker),
            "type": security_type(ticker),
            "description": describe(ticker),
        }
        for ticker in tickers
    ]
    return _market_listing("securities", "security", rows)


def security_type(ticker: str) -> str:
    """The broker's word for what a ticker is."""
    if parse_option(ticker):
        return "option"
    return "index" if ticker in INDEXES else "etf" if ticker in ETFS else "stock"


def _market_listing(outer: str, inner: str, rows: Sequence[Json]) -> Json:
    """The envelope of a list of market data (Tradier: null for none, the bare element for one)."""
    return {outer: {inner: rows[0] if len(rows) == 1 else rows} if rows else None}


def clock(calendar: MarketCalendar, now: datetime) -> Json:
    """The exchange's clock: holidays are closed, half days close early."""
    local = now.astimezone(NEW_YORK)
    session = calendar.session_of(local.date())
    state, change, following = _phase(session, local.time())
    description = "Market is closed"
    if state == "open" and session is not None:
        description = f"Market is open from {_hours(session.open)} to {_hours(session.close)}"
    return {
        "clock": {
            "date": local.date().isoformat(),
            "description": description,
            "state": state,
            "timestamp": int(now.timestamp()),
            "next_change": change,
            "next_state": following,
        }
    }


def _phase(session: Session | None, at: time) -> tuple[str, str, str]:
    """(state, time in New York at which it changes, state after that). Tradier: the time has no date."""
    if session is None:
        return "closed", f"{_PREMARKET:%H:%M}", "premarket"
    opens, closes = (instant.astimezone(NEW_YORK).time() for instant in (session.open, session.close))
    ends = _POSTMARKET_END if closes >= _REGULAR_CLOSE else _POSTMARKET_END_OF_HALF_DAY
    states = ("closed", "premarket", "open", "postmarket", "closed", "premarket")
    changes = (_PREMARKET, opens, closes, ends)
    passed = sum(1 for change in changes if change <= at)
    return states[passed], f"{changes[passed % len(changes)]:%H:%M}", states[passed + 1]


def _hours(at: datetime) -> str:
    return f"{at.astimezone(NEW_YORK):%H:%M}"


def month(calendar: MarketCalendar, year: int, number: int) -> Json:
    """The month's days with the exchange's sessions: holidays have none, half days a short one."""
    days: list[Json] = []
    for of_month in range(1, months.monthrange(year, number)[1] + 1):
        day = date(year, number, of_month)
        session = calendar.session_of(day)
        if session is None:
            days.append({"date": day.isoformat(), "status": "closed", "description": "Market is closed"})
            continue
        opens, closes = _hours(session.open), _hours(session.close)
        days.append(
            {
                "date": day.isoformat(),
                "status": "open",
                "description": "Market is open",
                "premarket": {"start": "07:00", "end": "09:24"},
                "open": {"start": opens, "end": closes},
                "postmarket": {"start": closes, "end": "19:55" if closes == "16:00" else "17:00"},
            }
        )
    return {"calendar": {"month": number, "year": year, "days": {"day": days}}}
