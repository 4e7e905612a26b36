"""The market stream: a session opens it over HTTP or a WebSocket, and it tells every change of a price.

The same prices as the quotes', at any hour; there is nothing else that could change.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from tradier_pipeline.simulator.admin import Controls
from tradier_pipeline.simulator.faults import ENDLESS
from tradier_pipeline.simulator.market_events import KINDS, Known, events
from tradier_pipeline.simulator.params import flag, parameters, respond, symbols
from tradier_pipeline.simulator.tickets import InvalidParameterError
from tradier_pipeline.simulator.wire import dumps

_SESSION_LIFE = timedelta(minutes=5)  # Tradier: time to connect after creation
_STEP_SECONDS = 1.0
_REFUSED = 1008  # WebSocket: policy violation


class MarketSubscription(BaseModel):
    """What a client sends, first and whenever it wants something else; without `filter` it gets every kind.

    Tradier's `validOnly` and `advancedDetails` change nothing here.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    sessionid: str
    symbols: tuple[str, ...]
    filter: tuple[str, ...] = ()
    linebreak: bool = False

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(sorted(KINDS.intersection(self.filter or KINDS)))


class MarketStreams:
    """Sessions, each of which opens streams for five minutes, and the streams."""

    def __init__(self, controls: Controls) -> None:
        self._controls = controls
        self._sessions: dict[str, datetime] = {}

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/v1/markets/events/session", self.session, methods=["POST"]),
            Route(ENDLESS, self.over_http, methods=["GET", "POST"]),
            WebSocketRoute(ENDLESS, self.over_web_socket),
        ]

    async def session(self, request: Request) -> Response:
        now = self._controls.now()
        self._sessions = {name: made for name, made in self._sessions.items() if now - made <= _SESSION_LIFE}
        name = str(uuid.uuid4())
        self._sessions[name] = now
        return respond(request, {"stream": {"url": f"http://{request.url.netloc}{ENDLESS}", "sessionid": name}})

    async def over_http(self, request: Request) -> Response:
        """Frames one after the other, with line breaks if they are asked for, until the client leaves."""
        params = await parameters(request)
        wanted = MarketSubscription(
            sessionid=params.get("sessionid", ""),
            symbols=tuple(symbols(params)),
            filter=tuple(params["filter"].split(",")) if params.get("filter") else (),
            linebreak=flag(params, "linebreak"),
        )
        if not wanted.symbols:
            raise InvalidParameterError("symbols", "is required")
        if not self._opens(wanted.sessionid):
            return PlainTextResponse("the session is unknown or expired", 401)

        async def texts() -> AsyncIterator[str]:
            known: Known = {}
            while True:
                for text in await self._news(wanted, known):
                    yield text
                await asyncio.sleep(_STEP_SECONDS)

        return StreamingResponse(texts(), media_type="application/json")

    async def over_web_socket(self, socket: WebSocket) -> None:
        """A message for every frame; the client may subscribe to something else at any time."""
        await socket.accept()
        sending: asyncio.Task[None] | None = None
        try:
            async for text in socket.iter_text():
                wanted = _read(text)
                if wanted is None:
                    await socket.close(_REFUSED, "the message is not a subscription")
                elif sending is None and not self._opens(wanted.sessionid):
                    await socket.close(_REFUSED, "the session is unknown or expired")
                else:
                    if sending is not None:
                        sending.cancel()
                    sending = asyncio.create_task(self._send(socket, wanted))
        finally:
            if sending is not None:
                sending.cancel()

    async def _send(self, socket: WebSocket, wanted: MarketSubscription) -> None:
        known: Known = {}
        while True:
            for text in await self._news(wanted, known):
                await socket.send_text(text)
            await asyncio.sleep(_STEP_SECONDS)

    async def _news(self, wanted: MarketSubscription, known: Known) -> list[str]:
        """The frames of what has changed since the last call, in a thread: there may be a thousand symbols."""
        now = self._controls.now()
        with self._controls.store.at(now) as world:
            market = world.market
        tickers = list(dict.fromkeys(symbol.upper() for symbol in wanted.symbols))
        end = "\n" if wanted.linebreak else ""
        frames = await asyncio.to_thread(events, market, tickers, now, wanted.kinds, known)
        return [dumps(frame) + end for frame in frames]

    def _opens(self, session: str) -> bool:
        made = self._sessions.get(session)
        return made is not None and self._controls.now() - made <= _SESSION_LIFE


def _read(text: str) -> MarketSubscription | None:
    try:
        return MarketSubscription.model_validate_json(text)
    except ValidationError:
        return None
