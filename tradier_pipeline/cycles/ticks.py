"""Which cycles are due at a minute. Pure: an instant, the session of its day and the cadence, nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, timedelta

from tradier_pipeline.clock import NEW_YORK
from tradier_pipeline.market_calendar import Session

CYCLES = ("monitor_cycle", "trade_cycle", "account_sync")
WIDEST_FIRST = ("trade_cycle", "monitor_cycle", "account_sync")

# New York wall clock; XNYS sessions lie between 09:30 and 16:00
SYNC_FROM = time(7)
SYNC_UNTIL = time(20)
SYNC_BEFORE_OPEN = time(8)
SYNC_AFTER_CLOSE = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Cadence:
    """Minutes between two ticks of each cycle; 0 switches it off."""

    monitor: int
    trade: int
    sync: int


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
        _during(instant, session, cadence.monitor),
        _during(instant, session, cadence.trade),
        _around(instant, session, cadence.sync),
    )
    return tuple(cycle for cycle, ticks in zip(CYCLES, ticking, strict=True) if ticks)


def widest(cycles: tuple[str, ...]) -> str:
    """The cycle whose run does the work of all of them."""
    return min(cycles, key=WIDEST_FIRST.index)


def _during(instant: datetime, session: Session, minutes: int) -> bool:
    """Every so many minutes of the session, counted from the open."""
    return minutes > 0 and instant in session and _whole(instant - session.open, minutes)


def _around(instant: datetime, session: Session, minutes: int) -> bool:
    """Every so many minutes outside the session, before the open and once when the close has settled."""
    local = instant.astimezone(NEW_YORK)
    if minutes == 0 or instant in session or not SYNC_FROM <= local.time() <= SYNC_UNTIL:
        return False
    since = local - datetime.combine(local.date(), SYNC_FROM, NEW_YORK)
    return _whole(since, minutes) or local.time() == SYNC_BEFORE_OPEN or instant == session.close + SYNC_AFTER_CLOSE


def _whole(since: timedelta, minutes: int) -> bool:
    return since % timedelta(minutes=minutes) == timedelta()
