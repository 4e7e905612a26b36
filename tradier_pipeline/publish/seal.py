"""Sealing: the closed months of the tables that grow by the minute become Parquet files, written once and never again.

A crash at any point loses nothing. A file is whole, fsynced and proven before it gets its name, and readers see it with
the one publish that takes its rows out of the warehouse; until then it is a file that nobody refers to.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import duckdb

from tradier_pipeline import clock
from tradier_pipeline.core import progress
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.files import create_private, exclusive, file_sha256, make_directory, sync, writing
from tradier_pipeline.warehouse import sealed
from tradier_pipeline.warehouse.reads import connect_readonly, require_current
from tradier_pipeline.warehouse.schema import Table
from tradier_pipeline.warehouse.sealed import FILES, SealedFile, next_month
from tradier_pipeline.warehouse.sealed_chain import sealed_chain
from tradier_pipeline.warehouse.sql import bind, literal, transaction
from tradier_pipeline.warehouse.staging import StagedWarehouse, Warehouse, insert, sealed_directory

OPEN_DAYS = timedelta(days=7)  # what the next snapshots look back at, and what is likely to be proven again
UNREFERRED_S = 86_400.0  # a reader that opened the warehouse before may still be at a file that is replaced
LOCK_TIMEOUT_S = 5.0
ROWS_OF_GROUP = 20_480  # what is read to see one instant

# the newest snapshots of an account are never sealed: what it holds now is found without a look at old months
_KEPT = """
    SELECT max_by(snapshot_id, as_of) FROM tradier_snapshots GROUP BY account_id
    UNION SELECT max_by(snapshot_id, as_of) FROM tradier_snapshots WHERE verdict = 'good' GROUP BY account_id
"""


class SealError(PipelineError):
    """A file is not what the warehouse has."""


@dataclass(frozen=True, slots=True)
class Sealing:
    """What was sealed: months, files, rows, their bytes; and the bytes of the warehouse before and after."""

    months: tuple[date, ...] = ()
    files: int = 0
    rows: int = 0
    bytes: int = 0
    warehouse_before: int = 0
    warehouse_after: int = 0


def seal(warehouse: Warehouse, until: date | None = None) -> Sealing:
    """Seal every month that is closed: one that ended OPEN_DAYS ago, or more.

    Args:
        until: the last month; None: every closed one.

    Raises:
        BusyError: another process seals, or has been writing the warehouse for half a minute.
        FileError: the disk is full, or the home cannot be written.
        SealError: a file was not what it should be; nothing was published.
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
            months = _closed_months(connection, until)
            made = [file for month in months for file in _write_month(connection, root, month)]
        return _publish(warehouse, root, made) if made else Sealing()


def undo(warehouse: Warehouse) -> int:
    """Bring all sealed months back into the warehouse; returns how many.

    Raises:
        BusyError, FileError, WarehouseError: it cannot be written; everything is as it was.
    """
    with warehouse.staged() as staged:
        if not staged.sealed:
            return 0
        with transaction(staged.connection):
            months = {file.month for file in sealed.sealed_files(staged.connection)}
            files = sealed.unseal(staged.connection, months)
    _let_go(sealed_directory(warehouse.path), files)
    return len(months)


def _closed_months(connection: duckdb.DuckDBPyConnection, until: date | None) -> list[date]:
    """The closed months that have rows which are not sealed, the oldest first."""
    is_sealed = sealed.is_sealed(connection)
    before = sealed.month_of(clock.trade_date(clock.now()) - OPEN_DAYS)
    if until is not None:
        before = min(before, next_month(until))
    names = [sealed.stored_name(table, sealed=is_sealed) for table in sealed.TABLES]
    open_rows = " UNION ALL ".join(f"SELECT snapshot_id, trade_date FROM {name}" for name in names)  # noqa: S608
    query = f"""
        SELECT DISTINCT date_trunc('month', trade_date)::DATE AS month FROM ({open_rows})
        WHERE trade_date < ? AND snapshot_id NOT IN ({_KEPT}) ORDER BY month
    """  # noqa: S608
    return [month for (month,) in connection.execute(bind(query, before)).fetchall()]


def _rows(table: Table, month: date) -> str:
    """All rows of a table that a file of a month has: those that are sealed already, too."""
    span = bind("trade_date >= ? AND trade_date < ?", month, next_month(month))
    return f"main.{table.name} WHERE {span} AND snapshot_id NOT IN ({_KEPT})"


def _write_month(connection: duckdb.DuckDBPyConnection, root: Path, month: date) -> Iterator[SealedFile]:
    for table in sealed.TABLES:
        progress.working(f"sealing {month:%Y-%m}: {table.name}")
        count, content = connection.execute(
            sealed.fingerprint_query(sealed.listed(table), _rows(table, month))
        ).fetchone() or (0, "")
        if count:
            path = _write(connection, root, table, month, (count, content))
            size = (root / path).stat().st_size
            yield SealedFile(table.name, month, path, count, content, size, table.column_names, clock.now())


