"""Alerts about runs: the first failure of an account at once, then hourly while it lasts, and the end of it.

What has been reported is a tag of the failed run it was reported, so an alert that reached nobody is reported with the
next run.
"""

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice, takewhile

import dagster as dg

from tradier_pipeline import clock
from tradier_pipeline.core.settings import load_settings
from tradier_pipeline.cycles.defaults import SENSORS
from tradier_pipeline.cycles.on_demand import first_failure
from tradier_pipeline.instance.partitions import PARTITION_TAG
from tradier_pipeline.instance.runs import ACCOUNT_TAG, PROCESS_TAG
from tradier_pipeline.monitoring.alerts import send

ALERTED_TAG = "tradier/alerted"  # of a failed run: when it was reported
RECOVERED_TAG = "tradier/recovered"  # of the last failed run of a series: when its end was reported
REPEAT = timedelta(hours=1)
PAGE = 25  # runs; so many successes after a failure try to tell its end
LONGEST = 500  # characters of a cause


def tell(log: logging.Logger, title: str, text: str) -> None:
    """Log a message in the tick and send it to TRADIER_ALERT_URLS.

    Raises:
        AlertError: there are URLs, and it was delivered to none.
    """
    log.warning("%s: %s", title, text)
    for problem in send(load_settings().alert_urls, f"Tradier: {title}", text):
        log.error(problem)


@dg.run_failure_sensor(
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
    failed = list(takewhile(_failed, _earlier_runs(context.instance, run)))
    reported = [datetime.fromisoformat(earlier.tags[ALERTED_TAG]) for earlier in failed if ALERTED_TAG in earlier.tags]
    if reported and clock.now() - max(reported) < REPEAT:
        context.log.info("reported %s already", clock.iso(max(reported)))
        return
    again = f" It is failed run {len(failed) + 1} in a row." if failed else ""
    tell(context.log, f"{_subject(run)} failed", f"{_cause(context)[:LONGEST]}{again} Run {run.run_id}.")
    context.instance.add_run_tags(run.run_id, {ALERTED_TAG: clock.iso(clock.now())})


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.SUCCESS,
    default_status=SENSORS,
    minimum_interval_seconds=15,
    description="Tells once that an account, or a job without one, has recovered from failed runs.",
)
def run_recovery_alert(context: dg.RunStatusSensorContext) -> None:
    """Tell of a successful run if runs before it failed and nobody has been alerted that this is over."""
    run = context.dagster_run
    if PROCESS_TAG in run.tags:
        return
    earlier = _earlier_runs(context.instance, run)
    last = next(filter(_failed, islice(earlier, PAGE)), None)
    if last is None or RECOVERED_TAG in last.tags:
        return
    failed = 1 + sum(1 for _ in takewhile(_failed, earlier))
    tell(context.log, f"{_subject(run)} recovered", f"after {failed} failed run{'s'[: failed > 1]}. Run {run.run_id}.")
    context.instance.add_run_tags(last.run_id, {RECOVERED_TAG: clock.iso(clock.now())})


def _subject(run: dg.DagsterRun) -> str:
    named = run.tags.get(PARTITION_TAG) or run.tags.get(ACCOUNT_TAG)
    return f"{run.job_name} {named}" if named else run.job_name


def _cause(context: dg.RunFailureSensorContext) -> str:
    """Cause and remedy in one line, in the words of the first failed step, or of the run that none of them ended."""
    steps = context.get_step_failure_events()
    return first_failure(steps) if steps else (context.failure_event.message or "the run failed").splitlines()[0]


def _failed(run: dg.DagsterRun) -> bool:
    return run.status is dg.DagsterRunStatus.FAILURE


def _earlier_runs(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Iterator[dg.DagsterRun]:
    """The ended runs of its account, or else of its job, that were created before a run, newest first."""
    ended = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
    account_id = run.tags.get(ACCOUNT_TAG)
    filters = (
        dg.RunsFilter(statuses=ended, tags={ACCOUNT_TAG: account_id})
        if account_id
        else dg.RunsFilter(statuses=ended, job_name=run.job_name)
    )
    cursor = run.run_id
    while page := instance.get_runs(filters, cursor=cursor, limit=PAGE):
        yield from (earlier for earlier in page if PROCESS_TAG not in earlier.tags)
        cursor = page[-1].run_id
