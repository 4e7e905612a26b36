"""A broker on a real socket that answers exactly as a test scripts it, down to broken bytes."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Request:
    """What the server received. `connection` numbers the connections from 0; `values` is the query or the form, unless
    the body is JSON."""

    method: str
    path: str
    values: Mapping[str, str]
    headers: Mapping[str, str]
    connection: int
    body: str = ""


Answer = Callable[[Request, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def raw(data: bytes) -> Answer:
    """These bytes, then the connection is closed."""

    async def send(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        writer.close()

    return send


def answer(body: bytes | str, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """A complete answer on a connection that stays open."""
    content = body.encode() if isinstance(body, str) else body

    async def send(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_head(status, {**(headers or {}), "Content-Length": str(len(content))}) + content)
        await writer.drain()

    return send


def document(value: Any, headers: Mapping[str, str] | None = None) -> Answer:
    """A 200 answer with a JSON body."""
    return answer(json.dumps(value), headers={"Content-Type": "application/json;charset=UTF-8", **(headers or {})})


def truncated(body: bytes, sent: int) -> Answer:
    """Announces the whole body and closes after some of it."""
    return raw(_head(200, {"Content-Length": str(len(body))}) + body[:sent])


def reset() -> Answer:
    """No answer: the connection is reset."""

    async def send(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Without lingering, the kernel sends RST instead of FIN.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    return send


def silent() -> Answer:
    """No byte until the client hangs up."""

    async def send(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    return send


def dripping() -> Answer:
    """An endless body in single bytes: no read ever times out."""

    async def send(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_head(200, {"Content-Length": str(10**12)}))
        hung_up = asyncio.ensure_future(reader.read())
        while not hung_up.done():
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()

    return send


def held(gate: Callable[[], Awaitable[Any]], then: Answer) -> Answer:
    """Answers once the gate has been passed (an Event's or a Barrier's wait)."""

    async def send(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gate()
        await then(request, reader, writer)

    return send


def computed(answer_to: Callable[[Request], Answer]) -> Answer:
    """Answers by what was asked."""

    async def send(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answer_to(request)(request, reader, writer)

    return send


@dataclass
class ScriptedServer:
    """Use as an async context manager. Leaving it waits until the client has closed every connection.

    Attributes:
        requests: in the order received.
        connections: how many were opened.
        tls: its certificate; without one it speaks plain HTTP.
    """

    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    tls: ssl.SSLContext | None = None
    _scripts: dict[str, list[Answer]] = field(default_factory=lambda: defaultdict(list))
    _handlers: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        host, port = self._server.sockets[0].getsockname()
        self.url = f"http{'s' if self.tls else ''}://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self.all_closed()

    def on(self, path: str, *answers: Answer) -> Self:
        """Answer a path with these, in order; the last one repeats."""
        self._scripts[path] = list(answers)
        return self

    def count(self, path: str) -> int:
        return sum(request.path == path for request in self.requests)

    async def all_closed(self) -> None:
        """Return when no connection is open any more; fail if that does not happen."""
        async with asyncio.timeout(10):
            await asyncio.gather(*self._handlers)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        number, self.connections = self.connections, self.connections + 1
        try:
            while not writer.is_closing():
                request = await _receive(reader, number)
                self.requests.append(request)
                script = self._scripts[request.path] or [answer(f"no script for {request.path}", 400)]
                send = script.pop(0) if len(script) > 1 else script[0]
                await send(request, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client hung up
        finally:
            writer.close()
            self._handlers.discard(task)


@contextmanager
def serving(script: Answer | None = None, tls: ssl.SSLContext | None = None) -> Iterator[ScriptedServer]:
    """A server in a thread of its own; it answers every path by one script, if one is given."""
    ready, loop, servers = threading.Event(), asyncio.new_event_loop(), list[ScriptedServer]()
    ended = asyncio.Event()

    async def serve() -> None:
        async with ScriptedServer(tls=tls) as server:
            if script is not None:
                server._scripts = _Everywhere(script)
            servers.append(server)
            ready.set()
            await ended.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), name="scripted-server")
    thread.start()
    ready.wait()
    try:
        yield servers[0]
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


class _Everywhere(dict[str, list[Answer]]):
    """The same script for every path."""

    def __init__(self, script: Answer) -> None:
        self.script = script

    def __missing__(self, path: str) -> list[Answer]:
        return [self.script]


async def _receive(reader: asyncio.StreamReader, connection: int) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii")
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    body = (await reader.readexactly(int(headers.get("content-length", 0)))).decode()
    url = urlsplit(target)
    form = url.query if headers.get("content-type") == "application/json" else body or url.query
    return Request(method, url.path, dict(parse_qsl(form, strict_parsing=bool(form))), headers, connection, body)


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()
