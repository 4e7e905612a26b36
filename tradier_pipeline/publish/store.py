"""From the landing zone into the published warehouse: typed, stored whole, verified, and only then visible."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import date

import duckdb

from tradier_pipeline import clock
from tradier_pipeline.broker.errors import BodyError
from tradier_pipeline.core import progress
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.outcome import Outcome
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.domain.calendar import MarketCalendar
from tradier_pipeline.domain.gate import DEFAULT_RULES, GateRules, evaluate_gate
from tradier_pipeline.landing.activity import LandedActivity, Resource, landed_activity
from tradier_pipeline.landing.dividends import LandedDividends
from tradier_pipeline.landing.errors import LandingError
from tradier_pipeline.landing.market import MarketExtract, landed_market
from tradier_pipeline.landing.prices import LandedPrices
from tradier_pipeline.landing.zone import DIVIDENDS, PRICES, LandedSnapshot, LandingZone
from tradier_pipeline.publish.derive import (
    add_results,
    known_of,
    store_results,
    upsert_findings,
    upsert_word_findings,
    with_verdict,
)
from tradier_pipeline.publish.ledger_state import reconcile_typed
from tradier_pipeline.publish.missed import Row, missed_row, new_missed
from tradier_pipeline.reconcile.facts import LedgerState
from tradier_pipeline.verify import verify_snapshot
from tradier_pipeline.verify.activity import verify_activity
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.activity import Upserted, upsert_activity
from tradier_pipeline.warehouse.damaged import keep_aside, set_aside
from tradier_pipeline.warehouse.market import upsert_market
from tradier_pipeline.warehouse.reads import activity_paths, connect_readonly, market_paths, snapshot_ids
from tradier_pipeline.warehouse.rows import table_rows
from tradier_pipeline.warehouse.sealed import unseal_around
from tradier_pipeline.warehouse.sessions import upsert_sessions
from tradier_pipeline.warehouse.sql import transaction
from tradier_pipeline.warehouse.staging import StagedWarehouse, Warehouse, WarehouseError, insert
from tradier_pipeline.warehouse.typed import TypedSnapshot, read_typed
from tradier_pipeline.warehouse.unpublished import EPOCH

REBUILD_BATCH = 200

# what bytes that are landed may lead to; a full disk or a broken database is none of it
OF_ONE_SNAPSHOT = (
    *(PipelineError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError),
    *(duckdb.DataError, duckdb.IntegrityError, duckdb.ProgrammingError),
)

# what the ledger says now that matters to a snapshot, beside the warehouse; None if it cannot be read
ReadLedger = Callable[[duckdb.DuckDBPyConnection, TypedSnapshot], LedgerState | None]


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


class ActivityRefusedError(PipelineError):
    """What is stored of an extract of the activity is not what was landed; the warehouse is as it was before."""

    def __init__(self, path: str, outcome: Outcome) -> None:
        first = outcome.differences[0]
        super().__init__(
            f"{path} was not published: the check {outcome.check} failed in {outcome.differing} places, such as "
            f"{first.where} (broker: {first.broker}; stored: {first.stored})",
            "Its bytes are landed; what was stored before stays. Report it: no answer of the broker explains this.",
        )
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class StoredActivity:
    """What one extract of the activity brought, by resource, and the check that let it be published."""

    kept: dict[Resource, Upserted]
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild did: how many snapshots and extracts of the activity it published, what it refused and why.

    `kept_findings`: findings, reconciliations and daily summaries, which no landed byte tells, were taken over from the
    old file; else that file is damaged, and is `kept_as` so. `kept_rows`: so were all rows of so many snapshots, whose
    landed bytes are damaged by now.
    """

    published: int
    refused: dict[str, str]
    kept_findings: bool = True
    activity: int = 0
    kept_rows: int = 0
    kept_as: str = ""


