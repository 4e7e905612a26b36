"""Whether orders, positions and balances of one reading, fetched in parallel, show one state of the account. Pure.

Two things tear a reading: the account changed while it was read, and the broker's lists run behind each other. Against
the first stands the quiet rule: no order changed from shortly before the end of the reading on. Against the second
stands conservation: since the reading before, every position changed by what the orders filled.

    coherent   quiet, and every change of a position has its cause; or filled just now, and positions and cash show it
    torn       a position does not follow from the orders, or an order filled lately and cash does not show it
    unknown    nothing to compare with, a change that stays as it is without a cause, cash that moved without a fill, or
               an order changed just now without filling
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from tradier_pipeline import clock
from tradier_pipeline.reconcile.account_state import ZERO, AccountState, OrderPart, fills, may_be_unknown_legs
from tradier_pipeline.reconcile.comparison import CASH, CENT
from tradier_pipeline.reconcile.conservation import ItemChange, changes
from tradier_pipeline.reconcile.explanation import signed

# NautilusTrader acts on nothing that moved less than 5 s ago; Tradier's own lag is not documented
QUIET = timedelta(seconds=5)
LATELY = timedelta(seconds=30)  # cash that does not show a fill of then may show it in a moment
LONG_AGO = timedelta(minutes=20)  # positions have been seen 15 minutes behind fills
MOST_LINES = 8

Verdict = Literal["coherent", "torn", "unknown"]


@dataclass(frozen=True, slots=True)
class Coherence:
    """A verdict, and the lines for a person that it rests on.

    Attributes:
        is_settling: whether reading again in a moment may tell more.
    """

    verdict: Verdict
    evidence: tuple[str, ...]
    is_settling: bool = False


def judge_coherence(now: AccountState, before: AccountState | None, torn: AccountState | None = None) -> Coherence:
    """Judge one reading.

    Args:
        now: `as_of` and `as_of_end` are when its orders, positions and balances were read.
        before: the last reading of the account that was not torn.
        torn: the first reading since then that was, if any; what is the same long after it is not torn any more.
    """
    filled, changed = _recent(now, before)
    recent = tuple(_part_text(part, now) for part in (*filled, *changed))
    if before is None:
        return _coherence("unknown", ("no reading before to compare with", *recent))
    moved = changes(before, now)
    odd = [
        change
        for change in moved
        if change.item != CASH and change.unexplained and not may_be_unknown_legs(change.item, before, now)
    ]
    odd_lines = tuple(_odd(change) for change in odd)
    if odd and torn and torn.as_of_end + LONG_AGO <= now.as_of and _is_same(torn, now):
        return _coherence("unknown", (*odd_lines, f"the same since {clock.iso(torn.as_of)}", *recent))
    if odd and clock.trade_date(before.as_of) != clock.trade_date(now.as_of) and not recent:
        return _coherence("unknown", (*odd_lines, "since another day, whose orders are not listed any more"))
    if odd:
        return _coherence("torn", (*odd_lines, *recent), is_settling=True)
    cash = moved[-1]
    if not _is_shown(cash):
        lately = _filled_since(now, before, now.as_of_end - LATELY) and all(
            fill.cash is not None
            for fill in fills(before, now)  # else it is not known what cash should show
        )
        line = f"cash: {signed(cash.unexplained)} USD do not follow from the fills"
        return _coherence("torn" if lately else "unknown", (line, *recent), is_settling=True)
    if filled:
        return _coherence("coherent", (*recent, "positions and cash show it"))
    if changed:  # without filling: positions and cash cannot tell more in a moment, and whoever placed it is waiting
        return _coherence("unknown", recent)
    explained = sum(1 for change in moved if change.item != CASH)
    return _coherence("coherent", (f"no order changed within {QUIET.seconds} s of the end", _counted(explained)))


def _is_shown(cash: ItemChange) -> bool:
    """Whether cash shows what filled, as far as fees let it: these are posted the next morning only."""
    left = cash.unexplained
    if cash.explained and not cash.amount:
        return False
    return abs(left) < CENT or -cash.fees_at_most <= left < 0


def _recent(now: AccountState, before: AccountState | None) -> tuple[list[OrderPart], list[OrderPart]]:
    """What changed from shortly before the end of the reading on: with new fills, and without."""
    since, until = min(now.as_of, now.as_of_end - QUIET), now.as_of_end + QUIET
    recent = [part for part in _changed_since(now, since) if part.changed_at and part.changed_at <= until]
    filled = [part for part in recent if part.filled != _filled_before(part, before)]
    return filled, [part for part in recent if part not in filled]


def _changed_since(now: AccountState, since: datetime) -> list[OrderPart]:
    return [part for _, part in sorted(now.parts.items(), key=_id) if part.changed_at and part.changed_at >= since]


def _filled_since(now: AccountState, before: AccountState, since: datetime) -> bool:
    return any(part.filled != _filled_before(part, before) for part in _changed_since(now, since))


def _id(item: tuple[tuple[int, int | None], OrderPart]) -> tuple[int, int]:
    (order_id, leg_id), _ = item
    return order_id, leg_id or 0


def _filled_before(part: OrderPart, before: AccountState | None) -> Decimal:
    had = before.parts.get((part.order_id, part.leg_id)) if before else None
    return had.filled if had else ZERO


def _is_same(torn: AccountState, now: AccountState) -> bool:
    """Whether nothing but fills changed the positions since."""
    return not any(change.unexplained for change in changes(torn, now) if change.item != CASH)


def _part_text(part: OrderPart, now: AccountState) -> str:
    assert part.changed_at is not None
    seconds = (now.as_of_end - part.changed_at).total_seconds()
    when = f"{seconds:.1f} s before the end" if seconds >= 0 else f"{-seconds:.1f} s after the end"
    what = f"{signed(part.filled)} {part.symbol} filled" if part.filled else part.symbol
    return f"order {part.order_id} ({what}) changed {when} of the reading"


def _odd(change: ItemChange) -> str:
    filled = sum((cause.amount for cause in change.causes if cause.kind == "fill"), ZERO)
    return f"{change.item} changed by {signed(change.amount)}, and {signed(filled)} filled"


def _counted(explained: int) -> str:
    return f"{explained} changes of positions explained" if explained else "no position changed"


def _coherence(verdict: Verdict, evidence: Sequence[str], *, is_settling: bool = False) -> Coherence:
    return Coherence(verdict, tuple(_short(evidence)), is_settling)


def _short(evidence: Sequence[str]) -> Iterator[str]:
    yield from evidence[:MOST_LINES]
    if len(evidence) > MOST_LINES:
        yield f"and {len(evidence) - MOST_LINES} more"
