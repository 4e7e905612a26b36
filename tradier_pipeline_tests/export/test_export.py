"""The books are accepted by the programs that they are written for, and say to the cent what the broker said."""

from __future__ import annotations

import csv
import shutil
import subprocess
from contextlib import nullcontext
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random

import pytest

from tradier_pipeline.domain.calendar import MarketCalendar
from tradier_pipeline.export.form8949 import form8949
from tradier_pipeline.publish.store import store_activity, store_snapshot
from tradier_pipeline_tests.conftest import Home
from tradier_pipeline_tests.support.activities import body_of, day_value, event, filed, lot
from tradier_pipeline_tests.support.bodies import ACCOUNT, account, answers, balances, land, position
from tradier_pipeline_tests.support.command_line import run
from tradier_pipeline_tests.support.curves import days_made_later
from tradier_pipeline_tests.support.histories import at, time
from tradier_pipeline_tests.support.sampling import sampled

CALENDAR = MarketCalendar("XNYS")
PUT = "SPY251219P00450000"
MONDAY = date(2025, 11, 3)
DAYS = [MONDAY + timedelta(days=number) for number in range(5)]
pytestmark = pytest.mark.usefixtures("without_proof")


def show(home: Home, day: date, cash: object, securities: object = 0, *, more: bool = True) -> None:
    """An evening.

    Args:
        more: something else is published before anybody asks.
    """
    cash, securities = Decimal(str(cash)), Decimal(str(securities))
    worth = balances(total_equity=cash + securities, total_cash=cash, market_value=securities)
    with days_made_later() if more else nullcontext():
        store_snapshot(home.warehouse, land(home.zone, answers(balances={"balances": worth}), at(day, time(21, 15))))


def report(home: Home, since: date, until: date, **rows: list) -> None:
    """What the broker reports the morning after."""
    bodies = {name: [body_of(name, listed)] for name, listed in rows.items()}  # type: ignore[arg-type]
    read_at = at(until + timedelta(days=1), time(12))
    store_activity(home.warehouse, filed(home.zone, (since, until), read_at, **bodies), CALENDAR)


def trade(day: date, amount: object, symbol: str, quantity: int, price: object, commission: object = 0) -> dict:
    details = {"symbol": symbol, "quantity": quantity, "price": Decimal(str(price)), "trade_type": "Equity"}
    return event(
        day,
        Decimal(str(amount)),
        "trade",
        **details,
        commission=Decimal(str(commission)),
        description=f'"{symbol}"; x|y',
    )


def week(home: Home) -> None:
    """Shares bought and sold again, a put sold and bought back, a deposit, a dividend, a fee."""
    for day, cash, held in zip(
        DAYS,
        ("10000", "5499.65", "5619.30", "8119.30", "12716.75"),
        (0, "4510", "4370", "4390.5", "0"),
        strict=True,
    ):
        show(home, day, cash, held)
    report(
        home,
        date(2025, 10, 1),
        DAYS[4],
        history=[
            event(DAYS[0], Decimal(10_000)),
            trade(DAYS[1], "-4500.35", "SPY", 10, 450, "0.35"),
            trade(DAYS[2], "119.65", PUT, -1, "1.20", "0.35"),
            event(DAYS[3], Decimal(2500)),
            trade(DAYS[4], "4599.65", "SPY", -10, 460, "0.35"),
            trade(DAYS[4], "-20.35", PUT, 1, "0.20", "0.35"),
            event(DAYS[4], Decimal("20.15"), "dividend", description="DIV, SPY"),
            event(DAYS[4], Decimal("-2.00"), "fee", description='A "FEE"'),
        ],
        gainloss=[
            lot(DAYS[4], Decimal("99.30"), "SPY", cost=Decimal("4500.35"), proceeds=Decimal("4599.65"))
            | {"open_date": f"{DAYS[1]}T00:00:00.000Z", "quantity": 10},
            lot(DAYS[4], Decimal("99.30"), PUT, cost=Decimal("20.35"), proceeds=Decimal("119.65"))
            | {"open_date": f"{DAYS[2]}T00:00:00.000Z", "quantity": -1},
        ],
    )


