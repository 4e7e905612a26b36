"""Performance without deposits and withdrawals: the views, beside published examples and another way to compute it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from itertools import accumulate, pairwise, product
from math import isclose
from random import Random
from typing import Any, TypeVar

import duckdb
import pytest

from tradier_pipeline.domain.returns import LEFT_AFTER, UNREAD, figures
from tradier_pipeline.landing.activity import WINDOW
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.equity import MAY_FOLLOW
from tradier_pipeline_tests.support.bodies import warehouse_in_memory
from tradier_pipeline_tests.support.histories import ONE, Histories, at
from tradier_pipeline_tests.support.sampling import sampled

# a week, a weekend, a week with Thanksgiving
DAYS = [date(2025, 11, day) for day in (17, 18, 19, 20, 21, 24, 25, 26, 28)]
MON, TUE, WED, THU, FRI, NEXT_MON, NEXT_TUE = DAYS[:7]
SATURDAY = date(2025, 11, 22)
Case = TypeVar("Case")
FIGURES = (
    *("deposits", "withdrawals", "dividends", "interest", "fees", "pnl"),
    *("return", "growth", "peak", "drawdown", "days_spanned"),
)


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with warehouse_in_memory() as staged:
        yield staged.connection


def curve(connection: duckdb.DuckDBPyConnection, view: str = "equity_curve", account_id: str = ONE) -> list[Any]:
    of_one = f"WHERE account_id = '{account_id}'" if view == "equity_curve" else ""
    cursor = connection.execute(f"FROM {view} {of_one} ORDER BY trade_date")
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def of(rows: list[Any], *names: str) -> list[Any]:
    return [tuple(row[name] for name in names) if len(names) > 1 else row[names[0]] for row in rows]


@pytest.fixture
def write(connection: duckdb.DuckDBPyConnection) -> Callable[[Histories], list[Any]]:
    """Sessions of DAYS, and what is given; returns the curve of the one account."""

    def written(histories: Histories, days: list[date] = DAYS) -> list[Any]:
        histories.sessions(days)
        histories.write(connection)
        return curve(connection)

    return written


Write = Callable[..., list[Any]]

Story = Generator[Histories, list[Any], None]


@dataclass
class Stories:
    """Tests of one account each that are written at once: a test yields its history and is given its curve."""

    days: list[date]
    tests: dict[str, Callable[[], Story]] = field(default_factory=dict)

    @cached_property
    def curves(self) -> dict[str, list[Any]]:
        """The curve of each test."""
        together = Histories()
        together.sessions(self.days)
        for name, test in self.tests.items():
            of_one = next(test())
            together.explained += of_one.explained
            for table, rows in of_one.rows.items():
                together.rows.setdefault(table, []).extend(rows)
                for row in rows:
                    account_id = f"{name} {row['account_id']}"
                    if "snapshot_id" in row:
                        row["snapshot_id"] = row["snapshot_id"].replace(row["account_id"], account_id)
                    row["account_id"] = account_id
        with warehouse_in_memory() as staged:
            together.write(staged.connection)
            return {name: curve(staged.connection, account_id=f"{name} {ONE}") for name in self.tests}


STORIES: dict[tuple[date, ...], Stories] = {}


def of_one_account(days: list[date]) -> Callable[[Callable[[], Story]], Callable[[], None]]:
    """Make a test of what yields a history of sessions and is given the curve of its one account."""
    stories = STORIES.setdefault(tuple(days), Stories(days))

    def made(story: Callable[[], Story]) -> Callable[[], None]:
        stories.tests[story.__name__] = story

        def test() -> None:
            begun = story()
            next(begun)
            with suppress(StopIteration):
                begun.send(stories.curves[story.__name__])

        test.__doc__ = story.__doc__
        return test

    return made


# What differs in values alone is written at once, an account each: to plan the query of the curves takes longer than
# all their rows.


def evenings(reported: Histories, account_id: str, worth: Sequence[Decimal | int], *, by_cash: bool = False) -> None:
    """What an account is worth on the first of DAYS: all of it cash in snapshots, or the broker's own values."""
    for day, equity in zip(DAYS, worth, strict=False):
        if by_cash:
            reported.snapshot(day, equity, account_id, cash=equity)
        else:
            reported.reported(day, equity, account_id)


def by_cash_or_equity(cases: Iterable[Case]) -> list[tuple[str, Case, bool]]:
    """Each case twice, with the name of an account: by cash and by equity alone."""
    return [
        (f"{place} {'cash' if by_cash else 'equity'}", case, by_cash)
        for by_cash in (True, False)
        for place, case in enumerate(cases)
    ]


# ---------------------------------------------------------------- published examples


def test_a_deposit_and_a_withdrawal_leave_the_same_time_weighted_return(
    connection: duckdb.DuckDBPyConnection, write: Write
) -> None:
    """Investopedia, How to Use the Time-Weighted Rate of Return (TWR) Formula: 1,000,000 on 31 December is worth
    1,162,484 on 15 August, when 100,000 are added (scenario 1; 1,192,328 on 31 December) or withdrawn (scenario 2;
    1,003,440). The holding periods return 16.25 % and -5.56 %, both investors 9.79 %.
    """
    begin, middle, next_day, last = date(2024, 12, 31), date(2025, 8, 15), date(2025, 8, 18), date(2025, 12, 31)
    reported = Histories()
    for investor, after, end in (("in", 1_162_484, 1_192_328), ("out", 1_062_484, 1_003_440)):
        for day, equity in ((begin, 1_000_000), (middle, after), (last, end)):
            reported.snapshot(day, equity, investor)
    reported.flow(next_day, 100_000, account_id="in")  # in at the start of a day, out at its end
    reported.flow(middle, -100_000, account_id="out")
    write(reported, [begin, middle, last])
    for investor in ("in", "out"):
        rows = curve(connection, account_id=investor)
        assert [f"{value:.2%}" for value in of(rows[1:], "return")] == ["16.25%", "-5.56%"]
        assert f"{rows[-1]['growth'] - 1:.2%}" == "9.79%"


def test_a_withdrawal_then_a_deposit(write: Write) -> None:
    """Sample question of the actuaries' exam FM: 100,000 on 1 January 1997; on 30 September 5,000 are withdrawn, which
    leaves 105,000; a year later it is worth 108,000 and 3,000 are added; 100,000 on 31 December 1998. The two-year
    time-weighted return is 1.1 * 1.028571 * 0.900901 - 1 = 1.93 %.
    """
    days = [date(1997, 1, 1), date(1997, 9, 30), date(1998, 9, 30), date(1998, 12, 31)]
    reported = Histories()
    for day, equity in zip(days, (100_000, 105_000, 108_000, 100_000), strict=True):
        reported.snapshot(day, equity)
    reported.flow(days[1], -5_000)
    reported.flow(days[2] + timedelta(days=1), 3_000)
    rows = write(reported, days)
    assert [round(1 + value, 6) for value in of(rows[1:], "return")] == [1.1, 1.028571, 0.900901]
    assert f"{rows[-1]['growth'] - 1:.2%}" == "1.93%"


@of_one_account(DAYS)
def test_the_deepest_drawdown_is_measured_from_the_peak_before_it() -> Story:
    """Investopedia, Maximum Drawdown (MDD): 500,000 grow to 750,000, fall to 400,000, rebound to 600,000, fall to
    350,000 and reach 800,000: -53.33 %, from the peak of 750,000.
    """
    reported = Histories()
    worth = (500_000, 750_000, 400_000, 600_000, 350_000, 800_000)
    for day, equity in zip(DAYS, worth, strict=False):
        reported.snapshot(day, equity)
    written = yield reported
    rows = written[: len(worth)]
    assert f"{min(of(rows, 'drawdown')):.2%}" == "-53.33%"
    assert of(rows, "drawdown")[-1] == 0
    assert of(rows, "peak") == [1, 1.5, 1.5, 1.5, 1.5, 1.6]


