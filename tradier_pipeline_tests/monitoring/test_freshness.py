"""When the history is stale: by the minutes of the session, never because of a night or a holiday."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tradier_pipeline.core.settings import DEMO_ACCOUNT, Settings
from tradier_pipeline.domain.calendar import MarketCalendar
from tradier_pipeline.monitoring.freshness import allowed_age, judge_freshness, read_freshness
from tradier_pipeline_tests.conftest import Home, Simulated, take

TWO_MINUTES = timedelta(seconds=120)
CALENDAR = MarketCalendar("XNYS")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def stale(now: str, newest: str | None, *, limit: timedelta | None = TWO_MINUTES, since: str | None = None) -> bool:
    """Whether an account is stale. Sessions: Friday 20 November 14:30-21:00 UTC, Friday the 27th until 18:00."""
    session = CALENDAR.last_session(at(now))
    found = judge_freshness(
        at(now), session, {"A": at(newest) if newest else None}, limit, at(since) if since else None
    )
    return found.stale == ("A",)


@pytest.mark.parametrize(
    ("now", "newest", "expected"),
    [
        ("2026-11-20T15:02:00", "2026-11-20T15:00:00", False),
        ("2026-11-20T15:02:01", "2026-11-20T15:00:00", True),
        ("2026-11-20T14:32:00", "2026-11-19T21:15:00", False),  # the first two minutes
        ("2026-11-20T14:32:01", "2026-11-19T21:15:00", True),
        ("2026-11-20T14:32:01", None, True),
        ("2026-11-20T14:29:00", "2026-11-19T20:59:00", False),  # before the open: yesterday was complete
        ("2026-11-20T14:29:00", "2026-11-19T20:30:00", True),
        ("2026-11-20T23:00:00", "2026-11-20T20:59:02", False),
        ("2026-11-20T23:00:00", "2026-11-20T20:57:00", True),  # the end of the session was missed
        ("2026-11-20T23:00:00", "2026-11-20T21:15:00", False),  # and what is newer makes it good
        ("2026-11-22T15:00:00", "2026-11-20T20:59:00", False),  # a Sunday
        ("2026-11-26T15:00:00", "2026-11-25T20:59:00", False),  # Thanksgiving
        ("2026-11-27T19:00:00", "2026-11-27T17:59:00", False),  # a half day
    ],
)
def test_a_snapshot_ages_only_while_the_exchange_is_open(now: str, newest: str | None, expected: bool) -> None:
    assert stale(now, newest) is expected


def test_time_when_nobody_was_watching_does_not_count() -> None:
    assert stale("2026-11-20T17:00:00", "2026-11-19T21:00:00")
    assert not stale("2026-11-20T17:00:00", "2026-11-19T21:00:00", since="2026-11-20T16:58:00")
    assert stale("2026-11-20T17:00:01", None, since="2026-11-20T16:58:00")


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        (Settings(), 120),
        (Settings(max_age_seconds=90), 90),
        (Settings(monitor_minutes=5), 360),
        (Settings(monitor_minutes=0), 960),
        (Settings(monitor_minutes=0, trade_minutes=0), None),
    ],
)
def test_the_limit_follows_the_fastest_cycle_of_the_session(settings: Settings, limit: int | None) -> None:
    assert allowed_age(settings) == (None if limit is None else timedelta(seconds=limit))


def test_without_a_cycle_in_the_session_nothing_is_stale() -> None:
    assert not stale("2026-11-20T17:00:00", None, limit=None)


def test_every_configured_account_is_judged_by_what_is_published(home: Home, simulated: Simulated) -> None:
    landed, _ = take(home, simulated.broker)
    settings = Settings(account_id=f"{DEMO_ACCOUNT},SIM00000002", calendar="24/7", pipeline_home=home.path)
    now = landed.manifest.as_of + TWO_MINUTES
    midnight = MarketCalendar("24/7").last_session(now).open
    watched = max(midnight, now - timedelta(hours=1))
    found = read_freshness(settings, now, watched)
    assert found.newest == {DEMO_ACCOUNT: landed.manifest.as_of, "SIM00000002": None}
    if now - watched > TWO_MINUTES:
        assert found.stale == ("SIM00000002",)
        assert str(found) == "SIM00000002 has no snapshot"
    everything = Settings(account_id="all", calendar="24/7", pipeline_home=home.path)
    assert list(read_freshness(everything, now).newest) == [DEMO_ACCOUNT]
    assert list(read_freshness(everything, now + timedelta(days=5)).newest) == []
