"""What is done once a day: the broker's calendar before the first cycle, the summary after the close, and in the
morning what the broker posted the next morning.
"""

from datetime import timedelta

import dagster as dg

from tradier_pipeline import clock
from tradier_pipeline.assets.resource import as_dagster_failure
from tradier_pipeline.core.settings import Settings, load_settings
from tradier_pipeline.cycles.defaults import SCHEDULES
from tradier_pipeline.domain.calendar import MarketCalendar
from tradier_pipeline.instance.partitions import PARTITION_TAG
from tradier_pipeline.instance.runs import UNFINISHED

ACTIVITY_TRIES = 6  # in an hour; what is missed then comes with the next day


@dg.schedule(
    name="daily_summary",
    job_name="daily_summary",
    cron_schedule="*/5 13-23 * * 1-5",
    execution_timezone=str(clock.NEW_YORK),
    default_status=SCHEDULES,
    description="Once on every session day, TRADIER_SUMMARY_AFTER_CLOSE_MINUTES after the close or as soon as possible "
    "on that day.",
)
def daily_summary_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """A run for the day's partition when the session has been over for long enough and none has been asked for."""
    with as_dagster_failure():
        settings = load_settings()
        instant = context.scheduled_execution_time
        day = clock.trade_date(instant)
        session = MarketCalendar.of(settings).session_of(day)
    if session is None:
        return dg.SkipReason(f"the exchange is closed on {day}")
    due = session.close + timedelta(minutes=settings.summary_after_close_minutes)
    if instant < due:
        return dg.SkipReason(f"due at {due.astimezone(clock.NEW_YORK):%H:%M} New York time")
    asked = dg.RunsFilter(job_name="daily_summary", tags={PARTITION_TAG: str(day)})
    if context.instance.get_runs(asked, limit=1):
        return dg.SkipReason(f"{day} has a run already")
    return dg.RunRequest(run_key=str(day), partition_key=str(day))


@dg.schedule(
    name="account_activity",
    job_name="account_activity",
    cron_schedule=["10-50/10 7 * * *", "*/10 8-12 * * *"],
    execution_timezone=str(clock.NEW_YORK),
    default_status=SCHEDULES,
    description="Once after every session day, at 07:10 the next morning or as soon as possible. A run that failed is "
    "tried again, six times at most.",
)
def account_activity_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """A run for the last session day that is over, unless one is on, has succeeded, or too many have failed."""
    with as_dagster_failure():
        calendar = MarketCalendar.of(load_settings())
        day = clock.trade_date(context.scheduled_execution_time) - timedelta(days=1)
        while calendar.session_of(day) is None:
            day -= timedelta(days=1)
    asked = dg.RunsFilter(job_name="account_activity", tags={PARTITION_TAG: str(day)})
    statuses = [run.status for run in context.instance.get_runs(asked)]
    if dg.DagsterRunStatus.SUCCESS in statuses:
        return dg.SkipReason(f"{day} has been read")
    if any(status in UNFINISHED for status in statuses):
        return dg.SkipReason(f"{day} is being read")
    if len(statuses) >= ACTIVITY_TRIES:
        return dg.SkipReason(f"{day} has failed {len(statuses)} times; the next day reads it, too")
    return dg.RunRequest(run_key=f"{day}/{len(statuses) + 1}", partition_key=str(day))


def build_daily_schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """For the calendar 24/7 what the broker posted the next morning only: it has no sessions to compare, and no close."""
    if settings.calendar == "24/7":
        return [account_activity_schedule]
    exchange_calendar = dg.ScheduleDefinition(
        name="exchange_calendar",
        job_name="exchange_calendar",
        cron_schedule="0 6 * * *",
        execution_timezone=str(clock.NEW_YORK),
        default_status=SCHEDULES,
        description="Every day at 06:00, before the first cycle.",
    )
    return [exchange_calendar, daily_summary_schedule, account_activity_schedule]
