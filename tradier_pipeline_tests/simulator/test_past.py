"""The demo accounts have a past: it adds up, it happened while the exchange was open, and it is everybody's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path

import httpx

from tradier_pipeline.domain.calendar import session_of
from tradier_pipeline.simulator.app import create_app
from tradier_pipeline.simulator.exchange import advance, place
from tradier_pipeline.simulator.margin import value
from tradier_pipeline.simulator.market import closes_at, parse_option
from tradier_pipeline.simulator.server import running
from tradier_pipeline.simulator.store import Store, dump_world
from tradier_pipeline.simulator.strategy import act, create_world
from tradier_pipeline.simulator.tickets import Ticket
from tradier_pipeline.simulator.wire import loads
from tradier_pipeline.simulator.world import Account, World, new_york_date
from tradier_pipeline_tests.simulator.conftest import HEADERS, NOON
from tradier_pipeline_tests.simulator.worlds import assert_books_balance
from tradier_pipeline_tests.support.sampling import sampled

THANKSGIVING = datetime(2026, 11, 26, 17, 0, tzinfo=UTC)
HALF_DAY = datetime(2026, 11, 27, 19, 30, tzinfo=UTC)  # 14:30 in New York; the exchange closed at 13:00
SUNDAY = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
BEFORE_THE_BELL = datetime(2026, 11, 16, 14, 0, tzinfo=UTC)
INSTANTS = (NOON, THANKSGIVING, HALF_DAY, SUNDAY, BEFORE_THE_BELL)

PRINT_PAST = """
from datetime import datetime
from tradier_pipeline.simulator.store import dump_world
from tradier_pipeline.simulator.strategy import create_world
print(dump_world(create_world(datetime.fromisoformat({!r}))).decode())
"""


def fills(account: Account) -> Iterator[datetime]:
    """When an order of the account traded: of its orders, and of its history, which has assignments at 16:00 too."""
    for order in account.orders:
        for part in order.legs or [order]:
            if part.status == "filled":
                yield part.updated
    yield from (
        event.at for event in account.history if event.kind == "trade" and event.at != closes_at(event.at.date())
    )


def in_session(at: datetime) -> bool:
    session = session_of(new_york_date(at))
    return session is not None and at in session


@sampled("now", INSTANTS)
def test_every_fill_lies_inside_a_regular_session(now: datetime) -> None:
    world = create_world(now)
    advance(world, now + timedelta(days=3), act)
    for account in world.accounts.values():
        seen = list(fills(account))
        assert len(seen) > 20
        assert [at for at in seen if not in_session(at)] == []


@cache
def world_of(now: datetime) -> World:
    """A new world that nobody changes."""
    return create_world(now)


@sampled("now", INSTANTS, kept=(0, 2, 3))
def test_the_past_adds_up_to_the_balances_of_now(now: datetime) -> None:
    world = world_of(now)
    assert_books_balance(world)
    for account in world.accounts.values():
        deposits, dividends, fees = (_moved(account, kind) for kind in ("ach", "dividend", "fee"))
        realized = sum((lot.gain for lot in account.closed), Decimal(0))
        paid = sum((event.commission for event in account.history), Decimal(0))
        worth = value(world, account)
        unrealized = worth.market_value - worth.cost_basis
        assert worth.total_equity == deposits + dividends + fees + realized + unrealized - paid


def _moved(account: Account, kind: str) -> Decimal:
    return sum((event.amount for event in account.history if event.kind == kind), Decimal(0))


@sampled("now", INSTANTS, kept=(0, 2, 3))
def test_every_session_of_the_past_has_its_equity_and_no_other_day(now: datetime) -> None:
    world = world_of(now)
    for account in world.accounts.values():
        since = new_york_date(account.created)
        days = (since + timedelta(days=n) for n in range((new_york_date(now) - since).days + 1))
        sessions = [
            day for day in days if session_of(day) and now >= datetime(day.year, day.month, day.day, 21, tzinfo=UTC)
        ]
        assert list(account.closing_equity) == sessions
        assert len(sessions) >= 24


def test_every_closed_lot_was_opened_and_closed_by_trades_or_expirations() -> None:
    world = world_of(NOON)
    for account in world.accounts.values():
        for symbol in {lot.symbol for lot in account.closed}:
            lots = sum((lot.proceeds - lot.cost for lot in account.closed if lot.symbol == symbol), Decimal(0))
            events = [event for event in account.history if event.symbol == symbol]
            held = account.positions[symbol].cost_basis if symbol in account.positions else Decimal(0)
            # an exercise or assignment moves shares at the strike, which is a trade of its own
            assert lots == sum((event.amount + event.commission for event in events), Decimal(0)) + held
    assert any(parse_option(lot.symbol) for lot in world.accounts["SIM00000001"].closed)


def test_two_processes_have_the_same_past() -> None:
    command = [sys.executable, "-c", PRINT_PAST.format(NOON.isoformat())]
    other = subprocess.check_output(command, text=True, env={**os.environ, "PYTHONHASHSEED": "1"})
    assert dump_world(world_of(NOON)).decode() == other.rstrip("\n")


def test_the_past_is_the_same_whenever_on_a_day_one_begins() -> None:
    morning, evening = world_of(NOON), create_world(NOON + timedelta(hours=8))
    for one, other in zip(morning.accounts.values(), evening.accounts.values(), strict=True):
        assert _until_yesterday(one) == _until_yesterday(other)
        assert {day: one.closing_equity[day] for day in one.closing_equity} == {
            day: other.closing_equity[day] for day in one.closing_equity
        }


def _until_yesterday(account: Account) -> list[object]:
    return [event for event in account.history if new_york_date(event.at) < new_york_date(NOON)]


def test_an_order_placed_on_a_holiday_waits_pending_for_the_next_session(tmp_path: Path) -> None:
    instant = THANKSGIVING
    with (
        running(create_app(Store(tmp_path), clock=lambda: instant)) as url,
        httpx.Client(base_url=url, headers=HEADERS, timeout=60) as broker,
    ):
        path = "/v1/accounts/SIM00000001/orders"
        form = {"class": "equity", "symbol": "F", "side": "buy", "quantity": "1", "type": "market", "duration": "day"}
        number = broker.post(path, data=form).json()["order"]["id"]
        instant += timedelta(hours=20)
        assert broker.get(f"{path}/{number}").json()["order"]["status"] == "pending"
        instant = datetime(2026, 11, 27, 14, 35, tzinfo=UTC)
        assert broker.get(f"{path}/{number}").json()["order"]["status"] == "filled"


def test_an_order_that_can_never_trade_is_rejected_while_the_exchange_is_closed_too() -> None:
    world = create_world(THANKSGIVING)
    account = world.accounts["SIM00000001"]
    order = place(world, account, Ticket("equity", "market", "F", None, "buy", Decimal(10_000_000)))
    advance(world, world.now + timedelta(seconds=5))
    assert order.status == "rejected"


def test_the_endpoints_tell_the_same_past(tmp_path: Path) -> None:
    with (
        running(create_app(Store(tmp_path), clock=lambda: BEFORE_THE_BELL)) as url,
        httpx.Client(base_url=url, headers=HEADERS, timeout=60) as broker,
    ):
        for number in range(1, 4):
            _assert_told(broker, f"/v1/accounts/SIM0000000{number}")


def _assert_told(broker: httpx.Client, account: str) -> None:
    def rows(path: str, outer: str, inner: str) -> list[dict]:
        body = loads(broker.get(f"{account}/{path}", params={"limit": 1000}).text)
        found = body[outer][inner]
        return found if isinstance(found, list) else [found]  # type: ignore[list-item]

    events = rows("history", "history", "event")
    lots = rows("gainloss", "gainloss", "closed_position")
    held = rows("positions", "positions", "position")
    balances = loads(broker.get(f"{account}/balances").text)["balances"]
    days = loads(broker.get(f"{account}/historical-balances", params={"period": "ALL"}).text)["balances"]
    assert balances["total_cash"] == sum(event["amount"] for event in events)
    outside = sum(event["amount"] for event in events if event["type"] in {"ach", "dividend"})
    fees = sum(event["trade"]["commission"] for event in events if event["type"] == "trade")
    basis = sum(row["cost_basis"] for row in held)
    assert balances["total_cash"] + basis == outside - fees + sum(lot["gain_loss"] for lot in lots)
    assert len(days) >= 24
    assert date.fromisoformat(days[-1]["date"]) == date(2026, 11, 13)


def test_a_world_keeps_its_calendar_when_it_is_read_again(tmp_path: Path) -> None:
    with Store(tmp_path).at(NOON):
        pass
    with Store(tmp_path).at(SUNDAY) as world:
        assert isinstance(world, World)
        assert not world.is_open
