"""Whether anything may be concluded from a snapshot: a label with its evidence, never a reason to refuse one. Pure.

A snapshot is doubtful when its own parts contradict each other - positions, orders, balances, the broker's clock - or
when it contradicts what was known before, without a cause. An outage looks like that, and so does a broker whose lists
run behind each other: its positions have been seen 15 minutes behind its fills.

It becomes good when independent evidence confirms it: several readings over minutes of the open session, or one in the
session of a later date, that agree with it and with themselves. Time alone proves nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal, localcontext
from itertools import combinations, takewhile
from typing import Literal, Protocol

from tradier_pipeline import clock
from tradier_pipeline.broker.symbols import classify
from tradier_pipeline.reconcile.account_state import (
    EXACT,
    ZERO,
    AccountState,
    Fill,
    OrderPart,
    PartKey,
    by_key,
    fills,
    may_be_unknown_legs,
)
from tradier_pipeline.reconcile.comparison import CASH, CENT, MOST_PER_CONTRACT
from tradier_pipeline.reconcile.conservation import ItemVerdict, Open, changes, settle
from tradier_pipeline.reconcile.explanation import may_owe_fractions, signed, unsigned

MIN_READINGS = 3
MIN_AGREEMENT = timedelta(minutes=20)  # positions have been seen 15 minutes behind fills
BEYOND_ANY_LAG = timedelta(minutes=60)  # what readings show together for so long is not a list that runs behind
NEXT_DATE = timedelta.max  # all 0 is what an outage of any length shows: only the session of a later date confirms it
MIN_VALUE = Decimal(1)  # USD: what is less may be rounding
MAX_DRIFT = Decimal("0.02")  # of an amount that moved between cash and positions: prices move meanwhile
MAX_FEES = Decimal("0.1")  # of what was paid or received: a contract at 0.05 USD is 5 USD, and its fees 0.50
MAX_DRIFT_AT_FIRST = Decimal("0.25")  # the same of what filled minutes before a first snapshot: no gap is known yet
MAX_DELAYED = Decimal("0.1")  # of a price that is quoted 15 minutes late: what it may have moved by meanwhile
MAX_SUMMED_FILLS = 12

_POSITIONS_BEHIND = "positions behind balances"

Verdict = Literal["good", "doubtful"]


@dataclass(frozen=True, slots=True)
class Figures:
    """The balances of one reading, USD. Short values are negative or positive, as the broker sends them."""

    equity: Decimal
    cash: Decimal
    buying_power: Decimal | None
    requirement: Decimal
    long_value: Decimal
    short_value: Decimal
    option_long_value: Decimal
    option_short_value: Decimal

    @property
    def all_zero(self) -> bool:
        return not (self.equity or self.cash or self.buying_power or self.requirement)

    @property
    def market_value(self) -> Decimal:
        return self.long_value + self.short_value


@dataclass(frozen=True, slots=True)
class Observation:
    """All of one snapshot that its verdict rests on.

    Attributes:
        in_session: the exchange was open when it was read.
        priced: USD that its positions are worth by the quotes of the same snapshot, without signs.
        worth: USD that its positions are worth, short ones negative; None if one of them has no quote.
        reach: USD by which prices may differ from those quotes, see `reach`.
        delayed: its quotes are 15 minutes late.
        clock_skew: this machine's clock less the broker's, where it was wrong.
    """

    snapshot_id: str
    statement: AccountState
    figures: Figures
    in_session: bool
    priced: Decimal = ZERO
    clock_skew: timedelta | None = None
    worth: Decimal | None = None
    reach: Decimal = ZERO
    delayed: bool = False

    @property
    def gap(self) -> Decimal | None:
        """USD of positions that the balances count beyond those that are listed; None if a quote is missing."""
        return None if self.worth is None else self.figures.market_value - self.worth

    @property
    def noise(self) -> Decimal:
        """USD that two sources of prices may differ by."""
        return self.priced * MAX_DRIFT + self.reach + MIN_VALUE


@dataclass(frozen=True, slots=True)
class Good:
    """The last good snapshot before another one, and what it and those before it left open.

    Attributes:
        carried: what it had left in flight, by item.
        outstanding: what all before left open, by item.
        earlier_cash: USD of cash that good ones of the date before it showed.
        shown_since: parts of the orders that doubtful ones after it showed: what filled has filled, listed or not.
    """

    observation: Observation
    carried: Mapping[str, Open] = field(default_factory=dict)
    outstanding: Mapping[str, Sequence[Decimal]] = field(default_factory=dict)
    earlier_cash: Collection[Decimal] = ()
    shown_since: Mapping[PartKey, OrderPart] = field(default_factory=dict)

    def findings(self, now: AccountState) -> tuple[ItemVerdict, ...]:
        """The verdict on all that changed since."""
        return settle(changes(self.observation.statement, self.completed(now)), self.carried, self.outstanding)

    def completed(self, now: AccountState) -> AccountState:
        """A later statement with the orders that left the list since."""
        return replace(now, parts=by_key({**self.shown_since, **now.parts}.values())) if self.shown_since else now


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, and lines for a person that say what contradicts the snapshot and what has confirmed it.

    Attributes:
        confirms: the earlier doubtful snapshots that are good now, oldest first.
        findings: on all that changed since the last good snapshot, as it was before these were confirmed.
    """

    verdict: Verdict
    evidence: tuple[str, ...] = ()
    confirms: tuple[Observation, ...] = ()
    confirmation: str | None = None
    findings: tuple[ItemVerdict, ...] = ()


