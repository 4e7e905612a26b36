"""The cron strings of the cycles: the New York times at which one can be due by its settings, and no others.

Cron knows no half days: a time at which a cycle is due only after an early close ticks on every day and then skips.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import cache

from tradier_pipeline.clock import NEW_YORK
from tradier_pipeline.core.settings import Settings
from tradier_pipeline.domain.calendar import MarketCalendar, Session
from tradier_pipeline.domain.ticks import CYCLES, MINUTE, USUAL_OPEN, Cadence, due

USUAL_CLOSE, EARLY_CLOSE = time(16), time(13)
DAY = date(2025, 6, 4)  # any on which the clocks do not change
MINUTES, HOURS = 60, 24


def cron_schedules(settings: Settings) -> Mapping[str, Sequence[str]]:
    """Cycle -> its cron strings on New York time; none for a cycle that is never due."""
    found = _due_times(tuple(_sessions(settings)), Cadence.of(settings))
    days = "*" if settings.calendar == "24/7" else "1-5"
    return {cycle: _crons(times, days) for cycle, times in found.items()}


@cache
def _due_times(sessions: Sequence[Session], cadence: Cadence) -> Mapping[str, frozenset[time]]:
    """Cycle -> the New York times at which it is due on a day of one of the sessions."""
    found: dict[str, set[time]] = {cycle: set() for cycle in CYCLES}
    midnight = datetime.combine(DAY, time(), NEW_YORK)
    for session in sessions:
        for number in range(HOURS * MINUTES):
            instant = midnight + number * MINUTE  # the clocks do not change on that day
            for cycle in due(instant, session, cadence):
                found[cycle].add(instant.time())
    return {cycle: frozenset(times) for cycle, times in found.items()}


def _sessions(settings: Settings) -> Sequence[Session]:
    """A day of every kind."""
    if settings.calendar == "24/7":
        return [session] if (session := MarketCalendar("24/7").session_of(DAY)) else []
    extension = timedelta(minutes=settings.close_extension_minutes)
    opened, *closes = (
        datetime.combine(DAY, at, NEW_YORK).astimezone(UTC) for at in (USUAL_OPEN, USUAL_CLOSE, EARLY_CLOSE)
    )
    return [Session(DAY, opened, close + extension) for close in closes]


def _crons(times: Iterable[time], days: str) -> list[str]:
    """Hours that tick at the same minutes share a string."""
    of_hours: dict[int, set[int]] = {}
    for at in times:
        of_hours.setdefault(at.hour, set()).add(at.minute)
    hours_of: dict[tuple[int, ...], list[int]] = {}
    for hour, minutes in sorted(of_hours.items()):
        hours_of.setdefault(tuple(sorted(minutes)), []).append(hour)
    return [f"{_field(minutes, MINUTES)} {_field(hours, HOURS)} * * {days}" for minutes, hours in hours_of.items()]


def _field(numbers: Sequence[int], size: int) -> str:
    """A field of a cron string, as short as people write it."""
    if len(numbers) == size:
        return "*"
    if len(numbers) > 1 and list(numbers) == list(range(0, size, numbers[1])):
        return f"*/{numbers[1]}"
    starts = [number for number in numbers if number - 1 not in numbers]
    ends = [number for number in numbers if number + 1 not in numbers]
    return ",".join(str(start) if start == end else f"{start}-{end}" for start, end in zip(starts, ends, strict=True))
