"""Alerts about runs: the first failure of an account at once, then hourly while it lasts, and the end of it.

What has been reported is a tag of the failed run it is about, so an alert that reached nobody is reported with the
next run.
"""

import logging
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import islice, takewhile

import dagster as dg

from tradier_pipeline import clock
from tradier_pipeline.core.settings import load_settings
from tradier_pipeline.cycles.defaults import SENSORS
from tradier_pipeline.cycles.on_demand import first_failure
from tradier_pipeline.instance.partitions import PARTITION_TAG
from tradier_pipeline.instance.runs import (
    ACCOUNT_TAG,
    PROCESS_TAG,
    SEVERAL,
    SNAPSHOTS_TAG,
    accounts_of,
    failed_account,
    failures_of,
)
from tradier_pipeline.monitoring.alerts import send

ALERTED_TAG = ".dagster/tradier_alerted"  # not shown; of a failed run: when it was reported
RECOVERED_TAG = ".dagster/tradier_recovered"  # not shown; of the last failed run of a series: when its end was reported
REPEAT = timedelta(hours=1)
PAGE = 25  # runs; so many successes after a failure try to tell its end
LONGEST = 500  # characters of a cause
LONGEST_OF_ALL = 2000  # characters of those of several accounts


def tell(log: logging.Logger, title: str, text: str) -> None:
    """Log a message in the tick and send it to TRADIER_ALERT_URLS.

    Raises:
        AlertError: there are URLs, and it was delivered to none.
    """
    log.warning("%s: %s", title, text)
    for problem in send(load_settings().alert_urls, f"Tradier: {title}", text):
        log.error(problem)


@dg.run_failure_sensor(
    name="alert_run_failure",  # what alerts stands together in the list of automations
    default_status=SENSORS,
    minimum_interval_seconds=15,
    description="Tells the first failed run of an account, or of a job without one, then hourly while it goes on "
    "(TRADIER_ALERT_URLS).",
)
def run_failure_alert(context: dg.RunFailureSensorContext) -> None:
    """Tell of a failed run unless its series was reported within the hour."""
    run = context.dagster_run
    if PROCESS_TAG in run.tags:  # its caller knows: the command line, or the run that asked for it
        return
    if run.tags.get(ACCOUNT_TAG) == SEVERAL:
        tell_accounts(context.instance, context.log, run, _cause(context))
        return
    failed = list(takewhile(_failed_of(run), _earlier_runs(context.instance, run)))
    reported = [_reported_at(earlier, run.tags.get(ACCOUNT_TAG)) for earlier in failed]
    newest = max(filter(None, reported), default=None)
    if newest and clock.now() - newest < REPEAT:
        context.log.info("reported %s already", clock.iso(newest))
        return
    again = f" It is failed run {len(failed) + 1} in a row." if failed else ""
    tell(context.log, f"{_subject(run)} failed", f"{_cause(context)[:LONGEST]}{again} Run {run.run_id}.")
    context.instance.add_run_tags(run.run_id, {ALERTED_TAG: clock.iso(clock.now())})


@dg.run_status_sensor(
    name="alert_run_recovery",
    run_status=dg.DagsterRunStatus.SUCCESS,
    default_status=SENSORS,
    minimum_interval_seconds=15,
    description="Tells once that an account, or a job without one, has recovered from failed runs.",
)
def run_recovery_alert(context: dg.RunStatusSensorContext) -> None:
    """Tell of a successful run if runs before it failed and nobody has been alerted that this is over. A run of several
    accounts has succeeded when one was published: of the others it tells that they failed.
    """
    run = context.dagster_run
    if PROCESS_TAG in run.tags:
        return
    if run.tags.get(ACCOUNT_TAG) == SEVERAL:
        tell_accounts(context.instance, context.log, run, "")
        return
    has_failed = _failed_of(run)
    earlier = _earlier_runs(context.instance, run)
    last = next(filter(has_failed, islice(earlier, PAGE)), None)
    if last is None or _recovery_reported(last, run.tags.get(ACCOUNT_TAG)):
        return
    failed = 1 + sum(1 for _ in takewhile(has_failed, earlier))
    tell(context.log, f"{_subject(run)} recovered", f"after {failed} failed run{'s'[: failed > 1]}. Run {run.run_id}.")
    context.instance.add_run_tags(last.run_id, {RECOVERED_TAG: clock.iso(clock.now())})


