"""What is landed and not in the warehouse."""

from __future__ import annotations

from datetime import UTC, date, datetime

import duckdb

from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.landing.zone import LandedSnapshot, LandingZone
from tradier_pipeline.warehouse.sql import bind

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOT_TRIED = "landed and not published"  # how the reason of what the next run is about to publish begins


def unpublished(
    connection: duckdb.DuckDBPyConnection | None, zone: LandingZone, account_id: str, own: SnapshotId | None = None
) -> list[LandedSnapshot]:
    """What of an account is landed, neither published nor refused by a check, and older than a snapshot of now.

    Only the days since its newest published snapshot are looked at: whoever publishes has caught up before.

    Args:
        connection: the warehouse; None if there is none.
        own: the snapshot that is about to be published. Itself and what is newer are left out.
    """
    since = newest_published(connection, account_id, own) if connection else EPOCH.date()
    done = published_or_refused(connection, account_id, since) if connection else set()
    waiting = _never_tried(connection, account_id) if connection else ()
    found = {str(landed.snapshot_id): landed for landed in zone.landed_since(account_id, since)}
    for snapshot_id in waiting:
        if snapshot_id not in found and (landed := zone.find(SnapshotId.parse(snapshot_id))):
            found[snapshot_id] = landed
    return sorted(
        (
            landed
            for snapshot_id, landed in found.items()
            if snapshot_id not in done and (own is None or landed.snapshot_id.instant < own.instant)
        ),
        key=lambda landed: landed.snapshot_id,
    )


def newest_published(connection: duckdb.DuckDBPyConnection, account_id: str, own: SnapshotId | None) -> date:
    query = "SELECT max(trade_date) FROM tradier_snapshots WHERE account_id = ? AND snapshot_id <> ?"
    (newest,) = connection.execute(bind(query, account_id, str(own))).fetchone() or (None,)
    return newest or EPOCH.date()


def published_or_refused(connection: duckdb.DuckDBPyConnection, account_id: str, since: date) -> set[str]:
    """What is published, or was tried and refused."""
    query = """
        SELECT snapshot_id FROM tradier_snapshots WHERE account_id = ? AND trade_date >= ?
        UNION ALL
        SELECT snapshot_id FROM missed_snapshots
        WHERE account_id = ? AND trade_date >= ? AND kind = 'refused' AND NOT starts_with(reason, ?)
    """
    done = connection.execute(bind(query, account_id, since, account_id, since, NOT_TRIED)).fetchall()
    return {snapshot_id for (snapshot_id,) in done}


def _never_tried(connection: duckdb.DuckDBPyConnection, account_id: str) -> list[str]:
    query = """
        SELECT snapshot_id FROM missed_snapshots
        WHERE account_id = ? AND kind = 'refused' AND starts_with(reason, ?)
    """
    return [snapshot_id for (snapshot_id,) in connection.execute(bind(query, account_id, NOT_TRIED)).fetchall()]
