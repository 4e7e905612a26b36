"""What is old of the tables that grow by the minute, as Parquet files beside the warehouse: a file a month or year.

Of a table with many rows a snapshot a closed month lies in `sealed/<table>/<YYYY-MM>.parquet`, of one with about one
row a snapshot a closed year in `sealed/<table>/<YYYY>.parquet`: a question about all years then opens ten files. The
weeks of an open month that are old enough lie in one file until it is closed, which takes the place of that of the week
before: `sealed/open/<table>-<last day>.parquet`. What is not sealed is in the schema `hot`, and `main` shows both as a
view under the table's name. Each table is sealed by itself: one of which nothing is sealed yet is a table of `main`.

Whoever publishes reads the hot rows only, which are as many after ten years as after one: `hot_first`. They have at
least the last days, and the newest snapshots of every account. Who has to look back further says how far: `reaching`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from itertools import groupby
from pathlib import Path

import duckdb

from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.schema import BIGINT, DATE, INSTANT, VARCHAR, WORDS, Column, Table, View
from tradier_pipeline.warehouse.sql import bind, literal, transaction
from tradier_pipeline.warehouse.views import (
    NEWEST_SNAPSHOTS,
    PORTFOLIO_POSITIONS,
    PORTFOLIO_SPREADS,
    TRADE_GATE,
    view_ddl,
)

HOT = "hot"
FOLDER = "sealed"
YEARS_OF_BRANCH = 5  # of more, to ask each name takes longer than another branch of the view
OPEN = "open"  # below it; no table has this name
MONTHLY = (
    *(schema.POSITIONS, schema.ORDERS, schema.ORDER_LEGS, schema.QUOTES, schema.RAW_PAYLOADS),
    *(schema.OPTION_SPREADS, schema.OPTION_SPREAD_LEGS, schema.SHORT_OPTIONS, *schema.RECONCILED),
)
"""The tables with many rows a snapshot: a file a month."""

YEARLY = (
    *(schema.TRADIER_SNAPSHOTS, schema.ACCOUNTS, schema.ACCOUNT_BALANCES, schema.TRADE_GATE_READINGS),
    schema.CONSERVATION,
)
"""The tables with about one row a snapshot: a file a year."""

TABLES = (*MONTHLY, *YEARLY)
_BY_NAME = {table.name: table for table in TABLES}
_YEARLY = frozenset(table.name for table in YEARLY)

FILES = Table(
    f"{HOT}.sealed_files",
    "One row per table and month, or year, that is sealed: the Parquet file that has its rows.",
    (
        Column("table_name", VARCHAR, "The table", required=True),
        Column("month", DATE, "The first day of the month or year that the file has, by trade_date", required=True),
        Column("path", VARCHAR, "The file, relative to the directory `sealed` of the home", required=True),
        Column("row_count", BIGINT, "Its rows", required=True),
        Column("fingerprint", VARCHAR, "The sum of the hashes of its rows, by DuckDB's hash()", required=True),
        Column("bytes", BIGINT, "Its size", required=True),
        Column("columns", WORDS, "Its columns; those that the table has got since are null", required=True),
        Column("sealed_at", INSTANT, "When it was written (UTC)", required=True),
        Column("until", DATE, "The first day that it has no more; null, by earlier versions: it has it whole"),
    ),
)

SEEN = Table(
    f"{HOT}.days_seen",
    "One row: what has made the days of the sealed headers. They are looked at again by another one only.",
    (Column("version", VARCHAR, "Of the queries that made them", required=True),),
)

NOW = (NEWEST_SNAPSHOTS, PORTFOLIO_POSITIONS, PORTFOLIO_SPREADS, TRADE_GATE)
"""The views that the newest snapshots answer."""


@dataclass(frozen=True, slots=True)
class SealedFile:
    """A Parquet file that has the rows of a table of one month or year, which begins on `month`. `path` is relative to
    the directory of the files.
    """

    table_name: str
    month: date
    path: str
    row_count: int
    fingerprint: str
    bytes: int
    columns: tuple[str, ...]
    sealed_at: datetime
    until: date | None = None

    @property
    def is_yearly(self) -> bool:
        return self.table_name in _YEARLY

    @property
    def is_open(self) -> bool:
        """Whether it has the days of a month or year up to some day only."""
        return self.end < period_end(_BY_NAME[self.table_name], self.month)

    @property
    def last(self) -> date:
        """The last day that it has."""
        return self.end - timedelta(days=1)

    @property
    def end(self) -> date:
        """The first day that it has no more."""
        return self.until or period_end(_BY_NAME[self.table_name], self.month)


def hot_tables(connection: duckdb.DuckDBPyConnection) -> frozenset[str]:
    """The tables of which a part is sealed, or was."""
    query = "SELECT table_name FROM duckdb_tables() WHERE database_name = 'tradier' AND schema_name = ?"
    return frozenset(name for (name,) in connection.execute(bind(query, HOT)).fetchall())


def stored_name(table: Table, hot: Collection[str]) -> str:
    """The table that holds the rows that are not sealed, as a statement that changes it names it.

    Args:
        hot: the tables of which a part is sealed.
    """
    return f"{HOT if table.name in hot else 'main'}.{table.name}"


def period_of(table: Table, day: date) -> date:
    """The first day of the month or year that is sealed as one."""
    return day.replace(day=1, month=1) if table.name in _YEARLY else day.replace(day=1)


def period_end(table: Table, first: date) -> date:
    """The first day after a month or year."""
    return date(first.year + 1, 1, 1) if table.name in _YEARLY else next_month(first)


def old_before(table: Table, day: date) -> date:
    """The first day that is not sealed yet, where all before a day may be: a week of an open month is sealed as one. An
    open year is not: every question about a day reads its headers.
    """
    first = period_of(table, day)
    return first if table.name in _YEARLY else max(first, day - timedelta(days=day.weekday()))


def next_month(month: date) -> date:
    return (month + timedelta(days=31)).replace(day=1)


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
    return f"read_parquet([{names}], hive_partitioning = false, filename = true)"


def _unglobbed(path: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in path)


def both(table: Table, files: Sequence[SealedFile], root: Path) -> str:
    """The query of the rows that are hot and those of some files, as one.

    What is said of their dates and instants lets DuckDB skip files that a condition on these rules out: see `_bounds`.
    """
    branches = [f"SELECT {listed(table)} FROM {HOT}.{table.name}"]  # noqa: S608
    for (_, columns), of_branch in groupby(sorted(files, key=_branch), key=_branch):
        together = list(of_branch)
        shown = ", ".join(
            f'"{column.name}"' if column.name in columns else f'NULL::{column.type} AS "{column.name}"'
            for column in table.columns
        )
        source = parquet(root / file.path for file in together)
        branches.append(f"SELECT {shown} FROM {source} WHERE {_bounds(together)}")  # noqa: S608
    return " UNION ALL ".join(branches)


def _branch(file: SealedFile) -> tuple[str, tuple[str, ...]]:
    """Which branch shows a file: that of some years whose names begin with their month or year, or one of its own."""
    return str(file.month.year // YEARS_OF_BRANCH) if _tells_when(file) else file.path, file.columns


def _tells_when(file: SealedFile) -> bool:
    return Path(file.path).name.startswith(f"{file.month:%Y}." if file.is_yearly else f"{file.month:%Y-%m}.")


def _bounds(files: Sequence[SealedFile]) -> str:
    """What holds for all rows of the files of a branch.

    From a condition on the date and what is said here of it and the names, DuckDB finds which names may be, and opens
    no other file. It does so when it comes to a constant bound of the date: these stand last.
    """
    first, last = min(file.month for file in files), max(file.last for file in files)
    bounds = []
    if _tells_when(files[0]) and len(files) > 1:
        named = "(left(parse_filename(filename), {}) || '{}')::DATE"
        begin = named.format(4, "-01-01") if files[0].is_yearly else named.format(7, "-01")
        end = named.format(4, "-12-31") if files[0].is_yearly else f"last_day({begin})"
        bounds += [f"{begin} <= trade_date", f"{end} >= trade_date"]
    bounds += [f"trade_date >= {literal(first)}", f"trade_date <= {literal(last)}"]
    bounds += [f"as_of >= {_begin(first)}", f"as_of <= {_begin(last + timedelta(days=2))}"]
    return " AND ".join(bounds)


def _begin(day: date) -> str:
    """When a date begins in UTC, whatever the time zone of the session is, which a text would make DuckDB look up."""
    return f"make_timestamptz({(day - date(1970, 1, 1)).days * 86_400_000_000})"


def is_sealed(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the warehouse that the connection is at has ever had a sealed month."""
    return bool(hot_tables(connection))


