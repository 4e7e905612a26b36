"""Flows that the owner states: what came into an account or left it, and the broker's history does not tell.

The ledger keeps them, with who and when; the warehouse has a copy of those that stand, for the views that count them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import date, datetime, timedelta
from decimal import Decimal
from getpass import getuser
from typing import Any, Literal, get_args

import duckdb

from tradier_pipeline import clock
from tradier_pipeline.broker.symbols import classify
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.settings import Settings
from tradier_pipeline.ledger.records import StatedFlow
from tradier_pipeline.ledger.store import Ledger
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.reads import connect_readonly, require_account
from tradier_pipeline.warehouse.sql import bind, transaction
from tradier_pipeline.warehouse.staging import Warehouse, insert

Kind = Literal["deposit", "withdrawal"]
KINDS: tuple[Kind, ...] = get_args(Kind)
NEAR = timedelta(days=3)

Row = dict[str, Any]


class FlowError(PipelineError):
    """A flow cannot be stated so."""


def stated_rows(ledger: Ledger, at: datetime | None = None) -> list[Row]:
    """The flows that stand, now or at an instant, as rows of the warehouse's table."""
    flows = ledger.stated_flows() if ledger.exists else []
    names = set(schema.STATED_FLOWS.column_names)
    return [flow.model_dump(include=names) for flow in flows if _stands(flow, at)]


def _stands(flow: StatedFlow, at: datetime | None) -> bool:
    if at is None:
        return flow.removed_at is None
    return flow.stated_at <= at and (flow.removed_at is None or at < flow.removed_at)


def publish_stated(settings: Settings) -> None:
    """Let the warehouse have the flows that stand in the ledger, and no others.

    Raises:
        WarehouseError, LedgerError: one of them cannot be read or written.
    """
    rows = stated_rows(Ledger(settings.ledger))
    with Warehouse(settings.warehouse).staged() as staged, transaction(staged.connection):
        staged.connection.execute("DELETE FROM stated_flows")
        insert(staged.connection, schema.STATED_FLOWS, rows)


def add_flow(
    settings: Settings,
    account_id: str,
    day: date,
    amount: Decimal,
    *,
    kind: Kind | None = None,
    symbol: str | None = None,
    quantity: Decimal | None = None,
    note: str | None = None,
) -> StatedFlow:
    """State a flow, and publish it.

    Args:
        amount: USD, or what the securities were worth; without a kind, one below zero is a withdrawal. Zero: nothing
            came or left, whatever the history of the date looks like.
        symbol, quantity: of securities: shares or contracts, without sign.

    Raises:
        FlowError: it is of the future; it contradicts its kind; its securities are none; the broker's history has it
            already, or it was stated so.
        PipelineError: nothing is published of the account; see `publish_stated`.
    """
    kind = kind or ("withdrawal" if amount < 0 else "deposit")
    if amount < 0 and kind == "deposit":
        raise FlowError(f"{amount} is below zero, and a deposit is not", "Leave out --kind, or the sign.")
    if (symbol is None) != (quantity is None):
        raise FlowError("securities are a symbol and a quantity", "Give both --symbol and --quantity, or neither.")
    if symbol is not None and classify(symbol).asset_class == "unparsed":
        raise FlowError(f"{symbol} is no symbol", "Write an equity ticker, or a compact OCC option symbol.")
    if quantity is not None and quantity <= 0:
        raise FlowError(
            f"--quantity is not above zero: {quantity}", "Write it without a sign; --kind withdrawal: they left."
        )
    if day > clock.trade_date(clock.now()):
        raise FlowError(f"{day} is not over", "State what has come or left.")
    signed = -abs(amount) if kind == "withdrawal" else amount
    _refuse_what_the_broker_has(settings, account_id, day, signed)
    ledger = Ledger(settings.ledger)
    _refuse_what_was_stated(ledger, (account_id, day, signed, symbol, quantity, note))
    flow = ledger.state_flow(
        account_id, day, kind, signed, symbol=symbol, quantity=quantity, note=note, stated_by=getuser()
    )
    publish_stated(settings)
    return flow


def remove_flow(settings: Settings, flow_id: int) -> StatedFlow:
    """Take a stated flow back; the ledger keeps it, with who and when.

    Raises:
        LedgerError: there is none of this number that stands. See `publish_stated`.
    """
    flow = Ledger(settings.ledger).remove_flow(flow_id, getuser())
    publish_stated(settings)
    return flow


def _refuse_what_was_stated(ledger: Ledger, stated: tuple[Any, ...]) -> None:
    """The same twice is most likely a command run twice; two alike are distinguished by their notes."""
    for flow in ledger.stated_flows() if ledger.exists else []:
        same = (flow.account_id, flow.trade_date, flow.amount, flow.symbol, flow.quantity, flow.note)
        if same == stated and not flow.removed_at:
            raise FlowError(
                f"it is stated already, as {flow.flow_id}", "If it came twice, tell the second one apart by --note."
            )


def _refuse_what_the_broker_has(settings: Settings, account_id: str, day: date, amount: Decimal) -> None:
    query = bind(
        "SELECT trade_date, word FROM cash_flows WHERE account_id = ? AND external AND source = 'broker' "
        "AND amount = ?::DECIMAL(24,8) AND amount <> 0 AND trade_date BETWEEN ? AND ?",
        account_id,
        f"{amount:f}",
        day - NEAR,
        day + NEAR,
    )
    found: Sequence[tuple[date, str]] = []
    with connect_readonly(settings.warehouse) as connection:
        require_account(connection, account_id)
        with suppress(duckdb.Error):  # of an older version: it has no such view yet
            found = connection.execute(query).fetchall()
    for told_on, word in found:
        raise FlowError(
            f"the broker's history has {amount} USD of {told_on} already, as {word}", "It counts without being stated."
        )
