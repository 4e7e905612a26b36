"""The broker over a real socket: shapes, literals, refusals and budgets as Tradier's."""

from __future__ import annotations

import json
import re
from decimal import Decimal

import httpx
import pytest

from tradier_pipeline.simulator.app import create_app
from tradier_pipeline.simulator.limits import Limits
from tradier_pipeline.simulator.server import embedded_simulator, running
from tradier_pipeline.simulator.store import Store
from tradier_pipeline_tests.simulator.conftest import HEADERS, NOON
from tradier_pipeline_tests.simulator.worlds import ACCOUNT

BASE = f"/v1/accounts/{ACCOUNT}"
KO = {"class": "equity", "symbol": "KO", "side": "buy", "quantity": "3", "type": "market", "duration": "day"}


def read(broker: httpx.Client, path: str, **params: object) -> dict:
    answer = broker.get(path, params=params)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return json.loads(answer.text, parse_float=Decimal)


def set_clock(broker: httpx.Client, instant: str) -> None:
    assert broker.post("/_simulator/clock", json={"now": instant}).status_code == 200


def force(broker: httpx.Client, **state: object) -> None:
    answer = broker.post("/_simulator/world", json={"account": ACCOUNT, **state})
    assert answer.status_code == 200, answer.text


def place(broker: httpx.Client, **form: str) -> int:
    answer = broker.post(f"{BASE}/orders", data={**KO, **form})
    assert answer.status_code == 200, answer.text
    ack = answer.json()["order"]
    assert set(ack) == {"id", "status", "partner_id"}
    assert ack["status"] == "ok"
    return ack["id"]


def test_an_empty_list_is_the_string_null_one_row_an_object_many_an_array(broker):
    assert read(broker, f"{BASE}/positions") == {"positions": "null"}
    row = {"symbol": "F", "quantity": "1", "cost_basis": "13.2"}
    force(broker, positions=[row])
    assert read(broker, f"{BASE}/positions")["positions"]["position"]["symbol"] == "F"
    force(broker, positions=[{**row, "symbol": "KO"}, row])
    assert [held["symbol"] for held in read(broker, f"{BASE}/positions")["positions"]["position"]] == ["F", "KO"]

    assert read(broker, f"{BASE}/orders") == {"orders": "null"}
    first = place(broker)
    assert read(broker, f"{BASE}/orders")["orders"]["order"]["id"] == first
    second = place(broker)
    assert [row["id"] for row in read(broker, f"{BASE}/orders")["orders"]["order"]] == [first, second]


def test_orders_come_in_pages_of_25_and_beyond_the_last_is_the_empty_form(broker):
    ids = [place(broker) for _ in range(26)]
    assert [row["id"] for row in read(broker, f"{BASE}/orders")["orders"]["order"]] == ids[:25]
    assert read(broker, f"{BASE}/orders", page=2)["orders"]["order"]["id"] == ids[25]
    assert read(broker, f"{BASE}/orders", page=3) == {"orders": "null"}
    assert len(read(broker, f"{BASE}/orders", limit=1000)["orders"]["order"]) == 26


def test_numbers_are_exact_literals(broker):
    place(broker)
    text = broker.get(f"{BASE}/orders").text
    assert '"quantity":3.00000000' in text
    assert '"avg_fill_price":0E-8' in text
    assert "price" not in json.loads(text)["orders"]["order"]
    assert '"total_cash":100000.000000000000000000000000' in broker.get(f"{BASE}/balances").text


BUYING_POWER = {"fed_call", "maintenance_call", "option_buying_power", "stock_buying_power", "stock_short_value"}


