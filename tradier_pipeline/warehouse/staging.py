"""Writing the warehouse: copy aside, write, verify there, publish by one rename. Readers never wait and never block."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb

from tradier_pipeline import clock
from tradier_pipeline.broker.models import WORKING_WORDS
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.files import copy, create_private, exclusive, make_directory, put_in_place, sync, writing
from tradier_pipeline.landing.chained import chains_of, heads
from tradier_pipeline.landing.zone import LandingZone
from tradier_pipeline.warehouse import derived, macros, older_short_options, older_spreads, schema, sealed, views
from tradier_pipeline.warehouse.chain_heads import noted_heads
from tradier_pipeline.warehouse.sql import bind, listed, literal, transaction
from tradier_pipeline.warehouse.typed import Row

LOCK_TIMEOUT_S = 30.0
# what DuckDB says of bytes that are not those it wrote; not of a lock, a right, a full disk or another version
DAMAGE = ("Corrupt database file", "Could not read enough bytes", "not a valid DuckDB database file")
DAMAGED_REMEDY = "The next snapshot sets it aside and makes it anew; so does `tradier-pipeline rebuild`."
STORAGE_VERSION = "v1.2.0"  # files that DuckDB 1.2 and every later version can open
# Of a new file; one that exists keeps its own. A new column segment takes a block: half the usual size makes each of
# our 500 columns cheaper to write, and is still enough to compress well.
BLOCK_SIZE = 131_072
# To look whether it pays takes a third of a checkpoint, and over the rows of a minute it never does. What is written
# anew as a whole, to rebuild or compact it, may have it.
TOO_DEAR = "fsst"


class WarehouseError(PipelineError):
    """The warehouse cannot be opened or written."""


class StagedWarehouse:
    """The copy of the warehouse that one writer changes before it is published.

    `completed`: it is of an older version and has got the tables and views that this one adds, still empty. The next
    snapshot that is stored fills them and makes it one of this version.
    `sealed`: it has sealed months. The bare names of the tables mean the rows that are not sealed.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, *, completed: bool = False, sealed: bool = False) -> None:
        self.connection = connection
        self.completed = completed
        self.sealed = sealed

    def store(self, snapshot_id: str, rows: Mapping[str, Sequence[Row]]) -> None:
        """Replace all rows of one snapshot, in one transaction. It is missed no more.

        What is stored of its reconciliation with the ledger stays: the ledger says something else by now.
        """
        with transaction(self.connection):
            self._delete(snapshot_id, [table for table in schema.TABLES if table not in schema.RECONCILED])
            self._insert(rows)
            self._forget_missed([snapshot_id])
            if self.completed:
                _note_version(self.connection)

    def miss(self, missed: Sequence[Row]) -> None:
        """Add the rows of missed instants, each in the place of an older one, in one transaction."""
        if missed:
            with transaction(self.connection):
                self._insert_missed(missed)

    def add(self, snapshots: Sequence[Mapping[str, Sequence[Row]]]) -> None:
        """Add the rows of many snapshots that are not stored yet, in one transaction."""
        rows = {table.name: [row for of_one in snapshots for row in of_one[table.name]] for table in schema.TABLES}
        with transaction(self.connection):
            self._insert(rows)

    def note_heads(self, zone: LandingZone) -> None:
        """Note where the hash chains of every account and of the prices stand now, as the heads of today."""
        today = clock.trade_date(clock.now())
        self.connection.execute(bind("DELETE FROM chain_heads WHERE trade_date = ?", today))
        known = {chain: head for chain, _, head in noted_heads(self.connection)}
        insert(
            self.connection,
            schema.CHAIN_HEADS,
            [
                {"chain": name, "trade_date": today, "entries": head.number, "head": head.hash}
                for name, head in heads(chains_of(zone.root)).items()
                if known.get(name) != head
            ],
        )

    def set_verdict(self, snapshot_id: str, verdict: str, evidence: str | None) -> None:
        """Label one stored snapshot."""
        query = "UPDATE tradier_snapshots SET verdict = ?, verdict_evidence = ? WHERE snapshot_id = ?"
        self.connection.execute(bind(query, verdict, evidence, snapshot_id))
        if verdict == "doubtful":
            query = (
                "UPDATE trade_gate_readings SET ready = false, blockers = list_append(blockers, 'doubtful') "
                "WHERE snapshot_id = ? AND NOT list_contains(blockers, 'doubtful')"
            )
            self.connection.execute(bind(query, snapshot_id))

    def refuse(self, missed: Row) -> None:
        """Remove all rows of one snapshot, which becomes a missed one, in one transaction."""
        with transaction(self.connection):
            self._delete(missed["snapshot_id"], schema.TABLES)
            self._insert_missed([missed])

    def merge_snapshots(self, path: Path, snapshot_ids: Collection[str]) -> int:
        """Take over all rows of some snapshots from another file, in one transaction. Returns how many it had."""
        if not snapshot_ids:
            return 0
        these = f"snapshot_id IN ({listed(sorted(snapshot_ids))})"
        only = f"WHERE {these}"
        with suppress(duckdb.Error, WarehouseError), self._taking_over(path) as older:
            for table in schema.TABLES:
                if table not in schema.RECONCILED:  # those are taken over for all
                    self._copy(table, older, only)
            if schema.UNDERLYING_PRICE.name not in older.get(schema.OPTION_SPREADS.name, ()):
                find_figures(self.connection, schema.OPTION_SPREADS.name, these)
            if schema.SHORT_OPTIONS.name not in older:
                find_short_options(self.connection, these)
            self.connection.execute(f"DELETE FROM check_results {only}")  # noqa: S608 - what damaged bytes reported
            self._copy(schema.CHECK_RESULTS, older, only)
            self._forget_missed(list(snapshot_ids))
        found = self.connection.execute(f"SELECT count(*) FROM tradier_snapshots {only}").fetchone()  # noqa: S608
        return found[0] if found else 0

    def merge_reconciled(self, path: Path) -> bool:
        """Take over from another file what no landed byte tells: what followed from the ledger, the findings, and the
        summaries of the days as they were first made.

        A table in one transaction, of the first the snapshots that are stored here; one that cannot be read costs no
        other. Returns whether all could be.
        """
        whole = True
        for table in (*schema.RECONCILED, schema.FINDINGS, schema.DAILY_SUMMARIES, schema.CHAIN_HEADS):
            try:
                with self._taking_over(path) as older:
                    if table in schema.RECONCILED:
                        self._copy(table, older, "SEMI JOIN tradier_snapshots USING (snapshot_id)")
                    elif table.name in older:  # of what has caught up, these are those of the landed bytes alone
                        self.connection.execute(f"DELETE FROM {table.name}")  # noqa: S608
                        self._copy(table, older)
            except (duckdb.Error, WarehouseError):
                whole = False
        return whole

    @contextmanager
    def _taking_over(self, path: Path) -> Iterator[Mapping[str, Sequence[str]]]:
        """A transaction beside another file, attached as `old`: its columns by table. One of an earlier version lacks
        some.

        Raises:
            duckdb.Error, WarehouseError: it cannot be read; nothing was taken over.
        """
        refuse_no_file(path)
        self.connection.execute(f"ATTACH {literal(str(path))} AS old (READ_ONLY)")
        try:
            with transaction(self.connection):
                columns = "SELECT table_name, list(column_name) FROM duckdb_columns() WHERE database_name = 'old'"
                yield dict(self.connection.execute(f"{columns} GROUP BY ALL").fetchall())
        finally:
            self.connection.execute("DETACH old")

    def _copy(self, table: schema.Table, older: Mapping[str, Sequence[str]], condition: str = "") -> None:
        if table.name in older:
            names = ", ".join(f'"{name}"' for name in table.column_names if name in older[table.name])
            self.connection.execute(
                f"INSERT INTO {table.name} ({names}) SELECT {names} FROM old.{table.name} {condition}"  # noqa: S608
            )

    def has(self, snapshot_id: str) -> bool:
        """Whether a snapshot is stored."""
        return self._trade_date(snapshot_id) is not None

    def _trade_date(self, snapshot_id: str) -> date | None:
        query = bind("SELECT trade_date FROM tradier_snapshots WHERE snapshot_id = ?", snapshot_id)
        found = self.connection.execute(query).fetchone()
        return found[0] if found else None

    def _delete(self, snapshot_id: str, tables: Iterable[schema.Table]) -> None:
        """Delete the rows of a snapshot, if it is stored; its month is brought back if it is sealed."""
        day = self._trade_date(snapshot_id)
        if day is None:  # without a header there is nothing to delete, and looking for it would read every table
            return
        if self.sealed:
            sealed.unseal_day(self.connection, day)
        for table in tables:
            self.connection.execute(bind(f"DELETE FROM {table.name} WHERE snapshot_id = ?", snapshot_id))  # noqa: S608

    def _insert(self, rows: Mapping[str, Sequence[Row]]) -> None:
        for table in schema.TABLES:
            insert(self.connection, table, rows[table.name])

    def _insert_missed(self, missed: Sequence[Row]) -> None:
        self._forget_missed([row["snapshot_id"] for row in missed])
        insert(self.connection, schema.MISSED_SNAPSHOTS, missed)

    def _forget_missed(self, snapshot_ids: Sequence[str]) -> None:
        self.connection.execute(f"DELETE FROM missed_snapshots WHERE snapshot_id IN ({listed(snapshot_ids)})")  # noqa: S608


