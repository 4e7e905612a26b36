"""The broker client: reads an account over HTTPS, whole and bounded in time. It has no method that writes."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, AnyStr, Literal, Self
from urllib.parse import urlencode

import httpx

from tradier_pipeline import clock
from tradier_pipeline.broker import envelope
from tradier_pipeline.broker.decode import parse
from tradier_pipeline.broker.errors import (
    AuthError,
    BodyError,
    BrokerError,
    RateLimitError,
    RefusedError,
    UnavailableError,
    excerpt,
)
from tradier_pipeline.broker.http import masked, open_http
from tradier_pipeline.broker.models import Order, identifier
from tradier_pipeline.broker.pages import Attempt, Extract, Page
from tradier_pipeline.broker.receive import receive_body
from tradier_pipeline.core import progress
from tradier_pipeline.core.errors import PipelineError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
    from datetime import date
    from types import TracebackType

    from pydantic import SecretStr

BalancesPeriod = Literal["WEEK", "MONTH", "YTD", "YEAR", "YEAR_3", "YEAR_5", "ALL"]

_KEPT_HEADERS = re.compile(r"date|content-type|retry-after|x-ratelimit-.*")
# beside its own, what the HTTP library lets through of a host or a proxy that cannot be spoken to
NETWORK_ERRORS = (httpx.RequestError, httpx.InvalidURL, OSError, ValueError, OverflowError)
_ORDERS_PER_PAGE = 1000
_ROUND = 25  # divides every cap a broker is likely to choose, and our own limit
_PAGE_LIMIT = 100
_ROWS_PER_PAGE = 1000  # of what has no ids
_MOST_PAGES = 1000  # 25,000 rows where the broker caps a page at the documented 25
_QUERY_LIMIT = 1500  # characters; a longer list of symbols goes into a form
_QUOTES_PATH = "/v1/markets/quotes"
_CALENDAR_PATH = "/v1/markets/calendar"
_PRICES_PATH = "/v1/markets/history"
_DIVIDENDS_PATH = "/beta/markets/fundamentals/dividends"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long a read may take.

    Attributes:
        attempts: requests per page, the first included.
        base_delay, max_delay: seconds; the wait before attempt n+1 is random up to `base_delay * 2**(n-1)`.
        deadline: seconds for everything one call does: requests, waits, pages.
    """

    attempts: int = 4
    base_delay: float = 0.25
    max_delay: float = 4.0
    deadline: float = 45.0
    jitter: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class SnapshotFetchError(BrokerError):
    """At least one of the four resources of a snapshot was not read.

    Attributes:
        extracts: what was received completely, by resource.
        failures: why the others were not. A resource in neither was given up because another one's failure was final.
    """

    def __init__(self, extracts: Mapping[str, Extract], failures: Mapping[str, BrokerError]) -> None:
        first = min(failures.values(), key=_telling)
        others = [name for name in failures if name != first.resource]
        super().__init__(
            first.resource,
            first.what + (f" (also failed: {', '.join(others)})" if others else ""),
            first.remedy,
            transient=first.transient,
        )
        self.args = (extracts, failures)
        self.extracts = dict(extracts)
        self.failures = dict(failures)


def _telling(error: BrokerError) -> int:
    """The lower, the more certainly the user must act: an outage explains itself, a refused token does not."""
    order = (AuthError, RateLimitError, RefusedError, BodyError)
    return next((rank for rank, kind in enumerate(order) if isinstance(error, kind)), len(order))


@dataclass(slots=True)
class _Fetch:
    """The record of one resource while it is read, kept when the read fails."""

    resource: str
    deadline: float  # on the event loop's clock
    attempts: list[Attempt] = field(default_factory=list)
    pages: list[Page] = field(default_factory=list)
    refused: Page | None = None

    def evidence_on(self, error: BrokerError) -> BrokerError:
        error.attempts = tuple(self.attempts)
        error.pages = (*self.pages, self.refused) if self.refused else tuple(self.pages)
        return error


@dataclass(frozen=True, slots=True)
class _Request:
    """One page's request. `form` only for reading quotes."""

    number: int
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    form: bool = False


