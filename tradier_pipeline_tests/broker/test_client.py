from __future__ import annotations

import asyncio
import inspect
import logging
import ssl
import traceback
from datetime import UTC, date, datetime, timedelta
from functools import partial

import httpx
import pytest
from pydantic import SecretStr

from tradier_pipeline.broker import client as client_module
from tradier_pipeline.broker import envelope
from tradier_pipeline.broker.client import BrokerClient, RetryPolicy, SnapshotFetchError
from tradier_pipeline.broker.errors import (
    AccountRefusedError,
    AuthError,
    BodyError,
    BrokerError,
    FaultError,
    RateLimitError,
    RefusedError,
    UnavailableError,
)
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline_tests.support import bodies
from tradier_pipeline_tests.support.reads import read_positions
from tradier_pipeline_tests.support.scripted_server import (
    Request,
    ScriptedServer,
    answer,
    computed,
    document,
    dripping,
    held,
    raw,
    reset,
    silent,
    truncated,
)

TOKEN = "canary0Token1That2Must3NotLeak"
ACCOUNT = "VA12345678"
PROFILE_PATH = "/v1/user/profile"
BALANCES_PATH = f"/v1/accounts/{ACCOUNT}/balances"
POSITIONS_PATH = f"/v1/accounts/{ACCOUNT}/positions"
ORDERS_PATH = f"/v1/accounts/{ACCOUNT}/orders"
QUOTES_PATH = "/v1/markets/quotes"
HISTORY_PATH = f"/v1/accounts/{ACCOUNT}/history"
GAINLOSS_PATH = f"/v1/accounts/{ACCOUNT}/gainloss"
DATES = (date(2026, 11, 2), date(2026, 11, 20))

PROFILE = {"profile": {"id": "id-sb-1", "account": {"account_number": ACCOUNT}}}
BALANCES = {"balances": {"account_number": ACCOUNT, "total_equity": 100.5}}
POSITIONS = {"positions": {"position": {"id": 1, "symbol": "SPY", "quantity": 1.0}}}
ORDERS = {"orders": {"order": [{"id": 7, "tag": "null"}, {"id": 8}]}}

# No waiting between attempts; the deadline only matters where a test is about it.
AT_ONCE = RetryPolicy(base_delay=0.0, deadline=30.0)
SHORT = RetryPolicy(base_delay=0.0, deadline=0.2)


@pytest.fixture
def anyio_backend():
    return "asyncio"


pytestmark = pytest.mark.anyio


@pytest.fixture
async def server():
    async with ScriptedServer() as server:
        server.on(PROFILE_PATH, document(PROFILE))
        server.on(BALANCES_PATH, document(BALANCES))
        server.on(POSITIONS_PATH, document(POSITIONS))
        server.on(ORDERS_PATH, document(ORDERS))
        yield server


def connect(server, policy=AT_ONCE, **options):
    return BrokerClient(server.url, SecretStr(TOKEN), policy=policy, **options)


async def failure_of(server, policy=AT_ONCE, **options):
    async with connect(server, policy, **options) as client:
        with pytest.raises(BrokerError) as caught:
            await read_positions(client, ACCOUNT)
    return caught.value


# --- a read


async def test_a_read_is_one_authorized_get_and_keeps_the_exact_body(server):
    body = b' {"positions" :\n"null"} '
    headers = {"Content-Type": "application/json", "X-Ratelimit-Used": "1", "Date": "Fri, 20 Nov 2026 14:31:00 GMT"}
    server.on(POSITIONS_PATH, answer(body, headers={**headers, "Set-Cookie": "a=b", "Server": "x"}))
    before = datetime.now(UTC)
    async with connect(server) as client:
        extract = await read_positions(client, ACCOUNT)

    [request] = server.requests
    assert (request.method, request.path, request.values) == ("GET", POSITIONS_PATH, {})
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert request.headers["accept"] == "application/json"
    assert request.headers["user-agent"].startswith("tradier-pipeline/")

    [page] = extract.pages
    assert (extract.resource, page.number, page.path, page.query, page.status) == (
        "positions", 1, POSITIONS_PATH, {}, 200,
    )  # fmt: skip
    assert page.body == body
    assert page.headers == {name.lower(): value for name, value in headers.items()}
    assert before <= page.started_at <= page.ended_at <= datetime.now(UTC)
    assert (extract.started_at, extract.ended_at) == (page.started_at, page.ended_at)
    [attempt] = page.attempts
    assert (attempt.started_at, attempt.outcome) == (page.started_at, "200")


