"""The summary of a trade date: what the day came to, from the rows that were stored of it. Pure.

Nothing in it is of now: made again at any time, from the same rows, it is the same. The proposals of a trading engine
are no part of this project; what the broker's orders say of the day stands in their place.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any

from tradier_pipeline import clock
from tradier_pipeline.core.outcome import shown
from tradier_pipeline.ledger.records import HOLDING, STUCK

Row = dict[str, Any]

OPEN = (*HOLDING, *STUCK)
NO_FIGURES = ("revision", "generated_at", "content_key")
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class DayTrade:
    """A trade as a snapshot shows it. Prices are USD per share, in its direction; the profit is USD."""

    id: str
    symbol: str
    strategy: str | None
    status: str
    quantity: Decimal
    entry_price: Decimal | None
    exit_price: Decimal | None
    exit_reason: str | None
    realized_pnl: Decimal | None
    opened_at: datetime | None
    closed_at: datetime | None


@dataclass(frozen=True, slots=True)
class DayOrder:
    """An order of the broker as it was last seen on the day."""

    status: str
    create_date: datetime | None
    transaction_date: datetime | None


@dataclass(frozen=True, slots=True)
class LedgerDay:
    """The trades of the ledger on a day.

    Attributes:
        as_of: of the last good snapshot of the day that the ledger was set beside.
        since: of the last such of an earlier day; None if there is none.
        before: trade -> status as that one shows it.
        seen: every trade that a snapshot of the day shows, as the last of them shows it.
        held: the trades that the snapshot of `as_of` shows.
    """

    as_of: datetime
    since: datetime | None
    before: Mapping[str, str]
    seen: tuple[DayTrade, ...]
    held: frozenset[str]


@dataclass(frozen=True, slots=True)
class Day:
    """What is stored of a trade date of one account.

    Attributes:
        figures: the columns of `daily_summaries` that were read as they are.
        equity_before: USD; of the last good snapshot of an earlier date.
        ledger: None if the ledger was not set beside any snapshot of the day.
    """

    account_id: str
    trade_date: date
    figures: Mapping[str, Any]
    equity_before: Decimal | None
    orders: tuple[DayOrder, ...]
    ledger: LedgerDay | None


def summarize(day: Day) -> Row:
    """The row of `daily_summaries`, but for its revision and when it was made."""
    as_of, close, equity = (day.figures[name] for name in ("as_of", "session_close", "equity"))
    row = {
        "account_id": day.account_id,
        "trade_date": day.trade_date,
        **day.figures,
        "after_close": None if close is None else as_of >= close,
        "equity_change": None if day.equity_before is None else equity - day.equity_before,
        **_orders(day.orders, day.trade_date),
        **(_trades(day.ledger, day.trade_date) if day.ledger else {}),
    }
    return row | {"content_key": content_key(row)}


def content_key(row: Mapping[str, Any]) -> str:
    """SHA-256 of all figures of a summary, whatever zeros its numbers are padded with."""
    figures = {name: value for name, value in row.items() if name not in NO_FIGURES and value is not None}
    return sha256(json.dumps(figures, default=shown, sort_keys=True).encode()).hexdigest()


def _orders(orders: Iterable[DayOrder], day: date) -> Row:
    """How many were placed and how many ended on the day, whenever they were placed."""
    orders = tuple(orders)
    ended = Counter(order.status for order in orders if _is_on(order.transaction_date, day))
    return {
        "orders_placed": sum(_is_on(order.create_date, day) for order in orders),
        **{f"orders_{status}": ended[status] for status in ("filled", "canceled", "rejected", "expired")},
    }


def _trades(ledger: LedgerDay, day: date) -> Row:
    """The trades that were opened and closed since the last summary, and those that are open.

    Since, and not on the date: the end of one that expired is known on the next, and it must count once.
    """

    def is_new(at: datetime | None) -> bool:
        return at is not None and (at > ledger.since if ledger.since else _is_on(at, day))

    is_open = [trade for trade in ledger.seen if trade.status in OPEN and trade.id in ledger.held]
    closed = [
        trade
        for trade in ledger.seen
        if trade.status == "CLOSED"
        and (
            ledger.before.get(trade.id, "CLOSED") != "CLOSED"
            or (trade.id not in ledger.before and is_new(trade.closed_at))
        )
    ]
    opened = [
        trade
        for trade in (*is_open, *closed)
        if ledger.before.get(trade.id) not in OPEN and (trade.id in ledger.before or is_new(trade.opened_at))
    ]
    known = [trade.realized_pnl for trade in closed if trade.realized_pnl is not None]
    of_the_day = {trade.id: trade.strategy for trade in (*opened, *closed, *is_open)}
    return {
        "trades_as_of": ledger.as_of,
        "trades_since": ledger.since,
        "trades_opened": len(opened),
        "trades_closed": len(closed),
        "trades_open": len(is_open),
        "realized_pnl": sum(known, Decimal(0)) if known or not closed else None,
        "realized_unknown": len(closed) - len(known),
        "exit_reasons": _counted(trade.exit_reason for trade in closed),
        "trades_by_strategy": _counted(of_the_day.values()),
        "opened_trades": [asdict(trade) for trade in opened],
        "closed_trades": [asdict(trade) for trade in closed],
        "open_trades": [asdict(trade) for trade in is_open],
    }


def _counted(words: Iterable[str | None]) -> dict[str, int]:
    return dict(sorted(Counter(word or UNKNOWN for word in words).items()))


def _is_on(at: datetime | None, day: date) -> bool:
    return at is not None and clock.trade_date(at) == day
