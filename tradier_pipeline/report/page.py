"""Figures -> one HTML file that needs nothing else: no request leaves it, and it runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
from calendar import day_abbr, month_abbr, monthcalendar
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tradier_pipeline import clock
from tradier_pipeline.broker.symbols import classify
from tradier_pipeline.core.texts import lasting, printable
from tradier_pipeline.report import charts
from tradier_pipeline.report.figures import (
    LINE_NAMES,
    AccountFigures,
    DayFigures,
    DayProfit,
    Expiring,
    Month,
    Snapshot,
    Spread,
)

UNKNOWN = Markup('<span class="unknown" title="not known">\N{EN DASH}</span>')
CENT = Decimal("0.01")
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True, slots=True)
class Page:
    """A whole HTML document, and the SVG of its first chart by itself; None if it has none."""

    html: str
    chart: str | None


@dataclass(frozen=True, slots=True)
class DrawnChart:
    """A chart as the page shows it: an SVG for each width; none where the library is not installed."""

    svgs: tuple[Markup, ...]
    points: tuple[tuple[float, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class Links:
    """The reports beside this one, as hrefs relative to it: None or nothing where there is none.

    `days` are those of trade dates, `before` and `after` the neighbours of this one.
    """

    index: str | None = None
    account: str | None = None
    days: Mapping[date, str] = field(default_factory=dict)
    before: tuple[date, str] | None = None
    after: tuple[date, str] | None = None


@dataclass(frozen=True, slots=True)
class Indexed:
    """An account of the index: its newest figures, its months, and its reports."""

    account_id: str
    snapshot: Snapshot
    profit: DayProfit | None
    months: tuple[Month, ...]
    links: Links


@dataclass(frozen=True, slots=True)
class Index:
    """The accounts that have a report."""

    generated_at: datetime
    accounts: tuple[Indexed, ...]


def account_page(figures: AccountFigures, links: Links) -> Page:
    """The report of a whole account."""
    drawn = {
        "equity": _drawn(charts.equity_chart(figures.days)),
        "returns": _drawn(charts.return_chart(figures.days, figures.benchmark)),
        "drawdown": _drawn(charts.drawdown_chart(figures.days)),
        "pnl": _drawn(charts.pnl_chart(figures.days)),
        "coverage": _drawn(charts.coverage_chart(figures.coverage)),
    }
    return _page("account.html.jinja", figures, drawn, links=links, covered=charts.COVERED)


def day_page(figures: DayFigures, links: Links) -> Page:
    """The report of one trade date."""
    return _page("day.html.jinja", figures, {"intraday": _drawn(charts.intraday_chart(figures))}, links=links)


def index_page(index: Index) -> Page:
    """All accounts and days that have a report."""
    return _page("index.html.jinja", index, {})


def _drawn(chart: charts.Chart | None) -> DrawnChart | None:
    if chart is None:
        return None
    svgs = [charts.drawn(spec) for spec in chart.specs]
    # drawn from numbers and our own words alone; text of the broker is never in a chart
    return DrawnChart(tuple(Markup(svg) for svg in svgs if svg is not None), chart.points)  # noqa: S704


def _page(
    template: str, figures: AccountFigures | DayFigures | Index, drawn: Mapping[str, DrawnChart | None], **context: Any
) -> Page:
    style, script = _asset("page.css"), _asset("hover.js")
    # it may apply this style and run this script, and nothing else; whatever got past the escaping stays dead text
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    html = (
        _environment()
        .get_template(template)
        .render(
            policy=policy,
            style=Markup(style),  # noqa: S704 - our own file
            script=Markup(script),  # noqa: S704 - our own file
            figures=figures,
            charts=drawn,
            **context,
        )
    )
    return Page(html, next((chart.svgs[1] for chart in drawn.values() if chart and chart.svgs), None))


def _asset(name: str) -> str:
    return files("tradier_pipeline.report").joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _for_people(value: Any) -> Any:
    """Escaping makes markup dead text; this does so with what reorders or hides text."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("tradier_pipeline.report", ""),
        autoescape=True,
        finalize=_for_people,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "usd": usd,
        "dollars": dollars,
        "change": change,
        "price": price,
        "plain": plain,
        "percent": percent,
        "ratio": ratio,
        "instant": instant,
        "time_of_day": time_of_day,
        "day": day,
        "short_day": short_day,
        "contract": contract,
        "words": words,
        "duration": duration,
        "counted": counted,
        "absolute": absolute,
        "absolute_price": absolute_price,
        "net": net,
        "closing": closing,
        "order_price": order_price,
        "fill_price": fill_price,
        "distance": distance,
        "whole": whole,
        "milliseconds": milliseconds,
        "sign": sign,
        "strikes": strikes,
        "weeks": weeks,
        "month_name": month_name,
        "sentence": sentence,
    }
    environment.globals["kinds"] = LINE_NAMES
    environment.globals["month_names"] = list(month_abbr[1:])
    environment.globals["weekdays"] = list(day_abbr)
    return environment


