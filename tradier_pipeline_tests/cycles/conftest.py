"""What schedules and sensors are called with: a real instance, the machine's clock, Dagster's own daemon machinery."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import create_run_for_test, create_test_daemon_workspace_context
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget

from tradier_pipeline import clock, report
from tradier_pipeline.instance import open_instance
from tradier_pipeline_tests.conftest import Home

OPEN = datetime(2025, 11, 3, 14, 30, tzinfo=UTC)  # of the first session of winter time
CLOSE = datetime(2025, 11, 3, 21, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def instance(home: Home, empty_dagster_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    dagster_home = home.path / "dagster"
    shutil.copytree(empty_dagster_home, dagster_home)
    monkeypatch.setenv("DAGSTER_HOME", str(dagster_home))  # a schedule opens the instance by its settings
    with open_instance(dagster_home) as opened:
        yield opened


@pytest.fixture
def without_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """No job of a summary writes its reports; test_daily_report has them written."""
    monkeypatch.setattr(report, "write_reports", lambda *_, **__: [])


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


def unfinished(instance: dg.DagsterInstance, status: dg.DagsterRunStatus, key: str, process: str = "") -> None:
    tags = {"dagster/partition": key} | ({".dagster/tradier_process": process} if process else {})
    create_run_for_test(instance, job_name="snapshot", status=status, tags=tags)


@contextmanager
def workspace_of(instance: dg.DagsterInstance) -> Iterator[WorkspaceProcessContext]:
    """The project's code location as the daemon sees it."""
    target = LoadableTargetOrigin(executable_path=sys.executable, module_name="tradier_pipeline.definitions")
    origin = InProcessCodeLocationOrigin(target, location_name="tradier_pipeline")
    with create_test_daemon_workspace_context(InProcessWorkspaceLoadTarget(origin), instance) as context:
        yield context