@pytest.mark.parametrize(
    ("account_type", "block"),
    [
        ("margin", BUYING_POWER | {"sweep"}),
        ("cash", {"cash_available", "sweep", "unsettled_funds"}),
        ("pdt", BUYING_POWER | {"day_trade_buying_power"}),
    ],
)
def test_balances_carry_the_block_of_their_account_type_and_add_up(broker, account_type, block):
    force(
        broker,
        type=account_type,
        cash="1234.5678",
        positions=[
            {"symbol": "F", "quantity": "7", "cost_basis": "91.00"},
            {"symbol": "SPY261218C00700000", "quantity": "-2", "cost_basis": "-900"},
            {"symbol": "NOT+A+SYMBOL", "quantity": "1", "cost_basis": "5.25"},
        ],
    )
    row = read(broker, f"{BASE}/balances")["balances"]
    assert row["account_type"] == account_type
    assert set(row[account_type]) == block
    assert len({"margin", "cash", "pdt"} & set(row)) == 1
    assert row["equity"] == 0
    assert row["total_cash"] == Decimal("1234.5678")
    assert row["total_equity"] == row["total_cash"] + row["market_value"]
    assert row["market_value"] == row["long_market_value"] + row["short_market_value"]
    assert row["option_short_value"] == row["short_market_value"] < 0


def test_the_profile_lists_the_accounts_and_never_says_pdt():
    with embedded_simulator(None, clock=lambda: NOON) as url, httpx.Client(base_url=url, headers=HEADERS) as broker:
        accounts = read(broker, "/v1/user/profile")["profile"]["account"]
        assert [(row["account_number"], row["type"]) for row in accounts] == [
            ("SIM00000001", "margin"),
            ("SIM00000002", "cash"),
            ("SIM00000003", "margin"),
        ]
        broker.post("/_simulator/reset", json={"accounts": [{"id": "ONE"}]})
        assert read(broker, "/v1/user/profile")["profile"]["account"]["account_number"] == "ONE"


def test_the_demo_account_is_alive_from_the_first_request():
    with embedded_simulator(None, clock=lambda: NOON) as url, httpx.Client(base_url=url, headers=HEADERS) as broker:
        base = "/v1/accounts/SIM00000001"
        symbols = [row["symbol"] for row in read(broker, f"{base}/positions")["positions"]["position"]]
        options = [symbol for symbol in symbols if len(symbol) > 15]
        assert len({symbol[-15:-9] for symbol in options}) >= 2
        assert len(options) >= 6
        assert len(symbols) - len(options) >= 3
        statuses = {row["status"] for row in read(broker, f"{base}/orders", limit=1000)["orders"]["order"]}
        assert {"filled", "pending"} <= statuses
        assert len(read(broker, f"{base}/gainloss")["gainloss"]["closed_position"]) > 5
        assert len(read(broker, f"{base}/history")["history"]["event"]) == 25


def test_an_order_goes_from_pending_to_filled_and_moves_cash_and_positions(broker):
    number = place(broker, quantity="2", tag="entry-7")
    assert read(broker, f"{BASE}/orders/{number}")["order"]["status"] == "pending"
    set_clock(broker, "2026-11-16T17:05:00Z")
    row = read(broker, f"{BASE}/orders/{number}", includeTags="true")["order"]
    assert (row["status"], row["exec_quantity"], row["remaining_quantity"], row["tag"]) == ("filled", 2, 0, "entry-7")
    assert re.fullmatch(r"2026-11-16T17:0\d:\d\d\.\d{3}Z", row["transaction_date"])
    held = read(broker, f"{BASE}/positions")["positions"]["position"]
    assert held["cost_basis"] == 2 * row["avg_fill_price"]
    assert read(broker, f"{BASE}/balances")["balances"]["total_cash"] == 100000 - held["cost_basis"]


