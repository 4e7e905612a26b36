"""An account at a broker on a socket, whose answers a test tells snapshot by snapshot, and what was made of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qsl

import duckdb
import httpx
import pytest
from pydantic import SecretStr

from tradier_pipeline import clock
from tradier_pipeline.broker.client import BrokerClient
from tradier_pipeline.broker.symbols import classify
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.extract.connection import Broker
from tradier_pipeline.extract.snapshot import extract_quotes, extract_snapshot
from tradier_pipeline.landing.zone import LandedSnapshot
from tradier_pipeline.publish import store
from tradier_pipeline.publish.store import store_snapshot
from tradier_pipeline.reconcile.account_state import multiplier
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline_tests.conftest import IMPATIENT, Home
from tradier_pipeline_tests.support import bodies
from tradier_pipeline_tests.support.bodies import Body, blocking, dumps, listed
from tradier_pipeline_tests.support.scripted_server import Answer, Request, answer, computed, serving
from tradier_pipeline_tests.support.unpublished import Unpublished, unpublished

ACCOUNT, TOKEN = "6YA00017", "token-of-a-test"
CALL = "SPY261218C00700000"
ZERO = Decimal(0)

Held = tuple[str, Any, Any]  # symbol, signed quantity, cost in USD


@dataclass
class Broken:
    """What some path answers instead: status and body."""

    body: str
    status: int = 200


@dataclass
class Server:
    """What the broker shows at the moment."""

    documents: dict[str, Any] = field(default_factory=dict)
    orders: list[Body] = field(default_factory=list)
    by_id: dict[str, Any] = field(default_factory=dict)
    marks: dict[str, Body] = field(default_factory=dict)
    now: datetime = bodies.AS_OF
    instead: dict[str, Broken] = field(default_factory=dict)

    def __call__(self, request: Request) -> Answer:
        status, body = self._shown(request.path, request.values)
        return answer(body, status, self._headers)

    def without_network(self, request: httpx.Request) -> httpx.Response:
        """The same, to a client that opens no connection."""
        status, body = self._shown(
            request.url.path, dict(parse_qsl(request.content.decode())) | dict(request.url.params)
        )
        return httpx.Response(status, headers=self._headers, stream=httpx.ByteStream(body.encode()))

    @property
    def _headers(self) -> dict[str, str]:
        return {"Content-Type": "application/json", "Date": format_datetime(self.now, usegmt=True)}

    def _shown(self, path: str, values: Mapping[str, str]) -> tuple[int, str]:
        """Status and body."""
        kind = path.removeprefix(f"/v1/accounts/{ACCOUNT}/")
        if kind in self.instead:
            return self.instead[kind].status, self.instead[kind].body
        if path == "/v1/markets/quotes":
            return 200, dumps(self._quotes(values["symbols"].split(",")))
        if kind.startswith("orders/"):
            found = self.by_id.get(kind.removeprefix("orders/"))
            return (401, f"Unauthorized Account: {ACCOUNT}") if found is None else (200, dumps({"order": found}))
        if kind == "orders":
            size, page = int(values.get("limit", 25)), int(values.get("page", 1))
            return 200, dumps(listed("orders", "order", self.orders[(page - 1) * size : page * size]))
        name = "account" if path == "/v1/user/profile" else kind
        return (200, dumps(self.documents[name])) if name in self.documents else (404, "Not Found")

    def _quotes(self, symbols: Sequence[str]) -> Body:
        rows, unmatched = [], []
        still = {"bid": 1, "ask": 1, "last": 1, "trade_date": 0, "bid_date": 0}
        for symbol in symbols:
            mark = self.marks.get(symbol, {})
            if mark is None:
                unmatched.append(symbol)
                continue
            option = classify(symbol).option is not None
            make = bodies.option_quote if option else bodies.quote
            terms = {"underlying": classify(symbol).option.underlying} if option else {}  # type: ignore[union-attr]
            rows.append(make(symbol, **(still | {"prevclose": mark.get("last", 1)} | terms | mark)))
        found: Body = {}
        if rows:
            found["quote"] = rows[0] if len(rows) == 1 else rows
        if unmatched:
            found["unmatched_symbols"] = {"symbol": unmatched if len(unmatched) > 1 else unmatched[0]}
        return {"quotes": found or "null"}


@dataclass(frozen=True)
class WithoutNetwork(Broker):
    """A broker that is read by the same client, without a connection for each answer."""

    server: Server = field(default_factory=Server, compare=False)

    def client(self) -> BrokerClient:
        network = httpx.MockTransport(self.server.without_network)
        return BrokerClient(self.url, self.token, policy=self.policy, transport=network)


class ScriptedAccount:
    """Use `scripted_account`. Snapshots are read over HTTP, landed and stored; the clock is the one given."""

    def __init__(self, home: Home, server: Server, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home, self.server, self.url, self._patch = home, server, url, monkeypatch
        self.last = ""
        self.environment = "live"
        self._held = ExitStack()
        self._open: Unpublished | None = None
        self._landed: LandedSnapshot | None = None

    def shows(
        self,
        at: datetime,
        *held: Held,
        cash: Any = 0,
        counted: Sequence[Held] | None = None,
        orders: Sequence[Body] = (),
        skew: timedelta = timedelta(),
        **reported: Any,
    ) -> str:
        """Take a snapshot; returns its verdict.

        Args:
            counted: the positions that the balances count; those that are listed unless it is given.
            orders: as they are listed.
            skew: of our clock against the broker's.
            reported: documents of resources that answer something else.
        """
        self.tell(*held, cash=cash, counted=counted, orders=orders, **reported)
        self.server.now = at - skew
        started = time.monotonic()
        self._patch.setattr(clock, "now", lambda: at + timedelta(seconds=time.monotonic() - started))
        landed = extract_snapshot(self.home.zone, self._broker, SnapshotId.now(ACCOUNT), "test")
        extract_quotes(self.home.zone, self._broker, landed)
        typed, _ = store_snapshot(self._open or self.home.warehouse, landed)
        self.last, self._landed = str(landed.snapshot_id), landed
        return typed.verdict

    @property
    def _broker(self) -> Broker:
        read: dict[str, Any] = {"environment": self.environment, "policy": IMPATIENT}
        if self._open is None:
            return Broker(self.url, SecretStr(TOKEN), **read)
        return WithoutNetwork(self.url, SecretStr(TOKEN), **read, server=self.server)

    def hold(self) -> None:
        """Judge and store what is shown from now on, but publish it as one: see `publish`.

        Connections, a copy of the warehouse and a proof for each snapshot take three times as long as all the rest.
        """
        self._open = self._held.enter_context(unpublished(self.home.warehouse.path))
        patched = self._held.enter_context(self._patch.context())
        patched.setattr(store, "verify_snapshot", lambda _landed, _connection: [])

    def publish(self) -> None:
        """Publish what was held, if anything was, and prove the last of it."""
        if self._open is None:
            return
        self._open = None
        self._held.close()
        if self._landed is not None:
            with connect_readonly(self.home.warehouse.path) as connection:
                assert blocking(self._landed, connection) == []

    def tell(
        self,
        *held: Held,
        cash: Any = 0,
        counted: Sequence[Held] | None = None,
        orders: Sequence[Body] = (),
        **reported: Any,
    ) -> None:
        """What the broker answers from now on."""
        profile = {"profile": {"id": "id-1", "name": "A B", "account": bodies.account(ACCOUNT)}}
        positions = [bodies.position(symbol, quantity, cost, id=n) for n, (symbol, quantity, cost) in enumerate(held)]
        self.server.orders = list(orders)
        self.server.documents = {
            "account": profile,
            "positions": listed("positions", "position", positions),
            "balances": {"balances": self._balances(Decimal(cash), held if counted is None else counted)},
        } | reported

    def verdict(self, snapshot_id: str | None = None) -> str:
        sql = f"SELECT verdict FROM tradier_snapshots WHERE snapshot_id = '{snapshot_id or self.last}'"
        return str(self.rows(sql)[0][0])

    @property
    def verdicts(self) -> list[str]:
        return [verdict for (verdict,) in self.rows("SELECT verdict FROM tradier_snapshots ORDER BY as_of")]

    @property
    def evidence(self) -> str:
        sql = f"SELECT verdict_evidence FROM tradier_snapshots WHERE snapshot_id = '{self.last}'"
        return self.rows(sql)[0][0] or ""

    @property
    def mirror(self) -> dict[str, Decimal]:
        return dict(self.rows("SELECT symbol, quantity FROM portfolio_positions ORDER BY symbol"))

    @property
    def findings(self) -> list[tuple[Any, ...]]:
        return self.rows("SELECT code, subject, evidence FROM open_findings ORDER BY code, subject")

    def changes(self, item: str | None = None) -> list[tuple[Any, ...]]:
        """Item, change, explained, state and explanation, of all or one item, oldest first."""
        which = f"WHERE item = '{item}'" if item else ""
        return self.rows(
            f"SELECT item, change, explained, state, explanation FROM conservation {which} ORDER BY as_of, item"
        )

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        if self._open is not None:
            return self._open.rows(sql)
        with connect_readonly(self.home.warehouse.path) as connection:
            return connection.execute(sql).fetchall()

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """Of the copy that is held."""
        assert self._open is not None
        return self._open.connection

    def _balances(self, cash: Decimal, counted: Sequence[Held]) -> Body:
        worth = [(symbol, self._worth(symbol) * Decimal(quantity)) for symbol, quantity, _ in counted]
        options = [value for symbol, value in worth if classify(symbol).asset_class != "equity"]
        long, short = _sides([value for _, value in worth])
        option_long, option_short = _sides(options)
        reported = bodies.balances(
            number=ACCOUNT,
            total_cash=cash,
            total_equity=cash + long + short,
            long_market_value=long,
            short_market_value=short,
            market_value=long + short,
            option_long_value=option_long,
            option_short_value=option_short,
            stock_long_value=long - option_long,
            current_requirement=0,
        )
        reported["margin"] = reported["margin"] | {"option_buying_power": max(ZERO, cash)}
        return reported

    def _worth(self, symbol: str) -> Decimal:
        mark = self.server.marks.get(symbol, {})
        return ZERO if mark is None else Decimal(mark.get("last", 1)) * (multiplier(symbol) or 100)


def _sides(values: Sequence[Decimal]) -> tuple[Decimal, Decimal]:
    return sum((one for one in values if one > 0), ZERO), sum((one for one in values if one < 0), ZERO)


def three_a_month(account: ScriptedAccount, first: datetime, months: int) -> None:
    """Three snapshots in each of some months; one more call was bought before each month's first."""
    for month in range(months):
        for minutes in range(3):
            at = first + timedelta(days=30 * month, minutes=minutes)
            order = filled(100 + month, CALL, "buy_to_open", 1, 2, at - timedelta(hours=1))
            account.shows(at, (CALL, month + 1, 200 * (month + 1)), cash=5000 - 200 * month, orders=[order])