# ---------------------------------------------------------------- cash flows


def test_cash_flows_are_the_rows_that_are_no_trades_and_count(
    connection: duckdb.DuckDBPyConnection, write: Write
) -> None:
    reported = Histories()
    for type_ in ("ach", "wire", "check", "journal", "transfer"):
        reported.flow(MON, 10, type_)
        reported.flow(MON, "-10.5", type_)
    for type_ in ("dividend", "interest", "fee", "tax", "adjustment", "something new"):
        reported.flow(TUE, -3, type_)
    for type_ in ("trade", "option"):
        reported.flow(WED, 99, type_)
    reported.flow(THU, 77, retracted_at=datetime(2025, 12, 1, tzinfo=UTC))
    write(reported)
    found = connection.execute(
        "SELECT trade_date, kind, external, amount, count(*) FROM cash_flows GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    assert found == [
        (MON, "deposit", True, 10, 5),
        (MON, "withdrawal", True, Decimal("-10.5"), 5),
        (TUE, "adjustment", False, -3, 1),
        (TUE, "dividend", False, -3, 1),
        (TUE, "fee", False, -3, 1),
        (TUE, "interest", False, -3, 1),
        (TUE, "tax", False, -3, 1),
        (TUE, "unknown", False, -3, 1),
    ]


@of_one_account(DAYS)
def test_what_is_no_deposit_or_withdrawal_is_performance() -> Story:
    reported = Histories()
    reported.snapshot(MON, 1000)
    reported.snapshot(TUE, "1107.5")
    reported.flow(TUE, 100, "wire")
    reported.flow(TUE, "12.5", "dividend")
    reported.flow(TUE, "1.25", "interest")
    reported.flow(TUE, -2, "interest")
    reported.flow(TUE, "-1.5", "fee")
    reported.flow(TUE, -4, "tax")
    reported.flow(TUE, 55, "trade")
    written = yield reported
    row = written[1]
    assert of([row], *FIGURES[:6]) == [(100, 0, Decimal("12.5"), Decimal("-0.75"), Decimal("-1.5"), Decimal("7.5"))]
    assert row["return"] == pytest.approx(7.5 / 1100)


# ---------------------------------------------------------------- which equity


@of_one_account(DAYS)
def test_equity_is_that_of_the_last_snapshot_of_the_day() -> Story:
    reported = Histories()
    reported.snapshot(MON, 1, clock_time=time(15, 0))
    reported.snapshot(MON, 3, clock_time=time(23, 30))
    reported.snapshot(MON, 2, clock_time=time(21, 15))
    written = yield reported
    assert of(written[:1], "equity", "source", "as_of") == [(3, "snapshot", at(MON, time(23, 30)))]


@of_one_account(DAYS)
def test_nothing_is_concluded_from_a_torn_snapshot() -> Story:
    reported = Histories()
    reported.snapshot(MON, 1, clock_time=time(15, 0), coherence=None)
    reported.snapshot(MON, 3, clock_time=time(21, 30), coherence="torn")
    reported.snapshot(TUE, 3, clock_time=time(21, 30), coherence="torn")
    reported.snapshot(WED, 3, clock_time=time(21, 30), coherence="unknown")
    reported.snapshot(THU, 3, clock_time=time(21, 30), coherence="torn")
    reported.reported(THU, 4)
    written = yield reported
    assert of(written[:4], "equity", "gap", "source") == [
        (1, False, "snapshot"),
        (None, True, None),
        (3, False, "snapshot"),
        (4, False, "broker"),
    ]


@of_one_account(DAYS)
def test_the_brokers_own_value_stands_in_where_no_snapshot_was_read_after_the_close() -> Story:
    reported = Histories()
    reported.reported(MON, 10)
    reported.snapshot(TUE, 21, clock_time=time(20, 59))
    reported.reported(TUE, 20)
    reported.snapshot(WED, 31, clock_time=time(21, 0))
    reported.reported(WED, 30)
    reported.snapshot(THU, 41, clock_time=time(20, 59))
    reported.reported(FRI, 50, retracted_at=datetime(2025, 12, 1, tzinfo=UTC))
    reported.reported(NEXT_MON, 61, retracted_at=datetime(2025, 12, 1, tzinfo=UTC))
    reported.reported(NEXT_MON, 60)
    written = yield reported
    assert of(written[:6], "equity", "source", "as_of") == [
        (10, "broker", None),
        (20, "broker", None),
        (31, "snapshot", at(WED, time(21, 0))),
        (None, None, None),
        (None, None, None),
        (60, "broker", None),
    ]


@of_one_account(DAYS)
def test_the_curve_has_every_session_since_the_first_known_equity_and_no_other_day() -> Story:
    reported = Histories()
    reported.snapshot(TUE, 1)
    reported.snapshot(SATURDAY, 2)
    reported.reported(date(2025, 11, 27), 3)  # Thanksgiving
    reported.flow(MON, 4)
    written = yield reported
    assert of(written, "trade_date") == DAYS[1:]


# ---------------------------------------------------------------- flows and gaps


@of_one_account(DAYS)
def test_the_first_day_has_nothing_to_be_compared_with() -> Story:
    reported = Histories()
    reported.flow(date(2025, 11, 14), 900)
    reported.flow(MON, 100)
    reported.snapshot(MON, 1000)
    reported.snapshot(TUE, 1010)
    written = yield reported
    first, second = written[:2]
    assert of([first], *FIGURES) == [(None,) * 7 + (1, 1, 0, None)]
    assert of([second], "deposits", "pnl", "return", "days_spanned") == [(0, 10, pytest.approx(0.01), 1)]


@of_one_account(DAYS)
def test_the_first_deposit_into_an_empty_account_and_the_last_withdrawal_have_returns() -> Story:
    reported = Histories()
    for day, equity in zip(DAYS, (0, 1010, 0, 0, 505), strict=False):
        reported.snapshot(day, equity)
    reported.flow(TUE, 1000)
    reported.flow(WED, "-1020.1")
    reported.flow(FRI, 500)
    written = yield reported
    rows = written[:5]
    assert of(rows, "return") == [None, *map(pytest.approx, (0.01, 0.01)), None, pytest.approx(0.01)]
    assert of(rows, "growth") == list(map(pytest.approx, (1, 1.01, 1.01**2, 1.01**2, 1.01**3)))
    assert of(rows, "pnl") == [None, 10, Decimal("10.1"), 0, 5]


@of_one_account(DAYS)
def test_without_money_there_is_no_return_and_growth_goes_on() -> Story:
    reported = Histories()
    for day, equity in zip(DAYS, (-100, -50, 150, 165), strict=False):
        reported.snapshot(day, equity)
    reported.flow(WED, 200)
    written = yield reported
    rows = written[:4]
    assert of(rows, "pnl", "return", "growth") == [(None, None, 1), (50, None, 1), (0, 0, 1), (15, 0.1, 1.1)]


def test_what_was_lost_whole_stays_lost(connection: duckdb.DuckDBPyConnection, write: Write) -> None:
    reported = Histories()
    for left in (0, -50):
        for day, equity in zip(DAYS, (100, left, 100), strict=False):
            reported.snapshot(day, equity, f"left {left}")
        reported.flow(WED, 100 - left, account_id=f"left {left}")
    write(reported)
    for left in (0, -50):
        rows = curve(connection, account_id=f"left {left}")[:3]
        assert of(rows, "return") == [None, left / 100 - 1, 0]
        assert of(rows, "growth", "peak", "drawdown") == [(1, 1, 0), (0, 1, -1), (0, 1, -1)]