def _write(connection: duckdb.DuckDBPyConnection, root: Path, table: Table, month: date, proof: tuple[int, str]) -> str:
    """Write a file, prove it, and give it its name; one that is there with the same rows is taken.

    Returns:
        Its path relative to `root`.
    """
    directory = root / table.name
    partial = directory / f".{month:%Y-%m}.tmp"
    with writing(directory):
        make_directory(directory)
        partial.unlink(missing_ok=True)
        create_private(partial)
        rows = f"SELECT {sealed.listed(table)} FROM {_rows(table, month)} ORDER BY ALL"  # noqa: S608
        options = f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROWS_OF_GROUP}, USE_TMP_FILE false"
        try:
            _run(connection, f"COPY ({rows}) TO {literal(str(partial))} ({options})", partial)
            if _content(connection, table, partial) != proof:
                raise SealError(f"{partial} is not what the warehouse has of {table.name}", "Check the disk.")
            sync(partial)
            partial.chmod(0o444)
            path = _name(connection, table, directory, month, proof)
            with sealed_chain(root).filing(path.relative_to(root).as_posix(), file_sha256(partial)):
                partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        sync(directory)
    return path.relative_to(root).as_posix()


def _name(
    connection: duckdb.DuckDBPyConnection, table: Table, directory: Path, month: date, proof: tuple[int, str]
) -> Path:
    """The first name of a month that is free: what is there with other rows may be at a reader's hands."""
    number = 1
    while True:
        path = directory / (f"{month:%Y-%m}.parquet" if number == 1 else f"{month:%Y-%m}.{number}.parquet")
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


def _publish(warehouse: Warehouse, root: Path, made: Sequence[SealedFile]) -> Sealing:
    """Take the rows of the files out of the warehouse and show them from there, in one publish.

    A month of which a row has changed since its files were written stays open until the next time.
    """
    before = warehouse.path.stat().st_size
    replaced: list[SealedFile] = []
    with warehouse.staged(compact=True) as staged:
        months = sorted({file.month for file in made})
        months = [month for month in months if _is_same(staged.connection, month, made)]
        with transaction(staged.connection):
            replaced = _move(staged, root, months, [file for file in made if file.month in months])
    _let_go(root, [old for old in replaced if old.path not in {file.path for file in made}])
    files = [file for file in made if file.month in months]
    rows, size = sum(file.row_count for file in files), sum(file.bytes for file in files)
    return Sealing(tuple(months), len(files), rows, size, before, warehouse.path.stat().st_size)


def _is_same(connection: duckdb.DuckDBPyConnection, month: date, made: Sequence[SealedFile]) -> bool:
    """Whether the rows of a month are those of its files."""
    files = {file.table_name: (file.row_count, file.fingerprint) for file in made if file.month == month}
    for table in sealed.TABLES:
        found = connection.execute(sealed.fingerprint_query(sealed.listed(table), _rows(table, month))).fetchone()
        if found != files.get(table.name, (0, "0")):
            return False
    return True


def _move(staged: StagedWarehouse, root: Path, months: Sequence[date], files: Sequence[SealedFile]) -> list[SealedFile]:
    """Let the files stand for their rows. Returns the files whose place they take."""
    connection = staged.connection
    closed = " OR ".join(bind("trade_date >= ? AND trade_date < ?", month, next_month(month)) for month in months)
    gone = f"({closed or 'false'}) AND snapshot_id NOT IN ({_KEPT})"
    if staged.sealed:
        for table in sealed.TABLES:
            connection.execute(f"DELETE FROM {sealed.HOT}.{table.name} WHERE {gone}")  # noqa: S608
    else:
        sealed.begin(connection, f"NOT ({gone})")
    replaced = [file for file in sealed.sealed_files(connection) if file.month in months]
    for month in months:
        connection.execute(bind(f"DELETE FROM {FILES.name} WHERE month = ?", month))  # noqa: S608
    insert(connection, FILES, [_as_row(file) for file in files])
    sealed.show(connection, root)
    return replaced


def _as_row(file: SealedFile) -> dict[str, object]:
    return {name: getattr(file, name) for name in FILES.column_names}


def _known_files(connection: duckdb.DuckDBPyConnection) -> set[str]:
    return {file.path for file in sealed.sealed_files(connection)} if sealed.is_sealed(connection) else set()


def _let_go(root: Path, files: Sequence[SealedFile]) -> None:
    """Date the files that nothing refers to any more: they are removed a day later."""
    for file in files:
        with suppress(OSError):
            os.utime(root / file.path)


def _remove_unreferred(root: Path, known: Collection[str]) -> None:
    """Remove what processes that died left, and files that nothing has referred to for a day."""
    for path in root.glob("*/*"):
        if path.suffix == ".parquet" and path.relative_to(root).as_posix() not in known:
            if time.time() - path.stat().st_mtime > UNREFERRED_S:
                path.unlink()
        elif path.name.startswith(".") and path.suffix == ".tmp":
            path.unlink()
