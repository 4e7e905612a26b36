"""Simulated prices: a pure function of (seed, calendar, symbol, instant). Outside sessions they stand still.

No state, so that every process that serves one world, and every replayed instant, sees the same market.
The price path is modelled in binary floating point; what leaves this module is a Decimal on the tick.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b
from zoneinfo import ZoneInfo

from tradier_pipeline.domain.calendar import MarketCalendar

NEW_YORK = ZoneInfo("America/New_York")
CONTRACT_SIZE = 100
ZERO = Decimal(0)

_OPTION = re.compile(r"^([A-Z0-9]{1,6})(\d{6})([CP])(\d{8})$")
_TICKER = re.compile(r"^[A-Z]{1,5}(/[A-Z])?$")
_UNQUOTED_PREFIX = "ZZ"  # tickers that stand for delisted ones: no quote, "unmatched"
_YEAR = timedelta(days=365).total_seconds()

# symbol: (description, price the path moves around, yearly volatility)
_LISTED: Mapping[str, tuple[str, float, float]] = {
    "AAPL": ("Apple Inc", 271.0, 0.26),
    "BRK/B": ("Berkshire Hathaway Inc", 497.0, 0.18),
    "F": ("Ford Motor Co", 13.2, 0.38),
    "GE": ("GE Aerospace", 302.0, 0.30),
    "IWM": ("iShares Russell 2000 ETF", 241.0, 0.20),
    "KO": ("Coca-Cola Co", 70.5, 0.15),
    "MSFT": ("Microsoft Corp", 505.0, 0.22),
    "NVDA": ("NVIDIA Corp", 187.0, 0.42),
    "QQQ": ("Invesco QQQ Trust", 612.0, 0.19),
    "SPX": ("S&P 500 Index", 6610.0, 0.15),
    "SPY": ("SPDR S&P 500 ETF", 661.0, 0.15),
    "XLF": ("Financial Select Sector SPDR", 52.6, 0.17),
}
INDEXES = frozenset({"SPX"})
ETFS = frozenset({"IWM", "QQQ", "SPY", "XLF"})
_EXCHANGE_OF = {"BRK/B": "N", "F": "N", "GE": "N", "IWM": "P", "KO": "N", "SPY": "P", "XLF": "P"}  # others: Nasdaq
_UNDERLYING_OF_ROOT = {"SPXW": "SPX", "BRKB": "BRK/B"}
_ROOT_OF_UNDERLYING = {underlying: root for root, underlying in _UNDERLYING_OF_ROOT.items()}
_PATH_OF = {"SPX": "SPY"}  # an index and the fund that holds it move together
# (period in seconds, amplitude): from a season to a few minutes, so that every minute shows a change
_WAVES = ((97 * 86400, 0.06), (19 * 86400, 0.022), (3.3 * 86400, 0.009), (25000, 0.004), (2500, 0.0015), (230, 0.0005))


@dataclass(frozen=True, slots=True)
class Option:
    """A contract read from its compact OCC symbol (Tradier: no padding, strike times 1000 in 8 digits)."""

    symbol: str
    root: str
    underlying: str
    expiration: date
    right: str  # call | put
    strike: Decimal

    @property
    def settles_in_cash(self) -> bool:
        return self.underlying in INDEXES

    def intrinsic(self, spot: Decimal) -> Decimal:
        """Value of one share's worth of the contract if it were exercised at `spot`, USD."""
        return max(ZERO, spot - self.strike if self.right == "call" else self.strike - spot)


@dataclass(frozen=True, slots=True)
class Quote:
    """One symbol at one instant, USD per share."""

    symbol: str
    bid: Decimal
    ask: Decimal
    last: Decimal

    @property
    def mark(self) -> Decimal:
        return (self.bid + self.ask) / 2


@dataclass(frozen=True, slots=True)
class Greeks:
    delta: Decimal
    gamma: Decimal
    theta: Decimal
    vega: Decimal
    rho: Decimal
    volatility: Decimal


