"""A published file that is damaged: proven by a look at every byte that holds a row, and set aside for a new one.

What is landed rebuilds it. What no landed byte tells is taken over from it where it can still be read, once the new one
has caught up; until then it is `tradier.duckdb.damaged`, then it gets the time to its name and stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import duckdb

from tradier_pipeline import clock
from tradier_pipeline.core.files import sync, writing
from tradier_pipeline.warehouse.staging import DAMAGE, Warehouse, attach


def damage_of(path: Path) -> str | None:
    """Why a published file cannot be read, proven by reading all of it; None if it can, or is not there."""
    if not path.exists():
        return None
    if not path.is_file():
        return "it is not a file"
    with duckdb.connect(":memory:") as connection:
        try:
            attach(connection, path, "READ_ONLY")
        except duckdb.Error as error:
            return _damage_in(error)
        return next((reason for _, error in unreadable_tables(connection) if (reason := _damage_in(error))), None)


def unreadable_tables(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[str, duckdb.Error | None]]:
    """Read every column of every table that lies in the file; each table, and why it cannot be read."""
    query = """
        SELECT schema_name || '."' || table_name || '"' FROM duckdb_tables()
        WHERE database_name = 'tradier' ORDER BY schema_name, table_name
    """
    for (table,) in connection.execute(query).fetchall():
        try:
            connection.execute(f"SELECT bit_xor(hash(COLUMNS(*))) FROM {table}").fetchall()  # noqa: S608
        except duckdb.Error as error:
            yield table, error
        else:
            yield table, None


def set_aside_damaged(warehouse: Warehouse) -> str | None:
    """Move the published file away if it is damaged; returns why it is, or None: it is not, by now.

    Raises:
        BusyError, FileError: another process writes it, or the home cannot be written.
    """
    with warehouse.locked():
        reason = damage_of(warehouse.path)
        if reason is not None:
            set_aside(warehouse.path)
    return reason


def set_aside(path: Path) -> Path:
    """Move the published file to where it waits. Call it while nobody else publishes."""
    aside = waiting_aside(path)
    if aside.exists():  # of an earlier damage, before that was made good
        keep_aside(aside, clock.now())
    with writing(path):
        path.rename(aside)
        sync(aside.parent)
    return aside


def waiting_aside(path: Path) -> Path:
    """Where a damaged file waits until the new one has caught up."""
    return path.with_name(f"{path.name}.damaged")


def keep_aside(aside: Path, now: datetime) -> Path:
    """Give a damaged file that nothing is expected of any more its last name."""
    kept = aside.with_name(f"{aside.name}-{now:%Y%m%dT%H%M%S}")
    with writing(kept), suppress(FileNotFoundError):  # another process has done so
        aside.rename(kept)
    return kept


def kept_aside(path: Path) -> set[str]:
    """The names of the damaged files that nothing is expected of any more."""
    return {aside.name for aside in path.parent.glob(f"{path.name}.damaged-*")}


def _damage_in(error: duckdb.Error | None) -> str | None:
    text = str(error).splitlines()[0] if error else ""
    return text[:200] if any(words in text for words in DAMAGE) else None
