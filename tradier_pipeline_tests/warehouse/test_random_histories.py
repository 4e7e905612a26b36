"""Random accounts with deposits, fees, income, holes and late postings, beside books kept as a fund keeps them.

The truth is drawn: on which evening each dollar came, what was earned, what the broker dates when, and what was read.
Statements, returns and extremes are computed from that truth here, in fractions, without the code under test.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, time, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from math import isclose
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tradier_pipeline.domain.returns import figures
from tradier_pipeline.warehouse import derived, schema
from tradier_pipeline_tests.conftest import dear_examples
from tradier_pipeline_tests.support.bodies import warehouse_in_memory
from tradier_pipeline_tests.support.histories import Histories, at

# three weeks with Thanksgiving, over the end of a month
DAYS = [date(2025, 11, day) for day in (17, 18, 19, 20, 21, 24, 25, 26, 28)]
DAYS += [date(2025, 12, day) for day in (1, 2, 3, 4, 5, 8)]
LATE, LAST_READ = date(2025, 12, 9), date(2026, 1, 15)
LINES = {"dividend": "dividends", "interest": "interest", "fee": "fees", "tax": "tax", "adjustment": "adjustments"}
COSTS = ("fee", "tax")
ACCOUNTS, NOON, PROVABLE = 8, time(12), 15


@dataclass(frozen=True)
class Flow:
    """Money that an evening shows first. `share`: of what the account is worth, percent; `off`: sessions that the
    broker dates it away; `late`: posted when the days had been read once."""

    share: int
    off: int = 0
    late: bool = False


@dataclass(frozen=True)
class Session:
    """What a session brings. `market`: hundredths of a percent on what is held; `income`: kind and cents."""

    seen: str
    market: int
    income: tuple[str, int] | None
    flow: Flow | None


FLOWS = st.builds(
    Flow,
    share=st.one_of(st.integers(PROVABLE, 150), st.integers(-60, -PROVABLE), st.integers(-4, 4)),
    off=st.sampled_from([0, 0, 0, 1, -1]),
    late=st.booleans(),
)
SESSIONS = st.builds(
    Session,
    seen=st.sampled_from(["snapshot", "snapshot", "snapshot", "broker", "broker", "both", "hole"]),
    market=st.integers(-300, 300),
    income=st.one_of(st.none(), st.none(), st.tuples(st.sampled_from([*LINES]), st.integers(-5_000, 5_000))),
    flow=st.one_of(*[st.none()] * 5, FLOWS),
)


@dataclass
class Book:
    """An account as it truly was: `equity` of each evening that was read, `came` since the one before, and `factor`,
    what a dollar left alone made of itself; `dated`: sums of the broker's rows by date and kind."""

    account_id: str
    cash: Decimal
    held: Decimal
    equity: dict[date, Decimal] = field(default_factory=dict)
    came: dict[date, list[Decimal]] = field(default_factory=dict)
    factor: dict[date, Fraction | None] = field(default_factory=dict)
    dated: list[tuple[date, str, Decimal]] = field(default_factory=list)
    late: list[tuple[date, Decimal]] = field(default_factory=list)
    flows: list[tuple[int, Decimal, int]] = field(default_factory=list)

    def live(self, sessions: Sequence[Session], reported: Histories) -> None:
        waiting: list[Decimal] = []
        for place, (day, session) in enumerate(zip(DAYS, sessions, strict=True)):
            self.held += (self.held * session.market / 10_000).quantize(Decimal("0.01"))
            if session.income:
                self._earn(day, *session.income, reported)
            if session.flow:
                waiting.append(self._flow(place, session.flow, reported))
            if session.seen == "hole":
                continue
            self._show(day, session.seen, reported)
            self._keep(day, [amount for amount in waiting if amount])
            waiting = []

    def _earn(self, day: date, kind: str, cents: int, reported: Histories) -> None:
        amount = Decimal(cents) / 100
        self.cash += amount
        self.dated.append((day, kind, amount))
        reported.flow(day, amount, kind, self.account_id)

    def _flow(self, place: int, flow: Flow, reported: Histories) -> Decimal:
        amount = ((self.cash + self.held) * flow.share / 100).quantize(Decimal("0.01"))
        booked = DAYS[min(max(place + flow.off, 0), len(DAYS) - 1)]
        self.cash += amount
        self.flows.append((place, amount, flow.off))
        if flow.late:
            self.late.append((booked, amount))
        else:
            reported.flow(booked, amount, "ach", self.account_id)
        return amount

    def _show(self, day: date, seen: str, reported: Histories) -> None:
        equity = self.cash + self.held
        if seen in ("snapshot", "both"):
            reported.snapshot(day, equity, self.account_id, cash=self.cash)
        if seen in ("broker", "both"):
            reported.reported(day, equity, self.account_id)

    def _keep(self, day: date, came: list[Decimal]) -> None:
        equity = self.cash + self.held
        if self.equity:
            before = [*self.equity.values()][-1]
            paid_in = sum((amount for amount in came if amount > 0), Decimal(0))
            taken_out = -sum((amount for amount in came if amount < 0), Decimal(0))
            invested = Fraction(before) + Fraction(paid_in)
            self.factor[day] = (Fraction(equity) + Fraction(taken_out)) / invested if invested > 0 else None
            self.came[day] = came
        self.equity[day] = equity


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with warehouse_in_memory() as staged:
        yield staged.connection


