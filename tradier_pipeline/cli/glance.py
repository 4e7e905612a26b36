"""The screen of a snapshot: what it is worth, what is held, what was filled, and whether the rules hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tradier_pipeline.cli import screen
from tradier_pipeline.cli.output import print_checks, styled
from tradier_pipeline.core.texts import printable

if TYPE_CHECKING:
    from tradier_pipeline.core.outcome import Outcome
    from tradier_pipeline.publish.published_snapshot import TradierSnapshot
    from tradier_pipeline.warehouse.at_a_glance import Glance

MOST_SPREADS, MOST_FILLS = 5, 2  # what fits; the commands `spreads` and `orders` have all


def print_glance(taken: TradierSnapshot, glance: Glance, *, verbose: bool) -> None:
    """Show a published snapshot in less than a screen; with `verbose` every rule after it."""
    styled(screen.dim(f"as of {screen.when(taken.as_of)} New York, USD"))
    if taken.verdict == "doubtful":
        styled(f"DOUBTFUL   {printable(taken.verdict_evidence or '')}")
        styled("           it is in the history, marked; nothing is concluded from it until later ones confirm it")
    # of a doubtful one it is not known what was filled before it
    filled = () if taken.verdict == "doubtful" else _filled(glance, taken.as_of)
    for line in (*_figures(glance, taken.as_of), *_spreads(glance), *filled):
        styled(line)
    styled(rules(taken.checks, verbose=verbose))
    print_checks(taken.checks if verbose else [one for one in taken.checks if not one.passed])


def rules(outcomes: Sequence[Outcome], *, verbose: bool) -> str:
    """How many rules hold, and how many had nothing to judge: those prove nothing."""
    hold = sum(one.passed for one in outcomes)
    idle = sum(one.passed and not one.judged for one in outcomes)
    waiting = f"; {idle} had nothing to judge yet" if idle else ""
    return f"{hold} of {len(outcomes)} rules hold{waiting}{'' if verbose else ' (-v shows them)'}"


def _figures(glance: Glance, now: datetime) -> Iterator[str]:
    change = ""
    if glance.change is not None and glance.since is not None:
        amount = screen.coloured(screen.money(glance.change, sign=True), glance.change)
        change = f"   {amount} since {screen.since(glance.since, now)}"
    yield f"equity      {screen.bold(f'{screen.money(glance.equity):>16}')}{change}"
    yield f"cash        {screen.money(glance.cash):>16}   buying power    {screen.money(glance.buying_power):>16}"
    profit, realized = (
        screen.coloured(f"{screen.money(one, sign=True):>16}", one) for one in (glance.open_profit, glance.realized)
    )
    yield f"open profit {profit}   realized today  {realized}"


def _spreads(glance: Glance) -> Iterator[str]:
    shown = glance.spreads[:MOST_SPREADS]
    if shown:
        yield screen.dim(f"{'spread':<42}{'quantity':>9}{'profit':>12}{'of max':>8}{'days':>6}")
    for row in shown:
        profit: Decimal | None = row["unrealized_pl"]
        captured = "-" if row["captured"] is None else f"{row['captured']:z.0%}"
        yield (
            f"{spread_name(row)[:41]:<42}{screen.quantity(row['quantity']):>9}"
            f"{screen.coloured(f'{screen.money(profit, sign=True):>12}', profit)}{captured:>8}"
            f"{'-' if row['days_left'] is None else row['days_left']:>6}"
        )
    rest = []
    if len(glance.spreads) > len(shown):
        rest.append(screen.plural(len(glance.spreads) - len(shown), "more spread"))
    held, _, profit = glance.stocks
    if held:
        rest.append(f"{screen.plural(held, 'stock')} {screen.money(profit, sign=True)}")
    if rest:
        yield f"and {', '.join(rest)}"
    elif not shown:
        yield "nothing is held"


def spread_name(row: dict[str, Any]) -> str:
    """Such as `SPY bull_put_credit 670 Dec 24`: with the short strike."""
    strike = screen.quantity(row["short_strike"]) if row["short_strike"] is not None else ""
    expiration = screen.day(row["expiration"]) if row["expiration"] else ""
    words = (row["underlying"], str(row["strategy"]).replace("_", " "), strike, expiration)
    return printable(" ".join(filter(None, words)))


def _filled(glance: Glance, now: datetime) -> Iterator[str]:
    if glance.since is None:
        return
    before = screen.since(glance.since, now)
    if not glance.fills:
        yield f"filled since {before}: nothing"
    for row in glance.fills[:MOST_FILLS]:
        side = str(row["what"]).replace("_", " ")
        price = f" at {screen.money(row['price'])}" if row["price"] is not None else ""
        filled = f"{side} {screen.quantity(row['quantity'])} {row['symbol'] or ''}{price}"
        yield f"filled since {before}: {printable(filled)}"
    if len(glance.fills) > MOST_FILLS:
        yield f"  and {len(glance.fills) - MOST_FILLS} more"
