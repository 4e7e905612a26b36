"""The simulated broker as an ASGI app: Tradier's routes under /v1, the simulation's own controls under /_simulator."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.settings import DEMO_TOKEN
from tradier_pipeline.simulator import bodies
from tradier_pipeline.simulator.admin import Controls, admin_routes
from tradier_pipeline.simulator.exchange import FinalizedOrderError, cancel, change, draft, place
from tradier_pipeline.simulator.faults import ENDLESS, LAG, FaultGate
from tradier_pipeline.simulator.fundamentals import Fundamentals
from tradier_pipeline.simulator.limits import Limits, Meter
from tradier_pipeline.simulator.margin import estimate
from tradier_pipeline.simulator.market_data import MarketData
from tradier_pipeline.simulator.market_streams import MarketStreams
from tradier_pipeline.simulator.params import day, flag, number, parameters, respond
from tradier_pipeline.simulator.store import Store
from tradier_pipeline.simulator.tickets import InvalidParameterError, read_change, read_ticket
from tradier_pipeline.simulator.watchlists import Watchlists
from tradier_pipeline.simulator.wire import Json, dumps
from tradier_pipeline.simulator.world import Account, Order, World

TRADIER_LIMITS = Limits()

_FAULT_BODY: Json = {
    "fault": {
        "faultstring": "Invalid Access Token",
        "detail": {"errorcode": "keymanagement.service.invalid_access_token"},
    }
}
_PERIODS = frozenset({"WEEK", "MONTH", "YTD", "YEAR", "YEAR_3", "YEAR_5", "ALL"})


def utc_now() -> datetime:
    return datetime.now(UTC)


def create_app(
    store: Store,
    *,
    clock: Callable[[], datetime] = utc_now,
    token: str | None = DEMO_TOKEN,
    limits: Limits | None = TRADIER_LIMITS,
) -> Starlette:
    """The broker over a store.

    Args:
        clock: the instant of every answer; `/_simulator/clock` can set it aside.
        token: the access token that is accepted; None accepts any.
        limits: requests a minute; None does not count.
    """
    controls = Controls(store, clock)
    broker = Starlette(routes=Broker(controls).routes(), exception_handlers={InvalidParameterError: _refuse_parameter})
    guarded = FaultGate(Guard(broker, controls, token, Meter(limits) if limits else None), controls.switchboard)
    return Starlette(
        routes=[
            Mount(
                "/_simulator", app=Starlette(routes=admin_routes(controls), exception_handlers={ValueError: _explain})
            ),
            Mount("", app=Journal(guarded, controls)),
        ],
        exception_handlers={PipelineError: _explain},
    )


class Journal:
    """ASGI middleware that notes every request: method, path, query, status, instant; never the token."""

    def __init__(self, app: ASGIApp, controls: Controls) -> None:
        self._app = app
        self._controls = controls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        entry: dict[str, Json] = {
            "method": scope.get("method", "GET"),  # a WebSocket has none
            "path": scope["path"],
            "query": scope["query_string"].decode(),
            "status": None,
            "at": self._controls.now().isoformat(),
        }
        self._controls.requests.append(entry)

        async def noted(message: Message) -> None:
            if message["type"] in {"http.response.start", "websocket.http.response.start"}:
                entry["status"] = message["status"]
            elif message["type"] == "websocket.accept":
                entry["status"] = 101
            await send(message)

        await self._app(scope, receive, noted)


class Guard:
    """ASGI middleware for what Tradier checks first: the method, the token, the request budget."""

    def __init__(self, app: ASGIApp, controls: Controls, token: str | None, meter: Meter | None) -> None:
        self._app = app
        self._controls = controls
        self._token = token
        self._meter = meter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" or scope["path"] == ENDLESS:  # Tradier: a session id opens it, not the token
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        response: Response | None = None
        headers: dict[str, str] = {}
        scheme, _, presented = request.headers.get("authorization", "").partition(" ")
        if request.method == "HEAD" or not request.url.path.startswith(("/v1/", "/beta/")):
            response = PlainTextResponse("Not Found", 404)
        elif scheme != "Bearer" or not self._accepts(presented):
            response = Response(dumps(_FAULT_BODY), 401, media_type="application/json")
        elif self._meter is not None:
            now = self._controls.now()
            granted, expiry, headers = self._meter.count(presented, request.method, request.url.path, now)
            if not granted:
                # Tradier: text that begins with these words and ends with the window's end.
                response = PlainTextResponse(f"Quota Violation: limit exceeded, resets at {expiry}", 429)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
                message = {**message, "headers": [*message.get("headers", []), *extra]}
            await send(message)

        await (response or self._app)(scope, receive, with_headers)

    def _accepts(self, token: str) -> bool:
        return bool(token) if self._token is None else hmac.compare_digest(token.encode(), self._token.encode())


@dataclass(frozen=True, slots=True)
class Broker:
    """Tradier's endpoints."""

    controls: Controls

    def routes(self) -> list[BaseRoute]:
        account = "/v1/accounts/{account}"
        return [
            Route("/v1/user/profile", self.profile),
            Route(f"{account}/balances", self.balances),
            Route(f"{account}/positions", self.positions),
            Route(f"{account}/orders", self.orders, methods=["GET"]),
            Route(f"{account}/orders", self.place, methods=["POST"]),
            Route(f"{account}/orders/{{order:int}}", self.order, methods=["GET"]),
            Route(f"{account}/orders/{{order:int}}", self.cancel, methods=["DELETE"]),
            Route(f"{account}/orders/{{order:int}}", self.change, methods=["PUT"]),
            Route(f"{account}/gainloss", self.gainloss),
            Route(f"{account}/history", self.history),
            Route(f"{account}/historical-balances", self.historical_balances),
            Route("/v1/accounts/events/session", self.session, methods=["POST"]),
            WebSocketRoute("/v1/accounts/events", self.controls.streams.serve),
            *MarketData(self.controls).routes(),
            *MarketStreams(self.controls).routes(),
            *Fundamentals(self.controls).routes(),
            *Watchlists(self.controls).routes(),
        ]

    def _world(self, request: Request) -> AbstractContextManager[World]:
        now, lag = self.controls.now(), request.scope.get(LAG)
        if lag is not None:
            return self.controls.store.past(now, timedelta(seconds=lag))
        return self.controls.store.at(now)

    async def profile(self, request: Request) -> Response:
        with self._world(request) as world:
            return respond(request, bodies.profile(world))

    async def balances(self, request: Request) -> Response:
        with self._world(request) as world:
            return respond(request, bodies.balances(world, _account(world, request)))

    async def positions(self, request: Request) -> Response:
        with self._world(request) as world:
            return respond(request, bodies.positions(_account(world, request)))

    async def orders(self, request: Request) -> Response:
        params = request.query_params
        page, limit, tags = number(params, "page", 1), number(params, "limit", 25), flag(params, "includeTags")
        with self._world(request) as world:
            account = _account(world, request)
            return respond(request, bodies.orders(world, account, page=page, limit=limit, tags=tags))

    async def order(self, request: Request) -> Response:
        with self._world(request) as world:
            found = _order(_account(world, request), request)
            return respond(request, bodies.order(found, tags=flag(request.query_params, "includeTags")))

    async def place(self, request: Request) -> Response:
        form = await parameters(request)
        with self._world(request) as world:
            account = _account(world, request)
            ticket = read_ticket(form, world.now)
            if flag(form, "preview"):
                drafted = draft(world, ticket)
                cost, fees = estimate(world, drafted)
                return respond(request, bodies.preview(drafted, world.now, cost, fees))
            placed = place(world, account, ticket)
            return respond(request, _acknowledged(placed, partner=True))

    async def cancel(self, request: Request) -> Response:
        with self._world(request) as world:
            account = _account(world, request)
            found = _order(account, request)
            try:
                cancel(world, account, found)
            except FinalizedOrderError as final:
                return _finalized(final)
            return respond(request, _acknowledged(found, partner=False))

    async def change(self, request: Request) -> Response:
        form = await parameters(request)
        with self._world(request) as world:
            found = _order(_account(world, request), request)
            kind, duration, price, stop = read_change(form, found.cls)
            try:
                change(world, found, kind=kind, duration=duration, price=price, stop=stop)
            except FinalizedOrderError as final:
                return _finalized(final)
            return respond(request, _acknowledged(found, partner=True))

    async def gainloss(self, request: Request) -> Response:
        params = request.query_params
        query = bodies.GainLossQuery(
            page=number(params, "page", 1),
            limit=number(params, "limit", 100),
            by_open=params.get("sortBy") == "openDate",
            descending=params.get("sort") != "asc",
            start=day(params, "start"),
            end=day(params, "end"),
            symbol=params.get("symbol", "").upper(),
        )
        with self._world(request) as world:
            return respond(request, bodies.gainloss(world, _account(world, request), query))

    async def history(self, request: Request) -> Response:
        params = request.query_params
        with self._world(request) as world:
            body = bodies.history(
                world,
                _account(world, request),
                page=number(params, "page", 1),
                limit=number(params, "limit", 25),
                kinds=[word for word in params.get("type", "").lower().split(",") if word],
                start=day(params, "start"),
                end=day(params, "end"),
                symbol=params.get("symbol", "").upper(),
                exactly=flag(params, "exactMatch"),
            )
            return respond(request, body)

    async def historical_balances(self, request: Request) -> Response:
        period = request.query_params.get("period", "WEEK")
        if period not in _PERIODS:
            raise InvalidParameterError("period", f"{period} is not valid")
        with self._world(request) as world:
            return respond(request, bodies.historical_balances(world, _account(world, request), period))

    async def session(self, request: Request) -> Response:
        stream: Json = {
            "url": f"ws://{request.url.netloc}/v1/accounts/events",
            "sessionid": await self.controls.streams.create(),
        }
        return respond(request, {"stream": stream})


