"""The option spreads in the positions of one snapshot, every held contract in exactly one of them. Pure.

The broker tells positions per symbol, never which legs belong together. What is known of that comes first:

1. An order. The opening legs of a filled multileg or combo order belong together, as many units as are held, whatever
   the order's own quantity. The order with more legs first, then the older one.

What no order tells is inferred. Every rule that covers a short comes before any that does not, so that no more shorts
are left uncovered than must be. A rule takes the smaller of the quantities it joins; the rest goes on to the next.

2. Verticals: shorts and longs of one root, type and expiration. Of several pairings the one with the least total
   width, then the fewest pairs, then the lower strikes together: 280, 281 with 285, 286 are two of width 5.
3. Verticals joined at equal quantity and width first, then at any, the innermost first: butterflies (same type, a
   shared strike), then iron condors (a put below a call vertical; iron butterflies where they meet), then condors.
4. Calendars (same strike), then diagonals: a short with the nearest long that expires after it, latest shorts first.
5. Collars, covered calls, protective puts: with no more shares than the contracts deliver.
6. Straddles and strangles: a put and a call of one side, the put's strike not above the call's, the innermost first.
7. Each leg that is left, alone.

Roots are never mixed by inference: SPX settles at the open, SPXW at the close of the same day. Neither are contracts
whose deliverable is unknown (adjusted, unparsed): each of these is listed alone, as "other".
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Context, Decimal, localcontext
from itertools import pairwise
from math import gcd
from typing import Literal, TypeVar

from tradier_pipeline.broker.models import Order
from tradier_pipeline.broker.symbols import letters
from tradier_pipeline.core.decimals import QUANTUM, rounded
from tradier_pipeline.domain.positions import PortfolioPosition
from tradier_pipeline.domain.spread_figures import Payoff, Quoted, SpreadFigures, spread_figures

Side = Literal["credit", "debit", "long", "short"]
Source = Literal["order", "inferred"]

# Legs by expiration, strike, put before call: S shares for one contract, a space between strikes, = and | between
# expirations at the same and at different strikes.
_STRATEGIES: Mapping[str, tuple[str, Side]] = {
    "+P -P": ("bull_put_credit", "credit"),
    "-P +P": ("bear_put_debit", "debit"),
    "-C +C": ("bear_call_credit", "credit"),
    "+C -C": ("bull_call_debit", "debit"),
    "+P -P -C +C": ("iron_condor", "credit"),
    "-P +P +C -C": ("iron_condor", "debit"),
    "+P -P-C +C": ("iron_butterfly", "credit"),
    "-P +P+C -C": ("iron_butterfly", "debit"),
    "+P -P -P +P": ("condor", "long"),
    "-P +P +P -P": ("condor", "short"),
    "+C -C -C +C": ("condor", "long"),
    "-C +C +C -C": ("condor", "short"),
    "+P -2P +P": ("butterfly", "long"),
    "-P +2P -P": ("butterfly", "short"),
    "+C -2C +C": ("butterfly", "long"),
    "-C +2C -C": ("butterfly", "short"),
    "-P=+P": ("calendar", "long"),
    "+P=-P": ("calendar", "short"),
    "-C=+C": ("calendar", "long"),
    "+C=-C": ("calendar", "short"),
    "-P|+P": ("diagonal", "long"),
    "+P|-P": ("diagonal", "short"),
    "-C|+C": ("diagonal", "long"),
    "+C|-C": ("diagonal", "short"),
    "+S +P -C": ("collar", "long"),
    "+S +P-C": ("collar", "long"),
    "+S -C": ("covered_call", "long"),
    "+S +P": ("protective_put", "long"),
    "+P+C": ("straddle", "long"),
    "-P-C": ("straddle", "short"),
    "+P +C": ("strangle", "long"),
    "-P -C": ("strangle", "short"),
    "+C +P": ("strangle", "long"),
    "-C -P": ("strangle", "short"),
    "+P": ("long_put", "long"),
    "-P": ("naked_put", "short"),
    "+C": ("long_call", "long"),
    "-C": ("naked_call", "short"),
    "+?": ("other", "long"),
    "-?": ("other", "short"),
}
# How two verticals join, in this order: the lower's type, the upper's, and whether they must share a strike.
_JOINS = (("P", "P", True), ("C", "C", True), ("P", "C", False), ("P", "P", False), ("C", "C", False))
_OPENING = {"buy": 1, "buy_to_open": 1, "sell_short": -1, "sell_to_open": -1}
_EXACT = Context(prec=64)  # holds every product of two stored numbers and a multiplier
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class SpreadLeg:
    """The part of one symbol's position that belongs to a spread. Terms are null as in `PortfolioPosition`.

    Attributes:
        quantity: contracts or shares, negative when short.
        ratio: contracts or shares in one unit of the spread, without sign.
        cost: USD, > 0 paid, < 0 received: the cost basis by quantity, under the sign of the side.
        market_value: USD, negative when short; null without a quote. Neither is lost in rounding: over all spreads
            they add up to the position's.
    """

    symbol: str
    asset_class: str
    root: str | None
    expiration: date | None
    option_type: str | None
    strike: Decimal | None
    multiplier: int | None
    quantity: Decimal
    ratio: int
    cost: Decimal | None
    market_value: Decimal | None


@dataclass(frozen=True, slots=True)
class Spread:
    """Legs held together. Money in USD for all units; null also where it is too large for DECIMAL(24,8).

    Attributes:
        spread_no: 1-based, by underlying, expiration and legs.
        strategy: as in `_STRATEGIES`; other is an order's legs of no such shape, or a contract of unknown terms.
        side: credit or debit of verticals and iron ones, and by its cost of an order's other shape; else long or short.
        source, order_id: order and its id if an order joined the legs, else inferred and null.
        quantity: units.
        expiration: the nearest of the legs'; null if unknown.
        width: USD per share between the long and the short of one type, the wider of two; null if there is none or
            the expirations differ.
        figures: per share, of its payoff, and of the quotes.
        cost: > 0 paid, < 0 received.
        market_value, unrealized_pl: null if any leg has no quote.
        has_payoff: the value at expiration is known: one root and expiration, no adjusted contract. If not,
            `max_profit` and `max_loss` are null.
        max_profit: the most the spread can gain at expiration; null with a payoff means unlimited.
        max_loss: the most it can lose, negative if it gains at any price; null with a payoff means unlimited.

    With w = width x multiplier x quantity, and c the amount paid or received, the extremes come to:
        vertical, iron condor, iron butterfly of a credit: gain c, lose w - c; of a debit: gain w - c, lose c;
        condor, butterfly with equal wings: long gains w - c and loses c, short the reverse;
        straddle, strangle: long loses c, short gains c, the reverse is unlimited;
        covered call: gains strike x shares - c, loses c; collar: loses c - put strike x shares;
        protective put: loses c - strike x shares, gains without limit;
        single: long loses c, short gains c; a put's other extreme is strike x multiplier x quantity - c, a call's is
        unlimited.
    """

    spread_no: int
    underlying: str
    strategy: str
    side: Side
    source: Source
    order_id: int | None
    quantity: Decimal
    expiration: date | None
    width: Decimal | None
    cost: Decimal | None
    market_value: Decimal | None
    unrealized_pl: Decimal | None
    has_payoff: bool
    max_profit: Decimal | None
    max_loss: Decimal | None
    figures: SpreadFigures
    legs: tuple[SpreadLeg, ...]


def group(
    positions: Iterable[PortfolioPosition], orders: Iterable[Order] = (), quotes: Mapping[str, Quoted] | None = None
) -> tuple[Spread, ...]:
    """Every option position of one account's snapshot as spreads, whatever the order of the rows and the orders.

    Rows of one symbol are summed and rows without quantity left out. Shares appear only as the legs of a spread.

    Args:
        quotes: by symbol; the figures that need one are null without it.
    """
    with localcontext(_EXACT):
        lots = _lots(positions)
        drafts = list(_from_orders(lots, orders))
        for rule in _RULES:
            drafts += rule(lots)
        kept = sorted((draft for draft in drafts if draft.free), key=_rank)
        return tuple(_finished(number, draft, quotes or {}) for number, draft in enumerate(kept, 1))


# --- what is held, and what takes from it ---------------------------------------------------------------------------


@dataclass(eq=False, slots=True)
class _Lot:
    """All that is held of one symbol. `free` is what is in no draft yet, `drawn` what is in a finished spread."""

    row: PortfolioPosition
    letter: str  # S shares, P, C, or ? if its terms are unknown
    expiration: date
    strike: Decimal
    sign: int
    held: Decimal  # without sign
    cost: Decimal
    value: Decimal | None
    free: Decimal
    drawn: Decimal = _ZERO

    @property
    def underlying(self) -> str:
        return self.row.underlying or self.row.symbol

    @property
    def family(self) -> str:
        """Alike of shares and the options on them: a root has no room for the slash of a share class."""
        return letters(self.underlying)

    @property
    def series(self) -> tuple[str | None, int | None]:
        """Contracts that deliver the same; an option's multiplier is its quote's, so it may differ within a root."""
        return self.row.root, self.row.multiplier

    @property
    def place(self) -> tuple[date, Decimal, bool, str]:
        return self.expiration, self.strike, self.letter == "C", self.row.symbol

    def draw(self, quantity: Decimal) -> tuple[Decimal, Decimal | None]:
        """Cost and value of this much more. Shares of the running total, so that all of them add up exactly."""
        before, self.drawn = self.drawn, self.drawn + quantity

        def part(total: Decimal) -> Decimal:
            return (total * self.drawn / self.held).quantize(QUANTUM) - (total * before / self.held).quantize(QUANTUM)

        return part(self.cost), None if self.value is None else part(self.value)


_Legs = tuple[tuple[_Lot, int], ...]


@dataclass(eq=False, slots=True)
class _Draft:
    """Legs that belong together, in place order, and how many units of them are in no larger draft yet."""

    legs: _Legs
    free: Decimal
    order_id: int | None = None


T = TypeVar("T", _Lot, _Draft)


def _sum(values: Iterable[Decimal | None]) -> Decimal | None:
    """Unknown if any part is."""
    known = list(values)
    return None if None in known else sum((value for value in known if value is not None), _ZERO)


def _lots(positions: Iterable[PortfolioPosition]) -> list[_Lot]:
    rows: defaultdict[str, list[PortfolioPosition]] = defaultdict(list)
    for row in positions:
        rows[row.symbol].append(row)
    lots = (_lot(of_symbol) for of_symbol in rows.values() if sum(row.quantity for row in of_symbol))
    return sorted(lots, key=lambda lot: (lot.family, lot.place))


def _lot(rows: Sequence[PortfolioPosition]) -> _Lot:
    row = rows[0]
    quantity = sum((row.quantity for row in rows), _ZERO)
    return _Lot(
        row,
        letter={"equity": "S", "option": "C" if row.option_type == "call" else "P"}.get(row.asset_class, "?"),
        expiration=row.expiration or date.min,
        strike=row.strike or _ZERO,
        sign=1 if quantity > 0 else -1,
        held=abs(quantity),
        # the broker's sign for short positions varies
        cost=sum((abs(row.cost_basis).copy_sign(row.quantity) for row in rows), _ZERO),
        value=_sum(row.market_value for row in rows),
        free=abs(quantity),
    )


def _allocate(*legs: tuple[_Lot, int], order_id: int | None = None) -> Iterator[_Draft]:
    """As many units of the legs as are free: whole ones where a leg is needed more than once."""
    units = min(lot.free if ratio == 1 else lot.free // ratio for lot, ratio in legs)
    if units:
        for lot, ratio in legs:
            lot.free -= units * ratio
        yield _Draft(tuple(sorted(legs, key=lambda leg: leg[0].place)), units, order_id)


def _by(items: Iterable[T], key: Callable[[T], Hashable]) -> Iterable[list[T]]:
    """What is still free, in buckets of the same key."""
    buckets: defaultdict[Hashable, list[T]] = defaultdict(list)
    for item in items:
        if item.free:
            buckets[key(item)].append(item)
    return buckets.values()


# --- the rules, in their order --------------------------------------------------------------------------------------


def _from_orders(lots: Iterable[_Lot], orders: Iterable[Order]) -> Iterator[_Draft]:
    held = {(lot.row.symbol, lot.sign): lot for lot in lots}
    opened = [(order.id, _opening(order)) for order in orders]
    for order_id, legs in sorted(opened, key=lambda pair: (-len(pair[1]), pair[0])):
        if len(legs) > 1 and legs.keys() <= held.keys():
            yield from _allocate(*((held[leg], ratio) for leg, ratio in legs.items()), order_id=order_id)


def _opening(order: Order) -> dict[tuple[str, int], int]:
    """Ratios of the legs a filled order opened, by symbol and sign; of a roll these are only the new ones."""
    if order.class_ not in ("multileg", "combo") or order.status != "filled":
        return {}
    opened: dict[tuple[str, int], int] = {}
    for leg in order.leg:
        symbol = leg.symbol if leg.class_ == "equity" else leg.option_symbol
        sign = _OPENING.get(leg.side or "")
        if symbol and sign:
            if leg.quantity is None or leg.quantity <= 0 or leg.quantity % 1:
                return {}
            opened[symbol, sign] = opened.get((symbol, sign), 0) + int(leg.quantity)
    unit = gcd(*opened.values())
    return {leg: quantity // unit for leg, quantity in opened.items()}


def _verticals(lots: Iterable[_Lot]) -> Iterator[_Draft]:
    options = (lot for lot in lots if lot.letter in "PC")
    verticals = [
        pair for same in _by(options, lambda lot: (lot.series, lot.letter, lot.expiration)) for pair in _paired(same)
    ]
    for lower, upper, shared in _JOINS:
        for sign in (1, -1):
            for alike in (True, False):
                yield from _joined(verticals, (lower, sign), (upper, -sign), shared, alike)
    yield from verticals


def _paired(lots: Iterable[_Lot]) -> Iterator[_Draft]:
    """Shorts with longs. Only surplus and overlapping spreads make the sweeps differ; on a tie the first one counts."""
    up = sorted(lots, key=lambda lot: lot.strike)
    sweeps = (_sweep(lots, latest) for lots in (up, up[::-1]) for latest in (False, True))
    for first, second, _ in min(sweeps, key=_effort):
        yield from _allocate((first, 1), (second, 1))


def _sweep(lots: Sequence[_Lot], latest: bool) -> list[tuple[_Lot, _Lot, Decimal]]:
    """Pair each lot with those of the other side that wait, the latest or the earliest first; nothing is taken yet."""
    pairs: list[tuple[_Lot, _Lot, Decimal]] = []
    left = {lot: lot.free for lot in lots}
    waiting: deque[_Lot] = deque()
    end = -1 if latest else 0
    for lot in lots:
        while left[lot] and waiting and waiting[end].sign != lot.sign:
            other = waiting[end]
            quantity = min(left[lot], left[other])
            pairs.append((other, lot, quantity))
            left[lot] -= quantity
            left[other] -= quantity
            if not left[other]:
                del waiting[end]
        if left[lot]:
            waiting.append(lot)
    return pairs


def _effort(pairs: Sequence[tuple[_Lot, _Lot, Decimal]]) -> tuple[Decimal, int]:
    return sum((abs(one.strike - two.strike) * quantity for one, two, quantity in pairs), _ZERO), len(pairs)


def _joined(
    verticals: Iterable[_Draft], lower: tuple[str, int], upper: tuple[str, int], shared: bool, alike: bool
) -> Iterator[_Draft]:
    """Two verticals as one draft. `lower` and `upper` are a vertical's type and the sign of its lower strike."""

    def kind(vertical: _Draft) -> tuple[str, int]:
        return vertical.legs[0][0].letter, vertical.legs[0][0].sign

    def inner(vertical: _Draft) -> Decimal:
        return vertical.legs[0 if kind(vertical) == upper else 1][0].strike

    def bucket(vertical: _Draft) -> Hashable:
        (low, _), (high, _) = vertical.legs
        size = (vertical.free, high.strike - low.strike) if alike else None
        return low.series, low.expiration, inner(vertical) if shared else None, size

    for same in _by((vertical for vertical in verticals if kind(vertical) in (lower, upper)), bucket):
        for low, high in _nested(same, inner, lambda vertical: kind(vertical) == upper):
            units = min(low.free, high.free)
            low.free -= units
            high.free -= units
            ratios: defaultdict[_Lot, int] = defaultdict(int)
            for lot, ratio in low.legs + high.legs:
                ratios[lot] += ratio
            yield _Draft(tuple(ratios.items()), units)


