"""The claims of a snapshot as Dagster shows them: of what ran, of the partition that it ran on, and of nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg
import duckdb
import pytest

from tradier_pipeline.core.settings import DEMO_ACCOUNT, load_settings
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.cycles.on_demand import first_failure, run_snapshot
from tradier_pipeline.cycles.snapshot_job import snapshot_job
from tradier_pipeline.instance import open_instance
from tradier_pipeline.verify import CHECKS
from tradier_pipeline.verify.claims import CLAIMS, LEDGER_CLAIMS
from tradier_pipeline_tests.conftest import Home, Simulated, miscount
from tradier_pipeline_tests.support.dagster_runs import (
    check_key,
    definitions,
    evaluations,
    new_key,
    run_job,
    shown_checks,
    statuses_of,
)

ALL = {claim.name for claim in CLAIMS}


@pytest.fixture
def instance(home: Home) -> Iterator[dg.DagsterInstance]:
    with open_instance(home.path / "dagster") as opened:
        yield opened


def shown(instance: dg.DagsterInstance) -> dict[str, dict[str, Any]]:
    """What the UI is reported of the checks of the assets of a snapshot, by their names."""
    return shown_checks(instance, {claim.asset for claim in (*CLAIMS, *LEDGER_CLAIMS)})


def statuses(instance: dg.DagsterInstance) -> dict[str, set[tuple[str, str]]]:
    """Of each claim, status and partition of what the UI shows."""
    return {name: found for name, found in statuses_of(shown(instance)).items() if name in ALL}


def prove(instance: dg.DagsterInstance, key: str, *names: str) -> dg.ExecuteInProcessResult:
    """Execute some claims alone on a partition, as the UI does."""
    selection = dg.AssetSelection.checks(*[check_key(name) for name in names])
    within = dg.Definitions.merge(definitions(), dg.Definitions(jobs=[dg.define_asset_job("alone", selection)]))
    return run_job(instance, job="alone", within=within, tags={"dagster/partition": key})


def test_a_partition_shows_its_claims_as_passed_however_often_it_is_published_and_a_failed_minute_shows_none(
    home: Home, simulated: Simulated, instance: dg.DagsterInstance
) -> None:
    good, failed, missed = new_key(), f"{DEMO_ACCOUNT}@2026-11-20T14:31:00Z", f"{DEMO_ACCOUNT}@2026-01-05T14:31:00Z"
    run_id = run_job(instance, good).run_id
    kinds = [entry.dagster_event_type for entry in instance.all_logs(run_id)]  # which leave the rest of Dagster small
    assert kinds.count(dg.DagsterEventType.ASSET_CHECK_EVALUATION) == len(CLAIMS)
    assert kinds.count(dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED) == 0
    assert kinds.count(dg.DagsterEventType.STEP_OUTPUT) == len(
        definitions().resolve_job_def("snapshot").asset_layer.executable_asset_keys
    )
    assert run_job(instance, good, job="trade_cycle").success
    simulated.fault("/balances", "status", status=400, body="no", times=1)
    failed = new_key()
    assert not run_job(instance, failed, job="monitor_cycle").success
    assert not run_job(instance, missed, job="trade_cycle").success
    assert statuses(instance) == {name: {("succeeded", good)} for name in ALL}
    # and no other check of these assets counts as failed, not even as planned
    planned = instance.event_log_storage.get_asset_check_partition_info(
        [dg.AssetCheckKey(dg.AssetKey(claim.asset), claim.name) for claim in LEDGER_CLAIMS]
    )
    assert list(planned) == []


def test_a_refused_snapshot_shows_the_claim_that_fails_with_its_rule_and_rows_and_the_others_as_passed(
    home: Home, simulated: Simulated, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = new_key()
    miscount(monkeypatch)
    result = run_job(instance, key)
    assert not result.success
    expected = {name: {("failed" if name == "account_equals_broker" else "succeeded", key)} for name in ALL}
    assert statuses(instance) == expected
    (found,) = [one for one in result.get_asset_check_evaluations() if not one.passed]
    assert (found.severity, found.blocking) == (dg.AssetCheckSeverity.ERROR, True)
    assert (found.metadata["rules"].value, found.metadata["failed"].value) == (5, "balances_equal")
    records = found.metadata["differences"].records  # type: ignore[attr-defined]
    assert {record.data["rule"] for record in records} == {"balances_equal"}
    assert all({"where", "broker", "stored"} <= record.data.keys() for record in records)


def test_a_rule_that_only_warns_makes_its_claim_a_warning_and_blocks_nothing(
    home: Home, simulated: Simulated, instance: dg.DagsterInstance
) -> None:
    simulated.fault("/quotes", "status", status=400, body="no", times=1)
    result = run_job(instance, new_key())
    assert result.success
    (found,) = [one for one in result.get_asset_check_evaluations() if not one.passed]
    assert (found.check_name, found.severity) == ("positions_priced", dg.AssetCheckSeverity.WARN)
    assert found.metadata["failed"].value == "quotes_cover_positions"


def test_one_claim_is_executed_alone_on_an_old_partition_and_finds_what_was_changed_since(
    home: Home, simulated: Simulated, instance: dg.DagsterInstance
) -> None:
    old, new = new_key(), None
    assert run_job(instance, old).success
    assert run_job(instance, new := new_key()).success
    asked = len(simulated.requests())
    home.warehouse.path.chmod(0o644)
    with duckdb.connect(home.warehouse.path) as connection:
        connection.execute("UPDATE account_balances SET cash = cash + 0.00000001 WHERE snapshot_id = ?", [old])

    result = prove(instance, old, "account_equals_broker")
    assert first_failure(result.all_events) == (
        "1 blocking asset check failed with ERROR severity: tradier_snapshot: account_equals_broker. "
        "`tradier-pipeline verify` names the rows that differ."
    )
    alone = result.get_asset_check_evaluations()
    assert [(one.check_name, one.partition, one.passed) for one in alone] == [("account_equals_broker", old, False)]
    (sound,) = prove(instance, old, "orders_equal_broker").get_asset_check_evaluations()
    assert sound.passed
    assert evaluations(instance, "account_equals_broker") == [(old, False), (new, True), (old, True)]
    assert len(evaluations(instance, "snapshot_is_whole")) == 2
    assert statuses(instance)["account_equals_broker"] == {("failed", old), ("succeeded", new)}
    assert len(simulated.requests()) == asked


def test_all_claims_can_be_executed_alone_in_the_ui_and_block_where_a_rule_of_ours_may_fail(
    home: Home, instance: dg.DagsterInstance
) -> None:
    found = shown(instance)
    assert set(found) >= ALL
    assert {found[name]["canExecuteIndividually"] for name in ALL} == {"CAN_EXECUTE"}
    fatal = {check.name for check in CHECKS if check.severity == "fatal"}
    assert {name for name in ALL if found[name]["blocking"]} == {one.name for one in CLAIMS if fatal & {*one.rules}}


def test_who_takes_a_snapshot_gets_every_rule_with_both_figures(
    home: Home, simulated: Simulated, instance: dg.DagsterInstance
) -> None:
    taken = run_snapshot(instance, snapshot_job, load_settings(), SnapshotId.parse(new_key()), "manual")
    assert [outcome.check for outcome in taken.outcomes] == [check.name for check in CHECKS]
    assert all(outcome.broker and outcome.stored for outcome in taken.outcomes)
