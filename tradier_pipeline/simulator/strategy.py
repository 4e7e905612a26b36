"""The demo accounts and the trader who keeps them alive: entries, exits, resting, canceled and rejected orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from random import Random

from tradier_pipeline.core.settings import DEMO_ACCOUNT
from tradier_pipeline.simulator.exchange import advance, cancel, place
from tradier_pipeline.simulator.margin import natural_price, value
from tradier_pipeline.simulator.market import Option, describe, option_symbol, parse_option
from tradier_pipeline.simulator.tickets import Ticket, strategy_name
from tradier_pipeline.simulator.world import (
    BRACKETS,
    Account,
    AccountType,
    Order,
    Position,
    World,
    new_york_date,
    next_close,
    to_milliseconds,
)

DEMO_SEED = 7
_HISTORY = timedelta(days=6)  # lived through before the first request, so that there is something to see
_TODAY = timedelta(hours=8)
_STEPS_PER_DIVIDEND = 50
_DIVIDEND = Decimal("0.12")
_TAG = "demo-"
_CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Trader:
    """What an account of the demo trades, and how often: `pause` is the mean time between two actions."""

    roots: tuple[str, ...]
    tickers: tuple[str, ...]
    pause: timedelta
    option_legs: int
    cash: Decimal
    lots: int


@dataclass(frozen=True, slots=True)
class AccountPlan:
    """An account a new world starts with. Without a trader only what is asked for over HTTP happens in it."""

    id: str
    type: AccountType
    cash: Decimal
    trader: bool = True


_TRADERS: dict[AccountType, Trader] = {
    "margin": Trader(
        ("SPY", "AAPL", "SPXW"), ("AAPL", "MSFT", "KO", "F", "BRK/B"), timedelta(minutes=30), 8, Decimal(250000), 3
    ),
    "cash": Trader((), ("KO", "F", "XLF", "GE"), timedelta(hours=6), 0, Decimal(20000), 2),
    "pdt": Trader(("QQQ", "IWM"), ("NVDA", "MSFT"), timedelta(hours=4), 4, Decimal(60000), 2),
}
DEMO_ACCOUNTS = (
    AccountPlan(DEMO_ACCOUNT, "margin", _TRADERS["margin"].cash),
    AccountPlan("SIM00000002", "cash", _TRADERS["cash"].cash),
    AccountPlan("SIM00000003", "pdt", _TRADERS["pdt"].cash),
)
_STRIKE_STEP = {"SPY": 5, "AAPL": 5, "SPXW": 25, "QQQ": 5, "IWM": 2}


def create_world(now: datetime, seed: int = DEMO_SEED, plans: Sequence[AccountPlan] = DEMO_ACCOUNTS) -> World:
    """A world at `now` with some days behind it."""
    now = to_milliseconds(now)
    start = now - _HISTORY
    world = World(seed=seed, now=start, next_close=next_close(start))
    for plan in plans:
        account = Account(plan.id, plan.type, created=start)
        world.accounts[plan.id] = account
        world.credit(account, plan.cash, "ach", "ACH DEPOSIT")
        if plan.trader:
            _first_purchases(world, account)
            account.wakes_at = start + timedelta(minutes=15)
    traders = [world.accounts[plan.id] for plan in plans if plan.trader]
    advance(world, now - _TODAY, act)  # in one leap, coarsely
    for account in traders:
        _fill_up(world, account)
    advance(world, now, act)
    for account in traders:
        account.steps += 1
        _rest(world, account, _dice(world, account))
        _trade_shares(world, account, _dice(world, account))
        account.wakes_at = now + timedelta(seconds=40)
    return world


def act(world: World, account: Account) -> datetime:
    """One action of the account's trader, and when the next is due."""
    trader, dice = _TRADERS[account.type], _dice(world, account)
    account.steps += 1
    _receive(world, account, trader, dice)
    own = [order for order in account.live if (order.tag or "").startswith(_TAG)]  # leave a user's orders alone
    legs = [option for symbol in account.positions if (option := parse_option(symbol))]
    expiring = new_york_date(world.now) + timedelta(days=2)
    throw = dice.random()
    if len(own) > 4 or (own and throw < 0.12):
        cancel(world, account, own[0])
    elif throw < 0.16:
        _ask_too_much(world, account, dice)
    elif throw < 0.30:
        _rest(world, account, dice)
    elif len(legs) < trader.option_legs:
        _enter(world, account, dice)
    elif legs and (throw < 0.5 or (throw < 0.8 and any(leg.expiration <= expiring for leg in legs))):
        _exit(world, account, dice)
    elif throw < 0.6:
        _protect(world, account, dice)
    else:
        _trade_shares(world, account, dice)
    return world.now + trader.pause * dice.uniform(0.5, 1.5)


