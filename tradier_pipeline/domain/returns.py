"""What a period came to, from the rows of `equity_curve` or `total_equity_curve`: profit, returns, drawdown.

The time-weighted return is what a dollar left alone would have made; the money-weighted one what the dollars that were
there made, when they were there: the internal rate of return of everything paid in and taken out.
"""

from __future__ import annotations

import math
import statistics
from calendar import monthrange
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final

Row = Mapping[str, Any]
Terms = Sequence[tuple[float, float]]

YEAR = 365  # days, as spreadsheets have it in XIRR
WEEK = timedelta(days=7)
TO_DATE = ("MTD", "YTD")
_CLOSEST = 1e-9  # zeros closer together than this are not distinguished
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
class Benchmark:
    """What a symbol made over the days that the time-weighted return is of, from close to close, without dividends.

    Attributes:
        period: 0.01 = 1 %; None if one of these closes has no price.
        reason: why there is none.
    """

    symbol: str
    period: float | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """What a period came to; money in USD, returns and drawdown as parts of one, 0.01 = 1 %.

    Nothing is drawn from a marked day: an uncertain one has no return, and growth goes on as if it had not been. Best,
    worst and drawdown leave out a day, too, whose history is not read yet while that of others is.

    Attributes:
        since, until: the closes that it is measured from and to. `since` is the last known one before the period asked
            for, or the first of all.
        pnl: end less start, less deposits, plus withdrawals. Dividends, interest and fees are part of it.
        max_drawdown: the deepest growth fell below an earlier peak, 0 or negative; from `peak` to `trough`, the closes.
        best, worst: the session with the highest and the lowest return; None if no session has one of its own.
        gaps: sessions without equity, from `since` to `until`.
        provisional: sessions with equity whose deposits and withdrawals may not all be known yet.
        uncertain: those of which it is not known what came or left, or when, and why: marked, and left out of returns.
        notes: what else to know of the figures.
        volatility: sample deviation of the daily returns * sqrt(252); None of fewer than 20 days.
        sharpe: their mean / their sample deviation * sqrt(252), with a risk-free rate of 0; None: see `risk_reason`.
        usable_days, left_out: sessions that these are of, with a return of their own; and those that have none.
        benchmark: None if returns are compared with none.
        since_it_began: the history is younger than the period: it is measured from its beginning.
        stated: the part of deposits less withdrawals that the owner states.
        confirmed: sessions that would be uncertain, but that the owner states to be as the broker reports them.
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
    uncertain: tuple[tuple[date, str], ...] = ()
    notes: tuple[str, ...] = ()
    since_it_began: bool = False
    stated: Decimal = Decimal(0)
    confirmed: tuple[date, ...] = ()
    volatility: float | None = None
    sharpe: float | None = None
    risk_reason: str | None = None
    usable_days: int = 0
    left_out: int = 0
    benchmark: Benchmark | None = None


def standard_periods(rows: Sequence[Row]) -> dict[str, Figures]:
    """The figures of MTD, 1M, 3M, YTD, 1Y and since inception, up to the last known close.

    A period is left out if no close is known in the week before it: there is no history of its beginning. But those to
    date are measured from the beginning of a history that is younger. An account without a close for longer than
    `LEFT_AFTER` sessions has none but since inception. Empty if fewer than two closes are known.
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
    }
    found: dict[str, Figures | None] = {}
    for name, since in begins.items() if sum(row["trade_date"] > last for row in rows) <= LEFT_AFTER else ():
        if first >= since and name in TO_DATE:
            younger = figures(rows)
            found[name] = younger and replace(younger, since_it_began=True)
        elif any(since - WEEK <= close < since for close in closes):
            found[name] = figures(rows, since)
    found["inception"] = figures(rows)
    return {name: one for name, one in found.items() if one}


