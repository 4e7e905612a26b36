"""The ledger's words, and the broker's words in them."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from tradier_pipeline.broker.models import WORKING_WORDS
from tradier_pipeline.ledger.records import SETTLED, EngineOrder, OrderStatus, TradeStatus

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


def broker_status(raw: str, filled: Decimal | None = None) -> OrderStatus:
    """The broker's word in the ledger's vocabulary; a word that is not understood is UNKNOWN, never the nearest.

    Args:
        filled: by it, what works has been filled in part.
    """
    status = _STATUSES.get(raw, "UNKNOWN")
    return "PARTIAL" if status == "PLACED" and filled else status


def settled(order: EngineOrder) -> bool:
    """Whether nothing can happen to it any more."""
    return order.status in SETTLED


STUCK: tuple[TradeStatus, ...] = ("EXIT_ERROR", "CLOSE_FAILED", "INVALID_STRUCTURE")
