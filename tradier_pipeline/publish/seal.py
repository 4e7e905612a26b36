"""Sealing: what is old of the tables that grow by the minute becomes Parquet files, which never change: a file for each
closed month or year, and one for what is old of the open one, until a file with more takes its place.

A crash at any point loses nothing. A file is whole, fsynced and proven before it gets its name, and readers see it with
the one publish that takes its rows out of the warehouse; until then it is a file that nobody refers to.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import duckdb

from tradier_pipeline import clock
from tradier_pipeline.core import progress
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.files import create_private, exclusive, file_sha256, make_directory, sync, writing
from tradier_pipeline.warehouse import schema, sealed
from tradier_pipeline.warehouse.reads import connect_readonly, require_current
from tradier_pipeline.warehouse.schema import Table
from tradier_pipeline.warehouse.sealed import FILES, SealedFile, next_month
from tradier_pipeline.warehouse.sealed_chain import sealed_chain
from tradier_pipeline.warehouse.sql import bind, literal, transaction
from tradier_pipeline.warehouse.staging import Warehouse, insert, sealed_directory

OPEN_DAYS = timedelta(days=7)  # what the next snapshots look back at, and what is likely to be proven again
OPEN_DAYS_OF_YEAR = timedelta(days=60)  # of the headers, which every snapshot looks back at
UNREFERRED_S = 86_400.0  # a reader that opened the warehouse before may still be at a file that is replaced
UNREFERRED_OPEN_S = 8 * UNREFERRED_S  # files of open months are replaced every week, whoever reads them
LOCK_TIMEOUT_S = 5.0
ROWS_OF_GROUP = 10_240  # what is read to see one instant; less of it makes files larger, and spares nothing more

# Never sealed are the newest snapshots of an account: what it holds now is found without a look at old months. Of the
# tables with a row a snapshot it is all since the day before its newest good one: what a next snapshot is set beside,
# what a long doubt leaves to be confirmed, and which of the newest day's are published.
_NEWEST = """
    SELECT max_by(snapshot_id, as_of) FROM {headers} GROUP BY account_id
    UNION SELECT max_by(snapshot_id, as_of) FROM {headers} WHERE verdict = 'good' GROUP BY account_id
"""
_SINCE_GOOD = """
    SELECT snapshot_id FROM {headers} JOIN (
        SELECT account_id, coalesce(max(trade_date) FILTER (verdict = 'good'), min(trade_date)) - 1 AS since
        FROM {headers} GROUP BY account_id
    ) USING (account_id) WHERE trade_date >= since
