"""Periods, money-weighted returns and the command: beside published examples and the roots of polynomials."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, time, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from tradier_pipeline import clock
from tradier_pipeline.core.settings import DEMO_ACCOUNT, DEMO_TOKEN
from tradier_pipeline.domain.calendar import MarketCalendar
from tradier_pipeline.domain.returns import LEFT_AFTER, UNREAD, Figures, Rate, figures, internal_rate, standard_periods
from tradier_pipeline.extract.activity import extract_activity
from tradier_pipeline.extract.connection import Broker
from tradier_pipeline.landing.activity import WINDOW, ActivityRange
from tradier_pipeline.publish.store import store_activity, store_snapshot
from tradier_pipeline.simulator.app import create_app
from tradier_pipeline.simulator.server import running
from tradier_pipeline.simulator.store import Store
from tradier_pipeline.simulator.strategy import AccountPlan
from tradier_pipeline.warehouse.reads import connect_readonly, equity_curves
from tradier_pipeline_tests.conftest import IMPATIENT, Home
from tradier_pipeline_tests.support.activities import body_of, event, filed
from tradier_pipeline_tests.support.bodies import answers, balances, land
from tradier_pipeline_tests.support.command_line import run
from tradier_pipeline_tests.support.histories import Histories, at

START = date(2021, 1, 1)
DAYS = tuple(START + timedelta(days=365 * year) for year in range(4))


def dated(*amounts: float, days: Sequence[date] = DAYS) -> list[tuple[date, Decimal]]:
    return [(day, Decimal(str(amount))) for day, amount in zip(days, amounts, strict=False)]


# ---------------------------------------------------------------- the internal rate of return


def test_the_rate_is_that_of_a_spreadsheet() -> None:
    """Microsoft, XIRR function: the example of its documentation results in 0.373362535."""
    days = [date(2008, 1, 1), date(2008, 3, 1), date(2008, 10, 30), date(2009, 2, 15), date(2009, 4, 1)]
    rate = internal_rate(dated(-10_000, 2_750, 4_250, 3_250, 2_750, days=days))
    assert rate.annual == pytest.approx(0.373362535, abs=1e-8)
    assert rate.period == pytest.approx(1.373362535 ** (456 / 365) - 1, abs=1e-8)


@pytest.mark.parametrize(
    ("amounts", "expected"),
    [
        ((-100, -266, 396), "6.35%"),
        ((-200, 100, 170), "20.52%"),
    ],
)
def test_the_rate_is_that_of_a_financial_calculator(amounts: tuple[float, ...], expected: str) -> None:
    """Practice questions for the CFA exam, level I (money-weighted return of shares bought, held and sold by the year):
    CF0 = -100, CF1 = -266, CF2 = 396 has IRR = 6.35 %; CF0 = -200, CF1 = 100, CF2 = 170 has IRR = 20.52 %.
    """
    rate = internal_rate(dated(*amounts))
    assert rate.annual is not None
    assert f"{rate.annual:.2%}" == expected


def test_two_rates_that_fit_are_none() -> None:
    """Practice question for the CFA exam, level I (multiple IRR): -2,000, 10,000, -10,000 has two, of about 38 % and
    260 %.
    """
    rate = internal_rate(dated(-2_000, 10_000, -10_000))
    assert (rate.period, rate.annual) == (None, None)
    reported = re.fullmatch(r"more than one rate fits: ([\d.]+)% and ([\d.]+)%", rate.reason or "")
    assert reported, rate.reason  # over the two years
    yearly = [(1 + float(percent) / 100) ** 0.5 - 1 for percent in reported.groups()]
    assert yearly == [pytest.approx(0.38, abs=0.01), pytest.approx(2.60, abs=0.03)]


@pytest.mark.parametrize(
    ("amounts", "reason"),
    [
        ((), "there was no money"),
        ((0, 0), "there was no money"),
        ((-100, -5), "no money came back"),
        ((100, 5), "no money was paid in"),
        ((-100, 150, -100), "no rate fits"),
        ((-100, 200, -100), "the flows do not tell one rate"),  # 0 %, where the sum only touches zero
    ],
)
def test_where_there_is_no_rate_there_is_a_reason(amounts: tuple[float, ...], reason: str) -> None:
    assert internal_rate(dated(*amounts)) == Rate(reason=reason)


def test_what_comes_back_whole_has_a_rate_of_nothing_to_the_cent() -> None:
    rate = internal_rate(dated(-0.3, 0.1, 0.2))  # as floating point numbers they add up to more than nothing
    assert rate == Rate(period=0.0, annual=0.0)


def test_flows_of_one_day_are_one_and_their_order_does_not_matter() -> None:
    flows = dated(-100, -50, 170)
    doubled = [(day, amount / 2) for day, amount in flows] * 2
    assert internal_rate(reversed(doubled)) == internal_rate(flows)
    assert internal_rate([(START, Decimal(-100)), (START, Decimal(100))]) == Rate(reason="there was no money")


@pytest.mark.parametrize(("days", "annual"), [(364, False), (365, True)])
def test_less_than_a_year_has_no_yearly_rate(days: int, annual: bool) -> None:
    rate = internal_rate([(START, Decimal(-100)), (START + timedelta(days=days), Decimal(110))])
    assert rate.period == pytest.approx(0.1)
    assert (rate.annual is not None) == annual


@given(
    st.lists(
        st.tuples(st.integers(0, 700), st.decimals(-(10**7), 10**7, places=2, allow_nan=False)), min_size=2, max_size=30
    )
)
def test_any_flows_have_a_rate_that_makes_them_worth_nothing_or_a_reason(flows: list[tuple[int, Decimal]]) -> None:
    rate = internal_rate((START + timedelta(days=days), amount) for days, amount in flows)
    assert (rate.period is None) == (rate.reason is not None)
    if rate.period is not None and rate.period > -0.999:  # closer to -1 a float does not tell what is left
        by_day: Counter[int] = Counter()
        for days, amount in flows:
            by_day[days] += int(amount * 100)
        moved = [days for days, cents in by_day.items() if cents]
        span = max(moved) - min(moved)
        worth = [by_day[days] * (1 + rate.period) ** ((min(moved) - days) / span) for days in moved]
        assert abs(sum(worth)) <= 1e-6 * sum(map(abs, worth))


def test_a_thousand_random_histories_have_the_rates_that_are_roots_of_their_polynomials() -> None:
    """The discounted sum is a polynomial of the discount of one day; numpy finds its roots from a matrix."""
    counted = {0: 0, 1: 0, 2: 0}
    for seed in range(1000):
        dice = Random(seed)
        length = dice.randrange(2, 31)
        amounts = np.zeros(length + 1)
        for day in {0, length, *(dice.randrange(length + 1) for _ in range(dice.randrange(8)))}:
            amounts[day] = dice.randrange(-500_00, 1_000_00) / 100
        amounts[0], amounts[-1] = -abs(amounts[0]) - 1, dice.choice([1, 1, 1, -1]) * (abs(amounts[-1]) + 1)
        roots = np.roots(amounts[::-1])  # of the discount by day, v
        positive = sorted(root.real for root in roots if root.real > 1e-9 and abs(root.imag) < 1e-7 * abs(root))
        flows = [(START + timedelta(days=day), Decimal(str(amount))) for day, amount in enumerate(amounts.round(2))]
        rate = internal_rate(flows)
        counted[min(len(positive), 2)] += 1
        if len(positive) == 1:
            assert rate.period is not None, (seed, rate)
            assert 1 + rate.period == pytest.approx(positive[0] ** -length, rel=1e-6, abs=1e-12)
        else:
            assert rate.period is None, (seed, rate, positive)
            assert rate.reason is not None
            assert rate.reason.startswith("more than one" if positive else "no "), (seed, positive)
    assert min(counted.values()) > 30, counted


# ---------------------------------------------------------------- periods


def row(day: date, equity: Any, before: Any = None, deposits: Any = 0, withdrawals: Any = 0, **more: Any) -> Any:
    """A row of the curve after a day of equity `before`."""
    blank = dict.fromkeys(("deposits", "withdrawals", "dividends", "interest", "fees", "pnl", "return"))
    blank |= {"provisional": False, "uncertain": False, "reason": None, "days_spanned": None, "stated": None}
    reported = {"trade_date": day, "gap": equity is None, "equity": None, **blank}
    if equity is None:
        return reported | more
    reported["equity"] = Decimal(equity)
    if before is not None:
        pnl = Decimal(equity) - Decimal(before) - Decimal(deposits) + Decimal(withdrawals)
        invested = Decimal(before) + Decimal(deposits)
        reported |= {"deposits": Decimal(deposits), "withdrawals": Decimal(withdrawals), "pnl": pnl}
        reported |= dict.fromkeys(("dividends", "interest", "fees", "stated"), Decimal(0)) | {"days_spanned": 1}
        reported |= {"return": float(pnl / invested) if invested > 0 else None}
    return reported | more


def asked(rows: Sequence[Any], since: date | None = None, until: date | None = None) -> Figures:
    found = figures(rows, since, until)
    assert found is not None
    return found


def test_a_return_of_two_years_is_told_by_the_year() -> None:
    """Practice question for the CFA exam, level I: a share bought for 50, another for 65 a year later, both sold for 70
    at the end of the second year, a dividend of 2 a share each year. The time-weighted return is 21.83 % a year.
    """
    rows = [row(DAYS[0], 50), row(DAYS[1], 65, 50, 0, 2), row(DAYS[2], 140, 65, 65, 4)]
    found = asked(rows)
    assert found.time_weighted.annual is not None
    assert f"{found.time_weighted.annual:.2%}" == "21.83%"
    assert found.time_weighted.period == pytest.approx(1.2183**2 - 1, abs=1e-4)


NOVEMBER = [date(2025, 11, day) for day in (3, 4, 5, 6, 7)]


@pytest.fixture
def november() -> list[Any]:
    days = iter(NOVEMBER)
    return [
        row(next(days), 1000),
        row(next(days), 1100, 1000, dividends=Decimal(7), fees=Decimal(-1), provisional=True),
        row(next(days), None, provisional=True),
        row(next(days), 1200, 1100, 200, interest=Decimal(2), days_spanned=2),
        row(next(days), 1260, 1200, 0, 12),
    ]


def test_the_figures_of_a_period_add_up(november: list[Any]) -> None:
    found = asked(november)
    assert (found.since, found.until, found.start, found.end) == (NOVEMBER[0], NOVEMBER[4], 1000, 1260)
    assert (found.deposits, found.withdrawals, found.pnl) == (200, 12, 72)
    assert (found.dividends, found.interest, found.fees) == (7, 2, -1)
    assert found.pnl == found.end - found.start - found.deposits + found.withdrawals
    growth = 1.1 * (1200 / 1300) * (1272 / 1200)
    assert found.time_weighted == Rate(period=pytest.approx(growth - 1))
    assert (found.gaps, found.provisional) == (1, 1)
    assert found.best == (NOVEMBER[1], pytest.approx(0.1))
    assert found.worst == (NOVEMBER[4], pytest.approx(12 / 1200 * 6))  # Thursday's return is that of two sessions
    assert (found.max_drawdown, found.peak, found.trough) == (pytest.approx(-1 / 13), NOVEMBER[1], NOVEMBER[3])


def test_a_period_is_measured_from_the_last_close_before_it_to_its_last(november: list[Any]) -> None:
    found = asked(november, NOVEMBER[3], NOVEMBER[3])  # the day before it is a gap
    assert (found.since, found.until, found.start, found.end) == (NOVEMBER[1], NOVEMBER[3], 1100, 1200)
    assert (found.pnl, found.gaps, found.provisional) == (-100, 1, 0)
    assert asked(november, NOVEMBER[4]).since == NOVEMBER[3]
    assert asked(november, until=NOVEMBER[2]).until == NOVEMBER[1]
    assert asked(november, until=NOVEMBER[2]).gaps == 0  # it ends on Tuesday
    assert asked(november, until=NOVEMBER[1]).gaps == 0
    assert asked(november, date(2020, 1, 1)) == asked(november)
    assert figures(november, date(2025, 11, 8)) is None
    assert figures(november, until=NOVEMBER[0]) is None
    assert figures([]) is None


def test_over_one_session_both_returns_are_the_same(november: list[Any]) -> None:
    for day in (1, 3, 4):
        found = asked(november, NOVEMBER[day], NOVEMBER[day])
        assert found.money_weighted.period == pytest.approx(found.time_weighted.period)


def test_the_money_weighted_return_sees_when_the_money_was_there() -> None:
    first, second, third = DAYS[:3]
    rows = [row(first, 100), row(second, 200, 100), row(third, 550, 200, 900)]
    found = asked(rows)
    assert found.time_weighted.period == pytest.approx(2 * 0.5 - 1)
    assert found.money_weighted.period is not None
    assert found.money_weighted == internal_rate(
        [(first, Decimal(-100)), (second, Decimal(-900)), (third, Decimal(550))]
    )
    assert found.money_weighted.period < -0.4


def test_a_profit_without_money_to_make_it_counts_as_nothing_and_is_noted() -> None:
    first, second, third = DAYS[:3]
    found = asked([row(first, 0), row(second, 10, 0), row(third, 11, 10)])
    assert found.time_weighted.period == pytest.approx(0.1)
    assert found.notes == (f"+10.00 USD without money to make it on {second} count as 0 %",)
    assert (found.max_drawdown, found.pnl, found.best) == (0, 11, (third, pytest.approx(0.1)))
    assert asked([row(first, 0), row(second, 0, 0), row(third, 11, 0, 10)]).time_weighted.period == pytest.approx(0.1)
    assert asked([row(first, 0), row(second, 0, 0)]).time_weighted == Rate(reason="there was no money")


def test_nothing_is_drawn_from_an_uncertain_day() -> None:
    first, second, third, last = DAYS
    doubtful = row(second, 60, 10, uncertain=True, provisional=True, reason="why") | {"return": None}
    found = asked([row(first, 10), doubtful, row(third, 63, 60), row(last, 63, 63)])
    assert found.time_weighted.period == pytest.approx(0.05)
    assert (found.best, found.worst, found.max_drawdown) == ((third, pytest.approx(0.05)), (last, 0), 0)
    assert found.uncertain == ((second, "why"),)
    assert found.money_weighted == Rate(reason=f"it is uncertain what came or left on {second}")
    alone = asked([row(first, 10), doubtful])
    assert alone.time_weighted == Rate(reason=f"it is uncertain what came or left on {second}")


def test_extremes_wait_for_the_history_of_a_day_where_the_broker_has_one() -> None:
    first, second, third = DAYS[:3]
    unread = {"provisional": True, "reason": UNREAD}
    read = [row(first, 100), row(second, 110, 100)]
    assert asked([*read, row(third, 330, 110, **unread)]).best == (second, pytest.approx(0.1))
    assert asked([row(first, 100, **unread), row(second, 110, 100, **unread)]).best == (second, pytest.approx(0.1))


def test_a_flow_counts_at_its_own_date() -> None:
    """10,000 on 2 January, 10,000 on 30 June in a hole until 1 July, 22,000 on 31 December."""
    begin, paid, shown, end = date(2025, 1, 2), date(2025, 6, 30), date(2025, 7, 1), date(2025, 12, 31)
    rows = [row(begin, 10_000), row(shown, 20_000, 10_000, 10_000), row(end, 22_000, 20_000)]
    rows[1]["flows"] = [(paid, Decimal(10_000))]
    expected = internal_rate([(begin, Decimal(-10_000)), (paid, Decimal(-10_000)), (end, Decimal(22_000))])
    assert asked(rows).money_weighted == expected
    assert expected.period == pytest.approx(0.134, abs=1e-3)


def test_what_was_lost_whole_is_minus_100_percent() -> None:
    first, second, third = DAYS[:3]
    found = asked([row(first, 100), row(second, 0, 100), row(third, 60, 0, 50)])
    assert (found.time_weighted, found.max_drawdown) == (Rate(-1.0, -1.0), -1.0)


@pytest.mark.parametrize(
    ("last", "begins"),
    [
        (date(2024, 5, 31), ("2024-04-30", "2024-04-30", "2024-02-29", "2023-12-31", "2023-05-31", "2022-01-01")),
        (date(2024, 2, 29), ("2024-01-31", "2024-01-29", "2023-11-29", "2023-12-31", "2023-02-28", "2022-01-01")),
    ],
)
def test_the_usual_periods_are_measured_from_the_close_before_them(last: date, begins: tuple[str, ...]) -> None:
    days = (last - date(2022, 1, 1)).days
    rows = [row(date(2022, 1, 1) + timedelta(days=number), 100, 100 if number else None) for number in range(days + 1)]
    found = standard_periods(rows)
    assert {name: str(one.since) for name, one in found.items()} == dict(
        zip(("MTD", "1M", "3M", "YTD", "1Y", "inception"), begins, strict=True)
    )
    assert {one.until for one in found.values()} == {last}


def test_what_is_to_date_is_measured_from_the_beginning_of_a_younger_history(november: list[Any]) -> None:
    begun = replace(asked(november), since_it_began=True)
    assert standard_periods(november) == {"MTD": begun, "YTD": begun, "inception": asked(november)}
    october = row(date(2025, 10, 31), 1000)
    found = standard_periods([october, row(NOVEMBER[0], 1000, 1000), *november[1:]])
    assert {name: one.since_it_began for name, one in found.items()} == {"MTD": False, "YTD": True, "inception": False}
    assert standard_periods(november[:1]) == standard_periods([]) == {}


def test_a_period_without_a_close_near_its_beginning_is_left_out() -> None:
    days = [date(2025, 7, 1), date(2025, 12, 30), date(2025, 12, 31)]
    rows = [row(days[0], 100), row(days[1], 110, 100, days_spanned=125), row(days[2], 111, 110)]
    assert list(standard_periods(rows)) == ["YTD", "inception"]


def test_an_account_without_newer_closes_has_no_month_to_date(november: list[Any]) -> None:
    later = [row(date(2025, 11, 10) + timedelta(days=number), None) for number in range(LEFT_AFTER + 1)]
    assert list(standard_periods([*november, *later])) == ["inception"]
    assert list(standard_periods([*november, *later[:-1]])) == ["MTD", "YTD", "inception"]


# ---------------------------------------------------------------- the command


@pytest.fixture
def two_accounts(home: Home) -> Home:
    reported = Histories()
    reported.sessions(NOVEMBER)
    for day, one, two in zip(NOVEMBER, (1000, 1100, None, 1210, 1331), (500, 500, 500, 500, 600), strict=True):
        if one:
            reported.snapshot(day, one)
        reported.snapshot(day, two, "VA2", time(22))
    reported.flow(NOVEMBER[4], 100, account_id="VA2")
    reported.read(NOVEMBER[0], NOVEMBER[3])
    reported.read(NOVEMBER[0], NOVEMBER[4], "VA2")
    with home.warehouse.staged() as staged:
        reported.write(staged.connection)
    return home


def test_returns_prints_each_account_and_the_total_and_what_is_uncertain(two_accounts: Home) -> None:
    result = run("returns")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == ["VA1", "VA2", "total"]
    (inception, *_) = [line.split() for line in lines if line.startswith("  inception")]
    figures_told = " ".join(inception)
    assert figures_told == ("inception * 2025-11-03 2025-11-07 1,000.00 0.00 0.00 331.00 1,331.00 33.10% 33.10% 0.00%")
    doubts = [line for line in lines if line.startswith("  * ")]
    text = "sessions whose deposits and withdrawals may not all be known"
    assert doubts == [
        f"  * 1 session without equity, 3 {text}",
        f"  * 4 {text}",
        f"  * 1 session without equity, 3 {text}",
    ]


def test_returns_of_one_period_and_account_is_one_document(two_accounts: Home) -> None:
    result = run("returns", "--account", "VA2", "--since", "2025-11-07", "--until", "2025-11-07", "--json")
    assert result.exit_code == 0
    reported = result.stdout
    assert '"deposits": "100"' in reported
    assert '"since": "2025-11-06"' in reported
    assert '"account_id": "VA2"' in reported
    assert "total" not in reported
    assert "VA1" not in reported


def test_returns_without_two_closes_says_so(home: Home) -> None:
    reported = Histories()
    reported.sessions(NOVEMBER)
    reported.snapshot(NOVEMBER[0], 1)
    with home.warehouse.staged() as staged:
        reported.write(staged.connection)
    assert run("returns").stdout == "VA1: no two closes are known that a return could be measured between\n"
    nobody = run("returns", "--account", "nobody")
    assert nobody.exit_code == 1
    assert "nothing is known of account nobody. Name one of those there are: VA1." in nobody.stderr


# ---------------------------------------------------------------- from the broker to the command


def test_a_deposit_between_two_days_is_no_gain_once_the_broker_has_told_of_it(home: Home) -> None:
    """Two landed snapshots; over night the broker tells that 5,000 of the 5,100 they differ by were paid in."""
    before, after = date(2025, 11, 20), date(2025, 11, 21)
    for day, equity, cash in ((before, 10_000, 10_000), (after, 15_100, 15_000)):
        worth = answers(balances={"balances": balances(total_equity=Decimal(equity), total_cash=Decimal(cash))})
        store_snapshot(home.warehouse, land(home.zone, worth, at(day, time(21, 15))))
    (inception,) = [line.split() for line in run("returns").stdout.splitlines() if line.startswith("  inception")]
    assert inception[4:] == ["10,000.00", "0.00", "0.00", "5,100.00", "15,100.00", "51.00%", "51.00%", "0.00%"]
    assert inception[1] == "*"
    night = at(after + WINDOW + timedelta(days=1), time(12))
    reported = filed(home.zone, (before, after), night, history=[body_of("history", [event(after, 5000)])])
    store_activity(home.warehouse, reported, MarketCalendar("XNYS"))
    (inception,) = [line.split() for line in run("returns").stdout.splitlines() if line.startswith("  inception")]
    assert inception[3:] == ["10,000.00", "5,000.00", "0.00", "100.00", "15,100.00", "0.67%", "1.00%", "0.00%"]
    assert "*" not in inception


def test_the_simulated_brokers_days_show_what_was_paid_in_and_what_was_earned(home: Home) -> None:
    today, calendar = clock.trade_date(clock.now()), MarketCalendar("XNYS")
    days = [day for number in range(14, 0, -1) if calendar.session_of(day := today - timedelta(days=number))][-4:]
    store = Store(None, plans=(AccountPlan(DEMO_ACCOUNT, "margin", Decimal(10_000), trader=False),))
    for day, amount, kind in zip(days, (1, 5_000, 150, -3_000), ("ach", "ach", "dividend", "wire"), strict=True):
        with store.at(at(day, time(17))) as world:
            world.credit(world.accounts[DEMO_ACCOUNT], Decimal(amount), kind, kind.upper())
    with running(create_app(store)) as url:
        broker = Broker(url, SecretStr(DEMO_TOKEN), "simulator", IMPATIENT)
        landed = extract_activity(home.zone, broker, ActivityRange.of_day(DEMO_ACCOUNT, days[-1]))
    store_activity(home.warehouse, landed, calendar)
    with connect_readonly(home.warehouse.path) as connection:
        rows = equity_curves(connection, None)[DEMO_ACCOUNT][-4:]
    names = ("trade_date", "equity", "source", "deposits", "withdrawals", "dividends", "pnl", "uncertain")
    assert [tuple(row[name] for name in names) for row in rows[1:]] == [
        (days[1], 15_001, "broker", 5_000, 0, 0, 0, False),
        (days[2], 15_151, "broker", 0, 0, 150, 150, False),
        (days[3], 12_151, "broker", 0, 3_000, 0, 0, False),
    ]
    assert [row["return"] for row in rows[1:]] == [0, pytest.approx(150 / 15_001), 0]
