"""The summaries of trade dates: what a day came to by what was stored of it, every revision kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tradier_pipeline import clock
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.domain.daily_summary import content_key
from tradier_pipeline.ledger.records import Trade
from tradier_pipeline.publish.store import rebuild, store_snapshot
from tradier_pipeline.publish.summaries import make_summaries, summary_evidence, upsert_summaries
from tradier_pipeline.reconcile.facts import LedgerState
from tradier_pipeline.reconcile.summary_checks import SUMMARY_CHECKS
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.reads import connect_readonly, daily_summaries
from tradier_pipeline.warehouse.staging import Warehouse, WarehouseError, insert
from tradier_pipeline_tests.conftest import dear_examples
from tradier_pipeline_tests.reconcile.values import ACCOUNT, put, trade
from tradier_pipeline_tests.support.bodies import (
    account,
    answers,
    balances,
    land,
    order,
    position,
    warehouse_in_memory,
    zone_in,
)

pytestmark = pytest.mark.usefixtures("without_days", "without_proof")

FRIDAY, MONDAY, TUESDAY = date(2025, 12, 5), date(2025, 12, 8), date(2025, 12, 9)
NO_ORDERS: Mapping[str, int] = dict.fromkeys(("placed", "filled", "canceled", "rejected", "expired"), 0)


def at(day: date, time: str) -> datetime:
    """A New York time as an instant."""
    return datetime.fromisoformat(f"{day}T{time}").replace(tzinfo=clock.NEW_YORK).astimezone(UTC)


class Book:
    """An account that is read now and then, and its summaries."""

    def __init__(self, home: Path) -> None:
        self.zone, self.warehouse = zone_in(home), Warehouse(home / "tradier.duckdb")

    def take(
        self,
        when: datetime,
        equity: int = 1000,
        ledger_state: LedgerState | None = None,
        *,
        number: str = ACCOUNT,
        held: Sequence[Any] = (),
        orders: Sequence[Any] = (),
        **fields: Any,
    ) -> str:
        """A snapshot; one share of MSFT is always held, since an account that is flat is another story."""
        reported = answers(
            account={"profile": {"account": account(number)}},
            balances={"balances": balances(number=number, total_equity=equity, total_cash=equity - 100, close_pl=7)},
            positions=[position("MSFT", 1), *held],
            orders=orders,
        )
        landed = land(self.zone, reported, when, account_id=number, **fields)
        store_snapshot(self.warehouse, landed, read_ledger=lambda *_: ledger_state)
        return str(landed.snapshot_id)

    def make(self, day: date) -> dict[str, Any]:
        (row,) = make_summaries(self.warehouse, day, ACCOUNT)
        return row

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with connect_readonly(self.warehouse.path) as connection:
            return connection.execute(sql).fetchall()

    def revisions(self) -> list[tuple[date, int]]:
        return self.rows("SELECT trade_date, revision FROM daily_summaries ORDER BY ALL")


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(tmp_path)


def figures(row: Mapping[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


def opened(number: str = "t-1", when: datetime | None = None, **fields: Any) -> Trade:
    when = when or at(MONDAY, "10:00")
    given = {"opened_at": when, "created_at": when, "updated_at": when, "entry_price": Decimal("2.05")}
    return trade(number, **given | {"entry_price_source": "fills"} | fields)


def ended(
    number: str, when: datetime, profit: str | None = "105", known: datetime | None = None, **fields: Any
) -> Trade:
    """A trade that the ledger has closed, since `known`; at a price that nobody knows if its profit is None."""
    price = None if profit is None else Decimal("2.05") - Decimal(profit) / 100
    given: dict[str, Any] = {"status": "CLOSED", "exit_reason": "EXPIRED", "closed_at": when}
    given |= {"exit_price": price, "exit_price_source": price and "settlement", "updated_at": known or when}
    return opened(number, **given | {"realized_pnl": profit and Decimal(profit)} | fields)


# --- the figures ------------------------------------------------------------------------------------------------------


def test_a_day_is_that_of_its_last_good_snapshot_after_the_close(book: Book) -> None:
    for time, equity in (("09:31", 1000), ("12:00", 1300), ("15:00", 900), ("16:15", 1100)):
        last = book.take(at(MONDAY, time), equity)
    book.take(at(MONDAY, "20:00"), 5000, verdict="torn")
    row = book.make(MONDAY)
    assert (row["snapshot_id"], row["as_of"], row["after_close"]) == (last, at(MONDAY, "16:15"), True)
    assert row["session_close"] == at(MONDAY, "16:00")
    amounts = ("equity", "equity_open", "equity_high", "equity_low", "cash", "buying_power", "close_pl")
    assert figures(row, *amounts) == (1100, 1000, 1300, 900, 1000, Decimal("6363.86"), 7)
    assert figures(row, "snapshots", "missed", "failed", "refused", "positions", "open_spreads") == (5, 0, 0, 0, 1, 0)
    assert (row["revision"], row["equity_change"]) == (1, None)


def test_without_one_after_the_close_it_is_the_last_of_the_day_and_says_so(book: Book) -> None:
    last = book.take(at(MONDAY, "15:59"))
    row = book.make(MONDAY)
    assert (row["snapshot_id"], row["after_close"]) == (last, False)


@pytest.mark.parametrize(
    ("day", "close"),
    [
        (date(2025, 10, 31), datetime(2025, 10, 31, 20, tzinfo=UTC)),
        (date(2025, 11, 3), datetime(2025, 11, 3, 21, tzinfo=UTC)),  # winter time: then, it was made an hour too early
        (date(2025, 11, 28), datetime(2025, 11, 28, 18, tzinfo=UTC)),
    ],
)
def test_the_close_is_that_of_the_session_in_winter_and_on_half_days(book: Book, day: date, close: datetime) -> None:
    book.take(close - timedelta(minutes=1))
    row = book.make(day)
    assert (row["session_close"], row["after_close"]) == (close, False)
    book.take(close)
    assert book.make(day)["after_close"] is True


def test_a_day_without_a_session_has_no_close(book: Book) -> None:
    book.take(at(date(2025, 11, 27), "12:00"))
    row = book.make(date(2025, 11, 27))
    assert figures(row, "session_close", "after_close") == (None, None)


def test_equity_changes_since_the_last_good_snapshot_of_an_earlier_date(book: Book) -> None:
    book.take(at(FRIDAY, "16:15"), 1000)
    book.take(at(FRIDAY, "20:00"), 1200)
    book.take(at(FRIDAY, "20:30"), 9000, verdict="torn")
    book.take(at(MONDAY, "16:15"), 1150)
    assert book.make(MONDAY)["equity_change"] == -50


def test_what_was_not_read_of_the_day_is_counted_by_kind(book: Book) -> None:
    book.take(at(MONDAY, "16:15"))
    with book.warehouse.staged() as staged:
        staged.miss(
            [
                filled(schema.MISSED_SNAPSHOTS, MONDAY, snapshot_id=f"{kind}{number}", kind=kind, account_id=ACCOUNT)
                for kind, many in (("missed", 3), ("failed", 2), ("refused", 1))
                for number in range(many)
            ]
        )
    assert figures(book.make(MONDAY), "missed", "failed", "refused") == (3, 2, 1)


def test_orders_are_counted_by_the_broker_on_the_new_york_day_on_which_it_happened(book: Book) -> None:
    today, before = "2025-12-08T15:00:00.000Z", "2025-12-05T15:00:00.000Z"
    late = "2025-12-09T03:00:00.000Z"  # another date in UTC
    reported = [
        order(1, status="filled", create_date=today, transaction_date=today, exec_quantity=50, avg_fill_price=22),
        order(2, status="canceled", create_date=today, transaction_date=late),
        order(3, status="rejected", create_date=today, transaction_date=today),
        order(4, status="expired", create_date=before, transaction_date=today),
        order(5, status="open", create_date=before, transaction_date=before),
        order(6, status="canceled", create_date=before, transaction_date=before),
    ]
    book.take(at(MONDAY, "12:00"), 2000, orders=[order(3, create_date=today, transaction_date=today)])
    bought = position(reported[0]["symbol"], 50, id=2)
    book.take(at(MONDAY, "22:30"), 900, held=[bought], orders=reported)  # 50 at 22 are paid for
    row = book.make(MONDAY)
    counts = {name: row[f"orders_{name}"] for name in NO_ORDERS}
    assert counts == {"placed": 3, "filled": 1, "canceled": 1, "rejected": 1, "expired": 1}


def test_an_order_that_left_the_list_of_the_day_still_counts(book: Book) -> None:
    today = "2025-12-08T15:00:00.000Z"
    book.take(at(MONDAY, "12:00"), orders=[order(3, status="rejected", create_date=today, transaction_date=today)])
    book.take(at(MONDAY, "16:15"))
    assert figures(book.make(MONDAY), "orders_placed", "orders_rejected") == (1, 1)


def test_spreads_of_the_snapshot_are_counted(book: Book) -> None:
    book.take(at(MONDAY, "16:15"), held=[position(put(290), -1, id=1), position(put(285), 1, id=2)])
    assert figures(book.make(MONDAY), "positions", "open_spreads") == (3, 1)


# --- the trades -------------------------------------------------------------------------------------------------------

SPREAD = (position(put(290), -1, id=1), position(put(285), 1, id=2))
TRADES = ("trades_opened", "trades_closed", "trades_open", "realized_pnl", "realized_unknown")


def test_trades_are_opened_and_closed_on_the_day_and_what_they_brought_is_in_dollars(book: Book) -> None:
    living = opened("t-1")
    book.take(at(MONDAY, "12:00"), ledger_state=LedgerState(trades=(living,)), held=SPREAD)
    won = ended("t-2", at(MONDAY, "15:00"), "105", exit_reason="PROFIT_TARGET")
    lost = ended("t-3", at(MONDAY, "15:30"), "-60")
    book.take(at(MONDAY, "16:15"), ledger_state=LedgerState(trades=(living, won, lost)), held=SPREAD)
    row = book.make(MONDAY)
    assert figures(row, *TRADES) == (3, 2, 1, 45, 0)
    assert row["exit_reasons"] == {"EXPIRED": 1, "PROFIT_TARGET": 1}
    assert row["trades_by_strategy"] == {"bull_put_credit": 3}
    assert [one["id"] for one in row["open_trades"]] == ["t-1"]
    assert [one["id"] for one in row["opened_trades"]] == ["t-1", "t-2", "t-3"]
    assert row["closed_trades"][0] == {
        "id": "t-2",
        "symbol": "AAPL",
        "strategy": "bull_put_credit",
        "status": "CLOSED",
        "quantity": 1,
        "entry_price": Decimal("2.05"),
        "exit_price": 1,
        "exit_reason": "PROFIT_TARGET",
        "realized_pnl": 105,
        "opened_at": at(MONDAY, "10:00"),
        "closed_at": at(MONDAY, "15:00"),
    }


def test_a_profit_that_nobody_knows_is_counted_and_is_no_zero(book: Book) -> None:
    unknown = ended("t-1", at(MONDAY, "15:00"), None)
    book.take(at(MONDAY, "16:15"), ledger_state=LedgerState(trades=(unknown,)))
    assert figures(book.make(MONDAY), "realized_pnl", "realized_unknown") == (None, 1)
    book.take(at(MONDAY, "16:45"), ledger_state=LedgerState(trades=(unknown, ended("t-2", at(MONDAY, "15:00"), "20"))))
    assert figures(book.make(MONDAY), "realized_pnl", "realized_unknown") == (20, 1)


def test_without_a_ledger_the_figures_of_trades_are_not_known(book: Book) -> None:
    book.take(at(MONDAY, "16:15"))
    row = book.make(MONDAY)
    names = [column.name for column in schema.DAILY_SUMMARIES.columns if not column.required]
    assert {name for name in names if row[name] is not None} == {"session_close", "after_close"}


def test_a_snapshot_without_the_ledger_leaves_the_trades_as_the_last_one_with_it_shows_them(book: Book) -> None:
    book.take(at(MONDAY, "15:30"), ledger_state=LedgerState(trades=(opened(),)), held=SPREAD)
    book.take(at(MONDAY, "16:15"), ledger_state=None, held=SPREAD)
    row = book.make(MONDAY)
    assert figures(row, "as_of", "trades_as_of", "trades_open") == (at(MONDAY, "16:15"), at(MONDAY, "15:30"), 1)


def test_a_torn_snapshot_tells_nothing_of_the_trades(book: Book) -> None:
    book.take(at(MONDAY, "16:15"), ledger_state=LedgerState(trades=(opened(),)), held=SPREAD)
    gone = LedgerState(trades=(ended("t-1", at(MONDAY, "16:20")),))
    book.take(at(MONDAY, "16:30"), ledger_state=gone, held=SPREAD, verdict="torn")
    assert figures(book.make(MONDAY), *TRADES) == (1, 0, 1, 0, 0)


def test_a_trade_that_expired_is_counted_once_on_the_day_that_its_end_is_known(book: Book) -> None:
    """The engine learns on Saturday what expired on Friday, and no snapshot is taken on that day."""
    friday, living = at(FRIDAY, "10:00"), opened("t-1", at(FRIDAY, "10:00"))
    book.take(at(FRIDAY, "20:00"), ledger_state=LedgerState(trades=(living,)), held=SPREAD)
    assert figures(book.make(FRIDAY), *TRADES) == (1, 0, 1, 0, 0)
    expired = ended("t-1", at(FRIDAY, "16:00"), known=at(FRIDAY, "20:00") + timedelta(hours=5), opened_at=friday)
    expired = expired.model_copy(update={"created_at": friday})
    for day, time in ((MONDAY, "08:00"), (MONDAY, "16:15"), (TUESDAY, "16:15")):
        book.take(at(day, time), ledger_state=LedgerState(trades=(expired, opened("t-2"))), held=SPREAD)
    assert figures(book.make(MONDAY), *TRADES) == (1, 1, 1, 105, 0)
    assert figures(book.make(TUESDAY), *TRADES) == (0, 0, 1, 0, 0)
    assert judged(book, MONDAY) == judged(book, TUESDAY) == set()


def test_a_trade_with_a_question_open_is_not_closed_anew_every_day(book: Book) -> None:
    """It stays in the reconciliation for as long as nobody knows its price."""
    unknown = ended("t-1", at(MONDAY, "15:00"), None)
    for day in (MONDAY, TUESDAY):
        book.take(at(day, "16:15"), ledger_state=LedgerState(trades=(unknown, opened("t-2"))), held=SPREAD)
        book.make(day)
    assert book.rows("SELECT count(*) FROM trade_reconciliation WHERE trade_id = 't-1'") == [(2,)]
    assert book.rows("SELECT trades_closed FROM newest_daily_summaries ORDER BY trade_date") == [(1,), (0,)]


def test_what_comes_to_the_ledger_of_old_days_is_told_and_not_counted_as_of_the_day(book: Book) -> None:
    book.take(at(FRIDAY, "16:15"), ledger_state=LedgerState(trades=(opened("t-1", at(FRIDAY, "10:00")),)), held=SPREAD)
    book.make(FRIDAY)
    old = opened("t-2", at(FRIDAY, "10:00") - timedelta(days=30))
    imported = (opened("t-1", at(FRIDAY, "10:00")), old, ended("t-3", at(FRIDAY, "10:00") - timedelta(days=30), None))
    book.take(at(MONDAY, "16:15"), ledger_state=LedgerState(trades=imported), held=SPREAD)
    assert figures(book.make(MONDAY), *TRADES) == (0, 0, 2, 0, 0)
    assert judged(book, MONDAY) == {"summary_reconciles"}


def test_what_happened_after_the_last_snapshot_of_an_evening_is_of_the_next_day(book: Book) -> None:
    book.take(at(FRIDAY, "16:15"), ledger_state=LedgerState(trades=(opened("t-1", at(FRIDAY, "10:00")),)), held=SPREAD)
    late = opened("t-2", at(FRIDAY, "16:20"))
    both = LedgerState(trades=(opened("t-1", at(FRIDAY, "10:00")), late))
    book.take(at(MONDAY, "16:15"), ledger_state=both, held=SPREAD)
    assert figures(book.make(MONDAY), *TRADES) == (1, 0, 2, 0, 0)


def test_a_trade_that_the_ledger_lost_is_not_open_and_the_check_misses_it(book: Book) -> None:
    living = (opened("t-1", at(FRIDAY, "10:00")), opened("t-2", at(FRIDAY, "11:00")))
    book.take(at(FRIDAY, "16:15"), ledger_state=LedgerState(trades=living), held=SPREAD)
    book.make(FRIDAY)
    book.take(at(MONDAY, "10:00"), ledger_state=LedgerState(trades=living), held=SPREAD)
    book.take(at(MONDAY, "16:15"), ledger_state=LedgerState(trades=living[:1]), held=SPREAD)
    assert figures(book.make(MONDAY), *TRADES) == (0, 0, 1, 0, 0)
    assert judged(book, MONDAY) == {"summary_reconciles"}


def judged(book: Book, day: date) -> set[str]:
    """The checks that a stored summary fails."""
    with connect_readonly(book.warehouse.path) as connection:
        evidence = [summary_evidence(connection, row) for row in daily_summaries(connection, day)]
    return {check.name for check in SUMMARY_CHECKS if not check.run(*evidence).passed}


# --- revisions --------------------------------------------------------------------------------------------------------


def test_the_same_figures_add_nothing_and_others_are_the_next_revision(book: Book) -> None:
    book.take(at(MONDAY, "16:15"))
    first = book.make(MONDAY)
    assert book.make(MONDAY) == first
    book.take(at(MONDAY, "20:00"), 1200)
    assert book.make(MONDAY)["revision"] == 2
    assert book.revisions() == [(MONDAY, 1), (MONDAY, 2)]
    stored = [name for name in first if name in schema.DAILY_SUMMARIES.column_names]
    kept = book.rows(f"SELECT {', '.join(stored)} FROM daily_summaries WHERE revision = 1")
    assert kept == [tuple(first[name] for name in stored)]
    assert book.rows("SELECT revision, equity FROM newest_daily_summaries") == [(2, 1200)]


def test_a_past_date_made_again_is_what_it_was_whatever_came_later(book: Book) -> None:
    book.take(at(FRIDAY, "16:15"), 1000, LedgerState(trades=(opened("t-1", at(FRIDAY, "10:00")),)), held=SPREAD)
    first = book.make(FRIDAY)
    closed = ended("t-1", at(MONDAY, "10:00"), opened_at=at(FRIDAY, "10:00"))
    book.take(at(MONDAY, "16:15"), 7000, LedgerState(trades=(closed,)))
    book.take(at(TUESDAY, "16:15"), 8000, LedgerState(trades=()))
    book.make(TUESDAY)
    assert book.make(FRIDAY) == first
    assert [revision for day, revision in book.revisions() if day == FRIDAY] == [1]
    assert judged(book, FRIDAY) == set()


def test_the_day_before_is_made_again_with_the_next_since_its_evening_was_not_over(book: Book) -> None:
    book.take(at(FRIDAY, "16:15"), 1000)
    book.make(FRIDAY)
    book.take(at(FRIDAY, "20:00"), 1010)
    saturday = FRIDAY + timedelta(days=1)
    book.take(at(saturday, "12:00"), 1020)
    book.take(at(MONDAY, "16:15"), 1030)
    assert book.make(MONDAY)["equity_change"] == 10
    assert book.revisions() == [(FRIDAY, 1), (FRIDAY, 2), (saturday, 1), (MONDAY, 1)]


def test_accounts_have_summaries_of_their_own(book: Book) -> None:
    book.take(at(MONDAY, "16:15"), 1000)
    book.take(at(MONDAY, "16:15"), 2000, number="VA2")
    book.take(at(TUESDAY, "16:15"), 3000, number="VA2")
    assert [(row["account_id"], row["equity"]) for row in make_summaries(book.warehouse, MONDAY)] == [
        (ACCOUNT, 1000),
        ("VA2", 2000),
    ]
    assert [row["account_id"] for row in make_summaries(book.warehouse, TUESDAY)] == ["VA2"]


def test_a_rebuild_keeps_every_revision(book: Book) -> None:
    for time in ("16:15", "20:00"):
        book.take(at(MONDAY, time), ledger_state=LedgerState(trades=(opened(),)), held=SPREAD)
        book.make(MONDAY)
    before = book.rows("FROM daily_summaries ORDER BY revision")
    assert rebuild(book.warehouse, book.zone, lambda _: None).kept_findings
    assert book.rows("FROM daily_summaries ORDER BY revision") == before
    assert book.make(MONDAY)["revision"] == 2


@pytest.mark.soak  # of this version: above
def test_a_rebuild_takes_over_what_a_file_of_the_version_before_has(book: Book) -> None:
    book.take(at(MONDAY, "16:15"), ledger_state=LedgerState(trades=(opened(),)), held=SPREAD)
    with book.warehouse.staged() as staged:
        staged.connection.execute("DROP VIEW newest_daily_summaries; DROP TABLE daily_summaries")
        staged.connection.execute("ALTER TABLE trade_reconciliation DROP COLUMN strategy")
        staged.connection.execute(f"CREATE OR REPLACE MACRO schema_version() AS {schema.SCHEMA_VERSION - 1}")
    assert rebuild(book.warehouse, book.zone, lambda _: None).kept_findings
    assert book.rows("SELECT trade_id, strategy FROM trade_reconciliation") == [("t-1", None)]
    assert book.make(MONDAY)["trades_by_strategy"] == {"unknown": 1}


def test_a_date_without_a_snapshot_and_a_file_of_another_version_are_told(book: Book) -> None:
    with pytest.raises(WarehouseError, match="there is no warehouse"):
        make_summaries(book.warehouse, MONDAY)
    book.take(at(MONDAY, "16:15"))
    with pytest.raises(PipelineError, match="no snapshot of 2025-12-09 is published"):
        make_summaries(book.warehouse, TUESDAY)
    with pytest.raises(PipelineError, match="no snapshot of VA2 of 2025-12-08 is published"):
        make_summaries(book.warehouse, MONDAY, "VA2")
    with book.warehouse.staged() as staged:
        staged.connection.execute(f"CREATE OR REPLACE MACRO schema_version() AS {schema.SCHEMA_VERSION - 1}")
    with pytest.raises(WarehouseError, match="Take a snapshot"):
        make_summaries(book.warehouse, MONDAY)


def test_the_key_is_of_every_figure_and_not_of_when_it_was_made() -> None:
    row: dict[str, Any] = {"equity": Decimal("1.50"), "revision": 1, "generated_at": at(MONDAY, "16:30")}
    same = row | {"equity": Decimal("1.50000000"), "revision": 2, "generated_at": at(TUESDAY, "16:30")}
    assert content_key(row) == content_key(same)
    assert content_key(row) != content_key(row | {"equity": Decimal("1.51")})


# --- any history ------------------------------------------------------------------------------------------------------


def filled(table: schema.Table, day: date, **values: Any) -> dict[str, Any]:
    """A row with something in every column that is always filled."""
    defaults = {
        schema.DECIMAL: Decimal(0),
        schema.VARCHAR: "x",
        schema.INTEGER: 0,
        schema.INSTANT: at(day, "12:00"),
        schema.DATE: day,
        schema.BOOLEAN: False,
    }
    good = {"verdict": "good"} if table is schema.TRADIER_SNAPSHOTS else {}
    return {column.name: defaults[column.type] for column in table.columns if column.required} | good | values


SNAPSHOT_TIMES = ("08:00", "09:31", "12:00", "16:15", "20:00")
DAYS = tuple(MONDAY + timedelta(days=number) for number in (0, 1, 2, 3, 4, 7))
INSTANTS = tuple(at(day, time) for day in DAYS for time in SNAPSHOT_TIMES)


@st.composite
def lives(draw: st.DrawFn) -> tuple[datetime, datetime | None, datetime | None, Decimal | None]:
    """A trade: when it was opened, closed, known to be, and what it brought."""
    minutes = int((INSTANTS[-1] - INSTANTS[0]).total_seconds() // 60)
    begun = INSTANTS[0] + timedelta(minutes=draw(st.integers(-2000, minutes)), seconds=30)
    if draw(st.booleans()):
        return begun, None, None, None
    over = begun + timedelta(minutes=draw(st.integers(1, 4000)))
    known = over + timedelta(minutes=draw(st.sampled_from((0, 5, 600, 3500))))
    return begun, over, known, draw(st.none() | st.integers(-500, 500).map(Decimal))


def shows(
    number: int,
    life: tuple[datetime, datetime | None, datetime | None, Decimal | None],
    now: datetime,
    before: datetime,
) -> dict[str, Any] | None:
    """The row of a trade as a reconciliation stores it: while it lives, and when its end is news."""
    begun, over, known, profit = life
    if begun > now:
        return None
    row = {"trade_id": f"t-{number}", "status": "OPEN", "opened_at": begun, "entered": 1}
    if over is None or known is None or known > now:
        return row
    if clock.trade_date(over) != clock.trade_date(now) and known <= before:
        return None
    return row | {"status": "CLOSED", "closed_at": over, "realized_pnl": profit}


def lived(connection: duckdb.DuckDBPyConnection, trades: Sequence[Any], read: Sequence[datetime]) -> None:
    before = INSTANTS[0] - timedelta(days=1)
    for now in read:
        day = clock.trade_date(now)
        lead = {"snapshot_id": f"{ACCOUNT}@{now}", "account_id": ACCOUNT, "as_of": now, "trade_date": day}
        for table in (schema.TRADIER_SNAPSHOTS, schema.ACCOUNT_BALANCES, schema.ORDER_RECONCILIATION):
            insert(connection, table, [filled(table, day, **lead)])
        found = [shows(number, life, now, before) for number, life in enumerate(trades)]
        rows = [filled(schema.TRADE_RECONCILIATION, day, **lead, **row) for row in found if row]
        insert(connection, schema.TRADE_RECONCILIATION, rows)
        before = now


@pytest.fixture(scope="module")
def empty() -> Iterator[duckdb.DuckDBPyConnection]:
    """A warehouse for one example after the other: creating it takes longer than the example."""
    with warehouse_in_memory() as staged:
        yield staged.connection


@settings(max_examples=dear_examples(5))
@given(
    trades=st.lists(lives(), max_size=8),
    read=st.sets(st.sampled_from(INSTANTS), min_size=1).map(sorted),
    at_once=st.booleans(),
)
def test_over_any_history_open_is_what_was_open_and_opened_without_what_was_closed(
    empty: duckdb.DuckDBPyConnection, trades: Sequence[Any], read: Sequence[datetime], at_once: bool
) -> None:
    days = sorted({clock.trade_date(now) for now in read})
    reconciles = next(check for check in SUMMARY_CHECKS if check.number == 78)
    empty.execute("BEGIN")
    try:
        lived(empty, trades, read)
        for day in days[-1:] if at_once else days:
            upsert_summaries(empty, ACCOUNT, day)
        for day in reversed(days):  # of a past day, too
            upsert_summaries(empty, ACCOUNT, day)
        rows = daily_summaries(empty)
        found = reconciles.run(*(summary_evidence(empty, row) for row in rows))
    finally:
        empty.execute("ROLLBACK")
    assert [row["trade_date"] for row in rows] == days
    assert found.differences == ()
    first, first_night, last = days[0], max(now for now in read if clock.trade_date(now) == days[0]), read[-1]
    expected = {
        f"t-{number}": profit
        for number, (_, over, known, profit) in enumerate(trades)
        if over and known and known <= last and (clock.trade_date(over) >= first or known > first_night)
    }
    counted = [one for row in rows for one in row["closed_trades"]]
    assert len(counted) == len(expected)
    assert {one["id"]: one["realized_pnl"] for one in counted} == expected
    assert sum(row["realized_pnl"] or 0 for row in rows) == sum(profit or 0 for profit in expected.values())
    assert sum(row["realized_unknown"] for row in rows) == sum(profit is None for profit in expected.values())
