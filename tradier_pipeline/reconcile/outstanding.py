"""What the stored verdicts of the last days leave to a later snapshot. Pure.

What is open of an item that a change may still settle, and what is to come without one: deliveries, settlements, the
cash of corporate actions.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal, localcontext
from typing import NamedTuple, Self

from tradier_pipeline.reconcile.account_state import EXACT, ZERO, AccountState
from tradier_pipeline.reconcile.comparison import CASH
from tradier_pipeline.reconcile.conservation import ItemVerdict
from tradier_pipeline.reconcile.deliveries import DELIVERY_STEP
from tradier_pipeline.reconcile.explanation import MAY_BE, NOT_LISTED, ended_in, may_owe_fractions

OUTSTANDING_DAYS = timedelta(days=5)  # settlement, over a long weekend

_CLAIMS = re.compile(rf"settlement in cash| assigned| exercised|{NOT_LISTED}")
_CONTRACT = re.compile(r"\b[A-Z][A-Z0-9]{0,5}[0-9]{6}[CP][0-9]{8}\b")


class Change(NamedTuple):
    """What a stored verdict on an item says, USD, shares or contracts; the fields of `ItemVerdict`, by trade date."""

    item: str
    trade_date: date
    change: Decimal
    carried: Decimal
    explained: Decimal
    unexplained: Decimal
    in_flight: Decimal
    state: str

    @classmethod
    def of(cls, verdict: ItemVerdict, trade_date: date) -> Self:
        """What a verdict says of a snapshot of that date."""
        return cls(
            verdict.item,
            trade_date,
            verdict.change,
            verdict.carried,
            verdict.explained,
            verdict.unexplained,
            verdict.in_flight,
            verdict.state,
        )

    @property
    def is_due(self) -> bool:
        """Whether its causes come to more than what changed: something is to come."""
        return abs(self.change) < abs(self.explained)

    @property
    def still_open(self) -> Decimal:
        """The part of it that was open before."""
        return self.unexplained - self.in_flight if self.state in ("in_flight", "unexplained") else ZERO


@dataclass(frozen=True, slots=True)
class _Entry:
    """An amount that is open since a date, because something is due or because something came without a cause."""

    amount: Decimal
    since: date
    is_due: bool

    def may_be_settled(self, day: date) -> bool:
        """Two changes without a cause on different dates have nothing in common; what is due may come for days."""
        return self.since == day or (self.is_due and day - self.since <= OUTSTANDING_DAYS)


def outstanding(changes: Iterable[Change], day: date) -> dict[str, list[Decimal]]:
    """By item, the amounts that a change of a day may settle, oldest first.

    What a row carries is what an earlier one opened: it takes that one's place, and stays open for its reason.

    Args:
        changes: of good snapshots, the oldest first; those of twice `OUTSTANDING_DAYS` suffice.
    """
    opened: defaultdict[str, list[_Entry]] = defaultdict(list)
    with localcontext(EXACT):
        for change in changes:
            entries = opened[change.item]
            continued = _continued(entries, change)
            for entry in continued:
                entries.remove(entry)
            if change.still_open and continued:  # else who opened it is not known any more
                entries.append(_Entry(change.still_open, continued[-1].since, continued[-1].is_due))
            if change.in_flight:
                entries.append(_Entry(change.in_flight, change.trade_date, change.is_due))
    found = {item: [one.amount for one in entries if one.may_be_settled(day)] for item, entries in opened.items()}
    return {item: amounts for item, amounts in found.items() if amounts}


def _continued(entries: Sequence[_Entry], change: Change) -> Sequence[_Entry]:
    """The entries that a change carries on or settles: one, or, as `settle` does, all or all that may be deliveries."""
    if not change.carried:
        return ()
    open_then = [entry for entry in entries if entry.may_be_settled(change.trade_date)]
    one = [entry for entry in (*entries, *open_then) if entry.amount == change.carried][-1:]
    deliveries = [entry for entry in open_then if change.item == CASH and not entry.amount % DELIVERY_STEP]
    some = (entries for entries in (one, open_then, deliveries) if sum(e.amount for e in entries) == change.carried)
    return next(some, ())


class Line(NamedTuple):
    """What a stored verdict says of an item; `opened`: by how much more of it was open than before, or less."""

    item: str
    opened: Decimal
    explanation: Sequence[str]

    @classmethod
    def of(cls, verdict: ItemVerdict) -> Self:
        left = verdict.unexplained if verdict.state in ("in_flight", "unexplained") else ZERO
        with localcontext(EXACT):
            return cls(verdict.item, left - verdict.carried, verdict.explanation)


def with_yet_to_come(statement: AccountState, lines: Iterable[Line]) -> AccountState:
    """The statement with what the verdicts of the last days, the oldest first, leave to come."""
    ended: defaultdict[str, Decimal] = defaultdict(Decimal)
    left: defaultdict[str, Decimal] = defaultdict(Decimal)
    owed, known = set(), list(lines)
    with localcontext(EXACT):
        for line in known:
            ended[line.item] += ended_in(line.explanation)
            left[line.item] += line.opened
            owed |= {line.item} if any(map(may_owe_fractions, line.explanation)) else set()
    return replace(
        statement,
        ended={item: contracts for item, contracts in ended.items() if contracts},
        owed=frozenset(owed),
        claimed=claimed(known),
        gone={item: amount for item, amount in left.items() if amount and item != CASH},
    )


def claimed(lines: Iterable[Line]) -> frozenset[str]:
    """The contracts that may stand behind shares or cash whose cause is not known: they need not have expired."""
    left: defaultdict[str, Decimal] = defaultdict(Decimal)
    named: defaultdict[str, set[str]] = defaultdict(set)
    with localcontext(EXACT):
        for line in lines:
            left[line.item] += line.opened
            behind = (text for text in line.explanation if text.startswith(MAY_BE) and _CLAIMS.search(text))
            named[line.item] |= {symbol for text in behind for symbol in _CONTRACT.findall(text)} - {line.item}
    return frozenset(symbol for item, symbols in named.items() if left[item] for symbol in symbols)
