"""From the landing zone into the published warehouse: typed, stored whole, verified, and only then visible."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import duckdb

from tradier_pipeline.errors import PipelineError
from tradier_pipeline.landing import LandedSnapshot, LandingError, LandingZone
from tradier_pipeline.reconcile.stored import conserve
from tradier_pipeline.verify import verify_snapshot
from tradier_pipeline.verify.outcome import Outcome
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.publish import StagedWarehouse, Warehouse, WarehouseError, insert
from tradier_pipeline.warehouse.reads import reading, snapshot_ids
from tradier_pipeline.warehouse.rows import TypedSnapshot, read_typed, table_rows

REBUILD_BATCH = 200


class NotPublishedError(PipelineError):
    """A blocking check failed; the warehouse is as it was before."""

    def __init__(self, snapshot_id: str, outcomes: list[Outcome]) -> None:
        failed = [outcome for outcome in outcomes if outcome.blocks]
        first = failed[0]
        detail = f": {first.differences[0].where}" if first.differences else ""
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        super().__init__(
            f"{snapshot_id} was not published: the check {first.check}{detail}{more} failed "
            f"(broker: {first.broker}; stored: {first.stored})",
            f"Its bytes are landed; the last good snapshot stays current. See `tradier-pipeline verify {snapshot_id}`.",
        )
        self.outcomes = outcomes


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild did: how many snapshots it published, and which it refused and why."""

    published: int
    refused: dict[str, str]


def store_snapshot(warehouse: Warehouse, landed: LandedSnapshot) -> tuple[TypedSnapshot, list[Outcome]]:
    """Publish one landed snapshot. Doing it again yields identical rows.

    Raises:
        NotPublishedError: a blocking check failed.
        BodyError: a landed body lacks a required field.
        WarehouseError: the warehouse cannot be written.
    """
    typed = read_typed(landed)
    with warehouse.staged() as staged:
        typed = conserve(staged.connection, typed)
        outcomes = _store_verified(staged, typed)
    return typed, outcomes


def verify_landed(warehouse: Warehouse, landed: LandedSnapshot) -> list[Outcome]:
    """Run every check on a trial copy of the warehouse that is thrown away: for a snapshot that was never published.

    Raises:
        BodyError: a landed body lacks a required field.
    """
    typed = read_typed(landed)
    try:
        with warehouse.staged() as staged:
            staged.store(typed.landed.manifest.snapshot_id, table_rows(conserve(staged.connection, typed)))
            raise _TrialEnds(verify_snapshot(landed, staged.connection))
    except _TrialEnds as trial:
        return trial.outcomes


def rebuild(
    warehouse: Warehouse, zone: LandingZone, progress: Callable[[int], None], *, forget: bool = False
) -> Rebuilt:
    """Write the warehouse anew from the landing zone alone, and publish it once.

    A snapshot that fails a blocking check stays out, as it did the first time.

    Args:
        forget: go on although published snapshots are no longer landed; they are lost.

    Raises:
        LandingError: such snapshots exist, or nothing is landed at all.
    """
    if not forget:
        _refuse_loss(warehouse, zone)
    landed: list[LandedSnapshot] = []
    refused: dict[str, str] = {}
    for found in zone.snapshots():
        try:
            found.manifest  # noqa: B018 - read, and kept
            landed.append(found)
        except LandingError as error:
            refused[str(found.snapshot_id)] = str(error)
    landed.sort(key=lambda found: (found.manifest.as_of, found.snapshot_id))
    count = len(landed) + len(refused)
    with warehouse.staged(fresh=True) as staged:
        for start in range(0, len(landed), REBUILD_BATCH):
            refused |= _rebuild_batch(staged, landed[start : start + REBUILD_BATCH])
            progress(min(start + REBUILD_BATCH, len(landed)))
    return Rebuilt(published=count - len(refused), refused=refused)


def _refuse_loss(warehouse: Warehouse, zone: LandingZone) -> None:
    """An unmounted or half-restored landing zone must not cost a warehouse that is whole."""
    published: list[str] = []
    # an unreadable warehouse is what rebuild is for
    with suppress(WarehouseError, duckdb.Error), reading(warehouse.path) as connection:
        published = snapshot_ids(connection)
    landed = {str(found.snapshot_id) for found in zone.snapshots()}
    lost = [snapshot_id for snapshot_id in published if snapshot_id not in landed]
    if lost or not landed:
        what = f"{len(lost)} published snapshots are not, such as {lost[0]}" if lost else "nothing is"
        raise LandingError(
            f"the warehouse is rebuilt from what is landed in {zone.root}, and {what}",
            "Restore the landing zone; to go on without them: `tradier-pipeline rebuild --forget`.",
        )


def _store_verified(staged: StagedWarehouse, typed: TypedSnapshot) -> list[Outcome]:
    snapshot_id = typed.landed.manifest.snapshot_id
    staged.store(snapshot_id, table_rows(typed))
    outcomes = verify_snapshot(typed.landed, staged.connection)
    if any(outcome.blocks for outcome in outcomes):
        raise NotPublishedError(snapshot_id, outcomes)
    return outcomes


def _rebuild_batch(staged: StagedWarehouse, batch: list[LandedSnapshot]) -> dict[str, str]:
    """Store a batch in one transaction, then verify one by one in the order of reading, removing what is refused."""
    refused: dict[str, str] = {}
    readable: list[TypedSnapshot] = []
    for landed in batch:
        try:
            readable.append(read_typed(landed))
        except PipelineError as error:
            refused[str(landed.snapshot_id)] = str(error)
    staged.add([table_rows(typed) for typed in readable])
    for typed in readable:
        conserved = table_rows(conserve(staged.connection, typed))  # by what is not refused of the earlier ones
        insert(staged.connection, schema.CONSERVATION, conserved["conservation"])
        outcomes = verify_snapshot(typed.landed, staged.connection)
        if any(outcome.blocks for outcome in outcomes):
            snapshot_id = typed.landed.manifest.snapshot_id
            refused[snapshot_id] = str(NotPublishedError(snapshot_id, outcomes))
            staged.remove(snapshot_id)
    return refused


class _TrialEnds(Exception):  # noqa: N818 - not an error: it discards the trial copy
    def __init__(self, outcomes: list[Outcome]) -> None:
        super().__init__()
        self.outcomes = outcomes