async def test_a_snapshot_reads_four_resources_at_once_each_on_a_connection_of_its_own(server):
    together = asyncio.Barrier(4)  # nothing is answered before all four have been asked
    paths = {PROFILE_PATH: PROFILE, BALANCES_PATH: BALANCES, POSITIONS_PATH: POSITIONS, ORDERS_PATH: ORDERS}
    for path, value in paths.items():
        server.on(path, held(together.wait, document(value)))
    async with connect(server) as client:
        first = await client.fetch_snapshot(ACCOUNT)
        await client.fetch_snapshot(ACCOUNT)
    assert tuple(first) == ("account", "balances", "positions", "orders")
    assert all(extract.resource == resource for resource, extract in first.items())
    assert len(server.requests) == server.connections == 8


async def test_one_order_is_read_with_its_tag(server):
    server.on(f"{ORDERS_PATH}/42", answer(bodies.dumps({"order": bodies.order(42)})))
    async with connect(server) as client:
        extract = await client.fetch_order(ACCOUNT, 42)
    assert extract.resource == "order"
    assert server.requests[0].values == {"includeTags": "true"}


@pytest.mark.parametrize("account", ["", "..", "VA1/orders", "VA1?x", "VA 1", "VÄ1"])
async def test_an_account_that_is_not_a_number_is_refused_before_anything_is_sent(server, account):
    async with connect(server) as client:
        for read in (client.fetch_snapshot, client.fetch_orders, partial(read_positions, client)):
            with pytest.raises(PipelineError, match="TRADIER_ACCOUNT_ID"):
                await read(account)
    assert server.requests == []


# --- it cannot write


async def test_every_public_method_is_a_read(server):
    public = {name for name, _ in inspect.getmembers(BrokerClient, callable) if not name.startswith("_")}
    assert public == {
        "fetch_account", "fetch_calendar", "fetch_dividends", "fetch_gainloss", "fetch_historical_balances",
        "fetch_history", "fetch_order", "fetch_orders", "fetch_prices", "fetch_quotes",
        "fetch_snapshot",
    }  # fmt: skip
    server.on(f"{ORDERS_PATH}/1", answer(bodies.dumps({"order": bodies.order(1)})))
    server.on(QUOTES_PATH, document({"quotes": {"quote": []}}))
    server.on("/v1/markets/calendar", document({"calendar": {"days": {"day": []}}}))
    server.on(HISTORY_PATH, document({"history": "null"}))
    server.on("/v1/markets/history", document({"history": None}))
    server.on("/beta/markets/fundamentals/dividends", document([]))
    server.on(GAINLOSS_PATH, document({"gainloss": "null"}))
    server.on(f"/v1/accounts/{ACCOUNT}/historical-balances", document({"balances": []}))
    async with connect(server) as client:
        await client.fetch_snapshot(ACCOUNT)
        await client.fetch_account()
        await read_positions(client, ACCOUNT)
        await client.fetch_orders(ACCOUNT)
        await client.fetch_order(ACCOUNT, 1)
        await client.fetch_calendar(2026, 11)
        await client.fetch_history(ACCOUNT, *DATES)
        await client.fetch_gainloss(ACCOUNT, *DATES)
        await client.fetch_historical_balances(ACCOUNT, "ALL")
        await client.fetch_prices("SPY", *DATES)
        await client.fetch_dividends("SPY")
        await client.fetch_quotes(["SPY"])
        await client.fetch_quotes([f"SPY260102P{strike:08d}" for strike in range(1, 200)])
    assert {(request.method, request.path) for request in server.requests if request.method != "GET"} == {
        ("POST", QUOTES_PATH)
    }


# --- quotes


@pytest.mark.parametrize(("count", "method"), [(1, "GET"), (60, "GET"), (80, "POST"), (2000, "POST")])
async def test_all_quotes_are_one_request_which_is_a_form_when_the_url_would_be_long(server, count, method):
    symbols = [f"SPY260102P{strike:08d}" for strike in range(1, count)] + ["BRK/B"]
    server.on(QUOTES_PATH, document({"quotes": {"quote": {"symbol": "BRK/B"}}}))
    async with connect(server) as client:
        extract = await client.fetch_quotes([*symbols, "BRK/B"])
    [request] = server.requests
    assert request.method == method
    assert request.values == {"symbols": ",".join(symbols), "greeks": "true"} == extract.pages[0].query


async def test_quotes_of_unknown_symbols_only_are_received(server):
    server.on(QUOTES_PATH, document({"quotes": {"unmatched_symbols": {"symbol": "XXXX"}}}))
    async with connect(server) as client:
        extract = await client.fetch_quotes(["XXXX"])
    assert envelope.rows("quotes", envelope.parse_json(extract.pages[0].body, "quotes")) == []


async def test_no_symbols_are_no_request(server):
    async with connect(server) as client:
        with pytest.raises(ValueError, match="no symbols"):
            await client.fetch_quotes([])
    assert server.requests == []


# --- pages of orders


