"""Dagster's databases are damaged, full or locked: one line, and the snapshot is taken and published all the same."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tradier_pipeline.cli import main
from tradier_pipeline.instance import MANAGED, open_instance
from tradier_pipeline.instance.event_log import CompleteEventLog
from tradier_pipeline.simulator.server import embedded_simulator
from tradier_pipeline.simulator.world import ROUND_THE_CLOCK
from tradier_pipeline.warehouse.reads import connect_readonly, snapshot_ids
from tradier_pipeline_tests.conftest import Home
from tradier_pipeline_tests.support.sampling import sampled

pytestmark = pytest.mark.usefixtures("without_days")

RUNS, EVENTS, SCHEDULES = "history/runs.db", "history/event_log.db", "schedules/schedules.db"
FULL = "CREATE TRIGGER full BEFORE INSERT ON {} {} BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END"


@pytest.fixture(scope="module")
def broker() -> Iterator[None]:
    with embedded_simulator(None, limits=None, calendar=ROUND_THE_CLOCK) as url:
        os.environ["TRADIER_BASE_URL"] = url
        yield
        del os.environ["TRADIER_BASE_URL"]


@pytest.fixture
def dagster_home(home: Home, empty_dagster_home: Path) -> Path:
    home.path.mkdir(mode=0o700, exist_ok=True)  # one that others can read would be a warning
    home.path.chmod(0o700)
    return Path(shutil.copytree(empty_dagster_home, home.path / "dagster"))


def garbage(path: Path) -> None:
    path.write_bytes(b"\x00\xffgarbage" * 2000)


def cut(path: Path) -> None:
    os.truncate(path, 5000)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def full_on(table: str, when: str = "") -> Callable[[Path], None]:
    def fill(path: Path) -> None:
        with sqlite3.connect(path) as connection:
            connection.execute(FULL.format(table, when))

    return fill


DAMAGE = {
    "runs garbage": (RUNS, garbage, "file is not a database. Move that directory aside"),
    "runs cut": (RUNS, cut, "malformed. Move that directory aside"),
    "runs a directory": (RUNS, directory, "unable to open database file. Make that directory one you may write to"),
    "events garbage": (EVENTS, garbage, "file is not a database. Move that directory aside"),
    "schedules garbage": (SCHEDULES, garbage, "file is not a database. Move that directory aside"),
    "full before the run": (RUNS, full_on("runs"), "database or disk is full. Free some space"),
    "full during the run": (EVENTS, full_on("event_logs"), "database or disk is full. Free some space"),
    "full amid the run": (
        EVENTS,
        full_on("event_logs", "WHEN (SELECT count(*) FROM event_logs) > 12"),
        "database or disk is full. Free some space",
    ),
    "full at the first partition": (EVENTS, full_on("dynamic_partitions"), "disk is full. Free some space"),
}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="tradier-pipeline")


@sampled("text", [": : [", "nosuch: 1"], kept=(1,))
def test_settings_of_dagster_that_it_does_not_accept_cost_no_snapshot(
    text: str, home: Home, broker: None, dagster_home: Path
) -> None:
    path = dagster_home / "dagster.yaml"
    path.write_text(text)
    result = run("snapshot")
    assert result.exit_code == 0, (result.output, result.exception)
    (line,) = result.stderr.splitlines()
    assert line.startswith("the run history lacks ")
    assert f"{path}: " in line
    assert line.endswith("Correct it, or delete it: it is written anew.")


@pytest.mark.parametrize("left", ["", "\0" * 40, MANAGED[:9]])
def test_settings_of_dagster_that_a_power_failure_emptied_are_written_anew(left: str, dagster_home: Path) -> None:
    """Of an empty file Dagster would take other storages and another launcher."""
    path = dagster_home / "dagster.yaml"
    ours = path.read_text()
    path.write_text(left)
    with open_instance(dagster_home) as instance:
        assert isinstance(instance.event_log_storage, CompleteEventLog)
    assert path.read_text() == ours


@sampled("kind", list(DAMAGE), kept=(0, 7))
def test_a_snapshot_is_published_and_the_run_history_is_said_to_lack_it(
    kind: str, home: Home, broker: None, dagster_home: Path
) -> None:
    database, damage, reported = DAMAGE[kind]
    for leftover in ("-wal", "-shm"):
        (dagster_home / f"{database}{leftover}").unlink(missing_ok=True)
    damage(dagster_home / database)
    result = run("snapshot")
    assert result.exit_code == 0, (result.output, result.exception)
    (line,) = result.stderr.splitlines()
    with connect_readonly(home.warehouse.path) as connection:
        (snapshot_id,) = snapshot_ids(connection)
    assert line.startswith(f"the run history lacks {snapshot_id}: Dagster's storage in {dagster_home} cannot be used")
    assert reported in line
    assert len(list(home.zone.snapshots())) == 1