class Quoted(Protocol):
    """A position with the prices of its quote, USD per share."""

    @property
    def symbol(self) -> str: ...
    @property
    def quantity(self) -> Decimal: ...
    @property
    def multiplier(self) -> int | None: ...
    @property
    def bid(self) -> Decimal | None: ...
    @property
    def ask(self) -> Decimal | None: ...
    @property
    def last(self) -> Decimal | None: ...
    @property
    def mark(self) -> Decimal | None: ...


def reach(positions: Iterable[Quoted], closed_at: Mapping[str, Decimal | None], *, delayed: bool) -> Decimal:
    """USD by which prices that the broker counts positions with may differ from their marks.

    It may count with bid, ask or last, and with a price of some minutes ago, between that of the day before and now. A
    quote that is delayed hides what the price moved by meanwhile; an option moves by no more than what it is on.

    Args:
        closed_at: symbol -> price of its previous close.
        delayed: quotes are 15 minutes late, as those of the sandbox are.
    """
    total = ZERO
    with localcontext(EXACT):
        for row in positions:
            if row.mark is None or row.multiplier is None:
                continue
            prices = (row.bid, row.ask, row.last, closed_at.get(row.symbol))
            each = max((abs(price - row.mark) for price in prices if price is not None), default=ZERO)
            if delayed:
                option = classify(row.symbol).option
                each = max(each, (option.strike if option else row.mark) * MAX_DELAYED)
            total += abs(row.quantity * row.multiplier) * each
    return total


def judge_snapshot(now: Observation, last: Good | None, doubtful: Iterable[Observation] = ()) -> Judgement:
    """Judge a snapshot.

    Args:
        now: the snapshot.
        last: the last good one before it.
        doubtful: those since then, the newest first; read only as far as they agree.
    """
    inner = tuple(_inner(now))
    empty = ("nothing is listed and all balances are 0, as in an outage",) if last is None and _is_empty(now) else ()
    found = last.findings(now.statement) if last else ()
    whole = replace(now, statement=last.completed(now.statement)) if last else now
    behind = (
        (*_behind(whole, last.observation, found), *_went_back(now, last, found))
        if last
        else tuple(_behind_by_itself(now))
    )
    outer = tuple(_unlike_before(whole, last.observation, found)) if last else ()
    contradictions = (*inner, *empty, *behind, *outer)
    if now.clock_skew is not None or (inner and last):
        return Judgement("doubtful", contradictions, findings=found)
    timely = (other for other in doubtful if other.clock_skew is None)  # at what other times they showed it is unknown
    agreeing = list(takewhile(lambda other: not (last and any(_inner(other))) and _agree(other, now), timely))
    long_enough = BEYOND_ANY_LAG if behind or _rests_on_one_list(now, last, outer) else MIN_AGREEMENT
    if last and now.figures.all_zero and last.observation.figures.equity:
        long_enough = NEXT_DATE
    confirmation = _confirmation([*reversed(agreeing), now], long_enough)
    if confirmation is None:
        return Judgement("doubtful" if contradictions else "good", contradictions, findings=found)
    evidence = (*contradictions, confirmation) if contradictions else ()
    return Judgement("good", evidence, tuple(reversed(agreeing)), confirmation, found)


