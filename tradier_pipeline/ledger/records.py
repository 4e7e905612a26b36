"""The rows of the ledger as typed values. Money, prices and quantities are `Decimal`; instants are aware, in UTC."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any, Literal, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_serializer

Reason = Literal["order_placed", "position_flat", "manual", "debug"]
REASONS: tuple[Reason, ...] = get_args(Reason)

OrderStatus = Literal["PENDING", "PLACED", "PARTIAL", "FILLED", "CANCELLED", "REJECTED", "EXPIRED", "ERROR", "UNKNOWN"]
TradeStatus = Literal[
    "ENTRY_PENDING",
    "OPEN",
    "CLOSING_PENDING",
    "CLOSED",
    "CANCELLED",
    "EXIT_ERROR",
    "CLOSE_FAILED",
    "INVALID_STRUCTURE",
]
SETTLED: frozenset[OrderStatus] = frozenset({"FILLED", "CANCELLED", "REJECTED", "EXPIRED", "ERROR"})
HOLDING: tuple[TradeStatus, ...] = ("OPEN", "CLOSING_PENDING")  # the broker must show a position for these
STUCK: tuple[TradeStatus, ...] = ("EXIT_ERROR", "CLOSE_FAILED", "INVALID_STRUCTURE")
TERMINAL: tuple[TradeStatus, ...] = ("CLOSED", "CANCELLED")


class LedgerRow(BaseModel):
    """Base of the rows: columns as fields, legs as tuples."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)


class SnapshotRequest(LedgerRow):
    """Somebody wants a snapshot. `snapshot_id` is the one that answers it, or None while it waits."""

    request_id: int
    account_id: str
    reason: Reason
    order_id: str | None
    note: str | None
    requested_at: AwareDatetime
    snapshot_id: str | None
    claimed_at: AwareDatetime | None


class StatedFlow(LedgerRow):
    """A row of `stated_flows`: units and meanings are the comments of its columns in `schema`."""

    flow_id: int
    account_id: str
    trade_date: date
    kind: Literal["deposit", "withdrawal"]
    amount: Decimal
    symbol: str | None
    quantity: Decimal | None
    note: str | None
    stated_by: str
    stated_at: AwareDatetime
    removed_by: str | None
    removed_at: AwareDatetime | None


class Leg(LedgerRow):
    """A leg; `quantity` in shares or contracts, without sign."""

    option_symbol: str
    side: str
    quantity: Decimal

    @model_serializer
    def _exact(self) -> dict[str, str]:
        return {"option_symbol": self.option_symbol, "side": self.side, "quantity": f"{self.quantity:f}"}


class EngineOrder(LedgerRow):
    """A row of `orders`: units and meanings are the comments of its columns in `schema`.

    `created_at` and `updated_at` are None until the ledger has it.
    """

    client_order_id: str
    account_id: str
    role: Literal["ENTRY", "EXIT"]
    status: OrderStatus = "PENDING"
    broker_order_id: int | None = None
    trade_id: str | None = None
    class_: str | None = Field(default=None, alias="class")
    order_type: str | None = None
    duration: str | None = None
    symbol: str | None = None
    legs: tuple[Leg, ...] = ()
    quantity: Decimal | None = None
    limit_price: Decimal | None = None
    avg_fill_price: Decimal | None = None
    filled_quantity: Decimal | None = None
    remaining_quantity: Decimal | None = None
    raw_status: str | None = None
    reject_reason: str | None = None
    snapshot_id: str | None = None
    created_at: AwareDatetime | None = None
    updated_at: AwareDatetime | None = None


class Trade(LedgerRow):
    """A row of `trades`: units and meanings are the comments of its columns in `schema`.

    `created_at` and `updated_at` are None until the ledger has it.
    """

    trade_id: str
    account_id: str
    symbol: str
    status: TradeStatus
    quantity: Decimal
    expiration: date | None = None
    strategy: str | None = None
    short_strike: Decimal | None = None
    long_strike: Decimal | None = None
    width: Decimal | None = None
    legs: tuple[Leg, ...] = ()
    multiplier: int = 100
    entry_price: Decimal | None = None
    entry_price_source: str | None = None
    exit_price: Decimal | None = None
    exit_price_source: str | None = None
    exit_reason: str | None = None
    broker_order_id_open: int | None = None
    broker_order_id_close: int | None = None
    opened_at: AwareDatetime | None = None
    closed_at: AwareDatetime | None = None
    realized_pnl: Decimal | None = None
    max_profit: Decimal | None = None
    max_loss: Decimal | None = None
    iv_entry: Decimal | None = None
    max_seen_profit_fraction: Decimal | None = None
    origin: str | None = None
    managed: bool = True
    snapshot_id: str | None = None
    created_at: AwareDatetime | None = None
    updated_at: AwareDatetime | None = None


def settled(order: EngineOrder) -> bool:
    """Whether nothing can happen to it any more."""
    return order.status in SETTLED


def columns_of(row: LedgerRow) -> dict[str, Any]:
    """The columns of a row by their names, as Python values."""
    return row.model_dump(by_alias=True)