def _receive(world: World, account: Account, trader: Trader, dice: Random) -> None:
    """A dividend now and then, and a deposit when the money runs out: the demo goes on for years."""
    if account.steps % _STEPS_PER_DIVIDEND == 0:
        ticker = dice.choice(trader.tickers)
        world.credit(account, max(account.quantity(ticker), Decimal(0)) * _DIVIDEND, "dividend", describe(ticker))
    if value(world, account).free_cash < trader.cash / 10:
        world.credit(account, trader.cash / 2, "ach", "ACH DEPOSIT")


def _dice(world: World, account: Account) -> Random:
    """Chance that every process throws alike."""
    return Random(f"{world.seed}:{account.id}:{account.steps}")  # noqa: S311 - a simulation, not a secret


def _tag(account: Account, what: str) -> str:
    """Of this account alone: the tag of a spread is its id in the ledger."""
    return f"{_TAG}{account.id[-2:]}-{what}-{account.steps:04d}"


def _first_purchases(world: World, account: Account) -> None:
    trader, dice = _TRADERS[account.type], _dice(world, account)
    for ticker in trader.tickers:
        shares = Decimal(dice.randint(1, 4) * (10 if account.type == "margin" else 5))
        place(world, account, Ticket("equity", "market", ticker, None, "buy", shares, tag=_tag(account, "core")))
    _fill_up(world, account)