def store_snapshot(
    warehouse: Warehouse,
    landed: LandedSnapshot,
    rules: GateRules = DEFAULT_RULES,
    read_ledger: ReadLedger | None = None,
    stopped: Collection[str] | None = None,
) -> tuple[TypedSnapshot, list[Outcome]]:
    """Publish one landed snapshot. Doing it again yields identical rows.

    With it come the instants of the account that were missed before. One that is refused is published as missed itself.

    Args:
        read_ledger: only the newest snapshot of its account, when it is stored for the first time, is set beside the
            ledger: about an older one the ledger of now says nothing.
        stopped: the cycles that are switched off, each a finding; None: not known.

    Raises:
        NotPublishedError: a blocking check failed.
        BodyError: a landed body lacks a required field.
        WarehouseError: the warehouse cannot be written.
    """
    started = time.monotonic()
    progress.working(f"proving {landed.snapshot_id}")
    try:
        typed = read_typed(landed)
        with warehouse.staged() as staged:
            typed, outcomes = _store_and_judge(staged, typed, rules, read_ledger, stopped)
            staged.note_heads(landed.zone)
            started = progress.step("proved", "what is stored equals what was read", started)
    except (NotPublishedError, BodyError) as error:
        outcomes = error.outcomes if isinstance(error, NotPublishedError) else []
        publish_missed(
            warehouse, landed.zone, landed.snapshot_id, refused=landed, because=error.cause, outcomes=outcomes
        )
        raise
    progress.step("published", str(landed.snapshot_id), started)
    return typed, outcomes


Stored = tuple[TypedSnapshot, list[Outcome]]


def store_snapshots(
    warehouse: Warehouse,
    zone: LandingZone,
    landed: Sequence[LandedSnapshot],
    not_landed: Sequence[SnapshotId] = (),
    rules: GateRules = DEFAULT_RULES,
    read_ledger: ReadLedger | None = None,
    stopped: Collection[str] | None = None,
) -> dict[SnapshotId, Stored | PipelineError]:
    """Publish the landed snapshots of several accounts by one rename: each stored and verified by itself.

    One that is refused is published as missed; it costs no other. Else as `store_snapshot`.

    Args:
        not_landed: those that were to be taken with them and were not: what the landing zone says of them is published.

    Returns:
        What was stored of each landed snapshot, or why it was refused.

    Raises:
        WarehouseError: the warehouse cannot be written; nothing is published.
    """
    kept: dict[SnapshotId, Stored | PipelineError] = {}
    while True:
        coming = [one for one in landed if one.snapshot_id not in kept]
        try:
            with warehouse.staged() as staged:
                results = {
                    one.snapshot_id: _stored_or_refused(staged, one, rules, read_ledger, stopped) for one in coming
                }
                for snapshot_id in not_landed:
                    staged.miss(new_missed(staged.connection, zone, snapshot_id))
                staged.note_heads(zone)
            return kept | results
        except _PublishedBeforeError as found:  # what was proven then stays: once more from the start, without it
            kept[found.snapshot_id] = found.error


class _PublishedBeforeError(Exception):
    """A snapshot that is in the warehouse already would be refused now."""

    def __init__(self, snapshot_id: SnapshotId, error: PipelineError) -> None:
        super().__init__(snapshot_id, error)
        self.snapshot_id, self.error = snapshot_id, error


def _stored_or_refused(
    staged: StagedWarehouse,
    landed: LandedSnapshot,
    rules: GateRules,
    read_ledger: ReadLedger | None,
    stopped: Collection[str] | None,
) -> Stored | PipelineError:
    """Store one of several, or remove all of it again; raises _PublishedBeforeError."""
    was_published = staged.has(str(landed.snapshot_id))
    try:
        return _store_and_judge(staged, read_typed(landed), rules, read_ledger, stopped)
    except OF_ONE_SNAPSHOT as error:
        refusal = error if isinstance(error, PipelineError) else _unusable(landed, error)
        if was_published:
            raise _PublishedBeforeError(landed.snapshot_id, refusal) from error
        staged.refuse(refused_row(landed, error))
        if isinstance(error, NotPublishedError):
            store_results(staged.connection, landed, error.outcomes)
        return refusal


