"""The simulation's own controls: faults, clock, request log, and worlds forced into any shape. Loopback only."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tradier_pipeline.simulator.faults import FAULTS, Switchboard
from tradier_pipeline.simulator.store import Store, dump_world
from tradier_pipeline.simulator.strategy import DEMO_ACCOUNTS, DEMO_SEED, AccountPlan, create_world
from tradier_pipeline.simulator.streams import Streams
from tradier_pipeline.simulator.wire import Json, dumps, loads
from tradier_pipeline.simulator.world import Account, AccountType, Position, to_milliseconds

_LOGGED = 10_000


class _Strict(BaseModel):
    # Built on first use: only tests ask for these, and every start would pay.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class ForcedPosition(_Strict):
    """A holding as it is to be listed."""

    symbol: str
    quantity: Decimal
    cost_basis: Decimal
    date_acquired: datetime | None = None


class ForcedAccount(_Strict):
    """The whole new state of one account. Nobody trades in it by itself; what is not named is empty."""

    account: str
    type: AccountType | None = None
    cash: Decimal = Decimal("100000.00")
    positions: tuple[ForcedPosition, ...] = ()
    orders: tuple[Mapping[str, Any], ...] = ()


class NewAccount(_Strict):
    """An account of a new world; `trader` says whether the demo strategy trades in it."""

    id: str
    type: AccountType = "margin"
    cash: Decimal = Decimal("100000.00")
    trader: bool = False


class Reset(_Strict):
    seed: int = DEMO_SEED
    accounts: tuple[NewAccount, ...] | None = None


class Moment(_Strict):
    now: datetime


class Controls:
    """What the controls act on: the store, the clock, the faults and the log of requests."""

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self.store = store
        self.switchboard = Switchboard()
        self.streams = Streams(store, self.now)
        self.requests: deque[dict[str, Json]] = deque(maxlen=_LOGGED)
        self.frozen: datetime | None = None
        self._clock = clock

    def now(self) -> datetime:
        """The frozen instant, or the clock's, in UTC."""
        return (self.frozen or self._clock()).astimezone(UTC)


def admin_routes(controls: Controls) -> list[Route]:
    """Routes relative to /_simulator."""

    async def set_faults(request: Request) -> Response:
        controls.switchboard.set(FAULTS.validate_json(await request.body()))
        return _done()

    async def clear_faults(_: Request) -> Response:
        controls.switchboard.clear()
        return _done()

    async def list_requests(_: Request) -> Response:
        return _json(dumps(list(controls.requests)))

    async def clear_requests(_: Request) -> Response:
        controls.requests.clear()
        return _done()

    async def set_clock(request: Request) -> Response:
        moment = Moment.model_validate_json(await request.body())
        if moment.now.tzinfo is None:
            raise ValueError("now: a time zone is required")
        controls.frozen = moment.now
        return _done()

    async def release_clock(_: Request) -> Response:
        controls.frozen = None
        return _done()

    async def reset(request: Request) -> Response:
        asked = Reset.model_validate_json(await request.body() or b"{}")
        plans: tuple[AccountPlan, ...] = DEMO_ACCOUNTS
        if asked.accounts is not None:
            plans = tuple(AccountPlan(one.id, one.type, one.cash, one.trader) for one in asked.accounts)
        controls.store.replace(create_world(controls.now(), asked.seed, plans))
        return _done()

    async def force(request: Request) -> Response:
        # Parsed by hand, so that the number literals of forced orders stay as they were written.
        document = loads(await request.body())
        forced = ForcedAccount.model_validate(document)
        with controls.store.at(controls.now()) as world:
            old = world.accounts.get(forced.account)
            created = old.created if old else world.now
            account = Account(forced.account, forced.type or (old.type if old else "margin"), created)
            account.cash = account.opening_cash = forced.cash
            for wanted in forced.positions:
                acquired = to_milliseconds(wanted.date_acquired or world.now)
                account.positions[wanted.symbol] = Position(
                    world.next_position_id, wanted.symbol, wanted.quantity, wanted.cost_basis, acquired, acquired
                )
                account.opening_positions[wanted.symbol] = wanted.quantity
                world.next_position_id += 1
            account.listed = [dumps(dict(order)) for order in forced.orders]
            world.accounts[forced.account] = account
            world.version += 1
        return _done()

    async def drop_streams(_: Request) -> Response:
        controls.streams.drop()
        return _done()

    async def show(_: Request) -> Response:
        with controls.store.at(controls.now()) as world:
            return _json(dump_world(world))

    return [
        Route("/faults", set_faults, methods=["POST"]),
        Route("/faults", clear_faults, methods=["DELETE"]),
        Route("/requests", list_requests, methods=["GET"]),
        Route("/requests", clear_requests, methods=["DELETE"]),
        Route("/clock", set_clock, methods=["POST"]),
        Route("/clock", release_clock, methods=["DELETE"]),
        Route("/reset", reset, methods=["POST"]),
        Route("/streams", drop_streams, methods=["DELETE"]),
        Route("/world", force, methods=["POST"]),
        Route("/world", show, methods=["GET"]),
    ]


def _json(text: str | bytes) -> Response:
    return Response(text, media_type="application/json")


def _done() -> Response:
    return _json('{"status":"ok"}')
