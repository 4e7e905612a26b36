"""Reading the history where TRADIER_READ says: in this home, or in the lake, by the same names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from tradier_pipeline.core.settings import Settings
from tradier_pipeline.warehouse.reads import connect_readonly


@contextmanager
def connect_history(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    """A read-only connection to one whole state: the newest published file of the home, or the lake as it is now.

    Raises:
        WarehouseError: nothing is published at home, or the file cannot be read.
        LakeError: the lake cannot be read, or nothing was shipped to it yet.
    """
    if settings.read == "home":
        with connect_readonly(settings.warehouse) as connection:
            yield connection
        return
    # not before it is asked for: nobody without a lake imports it
    from tradier_pipeline.lake.connection import explained, lake_of, open_lake

    lake = lake_of(settings)
    connection = open_lake(lake, "tradier", read_only=True)
    try:
        with explained(lake):
            connection.execute("USE tradier; BEGIN")  # whatever is asked is asked of the same state
        yield connection
    except (duckdb.IOException, duckdb.HTTPException) as error:
        with explained(lake):
            raise error from None
    finally:
        connection.close()
