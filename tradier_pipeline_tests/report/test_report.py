"""The report as a document: its figures are the warehouse's, it needs nothing else, and text stays text."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tradier_pipeline.cli import main
from tradier_pipeline.core.settings import Settings, load_settings
from tradier_pipeline.landing.manifest import MissedRecord
from tradier_pipeline.publish.store import store_snapshot
from tradier_pipeline.report import write_reports
from tradier_pipeline.report.charts import WIDTHS
from tradier_pipeline.report.figures import ReportError
from tradier_pipeline.report.page import change, contract, plain, price, usd
from tradier_pipeline.report.reads import day_figures
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline_tests.conftest import Home
from tradier_pipeline_tests.report.conftest import (
    ACCOUNT,
    DAYS,
    HOSTILE,
    LAST,
    UNREAD,
    WITH_GAP,
    Document,
    eastern,
    text_of,
)
from tradier_pipeline_tests.support.bodies import ACCOUNT as TRADER
from tradier_pipeline_tests.support.bodies import AS_OF, account, answers, balances, land


@dataclass(frozen=True)
class Written:
    """A report of the month: its text, its elements, and its first chart."""

    text: str
    document: Document
    chart: str


def written(history: Path, to: Path, **options: Any) -> Written:
    (report,) = write_reports(Settings(pipeline_home=history), output=to / "report.html", **options)
    text = report.path.read_text()
    return Written(text, Document(text), report.chart or "")


@pytest.fixture(scope="module")
def whole(history: Path, tmp_path_factory: pytest.TempPathFactory) -> Written:
    return written(history, tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def of_day(history: Path, tmp_path_factory: pytest.TempPathFactory) -> Written:
    return written(history, tmp_path_factory.mktemp("day"), day=WITH_GAP)


def rows(history: Path, query: str) -> list[tuple[Any, ...]]:
    with connect_readonly(history / "tradier.duckdb") as connection:
        return connection.execute(query).fetchall()


TIMES = " \N{MULTIPLICATION SIGN} "


def signed(value: Decimal) -> str:
    """A profit or loss as a table has it."""
    return text_of(Document(change(value)).root)


def lines_of(chart: str) -> int:
    """Of how many pieces the line of a chart is."""
    line = re.search(r'class="mark-line[^>]*>\s*<path[^>]* d="([^"]*)"', chart)
    assert line is not None
    return line[1].count("M")


def traces_of(document: Document, number: int) -> list[list[Any]]:
    """What a chart tells where the pointer is: place and lines."""
    data = [one for one in document.elements("script") if one.get("type") == "application/json"]
    return json.loads(data[number].text or "")


# ---------------------------------------------------------------- figures


def test_the_report_of_an_account_shows_the_figures_of_its_newest_snapshot(history: Path, whole: Written) -> None:
    document = whole.document
    ((equity, open_pl),) = rows(history, "SELECT equity, open_pl FROM balance_history ORDER BY as_of DESC LIMIT 1")
    hero = text_of(next(one for one in document.elements("div") if one.get("class") == "hero"))
    assert f"${equity:,.2f}" in hero
    tiles = [text_of(one) for one in document.elements("dl") if one.get("class") == "tiles"]
    assert f"{abs(open_pl):,.2f}" in tiles[0]


def test_every_position_spread_and_order_is_a_row_with_its_figures(history: Path, whole: Written) -> None:
    document = whole.document
    newest = rows(history, "SELECT as_of FROM newest_snapshots")[0][0]
    _, *body, total = document.table("by underlying at")
    names = [row[0] for row in body]
    loose = rows(history, f"SELECT quantity, unrealized_pl FROM stock_book WHERE as_of = '{newest}'")
    for quantity, gain in loose:
        assert [row[4] for row in body if row[0] == f"{plain(quantity)} shares"] == [signed(gain)]
    groups = rows(history, f"SELECT underlying, unrealized_pl FROM book_by_underlying WHERE as_of = '{newest}'")
    for underlying, gain in groups:
        assert [row[2] for row in body if row[0].split()[0] == underlying] == [signed(gain)]
    ((gain, value),) = rows(history, f"SELECT unrealized_pl, market_value FROM book_total WHERE as_of = '{newest}'")
    assert (total[1], total[2]) == (usd(value), signed(gain))
    spreads = rows(
        history, f"SELECT strategy, quantity, unrealized_pl, days_left FROM spread_book WHERE as_of = '{newest}'"
    )
    assert len(body) == len(spreads) + len(loose) + len(groups)
    shown = sorted((row[0].partition(TIMES)[0], row[1], row[4]) for row in body if TIMES in row[0])
    assert shown == sorted((plain(quantity), plain(days), signed(gain)) for _, quantity, gain, days in spreads)
    assert all(any(strategy.replace("_", " ") in name for name in names) for strategy, *_ in spreads)
    newest = "SELECT snapshot_id FROM newest_snapshots"
    orders = rows(
        history, f"SELECT order_id, status FROM orders WHERE snapshot_id IN ({newest}) ORDER BY create_date DESC"
    )
    _, *body = document.table("newest first")
    assert [row[1] for row in body] == [status.replace("_", " ") for _, status in orders]
    assert all(str(order_id) in row[0] for row, (order_id, _) in zip(body, orders, strict=True))


def test_the_equity_curve_tells_every_session_and_a_gap_is_not_known(history: Path, whole: Written) -> None:
    document = whole.document
    curve = rows(history, "SELECT trade_date, equity FROM equity_curve ORDER BY trade_date")
    reported = traces_of(document, 0)
    assert [lines[:2] for _, lines in reported] == [
        [eastern(day), "equity not known" if equity is None else f"${equity:,.2f}"] for day, equity in curve
    ]
    assert reported[3][1][1] == "equity not known"
    assert curve[3][0] == UNREAD
    places = [place for place, _ in reported]
    assert places == sorted(places)
    steps = {round(later - earlier, 3) for earlier, later in pairwise(places)}
    assert max(steps) - min(steps) < 0.0011, "a session is not as wide as the next"


def test_a_gap_breaks_the_line_and_is_shaded(whole: Written) -> None:
    assert lines_of(whole.chart) == 2, "the line goes on over the gap"
    assert re.search(r'class="mark-rect[^>]*>\s*<path', whole.chart), "the gap is not shaded"


def test_deposits_and_withdrawals_are_marked(history: Path, whole: Written) -> None:
    ((flows,),) = rows(history, "SELECT count(*) FROM equity_curve WHERE deposits > 0 OR withdrawals > 0")
    assert flows > 0
    ruled = re.search(r'class="mark-rule role-mark[^>]*>(.*?)</g>', whole.chart, re.DOTALL)
    assert ruled is not None
    assert ruled[1].count("<line") == flows


def test_dates_bound_the_curves_and_nothing_else(history: Path, tmp_path: Path) -> None:
    document = written(history, tmp_path, since=DAYS[10].date, until=DAYS[14].date).document
    assert len(traces_of(document, 0)) == 5
    hero = text_of(next(one for one in document.elements("div") if one.get("class") == "hero"))
    assert eastern(LAST) in hero


def test_a_day_shows_its_own_equity_summary_and_what_was_missed_with_the_reason(history: Path, of_day: Written) -> None:
    document = of_day.document
    equities = rows(history, f"SELECT equity FROM balance_history WHERE trade_date = '{WITH_GAP}' ORDER BY as_of")
    assert [lines[1] for _, lines in traces_of(document, 0)] == [f"${equity:,.2f}" for (equity,) in equities]
    summary = text_of(document.section("summary"))
    ((high, placed),) = rows(
        history, f"SELECT equity_high, orders_placed FROM newest_daily_summaries WHERE trade_date = '{WITH_GAP}'"
    )
    assert usd(high) in summary
    assert f"Orders placed {placed}" in summary
    ((missed,),) = rows(history, f"SELECT count(*) FROM missed_snapshots WHERE trade_date = '{WITH_GAP}'")
    _, *body = document.table("without a snapshot")
    assert sum(int(row[2]) for row in body) == missed
    assert any(int(row[2]) >= 7 and row[4] == "nobody was there" for row in body)
    _, (coverage,) = document.table("What was read")[:1], document.table("What was read")[1:]
    assert coverage[4] != "0"


def test_the_line_of_a_day_breaks_where_an_instant_was_missed(history: Path, of_day: Written) -> None:
    with connect_readonly(history / "tradier.duckdb") as connection:
        figures = day_figures(connection, ACCOUNT, WITH_GAP)
    gaps = figures.gaps()
    assert any(later - earlier > timedelta(minutes=30) for earlier, later in gaps)
    for missed in figures.missed_instants:
        inside = figures.instants[0].as_of < missed < figures.instants[-1].as_of
        assert any(earlier < missed < later for earlier, later in gaps) is inside
    assert lines_of(of_day.chart) == len(gaps) + 1


def test_trades_opened_and_closed_on_a_day_are_those_of_its_summary(history: Path, of_day: Written) -> None:
    document = of_day.document
    ((opened, closed),) = rows(
        history,
        "SELECT list_transform(opened_trades, lambda trade: trade.id), list_transform(closed_trades, lambda trade: "
        f"trade.id) FROM newest_daily_summaries WHERE trade_date = '{WITH_GAP}'",
    )
    assert opened
    assert closed
    for ids, what in ((opened, "opened"), (closed, "closed")):
        _, *body = document.table(f"{what}, profit")
        assert [row[0] for row in body] == ids


# ---------------------------------------------------------------- one file, and text stays text


@pytest.mark.parametrize("which", ["whole", "of_day"])
def test_a_report_needs_nothing_from_anywhere(which: str, request: pytest.FixtureRequest) -> None:
    report: Written = request.getfixturevalue(which)
    text, document = report.text, report.document
    for element in document.elements():
        assert "src" not in element.attrib, element
        for name in ("href", "xlink:href", "action", "data", "poster"):
            assert element.get(name, "#").startswith("#"), element.attrib
    assert not re.search(r"url\(|@import", text)
    assert set(re.findall(r"https?://[^\"' <]+", text)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    (policy,) = [one.get("content", "") for one in document.elements("meta") if "http-equiv" in one.attrib]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert len(text) < 400_000


@pytest.mark.parametrize("day", [None, LAST])
def test_text_of_the_broker_stays_text(hostile: Home, day: Any) -> None:
    (report,) = write_reports(load_settings(), day=day)
    document = Document(report.path.read_text())
    assert not list(document.elements("img"))
    assert not list(document.elements("b"))
    assert len(list(document.elements("style"))) == 1
    assert {one.get("type", "") for one in document.elements("script")} == {"", "application/json"}
    for element in document.elements():
        assert not any(name.startswith("on") for name in element.attrib)
    shown = text_of(document.root)
    assert shown.count(" ".join(HOSTILE.split())) > 30, "it is not shown as it is"


def test_text_in_what_a_chart_tells_cannot_end_its_script() -> None:
    from tradier_pipeline.report.page import DrawnChart, _environment

    parts = _environment().get_template("parts.html.jinja").module
    chart = DrawnChart(("<svg></svg>",), ((0.5, (HOSTILE,)),))
    document = Document(f"<div>{parts.plot(chart, HOSTILE, 'points')}</div>")  # type: ignore[attr-defined]
    assert not list(document.elements("img"))
    assert traces_of(document, 0) == [[0.5, [HOSTILE]]]


# ---------------------------------------------------------------- next to nothing


def test_an_account_with_one_snapshot_and_nothing_in_it_has_both_reports(home: Home) -> None:
    store_snapshot(home.warehouse, land(home.zone, answers()))
    (whole,) = write_reports(load_settings())
    (of_day,) = write_reports(load_settings(), day=AS_OF.date())
    for report in (whole, of_day):
        shown = text_of(Document(report.path.read_text()).root)
        assert "$17,798.36" in shown
        assert "No positions." in shown
        assert "No orders." in shown
    assert whole.path == home.path / "reports" / TRADER / "account.html"
    assert of_day.path == home.path / "reports" / TRADER / "2025-11-20.html"


def test_a_snapshot_on_a_day_without_a_session_is_reported_too(home: Home) -> None:
    saturday = datetime(2025, 11, 22, 15, tzinfo=UTC)
    store_snapshot(home.warehouse, land(home.zone, answers(), saturday))
    shown = [
        text_of(Document(report.path.read_text()).root)
        for report in (*write_reports(load_settings()), *write_reports(load_settings(), day=saturday.date()))
    ]
    assert "No session's equity is known yet." in shown[0]
    assert "There was no session." in shown[1]


def test_a_day_without_snapshots_and_an_unknown_account_are_told_in_one_line(month: Home) -> None:
    with pytest.raises(ReportError, match="no snapshot of 2020-01-02 is published"):
        write_reports(load_settings(), day=date(2020, 1, 2))
    with pytest.raises(ReportError, match="nothing of account XX is published"):
        write_reports(load_settings(), "XX")
    assert not (month.path / "reports").exists()


def test_without_the_library_a_report_has_its_figures_and_says_what_draws_charts(
    month: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    (report,) = write_reports(load_settings())
    assert report.chart is None
    document = Document(report.path.read_text())
    assert not list(document.elements("svg"))
    assert "pip install 'tradier-pipeline[report]'" in text_of(document.section("equity"))
    assert document.table("position")


# ---------------------------------------------------------------- pieces


def test_numbers_are_written_for_people() -> None:
    minus = "\N{MINUS SIGN}"
    assert usd(Decimal("-1234567.895")) == f"{minus}1,234,567.90"
    assert usd(Decimal(0)) == "0.00"
    assert "known" in usd(None)
    assert price(Decimal("0.12500000")) == "0.125"
    assert price(Decimal("271.28428571")) == "271.2843"
    assert price(Decimal("1200.00000000")) == "1,200.00"
    assert plain(Decimal("100.00000000")) == "100"
    assert plain(Decimal("-0.50000000")) == f"{minus}0.5"
    assert change(Decimal("12.3"), "$") == '<span class="gain">+$12.30</span>'
    assert change(-0.0123, "%") == f'<span class="loss">{minus}1.23%</span>'
    assert change(Decimal("0.001")) == '<span class="flat">0.00</span>'
    assert contract("SPY251219P00602500") == "SPY 19 Dec 25 602.5 put"
    assert contract("BRK/B") == "BRK/B"


def test_neighbours_missed_for_one_reason_are_one_row(home: Home) -> None:
    store_snapshot(home.warehouse, land(home.zone, answers()))
    for minute, reason in ((40, "late"), (41, "late"), (42, "up was down"), (43, "late")):
        instant = AS_OF.replace(minute=minute, second=0, microsecond=0)
        home.zone.record_missed(
            MissedRecord(
                snapshot_id=f"{TRADER}@{instant:%Y-%m-%dT%H:%M:%SZ}",
                trigger="monitor_cycle",
                recorded_at=instant,
                reason=reason,
            )
        )
    later = AS_OF.replace(minute=50)
    store_snapshot(home.warehouse, land(home.zone, answers(), later))
    with connect_readonly(home.warehouse.path) as connection:
        missed = day_figures(connection, TRADER, AS_OF.date()).missed
    assert [(one.first.minute, one.last.minute, one.count, one.reason) for one in missed] == [
        (40, 41, 2, "late"),
        (42, 42, 1, "up was down"),
        (43, 43, 1, "late"),
    ]


def test_every_chart_is_drawn_for_every_width(whole: Written) -> None:
    plots = [one for one in whole.document.elements("div") if one.get("class") == "plot"]
    assert len(plots) == 5
    assert all(len(list(plot.iter("svg"))) == len(WIDTHS) for plot in plots)


# ---------------------------------------------------------------- the command


def run(*arguments: str) -> Any:
    result = CliRunner().invoke(main, arguments, prog_name="tradier-pipeline")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_the_command_writes_the_files_and_tells_where_and_opens_one_when_asked(
    month: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("click.launch", opened.append)
    reports = month.path / "reports" / ACCOUNT
    assert run("report", "--open").stdout == f"{reports / 'account.html'}\n"
    assert run("report", "--day", str(WITH_GAP)).stdout == f"{reports / f'{WITH_GAP}.html'}\n"
    elsewhere = tmp_path / "elsewhere.html"
    reported = json.loads(run("report", "--account", ACCOUNT, "--output", str(elsewhere), "--json").stdout)
    assert reported == {"reports": [{"account": ACCOUNT, "path": str(elsewhere)}]}
    assert elsewhere.read_text().startswith("<!doctype html>")
    assert opened == [str(reports / "account.html")]


def test_a_day_goes_without_dates_and_one_file_holds_one_account(month: Home) -> None:
    refused = run("report", "--day", "2025-01-13", "--since", "2025-01-02")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "--day goes without --since and --until" in refused.stderr
    reported = answers(
        account={"profile": {"account": account("VB12345678")}}, balances={"balances": balances(number="VB12345678")}
    )
    store_snapshot(month.warehouse, land(month.zone, reported, account_id="VB12345678"))
    refused = run("report", "--output", "both.html")
    assert refused.exit_code == 1
    assert "cannot hold the reports of 2 accounts" in refused.stderr
