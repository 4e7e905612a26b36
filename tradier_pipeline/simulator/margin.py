"""What an account is worth and what it may still spend. Simplified rules, exact arithmetic."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import takewhile

from tradier_pipeline.simulator.market import CONTRACT_SIZE, ZERO, Market, Option, multiplier, parse_option
from tradier_pipeline.simulator.world import BRACKETS, FEE_PER_CONTRACT, Account, Order, World, start_of_day

MARGIN_RATE = {"margin": Decimal("0.5"), "pdt": Decimal("0.25"), "cash": Decimal(1)}
_NAKED_CALL_RATE = Decimal("0.2")


@dataclass(frozen=True, slots=True)
class Valuation:
    """One account at one instant, USD; short values are negative (Tradier: captured -5874.0)."""

    total_cash: Decimal
    stock_long: Decimal
    stock_short: Decimal
    option_long: Decimal
    option_short: Decimal
    cost_basis: Decimal
    close_pl: Decimal
    stock_requirement: Decimal
    option_requirement: Decimal
    pending_cash: Decimal

    @property
    def market_value(self) -> Decimal:
        return self.stock_long + self.stock_short + self.option_long + self.option_short

    @property
    def total_equity(self) -> Decimal:
        return self.total_cash + self.market_value

    @property
    def free_cash(self) -> Decimal:
        """What may still be spent on options or, unlevered, on stock; negative when the account is overdrawn."""
        stock = self.stock_long + self.stock_short
        return self.total_cash + stock - self.stock_requirement - self.option_requirement - self.pending_cash


def value(world: World, account: Account) -> Valuation:
    """The account's worth at `world.now`."""
    stocks: list[Decimal] = []
    options: list[Decimal] = []
    for symbol, position in account.positions.items():
        (options if parse_option(symbol) else stocks).append(world.mark(symbol, position))
    midnight = start_of_day(world.now)
    held = {symbol: position.quantity for symbol, position in account.positions.items()}
    rate = MARGIN_RATE[account.type]
    return Valuation(
        total_cash=account.cash,
        stock_long=sum((worth for worth in stocks if worth > 0), ZERO),
        stock_short=sum((worth for worth in stocks if worth < 0), ZERO),
        option_long=sum((worth for worth in options if worth > 0), ZERO),
        option_short=sum((worth for worth in options if worth < 0), ZERO),
        cost_basis=sum((position.cost_basis for position in account.positions.values()), ZERO),
        close_pl=sum(
            (lot.gain for lot in takewhile(lambda lot: lot.closed >= midnight, reversed(account.closed))), ZERO
        ),
        stock_requirement=sum((abs(worth) * rate for worth in stocks), ZERO),
        option_requirement=option_requirement(world, held),
        pending_cash=sum((reserved(world, order) for order in account.live), ZERO),
    )


def option_requirement(world: World, held: Mapping[str, Decimal]) -> Decimal:
    """The most short options can cost at expiration, per root and expiration; naked calls: a fifth of the shares."""
    groups: dict[tuple[str, str], list[tuple[Option, Decimal]]] = defaultdict(list)
    for symbol, quantity in held.items():
        option = parse_option(symbol)
        if option is not None:
            groups[option.root, option.expiration.isoformat()].append((option, quantity))
    return sum((_worst_case(world, legs) for legs in groups.values()), ZERO)


def _worst_case(world: World, legs: list[tuple[Option, Decimal]]) -> Decimal:
    if all(quantity > 0 for _, quantity in legs):
        return ZERO
    # A payoff at expiration is a broken line: its lowest point lies at zero or on a strike, or it falls without end.
    corners = [ZERO, *(option.strike for option, _ in legs)]
    lowest = min(sum((option.intrinsic(spot) * quantity for option, quantity in legs), ZERO) for spot in corners)
    calls = sum((quantity for option, quantity in legs if option.right == "call"), ZERO)
    naked = max(ZERO, -calls) * (world.market.price(legs[0][0].underlying, world.now) or ZERO) * _NAKED_CALL_RATE
    return (max(ZERO, -lowest) + naked) * CONTRACT_SIZE


def reserved(world: World, order: Order) -> Decimal:
    """Cash an accepted order would still pay out if it filled now, USD; nothing for sales and credits."""
    if order.status == "pending":
        return ZERO
    if order.cls in BRACKETS:
        # Two legs that exclude each other, or follow each other, never spend at the same time.
        return max((reserved(world, leg) for leg in order.legs if leg.is_live), default=ZERO)
    price = order.price
    if price is None or order.type in {"credit", "even"}:
        price = natural_price(world.market, order, world) if order.type in {"market", "stop"} else ZERO
    per_unit = CONTRACT_SIZE if order.legs or order.option_symbol else 1
    return max(ZERO, price * order.sign) * order.remaining * per_unit if price is not None else ZERO


def estimate(world: World, order: Order, *, limit: bool = True) -> tuple[Decimal, Decimal]:
    """(cost, fees) of a whole order at its limit or at the market, USD; a negative cost is received."""
    cost = fees = ZERO
    for part in order.legs or [order]:
        # The price of a leg is its parent's net, which says nothing about the leg.
        price = part.price if limit and not order.legs else None
        price = price if price is not None else natural_price(world.market, part, world)
        cost += (price or ZERO) * part.sign * part.quantity * multiplier(part.instrument)
        fees += part.quantity * FEE_PER_CONTRACT if part.option_symbol else ZERO
    return cost, fees


def natural_price(market: Market, order: Order, world: World, *, mid: bool = False) -> Decimal | None:
    """Price of one unit if bought at the ask and sold at the bid (`mid`: at the middle); None without a quote.

    Of a multi-leg order: the net per share, positive when paid, negative when received.
    """
    if not order.legs:
        quote = market.quote(order.instrument, world.now)
        if quote is None:
            return None
        return quote.mark if mid else quote.ask if order.sign > 0 else quote.bid
    net = ZERO
    for leg in order.legs:
        price = natural_price(market, leg, world, mid=mid)
        if price is None:
            return None
        units = leg.quantity / order.quantity
        net += price * leg.sign * (units if leg.option_symbol else units / CONTRACT_SIZE)
    return net