def _unusable(landed: LandedSnapshot, error: Exception) -> PipelineError:
    return PipelineError(
        f"{landed.snapshot_id} was not published: {type(error).__name__}: {error}",
        f"Its bytes are landed in {landed.directory}; the last good snapshot stays current. Report it.",
    )


def _store_and_judge(
    staged: StagedWarehouse,
    typed: TypedSnapshot,
    rules: GateRules,
    read_ledger: ReadLedger | None,
    stopped: Collection[str] | None,
) -> Stored:
    """Store a snapshot in the copy, with its verdict, what the ledger says beside it, its checks and its findings."""
    look_back(staged, typed)
    known = known_of(staged.connection, typed)
    typed = with_verdict(staged.connection, typed, rules.calendar, known)
    ledger_state = read_ledger(staged.connection, typed) if known.is_news and read_ledger else None
    if ledger_state is not None and not ledger_state.empty:
        typed = replace(typed, reconciled=reconcile_typed(staged.connection, typed, ledger_state, rules.calendar))
    outcomes = store_verified(staged, typed, rules)
    if known.is_news:
        upsert_findings(staged.connection, typed, ledger_read=ledger_state is not None, stopped=stopped)
    return typed, outcomes


def look_back(staged: StagedWarehouse, typed: TypedSnapshot) -> None:
    """Have what a snapshot that is about to be stored or proven is set beside, however long ago it was read."""
    manifest = typed.landed.manifest
    if staged.sealed:
        unseal_around(staged.connection, manifest.account_id, manifest.as_of, typed.landed.snapshot_id.trade_date)


def store_activity(warehouse: Warehouse, landed: LandedActivity, calendar: MarketCalendar) -> StoredActivity:
    """Publish what the broker posted overnight of some dates, with their sessions. Doing it again changes nothing.

    Raises:
        ActivityRefusedError: what would be stored is not what was landed.
        BodyError: a landed row lacks a required field or is malformed.
        WarehouseError: the warehouse cannot be written.
    """
    with warehouse.staged() as staged:
        stored = _stored_activity(staged, landed, calendar)
        staged.note_heads(landed.zone)
    return stored


def _stored_activity(
    staged: StagedWarehouse, landed: LandedActivity, calendar: MarketCalendar, *, find_words: bool = True
) -> StoredActivity:
    """Store and prove one extract, in one transaction.

    Args:
        find_words: add findings of words that are not known; a rebuild takes the findings over from the old file.
    """
    connection = staged.connection
    with transaction(connection):
        kept = upsert_activity(connection, landed)
        outcome = verify_activity(landed, connection)
        if outcome.blocks:
            raise ActivityRefusedError(landed.path, outcome)
        since = min(one.covered_since for one in kept.values())
        upsert_sessions(connection, calendar, since, landed.manifest.until)
        if find_words:
            manifest = landed.manifest
            upsert_word_findings(connection, manifest.account_id, landed.path, manifest.read_at)
    return StoredActivity(kept, outcome)


def store_prices(warehouse: Warehouse, landed: LandedPrices) -> int:
    """Publish the prices of one extract; returns how many days have one. Doing it again changes nothing.

    Raises:
        BodyError: a landed row is malformed.
        LandingError: what would be stored is not what was landed.
        WarehouseError: the warehouse cannot be written.
    """
    with warehouse.staged() as staged:
        priced = _stored_market(staged, landed)
        staged.note_heads(landed.zone)
    return priced


def store_dividends(warehouse: Warehouse, extracts: Sequence[LandedDividends]) -> dict[str, str]:
    """Publish extracts of dividends in one go; returns those that were refused, and why."""
    with warehouse.staged() as staged:
        refused = store_market_of(staged, extracts)
        staged.note_heads(extracts[0].zone)
    return refused


