"""What clients other than the pipeline ask for: contracts, prices of the past, symbols, the clock, watchlists."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import httpx
import pytest

from tradier_pipeline.domain import calendar as market_calendar
from tradier_pipeline.domain.calendar import MarketCalendar, session_of
from tradier_pipeline.simulator import listings
from tradier_pipeline.simulator.app import create_app
from tradier_pipeline.simulator.limits import Limits
from tradier_pipeline.simulator.market import Market, parse_option
from tradier_pipeline.simulator.server import running
from tradier_pipeline.simulator.store import Store
from tradier_pipeline_tests.simulator.conftest import HEADERS, NOON
from tradier_pipeline_tests.simulator.test_http import BASE, place, read, set_clock

MARKETS = "/v1/markets"
OPTIONS = f"{MARKETS}/options"


def many(answer: object) -> list:
    return answer if isinstance(answer, list) else [answer]


def expirations(broker: httpx.Client, symbol: str, **params: object) -> dict:
    return read(broker, f"{OPTIONS}/expirations", symbol=symbol, **params)["expirations"]


def test_expirations_are_sessions_ahead_and_come_with_what_is_asked_for(broker):
    dates = [date.fromisoformat(text) for text in expirations(broker, "SPY")["date"]]
    assert dates == sorted(set(dates))
    assert dates[0] >= NOON.date()
    assert all(session_of(day) for day in dates)
    assert date(2026, 12, 24) in dates  # Christmas is a Friday

    detailed = expirations(broker, "SPY", strikes="True", contractSize="true", expirationType="true")["expiration"]
    assert [row["date"] for row in detailed] == [day.isoformat() for day in dates]
    assert {row["contract_size"] for row in detailed} == {100}
    assert {row["expiration_type"] for row in detailed} == {"weeklys", "standard"}
    assert all(len(row["strikes"]["strike"]) > 20 for row in detailed)
    assert read(broker, f"{OPTIONS}/expirations", symbol="ZZX") == {"expirations": None}


@pytest.mark.parametrize(
    ("instant", "first"),
    [("2026-11-20T20:59:00Z", "2026-11-20"), ("2026-11-20T21:01:00Z", "2026-11-27")],
    ids=["before the close", "after it"],
)
def test_an_expiration_is_listed_until_its_close(broker, instant, first):
    set_clock(broker, instant)
    assert expirations(broker, "SPY")["date"][0] == first


@pytest.mark.parametrize("symbol", ["SPY", "SPX", "F", "BRK/B", "IWM"])
def test_a_chain_quotes_every_contract_that_its_strikes_and_the_lookup_name(broker, symbol):
    expiration = expirations(broker, symbol)["date"][3]
    strikes = read(broker, f"{OPTIONS}/strikes", symbol=symbol, expiration=expiration)["strikes"]["strike"]
    chain = read(broker, f"{OPTIONS}/chains", symbol=symbol, expiration=expiration)["options"]["option"]
    assert [row["strike"] for row in chain[::2]] == strikes == sorted(strikes)
    assert {row["option_type"] for row in chain} == {"call", "put"}
    assert all(row["bid"] <= row["ask"] and row["expiration_date"] == expiration for row in chain)
    assert "greeks" not in chain[0]

    (root,) = read(broker, f"{OPTIONS}/lookup", underlying=symbol)["symbols"]
    assert {row["symbol"] for row in chain} <= set(root["options"])
    assert {row["root_symbol"] for row in chain} == {root["rootSymbol"]}
    contract = chain[len(chain) // 2]
    quoted = read(broker, f"{MARKETS}/quotes", symbols=contract["symbol"])["quotes"]["quote"]
    assert quoted == contract


def test_a_lookup_narrows_to_an_expiration_a_strike_and_a_type(broker):
    asked = {"underlying": "SPY", "expiration": "2026-12-18", "strike": "650", "type": "put"}
    assert read(broker, f"{OPTIONS}/lookup", **asked)["symbols"] == [
        {"rootSymbol": "SPY", "options": ["SPY261218P00650000"]}
    ]


def test_the_demo_holds_contracts_that_are_listed():
    with (
        running(create_app(Store(None), clock=lambda: NOON)) as url,
        httpx.Client(base_url=url, headers=HEADERS, timeout=60) as broker,
    ):
        held = read(broker, "/v1/accounts/SIM00000001/positions")["positions"]["position"]
        contracts = [option for row in held if (option := parse_option(row["symbol"]))]
        assert contracts
        for option in contracts:
            (root,) = read(broker, f"{OPTIONS}/lookup", underlying=option.underlying)["symbols"]
            assert option.symbol in root["options"]


@pytest.mark.parametrize("written", ["true", "True", "TRUE"])
def test_greeks_and_tags_are_shown_however_a_client_writes_true(broker, written):
    chain = read(broker, f"{OPTIONS}/chains", symbol="F", expiration="2026-12-18", greeks=written)["options"]["option"]
    assert all(0 <= row["greeks"]["delta"] <= 1 for row in chain if row["option_type"] == "call")
    quote = read(broker, f"{MARKETS}/quotes", symbols=chain[0]["symbol"], greeks=written)["quotes"]["quote"]
    assert "greeks" in quote
    place(broker, tag="entry-7")
    assert read(broker, f"{BASE}/orders", includeTags=written)["orders"]["order"]["tag"] == "entry-7"
    assert "tag" not in read(broker, f"{BASE}/orders", includeTags="no")["orders"]["order"]


@pytest.mark.parametrize(
    ("path", "params", "word"),
    [
        ("options/expirations", {}, "symbol"),
        ("options/strikes", {"symbol": "SPY"}, "expiration"),
        ("options/chains", {"symbol": "SPY", "expiration": "soon"}, "expiration"),
        ("options/lookup", {}, "underlying"),
        ("history", {"symbol": "SPY", "interval": "hourly"}, "interval"),
        ("history", {"symbol": "SPY", "start": "0001-01-01"}, "start"),
        ("timesales", {"symbol": "SPY", "interval": "2min"}, "interval"),
        ("timesales", {"symbol": "SPY", "start": "nine"}, "start"),
        ("search", {}, "q"),
        ("calendar", {"year": "9999"}, "year"),
        ("calendar", {"month": "13"}, "month"),
    ],
)
def test_a_parameter_that_is_missing_or_wrong_is_refused_in_plain_text(broker, path, params, word):
    answer = broker.get(f"{MARKETS}/{path}", params=params)
    assert answer.status_code == 400
    assert answer.text.startswith(f"Invalid parameter, {word}: ")


@pytest.mark.parametrize("path", ["options/strikes", "options/chains"])
def test_an_expiration_that_is_not_listed_has_no_contracts(broker, path):
    answer = read(broker, f"{MARKETS}/{path}", symbol="SPY", expiration="2026-12-15")
    assert list(answer.values()) == [None]


def test_weeks_and_months_are_made_of_their_days(broker):
    asked = {"symbol": "SPY", "start": "2026-09-01", "end": "2026-11-13"}
    path = f"{MARKETS}/history"
    days = read(broker, path, **asked)["history"]["day"]
    for interval, first in (("weekly", "2026-11-09"), ("monthly", "2026-11-01")):
        rows = read(broker, path, **asked, interval=interval)["history"]["day"]
        last = [row for row in days if row["date"] >= first]
        assert rows[-1]["date"] == first
        assert (rows[-1]["open"], rows[-1]["close"]) == (last[0]["open"], last[-1]["close"])
        assert rows[-1]["high"] == max(row["high"] for row in last)
        assert rows[-1]["low"] == min(row["low"] for row in last)
        assert sum(row["volume"] for row in rows) == sum(row["volume"] for row in days)


def test_an_option_has_a_price_history_until_it_expires(broker):
    asked = {"symbol": "SPY261113C00650000", "start": "2026-11-09", "end": "2026-11-16"}
    days = read(broker, f"{MARKETS}/history", **asked)["history"]["day"]
    assert [row["date"] for row in days] == [f"2026-11-{n:02}" for n in range(9, 14)]


def test_time_and_sales_lie_in_the_session_and_agree_with_the_day(broker):
    set_clock(broker, "2026-11-17T23:00:00Z")
    asked = {"symbol": "SPY", "start": "2026-11-16 09:00", "end": "2026-11-16 20:00", "session_filter": "open"}
    for interval, step in (("1min", 1), ("5min", 5), ("15min", 15)):
        rows = read(broker, f"{MARKETS}/timesales", **asked, interval=interval)["series"]["data"]
        assert len(rows) == 390 / step
        assert (rows[0]["time"], rows[-1]["time"][-8:-3]) == ("2026-11-16T09:30:00", f"15:{60 - step}")
        assert all(row["low"] <= min(row["open"], row["close"]) <= row["high"] for row in rows)
    day = read(broker, f"{MARKETS}/history", symbol="SPY", start="2026-11-16", end="2026-11-16")["history"]["day"]
    assert (rows[0]["open"], rows[-1]["close"]) == (day["open"], day["close"])
    assert read(broker, f"{MARKETS}/timesales", **asked | {"symbol": "ZZX"}) == {"series": None}


def test_time_and_sales_of_today_end_now(broker):
    rows = read(broker, f"{MARKETS}/timesales", symbol="F", interval="1min")["series"]["data"]
    assert (rows[0]["time"], rows[-1]["time"]) == ("2026-11-16T09:30:00", "2026-11-16T11:59:00")


def test_securities_are_found_by_name_and_by_symbol(broker):
    assert read(broker, f"{MARKETS}/search", q="ford")["securities"]["security"]["symbol"] == "F"
    assert read(broker, f"{MARKETS}/search", q="nothing of the kind") == {"securities": None}
    assert read(broker, f"{MARKETS}/search", q="S&P")["securities"]["security"]["symbol"] == "SPY"
    with_indexes = read(broker, f"{MARKETS}/search", q="S&P", indexes="true")["securities"]["security"]
    assert [row["symbol"] for row in with_indexes] == ["SPX", "SPY"]
    looked_up = read(broker, f"{MARKETS}/lookup", q="SP", types="index")["securities"]["security"]
    assert (looked_up["symbol"], looked_up["type"]) == ("SPX", "index")
    borrowed = [row["symbol"] for row in read(broker, f"{MARKETS}/etb")["securities"]["security"]]
    assert "SPY" in borrowed
    assert "SPX" not in borrowed


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({"types": "etf"}, ["SPY"]),
        ({"types": "stock,index"}, ["SPX"]),
        ({"exchanges": "P"}, ["SPY"]),
        ({"exchanges": "N,P", "types": "index"}, []),
    ],
)
def test_a_lookup_narrows_to_types_and_exchanges(broker, params, found):
    securities = read(broker, f"{MARKETS}/lookup", q="SP", **params)["securities"]
    assert [row["symbol"] for row in many(securities["security"] if securities else [])] == found


def test_a_quote_says_that_a_fund_is_an_etf(broker):
    rows = read(broker, f"{MARKETS}/quotes", symbols="SPY,KO,SPX")["quotes"]["quote"]
    assert [(row["type"], row["exch"]) for row in rows] == [("etf", "P"), ("stock", "N"), ("index", "Q")]


@pytest.mark.parametrize(
    ("instant", "state", "change", "following"),
    [
        ("2026-11-16T11:00:00Z", "closed", "07:00", "premarket"),
        ("2026-11-16T12:00:00Z", "premarket", "09:30", "open"),
        ("2026-11-16T14:30:00Z", "open", "16:00", "postmarket"),
        ("2026-11-16T21:00:00Z", "postmarket", "20:00", "closed"),
        ("2026-11-17T01:00:00Z", "closed", "07:00", "premarket"),
        ("2026-11-26T17:00:00Z", "closed", "07:00", "premarket"),  # Thanksgiving
        ("2026-11-27T17:59:00Z", "open", "13:00", "postmarket"),  # a half day
        ("2026-11-27T18:00:00Z", "postmarket", "17:00", "closed"),
        ("2026-11-27T22:00:00Z", "closed", "07:00", "premarket"),
        ("2026-11-28T17:00:00Z", "closed", "07:00", "premarket"),
    ],
)
def test_the_clock_knows_holidays_and_half_days(broker, instant, state, change, following):
    set_clock(broker, instant)
    clock = read(broker, f"{MARKETS}/clock")["clock"]
    assert (clock["state"], clock["next_change"], clock["next_state"]) == (state, change, following)
    assert clock["timestamp"] == datetime.fromisoformat(instant).timestamp()


def test_a_calendar_that_has_to_be_loaded_keeps_nobody_else_waiting(broker, monkeypatch):
    read(broker, f"{BASE}/balances")  # the world is made
    started, go_on = threading.Event(), threading.Event()

    def slow(day: date) -> None:
        started.set()
        assert go_on.wait(20)

    monkeypatch.setattr(market_calendar, "session_of", slow)
    asked = threading.Thread(target=read, args=(broker, f"{MARKETS}/calendar"), kwargs={"month": 3, "year": 2031})
    asked.start()
    assert started.wait(20)
    answer = httpx.get(f"{broker.base_url}{BASE}/balances", headers=HEADERS, timeout=60)
    go_on.set()
    asked.join(20)
    assert answer.status_code == 200


@pytest.mark.parametrize("where", ["params", "data"])
def test_parameters_of_an_order_and_of_its_change_may_stand_in_the_query(broker, where):
    form = {"class": "equity", "symbol": "KO", "side": "buy", "quantity": "3", "duration": "gtc"}
    answer = broker.post(f"{BASE}/orders", **{where: {**form, "type": "limit", "price": "5"}})
    number = answer.json()["order"]["id"]
    changed = broker.put(f"{BASE}/orders/{number}", **{where: {"type": "limit", "price": "6.25"}})
    assert changed.json()["order"]["status"] == "ok"
    assert read(broker, f"{BASE}/orders/{number}")["order"]["price"] == Decimal("6.25")


def test_what_the_form_says_wins_over_the_query(broker):
    form = {"class": "equity", "symbol": "KO", "side": "buy", "quantity": "3", "type": "market", "duration": "day"}
    answer = broker.post(f"{BASE}/orders", params={"symbol": "F"}, data=form)
    assert read(broker, f"{BASE}/orders/{answer.json()['order']['id']}")["order"]["symbol"] == "KO"


def test_history_is_filtered_by_symbol_and_by_types(broker):
    for symbol in ("KO", "SPY"):
        place(broker, symbol=symbol, quantity="1")
    option = "SPY261218C00650000"
    form = {"class": "option", "option_symbol": option, "side": "buy_to_open", "symbol": "SPY"}
    place(broker, **form, quantity="1")
    set_clock(broker, "2026-11-17T17:05:00Z")

    def found(**params: str) -> set[str]:
        events = read(broker, f"{BASE}/history", **params)["history"]["event"]
        return {event["trade"]["symbol"] for event in many(events)}

    assert found(symbol="spy") == {"SPY", option}
    assert found(symbol="SPY", exactMatch="true") == {"SPY"}
    assert read(broker, f"{BASE}/history", symbol="ZZX") == {"history": "null"}
    assert found(type="dividend,Trade") == {"KO", "SPY", option}
    assert read(broker, f"{BASE}/history", type="dividend") == {"history": "null"}


def test_a_watchlist_is_made_changed_and_removed_and_lives_on(tmp_path):
    def broker() -> httpx.Client:
        return httpx.Client(base_url=url, headers=HEADERS, timeout=60)

    with running(create_app(Store(tmp_path), clock=lambda: NOON)) as url, broker() as client:
        assert read(client, "/v1/watchlists")["watchlists"]["watchlist"]["id"] == "default"
        made = client.post("/v1/watchlists", data={"name": "My ideas", "symbols": "f,BRK/B,F"}).json()["watchlist"]
        assert (made["id"], [item["symbol"] for item in made["items"]["item"]]) == ("my-ideas", ["F", "BRK/B"])
        again = client.post("/v1/watchlists", params={"name": "My ideas"}).json()["watchlist"]
        assert (again["id"], again["items"]) == ("my-ideas-2", "null")
    with running(create_app(Store(tmp_path), clock=lambda: NOON)) as url, broker() as client:
        client.post("/v1/watchlists/my-ideas/symbols", data={"symbols": "KO"})
        client.delete("/v1/watchlists/my-ideas/symbols/BRK/B")
        shown = read(client, "/v1/watchlists/my-ideas")["watchlist"]
        assert [item["symbol"] for item in shown["items"]["item"]] == ["F", "KO"]
        renamed = client.put("/v1/watchlists/my-ideas", data={"name": "Others", "symbols": "GE"}).json()["watchlist"]
        assert (renamed["name"], renamed["items"]["item"]["symbol"]) == ("Others", "GE")
        left = client.delete("/v1/watchlists/my-ideas").json()["watchlists"]["watchlist"]
        assert [row["id"] for row in left] == ["default", "my-ideas-2"]
        assert client.get("/v1/watchlists/my-ideas").status_code == 404
        assert client.delete("/v1/watchlists/default/symbols/ZZX").status_code == 404
        assert client.post("/v1/watchlists", data={}).status_code == 400


def test_without_asking_for_json_market_data_is_xml(broker):
    answer = broker.get(f"{OPTIONS}/expirations", params={"symbol": "SPY"}, headers={"Accept": "*/*"})
    assert answer.headers["content-type"] == "application/xml"
    assert "<expirations><date>2026-11-20</date><date>" in answer.text


def test_only_orders_are_counted_as_trading():
    app = create_app(Store(None), clock=lambda: NOON, limits=Limits(standard=9, market=9, trading=1))
    with running(app) as url, httpx.Client(base_url=url, headers=HEADERS, timeout=60) as broker:
        for path in ("/v1/watchlists", f"{MARKETS}/events/session", "/v1/accounts/events/session"):
            assert [broker.post(path).status_code for _ in range(3)].count(429) == 0


def test_listed_strikes_and_expirations_do_not_depend_on_the_hour():
    calendar = MarketCalendar("XNYS")
    assert listings.strikes(Market(7), "SPY")[:: len(listings.strikes(Market(7), "SPY")) - 1] == [495, 825]
    morning = datetime(2026, 11, 16, 14, 0, tzinfo=UTC)
    assert {tuple(listings.expirations(morning + timedelta(hours=n), calendar)) for n in range(8)} == {
        tuple(listings.expirations(morning, calendar))
    }