@of_one_account(DAYS)
def test_a_gap_has_no_figures_and_the_day_after_spans_it() -> Story:
    reported = Histories()
    reported.snapshot(MON, 1000)
    reported.snapshot(THU, 1300)
    reported.flow(TUE, 200)
    reported.flow(WED, -30)
    reported.flow(THU, 100)
    written = yield reported
    rows = written[:4]
    assert of(rows, "gap") == [False, True, True, False]
    for gap in rows[1:3]:
        assert of([gap], "equity", "source", "as_of", *FIGURES) == [(None,) * (3 + len(FIGURES))]
    assert of(rows[3:], "deposits", "withdrawals", "pnl", "days_spanned") == [(300, 30, 30, 3)]
    assert rows[3]["return"] == pytest.approx(30 / 1300)


@of_one_account(DAYS)
def test_what_comes_on_a_day_without_a_session_belongs_to_the_next_one() -> Story:
    reported = Histories()
    for day, equity in zip(DAYS, (100, 100, 100, 100, 100, 160, 160, 160, 150), strict=True):
        reported.snapshot(day, equity)
    reported.flow(SATURDAY, 40)
    reported.flow(SATURDAY + timedelta(days=1), 20)
    reported.flow(date(2025, 11, 27), -10)  # Thanksgiving
    reported.flow(date(2025, 11, 29), 99)  # has no session yet
    rows = yield reported
    assert of(rows[1:], "deposits") == [0, 0, 0, 0, 60, 0, 0, 0]
    assert of(rows[1:], "withdrawals") == [0, 0, 0, 0, 0, 0, 0, 10]
    assert set(of(rows[1:], "pnl")) == {0}


# ---------------------------------------------------------------- provisional


@of_one_account(DAYS)
def test_a_day_is_provisional_until_its_history_has_been_read_after_it_was_over() -> Story:
    reported = Histories()
    for day in DAYS:
        reported.snapshot(day, 100)
    reported.read(MON, TUE)
    reported.read(WED, WED, read_at=datetime(2025, 11, 20, 4, 59, tzinfo=UTC))  # still Wednesday in New York
    reported.read(THU, THU, read_at=datetime(2025, 11, 21, 5, 0, tzinfo=UTC))
    reported.read(FRI, FRI, what="gainloss")
    reported.read(FRI, FRI, account_id="VA2")
    reported.read(SATURDAY, NEXT_TUE)
    reported.read(DAYS[7], DAYS[7])
    reported.read(DAYS[8], DAYS[8])  # without Thanksgiving
    written = yield reported
    unread = [row["reason"] == UNREAD for row in written]
    assert unread == [False, False, True, False, True, False, False, False, True]


@of_one_account(DAYS)
def test_a_day_is_provisional_until_late_postings_are_not_read_any_more() -> Story:
    """Every night reads two weeks: what is posted within them changes a day."""
    reported = Histories()
    for day in DAYS:
        reported.snapshot(day, 100)
    reported.read(MON, DAYS[-1], read_at=at(TUE + WINDOW + timedelta(days=1), time(12)))
    rows = yield reported
    assert of(rows, "provisional") == [False, False, *[True] * 7]
    assert set(of(rows[2:], "reason")) == {MAY_FOLLOW}
    assert not any(of(rows, "uncertain"))


@of_one_account(DAYS)
def test_the_day_after_a_gap_is_provisional_with_any_day_that_it_spans() -> Story:
    reported = Histories()
    for day in (MON, WED, FRI):
        reported.snapshot(day, 100)
    reported.read(MON, MON)
    reported.read(WED, FRI)
    written = yield reported
    assert [row["reason"] == UNREAD for row in written[:5]] == [False, True, True, False, False]


# ---------------------------------------------------------------- all accounts


def test_the_total_of_one_account_is_that_account(connection: duckdb.DuckDBPyConnection, write: Write) -> None:
    reported = Histories()
    for day, equity in zip(DAYS, (0, 1010, None, None, 990, 1500, 1490, None, None), strict=True):
        if equity is not None:
            reported.snapshot(day, equity)
    reported.reported(DAYS[7], 700)
    reported.flow(TUE, 1000)
    reported.flow(NEXT_MON, 500)
    reported.flow(DAYS[7], -800)
    reported.read(MON, THU)
    rows = write(reported)
    total = curve(connection, "total_equity_curve")
    waits = {True: [ONE], False: None}
    expected = [row | {"accounts": 1, "waits_for": waits[row["gap"]]} for row in rows]
    assert [row | {"account_id": ONE} for row in total] == expected


def test_accounts_add_up_and_a_day_without_one_of_them_is_a_gap(
    connection: duckdb.DuckDBPyConnection, write: Write
) -> None:
    reported = Histories()
    for day, one, two in zip(DAYS, (100, 110, 120, 130), (1000, 1100, None, 1500), strict=False):
        reported.snapshot(day, one)
        if two:
            reported.snapshot(day, two, "VA2", time(22))
    reported.snapshot(FRI, 130)
    reported.reported(FRI, 1500, "VA2")
    reported.flow(WED, 4)
    reported.flow(WED, 5, "dividend")
    reported.flow(WED, 300, account_id="VA2")
    reported.flow(THU, -6, account_id="VA2")
    reported.read(MON, FRI)
    reported.read(MON, WED, account_id="VA2")
    write(reported)
    rows = curve(connection, "total_equity_curve")[:4]
    assert of(rows, "equity", "accounts", "gap") == [
        (1100, 2, False),
        (1210, 2, False),
        (None, 2, True),
        (1630, 2, False),
    ]
    assert of(rows[3:], "deposits", "withdrawals", "dividends", "pnl", "days_spanned") == [(304, 6, 5, 122, 2)]
    assert of(rows, "return") == [None, pytest.approx(0.1), None, pytest.approx(122 / 1514)]
    assert of(rows, "source", "as_of")[2:] == [(None, None), ("snapshot", at(THU, time(21, 15)))]
    assert [row["reason"] == UNREAD for row in rows] == [False, False, False, True]
    assert of(rows, "waits_for") == [None, None, ["VA2"], None]
    assert of(curve(connection, "total_equity_curve")[4:5], "equity", "source", "as_of") == [(1630, "broker", None)]


def test_an_account_that_begins_is_a_deposit_that_has_earned_nothing_yet(
    connection: duckdb.DuckDBPyConnection, write: Write
) -> None:
    reported = Histories()
    for day, one, two in zip(DAYS, (100, 110, 121), (None, 10_000, 20_000), strict=False):
        reported.snapshot(day, one)
        if two:
            reported.snapshot(day, two, "VA2")
    write(reported)
    rows = curve(connection, "total_equity_curve")[:3]
    assert of(rows, "accounts") == [1, 2, 2]
    assert of(rows[1:], "deposits", "pnl") == [(10_000, 10), (0, 10_011)]
    assert of(rows[1:], "return") == [pytest.approx(0.1), pytest.approx(10_011 / 10_110)]


def test_an_account_that_nobody_reads_any_more_has_left_with_its_money(
    connection: duckdb.DuckDBPyConnection, write: Write
) -> None:
    reported = Histories()
    for number, day in enumerate(DAYS[: 2 + LEFT_AFTER]):
        reported.snapshot(day, 100 + 10 * number)
        if number < 2:
            reported.snapshot(day, 5000 + number, "VA2")
    write(reported)
    rows = curve(connection, "total_equity_curve")
    assert of(rows, "gap") == [False, False] + [True] * 7  # it may come back
    reported.snapshot(DAYS[2 + LEFT_AFTER], 200)
    reported.write(connection)
    rows = curve(connection, "total_equity_curve")
    assert of(rows, "accounts") == [2, 2, 1, 1, 1, 1, 1, 1, 1]
    assert of(rows, "equity")[:4] == [5100, 5111, 120, 130]
    assert of(rows[2:4], "withdrawals", "pnl") == [(5001, 10), (0, 10)]
    assert rows[2]["return"] == pytest.approx(10 / 110)
    assert not any(of(rows, "gap")[:8])