def emptied(connection: duckdb.DuckDBPyConnection) -> None:
    for table in (*schema.ALL_TABLES, *derived.TABLES):
        connection.execute(f"DELETE FROM {table.name}")


def rows_of(connection: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    cursor = connection.execute(sql)
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def lived(connection: duckdb.DuckDBPyConnection, accounts: Sequence[tuple[int, int, list[Session]]]) -> list[Book]:
    """Books of these accounts; the broker's rows are read the morning after the last session, late ones weeks later."""
    emptied(connection)
    reported = Histories()
    reported.sessions(DAYS)
    books = []
    for number, (cash, held, sessions) in enumerate(accounts):
        book = Book(f"VA{number}", Decimal(cash) / 100, Decimal(held) / 100)
        book.live(sessions, reported)
        reported.read(DAYS[0] - timedelta(days=30), DAYS[-1], book.account_id, at(LATE, NOON))
        books.append(book)
    reported.write(connection)
    known = rows_of(connection, "SELECT * FROM equity_curve WHERE pnl IS NOT NULL")
    assert all(row["provisional"] for row in known if row["trade_date"] > LATE - timedelta(days=14))
    for book in books:
        for booked, amount in book.late:
            reported.flow(booked, amount, "ach", book.account_id)
        reported.read(DAYS[0] - timedelta(days=30), DAYS[-1], book.account_id, at(LAST_READ, NOON))
    reported.write(connection)
    return books


def check_curve(book: Book, rows: Sequence[dict[str, Any]]) -> int:
    """Every return is the true one, or null on a day that is marked. Returns how many are marked."""
    known = [row for row in rows if not row["gap"]]
    assert {row["trade_date"]: row["equity"] for row in known} == book.equity
    # what is dated off and less than a twentieth of the equity cannot be told from a move of the market; two may meet
    little = 1 / 10 if any(off for _, _, off in book.flows) else 0.0
    for row in known[1:]:
        true = book.factor[row["trade_date"]]
        assert row["uncertain"] == (row["return"] is None) or true is None
        assert not row["uncertain"] or row["reason"]
        if row["return"] is not None and true is not None:
            near = isclose(1 + row["return"], true, rel_tol=1e-9, abs_tol=1e-9 + little)
            # nor can a flow from a market that moves what is owed as well, by as much as one that is provable
            near = near or (little > 0 and abs(true - 1) >= Fraction(PROVABLE, 100))
            assert near, (row["trade_date"], row["return"], float(true) - 1, book)
    return sum(row["uncertain"] for row in known)


def check_extremes(rows: Sequence[dict[str, Any]]) -> None:
    """No figure of a marked day is in an extreme; those of the others are."""
    found = figures(rows)
    if found is None:
        return
    days = [row for row in rows if not row["gap"]][1:]
    marked = {row["trade_date"] for row in days if row["uncertain"]}
    returns = {row["trade_date"]: row["return"] for row in days if row["return"] is not None}
    singles = [returns[row["trade_date"]] for row in days if row["trade_date"] in returns and row["days_spanned"] == 1]
    for extreme, pick in ((found.best, max), (found.worst, min)):
        assert extreme is None or extreme[0] not in marked
        assert extreme is None or extreme[1] == pick(singles)
    growth, peak, deepest = Fraction(1), Fraction(1), Fraction(0)
    for value in returns.values():
        growth *= max(Fraction(1 + value), Fraction(0))
        peak = max(peak, growth)
        deepest = min(deepest, growth / peak - 1)
    assert found.max_drawdown is None or isclose(found.max_drawdown, deepest, rel_tol=1e-9, abs_tol=1e-12)
    assert {found.peak, found.trough}.isdisjoint(marked) or found.max_drawdown == 0
    assert found.time_weighted.period is None or isclose(1 + found.time_weighted.period, growth, rel_tol=1e-9)


def check_statements(book: Book, statements: Sequence[dict[str, Any]], marked: int) -> None:
    """Opening and lines are the closing, to the cent; each line is what was drawn."""
    for row in statements:
        income = row["dividends"] + row["interest"] - row["fees"] - row["tax"] + row["adjustments"]
        assert row["opening"] + row["deposits"] - row["withdrawals"] + row["trading"] + income == row["closing"]
        since, until = row["opening_date"], row["closing_date"]
        assert (row["opening"], row["closing"]) == (book.equity[since], book.equity[until])
        for kind, line in LINES.items():
            sign = -1 if kind in COSTS else 1
            of_kind = [amount for day, word, amount in book.dated if word == kind and since < day <= until]
            assert row[line] == sign * sum(of_kind, Decimal(0))
        if not marked and not any(off for _, _, off in book.flows):
            came = sum(
                (amount for day, all_ in book.came.items() if since < day <= until for amount in all_), Decimal(0)
            )
            assert row["deposits"] - row["withdrawals"] == came
    for before, after in pairwise(statements):
        assert (before["closing"], before["closing_date"]) == (after["opening"], after["opening_date"])


HISTORIES = st.lists(
    st.tuples(
        st.integers(100_000, 2_000_000),
        st.one_of(st.just(0), st.integers(100_000, 2_000_000)),
        st.lists(SESSIONS, min_size=len(DAYS), max_size=len(DAYS)),
    ),
    min_size=ACCOUNTS,
    max_size=ACCOUNTS,
)
LONG = settings(max_examples=1000 // ACCOUNTS, deadline=None, suppress_health_check=list(HealthCheck))
QUICK = settings(LONG, max_examples=dear_examples(12), phases=[Phase.explicit, Phase.reuse, Phase.generate])


def check(connection: duckdb.DuckDBPyConnection, accounts: Sequence[tuple[int, int, list[Session]]]) -> None:
    for book in lived(connection, accounts):
        of_account = f"WHERE account_id = '{book.account_id}'"
        rows = rows_of(connection, f"FROM equity_curve {of_account} ORDER BY trade_date")
        marked = check_curve(book, rows)
        check_extremes(rows)
        statements = rows_of(connection, f"FROM account_statements {of_account} ORDER BY month")
        check_statements(book, [row for row in statements if row["opening"] is not None], marked)


@QUICK
@given(accounts=HISTORIES)
def test_random_accounts_have_the_figures_of_their_books_or_none(
    connection: duckdb.DuckDBPyConnection, accounts: list[tuple[int, int, list[Session]]]
) -> None:
    check(connection, accounts)


def test_a_withdrawal_that_is_dated_a_day_early_beside_a_deposit_is_moved_or_marked(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    lived = [
        ("both", 224, None, Flow(2, 1)),
        ("both", -227, None, Flow(-44)),
        ("snapshot", -108, None, None),
        ("hole", -233, ("fee", 223), None),
        ("snapshot", -44, ("dividend", 235), None),
        ("broker", -228, ("interest", -1786), None),
        ("hole", 130, None, None),
        ("snapshot", -172, ("interest", -1766), Flow(-56)),
        ("broker", 83, ("fee", -2608), None),
        ("both", -123, ("interest", 248), Flow(-54)),
        ("broker", -238, None, Flow(150, late=True)),
        ("broker", -184, None, Flow(-20, -1)),
        ("snapshot", -53, None, None),
        ("broker", 129, None, Flow(111)),
        ("broker", 226, ("fee", -300), Flow(127)),
    ]
    check(connection, [(200_000, 178_606, [Session(*one) for one in lived])])


QUIET = ("snapshot", 0, None, None)


def test_what_cash_does_not_explain_of_several_evenings_may_be_on_each(connection: duckdb.DuckDBPyConnection) -> None:
    """Found at random: two deposits dated a session early; cash, read once after both, proves one, and on which evening
    it came nobody knows. And two withdrawals dated late, of which one is posted after the last session.
    """
    early = [
        ("snapshot", -226, None, Flow(-43, 1)),
        ("hole", -291, None, Flow(-18)),
        ("snapshot", 224, ("fee", -1108), None),
        ("broker", -80, ("tax", 1332), Flow(92, -1, late=True)),
        ("snapshot", 26, ("dividend", -210), Flow(30, -1)),
        *[QUIET] * 10,
    ]
    late = [
        *[QUIET] * 11,
        ("broker", 208, None, Flow(19)),
        ("broker", 157, None, Flow(-26, 1)),
        ("snapshot", -160, None, Flow(-49, 1)),
        ("hole", -140, None, None),
    ]
    lives = (1_526_874, 390_841, early), (646_089, 1_614_543, late)
    check(connection, [(cash, held, [Session(*one) for one in lived]) for cash, held, lived in lives])


def test_a_second_evening_that_two_flows_explain_is_none_s(connection: duckdb.DuckDBPyConnection) -> None:
    """Found at random: a withdrawal dated on the second evening has not left yet, and a deposit of its size is dated on
    the first: one is in the first equity, or the other shows a day late.
    """
    lived = [
        *[("hole", 170, None, None)] * 2,
        ("broker", 81, ("interest", -4563), Flow(52)),
        ("broker", 160, None, None),
        ("broker", 157, None, Flow(-35, -1, late=True)),
        ("both", 35, None, Flow(-33, -1, late=True)),
        *[QUIET] * 9,
    ]
    check(connection, [(1_395_513, 1_358_453, [Session(*one) for one in lived])])


@pytest.mark.soak
@LONG
@given(accounts=HISTORIES)
def test_a_thousand_random_accounts_have_the_figures_of_their_books_or_none(
    connection: duckdb.DuckDBPyConnection, accounts: list[tuple[int, int, list[Session]]]
) -> None:
    check(connection, accounts)