def figures(rows: Sequence[Row], since: date | None = None, until: date | None = None) -> Figures | None:
    """What the sessions from one date to another came to, both included; None without an equity to measure it from.

    Args:
        rows: those of one account, or of the total, by column name. With `flows`, a list of (date, USD, negative for a
            withdrawal), the money-weighted return has the flows of a row at their own dates.
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
    reason = _unmeasured(days)
    drawn = _drawn(rows, days)
    drawdown, peak, trough = _deepest(start["trade_date"], days, drawn)
    returns = [
        (row["trade_date"], row["return"]) for row in days if row["trade_date"] in drawn and row["days_spanned"] == 1
    ]
    sums: dict[str, Any] = {
        name: sum((row[name] for row in days), Decimal(0))
        for name in ("deposits", "withdrawals", "dividends", "interest", "fees", "pnl", "stated")
    }
    uncertain = tuple((row["trade_date"], row["reason"]) for row in days if row["uncertain"])
    length = (end["trade_date"] - start["trade_date"]).days
    return Figures(
        since=start["trade_date"],
        until=end["trade_date"],
        start=start["equity"],
        end=end["equity"],
        **sums,
        time_weighted=Rate(reason=reason) if reason else _rate(_growth(days), length),
        money_weighted=_money_weighted(rows, start, days),
        max_drawdown=None if reason else drawdown,
        peak=None if reason else peak,
        trough=None if reason else trough,
        best=max(returns, key=lambda one: one[1], default=None),
        worst=min(returns, key=lambda one: one[1], default=None),
        gaps=sum(row["gap"] and start["trade_date"] < row["trade_date"] <= end["trade_date"] for row in rows),
        provisional=sum(row["provisional"] for row in days),
        uncertain=uncertain,
        confirmed=tuple(row["trade_date"] for row in days if row.get("confirmed")),
        notes=() if reason else tuple(_notes(days)),
        **_risk([value for _, value in returns]),
        usable_days=len(returns),
        left_out=sum(start["trade_date"] < row["trade_date"] <= end["trade_date"] for row in rows) - len(returns),
        benchmark=_benchmark(days),
    )


def _risk(returns: Sequence[float]) -> dict[str, Any]:
    """`volatility`, `sharpe` and `risk_reason` of daily returns."""
    if len(returns) < FEWEST_DAYS:
        return {"risk_reason": f"{TOO_FEW}: {len(returns)}"}
    deviation, year = statistics.stdev(returns), math.sqrt(SESSIONS_OF_A_YEAR)
    if deviation < NO_DEVIATION:
        return {"volatility": deviation * year, "risk_reason": CONSTANT}
    return {"volatility": deviation * year, "sharpe": statistics.fmean(returns) / deviation * year}


def _benchmark(days: Sequence[Row]) -> Benchmark | None:
    """Of rows that have a `benchmark`, the symbol, and its `benchmark_return`."""
    symbol = days[0].get("benchmark")
    if symbol is None:
        return None
    measured = [row for row in days if row["return"] is not None]
    lacking = [row["trade_date"] for row in measured if row["benchmark_return"] is None]
    if not measured:
        return Benchmark(symbol, reason="no day has a return to compare with")
    if len(lacking) == len(measured):
        return Benchmark(symbol, reason=f"no prices of {symbol} are known of these days")
    if lacking:
        more = f", and to other closes: {len(lacking) - 1}" if len(lacking) > 1 else ""
        return Benchmark(symbol, reason=f"{symbol} has no price to measure from or to the close of {lacking[0]}{more}")
    return Benchmark(symbol, math.prod(1 + row["benchmark_return"] for row in measured) - 1)


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
        text = " and ".join(f"{rate:.2%}" for rate in rates)
        return Rate(reason=f"more than one rate fits: {text}" if rates else "no rate fits")
    return Rate(period=rates[0], annual=math.expm1(logarithms[0] * YEAR / days) if days >= YEAR else None)


class _UndecidedError(Exception):
    """How many zeros there are cannot be reported with floating point numbers."""


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


def _money_weighted(rows: Sequence[Row], start: Row, days: Sequence[Row]) -> Rate:
    if uncertain := [row["trade_date"] for row in days if row["uncertain"]]:
        return Rate(reason=f"it is uncertain what came or left on {uncertain[0]}")
    return internal_rate(_cash_flows(rows, start, days))


def _cash_flows(rows: Sequence[Row], start: Row, days: Sequence[Row]) -> list[tuple[date, Decimal]]:
    """What the owner received, each flow at its own date within the period.

    What has no date of its own: of rows without dated flows, deposits are paid in at the close before and withdrawals
    taken at the close, as the returns have it; else what remains of a row - an account that joins the total or leaves
    it - counts at its close.
    """
    first, last = start["trade_date"], days[-1]["trade_date"]
    flows = [(first, -start["equity"]), (last, days[-1]["equity"])]
    dated = _dated_flows(rows, days)
    for before, day in zip([start, *days], days, strict=False):
        of_day = dated.get(day["trade_date"])
        if of_day is None:
            flows += [(before["trade_date"], -day["deposits"]), (day["trade_date"], day["withdrawals"])]
            continue
        flows += [(min(max(at, first), last), -amount) for at, amount in of_day]
        rest = day["deposits"] - day["withdrawals"] - sum(amount for _, amount in of_day)
        flows.append((day["trade_date"], -rest))
    return flows


def _dated_flows(rows: Sequence[Row], days: Sequence[Row]) -> dict[date, list[tuple[date, Decimal]]]:
    """The dated flows by the close that they are part of: what counts in a gap is part of the close after it."""
    closes = {row["trade_date"] for row in days}
    waiting: list[tuple[date, Decimal]] = []
    found: dict[date, list[tuple[date, Decimal]]] = {}
    for row in sorted(rows, key=lambda row: row["trade_date"]):
        if "flows" not in row:
            continue
        waiting += row["flows"]
        if row["trade_date"] in closes:
            found[row["trade_date"]], waiting = waiting, []
        elif row["equity"] is not None:
            waiting = []  # before the period
    return found


def _drawn(rows: Sequence[Row], days: Sequence[Row]) -> set[date]:
    """The days that extremes are drawn from: those with a return, whose flows the broker has reported if it does."""
    is_read = any(row["equity"] and not row["uncertain"] and row["reason"] != UNREAD for row in rows)
    return {
        row["trade_date"] for row in days if row["return"] is not None and not (is_read and row["reason"] == UNREAD)
    }


def _growth(days: Sequence[Row]) -> float:
    return math.prod(max(1 + (row["return"] or 0), 0) for row in days)


def _deepest(start: date, days: Sequence[Row], drawn: Collection[date]) -> tuple[float, date | None, date | None]:
    """The deepest that growth fell below a peak over the days that are drawn from; the closes of peak and trough."""
    growth, highest, high_day = 1.0, 1.0, start
    deepest: tuple[float, date | None, date | None] = (0.0, None, None)
    for row in days:
        if row["trade_date"] not in drawn:
            continue
        growth *= max(1 + row["return"], 0)
        if growth > highest:
            highest, high_day = growth, row["trade_date"]
        deepest = min(deepest, (growth / highest - 1, high_day, row["trade_date"]), key=lambda one: one[0])
    return deepest


def _unmeasured(days: Sequence[Row]) -> str | None:
    """Why the days have no time-weighted return; None if they have one."""
    if any(row["return"] is not None for row in days):
        return None
    if all(row["uncertain"] for row in days):
        return f"it is uncertain what came or left on {days[0]['trade_date']}"
    (first, *_) = [row["trade_date"] for row in days if row["pnl"] and not row["uncertain"]] or [None]
    return f"on {first} there was a profit or loss without money to make it" if first else "there was no money"


def _notes(days: Sequence[Row]) -> Iterator[str]:
    for row in days:
        if row["return"] is None and row["pnl"] and not row["uncertain"]:
            yield f"{row['pnl']:+,.2f} USD without money to make it on {row['trade_date']} count as 0 %"


def _rate(growth: float, days: int) -> Rate:
    return Rate(period=growth - 1, annual=growth ** (YEAR / days) - 1 if days >= YEAR else None)


def _months_before(day: date, months: int) -> date:
    years, month = divmod(day.year * 12 + day.month - 1 - months, 12)
    return date(years, month + 1, min(day.day, monthrange(years, month + 1)[1]))


LEFT_AFTER = 5  # sessions without equity, while other accounts have some, until an account counts as gone


UNREAD = "history not read since"


SESSIONS_OF_A_YEAR: Final = 252


FEWEST_DAYS: Final = 20  # that a deviation is estimated from


TOO_FEW: Final = f"fewer than {FEWEST_DAYS} days with a return of their own"


NO_DEVIATION: Final = 1e-15


CONSTANT: Final = "the daily returns do not vary"