def test_the_total_bridges_a_time_without_any_account(connection: duckdb.DuckDBPyConnection, write: Write) -> None:
    reported = Histories()
    reported.snapshot(DAYS[0], 100)
    reported.snapshot(DAYS[1], 110)
    reported.snapshot(DAYS[7], 5000, "VA2")
    reported.snapshot(DAYS[8], 5500, "VA2")
    write(reported)
    rows = curve(connection, "total_equity_curve")
    assert of(rows, "equity", "accounts") == [(100, 1), (110, 1), *[(0, 0)] * 5, (5000, 1), (5500, 1)]
    assert of(rows, "return") == [None, pytest.approx(0.1), *[None] * 6, pytest.approx(0.1)]
    assert rows[-1]["growth"] == pytest.approx(1.21)
    assert set(of(rows[2:8], "pnl")) == {0}


def test_other_accounts_change_nothing_of_an_account(connection: duckdb.DuckDBPyConnection, write: Write) -> None:
    reported = Histories()
    reported.snapshot(MON, 100)
    reported.snapshot(WED, 130)
    reported.flow(TUE, 25)
    reported.read(MON, WED)
    before = write(reported)
    for day in DAYS:
        reported.snapshot(day, 7, "VA0")
        reported.reported(day, 8, "VA2")
        reported.flow(day, 9, account_id="VA2")
        reported.read(day, day, "VA2")
    reported.write(connection)
    assert curve(connection) == before


# ---------------------------------------------------------------- the evening that shows a flow


DATED_AND_SHOWN = [
    ((10_000, 10_000, 10_000, 30_000, 30_000), WED, THU),
    ((10_000, 10_000, 30_000, 30_000, 30_000), THU, WED),
    ((500, 20_500, 20_500, 20_500, 20_500), MON, TUE),
    ((500, 20_500, 20_500, 20_500, 20_500), date(2025, 11, 16), TUE),  # the day before history begins
    ((30_000, 30_000, 30_000, 30_000, 30_000), TUE, None),  # in the first equity already
    ((10_000, 10_000, 10_000, 10_000, 10_000, 30_000), FRI, NEXT_MON),
]


def test_a_flow_counts_on_the_evening_that_shows_it(connection: duckdb.DuckDBPyConnection, write: Write) -> None:
    reported, cases = Histories(), by_cash_or_equity(DATED_AND_SHOWN)
    for name, (worth, dated, _), by_cash in cases:
        evenings(reported, name, worth, by_cash=by_cash)
        reported.flow(dated, 20_000, account_id=name)
    write(reported)
    flows = connection.execute("SELECT account_id, counted_on, doubtful FROM external_flows").fetchall()
    assert sorted(flows) == sorted((name, shown, False) for name, (_, _, shown), _ in cases)
    for name, (worth, *_), _ in cases:
        rows = curve(connection, account_id=name)[1 : len(worth)]
        assert set(of(rows, "return")) == {0}, name
        assert not any(of(rows, "uncertain")), name


@of_one_account(DAYS)
def test_cash_tells_a_loss_from_a_deposit_that_came_a_day_later() -> Story:
    """A fall by the deposit and a rise by it the next day: cash showed the deposit when it was dated."""
    reported = Histories()
    for day, equity, cash in zip(DAYS, (10_000, 10_000, 11_000), (1_000, 2_000, 2_000), strict=False):
        reported.snapshot(day, equity, cash=cash)
    reported.flow(TUE, 1_000)
    written = yield reported
    rows = written[1:3]
    assert of(rows, "deposits", "pnl", "uncertain") == [(1_000, -1_000, False), (0, 1_000, False)]


@of_one_account(DAYS)
def test_a_flow_that_no_evening_shows_makes_its_days_uncertain() -> Story:
    reported = Histories()
    for day, equity in zip(DAYS, (10_000, 10_000, 10_100, 10_050, 10_400), strict=False):
        reported.reported(day, equity)
    reported.flow(WED, 5_000)
    written = yield reported
    rows = written[:5]
    assert of(rows, "uncertain") == [False, True, True, True, False]
    assert "5000.00 USD are dated on a day whose equity does not show them" in rows[2]["reason"]
    assert of(rows[1:], "return")[:3] == [None, None, None]
    assert rows[4]["growth"] == pytest.approx(10_400 / 10_050)


FLAT = (10_000,) * 9
IN_TURN = (10_000, 10_000, 15_000, 22_000, 22_000, 22_000, 22_000, 22_000, 22_000)


OFF = [
    ((*FLAT[:5], *(30_000,) * 4), [(WED, 20_000)]),
    ((*FLAT[:3], *(30_000,) * 6), [(NEXT_TUE, 20_000)]),
    ((*FLAT[:7], *(30_000,) * 2), [(TUE, 20_000)]),
    ((*FLAT[:3], *(30_000,) * 6), [(MON, 20_000)]),
    (FLAT, [(THU, 20_000), (FRI, -20_000)]),  # it bounced, and no evening shows it
    (IN_TURN, [(TUE, 5_000), (WED, 7_000)]),
    (IN_TURN, [(THU, 5_000), (FRI, 7_000)]),
    ((10_000, 15_000, 20_000, *(25_000,) * 6), [(WED, 5_000), (THU, 5_000), (FRI, 5_000)]),
    ((10_000, 10_010, 9_990, 10_400, 10_410, *(10_400,) * 4), [(WED, 400)]),
    ((10_000, 10_010, 10_415, 10_400, 10_410, *(10_400,) * 4), [(THU, 400)]),
    ((10_000, 10_010, 9_995, 9_700, 9_710, *(9_700,) * 4), [(WED, -300)]),
]


def test_money_dated_on_another_day_is_no_return_of_an_unmarked_one(
    connection: duckdb.DuckDBPyConnection, write: Write
) -> None:
    """Sessions off, several in a row, back at once, or little: a day has its own return or is marked."""
    reported, cases = Histories(), by_cash_or_equity(OFF)
    for name, (worth, flows), by_cash in cases:
        evenings(reported, name, worth, by_cash=by_cash)
        for day, amount in flows:
            reported.flow(day, amount, account_id=name)
    write(reported)
    for name, *_ in cases:
        rows = curve(connection, account_id=name)
        assert all(row["uncertain"] or abs(row["return"]) < 0.005 for row in rows[1:]), name
        assert rows[-1]["growth"] == pytest.approx(1, abs=0.005), name


OF_AN_OPTIONS_BOOK: list[tuple[tuple[float, ...], dict[date, int], set[date]]] = [
    ((0.2, -0.2, 0.2, 0, -0.2, 0), {TUE: 1_000, WED: -1_000, THU: 500, NEXT_MON: -2_000}, set()),
    ((0.2, -0.2, 0, 0, 0.2, -0.2), {TUE: -500, NEXT_MON: -500}, set()),  # of a quarter of what sets them off
    ((0.2, 0, 0, -0.2, 0, 0), {TUE: -700, FRI: 700}, set()),  # one evening alone, by more than the flow
    ((0.2, -0.2, 0, 0, 0, 0), {TUE: -1_500}, {TUE, WED}),
    ((0, 0, -0.2, 0, 0.2, 0), {NEXT_MON: -2_000}, {THU, FRI, NEXT_MON, NEXT_TUE}),
]


