"""Whether the history is up to date, by the sessions of the exchange: nights and holidays make nothing stale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path

from tradier_pipeline.clock import iso
from tradier_pipeline.core.settings import Settings
from tradier_pipeline.domain.calendar import MarketCalendar, Session
from tradier_pipeline.warehouse.reads import connect_readonly, newest_as_of

FORGOTTEN = timedelta(days=4)  # with TRADIER_ACCOUNT_ID=all: an account without a snapshot for so long was closed


@dataclass(frozen=True, slots=True)
class Freshness:
    """How old the newest published snapshot of each account is, judged at `at`: now, or when the last session ended.

    `newest` is None for an account without any; `stale` are the accounts whose snapshot is older than `limit`.
    """

    at: datetime
    limit: timedelta
    newest: Mapping[str, datetime | None]
    stale: tuple[str, ...]

    def __str__(self) -> str:
        return "; ".join(self.described(account_id) for account_id in self.stale or self.newest) or "no account"

    def described(self, account_id: str) -> str:
        """The newest snapshot of an account, in a line."""
        as_of = self.newest[account_id]
        if as_of is None:
            return f"{account_id} has no snapshot"
        age = f"{max(self.at - as_of, timedelta()).total_seconds():.0f} s old at {iso(self.at.replace(microsecond=0))}"
        return f"{account_id} is of {iso(as_of)}, {age}"


def read_freshness(settings: Settings, now: datetime, watched_since: datetime | None = None) -> Freshness:
    """Judge the published warehouse.

    Args:
        watched_since: nobody could have taken a snapshot before: the machine was off. None judges the whole session.

    Raises:
        WarehouseError: it cannot be opened.
    """
    published: Mapping[str, datetime] = {}
    if settings.warehouse.exists():
        published = _published(settings.warehouse, settings.warehouse.stat().st_mtime_ns)
    accounts = settings.accounts or [name for name, as_of in published.items() if now - as_of < FORGOTTEN]
    return judge_freshness(
        now,
        MarketCalendar.of(settings).last_session(now),
        {account_id: published.get(account_id) for account_id in accounts},
        allowed_age(settings),
        watched_since,
    )


@lru_cache(maxsize=1)
def _published(path: Path, changed: int) -> Mapping[str, datetime]:
    """Read again when another file has been published: opening it takes longer than all the rest."""
    with connect_readonly(path) as connection:
        return newest_as_of(connection)


def judge_freshness(
    now: datetime,
    session: Session,
    newest: Mapping[str, datetime | None],
    limit: timedelta | None,
    watched_since: datetime | None = None,
) -> Freshness:
    """Which accounts are stale: their newest snapshot, and the open, were longer ago than the limit allows.

    Args:
        session: the one that is on, or the last one: after its close nothing ages.
        limit: None judges nothing.
    """
    at = min(now, session.close)
    since = max(session.open, watched_since or session.open)
    stale = tuple(
        account_id
        for account_id, as_of in newest.items()
        if limit is not None and at - max(as_of or since, since) > limit
    )
    return Freshness(at, limit or timedelta(), newest, stale)


def allowed_age(settings: Settings) -> timedelta | None:
    """TRADIER_MAX_AGE_SECONDS, and what the fastest cycle of the session waits longer than a minute; None without."""
    minutes = [minutes for minutes in (settings.monitor_minutes, settings.trade_minutes) if minutes]
    return timedelta(minutes=min(minutes) - 1, seconds=settings.max_age_seconds) if minutes else None
