"""The positions of a snapshot beside the trades that hold them: whose they are, and which are not there any more. Pure.

The broker nets what several trades hold in one contract.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from tradier_pipeline.ledger.records import HOLDING, Trade

ZERO = Decimal(0)


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


@dataclass(frozen=True, slots=True)
class Allocation:
    """Signed quantities by contract. For each contract, the shares of all trades and `left` add up to the position.

    Attributes:
        shares: trade -> contract -> its part of the position; netted ones count in full on both sides.
        left: contract -> what no trade accounts for.
    """

    shares: Mapping[str, Mapping[str, Decimal]]
    left: Mapping[str, Decimal]


def allocate(claims: Sequence[tuple[str, Mapping[str, Decimal]]], positions: Mapping[str, Decimal]) -> Allocation:
    """Divide the positions among the trades that claim them.

    What is missing on a side is missing from the trades of that side, the last one first; what nobody claims is left.

    Args:
        claims: trade id and its signed quantity by contract, oldest trade first.
        positions: contract -> signed quantity that the broker shows.
    """
    shares = {trade_id: dict(claimed) for trade_id, claimed in claims}
    by_symbol: dict[str, list[tuple[str, Decimal]]] = {symbol: [] for symbol in positions}
    for trade_id, claimed in claims:
        for symbol, claim in claimed.items():
            by_symbol.setdefault(symbol, []).append((trade_id, claim))
    left: dict[str, Decimal] = {}
    for symbol, of_trades in by_symbol.items():
        surplus = positions.get(symbol, ZERO) - sum((claim for _, claim in of_trades), ZERO)
        for trade_id, claim in reversed(of_trades):
            if claim * surplus < 0:  # shorts are missing where there is more than claimed, longs where there is less
                cut = min(abs(claim), abs(surplus)) * (1 if surplus > 0 else -1)
                shares[trade_id][symbol] = claim + cut
                surplus -= cut
        if surplus:
            left[symbol] = surplus
    return Allocation(shares, left)
