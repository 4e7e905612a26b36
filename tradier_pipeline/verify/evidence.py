"""Both sides of a comparison, each by its own path: the landed bytes through the JSON module, the rows through SQL."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cached_property, lru_cache
from typing import Any

import duckdb

from tradier_pipeline import clock
from tradier_pipeline.core.decimals import UNROUNDED
from tradier_pipeline.core.texts import long_texts, may_have_long_texts, shortened
from tradier_pipeline.landing.day import Day
from tradier_pipeline.landing.zone import LandedSnapshot
from tradier_pipeline.warehouse.account_states import OF_ORDERS, Rows, stored_rows
from tradier_pipeline.warehouse.sealed import reaching
from tradier_pipeline.warehouse.sql import bind, rows_of
from tradier_pipeline.warehouse.unpublished import EPOCH

Row = dict[str, Any]

ULP = Decimal("0.00000001")
LIMIT = Decimal(10) ** 16

NEARBY = timedelta(days=1)
CLOCKS_APART = timedelta(minutes=15)  # the broker's, which dates the orders, and ours, which dates the snapshots
SETTLING = timedelta(seconds=5)  # the broker's clock against ours, and its positions against its orders

WITH_LEGS = ("multileg", "combo", "oto", "oco", "otoco")  # what such an order names is not what fills
NO_LEGS: tuple[Any, ...] = (None, "null", [])

_ENTRY = re.compile(r"(?P<date>[^@.]+@[\d-]+T)(?P<time>[\d.-]+Z)(?P<kind>|\.missed\.json|\.failed-.*)")

LIST_KEYS = {
    "account": ("profile", "account"),
    "positions": ("positions", "position"),
    "orders": ("orders", "order"),
    "quotes": ("quotes", "quote"),
}


@dataclass(frozen=True, slots=True)
class Fill:
    """What an order without legs, or one leg, filled. Shares or contracts, signed like the position they make.

    Attributes:
        quantity: filled since the previous snapshot.
        late: filled so shortly before the previous snapshot that its positions may not show it yet.
        settled: whether the positions must show all of `quantity`, since it was not filled just around a snapshot.
    """

    symbol: str
    side: str
    quantity: Decimal
    late: Decimal
    settled: bool

    @property
    def least(self) -> Decimal:
        """The lowest change of the position that this can account for."""
        return (self.quantity if self.settled else min(self.quantity, Decimal(0))) + min(self.late, Decimal(0))

    @property
    def most(self) -> Decimal:
        """The highest change of the position that this can account for."""
        return (self.quantity if self.settled else max(self.quantity, Decimal(0))) + max(self.late, Decimal(0))


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in a landed day: that of a snapshot, or with `kind` of what else is told of its instant."""

    name: str
    snapshot_id: str
    kind: str

    @classmethod
    def of(cls, name: str) -> Entry | None:
        """None: it is the name of none of these."""
        match = _ENTRY.fullmatch(name)
        return match and cls(name, f"{match['date']}{match['time'].replace('-', ':')}", match["kind"])