"""


class SealError(PipelineError):
    """A file is not what the warehouse has."""


@dataclass(frozen=True, slots=True)
class Sealing:
    """What was sealed: closed months, and years of the tables with a row a snapshot, by their first days; files, rows,
    their bytes; the bytes of the warehouse before and after; and the last day of what was of an open month.
    """

    months: tuple[date, ...] = ()
    years: tuple[date, ...] = ()
    files: int = 0
    rows: int = 0
    bytes: int = 0
    warehouse_before: int = 0
    warehouse_after: int = 0
    days_to: date | None = None


@dataclass(frozen=True, slots=True)
class _Span:
    """The days of a file: from the first of a month or year until, not with, the first one that it has no more."""

    first: date
    end: date

    @classmethod
    def of(cls, file: SealedFile) -> _Span:
        return cls(file.month, file.end)

    def __str__(self) -> str:
        """The condition of its rows."""
        return bind("trade_date >= ? AND trade_date < ?", self.first, self.end)


def seal(warehouse: Warehouse, until: date | None = None) -> Sealing:
    """Seal every week that ended OPEN_DAYS ago, or more, and of the tables with a file a year every year that ended
    OPEN_DAYS_OF_YEAR ago.

    Table by table, each in a publish of its own: who publishes snapshots meanwhile waits for one table, not for all.

    Args:
        until: the last month; None: all that is old.

    Raises:
        BusyError: another process seals, or has been writing the warehouse for half a minute.
        FileError: the disk is full, or the home cannot be written.
        SealError: a file was not what it should be; of its table nothing was published.
        WarehouseError: nothing has been published yet, or the file is of another version.
    """
    root = sealed_directory(warehouse.path)
    with writing(root):
        make_directory(root)
    with exclusive(root / ".lock", LOCK_TIMEOUT_S, f"{root} is being written"):
        with connect_readonly(warehouse.path) as connection:
            require_current(connection)
            with sealed_chain(root).settled():
                pass  # it begins with the files that are there
            _remove_unreferred(root, _known_files(connection))
        before = warehouse.path.stat().st_size
        done = [file for table in sealed.TABLES for file in _seal_table(warehouse, root, table, until)]
        if done or _is_hollow(warehouse):
            progress.working("giving back the room of what is sealed")
            with warehouse.staged(compact=True):
                pass
    if not done:
        return Sealing()
    months, years = (
        tuple(sorted({file.month for file in done if file.is_yearly is yearly and not file.is_open}))
        for yearly in (False, True)
    )
    days_to = max((file.last for file in done if file.is_open), default=None)
    rows, size = sum(file.row_count for file in done), sum(file.bytes for file in done)
    return Sealing(months, years, len(done), rows, size, before, warehouse.path.stat().st_size, days_to)


def undo(warehouse: Warehouse) -> int:
    """Bring all that is sealed back into the warehouse; returns how many months.

    Raises:
        BusyError, FileError, WarehouseError: it cannot be written; everything is as it was.
    """
    with warehouse.staged() as staged:
        if not staged.sealed:
            return 0
        files = sealed.sealed_files(staged.connection)
        with transaction(staged.connection):
            sealed.unseal(staged.connection, files)
    _let_go(sealed_directory(warehouse.path), files)
    return len({file.month for file in files if not file.is_yearly})


def _is_hollow(warehouse: Warehouse) -> bool:
    """Whether most of the warehouse is room that is free: of a process that died before it gave it back."""
    with connect_readonly(warehouse.path) as connection:
        query = "SELECT free_blocks > used_blocks FROM pragma_database_size() WHERE database_name = 'tradier'"
        return connection.execute(query).fetchone() == (True,)


def _seal_table(warehouse: Warehouse, root: Path, table: Table, until: date | None) -> list[SealedFile]:
    with connect_readonly(warehouse.path) as connection:
        kept = _kept(connection, table)
        made = [
            file
            for span in _old(connection, table, kept, until)
            if (file := _write_file(connection, root, table, span, kept))
        ]
    return _publish(warehouse, root, table, made) if made else []


def _kept(connection: duckdb.DuckDBPyConnection, table: Table) -> str:
    """The query of the snapshots whose rows of a table stay."""
    headers = sealed.stored_name(schema.TRADIER_SNAPSHOTS, sealed.hot_tables(connection))
    return (_SINCE_GOOD if table in sealed.YEARLY else _NEWEST).format(headers=headers)


def _old(connection: duckdb.DuckDBPyConnection, table: Table, kept: str, until: date | None) -> list[_Span]:
    """What is to be sealed of a table, the oldest first: of the months or years with rows that are not, or that were
    open.
    """
    open_days = OPEN_DAYS_OF_YEAR if table in sealed.YEARLY else OPEN_DAYS
    before = sealed.old_before(table, clock.trade_date(clock.now()) - open_days)
    if until is not None:
        before = min(before, next_month(until))
    hot = sealed.hot_tables(connection)
    name = sealed.stored_name(table, hot)
    query = f"SELECT DISTINCT trade_date FROM {name} WHERE trade_date < ? AND snapshot_id NOT IN ({kept})"  # noqa: S608
    firsts = {sealed.period_of(table, day) for (day,) in connection.execute(bind(query, before)).fetchall()}
    files = sealed.sealed_files(connection, table) if hot else []
    firsts |= {file.month for file in files if file.is_open and sealed.period_end(table, file.month) <= before}
    ends = {file.month: file.end for file in files}
    return [
        _Span(first, max(min(before, sealed.period_end(table, first)), ends.get(first, date.min)))
        for first in sorted(firsts)
    ]


def _rows(table: Table, span: _Span, kept: str) -> str:
    """All rows of a table that a file has: those that are sealed already, too."""
    return f"main.{table.name} WHERE {span} AND snapshot_id NOT IN ({kept})"


def _write_file(
    connection: duckdb.DuckDBPyConnection, root: Path, table: Table, span: _Span, kept: str
) -> SealedFile | None:
    """None: there is no row."""
    last = span.end - timedelta(days=1)
    if span.end < sealed.period_end(table, span.first):
        folder, stem = sealed.OPEN, f"{table.name}-{last}"
    else:
        folder, stem = table.name, f"{last:%Y}" if table in sealed.YEARLY else f"{last:%Y-%m}"
    progress.working(f"sealing {table.name} to {last}")
    rows = _rows(table, span, kept)
    count, content = connection.execute(sealed.fingerprint_query(sealed.listed(table), rows)).fetchone() or (0, "")
    if not count:
        return None
    path = _write(connection, root / folder / stem, table, rows, (count, content))
    size = path.stat().st_size
    name = path.relative_to(root).as_posix()
    return SealedFile(table.name, span.first, name, count, content, size, table.column_names, clock.now(), span.end)


def _write(
    connection: duckdb.DuckDBPyConnection, wanted: Path, table: Table, rows: str, proof: tuple[int, str]
) -> Path:
    """Write a file, prove it, and give it its name; one that is there with the same rows is taken.

    Args:
        wanted: its path without the suffix; its name gets a number if another file has it.
        rows: what follows FROM.
    """
    directory, root = wanted.parent, wanted.parent.parent
    partial = directory / f".{wanted.name}.tmp"
    with writing(directory):
        make_directory(directory)
        partial.unlink(missing_ok=True)
        create_private(partial)
        query = f"SELECT {sealed.listed(table)} FROM {rows} ORDER BY ALL"  # noqa: S608
        options = f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROWS_OF_GROUP}, USE_TMP_FILE false"
        try:
            _run(connection, f"COPY ({query}) TO {literal(str(partial))} ({options})", partial)
            if _content(connection, table, partial) != proof:
                raise SealError(f"{partial} is not what the warehouse has of {table.name}", "Check the disk.")
            sync(partial)
            partial.chmod(0o444)
            path = _name(connection, table, wanted, proof)
            with sealed_chain(root).filing(path.relative_to(root).as_posix(), file_sha256(partial)):
                partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        sync(directory)
    return path


def _name(connection: duckdb.DuckDBPyConnection, table: Table, wanted: Path, proof: tuple[int, str]) -> Path:
    """The first name that is free: what is there with other rows may be at a reader's hands."""
    number = 1
    while True:
        path = wanted.with_name(f"{wanted.name}.parquet" if number == 1 else f"{wanted.name}.{number}.parquet")
        if not path.exists():
            return path
        with suppress(duckdb.Error):  # a damaged one is nobody's
            if _content(connection, table, path) == proof:
                return path
        number += 1