def test_what_an_options_book_makes_of_a_day_counts_unless_a_flow_a_session_or_two_off_would_make_it_too(
    connection: duckdb.DuckDBPyConnection, write: Write
) -> None:
    """Of the broker's daily values alone: nothing but the flow's date tells a rise from money."""
    reported = Histories()
    for place, (returns, flows, _) in enumerate(OF_AN_OPTIONS_BOOK):
        worth = Decimal(10_000)
        reported.reported(MON, worth, f"VA{place}")
        for day, return_ in zip(DAYS[1:], returns, strict=False):
            flow = flows.get(day, 0)
            worth = (worth + max(flow, 0)) * (1 + Decimal(str(return_))) + min(flow, 0)
            reported.reported(day, worth, f"VA{place}")
            if flow:
                reported.flow(day, flow, account_id=f"VA{place}")
    write(reported)
    for place, (returns, _, disputed) in enumerate(OF_AN_OPTIONS_BOOK):
        rows = {row["trade_date"]: row for row in curve(connection, account_id=f"VA{place}")[1:7]}
        assert {day for day, row in rows.items() if row["uncertain"]} == disputed, place
        for (day, row), return_ in zip(rows.items(), returns, strict=True):
            assert row["return"] == (None if day in disputed else pytest.approx(return_)), place


def test_what_nobody_knows_is_no_return_of_a_day_sessions_off(
    connection: duckdb.DuckDBPyConnection, write: Write
) -> None:
    reported = Histories()
    cases = [
        (f"{word} {dated}", dated, word, amount, worth)
        for dated in (date(2025, 11, 14), MON, WED, NEXT_TUE)
        for word, amount, worth in (("novel", 20_000, 30_000), ("transfer", 0, 60_000))
    ]
    for name, dated, word, amount, worth in cases:
        evenings(reported, name, [10_000 if place < 4 else worth for place, _ in enumerate(DAYS)])
        reported.flow(dated, amount, word, name)
    write(reported)
    for name, *_ in cases:
        rows = curve(connection, account_id=name)
        assert (rows[4]["uncertain"], rows[4]["return"], rows[-1]["growth"]) == (True, None, 1), name


@of_one_account(DAYS)
def test_money_that_the_broker_never_reports_is_no_return() -> Story:
    """Cash and equity rise by it, and the history of the day was read: it is no profit of what is held."""
    reported = Histories()
    for day, equity in zip(DAYS, (10_000, 10_000, 30_000, 30_300), strict=False):
        reported.snapshot(day, equity, cash=min(equity, 30_000))
    reported.read(date(2025, 11, 10), DAYS[-1])
    written = yield reported
    rows = written[:4]
    assert of(rows[1:], "uncertain", "return") == [(False, 0), (True, None), (False, pytest.approx(0.01))]
    assert rows[2]["reason"] == "20000.00 USD came or left that the broker does not report"


def test_a_leap_of_the_brokers_own_value_is_no_return_where_nothing_is_known_to_be_held(
    connection: duckdb.DuckDBPyConnection, write: Write
) -> None:
    reported = Histories()
    leaps = {
        20_000: (10_000, 10_000, 30_000, 30_300),
        -20_000: (30_000, 30_000, 10_000, 10_100),
        30_000: (0, 0, 30_000, 30_300),
    }
    markets = {"up": (10_000, 10_000, 13_000), "up and down": (10_000, 13_000, 9_100), "twice": (100, 200, 100)}
    for name, worth in (*leaps.items(), *markets.items()):
        evenings(reported, str(name), worth)
        reported.read(date(2025, 11, 10), DAYS[-1], str(name))
    write(reported)
    for moved in leaps:
        rows = curve(connection, account_id=str(moved))[:4]
        assert of(rows[1:], "uncertain") == [False, True, False]
        assert rows[2]["reason"] == f"nothing is known to be held that can have moved it by {moved}.00 USD"
        assert of(rows[2:], "return", "growth") == [(None, 1), (pytest.approx(0.01), pytest.approx(1.01))]
    for name in markets:  # a day that markets make is a return though nothing was ever seen
        assert of(curve(connection, account_id=name)[:3], "uncertain") == [False] * 3, name


@of_one_account(DAYS)
def test_what_was_traded_may_have_moved_the_brokers_own_value() -> Story:
    reported = Histories()
    for day, value in zip(DAYS, (10_000, 10_000, 25_000), strict=False):
        reported.reported(day, value)
    reported.flow(WED, 15_000, "trade")
    written = yield reported
    rows = written[:3]
    assert of(rows[2:], "uncertain", "return") == [(False, 1.5)]


def test_cash_of_later_days_tells_what_moved_the_brokers_own_value(
    connection: duckdb.DuckDBPyConnection, write: Write
) -> None:
    """Money that came is cash at the next snapshot; what is held is not."""
    reported = Histories()
    for name, cash_after in (("money", 30_000), ("held", 10_000)):
        reported.snapshot(MON, 10_000, name, cash=10_000)
        for day, value in zip((TUE, WED, THU), (10_000, 30_000, 30_000), strict=True):
            reported.reported(day, value, name)
        reported.snapshot(FRI, 30_000, name, cash=cash_after)
        reported.read(date(2025, 11, 10), DAYS[-1], name)
    write(reported)
    for name, is_uncertain in (("money", True), ("held", False)):
        rows = curve(connection, account_id=name)[:5]
        assert of(rows[1:], "uncertain") == [False, is_uncertain, False, False]


@of_one_account(DAYS)
def test_cash_that_was_not_read_the_evening_before_still_tells_that_a_flow_did_not_come() -> Story:
    """A withdrawal is dated on Wednesday, when a fall of the market looks like it; cash sees it on Thursday."""
    reported = Histories()
    reported.snapshot(MON, 14_000, cash=4_000)
    reported.reported(TUE, 13_400)
    reported.snapshot(WED, 12_000, cash=4_000)
    reported.snapshot(THU, 10_000, cash=2_300)
    reported.flow(WED, -1_700)
    reported.read(date(2025, 11, 10), DAYS[-1])
    true = {WED: 12_000 / 13_400 - 1, THU: 11_700 / 12_000 - 1}
    written = yield reported
    rows = {row["trade_date"]: row for row in written}
    for day, return_ in true.items():
        assert rows[day]["uncertain"] or rows[day]["return"] == pytest.approx(return_)


@of_one_account(DAYS)
def test_an_account_that_was_seen_to_hold_nothing_earns_nothing_that_is_not_marked() -> Story:
    reported = Histories()
    reported.snapshot(MON, 10_000, cash=10_000)
    for day, value in zip((TUE, WED), (10_700, 10_710), strict=True):
        reported.reported(day, value)
    reported.read(date(2025, 11, 10), DAYS[-1])
    written = yield reported
    assert of(written[1:3], "uncertain") == [True, False]


@of_one_account(DAYS)
def test_cash_that_a_purchase_takes_is_no_money_that_left() -> Story:
    reported = Histories()
    for day, equity, cash in zip(DAYS, (10_000, 10_000, 10_200), (10_000, 2_000, 2_000), strict=False):
        reported.snapshot(day, equity, cash=cash)
    reported.read(date(2025, 11, 10), DAYS[-1])
    written = yield reported
    assert of(written[1:3], "uncertain", "return") == [(False, 0), (False, pytest.approx(0.02))]


# of sessions that move by a third of a percent at most
LONG = [
    date(2025, 11, 3) + timedelta(days=day)
    for day in range(26)
    if (date(2025, 11, 3) + timedelta(days=day)).weekday() < 5
]
CALM = [Decimal(move) for move in (0, -7, 31, -22, 5, 12, -9, 20, -4, 8, 3, -15, 11, 6, -8, 2, 9, -5, 1, 4)]


def calm(
    came: dict[int, int], *, by_cash: bool = False, reported: Histories | None = None, name: str = ONE
) -> Histories:
    """An account of 10,000 that moves by little, with what came on which of LONG, and its history read."""
    reported = reported or Histories()
    worth, cash = Decimal(10_000), Decimal(4_000)
    for place, (day, move) in enumerate(zip(LONG, CALM, strict=True)):
        worth, cash = worth + move + came.get(place, 0), cash + came.get(place, 0)
        if by_cash:
            reported.snapshot(day, worth, name, cash=cash)
        else:
            reported.reported(day, worth, name)
    reported.read(LONG[0], LONG[-1], name)
    return reported