class Warehouse:
    """The published DuckDB file and the way to change it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def locked(self) -> AbstractContextManager[None]:
        """Be the only one that publishes. Raises BusyError if another process has been for half a minute."""
        lock = self.path.with_name(f".{self.path.name}.lock")
        return exclusive(lock, LOCK_TIMEOUT_S, f"{self.path} is being written")

    @contextmanager
    def staged(self, *, fresh: bool = False, compact: bool = False) -> Iterator[StagedWarehouse]:
        """Work on a copy; publish it when the block ends, discard it when the block raises.

        Args:
            fresh: start from an empty warehouse instead of a copy (to rebuild it).
            compact: give back the room of what was removed; else it is kept for what comes.

        Raises:
            BusyError: another process has been writing it for half a minute.
            FileError: the disk is full, or the directory cannot be written.
            WarehouseError: the file cannot be opened or written, or is of another schema version.
        """
        with writing(self.path.parent):
            make_directory(self.path.parent)
        with self.locked():
            staged = self.path.with_name(f".{self.path.name}.staged")
            try:
                if not fresh:
                    refuse_no_file(self.path)
                with writing(self.path):
                    _remove(staged)
                    if self.path.exists() and not fresh:
                        create_private(staged)
                        copy(self.path, staged)
                blocks = "" if staged.exists() else f", BLOCK_SIZE {BLOCK_SIZE}"
                connection = duckdb.connect(":memory:")
                try:
                    connection.execute("SET threads = 1")  # more only wait for each other over a hundred rows
                    if not (fresh or compact):
                        connection.execute(f"SET disabled_compression_methods = {literal(TOO_DEAR)}")
                    options = f"STORAGE_VERSION '{STORAGE_VERSION}'{blocks}"
                    # a process that dies leaves a copy that nobody goes on with: it needs no log
                    attach(connection, staged, f"{options}, RECOVERY_MODE NO_WAL_WRITES")
                    yield _prepare(connection, self.path)
                    derived.refresh(connection)
                    connection.execute("CHECKPOINT tradier")
                    if compact:
                        _compact(connection, staged)
                finally:
                    connection.close()
                if compact:
                    _compacted(staged).replace(staged)
                self._publish(staged)
            except duckdb.Error as error:
                raise _explained(error, self.path) from None
            finally:
                _remove(staged)
                _remove(_compacted(staged))

    def repoint(self) -> bool:
        """Let the views show the sealed months where the home is now. Returns whether it was moved.

        Raises:
            BusyError, FileError, WarehouseError: as `staged` does.
            duckdb.Error: the file cannot be read.
        """
        with duckdb.connect(":memory:") as connection:
            attach(connection, self.path, "READ_ONLY")
            moved = sealed.is_sealed(connection) and sealed.sealed_root(connection) != sealed_directory(self.path)
        if moved:
            with self.staged():
                pass  # whoever publishes does it
        return moved

    def _publish(self, staged: Path) -> None:
        with writing(self.path):
            sync(staged)
            staged.chmod(0o444)
            # a write-ahead log beside the published name can only be a stranger's, and would be replayed into ours
            log_of(self.path).unlink(missing_ok=True)
            put_in_place(staged, self.path)
            sync(self.path.parent)


def log_of(path: Path) -> Path:
    """Where a program that writes to a file of DuckDB's keeps what it has not written to it yet."""
    return path.with_name(f"{path.name}.wal")


