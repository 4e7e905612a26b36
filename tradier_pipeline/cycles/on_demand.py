"""A snapshot of now: for the command line, for Python callers, and for the job `request_snapshot`.

The job that takes it is handed in: it stands in the definitions, which contain what calls this.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import dagster as dg

from tradier_pipeline import clock
from tradier_pipeline.assets.claims import collecting_outcomes
from tradier_pipeline.core import collector, progress
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.files import FileError
from tradier_pipeline.core.outcome import Outcome
from tradier_pipeline.core.processes import name_of
from tradier_pipeline.core.settings import Settings, load_settings
from tradier_pipeline.core.snapshot_id import MAX_LATENESS, SnapshotId, SnapshotIdError
from tradier_pipeline.extract.connection import accounts_to_read
from tradier_pipeline.instance import InstanceError, explained, open_instance, storage_error
from tradier_pipeline.instance.partitions import PARTITION_TAG
from tradier_pipeline.instance.runs import ACCOUNT_TAG, PROCESS_TAG, TRIGGER_TAG, snapshots_tags
from tradier_pipeline.landing.zone import LandingZone
from tradier_pipeline.publish.catch_up import CAUGHT_UP
from tradier_pipeline.publish.published_snapshot import TradierSnapshot
from tradier_pipeline.warehouse.reads import connect_readonly, verdict_of
from tradier_pipeline.warehouse.typed import read_typed

SnapshotJob = Callable[[], dg.JobDefinition]

_SQLITE = re.compile(r"^sqlalchemy\.exc\.\w+: \(sqlite3\.\w+\) (?P<text>.+)$", re.MULTILINE)
ROUNDED_S = 0.5  # beside the end of a window, which the broker reports by its own clock
LONG_AGO = MAX_LATENESS / 2  # the other half is for reading until the answers agree
_INTERRUPTS = (dg.DagsterExecutionInterruptedError.__name__, KeyboardInterrupt.__name__)
INTERRUPTED = "the run was interrupted. What it had landed is published by the next snapshot; take it again."
CHECKS_FAILED = "DagsterAssetCheckFailedError"  # of a run of checks alone; no public name
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
ONLY_ERRORS = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}  # in the terminal of `up`; the UI has all


class SnapshotFailedError(PipelineError):
    """A snapshot was not published. `outcomes` are the checks that ran, if it came so far."""

    def __init__(self, cause: str, remedy: str, outcomes: tuple[Outcome, ...]) -> None:
        super().__init__(cause, remedy)
        self.outcomes = outcomes


@dataclass(frozen=True, slots=True)
class SnapshotRun:
    """A finished run of the job `snapshot`.

    `waits_until`: when there are requests for it again, if its token had none left.
    `caught_up`: what it published before, landed by runs that had died.
    `history_error`: why Dagster's run history lacks this run.
    """

    snapshot_id: SnapshotId
    run_id: str
    published: bool
    failure: str | None
    outcomes: tuple[Outcome, ...]
    caught_up: str | None = None
    waits_until: datetime | None = None
    history_error: PipelineError | None = None

    @property
    def error(self) -> SnapshotFailedError:
        """Why it was not published, in the first failure's own words."""
        cause, _, remedy = (self.failure or "the run failed").partition(". ")
        return SnapshotFailedError(cause, remedy or f"See run {self.run_id} in the UI.", self.outcomes)

    def raise_unless_published(self) -> None:
        """Raises SnapshotFailedError."""
        if not self.published:
            raise self.error


def take_snapshot(job: SnapshotJob, account_id: str | None, *, trigger: str) -> TradierSnapshot:
    """Take one snapshot of one account now and return it. See `tradier_pipeline.sync_tradier_snapshot`."""
    settings = load_settings()
    if account_id is None and (settings.accounts is None or len(settings.accounts) > 1):
        where = "TRADIER_TOKENS" if settings.tokens else f"TRADIER_ACCOUNT_ID={settings.account_id}"
        raise PipelineError(
            f"{where} names more than one account",
            "Pass the account_id you want; the command `tradier-pipeline snapshot` takes all of them.",
        )
    (run,) = take_snapshots(job, settings, account_id, trigger=trigger)
    run.raise_unless_published()
    return read_published(settings, run)


