"""From the published file of a home into the lake: what is new or has changed, in commits that are all or nothing.

A commit is made under the lock of the deployment, and proven before it: every row that it brings is read back and set
beside the home's by count and hash. It fails if another one came between, so what it has found to be missing is missing
still. Doing it again ships nothing.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import groupby
from pathlib import Path
from typing import Final
from uuid import uuid4

import duckdb

from tradier_pipeline import clock
from tradier_pipeline.lake import state
from tradier_pipeline.lake.connection import ALIAS, Lake, LakeError, alone, explained, open_lake
from tradier_pipeline.lake.state import Shipped
from tradier_pipeline.lake.tables import (
    KINDS,
    SHIPMENTS,
    SNAPSHOT,
    STORED,
    SUPERSEDED,
    UNITS,
    create,
    encoded,
    hashed,
    stored_table,
    version_of,
)
from tradier_pipeline.warehouse import schema, staging
from tradier_pipeline.warehouse.reads import connect_readonly, of_sealed, require_current
from tradier_pipeline.warehouse.schema import Table
from tradier_pipeline.warehouse.sql import bind, literal, transaction

HOME: Final = "tradier.main"
BATCH: Final = 2000  # snapshots a commit, of those that have waited; what belongs to one instant stays together
LOCK_WAIT_S: Final = 300.0  # whoever waits is served in turn; the lock of one that is gone is free within half a minute
STORED_NOW, SAME, DROPPED, LEFT = "stored", "same", "dropped", "left"
GONE: Final = (DROPPED, LEFT)
# what tells that a snapshot may have changed since it was looked at
_MARKER: Final = f"hash(as_of, environment, verdict, committed_at, {schema.SCHEMA_VERSION})::VARCHAR"

Periods = dict[str, dict[str, str]]


@dataclass(frozen=True, slots=True)
class Unit:
    """What is shipped as one. `fingerprint` is empty until its rows were looked at."""

    kind: str
    unit: str
    account_id: str
    trade_date: date
    marker: str
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """What the lake has of a unit.

    Attributes:
        own: marker, fingerprint and action that the home had last; None: nothing.
        now: fingerprint, shipment and action of what was stored or dropped last; None: it never was.
        account_id, trade_date: as they were noted; None: it is not known.
    """

    own: tuple[str, str, str] | None = None
    now: tuple[str, int, str] | None = None
    account_id: str = ""
    trade_date: date | None = None

    @property
    def holds(self) -> int | None:
        """The shipment of the version that holds; None: none does."""
        return self.now[1] if self.now and self.now[2] == STORED_NOW else None


@dataclass(frozen=True, slots=True)
class Change:
    """What a shipment does about a unit. `ends` is the shipment of the version that holds no more."""

    unit: Unit
    action: str
    ends: int | None = None


@dataclass(frozen=True, slots=True)
class Shipment:
    """A commit to the lake: its number there, and the snapshots and rows that it brought."""

    shipment: int
    snapshots: int
    rows: int


class Shipper:
    """Ships one home to the lake. The connection stays open; after any error it is closed and made anew."""

    def __init__(self, home: Path, warehouse: Path, lake: Lake) -> None:
        self.home, self.warehouse, self.lake = home, warehouse, lake
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._is_proven = False  # whether the lake is the one that the home remembers

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection, self._is_proven = None, False

    def ship(self) -> list[Shipment]:
        """Ship what is published and not in the lake. Returns the commits; none if there is nothing to ship.

        Raises:
            LakeError: the lake cannot be used, or what it gives back is not what the home has; nothing of that commit
                is in it.
            WarehouseError: nothing is published yet, or the file cannot be read or is of another version.
        """
        try:
            with explained(self.lake), _sealed_months():
                return list(self._ship())
        except BaseException:
            self.close()
            raise

    def _ship(self) -> Iterator[Shipment]:
        if self._connection is None:
            self._connection = open_lake(self.lake)
        connection = self._connection
        with _home(connection, self.warehouse):
            before = state.load(self.home)
            if not self._is_proven:
                before = self._proven(connection, before)
            now = _periods(connection)
            changed = _changed(before.periods, now)
            if not changed:
                return
            with alone(connection, self.lake, LOCK_WAIT_S):
                count = _count(connection, "SELECT count(*) FROM tradier_snapshots")
                plan = _Plan(connection, before, is_whole=count >= before.snapshots > 0)
                last = before.shipment
                for batch in plan.batches(changed):
                    shipment = _commit(connection, before.home, batch)
                    last = shipment.shipment
                    yield shipment
            state.save(self.home, replace(before, shipment=last, snapshots=count, periods=now))

    def _proven(self, connection: duckdb.DuckDBPyConnection, before: Shipped) -> Shipped:
        """What the home remembers if it is of this lake as it is now; else nothing. Makes the tables of a new lake.

        Raises:
            LakeError: its files are elsewhere than the settings say, or it is of a later version.
        """
        query = f"SELECT value FROM ducklake_options('{ALIAS}') WHERE option_name = 'data_path'"  # noqa: S608
        (data,) = connection.execute(query).fetchone() or ("",)
        if data.rstrip("/") != self.lake.data.rstrip("/"):
            raise LakeError(
                f"the files of the lake {self.lake.place} are in {data}, and TRADIER_LAKE_DATA is {self.lake.data}",
                f"Set TRADIER_LAKE_DATA={data}, or TRADIER_LAKE to another database.",
            )
        if version_of(connection, ALIAS) != schema.SCHEMA_VERSION:
            with alone(connection, self.lake, LOCK_WAIT_S), transaction(connection), _inside(connection, ALIAS):
                create(connection, ALIAS, uuid4().hex)
        (lake_id,) = connection.execute(f"SELECT max(lake_id) FROM {ALIAS}.versions.lakes").fetchone() or ("",)  # noqa: S608
        query = f"SELECT count(*) FROM {ALIAS}.{SHIPMENTS.name} WHERE home = ? AND shipment = ?"  # noqa: S608
        known = _count(connection, bind(query, before.home, before.shipment))
        self._is_proven = True
        if known and (before.lake_id, before.schema_version) == (lake_id, schema.SCHEMA_VERSION):
            return before
        return Shipped(home=before.home, lake_id=lake_id, schema_version=schema.SCHEMA_VERSION)


@contextmanager
def _home(connection: duckdb.DuckDBPyConnection, warehouse: Path) -> Iterator[None]:
    """The published file of the home as the database `tradier`, as it is now."""
    with connect_readonly(warehouse) as checked:
        require_current(checked)
    staging.attach(connection, warehouse, "READ_ONLY")
    try:
        yield
    finally:
        connection.execute("USE memory; DETACH tradier")


@contextmanager
def _sealed_months() -> Iterator[None]:
    """Say of a file of the home that is lost what to do about it: it is no fault of the lake."""
    try:
        yield
    except duckdb.IOException as error:
        if (lost := of_sealed(error)) is None:
            raise
        raise lost from None


@contextmanager
def _inside(connection: duckdb.DuckDBPyConnection, database: str) -> Iterator[None]:
    connection.execute(f"USE {database}")
    try:
        yield
    finally:
        connection.execute("USE tradier")


def _month_of(day: date) -> date:
    return day.replace(day=1)


def _count(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    (count,) = connection.execute(query).fetchone() or (0,)
    return int(count)


def _periods(connection: duckdb.DuckDBPyConnection) -> Periods:
    """Fingerprints of what the home has, by kind, account and period: a day of this and the last month, else a month.

    Of snapshots by what `snapshot_days` says of a day, so that nobody reads the headers of years every minute.
    """
    (newest,) = connection.execute("SELECT max(trade_date) FROM snapshot_days").fetchone() or (None,)
    recent = _month_of(_month_of(newest or clock.now().date()) - timedelta(days=1))
    sources = [(SNAPSHOT, "account_id", "trade_date", "hash(trade_date, fingerprint)", "snapshot_days")]
    sources += [(kind.name, kind.account, kind.day, hashed(kind.table, of_lake=False), kind.name) for kind in KINDS]
    found: Periods = {}
    for name, account, day, hash_, table in sources:
        period = f"CASE WHEN day >= {literal(recent)} THEN strftime(day, '%Y-%m-%d') ELSE strftime(day, '%Y-%m') END"
        query = f"""
            SELECT account || '@' || {period}, count(*) || ':' || sum(hash)
            FROM (SELECT {account} AS account, {day} AS day, {hash_} AS hash FROM {table}) GROUP BY ALL
        """  # noqa: S608
        found[name] = dict(connection.execute(query).fetchall())
    return found


def _changed(before: Periods, now: Periods) -> dict[str, list[str]]:
    """The periods that are not as they were, by kind."""
    changed = {
        kind: sorted(key for key in {*before.get(kind, {}), *found} if before.get(kind, {}).get(key) != found.get(key))
        for kind, found in now.items()
    }
    return {kind: keys for kind, keys in changed.items() if keys}


def _within(keys: Iterable[str], account: str, day: str) -> str:
    """The condition of the rows of some accounts and periods."""
    split = sorted((period, account_id) for account_id, _, period in (key.rpartition("@") for key in keys))
    conditions = []
    for period, group in groupby(split, key=lambda one: one[0]):
        first = date.fromisoformat(period if len(period) > 7 else f"{period}-01")
        last = first if len(period) > 7 else _month_of(first + timedelta(days=31)) - timedelta(days=1)
        accounts = ", ".join(literal(account_id) for _, account_id in group)
        conditions.append(f"{day} BETWEEN {literal(first)} AND {literal(last)} AND {account} IN ({accounts})")
    return f"({' OR '.join(conditions)})"


class _Plan:
    """What is to be shipped, found by setting the home beside the lake."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, before: Shipped, *, is_whole: bool) -> None:
        self.connection, self.before = connection, before
        self.is_whole = is_whole  # a home that lacks what it has shipped says nothing by what it lacks

    def batches(self, changed: dict[str, list[str]]) -> Iterator[list[Change]]:
        """The changes of each commit, the rows that change by themselves with the last one."""
        others = [change for kind in KINDS for change in self._rows(kind.name, changed.get(kind.name, []))]
        snapshots = self._snapshots(changed.get(SNAPSHOT, []))
        for batch in snapshots[:-1]:
            if changes := self._of_snapshots(batch):
                yield changes
        if changes := [*self._of_snapshots(snapshots[-1] if snapshots else []), *others, *self._refused(others)]:
            yield changes

    def _known(self, kind: str, condition: str) -> dict[str, Known]:
        query = f"""
            SELECT unit, max_by((marker, fingerprint, action), shipment) FILTER (home = {literal(self.before.home)}),
                   max_by((fingerprint, shipment, action), shipment) FILTER (action IN ('{STORED_NOW}', '{DROPPED}')),
                   any_value(account_id), any_value(trade_date)
            FROM {ALIAS}.{UNITS.name} WHERE kind = {literal(kind)} AND {condition} GROUP BY unit
        """  # noqa: S608
        return {row[0]: Known(*row[1:]) for row in self.connection.execute(query).fetchall()}

    def _snapshots(self, keys: list[str]) -> list[list[tuple[Unit, Known]]]:
        """The snapshots that may have changed, in batches that no instant is divided between."""
        if not keys:
            return []
        condition = _within(keys, "account_id", "trade_date")
        known = self._known(SNAPSHOT, condition)
        query = f"""
            SELECT snapshot_id, account_id, trade_date, {_MARKER}, requested_at FROM tradier_snapshots
            WHERE {condition} ORDER BY requested_at, snapshot_id
        """  # noqa: S608
        batches: list[list[tuple[Unit, Known]]] = [[]]
        for _, group in groupby(self.connection.execute(query).fetchall(), key=lambda row: row[4]):
            units = [Unit(SNAPSHOT, *row[:4]) for row in group]
            of_instant = [(unit, known.get(unit.unit, Known())) for unit in units]
            looked_at = [one for one in of_instant if one[1].own is None or one[1].own[0] != one[0].marker]
            if len(batches[-1]) + len(looked_at) > BATCH and batches[-1]:
                batches.append([])
            batches[-1].extend(looked_at)
        return batches

    def _of_snapshots(self, batch: Sequence[tuple[Unit, Known]]) -> list[Change]:
        prints = _fingerprints(self.connection, [unit for unit, _ in batch])
        found = (_compared(replace(unit, fingerprint=prints[unit.unit]), known) for unit, known in batch)
        return [change for change in found if change]

    def _rows(self, name: str, keys: list[str]) -> list[Change]:
        if not keys:
            return []
        kind = next(kind for kind in KINDS if kind.name == name)
        known = self._known(name, _within(keys, "account_id", "trade_date"))
        query = f"""
            SELECT {kind.unit}, any_value({kind.account}), any_value({kind.day}), '',
                   count(*) || ':' || sum({hashed(kind.table, of_lake=False)})
            FROM {name} WHERE {_within(keys, kind.account, kind.day)} GROUP BY 1
        """  # noqa: S608
        units = {row[0]: Unit(name, *row) for row in self.connection.execute(query).fetchall()}
        found = [_compared(unit, known.get(unit.unit, Known())) for unit in units.values()]
        if self.is_whole:
            found += [_gone(name, unit, one) for unit, one in known.items() if unit not in units]
        return [change for change in found if change]

    def _refused(self, others: Sequence[Change]) -> list[Change]:
        """The snapshots that the home says are not published any more."""
        table = schema.MISSED_SNAPSHOTS.name
        missed = [one.unit.unit for one in others if one.unit.kind == table and one.action not in GONE]
        if not missed:
            return []
        known = self._known(SNAPSHOT, f"unit IN ({', '.join(map(literal, missed))})")
        found = (_gone(SNAPSHOT, unit, one) for unit, one in known.items())
        return [change for change in found if change]


