"""When a short call may be exercised for a dividend: from a broker on a socket to the view, the screen, the audit."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from tradier_pipeline import clock
from tradier_pipeline.assets.dividends import dividends
from tradier_pipeline.assets.resource import TradierResource
from tradier_pipeline.core.settings import load_settings
from tradier_pipeline.extract.dividends import LEFT_OVER
from tradier_pipeline.publish.audit import audit
from tradier_pipeline.publish.past import home_as_known
from tradier_pipeline.publish.store import store_snapshot
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline_tests.conftest import Home
from tradier_pipeline_tests.support.bodies import ACCOUNT, answers, dumps, land, option_quote, position, quote
from tradier_pipeline_tests.support.command_line import run
from tradier_pipeline_tests.support.sampling import sampled
from tradier_pipeline_tests.support.scripted_server import Answer, ScriptedServer, answer, computed, document, serving

PATH = "/beta/markets/fundamentals/dividends"
READ_AT = datetime(2026, 11, 23, 20, tzinfo=UTC)
MORNING = datetime(2026, 11, 24, 12, 10, tzinfo=UTC)
PARTITION = "2026-11-23"
KO, MSFT, PUT, INDEX = "KO261218C00060000", "MSFT261218C00600000", "F261218P00012000", "SPXW261218C06000000"
PRICES = {"KO": "70.50", "MSFT": "505", KO: "10.60", MSFT: "1.20", "F": "13", PUT: "0.10", "SPX": "6610", INDEX: "612"}


def paid(ex_date: str, amount: str = "0.51", **more: Any) -> Mapping[str, Any]:
    """A row as public clients of the broker show it."""
    return {
        **{"share_class_id": "0P000002DO", "dividend_type": "CD", "ex_date": ex_date, "cash_amount": Decimal(amount)},
        **{"currency_i_d": "USD", "declaration_date": "2026-10-15", "frequency": 4, "pay_date": "2027-01-04"},
        **{"record_date": ex_date},
        **more,
    }


def posted(symbol: str, *rows: Mapping[str, Any]) -> Answer:
    company = {"type": "Company", "id": "0C00000ADA", "tables": {"cash_dividends": None}}
    stock = {"type": "Stock", "id": "0P000002DO", "tables": {"cash_dividends": list(rows) or None}}
    return answer(dumps([{"request": symbol, "type": "Symbol", "results": [company, stock]}]))


@pytest.fixture(scope="module")
def held_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("held") / "home"
    hold(Home(path))
    return path


@pytest.fixture
def broker(home: Home, held_once: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    """A live account that is short a call on each of KO, MSFT and an index, and a put on F."""
    monkeypatch.setattr(clock, "now", lambda: MORNING)
    for name, value in {"ENV": "live", "ACCESS_TOKEN": "a-token-of-the-tests", "ACCOUNT_ID": ACCOUNT}.items():
        monkeypatch.setenv(f"TRADIER_{name}", value)
    shutil.copytree(held_once, home.path)
    with serving() as server:
        monkeypatch.setenv("TRADIER_BASE_URL", server.url)
        yield server


def hold(home: Home, environment: str = "live", prices: Mapping[str, str] = PRICES) -> None:
    """A snapshot of an account that is short each option that has a price."""
    options = [symbol for symbol in prices if len(symbol) > 6]
    shorts = [position(symbol, Decimal(-1), Decimal(-100), id=at) for at, symbol in enumerate(options)]
    quotes = [
        (quote if len(symbol) < 6 else option_quote)(
            symbol, bid=Decimal(price), ask=Decimal(price), last=Decimal(price), **underlying(symbol)
        )
        for symbol, price in prices.items()
    ]
    held = answers(positions=[*shorts, position("KO", Decimal(100), Decimal(7000), id=9)], quotes=quotes)
    store_snapshot(home.warehouse, land(home.zone, held, READ_AT, environment=environment))


def underlying(symbol: str) -> dict[str, str]:
    return {} if len(symbol) < 6 else {"underlying": symbol[:-15].replace("SPXW", "SPX")}


def by_symbol(**bodies: Answer) -> Answer:
    return computed(lambda request: bodies.get(request.values["symbols"], posted(request.values["symbols"])))


def read_this_morning() -> dict[str, Any]:
    """Run the asset; what it shows."""
    result = dg.materialize([dividends], partition_key=PARTITION, resources={"tradier": TradierResource()})
    (event,) = result.asset_materializations_for_node("dividends")
    return {name: value.value for name, value in event.metadata.items()}


def query(home: Home, sql: str) -> list[tuple[Any, ...]]:
    with connect_readonly(home.warehouse.path) as connection:
        return connection.execute(sql).fetchall()


def risk(home: Home) -> dict[str, tuple[Any, ...]]:
    found = query(home, "SELECT symbol, ex_dividend_date, dividend, exercise_pays, time_value FROM assignment_risk")
    return {symbol: rest for symbol, *rest in found}  # type: ignore[misc]


def test_a_call_whose_time_value_is_below_the_next_dividend_is_told(home: Home, broker: ScriptedServer) -> None:
    assert risk(home)[KO][:3] == [None, None, None]
    past, next_one, later = paid("2026-09-14"), paid("2026-12-14"), paid("2027-03-15", "0.53")
    broker.on(PATH, by_symbol(KO=posted("KO", later, next_one, past), MSFT=posted("MSFT", paid("2026-12-21"))))
    assert read_this_morning()["state"] == "read"
    assert [request.values["symbols"] for request in broker.requests] == ["KO", "MSFT"]  # no index, no put
    found = risk(home)
    assert found[KO] == [date(2026, 12, 14), Decimal("0.51"), True, Decimal("0.10")]
    assert found[MSFT][:3] == [None, None, None]  # after its expiration
    assert found[PUT][:3] == [None, None, None]
    shown = " ".join(run("today").stdout.split())
    assert "time value 0.10, ex-dividend Dec 14 0.51: exercise pays, needs 100 shares" in shown
    assert run("report").exit_code == 0
    page = (home.path / "reports" / ACCOUNT / "account.html").read_text()
    assert "<span>14 Dec 2026, 0.51</span> <span>exercise pays</span>" in page


UNUSABLE: Mapping[str, tuple[Mapping[str, Any], list[Any]]] = {
    "KO": (paid("2026-12-14", "0.09"), [date(2026, 12, 14), Decimal("0.09"), False]),  # less than the time value
    "PEP": (paid("2026-12-14", currency_i_d="CAD"), [date(2026, 12, 14), None, None]),
    "MO": (paid("2026-12-14") | {"cash_amount": None}, [date(2026, 12, 14), None, None]),
    "T": (paid("2026-11-23"), [None, None, None]),  # who exercises now is too late
    "VZ": (paid("2026-12-14") | {"ex_date": ""}, [None, None, None]),
}


def test_what_is_not_told_is_never_guessed(home: Home, broker: ScriptedServer) -> None:
    calls = {symbol: KO.replace("KO", symbol) for symbol in UNUSABLE}
    prices = dict.fromkeys(calls, PRICES["KO"]) | dict.fromkeys(calls.values(), PRICES[KO])
    shutil.rmtree(home.path)
    hold(home, prices=prices)
    broker.on(PATH, by_symbol(**{symbol: posted(symbol, row) for symbol, (row, _) in UNUSABLE.items()}))
    assert read_this_morning()["state"] == "read"
    found = risk(home)
    assert {symbol: found[call][:3] for symbol, call in calls.items()} == {
        symbol: expected for symbol, (_, expected) in UNUSABLE.items()
    }


@sampled(
    "refused, why",
    [
        (answer("no", 401), "KO, MSFT not read: dividends: HTTP 401 Unauthorized: 'no'"),
        (answer("no", 403), "KO, MSFT not read: dividends: HTTP 403 Forbidden: 'no'"),
        (answer("no", 404), "KO, MSFT not read: dividends: no usable answer in 2 attempts, the last: HTTP 404"),
        (document({"fault": {"faultstring": "x", "detail": {"errorcode": "y"}}}), "KO, MSFT not read: dividends: "),
        (document([]), "read"),
        (document([{"request": "KO", "type": "Symbol"}]), "read"),
    ],
    kept=(0, 2, 3, 4),  # the token, the route, a fault, nothing
)
def test_a_broker_that_does_not_tell_is_asked_once_and_costs_nothing(
    home: Home, broker: ScriptedServer, refused: Answer, why: str
) -> None:
    broker.on(PATH, refused)
    assert read_this_morning()["state"].startswith(why)
    assert {request.values["symbols"] for request in broker.requests} == ({"KO", "MSFT"} if why == "read" else {"KO"})
    assert risk(home)[KO][:3] == [None, None, None]


def test_where_one_token_is_refused_another_is_asked(
    home: Home, broker: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = [
        {"name": name, "token": f"{name}-token", "environment": "live", "accounts": [account]}
        for name, account in (("first", "VB00000001"), ("second", ACCOUNT))
    ]
    for name in ("ACCESS_TOKEN", "ACCOUNT_ID"):
        monkeypatch.delenv(f"TRADIER_{name}")
    monkeypatch.setenv("TRADIER_TOKENS", dumps(groups))
    of_second = posted("KO", paid("2026-12-14"))
    broker.on(
        PATH,
        computed(lambda asked: of_second if "second" in asked.headers["authorization"] else answer("no", 401)),
    )
    assert read_this_morning()["symbols"] == "KO, MSFT"
    assert risk(home)[KO][0] == date(2026, 12, 14)


def test_one_answer_that_is_malformed_costs_the_others_nothing(home: Home, broker: ScriptedServer) -> None:
    two = posted("KO", paid("2026-12-14") | {"ex_date": 7})
    broker.on(PATH, by_symbol(KO=two, MSFT=posted("MSFT", paid("2026-12-14"))))
    assert "ex_date" in read_this_morning()["state"]
    assert [risk(home)[symbol][0] for symbol in (KO, MSFT)] == [None, date(2026, 12, 14)]


def test_the_sandbox_is_not_asked(home: Home, broker: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADIER_ENV", "sandbox")
    shutil.rmtree(home.path)
    hold(home, "sandbox")
    assert read_this_morning()["state"] == "KO, MSFT not read: the sandbox has no dividends"
    assert broker.requests == []


def test_requests_that_are_nearly_used_up_are_left_to_the_snapshots_and_the_rest_goes_first_next_time(
    home: Home, broker: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = dumps([{"request": "KO", "type": "Symbol", "results": []}])
    broker.on(PATH, answer(body, headers={"X-Ratelimit-Available": str(LEFT_OVER - 1)}))
    left = "MSFT not read: the requests of this minute are left to the snapshots"
    assert read_this_morning()["state"] == left
    monkeypatch.setattr(clock, "now", lambda: MORNING + timedelta(days=1))
    assert read_this_morning()["state"] == left.replace("MSFT", "KO")
    assert [request.values["symbols"] for request in broker.requests] == ["KO", "MSFT"]


def test_a_day_is_read_once_replayed_by_rebuild_and_known_from_when_it_was_read(
    home: Home, broker: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.on(PATH, by_symbol(KO=posted("KO", paid("2026-12-14"))))
    read_this_morning()
    read_this_morning()
    assert len(broker.requests) == 2  # one of each symbol
    monkeypatch.setattr(clock, "now", lambda: MORNING + timedelta(days=1))
    broker.on(PATH, by_symbol(KO=posted("KO", paid("2026-12-15", "0.52"))))
    read_this_morning()
    monkeypatch.setattr(clock, "now", lambda: MORNING + timedelta(days=2))
    broker.on(PATH, posted("KO"))
    read_this_morning()  # no data: what was reported stays
    before = query(home, "FROM dividends")
    assert [row[2:5] for row in before] == [(date(2026, 12, 15), 1, Decimal("0.52"))]
    settings = load_settings()
    assert run("rebuild").exit_code == 0
    assert query(home, "FROM dividends") == before
    assert list(home.zone.damaged()) == []
    with connect_readonly(home_as_known(settings, MORNING + timedelta(hours=1)) / "tradier.duckdb") as past:
        assert past.execute("SELECT ex_date FROM dividends").fetchall() == [(date(2026, 12, 14),)]
    assert not audit(settings).wrong
    home.warehouse.path.chmod(0o644)
    with duckdb.connect(home.warehouse.path) as connection:
        connection.execute("UPDATE dividends SET pay_date = pay_date + 1")
    assert "dividends" in [damage.path for damage in audit(settings).wrong]
    (body,) = home.zone.root.glob("_dividends/live/KO/2026-11-25/dividends.json")
    body.write_bytes(body.read_bytes().replace(b"0.52", b"0.62"))
    assert str(body) in [damage.path for damage in audit(settings, rows=False).wrong]
    shutil.rmtree(home.zone.root / "_dividends")
    assert "1 published extracts of dividends are not, such as _dividends/live/KO" in run("rebuild").stderr
