"""What is done once a day: the broker's calendar before the first cycle, the summary after the close."""

from datetime import timedelta

import dagster as dg

from tradier_pipeline import clock
from tradier_pipeline.assets.partitions import PARTITION_TAG
from tradier_pipeline.assets.resource import told_in_one_line
from tradier_pipeline.market_calendar import MarketCalendar
from tradier_pipeline.settings import Settings, load_settings


@dg.schedule(
    name="daily_summary",
    job_name="daily_summary",
    cron_schedule="*/5 9-23 * * 1-5",
    execution_timezone=str(clock.NEW_YORK),
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Once on every session day, TRADIER_SUMMARY_AFTER_CLOSE_MINUTES after the close or as soon as possible "
    "on that day.",
)
def daily_summary_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """A run for the day's partition when the session has been over for long enough and none has been asked for."""
    with told_in_one_line():
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


def build_daily_schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """None for the calendar 24/7: it has no sessions to compare, and no close."""
    if settings.calendar == "24/7":
        return []
    exchange_calendar = dg.ScheduleDefinition(
        name="exchange_calendar",
        job_name="exchange_calendar",
        cron_schedule="0 6 * * *",
        execution_timezone=str(clock.NEW_YORK),
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Every day at 06:00, before the first cycle.",
    )
    return [exchange_calendar, daily_summary_schedule]