def _compared(unit: Unit, known: Known) -> Change | None:
    """What is to be done about a unit that the home has."""
    if known.own and known.own[1] == unit.fingerprint and known.own[2] not in GONE:
        return Change(unit, SAME) if known.own[0] != unit.marker else None
    if known.holds is not None and known.now and known.now[0] == unit.fingerprint:
        return Change(unit, SAME)
    return Change(unit, STORED_NOW, known.holds)


def _gone(kind: str, unit: str, known: Known) -> Change | None:
    """What is to be done about a unit that the home has no more: that of another home stays."""
    if known.own is None or known.own[2] in GONE or known.now is None or known.trade_date is None:
        return None
    gone = Unit(kind, unit, known.account_id, known.trade_date, "", known.own[1])
    is_own = known.holds is not None and known.now[0] == known.own[1]
    return Change(gone, DROPPED, known.holds) if is_own else Change(gone, LEFT)


def _listed(units: Iterable[str]) -> str:
    return f"(SELECT unnest([{', '.join(map(literal, units))}]) AS unit)"


def _dates(units: Sequence[Unit]) -> str:
    days = [unit.trade_date for unit in units]
    return f"trade_date BETWEEN {literal(min(days))} AND {literal(max(days))}"


def _fingerprints(connection: duckdb.DuckDBPyConnection, units: Sequence[Unit]) -> dict[str, str]:
    """Counts and hashes of the rows of snapshots in all tables, by snapshot."""
    if not units:
        return {}
    parts: dict[str, list[str]] = {unit.unit: [] for unit in units}
    for number, table in enumerate(schema.TABLES):
        query = f"""
            SELECT snapshot_id, count(*) || ':' || sum({hashed(table, of_lake=False)})
            FROM {table.name} SEMI JOIN {_listed(parts)} ON snapshot_id = unit WHERE {_dates(units)} GROUP BY 1
        """  # noqa: S608
        for snapshot_id, found in connection.execute(query).fetchall():
            parts[snapshot_id].append(f"{number}:{found}")
    return {unit: " ".join(found) for unit, found in parts.items()}


