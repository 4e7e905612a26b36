"""The sessions by which the cycles tick: those of XNYS with holidays and early closes, or every day whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Self

from tradier_pipeline.clock import NEW_YORK
from tradier_pipeline.settings import Calendar, Settings

SATURDAY = 5


@dataclass(frozen=True, slots=True)
class Session:
    """One trading session: its New York date and the instants, in UTC, between which the exchange is open."""

    date: date
    open: datetime
    close: datetime

    def __contains__(self, instant: datetime) -> bool:
        """Whether the exchange is open at the instant: the first minute belongs to the session, the close does not."""
        return self.open <= instant < self.close


@dataclass(frozen=True, slots=True)
class MarketCalendar:
    """The sessions of a calendar; `close_extension` is how long some options trade on after the close."""

    calendar: Calendar
    close_extension: timedelta = timedelta()

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The configured one."""
        return cls(settings.calendar, timedelta(minutes=settings.close_extension_minutes))

    def session_of(self, day: date) -> Session | None:
        """The session of a New York date; None if there is none."""
        if self.calendar == "24/7":
            midnight, next_midnight = (
                datetime.combine(on, time(), NEW_YORK).astimezone(UTC) for on in (day, day + timedelta(days=1))
            )
            return Session(day, midnight, next_midnight)
        session = session_of(day)
        return session and Session(day, session.open, session.close + self.close_extension)


def session_of(day: date) -> Session | None:
    """The session of XNYS on a New York date; None on weekends and holidays."""
    if day.weekday() >= SATURDAY:
        return None
    return _sessions(day.year).get(day)


@cache
def _sessions(year: int) -> Mapping[date, Session]:
    """The sessions of a year. A year at a time: by default the library ends a year after the process has started."""
    from exchange_calendars import get_calendar  # takes a second to import, and most processes never need it

    calendar = get_calendar("XNYS", start=f"{year}-01-01", end=f"{year}-12-31")
    return {
        day.date(): Session(day.date(), opened.to_pydatetime().astimezone(UTC), closed.to_pydatetime().astimezone(UTC))
        for day, opened, closed in zip(calendar.sessions, calendar.opens, calendar.closes, strict=True)
    }