def _nested(items: Iterable[T], strike: Callable[[T], Decimal], is_upper: Callable[[T], bool]) -> Iterator[tuple[T, T]]:
    """Lower and upper items, no lower one above its upper one, the innermost first; the caller takes from both."""
    waiting: list[T] = []
    for item in sorted(items, key=lambda item: (strike(item), is_upper(item))):
        if not is_upper(item):
            waiting.append(item)
            continue
        while item.free and waiting:
            yield waiting[-1], item
            if waiting[-1].free:
                break
            waiting.pop()


def _across_expirations(lots: Iterable[_Lot]) -> Iterator[_Draft]:
    options = (lot for lot in lots if lot.letter in "PC")
    for same in _by(options, lambda lot: (lot.series, lot.letter)):
        by_expiration = [list(bucket) for bucket in _by(same, lambda lot: lot.expiration)]
        for number in range(len(by_expiration) - 1, -1, -1):
            shorts = [lot for lot in by_expiration[number] if lot.sign < 0]
            later = [[lot for lot in bucket if lot.sign > 0] for bucket in by_expiration[number + 1 :]]
            at_strike = {short.strike: short for short in shorts}
            for longs in later:
                for long in longs:
                    if long.strike in at_strike:
                        yield from _allocate((at_strike[long.strike], 1), (long, 1))
            for longs in later:
                yield from _paired(lot for lot in shorts + longs if lot.free)


