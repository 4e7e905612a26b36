"""Account events: the broker says that an order has moved. A WebSocket while it lives, polling while it does not."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from contextlib import aclosing, suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, NoReturn

import httpx
from pydantic import AliasChoices, Field, SecretStr

from tradier_pipeline import clock
from tradier_pipeline.broker import envelope
from tradier_pipeline.broker.client import NETWORK_ERRORS
from tradier_pipeline.broker.decode import parse, parse_orders
from tradier_pipeline.broker.errors import BodyError, BrokerError, RateLimitError, UnavailableError, excerpt
from tradier_pipeline.broker.http import is_loopback, masked, open_http
from tradier_pipeline.broker.models import BrokerModel, Identifier, Number, OrderLeg
from tradier_pipeline.broker.receive import receive_body
from tradier_pipeline.core.errors import PipelineError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
    from typing import TypeAlias

    from tradier_pipeline.broker.client import BrokerClient
    from tradier_pipeline.broker.pages import Extract

_STREAM = "stream"
_SESSION_LIMIT_BYTES = 64 * 1024
_SESSION_PATH = "/v1/accounts/events/session"
_CLOSING_SECONDS = 1.0
_RECONNECTS = "Nothing to do: it connects again by itself, and polls until then."

# At DEBUG the library logs every frame that is sent, and so the session id.
_LIBRARY_LOG = logging.getLogger(f"{__name__}.websocket")
_LIBRARY_LOG.setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True)
class EventsPolicy:
    """How patiently the stream is followed.

    Attributes:
        silence: seconds without a frame after which a connection counts as dead. Tradier: a heartbeat about every 60 s.
        poll_every: seconds between two reads of the orders while the stream is down.
        base_delay, max_delay: seconds; the wait before attempt n+1 is random up to `base_delay * 2**(n-1)`.
    """

    silence: float = 130.0
    poll_every: float = 15.0
    base_delay: float = 0.5
    max_delay: float = 60.0
    jitter: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class OrderEvent(BrokerModel):
    """An order, or a leg of one, as it is after a change. Tradier sends neither symbol nor side: read the orders."""

    id: Identifier
    account: str
    status: str
    # Tradier: executed_quantity in the older documentation
    exec_quantity: Number | None = Field(
        default=None, validation_alias=AliasChoices("exec_quantity", "executed_quantity")
    )
    tag: str | None = None

    def __str__(self) -> str:
        executed = f", executed {self.exec_quantity:f}" if self.exec_quantity else ""
        tag = f", tag {excerpt(self.tag)}" if self.tag else ""
        return f"order {self.id} {excerpt(self.status)[1:-1]}{executed}{tag}"


@dataclass(frozen=True, slots=True)
class OtherEvent:
    """A frame that is no order's: a heartbeat, or a kind this version does not know."""

    kind: str


Frame: TypeAlias = "OrderEvent | OtherEvent"


class _Session(BrokerModel):
    url: str
    sessionid: SecretStr


