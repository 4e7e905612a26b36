"""Sealed months: readers see no difference, the warehouse stays small, and nothing is lost wherever it ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import chain, count
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tradier_pipeline import clock
from tradier_pipeline.landing.compaction import compact
from tradier_pipeline.publish import seal as sealing
from tradier_pipeline.publish.seal import SealError, seal, undo
from tradier_pipeline.publish.store import store_snapshot
from tradier_pipeline.warehouse import derived, macros, schema, sealed, views
from tradier_pipeline.warehouse.day_ends import DAY_ENDS
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline.warehouse.sql import literal
from tradier_pipeline.warehouse.staging import Warehouse, WarehouseError
from tradier_pipeline_tests.conftest import Home
from tradier_pipeline_tests.support.command_line import run
from tradier_pipeline_tests.support.reads import only_in_each
from tradier_pipeline_tests.support.sampling import sampled
from tradier_pipeline_tests.support.scripted_account import (
    CALL,
    ScriptedAccount,
    filled,
    scripted_account,
    three_a_month,
)
from tradier_pipeline_tests.support.year import fill, sessions

DAYS = (date(2025, 1, 2), date(2025, 2, 3), date(2025, 2, 4), date(2025, 2, 5), date(2025, 3, 3))  # nothing of the 4th
AUGUST = datetime(2026, 8, 3, 15, 0, tzinfo=UTC)
TABLES = tuple(table.name for table in schema.ALL_TABLES)
FEW = (schema.POSITIONS, schema.ORDERS, schema.QUOTES, schema.TRADIER_SNAPSHOTS, schema.ACCOUNT_BALANCES)
NOVEMBER = datetime(2026, 11, 20, 15, 0, tzinfo=UTC)
# sums of doubles depend on the order in which they are added
EVERYTHING = """
    SELECT table_name, string_agg('"' || column_name || '"', ', ') FROM duckdb_columns()
    WHERE database_name = 'a' AND schema_name = 'main' AND NOT (data_type = 'DOUBLE' AND table_name <> 'quotes')
    GROUP BY table_name
"""


@pytest.fixture(scope="module")
def filled_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three months, made in bulk: of each day the first two hours, which have all that happens."""
    path = tmp_path_factory.mktemp("filled") / "tradier.duckdb"
    days = [replace(one, close=one.open + timedelta(hours=2)) for day in DAYS for one in sessions(1, day)]
    with Warehouse(path).staged() as staged:
        fill(staged.connection, days)
    return path


