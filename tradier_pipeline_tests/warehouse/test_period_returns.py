"""Returns by month beside a benchmark, volatility and Sharpe ratio: from a broker on a socket to the command."""

from __future__ import annotations

import json
import math
import re
import shutil
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tradier_pipeline import clock, history
from tradier_pipeline.cli import main
from tradier_pipeline.domain.calendar import MarketCalendar
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline_tests.conftest import Home
from tradier_pipeline_tests.support.activities import body_of, day_value, event
from tradier_pipeline_tests.support.bodies import dumps
from tradier_pipeline_tests.support.sampling import sampled
from tradier_pipeline_tests.support.scripted_server import Answer, ScriptedServer, answer, serving

ONE, TWO = "VA12345678", "VA87654321"
NOW = datetime(2026, 4, 1, 12, tzinfo=UTC)
CALENDAR = MarketCalendar("XNYS")
PRICES = "/v1/markets/history"

# Carl Bacon, Practical Portfolio Measurement and Attribution: 24 returns of a portfolio and of its benchmark, percent
PORTFOLIO: tuple[float, ...] = (0.3, 2.6, 1.1, -1.0, 1.5, 2.5, 1.6, 6.7, -1.4, 4.0, -0.5, 8.1)
PORTFOLIO += (4.0, -3.7, -6.1, 1.7, -4.9, -2.2, 7.0, 5.8, -6.5, 2.4, -0.5, -0.9)
BENCHMARK: tuple[float, ...] = (0.2, 2.5, 1.8, -1.1, 1.4, 1.8, 1.4, 6.5, -1.5, 4.2, -0.6, 8.3)
BENCHMARK += (3.9, -3.8, -6.2, 1.5, -4.8, 2.1, 6.0, 5.6, -6.7, 1.9, -0.3, 0.0)


def sessions(since: date, until: date) -> list[date]:
    days = (date.fromordinal(number) for number in range(since.toordinal(), until.toordinal() + 1))
    return [day for day in days if CALENDAR.session_of(day)]


DAYS = sessions(date(2025, 12, 31), date(2026, 2, 5))  # the last close of a year, and 24 sessions
JANUARY = sum(day.month == 1 for day in DAYS)


@dataclass
class Broker:
    """A scripted broker, as the command meets it."""

    server: ScriptedServer

    def account(self, number: str, values: Mapping[date, Any], *events: Any) -> None:
        """What it reports of an account: the value at each close, and the history, which reaches back to the first."""
        path, opening = f"/v1/accounts/{number}", event(min(values), 1)
        self.server.on(f"{path}/history", answer(body_of("history", [opening, *events])))
        self.server.on(f"{path}/gainloss", answer(body_of("gainloss", [])))
        listed = [day_value(day, value) for day, value in values.items()]
        self.server.on(f"{path}/historical-balances", answer(body_of("historical_balances", listed)))

    def prices(self, closes: Mapping[date, Any]) -> None:
        self.server.on(PRICES, priced(closes))

    def asked_for_prices(self) -> list[Mapping[str, str]]:
        return [request.values for request in self.server.requests if request.path == PRICES]


def priced(closes: Mapping[date, Any]) -> Answer:
    rows = [{"date": str(day), "open": close, "close": close, "volume": 5} for day, close in closes.items()]
    return answer(dumps({"history": {"day": rows[0] if len(rows) == 1 else rows} if rows else None}))


@contextmanager
def configured(patched: pytest.MonkeyPatch) -> Iterator[Broker]:
    patched.setattr(clock, "now", lambda: NOW)
    for name, value in {"ENV": "live", "ACCESS_TOKEN": "a-token-of-the-tests", "ACCOUNT_ID": ONE}.items():
        patched.setenv(f"TRADIER_{name}", value)
    with serving() as server:
        patched.setenv("TRADIER_BASE_URL", server.url)
        yield Broker(server)


