"""The account WebSocket of the simulated broker, as a client on a socket sees it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidMessage, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tradier_pipeline.simulator.server import embedded_simulator
from tradier_pipeline_tests.simulator.conftest import HEADERS, NOON
from tradier_pipeline_tests.simulator.test_http import BASE, place, read, set_clock
from tradier_pipeline_tests.simulator.worlds import ACCOUNT

LATER, MUCH_LATER = "2026-11-16T17:00:01Z", "2026-11-16T17:00:30Z"


def session(broker: httpx.Client) -> dict[str, str]:
    answer = broker.post("/v1/accounts/events/session")
    assert answer.status_code == 200, answer.text
    return answer.json()["stream"]


def subscribe(stream: ClientConnection, session_id: str, *, without: tuple[str, ...] = ()) -> None:
    """Ask for order events, and wait until the broker has heard it."""
    stream.send(json.dumps({"events": ["order"], "sessionid": session_id, "excludeAccounts": without}))
    assert frame(stream)["event"] == "heartbeat"


def frame(stream: ClientConnection) -> dict[str, Any]:
    return json.loads(stream.recv(timeout=10), parse_float=Decimal)


@contextmanager
def opened(broker: httpx.Client) -> Iterator[ClientConnection]:
    created = session(broker)
    with connect(created["url"], proxy=None) as stream:
        subscribe(stream, created["sessionid"])
        yield stream


def test_every_change_of_an_order_is_a_frame_with_the_documented_fields(broker):
    with opened(broker) as stream:
        order = place(broker, quantity="3", tag="entry-1")
        placed = frame(stream)
        assert placed == {
            "id": order,
            "event": "order",
            "status": "pending",
            "type": "market",
            "price": Decimal("0.0"),
            "stop_price": Decimal("0.0"),
            "avg_fill_price": Decimal("0.0"),
            "exec_quantity": Decimal("0.0"),
            "last_fill_quantity": Decimal("0.0"),
            "remaining_quantity": Decimal(3),
            "transaction_date": "2026-11-16T17:00:00.000Z",
            "create_date": "2026-11-16T17:00:00.000Z",
            "account": ACCOUNT,
            "tag": "entry-1",
        }
        set_clock(broker, LATER)
        read(broker, f"{BASE}/orders")
        assert frame(stream)["status"] == "open"
        set_clock(broker, MUCH_LATER)
        row = read(broker, f"{BASE}/orders")["orders"]["order"]
        filled = frame(stream)
        assert filled["status"] == row["status"] != "open"
        assert filled["exec_quantity"] == row["exec_quantity"] > 0
        assert filled["avg_fill_price"] == row["avg_fill_price"]


def test_time_passes_for_a_client_that_only_listens(broker):
    with opened(broker) as stream:
        place(broker)
        assert frame(stream)["status"] == "pending"
        set_clock(broker, LATER)
        assert frame(stream)["status"] == "open"


def test_a_leg_s_frame_names_its_parent(broker):
    legs = {"side[0]": "buy", "quantity[0]": "1", "type[0]": "limit", "price[0]": "1.00", "symbol[0]": "KO"}
    legs |= {"side[1]": "sell", "quantity[1]": "1", "type[1]": "limit", "price[1]": "99.00", "symbol[1]": "KO"}
    with opened(broker) as stream:
        answer = broker.post(f"{BASE}/orders", data={"class": "oto", "duration": "day", **legs})
        parent = answer.json()["order"]["id"]
        frames = [frame(stream) for _ in range(3)]
        assert [(one["id"], one.get("parent_id")) for one in frames] == [
            (parent, None),
            (parent + 1, parent),
            (parent + 2, parent),
        ]


def test_a_subscription_can_be_changed(broker):
    with opened(broker) as stream:
        subscribe(stream, "", without=(ACCOUNT,))
        place(broker)
        subscribe(stream, "")
        order = place(broker)
        assert frame(stream)["id"] == order


def test_a_session_opens_one_stream_within_five_minutes(broker):
    first = session(broker)
    set_clock(broker, "2026-11-16T17:05:00Z")
    with connect(first["url"], proxy=None) as stream:
        subscribe(stream, first["sessionid"])
    refuses(first["url"], first["sessionid"])  # it was used
    second = session(broker)
    refuses(second["url"], "made-up")
    set_clock(broker, "2026-11-16T17:10:01Z")
    refuses(second["url"], second["sessionid"])  # it has expired


def refuses(url: str, session_id: str) -> None:
    with connect(url, proxy=None) as stream:
        stream.send(json.dumps({"events": ["order"], "sessionid": session_id, "excludeAccounts": []}))
        with pytest.raises(ConnectionClosed, match=r"1008.*unknown, expired or used"):
            stream.recv(timeout=10)


def test_what_is_no_subscription_is_refused(broker):
    with connect(session(broker)["url"], proxy=None) as stream:
        stream.send("hello")
        with pytest.raises(ConnectionClosed, match="not a subscription"):
            stream.recv(timeout=10)


def test_a_new_session_ends_the_older_one_and_its_stream(broker):
    with opened(broker) as stream:
        session(broker)
        with pytest.raises(ConnectionClosed, match="another session"):
            stream.recv(timeout=10)


def test_a_session_needs_the_token(broker):
    assert broker.post("/v1/accounts/events/session", headers={"Authorization": "Bearer no"}).status_code == 401


def fault(broker: httpx.Client, kind: str, **details: object) -> None:
    broker.post("/_simulator/faults", json=[{"path": "ws:/v1", "kind": kind, "times": 1, **details}])


def test_an_open_stream_can_be_dropped(broker):
    with opened(broker) as stream:
        broker.delete("/_simulator/streams")
        with pytest.raises(ConnectionClosedError):
            stream.recv(timeout=10)


def test_a_handshake_can_be_refused_and_cut(broker):
    url = session(broker)["url"]
    fault(broker, "status", status=503)
    with pytest.raises(InvalidStatus, match="503"), connect(url, proxy=None):
        pass
    fault(broker, "reset")
    with pytest.raises((InvalidMessage, ConnectionResetError)), connect(url, proxy=None):
        pass
    with opened(broker):
        pass


def test_a_stream_can_say_nothing(broker):
    fault(broker, "hang")
    created = session(broker)
    with connect(created["url"], proxy=None) as stream:
        stream.send(json.dumps({"events": ["order"], "sessionid": created["sessionid"]}))
        place(broker)
        with pytest.raises(TimeoutError):
            stream.recv(timeout=0.1)


def test_the_server_leaves_while_a_stream_is_open():
    with ExitStack() as left:
        with (
            embedded_simulator(None, clock=lambda: NOON) as url,
            httpx.Client(base_url=url, headers=HEADERS) as client,
        ):
            stream = left.enter_context(opened(client))
        with pytest.raises(ConnectionClosed):
            stream.recv(timeout=10)
