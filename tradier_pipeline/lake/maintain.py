"""What keeps the lake quick: rows that lie in its catalog become files, small files become large ones."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import duckdb

from tradier_pipeline import clock
from tradier_pipeline.lake.connection import ALIAS, Lake, LakeError, alone, explained, open_lake
from tradier_pipeline.lake.tables import MAINTAINED, SHIPMENTS, version_of
from tradier_pipeline.warehouse.sql import bind

WAIT_S: Final = 300.0
KEPT_FILES: Final = "1 day"  # of files that nobody refers to: a reader or a commit may still be at one
FLUSH_ROWS: Final = 30_000  # in the catalog: every commit reads them all, and is 1.4 times as dear beside 50,000
DUE_AT_HOUR: Final = 1  # New York; the sessions are over, and the day's postings not read yet


@dataclass(frozen=True, slots=True)
class Maintained:
    """What it came to: rows that left the catalog, files merged into others, files removed."""

    flushed_rows: int
    merged_files: int
    removed_files: int


def maintain(lake: Lake, keep_days: int | None) -> Maintained:
    """Flush, merge and clean, under the lock of the deployment.

    Args:
        keep_days: forget the lake's states that are older, and the files that only they have; None: forget nothing.

    Raises:
        LakeError: the lake cannot be used, or has no tables yet.
    """
    with explained(lake):
        connection = open_lake(lake)
        try:
            with alone(connection, lake, WAIT_S):
                return _maintain(connection, keep_days)
        finally:
            connection.close()


def maintain_if_due(lake: Lake, keep_days: int | None, now: datetime) -> Maintained | None:
    """Maintain the lake if no machine has since one o'clock in New York; flush it if much lies in its catalog.

    Returns:
        What the nightly maintenance came to; None: it was not due.
    """
    local = now.astimezone(clock.NEW_YORK)
    due = local.replace(hour=DUE_AT_HOUR, minute=0, second=0, microsecond=0)
    due = due if due <= local else due - timedelta(days=1)
    with explained(lake):
        connection = open_lake(lake)
        try:
            if not (_is_due(connection, due) or _is_full(connection)):
                return None
            with alone(connection, lake, WAIT_S):
                if _is_due(connection, due):  # else another machine was quicker
                    return _maintain(connection, keep_days)
                if _is_full(connection):
                    _note(connection, _flush(connection), 0, is_whole=False)
                return None
        finally:
            connection.close()


def _is_due(connection: duckdb.DuckDBPyConnection, due: datetime) -> bool:
    if version_of(connection, ALIAS) is None:
        return False
    query = f"SELECT max(maintained_at) FROM {ALIAS}.{MAINTAINED.name} WHERE is_whole"  # noqa: S608
    (last,) = connection.execute(query).fetchone() or (None,)
    if last is None:  # a new lake has nothing to maintain before its first night
        query = f"SELECT min(since) FROM {ALIAS}.versions.lakes"  # noqa: S608
        (last,) = connection.execute(query).fetchone() or (None,)
    return last is not None and last < due


def _is_full(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether so many rows were shipped since the last flush. Some may be in files already: then it has less to do."""
    if version_of(connection, ALIAS) is None:
        return False
    since = f"SELECT coalesce(max(maintained_at), '-infinity'::TIMESTAMPTZ) FROM {ALIAS}.{MAINTAINED.name}"  # noqa: S608
    query = f"SELECT sum(row_count) FROM {ALIAS}.{SHIPMENTS.name} WHERE shipped_at > ({since})"  # noqa: S608
    return _sum(connection, query) > FLUSH_ROWS


def _flush(connection: duckdb.DuckDBPyConnection) -> int:
    return _sum(connection, f"SELECT sum(rows_flushed) FROM ducklake_flush_inlined_data('{ALIAS}')")  # noqa: S608


def _maintain(connection: duckdb.DuckDBPyConnection, keep_days: int | None) -> Maintained:
    if version_of(connection, ALIAS) is None:
        raise LakeError("the lake has no tables yet", "Ship something first: `tradier-pipeline lake ship`.")
    flushed = _flush(connection)
    merged = _sum(connection, f"SELECT sum(files_processed) FROM ducklake_merge_adjacent_files('{ALIAS}')")  # noqa: S608
    if keep_days is not None:
        query = f"FROM ducklake_expire_snapshots('{ALIAS}', older_than => now() - INTERVAL {keep_days} DAY)"
        connection.execute(query).fetchall()
    removed = 0
    for function in ("ducklake_cleanup_old_files", "ducklake_delete_orphaned_files"):
        query = f"SELECT count(*) FROM {function}('{ALIAS}', older_than => now() - INTERVAL '{KEPT_FILES}')"  # noqa: S608
        removed += _sum(connection, query)
    _note(connection, flushed, merged, is_whole=True)
    return Maintained(flushed, merged, removed)


def _note(connection: duckdb.DuckDBPyConnection, flushed: int, merged: int, *, is_whole: bool) -> None:
    note = f"INSERT INTO {ALIAS}.{MAINTAINED.name} VALUES (?, ?, ?, ?, {is_whole})"  # noqa: S608
    connection.execute(bind(note, clock.now(), socket.gethostname(), flushed, merged))


def _sum(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    ((found,),) = connection.execute(query).fetchall()  # to its end: what is not read to its end is taken back
    return int(found or 0)
