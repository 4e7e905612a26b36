"""Whose turn it is when more accounts are due than the requests of a minute are enough for: no account starves.

What is skipped is an instant that is missed, and says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.domain.budget import Budget
from tradier_pipeline.landing.zone import MISSED, LandingZone
from tradier_pipeline.warehouse.unpublished import EPOCH


def in_turn(
    zone: LandingZone, snapshot_ids: Sequence[SnapshotId], budget: Budget
) -> tuple[list[SnapshotId], list[SnapshotId]]:
    """The snapshots that can be read now, those first whose accounts have waited longest, and those that cannot.

    Args:
        snapshot_ids: of one instant; at least one.
    """
    first = int(snapshot_ids[0].instant.timestamp() // 60) % len(snapshot_ids)
    rotated = [*snapshot_ids[first:], *snapshot_ids[:first]]  # who comes last may find the requests used up by others
    if not budget.is_exceeded:
        return rotated, []
    ordered = sorted(rotated, key=lambda snapshot_id: _last_read(zone, snapshot_id))
    return ordered[: budget.fits], ordered[budget.fits :]


def _last_read(zone: LandingZone, snapshot_id: SnapshotId) -> datetime:
    """When the account had its last turn on this day, whatever came of it."""
    attempts = zone.attempts(snapshot_id.account_id, snapshot_id.trade_date, EPOCH)
    tried = [SnapshotId.parse(key).instant for key, path in attempts.items() if not path.name.endswith(MISSED)]
    return max(tried, default=EPOCH)
