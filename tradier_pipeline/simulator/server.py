"""Running the simulated broker: inside another process, or in the foreground."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.settings import DEMO_TOKEN
from tradier_pipeline.domain.calendar import MarketCalendar
from tradier_pipeline.simulator.app import TRADIER_LIMITS, create_app, utc_now
from tradier_pipeline.simulator.faults import TRANSPORT
from tradier_pipeline.simulator.limits import Limits
from tradier_pipeline.simulator.store import Store
from tradier_pipeline.simulator.world import EXCHANGE, World

_STARTUP_SECONDS = 10
_TICK_SECONDS = 0.1


@contextmanager
def embedded_simulator(
    directory: Path | None,
    *,
    clock: Callable[[], datetime] | None = None,
    token: str | None = DEMO_TOKEN,
    limits: Limits | None = TRADIER_LIMITS,
    keeper: Callable[[World], None] | None = None,
    calendar: MarketCalendar = EXCHANGE,
) -> Iterator[str]:
    """Serve a world from a daemon thread on a free loopback port; yields `http://127.0.0.1:<port>`, without /v1.

    `keeper` is called with the world at the end of every visit (see `Store`); orders trade when `calendar` is open.

    Works inside a running event loop and from any thread, since the server has a thread and a loop of its own.
    Raises PipelineError when the world cannot be read.
    """
    app = simulated_broker(
        directory, clock=clock or utc_now, token=token, limits=limits, keeper=keeper, calendar=calendar
    )
    with running(app) as url:
        yield url


def simulated_broker(
    directory: Path | None,
    *,
    clock: Callable[[], datetime] = utc_now,
    token: str | None = DEMO_TOKEN,
    limits: Limits | None = TRADIER_LIMITS,
    keeper: Callable[[World], None] | None = None,
    calendar: MarketCalendar = EXCHANGE,
) -> ASGIApp:
    """The broker to serve, its world made or read, its calendar loaded: no request waits for either.

    Raises PipelineError when the world cannot be read.
    """
    store = Store(directory, calendar=calendar)
    store.keepers += [keeper] if keeper else []
    with store.at(clock()):
        pass
    return create_app(store, clock=clock, token=token, limits=limits)


@contextmanager
def running(app: ASGIApp) -> Iterator[str]:
    """Serve any ASGI app as `embedded_simulator` does."""
    listener = _listen("127.0.0.1", 0)
    server = _Server(app)
    thread = threading.Thread(
        target=asyncio.run, args=(server.serve(sockets=[listener]),), name="simulated-broker", daemon=True
    )
    thread.start()
    try:
        if not server.ready.wait(_STARTUP_SECONDS):
            raise PipelineError("The simulated broker did not start", "Try again; the machine may be overloaded.")
        yield _url(listener)
    finally:
        server.stop()
        thread.join()
        listener.close()


def serve(
    app: ASGIApp, host: str = "127.0.0.1", port: int = 0, *, on_ready: Callable[[str], None] = lambda url: None
) -> None:
    """Serve an app until SIGINT or SIGTERM. Raises PipelineError when the address is taken."""
    listener = _listen(host, port)
    server = _Server(app, on_ready=lambda: on_ready(_url(listener)))
    try:
        asyncio.run(server.serve(sockets=[listener]))
    finally:
        listener.close()


class _Server(uvicorn.Server):
    """uvicorn that says when it is ready, and that leaves at once whatever its clients do."""

    def __init__(self, app: ASGIApp, *, on_ready: Callable[[], None] = lambda: None) -> None:
        # h11 and asyncio's own loop: always installed, and quick to import.
        config = uvicorn.Config(
            app,
            http=_Connection,
            ws=_web_socket,  # type: ignore[arg-type] # it is only called
            loop="asyncio",
            lifespan="off",
            log_config=None,
            log_level="critical",
        )
        super().__init__(config)
        self.ready = threading.Event()
        self._on_ready = on_ready
        self._stopped = asyncio.Event()
        self._wake: Callable[[], object] = lambda: None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()
        self._on_ready()

    async def main_loop(self) -> None:
        """uvicorn's own, which goes on for up to a tenth of a second after it was asked to end."""
        loop = asyncio.get_running_loop()
        self._wake = lambda: loop.call_soon_threadsafe(self._stopped.set)
        ticks = 0
        while not await self.on_tick(ticks):
            ticks += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), _TICK_SECONDS)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close what is open, at once; what still runs is canceled with the loop."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.close()
        await asyncio.sleep(0)

    def stop(self) -> None:
        self.should_exit = True
        self._wake()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End on a signal and return, where uvicorn would raise the signal once more."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {number: signal.signal(number, lambda *_: self.stop()) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


class _Connection(H11Protocol):
    """A connection that tells the app about its transport, so that a fault can cut it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app = _with_transport(self.app, lambda: transport)


def _web_socket(config: uvicorn.Config, server_state: ServerState, app_state: dict[str, Any]) -> asyncio.Protocol:
    """What an upgraded connection becomes; imported by the first one, since a snapshot needs none."""
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    protocol = WebSocketsSansIOProtocol(config, server_state, app_state)
    protocol.app = _with_transport(protocol.app, lambda: protocol.transport)
    return protocol


def _with_transport(app: Any, transport: Callable[[], asyncio.Transport]) -> Any:
    async def with_transport(scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"] = {**scope.get("extensions", {}), TRANSPORT: transport()}
        await app(scope, receive, send)

    return with_transport


def _listen(host: str, port: int) -> socket.socket:
    # The protocol is named because asyncio sets TCP_NODELAY only then; without it every answer waits 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise PipelineError(
            f"The simulated broker cannot listen on {host}:{port}: {error.strerror}",
            "Choose another port, or stop the program that uses it.",
        ) from error
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()
    return f"http://{host}:{port}"
