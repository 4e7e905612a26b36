"""The sessions of the exchange: holidays and early closes of XNYS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache

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


def session_of(day: date) -> Session | None:
    """The session of a New York date; None on weekends and holidays."""
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
