"""Figures -> Vega-Lite specifications -> SVG. Pure, but for the library that draws.

An SVG is drawn once and is good in both colour schemes: its colours are custom properties of the page's style sheet,
each with the light one to fall back on where an SVG stands alone. A page shows one of three widths; the browser scales
it a little, and no script is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

from tradier_pipeline import clock
from tradier_pipeline.report.figures import Coverage, DayFigures, EquityDay

Spec = dict[str, Any]

WIDTHS = (340, 680, 1040)  # px: a phone, a tablet, a desktop
CALENDAR = timedelta(weeks=53)  # that coverage is shown of
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri")  # the calendar 24/7 has more

SURFACE = "var(--surface, #ffffff)"
INK = "var(--ink-2, #545d6b)"
GRID = "var(--grid, #e4e7ec)"
SERIES = "var(--series, #2459d6)"
GAIN = "var(--gain, #0a7448)"
LOSS = "var(--loss, #bd2130)"
GAP = "var(--gap, #d9dde4)"
FLOW = "var(--flow, #8a4b00)"

# of coverage, from nothing missed to nothing read
COVERED = {
    "complete": "var(--c-full, #0a7448)",
    "99 % or more": "var(--c-most, #58a981)",
    "90 % or more": "var(--c-some, #d9a441)",
    "less": "var(--c-few, #c2552b)",
    "nothing": "var(--c-none, #d9dde4)",
}

_CONFIG: Spec = {
    "aria": False,  # the page names each chart and has the figures as tables
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": INK,
        "labelFontSize": 11,
        "gridColor": GRID,
        "domain": False,
        "tickColor": GRID,
        "titleColor": INK,
    },
    "axisY": {"ticks": False, "labelPadding": 6, "title": None, "minExtent": 56, "tickCount": 4},
    "axisX": {"grid": False, "title": None, "labelOverlap": "greedy", "labelSeparation": 8, "labelFlush": True},
}


_MORE_DIGITS = re.compile(r"(\d\.\d\d)\d+")  # than a hundredth of a pixel: they are half of a drawing


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart to be shown: one specification for every width, and what is reported where the pointer is.

    `points` are (place between the left and the right edge, from 0 to 1; what is reported, line by line). The other charts
    by day have those of equity.
    """

    specs: tuple[Spec, ...]
    points: tuple[tuple[float, tuple[str, ...]], ...] = ()


def drawn(spec: Spec) -> str | None:
    """The SVG of a specification; None without the extra `report`."""
    try:
        import vl_convert  # only who wants charts needs it: V8, 30 MB
    except ModuleNotFoundError:
        return None
    return _MORE_DIGITS.sub(r"\1", vl_convert.vegalite_to_svg(spec, show_warnings=False))


def return_chart(days: Sequence[EquityDay], benchmark: str | None) -> Chart | None:
    """What a dollar that was there at the beginning has made, and a benchmark beside it; None without a return."""
    grown = [(float(place), None if day.growth is None else day.growth - 1) for place, day in enumerate(days)]
    if sum(value is not None for _, value in grown) < 2:
        return None
    beside = _benchmark_line(days) if benchmark else []
    values = [value for _, value in (*grown, *beside) if value is not None]
    low, high = _padded([0.0, *values])
    marks = [
        _layer([{"y": 0}], {"type": "rule", "color": INK}, x=None),
        _layer([{"x": x, "y": y} for x, y in beside], {"type": "line", "color": INK, "strokeWidth": 1.5,
                                                       "strokeDash": [5, 3]}),
        *_line(grown, 0.0),
    ]  # fmt: skip
    return Chart(_by_day(days, 260, marks, (low, high), ".1%"))


