"""History in bulk: what the cycles would have stored of a made-up account, session after session, straight in SQL.

A snapshot every minute of each session, or every few, one 90 minutes before it and one 15 minutes after. The account
holds shares of AAPL with a call sold against them, shares of SPY, and put spreads: one is opened on each day and closed
three sessions later. Ten orders a day are placed, filled in parts, cancelled, rejected; one of every fifth day rests
for days. Some instants are missed, some snapshots torn or without quotes; of session number 3 there is no snapshot at
all. Every value follows from its place, so the same call gives the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import date, timedelta
from itertools import count, islice
from pathlib import Path

import duckdb

from tradier_pipeline import clock
from tradier_pipeline.domain.calendar import MarketCalendar, Session
from tradier_pipeline.publish.seal import ROWS_OF_GROUP
from tradier_pipeline.warehouse import derived, schema, sealed
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline.warehouse.sessions import upsert_sessions
from tradier_pipeline.warehouse.sql import bind, literal, transaction
from tradier_pipeline.warehouse.staging import Warehouse, find_figures, find_short_options, insert, sealed_directory

CALENDAR = MarketCalendar("XNYS")
FIRST_DAY = date(2025, 1, 2)
SESSIONS_OF_A_YEAR = 252
EMPTY_SESSION = 3


def sessions(number: int, since: date = FIRST_DAY) -> list[Session]:
    """The first sessions of the exchange from a day on."""
    return list(islice(_sessions_from(since), number))


def _sessions_from(since: date) -> Iterator[Session]:
    for days in count():
        if session := CALENDAR.session_of(since + timedelta(days=days)):
            yield session


def fill(
    connection: duckdb.DuckDBPyConnection,
    days: Sequence[Session],
    account_id: str = "VA12345678",
    *,
    ledger: bool = True,
    minutes: int = 1,
) -> None:
    """Add the history of an account over some sessions to a warehouse that has nothing of it.

    Rows lie in the order in which the pipeline would have appended them: by snapshot.

    Args:
        ledger: whether a trading engine's ledger was reconciled with every snapshot.
        minutes: between two snapshots of a session.
    """
    upsert_sessions(connection, CALENDAR, days[0].date, days[-1].date)
    values = ", ".join(
        f"({number}, {literal(day.date)}, {literal(day.open)}, {literal(day.close)})" for number, day in enumerate(days)
    )
    columns = "d, trade_date, session_open, session_close"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE days AS FROM (VALUES {values}) AS _({columns})")
    connection.execute(f"SET VARIABLE account = {literal(account_id)}; SET VARIABLE ledger = {ledger}")
    connection.execute(f"SET VARIABLE minutes = {minutes}")
    connection.execute(Path(__file__).with_suffix(".sql").read_text())
    of_account = f"account_id = {literal(account_id)}"
    with transaction(connection):
        find_figures(connection, schema.OPTION_SPREADS.name, of_account)
        find_short_options(connection, of_account)
    derived.refresh(connection)


def add_earlier(warehouse: Warehouse, years: int) -> None:
    """Put copies of a bulk year that is sealed before it, 364 days each: what sealing it year after year would leave.

    Rows of the day views follow from them. The copies have the year's sessions, not those of theirs: a holiday may have
    snapshots. Fingerprints of the files are not kept.
    """
    root = sealed_directory(warehouse.path)
    with connect_readonly(warehouse.path) as connection:
        span = connection.execute("SELECT min(trade_date), max(trade_date) FROM tradier_snapshots").fetchone()
        assert span is not None
        first, last = span
        hot = sealed.hot_tables(connection)
        since = first - timedelta(days=364 * (years - 1))
        files = [
            _earlier_file(connection, root, table, period, since, last)
            for table in sealed.TABLES
            if table.name in hot
            for period in _periods(table, since, first)
        ]
    with warehouse.staged() as staged:
        connection = staged.connection
        upsert_sessions(connection, CALENDAR, since, last)
        for table in (schema.MISSED_SNAPSHOTS, schema.CHECK_RESULTS, schema.DAILY_SUMMARIES, *schema.ACTIVITY):
            connection.execute(f"CREATE OR REPLACE TEMP TABLE the_year AS FROM {table.name}")
            for year in range(1, years):
                connection.execute(f"INSERT INTO {table.name} {_shifted(table, 'the_year', year)}")
        for file in files:
            query = f"DELETE FROM {sealed.FILES.name} WHERE table_name = ? AND month = ?"
            connection.execute(bind(query, file.table_name, file.month))
        insert(connection, sealed.FILES, [asdict(file) for file in files])
        sealed.show(connection, root)
        connection.execute(f"DELETE FROM {sealed.SEEN.name}")  # the publish makes the days of them, too


def _periods(table: schema.Table, since: date, until: date) -> Iterator[date]:
    first = sealed.period_of(table, since)
    while first <= until:
        yield first
        first = sealed.period_end(table, first)


def _earlier_file(
    connection: duckdb.DuckDBPyConnection, root: Path, table: schema.Table, first: date, since: date, last: date
) -> sealed.SealedFile:
    """A month or year of the copies, with what the year itself has of it."""
    end = sealed.period_end(table, first)
    branches = []
    for year in range((last - first).days // 364 + 1):
        shift = timedelta(days=364 * year)
        if first + shift <= last and end + shift > since:
            days = f"trade_date >= {literal(first + shift)} AND trade_date < {literal(end + shift)}"
            # of a copy the last weekday is the first of the next one; of the year itself what is hot stays so
            hot = f"snapshot_id NOT IN (SELECT snapshot_id FROM {sealed.HOT}.{table.name})"
            own = f" AND trade_date < {literal(last)}" if year else f" AND {hot}"
            branches.append(_shifted(table, f"(FROM main.{table.name} WHERE {days}{own})", year))
    stem = f"{first:%Y}" if table in sealed.YEARLY else f"{first:%Y-%m}"
    path = root / table.name / f"{stem}.bulk.parquet"
    rows = f"SELECT * FROM ({' UNION ALL '.join(branches)}) ORDER BY snapshot_id"
    options = f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROWS_OF_GROUP}"
    connection.execute(f"COPY ({rows}) TO {literal(str(path))} ({options})")
    (count,) = connection.execute(f"SELECT count(*) FROM {sealed.parquet([path])}").fetchone() or (0,)
    name, size = path.relative_to(root).as_posix(), path.stat().st_size
    return sealed.SealedFile(table.name, first, name, count, "0", size, table.column_names, clock.now())


def _shifted(table: schema.Table, rows: str, years: int) -> str:
    """The query of rows as they would have been so many times 364 days before."""
    columns = ", ".join(_shifted_column(column, 364 * years) for column in table.columns)
    return f"SELECT {columns} FROM {rows}"


def _shifted_column(column: schema.Column, days: int) -> str:
    if column.name == "snapshot_id":
        instant = f"strptime(split_part(snapshot_id, '@', 2), '%Y-%m-%dT%H:%M:%SZ') - INTERVAL {days} DAY"
        return f"split_part(snapshot_id, '@', 1) || '@' || strftime({instant}, '%Y-%m-%dT%H:%M:%SZ') AS snapshot_id"
    if column.type == schema.DATE:
        return f'"{column.name}" - {days} AS "{column.name}"'
    if column.type == schema.INSTANT:
        return f'"{column.name}" - INTERVAL {days} DAY AS "{column.name}"'
    return f'"{column.name}"'
