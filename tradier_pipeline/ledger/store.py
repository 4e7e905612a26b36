"""The ledger: what the trading engine believes, and the requests for snapshots. SQLite, shared with the engine."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from tradier_pipeline import clock
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.files import create_private, exclusive, make_directory, writing
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.ledger.records import (
    EngineOrder,
    LedgerRow,
    Reason,
    SnapshotRequest,
    StatedFlow,
    Trade,
    columns_of,
)
from tradier_pipeline.ledger.relevant import Relevance, relevant_keys
from tradier_pipeline.ledger.schema import MIGRATIONS, VERSION

BUSY_TIMEOUT_S = 5.0
_OLDEST_ORDERS = "ORDER BY created_at, client_order_id"
_OLDEST_TRADES = "ORDER BY created_at, trade_id"

R = TypeVar("R", bound=LedgerRow)


class LedgerError(PipelineError):
    """The ledger cannot be read or written, or refuses a row."""


class Ledger:
    """The ledger of a home. Every call opens the file for itself: use it from any thread and process.

    The first call creates the file, or brings that of an earlier version up to date.

    Raises (every method):
        LedgerError: another program holds the file for longer than `BUSY_TIMEOUT_S`; it cannot be written; it is no
            SQLite file, is damaged, or was written by a newer version; or a row breaks a rule of the schema.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def exists(self) -> bool:
        """Whether anything was ever written here."""
        return self.path.exists()

    @property
    def empty(self) -> bool:
        """Whether it has neither orders nor trades."""
        if not self.exists:
            return True
        with self._open() as connection:
            sql = "SELECT EXISTS (SELECT 1 FROM orders) OR EXISTS (SELECT 1 FROM trades)"
            (written,) = connection.execute(sql).fetchone()
        return not written

    def request(
        self, account_id: str, reason: Reason, *, order_id: str | None = None, note: str | None = None
    ) -> SnapshotRequest:
        """Ask for a snapshot of an account. Waits for nothing but the write.

        Args:
            order_id: the order or trade that it is about.
            note: more, in words.
        """
        with self._writing() as connection:
            cursor = connection.execute(
                "INSERT INTO snapshot_requests (account_id, reason, order_id, note) VALUES (?, ?, ?, ?) RETURNING *",
                (account_id, reason, order_id, note),
            )
            (request,) = _read(SnapshotRequest, cursor)
        return request

    def request_once(self, account_id: str, reason: Reason, *, order_id: str | None, note: str) -> bool:
        """Ask, unless the same was asked before with the same note, answered or not. Whether it was written."""
        with self._writing() as connection:
            cursor = connection.execute(
                "INSERT INTO snapshot_requests (account_id, reason, order_id, note) SELECT ?1, ?2, ?3, ?4 "
                "WHERE NOT EXISTS (SELECT 1 FROM snapshot_requests "
                "WHERE account_id = ?1 AND reason = ?2 AND order_id IS ?3 AND note = ?4)",
                (account_id, reason, order_id, note),
            )
            return cursor.rowcount == 1

    def waiting(self) -> list[SnapshotRequest]:
        """The requests that no snapshot has answered yet, oldest first."""
        return self._rows(
            SnapshotRequest, "SELECT * FROM snapshot_requests WHERE snapshot_id IS NULL ORDER BY request_id"
        )

    def requests(self, *, limit: int = -1) -> list[SnapshotRequest]:
        """The requests, answered or not, oldest first; with a limit, the newest so many."""
        rows = self._rows(SnapshotRequest, "SELECT * FROM snapshot_requests ORDER BY request_id DESC LIMIT ?", limit)
        return rows[::-1]

    def claim(self, snapshot_id: SnapshotId) -> int:
        """Let a snapshot, before its first fetch, answer every waiting request of its account.

        Returns:
            How many there were.
        """
        with self._writing() as connection:
            cursor = connection.execute(
                "UPDATE snapshot_requests SET snapshot_id = ?, claimed_at = ? "
                "WHERE account_id = ? AND snapshot_id IS NULL",
                (str(snapshot_id), _to_text(clock.now()), snapshot_id.account_id),
            )
            return cursor.rowcount

    def record_order(self, order: EngineOrder) -> None:
        """Write an order as the engine believes it; a new or changed one asks for a snapshot by itself."""
        with self._writing() as connection:
            _upsert(connection, "orders", "client_order_id", order)

    def record_trade(self, trade: Trade) -> None:
        """Write a trade as the engine believes it."""
        with self._writing() as connection:
            _upsert(connection, "trades", "trade_id", trade)

    def orders(self) -> list[EngineOrder]:
        """The orders, oldest first."""
        return self._rows(EngineOrder, f"SELECT * FROM orders {_OLDEST_ORDERS}")  # noqa: S608

    def trades(self, statuses: Collection[str] | None = None) -> list[Trade]:
        """The trades, or those in one of the statuses, oldest first."""
        chosen = list(statuses or ())
        condition = "true" if statuses is None else f"status IN ({', '.join('?' * len(chosen))})"
        return self._rows(Trade, f"SELECT * FROM trades WHERE {condition} {_OLDEST_TRADES}", *chosen)  # noqa: S608

    def relevant(self, relevance: Relevance) -> tuple[list[EngineOrder], list[Trade]]:
        """The orders and trades that one snapshot can say something new about, oldest first."""
        with self._open() as connection:
            connection.execute("BEGIN")  # all of one moment
            orders, trades = relevant_keys(connection, relevance)
            listed = "IN (SELECT value FROM json_each(?))"
            of_orders = f"SELECT * FROM orders WHERE client_order_id {listed} {_OLDEST_ORDERS}"  # noqa: S608
            of_trades = f"SELECT * FROM trades WHERE trade_id {listed} {_OLDEST_TRADES}"  # noqa: S608
            return (
                _read(EngineOrder, connection.execute(of_orders, (json.dumps(orders),))),
                _read(Trade, connection.execute(of_trades, (json.dumps(trades),))),
            )

    def state_flow(
        self,
        account_id: str,
        day: date,
        kind: str,
        amount: Decimal,
        *,
        symbol: str | None,
        quantity: Decimal | None,
        note: str | None,
        stated_by: str,
    ) -> StatedFlow:
        """Write a flow that the owner states. `amount`: USD, negative for a withdrawal."""
        values = (account_id, day, kind, amount, symbol, quantity, note, stated_by, clock.now())
        with self._writing() as connection:
            cursor = connection.execute(
                "INSERT INTO stated_flows (account_id, trade_date, kind, amount, symbol, quantity, note, stated_by, "
                "stated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING *",
                [_to_text(value) for value in values],
            )
            (flow,) = _read(StatedFlow, cursor)
        return flow

    def remove_flow(self, flow_id: int, removed_by: str) -> StatedFlow:
        """Take a stated flow back; the row stays.

        Raises:
            LedgerError: no flow of this number stands.
        """
        with self._writing() as connection:
            cursor = connection.execute(
                "UPDATE stated_flows SET removed_by = ?, removed_at = ? "
                "WHERE flow_id = ? AND removed_at IS NULL RETURNING *",
                (removed_by, _to_text(clock.now()), flow_id),
            )
            found = _read(StatedFlow, cursor)
            if not found:
                raise LedgerError(f"no stated flow {flow_id} stands", "See `tradier-pipeline flows list`.")
        return found[0]

    def stated_flows(self) -> list[StatedFlow]:
        """The flows that the owner has stated, those taken back too, by date."""
        return self._rows(StatedFlow, "SELECT * FROM stated_flows ORDER BY trade_date, flow_id")

    def _rows(self, model: type[R], sql: str, *parameters: Any) -> list[R]:
        with self._open() as connection:
            return _read(model, connection.execute(sql, parameters))

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, from the start the only writer's."""
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")  # closing without it rolls back

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with _ledger_errors(self.path), closing(self._connect()) as connection:
            yield connection

    def _connect(self) -> sqlite3.Connection:
        if not self.path.parent.is_dir():
            with writing(self.path):
                make_directory(self.path.parent)
        if not self.exists:
            with writing(self.path):
                create_private(self.path)
        connection = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous = FULL")  # an order that was acknowledged outlives a power failure
            if _version(connection) < VERSION:
                with exclusive(self.path.with_name(f"{self.path.name}.lock"), BUSY_TIMEOUT_S, "the ledger is prepared"):
                    _migrate(connection)
            if (version := _version(connection)) > VERSION:
                raise LedgerError(
                    f"{self.path} is of version {version}, and this program knows {VERSION}",
                    "Install the newer tradier-pipeline.",
                )
        except BaseException:
            connection.close()
            raise
        return connection