def usd(value: Decimal | None) -> str:
    """1,234.50, with a real minus."""
    return UNKNOWN if value is None else f"{value.quantize(CENT):,}".replace("-", MINUS)


def dollars(value: Decimal | None) -> str:
    """$1,234.50."""
    return UNKNOWN if value is None else f"{MINUS if value < 0 else ''}${abs(value).quantize(CENT):,}"


def change(value: Decimal | float | None, unit: str = "") -> str:
    """Signed, and coloured by its sign; `unit` is "$", "%" (of a ratio) or nothing."""
    if value is None:
        return UNKNOWN
    number = f"{abs(value):,.2%}" if unit == "%" else f"{unit if unit == '$' else ''}{abs(value):,.2f}"
    shows = any(digit in "123456789" for digit in number)
    sign, kind = ("", "flat") if not shows else ("+", "gain") if value > 0 else (MINUS, "loss")
    return Markup('<span class="{}">{}{}</span>').format(kind, sign, number)


def price(value: Decimal | None) -> str:
    """Two decimals; up to four, if it has them."""
    if value is None:
        return UNKNOWN
    exact = value.quantize(CENT * CENT).normalize()
    return f"{exact if exact.as_tuple().exponent < -2 else value.quantize(CENT):,f}".replace("-", MINUS)  # type: ignore[operator]


def plain(value: Decimal | int | None) -> str:
    """A quantity or count, without trailing zeros."""
    if value is None:
        return UNKNOWN
    return (f"{value.normalize():,f}" if isinstance(value, Decimal) else f"{value:,}").replace("-", MINUS)


def percent(value: float | None) -> str:
    """0.0123 as 1.23%."""
    return UNKNOWN if value is None else f"{value:,.2%}".replace("-", MINUS)


def ratio(value: float | None) -> str:
    """1.2345 as 1.23."""
    return UNKNOWN if value is None else f"{value:,.2f}".replace("-", MINUS)


def instant(value: datetime | None) -> str:
    """New York date and time."""
    return UNKNOWN if value is None else _time(value, f"{day(value.astimezone(clock.NEW_YORK))}, %H:%M:%S")


def time_of_day(value: datetime | None) -> str:
    """New York time."""
    return UNKNOWN if value is None else _time(value, "%H:%M:%S")


def _time(value: datetime, form: str) -> Markup:
    text = f"{value.astimezone(clock.NEW_YORK):{form}}"
    return Markup('<time datetime="{}">{}</time>').format(clock.iso(value), text)


def day(value: date | None) -> str:
    """Fri 20 Nov 2026."""
    return UNKNOWN if value is None else f"{value:%a} {value.day} {value:%b %Y}"


def short_day(value: date) -> str:
    """20 Nov 2026."""
    return f"{value.day} {value:%b %Y}"