class Evidence:
    """The landed bytes of one snapshot and what a warehouse stores of it.

    The bytes are decoded here anew, without the models that wrote the rows: a mistake there must show here.
    """

    def __init__(self, landed: LandedSnapshot, connection: duckdb.DuckDBPyConnection) -> None:
        self.landed = landed
        self.connection = connection
        self.snapshot_id = str(landed.snapshot_id)
        self.account_id = landed.snapshot_id.account_id
        self._stored: dict[str, list[Row]] = {}

    @cached_property
    def manifest(self) -> Row:
        """The manifest as JSON."""
        return decoded(self.landed.read("manifest.json"))

    @cached_property
    def long_texts(self) -> dict[str, list[str]]:
        """The texts of the landed documents that are too long to be stored whole, by path without indexes."""
        found: dict[str, list[str]] = defaultdict(list)
        for resource in (*self.landed.manifest.resources, "order", "quotes"):
            for body in self.landed.bodies(resource):
                for path, text in long_texts(json.loads(body)) if may_have_long_texts(body.decode()) else ():
                    found[path].append(text)
        return found

    @cached_property
    def documents(self) -> dict[str, list[Row]]:
        """The landed documents, page by page, by resource; the bytes are proven to be those that were landed."""
        resources = (*self.landed.manifest.resources, "order", "quotes")
        return {resource: self._documents(resource) for resource in resources}

    def _documents(self, resource: str) -> list[Row]:
        return [decoded(body) for body in self.landed.bodies(resource)]

    def listed(self, resource: str) -> list[Row]:
        """The rows the broker listed under a list resource."""
        outer, inner = LIST_KEYS[resource]
        rows: list[Row] = []
        for document in self.documents[resource]:
            holder = document[outer]
            found = holder.get(inner) if isinstance(holder, dict) else None
            rows += found if isinstance(found, list) else [] if found is None else [found]
        return rows

    @cached_property
    def orders(self) -> list[Row]:
        """The listed orders, then those read by their ids. One that was listed without its legs and read with them
        counts as it was read; one that reported no more counts as it was listed."""
        by_id = {whole(document["order"]["id"]): document["order"] for document in self.documents["order"]}
        listed = self.listed("orders")
        numbers = {whole(order["id"]) for order in listed}
        read = ((order, by_id.get(whole(order["id"]))) for order in listed)
        reported = [by_number if by_number and _tells_legs(order, by_number) else order for order, by_number in read]
        return [*reported, *(order for number, order in by_id.items() if number not in numbers)]

    @cached_property
    def account(self) -> Row:
        """The account's row of the profile, {} if it is not listed."""
        return next((row for row in self.listed("account") if row.get("account_number") == self.account_id), {})

    @cached_property
    def balances(self) -> Row:
        """The balances object."""
        (document,) = self.documents["balances"]
        balances: Row = document["balances"]
        return balances

    def stored(self, table: str) -> list[Row]:
        """The stored rows of this snapshot, by column name."""
        if table not in self._stored:
            self._stored[table] = self.query(f"SELECT * FROM {table} WHERE {self._of_snapshot}")  # noqa: S608
        return self._stored[table]

    @cached_property
    def _of_snapshot(self) -> str:
        # the window lets DuckDB skip all but the newest rows of a long history
        as_of = self.landed.manifest.as_of
        window = (self.snapshot_id, as_of - NEARBY, as_of + NEARBY)
        return bind("snapshot_id = ? AND as_of BETWEEN ? AND ?", *window)

    def query(self, sql: str, *parameters: Any) -> list[Row]:
        """Rows of any query, by column name."""
        return rows_of(self.connection, bind(sql, *parameters))

    @cached_property
    def previous(self) -> Row | None:
        """The header of the published snapshot of this account that was read last before this one: a good one, if
        there is any."""
        sql = (
            "SELECT * FROM tradier_snapshots WHERE account_id = ? AND as_of < ? AND as_of > ? "
            "ORDER BY verdict = 'doubtful', as_of DESC LIMIT 1"
        )
        as_of = self.landed.manifest.as_of
        for since in (as_of - NEARBY, EPOCH):  # mostly it is near, and found without a look at a year of them
            rows = self.query(sql, self.account_id, as_of, since)
            if rows and (since == EPOCH or rows[0]["verdict"] == "good"):
                return rows[0]
        return None

    def read_meanwhile(self) -> list[Row]:
        """Id and times of the other published snapshots of the account that were read while this one was."""
        manifest = self.landed.manifest
        return self.query(
            "SELECT snapshot_id, as_of, as_of_end FROM tradier_snapshots "
            "WHERE account_id = ? AND snapshot_id <> ? AND as_of BETWEEN ? AND ? AND as_of < ? AND as_of_end > ?",
            *(self.account_id, self.snapshot_id, manifest.as_of - NEARBY, manifest.as_of + NEARBY),
            *(manifest.as_of_end, manifest.as_of),
        )

    def published_between(self, first_day: date, last_day: date) -> Collection[str]:
        """The published snapshots of the account, by the dates they were read on."""
        sql = "SELECT snapshot_id FROM tradier_snapshots WHERE account_id = ? AND trade_date BETWEEN ? AND ?"
        return {row["snapshot_id"] for row in self.query(sql, self.account_id, first_day, last_day)}

    def unpublished_between(self, first_day: date, last_day: date) -> list[tuple[Day, Entry]]:
        """What is filed on some days of the account and is of no published snapshot."""
        published = self.published_between(first_day - NEARBY, last_day + NEARBY)
        days = self.landed.zone.days(self.account_id)  # a year has 98 000 entries: only those of these days
        return [
            (day, entry)
            for day in days
            if first_day <= day.trade_date <= last_day
            for name in day.entries()
            if (entry := Entry.of(name)) and entry.snapshot_id not in published
        ]

    def missed_between(self, first_day: date, last_day: date) -> list[Row]:
        """The stored instants of the account without a snapshot, by the New York dates of the instants."""
        sql = "SELECT * FROM missed_snapshots WHERE account_id = ? AND trade_date BETWEEN ? AND ?"
        return self.query(sql, self.account_id, first_day, last_day)

    @cached_property
    def legs(self) -> Mapping[int, list[Row]]:
        """The stored legs by the id of their order."""
        legs: dict[int, list[Row]] = defaultdict(list)
        for leg in self.stored("order_legs"):
            legs[leg["order_id"]].append(leg)
        return legs

    @cached_property
    def before(self) -> Rows:
        """What is stored of the previous snapshot; nothing if there is none."""
        if self.previous is None:
            return defaultdict(list)
        return stored_rows(self.connection, self.previous["snapshot_id"], self.previous["as_of"])

    @cached_property
    def held_before(self) -> list[Row]:
        """What the previous snapshot held; nothing if there is none."""
        return [row for row in self.before["positions"] if row["quantity"]]

    @cached_property
    def progress_before(self) -> Mapping[tuple[int, int | None], Row]:
        """How far every order (order id, None) and leg (order id, leg id) had come in the previous snapshot, or in the
        last one before that showed it: what leaves the list has not lost what it had filled."""
        if self.previous is None:
            return {}
        shown = _progress(self.before)
        known = {order_id for order_id, _ in shown}
        earlier = [row for row in self.stored("orders") if row["order_id"] not in known and self._existed_before(row)]
        if not earlier:
            return shown
        since = min(row["create_date"] for row in earlier) - CLOCKS_APART
        with reaching(self.connection, since):
            last = self.query(
                "SELECT order_id, max_by(snapshot_id, as_of) AS snapshot_id, max(as_of) AS as_of FROM orders "  # noqa: S608
                f"WHERE account_id = ? AND as_of BETWEEN ? AND ? "
                f"AND order_id IN ({', '.join(str(row['order_id']) for row in earlier)}) GROUP BY order_id",
                self.account_id,
                since,
                self.previous["as_of"],
            )
            before = [
                stored_rows(
                    self.connection, row["snapshot_id"], row["as_of"], OF_ORDERS, f"order_id = {row['order_id']}"
                )
                for row in last
            ]
        return {**shown, **{key: row for rows in before for key, row in _progress(rows).items()}}

    def _existed_before(self, order: Row) -> bool:
        assert self.previous is not None
        return bool(order["create_date"] and order["create_date"] < self.previous["as_of"])

    @cached_property
    def fills(self) -> list[Fill]:
        """What filled since the previous snapshot. An order with legs names the underlying: its legs count instead.
        One of several without its legs fills nothing that anybody knows."""
        return list(self._fills()) if self.previous is not None else []

    @cached_property
    def unexplained(self) -> Mapping[str, Decimal]:
        """By symbol, how much of the change since the previous snapshot no fill accounts for."""
        now, before = quantities(self.stored("positions")), quantities(self.held_before)
        least: dict[str, Decimal] = defaultdict(Decimal)
        most: dict[str, Decimal] = defaultdict(Decimal)
        for fill in self.fills:
            least[fill.symbol] += fill.least
            most[fill.symbol] += fill.most
        changes = {
            symbol: now.get(symbol, Decimal(0)) - before.get(symbol, Decimal(0))
            for symbol in now.keys() | before.keys() | least.keys()
        }
        rests = {symbol: change - min(max(change, least[symbol]), most[symbol]) for symbol, change in changes.items()}
        return {symbol: rest for symbol, rest in rests.items() if rest}

    @cached_property
    def legless(self) -> Mapping[int, Row]:
        """By id, the stored orders of several whose legs are not known."""
        return {
            order["order_id"]: order
            for order in self.stored("orders")
            if order["raw_class"] in WITH_LEGS and order["order_id"] not in self.legs
        }

    def _had_filled_unseen(self, order_id: int) -> bool:
        """Whether it had filled when it was last shown, and its legs were not known."""
        before = self.progress_before
        had_legs = any(number == order_id and leg_id is not None for number, leg_id in before)
        return not had_legs and bool((before.get((order_id, None)) or {}).get("exec_quantity"))

    def _is_of_earlier_day(self, order: Row) -> bool:
        assert self.previous is not None
        created = order["create_date"]
        return created is not None and clock.trade_date(created) < self.previous["trade_date"]

    def _fills(self) -> Iterator[Fill]:
        assert self.previous is not None
        (header,) = self.stored("tradier_snapshots")
        for order in self.stored("orders"):
            legs = self.legs.get(order["order_id"])
            if order["order_id"] in self.legless or (legs and self._had_filled_unseen(order["order_id"])):
                continue
            for part in legs or [order]:
                if not part["exec_quantity"] or part["side"] in (None, "unknown"):
                    continue
                at = part["transaction_date"] or order["transaction_date"]
                before = self.progress_before.get((order["order_id"], part.get("leg_id")), {})
                since = part["exec_quantity"] - (before.get("exec_quantity") or 0)
                changed = before.get("transaction_date")
                is_late = changed is not None and changed >= self.previous["as_of"] - SETTLING
                if not since and not is_late:
                    continue
                sign = 1 if part["side"].startswith("buy") else -1
                # of an order of an earlier day that no snapshot showed nobody knows how much it had filled by then
                is_new = bool(before) or not self._is_of_earlier_day(order)
                yield Fill(
                    symbol=part["option_symbol"] or part["symbol"] or "",
                    side=part["side"],
                    quantity=sign * since,
                    late=sign * (before.get("exec_quantity") or Decimal(0)) if is_late else Decimal(0),
                    settled=is_new
                    and at is not None
                    and self.previous["as_of_end"] + SETTLING < at < header["as_of"] - SETTLING,
                )


