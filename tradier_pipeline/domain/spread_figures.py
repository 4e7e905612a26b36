"""The odds of an option spread as of a snapshot: prices per share, break-evens, its nearest short leg, greeks. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from tradier_pipeline.broker.models import Greeks, Quote
from tradier_pipeline.core.decimals import rounded

_ZERO = Decimal(0)
_GREEKS = ("delta", "theta", "vega")


@dataclass(frozen=True, slots=True)
class Quoted:
    """What the quote of one symbol says of it: USD per share, and the greeks of an option."""

    bid: Decimal | None = None
    ask: Decimal | None = None
    last: Decimal | None = None
    delta: float | None = None
    theta: float | None = None
    vega: float | None = None

    @classmethod
    def of(cls, quote: Quote) -> Quoted:
        greeks = quote.greeks or Greeks()
        return cls(quote.bid, quote.ask, quote.last, greeks.delta, greeks.theta, greeks.vega)

    @property
    def price(self) -> Decimal | None:
        """The middle of bid and ask, or the last trade where one is missing."""
        if self.bid and self.ask and self.bid > 0 and self.ask > 0:
            return rounded((self.bid + self.ask) / 2)
        return self.last


class Leg(Protocol):
    """What is asked of a leg; shares have neither type nor strike."""

    @property
    def symbol(self) -> str: ...
    @property
    def asset_class(self) -> str: ...
    @property
    def option_type(self) -> str | None: ...
    @property
    def strike(self) -> Decimal | None: ...
    @property
    def multiplier(self) -> int | None: ...
    @property
    def quantity(self) -> Decimal: ...


@dataclass(frozen=True, slots=True)
class SpreadFigures:
    """Of one spread. Null is what cannot be known, and what is too large for DECIMAL(24,8).

    Attributes:
        underlying_price: USD, see `Quoted.price`.
        entry_price, close_price: USD per share that it cost and is worth, negative for a credit; null with shares.
        break_even_low, break_even_high: USD per share at expiration without profit or loss, the lowest and the highest
            one; the second is null if there is one alone, both without a known payoff.
        short_strike, short_type: of the short leg that the underlying is nearest to, or over.
        distance: USD per share that this leg is out of the money; negative: in the money.
        delta, theta, vega: shares that it moves like, USD a day, USD a point of volatility; null if a leg has none.
    """

    underlying_price: Decimal | None
    entry_price: Decimal | None
    close_price: Decimal | None
    break_even_low: Decimal | None
    break_even_high: Decimal | None
    short_strike: Decimal | None
    short_type: str | None
    distance: Decimal | None
    delta: float | None
    theta: float | None
    vega: float | None


def spread_figures(
    underlying: str,
    quantity: Decimal,
    cost: Decimal | None,
    market_value: Decimal | None,
    legs: Sequence[Leg],
    quotes: Mapping[str, Quoted],
    *,
    has_payoff: bool,
) -> SpreadFigures:
    """The figures of a spread of these legs; money as in `Spread`. To be called where decimals are not rounded."""
    quote = quotes.get(underlying)
    price = quote.price if quote else None
    units = _ZERO
    if all(leg.asset_class != "equity" for leg in legs):
        units = quantity * max((leg.multiplier for leg in legs if leg.multiplier is not None), default=0)
    zeros = _break_evens(legs, cost) if has_payoff and cost is not None else []
    shorts = (leg for leg in legs if leg.quantity < 0 and leg.strike is not None)
    nearest = min(shorts, key=lambda leg: (_away(leg, price) or _ZERO, leg.strike, leg.option_type), default=None)
    delta, theta, vega = (_greek(name, legs, quotes) for name in _GREEKS)
    return SpreadFigures(
        underlying_price=price,
        entry_price=rounded(cost / units) if units and cost is not None else None,
        close_price=rounded(market_value / units) if units and market_value is not None else None,
        break_even_low=rounded(min(zeros)) if zeros else None,
        break_even_high=rounded(max(zeros)) if len(zeros) > 1 else None,
        short_strike=nearest.strike if nearest else None,
        short_type=nearest.option_type if nearest else None,
        distance=_away(nearest, price) if nearest else None,
        delta=delta,
        theta=theta,
        vega=vega,
    )


def _away(leg: Leg, price: Decimal | None) -> Decimal | None:
    """USD per share that the underlying is out of the money."""
    if price is None or leg.strike is None:
        return None
    return price - leg.strike if leg.option_type == "put" else leg.strike - price


def _size(leg: Leg) -> int | None:
    return 1 if leg.asset_class == "equity" else leg.multiplier


def _greek(name: str, legs: Iterable[Leg], quotes: Mapping[str, Quoted]) -> float | None:
    total = 0.0
    for leg in legs:
        if leg.asset_class == "equity":
            total += float(leg.quantity) if name == "delta" else 0.0
            continue
        each = getattr(quotes.get(leg.symbol), name, None)
        if each is None or leg.multiplier is None:
            return None
        total += float(leg.quantity) * leg.multiplier * each
    return total


class Payoff:
    """What legs gain at expiration: a line over the price of the underlying that bends at the strikes. USD.

    Attributes:
        bends: the prices at which it bends, and zero.
        slope: what a dollar above the highest strike adds.
    """

    def __init__(self, sizes: Iterable[tuple[bool, Decimal, Decimal]], cost: Decimal) -> None:
        """`sizes`: whether it is a put, its strike and its signed shares; a share is a call struck at zero."""
        self._sizes, self._cost = tuple(sizes), cost
        self.bends = sorted({_ZERO, *(strike for _, strike, _ in self._sizes)})
        self.slope = sum((size for is_put, _, size in self._sizes if not is_put), _ZERO)

    def gain(self, price: Decimal) -> Decimal:
        worths = ((strike - price if is_put else price - strike, size) for is_put, strike, size in self._sizes)
        return sum((max(worth, _ZERO) * size for worth, size in worths), -self._cost)


def _break_evens(legs: Sequence[Leg], cost: Decimal) -> list[Decimal]:
    """The prices at expiration without profit or loss: between two bends, or after the last.

    Of a stretch without profit or loss the end is one.
    """
    sizes = ((leg.option_type == "put", leg.strike or _ZERO, leg.quantity * (_size(leg) or 0)) for leg in legs)
    payoff = Payoff(sizes, cost)
    bends, gains = payoff.bends, [payoff.gain(price) for price in payoff.bends]
    zeros: list[Decimal] = []
    for here, of_here, there, of_there in zip(bends, gains, [*bends[1:], None], [*gains[1:], None], strict=True):
        if of_here == 0:
            if here > 0 and of_there != 0:
                zeros.append(here)
        elif there is None or of_there is None:
            if of_here * payoff.slope < 0:
                zeros.append(here - of_here / payoff.slope)
        elif of_here * of_there < 0:
            zeros.append(here + (there - here) * (of_here / (of_here - of_there)))
    return zeros