def _content(connection: duckdb.DuckDBPyConnection, table: Table, path: Path) -> tuple[int, str]:
    found = connection.execute(sealed.fingerprint_query(sealed.listed(table), sealed.parquet([path]))).fetchone()
    assert found is not None
    return found[0], found[1]


def _run(connection: duckdb.DuckDBPyConnection, sql: str, path: Path) -> None:
    try:
        connection.execute(sql)
    except duckdb.IOException as error:
        raise SealError(f"cannot write {path}: {str(error).splitlines()[0][:300]}", "Free some space.") from None


def _publish(warehouse: Warehouse, root: Path, table: Table, made: Sequence[SealedFile]) -> list[SealedFile]:
    """Take the rows of the files of a table out of the warehouse and show them from there, in one publish.

    What has had a row changed since its file was written stays open until the next time.

    Returns:
        The files that stand for their rows now.
    """
    replaced: list[SealedFile] = []
    with warehouse.staged() as staged:
        kept = _kept(staged.connection, table)
        files = [file for file in made if _is_same(staged.connection, table, file, kept)]
        with transaction(staged.connection):
            replaced = _move(staged.connection, root, table, files, kept)
    _let_go(root, [old for old in replaced if old.path not in {file.path for file in files}])
    return files


def _is_same(connection: duckdb.DuckDBPyConnection, table: Table, file: SealedFile, kept: str) -> bool:
    """Whether the rows of a file are those of the warehouse."""
    query = sealed.fingerprint_query(sealed.listed(table), _rows(table, _Span.of(file), kept))
    return connection.execute(query).fetchone() == (file.row_count, file.fingerprint)


def _move(
    connection: duckdb.DuckDBPyConnection, root: Path, table: Table, files: Sequence[SealedFile], kept: str
) -> list[SealedFile]:
    """Let the files stand for their rows. Returns the files whose place they take.

    Raises:
        SealError: that would change how many rows there are.
    """
    if not files:
        return []
    before = _count(connection, table)
    closed = " OR ".join(f"({_Span.of(file)})" for file in files)
    gone = f"({closed}) AND snapshot_id NOT IN ({kept})"
    if table.name in sealed.hot_tables(connection):
        connection.execute(f"DELETE FROM {sealed.HOT}.{table.name} WHERE {gone}")  # noqa: S608
    else:
        sealed.begin(connection, table, f"NOT ({gone})")
    firsts = {file.month for file in files}
    replaced = [one for one in sealed.sealed_files(connection) if one.table_name == table.name and one.month in firsts]
    for first in firsts:
        connection.execute(bind(f"DELETE FROM {FILES.name} WHERE table_name = ? AND month = ?", table.name, first))  # noqa: S608
    insert(connection, FILES, [_as_row(file) for file in files])
    sealed.show(connection, root, {table.name})
    if (now := _count(connection, table)) != before:
        raise SealError(f"sealing {table.name} would leave {now} of {before} rows", "Nothing was changed; report it.")
    return replaced


def _count(connection: duckdb.DuckDBPyConnection, table: Table) -> int:
    (count,) = connection.execute(f"SELECT count(*) FROM main.{table.name}").fetchone() or (0,)  # noqa: S608
    return int(count)


def _as_row(file: SealedFile) -> dict[str, object]:
    return {name: getattr(file, name) for name in FILES.column_names}


def _known_files(connection: duckdb.DuckDBPyConnection) -> set[str]:
    return {file.path for file in sealed.sealed_files(connection)} if sealed.is_sealed(connection) else set()


def _let_go(root: Path, files: Sequence[SealedFile]) -> None:
    """Date the files that nothing refers to any more: they are removed some time later."""
    for file in files:
        with suppress(OSError):
            os.utime(root / file.path)


def _remove_unreferred(root: Path, known: Collection[str]) -> None:
    """Remove what processes that died left, and files that nothing has referred to for long enough."""
    for path in root.glob("*/*"):
        if path.suffix == ".parquet" and path.relative_to(root).as_posix() not in known:
            kept = UNREFERRED_OPEN_S if path.parent.name == sealed.OPEN else UNREFERRED_S
            if time.time() - path.stat().st_mtime > kept:
                path.unlink()
        elif path.name.startswith(".") and path.suffix == ".tmp":
            path.unlink()
