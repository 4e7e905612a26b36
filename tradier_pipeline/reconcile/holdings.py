"""Which positions that were held before are not there any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from tradier_pipeline.ledger.records import HOLDING, Trade


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a published snapshot shows: `held` are (symbol, long or short) of its positions."""

    snapshot_id: str
    as_of: datetime
    held: frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class MissingLegs:
    """Legs of an open trade that the newest snapshot does not show; confirmed if the one before did not either."""

    trade_id: str
    account_id: str
    symbols: tuple[str, ...]
    snapshot_id: str
    state: Literal["suspected", "confirmed"]


def missing_legs(trades: Sequence[Trade], newest: Holdings, before: Holdings | None) -> list[MissingLegs]:
    """The trades of one account that have a leg less at the broker than in the ledger.

    A leg counts as held while the snapshot shows any position in its contract on its side. A snapshot says nothing
    about a trade that was opened after it was read.

    Args:
        trades: of the snapshot's account, in any state.
        newest: the newest published snapshot of the account.
        before: the published snapshot before it; None if it is the first one.
    """
    found: list[MissingLegs] = []
    for trade in trades:
        missing = _missing(trade, newest)
        if missing:
            confirmed = before is not None and set(missing) <= set(_missing(trade, before))
            state: Literal["suspected", "confirmed"] = "confirmed" if confirmed else "suspected"
            found.append(MissingLegs(trade.trade_id, trade.account_id, missing, newest.snapshot_id, state))
    return found


def _missing(trade: Trade, shown: Holdings) -> tuple[str, ...]:
    if trade.status not in HOLDING or (trade.opened_at is not None and trade.opened_at > shown.as_of):
        return ()
    return tuple(leg.option_symbol for leg in trade.legs if (leg.option_symbol, leg.side) not in shown.held)
