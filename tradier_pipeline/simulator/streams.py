"""The account WebSocket: sessions, the one open stream, and a frame for every change of an order."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.websockets import WebSocket

from tradier_pipeline.simulator import bodies
from tradier_pipeline.simulator.faults import SILENT, abort
from tradier_pipeline.simulator.store import Store
from tradier_pipeline.simulator.wire import Json, dumps
from tradier_pipeline.simulator.world import Order, World

_SESSION_LIFE = timedelta(minutes=5)  # Tradier: time to connect after creation
_HEARTBEAT_SECONDS = 60.0
_STEP_SECONDS = 1.0
_REFUSED = 1008  # WebSocket: policy violation

_State = tuple[str, Decimal, datetime]


class Subscription(BaseModel):
    """What a client sends, first and whenever it wants something else."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    sessionid: str
    events: tuple[str, ...] = ()
    excludeAccounts: tuple[str, ...] = ()  # noqa: N815 - Tradier's name


@dataclass(slots=True)
class _Stream:
    socket: WebSocket
    wanted: Subscription
    known: dict[int, _State]
    frames: asyncio.Queue[Json] = field(default_factory=asyncio.Queue)

    def want(self, wanted: Subscription, now: datetime) -> None:
        """Follow another subscription; a heartbeat says from when on."""
        self.wanted = wanted
        self.frames.put_nowait(bodies.heartbeat(now))

    async def send(self) -> None:
        while True:
            await self.socket.send_text(dumps(await self.frames.get()))

    def look(self, world: World) -> None:
        """Queue a frame for every order that is new or has moved since the last look."""
        for account, order, parent in _orders(world):
            state = (order.status, order.executed, order.updated)
            if self.known.get(order.id) != state:
                self.known[order.id] = state
                if account not in self.wanted.excludeAccounts and "order" in self.wanted.events:
                    self.frames.put_nowait(bodies.order_event(account, order, parent))


class Streams:
    """One session and one stream at a time (Tradier); a new session ends what the older one opened."""

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now
        self._session: tuple[str, datetime] | None = None
        self._open: _Stream | None = None
        store.watchers.append(self._look)

    async def create(self) -> str:
        """The id of a new session."""
        stream, self._open = self._open, None
        self._session = (str(uuid.uuid4()), self._now())
        if stream is not None:
            await _close(stream.socket, "another session was created")
        return self._session[0]

    def drop(self) -> None:
        """Cut the open stream without a word."""
        if self._open is not None:
            abort(self._open.socket.scope)

    async def serve(self, socket: WebSocket) -> None:
        """Serve one client to its end."""
        await socket.accept()
        stream: _Stream | None = None
        tasks: list[asyncio.Task[None]] = []
        try:
            async for text in socket.iter_text():
                wanted = _read(text)
                if wanted is None:
                    await _close(socket, "the message is not a subscription")
                elif stream is not None:
                    stream.want(wanted, self._now())
                elif self._redeem(wanted.sessionid):
                    stream = self._open = self._subscribe(socket, wanted)
                    if not socket.scope.get(SILENT):
                        tasks = [
                            asyncio.create_task(work) for work in (stream.send(), self._beat(stream), self._step())
                        ]
                else:
                    await _close(socket, "the session is unknown, expired or used")
        finally:
            for task in tasks:
                task.cancel()
            if self._open is stream:
                self._open = None

    def _redeem(self, session: str) -> bool:
        """Whether the id opens a stream; it does once, in time."""
        if self._session is None or self._session[0] != session:
            return False
        _, created = self._session
        self._session = None
        return self._now() - created <= _SESSION_LIFE

    def _subscribe(self, socket: WebSocket, wanted: Subscription) -> _Stream:
        with self._store.at(self._now()) as world:
            known = {order.id: (order.status, order.executed, order.updated) for _, order, _ in _orders(world)}
        stream = _Stream(socket, wanted, known)
        stream.want(wanted, self._now())
        return stream

    def _look(self, world: World) -> None:
        if self._open is not None:
            self._open.look(world)

    async def _beat(self, stream: _Stream) -> None:
        while True:
            await asyncio.sleep(_HEARTBEAT_SECONDS)
            stream.frames.put_nowait(bodies.heartbeat(self._now()))

    async def _step(self) -> None:
        """Let time pass for a client that only listens: the world moves when it is asked."""
        while True:
            await asyncio.sleep(_STEP_SECONDS)
            with self._store.at(self._now()):
                pass


def _read(text: str) -> Subscription | None:
    try:
        return Subscription.model_validate_json(text)
    except ValidationError:
        return None


async def _close(socket: WebSocket, reason: str) -> None:
    with suppress(RuntimeError):  # it has closed meanwhile
        await socket.close(_REFUSED, reason)


def _orders(world: World) -> Iterator[tuple[str, Order, Order | None]]:
    """Every order and leg that is kept: account number, order, parent."""
    for account in world.accounts.values():
        for order in account.orders:
            yield account.id, order, None
            for leg in order.legs:
                yield account.id, leg, order
