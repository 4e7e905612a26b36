"""What the book is exposed to, from the broker's answers to the command, the view and pandas."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tradier_pipeline import history
from tradier_pipeline.publish.store import store_snapshot
from tradier_pipeline.warehouse import sealed
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline_tests.conftest import Home, Simulated
from tradier_pipeline_tests.support.bodies import ACCOUNT, answers, balances, land, option_quote, position, quote
from tradier_pipeline_tests.support.command_line import rows_of, run

NOON = datetime(2025, 11, 20, 17, 0, tzinfo=UTC)
SHORT, LONG = "SPY251121P00650000", "SPY251219P00640000"  # they expire the day after, and within 30 days
FAR = "SPY260116C00700000"
SEALED = frozenset(table.name for table in sealed.TABLES)
pytestmark = pytest.mark.usefixtures("without_proof")


def greeks(delta: str, gamma: str, theta: str, vega: str) -> dict[str, Decimal]:
    names = ("delta", "gamma", "theta", "vega")
    return dict(zip(names, map(Decimal, (delta, gamma, theta, vega)), strict=True))


def show(
    home: Home, holdings: dict[str, int], quotes: list[Any], at: datetime = NOON, torn: bool = False, **worth: Any
) -> None:
    held = [position(symbol, quantity, id=number) for number, (symbol, quantity) in enumerate(holdings.items(), 1)]
    reported = answers(
        positions=held, quotes=quotes, **({"balances": {"balances": balances(**worth)}} if worth else {})
    )
    store_snapshot(home.warehouse, land(home.zone, reported, at, verdict="torn" if torn else "coherent"))


MARGIN = balances()["margin"] | {"option_buying_power": Decimal(75_000)}
SPREAD = {SHORT: -2, LONG: 2, "SPY": 100}
QUOTES = [
    quote("SPY", bid=Decimal("660.00"), ask=Decimal("660.10")),
    option_quote(SHORT, greeks=greeks("-0.30", "0.02", "-0.50", "0.40")),
    option_quote(LONG, greeks=greeks("-0.25", "0.01", "-0.10", "0.60")),
]


def test_the_greeks_of_a_book_are_those_of_its_contracts_and_shares(home: Home) -> None:
    show(home, SPREAD, QUOTES, total_equity=Decimal(100_000), margin=MARGIN)
    (spy,) = rows_of("exposure")
    assert spy["delta"] == pytest.approx(100 + (0.30 - 0.25) * 200)
    assert spy["gamma"] == pytest.approx((0.01 - 0.02) * 200)
    assert spy["theta"] == pytest.approx((0.50 - 0.10) * 200)
    assert spy["vega"] == pytest.approx((0.60 - 0.40) * 200)
    assert spy["dollar_delta"] == pytest.approx(spy["delta"] * 660.05)
    assert (spy["underlying"], spy["option_legs"], spy["legs_with_greeks"], spy["coverage"]) == ("SPY", 2, 2, 1)
    assert Decimal(spy["short_notional"]) == Decimal(spy["short_put_notional"]) == 2 * 100 * 650
    assert Decimal(spy["short_call_notional"]) == 0
    assert [Decimal(spy[name]) for name in ("expiring_7d", "expiring_30d")] == [2, 4]
    (account,) = rows_of("exposure", "--by", "account")
    assert account["buying_power_use"] == pytest.approx(0.25)
    assert account["dollar_delta"] == pytest.approx(spy["dollar_delta"])
    for by in ("underlying", "account", "expiring"):  # people get a table
        result = run("exposure", "--by", by)
        assert (result.exit_code, result.stderr) == (0, "")
        assert ACCOUNT in result.stdout


def test_a_leg_without_greeks_leaves_the_sum_open_and_coverage_says_so(home: Home) -> None:
    show(home, SPREAD, [QUOTES[0], QUOTES[1], option_quote(LONG, greeks=None)])
    (spy,) = rows_of("exposure")
    assert [spy[name] for name in ("delta", "gamma", "theta", "vega", "dollar_delta")] == [None] * 5
    assert (spy["option_legs"], spy["legs_with_greeks"], spy["coverage"]) == (2, 1, 0.5)
    assert Decimal(spy["short_notional"]) == 130_000  # a strike needs no greeks
    (account,) = rows_of("exposure", "--by", "account")
    assert (account["theta"], account["coverage"]) == (None, 0.5)


def test_the_contract_size_is_that_of_the_quote(home: Home) -> None:
    """An adjusted contract delivers what only the broker knows; without its quote nothing of it is known."""
    adjusted = "SPY1251219P00640000"
    reported = option_quote(adjusted, contract_size=150, root_symbol="SPY1", greeks=greeks("-0.5", "0", "0", "0"))
    show(home, {adjusted: -1}, [reported])
    (spy,) = rows_of("exposure")
    assert spy["delta"] == pytest.approx(75)
    assert Decimal(spy["short_notional"]) == 150 * 640
    show(home, {adjusted: -1}, [], NOON + timedelta(minutes=1))
    (spy,) = rows_of("exposure")
    assert (spy["delta"], spy["short_notional"], spy["coverage"]) == (None, None, 0)


def test_what_expires_soon_has_its_distance_to_the_strike(home: Home) -> None:
    call = "SPY251124C00655000"
    holdings = {SHORT: -2, LONG: 2, call: -1, FAR: -1}
    show(home, holdings, [QUOTES[0], *(option_quote(symbol) for symbol in holdings)])
    found = {row["symbol"]: row for row in rows_of("exposure", "--by", "expiring")}
    assert list(found) == [SHORT, call, LONG]
    assert [row["days_left"] for row in found.values()] == [1, 4, 29]
    assert [row["within_7_days"] for row in found.values()] == [True, True, False]
    assert [Decimal(row["distance"]) for row in found.values()] == [
        Decimal("10.05"),
        Decimal("-5.05"),
        Decimal("20.05"),
    ]
    assert [row["in_the_money"] for row in found.values()] == [False, True, False]
    assert found[SHORT]["distance_ratio"] == pytest.approx(10.05 / 660.05)


def test_without_a_price_of_the_underlying_there_is_no_distance(home: Home) -> None:
    show(home, {SHORT: -2}, [option_quote(SHORT)])
    (put,) = rows_of("exposure", "--by", "expiring")
    assert (put["underlying_price"], put["distance"], put["in_the_money"]) == (None, None, None)
    (spy,) = rows_of("exposure")
    assert spy["delta"] is not None
    assert spy["dollar_delta"] is None


def test_shares_alone_have_a_delta_and_no_coverage(home: Home) -> None:
    show(home, {"AAPL": -30}, [quote("AAPL")])
    (apple,) = rows_of("exposure")
    assert [apple[name] for name in ("delta", "gamma", "theta", "vega", "coverage")] == [-30, 0, 0, 0, None]


def test_what_is_only_quoted_or_not_held_any_more_is_in_no_book(home: Home) -> None:
    show(home, SPREAD | {"AAPL": 0}, [*QUOTES, quote("AAPL"), quote("TSLA")])
    assert [row["underlying"] for row in rows_of("exposure")] == ["SPY"]


def test_an_account_is_exposed_to_all_that_it_holds(home: Home) -> None:
    apple = "AAPL251219C00200000"
    quotes = [*QUOTES, quote("AAPL"), option_quote(apple, underlying="AAPL", greeks=greeks("0.5", "0", "-0.2", "0.1"))]
    show(home, SPREAD | {apple: -1}, quotes)
    books = {row["underlying"]: row for row in rows_of("exposure")}
    (account,) = rows_of("exposure", "--by", "account")
    for name in ("dollar_delta", "theta", "vega", "option_legs"):
        assert account[name] == pytest.approx(books["AAPL"][name] + books["SPY"][name])
    assert Decimal(account["short_notional"]) == 130_000 + 20_000
    assert Decimal(account["short_call_notional"]) == 20_000


def test_short_options_of_an_underlying_stand_beside_its_shares(home: Home) -> None:
    call, apple = "SPY251219C00700000", "AAPL251219P00200000"
    quotes = [QUOTES[0], *map(option_quote, (SHORT, LONG, call)), option_quote(apple, underlying="AAPL")]
    show(home, SPREAD | {call: -3, apple: -1}, quotes)
    names = ("symbol", "shares_held", "shares_needed", "cash_needed", "underlying_price")
    rows = rows_of("query", f"SELECT {', '.join(names)} FROM assignment_risk")
    assert {row["symbol"]: [row[name] and Decimal(row[name]) for name in names[1:]] for row in rows} == {
        SHORT: [100, None, 130_000, Decimal("660.05")],
        call: [100, 300, None, Decimal("660.05")],
        apple: [0, None, 20_000, None],
    }


LOOKS = {
    "exposure": ["positions", "quotes", "quotes"],
    "account_exposure": ["account_balances", "positions", "quotes", "quotes"],
    "assignment_risk": ["short_options"],
    "spread_book": ["option_spreads"],
}


def test_a_day_is_found_by_few_looks_at_what_is_sealed_and_none_at_another_day(home: Home) -> None:
    for day in (0, 1):
        show(home, SPREAD, QUOTES, NOON + timedelta(days=day), torn=bool(day))
        show(home, SPREAD, QUOTES, NOON + timedelta(days=day, hours=1), torn=not day)
    for view, tables in LOOKS.items():
        of_day = f"FROM {view} WHERE account_id = '{ACCOUNT}' AND trade_date = '2025-11-20'"
        with connect_readonly(home.warehouse.path) as connection:
            ((_, plan),) = connection.execute(f"EXPLAIN (FORMAT json) {of_day}").fetchall()
        looks = [look for look in scans(json.loads(plan)[0]) if look["Table"] in SEALED]
        assert sorted(look["Table"] for look in looks) == tables, view
        assert all("trade_date=" in str(look["Filters"]) for look in looks), view


def scans(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """What a plan says of each table that it reads."""
    if "Table" in plan["extra_info"]:
        yield plan["extra_info"] | {"Table": plan["extra_info"]["Table"].rpartition(".")[2]}
    for child in plan["children"]:
        yield from scans(child)


def test_a_doubtful_snapshot_is_left_out_and_over_time_the_last_good_one_of_each_day_counts(home: Home) -> None:
    show(home, {"AAPL": 10}, [quote("AAPL")], NOON)
    show(home, {"AAPL": 20}, [quote("AAPL")], NOON + timedelta(hours=1))
    show(home, {"AAPL": 70}, [quote("AAPL")], NOON + timedelta(hours=2), torn=True)
    (newest,) = rows_of("exposure")
    assert newest["delta"] == 20
    assert [row["delta"] for row in rows_of("exposure", "--each", "snapshot")] == [10, 20]
    assert [row["delta"] for row in rows_of("exposure", "--since", "2025-11-20")] == [20]
    assert rows_of("exposure", "--since", "2025-11-21") == []
    assert [row["delta"] for row in rows_of("query", "FROM exposure ORDER BY as_of")] == [10, 20]


def test_the_spreads_held_now_are_those_of_the_last_good_snapshot_as_the_view_has_them(home: Home) -> None:
    for hour in (0, 1):
        show(home, SPREAD, QUOTES, NOON + timedelta(hours=hour))
    show(home, {}, [], NOON + timedelta(hours=2), torn=True)
    held = rows_of("spreads")
    assert [row["as_of"] for row in held] == ["2025-11-20 18:00:00+00"]
    assert held == rows_of("query", "FROM spread_book WHERE as_of = '2025-11-20 18:00:00+00'")


def test_pandas_has_the_same_over_time(home: Home) -> None:
    show(home, SPREAD, QUOTES)
    frame = history.exposure(ACCOUNT, date(2025, 11, 20), "2025-11-20")
    assert frame["delta"].tolist() == pytest.approx([110])
    assert history.exposure(by="account")["buying_power_use"].notna().all()
    assert history.exposure(by="expiring", decimals=True)["distance"].tolist() == [Decimal("10.05"), Decimal("20.05")]
    with pytest.raises(ValueError, match="by is one of underlying, account, expiring"):
        history.exposure(by="strike")  # type: ignore[arg-type]


def test_an_account_that_holds_nothing_is_exposed_to_nothing(home: Home) -> None:
    show(home, {}, [])
    result = run("exposure")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "nothing is held\n")
    (account,) = rows_of("exposure", "--by", "account")
    assert (account["dollar_delta"], Decimal(account["short_notional"]), account["coverage"]) == (0, 0, None)
    wrong = run("exposure", "--account", "NOBODY")
    assert wrong.exit_code == 1
    assert "nothing is known of account NOBODY" in wrong.stderr


def test_a_snapshot_reads_the_price_of_what_the_held_options_are_written_on(
    home: Home, simulated: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the broker's HTTP answers: no share of the underlying needs to be held."""
    assert run("snapshot").exit_code == 0
    options = rows_of("query", "SELECT DISTINCT underlying FROM portfolio_positions WHERE asset_class = 'option'")
    assert options
    quoted = {row["symbol"] for row in rows_of("query", "SELECT symbol FROM quotes")}
    assert {row["underlying"] for row in options} <= quoted
    assert all(row["underlying_price"] for row in rows_of("exposure") if row["option_legs"])
