"""Whose is a position: the broker nets what several trades hold in one contract. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

ZERO = Decimal(0)


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
