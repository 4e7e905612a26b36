"""A published snapshot as a value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tradier_pipeline.broker.models import Account, Balances, Order
    from tradier_pipeline.core.outcome import Outcome
    from tradier_pipeline.domain.positions import PortfolioPosition
    from tradier_pipeline.reconcile.verdict import Verdict


@dataclass(frozen=True, slots=True)
class TradierSnapshot:
    """One published snapshot: everything the broker said about one account at one instant.

    `as_of` is when the first of its resources was read. Money is USD as `Decimal`. `checks` are the outcomes of
    every check that ran before it was published. `verdict`: good, or doubtful for the reasons of `verdict_evidence`;
    nothing is concluded from a doubtful one until later snapshots confirm it.
    """

    snapshot_id: str
    as_of: datetime
    account: Account
    balances: Balances
    positions: tuple[PortfolioPosition, ...]
    orders: tuple[Order, ...]
    checks: tuple[Outcome, ...]
    verdict: Verdict = "good"
    verdict_evidence: str | None = None
