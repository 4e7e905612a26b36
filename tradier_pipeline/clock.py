"""Instants and market dates: the one place that knows the exchange's time zone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

NEW_YORK = ZoneInfo("America/New_York")
MAX_SKEW = timedelta(seconds=60)  # of this machine's clock against the broker's; from there on its instants are wrong
MAX_DRIFT = timedelta(hours=6)  # what is further off is no drift: a time that was set, or an answer of another day
MAX_OFFSET, OFFSET_STEP = timedelta(hours=14), timedelta(minutes=15)  # of zones: one set wrong is off by these


def now() -> datetime:
    """The current instant in UTC."""
    return datetime.now(UTC)


@contextmanager
def standing_at(instant: datetime) -> Iterator[None]:
    """Let the clock say an instant for a while: what is told as it was known then has no other now."""
    global now  # the one clock
    before, now = now, lambda: instant
    try:
        yield
    finally:
        now = before


def is_wrong(skew: timedelta) -> bool:
    """Whether instants of a clock that is so far off the broker's are not to be compared with those of others."""
    off = abs(skew)
    by_zone = off <= MAX_OFFSET + MAX_SKEW and min(off % OFFSET_STEP, -off % OFFSET_STEP) < MAX_SKEW
    return off >= MAX_SKEW and (off <= MAX_DRIFT or by_zone)


def trade_date(instant: datetime) -> date:
    """The America/New_York calendar date of an instant: the broker's business date."""
    return instant.astimezone(NEW_YORK).date()


def iso(instant: datetime) -> str:
    """`2026-11-20T14:31:00Z`, with as many fractional digits as the instant has (none, milli or micro)."""
    utc = instant.astimezone(UTC).replace(tzinfo=None)
    spec = "seconds" if not utc.microsecond else "milliseconds" if utc.microsecond % 1000 == 0 else "microseconds"
    return utc.isoformat(timespec=spec) + "Z"