def numbered(ids):
    return document({"orders": {"order": [{"id": number} for number in ids]} if ids else "null"})


def broker_with(ids, cap=1000, *, ignores_page=False):
    """Answers pages of a list as a broker that never puts more than `cap` rows on one."""

    def page_of(request: Request):
        size = min(cap, int(request.values["limit"]))
        start = 0 if ignores_page else (int(request.values["page"]) - 1) * size
        return numbered(ids[start : start + size])

    return computed(page_of)


def ids_of(extract):
    return [
        order["id"]
        for page in extract.pages
        for order in envelope.rows("orders", envelope.parse_json(page.body, "orders"))
    ]


@pytest.mark.parametrize(
    ("total", "cap", "requests"),
    [
        (0, 1000, 1),
        (1, 1000, 1),
        (27, 1000, 1),
        (25, 1000, 2),
        (60, 25, 3),
        (50, 25, 3),
        (999, 1000, 1),
        (1000, 1000, 2),
        (2300, 1000, 4),
        (2301, 1000, 3),
        (500, 100, 6),
    ],
)
async def test_all_orders_are_read_whatever_the_broker_caps_a_page_at(server, total, cap, requests):
    ids = list(range(1, total + 1))
    server.on(ORDERS_PATH, broker_with(ids, cap))
    async with connect(server) as client:
        extract = await client.fetch_orders(ACCOUNT)
    assert ids_of(extract) == ids
    assert [request.values for request in server.requests] == [
        {"includeTags": "true", "limit": "1000", "page": str(number)} for number in range(1, requests + 1)
    ]
    assert [page.number for page in extract.pages] == list(range(1, requests + 1))
    assert all(len(page.attempts) == 1 for page in extract.pages)
    assert [page.query["page"] for page in extract.pages] == [str(page.number) for page in extract.pages]


@pytest.mark.parametrize("total", [25, 500, 1000])
async def test_a_broker_that_ignores_the_page_number_is_read_once(server, total):
    ids = list(range(total))
    server.on(ORDERS_PATH, broker_with(ids, ignores_page=True))
    async with connect(server) as client:
        extract = await client.fetch_orders(ACCOUNT)
    assert ids_of(extract) == ids
    assert len(extract.pages) == 1


async def test_a_broker_that_repeats_its_last_page_is_read_to_there(server):
    pages = [numbered(range(25)), numbered(range(25, 50)), numbered(range(25, 50))]
    server.on(ORDERS_PATH, *pages)
    async with connect(server) as client:
        extract = await client.fetch_orders(ACCOUNT)
    assert ids_of(extract) == list(range(50))


async def test_a_list_that_moved_between_its_pages_is_read_again(server):
    before, after = list(range(50, 0, -1)), list(range(51, 0, -1))  # newest first; one order arrives after page 1
    server.on(ORDERS_PATH, numbered(before[:25]), broker_with(after, 25))
    async with connect(server) as client:
        extract = await client.fetch_orders(ACCOUNT)
    assert ids_of(extract) == after
    assert [request.values["page"] for request in server.requests] == ["1", "2", "1", "2", "3"]


async def test_a_list_that_never_stands_still_is_refused(server):
    def moving(request: Request):
        page, length = int(request.values["page"]), len(server.requests)
        return numbered(range(length, length + 25) if page == 1 else range(length - 5, length + 20))

    server.on(ORDERS_PATH, computed(moving))
    async with connect(server) as client:
        with pytest.raises(BodyError, match="changed between its pages 4 times"):
            await client.fetch_orders(ACCOUNT)
    assert len(server.requests) == 8


async def test_an_endless_list_is_refused(server):
    server.on(ORDERS_PATH, broker_with(range(10**6), 25))
    async with connect(server) as client:
        with pytest.raises(BodyError, match="more than 100 pages"):
            await client.fetch_orders(ACCOUNT)


@pytest.mark.parametrize(
    ("orders", "reported"),
    [
        ([{"id": 1}, {"id": 9}, {"id": 9}], "has the id 9 twice on one page"),
        ([{"id": 1}, {}], r"orders\.order\[1\]\.id is missing"),
        ([{"id": None}], r"orders\.order\[0\]\.id is missing"),
        ([{"id": 1.5}], r"orders\.order\[0\]\.id"),
        ([{"id": [1]}], r"orders\.order\[0\]\.id"),
        ([{"id": True}], r"orders\.order\[0\]\.id"),
    ],
)
async def test_orders_that_cannot_be_told_apart_are_refused(server, orders, reported):
    server.on(ORDERS_PATH, document({"orders": {"order": orders}}))
    async with connect(server) as client:
        with pytest.raises(BodyError, match=reported) as caught:
            await client.fetch_orders(ACCOUNT)
    assert len(server.requests) == 1
    assert len(caught.value.pages) == 1


