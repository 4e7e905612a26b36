"""The figures of the report are those of the views, and the views add up: over seven weeks of an account."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tradier_pipeline.core.settings import Settings
from tradier_pipeline.domain.returns import standard_periods
from tradier_pipeline.publish.store import store_snapshot
from tradier_pipeline.report import index_path, write_every_report, write_reports
from tradier_pipeline.report.page import change, percent, plain, price, ratio, usd, whole
from tradier_pipeline.warehouse.reads import connect_readonly, equity_curves
from tradier_pipeline.warehouse.staging import Warehouse
from tradier_pipeline_tests.conftest import Home
from tradier_pipeline_tests.report import trader
from tradier_pipeline_tests.report.conftest import Document, text_of
from tradier_pipeline_tests.report.trader import LAST, UNREAD
from tradier_pipeline_tests.support.bodies import answers, balances, land
from tradier_pipeline_tests.support.curves import days_made_later

# all that a report may take a figure from
SOURCES = (
    *("day_profit", "day_profit_lines", "spread_book", "stock_book", "book_by_underlying", "book_total"),
    *("assignment_risk", "expiring_options", "exposure", "account_exposure", "trade_statistics", "premium_by_month"),
    *("account_statements", "equity_curve", "account_balances", "option_spread_legs", "order_legs", "orders"),
    *("monthly_returns", "yearly_returns", "newest_daily_summaries", "coverage", "service_levels"),
)
MINUS = "\N{MINUS SIGN}"


def rows(home: Path, sql: str) -> list[tuple[Any, ...]]:
    with connect_readonly(home / "tradier.duckdb") as connection:
        return connection.execute(sql).fetchall()


# ---------------------------------------------------------------- the views


def test_the_lines_of_every_day_add_up_to_its_change_of_equity(seven_weeks: Path) -> None:
    found = rows(
        seven_weeks,
        "SELECT trade_date, change, equity - equity_before, lines FROM day_profit JOIN ("
        "SELECT trade_date, sum(amount) AS lines FROM day_profit_lines GROUP BY trade_date) USING (trade_date)",
    )
    assert len(found) == len(trader.SESSIONS) - 2
    assert [(change, change) for _, change, *_ in found] == [(moved, lines) for _, _, moved, lines in found]


def test_a_day_that_is_reported_is_explained_to_the_cent(seven_weeks: Path) -> None:
    after_a_hole = trader.SESSIONS[trader.SESSIONS.index(UNREAD) + 1]
    left = dict(rows(seven_weeks, "SELECT trade_date, unexplained FROM day_profit WHERE reported"))
    assert {day: amount for day, amount in left.items() if amount and day != after_a_hole} == {}
    assert len(left) > 30
    ((notes,),) = rows(seven_weeks, f"SELECT note FROM day_profit WHERE trade_date = '{after_a_hole}'")
    assert "sessions between that were not read: 1" in notes


def test_a_day_that_is_measured_from_before_a_close_says_so(home: Home) -> None:
    """At 08:00 of Monday nothing had been read after Friday's close, and of Monday nothing later was."""
    for day, hour, equity in ((3, 13, 11_000), (4, 21, 12_000), (5, 21, 12_500)):
        worth = {"balances": balances(total_equity=Decimal(equity), total_cash=Decimal(equity))}
        landed = land(home.zone, answers(balances=worth), datetime(2025, 11, day, hour, 15, tzinfo=UTC))
        with days_made_later() if day < 5 else nullcontext():
            store_snapshot(home.warehouse, landed)
    query = "SELECT note FROM day_profit ORDER BY trade_date"
    tuesday, wednesday = [note for (note,) in rows(home.path, query)]
    assert "compared with a snapshot from before the close of 2025-11-03" in tuesday
    assert "before the close" not in wednesday


def test_what_is_not_reported_yet_is_unexplained_and_said(seven_weeks: Path) -> None:
    query = f"SELECT reported, fees, deposits, unexplained, note FROM day_profit WHERE trade_date = '{LAST}'"
    ((reported, fees, deposits, unexplained, note),) = rows(seven_weeks, query)
    assert (reported, fees, deposits) == (False, None, None)
    assert unexplained == -8 * trader.FEE, "the fees of eight contracts"
    assert "not reported yet" in note


