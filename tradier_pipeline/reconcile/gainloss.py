"""The trades that the ledger has closed on a date, beside the gain and loss report that the broker makes over night.
Pure.

The report knows contracts, not trades: a close may be several lots, and two trades may share a contract. So contracts
are compared by their signed quantity, and profits for trades that share contracts together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import chain

from tradier_pipeline.core.check import Check
from tradier_pipeline.core.outcome import Difference, RuleResult, Severity, shown
from tradier_pipeline.reconcile.comparison import CENT

ZERO = Decimal(0)
FATAL_PER_SPREAD = Decimal(5)  # USD


@dataclass(frozen=True, slots=True)
class LedgerTrade:
    """A trade that was open on the date or closed since, as the newest snapshot that shows it has it.

    Attributes:
        units: spreads or contracts that were opened.
        legs: contract -> signed quantity of all that was opened.
        closed: whether it ended on the date.
        in_parts: whether a part of it was closed, and not all of it on the date: then no figure of one date is its own.
        delivered: whether it was assigned or exercised: what it brought is then in the shares.
        realized_pnl: USD; None if nobody knows.
    """

    trade_id: str
    units: Decimal
    legs: Mapping[str, Decimal]
    closed: bool
    in_parts: bool
    delivered: bool
    realized_pnl: Decimal | None


@dataclass(frozen=True, slots=True)
class Lot:
    """A closed lot of the report: contracts, negative when they were short, and USD."""

    symbol: str
    quantity: Decimal
    gain_loss: Decimal


@dataclass(frozen=True, slots=True)
class ClosedDay:
    """What the ledger and the broker say was closed on a date in one account."""

    account_id: str
    trade_date: date
    trades: tuple[LedgerTrade, ...]
    lots: tuple[Lot, ...]


@dataclass(frozen=True, slots=True)
class _Group:
    """Trades that were closed on the date and share contracts."""

    symbols: frozenset[str]
    trades: tuple[LedgerTrade, ...]

    @property
    def name(self) -> str:
        return ", ".join(trade.trade_id for trade in self.trades)

    @property
    def units(self) -> Decimal:
        return sum((trade.units for trade in self.trades), ZERO)

    @property
    def profit(self) -> Decimal | None:
        known = [trade.realized_pnl for trade in self.trades if trade.realized_pnl is not None]
        return sum(known, ZERO) if len(known) == len(self.trades) else None


def _groups(trades: Sequence[LedgerTrade]) -> list[_Group]:
    groups: list[_Group] = []
    for trade in trades:
        symbols = frozenset(trade.legs)
        sharing = [group for group in groups if group.symbols & symbols]
        groups = [group for group in groups if group not in sharing]
        members = chain.from_iterable(group.trades for group in sharing)
        groups.append(_Group(symbols.union(*(group.symbols for group in sharing)), (*members, trade)))
    return groups


def _compared(day: ClosedDay) -> tuple[list[LedgerTrade], frozenset[str]]:
    """The trades that can be compared by date, and the contracts of the others."""
    mixed = frozenset(symbol for trade in day.trades if trade.in_parts for symbol in trade.legs)
    return [trade for trade in day.trades if trade.legs and not mixed & trade.legs.keys()], mixed


def _profits(day: ClosedDay) -> Iterator[tuple[_Group, Decimal | None]]:
    """Trades closed on the date for cash, and what the broker says they brought, USD; None if it has no lot of them."""
    trades, _ = _compared(day)
    for group in _groups([trade for trade in trades if trade.closed]):
        if any(trade.delivered for trade in group.trades):
            continue
        reported = [lot.gain_loss for lot in day.lots if lot.symbol in group.symbols]
        yield group, sum(reported, ZERO) if reported else None


def _pnl_equal(day: ClosedDay) -> RuleResult:
    found = list(_profits(day))
    ours = sum((group.profit or ZERO for group, _ in found), ZERO)
    theirs = sum((reported or ZERO for _, reported in found), ZERO)
    differences = [
        Difference(
            f"{day.account_id} {group.name}",
            "no lot" if reported is None else f"{shown(reported)} USD",
            "not known" if group.profit is None else f"{shown(group.profit)} USD",
        )
        for group, reported in found
        if reported is None or group.profit is None or abs(reported - group.profit) > CENT
    ]
    return RuleResult(f"{shown(theirs)} USD", f"{shown(ours)} USD of {_counted(day)}", tuple(differences))


def _far_off(day: ClosedDay) -> bool:
    return any(
        reported is not None
        and group.profit is not None
        and abs(reported - group.profit) > FATAL_PER_SPREAD * max(group.units, Decimal(1))
        for group, reported in _profits(day)
    )


def _contracts_equal(day: ClosedDay) -> RuleResult:
    trades, mixed = _compared(day)
    ours: dict[str, Decimal] = defaultdict(Decimal)
    for trade in trades:
        for symbol, amount in trade.legs.items():
            ours[symbol] += amount if trade.closed else ZERO
    theirs: dict[str, Decimal] = dict.fromkeys(ours, ZERO)
    for lot in day.lots:
        if lot.symbol in ours:
            theirs[lot.symbol] += lot.quantity
    differences = [
        Difference(f"{day.account_id} {symbol}", f"{shown(theirs[symbol])} closed", f"{shown(amount)} by trades")
        for symbol, amount in sorted(ours.items())
        if theirs[symbol] != amount
    ]
    left_out = f", {len(mixed)} left out: closed in parts" if mixed else ""
    closed = sum(map(abs, theirs.values()), ZERO)
    return RuleResult(f"{shown(closed)} contracts closed", f"{_counted(day)}{left_out}", tuple(differences))


def _counted(day: ClosedDay) -> str:
    return f"{sum(trade.closed for trade in day.trades)} trades closed"


GAINLOSS_CHECKS: tuple[Check[ClosedDay], ...] = (
    Check(
        63,
        "pnl_vs_gainloss",
        Severity.WARN,
        "What trades that were closed on the date brought is what the broker's lots of their contracts add up to; an "
        "error beyond 5 USD a spread.",
        _pnl_equal,
        _far_off,
    ),
    Check(
        64,
        "closed_count_vs_gainloss",
        Severity.WARN,
        "Of every contract that trades hold or held, the broker's lots closed on the date as many as trades did.",
        _contracts_equal,
    ),
)