def quantities(rows: list[Row]) -> Mapping[str, Decimal]:
    """How much is held of each symbol that is held at all."""
    held: dict[str, Decimal] = defaultdict(Decimal)
    for row in rows:
        if row["quantity"]:
            held[row["symbol"]] += row["quantity"]
    return dict(held)


def _progress(rows: Rows) -> dict[tuple[int, int | None], Row]:
    """By order and leg, how far it had come."""
    return {(row["order_id"], row.get("leg_id")): row for table in OF_ORDERS for row in rows[table]}


def _tells_legs(listed: Row, by_id: Row | None) -> bool:
    """Whether an order that was listed without its legs has them where it was read by its id."""
    if by_id is None or listed.get("class") not in WITH_LEGS:
        return False
    return listed.get("leg") in NO_LEGS and by_id.get("leg") not in NO_LEGS


def number(value: Any) -> Decimal | None:
    """A JSON number as an exact Decimal; null where the broker sent none. Raises ValueError if it is something else."""
    if value is None or type(value) is Decimal:
        return value
    if type(value) is not int:
        raise ValueError(f"{value!r} is not a number")
    return Decimal(value)


def whole(value: Any) -> Any:
    """An id as it is stored: a number, also where the broker sent its digits as text."""
    return int(value) if isinstance(value, str) and value.removeprefix("-").isdecimal() else value


