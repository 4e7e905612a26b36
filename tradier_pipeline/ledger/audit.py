"""What this program itself has written to the ledger, and nobody ever changes, as chains that follow from its rows.

The changes that snapshots have made (`ledger_changes`) and what the owner has stated of flows (`stated_flows`, but for
who took it back) are numbered without a gap and only added to. So each is a chain like those of what was filed: its
line is the hash of a row and of the line before. Nothing else is kept; a head that was anchored outside proves the rows
before it. Orders, trades and requests are the engine's to change, and are in none.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path

from tradier_pipeline.landing.audit import Walked
from tradier_pipeline.landing.chain import Link, genesis
from tradier_pipeline.landing.zone import Damaged

OWN = {
    "ledger_changes": "change_id, snapshot_id, table_name, row_key, before, after, why, applied_at",
    "stated_flows": "flow_id, account_id, trade_date, kind, amount, symbol, quantity, note, stated_by, stated_at",
}


def audit_ledger(path: Path) -> list[Walked]:
    """A chain for each table that has rows, or had some. Reads only."""
    if not path.exists():
        return []
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            if damaged := connection.execute("PRAGMA integrity_check").fetchone()[0].splitlines()[0].removeprefix("ok"):
                return [_unreadable(path, damaged)]
            written = dict(connection.execute("SELECT name, seq FROM sqlite_sequence").fetchall())
            return [_walk(connection, path, table, written[table]) for table in OWN if written.get(table)]
    except sqlite3.Error as error:
        return [_unreadable(path, str(error))]


def _unreadable(path: Path, why: str) -> Walked:
    return Walked("_ledger", (), {}, {}, (Damaged(str(path), f"{path} cannot be read: {why}"),))


def _walk(connection: sqlite3.Connection, path: Path, table: str, last: int) -> Walked:
    """A table from its first row to the last that was ever written."""
    rows = connection.execute(f"SELECT {OWN[table]} FROM {table} ORDER BY 1").fetchall()  # noqa: S608
    head, links = genesis(f"_{table}"), list[Link]()
    for row in rows:
        sha256 = hashlib.sha256(json.dumps(row).encode()).hexdigest()
        links.append(Link.after(head, "filed", sha256, f"{table}/{row[0]}"))
        head = links[-1].head
    gone = sorted({*range(1, last + 1)} - {row[0] for row in rows})
    wrong = (Damaged(f"{path}: {table} {number}", f"row {number} of {table} in {path} was removed") for number in gone)
    return Walked(f"_{table}", tuple(links), {}, {}, tuple(wrong))