def _upsert(connection: sqlite3.Connection, table: str, key: str, row: LedgerRow) -> None:
    values = {
        name: _to_text(value)
        for name, value in columns_of(row).items()
        if name not in ("created_at", "updated_at") or value is not None
    }
    kept = {key, "created_at", "updated_at", "snapshot_id"}
    changes = [f"{name} = excluded.{name}" for name in values if name not in kept]
    changes.append("snapshot_id = coalesce(excluded.snapshot_id, snapshot_id)")
    connection.execute(
        f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join('?' * len(values))}) "  # noqa: S608
        f"ON CONFLICT ({key}) DO UPDATE SET {', '.join(changes)}",
        list(values.values()),
    )


def _migrate(connection: sqlite3.Connection) -> None:
    """Each step is one transaction, so a process that dies leaves a whole version behind."""
    connection.execute("PRAGMA journal_mode = WAL")  # readers and the writer never wait for each other
    for version in range(_version(connection), VERSION):
        connection.executescript(
            f"BEGIN IMMEDIATE; {MIGRATIONS[version]}; PRAGMA user_version = {version + 1}; COMMIT;"
        )


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


@contextmanager
def _ledger_errors(path: Path) -> Iterator[None]:
    """SQLite's refusals as one line with a remedy."""
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise LedgerError(f"the ledger refuses this: {error}", "Correct the value that it names.") from None
    except sqlite3.DatabaseError as error:
        raise LedgerError(f"cannot use the ledger {path}: {error}", _remedy(error)) from None