def test_deposits_and_dividends_are_lines_and_a_deposit_is_no_profit(seven_weeks: Path) -> None:
    paid = trader.SESSIONS[11]
    ((profit, moved, deposits),) = rows(
        seven_weeks, f"SELECT profit, change, deposits FROM day_profit WHERE trade_date = '{paid}'"
    )
    assert (deposits, moved - profit) == (5000, 5000)
    earned = trader.SESSIONS[20]
    assert rows(
        seven_weeks, f"SELECT amount FROM day_profit_lines WHERE trade_date = '{earned}' AND kind = 'dividends'"
    ) == [(Decimal("52"),)]


def test_the_profit_of_a_day_is_that_of_the_curve(seven_weeks: Path) -> None:
    different = rows(
        seven_weeks,
        "SELECT trade_date FROM day_profit JOIN equity_curve USING (trade_date) WHERE profit <> pnl",
    )
    assert different == []


def test_a_put_spread_breaks_even_at_its_short_strike_less_the_credit(seven_weeks: Path) -> None:
    found = rows(
        seven_weeks,
        "SELECT short_strike, entry_price, break_even_low, break_even_high, credit, max_profit, distance, "
        "underlying_price FROM spread_book WHERE strategy = 'bull_put_credit'",
    )
    assert len(found) > 20
    for strike, entry, low, high, credit, most, away, underlying in found:
        assert (low, high, credit) == (strike + entry, None, most)
        assert away == underlying - strike


def test_an_iron_condor_has_two_break_evens_and_is_as_far_as_its_nearer_short_strike(seven_weeks: Path) -> None:
    found = rows(
        seven_weeks,
        """
        SELECT break_even_low, break_even_high, entry_price, distance, underlying_price,
               list(strike ORDER BY strike) FILTER (legs.quantity < 0)
        FROM spread_book JOIN option_spread_legs AS legs USING (snapshot_id, spread_no)
        WHERE strategy = 'iron_condor' GROUP BY ALL
        """,
    )
    assert found
    for low, high, entry, away, underlying, (put, call) in found:
        assert (low, high) == (put + entry, call - entry)
        assert away == min(underlying - put, call - underlying)


def test_a_trade_is_won_or_lost_as_a_whole_not_by_its_legs(seven_weeks: Path) -> None:
    trades = rows(seven_weeks, "SELECT tag, lots, gain_loss FROM realized_trades")
    assert {lots for _, lots, _ in trades} == {2, 4}
    ((count, wins, total, rate),) = rows(
        seven_weeks, "SELECT trades, wins, gain_loss, win_rate FROM trade_statistics WHERE grouping = 'account'"
    )
    assert (count, wins) == (len(trades), sum(gain > 0 for *_, gain in trades))
    assert total == sum(gain for *_, gain in trades)
    assert rate == wins / count
    for grouping in ("month", "strategy", "underlying", "tag"):
        query = f"SELECT sum(trades), sum(gain_loss) FROM trade_statistics WHERE grouping = '{grouping}'"
        assert rows(seven_weeks, query) == [(count, total)]


# ---------------------------------------------------------------- the page


def written(home: Path, day: date | None = None) -> Document:
    (report,) = write_reports(Settings(pipeline_home=home), day=day)
    return Document(report.path.read_text())


@pytest.fixture(scope="module")
def account_page(seven_weeks: Path) -> Document:
    return written(seven_weeks)


@pytest.fixture(scope="module", params=["account", "day"])
def page(request: pytest.FixtureRequest, seven_weeks: Path, account_page: Document) -> Document:
    return account_page if request.param == "account" else written(seven_weeks, LAST)