def refuse_no_file(path: Path) -> None:
    """Raise WarehouseError if a directory or a pipe is in the place of the published file."""
    if path.exists() and not path.is_file():
        raise WarehouseError(f"{path} is not a file", DAMAGED_REMEDY)


def insert(connection: duckdb.DuckDBPyConnection, table: schema.Table, rows: Sequence[Row]) -> None:
    """Insert rows given by column name; missing columns are null. Decimals travel as text, so they stay exact."""
    if not rows:
        return
    structure = json.dumps({column.name: column.type for column in table.columns})
    names = ", ".join(f'"{name}"' for name in table.column_names)
    # a line each, which JSON never breaks: of one document DuckDB would make a list of all rows first, and take longer
    lines = "\n".join([_encode({name: value for name, value in row.items() if value is not None}) for row in rows])
    connection.execute(
        bind(
            f"INSERT INTO {table.name} ({names}) SELECT unnest(from_json(line, ?)) "  # noqa: S608
            "FROM (SELECT unnest(string_split(?, chr(10))) AS line)",
            structure,
            lines,
        )
    )


def _to_json(value: Any) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime | date):
        return value.isoformat()
    raise TypeError(type(value).__name__)


_encode = json.JSONEncoder(default=_to_json, separators=(",", ":"), check_circular=False).encode


