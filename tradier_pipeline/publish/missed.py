"""The instants of an account that have no snapshot: from what the landing zone tells of them to rows."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import duckdb

from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.landing.errors import LandingError
from tradier_pipeline.landing.manifest import FailureRecord, Manifest
from tradier_pipeline.landing.zone import FAILED, MISSED, LandingZone
from tradier_pipeline.warehouse.sealed import reaching
from tradier_pipeline.warehouse.sql import bind
from tradier_pipeline.warehouse.unpublished import EPOCH, NOT_TRIED

Row = dict[str, Any]

_PUBLISHED = ""  # stands for the path
SETTLING = timedelta(minutes=1)  # what was being recorded while the newest snapshot was stored


def new_missed(
    connection: duckdb.DuckDBPyConnection,
    zone: LandingZone,
    snapshot_id: SnapshotId,
    *,
    refused_because: str | None = None,
    ever: bool = False,
) -> list[Row]:
    """The rows that `missed_snapshots` lacks of the account of a snapshot.

    Only the days since the account's newest other published snapshot are looked at, those that changed after it, and
    the snapshot's own: all other rows came with that one.

    Args:
        snapshot_id: what was just published, or was not.
        refused_because: why it was not published although it is landed.
        ever: look at every day.
    """
    account_id = snapshot_id.account_id
    trade_date, committed_at = (EPOCH.date(), EPOCH) if ever else _newest_other(connection, snapshot_id)
    attempts = zone.attempts(account_id, min(trade_date, snapshot_id.trade_date), committed_at - SETTLING)
    earliest = date.fromisoformat(min((path.parent.name for path in attempts.values()), default=str(trade_date)))
    with reaching(connection, earliest - timedelta(days=1)):  # a home that was restored has days of every year anew
        known = _known(connection, account_id, earliest)
    rows: list[Row] = []
    for missed, path in attempts.items():
        reason = refused_because if missed == str(snapshot_id) else None
        if (missed, _PUBLISHED) not in known and (reason or (missed, zone.relative(path)) not in known):
            rows.append(missed_row(zone, path, missed, reason))
    return rows


def missed_row(zone: LandingZone, path: Path, snapshot_id: str, reason: str | None = None) -> Row:
    """The row of an instant by what tells of it.

    Args:
        path: what was landed, the failed attempt, or the record that it was missed.
        reason: of what was landed, why it was not published.
    """
    missed = SnapshotId.parse(snapshot_id)
    kind = "missed" if path.name.endswith(MISSED) else "failed" if FAILED in path.name else "refused"
    recorded_at, trigger = missed.instant, None
    try:
        record = zone.read_attempt(path)
    except LandingError as error:  # must not cost the snapshots that are sound
        reason = reason or str(error)
    else:
        trigger = record.trigger
        if isinstance(record, Manifest):
            recorded_at = record.as_of_end
            reason = reason or f"{NOT_TRIED}; see `tradier-pipeline verify {snapshot_id}`"
        elif isinstance(record, FailureRecord):
            recorded_at, reason = record.failed_at, "; ".join(record.errors.values())
        else:
            recorded_at, reason = record.recorded_at, record.reason
    return {
        "snapshot_id": snapshot_id,
        "account_id": missed.account_id,
        "trade_date": missed.trade_date,
        "requested_at": missed.instant,
        "kind": kind,
        "trigger": trigger,
        "reason": reason,
        "missed_at": missed.instant if kind == "missed" else recorded_at,
        "recorded_at": recorded_at,
        "path": zone.relative(path),
    }


def _newest_other(connection: duckdb.DuckDBPyConnection, snapshot_id: SnapshotId) -> tuple[date, datetime]:
    sql = "SELECT max(trade_date), max(committed_at) FROM tradier_snapshots WHERE account_id = ? AND snapshot_id <> ?"
    found = connection.execute(bind(sql, snapshot_id.account_id, str(snapshot_id))).fetchone()
    return (found[0], found[1]) if found and found[0] else (EPOCH.date(), EPOCH)


def _known(connection: duckdb.DuckDBPyConnection, account_id: str, since: date) -> set[tuple[str, str]]:
    """The instants since a date that are published, and those that are known as missed, each with the path of what
    tells of it.
    """
    # read within a minute of its instant, so a day earlier is early enough
    earliest = datetime.combine(since, time(), UTC) - timedelta(days=1)
    sql = """
        SELECT snapshot_id, ? FROM tradier_snapshots WHERE account_id = ? AND as_of >= ?
        UNION ALL SELECT snapshot_id, path FROM missed_snapshots WHERE account_id = ? AND trade_date >= ?
    """
    return set(connection.execute(bind(sql, _PUBLISHED, account_id, earliest, account_id, since)).fetchall())