def sealed_files(connection: duckdb.DuckDBPyConnection, table: Table | None = None) -> list[SealedFile]:
    """The files that have the sealed months and years, of one table or of all, by table and month."""
    which = f"WHERE table_name = {literal(table.name)}" if table else ""
    found = connection.execute(f"FROM {FILES.name} {which} ORDER BY table_name, month")
    names = [name for name, *_ in found.description]  # an earlier version's has less
    rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    return [SealedFile(**row | {"columns": tuple(row["columns"])}) for row in rows]


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


def begin(connection: duckdb.DuckDBPyConnection, table: Table, which: str) -> None:
    """Bring the rows of a table that are not sealed to where such rows lie, in the caller's transaction, and drop the
    others.

    Args:
        which: the condition of those that are not sealed.
    """
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {HOT}")
    connection.execute(schema.ddl(FILES))
    connection.execute(schema.ddl(SEEN))
    connection.execute(schema.ddl(table, f"{HOT}.{table.name}"))
    connection.execute(
        f"INSERT INTO {HOT}.{table.name} SELECT {listed(table)} FROM main.{table.name} WHERE {which}"  # noqa: S608
    )
    connection.execute(f"DROP TABLE main.{table.name}")


def complete(connection: duckdb.DuckDBPyConnection) -> None:
    """Give what an earlier version keeps of the files what this one does."""
    connection.execute(f"ALTER TABLE {FILES.name} ADD COLUMN IF NOT EXISTS until DATE")
    connection.execute(schema.ddl(SEEN))