def _written(value: Any) -> Iterator[str]:
    """A figure of a view in each way that a page may write it, without its sign."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return
    if isinstance(value, float):
        yield from (percent(value), ratio(value), whole(value), f"{abs(value):.1%}")
        return
    exact = Decimal(value)
    yield from (usd(exact), price(exact), plain(exact), whole(exact))


@pytest.fixture(scope="module")
def figures_of_views(seven_weeks: Path) -> set[str]:
    known: set[str] = set()
    with connect_readonly(seven_weeks / "tradier.duckdb") as connection:
        for source in SOURCES:
            for row in connection.execute(f"FROM {source}").fetchall():
                known |= {text.lstrip(MINUS) for value in row for text in _written(value)}
        for found in standard_periods(equity_curves(connection, trader.ACCOUNT, "SPY")[trader.ACCOUNT]).values():
            values = (found.pnl, found.time_weighted.period, found.money_weighted.period, found.max_drawdown)
            more = (found.volatility, found.sharpe, found.start, found.deposits, found.benchmark.period)  # type: ignore[union-attr]
            best = (found.best and found.best[1], found.worst and found.worst[1])
            known |= {text.lstrip(MINUS) for value in (*values, *more, *best) for text in _written(value)}
    return known


def test_every_figure_of_the_page_is_one_of_a_view(figures_of_views: set[str], page: Document) -> None:
    sections = [one for one in page.elements("section") if one.get("id") not in ("coverage", "basis", "findings")]
    shown = " ".join(
        text_of(cell) for section in sections for tag in ("td", "dd", "caption") for cell in section.iter(tag)
    )
    figures = re.findall(r"(?<![\w:.-])\d+(?:,\d{3})*(?:\.\d+)?%?(?![\w:-])", shown)
    money = [figure for figure in figures if "." in figure or "%" in figure or "," in figure]
    assert len(money) > 60
    assert [figure for figure in money if figure not in figures_of_views] == []


def test_the_top_is_the_profit_of_the_day_and_its_lines_are_those_of_the_view(
    seven_weeks: Path, page: Document
) -> None:
    ((profit, moved),) = rows(seven_weeks, f"SELECT profit, change FROM day_profit WHERE trade_date = '{LAST}'")
    hero = text_of(next(one for one in page.elements("div") if one.get("class") == "hero"))
    assert text_of(Document(change(profit, "$")).root) in hero
    query = f"SELECT amount FROM day_profit_lines WHERE trade_date = '{LAST}' ORDER BY line"
    amounts = [text_of(Document(change(amount)).root) for (amount,) in rows(seven_weeks, query)]
    *lines, last = page.table("from the last snapshot of")
    assert [line[1] for line in lines] == amounts
    assert last[1] == text_of(Document(change(moved)).root)
    assert any("Unexplained" in line[0] for line in lines)


def test_it_says_how_many_rules_hold_and_when_it_was_read(page: Document) -> None:
    (proof,) = [text_of(one) for one in page.elements("p") if "proof" in one.get("class", "")]
    assert re.fullmatch(r"(\d+) of \1 rules hold: stored = what the broker sent, read 16:15:00", proof)


def test_net_prices_are_credits_and_debits(page: Document) -> None:
    _, *body = page.table("3 orders")
    (filled,) = [row for row in body if "put-35" in row[0]]
    assert re.fullmatch(r"\d+\.\d\d credit", filled[3])
    assert filled[4] == filled[3]


def test_what_is_drawn_is_in_the_legend_and_nothing_else(page: Document) -> None:
    legends = " ".join(text_of(one) for one in page.elements("figcaption"))
    assert "withdrawal" not in legends
    if "previous close" not in legends:
        assert "▲ deposit" in legends
        assert "SPY, without dividends" in legends


def test_every_day_of_the_calendar_is_the_profit_of_the_curve(seven_weeks: Path, account_page: Document) -> None:
    cells = [text_of(cell) for one in account_page.elements("table") if one.get("class") == "calendar"
             for cell in one.iter("td") if text_of(cell)]  # fmt: skip
    curve = rows(seven_weeks, "SELECT trade_date, pnl, equity FROM equity_curve")
    expected = [
        f"{day.day} {whole(pnl, signed=True) if pnl is not None else 'first' if equity is not None else 'not read'}"
        for day, pnl, equity in curve
    ]
    assert sorted(cell for cell in cells if " " in cell) == sorted(expected)


def test_all_days_are_written_once_and_linked_from_the_index(tmp_path: Path, seven_weeks: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "tradier.duckdb").hardlink_to(seven_weeks / "tradier.duckdb")
    settings = Settings(pipeline_home=home)
    days = trader.SESSIONS[-3:]
    with Warehouse(settings.warehouse).staged() as staged:
        for table in ("tradier_snapshots", "account_balances"):
            staged.connection.execute(f"DELETE FROM {table} WHERE trade_date < DATE '{days[0]}'")
    assert len(write_every_report(settings)) == len(days) + 1
    assert len(write_every_report(settings)) == 1, "those of days are there already"
    index = Document(index_path(settings).read_text())
    links = {one.get("href", "") for one in index.elements("a")}
    assert {f"{trader.ACCOUNT}/{day}.html" for day in days} | {f"{trader.ACCOUNT}/account.html"} <= links
    middle = Document((settings.reports / trader.ACCOUNT / f"{days[1]}.html").read_text())
    hrefs = {one.get("href") for one in middle.elements("a")}
    assert {"../index.html", f"{days[0]}.html"} <= hrefs