def _stored_market(staged: StagedWarehouse, landed: MarketExtract) -> int:
    with transaction(staged.connection):
        return upsert_market(staged.connection, landed)


def publish_missed(
    warehouse: Warehouse,
    zone: LandingZone,
    snapshot_id: SnapshotId,
    *,
    refused: LandedSnapshot | None = None,
    because: str | None = None,
    outcomes: Sequence[Outcome] = (),
) -> None:
    """Let readers see at once that a snapshot was missed, failed or refused. Publishes nothing if they see it already.

    `because`, `outcomes`: why one that is `refused` is so, and what the rules say of it.

    Never raises: it is called while the reason itself is on its way to the user, and what could not be published now
    comes with the next snapshot.
    """
    with suppress(Exception):
        with connect_readonly(warehouse.path) as connection:
            missed = new_missed(connection, zone, snapshot_id, refused_because=because)
        if missed:
            with warehouse.staged() as staged:
                staged.miss(new_missed(staged.connection, zone, snapshot_id, refused_because=because))
                if refused and outcomes:
                    store_results(staged.connection, refused, outcomes)


def verify_landed(warehouse: Warehouse, landed: LandedSnapshot, rules: GateRules = DEFAULT_RULES) -> list[Outcome]:
    """Run every check on a trial copy of the warehouse that is thrown away: for a snapshot that was never published.

    Raises:
        BodyError: a landed body lacks a required field.
    """
    typed = read_typed(landed)
    try:
        with warehouse.staged() as staged:
            look_back(staged, typed)
            typed = with_verdict(staged.connection, typed, rules.calendar, known_of(staged.connection, typed))
            raise _TrialEnds(_stored(staged, typed, rules))
    except _TrialEnds as trial:
        return trial.outcomes


def rebuild(
    warehouse: Warehouse,
    zone: LandingZone,
    progress: Callable[[int], None],
    rules: GateRules = DEFAULT_RULES,
    *,
    forget: bool = False,
    stated: Sequence[Row] = (),
) -> Rebuilt:
    """Write the warehouse anew from the landing zone alone, and publish it once.

    A snapshot that fails a blocking check stays out, as it did the first time, and is among the missed. What followed
    from the ledger as it was then, the findings and the daily summaries are taken over from the old file: nothing else
    can tell them. So are the rows of published snapshots whose landed bytes are damaged by now: they were proven then.

    Args:
        forget: go on although published snapshots are no longer landed, or would be left out; they are lost.
        stated: the flows that the owner states, from the ledger.

    Raises:
        LandingError: such snapshots exist, or nothing is landed at all; the old file stays.
    """
    with suppress(WarehouseError, duckdb.Error):  # of a home that was moved: what is taken over is found again
        warehouse.repoint()
    published_before = _published(warehouse)
    if not forget:
        _refuse_loss(warehouse, zone, published_before)
    landed, refused = readable(zone)
    # in a damaged archive, or of a damaged manifest; what is not landed at all is lost only with `forget`
    unreadable = set(published_before) - {str(found.snapshot_id) for found in landed}
    damaged = {one.path: one.reason for one in zone.damaged()}
    named = {str(found.directory) for found in zone.snapshots()}  # what is wrong with these is listed by their ids
    with warehouse.staged(fresh=True) as staged:
        staged.miss(list(never_landed(zone, refused)))
        kept_rows = staged.merge_snapshots(warehouse.path, () if forget else unreadable)
        published = 0
        for start in range(0, len(landed), REBUILD_BATCH):
            batch = landed[start : start + REBUILD_BATCH]
            left_out = replay_batch(staged, batch, rules, start, len(landed))
            kept_rows += staged.merge_snapshots(
                warehouse.path, () if forget else _damaged_since(batch, left_out, published_before)
            )
            refused |= left_out
            published += len(batch) - len(left_out)
            progress(min(start + REBUILD_BATCH, len(landed)))
        extracts = landed_activity(zone)
        unkept = store_activities(staged, extracts, rules.calendar) | store_market_of(staged, landed_market(zone))
        insert(staged.connection, schema.STATED_FLOWS, stated)
        kept = not warehouse.path.exists() or staged.merge_reconciled(warehouse.path)
        staged.note_heads(zone)
        if not forget:
            _refuse_to_leave_out(staged, published_before, refused)
        kept_as = "" if kept else keep_aside(set_aside(warehouse.path), clock.now()).name
    refused |= unkept | {path: reason for path, reason in damaged.items() if path not in named}
    of_activity = sum(found.path not in unkept for found in extracts)
    return Rebuilt(published, refused, kept_findings=kept, activity=of_activity, kept_rows=kept_rows, kept_as=kept_as)