def _commit(connection: duckdb.DuckDBPyConnection, home: str, changes: Sequence[Change]) -> Shipment:
    """Bring some changes into the lake, all or nothing."""
    with transaction(connection):
        (before,) = connection.execute(f"SELECT id FROM {ALIAS}.current_snapshot()").fetchone() or (0,)  # noqa: S608
        shipment = int(before) + 1
        stored = [change.unit for change in changes if change.action == STORED_NOW]
        rows = sum(_add(connection, table, kind, stored, shipment) for table, kind in STORED)
        _note(connection, home, changes, shipment)
        snapshots = sum(unit.kind == SNAPSHOT for unit in stored)
        connection.execute(
            bind(
                f"INSERT INTO {ALIAS}.{SHIPMENTS.name} SELECT ?, ?, ?, ?, ?, ?, max(as_of) FROM tradier_snapshots",  # noqa: S608
                *(shipment, home, socket.gethostname(), clock.now(), snapshots, rows),
            )
        )
    return Shipment(shipment, snapshots, rows)


def _add(connection: duckdb.DuckDBPyConnection, table: Table, kind: str, stored: Sequence[Unit], shipment: int) -> int:
    """Add the rows of the units of a kind to a table, and read them back. Returns how many there are.

    Raises:
        LakeError: what is read back is not what the home has.
    """
    units = [unit for unit in stored if unit.kind == kind]
    if not units:
        return 0
    key = "snapshot_id" if kind == SNAPSHOT else next(one.unit for one in KINDS if one.name == kind)
    within = f"WHERE {_dates(units)}" if kind == SNAPSHOT else ""
    which = _listed(one.unit for one in units)
    rows = f"(SELECT *, {key} AS unit FROM {table.name} {within}) SEMI JOIN {which} USING (unit)"  # noqa: S608
    wanted = connection.execute(f"SELECT count(*), sum({hashed(table, of_lake=False)}) FROM {rows}").fetchone()  # noqa: S608
    if wanted is None or wanted[0] == 0:
        return 0
    target = f"{ALIAS}.{stored_table(table).name}"
    columns = ", ".join(encoded(column) for column in table.columns)
    connection.execute(f"INSERT INTO {target} SELECT {columns}, unit, {shipment} FROM {rows}")  # noqa: S608
    query = f"SELECT count(*), sum({hashed(table, of_lake=True)}) FROM {target} WHERE shipment = {shipment}"  # noqa: S608
    found = connection.execute(query).fetchone()
    if found != wanted:
        raise LakeError(
            f"the lake gives back other rows of {table.name} than the home has: {found}, not {wanted}",
            "Nothing of this commit is in the lake. Report it.",
        )
    return int(wanted[0])


def _note(connection: duckdb.DuckDBPyConnection, home: str, changes: Sequence[Change], shipment: int) -> None:
    """Note what the home said of each unit, and which versions hold no more."""
    for start in range(0, len(changes), 5000):
        part = changes[start : start + 5000]
        values = ", ".join(
            bind(
                "(?, ?, ?, ?, ?, ?, ?, ?, ?)",
                *(shipment, home, unit.kind, unit.unit, unit.account_id, unit.trade_date),
                *(unit.marker, unit.fingerprint, change.action),
            )
            for change in part
            for unit in [change.unit]
        )
        connection.execute(f"INSERT INTO {ALIAS}.{UNITS.name} VALUES {values}")  # noqa: S608
    if ended := [change for change in changes if change.ends is not None]:
        values = ", ".join(
            bind("(?, ?, ?, ?)", change.unit.kind, change.unit.unit, change.ends, shipment) for change in ended
        )
        connection.execute(f"INSERT INTO {ALIAS}.{SUPERSEDED.name} VALUES {values}")  # noqa: S608
