"""What stored verdicts on the last days leave to come: deliveries, settlements, cash of corporate actions. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal, localcontext
from typing import NamedTuple, Self

from tradier_pipeline.reconcile.account_state import EXACT, ZERO, AccountState
from tradier_pipeline.reconcile.comparison import CASH
from tradier_pipeline.reconcile.conservation import ItemVerdict
from tradier_pipeline.reconcile.explanation import MAY_BE, NOT_LISTED, ended_in, may_owe_fractions

_CLAIMS = re.compile(rf"settlement in cash| assigned| exercised|{NOT_LISTED}")
_CONTRACT = re.compile(r"\b[A-Z][A-Z0-9]{0,5}[0-9]{6}[CP][0-9]{8}\b")


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