@lru_cache(maxsize=4096)
def closes_at(day: date) -> datetime:
    """The instant at which options of that expiration expire: 16:00 in New York, as UTC."""
    return datetime.combine(day, time(16), NEW_YORK).astimezone(UTC)


@lru_cache(maxsize=4096)
def parse_option(symbol: str) -> Option | None:
    """The contract a compact OCC symbol names, or None when it is not one."""
    found = _OPTION.match(symbol)
    if found is None:
        return None
    root, day, right, strike = found.groups()
    try:
        expiration = date(2000 + int(day[:2]), int(day[2:4]), int(day[4:]))
    except ValueError:
        return None
    stem = root.rstrip("0123456789") or root
    underlying = _UNDERLYING_OF_ROOT.get(stem, stem)
    return Option(symbol, root, underlying, expiration, "call" if right == "C" else "put", Decimal(int(strike)) / 1000)


def option_symbol(root: str, expiration: date, right: str, strike: Decimal) -> str:
    """The compact OCC symbol of a contract."""
    return f"{root}{expiration:%y%m%d}{right[0].upper()}{int(strike * 1000):08d}"


def multiplier(symbol: str) -> int:
    """Shares that one unit of the symbol stands for."""
    return CONTRACT_SIZE if parse_option(symbol) else 1


def describe(symbol: str) -> str:
    """The broker's text for a symbol: `Apple Inc`, `SPY Jan 15 2027 $600.00 Call`."""
    option = parse_option(symbol)
    if option is None:
        return _LISTED[symbol][0] if symbol in _LISTED else symbol
    return f"{option.root} {option.expiration:%b %d %Y} ${option.strike:.2f} {option.right.capitalize()}"


def exchange_of(symbol: str) -> str:
    """The broker's letter for the exchange of a symbol (Tradier: Q is Nasdaq, N the NYSE, P Arca)."""
    return "Z" if parse_option(symbol) else _EXCHANGE_OF.get(symbol, "Q")


def root_of(underlying: str) -> str:
    """The root of the option symbols of a ticker."""
    return _ROOT_OF_UNDERLYING.get(underlying, underlying)


def listed_tickers() -> tuple[str, ...]:
    """The tickers that have a name; any other is quoted as well."""
    return tuple(_LISTED)


def is_quoted(ticker: str) -> bool:
    return _TICKER.match(ticker) is not None and not ticker.startswith(_UNQUOTED_PREFIX)


@lru_cache(maxsize=1024)
def _character(seed: int, ticker: str) -> tuple[float, float, tuple[float, ...]]:
    """(price level, volatility, phase of each wave) of a ticker."""
    phases = blake2b(f"{seed}:{_PATH_OF.get(ticker, ticker)}".encode(), digest_size=2 * len(_WAVES)).digest()
    turns = tuple(int.from_bytes(phases[i : i + 2], "big") / 65536 for i in range(0, len(phases), 2))
    if ticker in _LISTED:
        _, level, volatility = _LISTED[ticker]
    else:
        level, volatility = 8 + 380 * turns[0] ** 2, 0.2 + 0.3 * turns[1]
    return level, volatility, turns


def _on_tick(value: float, tick: int, *, up: bool) -> Decimal:
    """`value` rounded to a multiple of `tick` cents, away from the middle so that bid <= ask."""
    cents = value * 100 / tick
    whole = math.ceil(cents - 1e-9) if up else math.floor(cents + 1e-9)
    return Decimal(max(0, whole) * tick).scaleb(-2)


def _cents(value: float) -> Decimal:
    return Decimal(round(value * 100)).scaleb(-2)


def _normal(x: float) -> float:
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


