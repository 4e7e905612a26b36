"""The world as Tradier's JSON bodies, with the quirks a client has to live with. Pure; one instant per body."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TypeVar

from tradier_pipeline.simulator import margin
from tradier_pipeline.simulator.market import ZERO, describe, parse_option
from tradier_pipeline.simulator.wire import Json, listing, loads, milliseconds, places
from tradier_pipeline.simulator.world import BRACKETS, Account, ClosedLot, Event, Order, World, new_york_date


@dataclass(frozen=True, slots=True)
class GainLossQuery:
    """The parameters of the gainloss endpoint; `symbol` matches as a substring (Tradier: V returns VVR)."""

    page: int
    limit: int
    by_open: bool
    descending: bool
    start: date | None
    end: date | None
    symbol: str


PARTNER_ID = "3a8bbee1-5184-4ffe-8a0c-294fbad1aee9"  # Tradier: one constant for all users, not an order key
_Row = TypeVar("_Row", Event, ClosedLot)
_HUNDRED = Decimal(100)
_NOTHING = Decimal("0.0")


def profile(world: World) -> Json:
    accounts: list[Json] = [
        {
            "account_number": account.id,
            "classification": "individual",
            "date_created": milliseconds(account.created),
            "day_trader": account.type == "pdt",
            "option_level": 6,
            "status": "active",
            "type": "cash" if account.type == "cash" else "margin",  # Tradier: pdt is no value here
            "last_update_date": milliseconds(account.created),
        }
        for account in world.accounts.values()
    ]
    rows: Json = accounts[0] if len(accounts) == 1 else accounts
    return {"profile": {"account": rows, "id": "id-sim-demo", "name": "Demo Trader"}}


def balances(world: World, account: Account) -> Json:
    worth = margin.value(world, account)
    free = max(ZERO, worth.free_cash)
    body: dict[str, Json] = {
        "option_short_value": worth.option_short,
        "total_equity": places(worth.total_equity, 24),
        "account_number": account.id,
        "account_type": account.type,
        "close_pl": places(worth.close_pl, 18),
        "current_requirement": worth.stock_requirement + worth.option_requirement,
        "equity": 0,  # Tradier: 0 whatever the account is worth
        "long_market_value": worth.stock_long + worth.option_long,
        "market_value": places(worth.market_value, 20),
        "open_pl": worth.market_value - worth.cost_basis,
        "option_long_value": worth.option_long,
        "option_requirement": worth.option_requirement,
        "pending_orders_count": len(account.live),
        "short_market_value": worth.stock_short + worth.option_short,
        "stock_long_value": worth.stock_long,
        "total_cash": places(worth.total_cash, 24),
        "uncleared_funds": 0,
        "pending_cash": worth.pending_cash,
    }
    if account.type == "cash":
        body["cash"] = {"cash_available": free, "sweep": 0, "unsettled_funds": 0}
        return {"balances": body}
    block: dict[str, Json] = {
        "fed_call": 0,
        "maintenance_call": 0,
        "option_buying_power": places(free, 24),
        "stock_buying_power": places(free * 2, 16),
        "stock_short_value": worth.stock_short,
    }
    if account.type == "margin":
        body["margin"] = {**block, "sweep": 0}
    else:
        body["pdt"] = {**block, "day_trade_buying_power": free * 4}
    return {"balances": body}


def positions(account: Account) -> Json:
    """Sorted by symbol; average cost; a short option's basis is negative (Tradier: captured -2.0)."""
    rows: list[Json] = [
        {
            "cost_basis": position.cost_basis,
            "date_acquired": milliseconds(position.acquired),
            "id": position.id,
            "quantity": places(position.quantity, 8),
            "symbol": symbol,
        }
        for symbol, position in sorted(account.positions.items())
    ]
    return listing("positions", "position", rows)


def orders(world: World, account: Account, *, page: int, limit: int, tags: bool) -> Json:
    """The New York day's orders and older ones that still work; a page beyond the end is the empty form."""
    today = new_york_date(world.now)
    rows: list[Json] = [
        order_row(order, tags=tags)
        for order in account.orders
        # An order that ended today belongs to today, even when it was placed before.
        if order.is_live or new_york_date(order.updated) == today
    ]
    rows += [_without_tag(loads(text), tags=tags) for text in account.listed]
    return listing("orders", "order", _page(rows, page, limit))