def test_tags_are_shown_on_request_only(broker):
    place(broker, tag="entry-7")
    assert "tag" not in read(broker, f"{BASE}/orders")["orders"]["order"]
    assert read(broker, f"{BASE}/orders", includeTags="true")["orders"]["order"]["tag"] == "entry-7"


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ({"tag": "a_b"}, "Invalid parameter, tag: contains invalid characters."),
        ({"tag": "x" * 256}, "Invalid parameter, tag: contains more than 255 characters."),
        ({"duration": "pre"}, "Invalid parameter, duration: pre market no longer available."),
        ({"class": "butter"}, "Invalid parameter, class: butter is not valid."),
        ({"side": "hold"}, "Invalid parameter, side: hold is not valid."),
        ({"quantity": "1.5"}, "Invalid parameter, quantity: must be a whole number."),
        ({"quantity": "-1"}, "Invalid parameter, quantity: must be greater than zero."),
        ({"quantity": "NaN"}, "Invalid parameter, quantity: must be greater than zero."),
        ({"type": "limit"}, "Invalid parameter, price: is required."),
        ({"class": "option", "side": "buy_to_open"}, "Invalid parameter, option_symbol: is required."),
        ({"class": "multileg", "type": "market"}, "Invalid parameter, side: 2 to 4 legs are required."),
        ({"class": "oco"}, "Invalid parameter, side: 2 orders are required."),
    ],
)
def test_a_wrong_order_is_refused_in_plain_text_and_not_placed(broker, form, text):
    answer = broker.post(f"{BASE}/orders", data={**KO, **form})
    assert (answer.status_code, answer.text) == (400, text)
    assert answer.headers["content-type"].startswith("text/plain")
    assert read(broker, f"{BASE}/orders") == {"orders": "null"}


def test_a_preview_validates_and_places_nothing(broker):
    answer = broker.post(f"{BASE}/orders", data={**KO, "preview": "true"}).json()["order"]
    assert answer["result"] is True
    assert "id" not in answer
    assert read(broker, f"{BASE}/orders") == {"orders": "null"}


def test_a_canceled_order_cannot_be_canceled_or_changed_again(broker):
    number = place(broker, type="limit", price="5")
    changed = broker.put(f"{BASE}/orders/{number}", data={"price": "6.25"})
    assert changed.json()["order"]["status"] == "ok"
    assert read(broker, f"{BASE}/orders")["orders"]["order"]["price"] == Decimal("6.25")
    assert broker.delete(f"{BASE}/orders/{number}").json() == {"order": {"id": number, "status": "ok"}}
    row = read(broker, f"{BASE}/orders")["orders"]["order"]
    assert (row["status"], row["remaining_quantity"]) == ("canceled", 0)
    for again in (broker.delete(f"{BASE}/orders/{number}"), broker.put(f"{BASE}/orders/{number}", data={"price": "7"})):
        assert (again.status_code, again.text) == (400, "order already in finalized state: canceled")


@pytest.mark.parametrize("path", ["/v1/accounts/VA1/balances", "/v1/accounts/VA1/orders/7"])
def test_a_foreign_account_is_unauthorized(broker, path):
    answer = broker.get(path)
    assert (answer.status_code, answer.text) == (401, "Unauthorized Account: VA1")


def test_an_unknown_order_is_unauthorized_too(broker):
    answer = broker.get(f"{BASE}/orders/7")
    assert (answer.status_code, answer.text) == (401, f"Unauthorized Account: {ACCOUNT}")


@pytest.mark.parametrize("authorization", ["", "Bearer wrong", "Basic simulator", "Bearer"])
def test_a_wrong_token_is_a_fault(broker, authorization):
    answer = broker.get("/v1/user/profile", headers={"Authorization": authorization})
    assert answer.status_code == 401
    assert answer.json()["fault"]["detail"]["errorcode"] == "keymanagement.service.invalid_access_token"


def test_without_asking_for_json_one_gets_xml(broker):
    answer = broker.get(f"{BASE}/positions", headers={"Accept": "*/*"})
    assert answer.headers["content-type"] == "application/xml"
    assert answer.text.endswith("<positions>null</positions>")


def test_a_head_request_and_an_unknown_route_are_not_found(broker):
    assert broker.head(f"{BASE}/positions").status_code == 404
    assert broker.get("/v1/nothing").status_code == 404
    assert broker.get("/").status_code == 404