@dataclass(frozen=True, slots=True)
class Market:
    """Every price there is. `seed` chooses one market among many.

    `calendar`: outside its sessions every price is that of the last close; None: prices move around the clock.
    """

    seed: int
    calendar: MarketCalendar | None = None

    def moment(self, at: datetime) -> datetime:
        """The instant of which the prices at `at` are."""
        return at if self.calendar is None else _last_moment(self.calendar, at)

    def price(self, ticker: str, at: datetime) -> Decimal | None:
        """The last price of a ticker in cents, None when nobody quotes it."""
        return _price(self.seed, ticker, self.moment(at))

    def level(self, ticker: str) -> Decimal:
        """The price that a ticker's path moves around, USD; the same at any time."""
        return _cents(_character(self.seed, ticker)[0])

    def quote(self, symbol: str, at: datetime) -> Quote | None:
        """Bid, ask and last of a ticker or an option; None for an unknown symbol or an expired option."""
        option = parse_option(symbol)
        if option is not None and at > closes_at(option.expiration):
            return None
        return _quote(self.seed, symbol, self.moment(at))

    def greeks(self, option: Option, at: datetime) -> Greeks:
        """Sensitivities of a contract that has a quote; per share, theta per day, vega and rho per point."""
        at = self.moment(at)
        spot, strike = _spot(self.seed, option.underlying, at), float(option.strike)
        years, volatility, d1, d2 = _terms(self.seed, option, spot, at)
        sign, root = (1 if option.right == "call" else -1), math.sqrt(years)
        density = math.exp(-d1 * d1 / 2) / math.sqrt(2 * math.pi)
        greeks = (
            sign * _normal(sign * d1),
            density / (spot * volatility * root),
            -spot * density * volatility / (2 * root) / 365,
            spot * density * root / 100,
            sign * strike * years * _normal(sign * d2) / 100,
            volatility,
        )
        return Greeks(*(Decimal(f"{greek:.8f}") for greek in greeks))


@lru_cache(maxsize=4096)
def _last_moment(calendar: MarketCalendar, at: datetime) -> datetime:
    return min(at, calendar.last_session(at).close)


@lru_cache(maxsize=4096)  # every contract of a chain asks for the same ones
def _spot(seed: int, ticker: str, at: datetime) -> float:
    level, _, turns = _character(seed, ticker)
    seconds, drift = at.timestamp(), 0.0
    for (period, size), turn in zip(_WAVES, turns, strict=True):
        drift += size * math.sin(2 * math.pi * (seconds / period + turn))
    return level * math.exp(drift)


@lru_cache(maxsize=16384)
def _price(seed: int, ticker: str, at: datetime) -> Decimal | None:
    return _cents(_spot(seed, ticker, at)) if is_quoted(ticker) else None


# One instant values a position, its order and its balance: the same quote several times over.
@lru_cache(maxsize=16384)
def _quote(seed: int, symbol: str, at: datetime) -> Quote | None:
    option = parse_option(symbol)
    if option is None:
        last = _price(seed, symbol, at)
        if last is None:
            return None
        value, tick, half = float(last), 1, float(last) * 0.00008
    else:
        if not is_quoted(option.underlying):
            return None
        value = _model_value(seed, option, at)
        tick, half = 5 if value >= 3 else 1, 0.005 + value * 0.006
    bid, ask = _on_tick(value - half, tick, up=False), _on_tick(value + half, tick, up=True)
    return Quote(symbol, bid, ask, min(max(_cents(value), bid), ask))


def _model_value(seed: int, option: Option, at: datetime) -> float:
    """Black-Scholes without interest: intrinsic plus time value that decays to nothing at expiration."""
    spot = _spot(seed, option.underlying, at)
    _, _, d1, d2 = _terms(seed, option, spot, at)
    sign = 1 if option.right == "call" else -1
    return max(0.0, sign * (spot * _normal(sign * d1) - float(option.strike) * _normal(sign * d2)))


def _terms(seed: int, option: Option, spot: float, at: datetime) -> tuple[float, float, float, float]:
    """(years left, volatility, d1, d2) of the model."""
    volatility = _character(seed, option.underlying)[1]
    years = max((closes_at(option.expiration) - at).total_seconds() / _YEAR, 1e-9)
    spread = volatility * math.sqrt(years)
    d1 = math.log(spot / max(float(option.strike), 0.001)) / spread + spread / 2
    return years, volatility, d1, d1 - spread
