"""The old system's D1 database -> the ledger, once.

The file is a stranger's: a dump runs in a scratch database in memory that can do nothing but take rows, and only values
that were read from there and understood are written to the ledger. What is not understood is reported, row by row.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from tradier_pipeline.broker.symbols import OptionSymbol, OptionType
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.ledger.records import EngineOrder, Leg, OrderStatus, Trade, TradeStatus, columns_of
from tradier_pipeline.ledger.store import Ledger, _to_text

MAX_BYTES = 1 << 30
MIN_SCRATCH_BYTES = 1 << 24
MAX_ROWS = 200_000  # of a table; the old system wrote a few a day
MAX_STEPS = 2_000_000_000  # of SQLite's virtual machine
OLD_MULTIPLIER = 100  # D1 kept profits per share times contracts, without it
QUANTUM = Decimal("1E-8")
IMPORTED = "imported"

Row = Mapping[str, Any]
RowT = TypeVar("RowT", EngineOrder, Trade)

_MAGIC = b"SQLite format 3\x00"
_ALLOWED = {
    *(sqlite3.SQLITE_CREATE_TABLE, sqlite3.SQLITE_CREATE_INDEX, sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE),
    *(sqlite3.SQLITE_READ, sqlite3.SQLITE_SELECT, sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_REINDEX),
    *(sqlite3.SQLITE_DELETE,),  # of sqlite_sequence, as dumps do
}
_FUNCTIONS = {"replace", "char", "unistr", "datetime", "strftime", "current_timestamp", "lower", "upper", "length"}
_PRAGMAS = {"defer_foreign_keys", "foreign_keys"}
_INTERNAL = re.compile(r"sqlite_.*|_cf_.*|d1_migrations")
_TAG = re.compile(r"[A-Za-z0-9-]{1,255}")
_MILLISECONDS = re.compile(r"\d{13}")
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d{1,3})?")

# the words of the old table, of its client, and of the broker
_ORDER_STATUSES: Mapping[str, OrderStatus] = {
    **{word: word for word in get_args(OrderStatus)},
    **{"NEW": "PLACED", "OPEN": "PLACED", "WORKING": "PLACED", "SUBMITTED": "PLACED"},
    **{"PARTIALLY_FILLED": "PARTIAL", "CANCELED": "CANCELLED"},
}
_CALLS = ("bear_call_credit", "bull_call_debit")
_SHORT_IS_HIGHER = {
    "bull_put_credit": True,
    "bear_put_debit": False,
    "bear_call_credit": False,
    "bull_call_debit": True,
}
_SETTLED_FIRST = ("FILLED", "CANCELLED", "REJECTED", "EXPIRED", "ERROR", "PARTIAL", "PLACED", "UNKNOWN", "PENDING")


@dataclass(frozen=True, slots=True)
class Note:
    """Something of a row that was not understood; `left_out` if the row itself is not in the ledger."""

    table: str
    key: str
    why: str
    left_out: bool = False


@dataclass(slots=True)
class Imported:
    """What an import did: rows written by table, rows that the ledger had already, and what was not understood."""

    written: dict[str, int] = field(default_factory=lambda: {"trades": 0, "orders": 0})
    already: int = 0
    notes: list[Note] = field(default_factory=list)


def import_d1(ledger: Ledger, path: Path, account_id: str) -> Imported:
    """Bring the orders and trades of a D1 export into the ledger; rows that it has stay as they are.

    Args:
        path: a SQL dump of `wrangler d1 export`, or the SQLite file.
        account_id: whose they are; D1 did not say.

    Raises:
        PipelineError: the file cannot be read, is neither, or asks for more than taking rows; nothing was written.
        LedgerError: the ledger cannot be written; nothing was.
    """
    done = Imported()
    with _opened(path) as source:
        old = {table: _rows(source, table) for table in ("trades", "orders")}
        done.notes += _other_tables(source)
    reader = _Reader(account_id, done.notes)
    trades = [trade for row in old["trades"] if (trade := reader.trade(row)) is not None]
    orders = reader.orders(old["orders"], {trade.trade_id: trade for trade in trades})
    with ledger._writing() as connection:
        (newest,) = connection.execute("SELECT coalesce(max(request_id), 0) FROM snapshot_requests").fetchone()
        for table, key, rows in (("trades", "trade_id", trades), ("orders", "client_order_id", orders)):
            for row in rows:
                _insert(connection, table, key, row, done)
        # what happened long ago asks for no snapshot
        connection.execute("DELETE FROM snapshot_requests WHERE request_id > ?", (newest,))
    return done


def _insert(connection: sqlite3.Connection, table: str, key: str, row: EngineOrder | Trade, done: Imported) -> None:
    values = {name: _to_text(value) for name, value in columns_of(row).items() if value is not None}
    places = ", ".join("?" * len(values))
    sql = f"INSERT INTO {table} ({', '.join(values)}) VALUES ({places}) ON CONFLICT ({key}) DO NOTHING"  # noqa: S608
    connection.execute("SAVEPOINT row")
    try:
        cursor = connection.execute(sql, list(values.values()))
    except sqlite3.IntegrityError as error:
        connection.execute("ROLLBACK TO row")
        done.notes.append(Note(table, str(getattr(row, key)), f"the ledger refuses it: {error}", left_out=True))
    else:
        done.written[table] += cursor.rowcount == 1
        done.already += cursor.rowcount == 0
    connection.execute("RELEASE row")


# --- the stranger's file ----------------------------------------------------------------------------------------------


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The export as a database that can only be read."""
    try:
        with path.open("rb") as file:
            is_database = file.read(len(_MAGIC)) == _MAGIC
        if path.stat().st_size > MAX_BYTES:
            raise PipelineError(f"{path} is larger than 1 GiB", "Export only the tables orders and trades.")
        with closing(_database(path) if is_database else _scratch(path)) as connection:
            connection.execute("PRAGMA query_only = ON")
            yield connection
    except OSError as error:
        raise PipelineError(f"cannot read {path}: {error.strerror}", "Give the file of the export.") from None
    except UnicodeDecodeError:
        raise PipelineError(f"{path} is neither a SQL dump nor a SQLite file", _EXPORT) from None
    except sqlite3.Error as error:
        raise PipelineError(f"{path} is no export of D1: {str(error)[:200]}", _EXPORT) from None