def test_quotes_name_what_they_do_not_know(broker):
    option = "AAPL261218C00270000"
    one = read(broker, "/v1/markets/quotes", symbols="BRK/B")["quotes"]
    assert one["quote"]["symbol"] == "BRK/B"
    assert "unmatched_symbols" not in one
    assert "greeks" not in read(broker, "/v1/markets/quotes", symbols=option)["quotes"]["quote"]

    many = broker.post("/v1/markets/quotes", data={"symbols": f"SPY,{option},ZZX,ZZY", "greeks": "true"}).json()[
        "quotes"
    ]
    assert many["unmatched_symbols"]["symbol"] == ["ZZX", "ZZY"]
    stock, contract = many["quote"]
    assert (stock["type"], contract["type"]) == ("etf", "option")
    assert (contract["contract_size"], contract["strike"], contract["underlying"]) == (100, 270, "AAPL")
    assert contract["expiration_date"] == "2026-12-18"
    assert 0 < contract["greeks"]["delta"] < 1
    assert stock["low"] <= stock["last"] <= stock["high"]
    assert stock["bid"] <= stock["ask"]
    only = read(broker, "/v1/markets/quotes", symbols="ZZX")["quotes"]
    assert only == {"unmatched_symbols": {"symbol": "ZZX"}}


def test_history_and_gainloss_show_a_trade_from_the_next_day_on(broker):
    place(broker, symbol="F", quantity="2")
    set_clock(broker, "2026-11-16T17:05:00Z")
    place(broker, symbol="F", side="sell", quantity="1")
    set_clock(broker, "2026-11-16T23:00:00Z")
    assert read(broker, f"{BASE}/gainloss") == {"gainloss": "null"}
    assert read(broker, f"{BASE}/history", type="trade") == {"history": "null"}

    set_clock(broker, "2026-11-17T15:00:00Z")
    lot = read(broker, f"{BASE}/gainloss")["gainloss"]["closed_position"]
    assert (lot["symbol"], lot["close_date"], lot["term"]) == ("F", "2026-11-16T00:00:00.000Z", 0)
    assert lot["gain_loss"] == lot["proceeds"] - lot["cost"]
    events = read(broker, f"{BASE}/history", type="trade")["history"]["event"]
    assert [event["trade"]["quantity"] for event in events] in ([-1, 2], [-1, 1, 1])
    assert events[0]["date"] == "2026-11-16T00:00:00Z"
    assert read(broker, f"{BASE}/history", type="trade", end="2026-11-15") == {"history": "null"}
    assert read(broker, f"{BASE}/history", type="ach")["history"]["event"]["amount"] == 100000


def test_gainloss_matches_a_symbol_as_a_substring(broker):
    for symbol in ("KO", "SPY", "F"):
        place(broker, symbol=symbol, quantity="1")
    set_clock(broker, "2026-11-16T17:05:00Z")
    for symbol in ("KO", "SPY", "F"):
        place(broker, symbol=symbol, side="sell", quantity="1")
    set_clock(broker, "2026-11-17T17:05:00Z")
    assert read(broker, f"{BASE}/gainloss", symbol="p")["gainloss"]["closed_position"]["symbol"] == "SPY"
    assert len(read(broker, f"{BASE}/gainloss", limit=2)["gainloss"]["closed_position"]) == 2
    assert read(broker, f"{BASE}/gainloss", page=2) == {"gainloss": "null"}


def test_historical_balances_mark_each_weekday(broker):
    set_clock(broker, "2026-11-24T02:00:00Z")
    answer = read(broker, f"{BASE}/historical-balances", period="MONTH")
    assert [row["date"] for row in answer["balances"]][-3:] == ["2026-11-19", "2026-11-20", "2026-11-23"]
    assert answer["delta"] == 0


def test_the_price_history_has_each_session_that_is_over(broker):
    set_clock(broker, "2026-11-24T02:00:00Z")
    path, asked = "/v1/markets/history", {"symbol": "SPY", "interval": "daily"}
    days = read(broker, path, **asked, start="2026-11-19", end="2026-12-31")["history"]["day"]
    assert [row["date"] for row in days] == ["2026-11-19", "2026-11-20", "2026-11-23"]
    assert all(row["low"] <= min(row["open"], row["close"]) <= row["high"] for row in days)
    one = read(broker, path, **asked, start="2026-11-20", end="2026-11-20")["history"]["day"]
    assert one == days[1]
    assert read(broker, path, **asked, start="2026-11-21", end="2026-11-22") == {"history": None}
    assert read(broker, path, **asked | {"symbol": "ZZZZ"}, start="2026-11-19", end="2026-11-20") == {"history": None}


