"""The sessions by which the cycles tick: those of XNYS with holidays and early closes, or every day whole.

<home>/calendar/XNYS-2026.json                 the library's sessions of a year: loading the library takes a second
<home>/calendar/<environment>/2026-11.json     the broker's calendar of a month, as received; it wins for its days
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Self

from pydantic import AwareDatetime, BaseModel, ValidationError

from tradier_pipeline.broker.decode import parse_hours
from tradier_pipeline.broker.errors import BodyError
from tradier_pipeline.clock import NEW_YORK
from tradier_pipeline.core.files import FileError, write_whole
from tradier_pipeline.core.settings import Calendar, Settings

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
    """The sessions of a calendar.

    Attributes:
        close_extension: how long some options trade on after the close.
        directory: where sessions are kept; None computes them.
        environment: whose broker's calendar wins for the days it tells; None for nobody's.
    """

    calendar: Calendar
    close_extension: timedelta = timedelta()
    directory: Path | None = None
    environment: str | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The configured one."""
        extension = timedelta(minutes=settings.close_extension_minutes)
        return cls(settings.calendar, extension, settings.calendar_files, settings.environment)

    def of_exchange(self) -> MarketCalendar:
        """The exchange's own, also where the cycles rehearse round the clock."""
        return replace(self, calendar="XNYS")

    def session_of(self, day: date) -> Session | None:
        """The session of a New York date; None if there is none."""
        if self.calendar == "24/7":
            midnight, next_midnight = (
                datetime.combine(on, time(), NEW_YORK).astimezone(UTC) for on in (day, day + timedelta(days=1))
            )
            return Session(day, midnight, next_midnight)
        reported = self.reported_by_broker(day)
        session = reported[day] if day in reported else self.known_session(day)
        return session and Session(day, session.open, session.close + self.close_extension)

    def last_session(self, instant: datetime) -> Session:
        """The session that is on at an instant, or else the last one before it."""
        day = instant.astimezone(NEW_YORK).date()
        while (session := self.session_of(day)) is None or session.open > instant:
            day -= timedelta(days=1)
        return session

    def known_session(self, day: date) -> Session | None:
        """The session as the library knows it, whatever the broker says."""
        if self.directory is None or day.weekday() >= SATURDAY:
            return session_of(day)
        return _kept_sessions(self.directory, day.year).get(day)

    def broker_file(self, day: date) -> Path | None:
        """Where the broker's calendar of the day's month is kept."""
        if self.directory is None or self.environment is None:
            return None
        return self.directory / self.environment / f"{day:%Y-%m}.json"

    def reported_by_broker(self, day: date) -> Mapping[date, Session | None]:
        """The days of the month that the broker's calendar tells; none if it has not been read, or is damaged."""
        path = self.broker_file(day)
        with suppress(OSError, BodyError):
            return _reported_sessions(path, day.replace(day=1), path.stat().st_mtime_ns) if path else {}
        return {}


@lru_cache(maxsize=16)
def _reported_sessions(path: Path, month: date, changed: int) -> Mapping[date, Session | None]:
    """The days of a file, parsed again when it has changed."""
    hours = parse_hours(path.read_bytes(), month)
    return {day: times and Session(day, *times) for day, times in hours.items()}


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


class _KeptSessions(BaseModel):
    """The sessions of a year and the version of the library that knew them."""

    library: str
    sessions: dict[date, tuple[AwareDatetime, AwareDatetime]]


@cache
def _kept_sessions(directory: Path, year: int) -> Mapping[date, Session]:
    """The sessions of a year from its file, which is made anew if it is damaged or another version's."""
    path = directory / f"XNYS-{year}.json"
    library = f"exchange_calendars {version('exchange_calendars')}"
    with suppress(OSError, ValidationError):
        kept = _KeptSessions.model_validate_json(path.read_bytes())
        if kept.library == library:
            return {
                day: Session(day, opens.astimezone(UTC), closes.astimezone(UTC))
                for day, (opens, closes) in kept.sessions.items()
            }
    sessions = _sessions(year)
    with suppress(FileError):  # a home that cannot be written: the next process computes them again
        kept = _KeptSessions(library=library, sessions={day: (of.open, of.close) for day, of in sessions.items()})
        write_whole(path, kept.model_dump_json(indent=1).encode())
    return sessions
