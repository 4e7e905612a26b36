"""What is done once a day: the broker's calendar before the first cycle."""

import dagster as dg

from tradier_pipeline import clock
from tradier_pipeline.settings import Settings


def build_daily_schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """None for the calendar 24/7: it has no sessions to compare."""
    if settings.calendar == "24/7":
        return []
    return [
        dg.ScheduleDefinition(
            name="exchange_calendar",
            job_name="exchange_calendar",
            cron_schedule="0 6 * * *",
            execution_timezone=str(clock.NEW_YORK),
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description="Every day at 06:00, before the first cycle.",
        )
    ]
