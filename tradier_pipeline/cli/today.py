"""The evening's screen: what was made and from what, the month, buying power, what expires, assignment, exits.

Every figure is one of the report's, and so of a view.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tradier_pipeline import clock
from tradier_pipeline.broker.models import FINISHED
from tradier_pipeline.broker.symbols import classify
from tradier_pipeline.cli import screen
from tradier_pipeline.cli.options import JSON, ONLY_ACCOUNT, table
from tradier_pipeline.cli.output import print_json, print_rows, styled, with_settings
from tradier_pipeline.core.texts import printable
from tradier_pipeline.warehouse.schema import BIGINT, DATE, DECIMAL, DOUBLE, INSTANT, VARCHAR

if TYPE_CHECKING:
    from tradier_pipeline.core.settings import Settings
    from tradier_pipeline.report.figures import (
        Assignment,
        DayFigures,
        DayProfit,
        EquityDay,
        Expiring,
        Month,
        Order,
        ProfitLine,
        Spread,
    )

LABEL = 16  # characters of the left column
MOST_LINES, MOST_EXITS, MOST_NAMED = 6, 4, 3  # that fit a screen; the report and --json have all


COLUMNS = {
    **{"account_id": VARCHAR, "environment": VARCHAR, "trade_date": DATE, "as_of": INSTANT, "snapshot_id": VARCHAR},
    **{"verdict": VARCHAR, "equity": DECIMAL, "profit": DECIMAL, "buying_power": DECIMAL, "buying_power_use": DOUBLE},
    **{"last_session": DATE, "last_session_profit": DECIMAL, "month": DATE, "month_profit": DECIMAL},
    **{"month_return": DOUBLE, "expiring": BIGINT, "in_the_money": BIGINT, "exits": BIGINT},
}


@dataclass(frozen=True, slots=True)
class Exit:
    """A spread that may be due to be closed: why, and the orders that work to close it."""

    spread: Spread
    reasons: tuple[str, ...]
    orders: tuple[int, ...]


@click.command()
@ONLY_ACCOUNT
@click.option("--target", type=click.IntRange(1, 100), default=50, show_default=True, help="% of the maximum profit.")
@click.option("--days", type=click.IntRange(0, 365), default=7, show_default=True, help="Days to expiration.")
@table
@JSON
@with_settings
def today(
    settings: Settings, account: str | None, target: int, days: int, form: str, output: Path | None, as_json: bool
) -> None:
    """The evening on one screen: profit and where it came from, month, buying power, expiration, assignment, exits.

    Of the last trade date with a snapshot. An exit may be due where a spread made --target of its maximum profit,
    expires within --days, or has its short strike in the money. As a table it is a row an account, without what is
    listed: --json has all.
    """
    from tradier_pipeline.lake.reads import connect_history
    from tradier_pipeline.report.reads import day_figures, months_of
    from tradier_pipeline.warehouse.reads import newest_as_of, newest_trade_date, require_account

    with connect_history(settings) as connection:
        require_account(connection, account, settings.accounts or ())
        accounts = [account] if account else sorted(newest_as_of(connection))
        days_of = [day_figures(connection, one, newest_trade_date(connection, one)) for one in accounts]
        months = {one: months_of(connection, one) for one in accounts}
    shown = []
    for figures in days_of:
        first = figures.day.replace(day=1)
        month = next((one for one in months[figures.account_id] if one.month == first), None)
        shown.append((figures, month, exits(figures.held.spreads, figures.held.orders, target, days)))
    documents = [_document(*one, days) for one in shown] if as_json or form != "text" or output else []
    if form != "text" or output:
        print_rows(COLUMNS, [_row(one) for one in documents], form, output)
        return
    if as_json:
        print_json({"accounts": documents})
        return
    for place, (figures, month, due) in enumerate(shown):
        if place:
            styled("")
        for line in _screen(figures, month, due, target, days):
            styled(line)


def exits(spreads: Sequence[Spread], orders: Sequence[Order], target: int, days: int) -> list[Exit]:
    """The spreads to look at, those whose short strike is in the money first, else in their order.

    Args:
        target: % of the maximum profit from which on it is taken.
        days: to expiration, from which on the spread is not kept.
    """
    found = []
    for spread in spreads:
        reasons = []
        if spread.captured is not None and spread.captured * 100 >= target:
            reasons.append(f"{spread.captured:.0%} of its maximum profit")
        if spread.days_left is not None and spread.days_left <= days:
            reasons.append(f"expires {_in_days(spread.days_left)}")
        if spread.distance is not None and spread.distance < 0:
            reasons.append(f"short strike {screen.money(-spread.distance)} in the money")
        if reasons:
            found.append(Exit(spread, tuple(reasons), _closing(spread, orders)))
    return sorted(found, key=lambda one: one.spread.distance is None or one.spread.distance >= 0)


def _closing(spread: Spread, orders: Sequence[Order]) -> tuple[int, ...]:
    """The working orders that close a leg of it."""
    held = {leg["symbol"] for leg in spread.legs}
    return tuple(
        order.order_id
        for order in orders
        if order.status not in FINISHED
        and any(symbol in held and str(side).endswith("_to_close") for side, symbol in _sides(order))
    )


def _sides(order: Order) -> list[tuple[Any, Any]]:
    own = [(order.side, order.option_symbol or order.symbol)]
    return own + [(leg["side"], leg["symbol"]) for leg in order.legs or ()]


def _screen(figures: DayFigures, month: Month | None, due: Sequence[Exit], target: int, days: int) -> Iterator[str]:
    snapshot = figures.snapshot
    simulated = "SIMULATED account" if snapshot.environment == "simulator" else f"{snapshot.environment} account"
    when = f"{figures.day:%a} {screen.day(figures.day)}, as of {screen.when(snapshot.as_of)[11:]} New York"
    yield screen.dim(f"{simulated} {figures.account_id}, {when}")
    if figures.doubtful or snapshot.verdict == "doubtful":
        doubted = figures.doubtful or snapshot
        evidence = doubted.verdict_evidence or "not confirmed"
        yield from _labelled("DOUBTFUL", f"{screen.when(doubted.as_of)[11:]}: {evidence}")
    yield from _profit(figures)
    yield from _month(month)
    yield from _labelled("buying power", _buying_power(figures))
    expiring = [one for one in figures.held.expiring if one.days_left <= days]
    yield from _labelled("expires", _expiring(expiring, days))
    yield from _labelled("assignment", _assignment(figures.held.assignments))
    if not due:
        reasons = f"none: none made {target}% of its maximum, expires {_in_days(days)}, or is in the money"
        yield from _labelled("exits due", reasons)
    for place, one in enumerate(due[:MOST_EXITS]):
        more = len(due) - MOST_EXITS if place == MOST_EXITS - 1 else 0
        yield from _labelled("" if place else "exits due", f"{_exit(one)}{f'; and {more} more' if more > 0 else ''}")
    if figures.findings:
        open_ones = sum(one.resolved_at is None for one in figures.findings)
        if open_ones:
            yield from _labelled("findings", f"{open_ones} open: `{screen.command()} findings`")


def _profit(figures: DayFigures) -> Iterator[str]:
    closed = figures.closed
    if closed is None:
        yield from _profit_of_day(figures)
        return
    last = f"; the last session was {closed.day:%a} {screen.day(closed.day)}" if closed.day else ""
    yield from _labelled("closed", f"the exchange was, on {figures.day:%a} {screen.day(figures.day)}{last}")
    profit, equity = closed.profit, closed.equity
    if profit is not None and profit.profit is not None:
        yield from _profit_lines(profit, closed.lines, equity)
    elif equity is not None and equity.pnl is not None:
        rate = "" if equity.day_return is None else f"{equity.day_return:+.2%}"
        yield _amount("profit", equity.pnl, rate, equity.equity)
    else:
        yield from _labelled("profit", "not known: no snapshot of an earlier day")
    if closed.since is not None:
        yield _amount("since then", closed.since, "", figures.snapshot.equity)
    else:
        yield from _labelled("equity", screen.money(figures.snapshot.equity))


def _profit_of_day(figures: DayFigures) -> Iterator[str]:
    profit, equity = figures.profit, figures.equity
    if profit is None or profit.profit is None:
        before = figures.before
        since = ""
        if before and before.equity is not None and figures.snapshot.equity is not None:
            change = screen.money(figures.snapshot.equity - before.equity, sign=True)
            since = f", {change} since the close of {screen.day(before.trade_date)}"
        yield from _labelled("profit", f"not known: no snapshot of an earlier day{since}")
        yield from _labelled("equity", screen.money(figures.snapshot.equity))
        return
    yield from _profit_lines(profit, figures.lines, equity)


def _profit_lines(profit: DayProfit, of_day: Sequence[ProfitLine], equity: EquityDay | None) -> Iterator[str]:
    """What a day made, and the lines of what it came from."""
    rate = equity.day_return if equity and equity.pnl == profit.profit else None
    yield _amount("profit", profit.profit, "" if rate is None else f"{rate:+.2%}", profit.equity)
    lines = sorted(of_day, key=lambda line: -abs(line.amount or Decimal(0)))
    for line in lines[:MOST_LINES]:
        yield _line(line_name(line), line.amount)
    rest = lines[MOST_LINES:]
    if rest:
        amounts = [line.amount for line in rest]
        yield _line(f"and {len(rest)} more", None if None in amounts else sum(filter(None, amounts), Decimal(0)))


def _amount(label: str, amount: Decimal | None, rate: str, equity: Decimal | None = None) -> str:
    shown = screen.bold(screen.coloured(f"{screen.money(amount, sign=True):>14}", amount))
    beside = f"   equity {screen.money(equity)}" if equity is not None else ""
    return f"{label:<{LABEL}}{shown}  {rate:>8}{beside}".rstrip()


def _line(name: str, amount: Decimal | None) -> str:
    room = max(20, min(44, screen.width() - LABEL - 2))
    text = printable(name)
    return f"  {screen.coloured(f'{screen.money(amount, sign=True):>{LABEL + 12}}', amount)}  {text[:room]}"


def _month(month: Month | None) -> Iterator[str]:
    known = [] if month is None else [day.pnl for day in month.days.values() if day.pnl is not None]
    if month is None or month.pnl is None or not known:
        yield from _labelled("month", "not known yet: no day of it has a profit")
        return
    up = sum(amount > 0 for amount in known)
    rate = "" if month.rate is None else f"{month.rate:+.2%}"
    yield f"{_amount('month', month.pnl, rate)}   {month.month:%B}: {up} of {screen.plural(len(known), 'day')} up"


def _buying_power(figures: DayFigures) -> str:
    exposure, left = figures.held.exposure, figures.snapshot.buying_power
    used = None if exposure is None else exposure.buying_power_use
    if used is None and not figures.held.underlyings:
        used = 0.0
    share = "use not known" if used is None else f"{used:.2%} used"
    margin = figures.snapshot.margin_requirement
    return f"{share}, {screen.money(left)} left; margin requirement {screen.money(margin)}"


def _expiring(expiring: Sequence[Expiring], days: int) -> str:
    if not expiring:
        return f"nothing within {screen.plural(days, 'day')}"
    return _several(
        [f"{contract(one.symbol)} x {screen.quantity(one.quantity)} {_in_days(one.days_left)}" for one in expiring]
    )


def _assignment(short: Sequence[Assignment]) -> str:
    """What is in the money and may be assigned tonight; without a price nobody can say."""
    if not short:
        return "no short option is held"
    unknown = [contract(one.symbol) for one in short if one.in_the_money is None]
    risky = [_at_risk(one) for one in short if one.in_the_money]
    parts = [_several(risky)] if risky else []
    if unknown:
        parts.append(f"not known without a price: {_several(unknown)}")
    if not parts:
        nearest = min(short, key=lambda one: one.distance or Decimal(0))
        distance, price = screen.money(nearest.distance), screen.money(nearest.underlying_price)
        return f"no short option is in the money; nearest {contract(nearest.symbol)}, {distance} from {price}"
    return "; ".join(parts)


def _at_risk(one: Assignment) -> str:
    deep = screen.money(abs(one.distance)) if one.distance is not None else "-"
    time_value = f", time value {screen.money(one.time_value)}" if one.time_value is not None else ""
    needs = ""
    if one.cash_needed is not None:
        needs = f", needs {screen.money(one.cash_needed)}, cash {screen.money(one.cash)}"
    elif one.shares_needed is not None:
        needs = f", needs {screen.quantity(one.shares_needed)} shares, {screen.quantity(one.shares_held)} held"
    called = f"{contract(one.symbol)} x {screen.quantity(one.quantity)}: {deep} in the money{time_value}"
    return f"{called}{_ex_dividend(one)}{needs}"


def _ex_dividend(one: Assignment) -> str:
    """The dividend that its holder gets who exercises in time."""
    if one.ex_dividend_date is None:
        return ""
    amount = f" {screen.money(one.dividend)}" if one.dividend is not None else ""
    return f", ex-dividend {screen.day(one.ex_dividend_date)}{amount}{': exercise pays' if one.exercise_pays else ''}"


def _exit(due: Exit) -> str:
    profit = screen.money(due.spread.unrealized_pl, sign=True)
    works = f"; order {', '.join(map(str, due.orders))} works to close it" if due.orders else ""
    return f"{spread_name(due.spread)} {profit}: {', '.join(due.reasons)}{works}"


def _several(texts: Sequence[str]) -> str:
    more = len(texts) - MOST_NAMED
    return ", ".join(texts[:MOST_NAMED]) + (f", and {more} more" if more > 0 else "")


def _labelled(label: str, text: str) -> Iterator[str]:
    """A label and a text beside it, in as many lines as the terminal needs."""
    for place, line in enumerate(screen.wrapped(f"{'':<{LABEL}}{text}", indent=" " * LABEL)):
        yield f"{label:<{LABEL}}{line[LABEL:]}" if place == 0 else line


def _in_days(days: int) -> str:
    return ("today", "tomorrow")[days] if days in (0, 1) else f"in {days} days"


def contract(symbol: str) -> str:
    """An option as a trader calls it, `SPY Dec 24 670 put`; any other symbol as it is."""
    option = classify(symbol).option
    if option is None:
        return symbol
    return f"{option.root} {screen.day(option.expiration)} {screen.quantity(option.strike)} {option.option_type}"


def spread_name(spread: Spread) -> str:
    """Such as `SPY bull put credit 670 Dec 24`: with the short strike."""
    strike = screen.quantity(spread.short_strike) if spread.short_strike is not None else ""
    expiration = screen.day(spread.expiration) if spread.expiration else ""
    return " ".join(filter(None, (spread.underlying, spread.strategy.replace("_", " "), strike, expiration)))


def line_name(line: ProfitLine) -> str:
    """What a line of the day's profit is of."""
    from tradier_pipeline.report.figures import LINE_NAMES

    if line.kind == "stock":
        return f"{line.underlying} shares"
    if line.kind != "spread":
        return LINE_NAMES[line.kind]
    words = (line.strategy or "options").replace("_", " ")
    expiration = screen.day(line.expiration) if line.expiration else ""
    strikes = "/".join(
        dict.fromkeys(screen.quantity(option.strike) for one in line.symbols or () if (option := classify(one).option))
    )
    return " ".join(filter(None, (line.underlying, words, strikes, expiration)))


