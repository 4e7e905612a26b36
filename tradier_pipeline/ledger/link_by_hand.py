"""An order that was placed outside of the engine, made the exit of a trade by somebody who knows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.ledger.records import EngineOrder, columns_of
from tradier_pipeline.ledger.store import Ledger, _to_text
from tradier_pipeline.ledger.writeback import as_columns


class LinkRefusedError(PipelineError):
    """The order cannot be the exit of the trade; nothing was written."""


def link(ledger: Ledger, order: EngineOrder, snapshot_id: str) -> None:
    """Record an order of the broker's as the exit of the trade that it names, with a row of the audit, all or nothing.

    Args:
        order: with `trade_id` and `broker_order_id`.
        snapshot_id: the published snapshot that shows the order.

    Raises:
        LinkRefusedError: the ledger has the order, or a trade names it.
        LedgerError: the ledger cannot be written.
    """
    values = {name: value for name, value in columns_of(order).items() if value is not None}
    values["snapshot_id"] = snapshot_id
    with ledger._writing() as connection:
        found = connection.execute(_CLAIMS, {"account": order.account_id, "id": order.broker_order_id}).fetchone()
        if found is not None and found[0] != order.trade_id:
            raise LinkRefusedError(
                f"order {order.broker_order_id} is of {found[1]} {found[0]} in the ledger already", _REMEDY
            )
        row: Mapping[str, Any] = {name: _to_text(value) for name, value in values.items()}
        columns, places = ", ".join(row), ", ".join("?" * len(row))
        connection.execute(f"INSERT INTO orders ({columns}) VALUES ({places})", list(row.values()))  # noqa: S608
        connection.execute(
            "INSERT INTO ledger_changes (snapshot_id, table_name, row_key, before, after, why) "
            "VALUES (?, 'orders', ?, '{}', ?, ?)",
            (
                snapshot_id,
                order.client_order_id,
                json.dumps(as_columns(order.model_dump(by_alias=True, exclude_none=True, exclude={"legs"}))),
                f"linked by hand: order {order.broker_order_id} is the exit of {order.trade_id}",
            ),
        )


# whose the order is; a trade that names it as its own exit says the same as the one who links it
_CLAIMS = """
    SELECT coalesce(trade_id, client_order_id), 'order' FROM orders
        WHERE account_id = :account AND (broker_order_id = :id OR client_order_id = CAST(:id AS TEXT))
    UNION ALL SELECT trade_id, 'trade' FROM trades
        WHERE account_id = :account AND :id IN (broker_order_id_open, broker_order_id_close)
    LIMIT 1
"""
_REMEDY = "Correct the ledger by hand if that is wrong."
