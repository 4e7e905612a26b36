"""The rows that a publish keeps of days and equity curves are those that their queries give, whatever came between."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tradier_pipeline.core.settings import Settings
from tradier_pipeline.domain.calendar import MarketCalendar
from tradier_pipeline.ledger.store import Ledger
from tradier_pipeline.publish.missed import missed_row
from tradier_pipeline.publish.stated_flows import publish_stated, stated_rows
from tradier_pipeline.publish.store import NotPublishedError, rebuild, store_activity, store_snapshot
from tradier_pipeline.reconcile.derived_rows import DERIVED_CHECKS
from tradier_pipeline.warehouse import derived, schema
from tradier_pipeline.warehouse.closings import derived_rows
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline_tests.conftest import MAKE_CURVES, Home
from tradier_pipeline_tests.support.activities import ACCOUNT, body_of, day_value, event, filed
from tradier_pipeline_tests.support.bodies import account, answers, balances, land
from tradier_pipeline_tests.support.curves import MadeCurves, days_made_later
from tradier_pipeline_tests.support.histories import at
from tradier_pipeline_tests.support.sampling import sampled

CALENDAR = MarketCalendar("XNYS")
DAYS = [date(2025, 11, day) for day in (17, 18, 19, 20, 21, 22, 24)]  # one of them a Saturday
OTHER = "VA2"
(CHECK,) = DERIVED_CHECKS
BEFORE, AFTER, LATER = time(16), time(21, 15), time(22)  # UTC; the close is at 21:00


@pytest.fixture(autouse=True)
def _made_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not copied, as other tests have them."""
    monkeypatch.setattr(derived, "_make_curves", MAKE_CURVES)


class Book:
    """A home to which things happen, and its kept rows."""

    def __init__(self, home: Path) -> None:
        self.home = Home(home)
        self.number = 0
        self.ledger = Ledger(home / "ledger.sqlite")

    def snapshot(self, day: date, clock_time: time, equity: int, account_id: str, torn: bool) -> None:
        self.number += 1  # no two of an instant
        reported = answers(
            account={"profile": {"account": account(account_id)}},
            balances={"balances": balances(number=account_id, total_equity=Decimal(equity), total_cash=equity)},
        )
        read_at = at(day, clock_time) + timedelta(seconds=self.number)
        landed = land(self.home.zone, reported, read_at, account_id=account_id, verdict="torn" if torn else "coherent")
        with suppress(NotPublishedError):  # it is missed then, which changes the rows, too
            store_snapshot(self.home.warehouse, landed)

    def history(self, day: date, amount: int, kind: str, days_after: int) -> None:
        """Of the date and some before; what an earlier read had of them and this one lacks was taken back."""
        self.number += 1
        read_at = at(day + timedelta(days=days_after), time(12)) + timedelta(seconds=self.number)
        dates = (day - timedelta(days=self.number), day)  # no two extracts are of the same dates
        bodies = {"history": [body_of("history", [event(day, amount, kind)] if amount else [])]}
        store_activity(self.home.warehouse, filed(self.home.zone, dates, read_at, **bodies), CALENDAR)

    def values(self, day: date, value: int) -> None:
        self.number += 1
        read_at = at(day + timedelta(days=1), time(13)) + timedelta(seconds=self.number)
        bodies = {"historical_balances": [body_of("historical_balances", [day_value(day, value)])]}
        dates = (day - timedelta(days=self.number), day)
        store_activity(self.home.warehouse, filed(self.home.zone, dates, read_at, **bodies), CALENDAR)

    def state(self, day: date, amount: int) -> None:
        kind = "withdrawal" if amount < 0 else "deposit"
        of_cash: dict[str, Any] = {"symbol": None, "quantity": None, "note": None}
        self.ledger.state_flow(ACCOUNT, day, kind, Decimal(amount), stated_by="owner", **of_cash)
        publish_stated(Settings(pipeline_home=self.home.path))

    def unstate(self, _: date) -> None:
        flows = [flow for flow in self.ledger.stated_flows() if not flow.removed_at] if self.ledger.exists else []
        for flow in flows[:1]:
            self.ledger.remove_flow(flow.flow_id, "owner")
        publish_stated(Settings(pipeline_home=self.home.path))

    def judge(self, day: date, verdict: str) -> None:
        """Later evidence, straight in the table, as of the reconciliation."""
        with self.home.warehouse.staged() as staged:
            staged.connection.execute(
                f"UPDATE tradier_snapshots SET verdict = '{verdict}' WHERE trade_date = DATE '{day}'"
            )

    def refuse(self, day: date) -> None:
        found = [one for one in self.home.zone.snapshots() if one.snapshot_id.trade_date == day]
        with self.home.warehouse.staged() as staged:
            for landed in found[-1:]:
                staged.refuse(missed_row(landed.zone, landed.directory, str(landed.snapshot_id), "refused"))

    def rebuild(self, _: date) -> None:
        if list(self.home.zone.snapshots()):
            rebuild(self.home.warehouse, self.home.zone, lambda _: None, stated=stated_rows(self.ledger))


