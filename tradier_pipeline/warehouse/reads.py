"""Reading the published warehouse. Every open sees one whole state and holds nobody up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from tradier_pipeline.warehouse.publish import WarehouseError


@contextmanager
def reading(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A read-only connection to the published file, in UTC.

    Raises:
        WarehouseError: nothing has been published yet, or the file cannot be opened.
    """
    if not path.exists():
        raise WarehouseError(f"there is no warehouse at {path} yet", "Take a snapshot: `tradier-pipeline snapshot`.")
    try:
        connection = duckdb.connect(path, read_only=True)
    except duckdb.Error as error:
        raise WarehouseError(
            f"cannot open {path}: {str(error).splitlines()[0][:300]}", "Run `tradier-pipeline rebuild`."
        ) from None
    try:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection
    finally:
        connection.close()


def newest_snapshot_ids(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """The newest published snapshot of each account."""
    rows = connection.execute("SELECT snapshot_id FROM newest_snapshots ORDER BY account_id").fetchall()
    return [snapshot_id for (snapshot_id,) in rows]


def snapshot_ids(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Every published snapshot, in the order of what was read."""
    rows = connection.execute("SELECT snapshot_id FROM tradier_snapshots ORDER BY as_of, snapshot_id").fetchall()
    return [snapshot_id for (snapshot_id,) in rows]
