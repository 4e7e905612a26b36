"""Dagster's own commands on the home of `up`, as docs/dagster.md names them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from dagster._cli import cli as dagster_command

import tradier_pipeline
from tradier_pipeline.core.settings import DEMO_ACCOUNT
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.instance import open_instance
from tradier_pipeline.warehouse.reads import connect_readonly, snapshot_ids
from tradier_pipeline_tests.cli.test_up import LAUNCH, NO_CYCLES, Up, until
from tradier_pipeline_tests.conftest import Home, Simulated, take
from tradier_pipeline_tests.support.dagster_runs import materialized
from tradier_pipeline_tests.support.ports import free_port

PROJECT = Path(tradier_pipeline.__file__).parents[1]
MODULE = ["-m", "tradier_pipeline.definitions"]
FOUR = "tradier_snapshot,portfolio_positions,option_spreads,conservation"
SLOW_S = 240.0

BACKFILL = """
mutation Backfill($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}
"""
BACKFILLED = """
query Backfilled($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }
"""
AGAIN = """
mutation Again($params: ReexecutionParams!) {
  launchRunReexecution(reexecutionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}
"""


@pytest.fixture
def environment(
    interruptible: None, home: Home, simulated: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """As the page says: DAGSTER_HOME is that of `up`."""
    dagster_home = home.path / "dagster"
    open_instance(dagster_home).dispose()
    scripts = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    mine = {"DAGSTER_HOME": str(dagster_home), "HOME": str(tmp_path), "PATH": scripts}
    monkeypatch.setenv("DAGSTER_HOME", str(dagster_home))
    return {**os.environ, **NO_CYCLES, **mine, "DAGSTER_DG_CLI_DISABLE_TELEMETRY": "1"}


def succeeds(environment: dict[str, str], *command: str) -> None:
    ended = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=SLOW_S)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@contextmanager
def served(environment: dict[str, str], folder: Path, *command: str) -> Iterator[Up]:
    """A development server on a free port, until its location is loaded."""
    port = free_port()
    with (folder / "dev.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=PROJECT,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    started = Up(process, port)
    try:
        until("the development server", started.ready, SLOW_S)
        yield started
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def published(home: Home) -> list[str]:
    with connect_readonly(home.warehouse.path) as connection:
        return snapshot_ids(connection)


def rows(home: Home) -> list[tuple[Any, ...]]:
    with connect_readonly(home.warehouse.path) as connection:
        return connection.execute("SELECT * EXCLUDE committed_at FROM tradier_snapshots ORDER BY ALL").fetchall()


@pytest.mark.filterwarnings("ignore:.*is superseded")  # by `dg launch`
def test_one_asset_alone_and_an_old_partition_are_materialized_from_the_command_line(
    home: Home, simulated: Simulated, environment: dict[str, str]
) -> None:
    landed, _ = take(home, simulated.broker)
    key = str(landed.snapshot_id)
    with open_instance(home.path / "dagster") as instance:
        instance.add_dynamic_partitions("tradier_snapshots", [key])
    before, requests = rows(home), len(simulated.requests())
    for selection in ("raw/quotes", FOUR):
        asked = ["asset", "materialize", *MODULE, "--select", selection, "--partition", key]
        ended = CliRunner().invoke(dagster_command, asked)  # in this process, which has imported all
        assert ended.exit_code == 0, ended.output
    with open_instance(home.path / "dagster") as instance:
        assert materialized(instance) == {key}
    assert rows(home) == before
    assert len(simulated.requests()) == requests


@pytest.mark.soak  # a minute; from the command line: above
def test_dagster_dev_takes_backfills_and_repeats_what_is_asked_of_it(
    home: Home, simulated: Simulated, environment: dict[str, str], tmp_path: Path
) -> None:
    keys = sorted(str(take(home, simulated.broker)[0].snapshot_id) for _ in range(2))
    with open_instance(home.path / "dagster") as instance:
        instance.add_dynamic_partitions("tradier_snapshots", keys)
    with served(environment, tmp_path, "dagster", "dev", "-w", "workspace.yaml") as dev:
        succeeds(environment, "dagster", "job", "launch", "-w", "workspace.yaml", "-j", "request_snapshot")
        until("a third snapshot", lambda: True if len(published(home)) == 3 else None, SLOW_S)

        assets = [{"path": [name]} for name in FOUR.split(",")]
        reported = dev.ask(BACKFILL, {"params": {"assetSelection": assets, "partitionNames": keys}})
        backfill = reported["launchPartitionBackfill"]
        assert backfill["__typename"] == "LaunchBackfillSuccess", backfill

        def status() -> str | None:
            found = dev.ask(BACKFILLED, {"id": backfill["backfillId"]})["partitionBackfillOrError"]["status"]
            return None if found in ("REQUESTED", "COMPLETING") else str(found)

        assert until("the end of the backfill", status, SLOW_S) == "COMPLETED_SUCCESS"
        with open_instance(home.path / "dagster") as instance:
            assert materialized(instance) >= set(keys)

        assert _repeated_from_failure(home, simulated, dev) == "SUCCESS"
    assert len(published(home)) == 4


def _repeated_from_failure(home: Home, simulated: Simulated, dev: Up) -> str:
    """A run that landed its snapshot and could not publish it, started again from the step that failed."""
    copied_to = home.path / f".{home.warehouse.path.name}.staged"
    copied_to.mkdir()  # in the way; what is in that of the warehouse itself would be set aside
    key = str(SnapshotId.now(DEMO_ACCOUNT))
    selector = {
        "repositoryLocationName": "tradier_pipeline",
        "repositoryName": "__repository__",
        "jobName": "snapshot",
    }
    tags = [{"key": "dagster/partition", "value": key}]
    launched = dev.ask(LAUNCH, {"params": {"selector": selector, "executionMetadata": {"tags": tags}}})["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    run_id = launched["run"]["runId"]
    assert until("the end of the run", lambda: dev.finished(run_id), SLOW_S) == "FAILURE"
    copied_to.rmdir()
    asked = len(simulated.requests())
    again = dev.ask(AGAIN, {"params": {"parentRunId": run_id, "strategy": "FROM_FAILURE"}})["launchRunReexecution"]
    assert again["__typename"] == "LaunchRunSuccess", again
    ended = until("the end of the repeated run", lambda: dev.finished(again["run"]["runId"]), SLOW_S)
    assert len(simulated.requests()) == asked  # what is landed is not read again
    assert key in published(home)
    return ended


@pytest.mark.soak  # it starts `dagster dev`, which is proven above, on what `dg check defs` accepts
def test_dg_dev_serves_the_project_with_its_home(home: Home, environment: dict[str, str], tmp_path: Path) -> None:
    with served(environment, tmp_path, "dg", "dev") as dev:
        assert dev.ask("{ version }")["version"]
