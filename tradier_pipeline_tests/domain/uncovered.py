"""The shorts of spreads that nothing covers: what the grouping of positions is measured by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from tradier_pipeline.domain.spreads import Spread, SpreadLeg

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class UncoveredShort:
    """Short contracts of a spread that nothing in it covers; `quantity` in contracts, > 0."""

    spread_no: int
    symbol: str
    quantity: Decimal


def uncovered(spreads: Iterable[Spread]) -> tuple[UncoveredShort, ...]:
    """The shorts that no leg of their own spread covers: naked ones, both legs of a short straddle or strangle, the
    excess of a ratio, the short of a short calendar.

    A long of the same root and type covers until it expires, and shares cover a call. A short put is never covered by
    cash. An adjusted contract stands alone, so that a short one is reported, too.
    """
    return tuple(short for spread in spreads for short in _uncovered(spread))


def _uncovered(spread: Spread) -> Iterator[UncoveredShort]:
    shorts = [leg for leg in spread.legs if leg.option_type and leg.quantity < 0]
    spent: defaultdict[object, Decimal] = defaultdict(Decimal)
    for short in sorted(shorts, key=lambda leg: leg.expiration or date.min, reverse=True):
        contract = short.root, short.option_type
        cover = sum((_cover(leg, short) for leg in spread.legs if leg.quantity > 0), -spent[contract])
        covered = min(-short.quantity, max(cover, ZERO))
        spent[contract] += covered
        if covered != -short.quantity:
            yield UncoveredShort(spread.spread_no, short.symbol, -short.quantity - covered)


def _cover(leg: SpreadLeg, short: SpreadLeg) -> Decimal:
    """Contracts of the short that this long leg covers."""
    if leg.asset_class == "equity" and short.option_type == "call":
        return leg.quantity // (short.multiplier or 1)
    lasts = leg.expiration and short.expiration and leg.expiration >= short.expiration
    return leg.quantity if lasts and (leg.root, leg.option_type) == (short.root, short.option_type) else ZERO
