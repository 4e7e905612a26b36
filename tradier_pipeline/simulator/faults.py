"""The fault switchboard: what goes wrong on the way between a client and the broker, on demand."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TRANSPORT = "tradier_pipeline.transport"  # ASGI extension under which the server passes the connection
LAG = "tradier_pipeline.lag"  # scope key: seconds by which the answer is to lag behind
SILENT = "tradier_pipeline.silent"  # scope key: the stream is to say nothing
ENDLESS = "/v1/markets/events"  # the path whose answer has no end
_REMEMBERED = 512
_HTML = "<html><head><title>Scheduled maintenance</title></head><body><h1>We'll be back soon.</h1></body></html>"


@dataclass(slots=True)
class Fault:
    """One thing that goes wrong for requests whose path contains `path`, `times` times (None: until cleared).

    The path of a WebSocket begins with `ws:`, which tells `ws:/v1/accounts/events` from its session's path. There,
    `delay`, `reset` and `status` meet the handshake, and `hang` opens a stream that says nothing.
    """

    path: str
    kind: Literal["status", "delay", "hang", "reset", "truncate", "html", "body", "stale", "lag"]
    status: int | None = None
    body: str | None = None
    content_type: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float | None = None
    times: Annotated[int, Field(ge=1)] | None = None


FAULTS = TypeAdapter(list[Fault], config=ConfigDict(defer_build=True))


class Switchboard:
    """The faults that are set, and the last good answer per request that a stale one repeats."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._answers: dict[str, tuple[Message, bytes]] = {}

    def set(self, faults: list[Fault]) -> None:
        """Add faults behind those already set."""
        self._faults += faults

    def clear(self) -> None:
        self._faults = []

    def take(self, path: str) -> list[Fault]:
        """The faults one request meets, in order: any delays, then at most one that decides the answer."""
        taken: list[Fault] = []
        for fault in list(self._faults):
            if fault.path not in path:
                continue
            if fault.times is not None:
                fault.times -= 1
                if not fault.times:
                    self._faults.remove(fault)
            taken.append(fault)
            if fault.kind != "delay":
                break
        return taken

    def remember(self, key: str, start: Message, body: bytes) -> None:
        self._answers.pop(key, None)
        self._answers[key] = (start, body)
        if len(self._answers) > _REMEMBERED:
            del self._answers[next(iter(self._answers))]

    def recall(self, key: str) -> tuple[Message, bytes] | None:
        return self._answers.get(key)


class FaultGate:
    """ASGI middleware through which every request of the broker passes."""

    def __init__(self, app: ASGIApp, switchboard: Switchboard) -> None:
        self._app = app
        self._switchboard = switchboard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._web_socket(scope, receive, send)
            return
        key = f"{scope['method']} {scope['path']}?{scope['query_string'].decode()}"
        faults = self._switchboard.take(scope["path"])
        for fault in faults:
            if fault.kind == "delay":
                await asyncio.sleep(fault.seconds or 0)
            elif fault.kind == "hang":
                await _hang(receive, 3600 if fault.seconds is None else fault.seconds)
                abort(scope)
                return
            elif fault.kind == "reset":
                abort(scope)
                return
            elif fault.kind == "lag":
                scope[LAG] = fault.seconds or 0
            elif fault.kind == "stale" and (answer := self._switchboard.recall(key)) is not None:
                await _send(send, *answer)
                return
            elif fault.kind in {"status", "html", "body"}:
                await _send(send, *_made_up(fault))
                return
        if scope["path"] == ENDLESS:
            await self._app(scope, receive, send)
            return
        start, body = await _answer(self._app, scope, receive)
        if any(fault.kind == "truncate" for fault in faults):
            # The announced length stays; the server closes the connection when it misses the rest.
            await send(start)
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
            return
        if not faults:
            self._switchboard.remember(key, start, body)
        await _send(send, start, body)

    async def _web_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        for fault in self._switchboard.take(f"ws:{scope['path']}"):
            if fault.kind == "delay":
                await asyncio.sleep(fault.seconds or 0)
            elif fault.kind == "reset":
                abort(scope)
                return
            elif fault.kind == "status":
                start, body = _made_up(fault)
                await _send(send, {**start, "type": "websocket.http.response.start"}, body)
                return
            elif fault.kind == "hang":
                scope[SILENT] = True
        await self._app(scope, receive, send)


async def _answer(app: ASGIApp, scope: Scope, receive: Receive) -> tuple[Message, bytes]:
    """The app's whole answer; every body that has an end is small."""
    start: Message = {}
    chunks: list[bytes] = []

    async def collect(message: Message) -> None:
        nonlocal start
        if message["type"] == "http.response.start":
            start = message
        else:
            chunks.append(message.get("body", b""))

    await app(scope, receive, collect)
    return start, b"".join(chunks)


async def _send(send: Send, start: Message, body: bytes) -> None:
    await send(start)
    await send({"type": start["type"].replace("start", "body"), "body": body})


def _made_up(fault: Fault) -> tuple[Message, bytes]:
    """The answer of a status, html or body fault."""
    status = fault.status or (503 if fault.kind == "status" else 200)
    text = fault.body if fault.body is not None else _HTML if fault.kind == "html" else ""
    default = {"html": "text/html", "status": "text/plain"}.get(fault.kind, "application/json")
    body = text.encode()
    headers = {"content-type": fault.content_type or default, "content-length": str(len(body)), **fault.headers}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http.response.start", "status": status, "headers": raw}, body


async def _hang(receive: Receive, seconds: float) -> None:
    """Say nothing until the client leaves or the time is over."""

    async def until_gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    try:
        await asyncio.wait_for(until_gone(), seconds)
    except TimeoutError:
        return


def abort(scope: MutableMapping[str, object]) -> None:
    """Cut the connection with a TCP reset."""
    extensions = scope.get("extensions")
    transport = extensions.get(TRANSPORT) if isinstance(extensions, dict) else None
    if not isinstance(transport, asyncio.Transport):
        raise ConnectionResetError("the simulated broker reset the connection")
    connection = transport.get_extra_info("socket")
    # Closing with a linger time of zero sends RST instead of FIN.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
