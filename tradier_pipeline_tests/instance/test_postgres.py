"""Dagster's run history in a PostgreSQL database: the same commands, nothing left of pruned runs, no snapshot lost."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from tradier_pipeline import clock
from tradier_pipeline.instance import StorageError, open_instance
from tradier_pipeline.instance.prune import prune
from tradier_pipeline.instance.switches import SwitchesError, read_stopped_schedules
from tradier_pipeline.warehouse.reads import connect_readonly, snapshot_ids
from tradier_pipeline_tests.cli.test_up import NO_CYCLES, running, until
from tradier_pipeline_tests.conftest import Home, Simulated
from tradier_pipeline_tests.cycles.conftest import workspace_of
from tradier_pipeline_tests.support.command_line import run
from tradier_pipeline_tests.support.dagster_runs import materialized, new_key, run_job
from tradier_pipeline_tests.support.postgres import PASSWORD, Postgres, serving

psycopg2 = pytest.importorskip("psycopg2")
pytest.importorskip("dagster_postgres")


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with serving() as started:
        yield started


@pytest.fixture
def database(server: Postgres, home: Home, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    url = server.create(request.node.name[-60:])
    monkeypatch.setenv("TRADIER_DAGSTER_STORAGE", url)
    return url


def rows_of_runs(url: str) -> dict[str, set[str]]:
    """table -> the runs that it has rows of."""
    found = {}
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT table_name FROM information_schema.columns WHERE column_name = 'run_id'")
        for (table,) in cursor.fetchall():
            cursor.execute(f"SELECT DISTINCT run_id FROM {table}")
            found[table] = {run for (run,) in cursor.fetchall()}
    return {table: runs for table, runs in found.items() if runs}


def runs_in_files(home: Home) -> int:
    path = home.path / "dagster" / "history" / "runs.db"
    if not path.exists():  # it does in a home that is copied from an empty one
        return 0
    with closing(sqlite3.connect(path)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM runs").fetchone()
    return int(count)


def test_a_snapshot_is_recorded_there_and_a_pruned_run_leaves_no_row(
    database: str, home: Home, simulated: Simulated
) -> None:
    with open_instance(home.path / "dagster") as instance:
        key = new_key()
        assert run_job(instance, key).success
        assert materialized(instance) == {key}
        assert rows_of_runs(database).keys() >= {"runs", "run_tags", "event_logs", "asset_check_executions"}
        assert prune(instance, clock.now() + timedelta(minutes=1)).runs == 1
        assert rows_of_runs(database) == {}
        assert instance.get_dynamic_partitions("tradier_snapshots") == []
    assert runs_in_files(home) == 0  # one run history, not two


def test_the_command_line_and_dagster_share_one_history(database: str, home: Home, simulated: Simulated) -> None:
    assert run("snapshot").exit_code == 0
    with dg.DagsterInstance.from_config(str(home.path / "dagster")) as instance:
        assert [made.job_name for made in instance.get_runs()] == ["snapshot"]
        (shown,) = materialized(instance)
    assert shown.startswith("SIM00000001@")


def test_cycles_that_are_switched_off_are_named_without_dagster(
    database: str, home: Home, simulated: Simulated
) -> None:
    assert read_stopped_schedules(home.path / "dagster") == ()
    with open_instance(home.path / "dagster") as instance:
        with workspace_of(instance) as context:
            (entry,) = context.create_request_context().get_code_location_entries().values()
            assert entry.code_location is not None
            schedule = entry.code_location.get_repository("__repository__").get_schedule("monitor_cycle")
            instance.stop_schedule(schedule.get_remote_origin_id(), schedule.selector_id, schedule)
        assert read_stopped_schedules(home.path / "dagster") == ("monitor_cycle",)


def test_while_the_server_is_away_the_snapshot_is_taken_and_one_line_says_so_without_the_password(
    server: Postgres, database: str, home: Home, simulated: Simulated
) -> None:
    server.stop()
    try:
        taken, status = run("snapshot"), run("status")
        with pytest.raises(StorageError), open_instance(home.path / "dagster"):
            pass
        with pytest.raises(SwitchesError):
            read_stopped_schedules(home.path / "dagster")
    finally:
        server.start()
    assert taken.exit_code == 0
    (line,) = [line for line in taken.stderr.splitlines() if "Dagster's storage" in line]
    assert f"127.0.0.1:{server.port}" in line
    assert "Connection refused" in line
    assert "TRADIER_DAGSTER_STORAGE" in line
    assert PASSWORD not in taken.output + status.output


@pytest.mark.parametrize("url", ["sqlite:///x", "postgresql://host", "postgresql:///database", "no url"])
def test_what_is_no_database_of_postgres_is_refused_in_one_line(
    url: str, home: Home, simulated: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADIER_DAGSTER_STORAGE", url)
    refused = run("snapshot")
    assert refused.exit_code == 1
    assert refused.stderr.count("\n") == 1
    assert "TRADIER_DAGSTER_STORAGE is malformed" in refused.stderr
    assert url not in refused.stderr


def test_a_schedule_that_dagster_itself_starts_writes_there(
    database: str, home: Home, simulated: Simulated, tmp_path: Path
) -> None:
    minutely = {**NO_CYCLES, "TRADIER_MONITOR_MINUTES": "1", "TRADIER_CALENDAR": "24/7"}
    with running(tmp_path, minutely):
        until("a run of the monitor", lambda: rows_of_runs(database).get("asset_check_executions"))
    assert runs_in_files(home) == 0


@pytest.mark.soak  # whole minutes
def test_while_the_server_is_away_up_takes_the_snapshots_without_it_and_goes_on_when_it_is_back(
    server: Postgres, database: str, home: Home, simulated: Simulated, tmp_path: Path
) -> None:
    minutely = {**NO_CYCLES, "TRADIER_MONITOR_MINUTES": "1", "TRADIER_CALENDAR": "24/7"}

    def said(text: str) -> str | None:
        return next((line for line in (tmp_path / "up.log").read_text().splitlines() if text in line), None)

    with running(tmp_path, minutely):
        until("a run of the monitor", lambda: rows_of_runs(database).get("asset_check_executions"))
        server.stop()
        try:
            line = until("a word of it", lambda: said("Until then the cycles take their snapshots without it"))
            before = len(published(home))
            until("a snapshot without Dagster", lambda: len(published(home)) > before or None, 150)
        finally:
            server.start()
        until("a word of its return", lambda: said("Dagster's storage can be used again"))
        before = len(rows_of_runs(database).get("runs", ()))
        until("another run", lambda: len(rows_of_runs(database).get("runs", ())) > before or None, 150)
    assert PASSWORD not in line
    assert said("Traceback") is None


def published(home: Home) -> list[str]:
    if not home.warehouse.path.exists():
        return []
    with connect_readonly(home.warehouse.path) as connection:
        return snapshot_ids(connection)