def take_snapshots(job: SnapshotJob, settings: Settings, account_id: str | None, *, trigger: str) -> list[SnapshotRun]:
    """Take one snapshot of every configured account, or of the one named.

    The failure of one account does not touch the others: see `SnapshotRun.published`.
    """

    def take() -> list[SnapshotRun]:
        accounts = (account_id,) if account_id else accounts_to_read(settings)
        try:
            with ExitStack() as stack:
                with collector.paused():
                    instance = stack.enter_context(open_instance(settings.dagster_home))
                with collector.sparing():
                    return run_snapshots(instance, job, settings, accounts, trigger)
        except (InstanceError, FileError) as error:  # the history of the account goes on without Dagster's
            with dg.DagsterInstance.ephemeral() as instance:
                runs = run_snapshots(instance, job, settings, accounts, trigger)
                return [replace(run, history_error=error) for run in runs]

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return take()
    with ThreadPoolExecutor(1) as pool:  # a notebook: Dagster cannot end a run in a thread whose event loop runs
        return pool.submit(take).result()


def run_snapshots(
    instance: dg.DagsterInstance, job: SnapshotJob, settings: Settings, accounts: Sequence[str], trigger: str
) -> list[SnapshotRun]:
    """Run the job `snapshot` for each account, one after the other, on partitions of now.

    Several are one run of one instant, as many as the access token allows to read in a minute. If Dagster's storage
    breaks under it they are taken one after the other: one whose turn comes late gets its own instant, or it could not
    be read any more.
    """
    ids = [_id_of_now(account_id) for account_id in accounts]  # all are proven before the first is read
    instant = min(snapshot_id.instant for snapshot_id in ids)
    if len(ids) > 1:
        try:
            return _run_together(instance, [replace(one, instant=instant) for one in ids], trigger)
        except Exception as error:
            if instance.is_ephemeral or storage_error(error, Path(instance.root_directory)) is None:
                raise
    runs: list[SnapshotRun] = []
    for account_id in accounts:
        own = SnapshotId.now(account_id)
        snapshot_id = replace(own, instant=instant) if own.instant - instant < LONG_AGO else own
        runs.append(run_snapshot(instance, job, settings, snapshot_id, trigger))
    return runs


def _run_together(instance: dg.DagsterInstance, ids: Sequence[SnapshotId], trigger: str) -> list[SnapshotRun]:
    """Take them at one instant; those for which a token has no requests left wait for its next minute.

    Each token takes as many as its minute allows. Who waits has an instant of its own, of when there are requests
    again. It ends once all were taken, or a minute took none.
    """
    taken: dict[str, SnapshotRun] = {}
    waiting = list(ids)
    while waiting:
        runs = run_several(instance, waiting, trigger)
        taken |= {run.snapshot_id.account_id: run for run in runs}
        again = [run for run in runs if run.waits_until is not None]
        if len(again) == len(runs):
            break
        if again:
            _wait_until(max(run.waits_until for run in again if run.waits_until), len(again))
        waiting = [SnapshotId.now(run.snapshot_id.account_id) for run in again]
        waiting = [replace(one, instant=waiting[0].instant) for one in waiting]
    return [taken[one.account_id] for one in ids]


def _wait_until(instant: datetime, accounts: int) -> None:
    seconds = min(max((instant - clock.now()).total_seconds(), 0.0), MAX_LATENESS.total_seconds()) + ROUNDED_S
    progress.working(f"waiting {seconds:.0f} s for the next minute's requests: {accounts} accounts", urgent=True)
    time.sleep(seconds)


def run_several(instance: dg.DagsterInstance, ids: Sequence[SnapshotId], trigger: str) -> list[SnapshotRun]:
    """Run the job `snapshot_accounts` in this process for accounts at one instant, and say what came of each."""
    # who takes one account does without
    from tradier_pipeline.assets.several import NoRequestsError, collecting_results
    from tradier_pipeline.cycles.accounts_job import accounts_job

    with collecting_results() as results:
        result = accounts_job().execute_in_process(
            instance=instance,
            run_config=QUIET,
            tags={
                **snapshots_tags([one.account_id for one in ids], clock.iso(ids[0].instant)),
                TRIGGER_TAG: trigger,
                PROCESS_TAG: name_of(os.getpid()),
            },
            raise_on_error=False,
        )
    if not instance.is_ephemeral and (text := _of_storage(result.all_events)):
        raise explained(text, Path(instance.root_directory))
    runs: list[SnapshotRun] = []
    for snapshot_id in ids:
        found = results.get(snapshot_id)
        failure = str(found.failure) if found and found.failure else None
        runs.append(
            SnapshotRun(
                snapshot_id=snapshot_id,
                run_id=result.run_id,
                published=found is not None and failure is None,
                failure=failure if found else first_failure(result.all_events),
                outcomes=found.outcomes if found else (),
                caught_up=found.caught_up if found and snapshot_id == ids[0] else None,
                waits_until=found.failure.until if found and isinstance(found.failure, NoRequestsError) else None,
            )
        )
    return runs