def order(found: Order, *, tags: bool) -> Json:
    return {"order": order_row(found, tags=tags)}


def order_row(one: Order, *, tags: bool) -> dict[str, Json]:
    if one.cls in BRACKETS:
        # Tradier: such a parent carries no symbol, side, type or quantity.
        row: dict[str, Json] = {
            "id": one.id,
            "status": one.status,
            "create_date": milliseconds(one.created),
            "transaction_date": milliseconds(one.updated),
            "class": one.cls,
        }
    else:
        row = _flat(one)
    if one.legs:
        if one.cls not in BRACKETS:
            row |= {"num_legs": len(one.legs), "strategy": one.strategy or "unknown"}
        row["leg"] = [_flat(leg) for leg in one.legs]
    if one.reason is not None:
        row["reason_description"] = one.reason
    if tags and one.tag is not None:
        row["tag"] = one.tag
    return row


def order_event(account: str, one: Order, parent: Order | None) -> Json:
    """The frame of the account stream for a change of an order or leg (Tradier: 0.0 for a price it does not have)."""
    row: dict[str, Json] = {"id": one.id, "event": "order"}
    if parent is not None:
        row["parent_id"] = parent.id
    row |= {
        "status": one.status,
        "type": one.type,
        "price": one.price or _NOTHING,
        "stop_price": one.stop_price or _NOTHING,
        "avg_fill_price": one.average_price or _NOTHING,
        "exec_quantity": one.executed or _NOTHING,
        "last_fill_quantity": one.last_quantity or _NOTHING,
        "remaining_quantity": one.remaining or _NOTHING,
        "transaction_date": milliseconds(one.updated),
        "create_date": milliseconds(one.created),
        "account": account,
    }
    return row if one.tag is None else {**row, "tag": one.tag}


def heartbeat(now: datetime) -> Json:
    """The frame that says the account stream is alive (Tradier: nanoseconds)."""
    at = now.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00")
    return {"event": "heartbeat", "status": "active", "timestamp": f"{at}000Z"}


def _flat(one: Order) -> dict[str, Json]:
    row: dict[str, Json] = {
        "id": one.id,
        "type": one.type,
        "symbol": one.symbol,
        "side": one.side,
        "quantity": places(one.quantity, 8),
        "status": one.status,
        "duration": one.duration,
    }
    if one.price is not None:
        row["price"] = one.price
    row |= {
        "avg_fill_price": places(one.average_price, 8),
        "exec_quantity": places(one.executed, 8),
        "last_fill_price": places(one.last_price, 8),
        "last_fill_quantity": places(one.last_quantity, 8),
        "remaining_quantity": places(one.remaining, 8),
    }
    if one.stop_price is not None:
        row["stop_price"] = one.stop_price
    row |= {
        "create_date": milliseconds(one.created),
        "transaction_date": milliseconds(one.updated),
        "class": one.cls,
    }
    if one.option_symbol is not None:
        row["option_symbol"] = one.option_symbol
    return row


def _without_tag(row: Json, *, tags: bool) -> Json:
    return row if tags or not isinstance(row, dict) else {key: item for key, item in row.items() if key != "tag"}


def preview(placed: Order, now: datetime, cost: Decimal, fees: Decimal) -> Json:
    """A validated order that was not sent: no id (Tradier: `result` true)."""
    row: dict[str, Json] = {
        "commission": 0,
        "cost": cost + fees,
        "duration": placed.duration,
        "extended_hours": placed.duration in {"pre", "post"},
        "fees": fees,
        "margin_change": cost,
        "class": placed.cls,
        "order_cost": cost,
        "request_date": milliseconds(now),
        "result": True,
        "status": "ok",
        "strategy": placed.strategy or placed.cls,
        "day_trades": 0,
    }
    if placed.cls not in BRACKETS:
        row |= {"quantity": placed.quantity, "side": placed.side, "symbol": placed.symbol, "type": placed.type}
    return {"order": row}