def _with_shares(lots: Iterable[_Lot]) -> Iterator[_Draft]:
    for same in _by(lots, lambda lot: lot.family):
        shares = next((lot for lot in same if lot.letter == "S" and lot.sign > 0), None)
        if shares is None:
            continue
        calls = [lot for lot in same if (lot.letter, lot.sign) == ("C", -1)]
        puts = [lot for lot in same if (lot.letter, lot.sign) == ("P", 1)]
        for series in _by(puts + calls, lambda lot: (lot.series, lot.expiration)):
            for put, call in _nested(series, lambda lot: lot.strike, lambda lot: lot.letter == "C"):
                yield from _allocate((shares, call.row.multiplier or 1), (put, 1), (call, 1))
        for option in calls + sorted(puts, key=lambda lot: (lot.expiration, -lot.strike)):
            yield from _allocate((shares, option.row.multiplier or 1), (option, 1))


def _puts_with_calls(lots: Iterable[_Lot]) -> Iterator[_Draft]:
    options = (lot for lot in lots if lot.letter in "PC")
    for same in _by(options, lambda lot: (lot.series, lot.expiration, lot.sign)):
        for put, call in _nested(same, lambda lot: lot.strike, lambda lot: lot.letter == "C"):
            yield from _allocate((put, 1), (call, 1))