def _remedy(error: sqlite3.DatabaseError) -> str:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return f"Another program has kept it locked for {BUSY_TIMEOUT_S:.0f} s: let it end its transaction."
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        return "Restore it from a backup, or move it away: a new one is created."
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_IOERR", "SQLITE_FULL")):
        return "Make TRADIER_PIPELINE_HOME a directory you may write to, with space left."
    return "See the tables: `sqlite3 ledger.sqlite .schema`."


_decode = json.JSONDecoder(parse_float=Decimal).decode  # made once: json.loads makes one a row


@cache
def _list_of(model: type[R]) -> TypeAdapter[list[R]]:
    return TypeAdapter(list[model])  # type: ignore[valid-type]


def _read(model: type[R], cursor: sqlite3.Cursor) -> list[R]:
    names = [column[0] for column in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor]
    for row in rows:
        if "legs" in row:
            row["legs"] = _decode(row["legs"])
    try:
        return _list_of(model).validate_python(rows)
    except ValidationError as error:
        (first, *_) = error.errors()
        number, *place = first["loc"]
        key = next(iter(rows[int(number)].values()))  # the first column
        what = f"the row {key} of the ledger has an odd {'.'.join(map(str, place))}"
        raise LedgerError(f"{what}: {first['msg']}", "Correct the row.") from None


def _to_text(value: Any) -> Any:
    """A value as SQLite keeps it: exact, and equal whoever writes it."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime):  # to the millisecond, as the broker and SQLite have it: SQLite rounds finer ones up
        return clock.iso(value.replace(microsecond=value.microsecond // 1000 * 1000))
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, tuple | list):
        return json.dumps(value)
    return value