def assert_own_or_marked(rows: list[Any], came: dict[int, int], marked: set[int] | None = None) -> None:
    """Every evening has the return that its move makes, or is marked: those that are given, if they are."""
    worth = Decimal(10_000)
    for place, row in enumerate(rows):
        flow = came.get(place, 0)
        true = CALM[place] / (worth + max(flow, 0))
        assert place == 0 or row["uncertain"] or row["return"] == pytest.approx(float(true), abs=1e-9), row
        worth += CALM[place] + flow
    assert marked is None or {place for place, row in enumerate(rows) if row["uncertain"]} == marked


DATED_OFF = {
    "a day early": ({5: 100}, {4: 100}),
    "a day late": ({5: 100}, {6: 100}),
    "monthly": ({5: -150, 12: -150}, {4: -150, 11: -150}),
    "every day": (dict.fromkeys(range(3, 12), 300), dict.fromkeys(range(2, 11), 300)),
    "every day more": (
        {place: 100 * place for place in range(3, 12)},
        {place - 1: 100 * place for place in range(3, 12)},
    ),
}


def test_little_money_dated_off_is_known_by_how_little_the_account_moves_else(
    connection: duckdb.DuckDBPyConnection, write: Write
) -> None:
    """Of the broker's daily values alone; a market that moves the account by a third of a percent makes no 1 %."""
    reported = Histories()
    for name, (came, dated) in DATED_OFF.items():
        calm(came, reported=reported, name=name)
        for place, amount in dated.items():
            reported.flow(LONG[place], amount, account_id=name)
    write(reported, LONG)
    for name, (came, _) in DATED_OFF.items():
        assert_own_or_marked(curve(connection, account_id=name), came)


def test_a_deposit_that_went_back_is_no_profit_and_no_loss_whatever_its_return_is_dated(
    connection: duckdb.DuckDBPyConnection, write: Write
) -> None:
    """Returned by the bank: posted with the date of the deposit, so that both set each other off, or never."""
    reported = Histories()
    cases = [(5_000, 1, False), (5_000, 2, False), (450, 2, False), (450, 2, True), (450, 1, True)]
    for amount, posted, by_cash in cases:
        name = f"{amount} {posted} {by_cash}"
        calm({5: amount, 8: -amount}, by_cash=by_cash, reported=reported, name=name)
        for one in (amount, -amount)[:posted]:
            reported.flow(LONG[5], one, account_id=name)
    write(reported, LONG)
    for amount, posted, by_cash in cases:
        rows = curve(connection, account_id=f"{amount} {posted} {by_cash}")
        assert_own_or_marked(rows, {5: amount, 8: -amount}, {5, 8} if posted == 2 else {8})


@of_one_account(LONG)
def test_a_move_that_the_account_never_makes_else_is_money_where_nothing_is_known_to_be_held() -> Story:
    came = {9: 3_000}
    written = yield calm(came)
    assert_own_or_marked(written, came, {9})


@of_one_account(LONG)
def test_a_step_of_an_account_that_stands_still_else_keeps_its_return() -> Story:
    """How far an account uses to move is told by evenings on which it moved; it may be valued seldom."""
    reported = Histories()
    for place, day in enumerate(LONG):
        reported.reported(day, 11_000 if place >= 15 else 10_000)
    reported.read(LONG[0], LONG[-1])
    rows = yield reported
    assert rows[15]["return"] == pytest.approx(0.1)
    assert not any(row["uncertain"] for row in rows)


def test_little_cash_that_history_does_not_have_marks_its_evening(
    connection: duckdb.DuckDBPyConnection, write: Write
) -> None:
    """Cash tells it to the cent, though a market could have moved equity as far."""
    reported = Histories()
    for amount in (300, 100, 15):
        calm({7: amount}, by_cash=True, reported=reported, name=str(amount))
    write(reported, LONG)
    for amount in (300, 100, 15):
        assert_own_or_marked(curve(connection, account_id=str(amount)), {7: amount}, {7})


@of_one_account(LONG)
def test_little_cash_that_came_between_two_snapshots_marks_the_evening_that_shows_it() -> Story:
    reported = calm({7: 300}, by_cash=True)
    for snapshots in (schema.TRADIER_SNAPSHOTS, schema.ACCOUNT_BALANCES):
        of_days = {row["trade_date"]: row for row in reported.rows[snapshots]}
        reported.rows[snapshots] = [row for day, row in of_days.items() if day not in LONG[6:9]]
    for day in LONG[6:9]:
        reported.reported(day, of_days[day]["equity"])
    written = yield reported
    assert_own_or_marked(written, {7: 300}, {7})


def test_cash_that_comes_a_session_late_is_no_money_that_came(
    connection: duckdb.DuckDBPyConnection, write: Write
) -> None:
    reported, late = Histories(), {"dividend": 80, "trade": -120}
    for word, amount in late.items():
        calm({}, reported=reported, name=word)
        cash = Decimal(4_000)
        for place, (day, worth) in enumerate(zip(LONG, accumulate(CALM), strict=True)):
            cash += amount if place == 8 else 0
            reported.snapshot(day, 10_000 + worth, word, cash=cash)
        reported.flow(LONG[7], amount, word, word)
    write(reported, LONG)
    for word in late:
        assert_own_or_marked(curve(connection, account_id=word), {}, set())


@of_one_account(LONG)
def test_an_adjustment_that_makes_an_evening_may_be_money_that_came_or_left() -> Story:
    """The broker's word for a returned deposit, or for what it gets wrong; one that equity does not show is neither."""
    reported = calm({8: -2_000})
    reported.flow(LONG[8], -2_000, "adjustment")
    reported.flow(LONG[12], 4_000, "adjustment")
    rows = yield reported
    assert_own_or_marked(rows, {8: -2_000}, {8})
    assert rows[8]["reason"] == "-2000.00 USD of it are an adjustment, which may have come or left"


@of_one_account(LONG)
def test_few_securities_that_came_the_day_before_their_date_mark_it() -> Story:
    reported = calm({7: 300})
    reported.flow(LONG[8], 0, "transfer")
    written = yield reported
    assert_own_or_marked(written, {7: 300}, {7, 8})


def test_securities_and_unknown_words_make_their_day_uncertain_until_the_owner_states_what_came(
    connection: duckdb.DuckDBPyConnection, write: Write
) -> None:
    reported = Histories()
    for day, equity in zip(DAYS, (10_000, 60_000, 60_000, 85_000, 85_000), strict=False):
        reported.reported(day, equity)
    reported.flow(TUE, 0, "transfer")
    reported.flow(THU, 25_000, "someBrandNewKind")
    assert of(write(reported)[:5], "uncertain", "return")[1:] == [(True, None), (False, 0), (True, None), (False, 0)]
    for day, amount in ((TUE, 50_000), (THU, 25_000)):
        reported.stated(day, amount)
    reported.write(connection)
    rows = curve(connection)[:5]
    assert of(rows[1:], "deposits", "stated", "return", "uncertain") == [
        (50_000, 50_000, 0, False),
        (0, 0, 0, False),
        (25_000, 25_000, 0, False),
        (0, 0, 0, False),
    ]