def tell_accounts(instance: dg.DagsterInstance, log: logging.Logger, run: dg.DagsterRun, cause: str) -> None:
    """Tell of a run for several accounts, in one message each: those whose series of failures begins or has gone on for
    an hour, and those that have recovered from one.

    Args:
        cause: of a run that did not say itself which accounts failed.
    """
    earlier = list(islice(_earlier_runs(instance, run), PAGE))
    failed: dict[str, str] = {}
    recovered: dict[str, dg.DagsterRun] = {}
    for account_id in accounts_of(run):
        of_account = [one for one in earlier if account_id in accounts_of(one)]
        if failed_account(run, account_id):
            series = takewhile(lambda one: failed_account(one, account_id), of_account)  # noqa: B023 - used at once
            reported = max(filter(None, (_reported_at(one, account_id) for one in series)), default=None)
            if reported is None or clock.now() - reported >= REPEAT:
                failed[account_id] = failures_of(run).get(account_id) or cause
        else:
            last = next((one for one in of_account if failed_account(one, account_id)), None)
            if last is not None and not _recovery_reported(last, account_id):
                recovered[account_id] = last
    now = clock.iso(clock.now())
    if failed:
        causes = "; ".join(f"{account_id}: {text[:LONGEST]}" for account_id, text in failed.items())
        tell(log, f"{_subject(run)}: {', '.join(failed)} failed", f"{causes[:LONGEST_OF_ALL]} Run {run.run_id}.")
        instance.add_run_tags(run.run_id, {f"{ALERTED_TAG}/{account_id}": now for account_id in failed})
    if recovered:
        tell(log, f"{_subject(run)}: {', '.join(recovered)} recovered", f"after failed runs. Run {run.run_id}.")
        for account_id, last in recovered.items():
            instance.add_run_tags(last.run_id, {f"{RECOVERED_TAG}/{account_id}": now})


def _reported_at(run: dg.DagsterRun, account_id: str | None) -> datetime | None:
    """When the failure of an account in a run was reported; of a run for several accounts each has its own."""
    at = run.tags.get(f"{ALERTED_TAG}/{account_id}") or run.tags.get(ALERTED_TAG)
    return datetime.fromisoformat(at) if at else None


def _recovery_reported(run: dg.DagsterRun, account_id: str | None) -> bool:
    return RECOVERED_TAG in run.tags or f"{RECOVERED_TAG}/{account_id}" in run.tags


def _subject(run: dg.DagsterRun) -> str:
    _, _, instant = run.tags.get(SNAPSHOTS_TAG, "").rpartition("@")  # its accounts are named where they matter
    named = run.tags.get(PARTITION_TAG) or instant or run.tags.get(ACCOUNT_TAG)
    return f"{run.job_name} {named}" if named else run.job_name


def _cause(context: dg.RunFailureSensorContext) -> str:
    """Cause and remedy in one line, in the words of the first failed step, or of the run that none of them ended."""
    steps = context.get_step_failure_events()
    return first_failure(steps) if steps else (context.failure_event.message or "the run failed").splitlines()[0]


def _failed_of(run: dg.DagsterRun) -> Callable[[dg.DagsterRun], bool]:
    """Whether a run has failed, as far as it is about the account of another one."""
    account_id = run.tags.get(ACCOUNT_TAG)
    return lambda earlier: failed_account(earlier, account_id)


def _earlier_runs(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Iterator[dg.DagsterRun]:
    """The ended runs of its accounts, or else of its job, that were created before a run, newest first."""
    ended = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
    accounts = accounts_of(run)
    filters = (
        dg.RunsFilter(statuses=ended, tags={ACCOUNT_TAG: [*accounts, SEVERAL]})
        if accounts
        else dg.RunsFilter(statuses=ended, job_name=run.job_name)
    )
    cursor = run.run_id
    while page := instance.get_runs(filters, cursor=cursor, limit=PAGE):
        for earlier in page:
            if PROCESS_TAG not in earlier.tags and (not accounts or set(accounts) & set(accounts_of(earlier))):
                yield earlier
        cursor = page[-1].run_id
