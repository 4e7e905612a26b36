"""The market stream of the simulated broker, as a client on a socket sees it, and its fundamentals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import ClientConnection, connect

from tradier_pipeline.simulator.market import Market
from tradier_pipeline.simulator.market_events import Known, events
from tradier_pipeline.simulator.server import embedded_simulator
from tradier_pipeline_tests.simulator.conftest import HEADERS, NOON
from tradier_pipeline_tests.simulator.test_http import read, set_clock

EVENTS = "/v1/markets/events"
FUNDAMENTALS = "/beta/markets/fundamentals"
KINDS = ["quote", "summary", "timesale", "trade", "tradex"]


def session(broker: httpx.Client) -> dict[str, str]:
    answer = broker.post(f"{EVENTS}/session")
    assert answer.status_code == 200, answer.text
    return answer.json()["stream"]


@contextmanager
def opened(broker: httpx.Client, **wanted: Any) -> Iterator[tuple[ClientConnection, str]]:
    created = session(broker)
    with connect(created["url"].replace("http://", "ws://"), proxy=None) as stream:
        stream.send(json.dumps({"sessionid": created["sessionid"], **wanted}))
        yield stream, created["sessionid"]


def frame(stream: ClientConnection) -> dict[str, Any]:
    return json.loads(stream.recv(timeout=20), parse_float=Decimal)


def test_a_stream_begins_with_a_frame_of_each_kind_that_agrees_with_the_quote(broker):
    quoted = read(broker, "/v1/markets/quotes", symbols="SPY")["quotes"]["quote"]
    with opened(broker, symbols=["SPY"], validOnly=True, advancedDetails=True) as (stream, _):
        frames = {one["type"]: one for one in (frame(stream) for _ in KINDS)}
    assert sorted(frames) == KINDS
    assert {one["symbol"] for one in frames.values()} == {"SPY"}
    assert (frames["quote"]["bid"], frames["quote"]["ask"]) == (quoted["bid"], quoted["ask"])
    assert frames["quote"]["biddate"] == str(quoted["bid_date"])
    assert Decimal(frames["trade"]["price"]) == Decimal(frames["timesale"]["last"]) == quoted["last"]
    assert all(isinstance(frames["trade"][name], str) for name in ("price", "size", "cvol", "date", "last"))
    assert frames["timesale"].items() >= {"cancel": False, "correction": False, "session": "normal"}.items()
    assert Decimal(frames["summary"]["prevClose"]) == quoted["prevclose"]


def test_a_change_is_a_frame_of_the_kinds_that_are_wanted(broker):
    with opened(broker, symbols=["SPY", "ZZX"], filter=["quote", "nothing"]) as (stream, _):
        first = frame(stream)
        set_clock(broker, "2026-11-16T17:05:00Z")
        second = frame(stream)
    assert (first["type"], second["type"], first["symbol"]) == ("quote", "quote", "SPY")
    assert (first["bid"], first["ask"]) != (second["bid"], second["ask"])


def test_what_stands_still_is_sent_once():
    market, known = Market(1), Known()
    first = events(market, ["SPY", "KO"], NOON, KINDS, known)
    assert len(first) == 2 * len(KINDS)
    assert events(market, ["SPY", "KO"], NOON, KINDS, known) == []
    later = events(market, ["SPY"], NOON + timedelta(minutes=5), KINDS, known)
    assert {"quote", "trade"} <= {one["type"] for one in later}


def test_a_subscription_is_replaced_on_the_open_stream(broker):
    with opened(broker, symbols=["SPY"], filter=["trade"]) as (stream, name):
        assert frame(stream)["symbol"] == "SPY"
        stream.send(json.dumps({"sessionid": name, "symbols": ["ko"], "filter": ["trade"], "linebreak": True}))
        text = stream.recv(timeout=20)
    assert json.loads(text)["symbol"] == "KO"
    assert str(text).endswith("}\n")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_over_http_the_session_opens_a_stream_of_lines_without_the_token(broker, method):
    created = session(broker)
    asked = {"sessionid": created["sessionid"], "symbols": "SPY,KO", "filter": "trade,quote", "linebreak": "true"}
    where = {"params" if method == "GET" else "data": asked}
    with httpx.stream(method, created["url"], timeout=20, **where) as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines()
        frames = [json.loads(next(lines)) for _ in range(4)]
        assert read(broker, "/v1/markets/clock")["clock"]["state"] == "open"  # others are answered meanwhile
    assert {(one["symbol"], one["type"]) for one in frames} == {
        (symbol, kind) for symbol in ("SPY", "KO") for kind in ("trade", "quote")
    }


def test_a_session_opens_streams_for_five_minutes(broker):
    created = session(broker)
    asked = {"sessionid": created["sessionid"], "symbols": "SPY"}
    set_clock(broker, "2026-11-16T17:05:01Z")
    with broker.stream("GET", EVENTS, params=asked) as answer:
        assert answer.status_code == 401
    with connect(created["url"].replace("http://", "ws://"), proxy=None) as stream:
        stream.send(json.dumps({"sessionid": created["sessionid"], "symbols": ["SPY"]}))
        with pytest.raises(ConnectionClosedError) as closed:
            stream.recv(timeout=20)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


def test_what_is_no_market_subscription_is_refused(broker):
    created = session(broker)
    assert broker.get(EVENTS, params={"sessionid": created["sessionid"]}).text == (
        "Invalid parameter, symbols: is required."
    )
    with connect(created["url"].replace("http://", "ws://"), proxy=None) as stream:
        stream.send("{}")
        with pytest.raises(ConnectionClosedError):
            stream.recv(timeout=20)


def test_the_server_leaves_while_a_market_stream_is_open():
    with ExitStack() as left:
        with (
            embedded_simulator(None, clock=lambda: NOON) as url,
            httpx.Client(base_url=url, headers=HEADERS, timeout=20) as client,
        ):
            created = session(client)
            asked = {"sessionid": created["sessionid"], "symbols": "SPY"}
            streaming = left.enter_context(httpx.stream("GET", created["url"], params=asked, timeout=20))
            parts = streaming.iter_bytes()
            assert next(parts)
        with pytest.raises(httpx.TransportError):
            list(parts)


def test_an_unknown_symbol_has_no_frames(broker):
    with opened(broker, symbols=["ZZX", "KO"], filter=["trade"]) as (stream, _):
        assert frame(stream)["symbol"] == "KO"


def test_fundamentals_come_in_the_documented_envelope_and_know_a_name_and_its_dividends(broker):
    found, unknown = read(broker, f"{FUNDAMENTALS}/company", symbols="AAPL,ZZX")
    assert (found["request"], found["type"], unknown["results"]) == ("AAPL", "Symbol", [])
    assert found["results"][0]["tables"] == {"long_descriptions": "Apple Inc"}
    (calendars,) = read(broker, f"{FUNDAMENTALS}/calendars", symbols="AAPL")
    assert calendars["results"][0]["tables"] == {"corporate_calendars": None}
    paying, none = read(broker, f"{FUNDAMENTALS}/dividends", symbols="KO,XYZ")
    assert none["results"][0]["tables"] == {"cash_dividends": None}
    newest, *before = paying["results"][0]["tables"]["cash_dividends"]
    assert (newest["cash_amount"], newest["currency_i_d"], newest["frequency"]) == (Decimal("0.51"), "USD", 4)
    assert newest["declaration_date"] <= str(NOON.date()) < newest["pay_date"]
    assert len(before) > 3
    assert broker.get(f"{FUNDAMENTALS}/company").status_code == 400
    assert httpx.get(f"{broker.base_url}{FUNDAMENTALS}/company", params={"symbols": "KO"}).status_code == 401