def attach(connection: duckdb.DuckDBPyConnection, path: Path, options: str) -> None:
    """Make a warehouse file the connection's default database, under the name that opening it directly gives it.

    Raises:
        WarehouseError: it is not a file; to open a pipe would take for ever.
        duckdb.Error: it cannot be opened.
    """
    refuse_no_file(path)
    connection.execute(f"ATTACH {literal(str(path))} AS tradier ({options})")
    connection.execute("USE tradier")
    connection.execute("SET TimeZone = 'UTC'")
    with suppress(duckdb.Error):  # a notebook without ipywidgets has none to switch off
        connection.execute("SET enable_progress_bar = false")  # a busy machine would draw bars into a terminal


def create_schema(connection: duckdb.DuckDBPyConnection) -> None:
    """Make an empty database a warehouse of this version."""
    with transaction(connection):  # one for each statement takes twice as long
        _complete(connection)
        _note_version(connection)


def _complete(connection: duckdb.DuckDBPyConnection, hot: Collection[str] = ()) -> None:
    """Create the tables, columns, views and macros that are not there yet."""
    _rename_versioned(connection)
    found = connection.execute("SELECT table_name, list(column_name) FROM duckdb_columns() GROUP BY ALL").fetchall()
    older = dict(found)
    for table in (*schema.ALL_TABLES, *derived.TABLES):
        name = sealed.stored_name(table, hot)
        for column in table.columns:
            if column.name not in older.get(table.name, table.column_names):
                connection.execute(f'ALTER TABLE {name} ADD COLUMN "{column.name}" {column.type}')
        connection.execute(schema.ddl(table, name))
    if hot:
        sealed.complete(connection)
        sealed.show(connection, sealed.sealed_root(connection))
    # what was torn to an earlier version is in doubt to this one
    headers = sealed.stored_name(schema.TRADIER_SNAPSHOTS, hot)
    connection.execute(
        f"UPDATE {headers} SET verdict = CASE coherence WHEN 'torn' THEN 'doubtful' ELSE 'good' END, "  # noqa: S608
        "verdict_evidence = CASE coherence WHEN 'torn' THEN coherence_evidence END WHERE verdict IS NULL"
    )
    _know_words(connection, hot)
    if schema.UNDERLYING_PRICE.name not in older.get(schema.OPTION_SPREADS.name, schema.OPTION_SPREADS.column_names):
        if hot:
            sealed.unseal(connection, sealed.sealed_files(connection, schema.OPTION_SPREADS))
        find_figures(connection, sealed.stored_name(schema.OPTION_SPREADS, hot))
    if schema.POSITIONS.name in older and schema.SHORT_OPTIONS.name not in older:
        find_short_options(connection)
    for view in views.VIEWS:
        connection.execute(views.view_ddl(view))
    if hot:
        sealed.show_now(connection, hot)
    for macro in macros.MACROS:
        connection.execute(macros.macro_ddl(macro))


def find_figures(connection: duckdb.DuckDBPyConnection, spreads: str, which: str = "true") -> None:
    """Store the figures of option spreads that have none, in the caller's transaction.

    Args:
        spreads: the table that has them.
        which: the condition of those that are asked for.
    """
    connection.execute(older_spreads.CREATE)
    for day in older_spreads.days_of(connection, spreads, which):
        insert(connection, older_spreads.FOUND, older_spreads.found_figures(connection, spreads, which, day))
    figures = ", ".join(f"{column.name} = found.{column.name}" for column in schema.SPREAD_FIGURES)
    connection.execute(
        f"UPDATE {spreads} AS spreads SET {figures} FROM {older_spreads.FOUND.name} AS found "  # noqa: S608
        "WHERE spreads.rowid = found.of_row"
    )
    connection.execute(f"DROP TABLE {older_spreads.FOUND.name}")