def show(connection: duckdb.DuckDBPyConnection, root: Path, tables: Collection[str] = ()) -> None:
    """Let the views of `main` show what is hot and what is sealed, in files below a directory.

    Args:
        tables: those whose files have changed; empty: all.
    """
    connection.execute(f"CREATE OR REPLACE MACRO {HOT}.sealed_root() AS {literal(str(root))}")
    files, hot = sealed_files(connection), hot_tables(connection)
    for table in TABLES:
        if table.name in (tables or hot):
            query = both(table, [file for file in files if file.table_name == table.name], root)
            connection.execute(view_ddl(View(f"main.{table.name}", table.comment, table.columns, query)))
    show_now(connection, hot)


def show_now(connection: duckdb.DuckDBPyConnection, hot: Collection[str]) -> None:
    """Let the views of what is so now read the hot rows alone."""
    for view in NOW if hot else ():
        connection.execute(view_ddl(replace(view, name=f"main.{view.name}", query=_of_hot(view.query, hot))))


def of_now(connection: duckdb.DuckDBPyConnection, query: str) -> str:
    """A query of a reader about the newest snapshot of each account, or the newest good one, on the hot rows alone."""
    return _of_hot(query, hot_tables(connection))


def _of_hot(query: str, hot: Collection[str]) -> str:
    """The rows of the newest snapshot of each account, and of the newest good one, are never sealed."""
    names = "|".join(table.name for table in TABLES if table.name in hot)
    return re.sub(rf"\b(FROM|JOIN) ({names})\b", rf"\1 {HOT}.\2 AS \2", query) if names else query


def hot_first(connection: duckdb.DuckDBPyConnection) -> None:
    """Let the bare name of a table mean its hot rows, to read and to write: of a warehouse that has sealed months."""
    connection.execute(f"SET search_path = 'tradier.{HOT},tradier.main'")
    _shown_since(connection, _hot_since(connection))


def set_beside_since(connection: duckdb.DuckDBPyConnection, account_id: str, near: date) -> date:
    """The trade date of the last good snapshot of an account up to a date; of any if none is good, or that date.

    From there on lies what the snapshots after it were set beside.
    """
    query = """
        SELECT coalesce(max(trade_date) FILTER (snapshots > 0), max(trade_date)) FROM snapshot_days
        WHERE account_id = ? AND trade_date <= ?
    """
    (before,) = connection.execute(bind(query, account_id, near)).fetchone() or (None,)
    return before or near


_HOT_SINCE = f"""
    SELECT max(coalesce(until, month + CASE WHEN table_name IN ({", ".join(map(literal, sorted(_YEARLY)))})
                                            THEN INTERVAL 1 YEAR ELSE INTERVAL 1 MONTH END))::DATE FROM {FILES.name}
"""  # noqa: S608