# --- what contradicts a snapshot --------------------------------------------------------------------------------------


def _inner(now: Observation) -> Iterator[str]:
    """Parts of one reading that cannot be true together."""
    figures = now.figures
    values = (
        ("long position", figures.long_value, 1, False),
        ("short position", figures.short_value, -1, False),
        ("long option", figures.option_long_value, 1, True),
        ("short option", figures.option_short_value, -1, True),
    )
    for what, value, sign, options_only in values:
        if abs(value) >= MIN_VALUE and not _holds(now.statement, sign, options_only=options_only):
            yield f"positions and balances contradict each other: no {what} is listed, {signed(value)} USD in balances"
    if figures.all_zero and now.priced >= MIN_VALUE:
        yield f"all balances are 0, and positions are worth {now.priced:.2f} USD"
    if now.clock_skew is not None:
        yield f"this machine's clock is {now.clock_skew.total_seconds():+.0f} s off the broker's"


def _is_empty(now: Observation) -> bool:
    """Whether it shows neither money nor holdings: what does agrees with itself, this proves nothing."""
    figures = now.figures
    values = (figures.long_value, figures.short_value, figures.option_long_value, figures.option_short_value)
    return figures.all_zero and not any(values) and not now.statement.holdings


def _holds(statement: AccountState, sign: int, *, options_only: bool) -> bool:
    return any(
        holding.quantity * sign > 0 and not (options_only and classify(symbol).asset_class == "equity")
        for symbol, holding in statement.holdings.items()
    )


def _behind(now: Observation, good: Observation, found: Sequence[ItemVerdict]) -> Iterator[str]:
    """What one list shows of an event and another one does not yet."""
    filled = fills(good.statement, now.statement)
    traded = {fill.symbol: sum((one.quantity for one in filled if one.symbol == fill.symbol), ZERO) for fill in filled}
    odd = [finding for finding in found if finding.item != CASH and finding.in_flight]
    for finding in odd:
        if finding.item in traded and not _may_be_split(finding, now, good):  # also where its fills offset each other
            moved = signed(finding.change)
            yield f"positions behind fills: {finding.item} {signed(traded[finding.item])} filled, {moved} shown"
    yield from _legless_behind(now, good, found)
    if cash := next((finding for finding in found if finding.item == CASH), None):
        late = _late_in_cash(now, good, filled, cash)
        if late:
            yield f"balances behind fills: cash does not show {', '.join(dict.fromkeys(late))}"
            return
        lacking = _lacking(cash)
        if _is_same_date(now, good):
            shown = {finding.item: finding.change for finding in found}
            listed = all(shown.get(symbol, ZERO) == quantity for symbol, quantity in traded.items())
            yield from _counted_otherwise(now, good, filled, cash, moved=bool(odd), listed=listed)
        else:
            paid = list(_paid_over_night(now, good, cash)) if cash.change * lacking > 0 else []
            yield from paid or (_listed_over_night(now, good) if odd else ())


def _behind_by_itself(now: Observation) -> Iterator[str]:
    """Of the first snapshot of all: that balances and list differ by what filled last, which one of them shows."""
    if now.gap is None or (now.delayed and abs(now.gap) <= now.noise):  # delayed quotes may hide as much
        return
    late: list[str] = []
    paid = moved = ZERO
    for part in _filled_today(now, now.statement.parts.values()):
        late.append(f"order {part.order_id}")
        paid -= part.cash or ZERO
        moved += abs(part.cash or ZERO)
        is_recent = part.changed_at is not None and now.statement.as_of - part.changed_at < MIN_AGREEMENT
        drift = MAX_DRIFT_AT_FIRST if is_recent else MAX_DRIFT
        if _is_worth(paid, now.gap, moved, drift):
            yield f"{_POSITIONS_BEHIND}: these count {', '.join(dict.fromkeys(late))}, the list does not"
        elif _is_worth(-paid, now.gap, moved, drift):
            yield f"balances behind positions: the list counts {', '.join(dict.fromkeys(late))}, these do not"


