"""Writing to the ledger what a snapshot has shown: one transaction, every change with its reason, no surprise."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tradier_pipeline.ledger.changes import LedgerChange, changed, same_facts
from tradier_pipeline.ledger.records import EngineOrder, Trade
from tradier_pipeline.ledger.store import Ledger, _read, _to_text

_KEYS = {"orders": "client_order_id", "trades": "trade_id"}


@dataclass(slots=True)
class Written:
    """What became of proposed changes. `skipped` are with the reason; they are proposed again if still due."""

    applied: list[LedgerChange] = field(default_factory=list)
    already: list[LedgerChange] = field(default_factory=list)
    skipped: list[tuple[LedgerChange, str]] = field(default_factory=list)


def apply(ledger: Ledger, snapshot_id: str, changes: Iterable[LedgerChange]) -> Written:
    """Write changes that follow from a published snapshot, each with a row of the audit, in one transaction.

    A row that says something else than when the change was concluded is left alone, and so is one that the ledger's
    rules refuse. What is written already is not written again.

    Raises:
        LedgerError: the ledger cannot be written; nothing was.
    """
    written = Written()
    with ledger._writing() as connection:
        for change in changes:
            _apply_one(connection, snapshot_id, change, written)
    return written


def as_columns(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as the ledger keeps them: exact texts, and legs as a list of objects."""
    return {
        name: [leg.model_dump() for leg in value] if isinstance(value, tuple) else _to_text(value)
        for name, value in values.items()
    }


def _apply_one(connection: sqlite3.Connection, snapshot_id: str, change: LedgerChange, written: Written) -> None:
    stored = _stored(connection, change)
    if stored is None:
        written.skipped.append((change, "the row is not there any more"))
    elif same_facts(stored, changed(change.row, change)):
        written.already.append(change)
    elif not same_facts(stored, change.row):
        written.skipped.append((change, "the engine has changed the row since"))
    else:
        connection.execute("SAVEPOINT change")
        try:
            _write(connection, snapshot_id, change)
        except sqlite3.IntegrityError as error:
            connection.execute("ROLLBACK TO change")
            written.skipped.append((change, f"the ledger refuses it: {error}"))
        else:
            written.applied.append(change)
        connection.execute("RELEASE change")


def _stored(connection: sqlite3.Connection, change: LedgerChange) -> EngineOrder | Trade | None:
    sql = f"SELECT * FROM {change.table} WHERE {_KEYS[change.table]} = ?"  # noqa: S608
    rows: list[Any] = _read(type(change.row), connection.execute(sql, (change.key,)))
    return rows[0] if rows else None


def _write(connection: sqlite3.Connection, snapshot_id: str, change: LedgerChange) -> None:
    after = as_columns(change.after)
    columns = {name: json.dumps(value) if isinstance(value, list) else value for name, value in after.items()}
    columns["snapshot_id"] = snapshot_id  # it answers what a change of the engine would have asked for
    connection.execute(
        f"UPDATE {change.table} SET {', '.join(f'{name} = ?' for name in columns)} "  # noqa: S608
        f"WHERE {_KEYS[change.table]} = ?",
        (*columns.values(), change.key),
    )
    connection.execute(
        "INSERT INTO ledger_changes (snapshot_id, table_name, row_key, before, after, why) VALUES (?, ?, ?, ?, ?, ?)",
        (snapshot_id, change.table, change.key, json.dumps(as_columns(change.before)), json.dumps(after), change.why),
    )
