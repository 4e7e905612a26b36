"""Checks of what is derived of options: spreads and short ones follow from what was observed."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import fields
from decimal import Decimal

from tradier_pipeline.broker.decode import parse_rows
from tradier_pipeline.broker.models import Order
from tradier_pipeline.broker.symbols import classify
from tradier_pipeline.core.check import claim_that, differing
from tradier_pipeline.core.outcome import Difference, RuleResult
from tradier_pipeline.domain.positions import PortfolioPosition
from tradier_pipeline.domain.short_options import ShortOption, short_options
from tradier_pipeline.domain.spread_figures import Quoted, SpreadFigures
from tradier_pipeline.domain.spreads import Spread, SpreadLeg, group
from tradier_pipeline.verify.evidence import Evidence, Row, by_key, storable
from tradier_pipeline.verify.registry import check

OPTIONS = ("option", "adjusted_option")
SPREAD_COLUMNS = tuple(field.name for field in fields(Spread) if field.name not in ("spread_no", "figures", "legs"))
FIGURE_COLUMNS = tuple(field.name for field in fields(SpreadFigures))
SHORT_OPTION_COLUMNS = tuple(field.name for field in fields(ShortOption))
QUOTE_COLUMNS = tuple(field.name for field in fields(Quoted))
LEG_COLUMNS = tuple(field.name for field in fields(SpreadLeg))


@check(None)
def spreads_use_contracts_once(evidence: Evidence) -> RuleResult:
    """The legs of all spreads add up to exactly the listed quantity of every option symbol."""
    listed: dict[str, Decimal] = defaultdict(Decimal)
    for row in evidence.listed("positions"):
        if classify(row["symbol"]).asset_class in OPTIONS:
            listed[row["symbol"]] += storable(row["quantity"]) or 0
    used: dict[str, Decimal] = defaultdict(Decimal)
    for leg in evidence.stored("option_spread_legs"):
        if leg["asset_class"] in OPTIONS:
            used[leg["symbol"]] += leg["quantity"]
    differences = [
        difference
        for symbol in sorted(listed.keys() | used.keys())
        for difference in claim_that(listed[symbol] == used[symbol], f"{symbol} quantity", listed[symbol], used[symbol])
    ]
    return RuleResult(f"{len(listed)} option symbols", f"{len(used)} used", tuple(differences))


@check(None)
def spreads_follow_positions(evidence: Evidence) -> RuleResult:
    """Every stored spread is what the stored positions and quotes and the broker's orders group to."""
    orders = parse_rows(Order, "orders", "orders.order", evidence.orders)
    spreads = group(_positions(evidence), orders, _quotes(evidence))
    expected = {
        (spread.spread_no,): _fields(spread, SPREAD_COLUMNS) | _fields(spread.figures, FIGURE_COLUMNS)
        for spread in spreads
    }
    legs = {
        (spread.spread_no, leg_no): _fields(leg, LEG_COLUMNS)
        for spread in spreads
        for leg_no, leg in enumerate(spread.legs, 1)
    }
    rows, leg_rows = evidence.stored("option_spreads"), evidence.stored("option_spread_legs")
    differences: list[Difference] = [
        *differing("spread", expected, by_key(rows, "spread_no")),
        *differing("spread leg", legs, by_key(leg_rows, "spread_no", "leg_no")),
        *claim_that(len(rows) == len(expected), "option_spreads", len(expected), len(rows)),
        *claim_that(len(leg_rows) == len(legs), "option_spread_legs", len(legs), len(leg_rows)),
    ]
    return RuleResult(f"{len(expected)} spreads", f"{len(rows)} stored", tuple(differences))


@check(None)
def short_options_follow_positions(evidence: Evidence) -> RuleResult:
    """Every stored short option is what the stored positions and quotes and the broker's cash say of it."""
    cash = storable(evidence.balances["total_cash"])
    expected = {
        (option.row_no,): _fields(option, SHORT_OPTION_COLUMNS)
        for option in short_options(_positions(evidence), _quotes(evidence), cash)
    }
    rows = evidence.stored("short_options")
    differences: list[Difference] = [
        *differing("short option", expected, by_key(rows, "row_no")),
        *claim_that(len(rows) == len(expected), "short_options", len(expected), len(rows)),
    ]
    return RuleResult(f"{len(expected)} short options", f"{len(rows)} stored", tuple(differences))


def _positions(evidence: Evidence) -> list[PortfolioPosition]:
    names = [field.name for field in fields(PortfolioPosition)]
    return [PortfolioPosition(**{name: row[name] for name in names}) for row in evidence.stored("positions")]


def _quotes(evidence: Evidence) -> dict[str, Quoted]:
    return {row["symbol"]: Quoted(**{name: row[name] for name in QUOTE_COLUMNS}) for row in evidence.stored("quotes")}


def _fields(value: object, names: tuple[str, ...]) -> Row:
    return {name: getattr(value, name) for name in names}