def _may_be_split(finding: ItemVerdict, now: Observation, good: Observation) -> bool:
    """Whether the position shows all that filled, and the rest is what a split over night leaves, cost included."""
    return not _is_same_date(now, good) and any(map(may_owe_fractions, finding.explanation))


def _legless_behind(now: Observation, good: Observation, found: Sequence[ItemVerdict]) -> Iterator[str]:
    """The orders whose legs are not known that filled since, where no option on what they name has moved."""
    moved = {option.underlying for finding in found if finding.change and (option := classify(finding.item).option)}
    for key, order in now.statement.legless.items():
        had = good.statement.legless.get(key)
        if order.symbol and order.symbol not in moved and order.filled > (had.filled if had else ZERO):
            yield f"positions behind fills: order {order.order_id} filled, and no option on {order.symbol} has moved"


def _late_in_cash(now: Observation, good: Observation, filled: Sequence[Fill], cash: ItemVerdict) -> tuple[str, ...]:
    """The orders that cash does not show yet, or not any more."""
    if cash.in_flight:
        some = _not_in_cash(filled, cash.in_flight, cash.fees_at_most)
        return some or _not_in_cash_any_more(now, good, cash.in_flight)
    stood_still = cash.explained and not cash.change and not cash.carried
    return _orders(filled) if stood_still else ()  # no fees are, to the cent, all that was paid


def _counted_otherwise(
    now: Observation, good: Observation, filled: Sequence[Fill], cash: ItemVerdict, *, moved: bool, listed: bool
) -> Iterator[str]:
    """That the balances count other positions than are listed: for an amount that is known, or beyond what prices do.

    Args:
        moved: a position changed without a cause, too.
        listed: the positions moved by what filled since.
    """
    lacking = _lacking(cash)
    by_balances = now.figures.market_value - good.figures.market_value
    by_quotes = _uncounted(now, good)
    uncounted = by_balances if by_quotes is None and not moved else by_quotes
    # cash of an amount that nobody knows may have come with what filled
    hides = by_quotes is not None and not _fills_unpriced(now, filled) and _is_hidden(by_quotes + lacking, now, good)
    if uncounted is not None and abs(lacking) >= MIN_VALUE and (hides or _is_paid(cash, uncounted)):
        behind = "balances behind fills" if filled and now.statement.cash == good.statement.cash else _POSITIONS_BEHIND
        yield f"{behind}: {signed(lacking)} USD of cash moved, and positions changed value by as much"
    elif by_quotes is None or _is_hidden(by_quotes, now, good):
        return
    elif _is_worth(_paid(filled), by_balances) and (listed or _fits_better(now, good)):
        return  # balances that moved as the list did, by what filled, count no other positions, whatever quotes say
    elif some := _not_in_positions(by_quotes, filled):
        yield f"{_POSITIONS_BEHIND}: these count {', '.join(some)}, the list does not"
    elif _is_beyond_prices(by_quotes, now, good):
        yield f"{_POSITIONS_BEHIND}: these count {signed(by_quotes)} USD more of positions than are listed"


def _paid_over_night(now: Observation, good: Observation, cash: ItemVerdict) -> Iterator[str]:
    """That cash moved by what the balances count more or less of positions than are listed.

    Over night prices alone prove nothing, and cash alone may be a deposit; the two are one amount where both are more
    than prices explain.
    """
    uncounted = _uncounted(now, good)
    if uncounted is None or not _is_beyond_prices(uncounted, now, good):
        return
    lacking, most = _lacking(cash), max(now.noise, good.noise)
    if abs(lacking) > most and (_is_hidden(uncounted + lacking, now, good) or _is_paid(cash, uncounted)):
        yield f"{_POSITIONS_BEHIND}: {signed(lacking)} USD of cash moved, and positions changed value by as much"


def _listed_over_night(now: Observation, good: Observation) -> Iterator[str]:
    """That positions changed without a cause, and the balances count them as they were: one is an older answer."""
    uncounted = _uncounted(now, good)
    unmoved = abs(now.figures.market_value - good.figures.market_value) <= max(now.noise, good.noise)
    if uncounted is not None and unmoved and _is_beyond_prices(uncounted, now, good):
        how = "more" if uncounted > 0 else "less"
        yield f"{_POSITIONS_BEHIND}: these count {unsigned(uncounted)} USD {how} of positions than are listed"


