"""What ought to change in a row of the ledger, and the broker's words in its own. Pure values: nothing here writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar

from tradier_pipeline.broker.models import WORKING_WORDS
from tradier_pipeline.ledger.records import EngineOrder, LedgerRow, OrderStatus, Trade

RowT = TypeVar("RowT", bound=LedgerRow)

# Tradier: REST guide, and words of its streams, older pages and clients. What is not here stays UNKNOWN.
_STATUSES: Mapping[str, OrderStatus] = {
    **dict.fromkeys(("new", "open", "pending", "held", "working", *WORKING_WORDS), "PLACED"),
    "partially_filled": "PARTIAL",
    "partial": "PARTIAL",
    "filled": "FILLED",
    "canceled": "CANCELLED",
    "cancelled": "CANCELLED",
    "rejected": "REJECTED",
    "expired": "EXPIRED",
    "error": "ERROR",
}


@dataclass(frozen=True, slots=True)
class LedgerChange:
    """New values for columns of one row, and the row that they were concluded from.

    Attributes:
        row: as it was read. A row that says something else by now is not changed.
        after: column -> new value, only of columns that change.
        why: in words.
    """

    row: EngineOrder | Trade
    after: Mapping[str, Any]
    why: str

    @property
    def table(self) -> str:
        """orders or trades."""
        return "orders" if isinstance(self.row, EngineOrder) else "trades"

    @property
    def key(self) -> str:
        """The row's primary key."""
        return self.row.client_order_id if isinstance(self.row, EngineOrder) else self.row.trade_id

    @property
    def before(self) -> dict[str, Any]:
        """Column -> the value of the row as it was read, of the columns that change."""
        return {name: getattr(self.row, name) for name in self.after}


def change_to(row: EngineOrder | Trade, wanted: Mapping[str, Any], why: str) -> LedgerChange | None:
    """The change that gives a row the wanted values; None if it has them."""
    after = {name: value for name, value in wanted.items() if getattr(row, name) != value}
    return LedgerChange(row, after, why) if after else None


def changed(row: RowT, change: LedgerChange | None) -> RowT:
    """The row as it will be."""
    return row if change is None else row.model_copy(update=dict(change.after))


def same_facts(one: EngineOrder | Trade, other: EngineOrder | Trade) -> bool:
    """Whether two rows say the same, whatever the ledger itself keeps about them."""
    return _without_book_keeping(one) == _without_book_keeping(other)


def _without_book_keeping(row: EngineOrder | Trade) -> EngineOrder | Trade:
    return row.model_copy(update={"created_at": None, "updated_at": None, "snapshot_id": None})


def broker_status(raw: str, filled: Decimal | None = None) -> OrderStatus:
    """The broker's word in the ledger's vocabulary; a word that is not understood is UNKNOWN, never the nearest.

    Args:
        filled: by it, what works has been filled in part.
    """
    status = _STATUSES.get(raw, "UNKNOWN")
    return "PARTIAL" if status == "PLACED" and filled else status
