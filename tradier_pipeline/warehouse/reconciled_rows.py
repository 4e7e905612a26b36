"""The reconciliation of a snapshot as rows of the warehouse: derived, and about the ledger as it was then."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from tradier_pipeline.core.decimals import INTEGER_DIGITS, rounded
from tradier_pipeline.ledger.changes import LedgerChange
from tradier_pipeline.ledger.writeback import as_columns
from tradier_pipeline.reconcile.orders import OrderRow
from tradier_pipeline.reconcile.reconciliation import Reconciliation
from tradier_pipeline.reconcile.trades import TradeRow
from tradier_pipeline.warehouse.schema import RECONCILED

Row = dict[str, Any]


def table_rows(found: Reconciliation | None) -> dict[str, list[Row]]:
    """The rows of the three tables by table name, without their lead; none if there was no ledger to compare with."""
    if found is None:
        return {table.name: [] for table in RECONCILED}
    return {
        "order_reconciliation": [_order_row(row) for row in found.orders],
        "trade_reconciliation": [_trade_row(row) for row in found.trades.rows],
        "reconciliation_findings": [
            {
                "trade_id": trade_id,
                "code": finding.code,
                "severity": finding.severity,
                "text": finding.text,
                "evidence": listed(finding.evidence),
            }
            for trade_id, finding in found.findings
        ],
    }


def _order_row(row: OrderRow) -> Row:
    same = (
        *("match_state", "matched_by", "client_order_id", "trade_id", "tag"),
        *("ledger_status", "broker_status", "raw_status"),
    )
    numbers = ("ledger_filled", "broker_filled", "ledger_price", "broker_price")
    return {
        **{name: getattr(row, name) for name in same},
        **{name: _number(getattr(row, name)) for name in numbers},
        "order_id": row.broker_order_id,
        "suggested": listed(row.suggested),
        "differences": listed(row.differences),
        "proposed": _proposed(row.change),
    }


def _trade_row(row: TradeRow) -> Row:
    same = (
        *("trade_id", "symbol", "strategy", "ledger_status", "status", "why"),
        *("entry_price_source", "exit_price_source", "exit_reason", "opened_at", "closed_at"),
    )
    numbers = ("entered", "exited", "entry_price", "exit_price", "realized_pnl")
    return {
        **{name: getattr(row, name) for name in same},
        **{name: _number(getattr(row, name)) for name in numbers},
        "legs": _quantities(row.legs),
        "claimed": _quantities(row.claimed),
        "allocated": _quantities(row.allocated),
        "proposed": _proposed(row.change),
    }


def _number(value: Decimal | None) -> Decimal | None:
    """The ledger may hold more digits than DECIMAL(24,8); null if it is too large for that."""
    return None if value is None or value.adjusted() >= INTEGER_DIGITS else rounded(value)


def _quantities(amounts: Mapping[str, Decimal]) -> str:
    return json.dumps({symbol: f"{amount:f}" for symbol, amount in amounts.items()})


def _proposed(change: LedgerChange | None) -> str | None:
    return None if change is None else json.dumps(as_columns(change.after))


def listed(texts: Sequence[str]) -> str | None:
    """Texts as one; None if there is none."""
    return "; ".join(text for text in texts if text) or None