def _benchmark_line(days: Sequence[EquityDay]) -> list[tuple[float, float | None]]:
    """The benchmark since the first day, from close to close; it ends where a close has no price."""
    line: list[tuple[float, float | None]] = [(0.0, 0.0)]
    level: float | None = 1.0
    for place, day in enumerate(days[1:], 1):
        if day.equity is None:
            line.append((float(place), None))
        else:
            level = None if level is None or day.benchmark_return is None else level * (1 + day.benchmark_return)
            line.append((float(place), None if level is None else level - 1))
    return line


def equity_chart(days: Sequence[EquityDay]) -> Chart | None:
    """Equity at each close, from zero; deposits and withdrawals marked; None if no day's equity is known."""
    known = [day for day in days if day.equity is not None]
    if not known:
        return None
    values = [float(day.equity or 0) for day in known]
    low, high = min(0.0, *values), max(0.0, *values) * 1.06 or 1.0
    flows = [
        {"x": place, "y": low, "top": high, "kind": kind}
        for place, day in enumerate(days)
        if day.equity is not None
        for kind, amount in (("deposit", day.deposits), ("withdrawal", day.withdrawals))
        if amount
    ]
    marks = [
        *_line([(place, _float(day.equity)) for place, day in enumerate(days)], low),
        _layer(flows, {"type": "rule", "color": FLOW, "strokeDash": [2, 3]}, y2="top"),
        _layer(
            flows,
            {"type": "point", "color": FLOW, "filled": True, "opacity": 1, "size": 70},
            shape={
                "field": "kind",
                "type": "nominal",
                "legend": None,
                "scale": {"domain": ["deposit", "withdrawal"], "range": ["triangle-up", "triangle-down"]},
            },
        ),
    ]
    points = tuple((_place(place, *_sessions(days)), _tooltip(day)) for place, day in enumerate(days))
    return Chart(_by_day(days, 180, marks, (low, high), _dollars(high - low)), points)


def drawdown_chart(days: Sequence[EquityDay]) -> Chart | None:
    """How far below its highest point so far the account is, deposits and withdrawals aside."""
    known = [day.drawdown for day in days if day.drawdown is not None]
    if not known:
        return None
    lowest = min(*known, -0.005)
    marks = [
        _layer(
            [{"x": place, "y": day.drawdown} for place, day in enumerate(days)],
            {"type": "area", "color": LOSS, "fillOpacity": 0.18, "line": {"color": LOSS, "strokeWidth": 1.5}},
            y2={"datum": 0},
        )
    ]
    return Chart(_by_day(days, 110, marks, (lowest * 1.08, 0.0), ".1%"))


def pnl_chart(days: Sequence[EquityDay]) -> Chart | None:
    """What each day brought, deposits and withdrawals aside."""
    values = [{"x": place, "y": float(day.pnl)} for place, day in enumerate(days) if day.pnl is not None]
    if not values:
        return None
    low, high = _padded([0.0, *(value["y"] for value in values)])
    color = {"condition": {"test": "datum.y < 0", "value": LOSS}, "value": GAIN}
    bars = max(1.0, min(24.0, 0.7 * 270 / len(days)))
    marks = [
        _layer(values, {"type": "bar", "width": bars}, y2={"datum": 0}, color=color),
        _layer([{"y": 0}], {"type": "rule", "color": INK}, x=None),
    ]
    return Chart(_by_day(days, 110, marks, (low, high), _dollars(high - low)))


