"""Statements add up to the cent, and what was realized counts once: from the broker's answers to the command."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from datetime import date, time, timedelta
from decimal import Decimal
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from tradier_pipeline import history
from tradier_pipeline.domain.calendar import MarketCalendar
from tradier_pipeline.domain.gate import GateRules
from tradier_pipeline.publish.store import store_activity, store_snapshot
from tradier_pipeline.reconcile.account_statement import STATEMENT_CHECKS, StatementMonth
from tradier_pipeline.warehouse.closings import statement_months
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline.warehouse.realized import PnlBy
from tradier_pipeline_tests.conftest import Home
from tradier_pipeline_tests.support.activities import body_of, day_value, event, filed, lot
from tradier_pipeline_tests.support.bodies import (
    ACCOUNT,
    answers,
    balances,
    land,
    leg,
    position,
    spread,
    warehouse_in_memory,
)
from tradier_pipeline_tests.support.command_line import rows_of, run
from tradier_pipeline_tests.support.curves import days_made_later
from tradier_pipeline_tests.support.histories import Histories, at

EVENING = time(21, 15)
(STATEMENT_CHECK,) = STATEMENT_CHECKS
pytestmark = pytest.mark.usefixtures("without_proof")
CALENDAR = MarketCalendar("XNYS")
LINES = ("opening", "deposits", "withdrawals", "trading", "dividends", "interest", "fees", "tax", "adjustments")
SIGNS = (1, 1, -1, 1, 1, 1, -1, -1, 1)


def show(home: Home, *evenings: tuple[date, Any], hour: time = EVENING, more: bool = False) -> None:
    """Snapshots of days and what the account is worth.

    Args:
        more: something else is published before anybody asks.
    """
    for place, (day, equity) in enumerate(evenings, 1):
        worth = answers(balances={"balances": balances(total_equity=Decimal(equity), total_cash=Decimal(equity))})
        landed = land(home.zone, worth, at(day, hour))
        with days_made_later() if more or place < len(evenings) else nullcontext():
            store_snapshot(home.warehouse, landed)


def report(home: Home, since: date, until: date, **rows: list[Any]) -> None:
    """What the broker reports the morning after."""
    read_at = at(until + timedelta(days=1), time(12))
    bodies = {name: [body_of(name, listed)] for name, listed in rows.items()}  # type: ignore[arg-type]
    store_activity(home.warehouse, filed(home.zone, (since, until), read_at, **bodies), CALENDAR)


def sessions(since: date, until: date) -> list[date]:
    days = (since + timedelta(days=number) for number in range((until - since).days + 1))
    return [day for day in days if CALENDAR.session_of(day)]


def added(row: dict[str, Any]) -> Decimal:
    return sum((sign * Decimal(row[name]) for name, sign in zip(LINES, SIGNS, strict=True)), Decimal(0))


# ---------------------------------------------------------------- statements


def test_a_month_is_its_opening_and_what_history_reports_and_the_rest_is_trading(home: Home) -> None:
    read = ((date(2025, 10, 31), 10_000), (date(2025, 11, 28), "12115.25"), (date(2025, 12, 31), 12_000))
    show(home, *read, more=True)
    kinds = {"ach": 2000, "dividend": "30.50", "interest": "-2.25", "fee": -10, "tax": -5, "adjustment": 1}
    events = [event(date(2025, 11, 14), Decimal(amount), kind) for kind, amount in kinds.items()]
    events += [event(date(2025, 11, 20), -500, "wire"), event(date(2025, 11, 5), Decimal("-99.99"), "trade")]
    report(home, date(2025, 10, 1), date(2025, 12, 31), history=events)
    first, november, december = rows_of("balances", "--by", "month")
    assert [november[name] for name in ("month", "opening_date", "closing_date")] == [
        "2025-11-01",
        "2025-10-31",
        "2025-11-28",
    ]
    lines = [Decimal(november[name]) for name in (*LINES, "closing", "pnl")]
    expected = ("10000", 2000, 500, "601", "30.50", "-2.25", 10, 5, 1, "12115.25", "615.25")
    assert lines == [Decimal(one) for one in expected]
    assert added(november) == Decimal(november["closing"]) == Decimal(december["opening"])
    assert (first["opening"], first["closing"], first["note"]) == (
        "10000.00000000",
        "10000.00000000",
        "the history began on 2025-10-31",
    )


def test_what_backfill_brought_is_in_every_history_with_its_source(home: Home) -> None:
    """No snapshot was ever taken: the broker's own values are the closes."""
    days = sessions(date(2025, 9, 15), date(2025, 11, 14))
    values = [day_value(day, 10_000 + number) for number, day in enumerate(days)]
    report(home, days[0], days[-1], historical_balances=values, history=[])
    by_day = rows_of("balances", "--by", "day")
    assert [(row["trade_date"], row["source"], row["snapshots"]) for row in by_day] == [
        (str(day), "broker", 0) for day in days
    ]
    assert [Decimal(row["close"]) for row in by_day] == [10_000 + number for number in range(len(days))]
    assert len(rows_of("balances")) == len(days)
    assert [row["month"] for row in rows_of("balances", "--by", "month")] == ["2025-09-01", "2025-10-01", "2025-11-01"]
    assert (
        run("balances", "--by", "day")
        .stdout.splitlines()[-1]
        .endswith(f"10,000.00  {9999 + len(days):,}.00  {9999 + len(days):,}.00")
    )
    assert run("report").exit_code == 0
    page = (home.path / "reports" / ACCOUNT / "account.html").read_text()
    assert "the broker&#39;s own daily value" in page or "the broker's own daily value" in page
    assert "Not known: nothing but the broker" in page