# --- lists whose rows have no ids


def events(amounts):
    return document({"history": {"event": [{"amount": amount} for amount in amounts]} if amounts else "null"})


def amounts_of(extract):
    return [
        event["amount"]
        for page in extract.pages
        for event in envelope.rows("history", envelope.parse_json(page.body, "history"))
    ]


def history_of(amounts, cap=1000):
    def page_of(request: Request):
        size = min(cap, int(request.values["limit"]))
        start = (int(request.values["page"]) - 1) * size
        return events(amounts[start : start + size])

    return computed(page_of)


@pytest.mark.parametrize(
    ("total", "cap", "requests"),
    [(0, 1000, 1), (1, 1000, 1), (27, 1000, 1), (25, 25, 2), (60, 25, 3), (1000, 1000, 2), (2301, 1000, 3)],
)
async def test_every_row_of_a_history_is_read_also_equal_ones(server, total, cap, requests):
    amounts = [number // 2 for number in range(total)]
    server.on(HISTORY_PATH, history_of(amounts, cap))
    async with connect(server) as client:
        extract = await client.fetch_history(ACCOUNT, *DATES)
    assert amounts_of(extract) == amounts
    assert [request.values for request in server.requests] == [
        {"start": "2026-11-02", "end": "2026-11-20", "limit": "1000", "page": str(number)}
        for number in range(1, requests + 1)
    ]


async def test_gainloss_is_read_whole_and_never_by_symbol(server):
    rows = [{"symbol": "V", "gain_loss": number} for number in range(25)]
    server.on(GAINLOSS_PATH, document({"gainloss": {"closed_position": rows, "total_pages": 9}}))
    async with connect(server) as client:
        extract = await client.fetch_gainloss(ACCOUNT, *DATES)
    assert len(extract.pages) == 1  # the second is the first again, and so is one far beyond
    assert [sorted(request.values) for request in server.requests] == [["end", "limit", "page", "sortBy", "start"]] * 3
    assert [request.values["page"] for request in server.requests] == ["1", "2", "1000"]


def same_lots(total, cap, *, counter=False):
    """Answers pages of lots that are all equal; with a counter, no two bodies are."""

    def page_of(request: Request):
        number = int(request.values["page"])
        rows = [{"symbol": "V", "gain_loss": 1}] * max(0, min(cap, total - (number - 1) * cap))
        held = {"closed_position": rows, **({"page": number, "total_pages": -(-total // cap)} if counter else {})}
        return document({"gainloss": held if rows or counter else "null"})

    return computed(page_of)


def lots_of(extract):
    return sum(len(envelope.rows("gainloss", envelope.parse_json(page.body, "gainloss"))) for page in extract.pages)


@pytest.mark.parametrize("counter", [False, True])
@pytest.mark.parametrize(("total", "cap"), [(50, 25), (51, 25), (75, 25), (200, 100), (2000, 1000)])
async def test_equal_lots_are_all_read_also_where_a_page_equals_the_one_before(server, total, cap, counter):
    server.on(GAINLOSS_PATH, same_lots(total, cap, counter=counter))
    async with connect(server) as client:
        extract = await client.fetch_gainloss(ACCOUNT, *DATES)
    assert lots_of(extract) == total
    assert len(server.requests) <= total // cap + 2  # an empty page, and one that asks whether pages are counted


async def test_a_broker_that_refuses_a_page_far_beyond_the_list_counts_its_pages(server):
    lots = document({"gainloss": {"closed_position": [{"gain_loss": 1}] * 25}})
    server.on(GAINLOSS_PATH, lots, lots, answer("no such page", 400), document({"gainloss": "null"}))
    async with connect(server) as client:
        assert lots_of(await client.fetch_gainloss(ACCOUNT, *DATES)) == 50


async def test_equal_rows_on_every_page_that_is_asked_for_are_refused_after_few_requests(server):
    server.on(GAINLOSS_PATH, document({"gainloss": {"closed_position": [{"gain_loss": 1}] * 25}}))
    async with connect(server) as client:
        with pytest.raises(BodyError, match="every page has the same 25 rows, each with its equal"):
            await client.fetch_gainloss(ACCOUNT, *DATES)
    assert len(server.requests) == 3


async def test_a_page_that_equals_the_one_before_by_chance_is_kept_although_its_rows_differ(server):
    amounts = [*range(25), *range(25), 99]
    server.on(HISTORY_PATH, history_of(amounts, 25))
    async with connect(server) as client:
        assert amounts_of(await client.fetch_history(ACCOUNT, *DATES)) == amounts


async def test_a_history_that_repeats_its_last_page_is_read_to_there(server):
    server.on(HISTORY_PATH, events(range(25)), events(range(25, 50)), events(range(25, 50)))
    async with connect(server) as client:
        extract = await client.fetch_history(ACCOUNT, *DATES)
    assert amounts_of(extract) == list(range(50))


async def test_an_endless_history_is_refused(server, monkeypatch):
    monkeypatch.setattr(client_module, "_MOST_PAGES", 3)
    server.on(HISTORY_PATH, history_of(range(10**6), 25))
    async with connect(server) as client:
        with pytest.raises(BodyError, match="more than 3 pages"):
            await client.fetch_history(ACCOUNT, *DATES)
    assert len(server.requests) == 3


async def test_a_later_page_of_a_history_that_fails_fails_it_and_keeps_the_earlier_ones(server):
    server.on(HISTORY_PATH, events(range(25)), answer("bad page", 400))
    async with connect(server) as client:
        with pytest.raises(RefusedError) as caught:
            await client.fetch_history(ACCOUNT, *DATES)
    assert [page.status for page in caught.value.pages] == [200, 400]


async def test_historical_balances_are_one_request(server):
    path = f"/v1/accounts/{ACCOUNT}/historical-balances"
    server.on(path, document({"balances": [{"date": "2026-11-20", "value": 1}] * 50, "delta": 0}))
    async with connect(server) as client:
        extract = await client.fetch_historical_balances(ACCOUNT, "ALL")
    assert len(extract.pages) == 1
    assert [request.values for request in server.requests] == [{"period": "ALL"}]


async def test_a_later_page_that_fails_fails_the_resource_and_keeps_the_earlier_ones(server):
    server.on(ORDERS_PATH, numbered(range(25)), answer("bad page", 400))
    async with connect(server) as client:
        with pytest.raises(RefusedError) as caught:
            await client.fetch_orders(ACCOUNT)
    assert [(page.number, page.status) for page in caught.value.pages] == [(1, 200), (2, 400)]
    assert [attempt.outcome for attempt in caught.value.attempts] == ["200", "HTTP 400 Bad Request: 'bad page'"]


# --- transient failures

DATASTORE = '{"fault":{"faultstring":"Datastore Error","detail":{"errorcode":"datastore.ErrorFetching"}}}'
TRANSIENT = {
    "500": (answer("An error occurred while communicating with the backend.", 500), "HTTP 500"),
    "502 page": (answer("<html>Bad Gateway</html>", 502), "HTTP 502 Bad Gateway with an HTML page"),
    "503": (answer("", 503), "HTTP 503 Service Unavailable"),
    "504": (answer("", 504), "HTTP 504"),
    "520": (answer("", 520), "HTTP 520"),
    "530": (answer("", 530), "HTTP 530"),
    "404": (answer("", 404), "HTTP 404"),
    "429": (answer("", 429), "HTTP 429"),
    "quota": (answer("Quota Violation"), "HTTP 200 OK, the request limit is used up"),
    "fault 200": (answer(DATASTORE), "Datastore Error"),
    "fault 500": (answer(DATASTORE, 500), "Datastore Error"),
    "maintenance page": (answer("<!DOCTYPE html><html></html>"), "HTML page"),
    "empty body": (answer(""), "the body is empty"),
    "text": (answer("try later"), "the body is not JSON"),
    "truncated": (truncated(b'{"positions":"null"}', 9), "RemoteProtocolError"),
    "cut before its length": (raw(b'HTTP/1.1 200 OK\r\n\r\n{"positions":'), "the body is not JSON"),
    "reset": (reset(), "ReadError"),
    "not HTTP": (raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "RemoteProtocolError"),
    "bad gzip": (answer("not gzip", headers={"Content-Encoding": "gzip"}), "DecodingError"),
    "chunk without end": (
        raw(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n14\r\n{"positions":"null"}\r\n'),
        "RemoteProtocolError",
    ),
}


@pytest.mark.parametrize("name", TRANSIENT)
async def test_a_transient_failure_is_followed_by_another_attempt(server, name):
    broken, outcome = TRANSIENT[name]
    server.on(POSITIONS_PATH, broken, broken, document(POSITIONS))
    async with connect(server) as client:
        extract = await read_positions(client, ACCOUNT)
    [page] = extract.pages
    first, second, third = page.attempts
    assert outcome in first.outcome
    assert first.outcome == second.outcome
    assert third.outcome == "200"
    assert first.started_at <= first.ended_at <= second.started_at <= third.started_at == page.started_at


@pytest.mark.parametrize("name", TRANSIENT)
async def test_attempts_are_bounded_and_all_of_them_are_kept(server, name):
    broken, outcome = TRANSIENT[name]
    server.on(POSITIONS_PATH, broken)
    error = await failure_of(server)
    assert isinstance(error, RateLimitError if name in ("429", "quota") else UnavailableError)
    assert server.count(POSITIONS_PATH) == len(error.attempts) == 4
    assert all(outcome in attempt.outcome for attempt in error.attempts)
    assert outcome in str(error)
    assert "\n" not in str(error)


async def test_a_refused_connection_is_told_and_bounded():
    async with ScriptedServer() as gone:
        pass
    async with BrokerClient(gone.url, SecretStr(TOKEN), policy=AT_ONCE) as client:
        with pytest.raises(UnavailableError, match="ConnectError") as caught:
            await client.fetch_account()
    assert len(caught.value.attempts) == 4
    assert caught.value.pages == ()


async def test_a_read_timeout_is_told_by_its_name():
    def time_out(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("", request=request)

    transport = httpx.MockTransport(time_out)
    async with BrokerClient("http://localhost", SecretStr(TOKEN), policy=AT_ONCE, transport=transport) as client:
        with pytest.raises(UnavailableError, match="the last: ReadTimeout"):
            await client.fetch_account()


async def test_the_refused_answer_is_kept_for_diagnosis(server):
    server.on(POSITIONS_PATH, answer("<html>down</html>", 503, {"Retry-After": "1", "Content-Type": "text/html"}))
    error = await failure_of(server)
    [page] = error.pages
    assert (page.status, page.body) == (503, b"<html>down</html>")
    assert page.headers == {"retry-after": "1", "content-type": "text/html"}
    assert page.attempts == error.attempts


def recording(waits, jitter=1.0, **values):
    async def note(seconds: float) -> None:
        waits.append(seconds)

    return RetryPolicy(sleep=note, jitter=lambda: jitter, **values)


async def test_waits_grow_exponentially_up_to_their_limit(server):
    waits: list[float] = []
    server.on(POSITIONS_PATH, answer("", 503))
    await failure_of(server, recording(waits, attempts=7))
    assert waits == [0.25, 0.5, 1.0, 2.0, 4.0, 4.0]
    await failure_of(server, recording(waits, jitter=0.5, attempts=3))
    assert waits[6:] == [0.125, 0.25]


async def test_a_wait_that_would_pass_the_deadline_is_not_begun(server):
    waits: list[float] = []
    server.on(POSITIONS_PATH, answer("", 503))
    error = await failure_of(server, recording(waits, base_delay=60, max_delay=60))
    assert isinstance(error, UnavailableError)
    assert "within 45 s; requests: 1, the last: HTTP 503" in str(error)
    assert waits == []


NOON = "Fri, 20 Nov 2026 12:00:00 GMT"


async def test_a_rate_limit_is_waited_for(server):
    expiry = datetime(2026, 11, 20, 12, 0, 20, tzinfo=UTC)
    limited = answer("", 429, {"Date": NOON, "X-Ratelimit-Expiry": str(int(expiry.timestamp() * 1000))})
    server.on(POSITIONS_PATH, limited, document(POSITIONS))
    waits: list[float] = []
    async with connect(server, recording(waits)) as client:
        await read_positions(client, ACCOUNT)
    assert waits == [20.25]


async def test_a_rate_limit_that_ends_after_the_deadline_fails_at_once_and_says_when(server):
    expiry = datetime(2026, 11, 20, 12, 0, 50, tzinfo=UTC)
    server.on(POSITIONS_PATH, answer("", 429, {"Date": NOON, "X-Ratelimit-Expiry": str(int(expiry.timestamp()))}))
    error = await failure_of(server, recording([]))
    assert isinstance(error, RateLimitError)
    assert error.retry_at == expiry
    assert "until 2026-11-20T12:00:50Z" in str(error)
    assert len(server.requests) == 1


# --- final failures


@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        (answer("Invalid parameter, x: y", 400), RefusedError),
        (answer("", 405), RefusedError),
        (answer("", 204), RefusedError),
        (answer("", 401), AuthError),
        (answer(f"Unauthorized Account: {ACCOUNT}", 401), AccountRefusedError),
        (answer("", 403), AuthError),
        (answer('{"fault":{"detail":{"errorcode":"keymanagement.service.access_token_expired"}}}', 500), AuthError),
        (answer('{"fault":{"detail":{"errorcode":"protocol.http.TooBigBody"}}}', 500), FaultError),
        (document({"errors": {"error": "Refused."}}), RefusedError),
        (document({}), BodyError),
        (document({"orders": "null"}), BodyError),
        (answer('{"positions": NaN}'), BodyError),
    ],
)
async def test_a_final_failure_is_not_repeated(server, broken, kind):
    server.on(POSITIONS_PATH, broken, document(POSITIONS))
    error = await failure_of(server)
    assert type(error) is kind
    assert error.resource == "positions"
    assert len(server.requests) == len(error.attempts) == len(error.pages) == 1


async def test_a_redirect_is_not_followed(server):
    async with ScriptedServer() as other:
        server.on(POSITIONS_PATH, answer("", 307, {"Location": f"{other.url}/v1/x"}))
        error = await failure_of(server)
        assert type(error) is RefusedError
        assert f"redirects to '{other.url.removeprefix('http://')}'" in str(error)
        assert (len(server.requests), other.connections) == (1, 0)


async def test_a_body_beyond_the_limit_is_cut_off(server):
    server.on(POSITIONS_PATH, dripping())
    error = await failure_of(server, body_limit=100)
    assert type(error) is BodyError
    assert "larger than the limit of 100 bytes" in str(error)
    assert len(server.requests) == 1
    await server.all_closed()


async def test_a_small_body_that_unpacks_beyond_the_limit_is_cut_off(server):
    import gzip

    body = gzip.compress(b" " * 10**6)
    server.on(POSITIONS_PATH, answer(body, headers={"Content-Encoding": "gzip"}))
    assert "larger than the limit of 100000 bytes" in str(await failure_of(server, body_limit=10**5))


# --- the deadline


@pytest.mark.parametrize("stuck", [silent(), dripping()], ids=["silent", "dripping"])
async def test_the_deadline_ends_an_answer_that_does_not_end_and_closes_its_connection(server, stuck):
    server.on(POSITIONS_PATH, stuck)
    async with connect(server, SHORT) as client:
        with pytest.raises(UnavailableError, match=r"positions: no complete answer within 0\.2 s; requests: 1"):
            await read_positions(client, ACCOUNT)
        await server.all_closed()


async def test_one_deadline_bounds_all_attempts(server):
    server.on(POSITIONS_PATH, raw(b""))
    error = await failure_of(server, RetryPolicy(attempts=10**9, base_delay=0.0, deadline=0.2))
    assert "no complete answer within 0.2 s" in str(error)
    assert len(error.attempts) - server.count(POSITIONS_PATH) in (0, 1)  # the last may not have been sent


async def test_the_deadline_of_a_snapshot_keeps_what_arrived(server):
    server.on(ORDERS_PATH, numbered(range(25)), dripping())
    async with connect(server, SHORT) as client:
        with pytest.raises(SnapshotFetchError) as caught:
            await client.fetch_snapshot(ACCOUNT)
    error = caught.value
    assert set(error.extracts) == {"account", "balances", "positions"}
    assert set(error.failures) == {"orders"}
    assert [page.number for page in error.failures["orders"].pages] == [1]
    assert [attempt.outcome for attempt in error.failures["orders"].attempts] == ["200", "unfinished"]


async def test_a_cancelled_snapshot_closes_its_connections(server):
    all_asked = asyncio.Barrier(5)
    for path in (PROFILE_PATH, BALANCES_PATH, POSITIONS_PATH, ORDERS_PATH):
        server.on(path, held(all_asked.wait, silent()))
    async with connect(server) as client:
        task = asyncio.create_task(client.fetch_snapshot(ACCOUNT))
        await all_asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.all_closed()


# --- the failed snapshot


async def test_one_failed_resource_fails_the_snapshot_and_keeps_the_others(server):
    failed = asyncio.Event()
    server.on(ORDERS_PATH, computed(lambda request: failed.set() or answer("bad", 400)))
    for path, value in ((PROFILE_PATH, PROFILE), (BALANCES_PATH, BALANCES), (POSITIONS_PATH, POSITIONS)):
        server.on(path, held(failed.wait, document(value)))
    async with connect(server) as client:
        with pytest.raises(SnapshotFetchError) as caught:
            await client.fetch_snapshot(ACCOUNT)
    error = caught.value
    assert set(error.extracts) == {"account", "balances", "positions"}
    assert isinstance(error.failures["orders"], RefusedError)
    assert str(error) == str(error.failures["orders"])


async def test_a_refused_credential_ends_the_other_reads_at_once(server):
    asked = asyncio.Barrier(4)
    server.on(PROFILE_PATH, held(asked.wait, answer("", 401)))
    for path in (BALANCES_PATH, POSITIONS_PATH, ORDERS_PATH):
        server.on(path, held(asked.wait, silent()))
    async with connect(server) as client:
        with pytest.raises(SnapshotFetchError) as caught:
            await client.fetch_snapshot(ACCOUNT)
    assert set(caught.value.failures) == {"account"}
    assert caught.value.extracts == {}
    assert "TRADIER_ACCESS_TOKEN" in str(caught.value)
    assert len(server.requests) == 4


async def test_the_failure_the_user_must_act_on_is_told_first(server):
    both = asyncio.Barrier(2)
    server.on(BALANCES_PATH, answer("", 503))
    server.on(POSITIONS_PATH, held(both.wait, document({"errors": {"error": "Closed account."}})))
    server.on(ORDERS_PATH, held(both.wait, document({"order": []})))
    async with connect(server) as client:
        with pytest.raises(SnapshotFetchError) as caught:
            await client.fetch_snapshot(ACCOUNT)
    assert str(caught.value).startswith("positions: the broker answered with errors: 'Closed account.' (also failed: ")
    assert set(caught.value.failures) == {"balances", "positions", "orders"}


# --- secrets


def echoing(status):
    """Answers with the token in every place a broker could put it."""
    return answer(f'{{"fault": "{TOKEN}"}}', status, {"Location": f"https://{TOKEN}/", "Content-Type": TOKEN})


@pytest.mark.parametrize(
    "broken",
    [
        *map(echoing, (200, 302, 400, 401, 404, 429, 500)),
        answer(TOKEN),
        answer("x" * 110 + TOKEN, 400),
        document({TOKEN: TOKEN}),
        document({"positions": TOKEN}),
        document({"errors": {"error": TOKEN}}),
        raw(f"{TOKEN}\r\n\r\n".encode()),
        raw(f"HTTP/1.1 200 {TOKEN}\r\n{TOKEN}\r\n\r\n".encode()),
        answer("x", headers={"Content-Encoding": "gzip"}),
        reset(),
        silent(),
    ],
)
async def test_the_token_is_in_no_error_attempt_page_or_log(server, broken, caplog):
    caplog.set_level(logging.DEBUG)
    server.on(POSITIONS_PATH, broken)
    async with connect(server, SHORT if broken.__qualname__.startswith("silent") else AT_ONCE) as client:
        shown = [repr(client), repr(vars(client))]
        with pytest.raises(SnapshotFetchError) as caught:
            await client.fetch_snapshot(ACCOUNT)
    assert server.requests[0].headers["authorization"].endswith(TOKEN)
    for error in (caught.value, *caught.value.failures.values()):
        shown += [str(error), repr(error), repr(vars(error)), *traceback.format_exception(error)]
        shown += [repr((page, page.body, dict(page.headers))) for page in error.pages]
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("httpcore")]
    assert not [text for text in (*shown, *ours) if TOKEN in text]


async def test_the_libraries_do_not_log_the_token_we_send(server, caplog):
    caplog.set_level(logging.DEBUG)
    server.on(POSITIONS_PATH, reset())
    async with connect(server) as client:
        with pytest.raises(SnapshotFetchError):
            await client.fetch_snapshot(ACCOUNT)
    assert {record.name.split(".")[0] for record in caplog.records} >= {"httpx", "httpcore"}
    assert TOKEN not in caplog.text


@pytest.mark.parametrize("token", ["", " ", "abc def", "abc\n", "abc\r\nX: y", "ключ", "\x00"])
def test_a_token_that_cannot_be_one_is_refused_without_being_quoted(token):
    with pytest.raises(PipelineError, match="TRADIER_ACCESS_TOKEN") as caught:
        BrokerClient("https://api.tradier.com", SecretStr(token))
    assert not token.strip() or token.strip() not in str(caught.value)


# --- where the token may go


@pytest.mark.parametrize(
    "url",
    ["https://api.tradier.com", "https://sandbox.tradier.com/", "https://10.0.0.1:8443", "http://127.0.0.1:8080",
     "http://127.1.2.3", "http://[::1]:80", "http://localhost:1"],
)  # fmt: skip
def test_https_anywhere_and_http_on_this_machine_are_accepted(url):
    BrokerClient(url, SecretStr(TOKEN))


@pytest.mark.parametrize(
    "url",
    ["", "api.tradier.com", "ftp://api.tradier.com", "http://api.tradier.com", "http://10.0.0.1", "http://0.0.0.0",
     "http://localhost.evil.example", "http://127.0.0.1.evil.example", "http://127.0.0.1@evil.example",
     "https://user:secret@api.tradier.com", "https://api.tradier.com/v1", "https://api.tradier.com?token=secret",
     "https://api.tradier.com#secret", "https://api.tradier.com:port", "https://[::1", "https://"],
)  # fmt: skip
def test_any_other_url_is_refused_by_the_name_of_its_setting(url):
    with pytest.raises(PipelineError, match="TRADIER_BASE_URL") as caught:
        BrokerClient(url, SecretStr(TOKEN))
    assert "secret" not in str(caught.value)


async def test_a_local_broker_is_reached_without_proxy_or_certificates(server, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", partial(pytest.fail, "certificates loaded"))
    async with connect(server) as client:
        assert await client.fetch_account()


def test_the_default_policy_is_bounded():
    policy = RetryPolicy()
    assert (policy.attempts, policy.base_delay, policy.max_delay, policy.deadline) == (4, 0.25, 4.0, 45.0)
    assert timedelta(seconds=policy.deadline) < timedelta(minutes=1)  # a minute's snapshot ends before the next one
