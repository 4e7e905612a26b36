"""The reconciliation of a snapshot as rows of the warehouse: derived, and about the ledger as it was then."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tradier_pipeline import clock
from tradier_pipeline.broker.models import INTEGER_DIGITS
from tradier_pipeline.ledger.changes import Change
from tradier_pipeline.ledger.writeback import as_columns
from tradier_pipeline.portfolio import rounded
from tradier_pipeline.reconcile.orders import OrderRow
from tradier_pipeline.reconcile.reconciliation import Reconciliation
from tradier_pipeline.reconcile.trades import TradeRow
from tradier_pipeline.warehouse.schema import BIGINT, DECIMAL, INSTANT, LEAD, VARCHAR, Column, Table

Row = dict[str, Any]

ORDER_RECONCILIATION = Table(
    "order_reconciliation",
    "One row per order of the ledger or of the broker: how the two compare. Derived.",
    (
        *LEAD,
        Column(
            "match_state", VARCHAR, "matched, unmatched_ours, unmatched_external, missing_at_broker, ambiguous", True
        ),
        Column("matched_by", VARCHAR, "broker_id or tag; null unless matched"),
        Column("client_order_id", VARCHAR, "The engine's own id; null if the ledger does not have it"),
        Column("order_id", BIGINT, "The broker's order id"),
        Column("trade_id", VARCHAR, "The trade in the ledger"),
        Column("tag", VARCHAR, "The tag at the broker"),
        Column("suggested", VARCHAR, "Ids on the other side that look alike; a hint, never written"),
        Column(
            "ledger_status", VARCHAR, "PENDING, PLACED, PARTIAL, FILLED, CANCELLED, REJECTED, EXPIRED, ERROR, UNKNOWN"
        ),
        Column("broker_status", VARCHAR, "The broker's status in the ledger's words"),
        Column("raw_status", VARCHAR, "The broker's word"),
        Column("ledger_filled", DECIMAL, "Shares, contracts or spreads"),
        Column("broker_filled", DECIMAL, "Shares, contracts or spreads"),
        Column("ledger_price", DECIMAL, "USD per share, average fill; a credit is negative"),
        Column("broker_price", DECIMAL, "USD per share, average fill; a credit is negative; null until told"),
        Column("differences", VARCHAR, "What the sides disagree on, or what is wrong; null if nothing"),
        Column("proposed", VARCHAR, "JSON, column -> new value for the ledger; null if nothing"),
    ),
)

TRADE_RECONCILIATION = Table(
    "trade_reconciliation",
    "One row per trade of the ledger that lives, ended today or has something wrong: where it should stand. Derived.",
    (
        *LEAD,
        Column("trade_id", VARCHAR, "The engine's own id", True),
        Column("symbol", VARCHAR, "The underlying, or the equity", True),
        Column("ledger_status", VARCHAR, "Where the ledger has it", True),
        Column("status", VARCHAR, "Where it should stand", True),
        Column("why", VARCHAR, "What that follows from", True),
        Column("entered", DECIMAL, "Spreads, contracts or shares opened", True),
        Column("exited", DECIMAL, "Spreads, contracts or shares closed by fills", True),
        Column("claimed", VARCHAR, "JSON, contract -> signed quantity it ought to hold", True),
        Column("allocated", VARCHAR, "JSON, contract -> signed quantity of the position that is its own", True),
        Column("entry_price", DECIMAL, "USD per share: received for a credit trade, paid for a debit trade"),
        Column("entry_price_source", VARCHAR, "fills, or the ledger's word"),
        Column("exit_price", DECIMAL, "USD per share: paid for a credit trade, received for a debit trade"),
        Column("exit_price_source", VARCHAR, "fills, or the ledger's word; null: nobody knows"),
        Column("exit_reason", VARCHAR, "Such as PROFIT_TARGET, BROKER_ALREADY_FLAT, EXPIRED, ASSIGNED, EXERCISED"),
        Column("realized_pnl", DECIMAL, "USD, whole trade, multiplier included"),
        Column("opened_at", INSTANT, "UTC"),
        Column("closed_at", INSTANT, "UTC; of a trade without a closing fill, the latest it can have been"),
        Column("proposed", VARCHAR, "JSON, column -> new value for the ledger; null if nothing"),
    ),
)

RECONCILIATION_FINDINGS = Table(
    "reconciliation_findings",
    "One row per thing about the ledger that people ought to know. Derived.",
    (
        *LEAD,
        Column("trade_id", VARCHAR, "The trade it is about; null: the account"),
        Column("code", VARCHAR, "Such as legs_missing, exit_price_unknown, position_without_trade", True),
        Column("severity", VARCHAR, "info, warn or error", True),
        Column("text", VARCHAR, "In words", True),
        Column("evidence", VARCHAR, "Orders, contracts and figures; null if there is none"),
    ),
)

TABLES = (ORDER_RECONCILIATION, TRADE_RECONCILIATION, RECONCILIATION_FINDINGS)


def table_rows(found: Reconciliation) -> dict[str, list[Row]]:
    """The rows of the three tables by table name, ready to insert."""
    facts = found.facts
    lead = {
        "snapshot_id": facts.snapshot_id,
        "account_id": facts.account_id,
        "as_of": facts.as_of,
        "trade_date": clock.trade_date(facts.as_of),
    }
    rows = {
        ORDER_RECONCILIATION.name: [_order_row(row) for row in found.orders],
        TRADE_RECONCILIATION.name: [_trade_row(row) for row in found.trades.rows],
        RECONCILIATION_FINDINGS.name: [
            {
                "trade_id": trade_id,
                "code": finding.code,
                "severity": finding.severity,
                "text": finding.text,
                "evidence": _listed(finding.evidence),
            }
            for trade_id, finding in found.findings
        ],
    }
    return {table: [lead | row for row in listed] for table, listed in rows.items()}


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
        "suggested": _listed(row.suggested),
        "differences": _listed(row.differences),
        "proposed": _proposed(row.change),
    }


def _trade_row(row: TradeRow) -> Row:
    same = (
        *("trade_id", "symbol", "ledger_status", "status", "why", "entry_price_source", "exit_price_source"),
        *("exit_reason", "opened_at", "closed_at"),
    )
    numbers = ("entered", "exited", "entry_price", "exit_price", "realized_pnl")
    return {
        **{name: getattr(row, name) for name in same},
        **{name: _number(getattr(row, name)) for name in numbers},
        "claimed": _quantities(row.claimed),
        "allocated": _quantities(row.allocated),
        "proposed": _proposed(row.change),
    }


def _number(value: Decimal | None) -> Decimal | None:
    """The ledger may hold more digits than DECIMAL(24,8); null if it is too large for that."""
    return None if value is None or value.adjusted() >= INTEGER_DIGITS else rounded(value)


def _quantities(amounts: Mapping[str, Decimal]) -> str:
    return json.dumps({symbol: f"{amount:f}" for symbol, amount in amounts.items()})


def _proposed(change: Change | None) -> str | None:
    return None if change is None else json.dumps(as_columns(change.after))


def _listed(texts: tuple[str, ...]) -> str | None:
    return "; ".join(text for text in texts if text) or None