def test_a_reading_before_the_close_is_no_close(home: Home) -> None:
    thursday, friday, monday = date(2025, 11, 20), date(2025, 11, 21), date(2025, 11, 24)
    show(home, (thursday, 10_000), more=True)
    show(home, (friday, 9_000), hour=time(12, 30), more=True)  # 07:30 New York
    show(home, (monday, 12_000))
    days = {row["trade_date"]: row for row in rows_of("balances", "--by", "day")}
    early = days[str(friday)]
    assert (early["close"], early["cash_close"], early["source"], early["last"]) == (None, None, None, "9000.00000000")
    report(home, thursday, friday, historical_balances=[day_value(friday, 9_500)])
    early = next(row for row in rows_of("balances", "--by", "day") if row["trade_date"] == str(friday))
    assert (early["close"], early["source"], early["open"]) == ("9500.00000000", "broker", "9000.00000000")


def test_an_end_that_was_not_read_is_marked_and_the_next_month_goes_on_from_it(home: Home) -> None:
    show(home, (date(2025, 10, 1), 1000), (date(2025, 10, 28), 1100), (date(2025, 11, 28), 1200))
    october, november = rows_of("balances", "--by", "month")
    assert not october["complete"]
    assert "the last session, 2025-10-31, was not read after its close" in october["note"]
    assert november["opening"] == october["closing"]
    assert "sessions before it that were not read, so that the opening is older: 3" in november["note"]
    assert "closes whose flows may not all be reported yet: 1" in november["note"]


def test_a_part_of_a_month_says_of_which_sessions_it_is(home: Home) -> None:
    show(home, (date(2025, 10, 31), 1000), (date(2025, 11, 14), 1100), (date(2025, 11, 28), 1200))
    part, whole = ("--since", "2025-11-10", "--until", "2025-11-26"), ("--since", "2025-11-01", "--until", "2025-11-30")
    for command in ("balances", "returns"):
        (row,) = rows_of(command, "--by", "month", *part)
        assert row["note"].startswith("only since 2025-11-10, only until 2025-11-26")
        assert row["complete"] is False
        assert "2025-11-28" not in row["note"]  # it was read, and not asked for
        assert "only" not in rows_of(command, "--by", "month", *whole)[0]["note"]
    (year,) = json.loads(run("returns", "--by", "year", "--json", *part).stdout)
    assert year["note"].startswith("only since 2025-11-10, only until 2025-11-26")