def _published(warehouse: Warehouse) -> list[str]:
    """The published snapshots; none of a warehouse that cannot be read, which is what rebuild is for."""
    with suppress(WarehouseError, duckdb.Error), connect_readonly(warehouse.path) as connection:
        return snapshot_ids(connection)
    return []


def _damaged_since(
    batch: Sequence[LandedSnapshot], left_out: Collection[str], published_before: Collection[str]
) -> set[str]:
    """Those of a batch that were published once, and were left out because their bytes are not what was landed."""
    return {
        snapshot_id
        for landed in batch
        if (snapshot_id := str(landed.snapshot_id)) in left_out and snapshot_id in published_before
        if not _is_whole(landed)
    }


def _is_whole(landed: LandedSnapshot) -> bool:
    with suppress(LandingError):
        landed.prove()
        return True
    return False


def _refuse_to_leave_out(staged: StagedWarehouse, published_before: Sequence[str], refused: Mapping[str, str]) -> None:
    """What was published is in the new file too, or the old file stays."""
    there = set(snapshot_ids(staged.connection))
    if lost := [one for one in published_before if one not in there]:
        why = refused.get(lost[0], "its landed bytes cannot be read")
        raise LandingError(
            f"the old warehouse stays, the new one would lack {len(lost)} of its snapshots, such as {lost[0]}: {why}",
            "To go on without them: `tradier-pipeline rebuild --forget`.",
        )


def readable(zone: LandingZone) -> tuple[list[LandedSnapshot], dict[str, str]]:
    """The landed snapshots in the order of reading, and those whose manifest cannot be read, with the reason."""
    landed: list[LandedSnapshot] = []
    unreadable: dict[str, str] = {}
    for found in zone.snapshots():
        try:
            found.manifest  # noqa: B018 - read, and kept
            landed.append(found)
        except LandingError as error:
            unreadable[str(found.snapshot_id)] = str(error)
    return sorted(landed, key=lambda found: (found.manifest.as_of, found.snapshot_id)), unreadable


def _refuse_loss(warehouse: Warehouse, zone: LandingZone, published: Sequence[str]) -> None:
    """An unmounted or half-restored landing zone must not cost a warehouse that is whole."""
    extracts: list[str] = []
    # an unreadable warehouse is what rebuild is for; one of an older version has no extracts of the activity
    with suppress(WarehouseError, duckdb.Error), connect_readonly(warehouse.path) as connection:
        extracts = activity_paths(connection)
        extracts.extend(market_paths(connection))  # of the tables that it has
    landed = {str(found.snapshot_id) for found in zone.snapshots()}
    landed_extracts = {found.path for found in landed_activity(zone)} | {found.path for found in landed_market(zone)}
    # the rows of what lies in an archive that is damaged are taken over from the old file
    lost = [one for one in published if one not in landed and not zone.is_out_of_reach(SnapshotId.parse(one))]
    lost_extracts = [path for path in extracts if path not in landed_extracts]
    if lost or lost_extracts or not (landed or landed_extracts):
        what = (
            f"{len(lost)} published snapshots are not, such as {lost[0]}"
            if lost
            else f"{len(lost_extracts)} published extracts of {_kind(lost_extracts[0])} are not, "
            f"such as {lost_extracts[0]}"
            if lost_extracts
            else "nothing is"
        )
        raise LandingError(
            f"the warehouse is rebuilt from what is landed in {zone.root}, and {what}",
            "Restore the landing zone; to go on without them: `tradier-pipeline rebuild --forget`.",
        )


