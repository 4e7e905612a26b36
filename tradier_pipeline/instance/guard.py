"""A thin ASGI guard in front of Dagster's UI, which by itself does what any page in the user's browser asks it to.

A page of another origin can send requests to this machine: an image is a GET, a form is a POST, a script opens a
socket, and a name that is rebound to 127.0.0.1 even reads the answers. Browsers say on whose behalf they ask (Host,
Origin, Sec-Fetch-Site), so that is what is looked at. Programs without these headers - curl, the command line - are the
user's own.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
import socket
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
COOKIE = "tradier_pipeline_ui"
REALM = b'Basic realm="tradier-pipeline: the token is the password", charset="UTF-8"'
POLICY_VIOLATION = 1008  # the close code of a refused socket

_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?")
# Where Jupyter is installed, Dagster runs the scripts of any notebook of this machine that a link names, as its own.
_NOTEBOOKS = ("notebook", "dagit/notebook")
_DEBUG_FILE = re.compile(r"/download_debug/(?P<run_id>[^/]+)")
_ISOLATION: Headers = [  # a page of another origin neither frames the UI nor loads parts of it
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"content-security-policy", b"frame-ancestors 'self'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not answered: an HTTP status, and a line for whoever sent it."""

    status: int
    reason: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True)
class Guard:
    """Lets through to `app` what the user's own browser page or program asks.

    Attributes:
        host: what the server listens on; a Host header may name it, or this machine.
        token: what proves who asks, as password, bearer or `?token=`; None: everybody on this machine may.
        has_run: whether there is a run of an id. Dagster fails where it is to pack the events of one that there is not.
    """

    app: App
    host: str
    token: str | None = field(default=None, repr=False)
    first_page: str | None = None  # where the bare address leads
    has_run: Callable[[str], bool] | None = None
    session: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)  # of the cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        request = _Request(scope)
        refusal = self._refusal(request)
        if refusal is not None:
            await _refuse(scope, send, refusal)
        elif self.token is not None and scope["type"] == "http" and request.method == "GET" and request.query_token:
            await _answer(send, 303, [(b"location", request.without_token), *self._cookie()], b"")
        elif self.first_page is not None and request.is_bare:
            await _answer(send, 307, [(b"location", self.first_page.encode()), (b"cache-control", b"no-store")], b"")
        else:
            await self.app(scope, receive, self._answering(scope, request, send))

    def _refusal(self, request: _Request) -> Refusal | None:
        return (
            _host_refusal(request, self.host)
            or _origin_refusal(request)
            or _method_refusal(request)
            or _path_refusal(request)
            or self._token_refusal(request)
            or self._run_refusal(request)
        )

    def _token_refusal(self, request: _Request) -> Refusal | None:
        if self.token is None or request.has_session(self.session) or any(map(self._is_token, request.tokens())):
            return None
        return Refusal(
            401,
            "The token is needed: as password, as ?token=..., or as `Authorization: Bearer ...`.",
            ((b"www-authenticate", REALM),),
        )

    def _run_refusal(self, request: _Request) -> Refusal | None:
        run = _DEBUG_FILE.fullmatch(request.path)
        if run is None or self.has_run is None or self.has_run(run["run_id"]):
            return None
        return Refusal(404, "There is no such run.")

    def _is_token(self, offered: str) -> bool:
        return hmac.compare_digest(offered.encode(), (self.token or "").encode())

    def _cookie(self) -> Headers:
        return [(b"set-cookie", f"{COOKIE}={self.session}; Path=/; HttpOnly; SameSite=Lax".encode())]

    def _answering(self, scope: Scope, request: _Request, send: Send) -> Send:
        """Adds our headers to the answer, and the cookie for a browser that has shown the token."""
        if scope["type"] != "http":
            return send
        added = [*_ISOLATION]
        if self.token is not None and not request.has_session(self.session):
            added += self._cookie()

        async def answering(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *added]}
            await send(message)

        return answering


