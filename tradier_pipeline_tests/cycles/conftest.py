"""A real Dagster instance for each test, copied from an empty one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from tradier_pipeline.instance import open_instance
from tradier_pipeline_tests.conftest import Home


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Dagster home in which nothing has happened yet: creating one takes longer than most of these tests."""
    path = tmp_path_factory.mktemp("empty") / "dagster"
    open_instance(path).dispose()
    return path


@pytest.fixture
def instance(home: Home, empty: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    dagster_home = home.path / "dagster"
    shutil.copytree(empty, dagster_home)
    monkeypatch.setenv("DAGSTER_HOME", str(dagster_home))  # a schedule opens the instance by its settings
    with open_instance(dagster_home) as opened:
        yield opened