def _kind(path: str) -> str:
    return {PRICES: "prices", DIVIDENDS: "dividends"}.get(path.split("/")[0], "the activity")


def never_landed(zone: LandingZone, unreadable: dict[str, str]) -> Iterator[Row]:
    """The missed instants of which nothing was landed, or nothing that can be read."""
    for account in zone.accounts():
        for snapshot_id, path in zone.attempts(account, EPOCH.date(), EPOCH).items():
            if snapshot_id in unreadable or not zone.find(SnapshotId.parse(snapshot_id)):
                yield missed_row(zone, path, snapshot_id)


def store_verified(
    staged: StagedWarehouse, typed: TypedSnapshot, rules: GateRules, *, with_missed: bool = True
) -> list[Outcome]:
    """Store one snapshot and run every check.

    Args:
        with_missed: with the instants that were missed before it; without, the caller has stored them.

    Raises:
        NotPublishedError: a blocking check failed.
    """
    outcomes = _stored(staged, typed, rules, with_missed=with_missed)
    store_results(staged.connection, typed.landed, outcomes)
    if any(outcome.blocks for outcome in outcomes):
        raise NotPublishedError(typed.landed.manifest.snapshot_id, outcomes)
    return outcomes


def _stored(
    staged: StagedWarehouse, typed: TypedSnapshot, rules: GateRules, *, with_missed: bool = True
) -> list[Outcome]:
    """What the checks say of a snapshot once it is stored, with the instants missed before it."""
    landed = typed.landed
    if staged.completed:
        _judge_older(staged, rules)
    _keep_sessions(staged, landed.snapshot_id.trade_date, rules)
    rows = table_rows(typed, rules)
    staged.store(landed.manifest.snapshot_id, rows)
    if with_missed:
        staged.miss(new_missed(staged.connection, landed.zone, landed.snapshot_id, ever=staged.completed))
    return verify_snapshot(landed, staged.connection)


def _keep_sessions(staged: StagedWarehouse, day: date, rules: GateRules) -> None:
    """The sessions from the first snapshot on; of an older version's warehouse, too."""
    query = "SELECT min(trade_date) FROM tradier_snapshots"
    (first,) = (staged.connection.execute(query).fetchone() if staged.completed else None) or (None,)
    upsert_sessions(staged.connection, rules.calendar, min(day, first or day), day)


def _judge_older(staged: StagedWarehouse, rules: GateRules) -> None:
    """Read the gate of the snapshots that were stored before there was one."""
    lead = schema.KEYS
    cursor = staged.connection.execute(
        f"SELECT {lead}, count(spread_no) FROM tradier_snapshots LEFT JOIN option_spreads USING ({lead}) "  # noqa: S608
        f"ANTI JOIN trade_gate_readings USING (snapshot_id) GROUP BY {lead}"
    )
    rows: list[Row] = []
    for *values, open_positions in cursor.fetchall():
        known = dict(zip(schema.KEY_NAMES, values, strict=True))
        rows.append(known | asdict(evaluate_gate(known["as_of"], known["trade_date"], open_positions, rules)))
    insert(staged.connection, schema.TRADE_GATE_READINGS, rows)