class _Request:
    """What the guard looks at of a request or of the beginning of a socket."""

    def __init__(self, scope: Scope) -> None:
        self.is_socket = scope["type"] == "websocket"
        self.method: str = "GET" if self.is_socket else scope["method"]
        self.path: str = scope["path"]
        self.query = scope.get("query_string", b"").decode("latin-1")
        self._headers: Headers = scope["headers"]

    def all(self, name: bytes) -> list[str]:
        return [value.decode("latin-1").strip() for key, value in self._headers if key.lower() == name]

    def one(self, name: bytes) -> str | None:
        """A header that may be there once; several are as bad as a wrong one."""
        values = self.all(name)
        return ", ".join(values).lower() if values else None

    @property
    def is_graphql(self) -> bool:
        return self.path.lstrip("/").lower().startswith("graphql")

    @property
    def is_bare(self) -> bool:
        """Somebody opens the address that `up` printed."""
        return not self.is_socket and self.method == "GET" and self.path == "/" and not self.query

    @property
    def is_navigation(self) -> bool:
        """A person who follows a link or types an address; what is shown then, no other page can read."""
        asked = self.one(b"sec-fetch-mode"), self.one(b"sec-fetch-dest")
        return not self.is_socket and self.method == "GET" and asked == ("navigate", "document")

    @property
    def query_token(self) -> str | None:
        return dict(parse_qsl(self.query)).get("token")

    @property
    def without_token(self) -> bytes:
        """Where the browser is sent on, so that the token is in no history and no link."""
        rest = urlencode([(name, value) for name, value in parse_qsl(self.query) if name != "token"])
        path = "/" + self.path.lstrip("/")  # `//host/` would be another host's
        return f"{quote(path)}{'?' if rest else ''}{rest}".encode()

    def tokens(self) -> list[str]:
        offered = [self.query_token] if self.query_token else []
        for value in self.all(b"authorization"):
            scheme, _, rest = value.partition(" ")
            if scheme.lower() in ("bearer", "token"):
                offered.append(rest.strip())
            elif scheme.lower() == "basic":
                offered.append(_password(rest))
        return offered

    def has_session(self, session: str) -> bool:
        cookies: SimpleCookie = SimpleCookie()
        try:
            for value in self.all(b"cookie"):
                cookies.load(value)
        except CookieError:
            return False
        found = cookies.get(COOKIE)
        return found is not None and hmac.compare_digest(found.value.encode(), session.encode())


def _host_refusal(request: _Request, host: str) -> Refusal | None:
    """A page whose name was rebound to this machine sends its own name."""
    named = _HOST.fullmatch(request.one(b"host") or "")
    if named and _may_be_named(named["name"], host):
        return None
    return Refusal(403, "This Host is not served here. Open the UI at the address that `up` printed.")


def _may_be_named(name: str, host: str) -> bool:
    own = f"[{host}]".lower() if ":" in host else host.lower()
    if name in LOOPBACK or name == own:
        return True
    if host not in ("0.0.0.0", "::", ""):  # noqa: S104 - it is looked at, not listened on
        return False
    # listening everywhere: by an address, which cannot be rebound, or by the names this machine has
    return _is_address(name) or name in (socket.gethostname().lower(), socket.getfqdn().lower())


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _origin_refusal(request: _Request) -> Refusal | None:
    """A page of another origin may send the user here by a link, and nothing else."""
    refusal = Refusal(403, "Pages of other origins get nothing from this UI.")
    origin, site = request.one(b"origin"), request.one(b"sec-fetch-site")
    if origin is not None and origin not in {f"{scheme}://{request.one(b'host')}" for scheme in ("http", "https")}:
        return refusal
    if site in (None, "same-origin", "none") or request.is_navigation:
        return None
    return refusal


def _method_refusal(request: _Request) -> Refusal | None:
    """What changes anything is a POST of JSON, which no form and no image can send."""
    if request.is_socket:
        return None
    if request.method == "POST":
        content_type = (request.one(b"content-type") or "").partition(";")[0].strip()
        return None if content_type == "application/json" else Refusal(415, "A POST here is JSON: application/json.")
    if request.method not in ("GET", "HEAD"):
        return Refusal(405, "Only GET, HEAD and POST are served here.", ((b"allow", b"GET, HEAD, POST"),))
    if request.is_graphql and not (request.method == "GET" and _shows_page(request)):
        return Refusal(405, "GraphQL is asked by POST here.", ((b"allow", b"POST"),))
    return None


def _path_refusal(request: _Request) -> Refusal | None:
    if any(ord(character) < 32 or ord(character) == 127 for character in request.path):
        return Refusal(400, "The path has control characters.")
    parts = [part for part in request.path.replace("\\", "/").split("/") if part not in ("", ".")]
    if ".." in parts:
        return Refusal(400, "The path leads upwards.")
    if "/".join(parts).lower() in _NOTEBOOKS:
        return Refusal(404, "No asset here is a notebook, and none is shown.")
    return None


def _shows_page(request: _Request) -> bool:
    """Whether Dagster answers with its GraphQL editor, whatever the query."""
    return "text/html" in ", ".join(request.all(b"accept")[:1])


async def _refuse(scope: Scope, send: Send, refusal: Refusal) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": refusal.reason})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *refusal.headers, *_ISOLATION]
    await _answer(send, refusal.status, headers, f"{refusal.reason}\n".encode())


async def _answer(send: Send, status: int, headers: Headers, body: bytes) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


def _password(encoded: str) -> str:
    try:
        return b64decode(encoded, validate=True).decode().partition(":")[2]
    except (Base64Error, ValueError):
        return ""