def test_the_clock_and_the_calendar_tell_the_exchange_s_sessions(broker):
    clock = read(broker, "/v1/markets/clock")["clock"]
    assert (clock["state"], clock["next_change"], clock["timestamp"]) == ("open", "16:00", 1794848400)
    set_clock(broker, "2026-11-22T17:00:00Z")
    assert read(broker, "/v1/markets/clock")["clock"]["state"] == "closed"
    calendar = read(broker, "/v1/markets/calendar", month=2, year=2024)["calendar"]
    days = calendar["days"]["day"]
    assert len(days) == 29
    assert [row["date"] for row in days if row["status"] == "closed"][:2] == ["2024-02-03", "2024-02-04"]
    assert days[0]["open"] == {"start": "09:30", "end": "16:00"}


def test_a_spent_budget_is_refused_until_its_minute_is_over():
    app = create_app(Store(None), clock=lambda: NOON, limits=Limits(standard=2, market=1, trading=1))
    with running(app) as url, httpx.Client(base_url=url, headers=HEADERS) as broker:
        first = broker.get("/v1/user/profile")
        expiry = first.headers["x-ratelimit-expiry"]
        assert expiry == str(int(NOON.timestamp() * 1000) + 60_000)
        assert [first.headers[f"x-ratelimit-{name}"] for name in ("allowed", "used", "available")] == ["2", "1", "1"]
        assert broker.get("/v1/markets/clock").status_code == 200
        assert broker.get("/v1/user/profile").status_code == 200
        refused = broker.get("/v1/user/profile")
        assert refused.status_code == 429
        assert refused.text.startswith("Quota Violation")
        assert refused.text.split()[-1] == expiry
        set_clock(broker, "2026-11-16T17:01:00Z")
        assert broker.get("/v1/user/profile").status_code == 200


def test_forced_orders_are_listed_as_written(broker):
    force(broker, orders=[{"id": 1, "status": "calculated", "colour": "blue", "tag": "t", "price": 1.5}])
    assert read(broker, f"{BASE}/orders")["orders"]["order"] == {
        "id": 1, "status": "calculated", "colour": "blue", "price": Decimal("1.5"),
    }  # fmt: skip
    rows = '[{"id":1,"quantity":1.50000000},{"id":2,"quantity":0E-8}]'
    broker.post("/_simulator/world", content=f'{{"account":"{ACCOUNT}","orders":{rows}}}')
    assert rows in broker.get(f"{BASE}/orders").text


def test_the_request_log_never_holds_the_token(broker):
    broker.delete("/_simulator/requests")
    broker.get(f"{BASE}/orders?limit=7")
    broker.get("/v1/user/profile", headers={"Authorization": "Bearer s3cret"})
    log = broker.get("/_simulator/requests")
    assert [(row["method"], row["path"], row["query"], row["status"]) for row in log.json()] == [
        ("GET", f"{BASE}/orders", "limit=7", 200),
        ("GET", "/v1/user/profile", "", 401),
    ]
    assert "s3cret" not in log.text
    assert "simulator" not in log.text.replace("/_simulator", "")


def test_a_malformed_control_request_is_refused(broker):
    assert broker.post("/_simulator/clock", json={"now": "2026-11-16T17:00:00"}).status_code == 400
    assert broker.post("/_simulator/faults", json=[{"path": "x", "kind": "magic"}]).status_code == 400
    assert broker.post("/_simulator/world", content=b"{").status_code == 400


def test_the_truth_shows_every_account(broker):
    truth = broker.get("/_simulator/world").json()
    assert truth["accounts"][ACCOUNT]["cash"] == "100000"
