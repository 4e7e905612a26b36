"""Small worlds in which only the test trades."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from tradier_pipeline.simulator import bodies
from tradier_pipeline.simulator.exchange import advance, place
from tradier_pipeline.simulator.market import multiplier, parse_option
from tradier_pipeline.simulator.strategy import AccountPlan, create_world
from tradier_pipeline.simulator.tickets import read_ticket
from tradier_pipeline.simulator.wire import Json
from tradier_pipeline.simulator.world import BRACKETS, Account, AccountType, Order, World

MONDAY_NOON = datetime(2026, 11, 16, 17, 0, tzinfo=UTC)
ACCOUNT = "TST00000001"


def quiet_world(account_type: AccountType = "margin", cash: str = "100000") -> tuple[World, Account]:
    """A world at Monday noon in New York with one empty account."""
    world = create_world(MONDAY_NOON, 7, (AccountPlan(ACCOUNT, account_type, Decimal(cash), trader=False),))
    return world, world.accounts[ACCOUNT]


def order(world: World, account: Account, **form: str) -> Order:
    """Place what an HTTP form with these parameters would; `class_` is class, `side_0` is side[0]."""
    names = {key: re.sub(r"_(\d)$", r"[\1]", key).rstrip("_") for key in form}
    fields = {names[key]: value for key, value in form.items()}
    return place(world, account, read_ticket({"duration": "day", **fields}, world.now))


def wait(world: World, **delta: float) -> None:
    advance(world, world.now + timedelta(**delta))


def body(value: Json) -> dict[str, Json]:
    assert isinstance(value, dict)
    return value


def assert_books_balance(world: World) -> None:
    """Every law of the books, each from another source than the one that keeps it."""
    numbers: list[int] = []
    for account in world.accounts.values():
        assert_history_explains(account)
        _assert_gains(account)
        _assert_fills(account)
        for placed in account.orders:
            numbers.append(placed.id)
            numbers += [leg.id for leg in placed.legs]
            for part in [placed, *placed.legs]:
                if part.is_live:
                    assert part.executed + part.remaining == part.quantity
                assert part.executed <= part.quantity
            if placed.legs and placed.cls not in BRACKETS:
                assert all(leg.executed * placed.quantity == placed.executed * leg.quantity for leg in placed.legs)
        row = body(body(bodies.balances(world, account))["balances"])
        total, cash, market = (Decimal(str(row[name])) for name in ("total_equity", "total_cash", "market_value"))
        assert total == cash + market
        assert cash == account.cash
    assert sorted(set(numbers)) == sorted(numbers)
    assert all(number < world.next_order_id for number in numbers)


def assert_history_explains(account: Account) -> None:
    """Cash, positions and gains are what the rows of the history add up to."""
    assert account.cash == account.opening_cash + sum(event.amount for event in account.history)
    moved = dict(account.opening_positions)
    for event in account.history:
        if event.symbol:
            moved[event.symbol] = moved.get(event.symbol, Decimal(0)) + event.quantity
    held = {symbol: position.quantity for symbol, position in account.positions.items()}
    assert held == {symbol: quantity for symbol, quantity in moved.items() if quantity}


def _assert_gains(account: Account) -> None:
    outside = sum(event.amount for event in account.history if event.kind in {"ach", "dividend"})
    fees = sum(event.commission for event in account.history)
    basis = sum(position.cost_basis for position in account.positions.values())
    assert account.cash + basis == account.opening_cash + outside + sum(lot.gain for lot in account.closed) - fees


def _assert_fills(account: Account) -> None:
    expected = dict(account.opening_positions)
    for placed in account.orders:
        for part in placed.legs or [placed]:
            expected[part.instrument] = expected.get(part.instrument, Decimal(0)) + part.sign * part.executed
    for event in account.history:
        if event.kind != "option":
            continue
        option = parse_option(event.symbol or "")
        assert option is not None
        expected[option.symbol] = expected.get(option.symbol, Decimal(0)) + event.quantity
        if event.option_type != "OPTEXP" and not option.settles_in_cash:
            shares = -event.quantity * multiplier(option.symbol) * (1 if option.right == "call" else -1)
            expected[option.underlying] = expected.get(option.underlying, Decimal(0)) + shares
    held = {symbol: position.quantity for symbol, position in account.positions.items()}
    assert held == {symbol: quantity for symbol, quantity in expected.items() if quantity}
