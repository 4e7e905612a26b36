"""The ledger and one snapshot of an account, reconciled as a whole. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tradier_pipeline.ledger.changes import LedgerChange
from tradier_pipeline.ledger.records import SETTLED, EngineOrder, Trade
from tradier_pipeline.reconcile.facts import Facts, TradeFinding
from tradier_pipeline.reconcile.order_matching import OrderRow, reconcile_orders
from tradier_pipeline.reconcile.trades import TradeReconciliation, reconcile_trades


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What one snapshot says about the ledger."""

    facts: Facts
    orders: tuple[OrderRow, ...]
    trades: TradeReconciliation

    @property
    def changes(self) -> tuple[LedgerChange, ...]:
        """What the ledger should change, orders first; each row once."""
        of_orders = [row.change for row in self.orders if row.change]
        return (*of_orders, *(row.change for row in self.trades.rows if row.change))

    @property
    def findings(self) -> tuple[tuple[str | None, TradeFinding], ...]:
        """What people ought to know, with the trade that it is about, if it is about one."""
        of_trades = [(row.trade_id, finding) for row in self.trades.rows for finding in row.findings]
        return (*of_trades, *((None, finding) for finding in self.trades.findings))

    @property
    def unmatched(self) -> tuple[OrderRow, ...]:
        """The orders that one side lacks or that are in doubt; of others' only what still works."""
        return tuple(
            row
            for row in self.orders
            if row.match_state != "matched"
            and not (row.match_state == "unmatched_external" and row.broker_status in SETTLED)
        )

    @property
    def match_counts(self) -> dict[str, int]:
        """How many orders there are of each match state."""
        return dict(sorted(Counter(row.match_state for row in self.orders).items()))


def reconcile(
    orders: Sequence[EngineOrder], trades: Sequence[Trade], facts: Facts, *, tag_prefix: str | None = None
) -> Reconciliation:
    """Compare the whole ledger with what one snapshot shows of its account. One in doubt changes nothing."""
    order_rows = reconcile_orders(
        orders,
        facts.orders,
        account_id=facts.account_id,
        as_of=facts.as_of,
        lookups=facts.lookups,
        tag_prefix=tag_prefix,
    )
    of_trades = reconcile_trades(trades, orders, order_rows, facts)
    if facts.doubtful:
        order_rows = [replace(row, change=None) for row in order_rows]
        of_trades = replace(of_trades, rows=tuple(replace(row, change=None) for row in of_trades.rows))
    return Reconciliation(facts, tuple(order_rows), of_trades)
