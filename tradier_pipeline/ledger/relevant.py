"""Which rows of the ledger one snapshot can say something new about: the ledger grows for ever, and they do not.

A trade that was over and raised no question when an earlier snapshot was set beside it is as it was then, unless it or
one of its orders has been written since, or the broker shows something of it. What these rules bring is therefore
enough; with more, the same follows. A row that was deleted since tells nothing: the first snapshot of each trade date
is set beside the whole ledger.
"""

# ruff: noqa: S608 - every part of these texts is a constant of the ledger
from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import get_args

from tradier_pipeline.ledger.records import SETTLED, TERMINAL, OrderStatus, TradeStatus
from tradier_pipeline.ledger.schema import MINUTE_OPENED


@dataclass(frozen=True, slots=True)
class Relevance:
    """What one snapshot and those before it of its trade date know of the ledger.

    Attributes:
        written_since: a row that was written later may say something else than then.
        created: ranges of instants; an order that was created in one may be what the broker shows.
        order_ids: what the broker shows, and what it showed then.
        tags: of the orders that the broker shows.
        held: contracts and equities with a position.
        trades: of which something was reported then.
    """

    account_id: str
    written_since: datetime
    created: Collection[tuple[datetime, datetime]] = ()
    order_ids: Collection[int] = ()
    tags: Collection[str] = ()
    held: Collection[str] = ()
    trades: Collection[str] = ()


def _words(statuses: Collection[str]) -> str:
    return ", ".join(repr(status) for status in sorted(statuses))


_LIVING_ORDERS = _words(set(get_args(OrderStatus)) - SETTLED)
_LIVING_TRADES = _words(set(get_args(TradeStatus)) - set(TERMINAL))
A_SECOND = timedelta(seconds=1)

# The first part finds what matters by itself, the second what belongs to it. A living trade is one of its own minute.
_RELEVANT = f"""
WITH RECURSIVE relevant (client_order_id, trade_id) AS (
    SELECT client_order_id, NULL FROM orders WHERE account_id = :account AND status IN ({_LIVING_ORDERS})
    UNION SELECT client_order_id, NULL FROM orders WHERE account_id = :account AND updated_at >= :written_since
    UNION SELECT client_order_id, NULL FROM json_each(:created) AS span CROSS JOIN orders
        ON account_id = :account
        AND created_at BETWEEN json_extract(span.value, '$[0]') AND json_extract(span.value, '$[1]')
    UNION SELECT client_order_id, NULL FROM orders
        WHERE account_id = :account AND broker_order_id IN (SELECT value FROM json_each(:order_ids))
    UNION SELECT client_order_id, NULL FROM orders WHERE client_order_id IN (SELECT value FROM json_each(:tags))
    UNION SELECT NULL, trade_id FROM trades WHERE account_id = :account AND updated_at >= :written_since
    UNION SELECT NULL, trade_id FROM trades
        WHERE account_id = :account AND broker_order_id_open IN (SELECT value FROM json_each(:order_ids))
    UNION SELECT NULL, trade_id FROM trades
        WHERE account_id = :account AND broker_order_id_close IN (SELECT value FROM json_each(:order_ids))
    UNION SELECT NULL, trade_id FROM trades WHERE trade_id IN (SELECT value FROM json_each(:trades))
    UNION SELECT NULL, trade_id FROM trades, json_each(legs) AS leg
        WHERE account_id = :account AND status = 'CANCELLED'
          AND json_extract(leg.value, '$.option_symbol') IN (SELECT value FROM json_each(:held))
    UNION SELECT NULL, trade_id FROM trades WHERE account_id = :account AND {MINUTE_OPENED} IN (
        SELECT {MINUTE_OPENED} FROM trades WHERE account_id = :account AND status IN ({_LIVING_TRADES}))

    UNION SELECT orders.client_order_id, NULL FROM relevant JOIN orders USING (trade_id)
        WHERE orders.account_id = :account
    UNION SELECT orders.client_order_id, NULL FROM relevant JOIN trades USING (trade_id) JOIN orders
        ON orders.account_id = :account AND orders.broker_order_id IN (broker_order_id_open, broker_order_id_close)
    UNION SELECT NULL, orders.trade_id FROM relevant JOIN orders USING (client_order_id)
        WHERE orders.account_id = :account AND orders.trade_id IS NOT NULL
    UNION SELECT NULL, trades.trade_id FROM relevant JOIN orders USING (client_order_id) JOIN trades
        ON trades.account_id = orders.account_id AND broker_order_id_open = broker_order_id
    UNION SELECT NULL, trades.trade_id FROM relevant JOIN orders USING (client_order_id) JOIN trades
        ON trades.account_id = orders.account_id AND broker_order_id_close = broker_order_id
)
SELECT client_order_id, trade_id FROM relevant
"""


def relevant_keys(connection: sqlite3.Connection, relevance: Relevance) -> tuple[list[str], list[str]]:
    """The client order ids and the trade ids of the rows that matter; a trade may not be in the ledger."""
    found = connection.execute(
        _RELEVANT,
        {
            "account": relevance.account_id,
            "written_since": _second(relevance.written_since),
            "created": json.dumps([[_second(first), _second(last + A_SECOND)] for first, last in relevance.created]),
            "order_ids": json.dumps(list(relevance.order_ids)),
            "tags": json.dumps(list(relevance.tags)),
            "held": json.dumps(list(relevance.held)),
            "trades": json.dumps(list(relevance.trades)),
        },
    ).fetchall()
    return [order for order, _ in found if order is not None], [trade for _, trade in found if trade is not None]


def _second(instant: datetime) -> str:
    """The beginning of its text in the ledger, which may or may not go on with fractions: nothing sorts before it."""
    return f"{instant.astimezone(UTC):%Y-%m-%dT%H:%M:%S}"