@pytest.mark.parametrize("command", ["balances", "returns", "pnl", "exposure", "report"])
def test_dates_in_the_wrong_order_are_refused(command: str) -> None:
    result = run(command, "--since", "2025-11-07", "--until", "2025-11-06")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--since is after --until" in result.stderr


@pytest.mark.parametrize("accounts", [15, pytest.param(1000, marks=pytest.mark.soak)])
def test_the_statements_of_any_account_add_up_and_follow_each_other(accounts: int) -> None:
    """Random accounts with flows of every kind, on days with and without a session, and holes in what was read."""
    random = Random(7)
    kinds = {"ach": "deposits", "dividend": "dividends", "interest": "interest", "fee": "fees", "tax": "tax"}
    days = sessions(date(2025, 1, 2), date(2025, 12, 31))
    reported, flows = Histories(), dict[str, list[tuple[date, str, Decimal]]]()
    reported.sessions(days)
    for number in range(accounts):
        account, equity = f"VA{number}", Decimal(random.randrange(10**6)) / 100
        reported.read(days[0], days[-1], account)
        for day in days:
            if random.random() < 0.05:
                kind, amount = random.choice([*kinds]), Decimal(random.randrange(-50_000, 50_000)) / 100
                flows.setdefault(account, []).append((day + timedelta(days=random.choice([0, 0, 1])), kind, amount))
                reported.flow(flows[account][-1][0], amount, kind, account)
            equity += Decimal(random.randrange(-1000, 1000)) / 100
            if random.random() < 0.8:
                reported.snapshot(day, equity, account)
    with warehouse_in_memory() as staged:
        reported.write(staged.connection)
        cursor = staged.connection.execute("FROM account_statements ORDER BY account_id, month")
        names = [column[0] for column in cursor.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    assert len(rows) > accounts * 11
    for row in rows:
        assert added(row) == row["closing"]
        assert row["pnl"] == row["closing"] - row["opening"] - row["deposits"] + row["withdrawals"]
        between = [
            (kind, amount)
            for day, kind, amount in flows.get(row["account_id"], [])
            if row["opening_date"] < day <= row["closing_date"]
        ]
        external = sum(amount for kind, amount in between if kind == "ach")
        assert row["deposits"] - row["withdrawals"] == external
        for kind, line in kinds.items():
            if kind != "ach":
                sign = -1 if line in ("fees", "tax") else 1
                assert row[line] == sign * sum(amount for one, amount in between if one == kind)
    for before, after in pairwise(rows):
        if before["account_id"] == after["account_id"]:
            assert (before["closing"], before["closing_date"]) == (after["opening"], after["opening_date"])


def test_the_total_is_of_one_environment(home: Home) -> None:
    days = sessions(date(2025, 10, 30), date(2025, 11, 28))
    reported = Histories()
    reported.sessions(days)
    for account, equity, environment in (("VA1", 1000, "live"), ("VA2", 500, "live"), ("SIM1", 90_000, "simulator")):
        for number, day in enumerate(days):
            reported.snapshot(day, equity + number, account, environment=environment)
    with home.warehouse.staged() as staged:
        reported.write(staged.connection)
    totals = rows_of("balances", "--by", "month", "--total")
    assert [
        (row["environment"], row["month"], Decimal(row["closing"])) for row in totals if row["month"] > "2025-11"
    ] == [
        ("live", "2025-11-01", 1500 + 2 * (len(days) - 1)),
        ("simulator", "2025-11-01", 90_000 + len(days) - 1),
    ]
    assert all(added(row) == Decimal(row["closing"]) for row in totals)
    assert {row["environment"] for row in rows_of("balances", "--by", "month")} == {"live", "simulator"}
    titles = [line for line in run("returns").stdout.splitlines() if line and not line.startswith(" ")]
    assert titles == ["SIM1", "VA1", "VA2", "total"]
    frame = history.statement(by="quarter", total=True, home=home.path)
    assert frame["environment"].tolist() == ["live", "simulator"]
    assert history.total_equity_curve("live", days[-1], home=home.path)["accounts"].tolist() == [2]
    assert run("balances", "--total").exit_code == 2


def test_a_statement_in_text_has_its_lines_and_its_note(home: Home) -> None:
    show(home, (date(2025, 10, 31), 1000), (date(2025, 11, 25), "1250.5"))
    for by, period in (("month", "2025-11-01"), ("quarter", "2025-10-01"), ("year", "2025-01-01")):
        reported = run("balances", "--by", by).stdout
        assert [text for text in (period, "1,250.50", "trading", "adjustments", "note") if text not in reported] == []


def test_the_check_of_a_month_passes_on_what_is_stored(home: Home) -> None:
    show(home, (date(2025, 10, 31), 1000), (date(2025, 11, 3), "1010.01"), (date(2025, 11, 28), 1700), more=True)
    report(home, date(2025, 10, 1), date(2025, 11, 28), history=[event(date(2025, 11, 14), 500)])
    with connect_readonly(home.warehouse.path) as connection:
        (month,) = statement_months(connection, date(2025, 11, 14))
        assert statement_months(connection, date(2025, 12, 1)) == []
    assert (month.closed_before, month.pnl_of_days, month.lines["deposits"]) == (1000, 200, 500)
    outcome = STATEMENT_CHECK.run(month)
    assert (outcome.passed, outcome.stored) == (True, "1700 USD")


@pytest.mark.parametrize(
    ("change", "reported"),
    [
        ({"closing": Decimal("1700.00000001")}, "opening and lines"),
        ({"closed_before": Decimal("999.99")}, "opening"),
        ({"pnl_of_days": Decimal(201)}, "profit or loss of the days"),
    ],
)
def test_a_statement_that_does_not_add_up_is_found_to_the_last_decimal(
    change: dict[str, Decimal], reported: str
) -> None:
    lines = {name: Decimal(0) for name in LINES[1:]} | {"deposits": Decimal(510), "fees": Decimal(10)}
    figures = (
        Decimal(1000),
        lines | {"trading": Decimal(200)},
        Decimal(1700),
        Decimal(200),
        Decimal(1000),
        Decimal(200),
    )
    month = StatementMonth(ACCOUNT, date(2025, 11, 1), *figures)
    assert STATEMENT_CHECK.run(month).passed
    (difference,) = STATEMENT_CHECK.run(replace(month, **change)).differences
    assert difference.where == f"{ACCOUNT} 2025-11 {reported}"


# ---------------------------------------------------------------- sessions, hours, holes


def test_a_rehearsal_round_the_clock_leaves_no_session_that_the_exchange_did_not_have(
    home: Home, without_days: None
) -> None:
    """Also one that an earlier version kept: a Saturday, and a Friday that closes at midnight."""
    thursday, friday, saturday, monday = (date(2025, 11, day) for day in (20, 21, 22, 24))
    rehearsed = MarketCalendar("24/7")
    show(home, (thursday, 1000))
    with home.warehouse.staged() as staged:
        for day in (friday, saturday):
            session = rehearsed.session_of(day)
            assert session
            staged.connection.execute(
                f"INSERT INTO sessions VALUES ('{day}', TIMESTAMPTZ '{session.open}', TIMESTAMPTZ '{session.close}')"
            )
    for day in (saturday, monday):
        worth = answers(balances={"balances": balances(total_equity=1000, total_cash=1000)})
        store_snapshot(home.warehouse, land(home.zone, worth, at(day, EVENING)), GateRules(calendar=rehearsed))
    with connect_readonly(home.warehouse.path) as connection:
        kept = connection.execute("SELECT trade_date, session_close FROM sessions ORDER BY trade_date").fetchall()
        ((closed,),) = connection.execute(
            f"SELECT session_close FROM trade_gate_readings WHERE trade_date = '{saturday}'"
        ).fetchall()
    assert kept == [(day, CALENDAR.session_of(day).close) for day in (thursday, friday, monday)]  # type: ignore[union-attr]
    assert closed == rehearsed.session_of(saturday).close  # type: ignore[union-attr]


def test_the_hour_that_the_clocks_repeat_is_two_hours(home: Home) -> None:
    for hour, equity in ((5, 1000), (6, 2000)):  # 01:30 New York, twice
        show(home, (date(2025, 11, 2), equity), hour=time(hour, 30), more=hour == 5)
    rows = rows_of("balances", "--by", "hour")
    assert [(row["hour"], Decimal(row["close"])) for row in rows] == [
        ("2025-11-02 01:00:00-04", 1000),
        ("2025-11-02 01:00:00-05", 2000),
    ]
    assert [moment.isoformat() for moment in history.balances(by="hour", home=home.path)["hour"]] == [
        "2025-11-02T05:00:00+00:00",
        "2025-11-02T06:00:00+00:00",
    ]


def test_a_hole_of_sessions_ends_a_span_of_a_position(home: Home, without_days: None) -> None:
    thursday, friday, monday, later = (date(2025, 11, day) for day in (6, 7, 10, 20))
    for day in (thursday, friday, monday, later):
        store_snapshot(home.warehouse, land(home.zone, answers(positions=[position("SPY")]), at(day, EVENING)))
    with connect_readonly(home.warehouse.path) as connection:
        rows = connection.execute("SELECT from_as_of, last_as_of, gap FROM position_history('SPY')").fetchall()
    spans = [(first.date(), last.date(), gap) for first, last, gap in rows]
    assert spans == [(thursday, monday, True), (later, later, False)]


# ---------------------------------------------------------------- realized

LOTS = (  # closed, gain, symbol
    (date(2025, 10, 30), "10.50", "SPY251219P00600000"),
    (date(2025, 11, 5), "-4.25", "SPY251219P00600000"),
    (date(2025, 11, 5), "0", "F"),
    (date(2025, 11, 6), "2.00", "F"),
)


@pytest.fixture
def realized(home: Home) -> Home:
    lots = [
        lot(day, Decimal(gain), symbol, open_date=f"{day - timedelta(days=4)}T00:00:00.000Z")
        for day, gain, symbol in LOTS
    ]
    report(home, date(2025, 10, 1), date(2025, 11, 10), gainloss=lots)
    return home


def test_what_was_realized_by_month_with_how_often_and_how_much(realized: Home) -> None:
    figures = ("month", "lots", "wins", "losses", "gain_loss", "win_rate", "average_win", "average_loss")
    found = [[row[name] for name in (*figures, "profit_factor", "days_held")] for row in rows_of("pnl")]
    assert found == [
        ["2025-10-01", 1, 1, 0, "10.50000000", 1.0, "10.50000000", None, None, 4.0],
        ["2025-11-01", 3, 1, 1, "-2.25000000", 1 / 3, "2.00000000", "-4.25000000", 2 / 4.25, 4.0],
    ]


GROUPS: dict[PnlBy, tuple[str, dict[str, str]]] = {
    "symbol": ("symbol", {"F": "2", "SPY251219P00600000": "6.25"}),
    "underlying": ("underlying", {"F": "2", "SPY": "6.25"}),
    "day": ("close_date", {"2025-10-30": "10.50", "2025-11-05": "-4.25", "2025-11-06": "2"}),
    "account": ("account_id", {ACCOUNT: "8.25"}),
}


def test_what_was_realized_by_group(realized: Home) -> None:
    for by, (column, groups) in GROUPS.items():
        assert {row[column]: Decimal(row["gain_loss"]) for row in rows_of("pnl", "--by", by)} == {
            key: Decimal(gain) for key, gain in groups.items()
        }
        frame = history.pnl(by=by, decimals=True, home=realized.path)
        assert sum(frame["gain_loss"]) == Decimal("8.25")
        assert all(key in run("pnl", "--by", by).stdout for key in groups), by


def test_a_lot_that_the_broker_corrected_counts_once_and_its_versions_stay(realized: Home) -> None:
    report(realized, date(2025, 10, 1), date(2025, 11, 11), gainloss=[lot(date(2025, 10, 30), Decimal("9.85"), "F")])
    (account,) = rows_of("pnl", "--by", "account", "--until", "2025-10-31")
    assert Decimal(account["gain_loss"]) == Decimal("9.85")
    with connect_readonly(realized.warehouse.path) as connection:
        ((gain,),) = connection.execute("SELECT sum(gain_loss) FROM closed_lots").fetchall()
        ((versions, gone),) = connection.execute(
            "SELECT count(*), count(retracted_at) FROM closed_lots_versions"
        ).fetchall()
    assert (gain, versions, gone) == (Decimal("9.85"), 5, 4)


def test_an_unknown_account_is_named_beside_those_there_are(realized: Home) -> None:
    result = run("pnl", "--account", "nobody")
    assert result.exit_code == 1
    assert result.stderr.endswith(f"nothing is known of account nobody. Name one of those there are: {ACCOUNT}.\n")


# ---------------------------------------------------------------- by strategy and tag, and by month

SOLD, BOUGHT = "SPY251219P00602500", "SPY251219P00597500"
OPENED, CLOSED = date(2025, 11, 20), date(2025, 11, 24)


def filled(number: int, **fields: Any) -> dict[str, Any]:
    at_once = {"status": "filled", "exec_quantity": Decimal(1), "quantity": Decimal(1), "remaining_quantity": 0}
    return spread(number, **at_once, **fields) | {
        "leg": [
            leg(number + 1, SOLD, "sell_to_open", **at_once),
            leg(number + 2, BOUGHT, "buy_to_open", **at_once),
        ]
    }


def opened(home: Home, *orders: dict[str, Any]) -> None:
    """An evening that shows the orders of its day, and days later what the spread came to."""
    held = [position(SOLD, -len(orders), id=1), position(BOUGHT, len(orders), id=2)]
    with days_made_later():
        store_snapshot(home.warehouse, land(home.zone, answers(positions=held, orders=orders), at(OPENED, EVENING)))
    lots = [
        lot(CLOSED, Decimal(60), SOLD, quantity=-1, proceeds=Decimal(100), cost=Decimal(40)),
        lot(CLOSED, Decimal(-25), BOUGHT, quantity=1, proceeds=Decimal(5), cost=Decimal(30)),
        lot(CLOSED, Decimal(7), "F", proceeds=Decimal(17), cost=Decimal(10)),
    ]
    report(home, date(2025, 11, 1), CLOSED, gainloss=[one | {"open_date": f"{OPENED}T00:00:00Z"} for one in lots])


def test_what_was_realized_is_that_of_the_order_which_opened_it(home: Home) -> None:
    opened(home, filled(229065, tag="engine-7"))
    openers: dict[PnlBy, str] = {"tag": "engine-7", "strategy": "bull_put_credit"}
    for by, known in openers.items():
        rows = rows_of("pnl", "--by", by)
        found = {row[by]: (row["lots"], Decimal(row["gain_loss"]), row["win_rate"]) for row in rows}
        assert found == {known: (2, 35, 0.5), None: (1, 7, 1.0)}
        assert known in run("pnl", "--by", by).stdout
        assert set(history.pnl(by=by, home=home.path)[by].dropna()) == {known}
    (lot_of,) = rows_of("query", f"FROM attributed_lots WHERE symbol = '{SOLD}'")
    assert (lot_of["order_id"], lot_of["trade_id"]) == (229065, None)


def test_what_two_orders_of_a_day_opened_is_attributed_to_neither(home: Home) -> None:
    opened(home, filled(229065, tag="engine-7"), filled(229075, tag="engine-8"))
    assert {row["tag"] for row in rows_of("pnl", "--by", "tag")} == {None}
    assert {row["strategy"]: row["lots"] for row in rows_of("pnl", "--by", "strategy")}.keys() <= {
        "bull_put_credit",
        "spread",
        None,
    }


def test_the_strategy_is_the_ledgers_word_where_it_has_the_trade(home: Home) -> None:
    opened(home, filled(229065))
    with home.warehouse.staged() as staged:
        staged.connection.execute(
            "INSERT INTO trade_reconciliation BY NAME SELECT snapshot_id, account_id, as_of, trade_date, 't-1' AS "
            "trade_id, 'SPY' AS symbol, 'OPEN' AS ledger_status, 'OPEN' AS status, '' AS why, 1 AS entered, "
            "0 AS exited, '{}' AS claimed, '{}' AS allocated, 'weekly_income' AS strategy, as_of AS opened_at, "
            f'\'{{"{SOLD}": "-1", "{BOUGHT}": "1"}}\' AS legs FROM tradier_snapshots'
        )
        staged.connection.execute("UPDATE tradier_snapshots SET committed_at = committed_at + INTERVAL 1 SECOND")
    found = {row["strategy"]: row["lots"] for row in rows_of("pnl", "--by", "strategy")}
    assert found == {"weekly_income": 2, None: 1}
    assert rows_of("query", f"SELECT trade_id FROM attributed_lots WHERE symbol = '{BOUGHT}'") == [{"trade_id": "t-1"}]


def test_premium_sold_and_kept_is_that_of_short_options_by_month(home: Home) -> None:
    opened(home, filled(229065))
    (month,) = rows_of("pnl", "--by", "premium")
    figures = [Decimal(month[name]) for name in ("sold", "bought_back", "kept")]
    assert (month["month"], month["lots"], figures, month["kept_rate"]) == ("2025-11-01", 1, [100, 40, 60], 0.6)
    assert "60.0" in run("pnl", "--by", "premium").stdout


def traded(day: date, amount: str, **fields: Any) -> dict[str, Any]:
    shares = {"symbol": "SPY", "quantity": 10, "price": 450, "trade_type": "Equity", "description": "SPY"}
    return event(day, Decimal(amount), "trade", **shares | fields)


def test_fees_by_month_are_those_in_trades_and_those_of_the_account(home: Home) -> None:
    october, november = date(2025, 10, 7), date(2025, 11, 7)
    events = [
        traded(october, "-4500.35", commission=Decimal("0.30")),
        event(october, Decimal("-2.50"), "fee", description="WIRE FEE"),
        traded(november, "-4500.35", commission=Decimal("0.30")),
        traded(november, "-4500.35", price=0),  # nobody can tell
    ]
    report(home, date(2025, 10, 1), november, history=events)
    first, second = rows_of("pnl", "--by", "fees")
    names = ("commissions", "trade_fees", "account_fees", "fees")
    assert [Decimal(first[name]) for name in names] == [Decimal(one) for one in ("0.30", "0.35", "2.50", "2.85")]
    assert [second[name] for name in ("commissions", "trade_fees", "fees", "trades_unknown")] == [None, None, None, 1]
    assert len(rows_of("pnl", "--by", "fees", "--since", "2025-11-01")) == 1


def test_income_by_month_names_its_payer(home: Home) -> None:
    day = date(2025, 11, 7)
    events = [
        event(day, Decimal("12.30"), "dividend", description="APPLE  INC DIV"),
        event(day, Decimal("2.70"), "DIVIDEND", description="APPLE INC DIV"),
        event(day, Decimal("-1.11"), "interest", description="MARGIN INTEREST"),
        event(day, Decimal(500), "ach"),
    ]
    report(home, date(2025, 10, 1), day, history=events)
    found = [
        (row["kind"], row["payer"], row["payments"], Decimal(row["amount"])) for row in rows_of("pnl", "--by", "income")
    ]
    assert found == [("dividend", "APPLE INC DIV", 2, 15), ("interest", "MARGIN INTEREST", 1, Decimal("-1.11"))]