@pytest.fixture
def few_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only these are sealed, three by the month and two by the year, for tests of what goes alike for all of them.

    That all of them are sealed, and readers see no difference: the tests without it.
    """
    monkeypatch.setattr(sealed, "TABLES", FEW)


@pytest.fixture
def bulk(filled_home: Path, tmp_path: Path) -> Warehouse:
    return Warehouse(Path(shutil.copy(filled_home, tmp_path / "tradier.duckdb")))


@pytest.fixture(scope="module")
def sealed_once(filled_home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, sealing.Sealing]:
    """The same, sealed, and what was done."""
    path = Path(shutil.copy(filled_home, tmp_path_factory.mktemp("sealed") / "tradier.duckdb"))
    return path, seal(Warehouse(path))


@pytest.fixture(scope="module")
def sealed_home(sealed_once: tuple[Path, sealing.Sealing]) -> Path:
    return sealed_once[0]


@pytest.fixture
def sealed_bulk(sealed_home: Path, tmp_path: Path) -> Warehouse:
    shutil.copytree(sealed_home.parent, tmp_path, dirs_exist_ok=True)
    warehouse = Warehouse(tmp_path / "tradier.duckdb")
    assert warehouse.repoint()
    return warehouse


@cache
def lived(directory: Path, months: int) -> Home:
    """A home with three snapshots a month of an account from August on, made once."""
    home = Home(directory / str(months) / "home")
    with pytest.MonkeyPatch.context() as patched, scripted_account(home, patched) as scripted:
        three_a_month(scripted, AUGUST, months)
    return home


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lives")


@pytest.fixture
def account(
    request: pytest.FixtureRequest, home: Home, lives: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ScriptedAccount]:
    """An account with three snapshots in August, September and October each, or less months; it is 20 November."""
    shutil.copytree(lived(lives, getattr(request, "param", 3)).path, home.path)
    with scripted_account(home, monkeypatch) as scripted:
        monkeypatch.setattr(clock, "now", lambda: NOVEMBER)
        yield scripted


def differences(before: Path, after: Path, only: Collection[str] = TABLES) -> dict[str, tuple[int, int]]:
    """Rows that only one of two warehouses has, by table, view and macro: of those that differ.

    Args:
        only: the tables, views and macros that are looked at; empty: all.
    """
    found = {}
    with duckdb.connect(":memory:") as connection:
        files = f"ATTACH {literal(str(before))} AS a (READ_ONLY); ATTACH {literal(str(after))} AS b (READ_ONLY)"
        connection.execute(f"SET TimeZone = 'UTC'; {files}")
        for name, columns in connection.execute(EVERYTHING).fetchall():
            if not only or name in only:
                found[name] = only_in_each(connection, *(f"SELECT {columns} FROM {where}.{name}" for where in "ab"))
    for macro in macros.MACROS if not only else ():
        for at in asked(macro.name):
            rows = [Counter(map(repr, answered(path, f"FROM {macro.name}('{at}')"))) for path in (before, after)]
            found[f"{macro.name}('{at}')"] = (rows[0] - rows[1]).total(), (rows[1] - rows[0]).total()
    return {name: counts for name, counts in found.items() if counts != (0, 0)}


def answered(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with connect_readonly(path) as connection:
        return connection.execute(sql).fetchall()


def asked(macro: str) -> tuple[str, ...]:
    return ("SPY", "F") if macro == "position_history" else tuple(f"{day} 17:00:00+00" for day in DAYS)


def months(warehouse: Warehouse) -> list[str]:
    with connect_readonly(warehouse.path) as connection:
        if not sealed.is_sealed(connection):
            return []
        return sorted({f"{file.month:%Y-%m}" for file in sealed.sealed_files(connection) if not file.is_yearly})


def test_every_table_view_and_macro_shows_the_same_rows_before_and_after(
    filled_home: Path, sealed_once: tuple[Path, sealing.Sealing], sealed_bulk: Warehouse, tmp_path: Path
) -> None:
    _, done = sealed_once
    assert [f"{month:%Y-%m}" for month in done.months] == ["2025-01", "2025-02", "2025-03"] == months(sealed_bulk)
    assert done.warehouse_after < done.warehouse_before / 2
    assert done.files == sum(1 for _ in (tmp_path / "sealed").glob("*/*.parquet"))
    assert differences(filled_home, sealed_bulk.path, only=()) == {}
    assert seal(sealed_bulk).months == ()


def test_a_plain_reader_sees_rows_and_comments_from_any_directory(
    sealed_bulk: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    with duckdb.connect(sealed_bulk.path, read_only=True) as plain:
        count = plain.execute("SELECT count(*) FROM positions WHERE trade_date = '2025-02-03'").fetchall()
        assert count > [(0,)]
        query = (
            "SELECT column_name, comment FROM duckdb_columns() WHERE schema_name = 'main' AND table_name = 'positions'"
        )
        assert plain.execute(query).fetchall() == [(one.name, one.comment) for one in schema.POSITIONS.columns]
        found = plain.execute("SELECT comment FROM duckdb_views() WHERE view_name = 'positions'").fetchall()
        assert found == [(schema.POSITIONS.comment,)]
        files = plain.execute("SELECT count(*) FROM read_parquet($1)", [f"{tmp_path}/sealed/positions/*.parquet"])
        assert files.fetchall() > [(0,)]
    assert all(path.stat().st_mode & 0o222 == 0 for path in (tmp_path / "sealed").glob("*/*.parquet"))


def sealed_rows(connection: duckdb.DuckDBPyConnection, path: Path, table: schema.Table, days: Collection[date]) -> None:
    """A file with two rows of each day: of its first second in New York, and of its last."""
    keys = {"trade_date": "day", "as_of": "instant", "snapshot_id": "instant", "account_id": "'VA1'"}
    columns = ", ".join(f'{keys.get(one.name, "NULL")}::{one.type} AS "{one.name}"' for one in table.columns)
    moments = ", ".join(f"({literal(day)}, INTERVAL {second} SECOND)" for day in days for second in (0, 86_399))
    path.parent.mkdir(exist_ok=True)
    connection.execute(
        f"COPY (SELECT {columns} FROM (SELECT day, (day + span) AT TIME ZONE 'America/New_York' AS instant "
        f"FROM (VALUES {moments}) AS _(day, span))) TO {literal(str(path))} (FORMAT parquet)"
    )


@pytest.mark.parametrize(
    ("table", "files", "damaged"),
    [
        (
            schema.POSITIONS,
            {
                "positions/2023-12.parquet": (date(2023, 12, 1), date(2023, 12, 31)),
                "positions/2024-02.2.parquet": (date(2024, 2, 1), date(2024, 2, 29)),
                "open/positions-2024-03-17.parquet": (date(2024, 3, 1), date(2024, 3, 17)),
            },
            {
                "positions/2024-01.parquet": (date(2024, 1, 1), date(2024, 1, 31)),
                "positions/2024-05.parquet": (date(2024, 5, 1), date(2024, 5, 31)),
            },
        ),
        (
            schema.ACCOUNTS,
            {
                "accounts/2021.parquet": (date(2021, 1, 1), date(2021, 12, 31)),
                "accounts/2023.parquet": (date(2023, 1, 1), date(2023, 12, 31)),
            },
            {
                "accounts/2022.parquet": (date(2022, 1, 1), date(2022, 12, 31)),
                "accounts/2024.parquet": (date(2024, 1, 1), date(2024, 12, 31)),
            },
        ),
    ],
)
def test_of_sealed_files_those_are_opened_in_which_a_day_may_be(
    table: schema.Table,
    files: dict[str, tuple[date, date]],
    damaged: dict[str, tuple[date, date]],
    tmp_path: Path,
) -> None:
    listed = [
        sealed.SealedFile(table.name, first, name, 0, "", 0, table.column_names, NOVEMBER, last + timedelta(days=1))
        for name, (first, last) in sorted({**files, **damaged}.items(), key=lambda file: file[1])
    ]
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET TimeZone = 'Pacific/Kiritimati'")  # of a reader: 14 hours before UTC
        for name, span in files.items():
            sealed_rows(connection, tmp_path / name, table, span)
        for name in damaged:
            (tmp_path / name).write_bytes(b"nothing that could be opened")
        connection.execute("CREATE SCHEMA hot")
        connection.execute(schema.ddl(table, f"hot.{table.name}"))
        connection.execute(f"CREATE VIEW shown AS FROM query($view$ {sealed.both(table, listed, tmp_path)} $view$)")

        def found(condition: str) -> list[date]:
            query = f"SELECT DISTINCT trade_date FROM shown WHERE {condition} ORDER BY 1"
            return [day for (day,) in connection.execute(query).fetchall()]

        for first, last in files.values():
            for day in (first, last):
                assert found(f"trade_date = {literal(day)} AND account_id = 'VA1'") == [day]
            for condition in ("BETWEEN {} AND {}", ">= {} AND trade_date <= {}"):
                assert found(f"trade_date {condition.format(literal(first), literal(last))}") == [first, last]
        for name, (first, last) in damaged.items():
            with pytest.raises(duckdb.Error, match=name):
                found(f"trade_date BETWEEN {literal(first)} AND {literal(last)}")
            sealed_rows(connection, tmp_path / name, table, (first, last))
        for day in chain(*files.values(), *damaged.values()):
            moment = f"(({literal(day)} + INTERVAL 86399 SECOND) AT TIME ZONE 'America/New_York')"
            assert found(f"as_of BETWEEN {moment} - INTERVAL 23 HOUR AND {moment}") == [day]


def test_a_view_that_is_asked_about_a_day_opens_no_file_of_another_month(sealed_bulk: Warehouse) -> None:
    """But the first of all, which tells DuckDB the columns."""
    questions = [
        f"SELECT * EXCLUDE age_s FROM {view.name} {of_day}"
        if view.name == "trade_gate"
        else f"FROM {view.name} {of_day}"
        for view in views.VIEWS
        if {"account_id", "trade_date"} <= {column.name for column in view.columns}
        for of_day in (f"WHERE account_id = 'VA12345678' AND trade_date = {literal(DAYS[-1])}",)
    ]

    def answers() -> list[list[str]]:
        return [sorted(map(repr, answered(sealed_bulk.path, question))) for question in questions]

    before = answers()
    assert sum(map(bool, before)) > 20
    for path in (sealed_bulk.path.parent / "sealed").glob(f"*/{DAYS[1]:%Y-%m}.parquet"):
        path.write_bytes(b"nothing that could be opened")
    assert answers() == before
    with pytest.raises(WarehouseError, match=r"sealed month cannot be read: .*2025-02.*rebuild"):
        answered(sealed_bulk.path, f"FROM positions WHERE trade_date = {literal(DAYS[1])}")


@pytest.mark.usefixtures("few_tables")
def test_a_reader_that_holds_the_file_open_goes_on_with_what_it_saw(bulk: Warehouse) -> None:
    sums = "SELECT count(*), sum(quantity) FROM positions"
    with duckdb.connect(bulk.path, read_only=True) as notebook:
        seen = notebook.execute(sums).fetchall()
        seal(bulk)
        assert notebook.execute(sums).fetchall() == seen
    with connect_readonly(bulk.path) as connection:
        assert connection.execute(sums).fetchall() == seen
        with bulk.staged() as staged:
            staged.connection.execute("DELETE FROM missed_snapshots")
        undo(bulk)
        seal(bulk)
        assert connection.execute(sums).fetchall() == seen


def test_weeks_of_an_open_month_are_one_file_beside_the_closed_ones_until_it_is_closed(
    bulk: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = (schema.POSITIONS, schema.TRADIER_SNAPSHOTS)
    monkeypatch.setattr(sealed, "TABLES", both)
    before = Path(shutil.copy(bulk.path, tmp_path / "before.duckdb"))
    for day, days_to, files in (
        (date(2025, 2, 6), date(2025, 1, 26), ["open/positions-2025-01-26.parquet"]),
        (date(2025, 2, 8), None, ["positions/2025-01.parquet"]),
        (date(2025, 2, 14), None, ["positions/2025-01.parquet"]),  # the week of the 3rd ended on the 9th
        (date(2025, 2, 17), date(2025, 2, 9), ["open/positions-2025-02-09.parquet", "positions/2025-01.parquet"]),
        (date(2025, 3, 8), None, ["positions/2025-01.parquet", "positions/2025-02.parquet"]),
    ):
        monkeypatch.setattr(clock, "now", lambda day=day: datetime(day.year, day.month, day.day, 12, tzinfo=UTC))
        assert seal(bulk).days_to == days_to
        with connect_readonly(bulk.path) as connection:
            assert sorted(file.path for file in sealed.sealed_files(connection, schema.POSITIONS)) == files
            query = "SELECT count(*) FROM hot.positions WHERE trade_date < (SELECT max(until) FROM hot.sealed_files)"
            assert connection.execute(query).fetchone() == (0,)
        assert differences(before, bulk.path, [table.name for table in both]) == {}
    monkeypatch.setattr(clock, "now", lambda: NOVEMBER)
    seal(bulk, date(2025, 2, 1))
    assert months(bulk) == ["2025-01", "2025-02"]


def test_what_an_account_holds_now_is_never_sealed(sealed_home: Path) -> None:
    with connect_readonly(sealed_home) as connection:
        hot = connection.execute("SELECT count(DISTINCT snapshot_id), max(as_of) FROM hot.positions").fetchall()
        newest = connection.execute("SELECT count(*), max(as_of) FROM newest_snapshots").fetchall()
        kept = connection.execute("SELECT DISTINCT trade_date FROM hot.tradier_snapshots ORDER BY 1").fetchall()
    assert hot == newest
    assert kept == [(DAYS[-1],)]  # the day before it has none; what the next snapshot is set beside


def test_headers_and_balances_are_a_file_a_year_which_is_closed_two_months_after_its_end(
    bulk: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealed, "TABLES", sealed.YEARLY)
    for now, years in (
        (datetime(2025, 12, 31, 12, tzinfo=UTC), ()),
        (datetime(2026, 2, 28, 12, tzinfo=UTC), ()),
        (datetime(2026, 3, 2, 12, tzinfo=UTC), (date(2025, 1, 1),)),
    ):
        monkeypatch.setattr(clock, "now", lambda now=now: now)
        assert seal(bulk).years == years
    root = bulk.path.parent / "sealed"
    assert {path.parent.name for path in root.glob("*/*.parquet")} == {table.name for table in sealed.YEARLY}


def test_days_that_are_made_anew_are_made_from_sealed_months_too(
    sealed_bulk: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bulk = sealed_bulk
    before = Path(shutil.copy(bulk.path, tmp_path / "before.duckdb"))
    monkeypatch.setattr(derived, "_DAY_FINGERPRINT", derived._DAY_FINGERPRINT.replace(derived._DAYS_VERSION, "next"))
    monkeypatch.setattr(derived, "_DAYS_VERSION", "next")
    with bulk.staged():
        pass
    kept = [day_end.table.name for day_end in DAY_ENDS]
    assert differences(before, bulk.path, kept) == {}
    with connect_readonly(bulk.path) as connection:
        assert connection.execute("SELECT count(DISTINCT trade_date) > 1 FROM day_end_positions").fetchone() == (True,)
    assert differences(before, bulk.path, ["snapshot_days"])  # their fingerprints


def test_what_is_held_now_is_read_without_the_files(bulk: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "TABLES", (*FEW, schema.OPTION_SPREADS, schema.OPTION_SPREAD_LEGS))
    for months in (1, 2):  # a warehouse that is sealed already goes another way
        assert len(seal(bulk, date(2025, months, 1)).months) == 1
        with connect_readonly(bulk.path) as connection:
            before = connection.execute("FROM portfolio_positions ORDER BY ALL").fetchall()
        (bulk.path.parent / "sealed").rename(bulk.path.parent / "away")
        with connect_readonly(bulk.path) as connection:
            assert connection.execute("FROM portfolio_positions ORDER BY ALL").fetchall() == before != []
            connection.execute("FROM portfolio_spreads").fetchall()
        (bulk.path.parent / "away").rename(bulk.path.parent / "sealed")


def test_undo_brings_all_back(sealed_bulk: Warehouse, filled_home: Path, tmp_path: Path) -> None:
    assert undo(sealed_bulk) == 3
    assert months(sealed_bulk) == []
    shutil.move(tmp_path / "sealed", tmp_path / "away")
    assert differences(filled_home, sealed_bulk.path) == {}
    assert undo(sealed_bulk) == 0


def test_a_sealed_warehouse_of_the_version_before_is_brought_over(sealed_bulk: Warehouse, tmp_path: Path) -> None:
    bulk = sealed_bulk
    before = Path(shutil.copy(bulk.path, tmp_path / "before.duckdb"))
    bulk.path.chmod(0o644)
    with duckdb.connect(str(bulk.path)) as connection:
        connection.execute(f"CREATE OR REPLACE MACRO schema_version() AS {schema.SCHEMA_VERSION - 1}")
        connection.execute("DROP VIEW attributed_lots; DROP TABLE day_end_trades")
    with bulk.staged() as staged:
        assert staged.completed
    assert differences(before, bulk.path) == {}


def test_the_figures_of_sealed_spreads_and_the_short_options_that_earlier_versions_did_not_store_are_found(
    sealed_bulk: Warehouse, tmp_path: Path
) -> None:
    bulk = sealed_bulk
    before = Path(shutil.copy(bulk.path, tmp_path / "before.duckdb"))
    shutil.copytree(tmp_path / "sealed", tmp_path / "then" / "sealed")
    figures, views = [column.name for column in schema.SPREAD_FIGURES], ("spread_book", "assignment_risk")
    bulk.path.chmod(0o644)
    with duckdb.connect(str(bulk.path)) as connection:
        connection.execute(f"CREATE OR REPLACE MACRO schema_version() AS {schema.SCHEMA_VERSION - 1}")
        for file in sealed.sealed_files(connection, schema.OPTION_SPREADS):
            path = tmp_path / "sealed" / file.path
            rows = f"SELECT * EXCLUDE ({', '.join(figures)}) FROM '{path}'"
            connection.execute(f"COPY ({rows}) TO '{path}.older' (FORMAT parquet)")
            Path(f"{path}.older").replace(path)
            kept = [name for name in file.columns if name not in figures]
            connection.execute(
                "UPDATE hot.sealed_files SET bytes = ?, columns = ? WHERE table_name = ? AND month = ?",
                [path.stat().st_size, kept, file.table_name, file.month],
            )
        for name in figures:
            connection.execute(f"ALTER TABLE hot.option_spreads DROP COLUMN {name}")
        connection.execute("CREATE OR REPLACE VIEW option_spreads AS FROM hot.option_spreads")
        connection.execute("DROP VIEW short_options; DROP TABLE hot.short_options")
        connection.execute("DELETE FROM hot.sealed_files WHERE table_name = 'short_options'")
    with bulk.staged() as staged:
        assert staged.completed
    shutil.rmtree(tmp_path / "sealed" / "option_spreads")  # what was read from the files lies in the warehouse now
    with connect_readonly(bulk.path) as connection:
        after = [connection.execute(f"FROM {view} ORDER BY ALL").fetchall() for view in views]
    shutil.rmtree(tmp_path / "sealed")
    shutil.move(tmp_path / "then" / "sealed", tmp_path / "sealed")
    with connect_readonly(before) as connection:
        assert [connection.execute(f"FROM {view} ORDER BY ALL").fetchall() for view in views] == after
    assert any(row[-1] is not None for row in after[0])
    assert after[1]


def test_a_file_that_is_not_what_the_warehouse_has_is_never_shown(
    bulk: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = bulk.path.read_bytes()
    monkeypatch.setattr(sealing, "_content", lambda *_: (1, "2"))
    with pytest.raises(SealError, match="is not what the warehouse has of positions"):
        seal(bulk)
    assert bulk.path.read_bytes() == before
    assert list((tmp_path / "sealed").glob("*/*")) == []


@pytest.mark.usefixtures("few_tables")
def test_rows_that_change_while_files_are_written_stay_open(bulk: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    publish = sealing._publish

    def late(warehouse: Warehouse, root: Path, table: schema.Table, made: list[sealed.SealedFile]) -> object:
        if table is schema.QUOTES:
            with bulk.staged() as staged:
                staged.connection.execute("DELETE FROM quotes WHERE trade_date = '2025-02-03' AND symbol = 'F'")
        return publish(warehouse, root, table, made)

    monkeypatch.setattr(sealing, "_publish", late)
    seal(bulk)
    with connect_readonly(bulk.path) as connection:
        files = sealed.sealed_files(connection, schema.QUOTES)
    assert [file.month.month for file in files] == [1, 3]
    monkeypatch.setattr(sealing, "_publish", publish)
    done = seal(bulk)
    assert ([month.month for month in done.months], done.files) == ([2], 1)
    with connect_readonly(bulk.path) as connection:
        query = "SELECT count(*) FROM quotes WHERE trade_date = '2025-02-03' AND symbol = 'F'"
        assert connection.execute(query).fetchall() == [(0,)]


@pytest.mark.soak
@pytest.mark.usefixtures("few_tables")
def test_a_snapshot_that_is_due_while_a_year_is_sealed_for_the_first_time_is_stored(
    account: ScriptedAccount, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written, due = sealing._write, count(1), iter(range(100))

    def meanwhile(*arguments: Any) -> Path:
        path = write(*arguments)
        if next(written) % 3:
            return path
        order = filled(110, CALL, "buy_to_open", 1, 2, NOVEMBER - timedelta(hours=1))
        at = NOVEMBER + timedelta(minutes=next(due))
        assert account.shows(at, (CALL, 4, 800), cash=4400, orders=[order]) == "good"
        return path

    monkeypatch.setattr(sealing, "_write", meanwhile)
    done = seal(home.warehouse)
    assert len(done.months) == 3
    taken = next(due)
    assert taken >= done.files // 3 > 1  # what was newest until then is sealed the next time
    found = account.rows("SELECT count(*), count(DISTINCT snapshot_id) FROM positions WHERE trade_date = '2026-11-20'")
    assert found == [(taken, taken)]
    assert account.rows("SELECT count(*) FROM tradier_snapshots") == [(9 + taken,)]


@pytest.mark.soak  # years: above; brought back: below
def test_two_years_are_sealed_and_brought_back_as_far_as_an_old_snapshot_needs_them(
    account: ScriptedAccount, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = datetime(2028, 3, 10, 15, 0, tzinfo=UTC)
    monkeypatch.setattr(clock, "now", lambda: at)
    assert account.shows(at, (CALL, 3, 600), cash=4600) == "good"
    before = Path(shutil.copy(home.warehouse.path, tmp_path / "before.duckdb"))
    failing = blocking("--all")
    assert [year.year for year in seal(home.warehouse).years] == [2026]
    assert differences(before, home.warehouse.path, only=()) == {}
    assert blocking("--all") == failing

    committed = {"tradier_snapshots", "newest_snapshots", "snapshot_days"}  # say when they were written
    taken = sorted(home.zone.snapshots(), key=lambda landed: landed.snapshot_id)
    for landed in (taken[-1], taken[4], taken[0]):  # the first is set beside one of the sealed year
        store_snapshot(home.warehouse, landed)
        assert differences(before, home.warehouse.path).keys() <= committed
        assert not list((home.path / "sealed").glob("*/.*"))
    with connect_readonly(home.warehouse.path) as connection:
        assert sealed.sealed_files(connection, schema.TRADIER_SNAPSHOTS) == []
    seal(home.warehouse)
    assert differences(before, home.warehouse.path).keys() <= committed
    assert account.shows(at + timedelta(minutes=1), (CALL, 3, 600), cash=4600) == "good"
    monkeypatch.setattr(clock, "now", lambda: at + timedelta(minutes=2))
    assert set(blocking("--all")) == set(failing)  # the option that it holds still is one more that expired


def test_a_moved_home_is_found_again_by_the_next_publish_or_by_repoint(
    sealed_bulk: Warehouse, filled_home: Path, tmp_path: Path
) -> None:
    bulk = sealed_bulk
    for number, name in enumerate(("it's [moved] * $view$", "moved again")):
        (tmp_path / name).mkdir()
        for what in ("tradier.duckdb", "sealed"):
            shutil.move(bulk.path.parent / what, tmp_path / name / what)
        bulk = Warehouse(tmp_path / name / "tradier.duckdb")
        if number:
            assert bulk.repoint()
            assert not bulk.repoint()
        else:
            with bulk.staged():
                pass
        assert differences(filled_home, bulk.path) == {}


@pytest.mark.usefixtures("few_tables")
def test_files_that_nothing_refers_to_go_after_a_day(bulk: Warehouse, tmp_path: Path) -> None:
    directory = tmp_path / "sealed" / "positions"
    directory.mkdir(parents=True)
    for name in ("2024-01.parquet", ".2025-01.tmp", "2025-01.parquet"):
        (directory / name).write_bytes(b"PAR1")
    seal(bulk)
    assert sorted(path.name for path in directory.iterdir()) == [
        *("2024-01.parquet", "2025-01.2.parquet", "2025-01.parquet", "2025-02.parquet", "2025-03.parquet")
    ]
    for name in ("2024-01.parquet", "2025-01.parquet"):
        os.utime(directory / name, (1, 1))
    replaced = tmp_path / "sealed" / "open" / "positions-2024-01-14.parquet"
    replaced.parent.mkdir()
    replaced.write_bytes(b"PAR1")
    for days, is_there in ((6, True), (9, False)):  # every week has another one
        os.utime(replaced, (time.time() - days * 86_400,) * 2)
        seal(bulk)
        assert replaced.exists() == is_there
    assert sorted(path.name for path in directory.iterdir()) == [
        *("2025-01.2.parquet", "2025-02.parquet", "2025-03.parquet")
    ]


DIES = """
import os, sys
from pathlib import Path
from tradier_pipeline.publish import seal as sealing
from tradier_pipeline.warehouse import staging
from tradier_pipeline.warehouse import sealed
from tradier_pipeline.warehouse.staging import Warehouse, WarehouseError
sealed.TABLES = tuple(table for table in sealed.TABLES if table.name in sys.argv[3:])
where = {"_publish_file": Warehouse, "_compact": staging}.get(sys.argv[1], sealing)
setattr(where, sys.argv[1].removesuffix("_file"), lambda *_: os._exit(9))
sealing.seal(Warehouse(Path(sys.argv[2])))
"""


def dies(step: str, bulk: Warehouse, tables: Sequence[schema.Table]) -> None:
    """A process that seals these tables dies at a step; the next one seals them, and gives back what they took."""
    before = Path(shutil.copy(bulk.path, bulk.path.with_name("before.duckdb")))
    names = [table.name for table in tables]
    assert subprocess.run([sys.executable, "-c", DIES, step, bulk.path, *names], check=False).returncode == 9
    assert differences(before, bulk.path) == {}
    seal(bulk)
    assert len(months(bulk)) == 3
    assert bulk.path.stat().st_size < before.stat().st_size * 0.6
    assert differences(before, bulk.path) == {}
    directory = bulk.path.parent
    assert [path for path in directory.rglob(".*") if path.suffix not in (".lock", "")] == []
    assert all("." not in path.stem for path in (directory / "sealed").glob("*/*.parquet"))


# while files are written, between file and warehouse, and when the warehouse has them
@sampled(
    "step", ["_content", "_name", "_publish", "_is_same", "_move", "_count", "_publish_file", "_let_go"], kept=(6,)
)
@pytest.mark.usefixtures("few_tables")
def test_a_process_that_dies_at_any_step_costs_nothing(step: str, bulk: Warehouse) -> None:
    dies(step, bulk, FEW)


@pytest.mark.soak
def test_a_process_that_dies_when_it_gives_back_the_room_has_the_next_one_give_it_back(bulk: Warehouse) -> None:
    dies("_compact", bulk, sealed.TABLES)  # all of them: nothing is left to seal, and most of the file is free


# the whole way: landed, published, sealed, and on ---------------------------------------------------------------------


def blocking(*arguments: str) -> list[str]:
    result = run("verify", *arguments, "--json")
    documents = json.loads(result.stdout)["snapshots"]
    return [one["check"] for document in documents for one in document["checks"] if not one["passed"]]


@sampled("account", [1, 3], indirect=["account"])
def test_snapshots_go_on_are_proven_and_are_rebuilt(account: ScriptedAccount, home: Home, tmp_path: Path) -> None:
    failing = blocking("--all")
    before = Path(shutil.copy(home.warehouse.path, tmp_path / "before.duckdb"))
    held = account.mirror[CALL] + 1
    assert re.match("sealed (1 month|3 months) to 2026-(08|10)(, headers to 2026-08-31)?: ", run("seal").stdout)
    assert differences(before, home.warehouse.path) == {}
    assert blocking("--all") == failing
    compact(home.zone, date(2026, 11, 1))
    assert blocking("--all") == failing

    order = filled(110, CALL, "buy_to_open", 1, 2, NOVEMBER - timedelta(hours=1))
    assert account.shows(NOVEMBER, (CALL, held, 200 * held), cash=5200 - 200 * held, orders=[order]) == "good"
    assert account.mirror == {CALL: held}
    (change,) = account.rows(f"SELECT change, state FROM conservation WHERE item = '{CALL}' AND as_of > '2026-11-01'")
    assert change == (1, "explained")

    (home.path.parent / "control").mkdir()
    control = Warehouse(home.path.parent / "control" / "tradier.duckdb")
    for landed in home.zone.snapshots():
        store_snapshot(control, landed)
    # say when they were written, and how long the chains were then
    committed = {"tradier_snapshots", "newest_snapshots", "snapshot_days", "chain_heads"}
    assert differences(control.path, home.warehouse.path).keys() <= committed
    assert run("rebuild").exit_code == 0
    assert months(home.warehouse) == []
    assert differences(control.path, home.warehouse.path).keys() <= committed
    run("seal")
    assert differences(control.path, home.warehouse.path).keys() <= committed


@pytest.mark.usefixtures("few_tables")
def test_files_that_are_lost_cost_no_snapshot_are_named_and_are_made_anew(
    account: ScriptedAccount, home: Home, tmp_path: Path
) -> None:
    before = Path(shutil.copy(home.warehouse.path, tmp_path / "before.duckdb"))
    run("seal")
    shutil.rmtree(home.path / "sealed" / "positions")
    shutil.rmtree(home.path / "sealed" / "orders")
    reading = run("query", "SELECT count(*) FROM positions")
    assert reading.exit_code == 1
    assert "sealed/positions" in reading.stderr
    assert reading.stderr.rstrip().endswith("`tradier-pipeline rebuild` makes them anew.")
    assert len(reading.stderr.splitlines()) == 1
    named = {Path(one["path"]).parent.name for one in json.loads(run("status", "--json").stdout)["damaged"]}
    assert named == {"positions", "orders"}
    order = filled(102, CALL, "buy_to_open", 1, 2, NOVEMBER - timedelta(days=21))  # of a sealed month, listed still
    assert account.shows(NOVEMBER, (CALL, 3, 600), cash=4600, orders=[order]) == "good"
    assert account.mirror == {CALL: 3}
    assert run("rebuild").exit_code == 0
    with connect_readonly(home.warehouse.path) as connection:
        (rebuilt,) = connection.execute("SELECT count(*) FROM positions WHERE as_of < '2026-11-01'").fetchone() or (0,)
    with connect_readonly(before) as connection:
        assert connection.execute("SELECT count(*) FROM positions").fetchone() == (rebuilt,)


@pytest.mark.usefixtures("few_tables")
def test_a_snapshot_of_a_sealed_month_that_is_stored_again_is_replaced(
    account: ScriptedAccount, home: Home, tmp_path: Path
) -> None:
    before = Path(shutil.copy(home.warehouse.path, tmp_path / "before.duckdb"))
    seal(home.warehouse)
    taken = sorted(home.zone.snapshots(), key=lambda landed: landed.snapshot_id)
    for landed in (taken[6], taken[3], taken[0]):  # the first of each month: what was before it is sealed
        store_snapshot(home.warehouse, landed)
    assert differences(before, home.warehouse.path).keys() <= {"tradier_snapshots", "newest_snapshots", "snapshot_days"}
    assert months(home.warehouse) == []
    seal(home.warehouse)
    assert len(months(home.warehouse)) == 3
    assert differences(before, home.warehouse.path).keys() <= {"tradier_snapshots", "newest_snapshots", "snapshot_days"}


@pytest.mark.usefixtures("few_tables")
def test_what_is_sealed_of_an_open_month_is_brought_back_too(
    account: ScriptedAccount, home: Home, tmp_path: Path
) -> None:
    for at in (NOVEMBER - timedelta(days=18), NOVEMBER):
        assert account.shows(at, (CALL, 3, 600), cash=4600) == "good"
    before = Path(shutil.copy(home.warehouse.path, tmp_path / "before.duckdb"))
    assert seal(home.warehouse).days_to == date(2026, 11, 8)
    assert differences(before, home.warehouse.path) == {}
    (again,) = (one for one in home.zone.snapshots() if one.snapshot_id.trade_date == date(2026, 11, 2))
    store_snapshot(home.warehouse, again)
    assert "2026-11" not in months(home.warehouse)
    assert differences(before, home.warehouse.path).keys() <= {"tradier_snapshots", "newest_snapshots", "snapshot_days"}


@pytest.mark.usefixtures("few_tables")
def test_what_is_sealed_is_not_missed_in_a_home_of_an_earlier_version_or_one_that_was_restored(
    account: ScriptedAccount, home: Home
) -> None:
    """All that was ever landed is looked at then: for the earlier version, and because it has all been written now."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(clock, "now", lambda: datetime(2027, 3, 2, 12, tzinfo=UTC))  # its year is closed
        seal(home.warehouse)
    with connect_readonly(home.warehouse.path) as connection:
        assert connection.execute("SELECT min(trade_date) > '2026-09-01' FROM hot.tradier_snapshots").fetchone() == (
            True,
        )
    assert account.shows(NOVEMBER, (CALL, 3, 600), cash=4600) == "good"
    assert account.rows("FROM missed_snapshots") == []
    home.warehouse.path.chmod(0o644)
    with duckdb.connect(str(home.warehouse.path)) as connection:
        connection.execute(f"CREATE OR REPLACE MACRO schema_version() AS {schema.SCHEMA_VERSION - 1}")
    assert account.shows(NOVEMBER + timedelta(minutes=1), (CALL, 3, 600), cash=4600) == "good"
    assert account.rows("FROM missed_snapshots") == []


@pytest.mark.usefixtures("few_tables")
def test_commands_read_sealed_months_from_another_directory(
    account: ScriptedAccount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for = (
        ("balances", "--format", "csv"),
        ("query", "SELECT * FROM positions ORDER BY ALL"),
        ("orders", "--format", "csv"),
        ("tables",),
        ("describe", "positions"),
    )
    before = [run(*arguments).stdout for arguments in asked_for[:3]]
    run("seal")
    monkeypatch.chdir(tmp_path)
    assert [run(*arguments).stdout for arguments in asked_for[:3]] == before
    assert "positions" in run("tables").stdout
    assert "sealed_files" not in run("tables").stdout
    assert run("describe", "positions").stdout.count("row_no") == 1
    assert run("report", "--day", "2026-08-03").exit_code == 0
