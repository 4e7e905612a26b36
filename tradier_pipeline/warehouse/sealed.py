"""Closed months of the tables that grow by the minute, as Parquet files beside the warehouse.


A month that is sealed lies in `sealed/<table>/<YYYY-MM>.parquet`. What is not sealed is then in the schema `hot`, and
`main` shows both as a view under the table's name. A warehouse without a sealed month has neither.

Whoever publishes reads the hot rows only, which are as many after ten years as after one: `hot_first`. They have at
least the last days, and the newest snapshots of every account. Who has to look back further says how far: `reaching`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from itertools import groupby
from pathlib import Path

import duckdb

from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.schema import BIGINT, DATE, INSTANT, VARCHAR, WORDS, Column, Table
from tradier_pipeline.warehouse.sql import bind, literal
from tradier_pipeline.warehouse.views import PORTFOLIO_POSITIONS, PORTFOLIO_SPREADS, view_ddl

HOT = "hot"
FOLDER = "sealed"
TABLES = (
    *(schema.POSITIONS, schema.ORDERS, schema.ORDER_LEGS, schema.QUOTES, schema.RAW_PAYLOADS),
    *(schema.OPTION_SPREADS, schema.OPTION_SPREAD_LEGS, *schema.RECONCILED),
)
"""The tables with many rows a snapshot. The others stay in the file whole."""

NAMES = frozenset(table.name for table in TABLES)

FILES = Table(
    f"{HOT}.sealed_files",
    "One row per table and month that is sealed: the Parquet file that has its rows.",
    (
        Column("table_name", VARCHAR, "The table", required=True),
        Column("month", DATE, "The first day of the month, by trade_date", required=True),
        Column("path", VARCHAR, "The file, relative to the directory `sealed` of the home", required=True),
        Column("row_count", BIGINT, "Its rows", required=True),
        Column("fingerprint", VARCHAR, "The sum of the hashes of its rows, by DuckDB's hash()", required=True),
        Column("bytes", BIGINT, "Its size", required=True),
        Column("columns", WORDS, "Its columns; those that the table has got since are null", required=True),
        Column("sealed_at", INSTANT, "When it was written (UTC)", required=True),
    ),
)


@dataclass(frozen=True, slots=True)
class SealedFile:
    """A Parquet file that has the rows of a table of one month. `path` is relative to the directory of the files."""

    table_name: str
    month: date
    path: str
    row_count: int
    fingerprint: str
    bytes: int
    columns: tuple[str, ...]
    sealed_at: datetime


def stored_name(table: Table, *, sealed: bool) -> str:
    """The table that holds the rows that are not sealed, as a statement that changes it names it."""
    return f"{HOT}.{table.name}" if sealed and table.name in NAMES else table.name


def month_of(day: date) -> date:
    return day.replace(day=1)


def next_month(month: date) -> date:
    return month_of(month + timedelta(days=31))


def listed(table: Table) -> str:
    """The columns of a table, in their order."""
    return ", ".join(f'"{name}"' for name in table.column_names)


def fingerprint_query(columns: str, rows: str) -> str:
    """How many rows there are, and a sum that is another one when any value of any row is.

    Args:
        rows: what follows FROM.
    """
    return f"SELECT count(*), coalesce(sum(hash({columns})), 0)::VARCHAR FROM {rows}"  # noqa: S608


def parquet(paths: Iterable[Path]) -> str:
    """The files as a table function. Their names mean themselves, whatever is in them."""
    names = ", ".join(literal(_unglobbed(str(path))) for path in paths)
    return f"read_parquet([{names}], hive_partitioning = false)"


def _unglobbed(path: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in path)


def both(table: Table, files: Sequence[SealedFile], root: Path) -> str:
    """The query of the rows that are hot and those of some files, as one.

    A branch for each year says which dates it has: a condition on the date or instant lets DuckDB skip all others
    without a look at their files.
    """
    branches = [f"SELECT {listed(table)} FROM {HOT}.{table.name}"]  # noqa: S608
    ordered = sorted(files, key=_branch)
    for (year, columns), of_branch in groupby(ordered, key=_branch):
        shown = ", ".join(
            f'"{column.name}"' if column.name in columns else f'NULL::{column.type} AS "{column.name}"'
            for column in table.columns
        )
        source = parquet(root / file.path for file in of_branch)
        days = f"trade_date BETWEEN DATE '{year}-01-01' AND DATE '{year}-12-31'"
        instants = f"as_of BETWEEN TIMESTAMPTZ '{year}-01-01 00:00:00Z' AND TIMESTAMPTZ '{year + 1}-01-02 00:00:00Z'"
        branches.append(f"SELECT {shown} FROM {source} WHERE {days} AND {instants}")  # noqa: S608
    return " UNION ALL ".join(branches)


def _branch(file: SealedFile) -> tuple[int, tuple[str, ...]]:
    return file.month.year, file.columns


def is_sealed(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the warehouse that the connection is at has ever had a sealed month."""
    query = "SELECT count(*) FROM duckdb_tables() WHERE database_name = 'tradier' AND schema_name = ?"
    return connection.execute(bind(query, HOT)).fetchone() != (0,)


def sealed_files(connection: duckdb.DuckDBPyConnection) -> list[SealedFile]:
    """The files that have the sealed months, by table and month."""
    rows = connection.execute(f"SELECT {listed(FILES)} FROM {FILES.name} ORDER BY table_name, month").fetchall()  # noqa: S608
    return [SealedFile(**dict(zip(FILES.column_names, row, strict=True)) | {"columns": tuple(row[6])}) for row in rows]


def sealed_root(connection: duckdb.DuckDBPyConnection) -> Path:
    """The directory of the files, as the views have it."""
    (root,) = connection.execute(f"SELECT {HOT}.sealed_root()").fetchone() or ("",)
    return Path(root)