@pytest.fixture
def broker(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    with configured(monkeypatch) as broker:
        yield broker


@pytest.fixture(scope="module")
def filled_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the published vector, read from a broker."""
    path = tmp_path_factory.mktemp("bacon") / "home"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TRADIER_PIPELINE_HOME", str(path))
        with configured(patched) as broker:
            bacon(broker)
            backfill()
    return path


@pytest.fixture
def filled(filled_once: Path, home: Home, broker: Broker) -> Broker:
    """The broker of the published vector, from which the home has been filled."""
    shutil.copytree(filled_once, home.path)
    bacon(broker)
    return broker


def grown(start: int, returns: Sequence[float], days: Sequence[date] = DAYS) -> dict[date, Decimal]:
    """The first day, and what the returns, in percent, make of it."""
    values = [Decimal(start)]
    for one in returns:
        values.append((values[-1] * (1 + Decimal(str(one)) / 100)).quantize(Decimal("1e-8")))
    return dict(zip(days, values, strict=True))


def linked(returns: Sequence[float]) -> float:
    return math.prod(1 + one / 100 for one in returns) - 1


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, arguments, prog_name="tradier-pipeline")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code, result.output
    return result


def backfill(*options: str) -> Any:
    return json.loads(run("backfill", "--since", str(DAYS[0]), "--json", *options).stdout)


def by(period: str, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("returns", "--by", period, "--format", "json", *options).stdout)
    return found


def query(home: Home, sql: str) -> list[tuple[Any, ...]]:
    with connect_readonly(home.warehouse.path) as connection:
        return connection.execute(sql).fetchall()


def near(value: Any) -> Any:
    return pytest.approx(value, rel=1e-9, abs=1e-10)


def bacon(broker: Broker) -> None:
    broker.account(ONE, grown(1_000_000, PORTFOLIO))
    broker.prices(grown(500, BENCHMARK))


# ---------------------------------------------------------------- the published vector


def test_volatility_and_sharpe_are_those_of_the_daily_returns_by_252_sessions_a_year(filled: Broker) -> None:
    (reported,) = json.loads(run("returns", "--json").stdout)["returns"]
    inception = reported["periods"]["inception"]
    deviation = statistics.stdev(one / 100 for one in PORTFOLIO)
    assert inception["volatility"] == near(deviation * math.sqrt(252))
    mean = statistics.fmean(one / 100 for one in PORTFOLIO)
    assert inception["sharpe"] == near(mean / deviation * math.sqrt(252))
    assert [inception[name] for name in ("risk_reason", "usable_days", "left_out")] == [None, 24, 0]
    assert inception["benchmark"] == {"symbol": "SPY", "period": near(linked(BENCHMARK)), "reason": None}
    assert inception["time_weighted"]["period"] == near(linked(PORTFOLIO))
    rows = {row["period"]: row for row in json.loads(run("returns", "--format", "json").stdout)}
    assert list(rows) == list(reported["periods"])
    same = ("volatility", "sharpe", "usable_days", "max_drawdown", "since", "end")
    assert [str(rows["inception"][name]) for name in same] == [
        str(inception[name]) if name != "end" else f"{Decimal(inception[name]):.8f}" for name in same
    ]
    assert rows["inception"]["time_weighted"] == inception["time_weighted"]["period"]
    by_month = [json.loads(run("returns", "--by", "month", *how).stdout) for how in (["--json"], ["--format", "json"])]
    assert by_month[0] == by_month[1] != []
    text = run("returns").stdout
    assert "risk-free rate 0" in text
    (line,) = [line.split() for line in text.splitlines() if line.startswith("    inception")]
    assert line[1:3] == [f"{linked(PORTFOLIO):.2%}", f"{linked(BENCHMARK):.2%}"]


def test_a_month_is_the_product_of_its_days_beside_that_of_the_benchmark(home: Home, filled: Broker) -> None:
    december, january, february = by("month")
    assert (december["return"], december["note"]) == (None, "the history began on 2025-12-31")
    for row, own, other, since in (
        (january, PORTFOLIO[:JANUARY], BENCHMARK[:JANUARY], "2025-12-31"),
        (february, PORTFOLIO[JANUARY:], BENCHMARK[JANUARY:], "2026-01-30"),
    ):
        assert row["return"] == near(linked(own))
        assert (row["benchmark"], row["benchmark_return"]) == ("SPY", near(linked(other)))
        assert row["since"] == since
    assert january["complete"] is True
    assert january["note"] == ""
    deviation = statistics.stdev(one / 100 for one in PORTFOLIO[:JANUARY])
    assert JANUARY == 20
    assert january["volatility"] == near(deviation * math.sqrt(252))
    assert (february["volatility"], february["sharpe"]) == (None, None)
    assert february["risk_reason"] == "fewer than 20 days with a return of their own: 4"
    (year,) = [row for row in by("year") if row["year"] == "2026-01-01"]
    assert (year["return"], year["benchmark_return"]) == (near(linked(PORTFOLIO)), near(linked(BENCHMARK)))
    inception = json.loads(run("returns", "--json").stdout)["returns"][0]["periods"]["inception"]
    assert year["sharpe"] == near(inception["sharpe"])
    view = 'SELECT "return", benchmark_return, volatility FROM monthly_returns ORDER BY month'
    assert query(home, view)[1] == tuple(near(january[name]) for name in ("return", "benchmark_return", "volatility"))
    daily = query(home, "SELECT benchmark_return FROM benchmark_returns ORDER BY trade_date")
    assert [one for (one,) in daily] == [None, *(near(one / 100) for one in BENCHMARK)]


def test_the_table_has_a_year_a_row_and_its_months_beside_each_other(home: Home, filled: Broker) -> None:
    old, new = json.loads(run("returns", "--table", "--format", "json").stdout)
    assert (old["year"], old["dec"], old["return"]) == (2025, None, None)
    assert (new["year"], new["jan"], new["feb"]) == (
        *(2026, near(linked(PORTFOLIO[:JANUARY]))),
        near(linked(PORTFOLIO[JANUARY:])),
    )
    assert [new[name] for name in ("mar", "dec")] == [None, None]
    assert (new["return"], new["benchmark_return"]) == (near(linked(PORTFOLIO)), near(linked(BENCHMARK)))
    assert query(home, "SELECT jan FROM yearly_returns WHERE year = 2026") == [(near(new["jan"]),)]
    lines = run("returns", "--table").stdout.splitlines()
    (row,) = [line for line in lines if "  2026  " in line]
    assert f" {100 * new['jan']:.2f} " in row
    assert "* VA12345678, 2025-12: the history began on 2025-12-31" in lines


def test_pandas_and_the_report_have_them(home: Home, filled: Broker) -> None:
    frame = history.returns(ONE, "2026-01-01", "2026-01-31")
    assert frame["return"].tolist() == [near(linked(PORTFOLIO[:JANUARY]))]
    assert frame["benchmark_return"].tolist() == [near(linked(BENCHMARK[:JANUARY]))]
    assert history.returns(total=True, by="year", benchmark="")["benchmark"].isna().all()
    run("report")
    page = (home.path / "reports" / ONE / "account.html").read_text()
    assert "Time-weighted return of each month" in page
    assert f"+{linked(PORTFOLIO[:JANUARY]):.2%}" in page
    assert "Dec 2025 *: the history began on 2025-12-31" in page


# ---------------------------------------------------------------- what is not known


def test_a_deposit_is_no_return_and_a_word_nobody_knows_marks_its_month_alone(home: Home, broker: Broker) -> None:
    days = sessions(date(2025, 12, 31), date(2026, 2, 27))
    paid_in, strange = date(2026, 1, 14), date(2026, 2, 11)
    values = {day: 10_000 + 10_000 * (day >= paid_in) + 3_000 * (day >= strange) for day in days}
    broker.account(ONE, values, event(paid_in, 10_000), event(strange, 3_000, "someBrandNewKind"))
    broker.prices(dict.fromkeys(days, 500))
    backfill()
    _, january, february = by("month")
    assert (january["return"], january["complete"], january["note"]) == (0, True, "")
    assert (january["sharpe"], january["risk_reason"]) == (None, "the daily returns do not vary")
    assert (february["return"], february["complete"], february["left_out"]) == (0, False, 1)
    assert february["note"] == "2026-02-11: the broker has an unknown word for money that came or left"
    (year,) = [row for row in json.loads(run("returns", "--table", "--format", "json").stdout) if row["year"] == 2026]
    assert (year["return"], year["complete"], year["note"]) == (0, False, f"Feb: {february['note']}")
    (row,) = [line for line in run("returns", "--table").stdout.splitlines() if "  2026  " in line]
    assert re.split(r"\s{2,}", row)[2:4] == ["0.00", "0.00 *"]


def test_sessions_that_were_not_read_mark_the_month_and_the_one_that_is_measured_over_them(broker: Broker) -> None:
    days = sessions(date(2025, 12, 31), date(2026, 3, 6))
    unread = [day for day in days if date(2026, 1, 28) <= day <= date(2026, 2, 3)]
    broker.account(ONE, {day: 10_000 + number for number, day in enumerate(days) if day not in unread})
    broker.prices({})
    assert backfill()["benchmark"]["warnings"] == ["the broker has no price of SPY from 2025-12-31 to 2026-03-31"]
    _, january, february, march = by("month")
    assert january["note"] == "2026-01-28 to 2026-01-30 (3 sessions): no close was read"
    assert february["note"].startswith("measured from the close of 2026-01-27, the last that was read before it; ")
    assert february["note"].endswith("2026-02-02 to 2026-02-03 (2 sessions): no close was read")
    assert february["left_out"] == 3  # and the first close after them, whose return is of six sessions
    assert march["until"] == "2026-03-06"
    assert (january["benchmark"], january["benchmark_return"]) == (None, None)
    assert "no return of SPY: no prices of SPY are known of these days" in run("returns").stdout


@sampled("missing", ["absent", "NaN", None, 0], kept=(0, 1))
def test_where_the_benchmark_has_no_price_its_return_is_null_and_the_day_is_named(
    home: Home, broker: Broker, missing: Any
) -> None:
    bacon(broker)
    hole = DAYS[5]
    closes: dict[date, Any] = {**grown(500, BENCHMARK), hole: missing}
    if missing == "absent":
        del closes[hole]
    broker.prices(closes)
    backfill()
    _, january, february = by("month")
    assert january["return"] == near(linked(PORTFOLIO[:JANUARY]))
    assert (january["benchmark_return"], february["benchmark_return"]) == (None, near(linked(BENCHMARK[JANUARY:])))
    assert january["benchmark_note"] == f"SPY has no comparable price on {hole}, and on other days: 1"
    assert january["complete"] is True  # of the account all is known
    daily = dict(query(home, "SELECT trade_date, benchmark_return FROM benchmark_returns"))
    assert [day for day in DAYS[1:] if daily[day] is None] == [hole, DAYS[6]]
    assert daily[DAYS[7]] == near(BENCHMARK[6] / 100)
    period = json.loads(run("returns", "--json").stdout)["returns"][0]["periods"]["inception"]["benchmark"]
    assert period["period"] is None
    assert period["reason"].startswith(f"SPY has no price to measure from or to the close of {hole}")


# ---------------------------------------------------------------- reading, replaying, switching off


def test_prices_are_landed_once_and_rebuild_replays_them(home: Home, broker: Broker) -> None:
    bacon(broker)
    reported = backfill()["benchmark"]
    assert (reported["symbol"], reported["days"], reported["published"]) == ("SPY", len(DAYS), True)
    (asked,) = broker.asked_for_prices()
    assert asked == {"symbol": "SPY", "interval": "daily", "start": "2025-12-31", "end": "2026-03-31"}
    backfill()
    assert len(broker.asked_for_prices()) == 1
    before = query(home, "FROM daily_prices ORDER BY ALL")
    assert run("rebuild").exit_code == 0
    assert query(home, "FROM daily_prices ORDER BY ALL") == before
    shutil.rmtree(home.zone.root / reported["path"])
    assert "1 published extracts of prices are not, such as _prices/live/SPY" in run("rebuild", code=1).stderr
    assert list(home.zone.damaged()) == []


def test_a_broker_without_prices_costs_the_account_nothing(home: Home, broker: Broker) -> None:
    bacon(broker)
    broker.server.on(PRICES, answer("no such route", 404))
    result = run("backfill", "--since", str(DAYS[0]))
    assert "SPY  warning: not read: prices: no usable answer in 2 attempts, the last: HTTP 404" in result.stdout
    assert result.stderr == ""
    assert by("month")[1]["return"] == near(linked(PORTFOLIO[:JANUARY]))
    reported = backfill()["benchmark"]
    assert (reported["symbol"], reported["published"]) == ("SPY", False)


@pytest.mark.parametrize("off", ["setting", "option"])
def test_an_empty_benchmark_is_none(broker: Broker, monkeypatch: pytest.MonkeyPatch, off: str) -> None:
    bacon(broker)
    if off == "setting":
        monkeypatch.setenv("TRADIER_BENCHMARK", "off")
    none = ["--benchmark", "off"] if off == "option" else []
    assert backfill(*none)["benchmark"] is None
    assert broker.asked_for_prices() == []
    assert by("month", *none)[1]["benchmark"] is None
    (reported,) = json.loads(run("returns", "--json", *none).stdout)["returns"]
    assert reported["periods"]["inception"]["benchmark"] is None


def test_another_symbol_is_compared_with_once_its_prices_are_read(filled: Broker) -> None:
    refused = run("returns", "--benchmark", "qqq", code=1).stderr
    assert "no prices of QQQ were read yet. Run `tradier-pipeline backfill --benchmark QQQ`." in refused
    filled.prices(grown(400, [1] * 24))
    assert backfill("--benchmark", "qqq")["benchmark"]["symbol"] == "QQQ"
    january = by("month", "--benchmark", "QQQ")[1]
    assert (january["benchmark"], january["benchmark_return"]) == ("QQQ", near(1.01**JANUARY - 1))
    assert by("month")[1]["benchmark_return"] == near(linked(BENCHMARK[:JANUARY]))  # that of the setting
    assert backfill("--benchmark", "../x")["benchmark"]["error"]["cause"] == "'../X' is not a symbol"


def test_a_split_between_two_reads_is_no_return(home: Home, filled: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the second read on all prices are a tenth; it begins in the middle of the first."""
    closes = grown(500, BENCHMARK)
    monkeypatch.setattr(clock, "now", lambda: NOW.replace(day=2))
    filled.prices({day: close / 10 for day, close in closes.items() if day >= DAYS[12]})
    run("backfill", "--since", str(DAYS[12]))
    assert by("month")[1]["benchmark_return"] == near(linked(BENCHMARK[:JANUARY]))
    before = query(home, "FROM daily_prices ORDER BY ALL")
    assert run("rebuild").exit_code == 0
    assert query(home, "FROM daily_prices ORDER BY ALL") == before


def test_two_prices_of_a_day_are_refused(home: Home, broker: Broker) -> None:
    bacon(broker)
    row = {"date": str(DAYS[1]), "close": 500}
    broker.server.on(PRICES, answer(dumps({"history": {"day": [row, row | {"close": 501}]}})))
    assert f"SPY has two prices on {DAYS[1]}" in backfill()["benchmark"]["error"]["cause"]
    assert query(home, "FROM daily_prices") == []


def test_the_total_of_an_environment_is_compared_as_each_account_is(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADIER_ENV", "simulator")
    monkeypatch.setenv("TRADIER_ACCOUNT_ID", f"{ONE},{TWO}")
    bacon(broker)
    broker.account(TWO, dict.fromkeys(DAYS, 1_000_000))
    backfill()
    own = grown(1_000_000, PORTFOLIO)
    total = float(own[DAYS[JANUARY]] + 1_000_000) / float(own[DAYS[0]] + 1_000_000) - 1
    _, january, _ = by("month", "--total")
    assert "account_id" not in january
    assert (january["environment"], january["return"]) == ("simulator", near(total))
    assert january["benchmark_return"] == near(linked(BENCHMARK[:JANUARY]))
    assert {row["account_id"] for row in by("month")} == {ONE, TWO}
    documents = json.loads(run("returns", "--json").stdout)["returns"]
    assert [one["account_id"] for one in documents] == [ONE, TWO, "total"]
    assert documents[2]["periods"]["inception"]["benchmark"]["period"] == near(linked(BENCHMARK))
    assert "--total is of all accounts" in run("returns", "--total", code=2).stderr
    assert "nothing is known of account nobody" in run("returns", "--by", "month", "--account", "nobody", code=1).stderr


def test_a_statement_has_the_return_of_the_month_where_the_history_begins_in_it(broker: Broker) -> None:
    broker.account(ONE, grown(1_000_000, PORTFOLIO[:10], DAYS[1:12]))
    broker.prices({})
    backfill()
    (january,) = json.loads(run("balances", "--by", "month", "--format", "json").stdout)
    assert january["return"] == near(linked(PORTFOLIO[:10]))