def differing(path: Path) -> list[Any]:
    with connect_readonly(path) as connection:
        return [
            (rows.table, rows.kept_only, rows.defined_only)
            for rows in derived_rows(connection)
            if rows.kept_only or rows.defined_only
        ]


_DAYS = st.sampled_from(DAYS)
_AMOUNTS = st.sampled_from([0, 500, -500, 10_000, -10_000])


def _happens(what: Callable[..., None], *others: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(st.just(what), _DAYS, *others)


SNAPSHOTS = _happens(
    Book.snapshot,
    st.sampled_from([BEFORE, BEFORE, AFTER, LATER]),
    st.sampled_from([10_000, 10_500, 20_000, 0, -5]),
    st.sampled_from([ACCOUNT, OTHER]),
    st.sampled_from([False, False, False, True]),
)
HAPPENINGS = st.lists(
    st.one_of(
        *(SNAPSHOTS, SNAPSHOTS, SNAPSHOTS),
        _happens(Book.history, _AMOUNTS, st.sampled_from(["ach", "dividend", "journal", "novel"]), st.integers(0, 20)),
        _happens(Book.values, st.sampled_from([10_000, 20_500])),
        _happens(Book.state, _AMOUNTS),
        _happens(Book.judge, st.sampled_from(["good", "doubtful"])),
        *(_happens(what) for what in (Book.unstate, Book.refuse, Book.rebuild)),
    ),
    min_size=1,
    max_size=8,
)
LONG = settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))


def _follow(book: Book, happenings: list[Any], every: int = 1) -> None:
    """Compare after every so many of what happens, and after the last."""
    for left, (what, *given_) in zip(reversed(range(len(happenings))), happenings, strict=True):
        what(book, *given_)
        assert left % every or differing(book.home.warehouse.path) == [], what


EACH_KIND = [
    (Book.snapshot, DAYS[4], BEFORE, 10_000, OTHER, False),
    (Book.state, DAYS[2], 500),
    (Book.unstate, DAYS[2]),
    (Book.history, DAYS[2], 500, "ach", 20),
    (Book.history, DAYS[3], 0, "ach", 20),  # taken back
    (Book.history, DAYS[1], 500, "novel", 1),
    (Book.values, DAYS[4], 20_500),
    (Book.snapshot, DAYS[2], LATER, 20_000, ACCOUNT, False),  # late
    (Book.judge, DAYS[2], "doubtful"),
    (Book.judge, DAYS[2], "good"),
    (Book.refuse, DAYS[3]),
    (Book.rebuild, DAYS[0]),
]


@pytest.mark.soak
@LONG
@given(happenings=HAPPENINGS)
def test_whatever_happens_in_thousands_of_ways_the_kept_rows_follow(happenings: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda _: None)
        book = Book(Path(directory))
        book.snapshot(DAYS[1], BEFORE, 10_000, ACCOUNT, torn=False)
        _follow(book, happenings)


@pytest.fixture(scope="module")
def four_days(tmp_path_factory: pytest.TempPathFactory) -> Book:
    reported = Book(tmp_path_factory.mktemp("four_days") / "home")
    with days_made_later():
        for place, day in enumerate(DAYS[:3]):
            reported.snapshot(day, AFTER, 10_000 + place, ACCOUNT, torn=False)
    reported.snapshot(DAYS[3], AFTER, 10_003, ACCOUNT, torn=False)
    return reported


@pytest.fixture
def book(four_days: Book, home: Home) -> Book:
    """A copy of those days, to go on from."""
    shutil.copytree(four_days.home.path, home.path)
    copied = Book(home.path)
    copied.number = four_days.number
    return copied


