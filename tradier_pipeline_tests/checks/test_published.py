"""The check `published_equals_landed`: whatever is published can be proven again, and tampering shows."""

from __future__ import annotations

import dagster as dg
import duckdb

from tradier_pipeline.checks.published import published_equals_landed
from tradier_pipeline.instance import open_instance
from tradier_pipeline_tests.conftest import Home, Simulated
from tradier_pipeline_tests.support.dagster_runs import definitions, evaluations, failure, new_key, run_job

VERIFY = dg.define_asset_job("verify_only", selection=dg.AssetSelection.checks(published_equals_landed))


def prove(instance: dg.DagsterInstance, key: str) -> dg.ExecuteInProcessResult:
    """Run the check alone, as the UI does: execute_in_process takes a partition key for assets only."""
    within = dg.Definitions.merge(definitions(), dg.Definitions(jobs=[VERIFY]))
    return run_job(instance, job="verify_only", within=within, tags={"dagster/partition": key})


def test_a_published_snapshot_is_proven_again_and_a_changed_value_is_found(home: Home, simulated: Simulated) -> None:
    with open_instance(home.path / "dagster") as instance:
        key = new_key()
        assert run_job(instance, key).success
        asked = len(simulated.requests())

        (proof,) = prove(instance, key).get_asset_check_evaluations()
        assert (proof.passed, proof.partition) == (True, key)
        assert proof.metadata["failed"].value == "-"

        home.warehouse.path.chmod(0o644)
        with duckdb.connect(home.warehouse.path) as connection:
            connection.execute("UPDATE account_balances SET cash = cash + 0.00000001")
        (refutation,) = prove(instance, key).get_asset_check_evaluations()
        assert (refutation.passed, refutation.metadata["failed"].value) == (False, "balances_equal")
        (row,) = refutation.metadata["differences"].records  # type: ignore[attr-defined]
        assert (row.data["rule"], row.data["where"].endswith("cash")) == ("balances_equal", True)
        assert evaluations(instance, "published_equals_landed") == [(key, False), (key, True)]
    assert len(simulated.requests()) == asked


def test_what_is_not_landed_cannot_be_proven(home: Home) -> None:
    key = new_key()
    with open_instance(home.path / "dagster") as instance:
        assert failure(prove(instance, key)) == f"{key} is not landed."