class AccountEvents:
    """The account stream of one broker.

    The pipeline cannot trade, and its broker client has no method that writes. The one POST here creates the session
    that a WebSocket is opened with, and changes nothing in any account; that is why it is not the client's.

    Args:
        base_url, token: as of `BrokerClient`.

    Raises:
        PipelineError: the package websockets is not installed.
    """

    def __init__(self, base_url: str, token: SecretStr, policy: EventsPolicy | None = None) -> None:
        try:
            import websockets  # noqa: F401 - an optional extra, reported at once rather than by the first connection
        except ImportError:
            raise PipelineError(
                "the account stream needs the package websockets", "Run: pip install 'tradier-pipeline[streaming]'."
            ) from None
        self._base_url = base_url
        self._token = token
        self.policy = policy or EventsPolicy()

    async def frames(self) -> AsyncGenerator[Frame]:
        """Open a session and a connection, and yield what the broker sends until it ends. It never ends by itself.

        Raises:
            BrokerError: no session, no connection, a lost or silent one, a malformed frame.
        """
        from websockets.asyncio.client import connect
        from websockets.exceptions import WebSocketException

        session = await self._open_session()
        subscription = {"events": ["order"], "sessionid": session.sessionid.get_secret_value(), "excludeAccounts": []}
        connection = connect(
            session.url,
            proxy=None if session.url.startswith("ws:") else True,
            close_timeout=_CLOSING_SECONDS,  # a dead connection does not answer the closing handshake
            logger=_LIBRARY_LOG,
        )
        try:
            async with connection as socket:
                await socket.send(json.dumps(subscription))
                while True:
                    yield read_frame(await self._next(socket.recv()))
        except (OSError, WebSocketException) as error:
            said = masked(masked(str(error), session.sessionid), self._token)
            what = f"the connection failed: {type(error).__name__}{f': {excerpt(said)}' if said else ''}"
            raise UnavailableError(_STREAM, what, _RECONNECTS, transient=True) from None

    async def _next(self, received: Awaitable[str | bytes]) -> str | bytes:
        silence = self.policy.silence
        try:
            async with asyncio.timeout(silence):  # wait_for of Python 3.11 loses a cancellation that comes with a frame
                return await received
        except TimeoutError:
            what = f"no frame for {silence:g} s, not even a heartbeat"
            raise UnavailableError(_STREAM, what, _RECONNECTS, transient=True) from None

    async def _open_session(self) -> _Session:
        """Tradier: to be used within 5 minutes, by one connection; it ends the session before it."""
        try:
            # Tradier wants the Content-Length: 0 that httpx sends
            async with open_http(self._base_url, self._token) as http, http.stream("POST", _SESSION_PATH) as answer:
                received = await receive_body(answer, _STREAM, _SESSION_LIMIT_BYTES)
        except NETWORK_ERRORS as error:
            what = f"no session: {type(error).__name__}"
            raise UnavailableError(_STREAM, what, _RECONNECTS, transient=True) from None
        headers = {name.lower(): masked(value, self._token) for name, value in answer.headers.items()}
        body = masked(received, self._token)
        document = envelope.decode_answer(_STREAM, answer.status_code, headers, body, now=clock.now())
        session = parse(_Session, _STREAM, _STREAM, document[_STREAM])
        _check_url(session.url)
        return session


def read_frame(data: str | bytes) -> Frame:
    """What one frame says. Raises BodyError: it is not what Tradier documents."""
    document = envelope.parse_json(data.encode() if isinstance(data, str) else data, _STREAM)
    match document.get("event"):
        case "order":
            return parse(OrderEvent, _STREAM, "order", document)
        case str(kind):
            return OtherEvent(kind)
    raise BodyError(_STREAM, "is missing or not a word", path="event")


def read_orders(account: str, extract: Extract) -> dict[int, OrderEvent]:
    """The orders and legs of a list as if each had just been reported, by id. Raises BodyError."""
    reported: dict[int, OrderEvent] = {}
    orders, _ = parse_orders(tuple(page.body for page in extract.pages), ())
    for order in orders:
        reported[order.id] = _as_event(account, order, order.tag)
        reported |= {leg.id: _as_event(account, leg, None) for leg in order.leg}
    return reported


def _as_event(account: str, order: OrderLeg, tag: str | None) -> OrderEvent:
    return OrderEvent(id=order.id, account=account, status=order.status, exec_quantity=order.exec_quantity, tag=tag)


