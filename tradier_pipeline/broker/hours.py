"""The hours of the exchange as the broker's calendar tells them. Pure: the bytes of an answer, nothing else."""

from __future__ import annotations

from datetime import UTC, date, datetime

from tradier_pipeline.broker.decode import parse_rows
from tradier_pipeline.broker.envelope import parse_json, rows
from tradier_pipeline.broker.errors import BodyError
from tradier_pipeline.broker.models import CalendarDay, Hours
from tradier_pipeline.clock import NEW_YORK

PATH = "calendar.days.day"


def exchange_hours(body: bytes, month: date) -> dict[date, tuple[datetime, datetime] | None]:
    """The days of a month: when the exchange opens and closes (UTC), or None if it stays closed.

    Args:
        body: an answer of `/v1/markets/calendar`.
        month: any day of the month that was asked for.

    Raises:
        BodyError: it lists no day, one twice, one of another month, or one without status or hours.
    """
    listed = parse_rows(CalendarDay, "calendar", PATH, rows("calendar", parse_json(body, "calendar")))
    days: dict[date, tuple[datetime, datetime] | None] = {}
    for index, row in enumerate(listed):
        if row.day in days or (row.day.year, row.day.month) != (month.year, month.month):
            problem = "a second time" if row.day in days else f"in the answer for {month:%Y-%m}"
            raise BodyError("calendar", f"is {row.day} {problem}", path=f"{PATH}[{index}].date")
        days[row.day] = _instants(row.day, row.open) if row.open else None
    if not days:
        raise BodyError("calendar", "is empty", path=PATH)
    return days


def _instants(day: date, hours: Hours) -> tuple[datetime, datetime]:
    opens, closes = (datetime.combine(day, at, NEW_YORK).astimezone(UTC) for at in (hours.start, hours.end))
    return opens, closes
