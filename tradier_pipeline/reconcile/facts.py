"""What one snapshot shows of an account, as far as the ledger is concerned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Literal

from tradier_pipeline.broker.models import Order
from tradier_pipeline.landing.manifest import LookupRecord
from tradier_pipeline.ledger.records import EngineOrder, Trade
from tradier_pipeline.reconcile.ends import End
from tradier_pipeline.reconcile.holdings import Holdings

Severity = Literal["info", "warn", "error"]


@dataclass(frozen=True, slots=True)
class LastHeld:
    """The last snapshot that showed all legs of a trade: when it was, and the shares of the underlying in it."""

    as_of: datetime
    shares: Decimal


@dataclass(frozen=True, slots=True)
class Facts:
    """What the broker said.

    Attributes:
        positions: symbol -> signed contracts or shares, in the order of the list.
        orders: listed, and read by their ids.
        lookups: what became of the orders that were asked for by their ids.
        before: what the published snapshot before it shows; None if there is none. Nothing is gone without it.
        shares_before: trade -> shares of its underlying when its legs were last seen.
        held_until: trade -> when that was.
        never_held: the trades that lack legs now and whose legs no snapshot has ever shown all.
        ends: symbol -> what became of it lately, where changes of the account prove it, or prove nothing.
        closes: New York date -> when its session closed; without, at 16:00.
        session_open: when the exchange opens on the New York date of `as_of`; None without a session.
        doubtful: the snapshot is in doubt: nothing is proposed, nor concluded from a position that it lacks.
        verdict_evidence: what its verdict rests on, for a person.
    """

    snapshot_id: str
    account_id: str
    as_of: datetime
    positions: Mapping[str, Decimal]
    orders: tuple[Order, ...]
    lookups: tuple[LookupRecord, ...] = ()
    before: Holdings | None = None
    shares_before: Mapping[str, Decimal] = field(default_factory=dict)
    held_until: Mapping[str, datetime] = field(default_factory=dict)
    never_held: frozenset[str] = frozenset()
    ends: Mapping[str, End] = field(default_factory=dict)
    closes: Mapping[date, datetime] = field(default_factory=dict)
    session_open: datetime | None = None
    doubtful: bool = False
    verdict_evidence: str | None = None

    @property
    def holdings(self) -> Holdings:
        """Which contracts are held on which side."""
        held = frozenset(
            (symbol, "long" if amount > 0 else "short") for symbol, amount in self.positions.items() if amount
        )
        return Holdings(self.snapshot_id, self.as_of, held)


@dataclass(frozen=True, slots=True)
class LedgerState:
    """The ledger as it was read: orders and trades of every account, and the tags that mark an order as ours."""

    orders: tuple[EngineOrder, ...] = ()
    trades: tuple[Trade, ...] = ()
    tag_prefix: str | None = None

    @property
    def empty(self) -> bool:
        """Whether there is nothing to set beside a snapshot."""
        return not self.orders and not self.trades


@dataclass(frozen=True, slots=True)
class TradeFinding:
    """Something that people ought to know. `evidence` names orders, contracts and figures; `subject` a contract.

    Attributes:
        action: what to do about it, if more can be said than for every finding of its code.
    """

    code: str
    severity: Severity
    text: str
    evidence: tuple[str, ...] = ()
    subject: str | None = None
    action: str | None = None
