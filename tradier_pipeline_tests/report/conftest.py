"""A month of made-up history, and the page that a report is, as elements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder

import pytest

from tradier_pipeline.publish.summaries import make_summaries
from tradier_pipeline.warehouse.staging import Warehouse
from tradier_pipeline_tests.conftest import Home
from tradier_pipeline_tests.report import trader
from tradier_pipeline_tests.support.made_once import copy_of
from tradier_pipeline_tests.support.year import fill, sessions

ACCOUNT = "VA12345678"
DAYS = sessions(24)
LAST = DAYS[-1].date
WITH_GAP = DAYS[7].date  # half an hour was not read
UNREAD = DAYS[3].date  # the whole session was not read
HOSTILE = "</script></style><img src=x onerror=alert(1)>'\"&<b>"

# the texts that come from the broker, an engine or an error; and those of our own with any of these in them
BROKERS_TEXTS: Mapping[str, tuple[str, ...]] = {
    "tradier_snapshots": ("trigger", "coherence_evidence"),
    "positions": ("symbol",),
    "option_spreads": ("underlying", "strategy"),
    "option_spread_legs": ("symbol",),
    "orders": ("symbol", "side", "type", "status", "raw_status", "duration", "strategy", "tag", "reason"),
    "order_legs": ("side", "raw_side", "option_symbol"),
    "findings": ("code", "subject", "text", "evidence", "suggested_action"),
    "missed_snapshots": ("reason",),
}


def fill_month(home: Path) -> None:
    warehouse = Warehouse(home / "tradier.duckdb")
    with warehouse.staged() as staged:
        fill(staged.connection, DAYS, ACCOUNT, minutes=5)
        staged.connection.execute(f"DELETE FROM broker_daily_balances_versions WHERE trade_date = '{UNREAD}'")
    for day in (WITH_GAP, LAST):
        make_summaries(warehouse, day)


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a month of one account."""
    return copy_of("history", fill_month, tmp_path_factory)


@pytest.fixture(scope="session")
def seven_weeks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with seven weeks of one account whose every figure follows from its fills and marks."""
    return copy_of("seven_weeks", trader.build, tmp_path_factory)


@pytest.fixture
def month(home: Home, history: Path) -> Home:
    """That month, to change."""
    home.path.mkdir()
    home.warehouse.path.hardlink_to(history / "tradier.duckdb")  # a writer puts another file in its place
    return home


@pytest.fixture
def hostile(month: Home) -> Home:
    """The month with markup in every text that is not the project's own."""
    with month.warehouse.staged() as staged:
        for table, columns in BROKERS_TEXTS.items():
            for column in columns:
                staged.connection.execute(
                    f"UPDATE {table} SET {column} = $${HOSTILE}$$ WHERE trade_date IN ('{WITH_GAP}', '{LAST}')"
                    if table != "findings"
                    else f"UPDATE findings SET {column} = $${HOSTILE}$$"
                )
    return month


class Document(HTMLParser):
    """An HTML document whose every element is closed where it should be."""

    VOID = frozenset({"meta", "br", "hr", "img", "input", "link"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self._builder = TreeBuilder()
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []
        self.root: Element = self._builder.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._builder.start(tag, {name: value or "" for name, value in attrs})
        if tag in self.VOID:
            self._builder.end(tag)
        else:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        self._builder.end(tag)

    def handle_data(self, data: str) -> None:
        self._builder.data(data)

    def elements(self, tag: str = "*") -> Iterator[Element]:
        return self.root.iter() if tag == "*" else self.root.iter(tag)

    def table(self, caption: str) -> list[list[str]]:
        """The cells of the table whose caption contains this: header, body, footer."""
        (table,) = [one for one in self.elements("table") if caption in text_of(one.find("caption"))]
        return [[text_of(cell) for cell in row if cell.tag in ("th", "td")] for row in table.iter("tr")]

    def section(self, name: str) -> Element:
        (section,) = [one for one in self.elements("section") if one.get("id") == name]
        return section


def text_of(element: Element | None) -> str:
    """All text in an element, with single spaces."""
    assert element is not None
    return " ".join(" ".join(element.itertext()).split())


def eastern(day: date) -> str:
    return f"{day:%a} {day.day} {day:%b %Y}"
