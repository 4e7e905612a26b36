"""The job `request_snapshot`: a snapshot of now, without a key, as a run of its own."""

from __future__ import annotations

import dagster as dg
import pytest

from tradier_pipeline.core.settings import DEMO_ACCOUNT
from tradier_pipeline.cycles.on_demand import INTERRUPTED, first_failure
from tradier_pipeline.instance import open_instance
from tradier_pipeline.ledger.store import Ledger
from tradier_pipeline.warehouse.reads import connect_readonly, snapshot_ids
from tradier_pipeline_tests.conftest import Home, Simulated
from tradier_pipeline_tests.support.dagster_runs import definitions, failure, materialized, run_job


def test_each_request_runs_the_job_snapshot_on_a_new_partition(home: Home, simulated: Simulated) -> None:
    with open_instance(home.path / "dagster") as instance:
        assert run_job(instance, job="request_snapshot").success
        inner, outer = instance.get_runs()
        assert (inner.job_name, outer.job_name) == ("snapshot", "request_snapshot")
        assert (inner.status, outer.status) == (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.SUCCESS)
        key = inner.tags["dagster/partition"]
        assert inner.tags["tradier/trigger"] == "manual"
        assert materialized(instance) == {key}
        assert run_job(instance, job="request_snapshot").success
        keys = materialized(instance)
        assert (len(keys), key in keys) == (2, True)
    with connect_readonly(home.warehouse.path) as connection:
        assert set(snapshot_ids(connection)) == keys
        assert {one.partition("@")[0] for one in keys} == {DEMO_ACCOUNT}


def test_a_request_fails_with_the_words_of_the_snapshot_run(home: Home, simulated: Simulated) -> None:
    simulated.fault("/orders", "status", status=400, body="no", times=1)
    with open_instance(home.path / "dagster") as instance:
        result = run_job(instance, job="request_snapshot")
        assert not result.success
        assert failure(result).startswith("orders: ")
        assert {run.status for run in instance.get_runs()} == {dg.DagsterRunStatus.FAILURE}
        assert materialized(instance) == set()


def test_what_is_no_account_number_becomes_no_partition(home: Home, simulated: Simulated) -> None:
    config = {"ops": {"take_requested_snapshot": {"config": {"account_id": "../../etc"}}}}
    with open_instance(home.path / "dagster") as instance:
        job = definitions().resolve_job_def("request_snapshot")
        result = job.execute_in_process(instance=instance, run_config=config, raise_on_error=False)
        assert failure(result).startswith("'../../etc' is not an account number. ")
        assert instance.get_dynamic_partitions("tradier_snapshots") == []
    assert simulated.requests() == []


def test_the_reason_is_one_of_four_and_the_snapshot_answers_what_waits_in_the_ledger(
    home: Home, simulated: Simulated
) -> None:
    ledger = Ledger(home.path / "ledger.sqlite")
    ledger.request(DEMO_ACCOUNT, "order_placed", order_id="gw-1-entry")
    job = definitions().resolve_job_def("request_snapshot")
    refused = {"ops": {"take_requested_snapshot": {"config": {"reason": "because"}}}}
    with pytest.raises(dg.DagsterInvalidConfigError, match="because"):
        dg.validate_run_config(job, refused)
    config = {"ops": {"take_requested_snapshot": {"config": {"reason": "position_flat"}}}}
    with open_instance(home.path / "dagster") as instance:
        assert job.execute_in_process(instance=instance, run_config=config).success
        (inner, _) = instance.get_runs()
    assert inner.tags["tradier/trigger"] == "position_flat"
    assert [request.snapshot_id for request in ledger.requests()] == [inner.tags["dagster/partition"]]


def test_accounts_share_an_instant_and_a_run(home: Home, simulated: Simulated, monkeypatch: pytest.MonkeyPatch) -> None:
    accounts = {DEMO_ACCOUNT, "SIM00000002", "SIM00000003"}
    monkeypatch.setenv("TRADIER_ENV", "simulator")
    monkeypatch.setenv("TRADIER_ACCOUNT_ID", ",".join(sorted(accounts)))
    with open_instance(home.path / "dagster") as instance:
        result = run_job(instance, job="request_snapshot")
        assert result.success, failure(result)
        keys = materialized(instance)
        assert [run.job_name for run in instance.get_runs()] == ["snapshot_accounts", "request_snapshot"]
    assert {key.partition("@")[0] for key in keys} == accounts
    assert len({key.partition("@")[2] for key in keys}) == 1


def test_more_accounts_than_a_minute_allows_are_several_runs(
    home: Home, simulated: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADIER_ENV", "simulator")
    monkeypatch.setenv("TRADIER_ACCOUNT_ID", "all")
    monkeypatch.setattr("tradier_pipeline.domain.budget.ALLOWED", {"simulator": 8})  # two accounts
    monkeypatch.setattr("tradier_pipeline.cycles.on_demand.time.sleep", lambda _seconds: None)
    with open_instance(home.path / "dagster") as instance:
        result = run_job(instance, job="request_snapshot")
        assert result.success, failure(result)
        assert len(materialized(instance)) == 3
        assert [run.job_name for run in instance.get_runs()] == [*["snapshot_accounts"] * 2, "request_snapshot"]


def test_a_run_that_a_signal_ends_amid_a_query_was_interrupted() -> None:
    @dg.op
    def asks() -> None:
        raise RuntimeError("Query interrupted") from KeyboardInterrupt()  # as DuckDB does

    @dg.job
    def asking() -> None:
        asks()

    assert first_failure(asking.execute_in_process(raise_on_error=False).all_events) == INTERRUPTED
