"""The views and macros of the history against computations that are slow and plainly right, over some made-up days."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradier_pipeline import clock
from tradier_pipeline.warehouse import derived, schema
from tradier_pipeline.warehouse.sessions import upsert_sessions
from tradier_pipeline.warehouse.staging import insert
from tradier_pipeline_tests.support.bodies import (
    answers,
    balances,
    land,
    order,
    position,
    store,
    warehouse_in_memory,
    zone_in,
)
from tradier_pipeline_tests.support.year import CALENDAR, EMPTY_SESSION, fill, sessions

Row = dict[str, Any]

DAYS = sessions(8)
OLDER, YOUNGER = "VA1", "VA2"
MICROSECOND = timedelta(microseconds=1)


class Tables(dict[str, list[Row]]):
    """The rows of each table that is asked for."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def __missing__(self, name: str) -> list[Row]:
        self[name] = ask(self._connection, f"FROM {name}")
        return self[name]


@dataclass(frozen=True, slots=True)
class History:
    """Two accounts, the younger one with later and fewer sessions and no ledger; and all of it as Python values."""

    connection: duckdb.DuckDBPyConnection
    tables: Mapping[str, list[Row]]

    def ask(self, sql: str) -> list[Row]:
        return ask(self.connection, sql)

    def by_snapshot(self, table: str) -> dict[str, list[Row]]:
        found: dict[str, list[Row]] = defaultdict(list)
        for row in self.tables[table]:
            found[row["snapshot_id"]].append(row)
        return found

    def snapshots(self, account_id: str, *, good: bool = False) -> list[Row]:
        """In the order of reading."""
        mine = [row for row in self.tables["tradier_snapshots"] if row["account_id"] == account_id]
        return sorted((row for row in mine if not good or row["verdict"] == "good"), key=lambda row: row["as_of"])


def ask(connection: duckdb.DuckDBPyConnection, sql: str) -> list[Row]:
    cursor = connection.execute(sql)
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def same(found: list[Row], expected: list[Row]) -> bool:
    """Whether the rows are the same in any order."""
    return sorted(found, key=repr) == sorted(expected, key=repr)


@pytest.fixture(scope="module")
def history() -> Iterator[History]:
    with warehouse_in_memory() as staged:
        fill(staged.connection, DAYS, OLDER, minutes=2)
        fill(staged.connection, DAYS[2:7], YOUNGER, ledger=False, minutes=2)
        yield History(staged.connection, Tables(staged.connection))


def test_the_made_up_days_have_what_is_to_be_told_apart(history: History) -> None:
    assert {row["coherence"] for row in history.tables["tradier_snapshots"]} == {"coherent", "torn"}
    assert {row["kind"] for row in history.tables["missed_snapshots"]} == {"missed", "failed", "refused"}
    assert {row["status"] for row in history.tables["orders"]} >= {"open", "partially_filled", "filled", "canceled"}
    assert {row["listed"] for row in history.tables["orders"]} == {True, False}
    assert None in {row["mark"] for row in history.tables["positions"]}


# --- as of ------------------------------------------------------------------------------------------------------------