_EXPORT = "Export with `wrangler d1 export NAME --remote --output=FILE`."


def _database(path: Path) -> sqlite3.Connection:
    unfinished = path.with_name(f"{path.name}-wal").exists()  # rows that only its log has yet
    options = "mode=ro" if unfinished else "mode=ro&immutable=1"
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?{options}", uri=True)
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.set_progress_handler(_patience(), 1_000_000)
    return connection


def _scratch(path: Path) -> sqlite3.Connection:
    text = path.read_text(encoding="utf-8")
    connection = sqlite3.connect(":memory:")
    connection.execute("PRAGMA trusted_schema = OFF")
    # the rows of a dump stand in its text; one that makes more of them is no export
    connection.execute(f"PRAGMA max_page_count = {max(MIN_SCRATCH_BYTES, 4 * len(text)) // 4096}")
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.set_progress_handler(_patience(), 1_000_000)
    connection.set_authorizer(_may)
    try:
        connection.executescript(text)
    except BaseException:
        connection.close()
        raise
    connection.set_authorizer(None)
    return connection


def _may(action: int, first: str | None, second: str | None, _database: str | None, _trigger: str | None) -> int:
    """A dump creates tables and inserts rows; nothing else is its business."""
    allowed = (
        action in _ALLOWED
        or (action == sqlite3.SQLITE_PRAGMA and (first or "").lower() in _PRAGMAS)
        or (action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in _FUNCTIONS)
    )
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def _patience() -> Callable[[], int]:
    left = MAX_STEPS // 1_000_000

    def step() -> int:
        nonlocal left
        left -= 1
        return int(left < 0)  # anything but 0 interrupts

    return step


def _rows(source: sqlite3.Connection, table: str) -> list[Row]:
    """The rows of a table, none if there is no such table; never those of a view."""
    if table not in _tables(source):
        return []
    if source.execute(f"SELECT 1 FROM {table} LIMIT 1 OFFSET {MAX_ROWS}").fetchone():  # noqa: S608 - as below
        raise PipelineError(f"its table {table} has more than {MAX_ROWS:,} rows", _EXPORT)
    cursor = source.execute(f"SELECT * FROM {table}")  # noqa: S608 - one of two constants
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def _tables(source: sqlite3.Connection) -> list[str]:
    return [name for (name,) in source.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]


def _other_tables(source: sqlite3.Connection) -> Iterator[Note]:
    names = _tables(source)
    for name in names:
        if name not in ("orders", "trades") and not _INTERNAL.fullmatch(name):
            quoted = name.replace('"', '""')
            (count,) = source.execute(f'SELECT count(*) FROM "{quoted}"').fetchone()  # noqa: S608 - quoted
            yield Note(name, "*", f"{count} rows: the ledger has no such table", left_out=True)
    if not {"orders", "trades"} & set(names):
        raise PipelineError("the file has neither a table orders nor a table trades", _EXPORT)


# --- rows -------------------------------------------------------------------------------------------------------------


