"""What became of options that went without a fill, as far as changes of the account prove it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal, NamedTuple

from tradier_pipeline.broker.symbols import classify, letters
from tradier_pipeline.reconcile.explanation import ANOTHER_NAME, FITS_ALIKE, MAY_BE
from tradier_pipeline.reconcile.outstanding import Line, claimed

Fate = Literal["assigned", "exercised", "expired", "renamed", "uncertain"]

_FACT = re.compile(r"(?:^|; )[+-][0-9.]+ (assigned|exercised)(?:;|$)|(?:^|; )[^;]*?expired [0-9]")
_ENDED = re.compile(r"(?:^|; )[+-][0-9.]+ ended [0-9]")
_BECAME = re.compile(r"(?:^|; )[+-][0-9.]+ became ([^ ,;]+)")


class Moved(NamedTuple):
    """What a stored verdict says of one position, or of cash.

    Attributes:
        in_flight: as much of it changed without a cause.
        opened: by how much more of it was open than before, or less.
    """

    item: str
    as_of: datetime
    in_flight: Decimal
    opened: Decimal
    explanation: str


@dataclass(frozen=True, slots=True)
class End:
    """What became of a contract, or of shares whose symbol changed, and of when the snapshot is that says so.

    Attributes:
        became: what it is held as since, if it was renamed.
    """

    fate: Fate
    as_of: datetime
    became: str | None = None


def ends_of(rows: Iterable[Moved]) -> dict[str, End]:
    """By contract, its end, from the changes of some days, the oldest first.

    One that went while another contract came that may be the same is uncertain.

    One that ended is uncertain where several ways explain what came for it, where shares or cash came without a cause
    that may be for it, or where another contract on the same shares went without a cause: what was delivered for the
    two may have come to nothing.
    """
    rows = list(rows)
    found: dict[str, End] = {}
    ended: dict[str, datetime] = {}
    disturbed: dict[str, datetime] = {}
    for row in rows:
        if (renamed := _BECAME.search(row.explanation)) is not None:
            found[row.item] = End("renamed", row.as_of, renamed[1])
            continue
        option = classify(row.item).option
        if option is None:
            continue
        if row.in_flight:
            disturbed[letters(option.underlying)] = row.as_of
        if FITS_ALIKE in row.explanation or (row.in_flight and f"{MAY_BE}{ANOTHER_NAME}" in row.explanation):
            found[row.item] = End("uncertain", row.as_of)
        elif (fact := _FACT.search(row.explanation)) is not None:
            found[row.item] = End(fact[1] or "expired", row.as_of)  # type: ignore[arg-type]
        elif _ENDED.search(row.explanation):
            ended[row.item] = row.as_of
    open_for = claimed(Line(row.item, row.opened, row.explanation.split("; ")) for row in rows)
    for symbol, as_of in ended.items():
        option = classify(symbol).option
        if option is None or symbol in found:
            continue
        if symbol in open_for or disturbed.get(letters(option.underlying), as_of) > as_of:
            found[symbol] = End("uncertain", as_of)
    return found
