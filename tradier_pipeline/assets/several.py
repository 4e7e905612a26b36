"""The snapshots of several accounts in one step: read side by side, each stored and verified by itself, published by
one rename, and reported of its own partition as a run of one account reports it.

The assets of one account are planned by Dagster for the partition of a run; a run has one partition. So this step is
none of an asset, and reports what it materialized and checked itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import CODE_VERSION_TAG, DATA_VERSION_TAG

from tradier_pipeline import clock
from tradier_pipeline.assets.account import account_materialization
from tradier_pipeline.assets.claims import claim_evaluations
from tradier_pipeline.assets.gate import gate_result
from tradier_pipeline.assets.raw import CODE_VERSION, extract, quotes_result, raw_results, trigger_of
from tradier_pipeline.assets.reconciliation import ledger_outcomes, reconciliation_results
from tradier_pipeline.assets.resource import TradierResource
from tradier_pipeline.assets.snapshot import (
    publish_in_turn,
    reading_ledger,
    snapshot_results,
    stopped_cycles,
    write_back,
)
from tradier_pipeline.core import progress
from tradier_pipeline.core.errors import ExtractError, PipelineError
from tradier_pipeline.core.outcome import Outcome
from tradier_pipeline.core.settings import Settings
from tradier_pipeline.core.snapshot_id import MAX_LATENESS, SnapshotId
from tradier_pipeline.domain.budget import Budget
from tradier_pipeline.domain.gate import GateRules
from tradier_pipeline.domain.ticks import CYCLES
from tradier_pipeline.extract.allowance import Allowance
from tradier_pipeline.extract.connection import Broker
from tradier_pipeline.extract.snapshot import extract_quotes
from tradier_pipeline.extract.turns import in_turn
from tradier_pipeline.instance.partitions import remember_partitions
from tradier_pipeline.instance.runs import FAILED_TAG, partitions_of
from tradier_pipeline.instance.storage import one_transaction
from tradier_pipeline.landing.manifest import MissedRecord
from tradier_pipeline.landing.zone import REQUIRED_RESOURCES, LandedSnapshot
from tradier_pipeline.monitoring.ping import ping_published
from tradier_pipeline.publish.store import NotPublishedError, Stored, store_snapshots
from tradier_pipeline.verify.claims import CLAIMS, LEDGER_CLAIMS
from tradier_pipeline.warehouse.reads import connect_readonly, gate_evaluation

AT_ONCE = 8  # accounts of a token that are read at a time, with three requests each
PATIENCE_S = 30.0  # then what is landed is published without those that are still being read
DECIDING = "trade_cycle"  # the cycle whose snapshots come with the gate and the ledger beside them
LONGEST_CAUSE = 400  # characters of what is noted of an account that failed


@dataclass(frozen=True, slots=True)
class AccountResult:
    """What came of one account: `failure` is None once its snapshot is published, `outcomes` are its checks."""

    failure: PipelineError | None
    outcomes: tuple[Outcome, ...] = ()
    caught_up: str | None = None


Results = dict[SnapshotId, AccountResult]
_collected: ContextVar[Results | None] = ContextVar("accounts", default=None)


@contextmanager
def collecting_results() -> Iterator[Results]:
    """Collects what comes of every account of a run in this process."""
    results: Results = {}
    token = _collected.set(results)
    try:
        yield results
    finally:
        _collected.reset(token)


def take_several(context: dg.OpExecutionContext, tradier: TradierResource) -> None:
    """Take the snapshots that a run names. Those that failed are noted at the run.

    Raises:
        PipelineError: none was published.
    """
    snapshot_ids = [SnapshotId.parse(key) for key in partitions_of(context.run)]
    if not snapshot_ids:
        raise PipelineError(
            f"the job {context.run.job_name} takes the snapshots that a cycle asks for, and none was named",
            "Launch the job request_snapshot, which takes a snapshot of now of every account.",
        )
    results: Results = {}
    readers: dict[SnapshotId, _OfToken] = {}
    for group, of_token in _by_token(tradier.settings, snapshot_ids, results).items():
        settings = tradier.settings.of_account(of_token[0].account_id)
        budget = Budget.of(settings.environment, len(of_token), group)
        taken, skipped = in_turn(tradier.landing_zone, of_token, budget)
        allowance = Allowance(budget.allowed, len(taken))
        readers |= dict.fromkeys(taken, _OfToken(tradier.brokers.by_group[group].sharing_profile(), allowance))
        for snapshot_id in skipped:
            reason = f"{budget}; it has its turn within {budget.minutes} minutes"
            results[snapshot_id] = AccountResult(_skipped(context, tradier, snapshot_id, reason, allowance))
    for read in _read(context, tradier, readers):
        _publish(context, tradier, read, results)
    _note(context, results)


Read = Mapping[SnapshotId, "LandedSnapshot | PipelineError"]


class NoRequestsError(ExtractError):
    """The token had no requests left for an account. `until` is when there are some again."""

    def __init__(self, cause: str, remedy: str, until: datetime) -> None:
        super().__init__(cause, remedy)
        self.until = until


@dataclass(frozen=True, slots=True)
class _OfToken:
    """What the accounts of one token share in a run."""

    broker: Broker
    allowance: Allowance


def _by_token(
    settings: Settings, snapshot_ids: Sequence[SnapshotId], results: Results
) -> dict[str | None, list[SnapshotId]]:
    """The snapshots by the group of the token that reads them; those of no token are failures among the results."""
    found: dict[str | None, list[SnapshotId]] = {}
    for snapshot_id in snapshot_ids:
        try:
            found.setdefault(settings.of_account(snapshot_id.account_id).group, []).append(snapshot_id)
        except PipelineError as error:
            results[snapshot_id] = AccountResult(error)
    return found


def _skipped(
    context: dg.OpExecutionContext,
    tradier: TradierResource,
    snapshot_id: SnapshotId,
    reason: str,
    allowance: Allowance,
) -> PipelineError:
    """Record an instant for which the requests are not enough, unless somebody waits and asks again."""
    zone, trigger = tradier.landing_zone, trigger_of(context.run)
    is_due = not set(trigger.split(",")).isdisjoint(CYCLES)
    if zone.find(snapshot_id) is None and (is_due or _collected.get() is None):
        zone.record_missed(
            MissedRecord(snapshot_id=str(snapshot_id), trigger=trigger, recorded_at=clock.now(), reason=reason)
        )
    remedy = "Name fewer accounts, or use another access token."
    return NoRequestsError(f"{snapshot_id} was skipped: {reason}", remedy, allowance.ends_at)


def _read(
    context: dg.OpExecutionContext, tradier: TradierResource, readers: Mapping[SnapshotId, _OfToken]
) -> Iterator[Read]:
    """Read them side by side: all together if none takes long, else those that are landed first.

    Each token has readers of its own: one that does not answer holds up no account of another.
    """
    progress.working(f"reading {len(readers)} accounts")
    with ExitStack() as stack:
        pools = {
            id(reader.allowance): stack.enter_context(ThreadPoolExecutor(AT_ONCE, thread_name_prefix="account"))
            for reader in readers.values()
        }
        waiting: dict[Future[LandedSnapshot | PipelineError], SnapshotId] = {
            pools[id(reader.allowance)].submit(
                copy_context().run, _read_one, context, tradier, snapshot_id, reader
            ): snapshot_id
            for snapshot_id, reader in readers.items()
        }
        while waiting:
            done, _unfinished = wait(waiting, timeout=PATIENCE_S)
            if done:
                yield {waiting.pop(future): future.result() for future in done}


def _read_one(
    context: dg.OpExecutionContext, tradier: TradierResource, snapshot_id: SnapshotId, reader: _OfToken
) -> LandedSnapshot | PipelineError:
    zone = tradier.landing_zone
    try:
        landed = zone.find(snapshot_id) or _extracted(context, tradier, snapshot_id, reader)
        if landed.quotes is None:
            extract_quotes(zone, reader.broker, landed)
    except PipelineError as error:
        return error
    return landed


def _extracted(
    context: dg.OpExecutionContext, tradier: TradierResource, snapshot_id: SnapshotId, reader: _OfToken
) -> LandedSnapshot:
    """Read an account once its token has the requests. Raises PipelineError."""
    allowance, profile = reader.allowance, reader.broker.profile
    assert profile is not None
    with suppress(PipelineError):  # then the account's own read fails, and files why
        # before all else: what it says is left counts whatever else the token was used for
        allowance.heard(profile.first().result().pages)
    reading = allowance.begin(snapshot_id.instant + MAX_LATENESS - timedelta(seconds=1))
    if reading is None:
        reason = f"the requests of its access token are used up until {clock.iso(allowance.ends_at)}"
        raise _skipped(context, tradier, snapshot_id, reason, allowance)
    landed: LandedSnapshot | None = None
    try:
        landed = extract(tradier, snapshot_id, trigger_of(context.run), context.log, reading.may_repeat, reader.broker)
    finally:
        reading.end([page for name in REQUIRED_RESOURCES for page in landed.pages(name)] if landed else ())
    return landed


def _publish(context: dg.OpExecutionContext, tradier: TradierResource, read: Read, results: Results) -> None:
    """Publish what was landed by one rename, report each, and add what came of all to the results."""
    settings = tradier.settings
    landed = {key: read[key] for key in sorted(read) if isinstance(read[key], LandedSnapshot)}
    found = [one for one in landed.values() if isinstance(one, LandedSnapshot)]
    failed = {key: one for key, one in read.items() if isinstance(one, PipelineError)}
    missed = [*failed, *(key for key, one in results.items() if one.failure and key not in landed)]
    results |= {key: AccountResult(error) for key, error in failed.items()}
    if not found:
        with suppress(PipelineError):  # why they failed is on its way to the user
            if tradier.warehouse.path.exists():
                store_snapshots(tradier.warehouse, tradier.landing_zone, [], missed)
        return
    remember_partitions(context.instance, landed)
    started = clock.now()
    progress.working(f"proving {len(found)} snapshots")
    rules = GateRules.of(settings)
    publish = partial(
        store_snapshots,
        tradier.warehouse,
        tradier.landing_zone,
        found,
        missed,
        rules,
        reading_ledger(context, settings),
        stopped_cycles(context),
    )
    stored, behind = publish_in_turn(context, tradier, list(landed), rules, publish)
    publish_ms = round((clock.now() - started).total_seconds() * 1000, 1)
    for one in found:
        with one_transaction(context.instance):
            result = stored[one.snapshot_id]
            _report(context, one, result, {"publish_ms": publish_ms, "published_together": len(found), **behind})
        if isinstance(result, PipelineError):
            outcomes = tuple(result.outcomes) if isinstance(result, NotPublishedError) else ()
            results[one.snapshot_id] = AccountResult(result, outcomes)
        else:
            write_back(context, tradier, result[0])
            results[one.snapshot_id] = AccountResult(None, tuple(result[1]), next(iter(behind.values()), None))
    published = [key for key in landed if results[key].failure is None]
    if published:
        ping_published(settings)
    if (newest := account_materialization(settings, published)) is not None:
        context.log_event(newest)
    if DECIDING in trigger_of(context.run).split(","):
        _report_decisions(context, tradier, published)


def _report(
    context: dg.OpExecutionContext,
    landed: LandedSnapshot,
    stored: Stored | PipelineError,
    more: Mapping[str, Any],
) -> None:
    """What the runs of one account report: what was landed, what was published, and what its checks say."""
    key = str(landed.snapshot_id)
    raw = [*raw_results(landed), *([quotes_result(landed, landed.quotes)] if landed.quotes else [])]
    _materialized(context, raw, key)
    if not isinstance(stored, PipelineError):
        typed, outcomes = stored
        _materialized(context, snapshot_results(typed, more), key)
        _evaluated(context, claim_evaluations(context, CLAIMS, outcomes, partition=key))
    elif isinstance(stored, NotPublishedError):
        _evaluated(context, claim_evaluations(context, CLAIMS, stored.outcomes, published=False, partition=key))


def _report_decisions(
    context: dg.OpExecutionContext, tradier: TradierResource, published: Iterable[SnapshotId]
) -> None:
    """The gate and the ledger beside each published snapshot."""
    for snapshot_id in published:
        key = str(snapshot_id)
        with one_transaction(context.instance), connect_readonly(tradier.settings.warehouse) as connection:
            gate = gate_evaluation(connection, key)
            if gate is not None:
                _materialized(context, [gate_result(gate)], key)
            _materialized(context, reconciliation_results(connection, snapshot_id).values(), key)
        if outcomes := ledger_outcomes(context, tradier.settings, key):
            with one_transaction(context.instance):
                _evaluated(context, claim_evaluations(context, LEDGER_CLAIMS, outcomes, partition=key))


def _materialized(context: dg.OpExecutionContext, found: Iterable[dg.MaterializeResult[None]], partition: str) -> None:
    for result in found:
        assert result.asset_key is not None
        tags = (
            {CODE_VERSION_TAG: CODE_VERSION, DATA_VERSION_TAG: result.data_version.value}
            if result.data_version
            else None
        )
        context.log_event(
            dg.AssetMaterialization(result.asset_key, metadata=result.metadata, partition=partition, tags=tags)
        )


def _evaluated(context: dg.OpExecutionContext, found: Iterable[dg.AssetCheckEvaluation]) -> None:
    for evaluation in found:
        context.log_event(evaluation)  # type: ignore[arg-type]  # it takes them, its annotation has not heard of it


def _note(context: dg.OpExecutionContext, results: Results) -> None:
    """Say which accounts failed: in the log of the run, and as a tag for who alerts.

    Raises:
        PipelineError: all of them did.
    """
    if (collected := _collected.get()) is not None:
        collected.update(results)
    failures = {key: result.failure for key, result in results.items() if result.failure is not None}
    for key, failure in failures.items():
        context.log.error(f"{key.account_id}: {failure}")
    context.add_output_metadata(
        {
            "published": len(results) - len(failures),
            "failed": ", ".join(sorted(key.account_id for key in failures)) or "-",
        }
    )
    if not failures:
        return
    causes = {key.account_id: str(failure)[:LONGEST_CAUSE] for key, failure in failures.items()}
    context.instance.add_run_tags(context.run_id, {FAILED_TAG: json.dumps(causes)})
    if len(failures) == len(results):
        first = next(iter(failures.values()))
        others = f" ({len(failures) - 1} more accounts failed)" if len(failures) > 1 else ""
        raise PipelineError(f"{first.cause}{others}", first.remedy)