class _Reader:
    """Old rows -> rows of the ledger; what it does not understand becomes a note, and the value null.

    `updated_at` is not taken over: it is when the ledger got the row, and the next snapshot looks at what is new to it.
    """

    def __init__(self, account_id: str, notes: list[Note]) -> None:
        self.account_id = account_id
        self.notes = notes

    def trade(self, row: Row) -> Trade | None:
        key = str(row.get("id"))
        cells = _Cells("trades", key, row, self.notes)
        status = str(row.get("status") or "").upper()
        quantity = cells.amount("quantity")
        symbol = str(row.get("symbol") or "").upper()
        if problem := (
            (not row.get("id") and "it has no id")
            or (status not in get_args(TradeStatus) and f"its status {row.get('status')!r} is not known")
            or (not quantity and f"its quantity {row.get('quantity')!r} is no amount")
            or (not symbol and "it has no symbol")
        ):
            self.notes.append(Note("trades", key, problem, left_out=True))
            return None
        strategy = str(row["strategy"]).lower() if row.get("strategy") else None
        entry, exit_ = cells.price("entry_price"), cells.price("exit_price")
        values = {
            "trade_id": key,
            "account_id": self.account_id,
            "symbol": symbol,
            "status": status,
            "quantity": quantity,
            "expiration": cells.day("expiration"),
            "strategy": strategy,
            **{name: cells.amount(name) for name in ("short_strike", "long_strike", "width", "iv_entry")},
            "entry_price": entry,
            "entry_price_source": None if entry is None else IMPORTED,
            "exit_price": exit_,
            "exit_price_source": None if exit_ is None else IMPORTED,
            "exit_reason": row.get("exit_reason"),
            "broker_order_id_open": cells.identifier("broker_order_id_open"),
            "broker_order_id_close": cells.identifier("broker_order_id_close"),
            **{name: cells.dollars(name) for name in ("realized_pnl", "max_profit", "max_loss")},
            "max_seen_profit_fraction": cells.number("max_seen_profit_fraction"),
            "origin": row.get("origin"),
            "managed": row.get("managed") not in (0, "0", "false"),
            **{name: cells.instant(name) for name in ("opened_at", "closed_at", "created_at")},
        }
        trade = self._valid(Trade, "trades", key, values)
        return None if trade is None else trade.model_copy(update={"legs": self._legs(trade)})

    def _legs(self, trade: Trade) -> tuple[Leg, ...]:
        strategy, short, long_ = trade.strategy, trade.short_strike, trade.long_strike
        if strategy not in _SHORT_IS_HIGHER or not short or not long_ or trade.expiration is None:
            self.notes.append(Note("trades", trade.trade_id, "its legs are not known: strategy, strikes or expiration"))
            return ()
        if (short > long_) != _SHORT_IS_HIGHER[strategy]:  # the old default was bull_put_credit, whatever was traded
            self.notes.append(Note("trades", trade.trade_id, f"its legs are not known: the strikes are no {strategy}"))
            return ()
        kind: OptionType = "call" if strategy in _CALLS else "put"
        contracts = {
            side: OptionSymbol(trade.symbol, trade.symbol, trade.expiration, kind, strike, OLD_MULTIPLIER, None)
            for side, strike in (("short", short), ("long", long_))
        }
        return tuple(
            Leg(option_symbol=contract.symbol, side=side, quantity=trade.quantity)
            for side, contract in contracts.items()
        )

    def orders(self, rows: Sequence[Row], trades: Mapping[str, Trade]) -> list[EngineOrder]:
        """The orders; of several with one broker id, the one that has come furthest keeps it."""
        orders = [order for row in rows if (order := self._order(row, trades)) is not None]
        owners: dict[int, str] = {}
        for order in sorted(orders, key=lambda order: _SETTLED_FIRST.index(order.status)):
            if order.broker_order_id is not None:
                owners.setdefault(order.broker_order_id, order.client_order_id)
        return [self._with_own_id(order, owners) for order in orders]

    def _with_own_id(self, order: EngineOrder, owners: Mapping[int, str]) -> EngineOrder:
        number = order.broker_order_id
        if number is None or owners[number] == order.client_order_id:
            return order
        why = f"the broker's id {number} is that of {owners[number]}, too; imported without it"
        self.notes.append(Note("orders", order.client_order_id, why))
        return order.model_copy(update={"broker_order_id": None})

    def _order(self, row: Row, trades: Mapping[str, Trade]) -> EngineOrder | None:
        key = str(row.get("client_order_id") or row.get("id"))
        cells = _Cells("orders", key, row, self.notes)
        word, role = str(row.get("status") or ""), str(row.get("side") or "").upper()
        if problem := (
            (not _TAG.fullmatch(key) and "its client order id is no tag: letters, digits and hyphens")
            or (role not in ("ENTRY", "EXIT") and f"its side {row.get('side')!r} is neither ENTRY nor EXIT")
        ):
            self.notes.append(Note("orders", key, problem, left_out=True))
            return None
        status = _ORDER_STATUSES.get(word.upper(), "UNKNOWN")
        if word.upper() not in _ORDER_STATUSES:
            self.notes.append(
                Note("orders", key, f"its status {row.get('status')!r} is not known; imported as UNKNOWN")
            )
        filled = cells.amount("filled_quantity")
        if status == "FILLED" and filled == 0:
            self.notes.append(Note("orders", key, "filled, and 0 of it; imported without the quantity"))
            filled = None
        if status == "PENDING" and row.get("tradier_order_id") is None:
            self.notes.append(Note("orders", key, "PENDING, and never known at the broker"))
        price, order_type = self._price(cells, role, trades.get(str(row.get("trade_id"))))
        values = {
            "client_order_id": key,
            "account_id": self.account_id,
            "role": role,
            "status": status,
            "broker_order_id": cells.identifier("tradier_order_id"),
            "trade_id": row.get("trade_id"),
            "order_type": order_type,
            "avg_fill_price": price,
            "filled_quantity": filled,
            "remaining_quantity": cells.amount("remaining_quantity"),
            "raw_status": word or None,
            "created_at": cells.instant("created_at"),
        }
        return self._valid(EngineOrder, "orders", key, values)

    def _price(self, cells: _Cells, role: str, trade: Trade | None) -> tuple[Decimal | None, str | None]:
        """The price with the broker's sign, and what sort of order it was: D1 kept prices without their sign."""
        price = cells.price("avg_fill_price")
        if price is None:
            return None, None
        strategy = (trade.strategy if trade else None) or ""
        if not strategy.endswith(("credit", "debit")):
            self.notes.append(
                Note("orders", cells.key, f"nobody knows whether {price:f} was paid or received; left out")
            )
            return None, None
        received = strategy.endswith("credit") == (role == "ENTRY")
        return (-abs(price), "credit") if received else (abs(price), "debit")

    def _valid(self, model: type[RowT], table: str, key: str, values: dict[str, Any]) -> RowT | None:
        try:
            return model.model_validate(values)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            self.notes.append(Note(table, key, f"{first['loc'][0]}: {first['msg']}", left_out=True))
            return None