_PROFILE = _Request(1, "/v1/user/profile")


class BrokerClient:
    """Reads one broker. Use as an async context manager; each request has a connection of its own.

    Every read is repeated after transient failures only (timeouts, broken connections, 404, 429, 5xx, transient `fault`
    bodies, pages that are not JSON) and ends by the policy's deadline. An answer counts as received once it has
    the resource's shape.

    Args:
        base_url: scheme, host and port; paths `/v1/...` are appended. http only for a loopback host.
        token: Tradier access token.
        token_of: whose it is and where it is set, where that is not TRADIER_ACCESS_TOKEN.
        transport: replaces the network, for tests.
        body_limit: bytes of one body.

    Raises:
        PipelineError: unusable base_url or token.
    """

    def __init__(
        self,
        base_url: str,
        token: SecretStr,
        *,
        policy: RetryPolicy | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        body_limit: int = envelope.BODY_LIMIT,
        token_of: tuple[str, str] | None = None,
    ) -> None:
        self._policy = policy or RetryPolicy()
        self._token = token
        self._body_limit = body_limit
        self._token_of = token_of
        self._http = open_http(base_url, token, transport)

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, traceback)

    async def fetch_snapshot(self, account: str, profile: Awaitable[Extract] | None = None) -> dict[str, Extract]:
        """Read account, balances, positions and orders in parallel, under one deadline.

        Args:
            profile: the answer that holds all accounts of the token, if somebody asks for it already.

        Raises:
            SnapshotFetchError: if any of them failed. A refused credential ends the other reads at once; after any
                other failure they are finished, for diagnosis.
        """
        path = _account_path(account)
        deadline = self._deadline()
        reads = {
            "account": self._single("account", _PROFILE, deadline) if profile is None else _awaited(profile),
            "balances": self._single("balances", _Request(1, f"{path}/balances"), deadline),
            "positions": self._single("positions", _Request(1, f"{path}/positions"), deadline),
            "orders": self._orders(path, deadline),
        }
        extracts: dict[str, Extract] = {}
        failures: dict[str, BrokerError] = {}

        async def read(resource: str, extract: Coroutine[None, None, Extract]) -> None:
            try:
                extracts[resource] = await extract
            except BrokerError as error:
                failures[resource] = error
                if isinstance(error, AuthError):
                    raise

        try:
            async with asyncio.TaskGroup() as group:
                for resource, extract in reads.items():
                    group.create_task(read(resource, extract))
        except* AuthError:
            pass  # it is in failures; the group has cancelled the other reads
        if failures:
            raise SnapshotFetchError(extracts, failures)
        return {resource: extracts[resource] for resource in reads}

    async def fetch_account(self) -> Extract:
        """The user's profile with its accounts. Raises BrokerError, as every read."""
        return await self._single("account", _PROFILE, self._deadline())

    async def fetch_orders(self, account: str) -> Extract:
        """The orders of the current New York trading day, with tags, all pages."""
        return await self._orders(_account_path(account), self._deadline())

    async def fetch_order(self, account: str, order_id: int) -> Extract:
        """One order, also of an earlier day. Tradier: an unknown id is an AccountRefusedError.

        An answer that cannot be stored, or of another order, is a BodyError.
        """
        request = _Request(1, f"{_account_path(account)}/orders/{order_id:d}", {"includeTags": "true"})

        async def read(fetch: _Fetch) -> None:
            page, document = await self._page(request, fetch)
            fetch.refused = page
            _refuse_other_order(document, order_id)
            fetch.refused = None
            fetch.pages.append(page)

        return await self._within(self._deadline(), "order", read)

    async def fetch_quotes(self, symbols: Iterable[str]) -> Extract:
        """Quotes with greeks of all symbols, in one request.

        Raises:
            ValueError: no symbols.
        """
        listed = ",".join(dict.fromkeys(symbols))
        if not listed:
            raise ValueError("no symbols to quote")
        query = {"symbols": listed, "greeks": "true"}
        # Tradier: quotes may be read by POST, for lists too long for a URL.
        request = _Request(1, _QUOTES_PATH, query, form=len(urlencode(query)) > _QUERY_LIMIT)
        return await self._single("quotes", request, self._deadline())

    async def fetch_history(self, account: str, since: date, until: date) -> Extract:
        """The events of an account from one date to another, all pages. Live accounts only; posted the next morning.

        Rows outside the dates may come, too: only older documents name the filter.
        """
        query = {"start": since.isoformat(), "end": until.isoformat()}
        return await self._listed("history", f"{_account_path(account)}/history", query)

    async def fetch_gainloss(self, account: str, since: date, until: date) -> Extract:
        """The lots closed from one date to another, all pages; like `fetch_history`."""
        query = {"sortBy": "closeDate", "start": since.isoformat(), "end": until.isoformat()}
        return await self._listed("gainloss", f"{_account_path(account)}/gainloss", query)

    async def fetch_historical_balances(self, account: str, period: BalancesPeriod) -> Extract:
        """The account's value day by day, back from the last day that is over. One answer, no pages."""
        request = _Request(1, f"{_account_path(account)}/historical-balances", {"period": period})
        return await self._single("historical_balances", request, self._deadline())

    async def fetch_calendar(self, year: int, month: int) -> Extract:
        """The days of a month on which the exchange is open, and its hours."""
        query = {"month": str(month), "year": str(year)}
        return await self._single("calendar", _Request(1, _CALENDAR_PATH, query), self._deadline())

    async def fetch_prices(self, symbol: str, since: date, until: date) -> Extract:
        """The daily prices of a symbol between two dates, both included. One answer, no pages."""
        query = {"symbol": symbol, "interval": "daily", "start": since.isoformat(), "end": until.isoformat()}
        return await self._single("prices", _Request(1, _PRICES_PATH, query), self._deadline())

    async def fetch_dividends(self, symbol: str) -> Extract:
        """The dividends of a symbol, past and announced. One answer, no pages. Live accounts only."""
        return await self._single("dividends", _Request(1, _DIVIDENDS_PATH, {"symbols": symbol}), self._deadline())

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._policy.deadline

    async def _orders(self, account_path: str, deadline: float) -> Extract:
        path = f"{account_path}/orders"
        return await self._within(deadline, "orders", lambda fetch: self._all_orders(path, fetch))

    async def _single(self, resource: str, request: _Request, deadline: float) -> Extract:
        async def read(fetch: _Fetch) -> None:
            page, _ = await self._page(request, fetch)
            fetch.pages.append(page)

        return await self._within(deadline, resource, read)

    async def _within(self, deadline: float, resource: str, read: Callable[[_Fetch], Awaitable[None]]) -> Extract:
        fetch = _Fetch(resource, deadline)
        try:
            async with asyncio.timeout_at(deadline):
                await read(fetch)
        except TimeoutError:
            last = fetch.attempts[-1].outcome if fetch.attempts else "nothing sent"
            raise fetch.evidence_on(self._out_of_time(fetch, last)) from None
        except BrokerError as error:
            fetch.evidence_on(error)
            raise
        return Extract(resource, tuple(fetch.pages))

    async def _all_orders(self, path: str, fetch: _Fetch) -> None:
        """Read pages until one is certainly the last; start again if the list moved between two of them."""
        for _ in range(self._policy.attempts):
            fetch.pages.clear()
            if await self._orders_unmoved(path, fetch):
                return
        raise BodyError(fetch.resource, f"the list changed between its pages {self._policy.attempts} times")

    async def _orders_unmoved(self, path: str, fetch: _Fetch) -> bool:
        """Read every page. False if a page repeats part of an earlier one: an order was added meanwhile."""
        seen: set[int] = set()
        previous: set[int] = set()
        for number in range(1, _PAGE_LIMIT + 1):
            query = {"includeTags": "true", "limit": str(_ORDERS_PER_PAGE), "page": str(number)}
            page, document = await self._page(_Request(number, path, query), fetch)
            fetch.pages.append(page)
            ids = _order_ids(document)
            if ids and ids == previous:
                fetch.pages.pop()  # the broker ignores `page`, or repeats its last one
                return True
            if ids & seen:
                return False
            # What Tradier caps a page at is unclear (25 documented, 27 seen), so a round count, which a cap could
            # have produced, does not end the list: only the next, empty page does.
            if not ids or len(ids) % _ROUND != 0:
                return True
            seen |= ids
            previous = ids
        raise BodyError(fetch.resource, f"the list has more than {_PAGE_LIMIT} pages")

    async def _listed(self, resource: envelope.ListResource, path: str, query: Mapping[str, str]) -> Extract:
        return await self._within(
            self._deadline(), resource, lambda fetch: self._all_pages(resource, path, query, fetch)
        )

    async def _all_pages(
        self, resource: envelope.ListResource, path: str, query: Mapping[str, str], fetch: _Fetch
    ) -> None:
        """Read the pages of a list whose rows have no ids and may be equal, until one is certainly the last.

        A page with the rows of the one before it may be more of them, or the same page again.
        """

        async def ask(number: int) -> tuple[Page, list[Any]]:
            asked = {**query, "limit": str(_ROWS_PER_PAGE), "page": str(number)}
            page, document = await self._page(_Request(number, path, asked), fetch)
            return page, envelope.rows(resource, document)

        previous: list[Any] | None = None
        counts_pages = False  # as far as is known
        for number in range(1, _MOST_PAGES + 1):
            page, rows = await ask(number)
            if rows and rows == previous and not counts_pages:
                if await self._repeats(ask, rows):
                    _refuse_uncountable(resource, rows)
                    return
                counts_pages = True
            fetch.pages.append(page)
            if not rows or len(rows) % _ROUND != 0:  # as with orders
                return
            previous = rows
        raise BodyError(fetch.resource, f"the list has more than {_MOST_PAGES} pages")

    async def _repeats(self, ask: Callable[[int], Awaitable[tuple[Page, list[Any]]]], rows: list[Any]) -> bool:
        """Whether a page far beyond any list has the same rows: the broker ignores `page`, or repeats its last one."""
        try:
            _, beyond = await ask(_MOST_PAGES)
        except RefusedError:
            return False  # it looks at the number
        return beyond == rows

    async def _page(self, request: _Request, fetch: _Fetch) -> tuple[Page, dict[str, Any]]:
        """One page: requested until there is a usable answer, a final refusal, or no attempt or time is left."""
        first = len(fetch.attempts)
        number = 0
        if request.number > 1:
            progress.working(f"{fetch.resource}, page {request.number}")
        while True:
            number += 1
            try:
                return await self._attempt(request, fetch, first)
            except BrokerError as error:
                if not error.transient:
                    raise
                await self._pause(number, error, fetch)

    async def _attempt(self, request: _Request, fetch: _Fetch, first: int) -> tuple[Page, dict[str, Any]]:
        started_at = clock.now()
        outcome = "unfinished"
        page: Page | None = None
        fetch.refused = None
        try:
            status, headers, body = await self._exchange(request, fetch.resource)
            ended_at = clock.now()
            kept = {name: value for name, value in headers.items() if _KEPT_HEADERS.fullmatch(name)}
            page = Page(request.number, request.path, request.query, status, kept, body, started_at, ended_at, ())
            document = envelope.decode_answer(
                fetch.resource, status, headers, body, now=ended_at, limit=self._body_limit
            )
            outcome = str(status)
        except BrokerError as error:
            outcome = error.what
            if self._token_of and isinstance(error, AuthError):
                raise error.of_token(*self._token_of) from None
            raise
        finally:
            fetch.attempts.append(Attempt(started_at, clock.now(), outcome))
            fetch.refused = page and replace(page, attempts=tuple(fetch.attempts[first:]))
        page, fetch.refused = fetch.refused, None
        assert page is not None
        return page, document

    async def _exchange(self, request: _Request, resource: str) -> tuple[int, dict[str, str], bytes]:
        """One request and its whole answer: status, headers with lower-case names, decoded body."""
        if request.form:
            sent = self._http.build_request("POST", request.path, data=request.query)
        else:
            sent = self._http.build_request("GET", request.path, params=request.query)
        try:
            async with contextlib.aclosing(await self._http.send(sent, stream=True)) as response:
                body = await receive_body(response, resource, self._body_limit)
        except NETWORK_ERRORS as error:
            text = f": {excerpt(self._masked(str(error)))}" if str(error) else ""
            # Without the cause: its text may quote the answer unmasked, and its request holds the token.
            raise UnavailableError(
                resource, f"{type(error).__name__}{text}", "Check the network and TRADIER_BASE_URL.", transient=True
            ) from None
        headers = {name.lower(): self._masked(value) for name, value in response.headers.items()}
        return response.status_code, headers, self._masked(body)

    async def _pause(self, number: int, error: BrokerError, fetch: _Fetch) -> None:
        """Wait before the next attempt; raise if there is none, or if it would come after the deadline."""
        policy = self._policy
        if number >= policy.attempts:
            if isinstance(error, RateLimitError):
                raise error
            raise UnavailableError(
                fetch.resource, f"no usable answer in {number} attempts, the last: {error.what}", error.remedy
            ) from error
        delay = policy.jitter() * min(policy.max_delay, policy.base_delay * 2 ** min(number - 1, 60))
        if error.wait is not None:
            delay += error.wait
        if delay >= fetch.deadline - asyncio.get_running_loop().time():
            if isinstance(error, RateLimitError):
                raise error
            if error.wait:
                what = f"{error.what}; asked to wait {error.wait:,.0f} s, longer than a read may take"
                raise UnavailableError(fetch.resource, what, error.remedy) from error
            raise self._out_of_time(fetch, error.what) from error
        host = self._http.base_url.netloc.decode()
        text = f"{fetch.resource}: attempt {number + 1} of {policy.attempts}, {host}; {error.what}"
        progress.working(text, urgent=True)
        await policy.sleep(delay)

    def _out_of_time(self, fetch: _Fetch, last: str) -> UnavailableError:
        seconds, requests = self._policy.deadline, len(fetch.attempts)
        return UnavailableError(
            fetch.resource,
            f"no complete answer within {seconds:g} s; requests: {requests}, the last: {last}",
            "The next snapshot tries again; if it repeats, the broker or the network is too slow.",
        )

    def _masked(self, text: AnyStr) -> AnyStr:
        return masked(text, self._token)


