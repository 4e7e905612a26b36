"""Which cycles are due at a minute. Pure: an instant, the session of its day and the cadence, nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Self

from tradier_pipeline.clock import NEW_YORK, trade_date
from tradier_pipeline.core.settings import Settings
from tradier_pipeline.core.snapshot_id import MAX_LATENESS
from tradier_pipeline.domain.calendar import MarketCalendar, Session

CYCLES = ("monitor_cycle", "trade_cycle", "account_sync")
WIDEST_FIRST = ("trade_cycle", "monitor_cycle", "account_sync")
MINUTE = timedelta(minutes=1)
USUAL_OPEN = time(9, 30)  # New York time
LATE_AFTER = 2  # due minutes without a snapshot
LONGEST_LOOK = timedelta(days=7)  # holds two due minutes of every cycle that is switched on


@dataclass(frozen=True, slots=True)
class Cadence:
    """Minutes between two ticks of each cycle, 0 switches it off; New York times and minutes of the account sync.

    `counted_from` is the New York time from which the minutes of monitor and trade cycle are counted: the usual open,
    also on a day that opens at another time, for the cron strings of the schedules know no days.
    """

    monitor: int
    trade: int
    sync: int
    sync_from: time = time(7)
    sync_until: time = time(20)
    sync_before_open: time = time(8)
    sync_after_close: timedelta = timedelta(minutes=15)
    counted_from: time = USUAL_OPEN

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The configured one."""
        return cls(
            monitor=settings.monitor_minutes,
            trade=settings.trade_minutes,
            sync=settings.sync_minutes,
            sync_from=settings.sync_from,
            sync_until=settings.sync_until,
            sync_before_open=settings.sync_before_open,
            sync_after_close=timedelta(minutes=settings.sync_after_close_minutes),
            counted_from=time() if settings.calendar == "24/7" else USUAL_OPEN,
        )


def due(instant: datetime, session: Session | None, cadence: Cadence) -> tuple[str, ...]:
    """The cycles that are due at a whole minute, in the order of `CYCLES`.

    Args:
        instant: aware, of any zone, on a whole minute.
        session: the session of the instant's New York date; None when there is none.
        cadence: minutes between two ticks.
    """
    if session is None:
        return ()
    ticking = (
        _during(instant, session, cadence.monitor, cadence.counted_from),
        _during(instant, session, cadence.trade, cadence.counted_from),
        _around(instant, session, cadence),
    )
    return tuple(cycle for cycle, ticks in zip(CYCLES, ticking, strict=True) if ticks)


def widest(cycles: tuple[str, ...]) -> str:
    """The cycle whose run does the work of all of them."""
    return min(cycles, key=WIDEST_FIRST.index)


def is_late(cycle: str, last_beat: datetime, now: datetime, calendar: MarketCalendar, cadence: Cadence) -> bool:
    """Whether a cycle was due twice since its last published snapshot. Outside its own window it is never due.

    Args:
        last_beat: the as-of of that snapshot.
        now: the current instant; a minute is given to the run of the newest due one.
    """
    earliest, due_since = max(last_beat, now - LONGEST_LOOK), 0
    minute = (now - MAX_LATENESS).replace(second=0, microsecond=0)
    while minute > earliest and due_since < LATE_AFTER:
        due_since += cycle in due(minute, calendar.session_of(trade_date(minute)), cadence)
        minute -= MINUTE
    return due_since >= LATE_AFTER


def _during(instant: datetime, session: Session, minutes: int, counted_from: time) -> bool:
    """Every so many minutes of the session."""
    return minutes > 0 and instant in session and _whole(_since(instant, counted_from), minutes)


def _around(instant: datetime, session: Session, cadence: Cadence) -> bool:
    """Every so many minutes outside the session, before the open and once when the close has settled."""
    local = instant.astimezone(NEW_YORK)
    if cadence.sync == 0 or instant in session or not cadence.sync_from <= local.time() <= cadence.sync_until:
        return False
    return (
        _whole(_since(instant, cadence.sync_from), cadence.sync)
        or local.time() == cadence.sync_before_open
        or instant == session.close + cadence.sync_after_close
    )


def _since(instant: datetime, at: time) -> timedelta:
    """From a New York time of the instant's day until the instant, by the clock on the wall."""
    local = instant.astimezone(NEW_YORK)
    return local - datetime.combine(local.date(), at, NEW_YORK)


def _whole(since: timedelta, minutes: int) -> bool:
    return since % timedelta(minutes=minutes) == timedelta()