def intraday_chart(figures: DayFigures) -> Chart | None:
    """The change of equity at each snapshot of a day since the close before, or its first one; gaps stay gaps."""
    instants = figures.instants
    if not instants:
        return None
    known = figures.before.equity if figures.before else None
    base = instants[0].equity if known is None else known
    gaps = figures.gaps()
    broken_after = {earlier for earlier, _ in gaps}
    values: list[tuple[float, float | None]] = []
    for instant in instants:
        values.append((_clock(instant.as_of), float(instant.equity - base)))
        if instant.as_of in broken_after:
            values.append((_clock(instant.as_of) + 1, None))
    low, high = _padded([value for _, value in values if value is not None] + [0.0])
    session = [_clock(instant) for instant in figures.session or ()]
    filled = [_clock(fill) for fill in figures.fills]
    begin, end = _domain([*session, *filled, *(x for x, _ in values)], margin_ms=3_600_000)
    opens, closes = figures.session or (instants[0].as_of, instants[0].as_of)
    unread = [(max(earlier, opens), min(later, closes)) for earlier, later in gaps]  # around the session less is due
    shaded = [{"x": _clock(earlier), "x2": _clock(later)} for earlier, later in unread if earlier < later]
    marks: list[Spec] = [
        _layer(shaded, {"type": "rect", "color": GAP, "opacity": 0.6}, y={"value": 0}, y2={"value": "height"}, x2="x2"),
        _layer([{"x": x} for x in session], {"type": "rule", "color": INK, "strokeDash": [1, 3]}, y=None),
    ]
    marks.append(_layer([{"y": 0}], {"type": "rule", "color": INK, "strokeDash": [5, 4]}, x=None))
    diamond = {"type": "point", "shape": "diamond", "color": FLOW, "filled": True, "opacity": 1, "size": 60}
    marks += [*_line(values, 0.0, dots=len(instants) <= 60), _layer([{"x": x, "y": low} for x in filled], diamond)]
    points = tuple(
        (
            _place(_clock(instant.as_of), begin, end),
            (f"{instant.as_of.astimezone(clock.NEW_YORK):%H:%M:%S}", f"${instant.equity:,.2f}"),
        )
        for instant in instants
    )
    axis = {"labelExpr": "utcFormat(datum.value, '%H:%M')", "tickCount": {"interval": "hours", "step": 1}}
    specs = tuple(_chart(width, 280, marks, (begin, end), (low, high), axis, _dollars(high - low)) for width in WIDTHS)
    return Chart(specs, points)


