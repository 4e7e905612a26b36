"""The account stream on real sockets: of the simulated broker, and of a server that does what no broker should."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeVar

import httpx
import pytest
from pydantic import SecretStr
from websockets.asyncio.server import ServerConnection, serve

from tradier_pipeline.broker.client import BrokerClient, RetryPolicy
from tradier_pipeline.broker.errors import BodyError
from tradier_pipeline.broker.events import AccountEvents, EventsPolicy, OrderEvent, OrderWatch, OtherEvent, read_frame
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.settings import DEMO_TOKEN
from tradier_pipeline.simulator.app import create_app
from tradier_pipeline.simulator.server import running
from tradier_pipeline.simulator.store import Store
from tradier_pipeline.simulator.strategy import AccountPlan
from tradier_pipeline_tests.simulator.conftest import NOON
from tradier_pipeline_tests.simulator.test_http import KO
from tradier_pipeline_tests.simulator.worlds import ACCOUNT
from tradier_pipeline_tests.support.scripted_server import (
    Answer,
    Request,
    ScriptedServer,
    answer,
    computed,
    document,
    held,
)

T = TypeVar("T")
SESSION, ORDERS = "/v1/accounts/events/session", f"/v1/accounts/{ACCOUNT}/orders"
NEVER = 3600.0
TOKEN = SecretStr("cAnArY7f3b9e1d0c5a864e2b97")
SESSION_ID = "c0ffee00-5e55-4a1d-8bad-000000000001"
HEARTBEAT = '{"event":"heartbeat","status":"active","timestamp":"2026-11-16T17:00:00.000000001Z"}'


def order_frame(**changed: Any) -> str:
    return json.dumps({"id": 7, "event": "order", "status": "open", "account": ACCOUNT, **changed})


def listed(statuses: Mapping[int, str]) -> Answer:
    """A read of the orders: each id with its status."""
    same = {"class": "equity", "create_date": "2026-11-16T17:00:00.000Z"}
    return document(
        {"orders": {"order": [{"id": order, "status": status, **same} for order, status in statuses.items()]}}
    )


async def soon(awaited: Awaitable[T]) -> T:
    """Fail rather than hang."""
    return await asyncio.wait_for(awaited, 10)


@dataclass
class Attempts:
    """Stands for the waits between two connections: each lasts until the test lets the next attempt happen."""

    delays: list[float] = field(default_factory=list)
    allowed: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    async def sleep(self, seconds: float) -> None:
        self.delays.append(seconds)
        await self.allowed.acquire()

    def policy(self, **settings: Any) -> EventsPolicy:
        return EventsPolicy(**{"poll_every": NEVER, "jitter": lambda: 1.0, "sleep": self.sleep} | settings)


@dataclass
class Watching:
    """What a running OrderWatch tells."""

    changes: asyncio.Queue[OrderEvent] = field(default_factory=asyncio.Queue)
    lines: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    reported: list[str] = field(default_factory=list)

    def tell(self, line: str) -> None:
        self.reported.append(line)
        self.lines.put_nowait(line)

    async def change(self) -> tuple[int, str]:
        event = await soon(self.changes.get())
        return event.id, event.status

    async def line(self, part: str) -> str:
        while part not in (line := await soon(self.lines.get())):
            pass
        return line


@asynccontextmanager
async def watching(url: str, policy: EventsPolicy, token: SecretStr = TOKEN) -> AsyncIterator[Watching]:
    seen = Watching()
    async with BrokerClient(url, token, policy=RetryPolicy(attempts=1)) as client:
        watch = OrderWatch(AccountEvents(url, token, policy), client, [ACCOUNT], seen.changes.put_nowait, seen.tell)
        task = asyncio.create_task(watch.run())
        try:
            yield seen
        finally:
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled(), task.exception()


# --- frames ---------------------------------------------------------------------------------------------------------


def test_a_frame_is_read_exactly():
    text = order_frame(tag="entry-1", status="partially_filled").replace('"id"', '"exec_quantity": 2.50, "id"')
    assert read_frame(text) == OrderEvent(
        id=7, account=ACCOUNT, status="partially_filled", exec_quantity=Decimal("2.50"), tag="entry-1"
    )
    assert str(read_frame(text)) == "order 7 partially_filled, executed 2.50, tag 'entry-1'"


def test_the_older_name_of_the_executed_quantity_is_understood():
    event = read_frame(order_frame(executed_quantity=3))
    assert isinstance(event, OrderEvent)
    assert event.exec_quantity == Decimal(3)


def test_other_kinds_are_no_order_events():
    assert read_frame(HEARTBEAT) == OtherEvent("heartbeat")
    assert read_frame('{"event":"trade","price":1}') == OtherEvent("trade")


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("hello", "stream: the body is not JSON"),
        ("[]", "stream"),
        ("{}", "stream: event is missing or not a word"),
        ('{"event":7}', "stream: event is missing or not a word"),
        (order_frame(id=None), r"stream: order\.id"),
        (order_frame(exec_quantity="2"), r"stream: order\.exec_quantity.* is not a number"),
    ],
)
def test_a_malformed_frame_is_told(text, reported):
    with pytest.raises(BodyError, match=reported):
        read_frame(text)


# --- against the simulated broker -----------------------------------------------------------------------------------


@pytest.fixture
def url() -> Iterator[str]:
    """A broker at Monday noon in New York with one empty account; only the test moves its clock."""
    store = Store(None, plans=(AccountPlan(ACCOUNT, "margin", Decimal(100000), trader=False),))
    with running(create_app(store, clock=lambda: NOON, limits=None)) as url:
        yield url


async def place(url: str, **form: str) -> int:
    async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {DEMO_TOKEN}"}) as http:
        placed = await http.post(ORDERS, data={**KO, **form}, headers={"Accept": "application/json"})
        return placed.json()["order"]["id"]


async def control(url: str, method: str, path: str, body: Any = None) -> Any:
    async with httpx.AsyncClient(base_url=f"{url}/_simulator/", trust_env=False) as http:
        done = await http.request(method, path, json=body)
        done.raise_for_status()
        return done.json()


async def sessions(url: str) -> int:
    return sum(request["path"] == SESSION for request in await control(url, "GET", "requests"))


async def polls(url: str) -> int:
    requests = await control(url, "GET", "requests")
    return sum((request["path"], request["method"]) == (ORDERS, "GET") for request in requests)


async def polled(url: str, times: int) -> None:
    async with asyncio.timeout(10):
        while await polls(url) < times:
            pass


def test_an_order_is_told_by_the_stream_while_it_lives(url):
    async def main() -> None:
        async with watching(url, Attempts().policy(), SecretStr(DEMO_TOKEN)) as seen:
            await seen.line("connected")
            await polled(url, 2)
            order = await place(url, tag="entry-1")
            assert (await soon(seen.changes.get())).tag == "entry-1"
            await control(url, "POST", "clock", {"now": "2026-11-16T17:00:01Z"})
            assert await seen.change() == (order, "open")
            assert (await sessions(url), await polls(url)) == (1, 2)  # nobody had to ask again

    asyncio.run(main())


def test_what_changes_between_two_connections_is_told_after_the_second(url):
    attempts = Attempts()

    async def main() -> None:
        async with watching(url, attempts.policy(), SecretStr(DEMO_TOKEN)) as seen:
            await seen.line("connected")
            await polled(url, 2)  # else this read may report the order, too
            await place(url)
            await seen.change()
            await control(url, "DELETE", "streams")
            await seen.line("polling the orders every")
            await polled(url, 3)  # lost
            missed = await place(url)
            assert seen.changes.empty()
            attempts.allowed.release()
            await seen.line("connected")
            assert await seen.change() == (missed, "pending")
            await place(url, tag="later")
            assert (await soon(seen.changes.get())).tag == "later"
            assert await sessions(url) == 2

    asyncio.run(main())


def test_while_no_session_is_to_be_had_the_orders_are_polled(url):
    attempts = Attempts()

    async def main() -> None:
        await control(url, "POST", "faults", [{"path": SESSION, "kind": "status", "status": 503}])
        await place(url, tag="before")
        async with watching(url, attempts.policy(poll_every=0.01), SecretStr(DEMO_TOKEN)) as seen:
            assert "HTTP 503" in await seen.line("polling the orders every 0.01 s")
            await polled(url, 1)
            order = await place(url)
            assert await seen.change() == (order, "pending")
            await control(url, "POST", "clock", {"now": "2026-11-16T17:00:01Z"})
            assert {await seen.change(), await seen.change()} == {(order - 1, "open"), (order, "open")}
            await polled(url, await polls(url) + 3)
            assert seen.changes.empty()  # a state is reported once

    asyncio.run(main())


# --- against a server that does what no broker should ----------------------------------------------------------------

Script = Callable[[ServerConnection], Awaitable[None]]


@dataclass
class ScriptedBroker:
    """A broker of which every connection to the stream gets its own script, the last one repeated."""

    http: ScriptedServer
    url: str
    subscriptions: list[dict[str, Any]]
    good: Answer

    def sessions(self, *answers: Answer) -> None:
        self.http.on(SESSION, *answers)


@asynccontextmanager
async def scripted(*scripts: Script, **session: Any) -> AsyncIterator[ScriptedBroker]:
    waiting, subscriptions = list(scripts), []

    async def handle(socket: ServerConnection) -> None:
        subscriptions.append(json.loads(await socket.recv()))
        await (waiting.pop(0) if len(waiting) > 1 else waiting[0])(socket)

    async with serve(handle, "127.0.0.1", 0) as streams, ScriptedServer() as http:
        port = streams.sockets[0].getsockname()[1]
        stream = {"url": f"ws://127.0.0.1:{port}/v1/accounts/events", "sessionid": SESSION_ID, **session}
        good = document({"stream": stream})
        http.on(SESSION, good).on(ORDERS, document({"orders": "null"}))
        yield ScriptedBroker(http, http.url, subscriptions, good)


def frames(*texts: str) -> Script:
    """Send these, then stay open and say nothing."""

    async def script(socket: ServerConnection) -> None:
        for text in texts:
            await socket.send(text)
        await socket.wait_closed()

    return script


def closing(code: int, reason: str) -> Script:
    async def script(socket: ServerConnection) -> None:
        await socket.send(HEARTBEAT)
        await socket.close(code, reason)

    return script


async def cut(socket: ServerConnection) -> None:
    await socket.send(HEARTBEAT)
    socket.transport.abort()


def test_the_session_is_asked_for_and_used_as_documented():
    async def main() -> None:
        async with scripted(frames(HEARTBEAT)) as server:
            async with watching(server.url, Attempts().policy()) as seen:
                await seen.line("connected")
            (request,) = [one for one in server.http.requests if one.path == SESSION]
            assert (request.method, request.headers["content-length"]) == ("POST", "0")
            assert request.headers["authorization"] == f"Bearer {TOKEN.get_secret_value()}"
            assert server.subscriptions == [{"events": ["order"], "sessionid": SESSION_ID, "excludeAccounts": []}]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("script", "reported"),
    [
        (frames(HEARTBEAT, "{"), "the body is not JSON"),
        (frames(HEARTBEAT, order_frame(account=None)), "order.account"),
        (closing(1008, "session expired"), "session expired"),
        (cut, "ConnectionClosedError"),
    ],
    ids=["not JSON", "not an order", "closed", "cut"],
)
def test_a_connection_that_ends_badly_is_told_and_followed_by_another(script, reported):
    attempts = Attempts()

    async def main() -> None:
        async with scripted(script, frames(order_frame())) as server, watching(server.url, attempts.policy()) as seen:
            await seen.line("connected")
            assert reported in await seen.line("polling the orders every")
            attempts.allowed.release()
            await seen.line("connected")
            assert await seen.change() == (7, "open")
            assert server.http.count(SESSION) == 2

    asyncio.run(main())


def test_silence_ends_a_connection():
    attempts = Attempts()

    async def main() -> None:
        async with (
            scripted(frames(HEARTBEAT)) as server,
            watching(server.url, attempts.policy(silence=0.02)) as seen,
        ):
            await seen.line("connected")
            assert "no frame for 0.02 s" in await seen.line("polling the orders every")
            attempts.allowed.release()
            await seen.line("connected")

    asyncio.run(main())


def test_who_is_to_end_as_a_frame_comes_ends():
    async def main() -> None:
        frame: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        events = AccountEvents("http://127.0.0.1", SecretStr(DEMO_TOKEN))
        waiting = asyncio.create_task(events._next(frame))
        await asyncio.sleep(0)
        frame.set_result(HEARTBEAT)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(main())


@pytest.mark.parametrize(
    ("given", "reported"),
    [
        (answer("", 503), "HTTP 503"),
        (answer("<html>", 200), "the body is"),
        (document({"fault": {"faultstring": "Invalid Access Token", "detail": {"errorcode": "x"}}}), "fault"),
        (document({"stream": {"sessionid": SESSION_ID}}), "stream.url is missing"),
        (document({"stream": {"url": "ws://tradier.example/v1", "sessionid": SESSION_ID}}), "is not a wss URL"),
        (document({"stream": {"url": "https://tradier.example/", "sessionid": SESSION_ID}}), "is not a wss URL"),
        (document({"stream": {"url": "http://[", "sessionid": SESSION_ID}}), "is not a wss URL"),
        (answer("", 302, {"location": "https://tradier.example/"}), "redirects are not followed"),
    ],
)
def test_a_session_that_is_not_to_be_had_or_used_is_told_and_asked_for_again(given, reported):
    attempts = Attempts()

    async def main() -> None:
        async with scripted(frames(HEARTBEAT)) as server:
            server.sessions(given, server.good)
            async with watching(server.url, attempts.policy()) as seen:
                assert reported in await seen.line("polling the orders every")
                attempts.allowed.release()
                await seen.line("connected")

    asyncio.run(main())


def test_waits_grow_to_a_limit_and_start_again_once_the_stream_was_heard():
    attempts = Attempts()

    async def main() -> None:
        async with scripted(closing(1011, "sorry")) as server:
            server.sessions(*[answer("", 503)] * 9, server.good)
            async with watching(server.url, attempts.policy()) as seen:
                for _ in range(9):
                    attempts.allowed.release()
                await seen.line("connected")
                await seen.line("sorry")
        assert attempts.delays == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 0.5]
        assert len([line for line in seen.reported if "503" in line]) == 1  # one reason, one line

    asyncio.run(main())


def test_a_spent_request_budget_is_waited_for():
    attempts = Attempts()

    async def main() -> None:
        async with scripted(frames(HEARTBEAT)) as server:
            server.sessions(answer("Quota Violation", 429, {"Retry-After": "30"}))
            async with watching(server.url, attempts.policy()) as seen:
                await seen.line("the request limit is used up")
        assert attempts.delays == [30.5]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("earlier", "answered"),
    [([], {7: "open"}), ([{7: "open"}], {7: "open", 9: "open"})],
    ids=["the first read", "a later read"],
)
def test_a_frame_during_a_read_outranks_the_older_answer(earlier, answered):
    """The answer is long on its way; meanwhile the broker fills order 7 and says so. Nobody hears of 7 once more."""
    asked, heard = asyncio.Event(), asyncio.Event()

    async def fill(socket: ServerConnection) -> None:
        await socket.send(HEARTBEAT)
        await asked.wait()
        await socket.send(order_frame(status="filled"))
        await socket.wait_closed()

    async def until_heard() -> None:
        asked.set()
        await heard.wait()

    async def main() -> None:
        async with scripted(fill) as server:
            answers = [*map(listed, earlier), held(until_heard, listed(answered)), listed({7: "filled", 9: "open"})]
            server.http.on(ORDERS, *answers)
            async with watching(server.url, Attempts().policy()) as seen:
                assert await seen.change() == (7, "filled")
                heard.set()
                assert await seen.change() == (9, "open")
                assert seen.changes.empty()

    asyncio.run(main())


def test_a_failed_read_after_a_connection_is_repeated():
    gap = [answer("", 503), listed({9: "open"})]

    async def main() -> None:
        async with (
            scripted(frames(HEARTBEAT)) as server,
            watching(server.url, Attempts().policy(poll_every=0.01)) as seen,
        ):

            def orders(_: Request) -> Answer:
                if not seen.reported:  # not connected yet
                    return document({"orders": "null"})
                return gap.pop(0) if len(gap) > 1 else gap[0]

            server.http.on(ORDERS, computed(orders))
            assert await seen.change() == (9, "open")
            assert "503" in await seen.line("was not polled: orders: ")

    asyncio.run(main())


def test_unknown_kinds_are_told_once_and_other_accounts_are_not_ours():
    async def main() -> None:
        trade = '{"event":"trade"}'
        script = frames(trade, trade, order_frame(account="VA99999999"), order_frame(id=8))
        async with scripted(script) as server, watching(server.url, Attempts().policy()) as seen:
            assert await seen.change() == (8, "open")
            assert len([line for line in seen.reported if "unknown kind 'trade'" in line]) == 1

    asyncio.run(main())


def test_neither_the_token_nor_the_session_id_is_ever_said(caplog):
    attempts = Attempts()
    secrets = (TOKEN.get_secret_value(), SESSION_ID)

    async def main() -> list[str]:
        async with scripted(closing(1008, " ".join(secrets))) as server:
            server.sessions(answer(f"no {secrets[0]}", 400), server.good)
            async with watching(server.url, attempts.policy()) as seen:
                assert "[access token]" in await seen.line("HTTP 400")
                attempts.allowed.release()
                assert "[access token] [access token]" in await seen.line("1008")
            return seen.reported

    with caplog.at_level(logging.DEBUG):
        text = "\n".join(asyncio.run(main()))
    # `websockets.server` is the test's own end
    logged = "\n".join(record.getMessage() for record in caplog.records if record.name != "websockets.server")
    assert "events/session" in logged
    for secret in secrets:
        assert secret[:8] not in text + logged  # the library shortens what it logs


def test_without_the_package_the_remedy_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "websockets", None)
    with pytest.raises(PipelineError, match=r"pip install 'tradier-pipeline\[streaming\]'"):
        AccountEvents("https://api.tradier.com", TOKEN)