def _row(document: dict[str, Any]) -> dict[str, Any]:
    """What a document says in single values, under the names of `COLUMNS`."""
    last, month = document["last_session"], document["month"]
    counted = {name: len(document[name]) for name in ("expiring", "exits")}
    return {
        **document,
        "account_id": document["account"],
        "profit": (document["profit"] or {}).get("profit"),
        "last_session": last and last["day"],
        "last_session_profit": last and (last["profit"] or {}).get("profit", last["equity"] and last["equity"]["pnl"]),
        "month": month and month["month"],
        "month_profit": month and month["pnl"],
        "month_return": month and month["return"],
        **counted,
        "in_the_money": sum(one["in_the_money"] is True for one in document["assignments"]),
    }


def _document(figures: DayFigures, month: Month | None, due: Sequence[Exit], days: int) -> dict[str, Any]:
    held = figures.held
    return {
        "account": figures.account_id,
        "environment": figures.snapshot.environment,
        "trade_date": figures.day,
        "as_of": figures.snapshot.as_of,
        "snapshot_id": figures.snapshot.snapshot_id,
        "verdict": figures.snapshot.verdict,
        "equity": figures.snapshot.equity,
        "buying_power": figures.snapshot.buying_power,
        "buying_power_use": held.exposure.buying_power_use if held.exposure else None,
        "profit": asdict(figures.profit) if figures.profit else None,
        "lines": [asdict(one) for one in figures.lines],
        "last_session": asdict(figures.closed) if figures.closed else None,
        "month": {"month": month.month, "pnl": month.pnl, "return": month.rate, "note": month.note} if month else None,
        "expiring": [asdict(one) for one in held.expiring if one.days_left <= days],
        "assignments": [asdict(one) for one in held.assignments],
        "exits": [asdict(one.spread) | {"reasons": one.reasons, "closing_orders": one.orders} for one in due],
        "now": clock.now(),
    }