@pytest.fixture(scope="module")
def week_of_five_days(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with the week, for tests that only read."""
    home = Home(tmp_path_factory.mktemp("week"))
    week(home)
    return home


@pytest.fixture
def reported_week(week_of_five_days: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADIER_PIPELINE_HOME", str(week_of_five_days.path))


def exported(form: str, directory: Path, *arguments: str) -> Path:
    path = directory / f"books.{form}"
    result = run("export", "--format", form, "--output", str(path), *arguments)
    assert result.exit_code == 0, result.stderr
    return path


def beancount_totals(path: Path) -> dict[str, Decimal]:
    """What beancount makes of the file: the sum of each account in USD; it must have no error."""
    loader = pytest.importorskip("beancount.loader", reason="beancount is not installed")
    from beancount.core import realization

    entries, errors, _ = loader.load_file(str(path))
    assert errors == []
    root = realization.realize(entries)
    found = {one.account: one.balance.get_currency_units("USD").number for one in realization.iter_children(root)}
    return {name: amount for name, amount in found.items() if amount}


def hledger(path: Path, *arguments: str) -> str:
    program = shutil.which("hledger")
    if program is None:
        pytest.skip("hledger is not installed")
    done = subprocess.run([program, "-f", str(path), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def hledger_totals(path: Path) -> dict[str, Decimal]:
    hledger(path, "check", "--strict")
    hledger(path, "check", "ordereddates")
    rows = csv.reader(hledger(path, "balance", "--flat", "--output-format", "csv", "--no-total").splitlines()[1:])
    return {name: Decimal(amount.removesuffix(" USD")) for name, amount in rows}


TOTALS = {"beancount": beancount_totals, "hledger": hledger_totals}
FORMS = pytest.mark.parametrize("form", list(TOTALS))
ROOT = f"Tradier:{ACCOUNT}"
WEEK = {
    f"Assets:{ROOT}:Cash": "12716.75",
    f"Equity:{ROOT}:Deposits": "-12500",
    f"Income:{ROOT}:Dividends": "-20.15",
    f"Income:{ROOT}:Realized": "-198.60",
    f"Expenses:{ROOT}:Fees": "2",
}


@FORMS
def test_a_week_is_accepted_and_every_line_is_the_brokers(form: str, reported_week: None, tmp_path: Path) -> None:
    path = exported(form, tmp_path)
    totals = TOTALS[form](path)
    assert {name: totals[name] for name in WEEK} == {name: Decimal(amount) for name, amount in WEEK.items()}
    assert totals.get(f"Assets:{ROOT}:Securities:Cost", 0) == 0
    assert sum(totals.values()) == 0
    assert not any("Unexplained" in name for name in totals)
    assert path.read_text().count("12716.75") >= 2


@FORMS
def test_a_range_begins_with_what_was_held_before_it(form: str, reported_week: None, tmp_path: Path) -> None:
    path = exported(form, tmp_path, "--since", str(DAYS[2]), "--until", str(DAYS[3]))
    totals = TOTALS[form](path)
    assert totals["Equity:Opening-Balances"] == Decimal("-10009.65")
    assert totals[f"Equity:{ROOT}:Deposits"] == -2500
    assert totals[f"Assets:{ROOT}:Cash"] == Decimal("8119.30")
    assert f"Income:{ROOT}:Realized" not in totals


def test_cash_that_history_does_not_explain_is_marked_and_the_file_is_accepted(home: Home, tmp_path: Path) -> None:
    show(home, DAYS[0], 1000)
    show(home, DAYS[1], "1007.77")
    report(home, DAYS[0], DAYS[1], history=[event(date(2025, 11, 4), 0, "journal")])
    for form in TOTALS:
        path = exported(form, tmp_path)
        totals = TOTALS[form](path)
        assert totals[f"Equity:{ROOT}:Unexplained"] == Decimal("-7.77")
        assert totals["Equity:Opening-Balances"] == -1000
        assert f"{DAYS[1]} ! " in path.read_text()
        assert "1 entries are marked !" in run("export", "--format", form).stderr


def test_a_deposit_counts_on_the_evening_that_shows_it(home: Home, tmp_path: Path) -> None:
    """Dated Tuesday by the broker, seen in Monday's cash: no doubtful entry, and its own date stands beside it."""
    for day, cash in zip(DAYS, (10_000, 10_000, 30_000, 30_000), strict=False):
        show(home, day, cash)
    report(home, date(2025, 10, 1), DAYS[4], history=[event(DAYS[1], 20_000)])
    for form in TOTALS:
        path = exported(form, tmp_path)
        totals = TOTALS[form](path)
        assert totals[f"Equity:{ROOT}:Deposits"] == -20_000
        assert not any("Unexplained" in name for name in totals)
        assert f"{DAYS[2]} *" in path.read_text()
        assert str(DAYS[1]) in path.read_text().split("dated")[1].splitlines()[0]


def test_without_history_changes_are_marked_and_realized_gains_stand(home: Home, tmp_path: Path) -> None:
    show(home, DAYS[0], 10_000)
    show(home, DAYS[1], 9_000, 1_200)
    report(home, DAYS[0], DAYS[1], gainloss=[lot(DAYS[1], Decimal("50.25"))])
    for form in TOTALS:
        path = exported(form, tmp_path)
        totals = TOTALS[form](path)
        assert totals[f"Income:{ROOT}:Realized"] == Decimal("-50.25")
        assert totals[f"Equity:{ROOT}:Unexplained"] == Decimal("-149.75")
        assert not any("Unrealized" in name for name in totals)
        assert "history was not read" in run("export", "--format", form).stderr


def test_what_only_backfill_knows_is_asserted_by_the_brokers_own_values(home: Home, tmp_path: Path) -> None:
    values = [day_value(day, Decimal(amount)) for day, amount in zip(DAYS, ("500", "505.5", "1505.5"), strict=False)]
    report(home, DAYS[0], DAYS[2], history=[event(DAYS[2], 1000)], historical_balances=values)
    for form in TOTALS:
        path = exported(form, tmp_path)
        totals = TOTALS[form](path)
        assert totals["Equity:Opening-Balances"] == -500
        assert totals[f"Equity:{ROOT}:Deposits"] == -1000
        assert totals[f"Income:{ROOT}:Unrealized"] == Decimal("-5.5")
        assert "cash at a close was never read" in run("export", "--format", form).stderr


def test_securities_that_the_owner_states_are_no_cash(home: Home, tmp_path: Path) -> None:
    show(home, DAYS[0], 1000)
    show(home, DAYS[1], 1000, 600)
    report(home, date(2025, 10, 1), DAYS[1], history=[event(DAYS[1], 0, "acat")])
    stated = run(
        *("flows", "add", "--account", ACCOUNT, "--date", str(DAYS[1])),
        *("--symbol", "BRK/B", "--quantity", "1", "--value", "600"),
    )
    assert stated.exit_code == 0, stated.stderr
    for form in TOTALS:
        totals = TOTALS[form](exported(form, tmp_path))
        assert totals[f"Assets:{ROOT}:Cash"] == 1000
        assert totals[f"Assets:{ROOT}:Securities:Cost"] == 600
        assert totals[f"Equity:{ROOT}:Deposits"] == -600


@sampled("seed", range(6))
def test_any_account_is_accepted_and_ends_at_the_brokers_cash(seed: int, home: Home, tmp_path: Path) -> None:
    """Deposits, fees, income, trades, holes, late postings, words that nobody knows: the programs find no error."""
    random = Random(seed)
    cash, events, equity = Decimal(5000), [], Decimal(0)
    kinds = ["ach", "wire", "journal", "dividend", "interest", "fee", "tax", "adjustment", "someBrandNewKind", "trade"]
    for number in range(20):
        day = MONDAY + timedelta(days=number)
        for _ in range(random.randrange(3)):
            amount = Decimal(random.randrange(-90_000, 120_000)) / 100
            cash += amount
            posted = day + timedelta(days=random.choice((0, 0, 0, 1)))
            kind = random.choice(kinds)
            events.append(trade(posted, amount, "SPY", 1, 450) if kind == "trade" else event(posted, amount, kind))
        if CALENDAR.session_of(day) and random.random() < 0.8:
            equity = Decimal(random.randrange(0, 500_000)) / 100
            show(home, day, cash, equity)
            last = cash
    report(home, date(2025, 10, 1), MONDAY + timedelta(days=22), history=events)
    for form, totals_of in TOTALS.items():
        path = exported(form, tmp_path)
        assert sum(totals_of(path).values()) == 0, form
        asserted = [line for line in path.read_text().splitlines() if ":Cash" in line and ("=*" in line or "~" in line)]
        assert f" {last:.2f} " in asserted[-1], form


def test_movements_without_any_known_value_are_entries_that_nothing_asserts(home: Home, tmp_path: Path) -> None:
    report(home, DAYS[0], DAYS[2], history=[event(DAYS[1], 250), trade(DAYS[2], "-99.95", "BRK/B", 1, "99.60")])
    for form in TOTALS:
        totals = TOTALS[form](exported(form, tmp_path))
        assert totals[f"Assets:{ROOT}:Cash"] == Decimal("150.05")
        assert totals[f"Assets:{ROOT}:Securities:Cost"] == Decimal("99.95")
        assert "no value at a close is known" in run("export", "--format", form).stderr


def test_an_account_of_which_nothing_moved_is_an_empty_book(home: Home, tmp_path: Path) -> None:
    show(home, DAYS[0], 0, more=False)
    for form in TOTALS:
        assert TOTALS[form](exported(form, tmp_path, "--since", "2026-01-01")) == {}


def papers(home: Home) -> None:
    """A live account and one of the sandbox in one home, a lot closed in each."""
    for number, environment, cash in ((ACCOUNT, "live", 1000), ("VA00000002", "sandbox", 100_000)):
        worth = {"balances": balances(number=number, total_equity=Decimal(cash), total_cash=Decimal(cash))}
        held = land(
            home.zone,
            answers(
                account={"profile": {"account": account(number)}},
                balances=worth,
                positions=[position(PUT, -1, -150)],
            ),
            at(DAYS[0], time(21, 15)),
            account_id=number,
            environment=environment,
        )
        with days_made_later() if environment == "live" else nullcontext():
            store_snapshot(home.warehouse, held)


def test_the_books_never_mix_what_paper_accounts_began_with(home: Home, tmp_path: Path) -> None:
    papers(home)
    for form in TOTALS:
        totals = TOTALS[form](exported(form, tmp_path))
        assert totals["Equity:Opening-Balances"] == -1000
        assert totals["Equity:Tradier-Sandbox:Opening-Balances"] == -100_000
        later = TOTALS[form](exported(form, tmp_path, "--since", str(DAYS[3])))
        assert later["Equity:Opening-Balances"] == -1000
        assert later["Equity:Tradier-Sandbox:Opening-Balances"] == -100_000


def test_the_portfolio_has_a_total_for_each_environment(home: Home) -> None:
    papers(home)
    totals = [line.split()[:2] for line in run("portfolio").stdout.splitlines() if line.startswith("total")]
    assert totals == [["total", "live"], ["total", "sandbox"]]


# ---------------------------------------------------------------- Form 8949


def form_rows(text: str) -> tuple[list[str], list[dict[str, str]]]:
    lines = text.splitlines()
    notes = [line for line in lines if line.startswith("#")]
    return notes, list(csv.DictReader(lines[len(notes) :]))


def test_lots_without_real_money_are_no_sales() -> None:
    sold = {"close_date": MONDAY, "open_date": MONDAY, "symbol": "SPY", "quantity": Decimal(1)}
    sold |= {"cost": Decimal(1), "proceeds": Decimal(3), "gain_loss": Decimal(2)}
    live, paper = (
        sold | dict(zip(("account_id", "environment"), of, strict=True))
        for of in (("6YA00001", "live"), ("VA00000002", "sandbox"))
    )
    notes, rows = form_rows(form8949([live, paper])[0])
    assert [row["account"] for row in rows] == ["6YA00001"]
    assert "left out; --account has those of one: VA00000002 (sandbox)" in " ".join(notes)
    notes, rows = form_rows(form8949([paper])[0])
    assert [row["account"] for row in rows] == ["VA00000002"]
    assert "they are no sales: VA00000002 (sandbox)" in " ".join(notes)
    assert "real money" not in form8949([live])[0]


def test_closed_lots_stand_in_the_columns_of_form_8949_by_term(home: Home) -> None:
    closed = date(2025, 11, 7)
    cases = {
        "SPY": ("2024-11-06", 3),  # a year and a day
        "QQQ": ("2024-11-07", 3),  # a year, and not more
        PUT: ("2024-01-02", -1),  # was short
        "SPX251219P05000000": ("2025-11-03", 2),
    }
    lots = [
        lot(closed, Decimal("-0.10"), symbol, cost=Decimal("10.10"), proceeds=Decimal("10.00"), quantity=quantity)
        | {"open_date": f"{opened}T00:00:00.000Z"}
        for symbol, (opened, quantity) in cases.items()
    ]
    report(home, date(2025, 11, 1), closed, gainloss=[*lots, lot(date(2025, 11, 3), Decimal("-2.64"))])
    result = run("export", "--format", "form8949", "--since", "2025-11-07")
    notes, rows = form_rows(result.stdout)
    assert "no wash sales" in notes[0]
    assert "no wash sales" in result.stderr
    assert any("Form 6781: SPX." in note for note in notes)
    assert [(row["description"].split(",")[0], row["term"]) for row in rows] == [
        (f"1 {PUT}", "short"),
        ("3 QQQ", "short"),
        ("2 SPX251219P05000000", "short"),
        ("3 SPY", "long"),
    ]
    assert rows[-1] | {"account": ""} == {
        **{"account": "", "term": "long", "description": "3 SPY", "date_acquired": "2024-11-06"},
        **{"date_sold": "2025-11-07", "proceeds": "10.00", "cost": "10.10", "adjustment_code": ""},
        **{"adjustment_amount": "", "gain": "-0.10"},
    }
    assert (rows[0]["date_acquired"], rows[0]["description"]) == ("2025-11-07", f"1 {PUT}, short, opened 2024-01-02")


def test_a_gain_that_is_not_proceeds_less_cost_stands_and_is_named(home: Home) -> None:
    report(home, date(2025, 11, 1), DAYS[4], gainloss=[lot(DAYS[4], Decimal("-2.60"))])
    notes, rows = form_rows(run("export", "--format", "form8949").stdout)
    assert rows[0]["gain"] == "-2.60"
    assert "not proceeds less cost in 1 lots" in notes[-1]


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        (("--format", "beancount", "--account", "NOBODY"), "nothing is known of account NOBODY"),
        (("--format", "quicken"), "'quicken' is not one of"),
        ((), "Missing option '--format'"),
        (("--format", "hledger", "--since", "2025-13-01"), "does not match the format"),
        (("--format", "hledger", "--since", "2025-11-07", "--until", "2025-11-06"), "--since is after --until"),
        (("--format", "hledger", "--output", "/nowhere/books"), "cannot write /nowhere/books"),
    ],
)
def test_a_wrong_call_is_one_line(arguments: tuple[str, ...], reported: str, reported_week: None) -> None:
    result = run("export", *arguments)
    assert result.exit_code > 0
    assert result.stdout == ""
    assert reported in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_odd_lots_are_accepted_and_right(home: Home, tmp_path: Path) -> None:
    """A short sale, options that expired and were assigned, a part of a share, a lot that was corrected."""
    cash = ("10000", "12999.65", "12829.30", "10049.30", "7549.30")
    for day, money, held in zip(DAYS, cash, (0, -3000, "-2830", "-50", "2450"), strict=True):
        show(home, day, money, held)
    dated = {"open_date": f"{DAYS[1]}T00:00:00.000Z"}
    part = lot(DAYS[4], Decimal("1.13"), "VTI", cost=Decimal("100.10"), proceeds=Decimal("101.23"))
    lots = [
        lot(DAYS[3], 220, "GME", cost=Decimal("2780"), proceeds=Decimal("3000")) | dated | {"quantity": -100},
        lot(DAYS[4], 50, PUT, cost=Decimal(0), proceeds=Decimal(50)) | dated | {"quantity": -1},
        lot(DAYS[4], -170, "SPY251107C00700000", cost=Decimal(170), proceeds=Decimal(0)) | dated | {"quantity": 1},
        part | {"open_date": "2024-02-29T00:00:00.000Z", "quantity": Decimal("0.37215")},
    ]
    report(
        home,
        date(2025, 10, 1),
        DAYS[4],
        history=[
            event(DAYS[0], Decimal(10_000)),
            trade(DAYS[1], "2999.65", "GME", -100, 30, "0.35"),
            trade(DAYS[2], "-170.35", "SPY251107C00700000", 1, "1.70", "0.35"),
            trade(DAYS[3], "-2780", "GME", 100, "27.80"),
            trade(DAYS[4], 0, PUT, 1, 0),
            trade(DAYS[4], "-2500", "XSP", 50, 50),
        ],
        gainloss=lots,
    )
    for form, totals in TOTALS.items():
        try:
            found = totals(exported(form, tmp_path))
        except pytest.skip.Exception:
            continue
        assert sum(found.values()) == 0
        assert found[f"Assets:{ROOT}:Cash"] == Decimal("7549.30")
    corrected = [one | {"gain_loss": 219, "proceeds": 2999} if one["symbol"] == "GME" else one for one in lots]
    report(
        home,
        date(2025, 10, 1),
        DAYS[4] + timedelta(days=1),
        history=[event(DAYS[0], Decimal(10_000))],
        gainloss=corrected,
    )
    lines = [line for line in exported("form8949", tmp_path).read_text().splitlines() if not line.startswith("#")]
    rows = {row["description"]: row for row in csv.DictReader(lines)}
    assert set(rows) == {
        f"100 GME, short, opened {DAYS[1]}",
        f"1 {PUT}, short, opened {DAYS[1]}",
        "1 SPY251107C00700000",
        "0.37215 VTI",
    }
    gme, put = rows[f"100 GME, short, opened {DAYS[1]}"], rows[f"1 {PUT}, short, opened {DAYS[1]}"]
    call, vti = rows["1 SPY251107C00700000"], rows["0.37215 VTI"]
    assert (gme["proceeds"], gme["cost"], gme["gain"], gme["term"]) == ("2999.00", "2780.00", "219.00", "short")
    assert (put["proceeds"], put["cost"], put["gain"], put["date_acquired"]) == ("50.00", "0.00", "50.00", str(DAYS[4]))
    assert (call["proceeds"], call["cost"], call["gain"]) == ("0.00", "170.00", "-170.00")
    assert (vti["term"], vti["gain"], vti["date_acquired"]) == ("long", "1.13", "2024-02-29")
