"""Trades that the ledger holds open and the broker's positions do not show any more.

One snapshot that lacks a position proves nothing: a second one confirms it before anybody concludes something.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from tradier_pipeline.ledger.records import Trade
from tradier_pipeline.reconcile.holdings import Holdings, MissingLegs, missing_legs
from tradier_pipeline.warehouse.sql import literal

if TYPE_CHECKING:
    import duckdb


def read_gone(connection: duckdb.DuckDBPyConnection, trades: Sequence[Trade]) -> list[MissingLegs]:
    """The trades whose legs are gone, by the two newest good snapshots of each account."""
    recent = _newest_holdings(connection, {trade.account_id for trade in trades})
    return [
        missing
        for account_id, (newest, before) in recent.items()
        for missing in missing_legs([trade for trade in trades if trade.account_id == account_id], newest, before)
    ]


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
