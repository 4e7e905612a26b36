"""Old runs leave Dagster's storage whole and their room is used again; what has not ended stays."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from tradier_pipeline import clock
from tradier_pipeline.instance import open_instance
from tradier_pipeline.instance.prune import Pruned, prune
from tradier_pipeline.instance.runs import UNFINISHED
from tradier_pipeline_tests.conftest import Home, Simulated
from tradier_pipeline_tests.support.dagster_runs import SNAPSHOT, evaluations, materialized, new_key, run_job

KEYS = "tradier_snapshots"
OLD = "SIM00000001@2026-01-05T14:31:00Z"


@pytest.fixture
def instance(home: Home) -> Iterator[dg.DagsterInstance]:
    with open_instance(home.path / "dagster") as opened:
        yield opened


def soon() -> datetime:
    return clock.now() + timedelta(minutes=1)


def recorded(home: Home) -> dict[str, set[str]]:
    """table -> the runs that it has rows of, for the tables that have any."""
    found = {}
    for name in ("runs", "event_log"):
        with closing(sqlite3.connect(home.path / "dagster" / "history" / f"{name}.db")) as connection:
            tables = [table for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in tables:
                columns = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
                if "run_id" in columns:
                    found[table] = {run for (run,) in connection.execute(f"SELECT DISTINCT run_id FROM {table}")}
    return {table: runs for table, runs in found.items() if runs}


def pages(home: Home) -> int:
    """The size of both files in pages, with what is still in their logs."""
    total = 0
    for name in ("runs", "event_log"):
        with closing(sqlite3.connect(home.path / "dagster" / "history" / f"{name}.db")) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            total += connection.execute("PRAGMA page_count").fetchone()[0]
    return total


def logs(home: Home) -> set[str]:
    return {path.name for path in (home.path / "dagster" / "storage").glob("*/")}


def aged(home: Home, run_id: str, days: float, status: dg.DagsterRunStatus | None = None) -> None:
    """Let a run have been made days ago, and be in a state since."""
    at = (clock.now() - timedelta(days=days)).replace(tzinfo=None)
    with closing(sqlite3.connect(home.path / "dagster" / "history" / "runs.db")) as connection, connection:
        connection.execute("UPDATE runs SET create_timestamp = ? WHERE run_id = ?", [str(at), run_id])
        if status:
            connection.execute("UPDATE runs SET status = ? WHERE run_id = ?", [status.value, run_id])


def test_a_pruned_run_leaves_nothing_behind_and_its_room_is_used_again(
    home: Home, simulated: Simulated, instance: dg.DagsterInstance
) -> None:
    empty = pages(home)
    taken = {run_job(instance, new_key(), tags={".dagster/tradier_account": "SIM00000001"}).run_id}
    assert logs(home) == set()
    for run_id in taken:  # as earlier versions did
        (home.path / "dagster" / "storage" / run_id).mkdir(parents=True)
    tables = {"runs", "run_tags", "event_logs", "asset_check_executions"}
    assert {table: runs >= taken for table, runs in recorded(home).items()} == dict.fromkeys(tables, True)
    full = pages(home)
    assert prune(instance, soon()) == Pruned(runs=1, partition_keys=1)
    assert recorded(home) == {}
    assert logs(home) == set()
    assert instance.get_dynamic_partitions(KEYS) == []
    assert materialized(instance) == set()
    assert instance.has_asset_key(SNAPSHOT)
    assert list((home.path / "raw").glob("*/*/*@*Z/manifest.json")) != []
    assert home.warehouse.path.exists()
    assert run_job(instance, new_key()).success
    assert pages(home) - full < 0.25 * (full - empty)
    assert len(materialized(instance)) == 1
    assert evaluations(instance, "positions_equal_broker") != []


def test_a_young_run_and_its_key_stay(home: Home, simulated: Simulated, instance: dg.DagsterInstance) -> None:
    old, young = new_key(), new_key()
    aged(home, run_job(instance, old).run_id, days=8)
    assert run_job(instance, young).success
    week = clock.now() - timedelta(days=7)
    assert prune(instance, week) == Pruned(runs=1, partition_keys=0)  # the key itself is young
    assert materialized(instance) == {young}
    assert prune(instance, week) == Pruned(runs=0, partition_keys=0)


def test_what_has_not_ended_stays_with_its_key(home: Home, instance: dg.DagsterInstance) -> None:
    keys = [f"SIM00000001@2026-01-05T14:{minute}:00Z" for minute in range(31, 31 + len(UNFINISHED))]
    instance.add_dynamic_partitions(KEYS, [*keys, OLD.replace("14:31", "15:31")])
    for key, status in zip(keys, UNFINISHED, strict=True):
        run = create_run_for_test(instance, job_name="snapshot", tags={"dagster/partition": key})
        aged(home, run.run_id, 300, status)
    assert prune(instance, soon()) == Pruned(runs=0, partition_keys=1)
    assert instance.get_runs_count() == len(UNFINISHED)
    assert set(instance.get_dynamic_partitions(KEYS)) == set(keys)


def test_an_old_key_stays_while_a_young_run_names_it_and_so_does_somebody_elses(
    home: Home, instance: dg.DagsterInstance
) -> None:
    instance.add_dynamic_partitions(KEYS, [OLD, "by hand"])
    done = dg.DagsterRunStatus.FAILURE
    tags = {"dagster/partition": OLD}
    older = create_run_for_test(instance, job_name="snapshot", status=done, tags=tags)
    aged(home, older.run_id, days=100)
    create_run_for_test(instance, job_name="snapshot", status=done, tags=tags)
    assert prune(instance, clock.now() - timedelta(days=7)) == Pruned(runs=1, partition_keys=0)
    assert prune(instance, soon()) == Pruned(runs=1, partition_keys=1)
    assert list(instance.get_dynamic_partitions(KEYS)) == ["by hand"]


def test_the_nightly_reports_stay_for_a_year(home: Home, instance: dg.DagsterInstance) -> None:
    done = dg.DagsterRunStatus.SUCCESS
    runs = [create_run_for_test(instance, job_name="maintenance", status=done).run_id for _ in range(2)]
    aged(home, runs[0], days=400)
    aged(home, runs[1], days=300)
    assert prune(instance, clock.now() - timedelta(days=7)).runs == 1
    assert [run.run_id for run in instance.get_runs()] == runs[1:]