def replay_batch(
    staged: StagedWarehouse, batch: list[LandedSnapshot], rules: GateRules, done: int, total: int
) -> dict[str, str]:
    """Store a batch in one transaction, then verify one by one in the order of reading, removing what is refused.

    Whatever is wrong with one landed snapshot is a reason to leave that one out, and no other.
    """
    refused: dict[str, str] = {}
    readable: list[TypedSnapshot] = []
    for number, landed in enumerate(batch, done):
        progress.working("reading what is landed", number, total)
        try:
            typed = read_typed(landed)
            table_rows(typed, rules)
            readable.append(typed)
        except OF_ONE_SNAPSHOT as error:
            refused[str(landed.snapshot_id)] = _reason(landed, error)
            staged.miss([refused_row(landed, error)])
    for number, typed in enumerate(_added(staged, readable, rules, refused), done):
        progress.working("proving what is stored", number, total)
        try:
            _verify_rebuilt(staged, typed, rules)
        except OF_ONE_SNAPSHOT as error:
            refused[str(typed.landed.snapshot_id)] = _reason(typed.landed, error)
            staged.refuse(refused_row(typed.landed, error))
    return refused


def _added(
    staged: StagedWarehouse, batch: list[TypedSnapshot], rules: GateRules, refused: dict[str, str]
) -> list[TypedSnapshot]:
    """Store a batch; if the database refuses it, one by one, without those it refuses."""
    for typed in batch:
        _keep_sessions(staged, typed.landed.snapshot_id.trade_date, rules)
    try:
        staged.add([table_rows(typed, rules) for typed in batch])
    except OF_ONE_SNAPSHOT as error:
        if len(batch) > 1:
            return [typed for one in batch for typed in _added(staged, [one], rules, refused)]
        (typed,) = batch
        refused[str(typed.landed.snapshot_id)] = _reason(typed.landed, error)
        staged.miss([refused_row(typed.landed, error)])
        return []
    return batch


def _verify_rebuilt(staged: StagedWarehouse, typed: TypedSnapshot, rules: GateRules) -> None:
    judged = with_verdict(staged.connection, typed, rules.calendar)  # by what is not refused before it
    if judged.verdict == "doubtful" or judged.verdict_evidence:
        staged.set_verdict(typed.landed.manifest.snapshot_id, judged.verdict, judged.verdict_evidence)
    conserved = table_rows(judged)
    insert(staged.connection, schema.CONSERVATION, conserved["conservation"])
    outcomes = verify_snapshot(typed.landed, staged.connection)
    add_results(staged.connection, typed.landed, outcomes)
    if any(outcome.blocks for outcome in outcomes):
        raise NotPublishedError(typed.landed.manifest.snapshot_id, outcomes)


def _reason(landed: LandedSnapshot, error: Exception) -> str:
    return str(error) if isinstance(error, PipelineError) else f"{landed.directory}: {type(error).__name__}: {error}"


def store_activities(
    staged: StagedWarehouse, extracts: list[LandedActivity], calendar: MarketCalendar
) -> dict[str, str]:
    """Store every landed extract of the activity; returns those that were refused, and why."""
    refused: dict[str, str] = {}
    for done, landed in enumerate(extracts):
        progress.working("history of the account", done, len(extracts))
        try:
            _stored_activity(staged, landed, calendar, find_words=False)
        except OF_ONE_SNAPSHOT as error:
            refused[landed.path] = str(error)
    return refused


def store_market_of(staged: StagedWarehouse, extracts: Iterable[MarketExtract]) -> dict[str, str]:
    """Store extracts of prices and dividends; returns those that were refused, and why."""
    refused: dict[str, str] = {}
    for landed in extracts:
        try:
            _stored_market(staged, landed)
        except OF_ONE_SNAPSHOT as error:
            refused[landed.path] = str(error)
    return refused


def refused_row(landed: LandedSnapshot, error: Exception) -> Row:
    """The row of a landed snapshot that is kept out."""
    cause = error.cause if isinstance(error, PipelineError) else _reason(landed, error)
    return missed_row(landed.zone, landed.directory, str(landed.snapshot_id), cause)


class _TrialEnds(Exception):  # noqa: N818 - not an error: it discards the trial copy
    def __init__(self, outcomes: list[Outcome]) -> None:
        super().__init__()
        self.outcomes = outcomes
