"""What a period came to, from the rows of `equity_curve` or `total_equity_curve`: profit, returns, drawdown.

The time-weighted return is what a dollar left alone would have made; the money-weighted one what the dollars that were
there made, when they were there: the internal rate of return of everything paid in and taken out.
"""

from __future__ import annotations

import math
from calendar import monthrange
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

Row = Mapping[str, Any]
Terms = Sequence[tuple[float, float]]

YEAR = 365  # days, as spreadsheets have it in XIRR
_CLOSEST = 1e-9  # zeros closer together than this are not told apart
_MOST_LOOKS = 20_000


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate of return, 0.01 = 1 %.

    Attributes:
        period: over the whole time; None if there is none, or not one only.
        annual: the same by the year; None for less than a year, as the GIPS standards have it.
        reason: why there is none.
    """

    period: float | None = None
    annual: float | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """What a period came to; money in USD, returns and drawdown as parts of one, 0.01 = 1 %.

    Attributes:
        since, until: the closes that it is measured from and to. `since` is the last known one before the period asked
            for, or the first of all.
        pnl: end less start, less deposits, plus withdrawals. Dividends, interest and fees are part of it.
        max_drawdown: the deepest growth fell below an earlier peak, 0 or negative; from `peak` to `trough`, the closes.
        best, worst: the session with the highest and the lowest return.
        gaps: sessions without equity.
        provisional: sessions with equity whose deposits and withdrawals may not all be known yet.
    """

    since: date
    until: date
    start: Decimal
    end: Decimal
    deposits: Decimal
    withdrawals: Decimal
    dividends: Decimal
    interest: Decimal
    fees: Decimal
    pnl: Decimal
    time_weighted: Rate
    money_weighted: Rate
    max_drawdown: float | None
    peak: date | None
    trough: date | None
    best: tuple[date, float] | None
    worst: tuple[date, float] | None
    gaps: int
    provisional: int


def standard_periods(rows: Sequence[Row]) -> dict[str, Figures]:
    """The figures of MTD, 1M, 3M, YTD, 1Y and since inception, up to the last known close.

    A period is left out if the history has no close before it. Empty if fewer than two closes are known.
    """
    closes = [row["trade_date"] for row in rows if row["equity"] is not None]
    if not closes:
        return {}
    first, last = min(closes), max(closes)
    begins = {
        "MTD": last.replace(day=1),
        "1M": _months_before(last, 1) + timedelta(days=1),
        "3M": _months_before(last, 3) + timedelta(days=1),
        "YTD": last.replace(month=1, day=1),
        "1Y": _months_before(last, 12) + timedelta(days=1),
        "inception": None,
    }
    found = {name: figures(rows, since) for name, since in begins.items() if since is None or first < since}
    return {name: one for name, one in found.items() if one}


def figures(rows: Sequence[Row], since: date | None = None, until: date | None = None) -> Figures | None:
    """What the sessions from one date to another came to, both included; None without an equity to measure it from.

    Args:
        rows: those of one account, or of the total, by column name.
        since: None means the beginning of the history.
        until: None means its end.
    """
    closes = sorted(
        (row for row in rows if row["equity"] is not None and (until is None or row["trade_date"] <= until)),
        key=lambda row: row["trade_date"],
    )
    begin = max((number for number, row in enumerate(closes) if since and row["trade_date"] < since), default=0)
    if len(closes) < begin + 2:
        return None
    start, *days = closes[begin:]
    end = days[-1]
    growth, drawdown, peak, trough = _deepest(start["trade_date"], days)
    reason = _unmeasured(days)
    returns = [(row["trade_date"], row["return"]) for row in days if row["return"] is not None]
    sums = {
        name: sum((row[name] for row in days), Decimal(0))
        for name in ("deposits", "withdrawals", "dividends", "interest", "fees", "pnl")
    }
    return Figures(
        since=start["trade_date"],
        until=end["trade_date"],
        start=start["equity"],
        end=end["equity"],
        **sums,
        time_weighted=Rate(reason=reason) if reason else _rate(growth, (end["trade_date"] - start["trade_date"]).days),
        money_weighted=internal_rate(_cash_flows(start, days)),
        max_drawdown=None if reason else drawdown,
        peak=None if reason else peak,
        trough=None if reason else trough,
        best=max(returns, key=lambda one: one[1], default=None),
        worst=min(returns, key=lambda one: one[1], default=None),
        gaps=sum(row["gap"] and start["trade_date"] < row["trade_date"] <= (until or date.max) for row in rows),
        provisional=sum(row["provisional"] for row in days),
    )


def internal_rate(flows: Iterable[tuple[date, Decimal]]) -> Rate:
    """The rate at which everything paid in and taken out is worth nothing on any one day: the internal rate of return.

    Several flows of a day are one. The period is that from the first flow to the last; a year has 365 days.

    Args:
        flows: USD that the owner received on a date; what was paid in is negative, what the account is worth at the end
            is received then.
    """
    by_date: dict[date, Decimal] = defaultdict(Decimal)
    for day, amount in flows:
        by_date[day] += amount
    dated = sorted((day, amount) for day, amount in by_date.items() if amount)
    if not dated:
        return Rate(reason="there was no money")
    if all(amount < 0 for _, amount in dated):
        return Rate(reason="no money came back")
    if all(amount > 0 for _, amount in dated):
        return Rate(reason="no money was paid in")
    (first, _), (last, _) = dated[0], dated[-1]
    days = (last - first).days
    # of x = log(1 + rate): discounted to the first day for rates above zero, compounded to the last for those below
    total = float(sum(amount for _, amount in dated))
    try:
        above = _zeros([(float(amount), (day - first).days / days) for day, amount in dated], total)
        below = _zeros([(float(amount), (last - day).days / days) for day, amount in reversed(dated)], total)
        logarithms = [*(-x for x in reversed(below)), *([0.0] if total == 0 else []), *above]
        rates = [math.expm1(x) for x in logarithms]
    except (_UndecidedError, OverflowError):
        return Rate(reason="the flows do not tell one rate")
    if len(rates) != 1:
        told = " and ".join(f"{rate:.2%}" for rate in rates)
        return Rate(reason=f"more than one rate fits: {told}" if rates else "no rate fits")
    return Rate(period=rates[0], annual=math.expm1(logarithms[0] * YEAR / days) if days >= YEAR else None)


class _UndecidedError(Exception):
    """How many zeros there are cannot be told with floating point numbers."""


def _zeros(terms: Terms, at_zero: float) -> list[float]:
    """Every x > 0 at which the sum of amount * exp(-x * time) is zero, in order.

    An interval in which neither the sum nor its slope can be zero, by what their terms can be at most and at least, has
    one zero or none, as the signs at its ends say. Any other is halved.

    Args:
        terms: (amount, time), the first at time 0, the last at 1, no amount zero.
        at_zero: the sum at x = 0, with the exact sign.
    """
    (constant, _), (_, soonest) = terms[:2]
    rest = sum(abs(amount) for amount, _ in terms[1:])
    if rest <= abs(constant):
        return []
    slope = [(-amount * time, time) for amount, time in terms]
    found: list[float] = []
    # beyond it the first term outweighs all others
    intervals = [(0.0, 1.001 * math.log(rest / abs(constant)) / soonest)]
    for _ in range(_MOST_LOOKS):
        if not intervals:
            return found
        low, high = intervals.pop()
        if not _may_vanish(terms, low, high):
            continue
        if not _may_vanish(slope, low, high):
            at_low, at_high = _value(terms, low) if low else at_zero, _value(terms, high)
            if at_low * at_high < 0 or at_high == 0:
                found.append(_bisect(terms, low, high, at_low))
        elif high - low < _CLOSEST:
            break
        else:
            middle = (low + high) / 2
            intervals += [(middle, high), (low, middle)]
    raise _UndecidedError


def _may_vanish(terms: Terms, low: float, high: float) -> bool:
    early = [amount * math.exp(-low * time) for amount, time in terms]
    late = [amount * math.exp(-high * time) for amount, time in terms]
    return sum(map(min, early, late)) <= 0 <= sum(map(max, early, late))


def _value(terms: Terms, x: float) -> float:
    return math.fsum(amount * math.exp(-x * time) for amount, time in terms)


def _bisect(terms: Terms, low: float, high: float, at_low: float) -> float:
    while low < (middle := (low + high) / 2) < high:
        if _value(terms, middle) * at_low > 0:
            low = middle
        else:
            high = middle
    return high


def _cash_flows(start: Row, days: Sequence[Row]) -> list[tuple[date, Decimal]]:
    """What the owner received, as the returns have it: less deposits at the close before, withdrawals at the close."""
    flows = [(start["trade_date"], -start["equity"]), (days[-1]["trade_date"], days[-1]["equity"])]
    for before, day in zip([start, *days], days, strict=False):
        flows += [(before["trade_date"], -day["deposits"]), (day["trade_date"], day["withdrawals"])]
    return flows


def _deepest(start: date, days: Sequence[Row]) -> tuple[float, float, date | None, date | None]:
    """Growth over the days; the deepest it fell below a peak, and the closes of that peak and that trough."""
    growth, highest, high_day = 1.0, 1.0, start
    deepest: tuple[float, date | None, date | None] = (0.0, None, None)
    for row in days:
        growth *= max(1 + (row["return"] or 0), 0)
        if growth > highest:
            highest, high_day = growth, row["trade_date"]
        deepest = min(deepest, (growth / highest - 1, high_day, row["trade_date"]), key=lambda one: one[0])
    return growth, *deepest


def _unmeasured(days: Sequence[Row]) -> str | None:
    """Why the days have no time-weighted return; None if they have one."""
    for row in days:
        if row["return"] is None and row["pnl"]:
            return f"on {row['trade_date']} there was a profit or loss without money to make it"
    return "there was no money" if all(row["return"] is None for row in days) else None


def _rate(growth: float, days: int) -> Rate:
    return Rate(period=growth - 1, annual=growth ** (YEAR / days) - 1 if days >= YEAR else None)


def _months_before(day: date, months: int) -> date:
    years, month = divmod(day.year * 12 + day.month - 1 - months, 12)
    return date(years, month + 1, min(day.day, monthrange(years, month + 1)[1]))
