"""What was known at an instant: a home whose warehouse is replayed from what had been read by then, and nothing later.

What a day came to is not what was reported of it at the time: postings come late, the broker corrects, a doubtful
snapshot is confirmed, the owner states a flow. What had been landed by an instant has not changed since, so that
replaying it reports again what was reported then.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from pathlib import Path

from tradier_pipeline import clock
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.settings import WAREHOUSE, Settings
from tradier_pipeline.domain.gate import GateRules
from tradier_pipeline.landing.activity import LandedActivity, landed_activity
from tradier_pipeline.landing.errors import LandingError
from tradier_pipeline.landing.market import MarketExtract, landed_market
from tradier_pipeline.landing.zone import LandingZone
from tradier_pipeline.ledger.store import Ledger
from tradier_pipeline.publish.stated_flows import stated_rows
from tradier_pipeline.publish.store import (
    REBUILD_BATCH,
    never_landed,
    readable,
    replay_batch,
    store_activities,
    store_market_of,
)
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.reads import connect_readonly, require_current
from tradier_pipeline.warehouse.sql import bind, transaction
from tradier_pipeline.warehouse.staging import StagedWarehouse, Warehouse, WarehouseError, insert

_FOLDER = "past"


class PastError(PipelineError):
    """Nothing was known at that instant."""


def _home_of(settings: Settings, instant: datetime) -> Path:
    """Where what was known at an instant is kept: it is a home, to look at."""
    return settings.home / _FOLDER / clock.iso(instant).replace(":", "")


def home_as_known(settings: Settings, instant: datetime) -> Path:
    """The home of what was known at an instant; made if it is not there.

    A snapshot was known when its last resource had arrived, history when it was read, a flow from when the owner stated
    it until it was removed. What followed from the ledger, and the findings, are as the warehouse has them of those
    snapshots; the words of a finding are those it was last seen with.

    Raises:
        PastError: the instant is yet to come, or nothing had been read by then.
        LandingError, WarehouseError, LedgerError: one of them cannot be read or written.
    """
    home = _home_of(settings, instant)
    past = Warehouse(home / WAREHOUSE)
    with suppress(WarehouseError), connect_readonly(past.path) as connection:  # there, and not of an earlier version
        require_current(connection)
        return home
    if instant > clock.now():
        raise PastError(f"{clock.iso(instant)} is yet to come", "Ask for an instant that is over.")
    zone = LandingZone(settings.landing)
    landed, refused = readable(zone)
    landed = [found for found in landed if found.manifest.as_of_end <= instant]
    extracts = [found for found in landed_activity(zone) if _was_read(found, instant)]
    of_market = [found for found in landed_market(zone) if _was_read(found, instant)]
    if not (landed or extracts):
        raise PastError(f"nothing had been read by {clock.iso(instant)}", "Ask for a later instant.")
    rules = GateRules.of(settings)
    with past.staged(fresh=True) as staged:
        staged.miss([row for row in never_landed(zone, refused) if row["missed_at"] <= instant])
        for start in range(0, len(landed), REBUILD_BATCH):
            replay_batch(staged, landed[start : start + REBUILD_BATCH], rules, start, len(landed))
        store_activities(staged, extracts, rules.calendar)
        store_market_of(staged, of_market)
        insert(staged.connection, schema.STATED_FLOWS, stated_rows(Ledger(settings.ledger), at=instant))
        if settings.warehouse.exists():
            staged.merge_reconciled(settings.warehouse)
        _forget_what_came_later(staged, instant)
    return home


def _was_read(found: LandedActivity | MarketExtract, instant: datetime) -> bool:
    """Whether an extract was read by then; one that is damaged is passed over, and named by `status`."""
    with suppress(LandingError):
        return found.manifest.read_at <= instant
    return False


def _forget_what_came_later(staged: StagedWarehouse, instant: datetime) -> None:
    with transaction(staged.connection):
        for statement in (
            "DELETE FROM daily_summaries WHERE generated_at > ?",
            "DELETE FROM findings WHERE first_seen > ?",
            "UPDATE findings SET resolved_at = NULL WHERE resolved_at > ?",
        ):
            staged.connection.execute(bind(statement, instant))