def _check_url(url: str) -> None:
    """Raises BodyError if a session id must not be sent there."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    if not (parsed.scheme == "wss" or (parsed.scheme == "ws" and is_loopback(parsed.host))) or not parsed.host:
        raise BodyError(_STREAM, "is not a wss URL", path="stream.url")


_State: TypeAlias = "tuple[str, Decimal]"


class OrderWatch:
    """Tells every change of an order of some accounts, by the stream or, while it is down, by polling. Never gives up.

    The stream repeats nothing that it sent while nobody listened. So polling ends only when the stream has been
    heard, and one more read of the orders then closes the gap. What the stream sends during a read outranks its answer,
    which may be the older: what happens after a frame comes in another one, or by the read that follows a lost stream.

    Args:
        accounts: the account numbers whose orders are reported.
        changed: called with every change.
        tell: called with one line for each change of state: connected, lost and why, not polled and why.
    """

    def __init__(
        self,
        events: AccountEvents,
        client: BrokerClient,
        accounts: Sequence[str],
        changed: Callable[[OrderEvent], None],
        tell: Callable[[str], None],
    ) -> None:
        self._events = events
        self._client = client
        self._accounts = accounts
        self._changed = changed
        self._tell = tell
        self._policy = events.policy
        self._known: dict[str, dict[int, _State]] = {}
        self._sent_since: dict[str, dict[int, _State]] = {account: {} for account in accounts}  # the last read began
        self._connected = False
        self._poll_now = asyncio.Event()
        self._logged: set[str] = set()

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._stream())
            group.create_task(self._poll())

    async def _stream(self) -> NoReturn:
        failures = 0
        while True:
            try:
                async with aclosing(self._events.frames()) as frames:
                    async for frame in frames:
                        failures = 0
                        self._take(frame)
            except BrokerError as error:
                self._lose(error)
                failures += 1
                await self._policy.sleep(self._delay(failures, error))

    def _take(self, frame: Frame) -> None:
        if not self._connected:
            self._connected = True
            self._logged.clear()
            self._tell("connected to the account stream")
            self._poll_now.set()
        if isinstance(frame, OtherEvent):
            if frame.kind != "heartbeat":
                self._tell_once(f"the account stream sends events of the unknown kind {excerpt(frame.kind)}; ignored")
        elif frame.account in self._accounts:
            self._sent_since[frame.account][frame.id] = _state(frame)
            if frame.account in self._known:
                self._known[frame.account][frame.id] = _state(frame)
            self._changed(frame)

    def _lose(self, error: BrokerError) -> None:
        if self._connected:
            self._connected = False
            self._poll_now.set()
        self._tell_once(f"polling the orders every {self._policy.poll_every:g} s: {error}")

    def _delay(self, failures: int, error: BrokerError) -> float:
        policy = self._policy
        delay = policy.jitter() * min(policy.max_delay, policy.base_delay * 2.0 ** min(failures - 1, 60))
        return delay + (error.wait or 0.0 if isinstance(error, RateLimitError) else 0.0)

    async def _poll(self) -> NoReturn:
        while True:
            self._poll_now.clear()
            complete = all([await self._poll_account(account) for account in self._accounts])
            with suppress(TimeoutError):
                async with asyncio.timeout(None if self._connected and complete else self._policy.poll_every):
                    await self._poll_now.wait()

    async def _poll_account(self, account: str) -> bool:
        """Read the orders and tell what has changed; of an account that was never read, nothing has."""
        sent: dict[int, _State] = {}
        self._sent_since[account] = sent
        try:
            listed = read_orders(account, await self._client.fetch_orders(account))
        except BrokerError as error:
            self._tell_once(f"account {account} was not polled: {error}")
            return False
        known = self._known.get(account)
        self._known[account] = {event.id: _state(event) for event in listed.values()} | sent
        for event in listed.values():
            if known is not None and event.id not in sent and known.get(event.id) != _state(event):
                self._changed(event)
        return True

    def _tell_once(self, text: str) -> None:
        """An outage repeats itself; its reason is worth one line."""
        if text not in self._logged:
            self._logged.add(text)
            self._tell(text)


def _state(event: OrderEvent) -> _State:
    return event.status, event.exec_quantity or Decimal(0)
