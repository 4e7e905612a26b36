"""What the broker tells over night: read whole, landed once, stored by content and date, proven, rebuilt."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tradier_pipeline import clock
from tradier_pipeline.broker.errors import BodyError, BrokerError
from tradier_pipeline.core.errors import ExtractError, PipelineError
from tradier_pipeline.core.settings import DEMO_ACCOUNT
from tradier_pipeline.domain.calendar import MarketCalendar
from tradier_pipeline.extract.activity import extract_activity
from tradier_pipeline.landing.activity import (
    RESOURCES,
    WINDOW,
    ActivityRange,
    LandedActivity,
    find_activity,
    landed_activity,
    last_failure,
)
from tradier_pipeline.landing.compaction import compact
from tradier_pipeline.landing.errors import LandingError
from tradier_pipeline.landing.zone import LandingZone
from tradier_pipeline.publish.store import StoredActivity, rebuild, store_activity
from tradier_pipeline.verify.activity import verify_activity
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.activity import content_key, upsert_activity
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline.warehouse.staging import StagedWarehouse
from tradier_pipeline_tests.conftest import Home, Simulated, dear_examples, take
from tradier_pipeline_tests.support.activities import LISTS, body_of, day_value, event, filed, lot
from tradier_pipeline_tests.support.bodies import Body, dumps, warehouse_in_memory
from tradier_pipeline_tests.support.sampling import sampled
from tradier_pipeline_tests.support.unpublished import Unpublished, unpublished

pytestmark = pytest.mark.usefixtures("without_days")

DAY = date(2026, 11, 13)  # a Friday
DATES = (DAY - WINDOW, DAY)
NIGHT = datetime(2026, 11, 14, 12, 10, tzinfo=UTC)
CALENDAR = MarketCalendar("XNYS")


def days_ago(days: int) -> date:
    return clock.trade_date(clock.now()) - timedelta(days=days)


def yesterday(account_id: str = DEMO_ACCOUNT) -> ActivityRange:
    return ActivityRange.of_day(account_id, days_ago(1))


@dataclass(frozen=True)
class Held(Home):
    """A home whose warehouse is written by the whole test and published at its end."""

    copy: Unpublished

    @property
    def warehouse(self) -> Unpublished:
        return self.copy


@pytest.fixture
def held(home: Home) -> Iterator[Held]:
    with unpublished(home.warehouse.path) as copy:
        yield Held(home.path, copy)


def keep(home: Home, landed: LandedActivity) -> StoredActivity:
    return store_activity(home.warehouse, landed, CALENDAR)


def history(home: Home, rows: Sequence[Body], read_at: datetime = NIGHT, dates: tuple[date, date] = DATES) -> Any:
    """Store an extract that has only this history; the directory of an earlier one of the same dates goes away."""
    landed = filed(home.zone, dates, read_at, history=[body_of("history", rows)])
    return keep(home, landed)


def stored(home: Home, table: str, columns: str = "*") -> list[tuple[Any, ...]]:
    sql = f"SELECT {columns} FROM {table} ORDER BY ALL"
    if isinstance(home, Held):
        return home.copy.rows(sql)
    with connect_readonly(home.warehouse.path) as connection:
        return connection.execute(sql).fetchall()


def counting(home: Home) -> list[Decimal]:
    return [amount for (amount,) in stored(home, "account_activity", "amount")]


# ---------------------------------------------------------------- reading and landing


def test_what_the_broker_tells_is_landed_by_one_rename_and_stored_with_its_sessions(
    held: Home, simulated: Simulated
) -> None:
    wanted = yesterday()
    landed = extract_activity(held.zone, simulated.broker, wanted)
    assert landed.path == f"{DEMO_ACCOUNT}/activity/{wanted.since}_{wanted.until}"
    pages = landed.manifest.resources
    names = {page.file for resource in RESOURCES for page in pages[resource]}
    assert names >= {"history.json", "gainloss.json", "historical_balances.json"}
    assert {path.name for path in landed.directory.iterdir()} == {*names, "manifest.json"}
    done = keep(held, landed)
    assert set(done.kept) == set(RESOURCES)
    assert all(kept.rows == kept.new > 0 for kept in done.kept.values())
    dates = (wanted.since, wanted.until)
    extracts = stored(held, "activity_extracts", "resource, since, until, environment, row_count, page_count, path")
    assert extracts == [
        (resource, *dates, "simulator", done.kept[resource].rows, len(pages[resource]), landed.path)
        for resource in sorted(RESOURCES)
    ]
    first, last = stored(held, "sessions", "min(trade_date), max(trade_date)")[0]
    assert wanted.since <= first <= last <= wanted.until
    assert CALENDAR.session_of(first)


def test_more_fraction_digits_than_are_stored_are_rounded_and_the_check_compares_that(held: Home) -> None:
    day = DATES[1]
    exact = Decimal("-144.2499999999999")
    rows = [event(day, exact), event(day, exact), event(day, Decimal("0.000000005"))]
    lots = [lot(day, exact, cost=Decimal("129.997834844614"))]
    daily = [day_value(day, Decimal("17798.123456785000000000"))]
    bodies = {"history": rows, "gainloss": lots, "historical_balances": daily}
    done = keep(
        held, filed(held.zone, DATES, NIGHT, **{name: [body_of(name, reported)] for name, reported in bodies.items()})
    )
    assert done.outcome.passed, done.outcome
    assert counting(held) == [Decimal("-144.25"), Decimal("-144.25"), Decimal(0)]
    assert stored(held, "closed_lots", "cost, gain_loss") == [(Decimal("129.99783484"), Decimal("-144.25"))]
    assert stored(held, "broker_daily_balances", "value") == [(Decimal("17798.12345678"),)]


def test_a_replay_asks_the_broker_nothing_and_changes_no_row(held: Home, simulated: Simulated) -> None:
    keep(held, extract_activity(held.zone, simulated.broker, yesterday()))
    before = {table.name: stored(held, table.name) for table in schema.ACTIVITY}
    simulated.admin("DELETE", "requests")
    done = keep(held, extract_activity(held.zone, simulated.broker, yesterday()))
    assert simulated.requests() == []
    assert [(kept.new, kept.retracted) for kept in done.kept.values()] == [(0, 0)] * 3
    assert {table.name: stored(held, table.name) for table in schema.ACTIVITY} == before


@pytest.mark.parametrize("days", [0, -1])
def test_a_day_that_is_not_over_in_new_york_is_refused_before_anything_is_asked(
    home: Home, simulated: Simulated, days: int
) -> None:
    wanted = ActivityRange.of_day(DEMO_ACCOUNT, days_ago(days))
    with pytest.raises(ExtractError, match=r"is not complete: .* Ask for days until"):
        extract_activity(home.zone, simulated.broker, wanted)
    assert simulated.requests() == []
    assert landed_activity(home.zone) == []


def test_the_sandbox_has_gainloss_only_and_no_row_says_that_more_was_read(held: Home, simulated: Simulated) -> None:
    landed = extract_activity(held.zone, replace(simulated.broker, environment="sandbox"), yesterday())
    assert {request["path"].rpartition("/")[2] for request in simulated.requests()} == {"gainloss"}
    assert set(keep(held, landed).kept) == {"gainloss"}
    assert {row for (row,) in stored(held, "activity_extracts", "resource")} == {"gainloss"}
    assert stored(held, "account_activity") == []


@pytest.mark.parametrize("resource", ["history", "gainloss", "historical-balances"])
def test_one_resource_that_fails_fails_the_extract_and_what_arrived_is_kept(
    home: Home, simulated: Simulated, resource: str
) -> None:
    simulated.fault(f"/{resource}", "status", status=400, body="no")
    with pytest.raises(BrokerError):
        extract_activity(home.zone, simulated.broker, yesterday())
    assert landed_activity(home.zone) == []
    failure = last_failure(home.zone, yesterday())
    assert failure is not None
    (reported,) = failure.errors.values()
    assert "HTTP 400" in reported
    arrived = ["history", "gainloss", "historical_balances"]
    assert list(failure.resources) == arrived[: arrived.index(resource.replace("-", "_")) + 1]
    simulated.heal()
    keep(home, extract_activity(home.zone, simulated.broker, yesterday()))
    assert len(stored(home, "activity_extracts")) == 3


@pytest.mark.parametrize(
    "body", ['{"history": {}, "errors": {"error": "x"}}', '{"events": []}', "{}", "<html>", '{"history": []}']
)
def test_a_missing_key_is_a_failure_and_nothing_is_stored(home: Home, simulated: Simulated, body: str) -> None:
    simulated.fault("/history", "body", body=body)
    with pytest.raises(BrokerError):
        extract_activity(home.zone, simulated.broker, yesterday())
    assert landed_activity(home.zone) == []
    assert not home.warehouse.path.exists()


@pytest.mark.parametrize("empty", ["null", None, {}])
def test_the_documented_empty_forms_are_no_rows_of_a_read_that_is_stored(held: Home, empty: Any) -> None:
    bodies = {name: [dumps({LISTS[name][0]: empty}).encode()] for name in RESOURCES}
    done = keep(held, filed(held.zone, DATES, NIGHT, **bodies))
    assert [(kept.rows, kept.covered_since) for kept in done.kept.values()] == [(0, DATES[0])] * 3
    assert stored(held, "activity_extracts", "row_count") == [(0,)] * 3


def test_one_object_in_the_place_of_a_list_is_one_row(held: Home) -> None:
    bodies = {
        "history": [body_of("history", [event(DAY, 5)])],
        "gainloss": [body_of("gainloss", [lot(DAY, Decimal("-2.64"))])],
        "historical_balances": [body_of("historical_balances", [day_value(DAY, Decimal("100.5"))])],
    }
    keep(held, filed(held.zone, DATES, NIGHT, **bodies))
    assert stored(held, "account_activity", "type, amount, description") == [("ach", 5, "ACH DEPOSIT")]
    assert stored(held, "closed_lots", "symbol, underlying, gain_loss, term_days") == [
        ("GE", "GE", Decimal("-2.64"), 134)
    ]
    assert stored(held, "broker_daily_balances", "trade_date, value") == [(DAY, Decimal("100.5"))]


def test_the_rows_of_every_page_are_stored(held: Home) -> None:
    pages = [body_of("history", [event(DAY, number) for number in range(start, start + 25)]) for start in (0, 25)]
    keep(held, filed(held.zone, DATES, NIGHT, history=[*pages, b'{"history": "null"}']))
    assert counting(held) == list(range(50))
    assert stored(held, "activity_extracts", "row_count, page_count") == [(50, 3)]


def test_a_malformed_row_is_landed_and_told_by_its_place_and_nothing_is_stored(home: Home) -> None:
    rows = [event(DAY, 5), event(DAY, None)]
    with pytest.raises(BodyError, match=r"activity/.*history\.event\[1\]\.amount"):
        history(home, rows)
    assert not home.warehouse.path.exists()
    assert len(landed_activity(home.zone)) == 1


def test_a_landed_body_that_was_changed_is_not_stored(home: Home) -> None:
    landed = filed(home.zone, DATES, NIGHT, history=[body_of("history", [event(DAY, 5)])])
    (landed.directory / "history.json").write_bytes(body_of("history", [event(DAY, 6)]))
    with pytest.raises(LandingError, match="sha256"):
        keep(home, landed)


def test_the_activity_is_no_day_of_the_landing_zone(home: Home, simulated: Simulated) -> None:
    extract_activity(home.zone, simulated.broker, yesterday())
    assert home.zone.days() == []
    assert list(home.zone.snapshots()) == []
    take(home, simulated.broker)
    assert [day.directory.parent.name for day in home.zone.days()] == [DEMO_ACCOUNT]
    before = sorted(home.zone.root.rglob("activity/**/*"))
    compacted = compact(home.zone, days_ago(-1))
    assert [day.trade_date for day in compacted.days] == [days_ago(0)]
    assert sorted(home.zone.root.rglob("activity/**/*")) == before


# ---------------------------------------------------------------- rows without ids


def test_equal_rows_of_one_date_are_all_kept_and_told_apart_by_their_number(held: Home) -> None:
    done = history(held, [event(DAY, 5), event(DAY, 5), event(DAY, 5.0), event(DAY - timedelta(days=1), 5)])
    assert done.kept["history"].new == 4
    found = stored(held, "account_activity", "trade_date, ordinal, amount")
    assert [(day, ordinal) for day, ordinal, _ in found] == [(DAY - timedelta(days=1), 1), (DAY, 1), (DAY, 2), (DAY, 3)]


@pytest.mark.parametrize(
    ("same", "other"),
    [
        ({"a": Decimal("10.0"), "b": "x"}, {"b": "x", "a": 10}),
        ({"a": Decimal("0E-8")}, {"a": 0}),
        ({"a": Decimal("-0.0")}, {"a": Decimal("0.00")}),
        ({"a": {"c": Decimal("1E+2")}}, {"a": {"c": Decimal("100.00")}}),
    ],
)
def test_the_content_of_a_row_is_not_how_it_is_written(same: Body, other: Body) -> None:
    assert content_key(same) == content_key(other)


@pytest.mark.parametrize("other", [{"a": "10"}, {"a": 11}, {"b": 10}, {"a": 10, "b": None}, {"a": [10]}, {"a": True}])
def test_other_content_is_another_row(other: Body) -> None:
    assert content_key({"a": 10}) != content_key(other)


def test_a_row_that_the_broker_takes_back_does_not_count_and_stays(held: Home) -> None:
    history(held, [event(DAY, 5), event(DAY, 5), event(DAY, 7)])
    later = NIGHT + timedelta(days=1)
    done = history(held, [event(DAY, 5), event(DAY, 7)], later, (DAY - WINDOW + timedelta(days=1), DAY + timedelta(1)))
    assert (done.kept["history"].new, done.kept["history"].retracted) == (0, 1)
    assert counting(held) == [5, 7]
    assert stored(held, "account_activity_versions", "amount, ordinal, first_read_at, last_read_at, retracted_at") == [
        (5, 1, NIGHT, later, None),
        (5, 2, NIGHT, NIGHT, later),
        (7, 1, NIGHT, later, None),
    ]


def test_a_row_that_comes_back_counts_again(held: Home) -> None:
    for number, rows in enumerate([[event(DAY, 5)], [], [event(DAY, 5)]]):
        history(held, rows, NIGHT + timedelta(days=number), (DATES[0], DAY + timedelta(days=number)))
    assert stored(held, "account_activity", "amount, first_read_at, last_read_at, retracted_at") == [
        (5, NIGHT, NIGHT + timedelta(days=2), None)
    ]


def test_a_row_that_is_posted_late_is_new_and_keeps_its_date(held: Home) -> None:
    history(held, [event(DAY, 5)])
    done = history(held, [event(DAY, 5), event(DAY, 9)], NIGHT + timedelta(days=1), (DATES[0], DAY + timedelta(days=1)))
    assert (done.kept["history"].new, done.kept["history"].known) == (1, 1)
    assert stored(held, "account_activity", "trade_date, amount, first_read_at") == [
        (DAY, 5, NIGHT),
        (DAY, 9, NIGHT + timedelta(days=1)),
    ]


def test_rows_outside_the_dates_asked_for_stay_in_the_landed_bytes_only(held: Home) -> None:
    outside = [event(DATES[0] - timedelta(days=1), 1), event(DAY + timedelta(days=1), 2)]
    history(held, [*outside, event(DAY, 5), event(DATES[0], 6)])
    assert counting(held) == [5, 6]
    assert stored(held, "activity_extracts", "row_count") == [(2,)]


def test_what_the_broker_no_longer_keeps_of_long_ago_was_not_taken_back(held: Home) -> None:
    long_ago, since = DAY - timedelta(days=400), DAY - timedelta(days=500)
    history(held, [event(long_ago, 1), event(DAY, 5)], NIGHT, (since, DAY))
    done = history(held, [event(DAY, 5)], NIGHT + timedelta(days=1), (since, DAY + timedelta(days=1)))
    assert done.kept["history"].covered_since == DAY + timedelta(days=1) - WINDOW
    assert counting(held) == [1, 5]


def test_a_value_that_the_broker_changed_is_another_row(held: Home) -> None:
    for number, amount in enumerate([100, 101]):
        dates = (DATES[0], DAY + timedelta(days=number))
        body = body_of("historical_balances", [day_value(DAY, amount)])
        keep(held, filed(held.zone, dates, NIGHT + timedelta(days=number), historical_balances=[body]))
    assert stored(held, "broker_daily_balances_versions", "value, retracted_at") == [
        (100, NIGHT + timedelta(days=1)),
        (101, None),
    ]


WEEKDAYS = [DAY - timedelta(days=number) for number in range(60) if (DAY - timedelta(days=number)).weekday() < 5][::-1]


def daily_values(home: Home, number: int, days: Sequence[date], since: date = WEEKDAYS[0]) -> LandedActivity:
    """A read of the daily values of these days, each as many dollars as its day of the month."""
    body = body_of("historical_balances", [day_value(day, day.day) for day in days])
    dates = (since, DAY + timedelta(days=number))
    return filed(home.zone, dates, NIGHT + timedelta(days=number), historical_balances=[body])


@sampled(
    "coarser",
    [
        [day for day in WEEKDAYS if day.weekday() == 4],
        WEEKDAYS[::2],
        WEEKDAYS[::3],
        WEEKDAYS[::20],
        [*WEEKDAYS[:20:5], *WEEKDAYS[30:]],
        WEEKDAYS[:-3],
        [*WEEKDAYS[:10], *WEEKDAYS[20:]],
        [WEEKDAYS[0]],
        [],
    ],
    kept=(6, 8),
)
@pytest.mark.parametrize("coarser_first", [False, True])
def test_a_coarser_series_of_values_takes_nothing_back(held: Home, coarser: list[date], coarser_first: bool) -> None:
    reads = [daily_values(held, 0, WEEKDAYS), daily_values(held, 1, coarser)]
    for landed in reads[::-1] if coarser_first else reads:
        assert keep(held, landed).kept["historical_balances"].retracted == 0
    assert [day for (day,) in stored(held, "broker_daily_balances", "trade_date")] == WEEKDAYS


@pytest.mark.parametrize("in_order", [False, True])
def test_a_value_that_is_left_out_of_a_daily_series_was_taken_back(held: Home, in_order: bool) -> None:
    gone = WEEKDAYS[20]
    reads = [daily_values(held, 0, WEEKDAYS), daily_values(held, 1, [day for day in WEEKDAYS if day != gone])]
    for landed in reads if in_order else reads[::-1]:
        keep(held, landed)
    assert [day for (day,) in stored(held, "broker_daily_balances", "trade_date")] == [
        day for day in WEEKDAYS if day != gone
    ]
    rows = stored(held, "broker_daily_balances_versions WHERE retracted_at IS NOT NULL", "trade_date, retracted_at")
    assert rows == [(gone, NIGHT + timedelta(days=1))]


def test_a_coarser_series_corrects_the_days_that_it_has(held: Home) -> None:
    keep(held, daily_values(held, 0, WEEKDAYS))
    weekly = [day_value(day, 7) for day in WEEKDAYS if day.weekday() == 4]
    body = body_of("historical_balances", weekly)
    keep(held, filed(held.zone, (WEEKDAYS[0], DAY + timedelta(1)), NIGHT + timedelta(1), historical_balances=[body]))
    values = dict(stored(held, "broker_daily_balances", "trade_date, value"))
    assert values == {day: 7 if day.weekday() == 4 else day.day for day in WEEKDAYS}


def test_one_account_says_nothing_of_another(held: Home, simulated: Simulated) -> None:
    for account_id in (DEMO_ACCOUNT, "SIM00000003", DEMO_ACCOUNT):
        keep(held, extract_activity(held.zone, simulated.broker, yesterday(account_id)))
    assert stored(held, "account_activity_versions WHERE retracted_at IS NOT NULL") == []
    assert {row for (row,) in stored(held, "account_activity_versions", "account_id")} == {DEMO_ACCOUNT, "SIM00000003"}


# ---------------------------------------------------------------- in any order


@pytest.fixture(scope="module")
def staged() -> Iterator[StagedWarehouse]:
    with warehouse_in_memory() as warehouse, pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda _: None)
        yield warehouse


Read = tuple[int, int, list[tuple[int, int]]]  # first day, how many more, rows: day and amount

reads = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from([0, 1, 2, 3, 18]),
        st.lists(st.tuples(st.integers(0, 5), st.integers(1, 2)), max_size=6),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda read: (read[0], read[1]),
)


@settings(max_examples=dear_examples(2), suppress_health_check=list(HealthCheck))
@given(found=reads, data=st.data())
def test_any_order_of_extracts_any_of_them_twice_gives_what_their_reads_say(
    staged: StagedWarehouse, found: list[Read], data: st.DataObject
) -> None:
    for table in schema.ACTIVITY:
        staged.connection.execute(f"DELETE FROM {table.name}")
    with tempfile.TemporaryDirectory() as directory:
        zone = LandingZone(Path(directory))
        extracts = [filed_read(zone, number, read) for number, read in enumerate(found)]
        order = data.draw(st.permutations(extracts + extracts[:1]))
        for landed in order:
            upsert_activity(staged.connection, landed)
            assert verify_activity(landed, staged.connection).passed
        assert kept_rows(staged) == expected_rows(found)


def filed_read(zone: LandingZone, number: int, read: Read) -> LandedActivity:
    first, more, rows = read
    dates = (DAY + timedelta(days=first), DAY + timedelta(days=first + more))
    body = body_of("history", [event(DAY + timedelta(days=day), amount) for day, amount in rows])
    return filed(zone, dates, NIGHT + timedelta(hours=number), history=[body])


def kept_rows(staged: StagedWarehouse) -> set[tuple[Any, ...]]:
    columns = "trade_date, amount, ordinal, first_read_at, last_read_at, retracted_at"
    return set(staged.connection.execute(f"SELECT {columns} FROM account_activity_versions").fetchall())


def expected_rows(found: list[Read]) -> set[tuple[Any, ...]]:
    """By looking at every read of every day, one after the other."""
    rows = set()
    for day in range(25):
        reported: list[tuple[datetime, Counter[int]]] = []
        for number, (first, more, listed) in enumerate(found):
            inside = [(on, amount) for on, amount in listed if first <= on <= first + more]
            covered = min([on for on, _ in inside] + [first + more - WINDOW.days])
            if max(first, covered) <= day <= first + more:
                reported.append(
                    (NIGHT + timedelta(hours=number), Counter(amount for on, amount in inside if on == day))
                )
        for amount in (1, 2):
            for ordinal in range(1, 7):
                having = [at for at, counts in reported if counts[amount] >= ordinal]
                if having:
                    gone = [at for at, _ in reported if at > having[-1]]
                    on = DAY + timedelta(days=day)
                    rows.add((on, amount, ordinal, having[0], having[-1], gone[0] if gone else None))
    return rows


# ---------------------------------------------------------------- rebuilt, proven


@pytest.mark.soak  # any order of what was read does: test_any_order_of_extracts
def test_a_rebuild_gives_identical_rows(home: Home, simulated: Simulated) -> None:
    take(home, simulated.broker)
    for wanted in (yesterday(), ActivityRange.of_day(DEMO_ACCOUNT, days_ago(2))):
        keep(home, extract_activity(home.zone, simulated.broker, wanted))
    history(home, [event(DAY, 5), event(DAY, 7)])
    history(home, [event(DAY, 5)], NIGHT + timedelta(days=1), (DATES[0], DAY + timedelta(days=1)))
    tables = [table.name for table in (*schema.ACTIVITY, schema.SESSIONS)]
    before = {table: stored(home, table) for table in tables}
    done = rebuild(home.warehouse, home.zone, lambda _: None)
    assert (done.published, done.activity, done.refused) == (1, 4, {})
    assert {table: stored(home, table) for table in tables} == before


def test_activity_alone_can_be_rebuilt_and_its_loss_is_not_silent(home: Home) -> None:
    history(home, [event(DAY, 5)])
    (landed,) = landed_activity(home.zone)
    assert rebuild(home.warehouse, home.zone, lambda _: None).activity == 1
    shutil.rmtree(landed.directory)
    with pytest.raises(LandingError, match=r"1 published extracts of the activity are not, such as VA"):
        rebuild(home.warehouse, home.zone, lambda _: None)
    assert counting(home) == [5]
    rebuild(home.warehouse, home.zone, lambda _: None, forget=True)
    assert counting(home) == []


def test_a_rebuild_leaves_out_a_damaged_extract_and_says_so(home: Home) -> None:
    history(home, [event(DAY, 5)])
    history(home, [event(DAY, 6)], NIGHT + timedelta(days=1), (DATES[0], DAY + timedelta(days=1)))
    (landed, _) = landed_activity(home.zone)
    (landed.directory / "history.json").write_bytes(b"{}")
    done = rebuild(home.warehouse, home.zone, lambda _: None)
    assert (done.published, done.activity, list(done.refused)) == (0, 1, [landed.path])
    assert counting(home) == [6]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE account_activity_versions SET amount = amount + 0.01",
        "DELETE FROM account_activity_versions",
        "UPDATE account_activity_versions SET retracted_at = last_read_at",
        "UPDATE account_activity_versions SET trade_date = trade_date - 1",
        "DELETE FROM activity_extracts",
        "INSERT INTO account_activity_versions BY NAME SELECT * REPLACE (2 AS ordinal) FROM account_activity_versions",
    ],
)
def test_the_check_finds_what_was_changed(staged: StagedWarehouse, home: Home, change: str) -> None:
    for table in schema.ACTIVITY:
        staged.connection.execute(f"DELETE FROM {table.name}")
    landed = filed(home.zone, DATES, NIGHT, history=[body_of("history", [event(DAY, 5)])])
    upsert_activity(staged.connection, landed)
    assert verify_activity(landed, staged.connection).passed
    staged.connection.execute(change)
    outcome = verify_activity(landed, staged.connection)
    assert outcome.blocks
    assert outcome.differences


def test_what_fails_the_check_is_not_published(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tradier_pipeline.warehouse.activity.content_key", lambda row: "the same")
    history(home, [event(DAY, 5)])
    with pytest.raises(PipelineError, match=r"not published: the check activity_equals_landed failed in 1 place"):
        history(home, [event(DAY, 6)], NIGHT + timedelta(days=1), (DATES[0], DAY + timedelta(days=1)))
    assert counting(home) == [5]


def test_nothing_is_found_of_a_range_that_was_never_read(home: Home) -> None:
    assert find_activity(home.zone, yesterday()) is None
    assert last_failure(home.zone, yesterday()) is None
