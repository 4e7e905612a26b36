"""Where the hash chains of what was filed stand, as the warehouse has it: who cuts one off has to forge this, too."""

from __future__ import annotations

from datetime import date

import duckdb

from tradier_pipeline.landing.chain import Head
from tradier_pipeline.warehouse.schema import CHAIN_HEADS


def noted_heads(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, date, Head]]:
    """The heads that a warehouse has: chain, date, head; by date."""
    query = f"SELECT chain, trade_date, entries, head FROM {CHAIN_HEADS.name} ORDER BY trade_date, chain"  # noqa: S608
    rows = connection.execute(query).fetchall()
    return [(chain, day, Head(entries, head)) for chain, day, entries, head in rows]


def noted_head(connection: duckdb.DuckDBPyConnection, chain: str, day: date | None) -> Head | None:
    """Where a chain stood at the end of a date, None: now; None if that is not known."""
    until = day or date.max
    return next((head for name, on, head in reversed(noted_heads(connection)) if name == chain and on <= until), None)
