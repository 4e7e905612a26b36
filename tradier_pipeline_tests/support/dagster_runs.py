"""Running the project's jobs in this process on a real instance, and asking it what it recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cache
from typing import Any

import dagster as dg
from dagster._core.test_utils import in_process_test_workspace
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster_graphql.test.utils import execute_dagster_graphql

from tradier_pipeline import clock
from tradier_pipeline.core.dotenv import SettingsError
from tradier_pipeline.core.settings import DEMO_ACCOUNT, Settings, load_settings
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.cycles.on_demand import QUIET
from tradier_pipeline.cycles.schedules import build_schedules
from tradier_pipeline.definitions import build_definitions
from tradier_pipeline.verify.claims import CLAIMS

SNAPSHOT = dg.AssetKey("tradier_snapshot")
CYCLES = {schedule.name: schedule for schedule in build_schedules(Settings())}

SHOWN = """
query Shown($assets: [AssetKeyInput!]!) {
  assetNodes(assetKeys: $assets) {
    assetChecksOrError {
      ... on AssetChecks {
        checks {
          name
          blocking
          canExecuteIndividually
          executionForLatestMaterialization { status }
          partitionStatuses {
            ... on AssetCheckTimePartitionStatuses { ranges { startKey endKey status } }
            ... on AssetCheckDefaultPartitionStatuses {
              succeededPartitions failedPartitions inProgressPartitions skippedPartitions executionFailedPartitions
            }
          }
        }
      }
    }
  }
}
"""


@cache
def definitions() -> dg.Definitions:
    return build_definitions(Settings())  # whatever the first test that asks has set


def new_key() -> str:
    """The partition key of a snapshot of now."""
    return str(SnapshotId.now(DEMO_ACCOUNT))


def run_job(
    instance: dg.DagsterInstance,
    key: str | None = None,
    *,
    job: str = "snapshot",
    within: dg.Definitions | None = None,
    tags: Mapping[str, str] | None = None,
) -> dg.ExecuteInProcessResult:
    """Run a job to its end; a key becomes a partition first."""
    if key is not None:
        instance.add_dynamic_partitions("tradier_snapshots", [key])
    resolved = (within or definitions()).resolve_job_def(job)
    return resolved.execute_in_process(
        instance=instance, partition_key=key, run_config=QUIET, tags=dict(tags or {}), raise_on_error=False
    )


def failure(result: dg.ExecuteInProcessResult) -> str:
    """What the first failed step tells the user."""
    failed = next(event for event in result.all_events if event.is_step_failure)
    reported = failed.step_failure_data.user_failure_data
    assert reported is not None, failed.step_failure_data.error_display_string
    return str(reported.description)


def materialized(instance: dg.DagsterInstance, key: dg.AssetKey = SNAPSHOT) -> set[str]:
    """The partitions of an asset that Dagster counts as materialized."""
    return set(instance.get_materialized_partitions(key))


def check_key(name: str) -> dg.AssetCheckKey:
    """The key of a claim by its name, or of another check of the snapshot."""
    asset = next((claim.asset for claim in CLAIMS if claim.name == name), "tradier_snapshot")
    return dg.AssetCheckKey(dg.AssetKey(asset), name)


def evaluations(instance: dg.DagsterInstance, check: str) -> list[tuple[str | None, bool]]:
    """What the instance recorded of a claim or another check of the snapshot, newest first: partition, passed."""
    records = instance.event_log_storage.get_asset_check_execution_history(check_key(check), limit=10)
    return [(record.partition, record.status.value == "SUCCEEDED") for record in records]


def _schedule(cycle: str) -> dg.ScheduleDefinition:
    """As it is after a start of `up`; if the settings are malformed, as it was before they were."""
    try:
        settings = load_settings()
    except SettingsError:
        return CYCLES[cycle]
    return next(schedule for schedule in build_schedules(settings) if schedule.name == cycle)


def evaluate(instance: dg.DagsterInstance, cycle: str, instant: datetime) -> tuple[list[dg.RunRequest], str | None]:
    """What the schedule function of a cycle returns for a minute: its requests, and why there are none."""
    local = instant.astimezone(clock.NEW_YORK)
    with dg.build_schedule_context(instance=instance, scheduled_execution_time=local) as context:
        context._instance = instance  # type: ignore[assignment]  # it would open the storage anew for every call
        answer = _schedule(cycle)(context)
    if isinstance(answer, dg.SkipReason):
        return [], answer.skip_message
    return list(answer), None  # type: ignore[call-overload]


def shown_checks(instance: dg.DagsterInstance, assets: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What the UI is reported of the checks of some assets, by the names of the checks."""
    keys = [{"path": asset.split("/")} for asset in sorted(assets)]
    origin = LoadableTargetOrigin(module_name="tradier_pipeline.definitions")
    with in_process_test_workspace(instance, origin) as workspace:
        answer = execute_dagster_graphql(workspace, SHOWN, {"assets": keys})
    assert not answer.errors, answer.errors
    return {one["name"]: one for node in answer.data["assetNodes"] for one in node["assetChecksOrError"]["checks"]}


def statuses_of(shown: Mapping[str, Mapping[str, Any]]) -> dict[str, set[tuple[str, str]]]:
    """Of each partitioned check, status and partition (of days, the first and the last one) of what the UI shows."""
    return {name: _partitions(found) for name, check in shown.items() if (found := check["partitionStatuses"])}


def _partitions(statuses: Mapping[str, Any]) -> set[tuple[str, str]]:
    if "ranges" in statuses:
        return {(one["status"].lower(), f"{one['startKey']} {one['endKey']}") for one in statuses["ranges"]}
    return {(status.removesuffix("Partitions"), key) for status, keys in statuses.items() for key in keys}