def run_snapshot(
    instance: dg.DagsterInstance, job: SnapshotJob, settings: Settings, snapshot_id: SnapshotId, trigger: str
) -> SnapshotRun:
    """Run the job `snapshot` in this process on one partition, recorded in the instance as far as its storage allows.

    What was landed when the storage failed is published without it; if nothing was, it is read once more.
    """
    try:
        return _run_snapshot(instance, job, snapshot_id, trigger)
    except Exception as error:
        reported = None if instance.is_ephemeral else storage_error(error, Path(instance.root_directory))
        if reported is None:
            raise
    with dg.DagsterInstance.ephemeral() as other:
        landed = LandingZone(settings.landing).find(snapshot_id)
        again = snapshot_id if landed else SnapshotId.now(snapshot_id.account_id)
        return replace(_run_snapshot(other, job, again, trigger), history_error=reported)


def _run_snapshot(instance: dg.DagsterInstance, job: SnapshotJob, snapshot_id: SnapshotId, trigger: str) -> SnapshotRun:
    with collecting_outcomes() as outcomes:
        result = job().execute_in_process(
            instance=instance,
            run_config=QUIET,
            tags={
                PARTITION_TAG: str(snapshot_id),  # the partition itself exists once it is landed
                TRIGGER_TAG: trigger,
                ACCOUNT_TAG: snapshot_id.account_id,
                PROCESS_TAG: name_of(os.getpid()),
            },
            raise_on_error=False,
        )
    if not instance.is_ephemeral and (text := _of_storage(result.all_events)):
        raise explained(text, Path(instance.root_directory))
    return SnapshotRun(
        snapshot_id=snapshot_id,
        run_id=result.run_id,
        published=result.success,
        failure=None if result.success else first_failure(result.all_events),
        outcomes=tuple(outcomes),
        caught_up=_caught_up(result.all_events),
    )


def _of_storage(events: Iterable[dg.DagsterEvent]) -> str | None:
    """What SQLite says, if a step failed because something could not be recorded."""
    for event in events:
        error = event.step_failure_data.error if event.is_step_failure else None
        while error is not None:
            if found := _SQLITE.search(error.message):
                return found["text"]
            error = error.cause
    return None


def _caught_up(events: Iterable[dg.DagsterEvent]) -> str | None:
    for event in events:
        if event.is_step_materialization and CAUGHT_UP in event.step_materialization_data.materialization.metadata:
            return str(event.step_materialization_data.materialization.metadata[CAUGHT_UP].value)
    return None


def _id_of_now(account_id: str) -> SnapshotId:
    """What is no account number must not become a partition."""
    try:
        return SnapshotId.parse(str(SnapshotId.now(account_id)))
    except SnapshotIdError:
        remedy = "Write its letters and digits, such as VA12345678."
        raise PipelineError(f"{account_id[:80]!r} is not an account number", remedy) from None


def read_published(settings: Settings, run: SnapshotRun) -> TradierSnapshot:
    """The value of a snapshot that has just been published."""
    landed = LandingZone(settings.landing).find(run.snapshot_id)
    assert landed is not None
    typed = read_typed(landed)
    with connect_readonly(settings.warehouse) as connection:
        verdict, evidence = verdict_of(connection, str(run.snapshot_id))
    return TradierSnapshot(
        snapshot_id=str(run.snapshot_id),
        as_of=landed.manifest.as_of,
        account=typed.account,
        balances=typed.balances,
        positions=typed.positions,
        orders=typed.orders,
        checks=run.outcomes,
        verdict=verdict,
        verdict_evidence=evidence,
    )


def first_failure(events: Iterable[dg.DagsterEvent]) -> str:
    """What the first failed step of a run tells the user."""
    for event in events:
        if event.is_step_failure:
            data = event.step_failure_data
            if data.user_failure_data is not None:
                return data.user_failure_data.description or "the run failed"
            error, first = data.error, ""
            while error is not None:  # amid a query DuckDB raises its own from what a signal raised
                if error.cls_name in _INTERRUPTS:
                    return INTERRUPTED
                first = " ".join(error.message.split())  # what Dagster raised from it says only in which step
                error = error.cause
            if data.error is not None and data.error.cls_name == CHECKS_FAILED:
                failed = " ".join(data.error.message.partition(": ")[2].split())
                return f"{failed}. `tradier-pipeline verify` names the rows that differ."
            return first or data.error_display_string.splitlines()[0]
    return "the run failed before its first step"