def test_whatever_happens_the_kept_rows_are_what_their_queries_give(book: Book) -> None:
    _follow(book, EACH_KIND, every=6)


def test_a_kept_row_that_its_query_does_not_give_is_found(book: Book) -> None:
    path = book.home.warehouse.path
    with connect_readonly(path) as connection:
        assert CHECK.run(*derived_rows(connection)).passed
    path.chmod(0o644)
    with duckdb.connect(path) as connection:
        connection.execute(
            """
            UPDATE equity_curve_rows SET pnl = pnl + 0.01 WHERE trade_date = '2025-11-18';
            DELETE FROM total_equity_curve_rows WHERE trade_date = '2025-11-18';
            INSERT INTO snapshot_days FROM snapshot_days WHERE trade_date = '2025-11-18';
            """
        )
        found = list(derived_rows(connection))
    assert {rows.table for rows in found if not CHECK.run(rows).passed} == {
        *("equity_curve_rows", "total_equity_curve_rows", "snapshot_days"),
    }
    assert all("2025-11-18" in difference.where for difference in CHECK.run(*found).differences)


def test_only_the_days_that_changed_are_made_anew_and_the_curves_only_when_they_do(book: Book) -> None:
    """What is kept is not touched while a session is on: shown by marks that a new row would not have."""
    with book.home.warehouse.staged() as staged:
        staged.connection.execute("UPDATE snapshot_days SET low = -1")
        staged.connection.execute("UPDATE equity_curve_rows SET reason = 'mark'")
    book.snapshot(DAYS[4], BEFORE, 10_100, ACCOUNT, torn=False)  # the session is new: the curves have one row more
    with book.home.warehouse.staged() as staged:
        staged.connection.execute("UPDATE equity_curve_rows SET reason = 'mark'")
    book.snapshot(DAYS[4], BEFORE, 10_200, ACCOUNT, torn=False)
    with connect_readonly(book.home.warehouse.path) as connection:
        lows = connection.execute("SELECT low FROM snapshot_days ORDER BY trade_date").fetchall()
        marks = connection.execute("SELECT DISTINCT reason FROM equity_curve_rows").fetchall()
    assert lows == [(-1,)] * 4 + [(10_100,)]
    assert marks == [("mark",)]
    book.snapshot(DAYS[4], AFTER, 10_300, ACCOUNT, torn=False)
    with connect_readonly(book.home.warehouse.path) as connection:
        query = f"SELECT equity, reason = 'mark' FROM equity_curve WHERE trade_date = '{DAYS[4]}'"
        assert connection.execute(query).fetchall() == [(10_300, False)]


def test_a_day_whose_session_turns_out_to_be_another_is_made_anew(book: Book) -> None:
    query = f"SELECT in_session FROM coverage WHERE trade_date = '{DAYS[0]}' AND account_id = '{ACCOUNT}'"
    with book.home.warehouse.staged() as staged:
        staged.connection.execute(f"UPDATE sessions SET session_close = session_open WHERE trade_date = '{DAYS[0]}'")
    with connect_readonly(book.home.warehouse.path) as connection:
        assert connection.execute(query).fetchall() == [(0,)]
    with book.home.warehouse.staged() as staged:
        staged.connection.execute(
            f"UPDATE sessions SET session_close = session_open + INTERVAL 12 HOURS WHERE trade_date = '{DAYS[0]}'"
        )
    with connect_readonly(book.home.warehouse.path) as connection:
        assert connection.execute(query).fetchall() == [(1,)]


@sampled("version, bring_over", [(9, "snapshot"), (10, "rebuild"), (9, "rebuild"), (10, "snapshot")])
def test_a_warehouse_of_a_version_without_the_rows_gets_them(book: Book, bring_over: str, version: int) -> None:
    path, but_as_of = book.home.warehouse.path, "SELECT * EXCLUDE as_of FROM equity_curve ORDER BY trade_date"
    with connect_readonly(path) as connection:
        curve = connection.execute(but_as_of).fetchall()
    path.chmod(0o644)
    with duckdb.connect(path) as connection:
        for table in derived.TABLES:
            connection.execute(f"DROP TABLE {table.name}")
        connection.execute(f"CREATE OR REPLACE MACRO schema_version() AS {version}")
    if bring_over == "snapshot":
        book.snapshot(DAYS[3], AFTER, 10_003, ACCOUNT, torn=False)
    else:
        book.rebuild(DAYS[0])
    with connect_readonly(path) as connection:
        assert connection.execute("SELECT schema_version()").fetchone() == (schema.SCHEMA_VERSION,)
        found = connection.execute(but_as_of).fetchall()
    assert found == curve
    assert differing(path) == []


