"""What the open part of a trade of the ledger would make if it were closed at the marks."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from tradier_pipeline.reconcile.fills import ZERO


def unrealized(
    held: Mapping[str, Decimal],
    marks: Mapping[str, Decimal],
    *,
    entry_price: Decimal | None,
    units: Decimal,
    credit: bool | None,
    multiplier: int,
) -> Decimal | None:
    """The unrealized profit of a trade, USD; None where anything it follows from is not known.

    Args:
        held: contract -> signed quantity that is the trade's own.
        marks: contract -> USD per share.
        entry_price: USD per share, received for a credit trade, paid for a debit trade.
        units: spreads, contracts or shares that are still open.
        credit: whether money was received to open it.
    """
    open_legs = {symbol: quantity for symbol, quantity in held.items() if quantity}
    if not open_legs or entry_price is None or credit is None or not units or not open_legs.keys() <= marks.keys():
        return None
    worth = sum((quantity * marks[symbol] for symbol, quantity in open_legs.items()), ZERO)
    paid = (-1 if credit else 1) * entry_price * units
    return (worth - paid) * multiplier


def is_credit(strategy: str | None, legs: Mapping[str, Decimal], paid: Decimal | None = None) -> bool | None:
    """Whether money was received to open a trade; None if nothing tells.

    Args:
        strategy: its name in the ledger, which may say so.
        legs: contract -> signed quantity; if all are short it was received, if all are long it was paid.
        paid: USD per share by its fills, negative if received, which decides.
    """
    if paid:
        return paid < 0
    for word, credit in (("credit", True), ("debit", False)):
        if strategy and word in strategy:
            return credit
    signs = {quantity > 0 for quantity in legs.values() if quantity}
    return None if len(signs) != 1 else not signs.pop()