def _fills_unpriced(now: Observation, filled: Sequence[Fill]) -> bool:
    legless = now.statement.legless.values()
    return any(fill.cash is None for fill in filled) or any(order.may_have_filled for order in legless)


def _is_hidden(value: Decimal, now: Observation, good: Observation) -> bool:
    """Whether delayed quotes may hide as much: then it proves nothing."""
    return now.delayed and abs(value) <= max(now.noise, good.noise)


def _uncounted(now: Observation, good: Observation) -> Decimal | None:
    """By how much the balances' positions changed otherwise than the listed ones; None if a quote is missing."""
    return None if now.gap is None or good.gap is None else now.gap - good.gap


def _fits_better(now: Observation, good: Observation) -> bool:
    """Whether the balances come nearer to what is listed than before."""
    return abs(now.gap or ZERO) <= abs(good.gap or ZERO)


def _is_beyond_prices(uncounted: Decimal, now: Observation, good: Observation) -> bool:
    """Whether it is more than prices explain, and quotes fitted the balances before."""
    fitted = abs(good.gap or ZERO) <= good.noise
    return fitted and min(abs(now.gap or ZERO), abs(uncounted)) > max(now.noise, good.noise)


def _went_back(now: Observation, last: Good, found: Sequence[ItemVerdict]) -> list[str]:
    """Balances that are again exactly what they were before, while what has changed them since is still known."""
    cash = next((finding for finding in found if finding.item == CASH), None)
    if cash is None or cash.change == cash.explained or now.statement.cash not in last.earlier_cash:
        return []
    since = last.observation.statement.cash
    return [f"balances went back to cash of {now.statement.cash:.2f} USD, which was {since:.2f} since"]


def _not_in_cash(filled: Sequence[Fill], left: Decimal, fees: Decimal) -> tuple[str, ...]:
    """The orders of the fewest fills whose cash, but for the fees of the others, is what cash lacks."""
    priced = [fill for fill in filled if fill.cash][:MAX_SUMMED_FILLS]
    for size in range(1, len(priced) + 1):
        for some in combinations(priced, size):
            gap = -left - sum((fill.cash or ZERO for fill in some), ZERO)
            if -CENT < gap <= fees + CENT:
                return tuple(fill.order for fill in some)
    return ()


def _not_in_cash_any_more(now: Observation, good: Observation, left: Decimal) -> tuple[str, ...]:
    """The last orders of the day that cash did show, if it is now as it was before them."""
    late: list[str] = []
    lacking = most = ZERO
    for part in _filled_today(now, {**good.statement.parts, **now.statement.parts}.values()):
        late.append(f"order {part.order_id}")
        lacking += part.cash or ZERO
        most += abs(part.filled) * MOST_PER_CONTRACT if classify(part.symbol).option else CENT
        if -CENT < left + lacking <= most:  # the fees went back, too
            return tuple(late)
    return ()


def _filled_today(now: Observation, parts: Iterable[OrderPart]) -> list[OrderPart]:
    """What filled on the day of a reading at a known price, the newest first."""
    day = clock.trade_date(now.statement.as_of)
    filled = [(part.changed_at, part) for part in parts if part.cash and part.changed_at]
    newest_first = sorted(filled, key=lambda one: one[0], reverse=True)
    return [part for at, part in newest_first if clock.trade_date(at) == day]


def _not_in_positions(uncounted: Decimal, filled: Sequence[Fill]) -> tuple[str, ...]:
    """The orders of the fewest fills that the balances count and the listed positions do not, if there are any.

    Another change of a position may offset a fill, so that its quantity seems to follow.
    """
    priced = [fill for fill in filled if fill.cash][:MAX_SUMMED_FILLS]
    for size in range(1, len(priced) + 1):
        for some in combinations(priced, size):
            if _is_worth(_paid(some), uncounted):
                return _orders(some)
    return ()


def _paid(filled: Iterable[Fill]) -> Decimal:
    return -sum((fill.cash or ZERO for fill in filled), ZERO)


def _orders(filled: Iterable[Fill]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(fill.order for fill in filled))


def _lacking(cash: ItemVerdict) -> Decimal:
    """USD that cash changed by now without a cause, but for fees: what was open before may hide it."""
    lacking = cash.change - cash.explained
    return ZERO if -cash.fees_at_most <= lacking < 0 else lacking