def _hot_since(connection: duckdb.DuckDBPyConnection) -> date:
    (since,) = connection.execute(_HOT_SINCE).fetchone() or (None,)
    return since or date.min


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
    first = since.date() - timedelta(days=1) if isinstance(since, datetime) else since
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
    files = [
        file for file in sealed_files(connection) if since < file.end and file.month <= until and is_there(file, root)
    ]
    for table in TABLES:
        connection.execute(f"DROP VIEW IF EXISTS temp.main.{table.name}")
        if of_table := [file for file in files if file.table_name == table.name]:
            connection.execute(f"CREATE TEMP VIEW {table.name} AS {both(table, of_table, root)}")
    _shown_since(connection, since)


def unseal(connection: duckdb.DuckDBPyConnection, files: Sequence[SealedFile]) -> None:
    """Bring the rows of files back into the warehouse, in the caller's transaction.

    The files stay where they are: somebody may be reading them.
    """
    root = sealed_root(connection)
    for file in files:
        names = ", ".join(f'"{name}"' for name in _BY_NAME[file.table_name].column_names if name in file.columns)
        source = parquet([root / file.path])
        connection.execute(f"INSERT INTO {HOT}.{file.table_name} ({names}) SELECT {names} FROM {source}")  # noqa: S608
        connection.execute(
            bind(f"DELETE FROM {FILES.name} WHERE table_name = ? AND month = ?", file.table_name, file.month)  # noqa: S608
        )
    if files:
        show(connection, root, {file.table_name for file in files})
        _shown_since(connection, _hot_since(connection))


def unseal_day(connection: duckdb.DuckDBPyConnection, day: date) -> None:
    """Bring back the months and years that have a trade date, in the caller's transaction."""
    unseal(connection, [file for file in sealed_files(connection) if file.month <= day < file.end])


def unseal_around(connection: duckdb.DuckDBPyConnection, account_id: str, as_of: datetime, day: date) -> None:
    """Bring back the years of headers that a snapshot of long ago lies in, or looks back at, as far as they are sealed.

    What is newer than all that is stored of its account needs none: the newest days are never sealed.

    Args:
        day: the trade date of the snapshot.
    """
    headers = sealed_files(connection, schema.TRADIER_SNAPSHOTS)
    is_open = not any(file.month <= day < file.end for file in headers)
    if not headers or (is_open and _good_before(connection, f"{HOT}.tradier_snapshots", account_id, as_of)):
        return
    since = _good_before(connection, "main.tradier_snapshots", account_id, as_of) or day
    files = [file for file in sealed_files(connection) if file.is_yearly]
    with transaction(connection):
        unseal(connection, [file for file in files if file.month <= day and since < file.end])


def _good_before(connection: duckdb.DuckDBPyConnection, name: str, account_id: str, as_of: datetime) -> date | None:
    query = f"SELECT max(trade_date) FROM {name} WHERE account_id = ? AND as_of < ? AND verdict = 'good'"  # noqa: S608
    (day,) = connection.execute(bind(query, account_id, as_of)).fetchone() or (None,)
    return day  # type: ignore[no-any-return]


def seen_spans(connection: duckdb.DuckDBPyConnection, version: str) -> list[tuple[date, date]] | None:
    """The first and last dates of the years whose headers are sealed; None if a version has not seen all of them yet.

    Whoever has made something of all headers need not look at these again: a file never changes, and what changes a
    sealed year brings it back.
    """
    if connection.execute("SELECT getvariable('shown_since')").fetchone() == (None,):
        return []  # the bare names are the views, or nothing is sealed
    if connection.execute(f"SELECT version FROM {SEEN.name}").fetchone() != (version,):  # noqa: S608
        return None
    files = sealed_files(connection, schema.TRADIER_SNAPSHOTS)
    return [(file.month, file.last) for file in files]


def note_seen(connection: duckdb.DuckDBPyConnection, version: str) -> None:
    """Note that a version has made what it makes of all headers, sealed ones too; see `seen_spans`."""
    connection.execute(f"DELETE FROM {SEEN.name}")  # noqa: S608
    connection.execute(bind(f"INSERT INTO {SEEN.name} VALUES (?)", version))  # noqa: S608