def test_what_the_owner_states_of_a_flow_is_its_date_unless_the_evenings_show_it_on_the_brokers(
    write: Write, connection: duckdb.DuckDBPyConnection
) -> None:
    """A little flow is less than the market moves; only the owner, or cash, knows its evening."""
    reported, expected, known = Histories(), {}, []
    for stated, posted in ((TUE, THU), (FRI, WED), (TUE, WED), (MON, WED)):
        for amount, by_cash in product((300, 4_000, -300), (False, True)):
            for came in (stated, posted):
                name = f"{stated} {posted} {amount} {by_cash} {came}"
                reported.stated(stated, amount, name)
                reported.flow(posted, amount, account_id=name, first_read_at=at(NEXT_TUE, time(12)))
                worth = Decimal(10_000)
                for place, day in enumerate(DAYS[:6]):
                    worth = worth * (1 + Decimal((-1) ** place * 2) / 100) + (amount if day == came else 0)
                    cash = amount if day >= came else 0
                    if by_cash:
                        reported.snapshot(day, worth, name, cash=cash)
                    else:
                        reported.reported(day, worth, name)
                reported.read(MON, DAYS[5], name)
                is_shown = came == posted and (by_cash or amount == 4_000)
                expected[name] = posted if is_shown else None if stated == MON else stated
                known += [name] if is_shown or came == stated else []
    write(reported)
    assert dict(connection.execute("SELECT account_id, counted_on FROM external_flows").fetchall()) == expected
    for name in known:
        days = curve(connection, account_id=name)[1:6]
        assert all(row["uncertain"] or abs(row["return"]) < 0.025 for row in days), name


def test_the_broker_may_spell_a_flow_as_it_likes(connection: duckdb.DuckDBPyConnection, write: Write) -> None:
    reported = Histories()
    words = ("ACH", "acat", "ACATS", "eft", "Deposit", "Wire Transfer", "wire-in", "withdrawal")
    for word in words:
        evenings(reported, word, (10_000, 35_000))
        reported.flow(TUE, 25_000, word, word)
    write(reported)
    for word in words:
        (row,) = curve(connection, account_id=word)[1:2]
        assert of([row], "deposits", "return", "uncertain") == [(25_000, 0, False)], word


def test_equal_and_opposite_ones_of_a_day_inside_an_account_are_no_flows(
    connection: duckdb.DuckDBPyConnection, write: Write
) -> None:
    reported = Histories()
    for day, equity in zip(DAYS, (10_000, 11_000), strict=False):
        reported.reported(day, equity)
    for amount in (50_000, -50_000, 50_000, -7):
        reported.flow(TUE, amount, "journal")
    reported.flow(TUE, -50_000, "JOURNAL")
    assert of(write(reported)[1:2], "deposits", "withdrawals") == [(0, 7)]
    kinds = connection.execute("SELECT kind, external, count(*) FROM cash_flows GROUP BY ALL ORDER BY ALL").fetchall()
    assert kinds == [("internal", False, 4), ("withdrawal", True, 1)]


def test_what_one_account_journals_to_another_is_no_flow_of_the_total(
    connection: duckdb.DuckDBPyConnection, write: Write
) -> None:
    reported = Histories()
    for day, one, two in zip(DAYS, (10_000, 2_000), (10_000, 19_000), strict=False):
        reported.reported(day, one)
        reported.reported(day, two, "VA2")
    reported.flow(TUE, -9_000, "journal")
    reported.flow(TUE, 9_000, "JNL", "VA2")
    assert of(write(reported)[1:2], "withdrawals", "return") == [(9_000, pytest.approx(0.1))]
    total = curve(connection, "total_equity_curve")[1]
    assert of([total], "deposits", "withdrawals", "return") == [(0, 0, pytest.approx(0.05))]


JOURNALS: list[tuple[tuple[int, ...], tuple[int, ...], int]] = [
    ((-5_000,), (2_000, 3_000), 0),
    ((-5_000, -700), (3_000, 2_000), 700),  # 700 went to an account that is not held
    ((-4_000, -1_000), (5_000,), 0),
    ((-5_000, -4_000), (5_000, 3_000, 1_000), 0),
    ((-5_000,), (), 5_000),
]


def test_journals_of_different_size_that_come_to_the_same_are_no_flows_of_the_total(
    connection: duckdb.DuckDBPyConnection, write: Write
) -> None:
    """Each case in an environment of its own, which has a total of its own."""
    reported = Histories()
    for place, (sent, received, _) in enumerate(JOURNALS):
        one, two = f"{ONE} {place}", f"VA2 {place}"
        for day, moved, profit in ((DAYS[0], 0, 0), (TUE, 1, 500)):
            reported.snapshot(day, 10_000 + moved * sum(sent) + profit, one, environment=str(place))
            reported.snapshot(day, 10_000 + moved * sum(received) + profit, two, environment=str(place))
        for account_id, amounts in ((one, sent), (two, received)):
            for amount in amounts:
                reported.flow(TUE, amount, "journal", account_id)
    write(reported)
    totals = [row for row in curve(connection, "total_equity_curve") if row["trade_date"] == TUE]
    found = {row["environment"]: of([row], "deposits", "withdrawals", "return") for row in totals}
    assert found == {str(place): [(0, left, pytest.approx(0.05))] for place, (*_, left) in enumerate(JOURNALS)}


def test_an_account_that_is_read_again_joins_the_total_again(
    connection: duckdb.DuckDBPyConnection, write: Write
) -> None:
    reported = Histories()
    for number, day in enumerate(DAYS):
        reported.reported(day, 100)
        if number < 2:
            reported.reported(day, 5_000, "VA2")
    write(reported)
    before = curve(connection, "total_equity_curve")
    reported.reported(DAYS[-1], 6_000, "VA2")
    reported.flow(DAYS[4], 1_000, account_id="VA2")
    reported.write(connection)
    after = curve(connection, "total_equity_curve")
    assert after[:-1] == before[:-1]
    assert of(after, "equity", "accounts")[-2:] == [(100, 1), (6_100, 2)]
    assert of(after[-1:], "deposits", "pnl", "return") == [(6_000, 0, 0)]


def test_the_total_names_the_account_that_it_waits_for(connection: duckdb.DuckDBPyConnection, write: Write) -> None:
    reported = Histories()
    for number, day in enumerate(DAYS[:4]):
        reported.reported(day, 100)
        if number < 2:
            reported.reported(day, 5_000, "VA2")
    write(reported)
    assert of(curve(connection, "total_equity_curve")[:4], "waits_for") == [None, None, ["VA2"], ["VA2"]]


# ---------------------------------------------------------------- another way to compute it