def contract(symbol: str | None) -> str:
    """An option's terms as people write them; any other symbol as it is."""
    if symbol is None:
        return UNKNOWN
    option = classify(symbol).option
    if option is None:
        return symbol
    expiration = option.expiration
    return f"{option.root} {expiration.day} {expiration:%b %y} {plain(option.strike)} {option.option_type}"


def words(name: str | None) -> str:
    """bull_put_credit as bull put credit."""
    return UNKNOWN if name is None else name.replace("_", " ")


def duration(seconds: float | None) -> str:
    """45 s, 12 min, 3.5 h, 12 days."""
    return UNKNOWN if seconds is None else lasting(seconds)


def counted(number: int, noun: str) -> str:
    """1 order, 2 orders."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def absolute(value: Decimal | None) -> str:
    """1,234.50 of either sign."""
    return usd(None if value is None else abs(value))


def absolute_price(value: Decimal | None) -> str:
    """A price of either sign."""
    return price(None if value is None else abs(value))


def net(value: Decimal | None) -> str:
    """A net price as traders read it, of what is received when negative: 1.20 credit, 0.80 debit, even."""
    if value is None:
        return UNKNOWN
    return f"{absolute_price(value)} {'credit' if value < 0 else 'debit'}" if value else "even"


def closing(value: Decimal | None) -> str:
    """What closing at this worth is: 0.60 debit of what is worth -0.60."""
    return net(None if value is None else -value)


def order_price(value: Decimal | None, kind: str | None) -> str:
    """The limit of an order; that of a credit or debit order is a net price, whatever its sign."""
    if value is None or kind not in ("credit", "debit"):
        return "" if value is None else price(value)
    return f"{absolute_price(value)} {kind}"


def fill_price(value: Decimal | None, legs: Sequence[Any] | None) -> str:
    """The average fill of an order: a net price, if it has legs."""
    return net(value) if legs else price(value)


def distance(row: Spread | Expiring) -> str:
    """How far out of the money, 12.30 (2.1%); or in the money by how much."""
    if row.distance is None:
        return UNKNOWN
    far = "" if row.distance_ratio is None else f" ({abs(row.distance_ratio):.1%})"
    if row.distance < 0:
        return Markup('<span class="loss">in the money {}{}</span>').format(absolute_price(row.distance), far)
    return f"{price(row.distance)}{far}"


def whole(value: Decimal | float | None, signed: bool = False) -> str:
    """1,235; a profit or loss always with its sign."""
    if value is None:
        return UNKNOWN
    number = f"{abs(value):,.0f}"
    return (("+" if value > 0 and signed else MINUS if value < 0 else "") if number != "0" else "") + number


def milliseconds(value: float | None) -> str:
    """1,235 ms."""
    return UNKNOWN if value is None else f"{value:,.0f} ms"


def sign(value: Decimal) -> str:
    """gain, loss or flat, to the cent."""
    cents = value.quantize(CENT)
    return "gain" if cents > 0 else "loss" if cents < 0 else "flat"


def strikes(symbols: Sequence[str]) -> str:
    """The strikes of a spread's legs with their types, 265 put, 270 put; of anything else the symbol."""
    options = [(symbol, classify(symbol).option) for symbol in symbols]
    return ", ".join(
        f"{plain(option.strike)} {option.option_type}" if option else contract(symbol) for symbol, option in options
    )


def weeks(month: Month) -> list[list[date | None]]:
    """The weeks of a month, Monday to Friday, or to Sunday if something is known of a weekend; None beyond its ends."""
    first = month.month
    length = 7 if any(day.weekday() > 4 for day in month.days) else 5
    numbered = [week[:length] for week in monthcalendar(first.year, first.month)]
    return [[first.replace(day=day) if day else None for day in week] for week in numbered if any(week)]


def month_name(month: date) -> str:
    """November 2026."""
    return f"{month:%B %Y}"


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:]}."
