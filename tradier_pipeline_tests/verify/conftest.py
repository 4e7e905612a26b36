"""A warehouse that is emptied after each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.staging import StagedWarehouse
from tradier_pipeline_tests.support.bodies import warehouse_in_memory
from tradier_pipeline_tests.verify.incidents import Bench, Sound


@pytest.fixture(scope="module")
def staged() -> Iterator[StagedWarehouse]:
    with warehouse_in_memory() as warehouse:
        yield warehouse


@pytest.fixture(scope="module")
def stored_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sound]:
    with warehouse_in_memory() as warehouse:
        yield Sound(tmp_path_factory.mktemp("sound"), warehouse)


@pytest.fixture
def bench(tmp_path: Path, staged: StagedWarehouse, stored_once: Sound) -> Iterator[Bench]:
    used = Bench(tmp_path, staged, stored_once)
    yield used
    used.restore()
    if used.staged is not staged:
        return
    for table in schema.ALL_TABLES:
        staged.connection.execute(f"DELETE FROM {table.name}")