def coverage_chart(coverage: Sequence[Coverage]) -> Chart | None:
    """A calendar of the last year: weeks from left to right, Monday to Friday downwards."""
    if not coverage:
        return None
    last = coverage[-1].trade_date
    shown = [day for day in coverage if last - day.trade_date < CALENDAR]
    monday = min(day.trade_date - timedelta(days=day.trade_date.weekday()) for day in shown)
    weeks = (last - monday).days // 7 + 1
    values = [
        {
            "week": (day.trade_date - monday).days // 7,
            "day": f"{day.trade_date:%a}",
            "share": _share(day),
        }
        for day in shown
    ]
    fridays = [monday + timedelta(weeks=week, days=4) for week in range(weeks)]
    months = {week: f"{friday:%b}" for week, friday in enumerate(fridays) if week == 0 or friday.day <= 7}
    weekdays = list(dict.fromkeys([*WEEKDAYS, *sorted(str(value["day"]) for value in values)]))
    label = " : ".join(f"datum.value == {week} ? '{name}'" for week, name in months.items()) + " : ''"

    def spec(width: int) -> Spec:
        step = min(18, (width - 40) // max(weeks, 12))
        return {
            "background": SURFACE,
            "padding": 4,
            "config": _CONFIG | {"scale": {"bandPaddingInner": 0.16, "bandPaddingOuter": 0.08}},
            "width": {"step": step},
            "height": {"step": max(step, 12)},
            "data": {"values": values},
            "mark": "rect",
            "encoding": {
                "x": {
                    "field": "week",
                    "type": "ordinal",
                    "scale": {"domain": list(range(weeks))},
                    "axis": {
                        "title": None,
                        "orient": "top",
                        "ticks": False,
                        "labelAngle": 0,
                        "labelAlign": "left",
                        "labelOffset": -step / 2,
                        "labelExpr": label,
                        "values": list(months),
                        "labelOverlap": "greedy",
                    },
                },
                "y": {
                    "field": "day",
                    "type": "ordinal",
                    "scale": {"domain": weekdays},
                    "axis": {"title": None, "minExtent": 0, "grid": False},
                },
                "color": {
                    "field": "share",
                    "type": "nominal",
                    "legend": None,
                    "scale": {"domain": list(COVERED), "range": list(COVERED.values())},
                },
            },
        }

    return Chart(tuple(spec(width) for width in WIDTHS))


def _share(day: Coverage) -> str:
    """How much of a session was read: of its instants, and of its time, the longest gap left out; the smaller of both.

    An instant that nothing was due at is not missed: before `up` was started there is only the gap.
    """
    if not day.in_session:
        return "nothing"
    due = day.in_session + day.missed + day.failed + day.refused
    gap_s = day.longest_gap_s or 0.0
    if due == day.in_session and gap_s < 150:  # neighbours of a minute cycle are up to two minutes apart
        return "complete"
    share = min(day.in_session / due, 1 - gap_s / 60 / day.session_minutes)
    return "99 % or more" if share >= 0.99 else "90 % or more" if share >= 0.9 else "less"


def _by_day(
    days: Sequence[EquityDay], height: int, marks: list[Spec], y: tuple[float, float], y_format: str
) -> tuple[Spec, ...]:
    """A chart over sessions, each as wide as the next, so that no line crosses days without one; gaps are shaded."""
    shaded = _layer(
        [{"x": x, "x2": x2} for x, x2 in _gaps(days)],
        {"type": "rect", "color": GAP, "opacity": 0.6},
        y={"value": 0},
        y2={"value": "height"},
        x2="x2",
    )
    labels = _labels(days)
    words = " : ".join(f"datum.value == {place} ? '{label}'" for place, label in labels.items()) + " : ''"
    axis = {"values": list(labels), "labelExpr": words}
    return tuple(
        _chart(width, height, [shaded, *marks], _sessions(days), y, axis, y_format, by_clock=False) for width in WIDTHS
    )


def _sessions(days: Sequence[EquityDay]) -> tuple[float, float]:
    return -0.5, len(days) - 0.5


def _labels(days: Sequence[EquityDay]) -> dict[int, str]:
    """The sessions that have a label: each of a few, the first of a week, a month or a year of many."""
    span = len(days)
    if span <= 10:
        return {place: _day_month(day.trade_date) for place, day in enumerate(days)}
    part, name = next(
        (part, name)
        for most, part, name in (
            (90, lambda day: day.isocalendar()[:2], _day_month),
            (780, lambda day: (day.year, day.month), _month_name),
            (float("inf"), lambda day: day.year, lambda day: f"{day.year}"),
        )
        if span <= most
    )
    return {
        place: name(later.trade_date)
        for place, (earlier, later) in enumerate(pairwise(days), 1)
        if part(earlier.trade_date) != part(later.trade_date)
    }


def _day_month(day: date) -> str:
    return f"{day.day} {day:%b}"


def _month_name(day: date) -> str:
    return f"{day.year}" if day.month == 1 else f"{day:%b}"


def _tooltip(day: EquityDay) -> tuple[str, ...]:
    lines = [f"{day.trade_date:%a} {day.trade_date.day} {day.trade_date:%b %Y}"]
    if day.equity is None:
        return (*lines, "equity not known")
    lines.append(f"${day.equity:,.2f}")
    if day.pnl is not None:
        change = "" if day.day_return is None else f" ({day.day_return:+.2%})"
        lines.append(f"{day.pnl:+,.2f}{change}")
    for word, amount in (("deposited", day.deposits), ("withdrawn", day.withdrawals)):
        if amount:
            lines.append(f"{amount:,.2f} {word}")
    if day.drawdown:
        lines.append(f"drawdown {day.drawdown:.2%}")
    if day.uncertain:
        lines.append("uncertain")
    elif day.provisional:
        lines.append("provisional")
    return tuple(line.replace("-", "\N{MINUS SIGN}") for line in lines)


def _chart(
    width: int,
    height: int,
    layers: list[Spec],
    x: tuple[float, float],
    y: tuple[float, float],
    x_axis: Spec,
    y_format: str,
    *,
    by_clock: bool = True,
) -> Spec:
    """Layers over one axis of time or sessions, and one of values.

    The time is UTC for the library: it would use the machine's zone.
    """
    scale = {"domain": list(x), "nice": False, "zero": False}
    return {
        "width": width,
        "height": height if width > WIDTHS[0] else min(height, 200),
        "autosize": {"type": "fit", "contains": "padding"},
        "padding": 4,
        "background": SURFACE,
        "config": _CONFIG,
        "encoding": {
            "x": {
                "field": "x",
                "type": "temporal" if by_clock else "quantitative",
                "scale": {"type": "utc", "domain": list(x), "nice": False} if by_clock else scale,
                "axis": x_axis,
            },
            "y": {
                "field": "y",
                "type": "quantitative",
                "scale": {"domain": list(y), "nice": False, "zero": False},
                "axis": {"format": y_format},
            },
        },
        "layer": layers,
    }


def _layer(values: list[Spec], mark: Spec, **encoding: Any) -> Spec:
    """Marks of their own data; a channel is an encoding, or the name of a field."""
    channels = {
        name: {"field": reported} if isinstance(reported, str) else reported for name, reported in encoding.items()
    }
    return {"data": {"values": values}, "mark": mark, "encoding": channels}


def _line(values: Sequence[tuple[float, float | None]], low: float, *, dots: bool = False) -> Iterator[Spec]:
    """A line that ends where a value is missing, on a faint area; a value that has no neighbour is a dot."""
    reported: list[Spec] = [{"x": x, "y": value} for x, value in values]
    yield _layer(reported, {"type": "area", "color": SERIES, "fillOpacity": 0.1}, y2={"datum": low})
    yield _layer(reported, {"type": "line", "color": SERIES, "strokeWidth": 1.8, "strokeJoin": "round"})
    known = [value is not None for _, value in values]
    alone = [
        one
        for number, one in enumerate(reported)
        if known[number] and (dots or not any((*known[max(0, number - 1) : number], *known[number + 1 : number + 2])))
    ]
    newest = [one for one in reported if one["y"] is not None][-1:]
    yield _layer(alone, {"type": "point", "color": SERIES, "filled": True, "opacity": 1, "size": 14})
    yield _layer(newest, {"type": "point", "color": SERIES, "filled": True, "opacity": 1, "size": 44})


def _gaps(days: Sequence[EquityDay]) -> Iterator[tuple[float, float]]:
    """From the last session before a gap to the first one after it."""
    begin: int | None = None
    for place, (_, later) in enumerate(pairwise(days), 1):
        if later.gap and begin is None:
            begin = place - 1
        if begin is not None and not later.gap:
            yield begin, place
            begin = None
    if begin is not None:
        yield begin, len(days) - 1


def _padded(values: Sequence[float]) -> tuple[float, float]:
    """The range of values with some air; never empty."""
    low, high = min(values), max(values)
    air = (high - low) * 0.08 or max(abs(high) * 0.01, 1.0)
    return low - air, high + air


def _dollars(span: float) -> str:
    return "$,.2f" if span < 8 else "$,.0f"


def _domain(places: Sequence[float], *, margin_ms: float) -> tuple[float, float]:
    begin, end = min(places), max(places)
    return (begin - margin_ms, end + margin_ms) if begin == end else (begin, end)


def _place(x: float, begin: float, end: float) -> float:
    return round((x - begin) / (end - begin), 4)


def _clock(instant: datetime) -> float:
    """Milliseconds of what a New York clock shows at an instant, as if it showed UTC."""
    return instant.astimezone(clock.NEW_YORK).replace(tzinfo=UTC).timestamp() * 1000


def _float(value: Decimal | None) -> float | None:
    """For the eye only: pixels, not money."""
    return None if value is None else float(value)
