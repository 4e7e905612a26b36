"""A clock that the test sets, and an instance that the schedules find."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from tradier_pipeline import clock
from tradier_pipeline.instance import open_instance
from tradier_pipeline_tests.conftest import Home

OPEN = datetime(2025, 11, 3, 14, 30, tzinfo=UTC)  # of the first session of winter time


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


class Clock:
    """The machine's clock, set by the test."""

    def __init__(self, now: datetime) -> None:
        self.time = now

    def now(self) -> datetime:
        return self.time


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Clock:
    setting = Clock(OPEN)
    monkeypatch.setattr(clock, "now", setting.now)
    return setting
