"""The job `maintenance`, run as the daemon runs it, on a real home."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import dagster as dg
import duckdb
import pytest

from tradier_pipeline import clock
from tradier_pipeline.core.settings import DEMO_ACCOUNT
from tradier_pipeline.instance import open_instance
from tradier_pipeline_tests.conftest import Home, Simulated, take
from tradier_pipeline_tests.support.command_line import run
from tradier_pipeline_tests.support.dagster_runs import failure, materialized, new_key, run_job

NOW = clock.now


@pytest.fixture
def instance(home: Home) -> Iterator[dg.DagsterInstance]:
    with open_instance(home.path / "dagster") as opened:
        yield opened


def reported(instance: dg.DagsterInstance, asset: str) -> Mapping[str, Any]:
    """The values of the newest materialization."""
    event = instance.get_latest_materialization_event(dg.AssetKey(asset))
    assert event is not None
    assert event.asset_materialization is not None
    return {name: value.value for name, value in event.asset_materialization.metadata.items()}


def maintained(instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    return run_job(instance, job="maintenance")


def test_a_young_home_is_left_as_it_is_and_a_night_days_later_prunes_compacts_proves_and_reports(
    home: Home, simulated: Simulated, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = new_key()
    assert run_job(instance, key).success
    assert maintained(instance).success
    assert materialized(instance) == {key}
    assert reported(instance, "pruned_runs")["runs"] == reported(instance, "compacted_days")["days"] == 0
    proven = reported(instance, "reverified_snapshots")
    assert (proven["snapshots"], proven["checks"] > 40) == (1, True)

    monkeypatch.setattr(clock, "now", lambda: NOW() + timedelta(days=5))
    monkeypatch.setenv("TRADIER_KEEP_RUN_DAYS", "4")
    assert maintained(instance).success
    assert materialized(instance) == set()
    assert reported(instance, "pruned_runs") | {"before": 0} == {"runs": 1, "partition_keys": 1, "before": 0}
    compacted = reported(instance, "compacted_days")
    assert (compacted["days"], compacted["bytes_after"] < compacted["bytes_before"]) == (1, True)
    (landed,) = home.zone.snapshots()
    assert str(landed.snapshot_id) == key
    assert not landed.directory.exists()
    sizes = reported(instance, "storage_report")
    assert (sizes["runs"], sizes["partition_keys"], sizes["ledger_mb"]) == (2, 0, 0.0)
    assert min(sizes["warehouse_mb"], sizes["dagster_mb"], sizes["free_mb"]) > 0


def test_a_night_weeks_later_seals_the_month_and_what_is_sealed_is_proven(
    home: Home, simulated: Simulated, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        take(home, simulated.broker)
    monkeypatch.setattr(clock, "now", lambda: NOW() + timedelta(days=45))
    assert maintained(instance).success
    sealed = reported(instance, "sealed_months")
    assert (sealed["months"], sealed["files"] > 0, sealed["rows"] > 0) == (f"{NOW():%Y-%m}", True, True)
    assert list((home.path / "sealed").glob("positions/*.parquet")) != []
    assert run("verify", "--all").exit_code == 0
    assert maintained(instance).success
    assert reported(instance, "sealed_months")["months"] == ""


def test_an_empty_home_has_nothing_to_maintain(home: Home, instance: dg.DagsterInstance) -> None:
    assert maintained(instance).success
    assert reported(instance, "reverified_snapshots")["snapshots"] == 0


def test_each_snapshot_is_proven_again_once(home: Home, simulated: Simulated, instance: dg.DagsterInstance) -> None:
    counts = []
    for taken in (2, 0, 1):
        for _ in range(taken):
            take(home, simulated.broker)
        assert maintained(instance).success
        counts.append(reported(instance, "reverified_snapshots")["snapshots"])
    assert counts == [2, 0, 1]


def test_rows_that_are_not_what_was_landed_fail_the_run_every_night_until_they_are_repaired(
    home: Home, simulated: Simulated, instance: dg.DagsterInstance
) -> None:
    landed, _ = take(home, simulated.broker)
    whole = home.warehouse.path.read_bytes()
    home.warehouse.path.chmod(0o644)
    with duckdb.connect(home.warehouse.path) as connection:
        connection.execute("UPDATE orders SET quantity = 0")
    for _ in range(2):
        result = maintained(instance)
        assert not result.success
        assert failure(result).startswith(
            f"1 of 1 published snapshots are not what was landed, such as {landed.snapshot_id}"
        )
        (step,) = [event for event in result.all_events if event.is_step_failure]
        failed = step.step_failure_data.user_failure_data.metadata  # type: ignore[union-attr]
        assert {row.data["check"] for row in failed["failures"].records} == {"order_values_equal"}
        assert reported(instance, "storage_report")["warehouse_mb"] > 0  # the rest was done
    home.warehouse.path.write_bytes(whole)
    assert maintained(instance).success
    assert reported(instance, "reverified_snapshots")["snapshots"] == 1


def test_a_day_that_cannot_be_compacted_fails_the_run(
    home: Home, simulated: Simulated, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    landed, _ = take(home, simulated.broker)
    landed.day.archive_path.write_bytes(b"no archive")
    monkeypatch.setattr(clock, "now", lambda: NOW() + timedelta(days=5))
    result = maintained(instance)
    assert f"1 days were not compacted, such as {DEMO_ACCOUNT}/" in failure(result)
    assert landed.directory.is_dir()
