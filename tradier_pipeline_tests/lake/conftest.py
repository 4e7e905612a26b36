"""A lake of each test: a database of one PostgreSQL, and a directory of its own."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tradier_pipeline.core.settings import LAKE_PREFIX, Settings
from tradier_pipeline.lake import connection as connecting
from tradier_pipeline.lake.connection import ALIAS, EXTENSIONS, Lake, lake_of, open_lake, packaged
from tradier_pipeline.lake.ship import Shipper
from tradier_pipeline.lake.tables import create
from tradier_pipeline.warehouse import derived, schema
from tradier_pipeline_tests.conftest import Home
from tradier_pipeline_tests.support.connections import Pool, Pooled
from tradier_pipeline_tests.support.postgres import Postgres, serving
from tradier_pipeline_tests.support.year import fill, sessions

NUMBERS = count(1)
LOADED = re.compile(
    r"LOAD '.*'|SET TimeZone = 'UTC'; SET enable_progress_bar = false|SET ducklake_max_retry_count = 0"
    r"|CREATE OR REPLACE TEMPORARY SECRET lake_catalog .*"
)
ATTACHED = "SELECT database_name FROM duckdb_databases() WHERE NOT internal AND database_name <> 'memory'"


class LakePool(Pool):
    """Instances that have the extensions loaded: to verify and load them takes longer than most of what is asked."""

    def _taken(self, instance: duckdb.DuckDBPyConnection) -> Pooled:
        return LakePooled(instance, self)


class LakePooled(Pooled):
    """A connection of that pool. What it takes the lock by is a cursor, which is closed before it."""

    def cursor(self) -> duckdb.DuckDBPyConnection:
        return self._connection.cursor()

    def _look_at(self, query: Any) -> None:
        if not LOADED.fullmatch(query):
            super()._look_at(query)

    def _is_emptied(self) -> bool:
        """The lake has its catalog attached, which leaves with it."""
        try:
            while attached := self._instance.execute(f"{ATTACHED} ORDER BY database_name LIKE '\\_\\_%'").fetchone():
                self._instance.execute(f'DETACH "{attached[0]}"')
        except duckdb.Error:
            return False
        return super()._is_emptied()


@pytest.fixture(scope="session", autouse=True)
def _quick_lake(patched: pytest.MonkeyPatch) -> None:
    patched.setattr(connecting, "duckdb", LakePool(writes=True))


@dataclass(frozen=True)
class OfTest:
    """A lake, and how the settings name it."""

    server: Postgres
    database: str
    data: Path | str
    s3_file: Path | None = None

    @property
    def settings(self) -> dict[str, str]:
        found = {"TRADIER_LAKE": f"{LAKE_PREFIX}{self.server.url(self.database)}", "TRADIER_LAKE_DATA": f"{self.data}/"}
        return found | ({"TRADIER_LAKE_S3_FILE": str(self.s3_file)} if self.s3_file else {})

    @property
    def lake(self) -> Lake:
        values = {name.removeprefix("TRADIER_").lower(): value for name, value in self.settings.items()}
        return lake_of(Settings(**values))  # type: ignore[arg-type]

    def shipper(self, home: Home) -> Shipper:
        return Shipper(home.path, home.warehouse.path, self.lake)

    def rows(self, sql: str) -> list[tuple]:
        with open_lake(self.lake, read_only=True) as connection:
            connection.execute("USE lake")
            return connection.execute(sql).fetchall()


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    missing = [name for name in EXTENSIONS if packaged(name) is None]
    if missing:
        names = ", ".join(missing)
        pytest.skip(f"DuckDB {duckdb.__version__} has no extension {names}: pip install 'tradier-pipeline[lake]'")
    with serving() as running:
        yield running


@pytest.fixture
def new_lake(server: Postgres, tmp_path: Path) -> OfTest:
    """A database with nothing in it."""
    database = f"lake_{next(NUMBERS)}"
    server.create(database)
    return OfTest(server, database, tmp_path / "lake")


@pytest.fixture(scope="session")
def made(server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The database of a lake that has its tables and nothing in them."""
    server.create("made")
    lake = OfTest(server, "made", tmp_path_factory.mktemp("made")).lake
    with open_lake(lake) as connection:
        connection.execute(f"USE {ALIAS}; BEGIN")
        create(connection, ALIAS, "made")
        connection.execute("COMMIT")
    return "made"


def copied(server: Postgres, made: str, data: Path) -> OfTest:
    """A lake as one is whose database is given, its files in another directory: quicker than to make it."""
    found = OfTest(server, f"lake_{next(NUMBERS)}", data)
    server._run("psql", server.url(), "-qc", f"CREATE DATABASE {found.database} TEMPLATE {made}")
    moved = f"UPDATE ducklake_metadata SET value = '{found.data}/' WHERE key = 'data_path'"
    server._run("psql", server.url(found.database), "-qc", moved)
    return found


@pytest.fixture
def lake(server: Postgres, made: str, tmp_path: Path) -> OfTest:
    """A lake with nothing in its tables."""
    return copied(server, made, tmp_path / "lake")


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The morning of an account, made in bulk."""
    home = Home(tmp_path_factory.mktemp("filled"))
    (day,) = sessions(1)
    with home.warehouse.staged() as staged:
        fill(staged.connection, [replace(day, close=day.open + timedelta(minutes=10))])
        for table in schema.TABLES:
            staged.connection.execute(f"DELETE FROM {table.name} WHERE strftime(as_of, '%H:%M') > '14:40'")
        derived.refresh(staged.connection)
    return home


@pytest.fixture
def bulk(filled: Home, tmp_path: Path) -> Home:
    """A copy of that."""
    return Home(Path(shutil.copytree(filled.path, tmp_path / "bulk")))


@pytest.fixture(scope="session")
def shipped_once(server: Postgres, made: str, filled: Home, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of the files of a lake, and of a home like that which is shipped there; named as its database."""
    directory = tmp_path_factory.mktemp("shipped")
    lake = copied(server, made, directory / "lake")
    home = Home(Path(shutil.copytree(filled.path, directory / "bulk")))
    shipper = lake.shipper(home)
    shipper.ship()
    shipper.close()
    return directory.rename(directory.with_name(lake.database))


@pytest.fixture
def begun(server: Postgres, shipped_once: Path, tmp_path: Path) -> OfTest:
    """A lake that has what is published in `shipped_bulk`."""
    shutil.copytree(shipped_once, tmp_path, dirs_exist_ok=True)
    return copied(server, shipped_once.name, tmp_path / "lake")


@pytest.fixture
def shipped_bulk(begun: OfTest) -> Home:
    """The home that is shipped."""
    return Home(Path(begun.data).with_name("bulk"))
