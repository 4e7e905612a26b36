"""Which cycles are due at which minute, on the days where the old system was wrong."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, time, timedelta

import pytest

from tradier_pipeline.clock import NEW_YORK
from tradier_pipeline.domain.calendar import MarketCalendar, session_of
from tradier_pipeline.domain.ticks import CYCLES, Cadence, due, is_late, widest

DEFAULT = Cadence(monitor=1, trade=15, sync=30)
FULL_DAY_SYNCS = [
    *("07:00", "07:30", "08:00", "08:30", "09:00", "16:00", "16:15", "16:30", "17:00"),
    *("17:30", "18:00", "18:30", "19:00", "19:30", "20:00"),
]
HALF_DAY_SYNCS = [
    *("07:00", "07:30", "08:00", "08:30", "09:00", "13:00", "13:15", "13:30", "14:00", "14:30", "15:00"),
    *("15:30", "16:00", "16:30", "17:00", "17:30", "18:00", "18:30", "19:00", "19:30", "20:00"),
]


def minutes_of(day: date) -> list[datetime]:
    """Every minute of a New York day, in UTC: 1380 or 1500 of them where the clocks change."""
    start = datetime.combine(day, time(), NEW_YORK).astimezone(UTC)
    end = datetime.combine(day + timedelta(days=1), time(), NEW_YORK).astimezone(UTC)
    return [start + timedelta(minutes=n) for n in range(int((end - start) / timedelta(minutes=1)))]


def ticks(day: str, cadence: Cadence = DEFAULT) -> dict[str, list[str]]:
    """Cycle -> the New York times at which it is due."""
    found: dict[str, list[str]] = {cycle: [] for cycle in CYCLES}
    session = session_of(date.fromisoformat(day))
    for instant in minutes_of(date.fromisoformat(day)):
        for cycle in due(instant, session, cadence):
            found[cycle].append(f"{instant.astimezone(NEW_YORK):%H:%M}")
    return found


@pytest.mark.parametrize(
    "day",
    ["2025-06-04", "2025-03-07", "2025-03-10", "2025-10-31", "2025-11-03", "2025-11-06", "2026-11-20"],
)
def test_a_full_session_has_every_minute_every_quarter_and_the_syncs_around_it(day: str) -> None:
    found = ticks(day)
    monitor, trade = found["monitor_cycle"], found["trade_cycle"]
    assert (len(monitor), monitor[0], monitor[-1]) == (390, "09:30", "15:59")
    assert {f"{hour}:00" for hour in range(10, 16)} <= set(monitor)
    assert (len(trade), trade[0], trade[1], trade[-1]) == (26, "09:30", "09:45", "15:45")
    assert set(trade) <= set(monitor)
    assert found["account_sync"] == FULL_DAY_SYNCS


@pytest.mark.parametrize("day", ["2025-11-28", "2025-07-03", "2025-12-24"])
def test_a_half_day_ends_at_one_and_is_synced_a_quarter_later(day: str) -> None:
    found = ticks(day)
    assert (len(found["monitor_cycle"]), found["monitor_cycle"][-1]) == (210, "12:59")
    assert (len(found["trade_cycle"]), found["trade_cycle"][-1]) == (14, "12:45")
    assert found["account_sync"] == HALF_DAY_SYNCS


@pytest.mark.parametrize(
    "day",
    ["2025-11-27", "2025-12-25", "2025-04-18", "2025-11-23", "2025-11-22", "2025-03-09", "2025-11-02"],
    ids=["Thanksgiving", "Christmas", "Good Friday", "Sunday", "Saturday", "clocks forward", "clocks back"],
)
def test_nothing_is_due_when_the_exchange_is_closed(day: str) -> None:
    assert ticks(day) == {cycle: [] for cycle in CYCLES}


@pytest.mark.parametrize(
    ("instant", "cycles"),
    [
        ("2025-11-03T13:59:00Z", ()),
        ("2025-11-03T14:29:00Z", ()),
        ("2025-11-03T14:30:00Z", ("monitor_cycle", "trade_cycle")),  # the old system opened an hour early
        ("2025-11-03T14:31:00Z", ("monitor_cycle",)),
        ("2025-11-03T15:00:00Z", ("monitor_cycle", "trade_cycle")),
        ("2025-11-03T20:59:00Z", ("monitor_cycle",)),
        ("2025-11-03T21:00:00Z", ("account_sync",)),
        ("2025-11-03T21:15:00Z", ("account_sync",)),
        ("2025-11-04T01:00:00Z", ("account_sync",)),  # 20:00 of the 3rd
        ("2025-11-04T01:30:00Z", ()),
    ],
)
def test_a_minute_has_these_cycles(instant: str, cycles: tuple[str, ...]) -> None:
    assert due(datetime.fromisoformat(instant), session_of(date(2025, 11, 3)), DEFAULT) == cycles


def test_zero_switches_one_cycle_off_and_leaves_the_others() -> None:
    usual = ticks("2025-06-04")
    for field, cycle in (("monitor", "monitor_cycle"), ("trade", "trade_cycle"), ("sync", "account_sync")):
        minutes = {"monitor": 1, "trade": 15, "sync": 30, field: 0}
        assert ticks("2025-06-04", Cadence(**minutes)) == {**usual, cycle: []}


def test_other_cadences_count_from_the_open_and_keep_the_fixed_syncs() -> None:
    found = ticks("2025-06-04", Cadence(monitor=2, trade=60, sync=120))
    assert Counter(clock[-1] in "02468" for clock in found["monitor_cycle"]) == {True: 195}
    assert found["trade_cycle"] == ["09:30", "10:30", "11:30", "12:30", "13:30", "14:30", "15:30"]
    assert found["account_sync"] == ["07:00", "08:00", "09:00", "16:15", "17:00", "19:00"]


def test_the_trade_cycle_does_the_work_of_the_monitor() -> None:
    assert widest(("monitor_cycle", "trade_cycle")) == "trade_cycle"
    assert widest(("monitor_cycle", "account_sync")) == "monitor_cycle"
    assert widest(("account_sync",)) == "account_sync"


def test_the_windows_of_the_account_sync_are_settings() -> None:
    cadence = Cadence(0, 0, 60, sync_from=time(6, 30), sync_until=time(17), sync_before_open=time(9, 15))
    assert ticks("2025-06-04", cadence)["account_sync"] == [
        *("06:30", "07:30", "08:30", "09:15", "16:15", "16:30"),
    ]
    late = Cadence(0, 0, 390, sync_after_close=timedelta(minutes=45))
    assert ticks("2025-06-04", late)["account_sync"] == ["07:00", "08:00", "16:45", "20:00"]


XNYS = MarketCalendar("XNYS")


def new_york(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=NEW_YORK).astimezone(UTC)


@pytest.mark.parametrize(
    ("cycle", "last_beat", "now", "late"),
    [
        ("monitor_cycle", "2025-11-20 10:00:02", "2025-11-20 10:02:59", False),  # 10:02 still has its minute
        ("monitor_cycle", "2025-11-20 10:00:02", "2025-11-20 10:03:00", True),
        ("trade_cycle", "2025-11-20 10:00:02", "2025-11-20 10:30:59", False),
        ("trade_cycle", "2025-11-20 10:00:02", "2025-11-20 10:31:00", True),
        ("monitor_cycle", "2025-11-20 15:59:02", "2025-11-21 09:31:59", False),  # the night is not its window
        ("monitor_cycle", "2025-11-20 15:59:02", "2025-11-21 09:32:00", True),
        ("trade_cycle", "2025-11-26 15:45:02", "2025-11-28 09:40", False),  # Thanksgiving
        ("account_sync", "2025-11-20 09:00:02", "2025-11-20 16:14", False),  # the session is not its window
        ("account_sync", "2025-11-20 09:00:02", "2025-11-20 16:16", True),
        ("monitor_cycle", "2024-11-20 10:00:02", "2025-11-20 10:00", True),
    ],
)
def test_a_cycle_is_late_once_it_was_due_twice_since_its_last_beat(
    cycle: str, last_beat: str, now: str, late: bool
) -> None:
    assert is_late(cycle, new_york(last_beat), new_york(now), XNYS, DEFAULT) == late


def test_a_cycle_that_is_switched_off_is_never_late() -> None:
    off = Cadence(monitor=0, trade=15, sync=30)
    assert not is_late("monitor_cycle", new_york("2025-11-19 10:00"), new_york("2025-11-20 15:00"), XNYS, off)
