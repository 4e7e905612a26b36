"""Which service levels burn their error budget too fast to keep them."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress

import duckdb

from tradier_pipeline.warehouse.service import levels_query
from tradier_pipeline.warehouse.sql import rows_of

# over the shortest window a single hour counts for much: told there when it would use a week's budget within a day
LIMITS = {"day": 7.0, "week": 1.0, "month": 1.0}


def burning(connection: duckdb.DuckDBPyConnection) -> dict[str, tuple[str, ...]]:
    """Account -> the service levels that burn faster than their limit, each in words.

    Of a warehouse of an older version nothing is known.
    """
    found: dict[str, list[str]] = defaultdict(list)
    with suppress(duckdb.Error):
        for row in rows_of(connection, levels_query(None)):
            if (row["burn_rate"] or 0) > LIMITS[row["window"]]:
                level = f"{row['service']} {row['reached']:.2%} of {row['objective']:.1%} over the {row['window']}"
                found[row["account_id"]].append(level)
    return {account_id: tuple(levels) for account_id, levels in found.items()}