def _is_paid(cash: ItemVerdict, value: Decimal) -> bool:
    """Whether cash moved for a value that came to positions or left them: by as much, and the fees beyond it."""
    paid = -_lacking(cash)
    fees = abs(value) * MAX_FEES + cash.fees_at_most
    return _is_worth(paid, value) or (abs(value) >= MIN_VALUE and ZERO <= paid - value <= fees)


def _is_worth(amount: Decimal, value: Decimal, moved: Decimal = ZERO, most: Decimal = MAX_DRIFT) -> bool:
    """Whether an amount of cash is a value that moved, but for what prices moved meanwhile.

    Args:
        moved: USD that was paid and received, of which the amount is what is left: the prices of all of it move, which
            counts where the amount stands out from that.
        most: the part of an amount that prices move by.
    """
    by_all = moved * MAX_DRIFT
    drift = max(abs(amount) * most, by_all if abs(amount) >= 2 * by_all else ZERO)
    return abs(amount) >= MIN_VALUE and abs(value - amount) <= drift


def _unlike_before(now: Observation, good: Observation, found: Sequence[ItemVerdict]) -> Iterator[str]:
    """What changed since the last good snapshot without a cause."""
    if now.figures.all_zero and good.figures.equity:
        yield f"all balances are 0, and equity was {good.figures.equity:.2f} USD"
    traded = {fill.symbol for fill in fills(good.statement, now.statement)}
    odd = [finding for finding in found if finding.item != CASH and finding.in_flight]
    if _is_same_date(now, good):
        for finding in odd:
            if finding.item in traded or may_be_unknown_legs(finding.item, good.statement, now.statement):
                continue
            yield f"{finding.item} changed by {signed(finding.change)} without a fill or another cause"
        return
    lost = [finding for finding in odd if _is_lost(finding, now, good)]
    if lost and not (len(lost) < len(odd) or _came_for(lost, now.statement.cash - good.statement.cash)):
        for finding in lost:
            yield f"{finding.item} changed by {signed(finding.change)} since another date, and nothing came for it"


def _is_lost(finding: ItemVerdict, now: Observation, good: Observation) -> bool:
    """Whether a position is gone, as an outage shows it. One that is smaller was changed by somebody or something."""
    before, after = good.statement.held(finding.item), now.statement.held(finding.item)
    return finding.in_flight * before.quantity < 0 and not after.quantity


def _came_for(lost: Sequence[ItemVerdict], cash: Decimal) -> bool:
    """Whether cash moved as it does when positions are closed: up for long ones, down for short ones."""
    signs = {finding.in_flight < 0 for finding in lost}
    return bool(cash) and (len(signs) == 2 or (cash > 0) in signs)


def _rests_on_one_list(now: Observation, last: Good | None, outer: Collection[str]) -> bool:
    """Whether only the positions show what changed: the balances count what they counted before."""
    if last is None or not outer:
        return False
    return abs(now.figures.market_value - last.observation.figures.market_value) < MIN_VALUE


def _is_same_date(now: Observation, good: Observation) -> bool:
    return clock.trade_date(now.statement.as_of) == clock.trade_date(good.statement.as_of)


# --- what confirms it -------------------------------------------------------------------------------------------------


def _agree(earlier: Observation, later: Observation) -> bool:
    """Whether two readings show the same account but for what filled between them."""
    if earlier.figures.all_zero != later.figures.all_zero:
        return False
    found = settle(changes(earlier.statement, later.statement), {})
    return not any(finding.in_flight for finding in found)


def _confirmation(readings: Sequence[Observation], long_enough: timedelta) -> str | None:
    """What confirms readings that agree with each other, oldest first; None if nothing does."""
    first, last = readings[0].statement.as_of, readings[-1].statement.as_of
    inside = [reading.statement.as_of for reading in readings if reading.in_session]
    if len(inside) >= MIN_READINGS and inside[-1] - inside[0] >= long_enough:
        return f"confirmed by {len(inside)} readings of the session that agree, from {clock.iso(inside[0])}"
    if readings[-1].in_session and clock.trade_date(first) < clock.trade_date(last):
        return f"confirmed by the session of {clock.trade_date(last)}, which shows the same"
    return None