def _singles(lots: Iterable[_Lot]) -> Iterator[_Draft]:
    for lot in lots:
        if lot.letter != "S":
            yield from _allocate((lot, 1))


_RULES: tuple[Callable[[list[_Lot]], Iterable[_Draft]], ...] = (
    _verticals,
    _across_expirations,
    _with_shares,
    _puts_with_calls,
    _singles,
)


# --- what a draft comes to ------------------------------------------------------------------------------------------


def _nearest(lots: Iterable[_Lot]) -> date | None:
    return min((lot.row.expiration for lot in lots if lot.row.expiration), default=None)


def _rank(draft: _Draft) -> tuple[str, date, list[tuple[date, Decimal, bool, str]]]:
    lots = [lot for lot, _ in draft.legs]
    return lots[-1].family, _nearest(lots) or date.min, [lot.place for lot in lots]


def _finished(number: int, draft: _Draft, quotes: Mapping[str, Quoted]) -> Spread:
    lots = [lot for lot, _ in draft.legs]
    letters = {lot.letter for lot in lots}
    draws = [lot.draw(ratio * draft.free) for lot, ratio in draft.legs]
    legs = tuple(_leg(lot, ratio, draft.free, *drawn) for (lot, ratio), drawn in zip(draft.legs, draws, strict=True))
    cost = sum((cost for cost, _ in draws), _ZERO)
    value = _sum(value for _, value in draws)
    paid, worth = rounded(cost), None if value is None else rounded(value)
    underlying = lots[-1].underlying
    known = len({(lot.row.root, lot.expiration) for lot in lots if lot.letter != "S"}) == 1 and "?" not in letters
    strategy, side = _STRATEGIES.get(_shape(draft.legs), ("other", "credit" if cost < 0 else "debit"))
    max_profit, max_loss = _extremes(draft, cost) if known else (None, None)
    return Spread(
        spread_no=number,
        underlying=underlying,
        strategy=strategy,
        side=side,
        source="inferred" if draft.order_id is None else "order",
        order_id=draft.order_id,
        quantity=draft.free,
        expiration=_nearest(lots),
        width=_width(lots) if known else None,
        cost=paid,
        market_value=worth,
        unrealized_pl=None if value is None else rounded(value - cost),
        has_payoff=known,
        max_profit=max_profit,
        max_loss=max_loss,
        figures=spread_figures(underlying, draft.free, paid, worth, legs, quotes, has_payoff=known),
        legs=legs,
    )


