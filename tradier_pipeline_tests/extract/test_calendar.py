"""The broker's calendar: read strictly, kept as received, compared with the library's, and it wins."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from tradier_pipeline import clock
from tradier_pipeline.broker.decode import parse_hours
from tradier_pipeline.broker.errors import BodyError, BrokerError
from tradier_pipeline.core.settings import Settings
from tradier_pipeline.domain import calendar as market_calendar
from tradier_pipeline.domain.calendar import MarketCalendar, session_of
from tradier_pipeline.extract.calendar import DifferentDay, differing_days, read_calendar
from tradier_pipeline.instance import open_instance
from tradier_pipeline_tests.conftest import Home, Simulated
from tradier_pipeline_tests.support.dagster_runs import definitions, failure, run_job

NOVEMBER = date(2026, 11, 1)
TODAY = date(2026, 11, 20)
HALF_DAY = date(2026, 11, 27)
RAW_CALENDAR = dg.AssetKey(["raw", "calendar"])


def calendar_body(*days: Any, **more: Any) -> bytes:
    return json.dumps({"calendar": {"month": 11, "year": 2026, "days": {"day": days}, **more}}).encode()


def open_day(day: str, start: str = "09:30", end: str = "16:00") -> dict[str, Any]:
    return {"date": day, "status": "open", "description": "Market is open", "open": {"start": start, "end": end}}


def closed_day(day: str) -> dict[str, Any]:
    return {"date": day, "status": "closed", "description": "Market is closed"}


def calendar_of(home: Home) -> MarketCalendar:
    return MarketCalendar.of(Settings(pipeline_home=home.path))


def keep(home: Home, month: str, body: bytes) -> None:
    path = home.path / "calendar" / "simulator" / f"{month}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)


def test_the_hours_of_a_documented_body_are_instants() -> None:
    body = calendar_body(open_day("2026-11-02"), open_day("2026-11-27", end="13:00"), closed_day("2026-11-26"))
    assert parse_hours(body, NOVEMBER) == {
        date(2026, 11, 2): (datetime(2026, 11, 2, 14, 30, tzinfo=UTC), datetime(2026, 11, 2, 21, tzinfo=UTC)),
        date(2026, 11, 27): (datetime(2026, 11, 27, 14, 30, tzinfo=UTC), datetime(2026, 11, 27, 18, tzinfo=UTC)),
        date(2026, 11, 26): None,
    }


@pytest.mark.parametrize(
    ("day", "reported"),
    [
        ({"date": "2026-11-02", "status": "open"}, "calendar.days.day[0] is open and has no hours"),
        ({**open_day("2026-11-02"), "status": "closed"}, "calendar.days.day[0] is closed and has hours"),
        ({**open_day("2026-11-02"), "status": "early"}, "calendar.days.day[0].status should be 'open' or 'closed'"),
        ({"date": "2026-11-02"}, "calendar.days.day[0].status is missing"),
        ({"status": "closed"}, "calendar.days.day[0].date is missing"),
        (closed_day("11/02/2026"), "calendar.days.day[0].date is not an ISO 8601 date"),
        (closed_day("2026-11-31"), "calendar.days.day[0].date"),
        (closed_day("2026-10-31"), "calendar.days.day[0].date is 2026-10-31 in the answer for 2026-11"),
        (open_day("2026-11-02", start="9:30"), "calendar.days.day[0].open.start is not a time of day such as 09:30"),
        (open_day("2026-11-02", end="24:00"), "calendar.days.day[0].open.end"),
        (open_day("2026-11-02", start="16:00"), "calendar.days.day[0] closes before it opens"),
    ],
)
def test_a_malformed_day_is_an_error_that_names_it(day: dict[str, Any], reported: str) -> None:
    with pytest.raises(BodyError) as error:
        parse_hours(calendar_body(day), NOVEMBER)
    assert reported in error.value.what


@pytest.mark.parametrize(
    "body",
    [
        calendar_body(closed_day("2026-11-01"), closed_day("2026-11-01")),
        calendar_body(),
        calendar_body(days={}),
        b'{"calendar": {"month": 11, "year": 2026}}',
    ],
    ids=["twice", "no day", "empty", "no days"],
)
def test_a_calendar_without_its_days_is_an_error(body: bytes) -> None:
    with pytest.raises(BodyError):
        parse_hours(body, NOVEMBER)


def test_what_the_broker_sent_is_kept_as_received_with_when_it_was_read(home: Home, simulated: Simulated) -> None:
    before = clock.now()
    november, december = read_calendar(simulated.broker, calendar_of(home), TODAY)
    kept = home.path / "calendar" / "simulator"
    assert {path.name for path in kept.iterdir()} == {
        "2026-11.json", "2026-11.manifest.json", "2026-12.json", "2026-12.manifest.json",
    }  # fmt: skip
    assert december.query == {"month": "12", "year": "2026"}
    assert november.bytes == len((kept / "2026-11.json").read_bytes())
    record = json.loads((kept / "2026-11.manifest.json").read_bytes())
    assert before <= datetime.fromisoformat(record["started_at"]) <= clock.now()
    assert record["sha256"] == november.sha256


def test_the_simulated_broker_has_the_real_sessions(home: Home, simulated: Simulated) -> None:
    read_calendar(simulated.broker, calendar_of(home), TODAY)
    assert list(differing_days(calendar_of(home), TODAY)) == []
    reported = calendar_of(home).reported_by_broker(HALF_DAY)
    assert reported[HALF_DAY] == session_of(HALF_DAY)
    assert reported[date(2026, 11, 26)] is None


def test_the_broker_wins_on_the_days_it_tells_and_only_there(home: Home) -> None:
    keep(home, "2026-11", calendar_body(open_day("2026-11-26", end="13:00"), closed_day("2026-11-20")))
    thanksgiving = calendar_of(home).session_of(date(2026, 11, 26))
    assert thanksgiving is not None
    assert thanksgiving.close == datetime(2026, 11, 26, 18, tzinfo=UTC)
    assert calendar_of(home).session_of(date(2026, 11, 20)) is None
    assert calendar_of(home).session_of(HALF_DAY) == session_of(HALF_DAY)
    assert calendar_of(home).session_of(date(2026, 12, 1)) == session_of(date(2026, 12, 1))
    live = MarketCalendar("XNYS", directory=home.path / "calendar", environment="live")
    assert live.session_of(date(2026, 11, 26)) is None  # what a simulated broker says does not count there


def test_a_calendar_that_is_read_again_counts_at_once(home: Home) -> None:
    calendar = calendar_of(home)
    assert calendar.session_of(TODAY) is not None
    keep(home, "2026-11", calendar_body(closed_day("2026-11-20")))
    assert calendar.session_of(TODAY) is None
    keep(home, "2026-11", calendar_body(open_day("2026-11-20")) + b"\n")
    assert calendar.session_of(TODAY) == session_of(TODAY)


def test_a_damaged_file_of_the_broker_is_as_good_as_none(home: Home) -> None:
    keep(home, "2026-11", b'{"calendar": ')
    assert calendar_of(home).session_of(HALF_DAY) == session_of(HALF_DAY)


def test_a_failed_reading_changes_nothing(home: Home, simulated: Simulated) -> None:
    read_calendar(simulated.broker, calendar_of(home), TODAY)
    files = {path: path.read_bytes() for path in (home.path / "calendar").rglob("*.json")}
    for body in ('{"calendar": {"month": 11}}', calendar_body(closed_day("2026-10-01")).decode()):
        simulated.fault("/markets/calendar", "status", status=200, body=body)
        with pytest.raises(BrokerError):
            read_calendar(simulated.broker, calendar_of(home), TODAY)
        simulated.heal()
    assert {path: path.read_bytes() for path in (home.path / "calendar").rglob("*.json")} == files


def test_the_days_that_differ_are_told_with_both_hours(home: Home) -> None:
    days = [open_day(f"2026-11-{day:02}") for day in range(1, 30)]
    days[26] = open_day("2026-11-27")
    keep(home, "2026-11", calendar_body(*days))
    different = [day for day in differing_days(calendar_of(home), TODAY) if day.day > date(2026, 11, 23)]
    assert different[:5] == [
        DifferentDay(date(2026, 11, 26), "closed", "09:30-16:00"),
        DifferentDay(HALF_DAY, "09:30-13:00", "09:30-16:00"),
        DifferentDay(date(2026, 11, 28), "closed", "09:30-16:00"),
        DifferentDay(date(2026, 11, 29), "closed", "09:30-16:00"),
        DifferentDay(date(2026, 11, 30), "09:30-16:00", "not reported"),
    ]


def evaluation(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    (found,) = result.get_asset_check_evaluations()
    return found


def test_the_job_reads_the_calendar_and_finds_it_equal(home: Home, simulated: Simulated) -> None:
    with open_instance(home.path / "dagster") as instance:
        result = run_job(instance, job="exchange_calendar")
        assert result.success
        assert evaluation(result).passed
        event = instance.get_latest_materialization_event(RAW_CALENDAR)
    assert event is not None
    assert [request["path"] for request in simulated.requests()] == ["/v1/markets/calendar"] * 2


def test_a_difference_is_a_failed_check_that_blocks_nothing(home: Home, simulated: Simulated) -> None:
    month = clock.trade_date(clock.now()).replace(day=1)
    body = json.dumps({"calendar": {"days": {"day": [open_day(str(month.replace(day=day))) for day in range(1, 29)]}}})
    simulated.fault("/markets/calendar", "status", status=200, body=body, times=1)
    with open_instance(home.path / "dagster") as instance:
        result = run_job(instance, job="exchange_calendar")
    assert result.success
    found = evaluation(result)
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    days = found.metadata["days"]
    assert isinstance(days, dg.TableMetadataValue)
    saturday = next(day for day in range(1, 8) if month.replace(day=day).weekday() == 5)
    expected = {"day": str(month.replace(day=saturday)), "library": "closed", "broker": "09:30-16:00"}
    assert expected in [row.data for row in days.records]


def test_a_refused_calendar_fails_in_one_line(home: Home, simulated: Simulated) -> None:
    simulated.fault("/markets/calendar", "status", status=400, body="no")
    with open_instance(home.path / "dagster") as instance:
        assert failure(run_job(instance, job="exchange_calendar")).startswith("calendar: ")


def test_the_calendar_is_read_every_day_at_six_but_not_for_a_rehearsal(monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = definitions().get_repository_def().get_schedule_def("exchange_calendar")
    assert schedule.cron_schedule == "0 6 * * *"
    from tradier_pipeline.cycles.daily import build_daily_schedules

    rehearsed = build_daily_schedules(Settings(calendar="24/7"))
    assert [schedule.name for schedule in rehearsed] == ["account_activity"]


# --- the library's sessions, kept ---


def test_the_sessions_of_a_year_are_computed_once_and_read_from_then_on(home: Home) -> None:
    assert calendar_of(home).session_of(HALF_DAY) == session_of(HALF_DAY)
    program = (
        "import sys\n"
        "from datetime import date\n"
        "from tradier_pipeline.domain.calendar import MarketCalendar\n"
        "from tradier_pipeline.core.settings import load_settings\n"
        "calendar = MarketCalendar.of(load_settings())\n"
        "print([str(calendar.session_of(date(2026, 11, day))) for day in range(23, 30)])\n"
        "print('exchange_calendars' in sys.modules, 'pandas' in sys.modules)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    kept = [str(session_of(date(2026, 11, day))) for day in range(23, 30)]
    assert ended.stdout == f"{kept}\nFalse False\n"


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b'{"library": "exchange_calendars 0.1", "sessions": {}}', b'{"library": "exchange_calendars"}'],
    ids=["empty", "cut off", "another version's", "without sessions"],
)
def test_a_damaged_or_outdated_file_is_made_anew(home: Home, content: bytes) -> None:
    path = home.path / "calendar" / "XNYS-2026.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert calendar_of(home).session_of(HALF_DAY) == session_of(HALF_DAY)
    assert len(json.loads(path.read_bytes())["sessions"]) == 251
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_home_that_cannot_be_written_has_sessions(tmp_path: Path) -> None:
    (tmp_path / "calendar").write_text("a file where the directory should be")
    calendar = MarketCalendar("XNYS", directory=tmp_path / "calendar")
    assert calendar.session_of(HALF_DAY) == session_of(HALF_DAY)
    market_calendar._kept_sessions.cache_clear()