@dataclass(frozen=True, slots=True)
class _Cells:
    """The values of one old row by column; null with a note where they are not understood."""

    table: str
    key: str
    row: Row
    notes: list[Note]

    def number(self, name: str) -> Decimal | None:
        value = self.row.get(name)
        if value is None or value == "":
            return None
        text = str(value)  # the shortest text of a float is the number that was meant
        if _NUMBER.fullmatch(text):
            with suppress(InvalidOperation):  # more digits than any amount has
                return Decimal(f"{Decimal(text).quantize(QUANTUM).normalize():f}")
        self._tell(name, "is no number")
        return None

    def amount(self, name: str) -> Decimal | None:
        number = self.number(name)
        if number is None or number >= 0:
            return number
        self._tell(name, "is negative")
        return None

    def price(self, name: str) -> Decimal | None:
        """D1 wrote 0 where it did not know."""
        number = self.number(name)
        if number is None or number:
            return number
        self._tell(name, "is no price")
        return None

    def dollars(self, name: str) -> Decimal | None:
        number = self.number(name)
        return None if number is None else number * OLD_MULTIPLIER

    def identifier(self, name: str) -> int | None:
        value = self.row.get(name)
        if value is None or value == "":
            return None
        text = str(value).removesuffix(".0")
        if text.isascii() and text.isdigit() and len(text) < 19 and int(text):
            return int(text)
        self._tell(name, "is no id")
        return None

    def day(self, name: str) -> date | None:
        value = self.row.get(name)
        if value is None or value == "":
            return None
        with suppress(ValueError):
            return date.fromisoformat(str(value)[:10])
        self._tell(name, "is no date")
        return None

    def instant(self, name: str) -> datetime | None:
        """D1 has `2025-12-01T14:00:00.000Z`, `2025-12-01 14:00:00` of its own clock, and milliseconds: all UTC."""
        value = self.row.get(name)
        if value is None or value == "":
            return None
        text = str(value)
        with suppress(ValueError, OverflowError, OSError):
            if _MILLISECONDS.fullmatch(text):
                return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=int(text))
            moment = datetime.fromisoformat(text)
            return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        self._tell(name, "is no instant")
        return None

    def _tell(self, name: str, why: str) -> None:
        text = repr(self.row.get(name))[:80]
        self.notes.append(Note(self.table, self.key, f"{name} {text} {why}; left out"))
