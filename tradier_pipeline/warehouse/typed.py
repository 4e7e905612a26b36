"""A landed snapshot as typed values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tradier_pipeline.broker.decode import (
    parse_accounts,
    parse_balances,
    parse_orders,
    parse_positions,
    parse_quotes,
)
from tradier_pipeline.broker.errors import BodyError
from tradier_pipeline.broker.models import Account, Balances, Order, Quote
from tradier_pipeline.domain.positions import PortfolioPosition, value_position
from tradier_pipeline.domain.short_options import ShortOption, short_options
from tradier_pipeline.domain.spread_figures import Quoted
from tradier_pipeline.domain.spreads import Spread, group
from tradier_pipeline.landing.zone import LandedSnapshot
from tradier_pipeline.reconcile.conservation import ItemVerdict
from tradier_pipeline.reconcile.reconciliation import Reconciliation
from tradier_pipeline.reconcile.verdict import Verdict

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Conserved:
    """What changed since another snapshot, and why.

    Attributes:
        confirmed: what had stayed unexplained at the doubtful snapshots that this one confirms: it tells of it.
    """

    previous_snapshot_id: str
    findings: tuple[ItemVerdict, ...]
    confirmed: tuple[ItemVerdict, ...] = ()


@dataclass(frozen=True)
class TypedSnapshot:
    """Everything one landed snapshot says, validated.

    `conserved` and the verdict need the warehouse (publish/derive.py), and `reconciled` the ledger as well
    (publish/ledger_state.py).
    """

    landed: LandedSnapshot
    account: Account
    balances: Balances
    positions: tuple[PortfolioPosition, ...]
    orders: tuple[Order, ...]
    looked_up: tuple[Order, ...]
    quotes: tuple[Quote, ...]
    spreads: tuple[Spread, ...]
    short_options: tuple[ShortOption, ...]
    conserved: Conserved | None = None
    verdict: Verdict = "good"
    verdict_evidence: str | None = None
    reconciled: Reconciliation | None = None


def read_typed(landed: LandedSnapshot) -> TypedSnapshot:
    """Decode and validate the landed bodies.

    Raises:
        BodyError: a required body or field is missing or malformed; names the snapshot, the resource and the path.
        LandingError: a landed file is missing or was changed.
    """
    try:
        account = _account(landed)
        (balances_body,) = landed.bodies("balances")
        balances, held = parse_balances(balances_body), parse_positions(landed.bodies("positions"))
        orders, looked_up = parse_orders(landed.bodies("orders"), landed.bodies("order"))
        quotes = parse_quotes(landed.bodies("quotes"))
    except BodyError as error:
        raise _of_snapshot(landed, error) from None
    positions = tuple(
        value_position(number, position, quotes.get(position.symbol)) for number, position in enumerate(held, 1)
    )
    prices = {symbol: Quoted.of(quote) for symbol, quote in quotes.items()}
    return TypedSnapshot(
        landed=landed,
        account=account,
        balances=balances,
        positions=positions,
        orders=orders,
        looked_up=looked_up,
        quotes=tuple(quotes.values()),
        spreads=group(positions, (*orders, *looked_up), prices),
        short_options=short_options(positions, prices, balances.total_cash),
    )


def _account(landed: LandedSnapshot) -> Account:
    wanted = landed.snapshot_id.account_id
    found = parse_accounts(landed.bodies("account")).get(wanted)
    if found is None:
        raise BodyError("account", f"does not list account {wanted}", path="profile.account")
    return found


def _of_snapshot(landed: LandedSnapshot, error: BodyError) -> BodyError:
    reported = BodyError(error.resource, f"{error.what} (snapshot {landed.snapshot_id})")
    reported.path = error.path
    return reported
