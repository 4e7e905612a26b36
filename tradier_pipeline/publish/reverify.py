"""Proving stored snapshots again, published or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import duckdb

from tradier_pipeline.core import progress
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.outcome import Outcome
from tradier_pipeline.core.settings import Settings
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.domain.gate import GateRules
from tradier_pipeline.landing.zone import LandingZone
from tradier_pipeline.publish.store import verify_landed
from tradier_pipeline.verify import verify_snapshot
from tradier_pipeline.verify.evidence import NEARBY
from tradier_pipeline.warehouse.reads import connect_readonly, newest_snapshot_ids, require_account, snapshot_ids
from tradier_pipeline.warehouse.sealed import hot_first, is_sealed, reaching
from tradier_pipeline.warehouse.sql import bind
from tradier_pipeline.warehouse.staging import Warehouse


@dataclass(frozen=True, slots=True)
class Reverified:
    """The outcomes of one snapshot, and whether it is published."""

    snapshot_id: str
    published: bool
    outcomes: list[Outcome]


def reverify(
    settings: Settings, wanted: Sequence[str], *, account_id: str | None = None, everything: bool
) -> Iterator[Reverified]:
    """Run every check of the wanted snapshots; default the newest published one of each account.

    Raises:
        SnapshotIdError: a text is not a snapshot id.
        PipelineError: a snapshot is not landed, or nothing is published.
    """
    zone = LandingZone(settings.landing)
    warehouse, rules = Warehouse(settings.warehouse), GateRules.of(settings)
    named = [SnapshotId.parse(text) for text in wanted]
    with connect_readonly(settings.warehouse) as connection:
        require_account(connection, account_id, settings.accounts or ())
        published = set(known := snapshot_ids(connection))
        if is_sealed(connection):  # each snapshot is proven by its own months alone
            hot_first(connection)
        if not named:
            chosen = map(SnapshotId.parse, known if everything else newest_snapshot_ids(connection))
            named = [snapshot_id for snapshot_id in chosen if account_id in (None, snapshot_id.account_id)]
        for done, snapshot_id in enumerate(named):
            progress.working(f"proving {snapshot_id}", done, len(named))
            landed = zone.find(snapshot_id)
            if landed is None and zone.is_out_of_reach(snapshot_id):
                raise PipelineError(
                    f"the archive of the day of {snapshot_id} in {settings.landing} is damaged",
                    "Restore it from a backup.",
                )
            if landed is None:
                raise PipelineError(
                    f"no snapshot {snapshot_id} is landed in {settings.landing}",
                    "List the known ones: `tradier-pipeline balances`.",
                )
            if is_published := str(snapshot_id) in published:
                day = snapshot_id.trade_date
                with reaching(connection, _set_beside(connection, snapshot_id), day + NEARBY):
                    outcomes = verify_snapshot(landed, connection)
            else:
                outcomes = verify_landed(warehouse, landed, rules)
            yield Reverified(str(snapshot_id), is_published, outcomes)


def _set_beside(connection: duckdb.DuckDBPyConnection, snapshot_id: SnapshotId) -> date:
    """The trade date from which on the snapshots are that a snapshot was set beside: of the last good one before it."""
    query = """
        SELECT coalesce(max(trade_date) FILTER (snapshots > 0), max(trade_date)) FROM snapshot_days
        WHERE account_id = ? AND trade_date < ?
    """
    day = snapshot_id.trade_date
    (before,) = connection.execute(bind(query, snapshot_id.account_id, day)).fetchone() or (None,)
    return min(day - NEARBY, before or day)