def _acknowledged(order: Order, *, partner: bool) -> Json:
    """Tradier: "ok" says that the order was taken, not that the market accepted it; a cancel names no partner."""
    ack: dict[str, Json] = {"id": order.id, "status": "ok"}
    return {"order": {**ack, "partner_id": bodies.PARTNER_ID} if partner else ack}


def _unauthorized(account: str) -> HTTPException:
    """Tradier: one answer for a foreign account and for an unknown order."""
    return HTTPException(401, f"Unauthorized Account: {account}")


def _account(world: World, request: Request) -> Account:
    name = request.path_params["account"]
    account = world.accounts.get(name)
    if account is None:
        raise _unauthorized(name)
    return account


def _order(account: Account, request: Request) -> Order:
    for order in account.orders:
        if order.id == request.path_params["order"]:
            return order
    raise _unauthorized(account.id)


def _finalized(error: FinalizedOrderError) -> Response:
    return PlainTextResponse(f"order already in finalized state: {error}", 400)


async def _refuse_parameter(_: Request, error: Exception) -> Response:
    return PlainTextResponse(str(error), 400)


async def _explain(_: Request, error: Exception) -> Response:
    """A state that cannot be read, or a malformed control request, in words."""
    return PlainTextResponse(str(error), 500 if isinstance(error, PipelineError) else 400)