async def _awaited(extract: Awaitable[Extract]) -> Extract:
    return await extract


def _account_path(account: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]+", account):
        raise PipelineError(
            f"the account number {excerpt(account)} is not one of letters and digits",
            "Set TRADIER_ACCOUNT_ID to an account number as the broker shows it.",
        )
    return f"/v1/accounts/{account}"


def _refuse_uncountable(resource: str, rows: list[Any]) -> None:
    """Raise BodyError if a page that the broker sends again and again may also be several pages of equal rows."""
    if all(rows.count(row) > 1 for row in rows):
        raise BodyError(
            resource, f"every page has the same {len(rows)} rows, each with its equal: how many there are is unknown"
        )


def _order_ids(document: Mapping[str, Any]) -> set[int]:
    """The ids of a page of orders. Raises BodyError if an order has none or one appears twice."""
    rows = envelope.rows("orders", document)
    ids = [identifier("orders", f"orders.order[{index}].id", order.get("id")) for index, order in enumerate(rows)]
    unique = set(ids)
    if len(unique) != len(ids):
        twice, _ = Counter(ids).most_common(1)[0]
        raise BodyError("orders", f"has the id {twice} twice on one page", path="orders.order")
    return unique


def _refuse_other_order(document: Mapping[str, Any], order_id: int) -> None:
    """Raise BodyError if an answer is not an order that can be stored, or is another one than was asked for."""
    order = parse(Order, "order", "order", envelope.one("order", document))
    if order.id != order_id:
        raise BodyError("order", f"is {order.id}, but {order_id} was asked for", path="order.id")
