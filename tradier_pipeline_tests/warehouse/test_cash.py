"""Cash from evening to evening is what the broker tells over night, to the cent; and what it does not tell is found."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tradier_pipeline.core.outcome import Outcome
from tradier_pipeline.domain.calendar import MarketCalendar
from tradier_pipeline.publish.store import store_activity, store_snapshot
from tradier_pipeline.reconcile.cash import CASH_CHECKS, CashDay
from tradier_pipeline.warehouse.closings import cash_days
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline_tests.conftest import Home
from tradier_pipeline_tests.support.activities import body_of, event, filed
from tradier_pipeline_tests.support.bodies import ACCOUNT, Body, answers, balances, land
from tradier_pipeline_tests.support.curves import days_made_later
from tradier_pipeline_tests.support.histories import at
from tradier_pipeline_tests.support.sampling import sampled

THURSDAY, FRIDAY, MONDAY = date(2025, 11, 20), date(2025, 11, 21), date(2025, 11, 24)
SUNDAY = MONDAY - timedelta(days=1)
EVENING, NOON = time(21, 15), time(17)
(CHECK,) = CASH_CHECKS
pytestmark = pytest.mark.usefixtures("without_proof")


def show(home: Home, day: date, cash: Any, hour: time = EVENING, *, doubtful: bool = False) -> None:
    odd = {"long_market_value": 77} if doubtful else {}  # and no position is listed
    worth = answers(balances={"balances": balances(total_cash=Decimal(cash), **odd)})
    with days_made_later():  # what is told then makes them
        store_snapshot(home.warehouse, land(home.zone, worth, at(day, hour)))


def tell(home: Home, *events: Body, since: date = THURSDAY, until: date = MONDAY) -> None:
    """What the broker tells the morning after."""
    read_at = at(until + timedelta(days=1), time(12))
    landed = filed(home.zone, (since, until), read_at, history=[body_of("history", list(events))])
    store_activity(home.warehouse, landed, MarketCalendar("XNYS"))


def traded(amount: Decimal, symbol: str, quantity: int, price: Decimal | int) -> Body:
    return event(FRIDAY, amount, "trade", symbol=symbol, quantity=quantity, price=price)


def rows(home: Home, *columns: str) -> list[tuple[Any, ...]]:
    with connect_readonly(home.warehouse.path) as connection:
        return connection.execute(f"SELECT {', '.join(columns)} FROM cash_by_day ORDER BY trade_date").fetchall()


def judged(home: Home, day: date) -> Outcome:
    with connect_readonly(home.warehouse.path) as connection:
        return CHECK.run(*cash_days(connection, day))


def test_cash_is_explained_by_trades_and_by_what_else_history_tells(home: Home) -> None:
    show(home, THURSDAY, 1000)
    show(home, FRIDAY, "1099.30")
    bought = traded(Decimal("-110.70"), "SPY251219P00600000", 2, Decimal("0.55"))
    sold = traded(Decimal("9.99"), "F", -1, 10)
    tell(home, bought, sold, event(FRIDAY, 200), since=THURSDAY, until=FRIDAY)
    figures = ("trade_date", "since", "change", "trades", "fees", "flows", "unexplained")
    by_trades, fees = Decimal("-100.71"), Decimal("-0.71")
    assert rows(home, *figures) == [(FRIDAY, THURSDAY, Decimal("99.30"), by_trades, fees, 200, Decimal("0.01"))]
    outcome = judged(home, FRIDAY)
    assert not outcome.passed
    assert outcome.broker == "99.29 USD: -100.71 by trades, 200 otherwise"


def test_the_fees_of_a_trade_that_no_snapshot_saw_are_not_its_price(home: Home) -> None:
    """Bought on a session of which nothing was read: history reports the trade; its fee is what is not its price."""
    show(home, THURSDAY, 10000)
    show(home, MONDAY, "4999.65")
    tell(home, traded(Decimal("-5000.35"), "SPY", 50, 100))
    figures = ("change", "trades", "fees", "unexplained")
    assert rows(home, *figures) == [(Decimal("-5000.35"), Decimal("-5000.35"), Decimal("-0.35"), 0)]


@sampled("unclear", [{"symbol": "SPY1251219P00600000"}, {"price": 0}, {"quantity": 0}])
def test_fees_that_history_does_not_let_one_tell_are_null(home: Home, unclear: Body) -> None:
    show(home, THURSDAY, 1000)
    show(home, FRIDAY, 889)
    known = {"symbol": "SPY251219P00600000", "quantity": 2, "price": Decimal("0.55")}
    tell(home, event(FRIDAY, -111, "trade", **(known | unclear)), until=FRIDAY)
    assert rows(home, "trades", "fees", "unexplained") == [(-111, None, 0)]


def test_every_kind_of_flow_has_its_figure_and_together_they_explain_cash(home: Home) -> None:
    show(home, THURSDAY, 1000)
    show(home, FRIDAY, 1087)
    kinds = {"ach": 100, "dividend": 20, "interest": 3, "fee": -10, "tax": -25, "adjustment": -1}
    tell(home, *(event(FRIDAY, amount, kind) for kind, amount in kinds.items()), until=FRIDAY)
    figures = ("external", "dividends", "interest", "account_fees", "tax", "adjustments")
    assert rows(home, *figures) == [tuple(kinds.values())]
    assert rows(home, "change", "trades", "flows", "unexplained", "fees") == [(87, 0, 87, 0, 0)]


def test_what_history_does_not_tell_is_found_to_the_cent(home: Home) -> None:
    show(home, THURSDAY, 1000)
    show(home, FRIDAY, "1099.98")
    tell(home, event(FRIDAY, 100), until=FRIDAY)
    outcome = judged(home, FRIDAY)
    assert not outcome.passed
    (difference,) = outcome.differences
    assert difference.where == f"{ACCOUNT} cash since {THURSDAY}"
    assert (difference.broker, difference.stored) == ("100 USD reported", "99.98 USD changed")


def test_a_day_without_a_session_counts_for_the_next_one(home: Home) -> None:
    show(home, FRIDAY, 1000)
    show(home, MONDAY, 1003)
    tell(home, event(SUNDAY, 3, "interest"))
    assert rows(home, "since", "flows", "unexplained") == [(FRIDAY, 3, 0)]


def test_a_session_without_a_good_snapshot_after_its_close_is_spanned(home: Home) -> None:
    """By one of noon, and by a torn one, the day's cash is not known."""
    show(home, THURSDAY, 1000)
    show(home, FRIDAY, 1, NOON)
    show(home, FRIDAY, 2, doubtful=True)
    show(home, MONDAY, 1150)
    tell(home, event(FRIDAY, 100), event(MONDAY, 50))
    assert rows(home, "trade_date", "since", "flows", "unexplained") == [(MONDAY, THURSDAY, 150, 0)]
    assert judged(home, MONDAY).passed