def instants() -> st.SearchStrategy[datetime]:
    """Of the days and a little before and after; often just beside the as-of of a snapshot."""
    opens = [day.open for day in DAYS]
    anywhere = st.datetimes(datetime(2025, 1, 1), datetime(2025, 1, 20), timezones=st.just(UTC))  # noqa: DTZ001
    beside = st.tuples(
        st.sampled_from(opens), st.integers(-90, 420), st.integers(800_000, 2_199_999), st.integers(-1, 1)
    ).map(lambda drawn: drawn[0] + timedelta(minutes=drawn[1], microseconds=drawn[2] // 1000 * 1000 + drawn[3]))
    return anywhere | beside


@pytest.mark.parametrize(
    ("macro", "table"),
    [("positions_at", "positions"), ("balances_at", "account_balances"), ("orders_at", "orders")],
)
def test_as_of_an_instant_are_the_rows_of_each_accounts_newest_good_snapshot(
    history: History, macro: str, table: str
) -> None:
    rows = history.by_snapshot(table)
    per_account = [history.snapshots(account_id, good=True) for account_id in (OLDER, YOUNGER)]

    @given(instants(), st.sampled_from(["TIMESTAMPTZ '{}'", "'{}'"]))
    def holds(instant: datetime, written: str) -> None:
        read = [[row["snapshot_id"] for row in mine if row["as_of"] <= instant] for mine in per_account]
        expected = [row for ids in read if ids for row in rows[ids[-1]]]
        assert same(history.ask(f"FROM {macro}({written.format(instant.isoformat())})"), expected)

    holds()


def test_a_snapshot_counts_from_its_as_of_on_and_there_is_nothing_before_the_first(history: History) -> None:
    first = history.snapshots(OLDER)[0]["as_of"]
    assert history.ask(f"FROM balances_at(TIMESTAMPTZ '{first - MICROSECOND}')") == []
    (row,) = history.ask(f"FROM balances_at(TIMESTAMPTZ '{first}')")
    assert (row["account_id"], row["as_of"]) == (OLDER, first)


def test_each_account_has_a_newest_snapshot_of_its_own(history: History) -> None:
    found = history.ask("SELECT DISTINCT account_id, as_of FROM positions_at(now())")
    newest = {account_id: history.snapshots(account_id)[-1]["as_of"] for account_id in (OLDER, YOUNGER)}
    assert {row["account_id"]: row["as_of"] for row in found} == newest
    assert newest[OLDER] - newest[YOUNGER] > timedelta(hours=20)


# --- position_history -------------------------------------------------------------------------------------------------


def spans(history: History, symbol: str) -> Iterator[Row]:
    held = history.by_snapshot("positions")
    in_session = {session.date for session in DAYS}
    for account_id in (OLDER, YOUNGER):
        span: Row | None = None
        for snapshot in history.snapshots(account_id, good=True):
            skips = span and any(
                clock.trade_date(span["last_as_of"]) < day < snapshot["trade_date"] for day in in_session
            )
            rows = [row for row in held[snapshot["snapshot_id"]] if row["symbol"] == symbol]
            now = tuple(sum(row[name] for row in rows) for name in ("quantity", "cost_basis")) if rows else None
            if span and (skips or (span["quantity"], span["cost_basis"]) != now):
                yield span | {"until_as_of": snapshot["as_of"], "gap": bool(skips)}
                span = None
            if now and not span:
                span = {"account_id": account_id, "symbol": symbol, "quantity": now[0], "cost_basis": now[1]}
                span |= {"from_as_of": snapshot["as_of"], "until_as_of": None, "snapshots": 0, "gap": False}
            if span:
                span |= {"last_as_of": snapshot["as_of"], "snapshots": span["snapshots"] + 1, "mark": rows[0]["mark"]}
        if span:
            yield span


def test_the_history_of_every_position(history: History) -> None:
    symbols = {row["symbol"] for row in history.tables["positions"]}
    assert len(symbols) > 15
    for symbol in symbols:
        expected = list(spans(history, symbol))
        assert expected
        assert same(history.ask(f"FROM position_history('{symbol}')"), expected)
    assert history.ask("FROM position_history('no such')") == []


def test_a_position_that_grew_and_was_closed_has_two_spans(history: History) -> None:
    spread_of_day_1 = next(
        row["option_symbol"] for row in history.tables["order_legs"] if row["order_id"] == 228010
    )  # two, one of them a little earlier
    found = history.ask(f"FROM position_history('{spread_of_day_1}') WHERE account_id = '{OLDER}'")
    assert [(row["quantity"], row["gap"]) for row in found] == [(-1, False), (-2, True), (-2, False)]
    assert [row["until_as_of"] for row in found[:2]] == [row["from_as_of"] for row in found[1:]]
    closed = next(row["as_of"] for row in history.snapshots(OLDER, good=True) if row["as_of"] > found[2]["last_as_of"])
    assert found[2]["until_as_of"] == closed < history.snapshots(OLDER)[-1]["as_of"]


def test_two_rows_of_a_symbol_are_one_position_and_a_torn_snapshot_ends_nothing(tmp_path: Path) -> None:
    with warehouse_in_memory() as staged:
        for minute, quantities, verdict in ((0, (1, 2), "coherent"), (1, (), "torn"), (2, (3,), "coherent")):
            held = [position("F", quantity, 10 * quantity, id=quantity) for quantity in quantities]
            put(staged, tmp_path, minute, answers(positions=held), verdict=verdict)
        (row,) = ask(staged.connection, "FROM position_history('F')")
    assert (row["quantity"], row["cost_basis"], row["snapshots"], row["until_as_of"]) == (3, 30, 2, None)


def test_as_much_at_another_cost_is_another_span(tmp_path: Path) -> None:
    with warehouse_in_memory() as staged:
        for minute, cost in enumerate((30, 30, 31, 31)):
            put(staged, tmp_path, minute, answers(positions=[position("F", 3, cost)]))
        found = ask(staged.connection, "FROM position_history('F')")
    assert [(row["cost_basis"], row["snapshots"]) for row in found] == [(30, 2), (31, 2)]


# --- order_events -----------------------------------------------------------------------------------------------------

OF_AN_ORDER = ("status", "exec_quantity", "avg_fill_price", "remaining_quantity")


def changes(history: History) -> Iterator[Row]:
    orders = history.by_snapshot("orders")
    for account_id in (OLDER, YOUNGER):
        before: dict[int, Row] = {}
        for snapshot in history.snapshots(account_id, good=True):
            now = {row["order_id"]: row for row in orders[snapshot["snapshot_id"]]}
            for order_id in before.keys() | now.keys():
                was, is_ = before.get(order_id), now.get(order_id)
                if event := change(was, is_):
                    yield {
                        **{name: snapshot[name] for name in schema.KEY_NAMES},
                        "order_id": order_id,
                        "event": event,
                        "previous_status": was and was["status"],
                        "previous_exec_quantity": was and was["exec_quantity"],
                        **{name: is_ and is_[name] for name in OF_AN_ORDER},
                    }
            before = now


def change(was: Row | None, is_: Row | None) -> str | None:
    if was is None:
        return "appeared"
    if is_ is None:
        return "left"
    if was["exec_quantity"] != is_["exec_quantity"]:
        return "fill"
    return "status" if was["status"] != is_["status"] else None


def test_every_change_of_every_order(history: History) -> None:
    expected = list(changes(history))
    assert {row["event"] for row in expected} == {"appeared", "fill", "status", "left"}
    assert same(history.ask("FROM order_events"), expected)


@pytest.mark.parametrize(
    "condition",
    [f"account_id = '{YOUNGER}'", f"trade_date = '{DAYS[4].date}'", f"order_id = 228010 AND account_id = '{OLDER}'"],
)
def test_the_changes_of_a_day_or_an_account_are_those_among_all(history: History, condition: str) -> None:
    whole = history.ask(f"FROM (FROM order_events OFFSET 0) WHERE {condition}")
    assert whole
    assert same(history.ask(f"FROM order_events WHERE {condition}"), whole)


def test_an_order_that_is_read_by_its_id_has_not_left(history: History) -> None:
    found = history.ask(f"FROM order_events WHERE order_id = 228009 AND account_id = '{OLDER}' ORDER BY as_of")
    assert [(row["event"], row["previous_status"], row["status"]) for row in found] == [
        ("appeared", None, "open"),
        ("status", "open", "canceled"),  # four sessions later, reported by its id
        ("left", "canceled", None),
    ]
    assert [row["trade_date"] for row in found] == [DAYS[0].date, DAYS[4].date, DAYS[4].date]


def put(staged: Any, directory: Path, minute: int, reported: Any, **details: Any) -> None:
    """Store a snapshot that was read so many minutes after 14:00 UTC."""
    store(staged, land(zone_in(directory), reported, datetime(2025, 11, 20, 14, minute, tzinfo=UTC), **details))


def test_what_is_not_shown_any_more_left_as_it_was_and_nothing_else_is_said(tmp_path: Path) -> None:
    working = order(1, exec_quantity=Decimal(10), remaining_quantity=Decimal(40), status="partially_filled")
    with warehouse_in_memory() as staged:
        put(staged, tmp_path, 0, answers(orders=[working]))
        put(staged, tmp_path, 1, answers())
        put(staged, tmp_path, 2, answers(orders=[working]))
        found = ask(staged.connection, "FROM order_events ORDER BY as_of")
    assert [row["event"] for row in found] == ["appeared", "left", "appeared"]
    assert (found[1]["previous_status"], found[1]["previous_exec_quantity"]) == ("partially_filled", 10)
    assert [found[1][name] for name in OF_AN_ORDER] == [None, None, None, None]
    assert (found[2]["previous_status"], found[2]["status"]) == (None, "partially_filled")


def test_a_torn_snapshot_shows_no_change_of_an_order(tmp_path: Path) -> None:
    filled = order(1, status="filled", exec_quantity=Decimal(50), remaining_quantity=0, avg_fill_price=Decimal("21.9"))
    with warehouse_in_memory() as staged:
        put(staged, tmp_path, 0, answers(orders=[order(1)]))
        put(staged, tmp_path, 1, answers(), verdict="torn")
        put(staged, tmp_path, 2, answers(orders=[filled]))
        found = ask(staged.connection, "FROM order_events ORDER BY as_of")
    assert [(row["as_of"].minute, row["event"], row["status"]) for row in found] == [
        (0, "appeared", "open"),
        (2, "fill", "filled"),
    ]
    assert (found[1]["previous_exec_quantity"], found[1]["exec_quantity"]) == (0, 50)
    assert found[1]["avg_fill_price"] == Decimal("21.9")


# --- coverage ---------------------------------------------------------------------------------------------------------


def covered(history: History) -> Iterator[Row]:
    for account_id in (OLDER, YOUNGER):
        mine = history.snapshots(account_id)
        for session in DAYS:
            if session.date < mine[0]["trade_date"]:
                continue
            read = [row["as_of"] for row in mine if row["trade_date"] == session.date]
            inside = [as_of for as_of in read if as_of in session]
            edges = [session.open, *inside, session.close]
            kinds = [
                row["kind"]
                for row in history.tables["missed_snapshots"]
                if (row["account_id"], row["trade_date"]) == (account_id, session.date)
            ]
            yield {
                "account_id": account_id,
                "trade_date": session.date,
                "session_minutes": (session.close - session.open) // timedelta(minutes=1),
                "snapshots": len(read),
                "in_session": len(inside),
                **{kind: kinds.count(kind) for kind in ("missed", "failed", "refused")},
                "first_as_of": read[0] if read else None,
                "last_as_of": read[-1] if read else None,
                "longest_gap_s": max((later - earlier) / timedelta(seconds=1) for earlier, later in pairwise(edges)),
            }


def test_how_much_of_every_session_there_is(history: History) -> None:
    expected = list(covered(history))
    assert len(expected) == len(DAYS) + 5 + 1  # the younger account's last session has no snapshot any more
    assert same(history.ask("FROM coverage"), expected)


def test_a_session_without_any_snapshot_has_a_row_too(history: History) -> None:
    day = DAYS[EMPTY_SESSION].date
    (row,) = history.ask(f"FROM coverage WHERE account_id = '{OLDER}' AND trade_date = '{day}'")
    assert (row["snapshots"], row["in_session"], row["first_as_of"]) == (0, 0, None)
    assert (row["missed"], row["longest_gap_s"]) == (197, 390 * 60)


def test_gaps_are_between_snapshots_as_they_were_read_whenever_they_were_stored(tmp_path: Path) -> None:
    with warehouse_in_memory() as staged:
        for hour in (15, 20, 16):
            store(staged, land(zone_in(tmp_path), answers(), datetime(2025, 11, 20, hour, tzinfo=UTC)))
        upsert_sessions(staged.connection, CALENDAR, date(2025, 11, 20), date(2025, 11, 20))
        derived.refresh(staged.connection)
        (row,) = ask(staged.connection, "FROM coverage")
    assert row["longest_gap_s"] == 4 * 3600


def test_a_session_that_is_on_is_measured_until_now_and_one_that_comes_not_at_all(tmp_path: Path) -> None:
    as_of = clock.now() - timedelta(minutes=90)
    today, tomorrow = clock.trade_date(as_of), clock.trade_date(as_of) + timedelta(days=1)
    with warehouse_in_memory() as staged:
        store(staged, land(zone_in(tmp_path), answers(), as_of))
        on = {"session_open": as_of - timedelta(minutes=10), "session_close": as_of + timedelta(days=1)}
        coming = {"session_open": clock.now() + timedelta(hours=10), "session_close": clock.now() + timedelta(hours=20)}
        insert(staged.connection, schema.SESSIONS, [{"trade_date": today} | on, {"trade_date": tomorrow} | coming])
        derived.refresh(staged.connection)
        found = ask(staged.connection, "FROM coverage ORDER BY trade_date")
    assert 90 * 60 <= found[0]["longest_gap_s"] <= (clock.now() - as_of).total_seconds()
    assert (found[1]["longest_gap_s"], found[1]["session_minutes"]) == (None, 600)


# --- account_performance ----------------------------------------------------------------------------------------------


def performance(history: History) -> Iterator[Row]:
    balances_, spreads, held, legs, trades = map(
        history.by_snapshot,
        ("account_balances", "option_spreads", "positions", "option_spread_legs", "trade_reconciliation"),
    )
    closes = {session.date: session.close for session in DAYS}
    for account_id in (OLDER, YOUNGER):
        last: dict[
            Any, tuple[Decimal, bool]
        ] = {}  # session day -> close_pl of its last snapshot so far; after its close
        for snapshot in history.snapshots(account_id):
            key, day = snapshot["snapshot_id"], snapshot["trade_date"]
            (balance,) = balances_[key]
            if day in closes:
                last[day] = balance["close_pl"], snapshot["as_of"] >= closes[day]
            recent = {earlier: realized for earlier, realized in last.items() if earlier > day - timedelta(days=7)}
            week = [realized for earlier, (realized, is_close) in recent.items() if is_close or earlier == day]
            loose: dict[str, Decimal] = defaultdict(Decimal)
            for rows, sign in ((held[key], 1), (legs[key], -1)):
                for row in rows:
                    if row["asset_class"] == "equity":
                        loose[row["symbol"]] += sign * row["quantity"]
            closed = [
                row for row in trades[key] if row["status"] == "CLOSED" and clock.trade_date(row["closed_at"]) == day
            ]
            made = [row["realized_pnl"] for row in closed]
            yield {
                **{name: snapshot[name] for name in schema.KEY_NAMES},
                **{name: balance[name] for name in ("cash", "buying_power", "equity")},
                "open_spreads": len(spreads[key]),
                "open_positions": len(spreads[key]) + sum(1 for quantity in loose.values() if quantity),
                "unrealized_pl": balance["open_pl"],
                "realized_today": balance["close_pl"],
                "realized_7d": sum(week) if week else None,
                "realized_7d_days": len(week),
                "trades_open": sum(row["status"] in ("OPEN", "CLOSING_PENDING") for row in trades[key])
                if trades[key]
                else None,
                "trades_closed_today": len(closed) if trades[key] else None,
                "trades_realized_today": sum(made, Decimal()) if trades[key] and None not in made else None,
            }


def test_the_performance_at_every_snapshot(history: History) -> None:
    expected = list(performance(history))
    assert same(history.ask("FROM account_performance"), expected)
    older = [row for row in expected if row["account_id"] == OLDER]
    assert {row["open_positions"] - row["open_spreads"] for row in older} == {1, 2}  # SPY, at times F; AAPL is covered
    assert {row["trades_closed_today"] for row in older} == {None, 0, 1}
    made = {row["trades_realized_today"] for row in older if row["trades_closed_today"]}
    assert None in made  # of one trade nobody knows
    assert made > {None}
    assert {row["realized_7d_days"] for row in older} == {1, 2, 3, 4}


@pytest.mark.parametrize("condition", [f"account_id = '{YOUNGER}'", f"trade_date = '{DAYS[5].date}'"])
def test_the_performance_of_a_day_or_an_account_is_that_among_all(history: History, condition: str) -> None:
    whole = history.ask(f"FROM (FROM account_performance OFFSET 0) WHERE {condition}")
    assert whole
    assert same(history.ask(f"FROM account_performance WHERE {condition}"), whole)


def test_seven_days_are_calendar_dates_and_only_sessions_count(tmp_path: Path) -> None:
    realized = {  # November 2025; two snapshots on the 20th
        "13T21:05": 1000,
        "14T21:05": 100,
        "15T15:00": 100,  # Saturday: the broker still tells Friday's
        "20T15:00": 7,
        "19T12:30": 500,  # before the open: what the 19th made in the end is not known
        "20T21:05": 20,
        "21T15:00": 3,
        "22T15:00": 3,
    }
    with warehouse_in_memory() as staged:
        for text, close_pl in realized.items():
            reported = answers(balances={"balances": balances(close_pl=close_pl)})
            store(staged, land(zone_in(tmp_path), reported, datetime.fromisoformat(f"2025-11-{text}Z")))
        upsert_sessions(staged.connection, CALENDAR, date(2025, 11, 13), date(2025, 11, 22))
        derived.refresh(staged.connection)
        found = ask(staged.connection, "FROM account_performance ORDER BY as_of")
    assert [(row["realized_7d"], row["realized_7d_days"]) for row in found] == [
        (1000, 1),
        (1100, 2),
        (1100, 2),  # Saturday adds nothing
        (1600, 3),  # the 13th, the 14th and, so far, the 19th
        (107, 2),  # the 14th and, so far, the 20th
        (120, 2),
        (23, 2),  # the 14th is out
        (20, 1),  # Saturday: what the 21st made in the end is not known
    ]
    assert [row["trades_open"] for row in found] == [None] * 8


def test_what_the_ledger_did_not_tell_is_null_and_not_zero(history: History) -> None:
    of_ledger = ("trades_open", "trades_closed_today", "trades_realized_today")
    found = history.ask(
        f"SELECT DISTINCT {', '.join(of_ledger)} FROM account_performance WHERE account_id = '{YOUNGER}'"
    )
    assert found == [dict.fromkeys(of_ledger)]
