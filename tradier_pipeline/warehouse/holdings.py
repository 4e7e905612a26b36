"""Trades that the ledger holds open and the broker's positions do not show any more.

One snapshot that lacks a position proves nothing: a second one confirms it before anybody concludes something.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Literal

from tradier_pipeline.ledger.records import HOLDING, Trade
from tradier_pipeline.warehouse.sql import literal

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a published snapshot shows: `held` are (symbol, long or short) of its positions."""

    snapshot_id: str
    as_of: datetime
    held: frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Gone:
    """Legs of an open trade that the newest snapshot does not show; confirmed if the one before did not either."""

    trade_id: str
    account_id: str
    symbols: tuple[str, ...]
    snapshot_id: str
    state: Literal["suspected", "confirmed"]


def read_gone(connection: duckdb.DuckDBPyConnection, trades: Sequence[Trade]) -> list[Gone]:
    """The trades whose legs are gone, by the two newest good snapshots of each account."""
    recent = _newest_holdings(connection, {trade.account_id for trade in trades})
    return [
        missing
        for account_id, (newest, before) in recent.items()
        for missing in gone([trade for trade in trades if trade.account_id == account_id], newest, before)
    ]


def gone(trades: Sequence[Trade], newest: Holdings, before: Holdings | None) -> list[Gone]:
    """The trades of one account that have a leg less at the broker than in the ledger.

    A leg counts as held while the snapshot shows any position in its contract on its side. A snapshot says nothing
    about a trade that was opened after it was read.

    Args:
        trades: of the snapshot's account, in any state.
        newest: the newest published snapshot of the account.
        before: the published snapshot before it; None if it is the first one.
    """
    found: list[Gone] = []
    for trade in trades:
        missing = _missing(trade, newest)
        if missing:
            confirmed = before is not None and set(missing) <= set(_missing(trade, before))
            state: Literal["suspected", "confirmed"] = "confirmed" if confirmed else "suspected"
            found.append(Gone(trade.trade_id, trade.account_id, missing, newest.snapshot_id, state))
    return found


def _missing(trade: Trade, shown: Holdings) -> tuple[str, ...]:
    if trade.status not in HOLDING or (trade.opened_at is not None and trade.opened_at > shown.as_of):
        return ()
    return tuple(leg.option_symbol for leg in trade.legs if (leg.option_symbol, leg.side) not in shown.held)


def _newest_holdings(
    connection: duckdb.DuckDBPyConnection, accounts: Collection[str]
) -> Mapping[str, tuple[Holdings, Holdings | None]]:
    """Account -> its newest good snapshot and the one before."""
    if not accounts:
        return {}
    rows = connection.execute(
        f"""
        WITH recent AS (
            SELECT account_id, as_of, snapshot_id FROM tradier_snapshots
            WHERE account_id IN ({", ".join(literal(account) for account in sorted(accounts))}) AND verdict = 'good'
            QUALIFY row_number() OVER (PARTITION BY account_id ORDER BY as_of DESC) <= 2
        )
        SELECT recent.account_id, recent.as_of, recent.snapshot_id, symbol, side
        FROM recent LEFT JOIN positions USING (snapshot_id) ORDER BY ALL
        """  # noqa: S608
    ).fetchall()
    found: dict[str, tuple[Holdings, Holdings | None]] = {}
    for (account_id, as_of, snapshot_id), group in groupby(rows, key=itemgetter(0, 1, 2)):
        held = frozenset((symbol, side) for *_, symbol, side in group)
        before, _ = found.get(account_id, (None, None))
        found[account_id] = (Holdings(snapshot_id, as_of, held), before)
    return found
