"""The exchange's sessions: holidays, early closes, daylight saving time."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from tradier_pipeline.clock import NEW_YORK
from tradier_pipeline.domain.calendar import MarketCalendar, Session, session_of


@pytest.mark.parametrize(
    ("day", "opens", "closes"),
    [
        ("2025-06-04", "13:30", "20:00"),
        ("2025-03-07", "14:30", "21:00"),  # the last session before summer time
        ("2025-03-10", "13:30", "20:00"),
        ("2025-10-31", "13:30", "20:00"),
        ("2025-11-03", "14:30", "21:00"),  # the first session of winter time
        ("2025-11-28", "14:30", "18:00"),  # the day after Thanksgiving
        ("2025-07-03", "13:30", "17:00"),
        ("2025-12-24", "14:30", "18:00"),
    ],
)
def test_a_session_opens_and_closes_at_these_instants(day: str, opens: str, closes: str) -> None:
    session = session_of(date.fromisoformat(day))
    assert session == Session(
        date.fromisoformat(day), datetime.fromisoformat(f"{day}T{opens}Z"), datetime.fromisoformat(f"{day}T{closes}Z")
    )
    assert (session.open.tzinfo, session.close.tzinfo) == (UTC, UTC)


@pytest.mark.parametrize(
    "day",
    ["2025-01-01", "2025-01-09", "2025-04-18", "2025-07-04", "2025-11-27", "2025-12-25", "2025-11-29", "2025-11-30"],
)
def test_there_is_no_session_on_a_holiday_or_a_weekend(day: str) -> None:
    assert session_of(date.fromisoformat(day)) is None


def test_the_open_belongs_to_the_session_and_the_close_does_not() -> None:
    session = session_of(date(2025, 6, 4))
    assert session is not None
    assert session.open in session
    assert session.open - timedelta(minutes=1) not in session
    assert session.close - timedelta(minutes=1) in session
    assert session.close not in session


def test_a_process_that_lives_for_years_still_knows_the_sessions() -> None:
    assert session_of(date(2035, 12, 25)) is None
    assert session_of(date(2035, 12, 26)) is not None


@pytest.mark.parametrize(("day", "close"), [("2025-06-04", "16:15"), ("2025-11-28", "13:15")])
def test_an_extension_moves_every_close(day: str, close: str) -> None:
    session = MarketCalendar("XNYS", timedelta(minutes=15)).session_of(date.fromisoformat(day))
    assert session is not None
    assert f"{session.close.astimezone(NEW_YORK):%H:%M}" == close
    assert MarketCalendar("XNYS", timedelta(minutes=15)).session_of(date(2025, 12, 25)) is None


@pytest.mark.parametrize(("day", "hours"), [("2026-11-22", 24), ("2025-12-25", 24), ("2025-03-09", 23)])
def test_a_rehearsal_calendar_has_every_day_from_midnight_to_midnight_new_york_time(day: str, hours: int) -> None:
    session = MarketCalendar("24/7").session_of(date.fromisoformat(day))
    assert session is not None
    assert session.close - session.open == timedelta(hours=hours)
    assert session.open.astimezone(NEW_YORK).isoformat()[:16] == f"{day}T00:00"