def test_the_first_session_of_a_history_is_followed_from_snapshot_to_snapshot(home: Home) -> None:
    book = Book(home.path)
    for equity in (10_000, 10_500, 9_000):
        book.snapshot(DAYS[0], BEFORE, equity, ACCOUNT, torn=False)
        with connect_readonly(home.warehouse.path) as connection:
            found = connection.execute(
                "SELECT equity FROM equity_curve UNION ALL SELECT equity FROM total_equity_curve"
            )
            assert found.fetchall() == [(equity,), (equity,)]
    assert differing(home.warehouse.path) == []


def test_the_first_session_of_an_account_beside_older_ones_is_followed_without_the_curves_made_anew(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    monkeypatch.setattr(derived, "_make_curves", lambda *found: (made.append(found[1]), MAKE_CURVES(*found)))
    for equity in (5_000, 5_100, 4_900, 5_300):
        book.snapshot(DAYS[4], BEFORE, equity, OTHER, torn=False)
        with connect_readonly(book.home.warehouse.path) as connection:
            found = connection.execute(f"SELECT equity FROM equity_curve WHERE account_id = '{OTHER}'").fetchall()
        assert found == [(equity,)]
    assert len(made) == 2  # by the first, and once the sum waits for the other account
    assert differing(book.home.warehouse.path) == []
    book.snapshot(DAYS[4], AFTER, 10_000, ACCOUNT, torn=False)  # now the sum has both
    for clock_time, equity in ((time(20), 5_350), (AFTER, 5_400)):
        book.snapshot(DAYS[4], clock_time, equity, OTHER, torn=False)
        with connect_readonly(book.home.warehouse.path) as connection:
            query = f"SELECT equity, deposits FROM total_equity_curve WHERE trade_date = '{DAYS[4]}'"
            assert connection.execute(query).fetchall() == [(10_000 + equity, equity)]
        assert differing(book.home.warehouse.path) == []


def test_curves_that_are_copied_by_their_fingerprint_are_those_that_their_queries_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def counted(connection: duckdb.DuckDBPyConnection, fingerprint: str) -> None:
        made.append(fingerprint)
        MAKE_CURVES(connection, fingerprint)

    monkeypatch.setattr(derived, "_make_curves", counted)
    monkeypatch.setattr(derived, "_make_curves", MadeCurves().make)
    for place, equity in enumerate((10_000, 10_700)):
        book = Book(tmp_path / str(place))
        for clock_time in (BEFORE, LATER):
            book.snapshot(DAYS[0], clock_time, equity, ACCOUNT, torn=False)
            with connect_readonly(book.home.warehouse.path) as connection:
                found = connection.execute("SELECT equity FROM equity_curve").fetchall()
            assert found == [(equity,)]
            assert place == 0 or differing(book.home.warehouse.path) == []
    assert len(made) == len(set(made)) == 3  # the closes differ


def test_another_version_of_the_queries_makes_every_day_anew(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many snapshots it has: of an even number the version must not cancel itself out."""
    with days_made_later():
        for day, snapshots in zip(DAYS[:3], (1, 2, 4), strict=True):
            for minute in range(snapshots):
                book.snapshot(day, time(15, minute), 10_000, ACCOUNT, torn=False)
    with book.home.warehouse.staged():
        pass
    asked = "SELECT trade_date, fingerprint FROM snapshot_days ORDER BY ALL"
    with connect_readonly(book.home.warehouse.path) as connection:
        before = dict(connection.execute(asked).fetchall())
    monkeypatch.setattr(derived, "_DAY_FINGERPRINT", derived._DAY_FINGERPRINT.replace(derived._DAYS_VERSION, "next"))
    with book.home.warehouse.staged():
        pass
    with connect_readonly(book.home.warehouse.path) as connection:
        after = dict(connection.execute(asked).fetchall())
    assert before.keys() == after.keys() >= set(DAYS[:3])
    assert all(before[day] != after[day] for day in before)