@pytest.mark.parametrize(("since", "until"), [(MONDAY, MONDAY), (THURSDAY, FRIDAY)])
def test_without_the_whole_history_nothing_is_told_of_a_day(home: Home, since: date, until: date) -> None:
    show(home, THURSDAY, 1000)
    show(home, MONDAY, 1100)
    tell(home, since=since, until=until)
    assert rows(home, "change", "trades", "fees", "flows", "unexplained") == [(100, None, None, None, None)]
    with connect_readonly(home.warehouse.path) as connection:
        assert cash_days(connection, MONDAY) == []


def day(unexplained: Any, open_before: Any = None) -> CashDay:
    figures = (Decimal(100), Decimal(0), Decimal(100) - Decimal(unexplained), Decimal(unexplained))
    return CashDay(ACCOUNT, FRIDAY, THURSDAY, *figures, None if open_before is None else Decimal(open_before))


@pytest.mark.parametrize(
    ("days", "passes"),
    [
        ([day("0.009")], True),
        ([day("0.01")], False),
        ([day(-25, 25)], True),  # it came in the evening after history had reported of it
        ([day(-25, -25)], False),
        ([day(0, 25)], True),
        ([day(0), day(-25)], False),
    ],
)
def test_a_cent_is_too_much_unless_the_evening_before_lacks_it(days: Sequence[CashDay], passes: bool) -> None:
    assert CHECK.run(*days).passed is passes