@dataclass
class Simulated:
    """A random account, kept as a fund keeps its books: in units at a price.

    A deposit buys units at the price of the day before, a withdrawal sells them at the price of the day; the price is
    what all is worth by unit. Flows wait, day by day, for the next session whose equity is known. `factor` is what a
    day makes of the price; None without units.
    """

    account_id: str
    dice: Random
    rows: dict[date, dict[str, Any]] = field(default_factory=dict)

    def live(self, reported: Histories, calendar: list[date], sessions: set[date]) -> None:
        dice = self.dice
        equity = Decimal(dice.choice([0, 0, dice.randrange(1, 3_000_000)])) / 100
        start = dice.randrange(len(calendar) // 2)
        waiting, known = [], None
        spanned = 0
        for day in calendar[start:]:
            flows = [self._flow(reported, day, equity) for _ in range(dice.choice([0, 0, 0, 1, 1, 2]))]
            waiting += flows
            equity += sum(flows, Decimal(0)) + self._result(equity)
            if day not in sessions:
                continue
            spanned += 1
            if dice.random() < 0.15:
                self._hide(reported, day, equity)
                continue
            self._show(reported, day, equity)
            if known is None:
                self.rows[day] = {"equity": equity, "factor": None, "first": True}
            else:
                paid_in = sum((flow for flow in waiting if flow > 0), Decimal(0))
                taken_out = -sum((flow for flow in waiting if flow < 0), Decimal(0))
                units = Fraction(known) + Fraction(paid_in)
                price = max((Fraction(equity) + Fraction(taken_out)) / units, Fraction(0)) if units > 0 else None
                self.rows[day] = {
                    "equity": equity,
                    "deposits": paid_in,
                    "withdrawals": taken_out,
                    "pnl": equity - known - paid_in + taken_out,
                    "factor": price,
                    "days_spanned": spanned,
                    "before": known,
                }
            known, waiting, spanned = equity, [], 0

    def _flow(self, reported: Histories, day: date, equity: Decimal) -> Decimal:
        if self.dice.random() < 0.1 and equity > 0:
            amount = -equity  # all of it
        else:
            amount = Decimal(self.dice.randrange(-200_000, 500_000)) / 100
        reported.flow(day, amount, self.dice.choice(["ach", "wire", "check", "journal"]), self.account_id)
        return amount

    def _result(self, equity: Decimal) -> Decimal:
        return (equity * Decimal(self.dice.randrange(-800, 900)) / 10_000).quantize(Decimal("0.01"))

    def _show(self, reported: Histories, day: date, equity: Decimal) -> None:
        match self.dice.randrange(8):  # snapshots are wide rows
            case 1:
                reported.snapshot(day, equity - 1, self.account_id, time(16))
                reported.reported(day, equity, self.account_id)
            case 2:
                reported.snapshot(day, equity, self.account_id)
                reported.snapshot(day, equity + 1, self.account_id, time(22), "torn")
            case 3:
                reported.snapshot(day, equity - 5, self.account_id, time(15))
                reported.snapshot(day, equity, self.account_id)
                reported.reported(day, equity + 2, self.account_id)
            case _:
                reported.reported(day, equity, self.account_id)

    def _hide(self, reported: Histories, day: date, equity: Decimal) -> None:
        if self.dice.random() < 0.5:
            reported.snapshot(day, equity + 9, self.account_id, coherence="torn")
            reported.reported(day, equity + 9, self.account_id, at(day + timedelta(days=3), time(12)))


CALENDAR = [date(2025, 11, 1) + timedelta(days=number) for number in range(35)]
OPEN_DAYS = {day for day in CALENDAR if day.weekday() < 5 and day != date(2025, 11, 27)}


@pytest.mark.parametrize("number", [100, pytest.param(1000, marks=pytest.mark.soak)])
def test_random_accounts_are_as_a_fund_keeps_its_books(number: int, connection: duckdb.DuckDBPyConnection) -> None:
    reported = Histories()
    reported.sessions(sorted(OPEN_DAYS))
    accounts = [Simulated(f"VA{seed:04}", Random(seed)) for seed in range(number)]
    for account in accounts:
        account.live(reported, CALENDAR, OPEN_DAYS)
    reported.write(connection)
    by_account: dict[str, list[Any]] = {account.account_id: [] for account in accounts}
    cursor = connection.execute("FROM equity_curve ORDER BY account_id, trade_date")
    names = [column[0] for column in cursor.description or ()]
    for values in cursor.fetchall():
        row = dict(zip(names, values, strict=True))
        by_account[row["account_id"]].append(row)
    compared, marked, moved = 0, 0, 0
    exact = ("deposits", "withdrawals", "pnl", "days_spanned")
    for account in accounts:
        rows = by_account[account.account_id]
        known = [row for row in rows if not row["gap"]]
        assert of(known, "trade_date") == list(account.rows)
        assert of(rows, "trade_date") == sorted(day for day in OPEN_DAYS if day >= min(account.rows, default=date.max))
        _identities(rows, known)
        expected = list(account.rows.values())
        assert of(known, "equity") == [one["equity"] for one in expected]
        if any(
            of([row], *exact) != [tuple(one[name] for name in exact)] for row, one in pairwise_known(known, expected)
        ):
            moved += 1  # a market move beside a flow that looks like the flow a day off
            continue
        growth = Fraction(1)
        for row, one in pairwise_known(known, expected):
            growth *= 1 if row["uncertain"] or one["factor"] is None else one["factor"]
            assert isclose(row["growth"], growth, rel_tol=1e-9, abs_tol=1e-12)
            assert (row["return"] is None) == (row["uncertain"] or one["factor"] is None)
            compared += 1
            marked += row["uncertain"]
        if (found := figures(rows)) and found.time_weighted.period is not None:
            assert isclose(1 + found.time_weighted.period, known[-1]["growth"], rel_tol=1e-9, abs_tol=1e-12)
            assert found.max_drawdown == pytest.approx(min(of(known, "drawdown")))
            assert found.pnl == sum(of(known[1:], "pnl"))
            uncertain = {row["trade_date"] for row in known if row["uncertain"]}
            assert uncertain == {day for day, _ in found.uncertain} | ({known[0]["trade_date"]} & uncertain)
            assert not {one[0] for one in (found.best, found.worst) if one} & uncertain
    assert compared > 10 * number
    assert marked < compared / 7
    assert moved < number / 50


def pairwise_known(known: list[Any], expected: list[Any]) -> Iterator[tuple[Any, Any]]:
    """The days after the first, beside what is expected of them."""
    return zip(known[1:], expected[1:], strict=True)


def _identities(rows: list[Any], known: list[Any]) -> None:
    growth, peak = 1.0, 1.0
    for before, row in pairwise(known):
        assert row["pnl"] + row["deposits"] - row["withdrawals"] == row["equity"] - before["equity"]
        growth *= max(1 + (row["return"] or 0), 0)
        peak = max(peak, growth)
        assert not row["uncertain"] or (row["return"] is None and row["reason"] and row["provisional"])
        assert isclose(row["growth"], growth, rel_tol=1e-9)
        assert isclose(row["peak"], peak, rel_tol=1e-9)
        assert isclose(row["drawdown"], growth / peak - 1, rel_tol=1e-9, abs_tol=1e-12)
        assert -1 <= row["drawdown"] <= 0
    for row in rows:
        assert not row["gap"] or of([row], "equity", *FIGURES) == [(None,) * (1 + len(FIGURES))]


@sampled("seed", range(6))
def test_random_accounts_add_up_to_the_total(connection: duckdb.DuckDBPyConnection, seed: int) -> None:
    reported = Histories()
    reported.sessions(sorted(OPEN_DAYS))
    accounts = [Simulated(f"VA{number}", Random(f"{seed}/{number}")) for number in range(3)]
    for account in accounts:
        account.live(reported, CALENDAR, OPEN_DAYS)
    reported.write(connection)
    total = curve(connection, "total_equity_curve")
    begun = {account.account_id: min(account.rows) for account in accounts if account.rows}
    since = min(begun.values())
    flows = connection.execute("SELECT account_id, trade_date, kind, amount FROM cash_flows").fetchall()
    for row in total:
        day = row["trade_date"]
        worth = [account.rows.get(day) for account in accounts if begun.get(account.account_id, date.max) <= day]
        assert row["accounts"] == len(worth)
        assert row["gap"] == (None in worth)
        assert row["equity"] == (None if None in worth else sum(one["equity"] for one in worth))
    for before, row in pairwise([row for row in total if not row["gap"]]):
        span = range((row["trade_date"] - before["trade_date"]).days)
        days = {before["trade_date"] + timedelta(days=number + 1) for number in span}
        of_span = [
            (kind, amount)
            for account_id, day, kind, amount in flows
            if day in days and account_id in begun and begun[account_id] < day
        ]
        joined = sum(
            account.rows[begun[account.account_id]]["equity"]
            for account in accounts
            if account.rows and begun[account.account_id] in days
        )
        assert row["deposits"] == sum(amount for kind, amount in of_span if kind == "deposit") + joined
        assert row["withdrawals"] == -sum(amount for kind, amount in of_span if kind == "withdrawal")
        assert row["pnl"] == row["equity"] - before["equity"] - row["deposits"] + row["withdrawals"]
    assert total[0]["trade_date"] == since