def filled(number: int, symbol: str, side: str, quantity: Any, price: Any, at: datetime, **fields: Any) -> Body:
    """An order that was filled whole, unless its fields tell otherwise."""
    option = classify(symbol).option
    named = {"symbol": option.root, "option_symbol": symbol, "class": "option"} if option else {"symbol": symbol}
    done = {"status": "filled", "quantity": quantity, "exec_quantity": quantity, "remaining_quantity": 0}
    reported = {"side": side, "avg_fill_price": price, "price": price, "duration": "day", "tag": f"t-{number}"}
    moment = clock.iso(at)
    return bodies.order(
        number, **(named | done | reported | {"create_date": moment, "transaction_date": moment} | fields)
    )


def package(
    number: int, root: str, legs: Sequence[tuple[str, str, Any, Any]], net: Any, at: datetime, **fields: Any
) -> Body:
    """A multileg order; legs are (symbol, side, quantity, price)."""
    moment = clock.iso(at)
    parts = [
        filled(number + n, symbol, side, quantity, price, at, type="credit")
        for n, (symbol, side, quantity, price) in enumerate(legs, 1)
    ]
    done = {"status": "filled", "quantity": 1, "exec_quantity": 1, "remaining_quantity": 0, "avg_fill_price": net}
    reported = {"class": "multileg", "type": "credit", "side": "buy", "num_legs": len(legs), "strategy": "spread"}
    times = {"create_date": moment, "transaction_date": moment, "duration": "day", "tag": f"t-{number}"}
    return bodies.order(number, symbol=root, leg=parts, **(done | reported | times | fields))


@contextmanager
def scripted_account(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedAccount]:
    """An account whose broker listens on a socket in a thread of its own."""
    server = Server()
    with serving(computed(server)) as scripted:
        settings: Mapping[str, str] = {
            "TRADIER_ENV": "live",
            "TRADIER_BASE_URL": scripted.url,
            "TRADIER_ACCESS_TOKEN": TOKEN,
            "TRADIER_ACCOUNT_ID": ACCOUNT,
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        yield ScriptedAccount(home, server, scripted.url, monkeypatch)