def gainloss(world: World, account: Account, query: GainLossQuery) -> Json:
    """Closed lots until yesterday (Tradier: a nightly batch)."""
    lots = [
        lot
        for lot in _before_today(world, account.closed)
        if query.symbol in lot.symbol and _within(new_york_date(lot.closed), query.start, query.end)
    ]
    lots.sort(key=lambda lot: lot.opened if query.by_open else lot.closed, reverse=query.descending)
    return listing("gainloss", "closed_position", _page([_lot_row(lot) for lot in lots], query.page, query.limit))


def _before_today(world: World, rows: Sequence[_Row]) -> list[_Row]:
    today = new_york_date(world.now)
    return [row for row in rows if new_york_date(row.at if isinstance(row, Event) else row.closed) < today]


def _within(day: date, start: date | None, end: date | None) -> bool:
    return (start is None or start <= day) and (end is None or day <= end)


def _page(rows: Sequence[Json], page: int, limit: int) -> Sequence[Json]:
    return rows[(page - 1) * limit : page * limit]


def _lot_row(lot: ClosedLot) -> Json:
    opened, closed = new_york_date(lot.opened), new_york_date(lot.closed)
    return {
        "close_date": f"{closed}T00:00:00.000Z",
        "cost": lot.cost,
        "gain_loss": lot.gain,
        "gain_loss_percent": (lot.gain / abs(lot.cost) * _HUNDRED).quantize(Decimal("0.0001"))
        if lot.cost
        else _HUNDRED,
        "open_date": f"{opened}T00:00:00.000Z",
        "proceeds": lot.proceeds,
        "quantity": lot.quantity,
        "symbol": lot.symbol,
        "term": (closed - opened).days,
    }


def history(
    world: World,
    account: Account,
    *,
    page: int,
    limit: int,
    kinds: Sequence[str],
    start: date | None,
    end: date | None,
    symbol: str = "",
    exactly: bool = False,
) -> Json:
    """Events until yesterday, newest first (Tradier: nightly, no time of day, no order numbers), of all or some kinds.

    `symbol` matches as a substring as in gainloss, or `exactly`; it leaves out what is about no symbol.
    """
    rows = [
        _event_row(event)
        for event in reversed(_before_today(world, account.history))
        if (not kinds or event.kind in kinds)
        and _within(new_york_date(event.at), start, end)
        and (symbol == event.symbol if exactly and symbol else symbol in (event.symbol or ""))
    ]
    return listing("history", "event", _page(rows, page, limit))


def _event_row(event: Event) -> Json:
    detail: dict[str, Json] = {"description": event.description, "quantity": places(event.quantity, 8)}
    if event.kind == "trade":
        detail = {
            "commission": event.commission,
            **detail,
            "description": describe(event.symbol or ""),
            "price": event.price,
            "symbol": event.symbol,
            "trade_type": "Option" if parse_option(event.symbol or "") else "Equity",
        }
    elif event.kind == "option":
        detail = {"option_type": event.option_type, **detail}
    # Tradier: a dividend's block is called `adjustment`, every other one like its type.
    block = "adjustment" if event.kind == "dividend" else event.kind
    return {"amount": event.amount, "date": f"{new_york_date(event.at)}T00:00:00Z", "type": event.kind, block: detail}


def historical_balances(world: World, account: Account, period: str) -> Json:
    """Closing equity per weekday. `balances` is an array here (Tradier), unlike in the balances endpoint."""
    days = {"WEEK": 7, "MONTH": 31, "YEAR": 366}.get(period, 4000)
    today = new_york_date(world.now)
    first = date(today.year, 1, 1) if period == "YTD" else today - timedelta(days=days)
    marks = [(day, equity) for day, equity in sorted(account.closing_equity.items()) if day >= first]
    delta = marks[-1][1] - marks[0][1] if marks else ZERO
    percent = (delta / marks[0][1] * _HUNDRED).quantize(Decimal("0.01")) if marks and marks[0][1] else ZERO
    rows: list[Json] = [{"date": day.isoformat(), "value": equity} for day, equity in marks]
    return {"balances": rows, "delta": delta, "deltaPercent": percent}
