"""A lake of each test: a database of one PostgreSQL, and a directory of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import duckdb
import pytest

from tradier_pipeline.core.settings import LAKE_PREFIX, Settings
from tradier_pipeline.lake.connection import ALIAS, EXTENSIONS, Lake, lake_of, open_lake, packaged
from tradier_pipeline.lake.ship import Shipper
from tradier_pipeline.lake.tables import create
from tradier_pipeline_tests.conftest import Home
from tradier_pipeline_tests.support.postgres import Postgres, serving

NUMBERS = count(1)


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


@pytest.fixture
def lake(server: Postgres, made: str, tmp_path: Path) -> OfTest:
    """A lake with nothing in its tables: a copy, which is quicker than to make them."""
    found = OfTest(server, f"lake_{next(NUMBERS)}", tmp_path / "lake")
    server._run("psql", server.url(), "-qc", f"CREATE DATABASE {found.database} TEMPLATE {made}")
    moved = f"UPDATE ducklake_metadata SET value = '{found.data}/' WHERE key = 'data_path'"
    server._run("psql", server.url(found.database), "-qc", moved)
    return found
