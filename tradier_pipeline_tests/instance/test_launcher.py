"""Runs in processes of their own: launched as the daemon does it, ended from outside, missed when they died."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.launcher.base import WorkerStatus
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._daemon.sensor import execute_sensor_iteration

from tradier_pipeline.core.processes import is_gone, name_of, pid_of
from tradier_pipeline.core.settings import DEMO_ACCOUNT
from tradier_pipeline.instance import open_instance
from tradier_pipeline.instance.launcher import WORKER_TAG, ForkingRunLauncher
from tradier_pipeline.instance.runs import abandoned
from tradier_pipeline.ledger.store import Ledger
from tradier_pipeline_tests.conftest import Home, Simulated
from tradier_pipeline_tests.cycles.conftest import workspace_of
from tradier_pipeline_tests.support.dagster_runs import materialized

DEADLINE_S = 60.0  # of one wait; a run takes two


@pytest.fixture
def instance(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("DAGSTER_HOME", str(home.path / "dagster"))
    with open_instance(home.path / "dagster") as opened:
        yield opened


@pytest.fixture
def workspace(home: Home, simulated: Simulated, instance: dg.DagsterInstance) -> Iterator[WorkspaceProcessContext]:
    with workspace_of(instance) as context:
        yield context


def launch(home: Home, workspace: WorkspaceProcessContext) -> dg.DagsterRun:
    """Request a snapshot, and do with it what the daemon does."""
    Ledger(home.path / "ledger.sqlite").request(DEMO_ACCOUNT, "manual")
    list(execute_sensor_iteration(workspace, logging.getLogger(__name__), None, None))
    instance = workspace.instance
    (queued,) = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED]))
    return instance.launch_run(queued.run_id, workspace.create_request_context())


def ended(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRun:
    """The run, once its process is gone."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        run = instance.get_run_by_id(run_id)
        assert run is not None
        if is_gone(run.tags[WORKER_TAG]):
            return run
        time.sleep(0.05)
    raise AssertionError(f"the run did not end within {DEADLINE_S:.0f} s")


def test_a_launched_run_takes_its_snapshot_in_a_process_that_ends_with_it(
    home: Home, workspace: WorkspaceProcessContext, instance: dg.DagsterInstance
) -> None:
    assert isinstance(instance.run_launcher, ForkingRunLauncher)
    run = ended(instance, launch(home, workspace).run_id)
    assert run.status is dg.DagsterRunStatus.SUCCESS
    assert materialized(instance) == {run.tags["dagster/partition"]}
    assert pid_of(run.tags[WORKER_TAG]) != os.getpid()


def test_a_run_that_is_terminated_is_recorded_as_canceled(
    home: Home, simulated: Simulated, workspace: WorkspaceProcessContext, instance: dg.DagsterInstance
) -> None:
    simulated.fault("/v1/", "hang")
    run = launch(home, workspace)
    assert instance.run_launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING
    _until_reading(simulated)
    assert instance.run_launcher.terminate(run.run_id)
    assert ended(instance, run.run_id).status is dg.DagsterRunStatus.CANCELED
    assert not instance.run_launcher.terminate(run.run_id)


def test_a_run_whose_process_was_killed_is_seen_as_dead_at_once(
    home: Home, simulated: Simulated, workspace: WorkspaceProcessContext, instance: dg.DagsterInstance
) -> None:
    simulated.fault("/v1/", "hang")
    launched = launch(home, workspace)
    _until_reading(simulated)
    run = instance.get_run_by_id(launched.run_id)
    assert run is not None
    pid = pid_of(run.tags[WORKER_TAG])
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert ended(instance, run.run_id).status is dg.DagsterRunStatus.STARTED
    assert abandoned(run)
    assert instance.run_launcher.check_run_worker_health(run).status is WorkerStatus.FAILED


def test_of_a_process_of_another_machine_nothing_is_known() -> None:
    assert pid_of("elsewhere 1") is None
    assert not is_gone("elsewhere 1")
    assert not is_gone(name_of(os.getpid()))


def _until_reading(simulated: Simulated) -> None:
    """Wait for the first request of the run."""
    end = time.monotonic() + DEADLINE_S
    while not simulated.requests():
        assert time.monotonic() < end
        time.sleep(0.05)