def find_short_options(connection: duckdb.DuckDBPyConnection, which: str = "true") -> None:
    """Store the short options of which none are stored, in the caller's transaction.

    Args:
        which: the condition of the positions.
    """
    for month in older_short_options.months_of(connection, which):
        rows = older_short_options.rows_query(month, which)
        connection.execute(f"INSERT INTO {schema.SHORT_OPTIONS.name} BY NAME {rows}")


def _know_words(connection: duckdb.DuckDBPyConnection, hot: Collection[str]) -> None:
    """Statuses that an earlier version did not know, and stored as unknown."""
    for table in (schema.ORDERS, schema.ORDER_LEGS):
        for word, known in WORKING_WORDS.items():
            where = f"WHERE status = 'unknown' AND raw_status = {literal(word)}"
            name = sealed.stored_name(table, hot)
            connection.execute(f"UPDATE {name} SET status = {literal(known)} {where}")  # noqa: S608


def _rename_versioned(connection: duckdb.DuckDBPyConnection) -> None:
    """To an earlier version the names of what holds now were those of the tables with all that was ever read."""
    found = connection.execute("SELECT table_name FROM duckdb_tables() WHERE database_name = current_database()")
    tables = {name for (name,) in found.fetchall()}
    for view in schema.CURRENT_ACTIVITY:
        if view.name in tables:
            connection.execute(f"ALTER TABLE {view.name} RENAME TO {view.name}{schema.VERSIONS}")


def _note_version(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(f"CREATE OR REPLACE MACRO main.schema_version() AS {schema.SCHEMA_VERSION}")


def _prepare(connection: duckdb.DuckDBPyConnection, path: Path) -> StagedWarehouse:
    """Give it what this version has."""
    query = "SELECT count(*), count(*) FILTER (schema_name = ?) FROM duckdb_tables() WHERE database_name = 'tradier'"
    tables, hot = connection.execute(bind(query, sealed.HOT)).fetchone() or (0, 0)
    if not tables:
        create_schema(connection)
        return StagedWarehouse(connection)
    (version,) = connection.execute("SELECT schema_version()").fetchone() or (None,)
    if version > schema.SCHEMA_VERSION:
        raise WarehouseError(
            f"{path} has schema version {version}, and this tradier-pipeline knows {schema.SCHEMA_VERSION}",
            "Upgrade tradier-pipeline, or set TRADIER_PIPELINE_HOME to another directory.",
        )
    if version < schema.ADDS_ONLY_SINCE:
        raise WarehouseError(
            f"{path} has the older schema version {version}",
            "Run `tradier-pipeline rebuild`: the landing zone has all.",
        )
    completed = bool(version < schema.SCHEMA_VERSION)
    if completed:
        with transaction(connection):
            _complete(connection, sealed.hot_tables(connection))
    if hot:
        if sealed.sealed_root(connection) != (root := sealed_directory(path)):  # the home was moved
            sealed.show(connection, root)
        sealed.hot_first(connection)
    return StagedWarehouse(connection, completed=completed, sealed=hot > 0)


def sealed_directory(path: Path) -> Path:
    """Where the sealed months of a warehouse lie."""
    return Path(os.path.realpath(path)).parent / sealed.FOLDER  # a loop of links is no reason to end


def _explained(error: duckdb.Error, path: Path) -> WarehouseError:
    text = str(error).splitlines()[0]
    if "No space left" in text:
        return WarehouseError(f"cannot write {path}: no space left", "Free some space; nothing was published.")
    return WarehouseError(
        f"cannot write {path}: {text[:300]}",
        "The published file is untouched. If it repeats, run `tradier-pipeline rebuild`.",
    )


def _compacted(staged: Path) -> Path:
    return staged.with_name(f"{staged.name}.compacted")


def _compact(connection: duckdb.DuckDBPyConnection, staged: Path) -> None:
    """Write what is staged anew: DuckDB gives the room of rows that are gone back to its file only."""
    path = _compacted(staged)
    _remove(path)
    options = f"STORAGE_VERSION '{STORAGE_VERSION}', BLOCK_SIZE {BLOCK_SIZE}"
    connection.execute(f"ATTACH {literal(str(path))} AS compacted ({options})")
    connection.execute("USE memory; COPY FROM DATABASE tradier TO compacted; DETACH compacted")


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    log_of(path).unlink(missing_ok=True)