def storable(value: Any) -> Decimal | None:
    """A JSON number as DECIMAL(24,8) holds it. Raises ValueError if it is something else, or too large for that."""
    exact = number(value)
    near = None if exact is None else rounded(exact)
    if near is None and exact is not None:
        raise ValueError(f"{value} does not fit DECIMAL(24,8)")
    return near


@lru_cache(4096)  # a list of orders has the same few prices and quantities again and again
def rounded(value: Decimal) -> Decimal | None:
    """A value as DECIMAL(24,8) holds it, half rounded to even; null if it is too large for that."""
    if value.copy_abs() >= LIMIT:
        return None
    near = value.quantize(ULP, ROUND_HALF_EVEN, UNROUNDED)
    return near if abs(near) < LIMIT else None


def instant(value: Any) -> datetime | None:
    """An ISO 8601 text as an aware datetime; null where the broker sent none."""
    return None if value is None else datetime.fromisoformat(value)


def decoded(body: bytes) -> Row:
    """The document of a body: numbers exact, texts as long as they are stored."""
    document: Row = json.loads(body, parse_float=Decimal)
    if may_have_long_texts(body.decode()):
        return {key: shortened(member) for key, member in document.items()}
    return document


def by_key(rows: list[Row], *columns: str) -> Mapping[tuple[Any, ...], Row]:
    """Rows by the values of the key columns; a repeated key keeps its last row, which the counts reveal."""
    return {tuple(row[column] for column in columns): row for row in rows}