def _fill_up(world: World, account: Account) -> None:
    """Enter as many spreads as the account usually holds."""
    held = sum(1 for symbol in account.positions if parse_option(symbol))
    for _ in range((_TRADERS[account.type].option_legs - held + 1) // 2):
        account.steps += 1
        _enter(world, account, _dice(world, account))


def _expirations(today: date) -> list[date]:
    """The Fridays between one and five weeks ahead."""
    friday = today + timedelta(days=(4 - today.weekday()) % 7)
    return [friday + timedelta(weeks=week) for week in range(1, 5)]


def _enter(world: World, account: Account, dice: Random) -> None:
    """Open a vertical spread near the money: sold for a credit or bought for a debit, at the middle."""
    trader = _TRADERS[account.type]
    root = dice.choice(trader.roots)
    underlying = "SPX" if root == "SPXW" else root
    spot = world.market.price(underlying, world.now)
    assert spot is not None
    step = _STRIKE_STEP[root]
    expiration = _quietest(account, dice.sample(_expirations(new_york_date(world.now)), 2))
    right, away = dice.choice(["call", "put"]), dice.randint(0, 3)
    outward = 1 if right == "call" else -1
    near = Decimal(int(spot / step) * step + outward * away * step)
    far = near + outward * step * dice.randint(1, 2)
    contracts = [option_symbol(root, expiration, right, strike) for strike in (near, far)]
    if any(contract in account.positions or contract in _traded(account) for contract in contracts):
        return  # it would net against another spread
    quantity = Decimal(dice.randint(1, trader.lots))
    sides = ("sell_to_open", "buy_to_open") if dice.random() < 0.6 else ("buy_to_open", "sell_to_open")
    _place_spread(world, account, underlying, contracts, sides, quantity, "entry")


def _quietest(account: Account, expirations: Sequence[date]) -> date:
    """The expiration with the fewest holdings, so that they spread over several."""
    held = [option.expiration for symbol in account.positions if (option := parse_option(symbol))]
    return min(expirations, key=held.count)


def _exit(world: World, account: Account, dice: Random) -> None:
    """Close a vertical spread: the pair that expires first, or any."""
    pairs = _pairs(account)
    if not pairs:
        return
    one, other = pairs[0] if dice.random() < 0.5 else dice.choice(pairs)
    quantity = min(abs(account.quantity(one.symbol)), abs(account.quantity(other.symbol)))
    sides = tuple("sell_to_close" if account.quantity(leg.symbol) > 0 else "buy_to_close" for leg in (one, other))
    _place_spread(world, account, one.underlying, [one.symbol, other.symbol], sides, quantity, "exit")


def _traded(account: Account) -> set[str]:
    """What live orders are about."""
    return {leg.instrument for order in account.live for leg in order.legs or [order]}


def _pairs(account: Account) -> list[tuple[Option, Option]]:
    """Long and short leg of each vertical spread, nearest expiration first, none of them being traded now.

    Legs that one order opened follow each other; others that would fit as well belong to another spread.
    """
    busy = _traded(account)
    held = sorted((position for position in account.positions.values() if parse_option(position.symbol)), key=_opened)
    pairs: list[tuple[Option, Option]] = []
    for _, group in groupby(held, key=lambda position: position.opened):
        legs = [option for position in group if (option := parse_option(position.symbol))]
        for one, other in zip(legs[::2], legs[1::2], strict=False):
            long_, short = (one, other) if account.quantity(one.symbol) > 0 else (other, one)
            if (
                busy.isdisjoint((one.symbol, other.symbol))
                and account.quantity(long_.symbol) > 0 > account.quantity(short.symbol)
                and (one.root, one.expiration, one.right) == (other.root, other.expiration, other.right)
            ):
                pairs.append((long_, short))
    return sorted(pairs, key=lambda pair: (pair[0].expiration, pair[0].symbol, pair[1].symbol))


def _opened(position: Position) -> tuple[datetime, int]:
    return position.opened, position.id


def _place_spread(
    world: World,
    account: Account,
    underlying: str,
    contracts: Sequence[str],
    sides: Sequence[str],
    quantity: Decimal,
    what: str,
) -> None:
    legs = tuple(
        Ticket("option", None, underlying, contract, side, quantity)
        for contract, side in zip(contracts, sides, strict=True)
    )
    net = _net(world, legs, quantity)
    if net is None:
        return
    kind = "credit" if net < 0 else "debit"
    # On the cent, on the side that makes the order marketable at the middle.
    price = max(_CENT, abs(net).quantize(_CENT) + (_CENT if kind == "debit" else -_CENT))
    place(
        world,
        account,
        Ticket(
            cls="multileg",
            type=kind,
            symbol=underlying,
            side="buy",
            price=price,
            tag=_tag(account, what),
            strategy=strategy_name(legs),
            legs=tuple(
                Ticket("option", kind, underlying, leg.option_symbol, leg.side, leg.quantity, price=price)
                for leg in legs
            ),
        ),
    )


def _net(world: World, legs: Sequence[Ticket], quantity: Decimal) -> Decimal | None:
    """What one unit of the legs costs at the middle, USD per share; negative when received."""
    epoch = datetime.fromtimestamp(0, UTC)
    parts = [
        Order(0, "option", epoch, epoch, option_symbol=leg.option_symbol, side=leg.side, quantity=leg.quantity)
        for leg in legs
    ]
    whole = Order(0, "multileg", epoch, epoch, side="buy", quantity=quantity, legs=parts)
    return natural_price(world.market, whole, world, mid=True)


def _rest(world: World, account: Account, dice: Random) -> None:
    """A good-til-canceled bid that the market will hardly reach."""
    ticker = dice.choice(_TRADERS[account.type].tickers)
    spot = world.market.price(ticker, world.now)
    assert spot is not None
    price = (spot * Decimal(dice.choice(["0.80", "0.85", "0.90"]))).quantize(_CENT)
    shares = Decimal(dice.randint(1, 5))
    ticket = Ticket("equity", "limit", ticker, None, "buy", shares, "gtc", price, tag=_tag(account, "bid"))
    place(world, account, ticket)


def _trade_shares(world: World, account: Account, dice: Random) -> None:
    """Buy a few shares at a limit, or sell half a holding at the market."""
    ticker = dice.choice(_TRADERS[account.type].tickers)
    quote = world.market.quote(ticker, world.now)
    assert quote is not None
    held = account.quantity(ticker)
    if held < 0:  # short after an assignment
        place(
            world, account, Ticket("equity", "market", ticker, None, "buy_to_cover", -held, tag=_tag(account, "cover"))
        )
    elif held > 10:
        half = Decimal(int(held / 2))
        place(world, account, Ticket("equity", "market", ticker, None, "sell", half, tag=_tag(account, "trim")))
    else:
        shares = Decimal(dice.randint(2, 10))
        ticket = Ticket("equity", "limit", ticker, None, "buy", shares, "day", quote.ask, tag=_tag(account, "add"))
        place(world, account, ticket)


def _protect(world: World, account: Account, dice: Random) -> None:
    """Sell a holding at a profit or at a loss, whichever comes first: one order cancels the other."""
    if any(order.cls in BRACKETS for order in account.live):
        return
    held = [
        symbol for symbol, position in account.positions.items() if position.quantity > 1 and not parse_option(symbol)
    ]
    if not held:
        return
    ticker = dice.choice(held)
    spot = world.market.price(ticker, world.now)
    if spot is None:
        return
    shares = Decimal(int(account.quantity(ticker) / 2))
    above, below = ((spot * Decimal(factor)).quantize(_CENT) for factor in ("1.004", "0.996"))
    legs = (
        Ticket("equity", "limit", ticker, None, "sell", shares, "gtc", above),
        Ticket("equity", "stop", ticker, None, "sell", shares, "gtc", None, below),
    )
    place(world, account, Ticket("oco", duration="gtc", tag=_tag(account, "guard"), legs=legs))


def _ask_too_much(world: World, account: Account, dice: Random) -> None:
    """An order the broker rejects: more than the account can pay, or shares it does not have."""
    ticker = dice.choice(_TRADERS[account.type].tickers)
    if dice.random() < 0.5:
        ticket = Ticket("equity", "market", ticker, None, "buy", Decimal(1000000), tag=_tag(account, "dream"))
    else:
        shares = max(account.quantity(ticker), Decimal(0)) + 5
        ticket = Ticket("equity", "market", ticker, None, "sell", shares, tag=_tag(account, "slip"))
    place(world, account, ticket)
