"""Orders, trades and snapshots of an imagined account, short to write."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from tradier_pipeline.broker.models import Order
from tradier_pipeline.ledger.records import EngineOrder, Leg, Trade

ACCOUNT = "VA12345678"
AS_OF = datetime(2025, 12, 2, 15, 0, tzinfo=UTC)
EARLIER = AS_OF - timedelta(hours=1)
EXPIRATION = date(2025, 12, 19)


def put(strike: int, underlying: str = "AAPL") -> str:
    return f"{underlying}251219P{strike * 1000:08d}"


def call(strike: int, underlying: str = "AAPL") -> str:
    return f"{underlying}251219C{strike * 1000:08d}"


def legs(quantity: int, **sides: str) -> tuple[Leg, ...]:
    """legs(2, short=..., long=...) or legs(2, sell_to_open=..., buy_to_open=...)."""
    return tuple(Leg(option_symbol=symbol, side=side, quantity=Decimal(quantity)) for side, symbol in sides.items())


def engine_order(
    client_order_id: str = "e-1", role: Any = "ENTRY", status: Any = "PLACED", **fields: Any
) -> EngineOrder:
    given = {
        "client_order_id": client_order_id,
        "account_id": ACCOUNT,
        "role": role,
        "status": status,
        "class": "multileg",
        "symbol": "AAPL",
        "created_at": EARLIER,
        "updated_at": EARLIER,
    }
    return EngineOrder.model_validate(given | fields)


def broker_order(
    number: int, status: str = "open", sides: Mapping[str, str] | None = None, quantity: int = 1, **fields: Any
) -> Order:
    """An order with a leg for each side, such as {"sell_to_open": "AAPL..."}."""
    when = EARLIER.isoformat().replace("+00:00", "Z")
    done = {name: fields[name] for name in ("exec_quantity", "remaining_quantity") if name in fields}
    part = {"class": "option", "status": status, "quantity": quantity, "create_date": when} | done
    listed = [
        part | {"id": number + place, "side": side, "option_symbol": symbol, "symbol": "AAPL"}
        for place, (side, symbol) in enumerate((sides or {}).items(), 1)
    ]
    given = part | {"id": number, "class": "multileg", "type": "credit", "symbol": "AAPL", "transaction_date": when}
    return Order.model_validate(given | {"side": "buy", "leg": listed} | fields)


def trade(trade_id: str = "t-1", status: Any = "OPEN", quantity: int = 1, **fields: Any) -> Trade:
    """By default a bull put credit 290/285."""
    given = {
        "trade_id": trade_id,
        "account_id": ACCOUNT,
        "symbol": "AAPL",
        "status": status,
        "quantity": Decimal(quantity),
        "expiration": EXPIRATION,
        "strategy": "bull_put_credit",
        "width": Decimal(5),
        "legs": legs(quantity, short=put(290), long=put(285)),
        "created_at": EARLIER,
        "updated_at": EARLIER,
    }
    return Trade.model_validate(given | fields)