def is_there(file: SealedFile, root: Path) -> bool:
    """Whether a file lies where it should, as long as it was written."""
    path = root / file.path
    return path.is_file() and path.stat().st_size == file.bytes


def lost_files(connection: duckdb.DuckDBPyConnection) -> list[Path]:
    """The files of sealed months that are not there, or not whole."""
    if not is_sealed(connection):
        return []
    root = sealed_root(connection)
    return [root / file.path for file in sealed_files(connection) if not is_there(file, root)]


def directories(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Where whoever reads the views reads files, also as `parquet` names it; nowhere without sealed months."""
    if not is_sealed(connection):
        return []
    root = str(sealed_root(connection))
    return list(dict.fromkeys([root, _unglobbed(root)]))


def begin(connection: duckdb.DuckDBPyConnection, which: str) -> None:
    """Bring the rows that are not sealed to where such rows lie, in the caller's transaction, and drop the others.

    Args:
        which: the condition of those that are not sealed.
    """
    connection.execute(f"CREATE SCHEMA {HOT}")
    connection.execute(schema.ddl(FILES))
    for table in TABLES:
        connection.execute(schema.ddl(table, f"{HOT}.{table.name}"))
        connection.execute(
            f"INSERT INTO {HOT}.{table.name} SELECT {listed(table)} FROM main.{table.name} WHERE {which}"  # noqa: S608
        )
        connection.execute(f"DROP TABLE main.{table.name}")


def show(connection: duckdb.DuckDBPyConnection, root: Path) -> None:
    """Let the views of `main` show what is hot and what is sealed, in files below a directory."""
    connection.execute(f"CREATE OR REPLACE MACRO {HOT}.sealed_root() AS {literal(str(root))}")
    files = sealed_files(connection)
    for table in TABLES:
        query = both(table, [file for file in files if file.table_name == table.name], root)
        connection.execute(f"CREATE OR REPLACE VIEW main.{table.name} AS {query}")
        connection.execute(schema.comments("VIEW", f"main.{table.name}", table.comment, table.columns))
    show_now(connection)


def show_now(connection: duckdb.DuckDBPyConnection) -> None:
    """Let the views of what is held now read the hot rows alone: those of newest snapshots are never sealed."""
    for view, table in ((PORTFOLIO_POSITIONS, schema.POSITIONS), (PORTFOLIO_SPREADS, schema.OPTION_SPREADS)):
        query = view.query.replace(f"FROM {table.name} ", f"FROM {HOT}.{table.name} AS {table.name} ", 1)
        connection.execute(view_ddl(replace(view, name=f"main.{view.name}", query=query)))


def hot_first(connection: duckdb.DuckDBPyConnection) -> None:
    """Let the bare name of a table mean its hot rows, to read and to write: of a warehouse that has sealed months."""
    connection.execute(f"SET search_path = 'tradier.{HOT},tradier.main'")
    _shown_since(connection, _hot_since(connection))


def _hot_since(connection: duckdb.DuckDBPyConnection) -> date:
    (newest,) = connection.execute(f"SELECT max(month) FROM {FILES.name}").fetchone() or (None,)  # noqa: S608
    return next_month(newest) if newest else date.min


def _shown_since(connection: duckdb.DuckDBPyConnection, since: date) -> None:
    connection.execute(f"SET VARIABLE shown_since = {literal(since)}")


@contextmanager
def reaching(
    connection: duckdb.DuckDBPyConnection, since: date | datetime, until: date | None = None
) -> Iterator[None]:
    """Within, the bare names show all rows since a date, of sealed months, too; nothing can be written to them.

    Args:
        since: a trade date, or an instant on it.
        until: the last trade date that is looked at, unless it is hot.
    """
    first = month_of(since.date() - timedelta(days=1) if isinstance(since, datetime) else since)
    (shown,) = connection.execute("SELECT getvariable('shown_since')").fetchone() or (None,)
    if shown is None or shown <= first:  # None: the bare names are the views
        yield
        return
    _reach(connection, first, until or date.max)
    try:
        yield
    finally:
        _reach(connection, shown, date.max)


def _reach(connection: duckdb.DuckDBPyConnection, since: date, until: date) -> None:
    root = sealed_root(connection)
    # a month that is lost keeps no snapshot from being stored: `status` names it
    files = [file for file in sealed_files(connection) if since <= file.month <= until and is_there(file, root)]
    for table in TABLES:
        connection.execute(f"DROP VIEW IF EXISTS temp.main.{table.name}")
        if of_table := [file for file in files if file.table_name == table.name]:
            connection.execute(f"CREATE TEMP VIEW {table.name} AS {both(table, of_table, root)}")
    _shown_since(connection, since)


def unseal(connection: duckdb.DuckDBPyConnection, months: Iterable[date]) -> list[SealedFile]:
    """Bring the rows of sealed months back into the file, in the caller's transaction; returns the files they were in.

    Those stay where they are: somebody may be reading them.
    """
    wanted, root = set(months), sealed_root(connection)
    files = [file for file in sealed_files(connection) if file.month in wanted]
    tables = {table.name: table for table in TABLES}
    for file in files:
        names = ", ".join(f'"{name}"' for name in tables[file.table_name].column_names if name in file.columns)
        source = parquet([root / file.path])
        connection.execute(f"INSERT INTO {HOT}.{file.table_name} ({names}) SELECT {names} FROM {source}")  # noqa: S608
    for month in {file.month for file in files}:
        connection.execute(bind(f"DELETE FROM {FILES.name} WHERE month = ?", month))  # noqa: S608
    if files:
        show(connection, root)
        _shown_since(connection, _hot_since(connection))
    return files