def _leg(lot: _Lot, ratio: int, units: Decimal, cost: Decimal, value: Decimal | None) -> SpreadLeg:
    return SpreadLeg(
        symbol=lot.row.symbol,
        asset_class=lot.row.asset_class,
        root=lot.row.root,
        expiration=lot.row.expiration,
        option_type=lot.row.option_type,
        strike=lot.row.strike,
        multiplier=lot.row.multiplier,
        quantity=lot.sign * ratio * units,
        ratio=ratio,
        cost=rounded(cost),
        market_value=None if value is None else rounded(value),
    )


def _shape(legs: _Legs) -> str:
    """The key in `_STRATEGIES`. Shares count in contracts' worth; another root on the same day spoils the shape."""
    shape, previous = "", None
    lot_size = legs[-1][0].row.multiplier or 1
    for lot, ratio in legs:
        if previous is not None:
            shape += _between(previous, lot)
        count = Decimal(ratio) / lot_size if lot.letter == "S" else ratio
        shape += f"{'+' if lot.sign > 0 else '-'}{'' if count == 1 else count}{lot.letter}"
        previous = lot
    return shape


def _between(lot: _Lot, following: _Lot) -> str:
    if lot.letter != "S" and lot.expiration != following.expiration:
        return "=" if lot.strike == following.strike else "|"
    if lot.letter != "S" and lot.row.root != following.row.root:
        return "/"
    return "" if lot.strike == following.strike else " "


def _width(lots: Sequence[_Lot]) -> Decimal | None:
    wings = (pairwise(lot for lot in lots if lot.letter == letter) for letter in "PC")
    return max(
        (high.strike - low.strike for wing in wings for low, high in wing if low.sign != high.sign), default=None
    )


def _extremes(draft: _Draft, cost: Decimal) -> tuple[Decimal | None, Decimal | None]:
    """Profit and loss are extreme at a strike or at zero, unless the slope above all strikes carries on."""
    payoff = Payoff(
        (
            (lot.letter == "P", lot.strike, lot.sign * ratio * draft.free * (lot.row.multiplier or 1))
            for lot, ratio in draft.legs
        ),
        cost,
    )
    gains = [payoff.gain(price) for price in payoff.bends]
    return None if payoff.slope > 0 else rounded(max(gains)), None if payoff.slope < 0 else rounded(-min(gains))
